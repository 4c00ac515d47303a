//! Fetches the stored bytes of chunks: the chunk source locates them, then come the objects that hold them.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{ObjectStore, path::Path};

use super::{
    objects::{Ranges, WantedRange, fetch_ranges},
    stored::Stored,
    whole::{WholeObject, fetch_whole},
};
use crate::{
    Result, Variable,
    chunks::{
        ArrayObjects, ChunkIndex, ChunkRef, ChunkSize, ObjectRange, Reads, SharedChunkSource,
    },
    transport::{Counts, Version, as_usize},
    uring::PageCache,
};

/// Decoded bytes of a group of chunks that are located without reading an object.
const GROUP_BYTES: u64 = 4 << 20;

/// Upper bound on the chunks of a group.
const GROUP_CHUNKS: usize = 4096;

/// Chunks among which those of one object are looked for.
const WINDOW_CHUNKS: usize = 1 << 16;

/// Fetches chunks of one variable.
#[derive(Debug)]
pub(crate) struct Fetcher {
    chunks: SharedChunkSource,
    objects: ArrayObjects,
    size: ChunkSize,
}

/// The stored ones of some chunks, in their order. All cells of the others have the fill value.
pub(crate) type FetchedChunks = Vec<(ChunkIndex, Stored)>;

/// Stored bytes of some chunks, in their order; `None` if they are not all of one version of their object.
type OneVersion = Option<Vec<Option<Stored>>>;

impl Fetcher {
    /// # Errors
    /// [`Error::Unreadable`](crate::Error::Unreadable).
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

    /// Number of objects to read concurrently.
    pub(super) fn at_once(&self) -> usize {
        self.objects.at_once()
    }

    /// Divides chunks into groups that are best fetched one by one: the chunks of one object, or neighbours of about
    /// [`GROUP_BYTES`] in total. Few chunks are in memory at a time, whatever their number.
    pub(super) fn groups(
        &self,
        mut chunks: impl Iterator<Item = ChunkIndex>,
    ) -> impl Iterator<Item = Vec<ChunkIndex>> {
        let most = as_usize((GROUP_BYTES / self.size.decoded.max(1)).max(1)).min(GROUP_CHUNKS);
        let mut ready: std::vec::IntoIter<Vec<ChunkIndex>> = Vec::new().into_iter();
        std::iter::from_fn(move || {
            if let Some(group) = ready.next() {
                return Some(group);
            }
            let first = chunks.next()?;
            let window = if self.chunks.object(&first).is_some() { WINDOW_CHUNKS } else { most };
            let rest = chunks.by_ref().take(window - 1);
            let window: Vec<ChunkIndex> = std::iter::once(first).chain(rest).collect();
            ready = self.by_object(window).into_iter();
            ready.next()
        })
    }

    /// Divides chunks into groups for several threads: neighbours of at most `bytes` decoded bytes, or one chunk. The
    /// chunks of one object are one group, unless `cuts_objects`.
    pub(super) fn shares(
        &self,
        chunks: Vec<ChunkIndex>,
        bytes: u64,
        cuts_objects: bool,
    ) -> Vec<Vec<ChunkIndex>> {
        let most = as_usize((bytes / self.size.decoded.max(1)).max(1));
        let mut shares = Vec::new();
        for group in self.by_object(chunks) {
            let is_object = group.first().is_some_and(|first| self.chunks.object(first).is_some());
            if is_object && !cuts_objects {
                shares.push(group);
            } else {
                shares.extend(group.chunks(most).map(<[_]>::to_vec));
            }
        }
        shares
    }

    /// The chunks of each object, and those that are located without reading one.
    fn by_object(&self, chunks: Vec<ChunkIndex>) -> Vec<Vec<ChunkIndex>> {
        let mut objects: BTreeMap<Vec<u64>, Vec<ChunkIndex>> = BTreeMap::new();
        let mut free = Vec::new();
        for chunk in chunks {
            match self.chunks.object(&chunk) {
                Some(object) => objects.entry(object).or_default().push(chunk),
                None => free.push(chunk),
            }
        }
        let free = Some(free).filter(|free| !free.is_empty());
        free.into_iter().chain(objects.into_values()).collect()
    }

    /// Fetches chunks: those of one object with as few requests as possible, several objects concurrently.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store), and [`Error::Chunk`](crate::Error::Chunk) for a corrupt index.
    pub(crate) async fn fetch(&self, chunks: Vec<ChunkIndex>) -> Result<(FetchedChunks, Counts)> {
        let mut groups = self.by_object(chunks);
        if groups.len() <= 1 {
            return match groups.pop() {
                Some(group) => self.fetch_group(group).await,
                None => Ok((Vec::new(), Counts::default())),
            };
        }
        let mut groups = stream::iter(groups)
            .map(|chunks| self.fetch_group(chunks))
            .buffered(self.objects.at_once());
        let mut all = (Vec::new(), Counts::default());
        while let Some((fetched, counts)) = groups.try_next().await? {
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
        let asked = chunks.len();
        let stored = chunks.into_iter().zip(fetched);
        let stored: FetchedChunks =
            stored.filter_map(|(chunk, stored)| Some((chunk, stored?))).collect();
        counts.chunks = stored.len();
        counts.absent = asked - stored.len();
        Ok((stored, counts))
    }

    async fn fetch_version(&self, chunks: &[ChunkIndex], reads: &Reads<'_>) -> Result<OneVersion> {
        let places = self.chunks.locate(chunks, reads).await?;
        self.check(chunks, &places, reads)?;
        let mut fetched = vec![None; chunks.len()];
        let mut whole = Vec::new();
        let mut objects: BTreeMap<Path, (Option<Version>, Vec<WantedRange>)> = BTreeMap::new();
        for (position, place) in places.into_iter().enumerate() {
            match place {
                ChunkRef::Missing => {}
                ChunkRef::Inline(bytes) => fetched[position] = Some(Stored::Bytes(bytes)),
                ChunkRef::Stored(ObjectRange { path, range: None, .. }) => {
                    whole.push(WholeObject { position, path });
                }
                ChunkRef::Stored(ObjectRange { path, range: Some(range), version }) => {
                    let (known, wanted) = objects.entry(path).or_default();
                    *known = version;
                    wanted.push((position, range));
                }
            }
        }
        let source = self.chunks.as_ref();
        if !whole.is_empty() {
            fetch_whole(whole, chunks, source, reads, self.size, &mut fetched).await?;
        }
        let mut objects = stream::iter(objects)
            .map(|(path, (version, wanted))| async move {
                let ranges = Ranges { path: &path, wanted: &wanted, version: version.as_ref() };
                let stored = fetch_ranges(ranges, chunks, source, reads).await?;
                Ok::<_, crate::Error>((wanted, stored))
            })
            .buffer_unordered(self.objects.at_once());
        while let Some((wanted, stored)) = objects.try_next().await? {
            let Some(stored) = stored else { return Ok(None) };
            for ((position, _), stored) in wanted.into_iter().zip(stored) {
                fetched[position] = Some(stored);
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
}
