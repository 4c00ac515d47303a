//! The indices of shards that were read, as many as fit a bound.

use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use tokio::sync::OnceCell;

use crate::{dataset::ShardIndex, transport::Version};

/// The bytes of indices that are kept, roughly.
const BYTES: u64 = 16 << 20;

/// The most indices that are kept.
const COUNT: usize = 65_536;

/// The index of a shard, once it was read; `None` inside: there is no such shard.
pub(super) type KnownIndex = OnceCell<Option<Known>>;

/// The index of a shard, and of which version of it; that of local files isn't asked for.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) index: Arc<ShardIndex>,
    pub(super) version: Option<Version>,
}

/// The indices of one array's shards, by the indices of the shards' objects.
#[derive(Debug)]
pub(super) struct Indices {
    /// Without a bound of its own it takes no memory until it is used.
    known: Mutex<LruCache<Vec<u64>, Arc<KnownIndex>>>,
    most: usize,
}

impl Indices {
    /// For indices of so many bytes each.
    pub(super) fn new(bytes: u64) -> Self {
        let most = usize::try_from(BYTES / bytes.max(1)).unwrap_or(usize::MAX).clamp(1, COUNT);
        Self { known: Mutex::new(LruCache::unbounded()), most }
    }

    /// The index of an object, which may not have been read yet.
    pub(super) fn of(&self, object: &[u64]) -> Arc<KnownIndex> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = known.get(object) {
            return Arc::clone(index);
        }
        let index = Arc::<KnownIndex>::default();
        known.put(object.to_vec(), Arc::clone(&index));
        if known.len() > self.most {
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
        let indices = Indices::new(BYTES / 2);
        let first = indices.of(&[0]);
        assert!(first.set(None).is_ok());
        indices.of(&[1]);
        assert!(indices.of(&[0]).get().is_some());
        indices.of(&[2]);
        // The one that was used longest ago is gone.
        assert!(indices.of(&[0]).get().is_some());
        assert!(Arc::strong_count(&first) > 1);
        indices.forget(&[0]);
        assert!(indices.of(&[0]).get().is_none());
        assert_eq!(indices.known.lock().unwrap().len(), 2);
    }
}
