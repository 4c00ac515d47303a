//! From chunks to their stored bytes: whole objects, or ranges of shards.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStore;

use super::indices::{Indices, Known, KnownIndex};
use crate::{
    Error, Recycler, Result, Variable,
    dataset::{ChunkCodec, ShardIndex, ShardLayout},
    store_error::is_missing,
    transport::{Counts, Expected, Failure, Object, Transfer, Version, What, as_usize},
    uring::{CachedFile, PageCache},
};

/// What an object may have beyond its decoded size: codecs add little to what they can't compress.
const OVERHEAD_BYTES: u64 = 1 << 20;

/// Fetches chunks of one variable.
#[derive(Debug)]
pub(crate) struct Fetcher {
    transfer: Transfer,
    indices: Indices,
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
        variable.log_warnings();
        let bytes = codec.shards().and_then(|shards| shards.index_bytes()).unwrap_or(1);
        let transfer = variable.location().transfer(What::Chunks);
        Ok(Self { transfer, indices: Indices::new(bytes), page_cache: None })
    }

    /// Reads from another object store that holds the same objects.
    pub(super) fn with_store(self, store: Arc<dyn ObjectStore>) -> Self {
        let transfer = Transfer::new(store, Arc::clone(self.transfer.link()), What::Chunks);
        Self { transfer, ..self }
    }

    /// Leaves objects that are in the page cache there: whoever decodes them reads them.
    pub(super) fn with_page_cache(self, page_cache: Option<PageCache>) -> Self {
        Self { page_cache, ..self }
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
                let mut counts = Counts::default();
                let fetched = self.fetch_from(variable, &object, chunks, &mut counts).await?;
                let stored = fetched.iter().filter(|(_, bytes)| bytes.is_some()).count();
                counts.chunks += stored;
                counts.absent += fetched.len() - stored;
                Ok::<_, Error>((fetched, counts))
            })
            .buffered(self.transfer.link().objects())
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
        let mut fetched = self.fetch_version(variable, object, &chunks, counts).await?;
        if fetched.is_none() {
            // What was known of it is of another version; the new one is complete, or it changes again.
            self.indices.forget(object);
            fetched = self.fetch_version(variable, object, &chunks, counts).await?;
        }
        match fetched {
            Some(fetched) => Ok(chunks.into_iter().zip(fetched).collect()),
            None => Err(variable.chunk_error(
                object,
                "it changes while it is read; is the store being written to?".to_owned(),
            )),
        }
    }

    /// Fetches the bytes of chunks of one object, in their order; `None` if it turns out that not all
    /// would be of one version of it.
    async fn fetch_version(
        &self,
        variable: &Variable,
        object: &[u64],
        chunks: &[Vec<u64>],
        counts: &mut Counts,
    ) -> Result<Option<Vec<Option<Stored>>>> {
        let Some(shards) = variable.reader()?.codec.shards() else {
            let bytes = match self.fetch_object(variable, object, counts).await {
                Ok(bytes) => bytes.map(Stored::Bytes),
                Err(failure) => return unless_changed(variable, object, failure),
            };
            return Ok(Some(vec![bytes; chunks.len()]));
        };
        let failed = |reason| variable.chunk_error(object, reason);
        if chunks.len() as u64 == shards.counts().iter().product::<u64>() {
            // All of it.
            let bytes = match self.fetch_object(variable, object, counts).await {
                Ok(bytes) => bytes,
                Err(failure) => return unless_changed(variable, object, failure),
            };
            let index = match &bytes {
                Some(bytes) => {
                    let index = shards.index_in(bytes).map_err(failed)?;
                    Some(shards.parse(index, bytes.len() as u64).map_err(failed)?)
                }
                None => None,
            };
            let chunks = chunks.iter().map(|chunk| {
                let range = index.as_ref().and_then(|i| i.range(shards.number(chunk)));
                // The index was checked against the object's size, so they fit.
                let part = range
                    .zip(bytes.as_ref())
                    .map(|(range, bytes)| bytes.slice(as_usize(range.start)..as_usize(range.end)));
                part.map(Stored::Bytes)
            });
            return Ok(Some(chunks.collect()));
        }
        let known = self.index(variable, shards, object, counts).await?;
        let Some(Known { index, version }) = known.get().and_then(Option::as_ref) else {
            return Ok(Some(vec![None; chunks.len()]));
        };
        let wanted = chunks.iter().map(|chunk| index.range(shards.number(chunk))).collect();
        match self.fetch_ranges(variable, object, wanted, version.as_ref(), counts).await {
            Ok(fetched) => Ok(Some(fetched)),
            Err(failure) => unless_changed(variable, object, failure),
        }
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
        let known = self.indices.of(object);
        if let Some(known) = known.get() {
            // That there is no such shard was true when it was asked for.
            return Ok(known.as_ref().map(|known| Arc::clone(&known.index)));
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
        let _ = known.set(Some(Known { index: Arc::clone(&index), version: None }));
        Ok(Some(index))
    }

    async fn fetch_object(
        &self,
        variable: &Variable,
        object: &[u64],
        counts: &mut Counts,
    ) -> Result<Option<Bytes>, Refused> {
        let path = variable.object_path(object)?;
        let expected = Expected { likely: likely_bytes(variable)?, most: most_bytes(variable)? };
        match self.transfer.object(&path, expected, counts).await {
            Ok(object) => Ok(Some(object.bytes)),
            Err(Failure::Store(source)) if is_missing(&source) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// The index of a shard, which is read once, whoever asks for it.
    async fn index(
        &self,
        variable: &Variable,
        shards: &ShardLayout,
        object: &[u64],
        counts: &mut Counts,
    ) -> Result<Arc<KnownIndex>> {
        let cell = self.indices.of(object);
        cell.get_or_try_init(|| async {
            let path = variable.object_path(object)?;
            let bytes = shards.index_bytes().unwrap_or(0);
            let expected = Expected { likely: bytes, most: bytes };
            match self.transfer.range(&path, shards.index_range(), expected, counts).await {
                Ok(Object { bytes, version }) => {
                    check_size(variable, object, version.size)?;
                    let index = shards.parse(&bytes, version.size);
                    let index = index.map_err(|reason| variable.chunk_error(object, reason))?;
                    Ok(Some(Known { index: Arc::new(index), version: Some(version) }))
                }
                Err(Failure::Store(source)) if is_missing(&source) => Ok(None),
                Err(failure) => Err(refused(variable, object, failure)),
            }
        })
        .await?;
        Ok(cell)
    }

    /// The bytes of some ranges of an object; `None` stands for a chunk that isn't stored.
    async fn fetch_ranges(
        &self,
        variable: &Variable,
        object: &[u64],
        wanted: Vec<Option<Range<u64>>>,
        version: Option<&Version>,
        counts: &mut Counts,
    ) -> Result<Vec<Option<Stored>>, Refused> {
        let mut ranges: Vec<Range<u64>> = wanted.iter().flatten().cloned().collect();
        if ranges.is_empty() {
            return Ok(vec![None; wanted.len()]);
        }
        ranges.sort_unstable_by_key(|range| (range.start, range.end));
        // What lies side by side is one range; chunks may share bytes.
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
        let parts = self.transfer.ranges(&path, &ranges, version, counts).await?;
        let bytes = |range: Option<Range<u64>>| {
            let Some(range) = range else { return Ok(None) };
            let part = ranges.partition_point(|other| other.start <= range.start) - 1;
            let start = as_usize(range.start - ranges[part].start);
            let end = start + as_usize(range.end - range.start);
            match parts.get(part).filter(|part| end <= part.len()) {
                Some(part) => Ok(Some(Stored::Bytes(part.slice(start..end)))),
                None => Err(variable.chunk_error(
                    object,
                    "the store gave fewer bytes than it was asked for".to_owned(),
                )),
            }
        };
        let fetched: Result<Vec<_>> = wanted.into_iter().map(bytes).collect();
        Ok(fetched?)
    }
}

/// Why chunks weren't fetched.
enum Refused {
    Failure(Failure),
    Error(Error),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Nothing, if an object has changed; else an error that names it.
fn unless_changed<T>(variable: &Variable, object: &[u64], why: Refused) -> Result<Option<T>> {
    match why {
        Refused::Failure(Failure::Changed) => Ok(None),
        Refused::Failure(failure) => Err(refused(variable, object, failure)),
        Refused::Error(error) => Err(error),
    }
}

/// An error that names the object.
fn refused(variable: &Variable, object: &[u64], failure: Failure) -> Error {
    match failure {
        Failure::Store(source) => variable.store_error(object, source),
        Failure::Changed => variable.chunk_error(object, "it changed while it was read".to_owned()),
        Failure::TooLarge(bytes) => too_large(variable, object, bytes),
    }
}

/// Fails if an object is larger than any that a codec could have made.
fn check_size(variable: &Variable, object: &[u64], bytes: u64) -> Result<()> {
    if bytes <= most_bytes(variable)? { Ok(()) } else { Err(too_large(variable, object, bytes)) }
}

fn too_large(variable: &Variable, object: &[u64], bytes: u64) -> Error {
    let most = most_bytes(variable).unwrap_or(0) / 2;
    variable.chunk_error(
        object,
        format!("it takes {bytes} bytes, where its values decoded take at most {most}"),
    )
}

/// The most bytes that an object can have that a codec has made.
fn most_bytes(variable: &Variable) -> Result<u64> {
    let codec = &variable.reader()?.codec;
    let index = codec.shards().and_then(|shards| shards.index_bytes()).unwrap_or(0);
    Ok(decoded_bytes(codec).saturating_mul(2).saturating_add(OVERHEAD_BYTES + index))
}

/// The bytes that an object may have: those of its values, or half of them if they are compressed.
fn likely_bytes(variable: &Variable) -> Result<u64> {
    let codec = &variable.reader()?.codec;
    let decoded = decoded_bytes(codec);
    Ok(if codec.is_raw() { decoded } else { decoded / 2 })
}

/// The bytes of an object's values.
fn decoded_bytes(codec: &ChunkCodec) -> u64 {
    let chunks = codec.shards().map_or(1, |shards| shards.counts().iter().product::<u64>());
    codec.most_bytes().saturating_mul(chunks)
}
