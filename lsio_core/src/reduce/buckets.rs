//! Buckets of equal width, and how many values each has.

use std::ops::Range;

use arrow::buffer::BooleanBuffer;

use super::{
    arithmetic::{Arithmetic, BLOCK, Spare},
    float_column::{FloatColumn, valid_rows},
    layout::{GroupLayout, Segment},
    reduction::Misfit,
};
use crate::simd::Simd;

/// Buckets of equal width between two bounds.
///
/// A value on an edge is in the bucket above it. Edges are rounded to the type of the values, as literals beside a
/// column are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Buckets {
    low: f64,
    high: f64,
    count: u32,
    /// Whether values are float32.
    single: bool,
    /// Buckets for each half of a unit.
    scale: f64,
    /// Upper bound on the distance of a computed place from the true one, and of an edge from a whole number, in buckets.
    slack: f64,
}

/// Why there are no such buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say all")]
pub enum NoBuckets {
    #[error("the number of buckets must be 1 or more, and at most 2147483646")]
    Count,
    #[error("the bounds must be different")]
    Equal,
    #[error("the bounds must be finite")]
    Infinite,
}

impl Buckets {
    /// Buckets from `low` to `high`, which may be the greater one, of float32 values if `single`.
    ///
    /// # Errors
    /// [`NoBuckets`] if the bounds are equal or not finite, or the number isn't positive.
    pub fn new(low: f64, high: f64, count: i64, single: bool) -> Result<Self, NoBuckets> {
        let most = i64::from(i32::MAX - 1);
        if !(1..=most).contains(&count) {
            return Err(NoBuckets::Count);
        }
        if !(low.is_finite() && high.is_finite()) {
            return Err(NoBuckets::Infinite);
        }
        if low == high {
            return Err(NoBuckets::Equal);
        }
        let count = u32::try_from(count).map_err(|_| NoBuckets::Count)?;
        let scale = f64::from(count) / (high / 2.0 - low / 2.0);
        let rounding = if single { f64::from(f32::EPSILON) } else { 16.0 * f64::EPSILON };
        let slack = scale.abs() * low.abs().max(high.abs()) * rounding + 1e-9;
        Ok(Self { low, high, count, single, scale, slack })
    }

    /// Number of buckets.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bucket of a value, from 1 on: 0 before the first, the number of buckets and 1 behind the last. NaN is behind the
    /// last.
    #[inline]
    #[must_use]
    pub fn of(&self, value: f64) -> u32 {
        // Halves are exact, and don't overflow.
        let place = (value / 2.0 - self.low / 2.0) * self.scale;
        let beside = place - place.floor();
        let is_inside = place > 0.0 && place < f64::from(self.count);
        if is_inside && beside > self.slack && beside < 1.0 - self.slack {
            return place as u32 + 1;
        }
        self.of_edge(value, place)
    }

    /// Bucket of a value outside of the buckets or near an edge, or of NaN.
    #[cold]
    fn of_edge(&self, value: f64, place: f64) -> u32 {
        if value.is_nan() {
            return self.count + 1;
        }
        let is_before = |value: f64, edge: f64| match self.low < self.high {
            true => value < edge,
            false => value > edge,
        };
        let mut bucket = if place >= 0.0 { (place as u32).saturating_add(1) } else { 0 };
        bucket = bucket.min(self.count + 1);
        // Rounding may have put the value to the wrong side of an edge.
        while bucket > 0 && is_before(value, self.edge(bucket - 1)) {
            bucket -= 1;
        }
        while bucket <= self.count && !is_before(value, self.edge(bucket)) {
            bucket += 1;
        }
        bucket
    }

    /// Bucket of a value for a histogram, from 0 on; `None` for values outside of the bounds. The last bucket includes
    /// its upper edge, as numpy's does.
    #[inline]
    #[must_use]
    pub fn closed(&self, value: f64) -> Option<u32> {
        match self.of(value) {
            0 => None,
            behind if behind > self.count => {
                (value == self.edge(self.count)).then_some(self.count - 1)
            }
            bucket => Some(bucket - 1),
        }
    }

    /// Edge below the bucket of this number, counted from 0.
    fn edge(&self, number: u32) -> f64 {
        let edge = match number {
            0 => self.low,
            last if last == self.count => self.high,
            number => {
                let (low, width) = (self.low / 2.0, self.high / 2.0 - self.low / 2.0);
                let (number, count) = (f64::from(number), f64::from(self.count));
                // The product first: its quotient is exact where the edge is a short number.
                let product = width * number;
                let from_low =
                    if product.is_finite() { product / count } else { width * (number / count) };
                2.0 * (low + from_low)
            }
        };
        if self.single { f64::from(edge as f32) } else { edge }
    }
}

/// Numbers of values in each bucket, of each group.
#[derive(Clone, Debug)]
pub struct Histograms {
    buckets: Buckets,
    counts: Vec<i64>,
}

impl Histograms {
    /// Histograms of `groups` groups.
    #[must_use]
    pub fn new(buckets: Buckets, groups: usize) -> Self {
        Self { buckets, counts: vec![0; groups.saturating_mul(buckets.count() as usize)] }
    }

    /// Adds the values of an expression on a range of a tile's cells, each `weight` times, where the mask `rows` is
    /// true. `columns` are the expression's columns. NULL and NaN are in no bucket.
    ///
    /// # Errors
    /// [`Misfit`] for an expression that doesn't fit the columns.
    pub fn update(
        &mut self,
        layout: &GroupLayout,
        cells: Range<usize>,
        (expr, columns): (&Arithmetic, &[FloatColumn<'_>]),
        rows: Option<&BooleanBuffer>,
        weight: u64,
    ) -> Result<(), Misfit> {
        let valid = valid_rows(columns, rows);
        let (simd, mut spare) = (Simd::detect(), Spare::default());
        let mut values = Vec::new();
        let (width, weight) = (self.buckets.count() as usize, weight.cast_signed());
        for start in (0..cells.len()).step_by(BLOCK) {
            let range = start..cells.len().min(start + BLOCK);
            let doubles = expr.doubles(columns, range.clone(), simd, &mut spare, &mut values);
            doubles.ok_or(Misfit)?;
            let first = cells.start + start;
            layout.segments(first..first + range.len(), |segment, own| {
                let valid = valid.as_ref().map(|valid| valid.slice(start + own.start, own.len()));
                let values = values[own].iter().enumerate();
                let values = values.filter(|(cell, _)| match &valid {
                    Some(valid) => valid.value(*cell),
                    None => true,
                });
                let buckets =
                    values.filter_map(|(cell, value)| Some((cell, self.buckets.closed(*value)?)));
                let mut add = |group: usize, bucket: u32| {
                    self.counts[group * width + bucket as usize] += weight;
                };
                match segment {
                    Segment::Same(group) => buckets.for_each(|(_, bucket)| add(group, bucket)),
                    Segment::Ascending(first) => {
                        buckets.for_each(|(cell, bucket)| add(first + cell, bucket));
                    }
                    Segment::Scattered(base, offsets) => buckets
                        .for_each(|(cell, bucket)| add(base + offsets[cell] as usize, bucket)),
                }
            });
        }
        Ok(())
    }

    /// Makes place for more groups.
    pub fn grow(&mut self, groups: usize) {
        let counts = groups.saturating_mul(self.buckets.count() as usize);
        if counts > self.counts.len() {
            self.counts.resize(counts, 0);
        }
    }

    /// Adds the counts of other histograms of the same groups.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, other)| *own += other);
    }

    /// Numbers of values, group by group.
    #[must_use]
    pub fn finish(self) -> Vec<i64> {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Float32Array;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_on_edges_are_in_the_bucket_above() {
        let buckets = Buckets::new(0.0, 1.0, 10, false).unwrap();
        for tenth in 0..10 {
            assert_eq!(buckets.of(f64::from(tenth) / 10.0), tenth + 1, "{tenth}");
        }
        assert_eq!((buckets.of(-0.1), buckets.of(1.0), buckets.of(f64::INFINITY)), (0, 11, 11));
        assert_eq!(buckets.of(f64::NEG_INFINITY), 0);
        assert_eq!((buckets.closed(1.0), buckets.closed(1.1)), (Some(9), None));
        // 0.7 as a float32 is less than 0.7.
        let single = Buckets::new(0.0, 1.0, 10, true).unwrap();
        assert_eq!(single.of(f64::from(0.7_f32)), 8);
        let back = Buckets::new(10.0, 0.0, 5, false).unwrap();
        let values = [11.0, 10.0, 8.1, 8.0, 0.1, 0.0, -1.0];
        assert_eq!(values.map(|value| back.of(value)), [0, 1, 1, 2, 5, 6, 6]);
    }

    #[test]
    fn bounds_and_numbers_are_checked() {
        assert_eq!(Buckets::new(0.0, 1.0, 0, false), Err(NoBuckets::Count));
        assert_eq!(Buckets::new(0.0, 1.0, i64::MAX, false), Err(NoBuckets::Count));
        assert_eq!(Buckets::new(1.0, 1.0, 3, false), Err(NoBuckets::Equal));
        assert_eq!(Buckets::new(0.0, f64::INFINITY, 3, false), Err(NoBuckets::Infinite));
        assert_eq!(Buckets::new(f64::NAN, 1.0, 3, false), Err(NoBuckets::Infinite));
        let widest = Buckets::new(f64::MIN, f64::MAX, 4, false).unwrap();
        let values = [f64::MIN, -1.0, 0.0, f64::MAX / 1.5, f64::MAX];
        assert_eq!(values.map(|value| widest.of(value)), [1, 2, 3, 4, 5]);
    }

    proptest! {
        #[test]
        fn each_value_lies_between_its_edges(
            low in -1e6..1e6, width in 1e-3..1e6, count in 1_i64..500, at in -0.2..1.2_f64,
        ) {
            let buckets = Buckets::new(low, low + width, count, false).unwrap();
            let value = low + width * at;
            let bucket = buckets.of(value);
            prop_assert!(bucket == 0 || buckets.edge(bucket - 1) <= value);
            prop_assert!(bucket > buckets.count() || value < buckets.edge(bucket));
        }
    }

    #[test]
    fn histograms_of_groups() {
        let layout = GroupLayout::new(
            &[6],
            &[super::super::GroupKeys { dims: vec![0], offsets: vec![0, 0, 1, 1, 0, 1] }],
        );
        let values = [Some(0.5), Some(3.0), Some(1.0), None, Some(f32::NAN), Some(-1.0)];
        let values = Float32Array::from(values.to_vec());
        let mut own = Histograms::new(Buckets::new(0.0, 3.0, 3, true).unwrap(), 2);
        let other = own.clone();
        let columns = [FloatColumn::of_array(&values, true).unwrap()];
        own.update(&layout, 0..6, (&Arithmetic::Column(0), &columns), None, 2).unwrap();
        own.merge(&other);
        assert_eq!(own.finish(), [2, 0, 2, 0, 2, 0]);
    }
}
