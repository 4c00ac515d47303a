//! Codecs that only zarrs knows. The only module that uses it: it gets bytes and never a store.

use std::{
    borrow::Cow,
    num::NonZeroU64,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow::buffer::Buffer;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use zarrs::{
    array::{
        Array, ArrayBytes, ArrayMetadata, ArrayToBytesCodecTraits as _, CodecChain, CodecOptions,
    },
    metadata::v3::MetadataV3,
};

use super::{
    compression::{Compressor, peel_codecs, peel_v2, peel_v3},
    decoding::StoredValues,
    document::{ArrayDocument, ZarrFormat},
    dtype::ElementType,
    layout::Layout,
};
use crate::grid::checked_product;

/// What checksums and the like may add to the elements' bytes.
const OVERHEAD_BYTES: usize = 1_024;

/// The codecs of a chunk as zarrs runs them.
#[derive(Debug)]
pub(super) struct ZarrsChain {
    array: Array<()>,
    codecs: Arc<CodecChain>,
    /// The outermost codecs, which are undone here, the last first.
    peeled: Vec<Compressor>,
    width: usize,
    options: CodecOptions,
}

impl ZarrsChain {
    /// The codecs of an array, or those inside its shards.
    ///
    /// # Errors
    /// A text that names what zarrs can't use.
    pub(super) fn new(
        document: &ArrayDocument,
        layout: &Layout,
        element: &ElementType,
        sharded: bool,
    ) -> Result<Self, String> {
        let Some(width) = element.size() else {
            return Err("it isn't known for strings and other elements of any length".to_owned());
        };
        let mut metadata = document.metadata.clone();
        let mut peeled;
        let metadata = match document.format {
            ZarrFormat::V2 => {
                metadata.insert("chunks".to_owned(), json!(layout.chunks));
                peeled = peel_v2(&mut metadata);
                plain_fill(&mut metadata, element);
                let metadata = serde_json::from_value(Value::Object(metadata));
                ArrayMetadata::V2(metadata.map_err(|e| e.to_string())?)
            }
            ZarrFormat::V3 => {
                let grid =
                    json!({"name": "regular", "configuration": {"chunk_shape": layout.chunks}});
                metadata.insert("chunk_grid".to_owned(), grid);
                plain_fill(&mut metadata, element);
                if let Some(codecs) = metadata.get_mut("codecs") {
                    complete_codecs(codecs);
                }
                peeled = if sharded { Vec::new() } else { peel_v3(&mut metadata) };
                let metadata = serde_json::from_value(Value::Object(metadata));
                ArrayMetadata::V3(metadata.map_err(|e| e.to_string())?)
            }
        };
        let inner = inner_codecs(&metadata, sharded).map(|inner| {
            let (inner, own) = peel_codecs(inner);
            peeled = own;
            inner
        });
        // It has no bounds for what compressed bytes claim, and shards need the array's fill value.
        let left = match (&inner, &metadata) {
            (Some(inner), _) => inner.as_slice(),
            (None, ArrayMetadata::V3(metadata)) => metadata.codecs.as_slice(),
            (None, ArrayMetadata::V2(_)) => &[],
        };
        if let Some(codec) = left.iter().find(|codec| unbounded(codec.name())) {
            let name = codec.name();
            return Err(format!("it can't be combined with the codec '{name}' in this way"));
        }
        let array =
            Array::new_with_metadata(Arc::new(()), "/", metadata).map_err(|e| e.to_string())?;
        let codecs = match inner {
            Some(inner) => Arc::new(CodecChain::from_metadata(&inner).map_err(|e| e.to_string())?),
            None => array.codecs(),
        };
        // Decoding runs inside the query's own threads; zarrs must not start others.
        let mut options = CodecOptions::default();
        options.set_concurrent_target(1);
        options.set_chunk_concurrent_minimum(1);
        Ok(Self { array, codecs, peeled, width, options })
    }

    /// Decodes a chunk of this shape.
    ///
    /// # Errors
    /// A text that says what is wrong with the bytes.
    pub(super) fn decode(&self, encoded: &Bytes, shape: &[u64]) -> Result<StoredValues, String> {
        let cells = checked_product(shape).and_then(|cells| usize::try_from(cells).ok());
        let len = cells.and_then(|cells| cells.checked_mul(self.width));
        let len = len.ok_or("its shape is too large")?;
        let mut encoded = encoded.clone();
        for compressor in &self.peeled {
            encoded = compressor.decompress(&encoded, len.saturating_add(OVERHEAD_BYTES))?;
        }
        let shape: Vec<NonZeroU64> = shape
            .iter()
            .map(|&size| NonZeroU64::new(size).ok_or("a chunk has a size of 0"))
            .collect::<Result<_, _>>()?;
        let decode = || {
            self.codecs.decode(
                Cow::Borrowed(encoded.as_ref()),
                &shape,
                self.array.data_type(),
                self.array.fill_value(),
                &self.options,
            )
        };
        // Some codecs index their input without checking it. They hold no state that a panic could
        // leave broken.
        let decoded = catch_unwind(AssertUnwindSafe(decode))
            .map_err(|_| "the bytes are corrupt: the codec gave up".to_owned())?
            .map_err(|e| e.to_string())?;
        let buffer = match decoded {
            // Nothing was left to decode: the bytes are used where they are.
            ArrayBytes::Fixed(Cow::Borrowed(_)) => Buffer::from(encoded.clone()),
            ArrayBytes::Fixed(Cow::Owned(bytes)) => Buffer::from_vec(bytes),
            _ => return Err("it holds elements of another kind than its data type says".to_owned()),
        };
        if buffer.len() != len {
            return Err(format!("it holds {} bytes instead of {len}", buffer.len()));
        }
        Ok(StoredValues::Fixed(buffer))
    }
}

fn unbounded(codec: &str) -> bool {
    codec == "sharding_indexed" || Compressor::of(codec).is_some()
}

/// The codecs inside shards, where those are read here.
fn inner_codecs(metadata: &ArrayMetadata, sharded: bool) -> Option<Vec<MetadataV3>> {
    let ArrayMetadata::V3(metadata) = metadata else { return None };
    let sharding = metadata.codecs.first().filter(|_| sharded)?;
    let codecs = sharding.configuration()?.get("codecs")?.clone();
    serde_json::from_value(codecs).ok()
}

/// A fill value that zarrs takes: the array's own is used elsewhere.
fn plain_fill(metadata: &mut Map<String, Value>, element: &ElementType) {
    let fill = match element {
        ElementType::Bool => json!(false),
        ElementType::Complex(_) => json!([0.0, 0.0]),
        // A list of bytes: a number would hide what else may be the matter.
        ElementType::Raw { length } => json!(vec![0; *length]),
        element if element.is_float() => json!(0.0),
        _ => json!(0),
    };
    metadata.insert("fill_value".to_owned(), fill);
}

/// Adds what zarrs wants in the configurations of codecs, but some writers leave out. Decoding needs
/// none of it.
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
