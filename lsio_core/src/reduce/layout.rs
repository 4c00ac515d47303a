//! Maps each cell of a tile to its group.

use std::ops::Range;

use crate::grid::{strides, unravel};

/// Number of consecutive cells of one group from which on a kernel pays off.
const SHORT: usize = 16;

/// Mean run length in cells from which on each run is reduced by itself.
const SHORT_RUN: usize = 8;

/// Least number of cells of a row with scattered groups.
const PATTERN: usize = 256;

/// Groups along some dimensions of a tile.
#[derive(Clone, Debug)]
pub struct GroupKeys {
    /// The dimensions, ascending.
    pub dims: Vec<usize>,
    /// Addend of each index to a cell's group number, in C order of these dimensions.
    pub offsets: Vec<u32>,
}

impl GroupKeys {
    fn is_constant(&self) -> bool {
        self.offsets.windows(2).all(|pair| pair[0] == pair[1])
    }
}

/// Groups of a tile's cells, in C order. The cells are divided into rows: each row has a first group, and all rows
/// share one inner pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLayout {
    /// Addend of each row to the groups of its cells.
    bases: Vec<usize>,
    /// Number of cells per row.
    len: usize,
    inner: RowGroups,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum RowGroups {
    /// All cells of a row are in one group.
    Same,
    /// Each cell of a row is in the next group after the previous cell's.
    Ascending,
    /// A row is a sequence of runs, each of one group: (end of the run, addend).
    Runs(Vec<(usize, usize)>),
    /// Addend of each cell of a row.
    Scattered(Vec<u32>),
}

/// Consecutive cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    /// All cells are in this group.
    Same(usize),
    /// The first cell is in this group, each other cell in the next.
    Ascending(usize),
    /// Each cell is in this group plus its own addend.
    Scattered(usize, &'a [u32]),
}

/// Consecutive cells, of one or several rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stretch {
    /// Whole rows with the same groups.
    Rows { base: usize, len: usize },
    /// Any cells.
    Cells,
}

/// Rows of cells with ascending groups.
#[derive(Debug)]
pub(super) struct RepeatedRows {
    len: usize,
    /// First group of each row, in ascending order.
    groups: Vec<usize>,
    /// First cell of each row.
    starts: Vec<usize>,
}

impl RepeatedRows {
    /// Number of cells of a row.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// First cells of the rows that start with the same group, with that group.
    pub(super) fn by_group(&self) -> impl Iterator<Item = (usize, &[usize])> {
        let mut start = 0;
        self.groups.chunk_by(|one, other| one == other).map(move |same| {
            let end = start + same.len();
            let rows = &self.starts[start..end];
            start = end;
            (same[0], rows)
        })
    }
}

impl GroupLayout {
    /// Computes the group of each cell of a tile of this shape: the sum of the keys' addends. No two keys may share a
    /// dimension.
    #[must_use]
    pub fn new(shape: &[usize], keys: &[GroupKeys]) -> Self {
        let constant: usize = keys
            .iter()
            .filter(|k| k.is_constant())
            .map(|keys| keys.offsets.first().map_or(0, |offset| *offset as usize))
            .sum();
        let keys: Vec<&GroupKeys> = keys.iter().filter(|keys| !keys.is_constant()).collect();
        let cells = |split: usize| shape[split..].iter().product::<usize>();
        // Moves the start of a row so that no key has dimensions on both sides.
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
            let inner = RowGroups::Same;
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
                return Self { bases, len, inner: RowGroups::Ascending };
            }
            let mut runs: Vec<(usize, usize)> = Vec::new();
            for (cell, id) in pattern.iter().enumerate() {
                match runs.last_mut() {
                    Some((end, last)) if last == id => *end = cell + 1,
                    _ => runs.push((cell + 1, *id)),
                }
            }
            if runs.len() * SHORT_RUN <= len {
                return Self { bases: bases(split), len, inner: RowGroups::Runs(runs) };
            }
            if enough == PATTERN || split == 0 {
                // An addend is a group number, and these fit 32 bits.
                let offsets = pattern.iter().map(|id| u32::try_from(*id).unwrap_or(u32::MAX));
                let inner = RowGroups::Scattered(offsets.collect());
                return Self { bases: bases(split), len, inner };
            }
        }
        // The second pass of the loop always returns.
        Self { bases: bases(0), len: cells(0), inner: RowGroups::Same }
    }

    /// Groups of cells in any order.
    #[must_use]
    pub fn of_cells(groups: Vec<u32>) -> Self {
        Self { bases: vec![0], len: groups.len(), inner: RowGroups::Scattered(groups) }
    }

    /// Name of the inner pattern.
    #[must_use]
    pub fn pattern(&self) -> &'static str {
        match self.inner {
            RowGroups::Same | RowGroups::Runs(_) => "runs",
            RowGroups::Ascending => "ascending",
            RowGroups::Scattered(_) => "scattered",
        }
    }

    /// Number of cells.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.bases.len() * self.len
    }

    /// Calls `f` with the group of each cell in a range.
    pub fn groups(&self, cells: Range<usize>, mut f: impl FnMut(usize)) {
        self.segments(cells, |segment, range| match segment {
            Segment::Same(group) => range.for_each(|_| f(group)),
            Segment::Ascending(first) => (first..first + range.len()).for_each(&mut f),
            Segment::Scattered(base, offsets) => {
                offsets.iter().for_each(|offset| f(base + *offset as usize));
            }
        });
    }

    /// The group of all cells of a range, where that is known at once.
    pub(super) fn only_group(&self, cells: Range<usize>) -> Option<usize> {
        let row = cells.start.checked_div(self.len)?;
        let is_one = self.inner == RowGroups::Same && cells.end <= (row + 1) * self.len;
        if is_one { self.bases.get(row).copied() } else { None }
    }

    /// Calls `f` for each stretch of a range of cells, with cell numbers relative to the range's start. Where a kernel
    /// is efficient on one row, the range is one stretch.
    pub(super) fn stretches(&self, cells: Range<usize>, mut f: impl FnMut(Stretch, Range<usize>)) {
        if matches!(self.inner, RowGroups::Same | RowGroups::Ascending) {
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

    /// Calls `f` for cells whose groups ascend, with the first group of each row or part of one, and cell numbers relative
    /// to the range's start. Where the same groups come again, some of them at a time: about `block` stay in the cache.
    /// Returns whether groups ascend.
    pub(super) fn ascending(
        &self,
        cells: Range<usize>,
        block: usize,
        mut f: impl FnMut(usize, Range<usize>),
    ) -> bool {
        let len = self.len;
        if self.inner != RowGroups::Ascending || len == 0 {
            return false;
        }
        let mut call = |row: usize, columns: Range<usize>| {
            let start = row * len + columns.start - cells.start;
            f(self.bases[row] + columns.start, start..start + columns.len());
        };
        let (mut row, start) = (cells.start / len, cells.start % len);
        if start > 0 {
            call(row, start..len.min(start + cells.len()));
            row += 1;
        }
        while row < cells.end / len {
            let (period, times) = repetitions(&self.bases[row..cells.end / len]);
            let rows = if times == 1 { period } else { (block / len).max(1) };
            let columns = if times == 1 { len } else { block.max(1) };
            for first in (0..period).step_by(rows) {
                for start in (0..len).step_by(columns) {
                    for time in 0..times {
                        for own in first..period.min(first + rows) {
                            call(row + time * period + own, start..len.min(start + columns));
                        }
                    }
                }
            }
            row += period * times;
        }
        if row * len < cells.end && row * len >= cells.start {
            call(row, 0..cells.end - row * len);
        }
        true
    }

    /// Whole rows with ascending groups, several of which have the same groups; `None` if a range isn't made of such
    /// rows.
    pub(super) fn repeated_rows(&self, cells: Range<usize>) -> Option<RepeatedRows> {
        let is_whole = self.len > 0
            && cells.start.is_multiple_of(self.len)
            && cells.end.is_multiple_of(self.len);
        if self.inner != RowGroups::Ascending || !is_whole {
            return None;
        }
        let bases = &self.bases[cells.start / self.len..cells.end / self.len];
        let start = |row: usize| row * self.len;
        if let Some(period) = period(bases) {
            let rows = (0..period).flat_map(|first| (first..bases.len()).step_by(period));
            let (groups, starts) = rows.map(|row| (bases[row], start(row))).unzip();
            return Some(RepeatedRows { len: self.len, groups, starts });
        }
        let mut rows: Vec<(usize, usize)> =
            bases.iter().enumerate().map(|(row, base)| (*base, start(row))).collect();
        rows.sort_unstable();
        let (groups, starts): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        groups.windows(2).any(|pair| pair[0] == pair[1]).then_some(RepeatedRows {
            len: self.len,
            groups,
            starts,
        })
    }

    /// Segments of a row whose first group is `base`.
    pub(super) fn row_segments<'a>(
        &'a self,
        base: usize,
        mut f: impl FnMut(Segment<'a>, Range<usize>),
    ) {
        match &self.inner {
            RowGroups::Same => f(Segment::Same(base), 0..self.len),
            RowGroups::Ascending => f(Segment::Ascending(base), 0..self.len),
            RowGroups::Scattered(ids) => f(Segment::Scattered(base, ids), 0..self.len),
            RowGroups::Runs(runs) => {
                let mut start = 0;
                for (end, id) in runs {
                    f(Segment::Same(base + id), start..*end);
                    start = *end;
                }
            }
        }
    }

    /// Calls `f` for each segment of a range of cells, with its cell numbers relative to the range's start.
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
                RowGroups::Same => f(Segment::Same(base), range),
                RowGroups::Ascending => f(Segment::Ascending(base + start), range),
                RowGroups::Scattered(ids) => f(Segment::Scattered(base, &ids[start..end]), range),
                RowGroups::Runs(runs) => {
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

/// Number of rows after which the groups of the first rows come again, and how often they are there.
fn repetitions(bases: &[usize]) -> (usize, usize) {
    let Some((first, rest)) = bases.split_first() else { return (1, 0) };
    let Some(again) = rest.iter().position(|base| base == first) else { return (bases.len(), 1) };
    let period = again + 1;
    let same = bases.iter().zip(&bases[period..]).take_while(|(one, other)| one == other).count();
    (period, 1 + same / period)
}

/// Number of rows after which ascending groups come again, if they always do.
fn period(bases: &[usize]) -> Option<usize> {
    let first = bases.first()?;
    let period = 1 + bases[1..].iter().position(|base| base == first)?;
    let ascends = bases[..period].windows(2).all(|pair| pair[0] < pair[1]);
    (ascends && bases[period..] == bases[..bases.len() - period]).then_some(period)
}

/// Sum of the keys' addends for each index of some dimensions, in C order.
fn sums(shape: &[usize], keys: &[&GroupKeys], dims: Range<usize>, start: usize) -> Vec<usize> {
    let sizes: Vec<u64> = shape[dims.clone()].iter().map(|&size| size as u64).collect();
    let cells: usize = shape[dims.clone()].iter().product();
    let mut sums = vec![start; cells];
    for keys in keys.iter().filter(|k| dims.contains(&k.dims[0])) {
        let own: Vec<u64> = keys.dims.iter().map(|&d| shape[d] as u64).collect();
        let own = strides(&own);
        if let &[dim] = keys.dims.as_slice() {
            // The most frequent case by far: one dimension.
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

    fn key(dims: &[usize], offsets: &[u32]) -> GroupKeys {
        GroupKeys { dims: dims.to_vec(), offsets: offsets.to_vec() }
    }

    #[test]
    fn patterns_are_recognised() {
        let shape = [4, 3, 100];
        let ascending: Vec<u32> = (0..100).collect();
        let tens: Vec<u32> = (0..100).map(|i| i / 10).collect();
        let threes: Vec<u32> = (0..100).map(|i| i / 3).collect();
        let pattern = |keys: &[GroupKeys]| GroupLayout::new(&shape, keys);
        assert_eq!(pattern(&[]).inner, RowGroups::Same);
        assert_eq!(pattern(&[]).len, 1200);
        assert_eq!(pattern(&[key(&[0], &[0, 0, 1, 1])]).len, 300);
        assert_eq!(pattern(&[key(&[1], &[5, 5, 5])]).bases, [5]);
        assert_eq!(pattern(&[key(&[1], &[2, 0, 1])]).len, 100);
        let lines = pattern(&[key(&[1], &[0, 100, 200]), key(&[2], &ascending)]);
        assert_eq!(
            (lines.inner.clone(), lines.len, lines.bases.len()),
            (RowGroups::Ascending, 100, 12)
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
            let keys: Vec<GroupKeys> = (0..3)
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
                    Some(GroupKeys { offsets: offsets.collect(), dims })
                })
                .collect();
            let layout = GroupLayout::new(&shape, &keys);
            let cells: usize = shape.iter().product();
            prop_assert_eq!(layout.cells(), cells);
            if let Some(rows) = layout.repeated_rows(0..cells) {
                let mut groups = vec![None; cells];
                let mut last = None;
                for (first, starts) in rows.by_group() {
                    prop_assert!(last.replace(first).is_none_or(|last| last < first));
                    for column in 0..rows.len() {
                        starts.iter().for_each(|row| groups[row + column] = Some(first + column));
                    }
                }
                let mut expected = Vec::new();
                layout.groups(0..cells, |group| expected.push(Some(group)));
                prop_assert_eq!(groups, expected);
            }
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
            prop_assert_eq!(&actual, &expected);
            let block = 1 + cells % 9;
            let mut each = vec![usize::MAX; end - start];
            let ascends = layout.ascending(start..end, block, |first, range| {
                for (own, group) in each[range].iter_mut().zip(first..) {
                    assert_eq!(std::mem::replace(own, group), usize::MAX, "a cell comes twice");
                }
            });
            prop_assert_eq!(ascends, layout.pattern() == "ascending");
            if ascends {
                prop_assert_eq!(&each, &actual);
            }
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
