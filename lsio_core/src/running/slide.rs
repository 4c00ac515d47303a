//! Frames of which rows enter and leave exactly: some lanes at a time through all rows, with their sums in registers.

use std::ops::Range;

use super::walk::Walk;
use crate::{reduce::Native, simd::kernel};

/// Lanes that go through the rows together.
const LANES: usize = 32;

/// A way of frames over rows, one output a step.
#[derive(Debug)]
pub(crate) struct Steps(Vec<Step>);

#[derive(Debug)]
struct Step {
    output: usize,
    enter: Range<usize>,
    leave: Range<usize>,
    /// The number of rows in the frame.
    rows: usize,
}

impl Steps {
    pub(super) fn new(walk: &Walk<'_>) -> Self {
        let (mut start, mut end) = (0, 0);
        let step = |step| {
            let output = walk.output(step);
            let frame = walk.frame(output);
            if frame.is_empty() {
                return Step { output, enter: 0..0, leave: 0..0, rows: 0 };
            }
            let leave = start..frame.start.min(end).max(start);
            let enter = frame.start.max(end)..frame.end.max(end);
            (start, end) = (frame.start, frame.end);
            Step { output, enter, leave, rows: frame.len() }
        };
        Self((0..walk.outputs()).map(step).collect())
    }
}

/// What slides over rows, and where results go.
#[derive(Debug)]
pub(crate) struct Slide<'a, T> {
    pub(super) values: &'a [T],
    /// The distance of two rows of `values` and of `to`.
    pub(super) stride: usize,
    /// The number of lanes: the first of each row.
    pub(super) width: usize,
    pub(super) to: &'a mut [f64],
    /// 1 for each result with a value, 0 for others; they lie as those of `to`.
    pub(super) valid: Option<&'a mut [u8]>,
    pub(super) steps: &'a Steps,
    /// Whether NaN is missing.
    pub(super) skips_nan: bool,
    /// Whether sums are divided by their counts.
    pub(super) mean: bool,
    /// Whether the processor multiplies and adds at once.
    pub(super) fused: bool,
    /// The number by which values are split, if sums aren't exact without.
    pub(super) rounds: Option<f64>,
}

kernel! {
    /// Sums or means of frames.
    fn slide<T: Native>(own: Slide<'_, T>) {
        match (own.rounds.is_some(), own.skips_nan && T::FLOATS) {
            (false, false) => all_lanes::<T, false, false>(own),
            (false, true) => all_lanes::<T, false, true>(own),
            (true, false) => all_lanes::<T, true, false>(own),
            (true, true) => all_lanes::<T, true, true>(own),
        }
    }
}

#[inline(always)]
fn all_lanes<T: Native, const SPLIT: bool, const NAN: bool>(mut own: Slide<'_, T>) {
    let whole = own.width / LANES * LANES;
    for first in (0..whole).step_by(LANES) {
        lanes::<T, LANES, SPLIT, NAN>(&mut own, first);
    }
    for first in whole..own.width {
        lanes::<T, 1, SPLIT, NAN>(&mut own, first);
    }
}

#[expect(clippy::needless_range_loop, reason = "lanes of several arrays go together")]
#[inline(always)]
fn lanes<T: Native, const N: usize, const SPLIT: bool, const NAN: bool>(
    own: &mut Slide<'_, T>,
    first: usize,
) {
    let rounds = own.rounds.unwrap_or_default();
    let mut seen = Seen { sums: [0.0; N], rests: [0.0; N], counts: [0.0; N] };
    for step in &own.steps.0 {
        let row = |row: usize| &own.values[first + row * own.stride..][..N];
        for entering in step.enter.clone() {
            seen.change::<T, SPLIT, NAN>(row(entering), 1.0, rounds);
        }
        for leaving in step.leave.clone() {
            seen.change::<T, SPLIT, NAN>(row(leaving), -1.0, rounds);
        }
        let place = first + step.output * own.stride;
        let rows = step.rows as f64;
        let to = &mut own.to[place..][..N];
        for lane in 0..N {
            to[lane] = if SPLIT { seen.sums[lane] + seen.rests[lane] } else { seen.sums[lane] };
        }
        if own.mean && NAN {
            for lane in 0..N {
                to[lane] /= seen.counts[lane];
            }
        } else if own.mean && own.fused {
            divide_fused(to, rows);
        } else if own.mean {
            to.iter_mut().for_each(|sum| *sum /= rows);
        }
        if let Some(valid) = own.valid.as_deref_mut() {
            let valid = &mut valid[place..][..N];
            for lane in 0..N {
                let count = if NAN { seen.counts[lane] } else { rows };
                valid[lane] = u8::from(step.rows > 0 && count > 0.0);
            }
        }
    }
}

/// Divides each number by a count, rounded as a division is: the quotient by the reciprocal is corrected by its
/// remainder, which a fused operation gives exactly. So one division serves all.
///
/// Markstein: Computation of elementary functions on the IBM RISC System/6000 processor, 1990.
#[inline(always)]
fn divide_fused(numbers: &mut [f64], count: f64) {
    let reciprocal = 1.0 / count;
    for number in numbers {
        let quotient = *number * reciprocal;
        let remainder = quotient.mul_add(-count, *number);
        *number = remainder.mul_add(reciprocal, quotient);
    }
}

/// Sums and counts of the values in the frame, for each lane.
struct Seen<const N: usize> {
    sums: [f64; N],
    rests: [f64; N],
    counts: [f64; N],
}

impl<const N: usize> Seen<N> {
    /// Adds values multiplied by 1 or -1.
    #[expect(clippy::needless_range_loop, reason = "lanes of several arrays go together")]
    #[inline(always)]
    fn change<T: Native, const SPLIT: bool, const NAN: bool>(
        &mut self,
        values: &[T],
        sign: f64,
        rounds: f64,
    ) {
        for lane in 0..N {
            let is_nan = NAN && values[lane].is_nan();
            let value = if is_nan { 0.0 } else { sign * values[lane].to_double() };
            if SPLIT {
                let rounded = (value + rounds) - rounds;
                self.sums[lane] += rounded;
                self.rests[lane] += value - rounded;
            } else {
                self.sums[lane] += value;
            }
            if NAN {
                self.counts[lane] += if is_nan { 0.0 } else { sign };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fused_divisions_are_divisions(number in -1e12..1e12, count in 1_u32..1 << 24) {
            let count = f64::from(count);
            let mut quotients = [number, number * 1e-200, 3.0 * count, 0.0];
            let expected = quotients.map(|number| number / count);
            divide_fused(&mut quotients, count);
            prop_assert_eq!(quotients, expected);
        }
    }
}
