//! Variances and standard deviations.

use super::{
    loops::MomentRows,
    sums::widened,
    walk::{Row, RowValidity, Summary},
};
use crate::reduce::{Native, Simd};

/// Number, mean and sum of squared distances of values, as in [`crate::reduce::Moments`].
#[derive(Debug)]
pub(super) struct RowMoments<T> {
    simd: Simd,
    sample: bool,
    root: bool,
    doubles: Vec<f64>,
    all: Vec<u8>,
    /// Whether all lanes have the same count, as no value of the window is missing.
    is_even: bool,
    not_nan: Vec<u8>,
    stored: std::marker::PhantomData<T>,
}

impl<T> RowMoments<T> {
    /// `is_even` is whether no value of the window is missing.
    pub(super) fn new(simd: Simd, sample: bool, root: bool, is_even: bool, width: usize) -> Self {
        let (doubles, all, not_nan) = (vec![0.0; width], vec![1; width], vec![1; width]);
        Self {
            simd,
            sample,
            root,
            is_even,
            doubles,
            all,
            not_nan,
            stored: std::marker::PhantomData,
        }
    }
}

fn rows(lanes: &mut [f64], width: usize) -> MomentRows<'_> {
    let (count, rest) = lanes.split_at_mut(width);
    let (start, rest) = rest.split_at_mut(width);
    let (mean, squares) = rest.split_at_mut(width);
    MomentRows { count, start, mean, squares }
}

impl<T: Native> Summary for RowMoments<T> {
    type Stored = T;
    type Lane = f64;
    type Out = f64;

    const PLANES: usize = 4;
    const EXACT: bool = false;

    fn least_count(&self) -> i32 {
        if self.sample { 2 } else { 1 }
    }

    fn add(&mut self, lanes: &mut [f64], row: Row<'_, T>) {
        widened(self.simd, row, &mut self.doubles);
        let to = rows(lanes, self.doubles.len());
        if self.is_even {
            let count = to.count.first().copied().unwrap_or(0.0);
            self.simd.add_moments_to(count, to.start, to.mean, to.squares, &self.doubles);
            to.count.fill(count + 1.0);
            return;
        }
        let valid = match row.valid {
            RowValidity::All => &self.all,
            RowValidity::NotNan => {
                self.simd.not_nan(&mut self.not_nan, row.values);
                &self.not_nan
            }
            RowValidity::Bytes(valid) => valid,
        };
        self.simd.add_moments(to, &self.doubles, valid);
    }

    fn merge(&self, older: &mut [f64], newer: &[f64]) {
        let width = self.doubles.len();
        let other = std::array::from_fn(|plane| &newer[plane * width..][..width]);
        let first = |lanes: &[f64]| lanes.first().copied().unwrap_or(0.0);
        let counts = [first(older), first(newer)];
        if self.is_even && counts.iter().all(|count| *count > 0.0) {
            self.simd.merge_moments_of(counts, rows(older, width), other);
            older[..width].fill(counts[0] + counts[1]);
            return;
        }
        self.simd.merge_moments(rows(older, width), other);
    }

    fn finish(&mut self, lanes: &[f64], _counts: &[i32], to: &mut [f64]) {
        let width = self.doubles.len();
        let less = if self.sample { 1.0 } else { 0.0 };
        if let (true, Some(count)) = (self.is_even, lanes.first()) {
            self.simd.scaled(to, &lanes[3 * width..], 1.0 / (count - less), self.root);
            return;
        }
        self.simd.variances(to, &lanes[..width], &lanes[3 * width..], less, self.root);
    }
}
