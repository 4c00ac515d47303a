//! The location of the bytes of an array's chunks, independent of their decoding.
//!
//! Each format has a [`ChunkSource`]: Zarr computes the keys of objects and reads the indices of shards; other formats
//! read the index of a file or a list of references. A source reads through [`Reads`], which keeps the indices that a
//! scan has read.

mod indices;
mod listed;
mod narrowed;
mod reads;

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;

pub use self::reads::Reads;
pub(crate) use self::{
    indices::{Known, KnownIndex, ObjectIndex},
    listed::Names,
    narrowed::WithoutLast,
    reads::{ArrayObjects, ChunkSize},
};
use crate::{Result, transport::Version};

/// The indices of a chunk in the chunk grid of its array, slowest dimension first.
pub type ChunkIndex = Vec<u64>;

/// Finds the stored bytes of one array's chunks.
#[async_trait]
pub trait ChunkSource: fmt::Debug + Send + Sync {
    /// Locates chunks that share one [`ChunkSource::object`]: one [`ChunkRef`] per chunk, in the order of `chunks`.
    /// Reads the index that it needs, such as that of a shard.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store) if reading fails, [`Error::Chunk`](crate::Error::Chunk) if an index is
    /// corrupt. [`Reads`] makes both errors.
    async fn locate(&self, chunks: &[ChunkIndex], reads: &Reads<'_>) -> Result<Vec<ChunkRef>>;

    /// The name of a chunk's place in messages, such as its key relative to the array.
    fn name(&self, chunk: &[u64]) -> String;

    /// The indices of the object that holds a chunk, or that must be read to locate the chunk. Chunks of one object are
    /// located and fetched together. `None` if no read is needed to locate the chunk.
    fn object(&self, chunk: &[u64]) -> Option<Vec<u64>> {
        let _ = chunk;
        None
    }

    /// Forgets the indices that located these chunks, because an object has another version than its index.
    fn forget(&self, chunks: &[ChunkIndex], reads: &Reads<'_>) {
        let _ = (chunks, reads);
    }
}

/// The location of a chunk's stored bytes.
#[derive(Clone, Debug)]
pub enum ChunkRef {
    /// Not stored: all cells have the fill value.
    Missing,
    /// The bytes themselves.
    Inline(Bytes),
    /// In an object of the array's store.
    Stored(ObjectRange),
}

/// A byte range of an object, or the whole object.
#[derive(Clone, Debug)]
pub struct ObjectRange {
    /// The path of the object, from the root of the store.
    pub(crate) path: Path,
    /// The byte range. `None` for the whole object, whose absence means a missing chunk.
    pub(crate) range: Option<Range<u64>>,
    /// The version of the object for which the range is valid.
    pub(crate) version: Option<Version>,
}

impl ObjectRange {
    /// The whole object. If the object doesn't exist, the chunk is missing.
    #[must_use]
    pub fn whole(path: Path) -> Self {
        Self { path, range: None, version: None }
    }

    /// A byte range of an object, which must exist.
    #[must_use]
    pub fn new(path: Path, range: Range<u64>) -> Self {
        Self { path, range: Some(range), version: None }
    }
}

/// The shared chunk source of an array.
pub(crate) type SharedChunkSource = Arc<dyn ChunkSource>;
