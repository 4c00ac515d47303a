//! Scalars as NCZarr writes them: with a dimension of one index, since Zarr v2 had none without.

use serde_json::{Value, json};

use super::{
    document::{ArrayDocument, ZarrFormat},
    layout::Layout,
};

/// The name of that dimension.
const SCALAR: &str = "_scalar_";

/// The array without its dimension, if it is such a scalar. `dims` are the names that it would have.
pub(super) fn without_dimension(
    document: &ArrayDocument,
    layout: &Layout,
    dims: &[String],
) -> Option<(ArrayDocument, Layout)> {
    let nczarr = document.attributes.get("_nczarr_array");
    let array = nczarr.or_else(|| document.metadata.get("_NCZARR_ARRAY"));
    let of = |key: &str| array.and_then(|array| array.get(key));
    let is_one = |value: &Value| value.as_bool() == Some(true) || value.as_u64() == Some(1);
    let says_so =
        of("scalar").is_some_and(is_one) || of("storage").and_then(Value::as_str) == Some("scalar");
    let is_scalar = dims == [SCALAR] || says_so;
    if !is_scalar || layout.shape != [1] || document.format != ZarrFormat::V2 {
        return None;
    }
    let mut document = document.clone();
    document.metadata.insert("shape".to_owned(), json!([]));
    document.metadata.insert("chunks".to_owned(), json!([]));
    let mut layout = Layout::new(&document).ok()?;
    layout.last_left_out = true;
    Some((document, layout))
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    #[test]
    fn scalars_of_nczarr_have_no_dimension() {
        let document = |attributes: Value| ArrayDocument {
            format: ZarrFormat::V2,
            metadata: json!({"shape": [1], "chunks": [1], "dtype": "<f8"})
                .as_object()
                .unwrap()
                .clone(),
            attributes: attributes.as_object().unwrap_or(&Map::new()).clone(),
            key: "a".to_owned(),
        };
        let ask = |attributes: Value, dim: &str| {
            let document = document(attributes);
            let layout = Layout::new(&document).unwrap();
            without_dimension(&document, &layout, &[dim.to_owned()]).map(|(_, layout)| layout.shape)
        };
        assert_eq!(ask(json!({}), "_scalar_"), Some(vec![]));
        let new = json!({"_nczarr_array": {"dimension_references": [], "scalar": 1}});
        assert_eq!(ask(new, "dim_0"), Some(vec![]));
        assert_eq!(ask(json!({}), "x"), None);
    }
}
