//! Arithmetic of chunk grids: chunks, regions, and positions in C order.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, MutableArrayData, make_array},
    error::ArrowError,
};

use crate::Selection;

/// A box of cells of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// The first index in each dimension.
    pub start: Vec<u64>,
    /// The number of indices in each dimension.
    pub shape: Vec<u64>,
}

impl Region {
    /// The number of cells.
    #[must_use]
    pub fn cells(&self) -> u64 {
        // Never more cells than the grid, whose number is checked. The checked product lets a size of 0 win over the
        // others.
        checked_product(&self.shape).unwrap_or(u64::MAX)
    }
}

/// A grid of chunks that covers an array. Chunks at the upper edges are cut off.
///
/// Along each dimension, chunks have one size, or sizes in runs. Chunks are numbered in C order and computed from their
/// number: a grid of 10⁸ chunks takes no more memory than a grid of ten.
///
/// ```
/// use lsio_core::grid::ChunkGrid;
///
/// let grid = ChunkGrid::new(vec![5, 4], vec![2, 4]).unwrap();
/// assert_eq!(grid.len(), 3);
/// assert_eq!(grid.region(2).start, [4, 0]);
/// assert_eq!(grid.region(2).shape, [1, 4]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkGrid {
    shape: Vec<u64>,
    /// The size of the largest chunk along each dimension.
    chunk: Vec<u64>,
    edges: Vec<Edges>,
    counts: Vec<u64>,
    len: u64,
}

/// The sizes of the chunks along one dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Edges {
    /// One size for all chunks.
    Regular(u64),
    /// Runs of chunks of one size.
    Runs(Vec<ChunkRun>),
}

/// Consecutive chunks of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRun {
    /// The number of the first chunk.
    chunk: u64,
    /// The first index in the first chunk.
    start: u64,
    size: u64,
    count: u64,
}

impl Edges {
    /// Makes edges of runs: pairs of a chunk size and a number of chunks. `None` if a size is 0, or if the indices
    /// exceed 64 bits.
    pub(crate) fn runs(sizes: impl IntoIterator<Item = (u64, u64)>) -> Option<Self> {
        let mut runs: Vec<ChunkRun> = Vec::new();
        let (mut chunk, mut start) = (0_u64, 0_u64);
        for (size, count) in sizes {
            if size == 0 {
                return None;
            }
            let end = start.checked_add(size.checked_mul(count)?)?;
            match runs.last_mut().filter(|last| last.size == size) {
                Some(last) => last.count += count,
                None if count > 0 => runs.push(ChunkRun { chunk, start, size, count }),
                None => {}
            }
            chunk = chunk.checked_add(count)?;
            start = end;
        }
        Some(match runs.as_slice() {
            [ChunkRun { size, .. }] => Self::Regular(*size),
            _ => Self::Runs(runs),
        })
    }

    /// The size of the largest chunk.
    fn largest(&self) -> u64 {
        match self {
            Self::Regular(size) => *size,
            Self::Runs(runs) => runs.iter().map(|run| run.size).max().unwrap_or(1),
        }
    }

    /// The number of chunks that cover `size` indices. `None` if all chunks together hold fewer.
    fn count(&self, size: u64) -> Option<u64> {
        match self {
            Self::Regular(chunk) => Some(size.div_ceil(*chunk)),
            _ if size == 0 => Some(0),
            Self::Runs(runs) => {
                let last = runs.last()?;
                (last.start + last.size * last.count >= size).then(|| self.chunk_at(size - 1) + 1)
            }
        }
    }

    /// The number of the chunk that holds an index.
    fn chunk_at(&self, index: u64) -> u64 {
        match self {
            Self::Regular(size) => index / size,
            Self::Runs(runs) => {
                let next = runs.partition_point(|run| run.start <= index);
                let run = next.checked_sub(1).and_then(|run| runs.get(run));
                run.map_or(0, |run| run.chunk + (index - run.start) / run.size)
            }
        }
    }

    /// The first index of a chunk, and the number of its indices.
    fn chunk(&self, chunk: u64) -> (u64, u64) {
        match self {
            Self::Regular(size) => (chunk.saturating_mul(*size), *size),
            Self::Runs(runs) => {
                let next = runs.partition_point(|run| run.chunk <= chunk);
                let run = next.checked_sub(1).and_then(|run| runs.get(run));
                run.map_or((0, 0), |run| (run.start + (chunk - run.chunk) * run.size, run.size))
            }
        }
    }
}

impl ChunkGrid {
    /// A grid of chunks of the shape `chunk` over an array of `shape`, both in elements. `None` if the ranks differ, a
    /// chunk is empty, or the number of cells or chunks exceeds 64 bits.
    #[must_use]
    pub fn new(shape: Vec<u64>, chunk: Vec<u64>) -> Option<Self> {
        Self::with_edges(shape, chunk.into_iter().map(Edges::Regular).collect())
    }

    /// A grid of chunks of these sizes. `None` as for [`ChunkGrid::new`], or if the chunks don't cover the array.
    pub(crate) fn with_edges(shape: Vec<u64>, edges: Vec<Edges>) -> Option<Self> {
        if shape.len() != edges.len() || edges.contains(&Edges::Regular(0)) {
            return None;
        }
        checked_product(&shape)?;
        let counts: Vec<u64> = edges
            .iter()
            .zip(&shape)
            .map(|(edges, size)| edges.count(*size))
            .collect::<Option<_>>()?;
        let len = checked_product(&counts)?;
        let chunk = edges.iter().map(Edges::largest).collect();
        Some(Self { shape, chunk, edges, counts, len })
    }

    /// The array's shape.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The shape of the chunks, in elements. Along dimensions where sizes differ, the largest.
    #[must_use]
    pub fn chunk_shape(&self) -> &[u64] {
        &self.chunk
    }

    /// The shape, in elements, of the pieces in which a scan should visit the grid: whole chunks, or along dimensions
    /// where sizes differ much, up to 256 of the smallest chunks.
    #[must_use]
    pub fn piece_shape(&self) -> Vec<u64> {
        /// The most chunks of the smallest size in a piece.
        const SMALL_CHUNKS: u64 = 256;

        let size = |edges: &Edges| match edges {
            Edges::Regular(size) => *size,
            Edges::Runs(runs) => {
                let least = runs.iter().map(|run| run.size).min().unwrap_or(1);
                edges.largest().min(least.saturating_mul(SMALL_CHUNKS))
            }
        };
        self.edges.iter().map(size).collect()
    }

    /// Whether all chunks have one shape.
    #[must_use]
    pub fn is_regular(&self) -> bool {
        self.edges.iter().all(|edges| matches!(edges, Edges::Regular(_)))
    }

    /// The same grid without the last dimension. `None` if the grid has no dimension, or if chunks differ in shape.
    pub(crate) fn without_last(&self) -> Option<Self> {
        let (_, shape) = self.shape().split_last()?;
        let (_, chunk) = self.chunk_shape().split_last()?;
        if self.is_regular() { Self::new(shape.to_vec(), chunk.to_vec()) } else { None }
    }

    /// The number of chunks along each dimension.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Whether every piece of `size` indices along a dimension ends at a chunk boundary. False if chunks differ in
    /// size.
    #[must_use]
    pub fn divides(&self, dim: usize, size: u64) -> bool {
        matches!(self.edges[dim], Edges::Regular(chunk) if size.is_multiple_of(chunk))
    }

    /// The number of chunks.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the array has no cells, and the grid no chunks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The indices in the grid of the chunk of this number.
    #[must_use]
    pub fn indices(&self, number: u64) -> Vec<u64> {
        unravel(number, &self.counts)
    }

    /// The index, along a dimension, of the chunk that holds an array index.
    #[must_use]
    pub fn chunk_at(&self, dim: usize, index: u64) -> u64 {
        self.edges[dim].chunk_at(index)
    }

    /// The range of array indices that a chunk holds along a dimension, including indices beyond the array's edge.
    #[must_use]
    pub fn chunk_range(&self, dim: usize, chunk: u64) -> Range<u64> {
        let (start, size) = self.edges[dim].chunk(chunk);
        start..start.saturating_add(size)
    }

    /// The chunks along a dimension that hold any of the `wanted` indices.
    #[must_use]
    pub fn chunks_of(&self, dim: usize, wanted: &Selection) -> Selection {
        match &self.edges[dim] {
            Edges::Regular(size) => wanted.chunks(*size),
            edges => wanted
                .ranges()
                .map(|range| edges.chunk_at(range.start)..edges.chunk_at(range.end - 1) + 1)
                .collect(),
        }
    }

    /// The shape, in elements, of the chunk at these indices, including cells beyond the array's edges.
    #[must_use]
    pub fn shape_at(&self, indices: &[u64]) -> Vec<u64> {
        self.edges.iter().zip(indices).map(|(edges, index)| edges.chunk(*index).1).collect()
    }

    /// The region of the chunk of this number, cut off at the array's edges.
    #[must_use]
    pub fn region(&self, number: u64) -> Region {
        self.region_at(&self.indices(number))
    }

    /// The region of the chunk at these indices, cut off at the array's edges.
    #[must_use]
    pub fn region_at(&self, indices: &[u64]) -> Region {
        let chunks = self.edges.iter().zip(indices).zip(&self.shape);
        let (start, shape) = chunks
            .map(|((edges, index), size)| {
                let (start, own) = edges.chunk(*index);
                (start, size.saturating_sub(start).min(own))
            })
            .unzip();
        Region { start, shape }
    }
}

/// The product of sizes. `None` if it exceeds 64 bits.
#[must_use]
pub fn checked_product(sizes: &[u64]) -> Option<u64> {
    // A zero makes the product zero, however large the other sizes are.
    if sizes.contains(&0) {
        return Some(0);
    }
    sizes.iter().try_fold(1_u64, |product, &size| product.checked_mul(size))
}

/// The indices of the cell at `position` of a C-ordered array of `shape`.
#[must_use]
pub fn unravel(mut position: u64, shape: &[u64]) -> Vec<u64> {
    let mut indices = vec![0; shape.len()];
    for (index, &size) in indices.iter_mut().zip(shape).rev() {
        *index = position % size.max(1);
        position /= size.max(1);
    }
    indices
}

/// The strides, in cells, of a C-ordered array of `shape`.
#[must_use]
pub fn strides(shape: &[u64]) -> Vec<u64> {
    let mut strides = vec![1_u64; shape.len()];
    for d in (1..shape.len()).rev() {
        // May overflow only for arrays with a size of 0, whose strides are never used.
        strides[d - 1] = strides[d].wrapping_mul(shape[d]);
    }
    strides
}

/// The positions of the values of cells `start..start + len`, in C order over `dims`: pairs of a size and a stride in
/// values.
pub(crate) fn positions(dims: &[(usize, usize)], start: usize, len: usize) -> Vec<u64> {
    let mut at = vec![0; dims.len()];
    let mut rest = start;
    for (d, &(size, _)) in dims.iter().enumerate().rev() {
        at[d] = rest % size;
        rest /= size;
    }
    let mut position: usize = at.iter().zip(dims).map(|(i, (_, stride))| i * stride).sum();
    let mut out = Vec::with_capacity(len);
    for _ in 0..len {
        out.push(position as u64);
        for d in (0..dims.len()).rev() {
            let (size, stride) = dims[d];
            // Counts like an odometer: the innermost dimension turns fastest.
            at[d] += 1;
            position += stride;
            if at[d] < size {
                break;
            }
            position -= size * stride;
            at[d] = 0;
        }
    }
    out
}

/// The values of a C-ordered array of `shape` at which the selections of all dimensions meet, one selection per
/// dimension.
pub(crate) fn select(
    values: &ArrayRef,
    shape: &[u64],
    wanted: &[&Selection],
) -> Result<ArrayRef, ArrowError> {
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let strides = strides(shape);
    // Inner dimensions that are selected as a whole merge with the dimension outside of them.
    let whole = wanted.iter().zip(shape).rev().take_while(|(w, size)| w.len() == **size).count();
    let Some(split) = shape.len().checked_sub(whole + 1) else {
        return Ok(Arc::clone(values));
    };
    let outer: Vec<u64> = wanted[..split].iter().map(|w| w.len()).collect();
    let starts = (0..checked_product(&outer).unwrap_or(0)).map(|row| {
        let indices = unravel(row, &outer).into_iter().zip(wanted).zip(&strides);
        indices.map(|((position, w), stride)| w.nth(position).unwrap_or(0) * stride).sum::<u64>()
    });
    let mut runs = starts.flat_map(|start| {
        let stride = strides[split];
        wanted[split].ranges().map(move |r| start + r.start * stride..start + r.end * stride)
    });
    let cells: u64 = wanted.iter().map(|w| w.len()).product();
    let first = runs.next().unwrap_or(0..0);
    if first.end - first.start == cells {
        return Ok(values.slice(at(first.start), at(cells)));
    }
    let data = values.to_data();
    let mut out = MutableArrayData::new(vec![&data], false, at(cells));
    for run in std::iter::once(first).chain(runs) {
        out.try_extend(0, at(run.start), at(run.end))?;
    }
    Ok(make_array(out.freeze()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_that_do_not_fit() {
        assert_eq!(ChunkGrid::new(vec![1 << 40, 1 << 40], vec![1, 1]), None);
        assert_eq!(ChunkGrid::new(vec![4], vec![0]), None);
        assert_eq!(ChunkGrid::new(vec![4], vec![]), None);
        assert_eq!(ChunkGrid::new(vec![], vec![]).map(|g| g.len()), Some(1));
        assert_eq!(ChunkGrid::new(vec![0, u64::MAX], vec![1, 1]).map(|g| g.len()), Some(0));
    }

    #[test]
    fn sizes_come_in_runs() {
        let edges = Edges::runs([(2, 2), (3, 1), (3, 1 << 40), (1, 0)]).unwrap();
        assert_eq!((edges.chunk_at(3), edges.chunk_at(4), edges.chunk_at(10)), (1, 2, 4));
        assert_eq!((edges.chunk(1), edges.chunk(3)), ((2, 2), (7, 3)));
        assert_eq!(Edges::runs([(2, 2), (0, 1)]), None);
        assert_eq!(Edges::runs([(1 << 40, 1 << 40)]), None);
        assert_eq!(Edges::runs([(1, u64::MAX), (2, 1)]), None);
        assert_eq!(Edges::runs([(4, 2), (4, 1)]), Some(Edges::Regular(4)));
        let short = Edges::runs([(1, 1), (2, 1)]).unwrap();
        assert_eq!(ChunkGrid::with_edges(vec![4], vec![short.clone()]), None);
        let grid = ChunkGrid::with_edges(vec![3], vec![short]).unwrap();
        assert_eq!((grid.len(), grid.chunk_shape(), grid.is_regular()), (2, &[2][..], false));
        let uneven = Edges::runs([(1, 1 << 30), (1 << 30, 1)]).unwrap();
        let grid = ChunkGrid::with_edges(vec![1 << 31], vec![uneven]).unwrap();
        assert_eq!(grid.piece_shape(), [256]);
    }

    proptest! {
        #[test]
        fn chunks_tile_the_array(
            sizes in prop::collection::vec((1_u64..7, prop::collection::vec((1_u64..4, 1_u64..3), 1..4)), 0..4),
        ) {
            let (shape, edges): (Vec<u64>, Vec<Edges>) = sizes
                .into_iter()
                .map(|(size, mut runs)| {
                    // Enough chunks to cover the array.
                    runs.push((2, 4));
                    (size, Edges::runs(runs).unwrap())
                })
                .unzip();
            let cells: u64 = shape.iter().product();
            let grid = ChunkGrid::with_edges(shape.clone(), edges).unwrap();
            let mut seen = vec![0; usize::try_from(cells).unwrap()];
            for number in 0..grid.len() {
                let indices = grid.indices(number);
                let region = grid.region(number);
                for dim in 0..shape.len() {
                    let range = grid.chunk_range(dim, indices[dim]);
                    prop_assert_eq!(region.start[dim], range.start);
                    prop_assert_eq!(grid.shape_at(&indices)[dim], range.end - range.start);
                    prop_assert!(range.end - range.start <= grid.chunk_shape()[dim]);
                    let own = std::iter::once(range.start..range.end.min(shape[dim])).collect();
                    prop_assert_eq!(grid.chunks_of(dim, &own).ranges().collect::<Vec<_>>(), vec![indices[dim]..indices[dim] + 1]);
                }
                for cell in 0..region.cells() {
                    let at: u64 = unravel(cell, &region.shape)
                        .iter()
                        .zip(&region.start)
                        .zip(strides(&shape))
                        .map(|((i, s), stride)| (i + s) * stride)
                        .sum();
                    seen[usize::try_from(at).unwrap()] += 1;
                }
            }
            prop_assert!(seen.iter().all(|&n| n == 1));
        }
    }
}
