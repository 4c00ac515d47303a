//! Minima and maxima.

use super::{
    loops::{Key, Ordered},
    walk::{Row, RowValidity, Summary},
};
use crate::reduce::Simd;

/// Keys of the least or greatest values. NaN that isn't missing is above all numbers.
#[derive(Debug)]
pub(super) struct Extremes<T: Ordered> {
    simd: Simd,
    greatest: bool,
    keys: Vec<T::Key>,
}

impl<T: Ordered> Extremes<T> {
    pub(super) fn new(simd: Simd, greatest: bool, width: usize) -> Self {
        Self { simd, greatest, keys: vec![T::Key::default(); width] }
    }

    /// The key that any other replaces.
    fn none(&self) -> T::Key {
        if self.greatest { T::Key::LEAST } else { T::Key::GREATEST }
    }

    fn replace(&self, lanes: &mut [T::Key], keys: &[T::Key]) {
        if self.greatest { self.simd.greater(lanes, keys) } else { self.simd.lesser(lanes, keys) }
    }
}

impl<T: Ordered> Summary for Extremes<T> {
    type Stored = T;
    type Lane = T::Key;
    type Out = T;

    const PLANES: usize = 1;
    const EXACT: bool = false;

    fn clear(&self, lanes: &mut [T::Key]) {
        lanes.fill(self.none());
    }

    fn add(&mut self, lanes: &mut [T::Key], row: Row<'_, T>) {
        let none = self.none();
        match row.valid {
            RowValidity::All => self.simd.keys(&mut self.keys, row.values),
            RowValidity::NotNan => self.simd.keys_but_nan(&mut self.keys, row.values, none),
            RowValidity::Bytes(valid) => {
                self.simd.keys_valid(&mut self.keys, row.values, valid, none);
            }
        }
        self.replace(lanes, &self.keys);
    }

    fn merge(&self, older: &mut [T::Key], newer: &[T::Key]) {
        self.replace(older, newer);
    }

    fn finish(&mut self, lanes: &[T::Key], _counts: &[i32], to: &mut [T]) {
        self.simd.values_of_keys(to, lanes);
    }
}
