//! Which group each cell of a tile belongs to.

use std::ops::Range;

use crate::grid::{strides, unravel};

/// The cells of one group side by side from which on a kernel pays off.
const SHORT: usize = 16;

/// The mean length of runs from which on each run is reduced by itself.
const SHORT_RUN: usize = 8;

/// The cells over which scattered groups are written down, at least.
const PATTERN: usize = 256;

/// The groups along some dimensions of a tile.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The dimensions, ascending.
    pub dims: Vec<usize>,
    /// What each index adds to the number of a cell's group, in C order of these dimensions.
    pub offsets: Vec<u32>,
}

impl Keys {
    fn is_constant(&self) -> bool {
        self.offsets.windows(2).all(|pair| pair[0] == pair[1])
    }
}

/// The groups of a tile's cells, in C order: rows of cells, each with a first group, and what all
/// rows have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Of each row, what is added to the groups of its cells.
    bases: Vec<usize>,
    /// The cells of a row.
    len: usize,
    inner: Inner,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Inner {
    /// A row is one group.
    Same,
    /// Each cell of a row belongs to the group after that of the cell before.
    Ascending,
    /// A row falls into runs of one group: where each ends, and what it adds.
    Runs(Vec<(usize, usize)>),
    /// What each cell of a row adds.
    Scattered(Vec<u32>),
}

/// Cells side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    /// All in this group.
    Same(usize),
    /// In this group and those that follow.
    Ascending(usize),
    /// In groups that are so far from this one.
    Scattered(usize, &'a [u32]),
}

/// Cells side by side, one or several rows of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stretch {
    /// Whole rows with the same groups.
    Rows { base: usize, len: usize },
    /// Anything.
    Cells,
}

impl Layout {
    /// The groups of the cells of a tile of this shape: the sum of what the keys add. No two keys
    /// have a dimension in common.
    #[must_use]
    pub fn new(shape: &[usize], keys: &[Keys]) -> Self {
        let constant: usize = keys
            .iter()
            .filter(|k| k.is_constant())
            .map(|keys| keys.offsets.first().map_or(0, |offset| *offset as usize))
            .sum();
        let keys: Vec<&Keys> = keys.iter().filter(|keys| !keys.is_constant()).collect();
        let cells = |split: usize| shape[split..].iter().product::<usize>();
        // Where the row begins: no key may lie on both sides.
        let whole = |mut split: usize| {
            while let Some(keys) =
                keys.iter().find(|k| k.dims[0] < split && k.dims.iter().any(|d| *d >= split))
            {
                split = keys.dims[0];
            }
            split
        };
        let mut split = shape.len();
        while split > 0 && !keys.iter().any(|k| k.dims.contains(&(split - 1))) {
            split -= 1;
        }
        let bases = |split: usize| sums(shape, &keys, 0..split, constant);
        if split == 0 || cells(split) >= SHORT {
            let inner = Inner::Same;
            return Self { bases: bases(split), len: cells(split), inner };
        }
        for enough in [SHORT, PATTERN] {
            while split > 0 && cells(split) < enough {
                split = whole(split - 1);
            }
            split = whole(split);
            let pattern = sums(shape, &keys, split..shape.len(), 0);
            let (first, len) = (pattern[0], pattern.len());
            if pattern.iter().enumerate().all(|(i, id)| *id == first + i) {
                let bases = bases(split).into_iter().map(|base| base + first).collect();
                return Self { bases, len, inner: Inner::Ascending };
            }
            let mut runs: Vec<(usize, usize)> = Vec::new();
            for (cell, id) in pattern.iter().enumerate() {
                match runs.last_mut() {
                    Some((end, last)) if last == id => *end = cell + 1,
                    _ => runs.push((cell + 1, *id)),
                }
            }
            if runs.len() * SHORT_RUN <= len {
                return Self { bases: bases(split), len, inner: Inner::Runs(runs) };
            }
            if enough == PATTERN || split == 0 {
                // What is added is the number of a group, and those fit.
                let offsets = pattern.iter().map(|id| u32::try_from(*id).unwrap_or(u32::MAX));
                let inner = Inner::Scattered(offsets.collect());
                return Self { bases: bases(split), len, inner };
            }
        }
        // The second turn always returns.
        Self { bases: bases(0), len: cells(0), inner: Inner::Same }
    }

    /// How the groups lie, in a word.
    #[must_use]
    pub fn pattern(&self) -> &'static str {
        match self.inner {
            Inner::Same | Inner::Runs(_) => "runs",
            Inner::Ascending => "ascending",
            Inner::Scattered(_) => "scattered",
        }
    }

    /// The number of cells.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.bases.len() * self.len
    }

    /// The group of each cell in a range.
    pub fn groups(&self, cells: Range<usize>, mut f: impl FnMut(usize)) {
        self.segments(cells, |segment, range| match segment {
            Segment::Same(group) => range.for_each(|_| f(group)),
            Segment::Ascending(first) => (first..first + range.len()).for_each(&mut f),
            Segment::Scattered(base, offsets) => {
                offsets.iter().for_each(|offset| f(base + *offset as usize));
            }
        });
    }

    /// The stretches of a range of cells, counted from its start. Where kernels do well with one row
    /// there is one.
    pub(super) fn stretches(&self, cells: Range<usize>, mut f: impl FnMut(Stretch, Range<usize>)) {
        if matches!(self.inner, Inner::Same | Inner::Ascending) {
            return f(Stretch::Cells, 0..cells.len());
        }
        let mut cell = cells.start;
        while cell < cells.end {
            let (row, start) = (cell / self.len, cell % self.len);
            let first = cell - cells.start;
            let whole = (cells.end - cell) / self.len;
            if start > 0 || whole == 0 {
                cell = cells.end.min(cell + self.len - start);
                f(Stretch::Cells, first..cell - cells.start);
                continue;
            }
            let base = self.bases[row];
            let same = self.bases[row..row + whole].iter().take_while(|b| **b == base).count();
            cell += same * self.len;
            f(Stretch::Rows { base, len: self.len }, first..cell - cells.start);
        }
    }

    /// The segments of a row that begins at this group.
    pub(super) fn row_segments<'a>(
        &'a self,
        base: usize,
        mut f: impl FnMut(Segment<'a>, Range<usize>),
    ) {
        match &self.inner {
            Inner::Same => f(Segment::Same(base), 0..self.len),
            Inner::Ascending => f(Segment::Ascending(base), 0..self.len),
            Inner::Scattered(ids) => f(Segment::Scattered(base, ids), 0..self.len),
            Inner::Runs(runs) => {
                let mut start = 0;
                for (end, id) in runs {
                    f(Segment::Same(base + id), start..*end);
                    start = *end;
                }
            }
        }
    }

    /// The segments of a range of cells, each with the range that it covers, counted from the start
    /// of the whole range.
    pub(super) fn segments<'a>(
        &'a self,
        cells: Range<usize>,
        mut f: impl FnMut(Segment<'a>, Range<usize>),
    ) {
        let mut cell = cells.start;
        while cell < cells.end {
            let (row, start) = (cell / self.len, cell % self.len);
            let end = self.len.min(start + cells.end - cell);
            let base = self.bases[row];
            let first = cell - cells.start;
            let range = first..first + (end - start);
            match &self.inner {
                Inner::Same => f(Segment::Same(base), range),
                Inner::Ascending => f(Segment::Ascending(base + start), range),
                Inner::Scattered(ids) => f(Segment::Scattered(base, &ids[start..end]), range),
                Inner::Runs(runs) => {
                    let mut at = start;
                    let from = runs.partition_point(|(run_end, _)| *run_end <= start);
                    for (run_end, id) in &runs[from..] {
                        if at >= end {
                            break;
                        }
                        let run_end = end.min(*run_end);
                        let run = first + (at - start)..first + (run_end - start);
                        f(Segment::Same(base + id), run);
                        at = run_end;
                    }
                }
            }
            cell += end - start;
        }
    }
}

/// For each index of some dimensions, in C order, the sum of what the keys on them add.
fn sums(shape: &[usize], keys: &[&Keys], dims: Range<usize>, start: usize) -> Vec<usize> {
    let sizes: Vec<u64> = shape[dims.clone()].iter().map(|&size| size as u64).collect();
    let cells: usize = shape[dims.clone()].iter().product();
    let mut sums = vec![start; cells];
    for keys in keys.iter().filter(|k| dims.contains(&k.dims[0])) {
        let own: Vec<u64> = keys.dims.iter().map(|&d| shape[d] as u64).collect();
        let own = strides(&own);
        if let &[dim] = keys.dims.as_slice() {
            // By far the most frequent: one dimension.
            let inner: usize = shape[dim + 1..dims.end].iter().product();
            for (row, sums) in sums.chunks_mut(inner.max(1)).enumerate() {
                let add = keys.offsets[row % shape[dim]] as usize;
                sums.iter_mut().for_each(|sum| *sum += add);
            }
            continue;
        }
        for (cell, sum) in sums.iter_mut().enumerate() {
            let at = unravel(cell as u64, &sizes);
            let index: u64 =
                keys.dims.iter().zip(&own).map(|(d, stride)| at[d - dims.start] * stride).sum();
            *sum += keys.offsets[usize::try_from(index).unwrap_or(usize::MAX)] as usize;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(dims: &[usize], offsets: &[u32]) -> Keys {
        Keys { dims: dims.to_vec(), offsets: offsets.to_vec() }
    }

    #[test]
    fn patterns_are_recognised() {
        let shape = [4, 3, 100];
        let ascending: Vec<u32> = (0..100).collect();
        let tens: Vec<u32> = (0..100).map(|i| i / 10).collect();
        let threes: Vec<u32> = (0..100).map(|i| i / 3).collect();
        let pattern = |keys: &[Keys]| Layout::new(&shape, keys);
        assert_eq!(pattern(&[]).inner, Inner::Same);
        assert_eq!(pattern(&[]).len, 1200);
        assert_eq!(pattern(&[key(&[0], &[0, 0, 1, 1])]).len, 300);
        assert_eq!(pattern(&[key(&[1], &[5, 5, 5])]).bases, [5]);
        assert_eq!(pattern(&[key(&[1], &[2, 0, 1])]).len, 100);
        let lines = pattern(&[key(&[1], &[0, 100, 200]), key(&[2], &ascending)]);
        assert_eq!(
            (lines.inner.clone(), lines.len, lines.bases.len()),
            (Inner::Ascending, 100, 12)
        );
        assert_eq!(pattern(&[key(&[2], &tens)]).pattern(), "runs");
        assert_eq!(pattern(&[key(&[2], &threes)]).pattern(), "scattered");
    }

    proptest! {
        #[test]
        fn every_cell_has_its_group(
            shape in prop::collection::vec((1_usize..5, 0_usize..30), 0..4),
            which in prop::collection::vec(0_usize..4, 4),
            ids in prop::collection::vec((0_u32..4, 1_usize..40), 200),
            kind in 0..4,
            range in (0.0..1.0, 0.0..1.0),
        ) {
            let shape: Vec<usize> = shape.iter().map(|(a, b)| if *b > 20 { *b } else { *a }).collect();
            // Each dimension belongs to one of three keys, or to none.
            let mut numbers = ids.iter().flat_map(|(id, n)| vec![*id; *n]).enumerate();
            let keys: Vec<Keys> = (0..3)
                .filter_map(|key| {
                    let dims: Vec<usize> = (0..shape.len()).filter(|&d| which[d] == key).collect();
                    let cells: usize = dims.iter().map(|&d| shape[d]).product();
                    if dims.is_empty() || cells > 1500 {
                        return None;
                    }
                    let offsets = (0..cells).map(|cell| match kind {
                        0 => cell as u32,
                        1 => 7,
                        _ => numbers.next().map_or(1, |(_, id)| id),
                    });
                    Some(Keys { offsets: offsets.collect(), dims })
                })
                .collect();
            let layout = Layout::new(&shape, &keys);
            let cells: usize = shape.iter().product();
            prop_assert_eq!(layout.cells(), cells);
            let start = (range.0 * cells as f64) as usize;
            let end = start + (range.1 * (cells - start) as f64) as usize;
            let sizes: Vec<u64> = shape.iter().map(|s| *s as u64).collect();
            let expected: Vec<usize> = (start..end)
                .map(|cell| {
                    let at = unravel(cell as u64, &sizes);
                    keys.iter()
                        .map(|key| {
                            let index =
                                key.dims.iter().fold(0, |i, &d| i * shape[d] + at[d] as usize);
                            key.offsets[index] as usize
                        })
                        .sum()
                })
                .collect();
            let mut actual = Vec::new();
            layout.groups(start..end, |group| actual.push(group));
            prop_assert_eq!(actual, expected);
            let mut next = 0;
            let mut in_order = true;
            layout.segments(start..end, |_, range| {
                in_order &= range.start == next && !range.is_empty();
                next = range.end;
            });
            prop_assert!(in_order && next == end - start);
        }
    }
}
