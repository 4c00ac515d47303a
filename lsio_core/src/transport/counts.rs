//! Cost of reads.

use std::ops::AddAssign;

/// Chunks, requests and bytes read from a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Number of stored chunks.
    pub chunks: usize,
    /// Number of chunks that aren't stored, which hold the fill value.
    pub absent: usize,
    /// Number of requests to the store, for objects and ranges of objects.
    pub requests: usize,
    /// Number of stored bytes.
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
