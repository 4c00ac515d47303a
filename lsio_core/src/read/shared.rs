//! Chunks that several tiles need: fetched and decoded once, as far as memory allows.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::OnceCell;

use super::stored::Stored;
use crate::{Result, dataset::StoredValues};

/// Memory in bytes for a kept chunk beside its values.
const CHUNK_BYTES: usize = 512;

/// Position of a chunk's column, and the chunk's indices.
pub(super) type ChunkKey = (usize, Vec<u64>);

/// Chunks that some tiles have used and other tiles will use.
#[derive(Debug, Default)]
pub(super) struct SharedChunks {
    kept: Mutex<Kept>,
    /// Number of uses of all chunks so far.
    clock: AtomicUsize,
}

#[derive(Debug, Default)]
struct Kept {
    chunks: HashMap<ChunkKey, Arc<SharedChunk>>,
    /// Decoded bytes of the kept chunks, and their upper bound.
    bytes: usize,
    budget: usize,
}

impl Kept {
    /// Evicts the least recently used chunks. Tiles that hold one already keep it.
    fn make_room(&mut self, bytes: usize) {
        if self.bytes + bytes <= self.budget {
            return;
        }
        // Of many chunks several leave at once, so that each look at all of them makes room for long.
        let spare = self.chunks.len() / 16;
        let used = |chunk: &Arc<SharedChunk>| chunk.used.load(Ordering::Relaxed);
        let mut oldest: Vec<(usize, ChunkKey)> =
            self.chunks.iter().map(|(key, chunk)| (used(chunk), key.clone())).collect();
        oldest.sort_unstable();
        for (number, (_, key)) in oldest.into_iter().enumerate() {
            if number >= spare && self.bytes + bytes <= self.budget {
                break;
            }
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &ChunkKey) {
        self.bytes -= self.chunks.remove(key).map_or(0, |chunk| chunk.bytes);
    }
}

/// A chunk on its way from the store to the tiles.
#[derive(Debug)]
pub(super) struct SharedChunk {
    /// Set once the chunk is fetched.
    fetched: OnceCell<()>,
    content: Mutex<ChunkContent>,
    bytes: usize,
    /// Number of tiles that haven't used the chunk yet.
    uses: AtomicUsize,
    /// Value of the clock at the last use.
    used: AtomicUsize,
}

#[derive(Debug)]
enum ChunkContent {
    /// The chunk isn't stored, or not fetched yet.
    Nothing,
    /// Bytes in the page cache are copied from there when they are decoded, and are then still in the CPU's cache.
    Encoded(Stored),
    Decoded(StoredValues),
}

impl SharedChunk {
    /// Fetches the chunk, unless another task has fetched it or is doing so.
    pub(super) async fn fetch(
        &self,
        fetch: impl Future<Output = Result<Option<Stored>>>,
    ) -> Result<()> {
        let fetched = self.fetched.get_or_try_init(|| async {
            if let Some(stored) = fetch.await? {
                *self.content() = ChunkContent::Encoded(stored);
            }
            Ok(())
        });
        fetched.await.copied()
    }

    fn content(&self) -> MutexGuard<'_, ChunkContent> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedChunks {
    /// Raises the upper bound by `bytes` decoded bytes.
    pub(super) fn grow(&self, bytes: usize) {
        self.lock().budget += bytes;
    }

    /// Lowers the upper bound by `bytes` decoded bytes.
    pub(super) fn shrink(&self, bytes: usize) {
        let mut kept = self.lock();
        kept.budget = kept.budget.saturating_sub(bytes);
        kept.make_room(0);
    }

    /// Chunk of this key, which `uses` tiles need and which has `bytes` decoded bytes.
    pub(super) fn get(&self, key: &ChunkKey, uses: usize, bytes: usize) -> Arc<SharedChunk> {
        let bytes = bytes.saturating_add(CHUNK_BYTES);
        let mut kept = self.lock();
        if let Some(chunk) = kept.chunks.get(key) {
            return Arc::clone(chunk);
        }
        let chunk = Arc::new(SharedChunk {
            fetched: OnceCell::new(),
            content: Mutex::new(ChunkContent::Nothing),
            bytes,
            uses: AtomicUsize::new(uses),
            used: AtomicUsize::new(self.clock.fetch_add(1, Ordering::Relaxed)),
        });
        if bytes <= kept.budget {
            kept.make_room(bytes);
            kept.bytes += bytes;
            kept.chunks.insert(key.clone(), Arc::clone(&chunk));
        }
        chunk
    }

    /// Decoded values; `None` if the chunk isn't stored. The first tile to ask calls `decode` on the stored bytes.
    pub(super) fn decoded(
        &self,
        key: &ChunkKey,
        chunk: &SharedChunk,
        decode: impl FnOnce(&Stored) -> Result<StoredValues>,
    ) -> Result<Option<StoredValues>> {
        let values = {
            let mut content = chunk.content();
            if let ChunkContent::Encoded(stored) = &*content {
                *content = ChunkContent::Decoded(decode(stored)?);
            }
            match &*content {
                ChunkContent::Decoded(values) => Some(values.clone()),
                ChunkContent::Nothing | ChunkContent::Encoded(_) => None,
            }
        };
        if chunk.uses.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.lock().remove(key);
        } else {
            chunk.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        }
        Ok(values)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
