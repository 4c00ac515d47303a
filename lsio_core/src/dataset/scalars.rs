//! Scalars as NCZarr writes them to Zarr v2: arrays with one dimension of size 1.

use super::{layout::ZarrFormat, spec::ArraySpec};

/// The name of NCZarr's scalar dimension.
const SCALAR: &str = "_scalar_";

/// The array without its dimension. `None` unless the array is an NCZarr scalar. `dims` are the dimension's names.
pub(super) fn without_dimension(spec: &ArraySpec, dims: &[String]) -> Option<ArraySpec> {
    let is_scalar = dims == [SCALAR] || spec.is_scalar;
    if !is_scalar || spec.layout.shape != [1] || spec.layout.format != ZarrFormat::V2 {
        return None;
    }
    let encoding = match &spec.encoding {
        Ok(encoding) => Ok(encoding.without_last()?),
        Err(reason) => Err(reason.clone()),
    };
    Some(ArraySpec { layout: spec.layout.without_last()?, encoding, ..spec.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::format::zarr::{
        array::array_spec, attributes::attributes as parsed, documents::ArrayDocument,
    };

    #[test]
    fn scalars_of_nczarr_have_no_dimension() {
        let document = |attributes: Value| ArrayDocument {
            format: ZarrFormat::V2,
            metadata: json!({"shape": [1], "chunks": [1], "dtype": "<f8"})
                .as_object()
                .unwrap()
                .clone(),
            attributes: parsed(attributes.as_object().cloned().unwrap_or_default()),
            key: "a".to_owned(),
        };
        let ask = |attributes: Value, dim: &str| {
            let document = document(attributes);
            let spec = array_spec(&document).unwrap();
            without_dimension(&spec, &[dim.to_owned()]).map(|spec| spec.layout.shape)
        };
        assert_eq!(ask(json!({}), "_scalar_"), Some(vec![]));
        let new = json!({"_nczarr_array": {"dimension_references": [], "scalar": 1}});
        assert_eq!(ask(new, "dim_0"), Some(vec![]));
        assert_eq!(ask(json!({}), "x"), None);
    }
}
