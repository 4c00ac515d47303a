//! Arrays of characters, whose last dimension is that of the letters of strings (netCDF-3 had no
//! other strings). They are read as arrays of strings, as xarray reads them.

use std::collections::HashSet;

use crate::format::zarr::codecs::v3_name;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Map, Value, json};

use super::{
    document::{ArrayDocument, ZarrFormat},
    dtype::ElementType,
    fill_value::fill_bytes,
    layout::Layout,
};

/// An array of strings instead of one of characters. `None` if it has none, or if the letters of a
/// string don't lie side by side in one chunk.
pub(super) fn joined(document: &ArrayDocument, layout: &Layout) -> Option<(ArrayDocument, Layout)> {
    if !is_characters(document) {
        return None;
    }
    let (letters, shape) = layout.shape.split_last()?;
    let inner = layout.inner_chunks.as_ref().unwrap_or(&layout.chunks);
    if layout.chunks.last()? != letters || inner.last()? != letters || *letters == 0 {
        return None;
    }
    let mut metadata = document.metadata.clone();
    let length = usize::try_from(*letters).ok()?;
    let letter = ElementType::Text { length: 1 };
    let fill = fill_bytes(&letter, metadata.get("fill_value").unwrap_or(&Value::Null)).ok()?;
    // More than that no string has, and it would be refused later.
    let fill = BASE64_STANDARD.encode(fill.repeat(length.min(1 << 24)));
    metadata.insert("fill_value".to_owned(), Value::from(fill));
    metadata.insert("shape".to_owned(), json!(shape));
    match document.format {
        ZarrFormat::V2 => {
            let order = metadata.get("order").and_then(Value::as_str).unwrap_or("C");
            if order != "C" && !shape.is_empty() {
                return None;
            }
            metadata.insert("chunks".to_owned(), without_last(metadata.get("chunks")?)?);
            metadata.insert("dtype".to_owned(), Value::from(format!("|S{length}")));
        }
        ZarrFormat::V3 => {
            let data_type = json!({
                "name": "null_terminated_bytes", "configuration": {"length_bytes": length},
            });
            metadata.insert("data_type".to_owned(), data_type);
            let grid = metadata.get_mut("chunk_grid")?;
            if grid.get("name")?.as_str() != Some("regular") {
                return None;
            }
            shorten(grid)?;
            for codec in metadata.get_mut("codecs")?.as_array_mut()? {
                match v3_name(codec)? {
                    "sharding_indexed" => {
                        let inner = codec.get("configuration")?.get("codecs")?.as_array()?;
                        if !inner.iter().all(keeps_dimensions) {
                            return None;
                        }
                        shorten(codec)?;
                    }
                    _ if keeps_dimensions(codec) => {}
                    _ => return None,
                }
            }
        }
    }
    let document = ArrayDocument { metadata, ..document.clone() };
    let mut layout = Layout::new(&document).ok()?;
    layout.last_left_out = true;
    Some((document, layout))
}

/// Whether elements are single characters.
pub(super) fn is_characters(document: &ArrayDocument) -> bool {
    let of = |key: &str| document.metadata.get(key).unwrap_or(&Value::Null);
    let element = match document.format {
        ZarrFormat::V2 => {
            ElementType::from_v2(of("dtype"), of("filters")).map(|(element, _)| element)
        }
        ZarrFormat::V3 => ElementType::from_v3(of("data_type")),
    };
    element == Ok(ElementType::Text { length: 1 })
}

/// Of the variables that share dimensions, those of characters whose last dimension nobody else has
/// but as the last dimension of characters, and which is no variable itself.
pub(super) fn joinable<'a>(
    arrays: impl Iterator<Item = (&'a str, &'a ArrayDocument, &'a Vec<String>)> + Clone,
) -> Vec<bool> {
    let letters: Vec<Option<String>> = arrays
        .clone()
        .map(|(_, document, dims)| dims.last().filter(|_| is_characters(document)).cloned())
        .collect();
    // What is somebody's name, or a dimension that isn't that of letters.
    let mut taken: HashSet<&str> = HashSet::new();
    for ((name, _, dims), own) in arrays.zip(&letters) {
        taken.insert(name);
        let inside = &dims[..dims.len() - usize::from(own.is_some())];
        taken.extend(inside.iter().map(String::as_str));
    }
    letters.iter().map(|dim| dim.as_deref().is_some_and(|dim| !taken.contains(dim))).collect()
}

/// Takes the last size off the chunk shape in a configuration.
fn shorten(extension: &mut Value) -> Option<()> {
    let configuration: &mut Map<String, Value> =
        extension.get_mut("configuration")?.as_object_mut()?;
    let shape = without_last(configuration.get("chunk_shape")?)?;
    configuration.insert("chunk_shape".to_owned(), shape);
    Some(())
}

fn without_last(sizes: &Value) -> Option<Value> {
    let (_, rest) = sizes.as_array()?.split_last()?;
    Some(Value::from(rest.to_vec()))
}

fn keeps_dimensions(codec: &Value) -> bool {
    v3_name(codec).is_some_and(|name| !["transpose", "sharding_indexed"].contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(metadata: Value) -> ArrayDocument {
        let format = if metadata.get("dtype").is_some() { ZarrFormat::V2 } else { ZarrFormat::V3 };
        ArrayDocument {
            format,
            metadata: metadata.as_object().unwrap().clone(),
            attributes: Map::new(),
            key: "store/names".to_owned(),
        }
    }

    #[test]
    fn characters_become_strings() {
        let chars = document(
            json!({"shape": [4, 3], "chunks": [2, 3], "dtype": "|S1", "fill_value": "eA=="}),
        );
        let layout = Layout::new(&chars).unwrap();
        let (joined_document, joined_layout) = joined(&chars, &layout).unwrap();
        assert_eq!(joined_layout.shape, [4]);
        assert!(joined_layout.last_left_out);
        assert_eq!(joined_document.metadata["dtype"], "|S3");
        assert_eq!(joined_document.metadata["fill_value"], BASE64_STANDARD.encode("xxx"));
        for other in [
            json!({"shape": [4, 3], "chunks": [2, 2], "dtype": "|S1"}),
            json!({"shape": [4, 3], "chunks": [2, 3], "dtype": "|S1", "order": "F"}),
            json!({"shape": [4, 3], "chunks": [2, 3], "dtype": "|S2"}),
            json!({"shape": [4, 0], "chunks": [2, 1], "dtype": "|S1"}),
            json!({"shape": [], "chunks": [], "dtype": "|S1"}),
        ] {
            let other = document(other);
            assert!(joined(&other, &Layout::new(&other).unwrap()).is_none());
        }
    }

    #[test]
    fn the_letters_are_nobody_elses_dimension() {
        let chars = document(json!({"shape": [4, 3], "chunks": [2, 3], "dtype": "|S1"}));
        let numbers = document(json!({"shape": [3], "chunks": [3], "dtype": "<i4"}));
        let dims = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let ask = |arrays: &[(&'static str, &ArrayDocument, Vec<String>)]| {
            joinable(arrays.iter().map(|(n, d, dims)| (*n, *d, dims)))
        };
        let names = ("names", &chars, dims(&["x", "len"]));
        assert_eq!(ask(&[names.clone(), ("others", &chars, dims(&["y", "len"]))]), [true, true]);
        assert_eq!(ask(&[names.clone(), ("v", &numbers, dims(&["len"]))]), [false, false]);
        assert_eq!(ask(&[names, ("len", &numbers, dims(&["z"]))]), [false, false]);
    }
}
