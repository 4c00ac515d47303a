//! Sums of integers by group.

use std::ops::Range;

use super::native::Native;
use crate::simd::Simd;

/// How many values of 32 bits 62 bits hold the sum of.
const ADDED: u32 = 1 << 30;

/// Exact sums of the integers of groups. What is added value by value is collected in 64 bits, a vector at
/// a time, and put to the rest before these are full.
#[derive(Clone, Debug)]
pub(super) struct IntegerSums {
    collected: Vec<i64>,
    sums: Vec<i128>,
    /// How many values a group has collected at most.
    added: u32,
}

impl IntegerSums {
    pub(super) fn new(groups: usize) -> Self {
        Self { collected: vec![0; groups], sums: vec![0; groups], added: 0 }
    }

    /// Adds a sum so many times.
    pub(super) fn add(&mut self, group: usize, sum: i128, times: u64) {
        // A table has at most 2⁶³ cells, so that 128 bits hold all sums of integers of 64.
        self.sums[group] = self.sums[group].wrapping_add(sum.wrapping_mul(times.into()));
    }

    /// Adds each value to the group at its place.
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

    /// The sums of some groups.
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
