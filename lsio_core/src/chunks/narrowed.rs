//! The chunk source of an array without its last dimension.

use async_trait::async_trait;

use super::{ChunkIndex, ChunkRef, ChunkSource, Reads, SharedChunkSource};
use crate::Result;

/// Locates chunks in the source of an array that has one more dimension, which holds one chunk.
#[derive(Debug)]
pub(crate) struct WithoutLast(pub(crate) SharedChunkSource);

impl WithoutLast {
    fn whole(chunk: &[u64]) -> ChunkIndex {
        [chunk, &[0]].concat()
    }

    fn all(chunks: &[ChunkIndex]) -> Vec<ChunkIndex> {
        chunks.iter().map(|chunk| Self::whole(chunk)).collect()
    }
}

#[async_trait]
impl ChunkSource for WithoutLast {
    async fn locate(&self, chunks: &[ChunkIndex], reads: &Reads<'_>) -> Result<Vec<ChunkRef>> {
        self.0.locate(&Self::all(chunks), reads).await
    }

    fn name(&self, chunk: &[u64]) -> String {
        self.0.name(&Self::whole(chunk))
    }

    fn object(&self, chunk: &[u64]) -> Option<Vec<u64>> {
        self.0.object(&Self::whole(chunk))
    }

    fn forget(&self, chunks: &[ChunkIndex], reads: &Reads<'_>) {
        self.0.forget(&Self::all(chunks), reads);
    }
}
