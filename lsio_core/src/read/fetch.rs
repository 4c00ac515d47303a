//! Fetches the stored bytes of chunks: the chunk source locates them, one fetch per object.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{ObjectStore, path::Path};

use crate::{
    Error, Recycler, Result, Variable,
    chunks::{
        ArrayObjects, ChunkIndex, ChunkRef, ChunkSize, ObjectRange, Reads, SharedChunkSource,
    },
    transport::{Counts, Failure, Version, as_usize},
    uring::{CachedFile, PageCache},
};

/// Upper bound in decoded bytes of a group of chunks that are located without reading an object.
const GROUP_BYTES: u64 = 64 << 20;

/// Fetches chunks of one variable.
#[derive(Debug)]
pub(crate) struct Fetcher {
    chunks: SharedChunkSource,
    objects: ArrayObjects,
    size: ChunkSize,
}

/// Chunks with their stored bytes; `None` for a chunk that isn't stored.
pub(crate) type FetchedChunks = Vec<(Vec<u64>, Option<Stored>)>;

/// Stored bytes of a chunk, or their range in the page cache.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    Bytes(Bytes),
    Cached(CachedChunk),
}

/// A range of a file that is in the page cache.
#[derive(Clone, Debug)]
pub(crate) struct CachedChunk {
    file: CachedFile,
    range: Range<u64>,
}

impl Stored {
    /// Reads the bytes.
    ///
    /// # Errors
    /// A text, if the bytes can't be read any more.
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
    /// Length in bytes.
    pub(super) fn len(&self) -> usize {
        as_usize(self.range.end - self.range.start)
    }

    /// Fills `buffer` with bytes from `offset` in the chunk on.
    ///
    /// # Errors
    /// A text with the operating system's reason.
    pub(super) fn read_at(&self, offset: usize, buffer: &mut [u8]) -> Result<(), String> {
        let read = self.file.read_at(self.range.start + offset as u64, buffer);
        read.map_err(|error| format!("it can't be read: {error}"))
    }
}

/// Stored bytes of some chunks, in their order; `None` if they are not all of one version of their object.
type OneVersion = Option<Vec<Option<Stored>>>;

/// Range wanted of an object, with the chunk's position in its group. Without a range, the whole object.
type WantedRange = (usize, Option<Range<u64>>);

impl Fetcher {
    /// # Errors
    /// [`Error::Unreadable`].
    pub(crate) fn new(variable: &Variable) -> Result<Self> {
        let reader = variable.reader()?;
        variable.log_warnings();
        let size = ChunkSize { decoded: reader.codec.most_bytes(), is_raw: reader.codec.is_raw() };
        let objects = ArrayObjects::new(variable.location(), size);
        Ok(Self { chunks: Arc::clone(&reader.chunks), objects, size })
    }

    /// Reads from another object store with the same objects.
    pub(super) fn with_store(self, store: Arc<dyn ObjectStore>) -> Self {
        Self { objects: self.objects.with_store(store), ..self }
    }

    /// Leaves objects that are in the page cache there: the decoder reads them.
    pub(super) fn with_page_cache(self, page_cache: Option<PageCache>) -> Self {
        Self { objects: self.objects.with_page_cache(page_cache), ..self }
    }

    /// Divides the chunks into groups that are best fetched one by one: the chunks of one object, or neighbours of at
    /// most [`GROUP_BYTES`] in total.
    pub(super) fn groups(&self, chunks: Vec<ChunkIndex>) -> Vec<Vec<ChunkIndex>> {
        self.groups_of(chunks, GROUP_BYTES, false)
    }

    /// Divides the chunks into groups of neighbours of at most `bytes` decoded bytes, or of one chunk. The chunks of one
    /// object are one group, unless `cuts_objects`.
    pub(super) fn groups_of(
        &self,
        chunks: Vec<ChunkIndex>,
        bytes: u64,
        cuts_objects: bool,
    ) -> Vec<Vec<ChunkIndex>> {
        let most = as_usize((bytes / self.size.decoded.max(1)).max(1));
        let mut groups = Vec::new();
        for (object, chunks) in self.by_object(chunks) {
            match object {
                Some(_) if !cuts_objects => groups.push(chunks),
                _ => groups.extend(chunks.chunks(most).map(<[_]>::to_vec)),
            }
        }
        groups
    }

    /// Number of objects that one fetch reads concurrently.
    pub(super) fn at_once(&self) -> usize {
        self.objects.at_once()
    }

    fn by_object(&self, chunks: Vec<ChunkIndex>) -> BTreeMap<Option<Vec<u64>>, Vec<ChunkIndex>> {
        let mut objects: BTreeMap<_, Vec<ChunkIndex>> = BTreeMap::new();
        for chunk in chunks {
            objects.entry(self.chunks.object(&chunk)).or_default().push(chunk);
        }
        objects
    }

    /// Fetches chunks: those of one object with as few requests as possible, several objects concurrently.
    ///
    /// # Errors
    /// [`Error::Store`], and [`Error::Chunk`] for a corrupt index.
    pub(crate) async fn fetch(&self, chunks: Vec<ChunkIndex>) -> Result<(FetchedChunks, Counts)> {
        let groups: Vec<(FetchedChunks, Counts)> =
            stream::iter(self.by_object(chunks).into_values())
                .map(|chunks| self.fetch_group(chunks))
                .buffered(self.objects.at_once())
                .try_collect()
                .await?;
        let mut all = (Vec::new(), Counts::default());
        for (fetched, counts) in groups {
            all.0.extend(fetched);
            all.1 += counts;
        }
        Ok(all)
    }

    async fn fetch_group(&self, chunks: Vec<ChunkIndex>) -> Result<(FetchedChunks, Counts)> {
        let reads = Reads::new(&self.objects);
        let mut fetched = self.fetch_version(&chunks, &reads).await?;
        if fetched.is_none() {
            // The index was of another version. The new version is complete, or the object changes again.
            self.chunks.forget(&chunks, &reads);
            fetched = self.fetch_version(&chunks, &reads).await?;
        }
        let Some(fetched) = fetched else {
            let first = chunks.first().map_or(&[][..], Vec::as_slice);
            return Err(reads.changes(first, &self.chunks.name(first)));
        };
        let mut counts = *reads.counts();
        counts.chunks = fetched.iter().filter(|stored| stored.is_some()).count();
        counts.absent = fetched.len() - counts.chunks;
        Ok((chunks.into_iter().zip(fetched).collect(), counts))
    }

    async fn fetch_version(&self, chunks: &[ChunkIndex], reads: &Reads<'_>) -> Result<OneVersion> {
        let places = self.chunks.locate(chunks, reads).await?;
        self.check(chunks, &places, reads)?;
        let mut fetched = vec![None; chunks.len()];
        let mut objects: BTreeMap<Path, (Option<Version>, Vec<WantedRange>)> = BTreeMap::new();
        for (position, place) in places.into_iter().enumerate() {
            match place {
                ChunkRef::Missing => {}
                ChunkRef::Inline(bytes) => fetched[position] = Some(Stored::Bytes(bytes)),
                ChunkRef::Stored(ObjectRange { path, range, version }) => {
                    let (known, wanted) = objects.entry(path).or_default();
                    *known = version;
                    wanted.push((position, range));
                }
            }
        }
        let mut objects = stream::iter(objects)
            .map(|(path, (version, wanted))| async move {
                let stored = self.fetch_object(chunks, &path, &wanted, version, reads).await?;
                Ok::<_, Error>((wanted, stored))
            })
            .buffered(self.objects.at_once());
        while let Some((wanted, stored)) = objects.try_next().await? {
            let Some(stored) = stored else { return Ok(None) };
            for ((position, _), stored) in wanted.into_iter().zip(stored) {
                fetched[position] = stored;
            }
        }
        Ok(Some(fetched))
    }

    /// Checks the answer of a chunk source, which may be a program's own.
    fn check(&self, chunks: &[ChunkIndex], places: &[ChunkRef], reads: &Reads<'_>) -> Result<()> {
        let broken =
            |chunk: &[u64], reason| Err(reads.broken(chunk, &self.chunks.name(chunk), reason));
        if places.len() != chunks.len() {
            let first = chunks.first().map_or(&[][..], Vec::as_slice);
            let (located, asked) = (places.len(), chunks.len());
            return broken(
                first,
                format!("its format locates {located} chunks instead of {asked}"),
            );
        }
        for (chunk, place) in chunks.iter().zip(places) {
            if let ChunkRef::Stored(ObjectRange { range: Some(range), .. }) = place
                && range.start > range.end
            {
                return broken(chunk, format!("its bytes {range:?} end before they begin"));
            }
        }
        Ok(())
    }

    /// Fetches the wanted ranges of one object.
    async fn fetch_object(
        &self,
        chunks: &[ChunkIndex],
        path: &Path,
        wanted: &[WantedRange],
        version: Option<Version>,
        reads: &Reads<'_>,
    ) -> Result<OneVersion> {
        let first = wanted.first().and_then(|(position, _)| chunks.get(*position));
        let first = first.map_or(&[][..], Vec::as_slice);
        if let Some(cached) = cached(first, &self.chunks, path, wanted, reads)? {
            return Ok(Some(cached));
        }
        let failed = |failure| match failure {
            Failure::Changed => Ok(None),
            failure => Err(reads.failed(first, &self.chunks.name(first), failure)),
        };
        let mut ranges: Vec<Range<u64>> = Vec::with_capacity(wanted.len());
        for (position, range) in wanted {
            let Some(range) = range else { continue };
            let bytes = range.end.saturating_sub(range.start);
            if bytes > reads.most(1) {
                let chunk = chunks.get(*position).map_or(first, Vec::as_slice);
                return Err(reads.too_large(chunk, &self.chunks.name(chunk), bytes, 1));
            }
            ranges.push(range.clone());
        }
        let whole = if ranges.len() < wanted.len() {
            match reads.object(path, 1, 0).await {
                Ok(bytes) => bytes,
                Err(failure) => return failed(failure),
            }
        } else {
            None
        };
        ranges.sort_unstable_by_key(|range| (range.start, range.end));
        // Adjacent ranges are one range; chunks may share bytes.
        ranges.dedup_by(|next, last| {
            let touches = next.start <= last.end;
            if touches {
                last.end = last.end.max(next.end);
            }
            touches
        });
        let parts = if ranges.is_empty() {
            Vec::new()
        } else {
            match reads.ranges(path, &ranges, version.as_ref()).await {
                Ok(parts) => parts,
                Err(failure) => return failed(failure),
            }
        };
        let bytes = |(_, range): &WantedRange| {
            let Some(range) = range else { return Ok(whole.clone().map(Stored::Bytes)) };
            let part = ranges.partition_point(|other| other.start <= range.start).saturating_sub(1);
            let start = as_usize(range.start - ranges[part].start);
            let end = start + as_usize(range.end - range.start);
            match parts.get(part).filter(|part| end <= part.len()) {
                Some(part) => Ok(Some(Stored::Bytes(part.slice(start..end)))),
                None => Err(reads.broken(
                    first,
                    &self.chunks.name(first),
                    "the store gave fewer bytes than it was asked for".to_owned(),
                )),
            }
        };
        wanted.iter().map(bytes).collect::<Result<_>>().map(Some)
    }
}

/// Wanted ranges of one object, if all of them are in the page cache.
fn cached(
    chunk: &[u64],
    chunks: &SharedChunkSource,
    path: &Path,
    wanted: &[WantedRange],
    reads: &Reads<'_>,
) -> Result<Option<Vec<Option<Stored>>>> {
    let Some(file) = reads.cached(path) else { return Ok(None) };
    let mut cached = Vec::with_capacity(wanted.len());
    for (_, range) in wanted {
        let range = range.clone().unwrap_or(0..file.len());
        let bytes = range.end.saturating_sub(range.start);
        if bytes > reads.most(1) {
            return Err(reads.too_large(chunk, &chunks.name(chunk), bytes, 1));
        }
        if !file.is_cached(&range) {
            return Ok(None);
        }
        cached.push(CachedChunk { file: file.clone(), range });
    }
    cached.iter().for_each(|chunk| reads.count_cached(chunk.len()));
    let cached = cached.into_iter().map(|chunk| Some(Stored::Cached(chunk))).collect();
    Ok(Some(cached))
}
