//! From chunks to their stored bytes: whole objects, or ranges of shards.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    ops::{AddAssign, Range},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lru::LruCache;
use object_store::{GetOptions, ObjectStore};
use tokio::sync::{OnceCell, Semaphore};

use crate::{
    Error, Recycler, Result, Variable,
    dataset::{ShardIndex, ShardLayout, is_missing},
    uring::{CachedFile, PageCache},
};

/// The bytes of the shards' indices that are kept, roughly.
const INDEX_BYTES: u64 = 16 << 20;

/// The objects of one variable that are read at the same time for one request.
const CONCURRENT_OBJECTS: usize = 16;

/// What an object may have beyond its decoded size: codecs add little to what they can't compress.
const OVERHEAD_BYTES: u64 = 1 << 20;

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

/// The index of a shard, once it was read; `None` inside: there is no such shard.
type KnownIndex = OnceCell<Option<Arc<ShardIndex>>>;

/// Fetches chunks of one variable.
#[derive(Debug)]
pub(crate) struct Fetcher {
    store: Arc<dyn ObjectStore>,
    /// The indices of shards that were read before.
    indices: Mutex<LruCache<Vec<u64>, Arc<KnownIndex>>>,
    /// What keeps the number of objects that are read at the same time low.
    reads: Arc<Semaphore>,
    /// Where objects are looked for before they are asked of the store.
    page_cache: Option<PageCache>,
}

/// Chunks with their stored bytes, `None` for those that aren't stored.
pub(crate) type FetchedChunks = Vec<(Vec<u64>, Option<Stored>)>;

/// The stored bytes of a chunk, or where they are in the page cache.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    Bytes(Bytes),
    Cached(CachedChunk),
}

/// A part of a file that is in the page cache.
#[derive(Clone, Debug)]
pub(crate) struct CachedChunk {
    file: CachedFile,
    range: Range<u64>,
}

impl Stored {
    /// The bytes.
    ///
    /// # Errors
    /// A text, if they can't be read any more.
    pub(crate) fn bytes(&self, recycler: &Arc<Recycler>) -> Result<Bytes, String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::Cached(chunk) => {
                let mut bytes = recycler.take(chunk.len());
                chunk.read_at(0, &mut bytes)?;
                Ok(Bytes::from_owner(bytes))
            }
        }
    }
}

impl CachedChunk {
    /// The number of bytes.
    pub(super) fn len(&self) -> usize {
        as_usize(self.range.end - self.range.start)
    }

    /// Reads bytes from an offset in the chunk on, as many as the buffer has.
    ///
    /// # Errors
    /// A text that says what the system said.
    pub(super) fn read_at(&self, offset: usize, buffer: &mut [u8]) -> Result<(), String> {
        let read = self.file.read_at(self.range.start + offset as u64, buffer);
        read.map_err(|error| format!("it can't be read: {error}"))
    }
}

impl Fetcher {
    /// # Errors
    /// [`crate::Error::Unreadable`].
    pub(crate) fn new(variable: &Variable) -> Result<Self> {
        let codec = &variable.reader()?.codec;
        let bytes = codec.shards().and_then(|shards| shards.index_bytes()).unwrap_or(1);
        let kept = usize::try_from(INDEX_BYTES / bytes.max(1)).unwrap_or(usize::MAX).min(65_536);
        let kept = NonZeroUsize::new(kept).unwrap_or(NonZeroUsize::MIN);
        let store = Arc::clone(variable.location().store());
        let reads = Arc::new(Semaphore::new(CONCURRENT_OBJECTS));
        Ok(Self { store, indices: Mutex::new(LruCache::new(kept)), reads, page_cache: None })
    }

    /// Reads from another object store that holds the same objects.
    pub(super) fn with_store(self, store: Arc<dyn ObjectStore>) -> Self {
        Self { store, ..self }
    }

    /// Leaves objects that are in the page cache there: whoever decodes them reads them.
    pub(super) fn with_page_cache(self, page_cache: Option<PageCache>) -> Self {
        Self { page_cache, ..self }
    }

    /// Has a limit of objects that are read at the same time in common with others.
    pub(super) fn with_reads(self, reads: Arc<Semaphore>) -> Self {
        Self { reads, ..self }
    }

    /// Fetches chunks; those of one object with as few requests as possible, and some objects at the
    /// same time.
    ///
    /// # Errors
    /// [`crate::Error::Store`], and [`crate::Error::Chunk`] for a shard whose index is corrupt.
    pub(crate) async fn fetch(
        &self,
        variable: &Variable,
        chunks: Vec<Vec<u64>>,
    ) -> Result<(FetchedChunks, Counts)> {
        let mut objects: BTreeMap<Vec<u64>, Vec<Vec<u64>>> = BTreeMap::new();
        for chunk in chunks {
            objects.entry(variable.object(&chunk)).or_default().push(chunk);
        }
        let objects: Vec<(FetchedChunks, Counts)> = stream::iter(objects)
            .map(|(object, chunks)| async move {
                // The semaphore is never closed; without a permit there would just be no limit.
                let _permit = self.reads.acquire().await;
                let mut counts = Counts::default();
                let fetched = self.fetch_from(variable, &object, chunks, &mut counts).await?;
                let stored = fetched.iter().filter(|(_, bytes)| bytes.is_some()).count();
                counts.chunks += stored;
                counts.absent += fetched.len() - stored;
                Ok::<_, Error>((fetched, counts))
            })
            .buffered(CONCURRENT_OBJECTS)
            .try_collect()
            .await?;
        let mut all = (Vec::new(), Counts::default());
        for (fetched, counts) in objects {
            all.0.extend(fetched);
            all.1 += counts;
        }
        Ok(all)
    }

    async fn fetch_from(
        &self,
        variable: &Variable,
        object: &[u64],
        chunks: Vec<Vec<u64>>,
        counts: &mut Counts,
    ) -> Result<FetchedChunks> {
        if let Some(cached) = self.cached(variable, object, &chunks, counts)? {
            return Ok(cached);
        }
        let Some(shards) = variable.reader()?.codec.shards() else {
            let bytes = self.fetch_object(variable, object, counts).await?.map(Stored::Bytes);
            return Ok(chunks.into_iter().map(|chunk| (chunk, bytes.clone())).collect());
        };
        if chunks.len() as u64 == shards.counts().iter().product::<u64>() {
            // All of it.
            let bytes = self.fetch_object(variable, object, counts).await?;
            let failed = |reason| variable.chunk_error(object, reason);
            let index = match &bytes {
                Some(bytes) => {
                    let index = shards.index_in(bytes).map_err(failed)?;
                    Some(shards.parse(index, bytes.len() as u64).map_err(failed)?)
                }
                None => None,
            };
            let chunks = chunks.into_iter().map(|chunk| {
                let range = index.as_ref().and_then(|i| i.range(shards.number(&chunk)));
                // The index was checked against the object's size, so they fit.
                let part = range
                    .zip(bytes.as_ref())
                    .map(|(range, bytes)| bytes.slice(as_usize(range.start)..as_usize(range.end)));
                (chunk, part.map(Stored::Bytes))
            });
            return Ok(chunks.collect());
        }
        let index = self.index(variable, object, counts).await?;
        let index = index.get().and_then(Option::as_ref);
        let ranges = chunks.into_iter().map(|chunk| {
            let range = index.and_then(|index| index.range(shards.number(&chunk)));
            (chunk, range)
        });
        self.fetch_ranges(variable, object, ranges.collect(), counts).await
    }

    /// The chunks of an object, if they are in the page cache.
    fn cached(
        &self,
        variable: &Variable,
        object: &[u64],
        chunks: &[Vec<u64>],
        counts: &mut Counts,
    ) -> Result<Option<FetchedChunks>> {
        let Some(page_cache) = &self.page_cache else { return Ok(None) };
        let Some(file) = page_cache.open(&variable.object_path(object)?) else { return Ok(None) };
        let failed = |reason| variable.chunk_error(object, reason);
        let shards = variable.reader()?.codec.shards();
        let index = match shards {
            None => None,
            Some(shards) => match self.cached_index(shards, object, &file, counts) {
                Ok(Some(index)) => Some((shards, index)),
                Ok(None) => return Ok(None),
                Err(reason) => return Err(failed(reason)),
            },
        };
        let mut cached = Vec::new();
        for chunk in chunks {
            let range = match &index {
                None => Some(0..file.len()),
                Some((shards, index)) => index.range(shards.number(chunk)),
            };
            if let Some(range) = &range {
                check_size(variable, object, range.end - range.start)?;
                if !file.is_cached(range) {
                    return Ok(None);
                }
            }
            let stored = range.map(|range| CachedChunk { file: file.clone(), range });
            cached.push((chunk.clone(), stored.map(Stored::Cached)));
        }
        for (_, stored) in &cached {
            if let Some(Stored::Cached(chunk)) = stored {
                counts.requests += 1;
                counts.bytes += chunk.len();
            }
        }
        Ok(Some(cached))
    }

    /// The index of a shard, if it was read already or is in the page cache.
    fn cached_index(
        &self,
        shards: &ShardLayout,
        object: &[u64],
        file: &CachedFile,
        counts: &mut Counts,
    ) -> Result<Option<Arc<ShardIndex>>, String> {
        let known = self.known_index(object);
        if let Some(index) = known.get() {
            // That there is no such shard was true when it was asked for.
            return Ok(index.clone());
        }
        let range = shards.index_range().as_range(file.len()).map_err(|e| e.to_string())?;
        if !file.is_cached(&range) {
            return Ok(None);
        }
        let chunk = CachedChunk { file: file.clone(), range };
        let mut bytes = vec![0; chunk.len()];
        chunk.read_at(0, &mut bytes)?;
        counts.requests += 1;
        counts.bytes += bytes.len();
        let index = Arc::new(shards.parse(&bytes, file.len())?);
        // Somebody else may be about to read it: then theirs is kept.
        let _ = known.set(Some(Arc::clone(&index)));
        Ok(Some(index))
    }

    /// The index of a shard, if it was read already.
    fn known_index(&self, object: &[u64]) -> Arc<KnownIndex> {
        let mut indices = self.indices.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(indices.get_or_insert(object.to_vec(), Arc::default))
    }

    async fn fetch_object(
        &self,
        variable: &Variable,
        object: &[u64],
        counts: &mut Counts,
    ) -> Result<Option<Bytes>> {
        let path = variable.object_path(object)?;
        counts.requests += 1;
        let result = match self.store.get_opts(&path, GetOptions::default()).await {
            Ok(result) => {
                check_size(variable, object, result.range.end - result.range.start)?;
                result.bytes().await
            }
            Err(e) => Err(e),
        };
        match result {
            Ok(bytes) => {
                counts.bytes += bytes.len();
                Ok(Some(bytes))
            }
            Err(e) if is_missing(&e) => Ok(None),
            Err(source) => Err(variable.store_error(object, source)),
        }
    }

    /// The index of a shard, which is read once, whoever asks for it.
    async fn index(
        &self,
        variable: &Variable,
        object: &[u64],
        counts: &mut Counts,
    ) -> Result<Arc<KnownIndex>> {
        let cell = self.known_index(object);
        let Some(shards) = variable.reader()?.codec.shards() else { return Ok(cell) };
        cell.get_or_try_init(|| async {
            let path = variable.object_path(object)?;
            counts.requests += 1;
            let options = GetOptions { range: Some(shards.index_range()), ..GetOptions::default() };
            let result = match self.store.get_opts(&path, options).await {
                Ok(result) => {
                    let size = result.meta.size;
                    check_size(variable, object, size)?;
                    result.bytes().await.map(|bytes| (bytes, size))
                }
                Err(e) => Err(e),
            };
            match result {
                Ok((bytes, size)) => {
                    counts.bytes += bytes.len();
                    let index = shards.parse(&bytes, size);
                    let index = index.map(|index| Some(Arc::new(index)));
                    index.map_err(|reason| variable.chunk_error(object, reason))
                }
                Err(e) if is_missing(&e) => Ok(None),
                Err(source) => Err(variable.store_error(object, source)),
            }
        })
        .await?;
        Ok(cell)
    }

    async fn fetch_ranges(
        &self,
        variable: &Variable,
        object: &[u64],
        chunks: Vec<(Vec<u64>, Option<Range<u64>>)>,
        counts: &mut Counts,
    ) -> Result<FetchedChunks> {
        let mut ranges: Vec<Range<u64>> = chunks.iter().filter_map(|(_, r)| r.clone()).collect();
        if ranges.is_empty() {
            return Ok(chunks.into_iter().map(|(chunk, _)| (chunk, None)).collect());
        }
        ranges.sort_unstable_by_key(|range| (range.start, range.end));
        // What lies side by side is one request. More than that is up to the store.
        ranges.dedup_by(|next, last| {
            let touches = next.start <= last.end;
            if touches {
                last.end = last.end.max(next.end);
            }
            touches
        });
        let bytes = ranges.iter().map(|range| range.end - range.start).sum();
        check_size(variable, object, bytes)?;
        let path = variable.object_path(object)?;
        counts.requests += ranges.len();
        let parts = self
            .store
            .get_ranges(&path, &ranges)
            .await
            .map_err(|source| variable.store_error(object, source))?;
        counts.bytes += parts.iter().map(Bytes::len).sum::<usize>();
        chunks
            .into_iter()
            .map(|(chunk, range)| {
                let Some(range) = range else { return Ok((chunk, None)) };
                let part = ranges.partition_point(|other| other.start <= range.start) - 1;
                let start = as_usize(range.start - ranges[part].start);
                let end = start + as_usize(range.end - range.start);
                match parts.get(part).filter(|part| end <= part.len()) {
                    Some(part) => Ok((chunk, Some(Stored::Bytes(part.slice(start..end))))),
                    None => Err(variable.chunk_error(
                        object,
                        "the store gave fewer bytes than it was asked for".to_owned(),
                    )),
                }
            })
            .collect()
    }
}

/// Fails if an object is larger than any that a codec could have made.
fn check_size(variable: &Variable, object: &[u64], bytes: u64) -> Result<()> {
    let codec = &variable.reader()?.codec;
    let chunks = codec.shards().map_or(1, |shards| shards.counts().iter().product::<u64>());
    let index = codec.shards().and_then(|shards| shards.index_bytes()).unwrap_or(0);
    let most = codec
        .most_bytes()
        .saturating_mul(chunks)
        .saturating_mul(2)
        .saturating_add(OVERHEAD_BYTES + index);
    if bytes <= most {
        return Ok(());
    }
    Err(variable.chunk_error(
        object,
        format!("it takes {bytes} bytes, where its values decoded take at most {}", most / 2),
    ))
}

/// A number of bytes of something that is in memory.
fn as_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
