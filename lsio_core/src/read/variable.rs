//! Reads one variable, without a table.

use std::sync::Arc;

use arrow::array::{ArrayRef, new_empty_array};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    fetch::Fetcher,
    part::{Assembly, Part},
};
use crate::{Error, Recycler, Result, Selection, Variable, grid::Region};

/// Number of groups of chunks of one variable that [`Variable::read`] reads concurrently.
const CONCURRENT_READS: usize = 16;

impl Variable {
    /// Fetches the stored bytes of a chunk; `None` if it isn't stored.
    ///
    /// # Errors
    /// [`Error::Unreadable`], [`Error::Store`], and [`Error::OutOfBounds`] if the grid has no such chunk.
    pub async fn fetch_chunk(&self, chunk: &[u64]) -> Result<Option<Bytes>> {
        self.check_chunk(chunk)?;
        let (mut fetched, _) = Fetcher::new(self)?.fetch(vec![chunk.to_vec()]).await?;
        let Some((_, stored)) = fetched.pop() else { return Ok(None) };
        stored.bytes(&Arc::default()).map(Some).map_err(|reason| self.broken_chunk(chunk, reason))
    }

    /// Decodes a chunk to its values in C order, without cells beyond the array's edges. `None` is a chunk that isn't
    /// stored: all its cells have the fill value. The values may use memory of the recycler.
    ///
    /// # Errors
    /// [`Error::Chunk`] if the bytes are corrupt, [`Error::Decode`] if a value has no meaning,
    /// [`Error::OutOfBounds`] if the grid has no such chunk.
    pub fn decode_chunk(
        &self,
        chunk: &[u64],
        encoded: Option<&Bytes>,
        recycler: &Arc<Recycler>,
    ) -> Result<ArrayRef> {
        self.check_chunk(chunk)?;
        let region = self.chunk_grid().region_at(chunk);
        let part = Part::of(self, &region);
        let stored = encoded.map(|encoded| part.decode(chunk, encoded, recycler)).transpose()?;
        let mut assembly = Assembly::new(&part, recycler)?;
        assembly.add(chunk, stored);
        assembly.finish()
    }

    /// Reads a region, in C order. Chunks are fetched concurrently, each once.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] if the region has another rank than the array, or exceeds the array's bounds; else those
    /// of [`Variable::fetch_chunk`] and [`Variable::decode_chunk`].
    pub async fn read(&self, region: &Region) -> Result<ArrayRef> {
        let fits = region.start.len() == region.shape.len()
            && region.shape.len() == self.dims().len()
            && region.start.iter().zip(&region.shape).zip(self.shape()).all(
                |((start, size), whole)| start.checked_add(*size).is_some_and(|end| end <= *whole),
            );
        if !fits {
            let asked = format!("region of shape {:?} at {:?}", region.shape, region.start);
            return Err(self.out_of_bounds(asked));
        }
        self.read_part(&Part::of(self, region)).await
    }

    /// Reads the cells where selections of all dimensions meet, in C order. The result's shape is the lengths of the
    /// selections. Chunks without such a cell aren't fetched.
    ///
    /// # Errors
    /// Those of [`Variable::read`].
    pub async fn read_selected(&self, wanted: &[Selection]) -> Result<ArrayRef> {
        let fits = wanted.len() == self.dims().len()
            && wanted.iter().zip(self.shape()).all(|(own, size)| own.bounds().end <= *size);
        if !fits {
            let bounds: Vec<_> = wanted.iter().map(Selection::bounds).collect();
            return Err(self.out_of_bounds(format!("selection of indices in {bounds:?}")));
        }
        let axes: Vec<usize> = (0..wanted.len()).collect();
        self.read_part(&Part::new(self, &axes, wanted.to_vec())).await
    }

    /// Reads some of the values. All of them must be within the array.
    ///
    /// # Errors
    /// Those of [`Variable::read`].
    pub(crate) async fn read_part(&self, part: &Part<'_>) -> Result<ArrayRef> {
        let fetcher = Fetcher::new(self)?;
        if part.is_empty() {
            return Ok(new_empty_array(self.data_type()));
        }
        let recycler = Arc::default();
        let mut assembly = Assembly::new(part, &recycler)?;
        // The chunks of one object together, several objects concurrently.
        let mut fetched = stream::iter(fetcher.groups(part.chunks()))
            .map(|chunks| fetcher.fetch(chunks))
            .buffer_unordered(CONCURRENT_READS);
        let is_one = part.count_chunks() == 1;
        if !is_one {
            assembly.fill();
        }
        while let Some((chunks, _)) = fetched.try_next().await? {
            if is_one && chunks.is_empty() {
                assembly.fill();
            }
            // One decoded chunk at a time, to bound the memory.
            for (chunk, stored) in chunks {
                let stored = part.decode_stored(&chunk, &stored, &recycler)?;
                assembly.add(&chunk, Some(stored));
            }
        }
        assembly.finish()
    }

    /// Reads all values, in C order.
    ///
    /// # Errors
    /// Those of [`Variable::read`].
    pub async fn read_all(&self) -> Result<ArrayRef> {
        let shape = self.shape().to_vec();
        self.read(&Region { start: vec![0; shape.len()], shape }).await
    }

    /// # Errors
    /// [`Error::OutOfBounds`] if the grid has no chunk at these indices.
    fn check_chunk(&self, chunk: &[u64]) -> Result<()> {
        let counts = self.chunk_grid().counts();
        if chunk.len() == counts.len() && chunk.iter().zip(counts).all(|(at, count)| at < count) {
            return Ok(());
        }
        Err(Error::OutOfBounds {
            array: self.path(),
            asked: format!("chunk {chunk:?}"),
            has: format!("a grid of {counts:?} chunks"),
        })
    }

    fn out_of_bounds(&self, asked: String) -> Error {
        Error::OutOfBounds {
            array: self.path(),
            asked,
            has: format!("of shape {:?}", self.shape()),
        }
    }
}
