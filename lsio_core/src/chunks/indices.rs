//! The indices of objects that hold several chunks, in a bounded LRU cache.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use lru::LruCache;
use tokio::sync::OnceCell;

use crate::transport::Version;

/// The approximate bound on kept indices, in bytes.
const BYTES: u64 = 16 << 20;

/// The most indices that are kept.
const COUNT: usize = 65_536;

/// The byte ranges of an object's chunks, by their numbers in the object. `None` if a chunk isn't stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectIndex {
    ranges: Vec<Option<Range<u64>>>,
}

/// The index of an object, empty until it is read. The inner `None` means that the object doesn't exist.
pub(crate) type KnownIndex = OnceCell<Option<Known>>;

/// The index of an object, with the object's version. `None` for local files, whose version isn't checked.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) index: Arc<ObjectIndex>,
    pub(crate) version: Option<Version>,
}

/// The indices of one array's objects, by the objects' positions in their grid.
#[derive(Debug)]
pub(super) struct Indices {
    /// Unbounded, so that it allocates nothing until used. [`Indices::of`] applies the bound.
    known: Mutex<LruCache<Vec<u64>, Arc<KnownIndex>>>,
}

impl Default for Indices {
    fn default() -> Self {
        Self { known: Mutex::new(LruCache::unbounded()) }
    }
}

impl ObjectIndex {
    pub(crate) fn new(ranges: Vec<Option<Range<u64>>>) -> Self {
        Self { ranges }
    }

    /// The byte range of a chunk, by its number in the object. `None` if the chunk isn't stored.
    pub(crate) fn range(&self, number: usize) -> Option<Range<u64>> {
        self.ranges.get(number).cloned().flatten()
    }
}

impl Indices {
    /// The index of an object, possibly not read yet. Each index of the array takes `bytes` bytes.
    pub(super) fn of(&self, object: &[u64], bytes: u64) -> Arc<KnownIndex> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = known.get(object) {
            return Arc::clone(index);
        }
        let index = Arc::<KnownIndex>::default();
        known.put(object.to_vec(), Arc::clone(&index));
        let most = usize::try_from(BYTES / bytes.max(1)).unwrap_or(usize::MAX).clamp(1, COUNT);
        if known.len() > most {
            known.pop_lru();
        }
        index
    }

    /// Forgets the index of an object.
    pub(super) fn forget(&self, object: &[u64]) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).pop(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_used_indices_are_kept() {
        let indices = Indices::default();
        let bytes = BYTES / 2;
        let first = indices.of(&[0], bytes);
        assert!(first.set(None).is_ok());
        indices.of(&[1], bytes);
        assert!(indices.of(&[0], bytes).get().is_some());
        indices.of(&[2], bytes);
        // The least recently used index is gone.
        assert!(indices.of(&[0], bytes).get().is_some());
        assert!(Arc::strong_count(&first) > 1);
        indices.forget(&[0]);
        assert!(indices.of(&[0], bytes).get().is_none());
        assert_eq!(indices.known.lock().unwrap().len(), 2);
    }
}
