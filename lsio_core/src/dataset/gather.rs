//! Copies the selected cells of a chunk to their places in the destination: one pass selects, reorders dimensions and
//! swaps bytes to native order.

use std::ops::Range;

use arrow::array::{Array as _, ArrayRef};

use super::chain::ElementLayout;
use crate::Selection;

/// The side, in cells, of the blocks in which dimensions are transposed: two blocks of doubles fit the first-level
/// cache.
const BLOCK: usize = 32;

/// The selected cells of a chunk, and their places in the destination.
#[derive(Debug)]
pub(crate) struct Gather {
    /// The dimensions of the destination, slowest first, without dimensions of one index.
    dims: Vec<Dim>,
    /// The positions, in cells, of the first selected cell in the chunk and in the destination.
    start: (usize, usize),
    width: usize,
    swap: usize,
}

/// The cells along one dimension: distances between neighbours in cells, and runs of indices.
#[derive(Clone, Debug)]
struct Dim {
    source: usize,
    target: usize,
    runs: Vec<CellRun>,
}

/// Consecutive indices: the first in the chunk, the first in the destination, and their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CellRun {
    pub(crate) source: usize,
    pub(crate) target: usize,
    pub(crate) len: usize,
}

/// One dimension of a destination with strides of its own, slowest first.
#[derive(Debug)]
pub(crate) struct StridedAxis {
    /// The dimension's position in the chunk's own order.
    pub(crate) axis: usize,
    /// The first index in the chunk, from which the runs count.
    pub(crate) first: usize,
    /// The distance of neighbours in the chunk, in indices.
    pub(crate) step: usize,
    /// The distance of neighbours in the destination, in cells.
    pub(crate) stride: usize,
    /// Runs in steps from `first`, and in indices of the destination.
    pub(crate) runs: Vec<CellRun>,
}

/// Where cells are copied to, in units of `W` bytes.
pub(crate) trait Destination<const W: usize> {
    /// A unit. `None` if it is outside.
    fn unit(&mut self, at: usize) -> Option<&mut [u8; W]>;

    /// Units side by side. `None` if one is outside.
    fn units(&mut self, range: Range<usize>) -> Option<&mut [[u8; W]]>;
}

impl<const W: usize> Destination<W> for &mut [[u8; W]] {
    fn unit(&mut self, at: usize) -> Option<&mut [u8; W]> {
        self.get_mut(at)
    }

    fn units(&mut self, range: Range<usize>) -> Option<&mut [[u8; W]]> {
        self.get_mut(range)
    }
}

/// Memory in which cells have their places, as units of any number of bytes.
pub(crate) trait Places {
    /// As units of `W` bytes.
    fn as_units<const W: usize>(&mut self) -> impl Destination<W>;
}

impl Places for [u8] {
    fn as_units<const W: usize>(&mut self) -> impl Destination<W> {
        self.as_chunks_mut::<W>().0
    }
}

/// One dimension of the destination.
pub(crate) struct Axis<'a> {
    /// The dimension's position in the chunk's own order.
    pub(crate) axis: usize,
    /// The array indices that the destination holds.
    pub(crate) wanted: &'a Selection,
    /// The first array index of the chunk.
    pub(crate) start: u64,
}

impl Gather {
    /// Plans the copy from a chunk of this shape to a C-ordered destination, whose dimensions are `axes`, slowest
    /// first.
    pub(crate) fn new(chunk: &[u64], storage: &ElementLayout, axes: &[Axis<'_>]) -> Self {
        let strides = chunk_strides(chunk, storage);
        let mut gather = Self::nothing(storage);
        let mut target = 1;
        for Axis { axis, wanted, start } in axes.iter().rev() {
            let runs: Vec<CellRun> = wanted
                .within(&(*start..start.saturating_add(chunk[*axis])))
                .ranges()
                .map(|range| CellRun {
                    source: index(range.start - start),
                    target: index(wanted.rank(range.start)),
                    len: index(range.end - range.start),
                })
                .collect();
            gather.push_outer(Dim { source: strides[*axis], target, runs });
            target *= index(wanted.len());
        }
        gather
    }

    /// Plans the copy from a chunk of this shape to a destination whose dimensions are `axes`, slowest first.
    pub(crate) fn strided(
        chunk: &[u64],
        storage: &ElementLayout,
        axes: impl DoubleEndedIterator<Item = StridedAxis>,
    ) -> Self {
        let strides = chunk_strides(chunk, storage);
        let mut gather = Self::nothing(storage);
        for StridedAxis { axis, first, step, stride, runs } in axes.rev() {
            gather.start.0 = gather.start.0.wrapping_add(first.wrapping_mul(strides[axis]));
            let source = strides[axis].wrapping_mul(step);
            gather.push_outer(Dim { source, target: stride, runs });
        }
        gather
    }

    fn nothing(storage: &ElementLayout) -> Self {
        Self { dims: Vec::new(), start: (0, 0), width: storage.width, swap: storage.swap }
    }

    /// Adds a dimension outside of the others. Merges it with the next inner dimension if the cells lie side by side.
    fn push_outer(&mut self, dim: Dim) {
        if let [run] = dim.runs.as_slice() {
            self.start.0 = self.start.0.wrapping_add(run.source.wrapping_mul(dim.source));
            self.start.1 += run.target * dim.target;
            if run.len == 1 {
                return;
            }
            let runs = vec![CellRun { source: 0, target: 0, len: run.len }];
            let dim = Dim { runs, ..dim };
            if let Some(Dim { source, target, runs }) = self.dims.first_mut()
                && let [inner] = runs.as_mut_slice()
                && dim.source == inner.len.wrapping_mul(*source)
                && dim.target == inner.len * *target
            {
                inner.len *= run.len;
                return;
            }
            self.dims.insert(0, dim);
            return;
        }
        self.dims.insert(0, dim);
    }

    /// Whether the copy changes nothing, for a source and a destination of these sizes in bytes.
    pub(crate) fn is_identity(&self, source: usize, target: usize) -> bool {
        let is_whole = match self.dims.as_slice() {
            [] => self.width == target,
            [Dim { source: 1, target: 1, runs }] => {
                matches!(runs.as_slice(), [run] if run.len * self.width == target)
            }
            _ => false,
        };
        is_whole && source == target && self.start == (0, 0) && self.swap == 1
    }

    /// Copies the cells. Cells outside of the slices, which can't occur, leave the destination unchanged.
    pub(crate) fn copy(&self, source: &[u8], target: &mut [u8]) {
        self.copy_to(source, target);
    }

    /// Like [`Gather::copy`], to any kind of memory.
    pub(crate) fn copy_to<P: Places + ?Sized>(&self, source: &[u8], target: &mut P) {
        // The size in bytes of the copied units: numbers to swap, or else whole elements.
        let unit = if self.swap > 1 { self.swap } else { self.width };
        match unit {
            1 => self.copy_units::<1>(source, target),
            2 => self.copy_units::<2>(source, target),
            4 => self.copy_units::<4>(source, target),
            8 => self.copy_units::<8>(source, target),
            unit if unit.is_multiple_of(4) => self.copy_units::<4>(source, target),
            _ => self.copy_units::<1>(source, target),
        }
    }

    /// Sets the cells to one value, given in bytes.
    pub(crate) fn fill(&self, value: &[u8], target: &mut [u8]) {
        self.fill_in(value, target);
    }

    /// Like [`Gather::fill`], in any kind of memory.
    pub(crate) fn fill_in<P: Places + ?Sized>(&self, value: &[u8], target: &mut P) {
        if value.is_empty() {
            return;
        }
        let mut target = target.as_units::<1>();
        self.target_runs(|first, len| {
            let bytes = first * value.len()..(first + len) * value.len();
            if let Some(cells) = target.units(bytes) {
                repeat(value, cells.as_flattened_mut());
            }
        });
    }

    /// Calls `f` for each cell with its positions, in cells, in the chunk and in the destination.
    pub(crate) fn for_each(&self, mut f: impl FnMut(usize, usize)) {
        each(&self.dims, self.start, &mut f);
    }

    /// The runs of cells that are contiguous in both the chunk and the destination: first cell in the chunk, first cell
    /// in the destination, number of cells. `None` if the innermost dimensions differ, or if bytes must be swapped.
    pub(crate) fn runs(&self) -> Option<Vec<(usize, usize, usize)>> {
        if self.swap > 1 || (!self.dims.is_empty() && self.contiguous().is_none()) {
            return None;
        }
        let mut runs = Vec::new();
        self.each_run(|source, target, len| runs.push((source, target, len)));
        Some(runs)
    }

    /// Calls `f` for each run of cells that is contiguous in both the chunk and the destination, with the first cell in
    /// the chunk, the first in the destination, and the number of cells.
    pub(crate) fn each_run(&self, mut f: impl FnMut(usize, usize, usize)) {
        let Some((inner, outer)) = self.contiguous() else {
            return self.for_each(|source, target| f(source, target, 1));
        };
        each(outer, self.start, &mut |source, target| {
            for run in &inner.runs {
                f(source + run.source, target + run.target, run.len);
            }
        });
    }

    /// The number of runs that [`Gather::each_run`] finds, and of their cells.
    pub(crate) fn count_runs(&self) -> (usize, usize) {
        let cells = |dims: &[Dim]| {
            let of = |dim: &Dim| dim.runs.iter().map(|run| run.len).sum::<usize>();
            dims.iter().map(of).fold(1, usize::saturating_mul)
        };
        let all = cells(&self.dims);
        let contiguous = self.contiguous();
        let runs = contiguous.map(|(inner, outer)| cells(outer).saturating_mul(inner.runs.len()));
        (runs.unwrap_or(all), all)
    }

    /// The innermost dimension and the others, if its neighbours are side by side in both the chunk and the destination.
    fn contiguous(&self) -> Option<(&Dim, &[Dim])> {
        self.dims.split_last().filter(|(inner, _)| (inner.source, inner.target) == (1, 1))
    }

    /// The same cells further on, by distances in cells in the chunk and in the destination.
    pub(crate) fn moved(&self, source: usize, target: usize) -> Self {
        let start = (self.start.0.wrapping_add(source), self.start.1 + target);
        Self { dims: self.dims.clone(), start, ..*self }
    }

    /// Calls `f` for each run of cells that is contiguous in the destination, with the first cell and the number of
    /// cells.
    pub(crate) fn target_runs(&self, mut f: impl FnMut(usize, usize)) {
        let Some((inner, outer)) = self.dims.split_last().filter(|(inner, _)| inner.target == 1)
        else {
            return self.for_each(|_, target| f(target, 1));
        };
        each(outer, self.start, &mut |_, target| {
            for run in &inner.runs {
                f(target + run.target, run.len);
            }
        });
    }

    fn copy_units<const W: usize>(&self, source: &[u8], target: &mut (impl Places + ?Sized)) {
        let parts = self.width / W;
        let (source, _) = source.as_chunks::<W>();
        let mut target = target.as_units::<W>();
        let mut dims = self.dims.clone();
        let mut start = self.start;
        if parts > 1 {
            // The units of an element become the innermost dimension.
            for dim in &mut dims {
                dim.source *= parts;
                dim.target *= parts;
            }
            start = (start.0 * parts, start.1 * parts);
            let runs = vec![CellRun { source: 0, target: 0, len: parts }];
            dims.push(Dim { source: 1, target: 1, runs });
        }
        let Some((inner, outer)) = dims.split_last() else {
            if let Some((from, to)) = source.get(start.0).zip(target.unit(start.1)) {
                *to = if self.swap > 1 { reversed(*from) } else { *from };
            }
            return;
        };
        if (inner.source, inner.target) == (1, 1) {
            each(outer, start, &mut |from, to| {
                for run in &inner.runs {
                    let from = from + run.source;
                    let to = to + run.target;
                    let pair = source.get(from..from + run.len).zip(target.units(to..to + run.len));
                    let Some((from, to)) = pair else { continue };
                    if self.swap > 1 {
                        to.iter_mut().zip(from).for_each(|(to, from)| *to = reversed(*from));
                    } else {
                        to.copy_from_slice(from);
                    }
                }
            });
            return;
        }
        // Neighbours in the chunk lie along another dimension than neighbours in the destination. Copying block by
        // block keeps both sides in the cache.
        let inner = inner.offsets();
        let neighbours = outer.iter().position(|dim| dim.source == 1);
        let (others, near) = match neighbours {
            Some(position) => {
                let mut others = outer.to_vec();
                let near = others.remove(position);
                (others, near.offsets())
            }
            None => (outer.to_vec(), vec![(0, 0)]),
        };
        each(&others, start, &mut |from, to| {
            for near in near.chunks(BLOCK) {
                for inner in inner.chunks(BLOCK) {
                    for &(near_from, near_to) in near {
                        for &(inner_from, inner_to) in inner {
                            let from = source.get(from + near_from + inner_from);
                            let to = target.unit(to + near_to + inner_to);
                            if let Some((from, to)) = from.zip(to) {
                                *to = if self.swap > 1 { reversed(*from) } else { *from };
                            }
                        }
                    }
                }
            }
        });
    }
}

impl Dim {
    /// The distances, in cells, of each index from the first cell: in the chunk and in the destination.
    fn offsets(&self) -> Vec<(usize, usize)> {
        self.runs
            .iter()
            .flat_map(|run| {
                (0..run.len)
                    .map(|i| ((run.source + i) * self.source, (run.target + i) * self.target))
            })
            .collect()
    }
}

/// Distances of neighbours along each dimension of a chunk of this shape, in cells.
pub(crate) fn chunk_strides(chunk: &[u64], storage: &ElementLayout) -> Vec<usize> {
    let mut strides = vec![0; chunk.len()];
    let mut stride = 1_usize;
    for &axis in storage.order.iter().rev() {
        strides[axis] = stride;
        // The last product may overflow, but is never used.
        stride = stride.wrapping_mul(index(chunk[axis]));
    }
    strides
}

/// Calls `f` for each cell with its positions, in the destination's order.
fn each(dims: &[Dim], start: (usize, usize), f: &mut impl FnMut(usize, usize)) {
    let Some((dim, inner)) = dims.split_first() else { return f(start.0, start.1) };
    for run in &dim.runs {
        for i in 0..run.len {
            let from = start.0.wrapping_add((run.source + i).wrapping_mul(dim.source));
            let to = start.1 + (run.target + i) * dim.target;
            each(inner, (from, to), f);
        }
    }
}

fn reversed<const W: usize>(mut unit: [u8; W]) -> [u8; W] {
    unit.reverse();
    unit
}

/// Whether bytes are aligned for elements of this width, in bytes.
pub(crate) fn is_aligned(bytes: &[u8], width: usize) -> bool {
    bytes.as_ptr().align_offset(width.next_power_of_two().min(8)) == 0
}

/// Adds a chunk's elements to the sources and places from which `interleave` later makes an array.
pub(crate) fn add_items(
    sources: &mut Vec<ArrayRef>,
    places: &mut [(usize, usize)],
    items: ArrayRef,
    gather: &Gather,
) {
    let (source, len) = (sources.len(), items.len());
    sources.push(items);
    gather.for_each(|from, to| {
        if let Some(place) = places.get_mut(to).filter(|_| from < len) {
            *place = (source, from);
        }
    });
}

/// Fills a slice with repetitions of a value, given in bytes.
pub(crate) fn repeat(value: &[u8], target: &mut [u8]) {
    match value.split_first() {
        Some((first, rest)) if rest.iter().all(|byte| byte == first) => target.fill(*first),
        Some(_) => {
            target.chunks_exact_mut(value.len()).for_each(|cell| cell.copy_from_slice(value));
        }
        None => {}
    }
}

/// A number of cells as `usize`. Cells are in memory, so the number fits.
fn index(cells: u64) -> usize {
    usize::try_from(cells).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use arrow::array::BooleanArray;
    use proptest::prelude::*;

    use super::*;
    use crate::grid::{strides, unravel};

    /// The bytes of a chunk whose cells hold their own number.
    fn numbered(cells: u64, width: usize, swap: usize) -> Vec<u8> {
        (0..cells)
            .flat_map(|cell| {
                let mut bytes = cell.to_le_bytes().repeat(width.div_ceil(8))[..width].to_vec();
                if swap > 1 {
                    bytes.chunks_exact_mut(swap).for_each(<[u8]>::reverse);
                }
                bytes
            })
            .collect()
    }

    proptest! {
        #[test]
        fn every_cell_comes_to_its_place(
            sizes in prop::collection::vec((1_u64..9, 0_u64..3), 0..4),
            seed in prop::collection::vec(any::<bool>(), 64),
            shuffle in any::<u64>(),
            (width, swap) in prop::sample::select(vec![
                (1, 1), (2, 1), (2, 2), (4, 1), (4, 4), (8, 1), (8, 8), (12, 4), (12, 1), (3, 1),
            ]),
        ) {
            let rank = sizes.len();
            let chunk: Vec<u64> = sizes.iter().map(|s| s.0).collect();
            let starts: Vec<u64> = sizes.iter().map(|(size, n)| size * n).collect();
            // Independent orders of dimensions in the chunk and in the destination.
            let permutation = |mut n: u64| {
                let mut rest: Vec<usize> = (0..rank).collect();
                let mut order = Vec::new();
                while !rest.is_empty() {
                    order.push(rest.remove((n % rest.len() as u64) as usize));
                    n /= 7;
                }
                order
            };
            let storage = ElementLayout { order: permutation(shuffle), width, swap };
            let axes = permutation(shuffle >> 32);
            // Some indices of each dimension, which holds three chunks.
            let wanted: Vec<Selection> = (0..rank)
                .map(|d| {
                    let mask: Vec<bool> = (0..3 * chunk[d])
                        .map(|i| seed[(i as usize * 5 + d * 11) % 64] || (shuffle >> d) % 2 == 1)
                        .collect();
                    Selection::from_mask(&BooleanArray::from(mask))
                })
                .collect();
            let own: Vec<Axis<'_>> = axes
                .iter()
                .map(|&axis| Axis { axis, wanted: &wanted[axis], start: starts[axis] })
                .collect();
            let gather = Gather::new(&chunk, &storage, &own);

            let cells: u64 = chunk.iter().product();
            let source = numbered(cells, width, swap);
            let shape: Vec<u64> = axes.iter().map(|&axis| wanted[axis].len()).collect();
            let total: u64 = shape.iter().product();
            let mut target = vec![0xee; total as usize * width];
            let mut expected = target.clone();
            let stored_shape: Vec<u64> = storage.order.iter().map(|&axis| chunk[axis]).collect();
            let plain = numbered(cells, width, 1);
            let mut filled = expected.clone();
            let mut runs = 0;
            for cell in 0..total {
                let at = unravel(cell, &shape);
                let mut inside = vec![0; rank];
                let mut hit = true;
                for (i, &axis) in axes.iter().enumerate() {
                    let position = wanted[axis].nth(at[i]).unwrap();
                    hit &= (starts[axis]..starts[axis] + chunk[axis]).contains(&position);
                    inside[axis] = position.wrapping_sub(starts[axis]);
                }
                if hit {
                    let stored: u64 = storage
                        .order
                        .iter()
                        .zip(strides(&stored_shape))
                        .map(|(&axis, stride)| inside[axis] * stride)
                        .sum();
                    let (from, to) = (stored as usize * width, cell as usize * width);
                    expected[to..to + width].copy_from_slice(&plain[from..from + width]);
                    filled[to..to + width].copy_from_slice(&plain[..width]);
                    runs += 1;
                }
            }
            gather.copy(&source, &mut target);
            prop_assert_eq!(&target, &expected);
            if gather.is_identity(source.len(), target.len()) {
                prop_assert_eq!(&target, &source);
            }
            let mut pairs = 0;
            gather.for_each(|_, _| pairs += 1);
            prop_assert_eq!(pairs, runs);
            let mut in_runs = Vec::new();
            let mut count = 0;
            gather.each_run(|from, to, len| {
                count += 1;
                in_runs.extend((0..len).map(|i| (from + i, to + i)));
            });
            let mut single = Vec::new();
            gather.for_each(|from, to| single.push((from, to)));
            prop_assert_eq!(gather.count_runs(), (count, single.len()));
            prop_assert_eq!(in_runs, single);
            let mut covered = 0;
            gather.target_runs(|_, len| covered += len);
            prop_assert_eq!(covered, runs);
            let mut target = vec![0xee; total as usize * width];
            gather.fill(&plain[..if cells == 0 { 0 } else { width }], &mut target);
            prop_assert_eq!(target, filled);
        }
    }
}
