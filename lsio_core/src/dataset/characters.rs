//! Arrays of characters, whose last dimension counts the letters of strings (netCDF-3 has no other strings). They are
//! read as arrays of strings, as xarray does.

use std::collections::HashSet;

use super::{
    codec_spec::{CodecKind, CodecSpec, ShardSpec},
    dtype::{ElementType, MAX_ELEMENT_BYTES},
    layout::ZarrFormat,
    spec::{ArraySpec, Encoding},
};

/// Turns an array of characters into an array of strings. `None` if the elements aren't characters, or if the letters
/// of a string don't lie side by side in one chunk.
pub(super) fn joined(spec: &ArraySpec) -> Option<ArraySpec> {
    if !is_characters(spec) {
        return None;
    }
    let layout = &spec.layout;
    let letters = layout.shape.last()?;
    let inner = layout.inner_chunks.as_ref().unwrap_or(&layout.chunks);
    if layout.chunks.last()? != letters || inner.last()? != letters || *letters == 0 {
        return None;
    }
    let length = usize::try_from(*letters).ok()?;
    let mut layout = layout.without_last()?;
    layout.dtype = match layout.format {
        ZarrFormat::V2 => format!("|S{length}"),
        ZarrFormat::V3 => "null_terminated_bytes".to_owned(),
    };
    let encoding = match &spec.encoding {
        Ok(_) if length > MAX_ELEMENT_BYTES => {
            Err(format!("the data type {} of {length} bytes isn't supported", layout.dtype))
        }
        Ok(encoding) => {
            let codecs = encoding.codecs.iter().map(without_letters).collect::<Option<_>>()?;
            let fill = encoding.fill.repeat(length);
            Ok(Encoding { fill, codecs, ..encoding.without_last()? })
        }
        Err(reason) => Err(reason.clone()),
    };
    let element = Some(ElementType::Text { length }).filter(|_| length <= MAX_ELEMENT_BYTES);
    Some(ArraySpec { layout, element, encoding, ..spec.clone() })
}

/// Whether the elements are single characters.
pub(super) fn is_characters(spec: &ArraySpec) -> bool {
    spec.element == Some(ElementType::Text { length: 1 })
}

/// For each array of a group, whether its characters can be joined to strings: its last dimension is used only as the
/// last dimension of arrays of characters, and isn't the name of a variable.
pub(super) fn joinable<'a>(
    arrays: impl Iterator<Item = (&'a str, &'a ArraySpec, &'a [String])> + Clone,
) -> Vec<bool> {
    let letters: Vec<Option<String>> = arrays
        .clone()
        .map(|(_, spec, dims)| dims.last().filter(|_| is_characters(spec)).cloned())
        .collect();
    // Names of arrays, and dimensions other than of letters.
    let mut taken: HashSet<&str> = HashSet::new();
    for ((name, _, dims), own) in arrays.zip(&letters) {
        taken.insert(name);
        let inside = &dims[..dims.len() - usize::from(own.is_some())];
        taken.extend(inside.iter().map(String::as_str));
    }
    letters.iter().map(|dim| dim.as_deref().is_some_and(|dim| !taken.contains(dim))).collect()
}

/// The same codec for chunks without their last dimension. `None` if the codec reorders dimensions.
fn without_letters(codec: &CodecSpec) -> Option<CodecSpec> {
    let kind = match &codec.kind {
        CodecKind::Transpose(_) => return None,
        CodecKind::Shard(shard) => {
            let moves = |codec: &CodecSpec| {
                matches!(codec.kind, CodecKind::Transpose(_) | CodecKind::Shard(_))
            };
            if shard.codecs.iter().any(moves) {
                return None;
            }
            let (_, chunk_shape) = shard.chunk_shape.split_last()?;
            let chunk_shape = chunk_shape.to_vec();
            CodecKind::Shard(Box::new(ShardSpec { chunk_shape, ..shard.as_ref().clone() }))
        }
        kind => kind.clone(),
    };
    Some(CodecSpec { name: codec.name.clone(), kind })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::format::zarr::{array::array_spec, documents::ArrayDocument};

    fn spec(metadata: Value) -> ArraySpec {
        let format = if metadata.get("dtype").is_some() { ZarrFormat::V2 } else { ZarrFormat::V3 };
        let document = ArrayDocument {
            format,
            metadata: metadata.as_object().unwrap().clone(),
            attributes: crate::dataset::Attributes::default(),
            key: "store/names".to_owned(),
        };
        array_spec(&document).unwrap()
    }

    #[test]
    fn characters_become_strings() {
        let chars =
            spec(json!({"shape": [4, 3], "chunks": [2, 3], "dtype": "|S1", "fill_value": "eA=="}));
        let strings = joined(&chars).unwrap();
        assert_eq!(strings.layout.shape, [4]);
        let encoding = strings.encoding.unwrap();
        assert_eq!(encoding.chunks.name(&[4]), "4.0");
        assert_eq!(strings.layout.dtype, "|S3");
        assert_eq!(strings.element, Some(ElementType::Text { length: 3 }));
        assert_eq!(encoding.fill, b"xxx");
        for other in [
            json!({"shape": [4, 3], "chunks": [2, 2], "dtype": "|S1"}),
            json!({"shape": [4, 3], "chunks": [2, 3], "dtype": "|S1", "order": "F"}),
            json!({"shape": [4, 3], "chunks": [2, 3], "dtype": "|S2"}),
            json!({"shape": [4, 0], "chunks": [2, 1], "dtype": "|S1"}),
            json!({"shape": [], "chunks": [], "dtype": "|S1"}),
        ] {
            assert!(joined(&spec(other)).is_none());
        }
    }

    #[test]
    fn the_letters_are_nobody_elses_dimension() {
        let chars = spec(json!({"shape": [4, 3], "chunks": [2, 3], "dtype": "|S1"}));
        let numbers = spec(json!({"shape": [3], "chunks": [3], "dtype": "<i4"}));
        let dims = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let ask = |arrays: &[(&'static str, &ArraySpec, Vec<String>)]| {
            joinable(arrays.iter().map(|(n, spec, dims)| (*n, *spec, dims.as_slice())))
        };
        let names = ("names", &chars, dims(&["x", "len"]));
        assert_eq!(ask(&[names.clone(), ("others", &chars, dims(&["y", "len"]))]), [true, true]);
        assert_eq!(ask(&[names.clone(), ("v", &numbers, dims(&["len"]))]), [false, false]);
        assert_eq!(ask(&[names, ("len", &numbers, dims(&["z"]))]), [false, false]);
    }
}
