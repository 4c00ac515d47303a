//! Keys of chunks: made of the chunks' indices, as the array's metadata tells.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::dataset::ZarrFormat;

/// Encoding of an array's chunk keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    /// `c` in Zarr v3's default encoding, else empty.
    prefix: &'static str,
    separator: char,
    suffix: String,
}

impl Keys {
    /// Key of an object, relative to its array.
    pub(super) fn key(&self, object: &[u64]) -> String {
        let mut key = self.prefix.to_owned();
        for index in object {
            if !key.is_empty() {
                key.push(self.separator);
            }
            // Writing to a String can't fail.
            let _ = write!(key, "{index}");
        }
        if key.is_empty() {
            key.push('0');
        }
        key + &self.suffix
    }

    /// Parses the chunk key encoding (v3) or the dimension separator (v2).
    ///
    /// # Errors
    /// A text with the name of an unsupported encoding.
    pub(super) fn from_metadata(
        metadata: &Map<String, Value>,
        format: ZarrFormat,
    ) -> Result<Self, String> {
        if format == ZarrFormat::V2 {
            let separator = separator(metadata.get("dimension_separator"), '.')?;
            let suffix = String::new();
            return Ok(Self { prefix: "", separator, suffix });
        }
        let encoding = metadata.get("chunk_key_encoding").ok_or("chunk_key_encoding is missing")?;
        let name = encoding.get("name").unwrap_or(encoding).as_str().unwrap_or_default();
        let setting = |key: &str| encoding.get("configuration").and_then(|c| c.get(key));
        let (prefix, default) = match name {
            "default" | "zarrs.default_suffix" => ("c", '/'),
            "v2" => ("", '.'),
            _ => return Err(format!("the chunk key encoding '{name}' isn't supported")),
        };
        let suffix = match setting("suffix").and_then(Value::as_str) {
            Some(suffix) if name == "zarrs.default_suffix" => {
                if suffix.contains(['/', '\\', '\0']) {
                    return Err(format!("the suffix of chunk keys can't be {suffix:?}"));
                }
                suffix.to_owned()
            }
            _ => String::new(),
        };
        let separator = separator(setting("separator"), default)?;
        Ok(Self { prefix, separator, suffix })
    }
}

fn separator(value: Option<&Value>, default: char) -> Result<char, String> {
    match value.map(Value::as_str) {
        None => Ok(default),
        Some(None) if value.is_some_and(Value::is_null) => Ok(default),
        Some(Some("/")) => Ok('/'),
        Some(Some(".")) => Ok('.'),
        Some(_) => Err("the separator of chunk keys is neither '.' nor '/'".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys(metadata: &Value, format: ZarrFormat) -> Result<[String; 2], String> {
        let keys = Keys::from_metadata(metadata.as_object().unwrap(), format)?;
        Ok([keys.key(&[1, 23]), keys.key(&[])])
    }

    #[test]
    fn every_encoding() {
        let v3 = |encoding: Value| keys(&json!({"chunk_key_encoding": encoding}), ZarrFormat::V3);
        let both = |one: &str, scalar: &str| Ok([one.to_owned(), scalar.to_owned()]);
        assert_eq!(v3(json!("default")), both("c/1/23", "c"));
        assert_eq!(
            v3(json!({"name": "default", "configuration": {"separator": "."}})),
            both("c.1.23", "c")
        );
        assert_eq!(v3(json!({"name": "v2"})), both("1.23", "0"));
        assert_eq!(
            v3(json!({"name": "v2", "configuration": {"separator": "/"}})),
            both("1/23", "0")
        );
        assert_eq!(
            v3(json!({"name": "zarrs.default_suffix", "configuration": {"suffix": ".tiff"}})),
            both("c/1/23.tiff", "c.tiff")
        );
        assert_eq!(keys(&json!({}), ZarrFormat::V2), both("1.23", "0"));
        assert_eq!(keys(&json!({"dimension_separator": "/"}), ZarrFormat::V2), both("1/23", "0"));
        for wrong in [
            json!("other"),
            json!(3),
            json!({"name": "default", "configuration": {"separator": "../"}}),
            json!({"name": "zarrs.default_suffix", "configuration": {"suffix": "/../x"}}),
        ] {
            assert!(v3(wrong).is_err());
        }
    }
}
