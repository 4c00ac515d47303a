//! How an array is cut into chunks, as its metadata says: what is enough to list it.

use crate::grid::ChunkGrid;

/// The versions of the Zarr format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZarrFormat {
    /// Zarr v2: `.zgroup`, `.zarray`, `.zattrs`.
    V2,
    /// Zarr v3: `zarr.json`.
    V3,
}

/// What an array's metadata says of its layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The number of elements along each dimension.
    pub shape: Vec<u64>,
    /// The shape of the objects in the store: of the shards where the array is sharded. Where they
    /// differ in size, of the largest.
    pub chunks: Vec<u64>,
    /// The shape of the chunks inside a shard.
    pub inner_chunks: Option<Vec<u64>>,
    /// The names of the codecs, in the order of encoding; of the inner ones for shards.
    pub codecs: Vec<String>,
    /// The name of the data type as the metadata spells it.
    pub dtype: String,
    /// The version of the format.
    pub format: ZarrFormat,
    /// The grid of the objects.
    pub(crate) grid: ChunkGrid,
}

impl Layout {
    /// The same without its last dimension, of which there is one chunk. `None` if chunks differ in size.
    pub(crate) fn without_last(&self) -> Option<Self> {
        let (_, shape) = self.shape.split_last()?;
        let (_, chunks) = self.chunks.split_last()?;
        let inner_chunks = match &self.inner_chunks {
            Some(inner) => Some(inner.split_last()?.1.to_vec()),
            None => None,
        };
        Some(Self {
            shape: shape.to_vec(),
            chunks: chunks.to_vec(),
            inner_chunks,
            grid: self.grid.without_last()?,
            ..self.clone()
        })
    }
}
