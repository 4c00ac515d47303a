//! Sums and means of floats.

use super::walk::{Row, RowValidity, Summary};
use crate::reduce::{Native, Simd};

/// Sums, each with the error of its rounding.
#[derive(Debug)]
pub(super) struct Sums<T> {
    simd: Simd,
    mean: bool,
    doubles: Vec<f64>,
    stored: std::marker::PhantomData<T>,
}

impl<T> Sums<T> {
    pub(super) fn new(simd: Simd, mean: bool, width: usize) -> Self {
        Self { simd, mean, doubles: vec![0.0; width], stored: std::marker::PhantomData }
    }
}

/// Converts a row to doubles, 0 where a value is missing.
pub(super) fn widened<T: Native>(simd: Simd, row: Row<'_, T>, to: &mut [f64]) {
    match row.valid {
        RowValidity::All => simd.widen(to, row.values),
        RowValidity::NotNan => simd.widen_but_nan(to, row.values),
        RowValidity::Bytes(valid) => simd.widen_valid(to, row.values, valid),
    }
}

impl<T: Native> Summary for Sums<T> {
    type Stored = T;
    type Lane = f64;
    type Out = f64;

    const PLANES: usize = 2;
    const EXACT: bool = false;

    fn add(&mut self, lanes: &mut [f64], row: Row<'_, T>) {
        let (sums, lost) = lanes.split_at_mut(self.doubles.len());
        match row.valid {
            RowValidity::All => self.simd.add_each_exactly(sums, lost, row.values),
            RowValidity::NotNan => self.simd.add_each_but_nan_exactly(sums, lost, row.values),
            RowValidity::Bytes(valid) => {
                self.simd.widen_valid(&mut self.doubles, row.values, valid);
                self.simd.add_exactly(sums, lost, &self.doubles);
            }
        }
    }

    fn merge(&self, older: &mut [f64], newer: &[f64]) {
        let (sums, lost) = older.split_at_mut(self.doubles.len());
        let (more, more_lost) = newer.split_at(self.doubles.len());
        self.simd.add_exactly(sums, lost, more);
        lost.iter_mut().zip(more_lost).for_each(|(lost, more)| *lost += more);
    }

    fn finish(&mut self, lanes: &[f64], counts: &[i32], to: &mut [f64]) {
        let (sums, lost) = lanes.split_at(self.doubles.len());
        self.simd.whole_sums(to, sums, lost);
        if self.mean {
            self.simd.divide(to, counts);
        }
    }
}
