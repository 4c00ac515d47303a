//! States of groups of pairs.

use std::ops::Range;

use arrow::buffer::BooleanBuffer;

use super::{
    arithmetic::{Arithmetic, BLOCK, Spare},
    float_column::{FloatColumn, has_no_missing, valid_rows},
    layout::{GroupLayout, Segment},
    pair_moments::PairMoments,
    pair_rows::{LANES, StoredPairs},
    reduction::Misfit,
};
use crate::simd::Simd;

/// Aggregates of pairs to compute per group, beside the number of pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairsWanted {
    /// Means, spreads and co-moment.
    pub moments: bool,
    /// The sum of either side.
    pub sums: bool,
}

/// One side of pairs, as an expression over columns of floats.
#[derive(Clone, Copy, Debug)]
pub struct PairSide<'a> {
    /// Values of the side.
    pub expr: &'a Arithmetic,
    /// Columns of the expression.
    pub columns: &'a [FloatColumn<'a>],
    /// Whether NaN that the expression makes is NULL.
    pub nan_is_null: bool,
}

/// States of groups of pairs. A pair counts if neither side is NULL.
#[derive(Clone, Debug)]
pub struct PairReduction {
    wanted: PairsWanted,
    simd: Simd,
    moments: MomentColumns,
    sums: [Vec<f64>; 2],
    /// Both sides of a block.
    block: [Vec<f64>; 2],
    /// Pairs of a block without the missing ones.
    kept: [Vec<f64>; 2],
    spare: Spare,
}

/// Results of pairs per group.
#[derive(Clone, Debug, Default)]
pub struct PairStates {
    /// Moments, or the number of pairs alone if no more is wanted.
    pub moments: Vec<PairMoments>,
    /// Sums of either side, if wanted.
    pub sums: [Vec<f64>; 2],
}

/// Moments of each group, one column for each number so that loops over groups are vectors.
#[derive(Clone, Debug, Default)]
struct MomentColumns {
    count: Vec<f64>,
    start: [Vec<f64>; 2],
    mean: [Vec<f64>; 2],
    squares: [Vec<f64>; 2],
    products: Vec<f64>,
}

/// Moments of consecutive groups.
pub(crate) struct MomentSlices<'a> {
    pub(crate) count: &'a mut [f64],
    pub(crate) start: [&'a mut [f64]; 2],
    pub(crate) mean: [&'a mut [f64]; 2],
    pub(crate) squares: [&'a mut [f64]; 2],
    pub(crate) products: &'a mut [f64],
}

impl PairsWanted {
    /// All aggregates of both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { moments: self.moments || other.moments, sums: self.sums || other.sums }
    }

    /// Bytes of the states of one group.
    #[must_use]
    pub fn bytes(self) -> usize {
        8 + 56 * usize::from(self.moments) + 16 * usize::from(self.sums)
    }
}

impl PairReduction {
    /// States of `groups` groups.
    #[must_use]
    pub fn new(wanted: PairsWanted, groups: usize) -> Self {
        let zeros = |wanted: bool| vec![0.0; if wanted { groups } else { 0 }];
        let both = |wanted: bool| [zeros(wanted), zeros(wanted)];
        let moments = MomentColumns {
            count: zeros(true),
            start: both(wanted.moments),
            mean: both(wanted.moments),
            squares: both(wanted.moments),
            products: zeros(wanted.moments),
        };
        Self {
            wanted,
            simd: Simd::detect(),
            moments,
            sums: both(wanted.sums),
            block: Default::default(),
            kept: Default::default(),
            spare: Spare::default(),
        }
    }

    /// Uses this instruction set.
    #[must_use]
    pub fn with_simd(mut self, simd: Simd) -> Self {
        self.simd = simd;
        self
    }

    /// Adds the pairs of a range of a tile's cells, each `weight` times, where the mask `rows` is true.
    ///
    /// # Errors
    /// [`Misfit`] for an expression that doesn't fit the columns.
    pub fn update(
        &mut self,
        layout: &GroupLayout,
        cells: Range<usize>,
        sides: [PairSide<'_>; 2],
        rows: Option<&BooleanBuffer>,
        weight: u64,
    ) -> Result<(), Misfit> {
        let [y, x] = sides;
        let valid = valid_rows(y.columns.iter().chain(x.columns), rows);
        if valid.is_none()
            && weight == 1
            && self.wanted.moments
            && let Some(rows) = layout.repeated_rows(cells.clone())
            && let Some(pairs) = StoredPairs::new(&sides)
            && rows.len() >= LANES
        {
            for (first, starts) in rows.by_group() {
                self.add_rows(first, rows.len(), starts, pairs, &sides);
            }
            return Ok(());
        }
        let mut block = std::mem::take(&mut self.block);
        let mut result = Ok(());
        for start in (0..cells.len()).step_by(BLOCK) {
            let range = start..cells.len().min(start + BLOCK);
            let valid = valid.as_ref().map(|valid| valid.slice(start, range.len()));
            if valid.as_ref().is_some_and(|valid| valid.count_set_bits() == 0) {
                continue;
            }
            for (values, side) in block.iter_mut().zip(&sides) {
                let range = range.clone();
                let filled =
                    side.expr.doubles(side.columns, range, self.simd, &mut self.spare, values);
                result = result.and(filled.ok_or(Misfit));
            }
            if result.is_err() {
                break;
            }
            let first = cells.start + start;
            // The sums are NaN if a value is.
            if block.iter().any(|values| self.simd.sum(values).is_nan()) {
                self.add_undefined(layout, first, &block, weight, |cell| {
                    let is_missing = (0..2).any(|side| {
                        let own = &sides[side];
                        let is_null =
                            own.nan_is_null || !has_no_missing(own.columns, range.start + cell);
                        block[side][cell].is_nan() && is_null
                    });
                    !is_missing && valid.as_ref().is_none_or(|valid| valid.value(cell))
                });
            }
            if let Some(valid) = &valid {
                // A pair with NaN is left out below.
                for (value, valid) in block[0].iter_mut().zip(valid) {
                    *value = if valid { *value } else { f64::NAN };
                }
            }
            self.add_block(layout, first, &block, weight);
        }
        self.block = block;
        result
    }

    /// Makes place for more groups.
    pub fn grow(&mut self, groups: usize) {
        let MomentColumns { count, start, mean, squares, products } = &mut self.moments;
        if groups <= count.len() {
            return;
        }
        count.resize(groups, 0.0);
        if self.wanted.moments {
            let columns = start.iter_mut().chain(mean).chain(squares).chain([products]);
            columns.for_each(|column| column.resize(groups, 0.0));
        }
        if self.wanted.sums {
            self.sums.iter_mut().for_each(|sums| sums.resize(groups, 0.0));
        }
    }

    /// Adds the states of another reduction over the same groups.
    pub fn merge(&mut self, other: &Self) {
        for group in 0..self.moments.count.len() {
            self.merge_into(group, &other.moments.get(group));
        }
        for (own, other) in self.sums.iter_mut().zip(&other.sums) {
            self.simd.add_each(own, other);
        }
    }

    /// Results per group.
    #[must_use]
    pub fn finish(self) -> PairStates {
        let moments = (0..self.moments.count.len()).map(|group| self.moments.get(group));
        PairStates { moments: moments.collect(), sums: self.sums }
    }

    /// Adds pairs with a NaN that isn't NULL: their groups have no moments.
    fn add_undefined(
        &mut self,
        layout: &GroupLayout,
        first: usize,
        block: &[Vec<f64>; 2],
        weight: u64,
        is_there: impl Fn(usize) -> bool,
    ) {
        let [ys, xs] = block;
        for (cell, (y, x)) in ys.iter().zip(xs).enumerate() {
            if (y.is_nan() || x.is_nan()) && is_there(cell) {
                layout.groups(first + cell..first + cell + 1, |group| {
                    self.add_one(group, [*y, *x], weight as f64);
                });
            }
        }
    }

    /// Adds the pairs of a block without NaN.
    fn add_block(
        &mut self,
        layout: &GroupLayout,
        first: usize,
        [ys, xs]: &[Vec<f64>; 2],
        weight: u64,
    ) {
        let times = weight as f64;
        let by_row = weight == 1 && self.wanted.moments;
        layout.segments(first..first + ys.len(), |segment, range| {
            let (ys, xs) = (&ys[range.clone()], &xs[range]);
            let mut each = |group: &dyn Fn(usize) -> usize| {
                for (cell, (y, x)) in ys.iter().zip(xs).enumerate() {
                    if !(y.is_nan() || x.is_nan()) {
                        self.add_one(group(cell), [*y, *x], times);
                    }
                }
            };
            match segment {
                Segment::Same(group) => self.add_to_one(group, ys, xs, times),
                Segment::Ascending(first) if by_row => {
                    self.add_row(first, ys, xs);
                }
                Segment::Ascending(first) => each(&|cell| first + cell),
                Segment::Scattered(base, offsets) => each(&|cell| base + offsets[cell] as usize),
            }
        });
    }

    /// Adds pairs of consecutive groups.
    fn add_row(&mut self, first: usize, ys: &[f64], xs: &[f64]) {
        let groups = first..first + ys.len();
        self.simd.add_pairs(self.moments.slices(groups.clone()), ys, xs);
        let [sums_y, sums_x] = &mut self.sums;
        if self.wanted.sums {
            let sums = sums_y[groups.clone()].iter_mut().zip(&mut sums_x[groups]);
            for ((sum_y, sum_x), (y, x)) in sums.zip(ys.iter().zip(xs)) {
                if !(y.is_nan() || x.is_nan()) {
                    *sum_y += y;
                    *sum_x += x;
                }
            }
        }
    }

    /// Adds rows of `len` pairs, each of which starts with the group `first` and has the next group in each next cell.
    fn add_rows(
        &mut self,
        first: usize,
        len: usize,
        rows: &[usize],
        pairs: StoredPairs<'_>,
        sides: &[PairSide<'_>; 2],
    ) {
        let mut column = 0;
        while column < len {
            // The last lanes may have been added before.
            let from = column.min(len - LANES);
            let sums = match pairs {
                StoredPairs::Singles(ys, xs) => self.simd.sum_rows(ys, xs, rows, from),
                StoredPairs::Doubles(ys, xs) => self.simd.sum_rows(ys, xs, rows, from),
            };
            let groups = first + column..first + from + LANES;
            let lane = column - from;
            self.simd.merge_rows(
                self.moments.slices(groups.clone()),
                &sums,
                lane,
                rows.len() as f64,
            );
            for (lane, group) in (lane..).zip(groups) {
                if !sums.is_finite(lane) {
                    for cell in rows.iter().map(|row| row + from + lane) {
                        let pair = pairs.get(cell);
                        let is_missing = (0..2).any(|side| {
                            let own = &sides[side];
                            pair[side].is_nan()
                                && (own.nan_is_null || !has_no_missing(own.columns, cell))
                        });
                        if !is_missing {
                            self.add_one(group, pair, 1.0);
                        }
                    }
                } else if self.wanted.sums {
                    for (side, all) in self.sums.iter_mut().enumerate() {
                        let start = sums.start[side][lane] * rows.len() as f64;
                        all[group] += start + sums.distances[side][lane];
                    }
                }
            }
            column = from + LANES;
        }
    }

    /// Adds pairs of one group.
    fn add_to_one(&mut self, group: usize, ys: &[f64], xs: &[f64], weight: f64) {
        let mut kept = std::mem::take(&mut self.kept);
        let (mut ys, mut xs) = (ys, xs);
        if self.simd.sum(ys).is_nan() || self.simd.sum(xs).is_nan() {
            let pairs = ys.iter().zip(xs).filter(|(y, x)| !(y.is_nan() || x.is_nan()));
            let [kept_y, kept_x] = &mut kept;
            (*kept_y, *kept_x) = pairs.unzip();
            (ys, xs) = (kept_y, kept_x);
        }
        if let (Some(y), Some(x)) = (ys.first(), xs.first()) {
            let count = ys.len() as f64;
            // Relative to one of the pairs: the squares of equal values are then exactly 0.
            let start = [*y, *x];
            let mut one = PairMoments { count: count * weight, start, ..PairMoments::default() };
            if self.wanted.moments {
                let sums = self.simd.pair_distances(ys, xs, start);
                one.mean = [sums.distances[0] / count, sums.distances[1] / count];
                for side in 0..2 {
                    let squares = sums.squares[side] - sums.distances[side] * one.mean[side];
                    // Rounding may leave less than 0; NaN stays.
                    one.squares[side] = if squares < 0.0 { 0.0 } else { squares * weight };
                }
                one.products = (sums.products - sums.distances[0] * one.mean[1]) * weight;
            }
            self.merge_into(group, &one);
            if self.wanted.sums {
                self.sums[0][group] += self.simd.sum(ys) * weight;
                self.sums[1][group] += self.simd.sum(xs) * weight;
            }
        }
        self.kept = kept;
    }

    /// Adds a pair to a group.
    fn add_one(&mut self, group: usize, pair: [f64; 2], weight: f64) {
        // An infinity has no distance, not even from itself.
        let squares = pair.map(|value| (value * 0.0).abs());
        let one = PairMoments { count: weight, start: pair, squares, ..PairMoments::default() };
        self.merge_into(group, &one);
        if self.wanted.sums {
            for (sums, value) in self.sums.iter_mut().zip(pair) {
                sums[group] += value * weight;
            }
        }
    }

    fn merge_into(&mut self, group: usize, other: &PairMoments) {
        if self.wanted.moments {
            let mut own = self.moments.get(group);
            own.merge(other);
            self.moments.set(group, &own);
        } else {
            self.moments.count[group] += other.count;
        }
    }
}

impl MomentColumns {
    fn get(&self, group: usize) -> PairMoments {
        let of = |column: &Vec<f64>| column.get(group).copied().unwrap_or(0.0);
        let both = |columns: &[Vec<f64>; 2]| [of(&columns[0]), of(&columns[1])];
        PairMoments {
            count: of(&self.count),
            start: both(&self.start),
            mean: both(&self.mean),
            squares: both(&self.squares),
            products: of(&self.products),
        }
    }

    fn set(&mut self, group: usize, to: &PairMoments) {
        self.count[group] = to.count;
        self.products[group] = to.products;
        for side in 0..2 {
            self.start[side][group] = to.start[side];
            self.mean[side][group] = to.mean[side];
            self.squares[side][group] = to.squares[side];
        }
    }

    fn slices(&mut self, groups: Range<usize>) -> MomentSlices<'_> {
        let [start_y, start_x] = &mut self.start;
        let [mean_y, mean_x] = &mut self.mean;
        let [squares_y, squares_x] = &mut self.squares;
        MomentSlices {
            count: &mut self.count[groups.clone()],
            start: [&mut start_y[groups.clone()], &mut start_x[groups.clone()]],
            mean: [&mut mean_y[groups.clone()], &mut mean_x[groups.clone()]],
            squares: [&mut squares_y[groups.clone()], &mut squares_x[groups.clone()]],
            products: &mut self.products[groups],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float32Array, Float64Array};
    use proptest::prelude::*;

    use super::*;
    use crate::reduce::GroupKeys;

    const ALL: PairsWanted = PairsWanted { moments: true, sums: true };

    fn close(a: f64, b: f64) -> bool {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * b.abs().max(1.0)
    }

    proptest! {
        #[test]
        fn states_are_those_of_plain_loops(
            shape in (1_usize..4, 1_usize..60),
            key in 0..4,
            values in prop::collection::vec((-500_i64..500, -50_i64..50, 0_u8..14), 1..200),
            holes in 0..3_u8,
            masked: bool,
            nan_is_null: bool,
            cut: usize,
            weight in 1_u64..4,
        ) {
            let shape = [shape.0 * 7, shape.1];
            let keys = |dim: usize, id: &dyn Fn(u32) -> u32| GroupKeys {
                dims: vec![dim],
                offsets: (0..shape[dim] as u32).map(id).collect(),
            };
            let keys = match key {
                0 => vec![],
                1 => vec![keys(0, &|i| i % 3)],
                2 => vec![keys(1, &|i| i)],
                _ => vec![keys(1, &|i| i * 7 % 31), keys(0, &|i| 31 * (i % 2))],
            };
            let layout = GroupLayout::new(&shape, &keys);
            let cells = layout.cells();
            let values: Vec<_> = values.iter().copied().cycle().take(cells).collect();
            let ys: Float32Array = values
                .iter()
                .map(|(y, _, hole)| match hole {
                    0 if holes > 0 => None,
                    1 if holes > 0 => Some(f32::NAN),
                    _ => Some(*y as f32 / 3.0),
                })
                .collect();
            let xs: Float64Array = values
                .iter()
                .map(|(_, x, hole)| match hole {
                    2 if holes > 0 => None,
                    3 if holes > 1 => Some(f64::INFINITY),
                    _ => Some(1e6 + *x as f64 / 7.0),
                })
                .collect();
            let mask: BooleanBuffer = values.iter().map(|(_, _, hole)| *hole != 5).collect();
            let mask = masked.then_some(&mask);
            let mut expected = vec![PairMoments::default(); 64];
            let mut sums = vec![[0.0; 2]; 64];
            let mut cell = 0;
            layout.groups(0..cells, |group| {
                let pair = ys.iter().nth(cell).flatten().zip(xs.iter().nth(cell).flatten());
                let kept = mask.is_none_or(|mask| mask.value(cell));
                let pair = pair.filter(|(y, _)| kept && !(nan_is_null && y.is_nan()));
                if let Some((y, x)) = pair {
                    let pair = [f64::from(y), x];
                    for _ in 0..weight {
                        expected[group].add(pair);
                        sums[group] = [sums[group][0] + pair[0], sums[group][1] + pair[1]];
                    }
                }
                cell += 1;
            });
            let ys: ArrayRef = Arc::new(ys);
            let xs: ArrayRef = Arc::new(xs);
            for simd in Simd::all() {
                let new = || PairReduction::new(ALL, 64).with_simd(simd);
                let mut parts = [new(), new()];
                let cut = cut % (cells + 1);
                for (part, range) in parts.iter_mut().zip([0..cut, cut..cells]) {
                    let of = |array: &ArrayRef| array.slice(range.start, range.len());
                    let (ys, xs) = (of(&ys), of(&xs));
                    let ys = [FloatColumn::of_array(&ys, nan_is_null).unwrap()];
                    let xs = [FloatColumn::of_array(&xs, nan_is_null).unwrap()];
                    let wide = Arithmetic::Widen(Box::new(Arithmetic::Column(0)));
                    let column = Arithmetic::Column(0);
                    let sides = [
                        PairSide { expr: &wide, columns: &ys, nan_is_null: false },
                        PairSide { expr: &column, columns: &xs, nan_is_null: false },
                    ];
                    let rows = mask.map(|mask| mask.slice(range.start, range.len()));
                    part.update(&layout, range, sides, rows.as_ref(), weight).unwrap();
                }
                let [mut one, other] = parts;
                one.merge(&other);
                let states = one.finish();
                for (group, (own, plain)) in states.moments.iter().zip(&expected).enumerate() {
                    prop_assert_eq!(own.count, plain.count);
                    for (side, totals) in states.sums.iter().enumerate() {
                        let mean = |of: &PairMoments| of.start[side] + of.mean[side];
                        let is_finite = plain.squares[side].is_finite();
                        prop_assert!(!is_finite || close(mean(own), mean(plain)));
                        prop_assert!(close(own.squares[side], plain.squares[side]));
                        prop_assert!(close(totals[group], sums[group][side]));
                    }
                    prop_assert!(close(
                        own.products().unwrap_or(0.0),
                        plain.products().unwrap_or(0.0)
                    ));
                }
            }
        }
    }

    #[test]
    fn the_correlation_of_close_values_far_from_zero() {
        let offset = |i: u32| f64::from(i * 37 % 101) / f64::from(1 << 22);
        let ys: ArrayRef =
            Arc::new(Float64Array::from_iter_values((0..5000).map(|i| 1e9 + offset(i))));
        let xs: ArrayRef =
            Arc::new(Float64Array::from_iter_values((0..5000).map(|i| 5.0 - offset(i))));
        let layout = GroupLayout::new(&[5000], &[]);
        let mut pairs = PairReduction::new(ALL, 1);
        let column = Arithmetic::Column(0);
        let ys = [FloatColumn::of_array(&ys, true).unwrap()];
        let xs = [FloatColumn::of_array(&xs, true).unwrap()];
        let side = |columns| PairSide { expr: &column, columns, nan_is_null: true };
        pairs.update(&layout, 0..5000, [side(&ys), side(&xs)], None, 1).unwrap();
        let moments = pairs.finish().moments[0];
        assert!((moments.correlation().unwrap() + 1.0).abs() < 1e-12);
        assert!((moments.slope().unwrap() + 1.0).abs() < 1e-9);
    }
}
