//! Consecutive groups with all their values.
//!
//! Neighbouring cells often belong to neighbouring groups. So groups of the same size are kept in blocks of a few, their
//! values side by side: a row of cells is copied as it is, and memory is written a whole cache line at a time. A block is
//! turned, so that each group's values are consecutive, once all are there.

use std::{marker::PhantomData, mem::take, ops::Range};

use arrow::buffer::BooleanBuffer;
use bytes::BytesMut;

use super::{
    native::{Native, native_slice_mut},
    ranked::Ranked,
};
use crate::simd::Simd;

/// Upper bound on the number of groups of a block: their float32 fill a cache line.
const BLOCK: usize = 16;

/// Upper bound on the number of values of a block: they are copied when it is turned.
const BLOCK_VALUES: usize = 1 << 18;

/// Values of consecutive groups.
#[derive(Debug)]
pub struct TypedPart<T> {
    /// Number of groups of a block; the last block may have fewer.
    block: usize,
    /// Start of each group's place in the buffer once its block is turned, followed by the end of the last one's.
    starts: Vec<usize>,
    /// Number of each group's values.
    counts: Vec<usize>,
    memory: BytesMut,
    /// Whether NaN is left out in the end.
    drops_nan: bool,
    values: PhantomData<T>,
}

/// Consecutive values of a tile's cells.
pub(super) struct Cells<'a, T> {
    pub(super) first: usize,
    pub(super) values: &'a [T],
    /// Cells that count, if not all.
    pub(super) rows: Option<&'a BooleanBuffer>,
    pub(super) skip_nan: bool,
}

impl<T: Native> Cells<'_, T> {
    /// Whether all cells count.
    fn all_count(&self) -> bool {
        self.rows.is_none() && !self.skip_nan
    }

    fn counts(&self, cell: usize) -> bool {
        !(self.skip_nan && self.values[cell].is_nan())
            && self.rows.is_none_or(|rows| rows.value(cell))
    }
}

/// Where a group's values are: the first place, and the step to the next.
struct Line {
    start: usize,
    step: usize,
    /// Number of places.
    size: usize,
}

impl<T> TypedPart<T> {
    /// Number of groups.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.counts.len()
    }

    /// Bytes of the places of groups with these numbers of cells.
    pub(super) fn bytes(cells: &[usize]) -> usize {
        cells
            .iter()
            .fold(0_usize, |all, own| all.saturating_add(*own))
            .saturating_mul(size_of::<T>())
    }
}

impl<T: Ranked> TypedPart<T> {
    /// Values of each group. Their order within a group means nothing, and may be changed.
    pub fn pencils(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.settle();
        let Self { starts, counts, memory, .. } = self;
        let mut rest = native_slice_mut(memory);
        starts.windows(2).zip(counts).map(move |(place, count)| {
            let (own, others) = take(&mut rest).split_at_mut(place[1] - place[0]);
            rest = others;
            &mut own[..*count]
        })
    }
}

#[allow(private_bounds, reason = "none of it is public")]
impl<T: Native> TypedPart<T> {
    /// Places for groups with these numbers of cells in `memory`, which holds zeros. Cells side by side are of different
    /// groups if `across`.
    pub(super) fn new(cells: &[usize], memory: BytesMut, across: bool, drops_nan: bool) -> Self {
        let mut starts = Vec::with_capacity(cells.len() + 1);
        let mut end = 0;
        for cells in cells {
            starts.push(end);
            end += cells;
        }
        starts.push(end);
        let alike = cells.windows(2).all(|pair| pair[0] == pair[1]);
        let size = cells.first().copied().unwrap_or(0);
        let most = (BLOCK_VALUES / size.max(1)).clamp(1, BLOCK);
        let block = if across && alike { most } else { 1 };
        let counts = vec![0; cells.len()];
        Self { block, starts, counts, memory, drops_nan, values: PhantomData }
    }

    /// Adds cells of one group.
    pub(super) fn push_all(&mut self, group: usize, cells: &Cells<'_, T>, range: Range<usize>) {
        let Line { start, step, size } = self.line(group);
        let mut count = self.counts[group];
        let values = native_slice_mut(&mut self.memory);
        if step == 1 && cells.all_count() {
            let len = range.len().min(size - count);
            let to = &mut values[start + count..][..len];
            to.copy_from_slice(&cells.values[range.start..][..len]);
            self.counts[group] += len;
            return;
        }
        for cell in range {
            if count < size && cells.counts(cell) {
                values[start + count * step] = cells.values[cell];
                count += 1;
            }
        }
        self.counts[group] = count;
    }

    /// Adds rows of `len` cells, whose groups are `first` and those behind it. `rows` are their first cells.
    pub(super) fn push_rows(
        &mut self,
        first: usize,
        len: usize,
        rows: impl Iterator<Item = usize> + Clone,
        cells: &Cells<'_, T>,
    ) {
        let mut column = 0;
        while column < len {
            let group = first + column;
            // Groups of one block.
            let run = (self.block - group % self.block).min(len - column);
            let count = self.counts[group];
            let Line { start, step, size } = self.line(group);
            let alike = self.counts[group..group + run].iter().all(|other| *other == count);
            let added = rows.clone().count();
            if self.block > 1 && alike && cells.all_count() && count + added <= size {
                let mut place = start + count * step;
                let values = native_slice_mut::<T>(&mut self.memory);
                for row in rows.clone() {
                    let from = &cells.values[row + column..][..run];
                    let to = &mut values[place..place + run];
                    // Whole lines are copied without a call.
                    match (<&[T; BLOCK]>::try_from(from), <&mut [T; BLOCK]>::try_from(&mut *to)) {
                        (Ok(from), Ok(to)) => *to = *from,
                        _ => to.copy_from_slice(from),
                    }
                    place += step;
                }
                self.counts[group..group + run].iter_mut().for_each(|count| *count += added);
            } else {
                for column in column..column + run {
                    self.push_column(first + column, rows.clone().map(|row| row + column), cells);
                }
            }
            column += run;
        }
    }

    /// Adds some cells of one group.
    fn push_column(
        &mut self,
        group: usize,
        column: impl Iterator<Item = usize>,
        cells: &Cells<'_, T>,
    ) {
        let Line { start, step, size } = self.line(group);
        let mut count = self.counts[group];
        let values = native_slice_mut(&mut self.memory);
        for cell in column {
            if count == size {
                break;
            }
            // Written again by the next value if this one doesn't count.
            values[start + count * step] = cells.values[cell];
            count += usize::from(cells.counts(cell));
        }
        self.counts[group] = count;
    }

    fn line(&self, group: usize) -> Line {
        let size = self.starts[group + 1] - self.starts[group];
        let first = group - group % self.block;
        let step = self.block.min(self.groups() - first);
        Line { start: self.starts[first] + (group - first), step, size }
    }

    /// Makes each group's values consecutive, and leaves NaN out where it doesn't count.
    fn settle(&mut self) {
        let simd = Simd::detect();
        let values = native_slice_mut::<T>(&mut self.memory);
        if self.block > 1 {
            let mut room = Vec::new();
            for first in (0..self.counts.len()).step_by(self.block) {
                let last = self.counts.len().min(first + self.block);
                let own = &mut values[self.starts[first]..self.starts[last]];
                let rows = self.counts[first..last].iter().max().copied().unwrap_or(0);
                turn(own, last - first, rows, &mut room);
            }
            self.block = 1;
        }
        if T::FLOATS && self.drops_nan && simd.sum(values).is_nan() {
            for (start, count) in self.starts.iter().zip(&mut self.counts) {
                let own = &mut values[*start..][..*count];
                let mut kept = 0;
                for place in 0..own.len() {
                    own[kept] = own[place];
                    kept += usize::from(!own[place].is_nan());
                }
                *count = kept;
            }
        }
    }
}

/// Turns rows of `width` values, of which the first `rows` count, into columns.
fn turn<T: Native>(values: &mut [T], width: usize, rows: usize, room: &mut Vec<T>) {
    let size = values.len() / width.max(1);
    if size == 0 {
        return;
    }
    room.clear();
    room.extend_from_slice(&values[..rows * width]);
    let mut columns = values.chunks_exact_mut(size);
    let mut columns: [&mut [T]; BLOCK] =
        std::array::from_fn(|_| columns.next().unwrap_or_default());
    let (whole, _) = room.as_chunks::<BLOCK>();
    if width == BLOCK {
        for (number, row) in whole.iter().enumerate() {
            for (column, value) in columns.iter_mut().zip(row) {
                column[number] = *value;
            }
        }
        return;
    }
    for (number, row) in room.chunks_exact(width).enumerate() {
        for (column, value) in columns.iter_mut().zip(row) {
            column[number] = *value;
        }
    }
}
