//! What an engine has done.

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

/// What an engine has done since it was started, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Reads past the page cache (`O_DIRECT`).
    pub direct_reads: u64,
    /// Bytes of them, with what was read for the sake of alignment.
    pub direct_bytes: u64,
    /// Reads through the page cache of what wasn't there, or not known to be.
    pub buffered_reads: u64,
    /// Bytes of them.
    pub buffered_bytes: u64,
    /// Reads that copied from the page cache what was there.
    pub cached_reads: u64,
    /// Bytes of them.
    pub cached_bytes: u64,
    /// Bytes of memory in the pool.
    pub pool_bytes: usize,
    /// Bytes of that memory which are registered with the kernel.
    pub registered_bytes: usize,
    /// Bytes of memory under way or in the hands of consumers, in the pool and outside.
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

    /// The counts, but for what the pool knows.
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
