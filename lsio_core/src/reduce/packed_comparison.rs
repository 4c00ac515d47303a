//! Compares packed numbers with a number: unpacking is monotone, so the numbers that compare true are an interval.

use arrow::buffer::BooleanBuffer;

use super::{
    comparison::Comparison,
    native::Native,
    unpacking::{Packed, Scaling, of_integers},
};
use arrow::datatypes::DataType;

use super::native::native_slice;
use crate::simd::{Simd, kernel};

/// Packed numbers between two bounds, both included, or all others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Between<S> {
    pub(crate) low: S,
    pub(crate) high: S,
    pub(crate) negated: bool,
}

/// Compares each unpacked number with another. A missing one never compares true. `None` for bytes that aren't whole
/// numbers, and if `with` is NaN.
pub(super) fn compare_packed(
    bytes: &[u8],
    scaling: &Scaling,
    comparison: Comparison,
    with: f64,
) -> Option<BooleanBuffer> {
    if with.is_nan() {
        return None;
    }
    macro_rules! of {
        ($t:ty) => {{
            let packed = Packed::<$t>::new(scaling);
            let between = between(&packed, comparison, with, |number| <$t>::try_from(number).ok());
            Some(mask(native_slice::<$t>(bytes)?, between, &packed))
        }};
    }
    of_integers!(scaling.integers, of, None)
}

/// The numbers that compare true, as an interval; `None` if there are none.
fn between<S: Native>(
    packed: &Packed<S>,
    comparison: Comparison,
    with: f64,
    number: impl Fn(i64) -> Option<S>,
) -> Option<Between<S>> {
    let (least, most) = (S::LEAST.to_wrapped(), S::NO_MINIMUM.to_wrapped());
    let falls = packed.by[0] < 0.0;
    let value = |at: i64| number(at).map_or(f64::NAN, |number| packed.value(number));
    // First number from which on a condition holds that holds for all greater ones.
    let first = |holds: &dyn Fn(f64) -> bool| {
        let (mut low, mut high) = (least, most + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(value(middle)) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    };
    // Numbers whose values are below, not above, … a bound, by where they start to be.
    let (reaches, passes) = if falls {
        (first(&|value| value <= with), first(&|value| value < with))
    } else {
        (first(&|value| value >= with), first(&|value| value > with))
    };
    let (below, above) = ((least, reaches), (passes, most + 1));
    let (start, end) = match (comparison, falls) {
        (Comparison::Less, false) | (Comparison::Greater, true) => below,
        (Comparison::Greater, false) | (Comparison::Less, true) => above,
        (Comparison::LessOrEqual, false) | (Comparison::GreaterOrEqual, true) => (least, passes),
        (Comparison::GreaterOrEqual, false) | (Comparison::LessOrEqual, true) => {
            (reaches, most + 1)
        }
        (Comparison::Equal | Comparison::NotEqual, _) => (reaches, passes),
    };
    let negated = comparison == Comparison::NotEqual;
    if start >= end {
        // No number equals the bound: all others are all.
        let all = Between { low: S::LEAST, high: S::NO_MINIMUM, negated: false };
        return negated.then_some(all);
    }
    Some(Between { low: number(start)?, high: number(end - 1)?, negated })
}

fn mask<S: Native>(values: &[S], between: Option<Between<S>>, packed: &Packed<S>) -> BooleanBuffer {
    let Some(between) = between else { return BooleanBuffer::new_unset(values.len()) };
    let simd = Simd::detect();
    let (chunks, rest) = values.as_chunks::<64>();
    let mut words: Vec<u64> = Vec::with_capacity(chunks.len() + 1);
    let missing = packed.missing.as_slice();
    words.extend(chunks.iter().map(|chunk| simd.compare_packed(chunk, between, missing)));
    if !rest.is_empty() {
        let mut last = [S::default(); 64];
        last[..rest.len()].copy_from_slice(rest);
        words.push(simd.compare_packed(&last, between, missing));
    }
    BooleanBuffer::new(words.into(), 0, values.len())
}

kernel! {
    /// Finds which of 64 numbers are in an interval and aren't missing, as one bit each.
    fn compare_packed<T: Native>(values: &[T; 64], between: Between<T>, missing: &[T]) -> u64 {
        let Between { low, high, negated } = between;
        let mut holds = [0_u8; 64];
        for (holds, value) in holds.iter_mut().zip(values) {
            *holds = u8::from(((*value >= low) & (*value <= high)) != negated);
        }
        for missing in missing {
            // The interval leaves most missing values out.
            if ((*missing >= low) & (*missing <= high)) != negated {
                for (holds, value) in holds.iter_mut().zip(values) {
                    *holds &= u8::from(*value != *missing);
                }
            }
        }
        super::kernels::bits(&holds)
    }
}
