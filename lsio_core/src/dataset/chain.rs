//! The chains of codecs that most stores use, undone by the codec libraries straight into one buffer.
//!
//! A chain is known here if it is, in the order of encoding: a transposition or none, the elements'
//! bytes in either order, then at most one general compressor and any number of checksums. What is
//! left to do with the bytes, the order of dimensions and of bytes, is told by [`Storage`] and done
//! where values are picked, in the same pass.

use std::sync::Arc;

use arrow::buffer::Buffer;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::{compression::Compressor, dtype::ElementType};
use crate::recycle::Recycler;

/// How the elements of a chunk lie in its decoded bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Storage {
    /// The dimensions in the order of the bytes, slowest first. C order is 0, 1, ….
    pub(crate) order: Vec<usize>,
    /// The bytes of an element.
    pub(crate) width: usize,
    /// The bytes to reverse, so many at a time, to get to the machine's order; 1 for none.
    pub(crate) swap: usize,
}

impl Storage {
    /// C order, in the machine's order of bytes.
    pub(crate) fn native(rank: usize, width: usize) -> Self {
        Self { order: (0..rank).collect(), width, swap: 1 }
    }
}

/// How the decoded bytes of a chunk can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// They are stored as they are.
    Plain,
    /// Block by block.
    Blosc,
    /// All at once.
    Whole,
}

/// A chain of codecs that is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    storage: Storage,
    /// In the order of decoding.
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Decompress(Compressor),
    /// Four bytes at the end.
    Crc32c,
}

impl Chain {
    /// The chain of Zarr v2 metadata, if it is known here.
    pub(super) fn from_v2(
        metadata: &Map<String, Value>,
        element: &ElementType,
        rank: usize,
    ) -> Option<Self> {
        let filters = metadata.get("filters");
        if !filters.is_none_or(|f| f.is_null() || f.as_array().is_some_and(Vec::is_empty)) {
            return None;
        }
        let mut order: Vec<usize> = (0..rank).collect();
        match metadata.get("order").map(|order| order.as_str()) {
            None | Some(Some("C")) => {}
            Some(Some("F")) => order.reverse(),
            Some(_) => return None,
        }
        let big_endian = metadata.get("dtype")?.as_str()?.starts_with('>');
        let steps = match metadata.get("compressor") {
            None | Some(Value::Null) => Vec::new(),
            Some(codec) => vec![Step::Decompress(Compressor::of(codec.get("id")?.as_str()?)?)],
        };
        Some(Self { storage: storage(element, order, big_endian)?, steps })
    }

    /// The chain of a list of Zarr v3 codecs, if it is known here.
    pub(super) fn from_v3(codecs: &[Value], element: &ElementType, rank: usize) -> Option<Self> {
        let mut codecs = codecs.iter();
        let mut order: Vec<usize> = (0..rank).collect();
        let mut codec = codecs.next()?;
        while name(codec)? == "transpose" {
            let axes = codec.get("configuration")?.get("order")?.as_array()?;
            let axes: Vec<usize> = axes
                .iter()
                .map(|axis| usize::try_from(axis.as_u64()?).ok())
                .collect::<Option<_>>()?;
            let mut seen = axes.clone();
            seen.sort_unstable();
            if seen != (0..rank).collect::<Vec<_>>() {
                return None;
            }
            // Dimension i of what is stored is dimension axes[i] of what was given.
            order = axes.iter().map(|&axis| order[axis]).collect();
            codec = codecs.next()?;
        }
        if name(codec)? != "bytes" {
            return None;
        }
        let endian = codec.get("configuration").and_then(|c| c.get("endian"));
        let big_endian = match endian.map(|endian| endian.as_str()) {
            Some(Some("big")) => true,
            Some(Some("little")) => false,
            // Only single bytes have no order.
            None if element.size() == Some(1) => false,
            _ => return None,
        };
        let mut steps = codecs
            .map(|codec| {
                Some(match name(codec)? {
                    "crc32c" => Step::Crc32c,
                    name => Step::Decompress(Compressor::of(name)?),
                })
            })
            .collect::<Option<Vec<_>>>()?;
        if steps.iter().filter(|step| matches!(step, Step::Decompress(_))).count() > 1 {
            return None;
        }
        steps.reverse();
        Some(Self { storage: storage(element, order, big_endian)?, steps })
    }

    /// Whether there is nothing to undo.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How the decoded bytes can be had.
    pub(super) fn stream(&self) -> Stream {
        match self.steps.as_slice() {
            [] => Stream::Plain,
            [Step::Decompress(Compressor::Blosc)] => Stream::Blosc,
            _ => Stream::Whole,
        }
    }

    /// How elements lie in the decoded bytes.
    pub(super) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Undoes compression and checksums: the bytes of all elements, `len` of them.
    ///
    /// # Errors
    /// A text, if the bytes are corrupt or there are more or fewer of them.
    pub(super) fn decode(
        &self,
        encoded: &Bytes,
        len: usize,
        recycler: &Arc<Recycler>,
    ) -> Result<Buffer, String> {
        let mut bytes = Buffer::from(encoded.clone());
        for (number, step) in self.steps.iter().enumerate() {
            match step {
                Step::Crc32c => bytes = checked(&bytes)?,
                Step::Decompress(compressor) => {
                    // Checksums that were taken before the compression come out with the elements.
                    let checksums = 4 * (self.steps.len() - number - 1);
                    let mut out = recycler.take(len + checksums);
                    compressor.decompress_into(&bytes, &mut out)?;
                    bytes = out.freeze();
                }
            }
        }
        if bytes.len() != len {
            return Err(format!("it holds {} bytes instead of {len}", bytes.len()));
        }
        Ok(bytes)
    }
}

/// The bytes before a checksum, if it is theirs.
fn checked(bytes: &Buffer) -> Result<Buffer, String> {
    let (content, checksum) =
        bytes.split_last_chunk::<4>().ok_or("it is too short for its checksum")?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*checksum) {
        return Err("its checksum (crc32c) doesn't fit: the bytes were changed".to_owned());
    }
    Ok(bytes.slice_with_length(0, content.len()))
}

fn storage(element: &ElementType, order: Vec<usize>, big_endian: bool) -> Option<Storage> {
    let width = element.size()?;
    let swap = match element {
        _ if big_endian == cfg!(target_endian = "big") => 1,
        // A code unit of a string.
        ElementType::Utf32 { .. } => 4,
        _ => width,
    };
    Some(Storage { order, width, swap })
}

fn name(codec: &Value) -> Option<&str> {
    match codec {
        Value::String(name) => Some(name),
        codec => codec.get("name")?.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn v3(codecs: Value) -> Option<Chain> {
        Chain::from_v3(codecs.as_array().unwrap(), &ElementType::Float32, 3)
    }

    #[test]
    fn which_chains_are_known() {
        let bytes = json!({"name": "bytes", "configuration": {"endian": "big"}});
        let chain = v3(json!([
            {"name": "transpose", "configuration": {"order": [1, 2, 0]}},
            {"name": "transpose", "configuration": {"order": [2, 0, 1]}},
            bytes, "crc32c", {"name": "blosc"}, {"name": "crc32c"},
        ]))
        .unwrap();
        // The second transposition undoes the first.
        assert_eq!(*chain.storage(), Storage { order: vec![0, 1, 2], width: 4, swap: 4 });
        assert_eq!(chain.steps, [Step::Crc32c, Step::Decompress(Compressor::Blosc), Step::Crc32c]);
        for unknown in [
            json!([bytes, {"name": "zstd"}, {"name": "gzip"}]),
            json!([bytes, {"name": "fletcher32"}]),
            json!([{"name": "bitround"}, bytes]),
            json!([{"name": "transpose", "configuration": {"order": [0, 0, 1]}}, bytes]),
            json!([{"name": "bytes"}]),
            json!([]),
        ] {
            assert_eq!(v3(unknown.clone()), None, "{unknown}");
        }
        let v2 =
            |metadata: Value| Chain::from_v2(metadata.as_object().unwrap(), &ElementType::Int16, 2);
        let chain =
            v2(json!({"dtype": ">i2", "order": "F", "compressor": {"id": "zlib"}})).unwrap();
        assert_eq!(*chain.storage(), Storage { order: vec![1, 0], width: 2, swap: 2 });
        assert_eq!(v2(json!({"dtype": "<i2", "filters": [{"id": "shuffle"}]})), None);
        assert_eq!(v2(json!({"dtype": "<i2", "compressor": {"id": "lz4"}})), None);
    }

    #[test]
    fn sizes_and_checksums_are_checked() {
        let bytes = json!({"name": "bytes", "configuration": {"endian": "little"}});
        let recycler = Arc::new(Recycler::default());
        let chain = v3(json!([bytes, "crc32c", "zstd", "crc32c"])).unwrap();
        let sum = |content: &[u8]| [content, &crc32c::crc32c(content).to_le_bytes()].concat();
        let content: Vec<u8> = (0..200).collect();
        let encoded = sum(&zstd::bulk::compress(&sum(&content), 1).unwrap());
        let decode = |encoded: &[u8], len: usize| {
            chain.decode(&Bytes::copy_from_slice(encoded), len, &recycler)
        };
        assert_eq!(decode(&encoded, 200).unwrap().as_slice(), content);
        assert!(decode(&encoded, 199).is_err());
        assert!(decode(&encoded, 201).is_err());
        assert!(decode(&[], 200).is_err());
        for at in 0..encoded.len() {
            let mut changed = encoded.clone();
            changed[at] ^= 16;
            assert!(decode(&changed, 200).is_err(), "{at}");
        }
    }
}
