//! States of groups.

use std::ops::Range;

use arrow::{
    array::{Array, ArrayData},
    buffer::{BooleanBuffer, Buffer, ScalarBuffer},
    datatypes::DataType,
};

use super::{
    arithmetic::{self, Arithmetic, Block, Spare},
    counts::{Counts, GroupCounts},
    float_column::{FloatColumn, has_no_missing, valid_rows},
    integer_sums::IntegerSums,
    layout::{GroupLayout, Segment, Stretch},
    moments::Moments,
    native::{Native, native_slice},
    unpacking::{Packed, StoredNumbers, UnpackingKind, of_integers},
};
use crate::simd::Simd;

/// Number of values reduced at a time. They fit the first-level cache, so that each kernel after the first reads them
/// from there.
pub(super) const BLOCK: usize = 2048;

/// Number of rows with the same groups from which on they are added up before they are grouped.
pub(super) const MANY_ROWS: usize = 4;

/// Aggregates to compute per group, beside the number of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The sum, in float64.
    pub sum: bool,
    /// The exact sum of integers.
    pub integer_sum: bool,
    /// The minimum. NaN is above all other values.
    pub min: bool,
    /// The maximum. NaN is above all other values.
    pub max: bool,
    /// The mean, and the sum of the squared distances from it.
    pub moments: bool,
    /// The sum of weights, beside the sum of values.
    pub weights: bool,
}

impl Wanted {
    /// All aggregates of both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            sum: self.sum || other.sum,
            integer_sum: self.integer_sum || other.integer_sum,
            min: self.min || other.min,
            max: self.max || other.max,
            moments: self.moments || other.moments,
            weights: self.weights || other.weights,
        }
    }

    /// Whether sums of doubles are all that values are added to.
    fn has_only_sums(self) -> bool {
        self.sum && !(self.integer_sum || self.min || self.max || self.moments)
    }

    /// Bytes of the states of one group, for values of `width` bytes.
    #[must_use]
    pub fn bytes(self, width: usize) -> usize {
        // Two arrays of counts.
        16 + 8 * usize::from(self.sum)
            + 24 * usize::from(self.integer_sum)
            + width * (usize::from(self.min) + usize::from(self.max))
            + 32 * usize::from(self.moments)
            + 8 * usize::from(self.weights)
    }
}

/// States of groups, for values of one type.
#[derive(Clone, Debug)]
pub struct Reduction(Kind, Spare);

/// Results per group.
#[derive(Clone, Debug, Default)]
pub struct States {
    /// Numbers of values.
    pub counts: GroupCounts,
    /// Sums, if wanted.
    pub sums: Vec<f64>,
    /// Sums of integers.
    pub integer_sums: Vec<i128>,
    /// Sums of weights.
    pub weights: Vec<f64>,
    /// Minima in native byte order. Undefined for groups without values.
    pub min: Option<Buffer>,
    /// Maxima in native byte order. Undefined for groups without values.
    pub max: Option<Buffer>,
    /// Values near the means, which `means` are relative to.
    pub starts: Vec<f64>,
    /// Distances of the means from the starts.
    pub means: Vec<f64>,
    /// Sums of the squared distances from the means.
    pub squares: Vec<f64>,
}

/// Values or states of another type than the states that they are added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("values of one type can't be added to the states of another")]
pub struct Misfit;

/// Defines the kinds of values, and a macro that expands the same code for each.
macro_rules! kinds {
    ($($kind:ident $t:ty),*) => {
        #[derive(Clone, Debug)]
        enum Kind {
            $($kind(Groups<$t>)),*
        }

        macro_rules! each_kind {
            ($of:expr, $groups:ident => $do:expr) => {
                match $of {
                    $(Kind::$kind($groups) => $do),*
                }
            };
        }

        macro_rules! both_kinds {
            ($one:expr, $other:expr, $own:ident, $their:ident => $do:expr) => {
                match ($one, $other) {
                    $((Kind::$kind($own), Kind::$kind($their)) => {
                        $do;
                        Ok(())
                    })*
                    _ => Err(Misfit),
                }
            };
        }
    };
}

kinds!(
    Int8 i8, Int16 i16, Int32 i32, Int64 i64, UInt8 u8, UInt16 u16, UInt32 u32, UInt64 u64,
    Float32 f32, Float64 f64
);

impl Reduction {
    /// States of `groups` groups. `None` for a type without kernels; times are integers.
    #[must_use]
    pub fn new(data_type: &DataType, wanted: Wanted, groups: usize) -> Option<Self> {
        let kind = match data_type {
            DataType::Int8 => Kind::Int8(Groups::new(wanted, groups)),
            DataType::Int16 => Kind::Int16(Groups::new(wanted, groups)),
            DataType::Int32 => Kind::Int32(Groups::new(wanted, groups)),
            DataType::Int64 | DataType::Timestamp(..) | DataType::Duration(_) => {
                Kind::Int64(Groups::new(wanted, groups))
            }
            DataType::UInt8 => Kind::UInt8(Groups::new(wanted, groups)),
            DataType::UInt16 => Kind::UInt16(Groups::new(wanted, groups)),
            DataType::UInt32 => Kind::UInt32(Groups::new(wanted, groups)),
            DataType::UInt64 => Kind::UInt64(Groups::new(wanted, groups)),
            DataType::Float32 => Kind::Float32(Groups::new(wanted, groups)),
            DataType::Float64 => Kind::Float64(Groups::new(wanted, groups)),
            _ => return None,
        };
        Some(Self(kind, Spare::default()))
    }

    /// Uses this instruction set.
    #[must_use]
    pub fn with_simd(mut self, simd: Simd) -> Self {
        each_kind!(&mut self.0, groups => groups.simd = simd);
        self
    }

    /// Adds the values of a tile's cells from `first` on, each `weight` times. NULL isn't counted, nor NaN if
    /// `nan_is_null`, nor a row where the mask `rows` is false.
    ///
    /// # Errors
    /// [`Misfit`] for values of another width than the states' type.
    pub fn update(
        &mut self,
        layout: &GroupLayout,
        first: usize,
        values: &dyn Array,
        nan_is_null: bool,
        rows: Option<&BooleanBuffer>,
        weight: u64,
    ) -> Result<(), Misfit> {
        let valid =
            values.nulls().filter(|nulls| nulls.null_count() > 0).map(|nulls| nulls.inner());
        let both;
        let rows = match (valid, rows) {
            (Some(valid), Some(rows)) => {
                both = valid & rows;
                Some(&both)
            }
            (valid, rows) => valid.or(rows),
        };
        let data = values.to_data();
        each_kind!(&mut self.0, groups => {
            let native = native_values(&data).ok_or(Misfit)?;
            groups.update(layout, first, &native, nan_is_null, rows, weight);
        });
        Ok(())
    }

    /// Adds numbers as they are stored. Otherwise like [`Reduction::update`].
    ///
    /// # Errors
    /// [`Misfit`] for numbers of another type, and for bytes that aren't whole numbers, or aren't aligned.
    pub fn update_stored(
        &mut self,
        layout: &GroupLayout,
        first: usize,
        StoredNumbers { bytes, unpacking }: StoredNumbers<'_>,
        nan_is_null: bool,
        rows: Option<&BooleanBuffer>,
        weight: u64,
    ) -> Result<(), Misfit> {
        let Some(unpacking) = unpacking else {
            each_kind!(&mut self.0, groups => {
                let values = native_slice(bytes).ok_or(Misfit)?;
                groups.update(layout, first, values, nan_is_null, rows, weight);
            });
            return Ok(());
        };
        match (&mut self.0, &unpacking.0) {
            (Kind::Float64(groups), UnpackingKind::Scaled(scaling)) => {
                macro_rules! of {
                    ($t:ty) => {{
                        let values = native_slice::<$t>(bytes).ok_or(Misfit)?;
                        let packed = Packed::new(scaling);
                        groups.update_packed(layout, first, values, &packed, rows, weight);
                    }};
                }
                of_integers!(scaling.integers, of, return Err(Misfit));
            }
            (Kind::Float32(groups), UnpackingKind::Singles(missing)) => {
                let values = native_slice(bytes).ok_or(Misfit)?;
                let mask =
                    |to: &mut [f32], from: &[f32]| Simd::detect().mask_singles(to, from, missing);
                groups.update_masked(layout, first, values, mask, rows, weight);
            }
            (Kind::Float64(groups), UnpackingKind::Doubles(missing)) => {
                let values = native_slice(bytes).ok_or(Misfit)?;
                let mask =
                    |to: &mut [f64], from: &[f64]| Simd::detect().mask_doubles(to, from, missing);
                groups.update_masked(layout, first, values, mask, rows, weight);
            }
            _ => return Err(Misfit),
        }
        Ok(())
    }

    /// Adds the values of an expression on a tile's cells from `first` on. `columns` are the expression's columns;
    /// `nan_is_null` is for NaN that the expression makes. Otherwise like [`Reduction::update`]. Returns `false`, with nothing added, if the expression doesn't have the states' type.
    pub fn update_with(
        &mut self,
        layout: &GroupLayout,
        (first, expr, columns): (usize, &Arithmetic, &[FloatColumn<'_>]),
        nan_is_null: bool,
        rows: Option<&BooleanBuffer>,
        weight: u64,
    ) -> bool {
        let Some(len) = columns.first().map(FloatColumn::len) else { return false };
        let valid = valid_rows(columns, rows);
        let simd = Simd::detect();
        for start in (0..len).step_by(arithmetic::BLOCK) {
            let range = start..len.min(start + arithmetic::BLOCK);
            let rows = valid.as_ref().map(|valid| valid.slice(start, range.len()));
            if rows.as_ref().is_some_and(|rows| rows.count_set_bits() == 0) {
                continue;
            }
            let update = (layout, first + start, rows, weight, nan_is_null);
            let Some(block) = expr.block(columns, range.clone(), simd, &mut self.1) else {
                return false;
            };
            match (&mut self.0, &block) {
                (Kind::Float32(groups), Block::Singles(values)) => {
                    groups.update_block(update, values.as_slice(), columns, range);
                }
                (Kind::Float64(groups), Block::Doubles(values)) => {
                    groups.update_block(update, values.as_slice(), columns, range);
                }
                _ => return false,
            }
            self.1.keep(block);
        }
        true
    }

    /// Adds a sum of `count` values, where only sums are wanted.
    pub fn add_sum(&mut self, group: usize, sum: f64, count: i64) {
        each_kind!(&mut self.0, groups => {
            groups.counts.add(group, count);
            if let Some(own) = groups.sums.get_mut(group) {
                *own += sum;
            }
        });
    }

    /// Adds to the sum of a group's weights, where weights are wanted.
    pub fn add_weight(&mut self, group: usize, weight: f64) {
        each_kind!(&mut self.0, groups => {
            if let Some(own) = groups.weights.get_mut(group) {
                *own += weight;
            }
        });
    }

    /// Adds the weights of the values of a tile's cells from `first` on, each `times` times, where the mask `rows` is
    /// true.
    pub fn add_weights(
        &mut self,
        layout: &GroupLayout,
        first: usize,
        weights: &[f64],
        rows: Option<&BooleanBuffer>,
        times: u64,
    ) {
        let times = times as f64;
        layout.segments(first..first + weights.len(), |segment, range| {
            let mut add = |cell: usize| {
                let group = match segment {
                    Segment::Same(group) => group,
                    Segment::Ascending(first) => first + cell - range.start,
                    Segment::Scattered(base, offsets) => {
                        base + offsets[cell - range.start] as usize
                    }
                };
                self.add_weight(group, weights[cell] * times);
            };
            match rows {
                Some(rows) => rows
                    .slice(range.start, range.len())
                    .set_indices()
                    .for_each(|cell| add(range.start + cell)),
                None => range.clone().for_each(add),
            }
        });
    }

    /// Makes place for more groups.
    pub fn grow(&mut self, groups: usize) {
        each_kind!(&mut self.0, own => own.grow(groups));
    }

    /// Adds the states of another reduction over the same groups.
    ///
    /// # Errors
    /// [`Misfit`] for states of another type.
    pub fn merge(&mut self, other: &Self) -> Result<(), Misfit> {
        both_kinds!(&mut self.0, &other.0, own, other => own.merge(other))
    }

    /// Results per group.
    #[must_use]
    pub fn finish(self) -> States {
        each_kind!(self.0, groups => groups.finish())
    }
}

pub(super) fn native_values<T: Native>(data: &ArrayData) -> Option<ScalarBuffer<T>> {
    let buffer = data.buffers().first()?;
    if data.data_type().primitive_width()? != size_of::<T>() {
        return None;
    }
    Some(ScalarBuffer::new(buffer.clone(), data.offset(), data.len()))
}

#[derive(Clone, Debug)]
pub(super) struct Groups<T> {
    pub(super) wanted: Wanted,
    pub(super) simd: Simd,
    pub(super) counts: Counts,
    pub(super) sums: Vec<f64>,
    integer_sums: IntegerSums,
    weights: Vec<f64>,
    pub(super) min: Vec<T>,
    pub(super) max: Vec<T>,
    pub(super) moments: Vec<Moments>,
    /// Buffer for the rest of a block's values after some are taken out.
    scratch: Vec<T>,
    /// Buffer for a block of unpacked values.
    pub(super) unpacked: Vec<T>,
}

impl<T: Native> Groups<T> {
    fn new(wanted: Wanted, groups: usize) -> Self {
        Self {
            wanted,
            simd: Simd::detect(),
            counts: Counts::new(groups),
            sums: vec![0.0; if wanted.sum { groups } else { 0 }],
            integer_sums: IntegerSums::new(if wanted.integer_sum { groups } else { 0 }),
            weights: vec![0.0; if wanted.weights { groups } else { 0 }],
            min: vec![T::NO_MINIMUM; if wanted.min { groups } else { 0 }],
            max: vec![T::LEAST; if wanted.max { groups } else { 0 }],
            moments: vec![Moments::default(); if wanted.moments { groups } else { 0 }],
            scratch: Vec::new(),
            unpacked: Vec::new(),
        }
    }

    fn grow(&mut self, groups: usize) {
        if groups <= self.counts.groups() {
            return;
        }
        self.counts.grow(groups);
        let wanted = self.wanted;
        self.sums.resize(if wanted.sum { groups } else { 0 }, 0.0);
        self.integer_sums.grow(if wanted.integer_sum { groups } else { 0 });
        self.weights.resize(if wanted.weights { groups } else { 0 }, 0.0);
        self.min.resize(if wanted.min { groups } else { 0 }, T::NO_MINIMUM);
        self.max.resize(if wanted.max { groups } else { 0 }, T::LEAST);
        self.moments.resize(if wanted.moments { groups } else { 0 }, Moments::default());
    }

    pub(super) fn update(
        &mut self,
        layout: &GroupLayout,
        first: usize,
        values: &[T],
        nan_is_null: bool,
        rows: Option<&BooleanBuffer>,
        weight: u64,
    ) {
        let cells = first..first + values.len();
        if rows.is_none()
            && weight == 1
            && layout.ascending(cells.clone(), BLOCK, |group, range| {
                self.segment(&Segment::Ascending(group), &values[range], nan_is_null, 1);
            })
        {
            return;
        }
        if rows.is_none() && weight == 1 && !self.wanted.moments {
            layout.stretches(cells, |stretch, cells| match stretch {
                Stretch::Rows { base, len } if cells.len() >= MANY_ROWS * len => {
                    self.rows(layout, base, len, &values[cells], nan_is_null);
                }
                _ => {
                    let start = cells.start;
                    layout.segments(first + start..first + cells.end, |segment, range| {
                        let values = &values[start + range.start..start + range.end];
                        self.segment(&segment, values, nan_is_null, 1);
                    });
                }
            });
            return;
        }
        layout.segments(cells, |segment, range| {
            let Some(rows) = rows else {
                self.segment(&segment, &values[range], nan_is_null, weight);
                return;
            };
            let rows = rows.slice(range.start, range.len());
            let values = &values[range];
            match rows.count_set_bits() {
                0 => return,
                all if all == values.len() => {
                    self.segment(&segment, values, nan_is_null, weight);
                    return;
                }
                _ => {}
            }
            match segment {
                Segment::Same(group) => {
                    let mut kept = std::mem::take(&mut self.scratch);
                    for start in (0..values.len()).step_by(BLOCK) {
                        let len = BLOCK.min(values.len() - start);
                        let own = &values[start..start + len];
                        let count = keep(own, &rows.slice(start, len), &mut kept);
                        self.block(group, &kept[..count], nan_is_null, weight);
                    }
                    self.scratch = kept;
                }
                Segment::Ascending(first) => {
                    for cell in rows.set_indices() {
                        self.one(first + cell, values[cell], nan_is_null, weight);
                    }
                }
                Segment::Scattered(base, offsets) => {
                    for cell in rows.set_indices() {
                        let group = base + offsets[cell] as usize;
                        self.one(group, values[cell], nan_is_null, weight);
                    }
                }
            }
        });
    }

    /// Adds the values of an expression on these rows of the columns. Skips a value that is NaN because of a NULL, and
    /// every NaN if `nan_is_null`.
    fn update_block(
        &mut self,
        (layout, first, rows, weight, nan_is_null): (
            &GroupLayout,
            usize,
            Option<BooleanBuffer>,
            u64,
            bool,
        ),
        values: &[T],
        columns: &[FloatColumn<'_>],
        range: Range<usize>,
    ) {
        let all;
        let values = match values {
            [one] if range.len() > 1 => {
                all = vec![*one; range.len()];
                &all
            }
            values => values,
        };
        let one = layout.only_group(first..first + values.len()).filter(|_| rows.is_none());
        if nan_is_null && one.is_none() {
            return self.update(layout, first, values, true, rows.as_ref(), weight);
        }
        let sum = self.simd.sum(values);
        if !sum.is_nan() {
            // No value is NaN, and the sum of a group isn't computed again.
            return match one {
                Some(group) => self.block_of_sum(group, values, sum, weight),
                None => self.update(layout, first, values, false, rows.as_ref(), weight),
            };
        }
        let rows = if nan_is_null {
            rows
        } else {
            let mut row = range.start..;
            Some(BooleanBuffer::collect_bool(values.len(), |i| {
                let row = row.next().unwrap_or(range.end);
                rows.as_ref().is_none_or(|rows| rows.value(i)) && has_no_missing(columns, row)
            }))
        };
        self.update(layout, first, values, nan_is_null, rows.as_ref(), weight);
    }

    /// Adds floats of which some are missing: masked a block at a time, into the first-level cache.
    fn update_masked(
        &mut self,
        layout: &GroupLayout,
        first: usize,
        values: &[T],
        mask: impl Fn(&mut [T], &[T]),
        rows: Option<&BooleanBuffer>,
        weight: u64,
    ) {
        let mut masked = std::mem::take(&mut self.unpacked);
        masked.resize(BLOCK, T::default());
        for (number, values) in values.chunks(BLOCK).enumerate() {
            let start = number * BLOCK;
            let own = &mut masked[..values.len()];
            mask(own, values);
            let rows = rows.map(|rows| rows.slice(start, values.len()));
            self.update(layout, first + start, own, true, rows.as_ref(), weight);
        }
        self.unpacked = masked;
    }

    pub(super) fn segment(
        &mut self,
        segment: &Segment<'_>,
        values: &[T],
        nan_is_null: bool,
        weight: u64,
    ) {
        match *segment {
            Segment::Same(group) => {
                values.chunks(BLOCK).for_each(|v| self.block(group, v, nan_is_null, weight));
            }
            Segment::Ascending(first) if weight == 1 => {
                for (number, block) in values.chunks(BLOCK).enumerate() {
                    self.row(first + number * BLOCK, block, nan_is_null);
                }
            }
            Segment::Ascending(first) => {
                for (cell, value) in values.iter().enumerate() {
                    self.one(first + cell, *value, nan_is_null, weight);
                }
            }
            Segment::Scattered(base, offsets) => {
                self.scattered(base, offsets, values, nan_is_null, weight);
            }
        }
    }

    /// Adds rows of cells with the same groups: first added up cell by cell.
    fn rows(
        &mut self,
        layout: &GroupLayout,
        base: usize,
        len: usize,
        values: &[T],
        nan_is_null: bool,
    ) {
        let mut sum = Self::new(self.wanted, len);
        sum.simd = self.simd;
        let mut rows = 0;
        for row in values.chunks_exact(len) {
            if T::FLOATS && self.simd.has_nan(row) {
                layout.row_segments(base, |segment, range| {
                    self.segment(&segment, &row[range], nan_is_null, 1);
                });
                continue;
            }
            rows += 1;
            sum.add_each(0..len, row);
        }
        layout.row_segments(base, |segment, range| match segment {
            Segment::Same(group) => self.add_row_sums(group, &sum, range, rows),
            Segment::Ascending(first) => {
                for cell in range {
                    self.add_row_sums(first + cell, &sum, cell..cell + 1, rows);
                }
            }
            Segment::Scattered(base, offsets) => {
                for (cell, offset) in offsets.iter().enumerate() {
                    self.add_row_sums(base + *offset as usize, &sum, cell..cell + 1, rows);
                }
            }
        });
    }

    /// Adds the states of some cells, each the sum of `rows` rows, to a group.
    fn add_row_sums(&mut self, group: usize, sum: &Self, cells: Range<usize>, rows: usize) {
        if rows == 0 {
            return;
        }
        self.counts.add(group, (cells.len() * rows) as i64);
        if self.wanted.sum {
            self.sums[group] += sum.sums[cells.clone()].iter().sum::<f64>();
        }
        if self.wanted.integer_sum {
            let all = sum.integer_sums.of(cells.clone()).sum();
            self.integer_sums.add(group, all, 1);
        }
        if self.wanted.min {
            sum.min[cells.clone()].iter().for_each(|v| keep_least(&mut self.min[group], *v));
        }
        if self.wanted.max {
            sum.max[cells].iter().for_each(|v| keep_most(&mut self.max[group], *v));
        }
    }

    /// Adds each value to the group at the same position, without counts and moments. No value may be NaN.
    fn add_each(&mut self, groups: Range<usize>, values: &[T]) {
        if self.wanted.sum {
            self.simd.add_each(&mut self.sums[groups.clone()], values);
        }
        if self.wanted.integer_sum {
            self.integer_sums.add_each(groups.clone(), values, self.simd);
        }
        if self.wanted.min {
            self.simd.min_each(&mut self.min[groups.clone()], values);
        }
        if self.wanted.max {
            self.simd.max_each(&mut self.max[groups], values);
        }
    }

    /// Adds values of one group.
    fn block(&mut self, group: usize, values: &[T], nan_is_null: bool, weight: u64) {
        if values.is_empty() {
            return;
        }
        let mut sum = 0.0;
        if T::FLOATS || (self.wanted.sum && !T::SMALL) {
            sum = self.simd.sum(values);
            // The sum is NaN if a value is, and is computed anyway. Infinities can make it NaN too.
            if T::FLOATS && sum.is_nan() && self.simd.has_nan(values) {
                if !nan_is_null {
                    values.iter().for_each(|v| self.one(group, *v, false, weight));
                    return;
                }
                let mut kept = std::mem::take(&mut self.scratch);
                kept.clear();
                kept.extend(values.iter().copied().filter(|v| !v.is_nan()));
                self.block(group, &kept, false, weight);
                self.scratch = kept;
                return;
            }
        }
        self.block_of_sum(group, values, sum, weight);
    }

    /// Adds values of one group, none of them NaN. `sum` is their sum, if they are floats or their sum is wanted and
    /// isn't that of small integers.
    fn block_of_sum(&mut self, group: usize, values: &[T], mut sum: f64, weight: u64) {
        if values.is_empty() {
            return;
        }
        self.counts.add(group, (values.len() as u64 * weight).cast_signed());
        if T::SMALL && (self.wanted.sum || self.wanted.integer_sum) {
            let integer = self.simd.sum_small(values);
            sum = integer as f64;
            if self.wanted.integer_sum {
                self.integer_sums.add(group, integer.into(), weight);
            }
        } else if self.wanted.integer_sum {
            let integer = self.simd.sum_integers(values);
            self.integer_sums.add(group, integer, weight);
        }
        if self.wanted.sum {
            self.sums[group] += sum * weight as f64;
        }
        if self.wanted.min {
            keep_least(&mut self.min[group], self.simd.min(values, values[0]));
        }
        if self.wanted.max {
            keep_most(&mut self.max[group], self.simd.max(values, values[0]));
        }
        if self.wanted.moments {
            let count = values.len() as f64;
            // Relative to one of the values: the squares of equal values are then exactly 0.
            let start = values[0].to_double();
            let (distance, squares) = self.simd.distances(values, start);
            let mean = distance / count;
            let squares = squares - distance * mean;
            // Rounding may leave less than 0; NaN stays.
            let squares = if squares < 0.0 { 0.0 } else { squares };
            let weight = weight as f64;
            let (count, squares) = (count * weight, squares * weight);
            self.moments[group].merge(&Moments { count, start, mean, squares });
        }
    }

    /// Adds values of consecutive groups.
    fn row(&mut self, first: usize, values: &[T], nan_is_null: bool) {
        let groups = first..first + values.len();
        if T::FLOATS && self.wanted.has_only_sums() {
            self.counts.add_row(first, values.len(), 1);
            let sums = &mut self.sums[groups];
            if !nan_is_null {
                self.simd.add_each(sums, values);
            } else if self.simd.add_present(sums, values) {
                self.leave_out_nan(first, values);
            }
            return;
        }
        let has_nan = T::FLOATS && self.simd.has_nan(values);
        if has_nan && (!nan_is_null || self.wanted.moments) {
            for (cell, value) in values.iter().enumerate() {
                self.one(first + cell, *value, nan_is_null, 1);
            }
            return;
        }
        self.counts.add_row(first, values.len(), 1);
        if has_nan {
            self.leave_out_nan(first, values);
            if self.wanted.sum {
                self.simd.add_present(&mut self.sums[groups.clone()], values);
            }
            if self.wanted.min {
                self.simd.min_each(&mut self.min[groups.clone()], values);
            }
            if self.wanted.max {
                self.simd.max_each(&mut self.max[groups.clone()], values);
            }
        } else {
            self.add_each(groups.clone(), values);
        }
        if self.wanted.moments {
            for (moments, value) in self.moments[groups].iter_mut().zip(values) {
                moments.add(value.to_double());
            }
        }
    }

    /// Takes NaN among values of consecutive groups out of the counts.
    fn leave_out_nan(&mut self, first: usize, values: &[T]) {
        for (cell, value) in values.iter().enumerate() {
            if value.is_nan() {
                self.counts.add_row(first + cell, 1, -1);
            }
        }
    }

    /// Adds values of groups in any order.
    fn scattered(
        &mut self,
        base: usize,
        offsets: &[u32],
        values: &[T],
        nan_is_null: bool,
        weight: u64,
    ) {
        if !self.wanted.has_only_sums() {
            for (offset, value) in offsets.iter().zip(values) {
                self.one(base + *offset as usize, *value, nan_is_null, weight);
            }
            return;
        }
        for (offset, value) in offsets.iter().zip(values) {
            if nan_is_null && value.is_nan() {
                continue;
            }
            let group = base + *offset as usize;
            self.counts.add(group, weight.cast_signed());
            self.sums[group] += value.to_double() * weight as f64;
        }
    }

    /// Adds one value.
    fn one(&mut self, group: usize, value: T, nan_is_null: bool, weight: u64) {
        if T::FLOATS && nan_is_null && value.is_nan() {
            return;
        }
        self.counts.add(group, weight.cast_signed());
        if self.wanted.sum {
            self.sums[group] += value.to_double() * weight as f64;
        }
        if self.wanted.integer_sum {
            self.integer_sums.add(group, value.to_integer(), weight);
        }
        if self.wanted.min {
            keep_least(&mut self.min[group], value);
        }
        if self.wanted.max {
            keep_most(&mut self.max[group], value);
        }
        if self.wanted.moments {
            let start = value.to_double();
            // An infinity has no distance, not even from itself.
            let squares = (start * 0.0).abs();
            let one = Moments { count: weight as f64, start, squares, ..Moments::default() };
            self.moments[group].merge(&one);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        self.simd.add_each(&mut self.sums, &other.sums);
        self.simd.add_each(&mut self.weights, &other.weights);
        self.integer_sums.merge(&other.integer_sums);
        self.min.iter_mut().zip(&other.min).for_each(|(own, value)| keep_least(own, *value));
        self.max.iter_mut().zip(&other.max).for_each(|(own, value)| keep_most(own, *value));
        for (own, moments) in self.moments.iter_mut().zip(&other.moments) {
            own.merge(moments);
        }
    }

    fn finish(self) -> States {
        States {
            counts: self.counts.finish(),
            sums: self.sums,
            integer_sums: self.integer_sums.finish(),
            weights: self.weights,
            min: self.wanted.min.then(|| ScalarBuffer::from(self.min).into_inner()),
            max: self.wanted.max.then(|| ScalarBuffer::from(self.max).into_inner()),
            starts: self.moments.iter().map(|moments| moments.start).collect(),
            means: self.moments.iter().map(|moments| moments.mean).collect(),
            squares: self.moments.iter().map(|moments| moments.squares).collect(),
        }
    }
}

/// Copies the values of the wanted rows to the start of `kept`. Returns their number.
fn keep<T: Native>(values: &[T], rows: &BooleanBuffer, kept: &mut Vec<T>) -> usize {
    const WORD: usize = u64::BITS as usize;
    // A value that isn't wanted is overwritten by the next one.
    kept.resize(kept.len().max(values.len() + WORD), T::default());
    let words = rows.bit_chunks();
    let mut count = 0;
    for (values, word) in values.chunks(WORD).zip(words.iter_padded()) {
        if word == 0 {
            continue;
        }
        let to = &mut kept[count..count + WORD];
        if word == u64::MAX {
            to[..values.len()].copy_from_slice(values);
            count += values.len();
            continue;
        }
        let mut own = 0;
        for (bit, value) in values.iter().enumerate() {
            to[own] = *value;
            own += usize::from(word >> bit & 1 == 1);
            if own == WORD {
                break;
            }
        }
        count += own;
    }
    count
}

/// Keeps the minimum; NaN is above all other values.
pub(super) fn keep_least<T: Native>(own: &mut T, value: T) {
    if value.order(*own).is_lt() {
        *own = value;
    }
}

/// Keeps the maximum; NaN is above all other values.
pub(super) fn keep_most<T: Native>(own: &mut T, value: T) {
    if value.order(*own).is_gt() {
        *own = value;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{
            ArrayRef, Float32Array, Float64Array, Int16Array, Int64Array, PrimitiveArray,
            UInt64Array,
        },
        datatypes::{ArrowPrimitiveType, Float32Type, Int16Type, Int64Type},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::reduce::{Function, GroupKeys, Operation};

    const ALL: Wanted = Wanted {
        sum: true,
        integer_sum: true,
        min: true,
        max: true,
        moments: true,
        weights: false,
    };

    /// Results of one group, computed the slow way.
    fn expected(values: &[f64]) -> (i64, f64, Option<f64>, Option<f64>, f64, f64) {
        let count = values.len() as f64;
        let sum: f64 = values.iter().sum();
        let mean = sum / count;
        let squares = values.iter().map(|v| (v - mean).powi(2)).sum();
        (
            values.len() as i64,
            sum,
            values.iter().copied().reduce(f64::min),
            values.iter().copied().reduce(f64::max),
            mean,
            squares,
        )
    }

    fn check<T: ArrowPrimitiveType>(
        layout: &GroupLayout,
        values: &PrimitiveArray<T>,
        cuts: &[usize],
        rows: Option<&BooleanBuffer>,
        weight: u64,
        (nan_is_null, scattered): (bool, bool),
    ) where
        T::Native: Native,
    {
        let groups = if scattered { 64 } else { 400 };
        for simd in Simd::all() {
            let new = || Reduction::new(&T::DATA_TYPE, ALL, groups).unwrap().with_simd(simd);
            let mut parts = [new(), new()];
            let mut counts = Counts::new(groups);
            let mut ends = vec![0];
            ends.extend(cuts.iter().map(|cut| cut % (values.len() + 1)));
            ends.push(values.len());
            ends.sort_unstable();
            for (number, pair) in ends.windows(2).enumerate() {
                let len = pair[1] - pair[0];
                let rows = rows.map(|rows| rows.slice(pair[0], len));
                let part = values.slice(pair[0], len);
                let reduction = &mut parts[number % 2];
                reduction
                    .update(layout, pair[0], &part, nan_is_null, rows.as_ref(), weight)
                    .unwrap();
                counts.update(layout, pair[0]..pair[1], rows.as_ref(), weight);
            }
            let [mut one, other] = parts;
            one.merge(&other).unwrap();
            let states = one.finish();
            let counts_of_values = states.counts.clone().into_vec();

            let mut of_group = vec![Vec::new(); groups];
            let mut cells = vec![0; groups];
            let mut cell = 0;
            layout.groups(0..values.len(), |group| {
                if rows.is_none_or(|rows| rows.value(cell)) {
                    cells[group] += weight as i64;
                    let value = values.value(cell);
                    if values.is_valid(cell) && !(nan_is_null && value.is_nan()) {
                        of_group[group]
                            .extend(std::iter::repeat_n(value.to_double(), weight as usize));
                    }
                }
                cell += 1;
            });
            assert_eq!(counts.finish().into_vec(), cells);
            let least = states.min.unwrap().typed_data::<T::Native>().to_vec();
            let most = states.max.unwrap().typed_data::<T::Native>().to_vec();
            for (group, values) in of_group.iter().enumerate() {
                let (count, sum, min, max, mean, squares) = expected(values);
                assert_eq!(counts_of_values[group], count);
                let Some((min, max)) = min.zip(max) else { continue };
                if values.iter().any(|v| v.is_nan()) {
                    assert!(states.sums[group].is_nan() && most[group].is_nan());
                    continue;
                }
                assert!((states.sums[group] - sum).abs() <= 1e-12 * count as f64 * 1000.0);
                if !T::Native::FLOATS {
                    assert_eq!(states.integer_sums[group], sum as i128);
                }
                assert_eq!((least[group].to_double(), most[group].to_double()), (min, max));
                let own = states.starts[group] + states.means[group];
                assert!((own - mean).abs() <= 1e-9 * 1000.0);
                assert!((states.squares[group] - squares).abs() <= 1e-9 * squares.max(1.0));
            }
        }
    }

    proptest! {
        #[test]
        fn states_are_those_of_plain_loops(
            shape in (1_usize..4, 1_usize..5, 1_usize..60),
            key in 0..5,
            values in prop::collection::vec((-500_i64..500, 0_u8..12), 1..800),
            holes in 0..4_u8,
            masked: bool,
            cuts in prop::collection::vec(any::<usize>(), 0..4),
            weight in 1_u64..4,
        ) {
            let shape = [shape.0, shape.1, shape.2];
            let keys = |dim: usize, id: &dyn Fn(u32) -> u32| GroupKeys {
                dims: vec![dim],
                offsets: (0..shape[dim] as u32).map(id).collect(),
            };
            let keys = match key {
                0 => vec![],
                1 => vec![keys(1, &|i| i)],
                2 => vec![keys(2, &|i| i), keys(1, &|i| i * 60)],
                3 => vec![keys(2, &|i| i / 12)],
                _ => vec![keys(2, &|i| i * 7 % 31), keys(0, &|i| 31 * (i % 2))],
            };
            let layout = GroupLayout::new(&shape, &keys);
            let cells: usize = shape.iter().product();
            let values: Vec<(i64, u8)> = values.iter().copied().cycle().take(cells).collect();
            let kept = values.iter().map(|v| v.1 != 5);
            let mask: BooleanBuffer = kept.collect();
            let mask = masked.then_some(&mask);
            let scattered = key != 2;
            let null = |hole: u8| holes == 1 && hole < 3;
            let ints: Int16Array =
                values.iter().map(|(v, h)| (!null(*h)).then_some(*v as i16)).collect();
            check::<Int16Type>(&layout, &ints, &cuts, mask, weight, (true, scattered));
            let longs: Int64Array =
                values.iter().map(|(v, h)| (!null(*h)).then_some(*v)).collect();
            check::<Int64Type>(&layout, &longs, &cuts, mask, weight, (true, scattered));
            let floats: Float32Array = values
                .iter()
                .map(|(v, h)| {
                    let value = if holes > 1 && *h < 2 { f32::NAN } else { *v as f32 / 3.0 };
                    (!null(*h)).then_some(value)
                })
                .collect();
            for nan_is_null in [false, true] {
                check::<Float32Type>(
                    &layout, &floats, &cuts, mask, weight, (nan_is_null, scattered),
                );
            }
        }
    }

    proptest! {
        #[test]
        fn expressions_are_those_of_their_columns(
            values in prop::collection::vec((-40_i8..40, -40_i8..40, 0_u8..20), 1..3000),
            masked: bool,
            holes: bool,
            nan_is_null: bool,
        ) {
            let one: Float32Array = values
                .iter()
                .map(|(v, _, hole)| match hole {
                    0 if holes => Some(f32::NAN),
                    1 if holes => None,
                    _ => Some(f32::from(*v)),
                })
                .collect();
            let other: Float64Array = values.iter().map(|(_, v, _)| Some(f64::from(*v))).collect();
            let mask: BooleanBuffer = values.iter().map(|(_, _, hole)| *hole != 2).collect();
            let mask = masked.then_some(&mask);
            // The root of a negative number is NaN, and NULL if `nan_is_null`.
            let wide = Box::new(Arithmetic::Widen(Box::new(Arithmetic::Column(0))));
            let product = Arithmetic::Combine(
                Operation::Multiply,
                wide,
                Box::new(Arithmetic::Apply(Function::Absolute, Box::new(Arithmetic::Column(1)))),
            );
            let sum = Arithmetic::Combine(
                Operation::Add,
                Box::new(Arithmetic::Double(1500.0)),
                Box::new(product),
            );
            let expr = Arithmetic::Apply(Function::Root, Box::new(sum));
            let columns = [
                FloatColumn::of_array(&one, true).unwrap(),
                FloatColumn::of_array(&other, false).unwrap(),
            ];
            let expected: Float64Array = one
                .iter()
                .zip(&other)
                .map(|(one, other)| {
                    let one = one.filter(|one| !one.is_nan())?;
                    let root = (1500.0 + f64::from(one) * other?.abs()).sqrt();
                    Some(root).filter(|root| !(nan_is_null && root.is_nan()))
                })
                .collect();
            let offsets: Vec<u32> = (0..values.len() as u32).map(|i| i / 50 % 7).collect();
            let keys = [GroupKeys { dims: vec![0], offsets }];
            let layout = GroupLayout::new(&[values.len()], &keys);
            let new = || Reduction::new(&DataType::Float64, ALL, 7).unwrap();
            let (mut actual, mut plain) = (new(), new());
            let with = (0, &expr, columns.as_slice());
            prop_assert!(actual.update_with(&layout, with, nan_is_null, mask, 1));
            plain.update(&layout, 0, &expected, false, mask, 1).unwrap();
            let (actual, plain) = (actual.finish(), plain.finish());
            let counts = |states: &States| states.counts.clone().into_vec();
            prop_assert_eq!(counts(&actual), counts(&plain));
            let pairs = actual.sums.iter().zip(&plain.sums);
            let mean = |states: &States| -> Vec<f64> {
                states.starts.iter().zip(&states.means).map(|(start, mean)| start + mean).collect()
            };
            for (a, p) in pairs.chain(mean(&actual).iter().zip(&mean(&plain))) {
                prop_assert!((a.is_nan() && p.is_nan()) || (a - p).abs() <= 1e-9 * p.abs());
            }
            // The expression doesn't fit columns of other types.
            let columns = [columns[1], columns[1]];
            let with = (0, &expr, columns.as_slice());
            prop_assert!(!new().update_with(&layout, with, nan_is_null, None, 1));
        }
    }

    #[test]
    fn the_variance_of_large_values() {
        let layout = GroupLayout::new(&[1000], &[]);
        let values: Vec<f64> = (0..1000).map(|i| 1e9 + f64::from(i % 2)).collect();
        let values: ArrayRef = Arc::new(Float64Array::from(values));
        let wanted = Wanted { moments: true, ..Wanted::default() };
        let mut reduction = Reduction::new(&DataType::Float64, wanted, 1).unwrap();
        for start in (0..1000).step_by(100) {
            reduction.update(&layout, start, &values.slice(start, 100), true, None, 1).unwrap();
        }
        let states = reduction.finish();
        assert_eq!((states.starts[0] + states.means[0], states.squares[0]), (1e9 + 0.5, 250.0));
    }

    #[test]
    fn the_variance_of_close_values_far_from_zero() {
        // Quarters of 2⁻²⁰ beside 10⁹ are exact, their mean isn't a double.
        let offset = |i: u32| f64::from(i * 37 % 101) / f64::from(1 << 22);
        let values: Vec<f64> = (0..5000).map(|i| 1e9 + offset(i)).collect();
        let near: Vec<f64> = values.iter().map(|v| v - 1e9).collect();
        let (.., squares) = expected(&near);
        let values: ArrayRef = Arc::new(Float64Array::from(values));
        let wanted = Wanted { moments: true, ..Wanted::default() };
        for keys in [vec![], vec![GroupKeys { dims: vec![0], offsets: vec![0; 5000] }]] {
            let layout = GroupLayout::new(&[5000], &keys);
            let new = || Reduction::new(&DataType::Float64, wanted, 1).unwrap();
            let (mut one, mut other) = (new(), new());
            one.update(&layout, 0, &values.slice(0, 700), true, None, 1).unwrap();
            other.update(&layout, 700, &values.slice(700, 4300), true, None, 1).unwrap();
            one.merge(&other).unwrap();
            let found = one.finish().squares[0];
            assert!((found - squares).abs() <= 1e-12 * squares, "{found} {squares}");
        }
    }

    #[test]
    fn integers_of_64_bits_have_exact_sums() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX; 60]));
        let wanted = Wanted { integer_sum: true, ..Wanted::default() };
        for (keys, groups) in [
            // One group, scattered groups, and groups that ascend along rows.
            (vec![], 1),
            (vec![GroupKeys { dims: vec![1], offsets: vec![1, 0, 1, 0, 1, 0] }], 2),
            (vec![GroupKeys { dims: vec![1], offsets: (0..6).collect() }], 6),
        ] {
            let layout = GroupLayout::new(&[10, 6], &keys);
            for weight in [1, 3] {
                let new = || Reduction::new(&DataType::Int64, wanted, groups).unwrap();
                let (mut one, mut other) = (new(), new());
                one.update(&layout, 0, &values.slice(0, 42), true, None, weight).unwrap();
                other.update(&layout, 42, &values.slice(42, 18), true, None, weight).unwrap();
                one.merge(&other).unwrap();
                let each = 60 / groups as i128 * i128::from(weight) * i128::from(i64::MAX);
                assert_eq!(one.finish().integer_sums, vec![each; groups]);
            }
        }
        let values: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 1, u64::MAX]));
        let mut reduction = Reduction::new(&DataType::UInt64, wanted, 1).unwrap();
        reduction.update(&GroupLayout::new(&[3], &[]), 0, &values, true, None, 1).unwrap();
        assert_eq!(reduction.finish().integer_sums, [2 * i128::from(u64::MAX) + 1]);
    }

    #[test]
    fn states_grow() {
        let values: ArrayRef = Arc::new(Int16Array::from(vec![1, 2, 3]));
        let wanted = Wanted { weights: true, ..ALL };
        let mut reduction = Reduction::new(&DataType::Int16, wanted, 2).unwrap();
        reduction.update(&GroupLayout::of_cells(vec![1, 0, 1]), 0, &values, true, None, 1).unwrap();
        reduction.grow(1);
        reduction.grow(5);
        reduction.update(&GroupLayout::of_cells(vec![4, 1, 4]), 0, &values, true, None, 1).unwrap();
        let states = reduction.finish();
        assert_eq!(states.counts.clone().into_vec(), [1, 3, 0, 0, 2]);
        assert_eq!(states.sums, [2.0, 6.0, 0.0, 0.0, 4.0]);
        assert_eq!(states.integer_sums, [2, 6, 0, 0, 4]);
        assert_eq!(states.max.unwrap().typed_data::<i16>()[4], 3);
        assert_eq!(states.weights.len(), 5);
    }

    #[test]
    fn bytes_are_values() {
        let layout = GroupLayout::new(&[4], &[]);
        let wanted = Wanted { integer_sum: true, ..Wanted::default() };
        let mut reduction = Reduction::new(&DataType::Int32, wanted, 1).unwrap();
        let values = [1_i32, 2, 3, 4];
        let plain = |bytes| StoredNumbers::new(bytes, None);
        let bytes = arrow::buffer::Buffer::from_slice_ref(values);
        reduction.update_stored(&layout, 0, plain(&bytes[..8]), true, None, 1).unwrap();
        reduction.update_stored(&layout, 2, plain(&bytes[8..]), true, None, 1).unwrap();
        // Not a whole number of values, and not aligned.
        for broken in [&bytes[..7], &bytes[1..5]] {
            let broken = plain(broken);
            let added = reduction.update_stored(&layout, 0, broken, true, None, 1);
            assert_eq!(added, Err(Misfit));
        }
        // Values and states of other types.
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![1.0; 4]));
        assert_eq!(reduction.update(&layout, 0, &doubles, true, None, 1), Err(Misfit));
        let other = Reduction::new(&DataType::Float64, wanted, 1).unwrap();
        assert_eq!(reduction.merge(&other), Err(Misfit));
        assert_eq!(reduction.finish().integer_sums, [10]);
    }
}
