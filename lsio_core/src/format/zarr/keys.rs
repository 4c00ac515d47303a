//! How Zarr's metadata name the chunks of an array.

use serde_json::{Map, Value};

use super::documents::ZarrFormat;
use crate::dataset::keys::Keys;

impl Keys {
    /// How Zarr's metadata name the chunks of an array.
    ///
    /// # Errors
    /// A text that names the encoding, if it isn't supported.
    pub(crate) fn from_metadata(
        metadata: &Map<String, Value>,
        format: ZarrFormat,
    ) -> Result<Self, String> {
        if format == ZarrFormat::V2 {
            let separator = separator(metadata.get("dimension_separator"), '.')?;
            let suffix = String::new();
            return Ok(Self { prefix: "", separator, suffix, last_left_out: false });
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
        Ok(Self { prefix, separator, suffix, last_left_out: false })
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
        let longer = keys.clone().without_last();
        assert_eq!(longer.key(&[4]), keys.key(&[4, 0]));
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
