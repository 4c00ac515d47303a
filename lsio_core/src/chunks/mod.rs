//! Where the bytes of an array's chunks are, apart from how they are decoded.
//!
//! Each format says it by a [`ChunkSource`]: Zarr by the keys of objects and the indices of shards; others by
//! the index of a file, or by a list of references. [`Reads`] is what such a source may read, and remembers
//! what a scan has read of indices.

mod indices;
mod narrowed;
mod reads;

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;

pub use self::reads::Reads;
pub(crate) use self::{
    indices::{Known, KnownIndex, ObjectIndex},
    narrowed::WithoutLast,
    reads::{ArrayObjects, ChunkSize},
};
use crate::{Result, transport::Version};

/// The indices of a chunk in the chunk grid of its array, slowest dimension first.
pub type ChunkIndex = Vec<u64>;

/// Finds the stored bytes of one array's chunks.
#[async_trait]
pub trait ChunkSource: fmt::Debug + Send + Sync {
    /// Locates chunks: one answer for each, in their order. All have the same [`ChunkSource::object`]. What it
    /// takes to know is read here, such as the index of a shard.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store) if reading fails, [`Error::Chunk`](crate::Error::Chunk) if an index
    /// is corrupt; [`Reads`] makes them.
    async fn locate(&self, chunks: &[ChunkIndex], reads: &Reads<'_>) -> Result<Vec<ChunkRef>>;

    /// The name of the place of a chunk in messages, such as its key relative to the array.
    fn name(&self, chunk: &[u64]) -> String;

    /// The indices of the object that must be read to locate a chunk, or that is the chunk: chunks of one object
    /// are located and fetched together. `None` if nothing needs to be read.
    fn object(&self, chunk: &[u64]) -> Option<Vec<u64>> {
        let _ = chunk;
        None
    }

    /// Forgets what was read to locate chunks: an object isn't of the version that was read.
    fn forget(&self, chunks: &[ChunkIndex], reads: &Reads<'_>) {
        let _ = (chunks, reads);
    }
}

/// Where the stored bytes of a chunk are.
#[derive(Clone, Debug)]
pub enum ChunkRef {
    /// Nowhere: all cells have the fill value.
    Missing,
    /// Here.
    Inline(Bytes),
    /// In an object of the array's store.
    Stored(ObjectRange),
}

/// A range of bytes of an object, or all of them.
#[derive(Clone, Debug)]
pub struct ObjectRange {
    /// The object, from the root of the store on.
    pub(crate) path: Path,
    /// All of its bytes, if none; then an object that doesn't exist is a missing chunk.
    pub(crate) range: Option<Range<u64>>,
    /// The version that the range is known of.
    pub(crate) version: Option<Version>,
}

impl ObjectRange {
    /// All bytes of an object. A chunk whose object doesn't exist is missing.
    #[must_use]
    pub fn whole(path: Path) -> Self {
        Self { path, range: None, version: None }
    }

    /// A range of bytes of an object, which must exist.
    #[must_use]
    pub fn new(path: Path, range: Range<u64>) -> Self {
        Self { path, range: Some(range), version: None }
    }
}

/// The chunks of an array, wherever they are.
pub(crate) type Chunks = Arc<dyn ChunkSource>;
