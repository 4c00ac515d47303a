//! Chunks that several tiles need: fetched and decoded once, as far as memory allows.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::{Result, dataset::StoredValues};

/// A chunk, by the column that it is of and its indices.
pub(super) type Key = (usize, Vec<u64>);

/// The chunks that some tiles have asked for, and others will.
#[derive(Debug)]
pub(super) struct SharedChunks {
    chunks: Mutex<HashMap<Key, Arc<SharedChunk>>>,
    /// The decoded bytes that are kept, at most.
    budget: AtomicUsize,
}

/// A chunk on its way from the store to the tiles.
#[derive(Debug)]
pub(super) struct SharedChunk {
    /// Set once it was fetched.
    fetched: OnceCell<()>,
    content: Mutex<Content>,
    bytes: usize,
    /// The tiles that haven't had it yet.
    uses: AtomicUsize,
    /// When it was last used: the number of uses of any chunk before.
    used: AtomicUsize,
}

#[derive(Debug)]
enum Content {
    /// The chunk isn't stored, or not fetched yet.
    Nothing,
    Encoded(Bytes),
    Decoded(StoredValues),
}

impl SharedChunk {
    /// Has the chunk fetched, unless somebody else has done it or is doing it.
    pub(super) async fn fetch(
        &self,
        fetch: impl Future<Output = Result<Option<Bytes>>>,
    ) -> Result<()> {
        let fetched = self.fetched.get_or_try_init(|| async {
            if let Some(bytes) = fetch.await? {
                *self.content() = Content::Encoded(bytes);
            }
            Ok(())
        });
        fetched.await.copied()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedChunks {
    pub(super) fn new(budget: usize) -> Self {
        Self { chunks: Mutex::default(), budget: AtomicUsize::new(budget) }
    }

    pub(super) fn set_budget(&self, bytes: usize) {
        self.budget.store(bytes, Ordering::Relaxed);
    }

    /// The chunk of this key, which `uses` tiles need and which takes `bytes` when it is decoded.
    pub(super) fn get(&self, key: &Key, uses: usize, bytes: usize) -> Arc<SharedChunk> {
        let mut chunks = self.lock();
        if let Some(chunk) = chunks.get(key) {
            return Arc::clone(chunk);
        }
        // What was used longest ago makes room. Tiles that have it already keep it.
        let mut held: usize = chunks.values().map(|chunk| chunk.bytes).sum();
        while held + bytes > self.budget.load(Ordering::Relaxed) {
            let oldest = chunks.iter().min_by_key(|(_, chunk)| chunk.used.load(Ordering::Relaxed));
            let Some((oldest, _)) = oldest else { break };
            let oldest = oldest.clone();
            held -= chunks.remove(&oldest).map_or(0, |chunk| chunk.bytes);
        }
        let now = chunks.values().map(|chunk| chunk.used.load(Ordering::Relaxed)).max();
        let chunk = Arc::new(SharedChunk {
            fetched: OnceCell::new(),
            content: Mutex::new(Content::Nothing),
            bytes,
            uses: AtomicUsize::new(uses),
            used: AtomicUsize::new(now.map_or(0, |now| now + 1)),
        });
        if bytes <= self.budget.load(Ordering::Relaxed) {
            chunks.insert(key.clone(), Arc::clone(&chunk));
        }
        chunk
    }

    /// The decoded values, which `decode` makes of the stored bytes for the first tile that asks.
    /// `None` if the chunk isn't stored.
    pub(super) fn decoded(
        &self,
        key: &Key,
        chunk: &SharedChunk,
        decode: impl FnOnce(&Bytes) -> Result<StoredValues>,
    ) -> Result<Option<StoredValues>> {
        let values = {
            let mut content = chunk.content();
            if let Content::Encoded(bytes) = &*content {
                *content = Content::Decoded(decode(bytes)?);
            }
            match &*content {
                Content::Decoded(values) => Some(values.clone()),
                Content::Nothing | Content::Encoded(_) => None,
            }
        };
        let mut chunks = self.lock();
        if chunk.uses.fetch_sub(1, Ordering::Relaxed) == 1 {
            chunks.remove(key);
        } else {
            let now = chunks.values().map(|chunk| chunk.used.load(Ordering::Relaxed)).max();
            chunk.used.store(now.map_or(0, |now| now + 1), Ordering::Relaxed);
        }
        Ok(values)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<SharedChunk>>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
