//! The codec of one array's chunks: from encoded bytes to stored values.

use std::sync::Arc;

use arrow::{array::ArrayRef, buffer::Buffer};
use bytes::Bytes;

use super::{
    chain::{Chain, ElementLayout, Stream},
    codec_spec::CodecRefusal,
    decoding::StoredValues,
    dtype::ElementType,
    items::one_item,
    layout::Layout,
    spec::Encoding,
    zarrs_chain::ZarrsChain,
};
use crate::{
    grid::{ChunkGrid, checked_product},
    recycle::Recycler,
};

/// The largest decoded chunk in bytes, whatever the options allow: numpy and most codecs have a limit close to it.
const MAX_CHUNK_BYTES: u64 = 2 << 30;

/// Estimated minimum memory of a string in bytes: its view in the array and its entry in the offsets.
const STRING_BYTES: usize = 32;

/// Decodes the chunks of one array.
///
/// A chunk is the unit of decoding: an object of the store, or a part of an object if the array is sharded. A shard
/// that is compressed as a whole counts as one chunk.
#[derive(Debug)]
pub(crate) struct ChunkCodec {
    element: ElementType,
    fill: Vec<u8>,
    grid: ChunkGrid,
    /// The decoded size of the largest chunk, in bytes.
    bytes: usize,
    /// Upper bound in bytes of any intermediate buffer while decoding a chunk.
    most: usize,
    decoder: Decoder,
}

#[derive(Debug)]
enum Decoder {
    /// The codec libraries, which decode straight into buffers of the exact size.
    Direct(Chain),
    /// The crate zarrs, for codecs that aren't known here.
    Zarrs(Box<ZarrsChain>),
}

impl ChunkCodec {
    /// Makes the codec of an array. `limit` is the largest allowed decoded chunk, in bytes.
    ///
    /// # Errors
    /// A message that names the codec, data type or size that isn't supported.
    pub(crate) fn new(
        layout: &Layout,
        element: &ElementType,
        encoding: Encoding,
        limit: u64,
    ) -> Result<Self, String> {
        let limit = limit.min(MAX_CHUNK_BYTES);
        let rank = layout.shape.len();
        let bytes = chunk_bytes(encoding.grid.chunk_shape(), element, limit)?;
        let chain = Chain::new(encoding.chunk_codecs(), element, rank, &encoding.fill);
        let decoder = match chain {
            Ok(chain) => Decoder::Direct(chain),
            Err(CodecRefusal::Invalid(reason)) => return Err(reason),
            Err(CodecRefusal::Unknown(codec)) => {
                let foreign = encoding
                    .foreign
                    .as_ref()
                    .ok_or_else(|| unsupported(&codec, "it isn't known"))?;
                let chain = ZarrsChain::new(foreign, layout, element);
                let chain = chain.map_err(|e| unsupported(&codec, &e));
                Decoder::Zarrs(Box::new(chain?))
            }
        };
        let Encoding { fill, grid, .. } = encoding;
        let most = match &decoder {
            Decoder::Direct(chain) => chain.most_bytes(grid.chunk_shape())?,
            Decoder::Zarrs(_) => bytes,
        };
        if element.size().is_some() && most as u64 > limit.saturating_mul(2) {
            return Err(format!(
                "a chunk takes {most} bytes between its filters, more than allowed"
            ));
        }
        let element = element.clone();
        Ok(Self { element, fill, grid, bytes, most, decoder })
    }

    /// The grid of the chunks.
    pub(crate) fn grid(&self) -> &ChunkGrid {
        &self.grid
    }

    /// The size in bytes of the largest decoded chunk; an estimate for elements of variable length.
    pub(crate) fn decoded_bytes(&self) -> usize {
        self.bytes
    }

    /// The decoded size in bytes of the chunk at these indices of the chunk grid.
    pub(crate) fn decoded_bytes_at(&self, chunk: &[u64]) -> usize {
        if self.grid.is_regular() {
            return self.bytes;
        }
        let cells = checked_product(&self.grid.shape_at(chunk)).unwrap_or(u64::MAX);
        usize::try_from(cells).unwrap_or(usize::MAX).saturating_mul(width(&self.element))
    }

    /// Upper bound in bytes of a chunk, decoded or in an intermediate buffer.
    pub(crate) fn most_bytes(&self) -> u64 {
        self.most as u64
    }

    /// The way to decode a part of a chunk without the whole.
    pub(crate) fn stream(&self) -> Stream {
        match &self.decoder {
            Decoder::Direct(chain) => chain.stream(),
            Decoder::Zarrs(_) => Stream::Whole,
        }
    }

    /// Whether chunks are stored without any codec, so that decoding takes no memory.
    pub(crate) fn is_raw(&self) -> bool {
        matches!(&self.decoder, Decoder::Direct(chain) if chain.is_empty())
    }

    /// Whether elements are of variable length, so that they decode to Arrow arrays instead of bytes.
    pub(crate) fn has_items(&self) -> bool {
        self.element.size().is_none()
    }

    /// The layout of elements in the bytes that [`ChunkCodec::decode`] returns. For elements of variable length only
    /// the order of dimensions applies.
    pub(crate) fn storage(&self) -> ElementLayout {
        match &self.decoder {
            Decoder::Direct(chain) => chain.storage().clone(),
            Decoder::Zarrs(_) => {
                ElementLayout::native(self.grid.shape().len(), self.element.size().unwrap_or(1))
            }
        }
    }

    /// Decodes the chunk at these indices of the chunk grid: all cells, including cells beyond the array's edges.
    ///
    /// # Errors
    /// A message that says what is wrong with the bytes.
    pub(crate) fn decode(
        &self,
        chunk: &[u64],
        encoded: &Bytes,
        recycler: &Arc<Recycler>,
    ) -> Result<StoredValues, String> {
        let shape = self.grid.shape_at(chunk);
        match &self.decoder {
            Decoder::Direct(chain) => chain.decode(Buffer::from(encoded.clone()), &shape, recycler),
            Decoder::Zarrs(chain) => chain.decode(encoded, &shape),
        }
    }

    /// Decodes a chunk straight into memory of its decoded size. `false` if that isn't possible: then nothing was decoded.
    ///
    /// # Errors
    /// A message that says what is wrong with the bytes.
    pub(crate) fn decode_into(&self, encoded: &[u8], out: &mut [u8]) -> Result<bool, String> {
        match &self.decoder {
            Decoder::Direct(chain) => chain.decode_into(encoded, out),
            Decoder::Zarrs(_) => Ok(false),
        }
    }

    /// The fill value in bytes, in the representation of [`ChunkCodec::decode`].
    pub(crate) fn fill(&self) -> &[u8] {
        &self.fill
    }

    /// The fill value of elements of variable length, as an array of one element.
    ///
    /// # Errors
    /// A message, if the fill value doesn't fit the data type.
    pub(crate) fn fill_item(&self) -> Result<ArrayRef, String> {
        one_item(&self.element, &self.fill)
    }
}

/// The message for a codec that isn't known here. `reason` is why zarrs can't decode it either.
fn unsupported(codec: &str, reason: &str) -> String {
    let name = codec.strip_prefix("numcodecs.").unwrap_or(codec);
    if cfg!(not(feature = "zfp")) && ["zfp", "zfpy"].contains(&name) {
        return format!(
            "the codec '{codec}' needs the cargo feature `zfp`, which this program was built without"
        );
    }
    format!("the codec '{codec}' isn't supported: {reason}")
}

/// The decoded size of a chunk in bytes; an error if it exceeds `limit`.
fn chunk_bytes(chunk: &[u64], element: &ElementType, limit: u64) -> Result<usize, String> {
    checked_product(chunk)
        .and_then(|cells| cells.checked_mul(width(element) as u64))
        .filter(|bytes| *bytes <= limit)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| {
            format!(
                "a chunk of shape {chunk:?} takes more than {limit} bytes decoded, the limit \
                 (option max_chunk_bytes)"
            )
        })
}

fn width(element: &ElementType) -> usize {
    element.size().unwrap_or(STRING_BYTES)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        dataset::ZarrFormat,
        format::zarr::{array::array_spec, documents::ArrayDocument},
    };

    fn refusal(format: ZarrFormat, metadata: Value, element: &ElementType) -> Option<String> {
        let metadata = metadata.as_object().unwrap().clone();
        let key = "store/a".to_owned();
        let document = ArrayDocument {
            format,
            metadata,
            attributes: crate::dataset::Attributes::default(),
            key,
        };
        let spec = array_spec(&document).unwrap();
        let codec = spec
            .encoding
            .and_then(|encoding| ChunkCodec::new(&spec.layout, element, encoding, u64::MAX));
        codec.err()
    }

    #[test]
    fn what_could_take_all_memory_is_refused() {
        // Each filter widens one byte to eight.
        let wider = json!({"id": "astype", "encode_dtype": "<f8", "decode_dtype": "|u1"});
        let v2 = |filters: usize| json!({"shape": [1 << 20], "chunks": [1 << 20], "dtype": "|u1", "filters": vec![&wider; filters]});
        assert_eq!(refusal(ZarrFormat::V2, v2(1), &ElementType::UInt8), None);
        let large = json!({"shape": [1_u64 << 32], "chunks": [1_u64 << 32], "dtype": "|u1"});
        let reason = refusal(ZarrFormat::V2, large, &ElementType::UInt8);
        assert!(reason.is_some_and(|reason| reason.contains("max_chunk_bytes")));
        let reason = refusal(ZarrFormat::V2, v2(10), &ElementType::UInt8);
        assert!(reason.is_some_and(|reason| reason.contains("between its filters")));

        // zarrs trusts the sizes that compressed bytes claim.
        let v3 = |codecs: &[&str]| {
            json!({
                "shape": [8], "data_type": "bool", "fill_value": true, "codecs": codecs,
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [8]}},
                "chunk_key_encoding": "default", "zarr_format": 3, "node_type": "array",
            })
        };
        let refused = |codecs: &[&str]| refusal(ZarrFormat::V3, v3(codecs), &ElementType::Bool);
        assert_eq!(refused(&["packbits", "zstd"]), None);
        assert_eq!(refused(&["packbits", "crc32c"]), None);
        for codecs in [["packbits", "zstd", "crc32c"], ["packbits", "gzip", "adler32"]] {
            assert!(
                refused(&codecs).is_some_and(|r| r.contains("packbits") && r.contains(codecs[1]))
            );
        }
    }
}
