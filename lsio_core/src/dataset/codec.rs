//! One array's chunks: their keys, their shape, and how their bytes become stored values.
//!
//! The only module that knows zarrs. Fetching is ours: zarrs gets bytes and never a store.

use std::{
    borrow::Cow,
    num::NonZeroU64,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow::{array::StringViewBuilder, buffer::Buffer};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use zarrs::{
    array::{
        Array, ArrayBytes, ArrayMetadata, ArrayToBytesCodecTraits as _, CodecChain, CodecOptions,
    },
    metadata::v3::MetadataV3,
};

use super::{
    chain::{Chain, Storage, Stream},
    compression::{Compressor, peel_codecs, peel_v2, peel_v3},
    decoding::StoredValues,
    document::{ArrayDocument, ZarrFormat},
    dtype::ElementType,
    shard::ShardLayout,
};
use crate::{grid::checked_product, recycle::Recycler};

/// The largest chunk that is decoded, in bytes: numpy's and most codecs' own limit is near.
pub(super) const MAX_CHUNK_BYTES: u64 = 2 << 30;

/// The memory that a string takes at least, roughly: its place in the array and in the offsets.
const STRING_BYTES: usize = 32;

/// What an array's metadata says of its layout, read leniently, so that arrays can be listed that
/// can't be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The number of elements along each dimension.
    pub shape: Vec<u64>,
    /// The shape of the objects in the store: of the shards where the array is sharded.
    pub chunks: Vec<u64>,
    /// The shape of the chunks inside a shard.
    pub inner_chunks: Option<Vec<u64>>,
    /// The names of the codecs, in the order of encoding; of the inner ones for shards.
    pub codecs: Vec<String>,
    /// The name of the data type as the metadata spells it.
    pub dtype: String,
    /// The version of the format.
    pub format: ZarrFormat,
}

impl Layout {
    /// # Errors
    /// A text that says which field is missing or wrong.
    pub(crate) fn new(document: &ArrayDocument) -> Result<Self, String> {
        let metadata = &document.metadata;
        let shape = sizes(metadata.get("shape")).ok_or("shape is not a list of sizes")?;
        if shape.len() > 64 {
            return Err(format!("it has {} dimensions, more than 64", shape.len()));
        }
        let (chunks, dtype) = match document.format {
            ZarrFormat::V2 => (metadata.get("chunks"), metadata.get("dtype")),
            ZarrFormat::V3 => {
                let grid = metadata.get("chunk_grid").ok_or("chunk_grid is missing")?;
                let name = grid.get("name").and_then(Value::as_str).unwrap_or_default();
                if name != "regular" {
                    return Err(format!("the chunk grid '{name}' isn't supported"));
                }
                let chunks = grid.get("configuration").and_then(|c| c.get("chunk_shape"));
                (chunks, metadata.get("data_type"))
            }
        };
        let chunks = sizes(chunks).ok_or("the chunk shape is not a list of sizes")?;
        if chunks.len() != shape.len() {
            return Err(format!("the chunk shape {chunks:?} doesn't fit the shape {shape:?}"));
        }
        // An empty dimension may have empty chunks: there are none to read.
        let chunks: Vec<u64> = chunks
            .iter()
            .zip(&shape)
            .map(|(&chunk, &size)| if size == 0 { chunk.max(1) } else { chunk })
            .collect();
        if chunks.contains(&0) {
            return Err(format!("the chunk shape {chunks:?} has a size of 0"));
        }
        let dtype = match dtype.ok_or("the data type is missing")? {
            Value::String(name) => name.clone(),
            Value::Object(object) => match object.get("name").and_then(Value::as_str) {
                Some(name) => name.to_owned(),
                None => Value::Object(object.clone()).to_string(),
            },
            other => other.to_string(),
        };
        let (codecs, inner_chunks) = match document.format {
            ZarrFormat::V2 => (v2_codecs(metadata), None),
            ZarrFormat::V3 => v3_codecs(metadata.get("codecs")),
        };
        Ok(Self { shape, chunks, inner_chunks, codecs, dtype, format: document.format })
    }
}

/// Finds the objects of one array, and decodes the chunks in them.
///
/// A chunk is what is decoded at a time: an object of the store, or a part of one where the array is
/// sharded. Shards that are encoded in ways that only zarrs knows count as one chunk.
#[derive(Debug)]
pub(crate) struct ChunkCodec {
    /// Knows the keys.
    array: Array<()>,
    element: ElementType,
    chunk: Vec<u64>,
    cells: usize,
    decoder: Decoder,
    shards: Option<ShardLayout>,
}

#[derive(Debug)]
enum Decoder {
    /// By the codec libraries, straight into one buffer.
    Direct(Chain),
    /// By zarrs.
    Zarrs(ZarrsChain),
}

impl ChunkCodec {
    /// # Errors
    /// A text that names the codec, data type or other part that can't be read.
    pub(crate) fn new(
        document: &ArrayDocument,
        layout: &Layout,
        element: &ElementType,
    ) -> Result<Self, String> {
        let mut metadata = document.metadata.clone();
        let rank = layout.shape.len();
        let shards = ShardLayout::new(&metadata, layout);
        let direct;
        let mut peeled = Vec::new();
        let metadata = match document.format {
            ZarrFormat::V2 => {
                lenient_v2(&mut metadata, layout, element);
                direct = Chain::from_v2(&metadata, element, rank);
                if direct.is_none() {
                    peeled = peel_v2(&mut metadata);
                }
                ArrayMetadata::V2(
                    serde_json::from_value(Value::Object(metadata)).map_err(|e| e.to_string())?,
                )
            }
            ZarrFormat::V3 => {
                lenient_v3(&mut metadata, element);
                direct = chunk_codecs(&metadata, shards.is_some())
                    .and_then(|codecs| Chain::from_v3(codecs, element, rank));
                if direct.is_none() && shards.is_none() {
                    peeled = peel_v3(&mut metadata);
                }
                ArrayMetadata::V3(
                    serde_json::from_value(Value::Object(metadata)).map_err(|e| e.to_string())?,
                )
            }
        };
        let inner = chunk_metadata(&metadata, shards.is_some());
        let array =
            Array::new_with_metadata(Arc::new(()), "/", metadata).map_err(|e| e.to_string())?;
        let chunk = match (&shards, &layout.inner_chunks) {
            (Some(_), Some(inner)) => inner.clone(),
            _ => layout.chunks.clone(),
        };
        let cells = chunk_cells(&chunk, element)?;
        let decoder = match direct {
            Some(chain) => Decoder::Direct(chain),
            None => {
                let codecs = match inner {
                    Some(inner) => {
                        let (inner, peeled_inner) = peel_codecs(inner);
                        peeled = peeled_inner;
                        Arc::new(CodecChain::from_metadata(&inner).map_err(|e| e.to_string())?)
                    }
                    None => array.codecs(),
                };
                Decoder::Zarrs(ZarrsChain::new(codecs, peeled, &chunk)?)
            }
        };
        Ok(Self { array, element: element.clone(), chunk, cells, decoder, shards })
    }

    /// The key of an object, relative to the array.
    pub(crate) fn key(&self, object: &[u64]) -> String {
        self.array.chunk_key(object).as_str().to_owned()
    }

    /// The shape of a chunk.
    pub(crate) fn chunk_shape(&self) -> &[u64] {
        &self.chunk
    }

    /// How shards are laid out, if objects are shards.
    pub(crate) fn shards(&self) -> Option<&ShardLayout> {
        self.shards.as_ref()
    }

    /// The bytes of a decoded chunk; strings count as some bytes each.
    pub(crate) fn decoded_bytes(&self) -> usize {
        self.cells.saturating_mul(self.element.size().unwrap_or(STRING_BYTES))
    }

    /// The most bytes that a decoded chunk can have.
    pub(crate) fn most_bytes(&self) -> u64 {
        match self.element.size() {
            Some(size) => self.cells.saturating_mul(size) as u64,
            None => MAX_CHUNK_BYTES,
        }
    }

    /// How decoded bytes can be had without having all of them.
    pub(crate) fn stream(&self) -> Stream {
        match &self.decoder {
            Decoder::Direct(chain) => chain.stream(),
            Decoder::Zarrs(_) => Stream::Whole,
        }
    }

    /// Whether chunks are stored as they are used, so that decoding takes no memory.
    pub(crate) fn is_raw(&self) -> bool {
        matches!(&self.decoder, Decoder::Direct(chain) if chain.is_empty())
    }

    /// How elements lie in the bytes that [`ChunkCodec::decode`] gives; `None` for strings.
    pub(crate) fn storage(&self) -> Option<Storage> {
        match &self.decoder {
            Decoder::Direct(chain) => Some(chain.storage().clone()),
            Decoder::Zarrs(_) => {
                self.element.size().map(|width| Storage::native(self.chunk.len(), width))
            }
        }
    }

    /// Decodes a chunk to all of its cells, those beyond the array's edges too.
    ///
    /// # Errors
    /// A text that says what is wrong with the bytes.
    pub(crate) fn decode(
        &self,
        encoded: &Bytes,
        recycler: &Arc<Recycler>,
    ) -> Result<StoredValues, String> {
        match (&self.decoder, self.element.size()) {
            (Decoder::Direct(chain), Some(size)) => {
                Ok(StoredValues::Fixed(chain.decode(encoded, size * self.cells, recycler)?))
            }
            (Decoder::Direct(_), None) => Err("strings have codecs of their own".to_owned()),
            (Decoder::Zarrs(chain), size) => {
                // What the elements take, with room for checksums and the like.
                let most = match size {
                    Some(size) => size * self.cells + 1_024,
                    None => usize::try_from(MAX_CHUNK_BYTES).unwrap_or(usize::MAX),
                };
                let decoded = chain.decode(encoded, &self.array, most)?;
                self.checked(decoded)
            }
        }
    }

    /// The bytes of the fill value; those of its text for strings.
    ///
    /// # Errors
    /// A text, if the fill value isn't one of the data type.
    pub(crate) fn fill(&self) -> Result<&[u8], String> {
        let fill = self.array.fill_value().as_ne_bytes();
        match self.element.size() {
            Some(size) if fill.len() != size => {
                Err(format!("the fill value has {} bytes, not {size}", fill.len()))
            }
            None if str::from_utf8(fill).is_err() => Err("the fill value is not UTF-8".to_owned()),
            _ => Ok(fill),
        }
    }

    /// Checks lengths and encoding, so that what follows can rely on them.
    fn checked(&self, decoded: Decoded) -> Result<StoredValues, String> {
        match (decoded, self.element.size()) {
            (Decoded::Fixed(buffer), Some(size)) => {
                let expected = size * self.cells;
                if buffer.len() != expected {
                    return Err(format!("it holds {} bytes instead of {expected}", buffer.len()));
                }
                Ok(StoredValues::Fixed(buffer))
            }
            (Decoded::Strings(bytes, offsets), None) => {
                if offsets.len() != self.cells + 1 {
                    return Err(format!(
                        "it holds {} strings instead of {}",
                        offsets.len().saturating_sub(1),
                        self.cells
                    ));
                }
                let mut strings = StringViewBuilder::with_capacity(self.cells);
                for (i, ends) in offsets.windows(2).enumerate() {
                    let string = bytes
                        .get(ends[0]..ends[1])
                        .and_then(|bytes| str::from_utf8(bytes).ok())
                        .ok_or_else(|| format!("its string number {i} is not UTF-8"))?;
                    strings.append_value(string);
                }
                Ok(StoredValues::Strings(Arc::new(strings.finish())))
            }
            _ => Err("it holds elements of another kind than its data type says".to_owned()),
        }
    }
}

/// The codecs of a chunk as zarrs runs them.
#[derive(Debug)]
struct ZarrsChain {
    codecs: Arc<CodecChain>,
    /// The outermost codecs, which are undone here, the last first.
    peeled: Vec<Compressor>,
    chunk: Vec<NonZeroU64>,
    options: CodecOptions,
}

enum Decoded {
    Fixed(Buffer),
    Strings(Vec<u8>, Vec<usize>),
}

impl ZarrsChain {
    fn new(
        codecs: Arc<CodecChain>,
        peeled: Vec<Compressor>,
        chunk: &[u64],
    ) -> Result<Self, String> {
        let chunk = chunk
            .iter()
            .map(|&size| NonZeroU64::new(size).ok_or("a chunk has a size of 0"))
            .collect::<Result<_, _>>()?;
        // Decoding runs inside the query's own threads; zarrs must not start others.
        let mut options = CodecOptions::default();
        options.set_concurrent_target(1);
        options.set_chunk_concurrent_minimum(1);
        Ok(Self { codecs, peeled, chunk, options })
    }

    fn decode(&self, encoded: &Bytes, array: &Array<()>, most: usize) -> Result<Decoded, String> {
        let mut encoded = encoded.clone();
        for compressor in &self.peeled {
            encoded = compressor.decompress(&encoded, most)?;
        }
        let decode = || {
            self.codecs.decode(
                Cow::Borrowed(encoded.as_ref()),
                &self.chunk,
                array.data_type(),
                array.fill_value(),
                &self.options,
            )
        };
        // Some codecs index their input without checking it. They hold no state that a panic could
        // leave broken.
        let decoded = catch_unwind(AssertUnwindSafe(decode))
            .map_err(|_| "the bytes are corrupt: the codec gave up".to_owned())?
            .map_err(|e| e.to_string())?;
        match decoded {
            // Nothing was left to decode: the bytes are used where they are.
            ArrayBytes::Fixed(Cow::Borrowed(_)) => {
                Ok(Decoded::Fixed(Buffer::from(encoded.clone())))
            }
            ArrayBytes::Fixed(Cow::Owned(bytes)) => Ok(Decoded::Fixed(Buffer::from_vec(bytes))),
            ArrayBytes::Variable(strings) => {
                let (bytes, offsets) = strings.into_parts();
                Ok(Decoded::Strings(bytes.into_owned(), offsets.to_vec()))
            }
            ArrayBytes::Optional(_) => Err("optional data types aren't supported".to_owned()),
        }
    }
}

/// The number of cells of a chunk, if they take no more memory than is allowed.
fn chunk_cells(chunk: &[u64], element: &ElementType) -> Result<usize, String> {
    let width = element.size().unwrap_or(STRING_BYTES) as u64;
    checked_product(chunk)
        .filter(|cells| cells.checked_mul(width).is_some_and(|bytes| bytes <= MAX_CHUNK_BYTES))
        .and_then(|cells| usize::try_from(cells).ok())
        .ok_or_else(|| {
            let limit = MAX_CHUNK_BYTES >> 30;
            format!("a chunk of shape {chunk:?} takes more than {limit} GiB")
        })
}

/// The codecs of a chunk: those inside the shards, where there are shards that are known here.
fn chunk_codecs(metadata: &Map<String, Value>, sharded: bool) -> Option<&[Value]> {
    let mut codecs = metadata.get("codecs")?.as_array()?;
    if sharded {
        codecs = codecs.first()?.get("configuration")?.get("codecs")?.as_array()?;
    }
    Some(codecs)
}

/// The same as zarrs' metadata, where they aren't the array's own.
fn chunk_metadata(metadata: &ArrayMetadata, sharded: bool) -> Option<Vec<MetadataV3>> {
    let ArrayMetadata::V3(metadata) = metadata else { return None };
    let sharding = metadata.codecs.first().filter(|_| sharded)?;
    let codecs = sharding.configuration()?.get("codecs")?.clone();
    serde_json::from_value(codecs).ok()
}

fn sizes(value: Option<&Value>) -> Option<Vec<u64>> {
    value?.as_array()?.iter().map(Value::as_u64).collect()
}

fn v2_codecs(metadata: &Map<String, Value>) -> Vec<String> {
    let filters = metadata.get("filters").and_then(Value::as_array).into_iter().flatten();
    let compressor = metadata.get("compressor").filter(|c| !c.is_null());
    filters.chain(compressor).map(|codec| codec_name(codec, "id")).collect()
}

fn v3_codecs(codecs: Option<&Value>) -> (Vec<String>, Option<Vec<u64>>) {
    let codecs = codecs.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let sharding = codecs
        .iter()
        .find(|codec| codec.get("name").and_then(Value::as_str) == Some("sharding_indexed"))
        .and_then(|codec| codec.get("configuration"));
    match sharding {
        Some(sharding) => {
            let (inner, _) = v3_codecs(sharding.get("codecs"));
            (inner, sizes(sharding.get("chunk_shape")))
        }
        None => (codecs.iter().map(|codec| codec_name(codec, "name")).collect(), None),
    }
}

/// A codec's name; blosc's with that of the compressor inside.
fn codec_name(codec: &Value, key: &str) -> String {
    let name = match codec {
        Value::String(name) => name,
        codec => codec.get(key).and_then(Value::as_str).unwrap_or("?"),
    };
    let configuration = codec.get("configuration").unwrap_or(codec);
    match configuration.get("cname").and_then(Value::as_str) {
        Some(inner) => format!("{name}-{inner}"),
        None => name.to_owned(),
    }
}

/// Rewrites what zarrs refuses, but other readers take, into its equivalent.
fn lenient_v2(metadata: &mut Map<String, Value>, layout: &Layout, element: &ElementType) {
    metadata.insert("chunks".to_owned(), json!(layout.chunks));
    match element {
        // zarrs has no v2 times: their bytes are those of integers.
        ElementType::DateTime64(_) | ElementType::TimeDelta64(_) => {
            let order = layout.dtype.get(..1).unwrap_or("<");
            metadata.insert("dtype".to_owned(), json!(format!("{order}i8")));
            let fill = metadata.get("fill_value").and_then(Value::as_i64);
            metadata.insert("fill_value".to_owned(), json!(fill.unwrap_or(i64::MIN)));
        }
        ElementType::Utf32 { .. } | ElementType::Utf8 => {
            if !metadata.get("fill_value").is_some_and(Value::is_string) {
                metadata.insert("fill_value".to_owned(), json!(""));
            }
        }
        element => lenient_fill(metadata, element),
    }
}

fn lenient_v3(metadata: &mut Map<String, Value>, element: &ElementType) {
    lenient_fill(metadata, element);
    if let Some(codecs) = metadata.get_mut("codecs") {
        complete_codecs(codecs);
    }
}

fn lenient_fill(metadata: &mut Map<String, Value>, element: &ElementType) {
    let Some(fill) = metadata.get_mut("fill_value") else { return };
    let is_integer = !element.is_float()
        && element.size().is_some()
        && !matches!(element, ElementType::Bool | ElementType::Utf32 { .. });
    if *element == ElementType::Bool {
        if let Some(number) = fill.as_f64() {
            *fill = json!(number != 0.0);
        }
    } else if is_integer
        && let Some(number) = fill.as_str().and_then(|text| text.parse::<i64>().ok())
    {
        *fill = json!(number);
    }
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
