//! Parses an array's metadata document.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use serde_json::{Map, Value};

use super::{
    attributes::attribute,
    chunks::{KeyedChunks, ShardedChunks},
    codecs::{V2Context, v2_codecs, v3_codecs},
    deviations::deviations,
    documents::{ArrayDocument, Node, parsed_node},
    fill_value::fill_bytes,
    foreign::foreign_codecs,
    keys::Keys,
    listing::Listing,
    names::stored_names,
};
use crate::{
    Error, Result,
    chunks::SharedChunkSource,
    dataset::{
        Attribute, Layout, ZarrFormat,
        chain::Chain,
        codec_spec::{ByteOrder, CodecRefusal},
        dtype::ElementType,
        shard::ShardLayout,
        spec::{ArraySpec, Encoding},
    },
    grid::ChunkGrid,
};

impl ArraySpec {
    /// Array that a Zarr v3 metadata document (`zarr.json`) describes. Chunks have Zarr's keys, below the array's
    /// location, until [`ArraySpec::with_chunks`] replaces their source.
    ///
    /// # Errors
    /// [`Error::Metadata`] if the document doesn't describe an array that can be listed.
    pub fn from_zarr_json(document: &[u8]) -> Result<Self> {
        let key = "zarr.json";
        let metadata =
            |reason: &str| Error::Metadata { key: key.to_owned(), reason: reason.to_owned() };
        match parsed_node(document, key)? {
            Node::Array(document) => array_spec(&document).map_err(|reason| metadata(&reason)),
            Node::Group(_) => Err(metadata("it is that of a group")),
        }
    }
}

/// Parses an array's document. An array that can't be read is still listed, with the reason.
///
/// # Errors
/// A text with the missing or wrong field, if the array can't even be listed.
pub(crate) fn array_spec(document: &ArrayDocument) -> Result<ArraySpec, String> {
    let Listing { layout, problem } = Listing::new(&document.metadata, document.format)?;
    let of = |key: &str| document.metadata.get(key).unwrap_or(&Value::Null);
    let element = match document.format {
        ZarrFormat::V2 => ElementType::from_v2(of("dtype"), of("filters")),
        ZarrFormat::V3 => ElementType::from_v3(of("data_type")).map(|element| (element, false)),
    };
    let fill = attribute(of("fill_value").clone());
    let known = element.as_ref().ok().map(|(element, _)| element.clone());
    let encoding = problem.map_or(element, Err).and_then(|(element, is_big)| {
        let byte_order = if is_big { ByteOrder::Big } else { ByteOrder::Little };
        encoding(document, &layout, &element, byte_order, &fill)
    });
    Ok(ArraySpec {
        dims: stored_names(document, layout.shape.len()),
        attributes: document.attributes.clone(),
        encoding,
        fill_attribute: Some(fill).filter(|fill| !fill.is_null()),
        is_scalar: is_nczarr_scalar(document),
        deviations: known.iter().flat_map(|element| deviations(document, element)).collect(),
        element: known,
        layout,
        digest: Some(digest(document)),
    })
}

/// Digest of an array's document.
fn digest(document: &ArrayDocument) -> u64 {
    let mut hasher = DefaultHasher::new();
    document.metadata.hash(&mut hasher);
    format!("{:?}{:?}", document.format, document.attributes).hash(&mut hasher);
    hasher.finish()
}

/// `byte_order` is the byte order of a Zarr v2 dtype.
fn encoding(
    document: &ArrayDocument,
    layout: &Layout,
    element: &ElementType,
    byte_order: ByteOrder,
    fill: &Attribute,
) -> Result<Encoding, String> {
    let metadata = &document.metadata;
    let rank = layout.shape.len();
    if element.size() == Some(0) {
        return Err(format!("the elements of its data type {} have no bytes", layout.dtype));
    }
    let fill = fill_bytes(element, fill)?;
    let keys = Keys::from_metadata(metadata, document.format)?;
    let codecs = match document.format {
        ZarrFormat::V2 => {
            let is_nczarr = document.is_nczarr();
            v2_codecs(metadata, V2Context { element, byte_order, rank, is_nczarr })
        }
        ZarrFormat::V3 => {
            check_extensions(metadata)?;
            let codecs = metadata.get("codecs").and_then(Value::as_array);
            v3_codecs(codecs.ok_or("codecs are not a list")?, element, rank)
        }
    };
    let shards = ShardLayout::of_array(&codecs, layout);
    let sharded = shards.is_some();
    let (grid, chunks): (_, SharedChunkSource) = match shards {
        Some((shards, inside)) => {
            let grid = ChunkGrid::new(layout.shape.clone(), inside.chunk_shape.clone());
            let grid = grid.ok_or("its shards have too many chunks")?;
            (grid, Arc::new(ShardedChunks { keys, shards }))
        }
        None => (layout.grid.clone(), Arc::new(KeyedChunks(keys))),
    };
    let mut encoding = Encoding { fill, grid, chunks, codecs, sharded, foreign: None };
    let chain = Chain::new(encoding.chunk_codecs(), element, rank, &encoding.fill);
    if matches!(chain, Err(CodecRefusal::Unknown(_))) {
        let foreign = foreign_codecs(document, layout, element, sharded);
        encoding.foreign = Some(Box::new(foreign));
    }
    Ok(encoding)
}

/// Whether NCZarr marks the array as a scalar, which it stores with one dimension of size 1.
fn is_nczarr_scalar(document: &ArrayDocument) -> bool {
    let of_metadata = || document.metadata.get("_NCZARR_ARRAY").cloned().map(attribute);
    let array = document.attributes.get("_nczarr_array").cloned().or_else(of_metadata);
    let of = |key: &str| array.as_ref().and_then(|array| array.get(key));
    let is_one = |value: &Attribute| matches!(value, Attribute::Bool(true) | Attribute::Int(1));
    of("scalar").is_some_and(is_one) || of("storage").and_then(Attribute::as_text) == Some("scalar")
}

/// Fails if the metadata has an extension that a reader must understand.
fn check_extensions(metadata: &Map<String, Value>) -> Result<(), String> {
    const KNOWN: [&str; 11] = [
        "zarr_format",
        "node_type",
        "shape",
        "data_type",
        "chunk_grid",
        "chunk_key_encoding",
        "fill_value",
        "codecs",
        "attributes",
        "dimension_names",
        "storage_transformers",
    ];
    let transformers = metadata.get("storage_transformers").and_then(Value::as_array);
    if transformers.is_some_and(|transformers| !transformers.is_empty()) {
        return Err("storage transformers aren't supported".to_owned());
    }
    for (key, value) in metadata {
        let optional = value.get("must_understand") == Some(&Value::Bool(false));
        if !KNOWN.contains(&key.as_str()) && !optional && value.is_object() {
            return Err(format!("its metadata has the extension '{key}', which isn't supported"));
        }
    }
    Ok(())
}
