//! The inner loops.

use super::{
    arithmetic::{Function, Operation},
    comparison::Comparison,
    native::{Native, Real},
    pairs::MomentSlices,
};
use crate::simd::kernel;

/// Number of independent partial sums: enough to hide the latency of an addition.
const LANES: usize = 32;

kernel! {
    /// Sum in float64.
    fn sum<T: Native>(values: &[T]) -> f64 {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut lanes = [0.0; LANES];
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += value.to_double();
            }
        }
        for (lane, value) in lanes.iter_mut().zip(rest) {
            *lane += value.to_double();
        }
        folded(lanes)
    }
}

kernel! {
    /// Sum of a block of integers of at most 32 bits.
    fn sum_small<T: Native>(values: &[T]) -> i64 {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut lanes = [0_i64; LANES];
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane = lane.wrapping_add(value.to_wrapped());
            }
        }
        let rest = rest.iter().fold(0, |sum: i64, value| sum.wrapping_add(value.to_wrapped()));
        lanes.iter().fold(rest, |sum, lane| sum.wrapping_add(*lane))
    }
}

kernel! {
    /// Sum of a block of integers. Their 32-bit halves are summed separately, and each sum fits 64 bits.
    fn sum_integers<T: Native>(values: &[T]) -> i128 {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut low = [0_i64; LANES];
        let mut high = [0_i64; LANES];
        for chunk in chunks {
            for ((low, high), value) in low.iter_mut().zip(&mut high).zip(chunk) {
                *low += value.to_wrapped() & 0xffff_ffff;
                *high += value.high_half();
            }
        }
        let (low, high): (i64, i64) = (low.iter().sum(), high.iter().sum());
        let rest: i128 = rest.iter().map(|value| value.to_integer()).sum();
        rest + i128::from(low) + (i128::from(high) << 32)
    }
}

kernel! {
    /// Sum of the distances from a value, and the sum of their squares.
    fn distances<T: Native>(values: &[T], from: f64) -> (f64, f64) {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut lanes = [0.0; LANES];
        let mut squares = [0.0; LANES];
        for chunk in chunks {
            for ((lane, square), value) in lanes.iter_mut().zip(&mut squares).zip(chunk) {
                let distance = value.to_double() - from;
                *lane += distance;
                *square += distance * distance;
            }
        }
        for ((lane, square), value) in lanes.iter_mut().zip(&mut squares).zip(rest) {
            let distance = value.to_double() - from;
            *lane += distance;
            *square += distance * distance;
        }
        (folded(lanes), folded(squares))
    }
}

/// Sums over pairs of distances from a start.
pub(crate) struct PairDistances {
    pub(crate) distances: [f64; 2],
    pub(crate) squares: [f64; 2],
    pub(crate) products: f64,
}

kernel! {
    /// Sums of the distances of pairs from a start, of their squares and products.
    fn pair_distances(ys: &[f64], xs: &[f64], start: [f64; 2]) -> PairDistances {
        const LANES: usize = 16;
        let mut sums = [[0.0; LANES]; 5];
        let mut add = |ys: &[f64], xs: &[f64]| {
            let [y_sum, x_sum, y_squares, x_squares, products] = &mut sums;
            for (lane, (y, x)) in ys.iter().zip(xs).enumerate().take(LANES) {
                let (y, x) = (y - start[0], x - start[1]);
                y_sum[lane] += y;
                x_sum[lane] += x;
                y_squares[lane] += y * y;
                x_squares[lane] += x * x;
                products[lane] += y * x;
            }
        };
        let ((ys, rest_y), (xs, rest_x)) = (ys.as_chunks::<LANES>(), xs.as_chunks::<LANES>());
        ys.iter().zip(xs).for_each(|(ys, xs)| add(ys, xs));
        add(rest_y, rest_x);
        let [y_sum, x_sum, y_squares, x_squares, products] = sums.map(|lanes| lanes.iter().sum());
        PairDistances { distances: [y_sum, x_sum], squares: [y_squares, x_squares], products }
    }
}

kernel! {
    /// Adds each pair to the moments at the same position, but for pairs with a NaN: Welford's method.
    fn add_pairs(states: MomentSlices<'_>, ys: &[f64], xs: &[f64]) {
        let len = ys.len();
        let MomentSlices { count, start, mean, squares, products } = states;
        let [start_y, start_x] = start.map(|column| &mut column[..len]);
        let [mean_y, mean_x] = mean.map(|column| &mut column[..len]);
        let [squares_y, squares_x] = squares.map(|column| &mut column[..len]);
        let (count, products, xs) = (&mut count[..len], &mut products[..len], &xs[..len]);
        for i in 0..len {
            let (y, x) = (ys[i], xs[i]);
            let counts = !(y.is_nan() | x.is_nan());
            let is_first = counts & (count[i] == 0.0);
            let from_y = if is_first { y } else { start_y[i] };
            let from_x = if is_first { x } else { start_x[i] };
            let number = count[i] + 1.0;
            let (y, x) = (y - from_y, x - from_x);
            let (distance_y, distance_x) = (y - mean_y[i], x - mean_x[i]);
            let (new_y, new_x) = (mean_y[i] + distance_y / number, mean_x[i] + distance_x / number);
            let left_x = x - new_x;
            let more_y = squares_y[i] + distance_y * (y - new_y);
            let more_x = squares_x[i] + distance_x * left_x;
            let more = products[i] + distance_y * left_x;
            start_y[i] = from_y;
            start_x[i] = from_x;
            count[i] = if counts { number } else { count[i] };
            mean_y[i] = if counts { new_y } else { mean_y[i] };
            mean_x[i] = if counts { new_x } else { mean_x[i] };
            squares_y[i] = if counts { more_y } else { squares_y[i] };
            squares_x[i] = if counts { more_x } else { squares_x[i] };
            products[i] = if counts { more } else { products[i] };
        }
    }
}

kernel! {
    /// Whether a value is NaN.
    fn has_nan<T: Native>(values: &[T]) -> bool {
        T::any_nan(values)
    }
}

kernel! {
    /// Minimum; no value may be NaN.
    fn min<T: Native>(values: &[T], start: T) -> T {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut lanes = [start; LANES];
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane = if *value < *lane { *value } else { *lane };
            }
        }
        lanes.iter().chain(rest).fold(start, |least, v| if *v < least { *v } else { least })
    }
}

kernel! {
    /// Maximum; no value may be NaN.
    fn max<T: Native>(values: &[T], start: T) -> T {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut lanes = [start; LANES];
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane = if *value > *lane { *value } else { *lane };
            }
        }
        lanes.iter().chain(rest).fold(start, |most, v| if *v > most { *v } else { most })
    }
}

kernel! {
    /// Adds each value to the sum at the same position.
    fn add_each<T: Native>(sums: &mut [f64], values: &[T]) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value.to_double();
        }
    }
}

kernel! {
    /// Adds each value except NaN to the sum at the same position. Returns whether one is NaN.
    fn add_present<T: Native>(sums: &mut [f64], values: &[T]) -> bool {
        T::add_present(sums, values)
    }
}

kernel! {
    /// Adds each value, of at most 32 bits, to the sum at the same position.
    fn add_each_small<T: Native>(sums: &mut [i64], values: &[T]) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum = sum.wrapping_add(value.to_wrapped());
        }
    }
}

kernel! {
    /// Minimum at each position; NaN replaces no value.
    fn min_each<T: Native>(least: &mut [T], values: &[T]) {
        for (least, value) in least.iter_mut().zip(values) {
            // In this order of operands, so that any value replaces NO_MINIMUM.
            let keeps = *least <= *value || value.is_nan();
            *least = if keeps { *least } else { *value };
        }
    }
}

kernel! {
    /// Maximum at each position; NaN replaces no value.
    fn max_each<T: Native>(most: &mut [T], values: &[T]) {
        for (most, value) in most.iter_mut().zip(values) {
            *most = if *value > *most { *value } else { *most };
        }
    }
}

/// Expands a loop once per operation.
macro_rules! with_each_operation {
    ($operation:expr, $of:ident => $loop:expr) => {
        match $operation {
            Operation::Add => {
                let $of = T::add;
                $loop
            }
            Operation::Subtract => {
                let $of = T::sub;
                $loop
            }
            Operation::Multiply => {
                let $of = T::mul;
                $loop
            }
            Operation::Divide => {
                let $of = T::div;
                $loop
            }
        }
    };
}

kernel! {
    /// `to[i] = to[i] ∘ other[i]`.
    fn combine<T: Real>(operation: Operation, to: &mut [T], other: &[T]) {
        with_each_operation!(operation, of => for (to, other) in to.iter_mut().zip(other) {
            *to = of(*to, *other);
        });
    }
}

kernel! {
    /// `to[i] = one[i] ∘ other[i]`.
    fn combine_both<T: Real>(operation: Operation, to: &mut [T], one: &[T], other: &[T]) {
        with_each_operation!(operation, of => {
            for ((to, one), other) in to.iter_mut().zip(one).zip(other) {
                *to = of(*one, *other);
            }
        });
    }
}

kernel! {
    /// `to[i] = to[i] ∘ other`.
    fn combine_right<T: Real>(operation: Operation, to: &mut [T], other: T) {
        with_each_operation!(operation, of => for to in to {
            *to = of(*to, other);
        });
    }
}

kernel! {
    /// `to[i] = one ∘ to[i]`.
    fn combine_left<T: Real>(operation: Operation, one: T, to: &mut [T]) {
        with_each_operation!(operation, of => for to in to {
            *to = of(one, *to);
        });
    }
}

kernel! {
    /// `to[i] = √(one[i]² + other[i]²)`.
    fn root_of_squares<T: Real>(to: &mut [T], one: &[T], other: &[T]) {
        for ((to, one), other) in to.iter_mut().zip(one).zip(other) {
            *to = (*one * *one + *other * *other).root();
        }
    }
}

kernel! {
    /// Applies a function to each value, in place.
    fn apply<T: Real>(function: Function, values: &mut [T]) {
        match function {
            Function::Negate => values.iter_mut().for_each(|v| *v = -*v),
            Function::Absolute => values.iter_mut().for_each(|v| *v = v.absolute()),
            Function::Root => values.iter_mut().for_each(|v| *v = v.root()),
            Function::Square => values.iter_mut().for_each(|v| *v = *v * *v),
        }
    }
}

kernel! {
    /// Converts each value to float64.
    fn widen<T: Native>(to: &mut [f64], values: &[T]) {
        to.iter_mut().zip(values).for_each(|(to, value)| *to = value.to_double());
    }
}

kernel! {
    /// Compares each of 64 values with another, into one bit each. NaN compares as the greatest value if `nan_is_most`,
    /// and never compares true otherwise.
    fn compare<T: Native>(comparison: Comparison, values: &[T; 64], with: T, nan_is_most: bool) -> u64 {
        let mut holds = [0_u8; 64];
        macro_rules! each {
            ($of:expr) => {
                for (holds, value) in holds.iter_mut().zip(values) {
                    *holds = u8::from($of(*value));
                }
            };
        }
        match comparison {
            Comparison::Less => each!(|v: T| v < with),
            Comparison::LessOrEqual => each!(|v: T| v <= with),
            Comparison::Equal => each!(|v: T| v == with),
            Comparison::NotEqual => each!(|v: T| v != with && !v.is_nan()),
            Comparison::Greater => each!(|v: T| v > with),
            Comparison::GreaterOrEqual => each!(|v: T| v >= with),
        }
        if nan_is_most
            && matches!(
                comparison,
                Comparison::NotEqual | Comparison::Greater | Comparison::GreaterOrEqual
            )
        {
            for (holds, value) in holds.iter_mut().zip(values) {
                *holds |= u8::from(value.is_nan());
            }
        }
        bits(&holds)
    }
}

/// The lowest bits of 64 bytes.
#[inline(always)]
pub(super) fn bits(bytes: &[u8; 64]) -> u64 {
    let (eights, _) = bytes.as_chunks::<8>();
    let mut word = 0;
    for (position, eight) in eights.iter().enumerate() {
        // Moves the lowest bits of eight bytes into the highest byte.
        let bits = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        word |= bits << (8 * position);
    }
    word
}

/// Sum of the lanes, pairwise.
#[inline(always)]
fn folded(mut lanes: [f64; LANES]) -> f64 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simd::Simd;

    proptest! {
        #[test]
        fn all_levels_agree_with_plain_loops(
            values in prop::collection::vec(-1000_i32..1000, 1..200),
            holes in prop::collection::vec(any::<bool>(), 200),
        ) {
            let floats: Vec<f32> = values.iter().map(|v| *v as f32 / 4.0).collect();
            let with_nan: Vec<f32> =
                floats.iter().zip(&holes).map(|(v, hole)| if *hole { f32::NAN } else { *v }).collect();
            let sum: i64 = values.iter().map(|v| i64::from(*v)).sum();
            for simd in Simd::all() {
                // Quarters of small integers have exact sums in any order.
                prop_assert_eq!(simd.sum(&floats), sum as f64 / 4.0);
                prop_assert_eq!(simd.sum(&values), sum as f64);
                prop_assert_eq!(simd.sum_small(&values), sum);
                prop_assert_eq!(simd.sum_integers(&values), i128::from(sum));
                let wide: Vec<i64> = values.iter().map(|v| i64::from(*v) << 53).collect();
                prop_assert_eq!(simd.sum_integers(&wide), i128::from(sum) << 53);
                let unsigned: Vec<u64> = values.iter().map(|v| u64::MAX - u64::from(v.unsigned_abs())).collect();
                let expected: i128 = unsigned.iter().map(|v| i128::from(*v)).sum();
                prop_assert_eq!(simd.sum_integers(&unsigned), expected);
                let distances = floats.iter().map(|v| f64::from(v - 0.5));
                let squares: f64 = distances.clone().map(|d| d.powi(2)).sum();
                prop_assert_eq!(simd.distances(&floats, 0.5), (distances.sum(), squares));
                prop_assert_eq!(simd.has_nan(&with_nan), holes[..values.len()].contains(&true));
                prop_assert!(!simd.has_nan(&[f32::INFINITY, f32::NEG_INFINITY, -0.0]));
                prop_assert!(simd.has_nan(&[0.0, -f64::NAN]));
                prop_assert_eq!(simd.min(&values, values[0]), *values.iter().min().unwrap());
                prop_assert_eq!(simd.max(&values, values[0]), *values.iter().max().unwrap());

                let mut sums = vec![1.0; values.len()];
                simd.add_each(&mut sums, &floats);
                let has_nan = simd.add_present(&mut sums, &with_nan);
                prop_assert_eq!(has_nan, simd.has_nan(&with_nan));
                let mut least = vec![f32::NO_MINIMUM; values.len()];
                simd.min_each(&mut least, &with_nan);
                let mut most = vec![f32::LEAST; values.len()];
                simd.max_each(&mut most, &with_nan);
                let mut integers = vec![1_i64 << 40; values.len()];
                simd.add_each_small(&mut integers, &values);
                for (i, v) in floats.iter().map(|v| f64::from(*v)).enumerate() {
                    prop_assert_eq!(sums[i], if holes[i] { 1.0 + v } else { 1.0 + 2.0 * v });
                    prop_assert_eq!(integers[i], (1 << 40) + i64::from(values[i]));
                    if holes[i] {
                        prop_assert!(least[i].is_nan() && most[i] == f32::NEG_INFINITY);
                    } else {
                        prop_assert_eq!((f64::from(least[i]), f64::from(most[i])), (v, v));
                    }
                }
            }
        }
    }
}
