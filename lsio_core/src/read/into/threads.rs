//! Threads that a read may use beside its caller's: all reads of a process share the processors.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Threads in use beside those of callers.
static BUSY: AtomicUsize = AtomicUsize::new(0);

/// Threads taken from those to spare, until it is dropped.
pub(super) struct Spare(usize);

impl Spare {
    /// Takes up to `most` threads, or as many as there are.
    pub(super) fn take(most: usize) -> Self {
        let all = thread::available_parallelism().map_or(1, usize::from) - 1;
        let mut taken = 0;
        let update = BUSY.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |busy| {
            taken = most.min(all.saturating_sub(busy));
            Some(busy + taken)
        });
        Self(if update.is_ok() { taken } else { 0 })
    }

    pub(super) fn count(&self) -> usize {
        self.0
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        BUSY.fetch_sub(self.0, Ordering::Relaxed);
    }
}
