//! Order statistics of values that fit the cache: the values of a rank, found by counting.
//!
//! A pass that counts the values below a bound is a loop over vectors, without branches, and changes nothing. A few such
//! passes cost less than moving the values around: the bound comes from the counts so far.

use super::native::Native;
use crate::simd::{Simd, kernel};

/// Numbers of values for which counting pays off: fewer are sorted sooner, more don't fit the cache.
const COUNTED: std::ops::Range<usize> = 48..1 << 16;

/// Number of passes with bounds between two values, after which bounds are between two representations.
const GUESSES: usize = 14;

/// A number whose values of a rank are found.
#[allow(private_bounds, reason = "the types with kernels, and no others")]
pub trait Ranked: Native {
    /// Of these values, the one of this rank, counted from 0, and the next one. No value is NaN, and both zeros are
    /// equal. `None` if there are too few.
    fn ranked(values: &mut [Self], rank: usize) -> Option<(Self, Option<Self>)>;
}

/// A number with a position in the order of all representations.
trait Positioned: Native {
    fn position(self) -> i64;

    fn at(position: i64) -> Self;

    fn from_double(value: f64) -> Self;
}

macro_rules! ranked {
    ($($t:ty: $value:ident => $position:expr, $at:ident => $of:expr;)*) => {$(
        impl Positioned for $t {
            fn position(self) -> i64 {
                let $value = self;
                $position
            }

            fn at($at: i64) -> Self {
                $of
            }

            fn from_double(value: f64) -> Self {
                value as $t
            }
        }

        impl Ranked for $t {
            fn ranked(values: &mut [Self], rank: usize) -> Option<(Self, Option<Self>)> {
                if rank >= values.len() {
                    return None;
                }
                if COUNTED.contains(&values.len()) {
                    return Some(by_counting(values, rank, Simd::detect()));
                }
                let (_, value, above) = values.select_nth_unstable_by(rank, |a, b| a.order(*b));
                Some((*value, above.iter().copied().min_by(|a, b| a.order(*b))))
            }
        }
    )*};
}

ranked!(
    f32: value => i64::from(of_single(value.to_bits().cast_signed())),
        at => Self::from_bits(of_single(at as i32).cast_unsigned());
    f64: value => of_double(value.to_bits().cast_signed()),
        at => Self::from_bits(of_double(at).cast_unsigned());
    i64: value => value, at => at;
);

/// Bits of a float32 as a number in the same order, and back.
fn of_single(bits: i32) -> i32 {
    bits ^ ((bits >> 31).cast_unsigned() >> 1).cast_signed()
}

/// Bits of a float64 as a number in the same order, and back.
fn of_double(bits: i64) -> i64 {
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

/// Bounds of the wanted value.
struct Bounds {
    low: i64,
    high: i64,
    /// How many more values lie below the wanted place than below `low`.
    missing: f64,
    /// How many more values lie up to `high`.
    excess: f64,
    /// Whether the last pass raised `low`.
    raised: Option<bool>,
}

impl Bounds {
    /// A bound above `low` and up to `high`: where the wanted place is if values are evenly distributed.
    fn guess<T: Positioned>(&self) -> Option<i64> {
        let (low, high) = (T::at(self.low).to_double(), T::at(self.high).to_double());
        let guess = low + (high - low) * (self.missing / (self.missing + self.excess));
        guess.is_finite().then(|| T::from_double(guess).position().clamp(self.low + 1, self.high))
    }

    /// The middle of all representations between the bounds.
    fn middle(&self) -> i64 {
        let distance = self.high.wrapping_sub(self.low).cast_unsigned();
        self.low.wrapping_add(distance.div_ceil(2).cast_signed())
    }
}

fn by_counting<T: Positioned>(values: &[T], rank: usize, simd: Simd) -> (T, Option<T>) {
    let (least, most) = simd.least_and_most(values);
    let wanted = rank + 1;
    let mut bounds = Bounds {
        low: least.position(),
        high: most.position(),
        missing: wanted as f64,
        excess: (values.len() - wanted) as f64,
        raised: None,
    };
    for pass in 0.. {
        if bounds.low >= bounds.high {
            break;
        }
        let guess = if pass < GUESSES { bounds.guess::<T>() } else { None };
        let bound = guess.unwrap_or_else(|| bounds.middle());
        let below = simd.count_below(values, T::at(bound));
        if below == wanted {
            let (value, next) = simd.beside(values, T::at(bound), (least, most));
            return (value, (wanted < values.len()).then_some(next));
        }
        // The Illinois method: a bound that stays for long gets less weight.
        let raised = below < wanted;
        let stays = bounds.raised.replace(raised) == Some(raised);
        if raised {
            bounds.low = bound;
            bounds.missing = (wanted - below) as f64;
            bounds.excess *= if stays { 0.5 } else { 1.0 };
        } else {
            bounds.high = bound - 1;
            bounds.excess = (below - wanted) as f64;
            bounds.missing *= if stays { 0.5 } else { 1.0 };
        }
    }
    let value = T::at(bounds.low);
    let (up_to, next) = simd.above(values, value, most);
    let next = if up_to > wanted { value } else { next };
    (value, (wanted < values.len()).then_some(next))
}

/// Number of independent lanes of a loop.
const LANES: usize = 64;

kernel! {
    /// Number of values below a bound.
    fn count_below<T: Native>(values: &[T], bound: T) -> usize {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut lanes = [0_u32; LANES];
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += u32::from(*value < bound);
            }
        }
        for (lane, value) in lanes.iter_mut().zip(rest) {
            *lane += u32::from(*value < bound);
        }
        // The values are few.
        lanes.iter().sum::<u32>() as usize
    }
}

kernel! {
    /// Least and greatest value; there is one.
    fn least_and_most<T: Native>(values: &[T]) -> (T, T) {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let (mut least, mut most) = ([values[0]; LANES], [values[0]; LANES]);
        let mut add = |chunk: &[T]| {
            for ((least, most), value) in least.iter_mut().zip(&mut most).zip(chunk) {
                *least = lesser(*least, *value);
                *most = greater(*most, *value);
            }
        };
        chunks.iter().for_each(|chunk| add(chunk));
        add(rest);
        (folded(least, lesser), folded(most, greater))
    }
}

kernel! {
    /// Greatest value below a bound, and the least that isn't. `ends` are the least and the greatest of all.
    fn beside<T: Native>(values: &[T], bound: T, ends: (T, T)) -> (T, T) {
        let (mut below, mut above) = ([ends.0; LANES], [ends.1; LANES]);
        let mut add = |chunk: &[T]| {
            for ((below, above), value) in below.iter_mut().zip(&mut above).zip(chunk) {
                let is_below = *value < bound;
                *below = greater(*below, if is_below { *value } else { ends.0 });
                *above = lesser(*above, if is_below { ends.1 } else { *value });
            }
        };
        let (chunks, rest) = values.as_chunks::<LANES>();
        chunks.iter().for_each(|chunk| add(chunk));
        add(rest);
        (folded(below, greater), folded(above, lesser))
    }
}

kernel! {
    /// Number of values up to one, and the least value above it; `most`, the greatest of all, if there is none.
    fn above<T: Native>(values: &[T], than: T, most: T) -> (usize, T) {
        let (mut up_to, mut next) = ([0_u32; LANES], [most; LANES]);
        let mut add = |chunk: &[T]| {
            for ((up_to, next), value) in up_to.iter_mut().zip(&mut next).zip(chunk) {
                let is_above = *value > than;
                *up_to += u32::from(!is_above);
                *next = lesser(*next, if is_above { *value } else { most });
            }
        };
        let (chunks, rest) = values.as_chunks::<LANES>();
        chunks.iter().for_each(|chunk| add(chunk));
        add(rest);
        (up_to.iter().sum::<u32>() as usize, folded(next, lesser))
    }
}

#[inline(always)]
fn lesser<T: Native>(one: T, other: T) -> T {
    if other < one { other } else { one }
}

#[inline(always)]
fn greater<T: Native>(one: T, other: T) -> T {
    if other > one { other } else { one }
}

/// Combines the lanes, half of them at a time.
#[inline(always)]
fn folded<T: Native>(mut lanes: [T; LANES], of: impl Fn(T, T) -> T) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = of(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check<T: Positioned + Ranked + std::fmt::Debug>(values: &[T], rank: usize) {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(|a, b| a.order(*b));
        let expected = (sorted[rank], sorted.get(rank + 1).copied());
        assert_eq!(T::ranked(&mut values.to_vec(), rank), Some(expected));
        for simd in Simd::all() {
            assert_eq!(by_counting(values, rank, simd), expected, "{}", simd.name());
        }
    }

    proptest! {
        #[test]
        fn ranks_are_those_of_sorted_values(
            numbers in prop::collection::vec((-2000_i64..2000, 0_u8..40), 1..400),
            kind in 0..5,
            rank: usize,
        ) {
            let rank = rank % numbers.len();
            let doubles: Vec<f64> = numbers
                .iter()
                .map(|(number, special)| {
                    let number = *number as f64;
                    match (kind, special) {
                        // Few values, many of them equal.
                        (0, _) => (number / 1000.0).round(),
                        (1, 0) => f64::INFINITY,
                        (1, 1) => f64::NEG_INFINITY,
                        (1, 2) => -0.0,
                        (1, 3) => 0.0,
                        // All orders of magnitude.
                        (2, _) => number.signum() * (number / 10.0).exp2(),
                        (3, 0) => f64::MAX,
                        (3, 1) => f64::MIN,
                        _ => number / 7.0,
                    }
                })
                .collect();
            check(&doubles, rank);
            check(&doubles.iter().map(|value| *value as f32).collect::<Vec<_>>(), rank);
            let integers: Vec<i64> = numbers
                .iter()
                .map(|(number, special)| match (kind, special) {
                    (1, 0) => i64::MAX,
                    (1, 1) => i64::MIN,
                    (2, _) => number << 50,
                    _ => *number,
                })
                .collect();
            check(&integers, rank);
        }
    }

    #[test]
    fn there_is_no_rank_beyond_the_values() {
        assert_eq!(f64::ranked(&mut [], 0), None);
        assert_eq!(f32::ranked(&mut [1.0; 100], 100), None);
        assert_eq!(f32::ranked(&mut [1.0; 100], 99), Some((1.0, None)));
        assert_eq!(i64::ranked(&mut [3, 1, 2], 1), Some((2, Some(3))));
    }
}
