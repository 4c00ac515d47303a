//! Shards (Zarr v3, `sharding_indexed`): where their indices are, and where those say chunks are.

use std::ops::Range;

use object_store::GetRange;
use serde_json::{Map, Value};

use super::{checksum::Checked, layout::Layout};

/// The bytes of an index, at most: a million chunks in a shard.
const MAX_INDEX_BYTES: u64 = 16 << 20;

/// How the shards of an array are laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardLayout {
    /// The number of chunks along each dimension of a shard.
    counts: Vec<u64>,
    at_end: bool,
    big_endian: bool,
    checksum: bool,
}

impl ShardLayout {
    /// `None` if the array isn't sharded, if its shards are encoded once more as a whole or differ in
    /// shape, or if their index is encoded in a way that isn't known here.
    pub(super) fn new(metadata: &Map<String, Value>, layout: &Layout) -> Option<Self> {
        let [codec] = metadata.get("codecs")?.as_array()?.as_slice() else { return None };
        let regular = layout.grid.is_regular();
        Self::of(codec.get("configuration")?, layout.inner_chunks.as_ref()?)?
            .with_shape(&layout.chunks, layout.inner_chunks.as_ref()?)
            .filter(|_| regular)
    }

    /// From the configuration of the codec, for shards of any shape.
    pub(crate) fn of(configuration: &Value, inner: &[u64]) -> Option<Self> {
        let codecs = configuration.get("index_codecs")?.as_array()?;
        let name = |codec: &Value| codec.get("name").unwrap_or(codec).as_str().map(str::to_owned);
        let names: Vec<String> = codecs.iter().map(name).collect::<Option<_>>()?;
        let checksum = match names.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["bytes" | "endian"] => false,
            ["bytes" | "endian", "crc32c"] => true,
            _ => return None,
        };
        let endian = codecs.first()?.get("configuration").and_then(|c| c.get("endian"));
        let at_end = match configuration.get("index_location").map(Value::as_str) {
            None | Some(Some("end")) => true,
            Some(Some("start")) => false,
            Some(_) => return None,
        };
        let big_endian = endian.and_then(Value::as_str) == Some("big");
        Some(Self { counts: vec![1; inner.len()], at_end, big_endian, checksum })
    }

    /// The same for shards of this shape. `None` if chunks don't divide it, or there are too many.
    pub(crate) fn with_shape(&self, shard: &[u64], inner: &[u64]) -> Option<Self> {
        let divides = |(shard, inner): (&u64, &u64)| *inner > 0 && shard.is_multiple_of(*inner);
        if shard.len() != inner.len() || !shard.iter().zip(inner).all(divides) {
            return None;
        }
        let counts = shard.iter().zip(inner).map(|(shard, inner)| shard / inner).collect();
        let this = Self { counts, ..self.clone() };
        (this.index_bytes()? <= MAX_INDEX_BYTES).then_some(this)
    }

    /// The number of chunks along each dimension of a shard.
    pub(crate) fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The part of a shard that is its index.
    pub(crate) fn index_range(&self) -> GetRange {
        let bytes = self.index_bytes().unwrap_or(MAX_INDEX_BYTES);
        if self.at_end { GetRange::Suffix(bytes) } else { GetRange::Bounded(0..bytes) }
    }

    /// The index in the bytes of a whole shard.
    ///
    /// # Errors
    /// A text, if the shard is too short.
    pub(crate) fn index_in<'a>(&self, shard: &'a [u8]) -> Result<&'a [u8], String> {
        let bytes = usize::try_from(self.index_bytes().unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let start = if self.at_end { shard.len().checked_sub(bytes) } else { Some(0) };
        start
            .and_then(|start| shard.get(start..start.checked_add(bytes)?))
            .ok_or_else(|| format!("it has {} bytes, fewer than its index of {bytes}", shard.len()))
    }

    /// Reads an index. `size` is that of the whole shard.
    ///
    /// # Errors
    /// A text, if the index is corrupt or points outside of the shard.
    pub(crate) fn parse(&self, index: &[u8], size: u64) -> Result<ShardIndex, String> {
        let expected = self.index_bytes().unwrap_or(u64::MAX);
        if index.len() as u64 != expected {
            return Err(format!("it has {size} bytes, fewer than its index of {expected}"));
        }
        let entries = if self.checksum {
            let content = Checked::CRC32C.content(index);
            content.map_err(|reason| format!("the index of the shard is corrupt: {reason}"))?
        } else {
            0..index.len()
        };
        let entries = index.get(entries).unwrap_or_default();
        let number = |bytes: &[u8; 8]| {
            if self.big_endian { u64::from_be_bytes(*bytes) } else { u64::from_le_bytes(*bytes) }
        };
        let (numbers, _) = entries.as_chunks::<8>();
        let ranges = numbers.as_chunks::<2>().0.iter().enumerate().map(|(chunk, [offset, len])| {
            let (offset, len) = (number(offset), number(len));
            if offset == u64::MAX && len == u64::MAX {
                return Ok(None);
            }
            match offset.checked_add(len).filter(|end| *end <= size) {
                Some(end) => Ok(Some(offset..end)),
                None => Err(format!(
                    "the index of the shard puts its chunk {chunk} at byte {offset} with {len} \
                     bytes, but the shard has {size} bytes"
                )),
            }
        });
        Ok(ShardIndex { ranges: ranges.collect::<Result<_, _>>()? })
    }

    /// The number of an array's chunk in its shard.
    pub(crate) fn number(&self, chunk: &[u64]) -> usize {
        let number = chunk
            .iter()
            .zip(&self.counts)
            .fold(0, |number: u64, (index, count)| number * count + index % count);
        usize::try_from(number).unwrap_or(usize::MAX)
    }

    /// The bytes of the index: two numbers a chunk, and the checksum.
    pub(crate) fn index_bytes(&self) -> Option<u64> {
        let chunks = self.counts.iter().try_fold(1_u64, |n, c| n.checked_mul(*c))?;
        chunks.checked_mul(16)?.checked_add(if self.checksum { 4 } else { 0 })
    }
}

/// Where the chunks of one shard are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardIndex {
    ranges: Vec<Option<Range<u64>>>,
}

impl ShardIndex {
    /// The bytes of a chunk; `None` if it isn't stored.
    pub(crate) fn range(&self, number: usize) -> Option<Range<u64>> {
        self.ranges.get(number).cloned().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(checksum: bool, big_endian: bool) -> ShardLayout {
        ShardLayout { counts: vec![1, 2], at_end: true, big_endian, checksum }
    }

    #[test]
    fn entries_are_checked() {
        let index = |entries: [u64; 4]| -> Vec<u8> {
            entries.iter().flat_map(|entry| entry.to_be_bytes()).collect()
        };
        let layout = layout(false, true);
        let parsed = layout.parse(&index([u64::MAX, u64::MAX, 10, 20]), 30).unwrap();
        assert_eq!(parsed.range(0), None);
        assert_eq!(parsed.range(1), Some(10..30));
        assert_eq!(parsed.range(2), None);
        assert!(layout.parse(&index([u64::MAX, u64::MAX, 10, 20]), 29).is_err());
        assert!(layout.parse(&index([u64::MAX, 2, 10, 20]), 30).is_err());
        assert!(layout.parse(&index([5, u64::MAX - 2, 10, 20]), 30).is_err());
        assert!(layout.parse(&index([0, 1, 2, 3])[1..], 30).is_err());
        assert!(layout.index_in(&[0; 31]).is_err());
        assert_eq!(layout.index_in(&[0; 33]).unwrap().len(), 32);
    }

    #[test]
    fn checksums_are_checked() {
        let mut index: Vec<u8> = (0..4_u64).flat_map(u64::to_le_bytes).collect();
        index.extend(crc32c::crc32c(&index).to_le_bytes());
        let layout = layout(true, false);
        assert_eq!(layout.parse(&index, 100).unwrap().range(1), Some(2..5));
        index[0] ^= 1;
        assert!(layout.parse(&index, 100).is_err());
    }

    #[test]
    fn chunks_are_numbered_in_c_order() {
        let layout = ShardLayout { counts: vec![3, 4], ..layout(true, false) };
        assert_eq!(layout.number(&[4, 9]), 5);
    }
}
