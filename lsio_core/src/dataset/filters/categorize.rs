//! Texts as numbers of labels.

use serde_json::{Map, Value};

use super::{
    super::number_format::{Number, NumberFormat},
    format, whole,
};

/// The filter that stores the number of a label instead of its text. Labels are counted from 1; all
/// other numbers are the empty text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dataset) struct Categorize {
    pub(in crate::dataset) labels: Vec<String>,
    pub(in crate::dataset) astype: NumberFormat,
}

impl Categorize {
    /// The filter, if the id is that of it.
    ///
    /// # Errors
    /// A text, if the configuration doesn't fit.
    pub(in crate::dataset) fn of(
        id: &str,
        configuration: &Map<String, Value>,
    ) -> Option<Result<Self, String>> {
        if id.strip_prefix("numcodecs.").unwrap_or(id) != "categorize" {
            return None;
        }
        let filter = Self::new(configuration);
        Some(filter.map_err(|reason| format!("the filter 'categorize' {reason}")))
    }

    fn new(configuration: &Map<String, Value>) -> Result<Self, String> {
        let most = most_characters(configuration.get("dtype"))?;
        let text = |label: &Value| Some(label.as_str()?.chars().take(most).collect());
        let labels = configuration.get("labels").and_then(Value::as_array);
        let labels = labels.and_then(|labels| labels.iter().map(text).collect());
        let labels = labels.ok_or("lacks a list of texts as 'labels'")?;
        let one_byte = NumberFormat::parse("u1");
        let astype = format(configuration, "astype")?.or(one_byte);
        Ok(Self { labels, astype: astype.ok_or("has no type")? })
    }

    /// For each text the index of its label; `None` is the empty text.
    ///
    /// # Errors
    /// A text, if the bytes aren't whole numbers.
    pub(in crate::dataset) fn decode<'a>(
        &'a self,
        encoded: &'a [u8],
    ) -> Result<impl ExactSizeIterator<Item = Option<usize>> + 'a, String> {
        let width = self.astype.width.max(1);
        whole(encoded.len(), width)
            .ok_or_else(|| format!("{} bytes aren't whole numbers of {width}", encoded.len()))?;
        Ok(encoded.chunks_exact(width).map(|code| self.label(self.astype.number(code)?)))
    }

    fn label(&self, code: Number) -> Option<usize> {
        let code = match code {
            Number::Int(code) => usize::try_from(code).ok()?,
            Number::UInt(code) => usize::try_from(code).ok()?,
            // A fraction is no label's number.
            Number::Float(code) if code >= 1.0 && code.fract() == 0.0 => code as usize,
            Number::Float(_) => return None,
        };
        code.checked_sub(1).filter(|index| *index < self.labels.len())
    }
}

/// The characters that are left of a label, by the type of the texts.
fn most_characters(dtype: Option<&Value>) -> Result<usize, String> {
    let wrong = |dtype: &Value| format!("has the dtype {dtype}, which isn't one of texts");
    let Some(dtype) = dtype.filter(|dtype| !dtype.is_null()) else { return Ok(usize::MAX) };
    let code = dtype.as_str().ok_or_else(|| wrong(dtype))?;
    match code.trim_start_matches(['<', '>', '=', '|']) {
        "O" | "object" | "str" | "U" | "U0" => Ok(usize::MAX),
        code => code.strip_prefix('U').and_then(|n| n.parse().ok()).ok_or_else(|| wrong(dtype)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::super::codec_cases, *};

    #[test]
    fn texts_are_those_of_numcodecs() {
        for case in codec_cases::of(&["categorize"]) {
            let filter = Categorize::of(case.codec, case.configuration).unwrap().unwrap();
            let texts: Vec<&str> = filter
                .decode(&case.encoded)
                .unwrap()
                .map(|label| label.map_or("", |index| &filter.labels[index]))
                .collect();
            assert_eq!(json!(texts), json!(case.items()), "{case}");
            if filter.astype.width > 1 {
                assert!(filter.decode(&case.encoded[1..]).is_err());
            }
        }
    }

    #[test]
    fn configurations_are_checked() {
        let of = |configuration: Value| {
            Categorize::of("numcodecs.categorize", configuration.as_object().unwrap()).unwrap()
        };
        assert!(Categorize::of("delta", &Map::new()).is_none());
        assert_eq!(of(json!({"labels": ["a"]})).unwrap().astype.width, 1);
        assert!(of(json!({})).is_err());
        assert!(of(json!({"labels": [1]})).is_err());
        assert!(of(json!({"labels": ["a"], "dtype": "<i4"})).is_err());
        assert!(of(json!({"labels": ["a"], "dtype": "O", "astype": "O"})).is_err());
    }
}
