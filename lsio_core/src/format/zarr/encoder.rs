//! Encodes the chunks of an array, by its metadata document.

use arrow::{array::ArrayRef, buffer::Buffer};
use bytes::Bytes;
use serde_json::Value;

use super::{array::array_spec, documents::ArrayDocument};
use crate::{
    Error, Result,
    dataset::{Attributes, StoredValues, ZarrFormat, chain::Chain, codec_spec::CodecRefusal},
    json,
    options::Limits,
};

/// Encodes the chunks of one array, or its shards if it is sharded.
///
/// This is the inverse of [`Variable`](crate::Variable)'s reads, with the same codecs and bounds. Compressors write at
/// their usual levels. Filters that round numbers, and codecs that only zarrs knows, can't be written.
///
/// ```
/// # fn main() -> lsio_core::Result<()> {
/// let document = r#"{
///     "zarr_format": 3, "node_type": "array", "shape": [3, 4], "data_type": "int16", "fill_value": 0,
///     "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 2]}},
///     "chunk_key_encoding": {"name": "default"},
///     "codecs": [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "crc32c"}]
/// }"#;
/// let encoder = lsio_core::ChunkEncoder::new("a", document.as_bytes())?;
/// let elements: Vec<u8> = [1_i16, 2, 3, 4].iter().flat_map(|element| element.to_ne_bytes()).collect();
/// let chunk = encoder.encode(&elements)?;
/// assert_eq!(chunk[..8], [0, 1, 0, 2, 0, 3, 0, 4]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ChunkEncoder {
    /// Array's name in messages.
    array: String,
    chain: Chain,
    /// Shape of a chunk; of a shard if the array is sharded.
    shape: Vec<u64>,
}

impl ChunkEncoder {
    /// Encoder for the array of this document, `zarr.json` or `.zarray`. `array` is its name in messages.
    ///
    /// # Errors
    /// If the document is broken, the chunks differ in shape, or a codec can't be written.
    pub fn new(array: &str, document: &[u8]) -> Result<Self> {
        let failed = |reason| Error::Metadata { key: array.to_owned(), reason };
        let Value::Object(metadata) =
            json::parse(document, Limits::default().metadata_bytes).map_err(failed)?
        else {
            return Err(failed("it isn't an object in JSON".to_owned()));
        };
        let format = match metadata.get("zarr_format").and_then(Value::as_u64) {
            Some(2) => ZarrFormat::V2,
            Some(3) => ZarrFormat::V3,
            _ => return Err(failed("its zarr_format is neither 2 nor 3".to_owned())),
        };
        let (attributes, key) = (Attributes::default(), array.to_owned());
        let spec =
            array_spec(&ArrayDocument { format, metadata, attributes, key }).map_err(failed)?;
        let encoding = spec.encoding.map_err(failed)?;
        let element = spec.element.ok_or_else(|| failed("its data type isn't known".to_owned()))?;
        let grid = spec.layout.grid;
        if !grid.is_regular() {
            return Err(failed("chunks of several shapes aren't written".to_owned()));
        }
        let chain = Chain::new(&encoding.codecs, &element, grid.shape().len(), &encoding.fill);
        let chain = chain.map_err(|refusal| match refusal {
            CodecRefusal::Invalid(reason) => failed(reason),
            CodecRefusal::Unknown(codec) => failed(format!("the codec '{codec}' can't be written")),
        })?;
        let shape = grid.chunk_shape().to_vec();
        let most = chain.most_bytes(&shape).map_err(failed)?;
        let limit = Limits::default().chunk_bytes;
        if most as u64 > limit.saturating_mul(2) {
            return Err(failed(format!("a chunk takes {most} bytes, more than twice {limit}")));
        }
        Ok(Self { array: array.to_owned(), chain, shape })
    }

    /// Shape of one encoded unit: a chunk, or a shard.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Encodes all elements of a chunk in C order, including those beyond the array's edges. The elements have a fixed
    /// size and native byte order.
    ///
    /// # Errors
    /// If the number of elements isn't that of a chunk.
    pub fn encode(&self, elements: &[u8]) -> Result<Bytes> {
        self.encode_values(&StoredValues::Fixed(Buffer::from_slice_ref(elements)))
    }

    /// Encodes all elements of a chunk of strings or bytes (`Utf8View`, `BinaryView`), in the order in which they are
    /// stored.
    ///
    /// # Errors
    /// If the number of elements isn't that of a chunk, or an element is NULL.
    pub fn encode_items(&self, items: &ArrayRef) -> Result<Bytes> {
        self.encode_values(&StoredValues::Items(items.clone()))
    }

    fn encode_values(&self, values: &StoredValues) -> Result<Bytes> {
        let encoded = self.chain.encode(values, &self.shape);
        let failed = |reason| Error::Encode { array: self.array.clone(), reason };
        encoded.map(Bytes::from).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU64, sync::Arc};

    use proptest::prelude::*;
    use serde_json::json;
    use zarrs::array::{Array, ArrayMetadata, ArrayToBytesCodecTraits as _, CodecOptions};

    use super::*;
    use crate::recycle::Recycler;

    /// Elements in C order, decoded by this crate.
    fn decoded(encoder: &ChunkEncoder, encoded: &[u8], width: usize) -> Vec<u8> {
        let recycler = Arc::new(Recycler::default());
        let values = encoder.chain.decode(Buffer::from(encoded), &encoder.shape, &recycler);
        let StoredValues::Fixed(stored) = values.unwrap() else { panic!() };
        let cells: u64 = encoder.shape.iter().product();
        let mut elements = vec![0xa5; cells as usize * width];
        encoder.chain.storage().load(&stored, &encoder.shape, &mut elements);
        elements
    }

    /// Elements decoded by zarrs, which takes no part in encoding.
    fn decoded_by_zarrs(metadata: &Value, encoder: &ChunkEncoder, encoded: &[u8]) -> Vec<u8> {
        let metadata = ArrayMetadata::V3(serde_json::from_value(metadata.clone()).unwrap());
        let array = Array::new_with_metadata(Arc::new(()), "/", metadata).unwrap();
        let shape: Vec<_> =
            encoder.shape.iter().map(|size| NonZeroU64::new(*size).unwrap()).collect();
        let decoded = array.codecs().decode(
            encoded.into(),
            &shape,
            array.data_type(),
            array.fill_value(),
            &CodecOptions::default(),
        );
        decoded.unwrap().into_fixed().unwrap().into_owned()
    }

    /// Bytes-to-bytes codecs that zarrs has. Its fletcher32 (0.23.14) leaves out an odd last byte.
    fn outer_codecs() -> impl Strategy<Value = Vec<Value>> {
        let blosc = |shuffle: &str| {
            json!({"name": "blosc", "configuration": {
                "cname": "zstd", "clevel": 5, "shuffle": shuffle, "typesize": 2, "blocksize": 0,
            }})
        };
        let codecs = vec![
            json!({"name": "zstd", "configuration": {"level": 1, "checksum": false}}),
            json!({"name": "gzip", "configuration": {"level": 1}}),
            json!({"name": "numcodecs.zlib", "configuration": {"level": 1}}),
            json!({"name": "numcodecs.bz2", "configuration": {"level": 1}}),
            blosc("shuffle"),
            blosc("bitshuffle"),
            json!({"name": "crc32c"}),
            json!({"name": "numcodecs.adler32"}),
        ];
        prop::collection::vec(prop::sample::select(codecs), 0..3)
    }

    fn order(endian: bool) -> Value {
        let endian = if endian { "big" } else { "little" };
        json!({"name": "bytes", "configuration": {"endian": endian}})
    }

    proptest! {
        #[test]
        fn chunks_come_back_here_and_in_zarrs(
            (data_type, width) in prop::sample::select(vec![
                ("int8", 1), ("uint16", 2), ("float32", 4), ("int64", 8), ("complex128", 16),
            ]),
            inner in prop::collection::vec(1..6_u64, 1..4),
            counts in prop::collection::vec(1..4_u64, 3),
            orders: [bool; 3],
            outer in outer_codecs(),
            (sharded, transposed, index_at_end) in any::<(bool, bool, bool)>(),
            noise in prop::collection::vec(any::<u8>(), 1..200),
        ) {
            let mut codecs = vec![order(orders[0])];
            codecs.extend(outer);
            let rank = inner.len();
            let transpose = |by: usize| {
                let axes: Vec<usize> = (0..rank).map(|axis| (axis + by) % rank).collect();
                json!({"name": "transpose", "configuration": {"order": axes}})
            };
            if transposed {
                codecs.insert(0, transpose(1));
            }
            let mut shape = inner.clone();
            if sharded {
                shape = inner.iter().zip(&counts).map(|(inner, count)| inner * count).collect();
                codecs = vec![json!({"name": "sharding_indexed", "configuration": {
                    "chunk_shape": inner, "codecs": codecs,
                    "index_codecs": [order(orders[1]), {"name": "crc32c"}],
                    "index_location": if index_at_end { "end" } else { "start" },
                }})];
            }
            let fill = if width == 16 { json!([0.0, 0.0]) } else { json!(0) };
            let metadata = json!({
                "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": data_type,
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
                "chunk_key_encoding": {"name": "default"}, "fill_value": fill, "codecs": codecs,
            });
            let encoder = ChunkEncoder::new("a", metadata.to_string().as_bytes()).unwrap();
            let cells = shape.iter().product::<u64>() as usize;
            // Half of the chunks in a shard hold only the fill value.
            let half = cells * width / 2;
            let elements: Vec<u8> = (0..cells * width)
                .map(|at| if sharded && at < half { 0 } else { noise[at % noise.len()] })
                .collect();
            let encoded = encoder.encode(&elements).unwrap();
            prop_assert_eq!(&decoded(&encoder, &encoded, width), &elements, "{}", metadata);
            prop_assert_eq!(decoded_by_zarrs(&metadata, &encoder, &encoded), elements, "{}", metadata);
        }

        #[test]
        fn chunks_of_zarr_v2_come_back(
            (dtype, width) in prop::sample::select(vec![("|u1", 1), ("<i2", 2), (">i4", 4), (">f8", 8)]),
            order in prop::sample::select(vec!["C", "F"]),
            filter in prop::sample::select(vec!["delta", "shuffle", "packbits", ""]),
            compressor in prop::sample::select(vec!["zlib", "lz4", "lzma", "base64", "blosc", ""]),
            chunks in prop::collection::vec(1..7_u64, 0..4),
            noise in prop::collection::vec(any::<u8>(), 1..200),
        ) {
            let filters = match filter {
                "delta" if dtype != ">f8" => json!([{"id": "delta", "dtype": dtype}]),
                "shuffle" => json!([{"id": "shuffle", "elementsize": width}]),
                "packbits" if width == 1 => json!([{"id": "packbits"}]),
                _ => Value::Null,
            };
            let is_packed = width == 1 && filter == "packbits";
            let compressor = match compressor {
                "" => Value::Null,
                id => json!({"id": id}),
            };
            let metadata = json!({
                "zarr_format": 2, "shape": chunks, "chunks": chunks, "order": order, "fill_value": 0,
                "dtype": if is_packed { "|b1" } else { dtype }, "filters": filters, "compressor": compressor,
            });
            let encoder = ChunkEncoder::new("a", metadata.to_string().as_bytes()).unwrap();
            let cells = chunks.iter().product::<u64>() as usize;
            let bits = if is_packed { 1 } else { 255 };
            let elements: Vec<u8> =
                (0..cells * width).map(|at| noise[at % noise.len()] & bits).collect();
            let encoded = encoder.encode(&elements).unwrap();
            prop_assert_eq!(decoded(&encoder, &encoded, width), elements, "{}", metadata);
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let document = |codecs: Value| {
            json!({
                "zarr_format": 3, "node_type": "array", "shape": [4], "data_type": "int16",
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4]}},
                "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": codecs,
            })
            .to_string()
        };
        let encoder = |codecs: Value| ChunkEncoder::new("s/a", document(codecs).as_bytes());
        let little = order(false);
        let error = encoder(json!([little])).unwrap().encode(&[0; 7]).unwrap_err().to_string();
        let expected =
            "a chunk of the array 's/a' can't be encoded: a chunk has 7 bytes instead of 8";
        assert_eq!(error, expected);
        let error = encoder(json!([little, "imagecodecs_jpeg2k"])).unwrap_err().to_string();
        assert!(error.contains("'imagecodecs_jpeg2k' can't be written"), "{error}");
        let bitround = json!({"name": "numcodecs.bitround", "configuration": {"keepbits": 3}});
        let error = encoder(json!([bitround, little])).unwrap().encode(&[0; 8]).unwrap_err();
        assert!(error.to_string().contains("rounds numbers"), "{error}");
        for broken in ["", "[]", "{}", r#"{"zarr_format": 1}"#, r#"{"zarr_format": 3}"#] {
            assert!(ChunkEncoder::new("s/a", broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
