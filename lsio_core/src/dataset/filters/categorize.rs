//! Texts as numbers of labels.

use super::{
    super::number_format::{AnyNumber, NumberFormat},
    whole,
};

/// The filter that stores the number of a label instead of its text. Labels are counted from 1; all
/// other numbers are the empty text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Categorize {
    pub(crate) labels: Vec<String>,
    pub(crate) astype: NumberFormat,
}

impl Categorize {
    /// For each text the index of its label; `None` is the empty text.
    ///
    /// # Errors
    /// A text, if the bytes aren't whole numbers.
    pub(crate) fn decode<'a>(
        &'a self,
        encoded: &'a [u8],
    ) -> Result<impl ExactSizeIterator<Item = Option<usize>> + 'a, String> {
        let width = self.astype.width.max(1);
        whole(encoded.len(), width)
            .ok_or_else(|| format!("{} bytes aren't whole numbers of {width}", encoded.len()))?;
        Ok(encoded.chunks_exact(width).map(|code| self.label(self.astype.number(code)?)))
    }

    fn label(&self, code: AnyNumber) -> Option<usize> {
        let code = match code {
            AnyNumber::Int(code) => usize::try_from(code).ok()?,
            AnyNumber::UInt(code) => usize::try_from(code).ok()?,
            // A fraction is no label's number.
            AnyNumber::Float(code) if code >= 1.0 && code.fract() == 0.0 => code as usize,
            AnyNumber::Float(_) => return None,
        };
        code.checked_sub(1).filter(|index| *index < self.labels.len())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

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
