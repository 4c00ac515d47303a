//! Shards of which chunks are still to come.

use std::ops::Range;

use bytes::Bytes;
use object_store::PutPayload;

use super::memory::Reserved;
use crate::dataset::shard::ShardLayout;

/// A shard that isn't complete: its encoded chunks, one behind the other.
#[derive(Debug)]
pub(super) struct OpenShard {
    parts: Vec<(Bytes, Reserved)>,
    ranges: Vec<Option<Range<u64>>>,
    len: u64,
    /// Chunks with cells of the array that are still to come.
    left: u64,
}

impl OpenShard {
    /// A shard without chunks, of which so many have cells of the array.
    pub(super) fn new(layout: &ShardLayout, chunks: u64) -> Self {
        let count = layout.counts().iter().product::<u64>();
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        Self { parts: Vec::new(), ranges: vec![None; count], len: 0, left: chunks }
    }

    /// Adds a chunk, by its number in the shard. `None` for one that has only the fill value.
    pub(super) fn add(&mut self, number: usize, encoded: Option<(Bytes, Reserved)>) {
        self.left = self.left.saturating_sub(1);
        let Some((bytes, memory)) = encoded else { return };
        let end = self.len + bytes.len() as u64;
        if let Some(range) = self.ranges.get_mut(number) {
            *range = Some(self.len..end);
        }
        self.len = end;
        self.parts.push((bytes, memory));
    }

    pub(super) fn is_complete(&self) -> bool {
        self.left == 0
    }

    /// The bytes of the object, its index at the end. `None` if no chunk is stored.
    pub(super) fn payload(&self, layout: &ShardLayout) -> Option<PutPayload> {
        if self.parts.is_empty() {
            return None;
        }
        let parts = self.parts.iter().map(|(bytes, _)| bytes.clone());
        Some(parts.chain([Bytes::from(layout.encode(&self.ranges))]).collect())
    }
}
