//! Deviations of metadata from the specification that still have one meaning. Other readers refuse them or accept them
//! silently; here they are accepted and reported.

use serde_json::{Map, Value};

use super::{codecs::v3_name, documents::ArrayDocument};
use crate::dataset::{ZarrFormat, dtype::ElementType};

/// Accepted deviations from the specification.
pub(super) fn deviations(document: &ArrayDocument, element: &ElementType) -> Vec<String> {
    let mut found = Vec::new();
    let fill = document.metadata.get("fill_value").unwrap_or(&Value::Null);
    let special = |text: &str| {
        ["NaN", "Infinity", "-Infinity", "NaT"].contains(&text) || text.starts_with("0x")
    };
    match (element, fill) {
        (_, Value::Null) if document.format == ZarrFormat::V3 => {
            found.push("its fill value is null: it is taken for zero".to_owned());
        }
        (element, Value::String(text)) if element.is_number() && !special(text) => {
            found.push(format!("its fill value \"{text}\" is a text: it is taken for the number"));
        }
        (ElementType::Bool, Value::Number(number)) => {
            found.push(format!("its fill value {number} is a number: it is taken for a boolean"));
        }
        _ => {}
    }
    let filters = document.metadata.get("filters").and_then(Value::as_array).into_iter().flatten();
    let zero = |filter: &Value| {
        filter.get("elementsize").is_some_and(|size| size.as_u64() == Some(0) || size == "0")
    };
    if document.is_nczarr() && filters.clone().any(zero) {
        found
            .push("its shuffle has elements of 0 bytes: they are taken for the array's".to_owned());
    }
    if document.format == ZarrFormat::V3 {
        codec_deviations(&document.metadata, &mut found);
    }
    found
}

fn codec_deviations(configuration: &Map<String, Value>, found: &mut Vec<String>) {
    for codec in configuration.get("codecs").and_then(Value::as_array).into_iter().flatten() {
        let configuration = codec.get("configuration").and_then(Value::as_object);
        let of = |key: &str| configuration.and_then(|configuration| configuration.get(key));
        match v3_name(codec) {
            Some("zstd") if of("checksum").is_none() => {
                found.push(
                    "its codec zstd lacks 'checksum', which decoding doesn't need".to_owned(),
                );
            }
            Some("transpose") if of("order").is_some_and(Value::is_string) => {
                found.push("its codec transpose has \"C\" or \"F\" for an order".to_owned());
            }
            // No deeper after 8 deviations: this bounds the list where shards are nested deep.
            Some("sharding_indexed") if found.len() < 8 => {
                if let Some(inner) = configuration {
                    codec_deviations(inner, found);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_taken_is_told() {
        let of = |metadata: Value, element: ElementType| {
            let document = ArrayDocument {
                format: ZarrFormat::V3,
                metadata: metadata.as_object().unwrap().clone(),
                attributes: crate::dataset::Attributes::default(),
                key: "a".to_owned(),
            };
            deviations(&document, &element).len()
        };
        assert_eq!(of(json!({"fill_value": 0}), ElementType::Int8), 0);
        assert_eq!(of(json!({"fill_value": "NaN"}), ElementType::Float32), 0);
        assert_eq!(of(json!({"fill_value": null}), ElementType::Int8), 1);
        assert_eq!(of(json!({"fill_value": "0"}), ElementType::Int8), 1);
        assert_eq!(of(json!({"fill_value": 0}), ElementType::Bool), 1);
        let codecs = json!([
            {"name": "transpose", "configuration": {"order": "F"}},
            {"name": "sharding_indexed", "configuration": {"codecs": ["bytes", {"name": "zstd"}]}},
        ]);
        assert_eq!(of(json!({"fill_value": 0, "codecs": codecs}), ElementType::Int8), 2);
    }
}
