//! Sums of integers by group.

use std::ops::Range;

use super::native::Native;
use crate::simd::Simd;

/// Number of 32-bit values whose sum fits 62 bits.
const ADDED: u32 = 1 << 30;

/// Exact sums of integers per group. Single values are added up in 64 bits, a vector at a time, and moved to the
/// 128-bit sums before these overflow.
#[derive(Clone, Debug)]
pub(super) struct IntegerSums {
    collected: Vec<i64>,
    sums: Vec<i128>,
    /// Upper bound on the values that any group has collected.
    added: u32,
}

impl IntegerSums {
    pub(super) fn new(groups: usize) -> Self {
        Self { collected: vec![0; groups], sums: vec![0; groups], added: 0 }
    }

    pub(super) fn grow(&mut self, groups: usize) {
        self.collected.resize(groups, 0);
        self.sums.resize(groups, 0);
    }

    /// Adds a sum `times` times.
    pub(super) fn add(&mut self, group: usize, sum: i128, times: u64) {
        // A table has at most 2⁶³ cells, so 128 bits hold any sum of 64-bit integers.
        self.sums[group] = self.sums[group].wrapping_add(sum.wrapping_mul(times.into()));
    }

    /// Adds each value to the group at the same position.
    pub(super) fn add_each<T: Native>(&mut self, groups: Range<usize>, values: &[T], simd: Simd) {
        if !T::SMALL {
            for (sum, value) in self.sums[groups].iter_mut().zip(values) {
                *sum = sum.wrapping_add(value.to_integer());
            }
            return;
        }
        if self.added == ADDED {
            self.collect();
        }
        self.added += 1;
        simd.add_each_small(&mut self.collected[groups], values);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (group, sum) in (0..self.sums.len()).zip(other.of(0..other.sums.len())) {
            self.add(group, sum, 1);
        }
    }

    /// Sums of some groups.
    pub(super) fn of(&self, groups: Range<usize>) -> impl Iterator<Item = i128> {
        let both = self.sums[groups.clone()].iter().zip(&self.collected[groups]);
        both.map(|(sum, collected)| sum.wrapping_add(i128::from(*collected)))
    }

    pub(super) fn finish(mut self) -> Vec<i128> {
        self.collect();
        self.sums
    }

    fn collect(&mut self) {
        for (sum, collected) in self.sums.iter_mut().zip(&mut self.collected) {
            *sum = sum.wrapping_add(i128::from(std::mem::take(collected)));
        }
        self.added = 0;
    }
}
