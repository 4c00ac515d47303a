//! Locations of the chunks of a Zarr array: each chunk in an object of its own, or in shards.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::path::Path;

use super::keys::Keys;
use crate::{
    Error, Result,
    chunks::{
        ChunkIndex, ChunkRef, ChunkSource, Known, KnownIndex, ObjectIndex, ObjectRange, Reads,
    },
    dataset::shard::ShardLayout,
    transport::{Expected, Failure, Object, Version, as_usize},
};

/// Chunks that are objects, with keys made of their indices.
#[derive(Debug)]
pub(super) struct KeyedChunks(pub(super) Keys);

#[async_trait]
impl ChunkSource for KeyedChunks {
    async fn locate(&self, chunks: &[ChunkIndex], reads: &Reads<'_>) -> Result<Vec<ChunkRef>> {
        let whole = |chunk: &ChunkIndex| {
            let key = self.0.key(chunk);
            let path = reads.path(&key).map_err(|reason| reads.broken(chunk, &key, reason))?;
            Ok(ChunkRef::Stored(ObjectRange::whole(path)))
        };
        chunks.iter().map(whole).collect()
    }

    fn name(&self, chunk: &[u64]) -> String {
        self.0.key(chunk)
    }
}

/// Chunks in shards, each with an index at its beginning or end (`sharding_indexed`, version 1.0).
#[derive(Debug)]
pub(super) struct ShardedChunks {
    pub(super) keys: Keys,
    pub(super) shards: ShardLayout,
}

/// A shard to read, and the chunk to name in messages about the shard.
struct Shard<'a> {
    indices: Vec<u64>,
    path: Path,
    key: String,
    chunk: &'a [u64],
    reads: &'a Reads<'a>,
}

impl ShardedChunks {
    fn indices(&self, chunk: &[u64]) -> Vec<u64> {
        // A count is at least one: every shard has chunks.
        chunk.iter().zip(self.shards.counts()).map(|(index, count)| index / count).collect()
    }

    /// Size of a shard's index in bytes.
    fn index_bytes(&self) -> u64 {
        self.shards.index_bytes().unwrap_or(0)
    }

    fn count(&self) -> u64 {
        self.shards.counts().iter().product()
    }

    /// Locates all chunks of a shard, where all are wanted: one request reads the chunks with the index.
    async fn whole(&self, shard: &Shard<'_>, chunks: &[ChunkIndex]) -> Result<Vec<ChunkRef>> {
        let read = shard.reads.object(&shard.path, self.count(), self.index_bytes()).await;
        let read = read.map_err(|failure| self.failed(shard, failure))?;
        let Some(bytes) = read else {
            shard.reads.note_absent(&shard.path).await;
            return Ok(vec![ChunkRef::Missing; chunks.len()]);
        };
        let index = self.shards.index_in(&bytes);
        let index = index.and_then(|index| self.shards.parse(index, bytes.len() as u64));
        let index = index.map_err(|reason| shard.broken(reason))?;
        // The index was checked against the object's size, so the ranges are within the object.
        let chunk = |chunk: &ChunkIndex| match index.range(self.shards.number(chunk)) {
            Some(range) => {
                ChunkRef::Inline(bytes.slice(as_usize(range.start)..as_usize(range.end)))
            }
            None => ChunkRef::Missing,
        };
        Ok(chunks.iter().map(chunk).collect())
    }

    /// Index of a shard. It is read once, however many callers ask.
    async fn index(&self, shard: &Shard<'_>) -> Result<Arc<KnownIndex>> {
        let cell = shard.reads.index(&shard.indices, self.index_bytes());
        cell.get_or_try_init(|| async {
            let bytes = self.index_bytes();
            let expected = Expected { likely: bytes, most: bytes };
            let read = shard.reads.get(&shard.path, self.shards.index_range(), expected).await;
            let read = read.map_err(|failure| self.failed(shard, failure))?;
            let Some(Object { bytes, version }) = read else { return Ok(None) };
            self.check_size(shard, version.size)?;
            let index = self.shards.parse(&bytes, version.size);
            let index = index.map_err(|reason| shard.broken(reason))?;
            Ok(Some(Known { index: Arc::new(index), version: Some(version) }))
        })
        .await?;
        Ok(cell)
    }

    /// Index of a shard that may be in the page cache, if the index was read already or is in the page cache too.
    fn cached_index(&self, shard: &Shard<'_>) -> Result<Option<Arc<ObjectIndex>>> {
        let Some(file) = shard.reads.cached(&shard.path) else { return Ok(None) };
        let cell = shard.reads.index(&shard.indices, self.index_bytes());
        if let Some(known) = cell.get() {
            // The shard was missing when its index was read.
            return Ok(known.as_ref().map(|known| Arc::clone(&known.index)));
        }
        self.check_size(shard, file.len())?;
        let range = self.shards.index_range().as_range(file.len());
        let range = range.map_err(|error| shard.broken(error.to_string()))?;
        if !file.is_cached(&range) {
            return Ok(None);
        }
        let mut bytes = vec![0; as_usize(range.end - range.start)];
        let read = file.read_at(range.start, &mut bytes);
        read.map_err(|error| shard.broken(format!("it can't be read: {error}")))?;
        shard.reads.count_cached(bytes.len());
        let index = self.shards.parse(&bytes, file.len());
        let index = Arc::new(index.map_err(|reason| shard.broken(reason))?);
        // Another task may have read the index meanwhile: then its index is kept.
        let _ = cell.set(Some(Known { index: Arc::clone(&index), version: None }));
        Ok(Some(index))
    }

    /// Fails if a shard is larger than the codecs could have made it.
    fn check_size(&self, shard: &Shard<'_>, bytes: u64) -> Result<()> {
        let most = shard.reads.most(self.count()).saturating_add(self.index_bytes());
        if bytes <= most { Ok(()) } else { Err(self.failed(shard, Failure::TooLarge(bytes))) }
    }

    fn failed(&self, shard: &Shard<'_>, failure: Failure) -> Error {
        match failure {
            Failure::TooLarge(bytes) => {
                shard.reads.too_large(shard.chunk, &shard.key, bytes, self.count())
            }
            failure => shard.reads.failed(shard.chunk, &shard.key, failure),
        }
    }

    /// Ranges of chunks in their shard.
    fn ranges(
        &self,
        shard: &Shard<'_>,
        index: &ObjectIndex,
        version: Option<&Version>,
        chunks: &[ChunkIndex],
    ) -> Vec<ChunkRef> {
        let range = |chunk: &ChunkIndex| match index.range(self.shards.number(chunk)) {
            Some(range) => ChunkRef::Stored(ObjectRange {
                path: shard.path.clone(),
                range: Some(range),
                version: version.cloned(),
            }),
            None => ChunkRef::Missing,
        };
        chunks.iter().map(range).collect()
    }
}

impl Shard<'_> {
    fn broken(&self, reason: String) -> Error {
        self.reads.broken(self.chunk, &self.key, reason)
    }
}

#[async_trait]
impl ChunkSource for ShardedChunks {
    async fn locate(&self, chunks: &[ChunkIndex], reads: &Reads<'_>) -> Result<Vec<ChunkRef>> {
        let Some(first) = chunks.first() else { return Ok(Vec::new()) };
        let indices = self.indices(first);
        let key = self.keys.key(&indices);
        let path = reads.path(&key).map_err(|reason| reads.broken(first, &key, reason))?;
        if reads.lacks(&path) {
            return Ok(vec![ChunkRef::Missing; chunks.len()]);
        }
        let shard = Shard { indices, path, key, chunk: first, reads };
        if let Some(index) = self.cached_index(&shard)? {
            return Ok(self.ranges(&shard, &index, None, chunks));
        }
        if chunks.len() as u64 == self.count() {
            return self.whole(&shard, chunks).await;
        }
        let known = self.index(&shard).await?;
        match known.get().and_then(Option::as_ref) {
            Some(known) => Ok(self.ranges(&shard, &known.index, known.version.as_ref(), chunks)),
            None => {
                reads.note_absent(&shard.path).await;
                Ok(vec![ChunkRef::Missing; chunks.len()])
            }
        }
    }

    fn name(&self, chunk: &[u64]) -> String {
        self.keys.key(&self.indices(chunk))
    }

    fn object(&self, chunk: &[u64]) -> Option<Vec<u64>> {
        Some(self.indices(chunk))
    }

    fn forget(&self, chunks: &[ChunkIndex], reads: &Reads<'_>) {
        if let Some(first) = chunks.first() {
            reads.forget_index(&self.indices(first));
        }
    }
}
