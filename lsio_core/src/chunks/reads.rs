//! Reads of objects and indices for one array.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use object_store::{GetRange, ObjectStore, path::Path};

use super::{
    indices::{Indices, KnownIndex},
    listed::{ListedDirectories, Names},
};
use crate::{
    Error, Location, Result,
    location::join,
    store_error::is_missing,
    transport::{Counts, Expected, Failure, Object, Transfer, Version, What},
    uring::{CachedFile, PageCache, SmallFile},
};

/// The bytes that an object may have beyond twice its decoded size. Codecs add little to data that they can't compress.
const OVERHEAD_BYTES: u64 = 1 << 20;

/// The number of attempts to read an object that changes during the read.
const TRIES: usize = 2;

/// The objects of one array, as one scan reads them.
#[derive(Debug)]
pub(crate) struct ArrayObjects {
    /// The name of the array in messages.
    array: String,
    /// The path of the array in its store.
    base: Path,
    transfer: Transfer,
    /// The page cache, which is tried before the store.
    page_cache: Option<PageCache>,
    indices: Indices,
    /// Of arrays in the local file system, the directories that lack many chunks.
    listed: Option<ListedDirectories>,
    chunk: ChunkSize,
}

/// The size of a chunk of an array.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkSize {
    /// Upper bound in bytes of a chunk, decoded or in an intermediate buffer.
    pub(crate) decoded: u64,
    /// Whether chunks are stored without any codec.
    pub(crate) is_raw: bool,
}

/// The reads of one array's objects for one call, with counts of requests and bytes.
#[derive(Debug)]
pub struct Reads<'a> {
    objects: &'a ArrayObjects,
    counts: Mutex<Counts>,
}

impl ArrayObjects {
    pub(crate) fn new(location: &Location, chunk: ChunkSize) -> Self {
        Self {
            array: location.name().to_owned(),
            base: location.path().clone(),
            transfer: location.transfer(What::Chunks),
            page_cache: location.page_cache().cloned(),
            indices: Indices::default(),
            listed: location.root().map(|root| ListedDirectories::new(root, location.path())),
            chunk,
        }
    }

    /// Reads from another object store, which must hold the same objects.
    pub(crate) fn with_store(self, store: Arc<dyn ObjectStore>) -> Self {
        let transfer = Transfer::new(store, Arc::clone(self.transfer.link()), What::Chunks);
        Self { transfer, ..self }
    }

    /// Looks for objects in the page cache first. Objects found there stay there until they are decoded.
    pub(crate) fn with_page_cache(self, page_cache: Option<PageCache>) -> Self {
        Self { page_cache, ..self }
    }

    /// The number of objects that one call reads concurrently.
    pub(crate) fn at_once(&self) -> usize {
        self.transfer.link().objects()
    }
}

impl<'a> Reads<'a> {
    pub(crate) fn new(objects: &'a ArrayObjects) -> Self {
        Self { objects, counts: Mutex::default() }
    }

    /// The path of an object, from a key relative to the array.
    ///
    /// # Errors
    /// A message, if the key isn't a valid path.
    pub fn path(&self, key: &str) -> Result<Path, String> {
        join(&self.objects.base, key)
    }

    /// Reads a byte range of an object, such as an index. `None` if the object doesn't exist.
    ///
    /// # Errors
    /// [`Error::Store`] if the read fails, [`Error::Chunk`] if the object keeps changing or is too large.
    pub async fn range(&self, path: &Path, range: Range<u64>) -> Result<Option<Bytes>> {
        let bytes = range.end.saturating_sub(range.start);
        let expected = Expected { likely: bytes, most: bytes };
        match self.get(path, GetRange::Bounded(range), expected).await {
            Ok(object) => Ok(object.map(|object| object.bytes)),
            Err(failure) => Err(self.failed(&[], path.as_ref(), failure)),
        }
    }

    /// The number of objects to read concurrently.
    pub(crate) fn at_once(&self) -> usize {
        self.objects.at_once()
    }

    /// Makes an error that says what is wrong with a chunk. `name` is the chunk's place, such as its key.
    #[must_use]
    pub fn broken(&self, chunk: &[u64], name: &str, reason: String) -> Error {
        let (chunk, key) = (chunk.to_vec(), name.to_owned());
        Error::Chunk { array: self.objects.array.clone(), chunk, key, reason }
    }

    /// Makes the error for a failed read of an object.
    pub(crate) fn failed(&self, chunk: &[u64], name: &str, failure: Failure) -> Error {
        match failure {
            Failure::Store(source) => {
                Error::Store { key: format!("{}/{name}", self.objects.array), source }
            }
            Failure::Changed => self.changes(chunk, name),
            Failure::TooLarge(bytes) => self.too_large(chunk, name, bytes, 1),
        }
    }

    /// Makes the error for an object that keeps changing while it is read.
    pub(crate) fn changes(&self, chunk: &[u64], name: &str) -> Error {
        let reason = "it changes while it is read; is the store being written to?";
        self.broken(chunk, name, reason.to_owned())
    }

    /// Makes the error for an object of `bytes` bytes, which is larger than any encoding of its `chunks` chunks.
    pub(crate) fn too_large(&self, chunk: &[u64], name: &str, bytes: u64, chunks: u64) -> Error {
        let most = self.objects.chunk.decoded.saturating_mul(chunks);
        self.broken(
            chunk,
            name,
            format!("it takes {bytes} bytes, where its values decoded take at most {most}"),
        )
    }

    /// Upper bound in bytes of an object of `chunks` stored chunks, without its index.
    pub(crate) fn most(&self, chunks: u64) -> u64 {
        let decoded = self.objects.chunk.decoded.saturating_mul(chunks);
        decoded.saturating_mul(2).saturating_add(OVERHEAD_BYTES)
    }

    /// Reads a whole object, which holds `chunks` chunks and up to `more` bytes beyond them, such as an index. `None`
    /// if the object doesn't exist.
    ///
    /// # Errors
    /// The failure of the read.
    pub(crate) async fn object(
        &self,
        path: &Path,
        chunks: u64,
        more: u64,
    ) -> Result<Option<Bytes>, Failure> {
        let decoded = self.objects.chunk.decoded.saturating_mul(chunks);
        // Compression typically halves the size.
        let likely = if self.objects.chunk.is_raw { decoded } else { decoded / 2 };
        let expected = Expected { likely, most: self.most(chunks).saturating_add(more) };
        let mut tries = 0;
        loop {
            tries += 1;
            let mut counts = Counts::default();
            let read = self.objects.transfer.object(path, expected, &mut counts).await;
            *self.counts() += counts;
            match read {
                Ok(object) => return Ok(Some(object.bytes)),
                Err(Failure::Store(source)) if is_missing(&source) => return Ok(None),
                Err(Failure::Changed) if tries < TRIES => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Reads one byte range of an object. `None` if the object doesn't exist.
    ///
    /// # Errors
    /// The failure of the read.
    pub(crate) async fn get(
        &self,
        path: &Path,
        range: GetRange,
        expected: Expected,
    ) -> Result<Option<Object>, Failure> {
        let mut counts = Counts::default();
        let read = self.objects.transfer.range(path, range, expected, &mut counts).await;
        *self.counts() += counts;
        match read {
            Ok(object) => Ok(Some(object)),
            Err(Failure::Store(source)) if is_missing(&source) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Reads byte ranges of an object, which must be sorted and disjoint, with requests that suit the storage: near
    /// ranges are merged, large ranges are split.
    ///
    /// # Errors
    /// The failure of a read.
    pub(crate) async fn ranges(
        &self,
        path: &Path,
        ranges: &[Range<u64>],
        version: Option<&Version>,
    ) -> Result<Vec<Bytes>, Failure> {
        let mut counts = Counts::default();
        let read = self.objects.transfer.ranges(path, ranges, version, &mut counts).await;
        *self.counts() += counts;
        read
    }

    /// Opens an object for reads from the page cache. `None` if it can't be opened without waiting.
    pub(crate) fn cached(&self, path: &Path) -> Option<CachedFile> {
        self.objects.page_cache.as_ref()?.open(path)
    }

    /// Reads a whole object of less than `buffer`'s bytes, if the page cache has all of it.
    pub(crate) fn small(&self, path: &Path, buffer: &mut [u8]) -> SmallFile {
        let page_cache = self.objects.page_cache.as_ref();
        page_cache.map_or(SmallFile::Unknown, |cache| cache.read_small(path, buffer))
    }

    /// The names of the objects in a directory, if they are known.
    pub(crate) fn names(&self, directory: &str) -> Option<Arc<Names>> {
        self.objects.listed.as_ref()?.names(directory)
    }

    /// Whether an object is known not to exist.
    pub(crate) fn lacks(&self, path: &Path) -> bool {
        self.objects.listed.as_ref().is_some_and(|listed| listed.lacks(path))
    }

    /// Notes that an object doesn't exist.
    pub(crate) async fn note_absent(&self, path: &Path) {
        if let Some(listed) = &self.objects.listed {
            listed.note_absent(path).await;
        }
    }

    /// Counts a read from the page cache, of `bytes` bytes.
    pub(crate) fn count_cached(&self, bytes: usize) {
        let mut counts = self.counts();
        counts.requests += 1;
        counts.bytes += bytes;
    }

    /// The index of an object, possibly not read yet. An index takes `bytes` bytes.
    pub(crate) fn index(&self, object: &[u64], bytes: u64) -> Arc<KnownIndex> {
        self.objects.indices.of(object, bytes)
    }

    /// Forgets the index of an object.
    pub(crate) fn forget_index(&self, object: &[u64]) {
        self.objects.indices.forget(object);
    }

    /// The requests and bytes of the reads so far.
    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
