//! Fetches whole objects: chunks that have one each.
//!
//! There may be many, and most may not exist. What the page cache tells at once is asked first, one after the other; the
//! rest is fetched concurrently.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;

use super::stored::{CachedChunk, Stored};
use crate::{
    Result,
    chunks::{ChunkIndex, ChunkSize, ChunkSource, Names, Reads},
    transport::{Counts, as_usize},
    uring::SmallFile,
};

/// Upper bound in decoded bytes of chunks that are copied from the page cache at once. The decoder copies larger ones
/// itself, a piece at a time.
const SMALL_BYTES: u64 = 16 << 10;

/// Bytes that a small object may have beyond its decoded size.
const MORE_BYTES: u64 = 4 << 10;

/// Objects that are asked for before other tasks have their turn.
const TURN: usize = 64;

/// An object that is a chunk.
#[derive(Debug)]
pub(super) struct WholeObject {
    /// The chunk's position in its group.
    pub(super) position: usize,
    pub(super) path: Path,
}

/// Fetches objects into the places of their chunks. The places of objects that don't exist stay empty.
///
/// # Errors
/// [`Error::Store`](crate::Error::Store), and [`Error::Chunk`](crate::Error::Chunk) if an object is too large.
pub(super) async fn fetch_whole(
    mut objects: Vec<WholeObject>,
    chunks: &[ChunkIndex],
    source: &dyn ChunkSource,
    reads: &Reads<'_>,
    size: ChunkSize,
    fetched: &mut [Option<Stored>],
) -> Result<()> {
    if size.decoded <= SMALL_BYTES {
        objects = take_small(objects, reads, size, fetched).await;
    }
    let mut objects = stream::iter(objects)
        .map(|WholeObject { position, path }| async move {
            let chunk = chunks.get(position).map_or(&[][..], Vec::as_slice);
            Ok::<_, crate::Error>((position, fetch_one(chunk, &path, source, reads).await?))
        })
        .buffer_unordered(reads.at_once());
    while let Some((position, stored)) = objects.try_next().await? {
        fetched[position] = stored;
    }
    Ok(())
}

/// Copies the objects that the page cache has. Returns those of which nothing is known yet.
async fn take_small(
    objects: Vec<WholeObject>,
    reads: &Reads<'_>,
    size: ChunkSize,
    fetched: &mut [Option<Stored>],
) -> Vec<WholeObject> {
    let mut buffer = vec![0; as_usize(size.decoded + MORE_BYTES)];
    let mut rest = Vec::new();
    let mut near = Near::default();
    let mut counts = Counts::default();
    for (number, WholeObject { position, path }) in objects.into_iter().enumerate() {
        if number % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
        if near.lacks(&path, reads) {
            continue;
        }
        match reads.small(&path, &mut buffer) {
            SmallFile::Read(len) => {
                counts.requests += 1;
                counts.bytes += len;
                let bytes = bytes::Bytes::copy_from_slice(&buffer[..len]);
                fetched[position] = Some(Stored::Bytes(bytes));
            }
            SmallFile::Absent => {
                counts.requests += 1;
                reads.note_absent(&path).await;
                near.forget();
            }
            SmallFile::Unknown => rest.push(WholeObject { position, path }),
        }
    }
    *reads.counts() += counts;
    rest
}

/// The names in the directory of the last object: those of neighbours are mostly there too.
#[derive(Default)]
struct Near {
    directory: String,
    names: Option<std::sync::Arc<Names>>,
    is_known: bool,
}

impl Near {
    /// Whether an object is known not to exist.
    fn lacks(&mut self, path: &Path, reads: &Reads<'_>) -> bool {
        let Some((directory, name)) = path.as_ref().rsplit_once('/') else { return false };
        if !self.is_known || self.directory != directory {
            self.names = reads.names(directory);
            directory.clone_into(&mut self.directory);
            self.is_known = true;
        }
        self.names.as_ref().is_some_and(|names| !names.may_have(name))
    }

    /// Looks again at the next object.
    fn forget(&mut self) {
        self.is_known = false;
    }
}

/// Fetches one object; `None` if it doesn't exist.
async fn fetch_one(
    chunk: &[u64],
    path: &Path,
    source: &dyn ChunkSource,
    reads: &Reads<'_>,
) -> Result<Option<Stored>> {
    if reads.lacks(path) {
        return Ok(None);
    }
    if let Some(file) = reads.cached(path) {
        let range = 0..file.len();
        if range.end > reads.most(1) {
            return Err(reads.too_large(chunk, &source.name(chunk), range.end, 1));
        }
        if file.is_cached(&range) {
            let cached = CachedChunk { file, range };
            reads.count_cached(cached.len());
            return Ok(Some(Stored::Cached(cached)));
        }
    }
    match reads.object(path, 1, 0).await {
        Ok(Some(bytes)) => Ok(Some(Stored::Bytes(bytes))),
        Ok(None) => {
            reads.note_absent(path).await;
            Ok(None)
        }
        Err(failure) => Err(reads.failed(chunk, &source.name(chunk), failure)),
    }
}
