//! Shards (Zarr v3, `sharding_indexed`): location and parsing of their indices.

use std::ops::Range;

use object_store::GetRange;

use super::{
    checksum::Checked,
    codec_spec::{ByteOrder, CodecKind, CodecSpec, ShardSpec},
    layout::Layout,
};
use crate::chunks::ObjectIndex;

/// The largest index in bytes: a million chunks per shard.
const MAX_INDEX_BYTES: u64 = 16 << 20;

/// The encoding of a shard's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEncoding {
    /// Whether the index follows the chunks. Otherwise it precedes them.
    pub(crate) at_end: bool,
    pub(crate) byte_order: ByteOrder,
    /// Whether a checksum (CRC-32C) follows the index.
    pub(crate) checksum: bool,
}

/// The layout of an array's shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardLayout {
    /// The number of inner chunks along each dimension of a shard.
    counts: Vec<u64>,
    index: IndexEncoding,
}

impl ShardLayout {
    /// The layout of an array's shards, and the codec `sharding_indexed`. `None` if the array isn't sharded, if its
    /// shards are compressed as a whole or differ in shape, or if a codec isn't known here.
    pub(crate) fn of_array<'a>(
        codecs: &'a [CodecSpec],
        layout: &Layout,
    ) -> Option<(Self, &'a ShardSpec)> {
        let [CodecSpec { kind: CodecKind::Shard(shard), .. }] = codecs else { return None };
        let own = Self::new(shard.index, shard.chunk_shape.len());
        let own = own.with_shape(&layout.chunks, &shard.chunk_shape)?;
        layout.grid.is_regular().then_some((own, shard))
    }

    /// The layout of shards whose shape isn't known yet.
    pub(crate) fn new(index: IndexEncoding, rank: usize) -> Self {
        Self { counts: vec![1; rank], index }
    }

    /// The same layout for shards of the shape `shard`, in elements. `None` if chunks of the shape `inner` don't divide
    /// it, or if the index would be too large.
    pub(crate) fn with_shape(&self, shard: &[u64], inner: &[u64]) -> Option<Self> {
        let divides = |(shard, inner): (&u64, &u64)| *inner > 0 && shard.is_multiple_of(*inner);
        if shard.len() != inner.len() || !shard.iter().zip(inner).all(divides) {
            return None;
        }
        let counts = shard.iter().zip(inner).map(|(shard, inner)| shard / inner).collect();
        let this = Self { counts, ..self.clone() };
        (this.index_bytes()? <= MAX_INDEX_BYTES).then_some(this)
    }

    /// The number of inner chunks along each dimension of a shard.
    pub(crate) fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The byte range of a shard's index.
    pub(crate) fn index_range(&self) -> GetRange {
        let bytes = self.index_bytes().unwrap_or(MAX_INDEX_BYTES);
        if self.index.at_end { GetRange::Suffix(bytes) } else { GetRange::Bounded(0..bytes) }
    }

    /// The bytes of the index, in the bytes of a whole shard.
    ///
    /// # Errors
    /// A message, if the shard is shorter than its index.
    pub(crate) fn index_in<'a>(&self, shard: &'a [u8]) -> Result<&'a [u8], String> {
        let bytes = usize::try_from(self.index_bytes().unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let start = if self.index.at_end { shard.len().checked_sub(bytes) } else { Some(0) };
        start
            .and_then(|start| shard.get(start..start.checked_add(bytes)?))
            .ok_or_else(|| format!("it has {} bytes, fewer than its index of {bytes}", shard.len()))
    }

    /// Parses an index. `size` is the size of the whole shard in bytes.
    ///
    /// # Errors
    /// A message, if the index is corrupt or points outside of the shard.
    pub(crate) fn parse(&self, index: &[u8], size: u64) -> Result<ObjectIndex, String> {
        let expected = self.index_bytes().unwrap_or(u64::MAX);
        if index.len() as u64 != expected {
            return Err(format!("it has {size} bytes, fewer than its index of {expected}"));
        }
        let entries = if self.index.checksum {
            let content = Checked::CRC32C.content(index);
            content.map_err(|reason| format!("the index of the shard is corrupt: {reason}"))?
        } else {
            0..index.len()
        };
        let entries = index.get(entries).unwrap_or_default();
        let number = |bytes: &[u8; 8]| match self.index.byte_order {
            ByteOrder::Big => u64::from_be_bytes(*bytes),
            ByteOrder::Little => u64::from_le_bytes(*bytes),
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
        Ok(ObjectIndex::new(ranges.collect::<Result<_, _>>()?))
    }

    /// Encodes an index of the chunks' byte ranges: the inverse of [`ShardLayout::parse`]. `None` if a chunk isn't stored.
    pub(crate) fn encode(&self, ranges: &[Option<Range<u64>>]) -> Vec<u8> {
        let number = |number: u64| match self.index.byte_order {
            ByteOrder::Big => number.to_be_bytes(),
            ByteOrder::Little => number.to_le_bytes(),
        };
        let entries = ranges.iter().flat_map(|range| match range {
            Some(range) => [range.start, range.end - range.start],
            None => [u64::MAX; 2],
        });
        let index: Vec<u8> = entries.flat_map(number).collect();
        if self.index.checksum { Checked::CRC32C.add_to(&index) } else { index }
    }

    /// Whether the index follows the chunks. Otherwise it precedes them.
    pub(crate) fn has_index_at_end(&self) -> bool {
        self.index.at_end
    }

    /// The number of a chunk within its shard, in C order. `chunk` are indices in the array's inner chunk grid.
    pub(crate) fn number(&self, chunk: &[u64]) -> usize {
        let number = chunk
            .iter()
            .zip(&self.counts)
            .fold(0, |number: u64, (index, count)| number * count + index % count);
        usize::try_from(number).unwrap_or(usize::MAX)
    }

    /// The size of the index in bytes: two 64-bit numbers per chunk, and the checksum. `None` if it overflows.
    pub(crate) fn index_bytes(&self) -> Option<u64> {
        let chunks = self.counts.iter().try_fold(1_u64, |n, c| n.checked_mul(*c))?;
        chunks.checked_mul(16)?.checked_add(if self.index.checksum { 4 } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(checksum: bool, big_endian: bool) -> ShardLayout {
        let byte_order = if big_endian { ByteOrder::Big } else { ByteOrder::Little };
        let index = IndexEncoding { at_end: true, byte_order, checksum };
        ShardLayout { counts: vec![1, 2], index }
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
        let index: Vec<u8> = (0..4_u64).flat_map(u64::to_le_bytes).collect();
        let mut index = Checked::CRC32C.add_to(&index);
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

    proptest! {
        #[test]
        fn an_index_comes_back(
            ranges in prop::collection::vec(prop::option::of((0..1_u64 << 40, 0..1_u64 << 40)), 1..50),
            checksum: bool,
            big_endian: bool,
        ) {
            let layout = ShardLayout { counts: vec![ranges.len() as u64], ..layout(checksum, big_endian) };
            let ranges = ranges.into_iter().map(|range| range.map(|(at, len)| at..at + len));
            let ranges: Vec<_> = ranges.collect();
            let index = layout.encode(&ranges);
            prop_assert_eq!(index.len() as u64, layout.index_bytes().unwrap());
            prop_assert_eq!(layout.parse(&index, 1 << 41), Ok(ObjectIndex::new(ranges)));
        }
    }
}
