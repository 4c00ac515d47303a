//! A part of a variable: the chunks that hold it, and how they are put together.

use std::{
    borrow::Cow,
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use arrow::{
    array::{Array as _, ArrayRef},
    buffer::{BooleanBuffer, Buffer},
    compute::interleave,
};
use bytes::Bytes;

use super::stored::Stored;
use crate::{
    Error, Recycled, Recycler, Result, Selection, Variable,
    chunks::ChunkIndex,
    dataset::{
        ElementLayout, StoredValues,
        gather::{Axis, Gather, add_items, is_aligned, repeat},
        lost::Lost,
        nan_to_null,
    },
    grid::Region,
};

/// Cells of a variable where selections of its dimensions meet.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    variable: &'a Variable,
    /// The variable's dimensions in the order of the result.
    axes: Cow<'a, [usize]>,
    /// Wanted indices along each axis.
    wanted: Vec<Selection>,
}

impl<'a> Part<'a> {
    /// Part at the indices `wanted` along the dimensions `axes`, in their order.
    pub(crate) fn new(variable: &'a Variable, axes: &'a [usize], wanted: Vec<Selection>) -> Self {
        Self { variable, axes: Cow::Borrowed(axes), wanted }
    }

    /// Part within a region, in the variable's own order of dimensions.
    pub(crate) fn of(variable: &'a Variable, region: &Region) -> Self {
        let ranges = region.start.iter().zip(&region.shape);
        let wanted: Vec<Selection> =
            ranges.map(|(&start, &size)| std::iter::once(start..start + size).collect()).collect();
        Self { variable, axes: Cow::Owned((0..wanted.len()).collect()), wanted }
    }

    /// Number of cells.
    pub(crate) fn cells(&self) -> usize {
        let cells = self.wanted.iter().map(Selection::len).fold(1, u64::saturating_mul);
        usize::try_from(cells).unwrap_or(usize::MAX)
    }

    /// Whether there is no cell.
    pub(crate) fn is_empty(&self) -> bool {
        self.wanted.iter().any(Selection::is_empty)
    }

    /// Number of chunks that hold wanted cells.
    pub(crate) fn count_chunks(&self) -> usize {
        let count = self.chunks_along().iter().map(Selection::len).fold(1, u64::saturating_mul);
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Decoded bytes of all chunks in the box around the cells.
    pub(crate) fn chunk_bytes(&self) -> usize {
        let grid = self.variable.chunk_grid();
        let along = self.axes.iter().zip(self.chunks_along()).map(|(&axis, chunks)| {
            let Range { start, end } = chunks.bounds();
            let last = grid.chunk_range(axis, end.saturating_sub(1)).end;
            last.saturating_sub(grid.chunk_range(axis, start).start)
        });
        let bytes = along.fold(self.variable.value_bytes(), u64::saturating_mul);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Of each axis of the variable, the chunks that hold wanted indices.
    pub(super) fn chunks_by_axis(&self) -> Vec<Selection> {
        let mut by_axis = vec![Selection::default(); self.axes.len()];
        for (&axis, chunks) in self.axes.iter().zip(self.chunks_along()) {
            by_axis[axis] = chunks;
        }
        by_axis
    }

    /// Of each dimension, the chunks that hold wanted indices.
    fn chunks_along(&self) -> Vec<Selection> {
        let grid = self.variable.chunk_grid();
        self.axes.iter().zip(&self.wanted).map(|(&axis, w)| grid.chunks_of(axis, w)).collect()
    }

    /// Indices of the chunks that hold wanted cells, in the order of the result. They are computed one by one.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = ChunkIndex> + use<> {
        let along = self.chunks_along();
        let axes = self.axes.to_vec();
        let mut positions = vec![0; along.len()];
        let mut chunk = vec![0; along.len()];
        for (along, &axis) in along.iter().zip(&axes) {
            chunk[axis] = along.bounds().start;
        }
        let mut rest = along.iter().map(Selection::len).fold(1, u64::saturating_mul);
        std::iter::from_fn(move || {
            rest = rest.checked_sub(1)?;
            let this = chunk.clone();
            // Counts like an odometer: the last dimension turns fastest.
            for dim in (0..along.len()).rev() {
                positions[dim] += 1;
                let next = along[dim].nth(positions[dim]);
                chunk[axes[dim]] = next.unwrap_or(along[dim].bounds().start);
                if next.is_some() {
                    break;
                }
                positions[dim] = 0;
            }
            Some(this)
        })
    }

    /// Decodes all cells of a chunk to values as stored, before the CF conventions.
    ///
    /// # Errors
    /// [`Error::Chunk`] if the bytes are corrupt.
    pub(crate) fn decode(
        &self,
        chunk: &[u64],
        encoded: &Bytes,
        recycler: &Arc<Recycler>,
    ) -> Result<StoredValues> {
        let reader = self.variable.reader()?;
        reader
            .codec
            .decode(chunk, encoded, recycler)
            .map_err(|reason| self.variable.broken_chunk(chunk, reason))
    }

    /// Like [`Part::decode`], from bytes in memory or in the page cache.
    ///
    /// # Errors
    /// Those of [`Part::decode`], and [`Error::Chunk`] if the bytes can't be read any more.
    pub(crate) fn decode_stored(
        &self,
        chunk: &[u64],
        stored: &Stored,
        recycler: &Arc<Recycler>,
    ) -> Result<StoredValues> {
        let bytes = stored.bytes(recycler);
        self.decode(chunk, &bytes.map_err(|r| self.variable.broken_chunk(chunk, r))?, recycler)
    }

    fn failed(&self, reason: String) -> Error {
        Error::Decode { array: self.variable.path(), reason }
    }

    pub(super) fn gather_from(&self, chunk: &[u64], storage: &ElementLayout) -> Gather {
        let grid = self.variable.chunk_grid();
        let axes: Vec<Axis<'_>> = self
            .axes
            .iter()
            .zip(&self.wanted)
            .map(|(&axis, wanted)| Axis {
                axis,
                wanted,
                start: grid.chunk_range(axis, chunk[axis]).start,
            })
            .collect();
        Gather::new(&grid.shape_at(chunk), storage, &axes)
    }
}

/// A part under construction, filled a chunk at a time.
pub(crate) struct Assembly<'a> {
    part: &'a Part<'a>,
    /// Layout of a chunk's decoded bytes; for elements of variable length, their order.
    storage: ElementLayout,
    fill: &'a [u8],
    recycler: &'a Arc<Recycler>,
    target: AssemblyTarget,
}

enum AssemblyTarget {
    Nothing,
    /// A chunk that is exactly the part.
    Chunk(Buffer),
    Bytes(Recycled),
    /// Elements of variable length.
    Items {
        /// The first is the fill value.
        sources: Vec<ArrayRef>,
        /// For each cell, the index of its source and the index in the source.
        places: Vec<(usize, usize)>,
    },
}

impl<'a> Assembly<'a> {
    pub(crate) fn new(part: &'a Part<'a>, recycler: &'a Arc<Recycler>) -> Result<Self> {
        let codec = &part.variable.reader()?.codec;
        let target = if codec.has_items() {
            let fill = codec.fill_item().map_err(|reason| part.failed(reason))?;
            AssemblyTarget::Items { sources: vec![fill], places: vec![(0, 0); part.cells()] }
        } else {
            AssemblyTarget::Nothing
        };
        Ok(Self { part, storage: codec.storage(), fill: codec.fill(), recycler, target })
    }

    /// Where the part's memory comes from.
    pub(super) fn recycler(&self) -> &'a Arc<Recycler> {
        self.recycler
    }

    /// Gives all cells the fill value, before only some of the chunks are added.
    pub(super) fn fill(&mut self) {
        if matches!(self.target, AssemblyTarget::Items { .. }) {
            return;
        }
        let len = self.part.cells().saturating_mul(self.storage.width);
        let mut target = self.recycler.take(len);
        repeat(self.fill, &mut target);
        self.target = AssemblyTarget::Bytes(target);
    }

    /// Copies a chunk's cells to their places. `None` is a chunk that isn't stored: its cells have the fill value.
    pub(crate) fn add(&mut self, chunk: &[u64], stored: Option<StoredValues>) {
        let storage = &self.storage;
        let gather = self.part.gather_from(chunk, storage);
        if let AssemblyTarget::Items { sources, places } = &mut self.target {
            if let Some(StoredValues::Items(items)) = stored {
                add_items(sources, places, items, &gather);
            }
            return;
        }
        let len = self.part.cells().saturating_mul(storage.width);
        if let (AssemblyTarget::Nothing, Some(StoredValues::Fixed(source))) =
            (&self.target, &stored)
            && gather.is_identity(source.len(), len)
            && is_aligned(source, storage.width)
        {
            self.target = AssemblyTarget::Chunk(source.clone());
            return;
        }
        if !matches!(self.target, AssemblyTarget::Bytes(_)) {
            self.target = AssemblyTarget::Bytes(self.recycler.take(len));
        }
        let AssemblyTarget::Bytes(target) = &mut self.target else { return };
        match stored {
            Some(StoredValues::Fixed(source)) => gather.copy(&source, target),
            _ => gather.fill(self.fill, target),
        }
    }

    /// Decodes the values by the CF conventions.
    ///
    /// # Errors
    /// [`Error::Decode`] if a value has no meaning.
    pub(crate) fn finish(self) -> Result<ArrayRef> {
        let only_finds_nan = self.part.variable.reader()?.decoding.only_finds_nan();
        Ok(nan_to_null(self.finish_but_nan()?, only_finds_nan))
    }

    /// The values as they are stored, before the CF conventions.
    ///
    /// # Errors
    /// [`Error::Decode`] if arrow can't gather them.
    pub(super) fn finish_stored(self) -> Result<StoredValues> {
        Ok(match self.target {
            AssemblyTarget::Chunk(buffer) => StoredValues::Fixed(buffer),
            AssemblyTarget::Bytes(bytes) => StoredValues::Fixed(bytes.freeze()),
            AssemblyTarget::Nothing => StoredValues::Fixed(Buffer::default()),
            AssemblyTarget::Items { sources, places } => {
                let sources: Vec<_> = sources.iter().map(AsRef::as_ref).collect();
                let items = interleave(&sources, &places);
                StoredValues::Items(items.map_err(|e| self.part.failed(e.to_string()))?)
            }
        })
    }

    /// Like [`Assembly::finish`], but leaves NaN in place where the CF conventions only make NaN NULL.
    ///
    /// # Errors
    /// Those of [`Assembly::finish`].
    pub(super) fn finish_but_nan(self) -> Result<ArrayRef> {
        let (part, recycler) = (self.part, self.recycler);
        let failed = |reason| part.failed(reason);
        let stored = self.finish_stored()?;
        let reader = part.variable.reader()?;
        let mut lost = Lost::default();
        let values = reader.decoding.apply(stored, recycler, &mut lost).map_err(failed)?;
        if let Some(example) = lost.example
            && !reader.has_lost.swap(true, Ordering::Relaxed)
        {
            log::warn!(
                "'{}': {} of {} values are NULL, since they are out of the range of times \
                 ({example} is the first); decode_times=false gives numbers as they are",
                part.variable.name(),
                lost.count,
                values.len(),
            );
        }
        Ok(values)
    }
}

/// Whether a chunk holds a cell of a wanted row. The rows are those of `block`; its dimensions `dims` are the
/// variable's dimensions `axes`.
pub(super) fn holds_wanted_row(
    variable: &Variable,
    chunk: &[u64],
    (dims, axes): (&[usize], &[usize]),
    block: &[Selection],
    rows: &BooleanBuffer,
) -> bool {
    let grid = variable.chunk_grid();
    let mut start = vec![0; block.len()];
    let mut shape: Vec<u64> = block.iter().map(|selection| selection.bounds().end).collect();
    for (&dim, &axis) in dims.iter().zip(axes) {
        let own = grid.chunk_range(axis, chunk[axis]);
        start[dim] = own.start;
        shape[dim] = own.end - own.start;
    }
    let axes: Vec<Axis<'_>> = (0..block.len())
        .map(|axis| Axis { axis, wanted: &block[axis], start: start[axis] })
        .collect();
    let mut found = false;
    Gather::new(&shape, &ElementLayout::native(block.len(), 1), &axes).target_runs(|first, len| {
        found = found || rows.slice(first, len).count_set_bits() > 0;
    });
    found
}
