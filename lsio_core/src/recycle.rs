//! Reuse of memory for decoded values: fresh pages cost more time than many codecs.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow::{
    buffer::{Buffer, MutableBuffer},
    datatypes::ArrowNativeType,
};
use bytes::Bytes;

/// The most bytes of free buffers that are kept. Buffers returned beyond this limit are freed.
const MOST_FREE_BYTES: usize = 96 << 20;

/// The fewest bytes of a buffer that returns. Smaller ones are the allocator's: it has them as fast, and finding one
/// among many would take longer.
const LEAST_BYTES: usize = 4096;

/// Alignment of a buffer and its length in bytes.
const ALIGNMENT: usize = 64;

/// A pool of buffers, which return to the pool when they are dropped.
///
/// A reused buffer holds its last user's bytes. The pool returns no memory to the system below its limit of free bytes,
/// so pages aren't zeroed or mapped twice.
#[derive(Debug, Default)]
pub struct Recycler {
    free: Mutex<Vec<MutableBuffer>>,
    lent: AtomicUsize,
    peak: AtomicUsize,
}

impl Recycler {
    /// Lends a buffer of `len` bytes, aligned for every type, with arbitrary content.
    #[must_use]
    pub fn take(self: &Arc<Self>, len: usize) -> Recycled {
        let buffer = self.reuse(len).unwrap_or_else(|| {
            // Whole values of every type.
            let len = len.checked_next_multiple_of(ALIGNMENT).unwrap_or(len);
            MutableBuffer::from_len_zeroed(len)
        });
        let lent = self.lent.fetch_add(buffer.len(), Ordering::Relaxed) + buffer.len();
        self.peak.fetch_max(lent, Ordering::Relaxed);
        Recycled { buffer, len, home: Arc::clone(self) }
    }

    /// The peak of lent memory, in bytes.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    /// Takes the smallest free buffer of at least `len` bytes, unless more than half of it would lie idle. Of several,
    /// it is the one that came back last: most of it is still in the CPU's cache.
    fn reuse(&self, len: usize) -> Option<MutableBuffer> {
        if len < LEAST_BYTES {
            return None;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &MutableBuffer| buffer.len() >= len && buffer.len() / 2 <= len;
        let best =
            (0..free.len()).rev().filter(|&i| fits(&free[i])).min_by_key(|&i| free[i].len())?;
        Some(free.remove(best))
    }

    fn give_back(&self, buffer: MutableBuffer) {
        self.lent.fetch_sub(buffer.len(), Ordering::Relaxed);
        if buffer.len() < LEAST_BYTES {
            return;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let idle: usize = free.iter().map(MutableBuffer::len).sum();
        if idle + buffer.len() <= MOST_FREE_BYTES {
            free.push(buffer);
        }
    }
}

/// A buffer on loan from a [`Recycler`].
#[derive(Debug)]
pub struct Recycled {
    buffer: MutableBuffer,
    len: usize,
    home: Arc<Recycler>,
}

impl Recycled {
    /// The bytes as values of a type. Bytes that don't fill a value are left out.
    #[must_use]
    pub fn typed_mut<T: ArrowNativeType>(&mut self) -> &mut [T] {
        let len = self.len / size_of::<T>();
        &mut self.buffer.typed_data_mut::<T>()[..len]
    }

    /// Makes the buffer shareable and read-only. It returns to the pool when the last reader drops it.
    #[must_use]
    pub fn freeze(self) -> Buffer {
        if self.len == 0 {
            return Buffer::default();
        }
        Buffer::from(Bytes::from_owner(self))
    }
}

impl Deref for Recycled {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer.as_slice()[..self.len]
    }
}

impl DerefMut for Recycled {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer.as_slice_mut()[..self.len]
    }
}

impl AsRef<[u8]> for Recycled {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Recycled {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back() {
        let recycler = Arc::new(Recycler::default());
        let mut first = recycler.take(10_000);
        first.fill(7);
        let address = first.as_ptr();
        let shared = first.freeze();
        let slice = shared.slice(10);
        drop(shared);
        // A reader still holds the buffer.
        assert_ne!(recycler.take(10_000).as_ptr(), address);
        assert_eq!(slice.as_slice(), [7; 9990]);
        drop(slice);
        assert_eq!(recycler.lent.load(Ordering::Relaxed), 0);
        assert_eq!(recycler.take(9000).len(), 9000);
        assert!(recycler.peak() >= 20_000);
        assert_eq!(recycler.take(70).typed_mut::<u64>().len(), 8);
        // The free buffers are more than twice as large as the request.
        assert_eq!(recycler.take(4100).buffer.len(), 4160);
        // Small ones are not kept.
        let free = || recycler.free.lock().unwrap().len();
        let before = free();
        drop(recycler.take(10));
        assert_eq!((free(), recycler.lent.load(Ordering::Relaxed)), (before, 0));
    }
}
