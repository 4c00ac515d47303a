//! What reads have cost.

use std::ops::AddAssign;

/// What was read from the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stored chunks.
    pub chunks: usize,
    /// Chunks that aren't stored, and so hold the fill value.
    pub absent: usize,
    /// What the store was asked for: objects, and ranges of objects.
    pub requests: usize,
    /// The stored bytes.
    pub bytes: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.chunks += other.chunks;
        self.absent += other.absent;
        self.requests += other.requests;
        self.bytes += other.bytes;
    }
}
