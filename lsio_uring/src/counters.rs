//! Counters of an engine.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Counters {
    direct_reads: AtomicU64,
    direct_bytes: AtomicU64,
    buffered_reads: AtomicU64,
    buffered_bytes: AtomicU64,
    cached_reads: AtomicU64,
    cached_bytes: AtomicU64,
    registered: AtomicUsize,
}

/// Counts of an engine's reads since its start, and the memory it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Number of reads past the page cache (`O_DIRECT`).
    pub direct_reads: u64,
    /// Bytes read past the page cache, including those read for alignment.
    pub direct_bytes: u64,
    /// Number of reads through the page cache of bytes that weren't known to be there.
    pub buffered_reads: u64,
    /// Bytes of these reads through the page cache.
    pub buffered_bytes: u64,
    /// Number of copies of bytes that were in the page cache.
    pub cached_reads: u64,
    /// Bytes copied from the page cache.
    pub cached_bytes: u64,
    /// Bytes of memory in the pool.
    pub pool_bytes: usize,
    /// Bytes of the pool that are registered with the kernel.
    pub registered_bytes: usize,
    /// Bytes of memory in flight or held by consumers, in the pool and outside.
    pub used_bytes: usize,
}

impl Counters {
    pub(crate) fn read(&self, bytes: usize, direct: bool) {
        if direct {
            add(&self.direct_reads, &self.direct_bytes, bytes);
        } else {
            add(&self.buffered_reads, &self.buffered_bytes, bytes);
        }
    }

    pub(crate) fn copied(&self, bytes: usize) {
        add(&self.cached_reads, &self.cached_bytes, bytes);
    }

    pub(crate) fn set_registered(&self, bytes: usize) {
        self.registered.store(bytes, Ordering::Relaxed);
    }

    /// The counts, without those that the pool has.
    pub(crate) fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            direct_reads: get(&self.direct_reads),
            direct_bytes: get(&self.direct_bytes),
            buffered_reads: get(&self.buffered_reads),
            buffered_bytes: get(&self.buffered_bytes),
            cached_reads: get(&self.cached_reads),
            cached_bytes: get(&self.cached_bytes),
            registered_bytes: self.registered.load(Ordering::Relaxed),
            ..Counts::default()
        }
    }
}

fn add(reads: &AtomicU64, total: &AtomicU64, bytes: usize) {
    reads.fetch_add(1, Ordering::Relaxed);
    total.fetch_add(bytes as u64, Ordering::Relaxed);
}
