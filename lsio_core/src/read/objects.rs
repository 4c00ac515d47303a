//! Fetches ranges of one object: chunks that share it.

use std::ops::Range;

use bytes::Bytes;
use object_store::path::Path;

use super::stored::{CachedChunk, Stored};
use crate::{
    Result,
    chunks::{ChunkIndex, ChunkSource, Reads},
    transport::{Failure, Version, as_usize},
};

/// Range wanted of an object, with the chunk's position in its group.
pub(super) type WantedRange = (usize, Range<u64>);

/// Ranges wanted of one object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranges<'a> {
    pub(super) path: &'a Path,
    pub(super) wanted: &'a [WantedRange],
    /// Version of the object for which the ranges are valid.
    pub(super) version: Option<&'a Version>,
}

/// Fetches the wanted ranges of one object, in their order. `None` if the object has another version by now.
///
/// # Errors
/// [`Error::Store`](crate::Error::Store), and [`Error::Chunk`](crate::Error::Chunk) if a range is too large.
pub(super) async fn fetch_ranges(
    Ranges { path, wanted, version }: Ranges<'_>,
    chunks: &[ChunkIndex],
    source: &dyn ChunkSource,
    reads: &Reads<'_>,
) -> Result<Option<Vec<Stored>>> {
    let chunk_of = |position: usize| chunks.get(position).map_or(&[][..], Vec::as_slice);
    let first = wanted.first().map_or(&[][..], |(position, _)| chunk_of(*position));
    for (position, range) in wanted {
        let bytes = range.end.saturating_sub(range.start);
        if bytes > reads.most(1) {
            let chunk = chunk_of(*position);
            return Err(reads.too_large(chunk, &source.name(chunk), bytes, 1));
        }
    }
    if let Some(cached) = cached(path, wanted, reads) {
        return Ok(Some(cached));
    }
    let mut ranges: Vec<Range<u64>> = wanted.iter().map(|(_, range)| range.clone()).collect();
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    // Adjacent ranges are one range; chunks may share bytes.
    ranges.dedup_by(|next, last| {
        let touches = next.start <= last.end;
        if touches {
            last.end = last.end.max(next.end);
        }
        touches
    });
    let parts: Vec<Bytes> = match reads.ranges(path, &ranges, version).await {
        Ok(parts) => parts,
        Err(Failure::Changed) => return Ok(None),
        Err(failure) => return Err(reads.failed(first, &source.name(first), failure)),
    };
    let bytes = |(_, range): &WantedRange| {
        let part = ranges.partition_point(|other| other.start <= range.start).saturating_sub(1);
        let start = as_usize(range.start - ranges[part].start);
        let end = start + as_usize(range.end - range.start);
        match parts.get(part).filter(|part| end <= part.len()) {
            Some(part) => Ok(Stored::Bytes(part.slice(start..end))),
            None => Err(reads.broken(
                first,
                &source.name(first),
                "the store gave fewer bytes than it was asked for".to_owned(),
            )),
        }
    };
    wanted.iter().map(bytes).collect::<Result<_>>().map(Some)
}

/// Wanted ranges of one object, if all of them are in the page cache.
fn cached(path: &Path, wanted: &[WantedRange], reads: &Reads<'_>) -> Option<Vec<Stored>> {
    let file = reads.cached(path)?;
    if !wanted.iter().all(|(_, range)| file.is_cached(range)) {
        return None;
    }
    let chunks = wanted.iter().map(|(_, range)| {
        let chunk = CachedChunk { file: file.clone(), range: range.clone() };
        reads.count_cached(chunk.len());
        Stored::Cached(chunk)
    });
    Some(chunks.collect())
}
