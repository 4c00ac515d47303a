//! The layout of an array by its metadata: enough to list the array, not to read it.

use crate::grid::ChunkGrid;

/// The versions of the Zarr format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZarrFormat {
    /// Zarr v2: `.zgroup`, `.zarray`, `.zattrs`.
    V2,
    /// Zarr v3: `zarr.json`.
    V3,
}

/// An array's shape, chunks, codecs and data type, as its metadata state them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The number of elements along each dimension.
    pub shape: Vec<u64>,
    /// The shape of an object in the store, in elements: of a shard if the array is sharded. Along dimensions where
    /// sizes differ, the largest.
    pub chunks: Vec<u64>,
    /// The shape of the chunks inside a shard, in elements. `None` if the array isn't sharded.
    pub inner_chunks: Option<Vec<u64>>,
    /// The names of the codecs, in the order of encoding. For sharded arrays, of the inner chunks' codecs.
    pub codecs: Vec<String>,
    /// The name of the data type, spelled as in the metadata.
    pub dtype: String,
    /// The version of the Zarr format.
    pub format: ZarrFormat,
    /// The grid of the objects in the store.
    pub(crate) grid: ChunkGrid,
}

impl Layout {
    /// The same without the last dimension, which must hold one chunk. `None` if chunks differ in shape.
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
