//! Packed integers into the states of groups of doubles. What is added up is added up as integers, which is exact, and
//! unpacked once for a block; everything else is unpacked a block at a time, into the first-level cache.

use std::ops::Range;

use arrow::buffer::BooleanBuffer;

use super::{
    layout::{GroupLayout, Segment, Stretch},
    moments::Moments,
    native::Native,
    reduction::{BLOCK, Groups, MANY_ROWS, keep_least, keep_most},
    unpacking::Packed,
};
use crate::simd::kernel;

/// Largest magnitude of a factor or an offset with which sums of packed numbers stay far from infinity.
const MODERATE: f64 = 1e250;

/// Largest number of steps of a packed number between 0 and its values, with which the rounding of values is below what
/// their spread tells: it is a spread of rounded values that is asked for.
const SHARP_STEPS: f64 = 1048576.0;

/// States of the cells of rows that have the same groups, as sums of packed numbers.
struct RowSums<S> {
    sums: Vec<f64>,
    missing: Vec<f64>,
    min: Vec<S>,
    max: Vec<S>,
}

impl Groups<f64> {
    /// Adds the values of packed numbers. Otherwise like [`Groups::update`].
    pub(super) fn update_packed<S: Native>(
        &mut self,
        layout: &GroupLayout,
        first: usize,
        values: &[S],
        packed: &Packed<S>,
        rows: Option<&BooleanBuffer>,
        weight: u64,
    ) {
        let is_moderate = packed.by.iter().all(|number| number.abs() < MODERATE);
        let is_sharp = !self.wanted.moments || packed.most_steps() <= SHARP_STEPS;
        if rows.is_some() || weight != 1 || !is_moderate || !is_sharp {
            let mut at = first;
            self.each_unpacked(values, packed, |groups, doubles| {
                let rows = rows.map(|rows| rows.slice(at - first, doubles.len()));
                groups.update(layout, at, doubles, true, rows.as_ref(), weight);
                at += doubles.len();
            });
            return;
        }
        let cells = first..first + values.len();
        if layout.ascending(cells.clone(), BLOCK, |group, range| {
            self.packed_segment(&Segment::Ascending(group), &values[range], packed);
        }) {
            return;
        }
        layout.stretches(cells, |stretch, cells| match stretch {
            Stretch::Rows { base, len }
                if cells.len() >= MANY_ROWS * len && !self.wanted.moments =>
            {
                self.packed_rows(layout, (base, len), &values[cells], packed);
            }
            _ => {
                let start = cells.start;
                layout.segments(first + start..first + cells.end, |segment, range| {
                    let values = &values[start + range.start..start + range.end];
                    self.packed_segment(&segment, values, packed);
                });
            }
        });
    }

    /// Unpacks values a block at a time.
    pub(super) fn each_unpacked<S: Native>(
        &mut self,
        values: &[S],
        packed: &Packed<S>,
        mut f: impl FnMut(&mut Self, &[f64]),
    ) {
        let mut unpacked = std::mem::take(&mut self.unpacked);
        unpacked.resize(BLOCK, 0.0);
        for values in values.chunks(BLOCK) {
            let doubles = &mut unpacked[..values.len()];
            self.simd.scale_numbers(doubles, values, &packed.missing, packed.by);
            f(self, doubles);
        }
        self.unpacked = unpacked;
    }

    fn packed_segment<S: Native>(
        &mut self,
        segment: &Segment<'_>,
        values: &[S],
        packed: &Packed<S>,
    ) {
        let wanted = self.wanted;
        let only_sums = !(wanted.min || wanted.max || wanted.moments);
        match *segment {
            Segment::Same(group) => {
                values.chunks(BLOCK).for_each(|block| self.packed_block(group, block, packed));
            }
            Segment::Ascending(first) if only_sums => {
                for (number, block) in values.chunks(BLOCK).enumerate() {
                    self.packed_row(first + number * BLOCK, block, packed);
                }
            }
            Segment::Ascending(mut first) => {
                self.each_unpacked(values, packed, |groups, doubles| {
                    groups.segment(&Segment::Ascending(first), doubles, true, 1);
                    first += doubles.len();
                });
            }
            Segment::Scattered(base, mut offsets) => {
                self.each_unpacked(values, packed, |groups, doubles| {
                    let (own, rest) = offsets.split_at(doubles.len());
                    groups.segment(&Segment::Scattered(base, own), doubles, true, 1);
                    offsets = rest;
                });
            }
        }
    }

    /// Adds values of one group.
    fn packed_block<S: Native>(&mut self, group: usize, values: &[S], packed: &Packed<S>) {
        let [factor, offset] = packed.by;
        let missing = packed.count_missing(values, self.simd);
        let mut present = Vec::new();
        let mut values = values;
        if missing > 0 {
            present = values.to_vec();
            present.retain(|value| !packed.missing.contains(value));
            values = &present;
        }
        if values.is_empty() {
            return;
        }
        let count = values.len() as f64;
        self.counts.add(group, values.len() as i64);
        if self.wanted.sum {
            self.sums[group] += self.simd.sum_narrow(values) as f64 * factor + count * offset;
        }
        let bounds = |simd: crate::simd::Simd, least: bool| {
            // A negative factor turns the order around.
            if least != (factor < 0.0) {
                simd.min(values, values[0])
            } else {
                simd.max(values, values[0])
            }
        };
        if self.wanted.min {
            keep_least(&mut self.min[group], packed.value(bounds(self.simd, true)));
        }
        if self.wanted.max {
            keep_most(&mut self.max[group], packed.value(bounds(self.simd, false)));
        }
        if self.wanted.moments {
            let start = values[0];
            let (distance, squares) = self.simd.distances(values, start.to_double());
            let mean = distance / count;
            let squares = (squares - distance * mean).max(0.0) * (factor * factor);
            let (start, mean) = (packed.value(start), mean * factor);
            self.moments[group].merge(&Moments { count, start, mean, squares });
        }
        drop(present);
    }

    /// Adds values of consecutive groups, where only sums are wanted.
    fn packed_row<S: Native>(&mut self, first: usize, values: &[S], packed: &Packed<S>) {
        self.counts.add_row(first, values.len(), 1);
        if packed.count_missing(values, self.simd) > 0 {
            for (cell, value) in values.iter().enumerate() {
                if packed.missing.contains(value) {
                    self.counts.add_row(first + cell, 1, -1);
                }
            }
        }
        if self.wanted.sum {
            let sums = &mut self.sums[first..first + values.len()];
            self.simd.add_each_scaled(sums, values, &packed.missing, packed.by);
        }
    }

    /// Adds rows of cells with the same groups: first added up cell by cell, some columns at a time.
    fn packed_rows<S: Native>(
        &mut self,
        layout: &GroupLayout,
        (base, len): (usize, usize),
        values: &[S],
        packed: &Packed<S>,
    ) {
        let mut spare = Vec::new();
        for start in (0..len).step_by(BLOCK) {
            let columns = start..len.min(start + BLOCK);
            let bounds = if self.wanted.min || self.wanted.max { columns.len() } else { 0 };
            let mut own = RowSums {
                sums: vec![0.0; columns.len()],
                missing: vec![0.0; columns.len()],
                min: vec![S::NO_MINIMUM; bounds],
                max: vec![S::LEAST; bounds],
            };
            for row in values.chunks_exact(len) {
                self.add_packed(&mut own, &row[columns.clone()], packed, &mut spare);
            }
            let rows = values.len() / len;
            layout.row_segments(base, |segment, range| {
                let cells = range.start.max(start)..range.end.min(columns.end);
                if cells.is_empty() {
                    return;
                }
                let within = cells.start - start..cells.end - start;
                match segment {
                    Segment::Same(group) => {
                        self.add_row_sums_packed(group, &own, within, rows, packed);
                    }
                    Segment::Ascending(first) => {
                        for cell in within {
                            let group = first + start + cell - range.start;
                            self.add_row_sums_packed(group, &own, cell..cell + 1, rows, packed);
                        }
                    }
                    Segment::Scattered(base, offsets) => {
                        for cell in within {
                            let group = base + offsets[start + cell - range.start] as usize;
                            self.add_row_sums_packed(group, &own, cell..cell + 1, rows, packed);
                        }
                    }
                }
            });
        }
    }

    /// Adds the numbers of a row to those of its cells.
    fn add_packed<S: Native>(
        &self,
        own: &mut RowSums<S>,
        row: &[S],
        packed: &Packed<S>,
        spare: &mut Vec<S>,
    ) {
        let simd = self.simd;
        if packed.count_missing(row, simd) == 0 {
            simd.add_each(&mut own.sums, row);
            if !own.min.is_empty() {
                simd.min_each(&mut own.min, row);
                simd.max_each(&mut own.max, row);
            }
            return;
        }
        simd.add_each_missing(&mut own.missing, row, &packed.missing);
        spare.resize(row.len(), S::default());
        simd.replace_each(spare, row, &packed.missing, S::default());
        simd.add_each(&mut own.sums, spare);
        if !own.min.is_empty() {
            simd.replace_each(spare, row, &packed.missing, S::NO_MINIMUM);
            simd.min_each(&mut own.min, spare);
            simd.replace_each(spare, row, &packed.missing, S::LEAST);
            simd.max_each(&mut own.max, spare);
        }
    }

    /// Adds the states of some cells, each the sum of `rows` rows, to a group.
    fn add_row_sums_packed<S: Native>(
        &mut self,
        group: usize,
        own: &RowSums<S>,
        cells: Range<usize>,
        rows: usize,
        packed: &Packed<S>,
    ) {
        let [factor, offset] = packed.by;
        let missing: f64 = own.missing[cells.clone()].iter().sum();
        let count = (cells.len() * rows) as f64 - missing;
        if count <= 0.0 {
            return;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a whole number of cells of a tile")]
        self.counts.add(group, count as i64);
        if self.wanted.sum {
            let sum: f64 = own.sums[cells.clone()].iter().sum();
            self.sums[group] += sum * factor + count * offset;
        }
        if own.min.is_empty() {
            return;
        }
        let least =
            own.min[cells.clone()].iter().fold(S::NO_MINIMUM, |a, b| if *b < a { *b } else { a });
        let most = own.max[cells].iter().fold(S::LEAST, |a, b| if *b > a { *b } else { a });
        let (one, other) = (packed.value(least), packed.value(most));
        let (least, most) = if factor < 0.0 { (other, one) } else { (one, other) };
        if self.wanted.min {
            keep_least(&mut self.min[group], least);
        }
        if self.wanted.max {
            keep_most(&mut self.max[group], most);
        }
    }
}

kernel! {
    /// Sum of a block of integers of at most 32 bits. Those of at most 16 bits are added in lanes of 32 bits.
    fn sum_narrow<T: Native>(values: &[T]) -> i64 {
        if size_of::<T>() > 2 {
            return values.iter().fold(0, |sum: i64, value| sum.wrapping_add(value.to_wrapped()));
        }
        // 2¹⁵ values of 16 bits fit.
        let mut sum = 0;
        for block in values.chunks(1 << 15) {
            #[expect(clippy::cast_possible_truncation, reason = "the value has at most 16 bits")]
            let own = block.iter().fold(0_i32, |sum, value| sum.wrapping_add(value.to_wrapped() as i32));
            sum += i64::from(own);
        }
        sum
    }
}

kernel! {
    /// Adds each value, unpacked, to the sum at the same position, but for missing ones.
    fn add_each_scaled<T: Native>(sums: &mut [f64], values: &[T], missing: &[T], by: [f64; 2]) {
        let own = |value: T| value.to_double() * by[0] + by[1];
        match missing {
            [] => for (sum, value) in sums.iter_mut().zip(values) {
                *sum += own(*value);
            },
            [one] => for (sum, value) in sums.iter_mut().zip(values) {
                *sum += if *value == *one { 0.0 } else { own(*value) };
            },
            [one, other] => for (sum, value) in sums.iter_mut().zip(values) {
                *sum += if *value == *one || *value == *other { 0.0 } else { own(*value) };
            },
            many => for (sum, value) in sums.iter_mut().zip(values) {
                *sum += if many.contains(value) { 0.0 } else { own(*value) };
            },
        }
    }
}

kernel! {
    /// Counts missing values at each position.
    fn add_each_missing<T: Native>(counts: &mut [f64], values: &[T], missing: &[T]) {
        for missing in missing {
            for (count, value) in counts.iter_mut().zip(values) {
                *count += if *value == *missing { 1.0 } else { 0.0 };
            }
        }
    }
}

kernel! {
    /// Copies each value, with another one in place of those that are missing.
    fn replace_each<T: Native>(to: &mut [T], from: &[T], missing: &[T], with: T) {
        to.copy_from_slice(from);
        for missing in missing {
            for (to, from) in to.iter_mut().zip(from) {
                *to = if *from == *missing { with } else { *to };
            }
        }
    }
}
