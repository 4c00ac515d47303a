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
    not_nan: Vec<u8>,
    stored: std::marker::PhantomData<T>,
}

impl<T> RowMoments<T> {
    pub(super) fn new(simd: Simd, sample: bool, root: bool, width: usize) -> Self {
        let (doubles, all, not_nan) = (vec![0.0; width], vec![1; width], vec![1; width]);
        Self { simd, sample, root, doubles, all, not_nan, stored: std::marker::PhantomData }
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
        self.simd.merge_moments(rows(older, width), other);
    }

    fn finish(&mut self, lanes: &[f64], _counts: &[i32], to: &mut [f64]) {
        let width = self.doubles.len();
        let less = if self.sample { 1.0 } else { 0.0 };
        self.simd.variances(to, &lanes[..width], &lanes[3 * width..], less, self.root);
    }
}
