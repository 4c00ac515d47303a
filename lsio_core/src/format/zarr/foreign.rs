//! Zarr's metadata in the form that zarrs expects, for codecs that only zarrs has.

use serde_json::{Map, Value, json};
use zarrs::{array::ArrayMetadata, metadata::v3::MetadataV3};

use super::documents::ArrayDocument;
use crate::dataset::{Layout, ZarrFormat, dtype::ElementType, zarrs_chain::ForeignCodecs};

/// Codecs of an array for zarrs; the codecs inside shards if `sharded`.
pub(super) fn foreign_codecs(
    document: &ArrayDocument,
    layout: &Layout,
    element: &ElementType,
    sharded: bool,
) -> ForeignCodecs {
    let mut metadata = document.metadata.clone();
    plain_fill(&mut metadata, element);
    let array = match document.format {
        ZarrFormat::V2 => {
            metadata.insert("chunks".to_owned(), json!(layout.chunks));
            serde_json::from_value(Value::Object(metadata)).map(ArrayMetadata::V2)
        }
        ZarrFormat::V3 => {
            let grid = json!({"name": "regular", "configuration": {"chunk_shape": layout.chunks}});
            metadata.insert("chunk_grid".to_owned(), grid);
            if let Some(codecs) = metadata.get_mut("codecs") {
                complete_codecs(codecs);
            }
            serde_json::from_value(Value::Object(metadata)).map(ArrayMetadata::V3)
        }
    };
    let array = array.map_err(|e| e.to_string());
    let inner = array.as_ref().ok().and_then(inner_codecs);
    ForeignCodecs { array, sharded, inner }
}

/// Codecs inside shards.
fn inner_codecs(metadata: &ArrayMetadata) -> Option<Vec<MetadataV3>> {
    let ArrayMetadata::V3(metadata) = metadata else { return None };
    let codecs = metadata.codecs.first()?.configuration()?.get("codecs")?.clone();
    serde_json::from_value(codecs).ok()
}

/// Sets a fill value that zarrs accepts. The array's own fill value is used elsewhere.
fn plain_fill(metadata: &mut Map<String, Value>, element: &ElementType) {
    let fill = match element {
        ElementType::Bool => json!(false),
        ElementType::Complex(_) => json!([0.0, 0.0]),
        // A list of bytes: a number would hide other faults.
        ElementType::Raw { length } => json!(vec![0; *length]),
        element if element.is_float() => json!(0.0),
        _ => json!(0),
    };
    metadata.insert("fill_value".to_owned(), fill);
}

/// Adds keys to the configurations of codecs that zarrs requires and some writers leave out. Decoding uses none of
/// them.
fn complete_codecs(codecs: &mut Value) {
    for codec in codecs.as_array_mut().into_iter().flatten() {
        if let Value::String(name) = codec {
            *codec = json!({"name": name});
        }
        let Some(codec) = codec.as_object_mut() else { continue };
        let name = codec.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let defaults = match name.trim_start_matches("numcodecs.") {
            "zstd" => json!({"checksum": false, "level": 0}),
            "bz2" | "gzip" | "zlib" => json!({"level": 1}),
            "sharding_indexed" => json!({}),
            _ => continue,
        };
        let configuration = codec.entry("configuration").or_insert_with(|| json!({}));
        let Some(configuration) = configuration.as_object_mut() else { continue };
        for (key, value) in defaults.as_object().into_iter().flatten() {
            configuration.entry(key.as_str()).or_insert_with(|| value.clone());
        }
        if let Some(inner) = configuration.get_mut("codecs") {
            complete_codecs(inner);
        }
    }
}
