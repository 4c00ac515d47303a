//! Counts and sums of integers: what leaves a frame is subtracted, which is exact.

use super::walk::{Row, RowValidity, Summary};
use crate::reduce::{Native, Simd};

/// Numbers of values.
#[derive(Debug)]
pub(super) struct Counts;

impl Summary for Counts {
    /// The values don't matter.
    type Stored = u8;
    type Lane = i64;
    type Out = i64;

    const PLANES: usize = 0;
    const EXACT: bool = true;

    fn least_count(&self) -> i32 {
        0
    }

    fn add(&mut self, _lanes: &mut [i64], _row: Row<'_, u8>) {}

    fn merge(&self, _older: &mut [i64], _newer: &[i64]) {}

    fn finish(&mut self, _lanes: &[i64], counts: &[i32], to: &mut [i64]) {
        to.iter_mut().zip(counts).for_each(|(to, count)| *to = (*count).into());
    }
}

/// Sums of integers, which 128 bits hold.
#[derive(Debug)]
pub(super) struct IntegerSums<T> {
    simd: Simd,
    stored: std::marker::PhantomData<T>,
}

impl<T> IntegerSums<T> {
    pub(super) fn new(simd: Simd) -> Self {
        Self { simd, stored: std::marker::PhantomData }
    }
}

impl<T: Native> Summary for IntegerSums<T> {
    type Stored = T;
    type Lane = i128;
    type Out = i128;

    const PLANES: usize = 1;
    const EXACT: bool = true;

    fn add(&mut self, lanes: &mut [i128], row: Row<'_, T>) {
        self.simd.add_integers(lanes, row.values, bytes(row));
    }

    fn subtract(&mut self, lanes: &mut [i128], row: Row<'_, T>) {
        self.simd.subtract_integers(lanes, row.values, bytes(row));
    }

    fn merge(&self, _older: &mut [i128], _newer: &[i128]) {}

    fn finish(&mut self, lanes: &[i128], _counts: &[i32], to: &mut [i128]) {
        to.copy_from_slice(lanes);
    }
}

/// Which integers are valid; `None` if all are.
fn bytes<'a, T>(row: Row<'a, T>) -> Option<&'a [u8]> {
    match row.valid {
        RowValidity::Bytes(valid) => Some(valid),
        RowValidity::All | RowValidity::NotNan => None,
    }
}
