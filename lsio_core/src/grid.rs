//! Chunk-grid arithmetic: regular grids, regions in them, and positions in C order.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, MutableArrayData, make_array},
    error::ArrowError,
};

use crate::Selection;

/// A box of indices: where it starts in each dimension, and how far it extends.
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
        // Never more than a grid's, which is checked; but a size of 0 must win over all others.
        checked_product(&self.shape).unwrap_or(u64::MAX)
    }
}

/// A grid of boxes of one shape that covers an array; those at the upper edges are cut off.
///
/// Boxes are numbered in C order, and computed from their number: a grid of 10⁸ boxes costs what a
/// grid of ten costs.
///
/// ```
/// use lsio_core::grid::RegularGrid;
///
/// let grid = RegularGrid::new(vec![5, 4], vec![2, 4]).unwrap();
/// assert_eq!(grid.len(), 3);
/// assert_eq!(grid.region(2).start, [4, 0]);
/// assert_eq!(grid.region(2).shape, [1, 4]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegularGrid {
    shape: Vec<u64>,
    chunk: Vec<u64>,
    counts: Vec<u64>,
    len: u64,
}

impl RegularGrid {
    /// A grid of boxes of the shape `chunk` over an array of `shape`. `None` if the ranks differ, a
    /// box is empty, or the numbers of cells or boxes don't fit 64 bits.
    #[must_use]
    pub fn new(shape: Vec<u64>, chunk: Vec<u64>) -> Option<Self> {
        if shape.len() != chunk.len() || chunk.contains(&0) {
            return None;
        }
        checked_product(&shape)?;
        let counts: Vec<u64> = shape.iter().zip(&chunk).map(|(s, c)| s.div_ceil(*c)).collect();
        let len = checked_product(&counts)?;
        Some(Self { shape, chunk, counts, len })
    }

    /// The array's shape.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The shape of the boxes.
    #[must_use]
    pub fn chunk_shape(&self) -> &[u64] {
        &self.chunk
    }

    /// The number of boxes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the array has no cells.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The indices of a box in the grid, from its number.
    #[must_use]
    pub fn indices(&self, number: u64) -> Vec<u64> {
        unravel(number, &self.counts)
    }

    /// The box of this number, cut off at the array's edges.
    #[must_use]
    pub fn region(&self, number: u64) -> Region {
        self.region_at(&self.indices(number))
    }

    /// The box at these indices, cut off at the array's edges.
    #[must_use]
    pub fn region_at(&self, indices: &[u64]) -> Region {
        let start: Vec<u64> = indices.iter().zip(&self.chunk).map(|(i, c)| i * c).collect();
        let shape = start
            .iter()
            .zip(&self.chunk)
            .zip(&self.shape)
            .map(|((start, chunk), size)| size.saturating_sub(*start).min(*chunk))
            .collect();
        Region { start, shape }
    }
}

/// The product, or `None` if it doesn't fit.
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

/// The distances, in cells, between neighbours along each dimension of a C-ordered array.
#[must_use]
pub fn strides(shape: &[u64]) -> Vec<u64> {
    let mut strides = vec![1_u64; shape.len()];
    for d in (1..shape.len()).rev() {
        // Of an array with a size of 0 no stride is ever used.
        strides[d - 1] = strides[d].wrapping_mul(shape[d]);
    }
    strides
}

/// Where the values of cells `start..start + len` lie, in C order over dimensions that are given by
/// their sizes and the distances between neighbours in the values.
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
            // An odometer: the innermost dimension turns fastest.
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

/// The part of a C-ordered array of `shape` at which selections of its dimensions meet.
pub(crate) fn select(
    values: &ArrayRef,
    shape: &[u64],
    wanted: &[&Selection],
) -> Result<ArrayRef, ArrowError> {
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let strides = strides(shape);
    // Whole inner dimensions are one with the one around them.
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
        assert_eq!(RegularGrid::new(vec![1 << 40, 1 << 40], vec![1, 1]), None);
        assert_eq!(RegularGrid::new(vec![4], vec![0]), None);
        assert_eq!(RegularGrid::new(vec![4], vec![]), None);
        assert_eq!(RegularGrid::new(vec![], vec![]).map(|g| g.len()), Some(1));
        assert_eq!(RegularGrid::new(vec![0, u64::MAX], vec![1, 1]).map(|g| g.len()), Some(0));
    }

    proptest! {
        #[test]
        fn boxes_tile_the_array(sizes in prop::collection::vec((1_u64..7, 1_u64..5), 0..4)) {
            let (shape, chunk): (Vec<u64>, Vec<u64>) = sizes.into_iter().unzip();
            let cells: u64 = shape.iter().product();
            let grid = RegularGrid::new(shape.clone(), chunk).unwrap();
            let mut seen = vec![0; usize::try_from(cells).unwrap()];
            for number in 0..grid.len() {
                let region = grid.region(number);
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
