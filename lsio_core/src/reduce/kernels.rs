//! The inner loops.
//!
//! They are plain loops over lanes, which the compiler makes vectors of. Each is compiled for several
//! sets of instructions, and the processor's own is chosen when the program runs: the same binary runs
//! everywhere.

use std::sync::OnceLock;

use super::native::Native;

/// The sums that are taken side by side: as many as hide the time of an addition.
const LANES: usize = 32;

/// The vector instructions of this processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// What every processor of the target has.
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Simd {
    /// The widest that this processor has.
    #[must_use]
    pub fn detect() -> Self {
        static LEVEL: OnceLock<Simd> = OnceLock::new();
        *LEVEL.get_or_init(|| *Self::all().last().unwrap_or(&Self(Level::Baseline)))
    }

    /// All that this processor has, from the narrowest to the widest.
    #[must_use]
    pub fn all() -> Vec<Self> {
        #[allow(unused_mut, reason = "other processors have one only")]
        let mut all = vec![Self(Level::Baseline)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Self(Level::Avx2));
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && all.len() > 1
            {
                all.push(Self(Level::Avx512));
            }
        }
        all
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "AVX-512",
        }
    }
}

/// Makes a method of [`Simd`] that runs a loop with its instructions.
macro_rules! kernel {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block) => {
        impl Simd {
            $(#[$doc])*
            pub(super) fn $name<T: Native>(self, $($arg: $ty),*) $(-> $ret)? {
                #[inline(always)]
                fn body<T: Native>($($arg: $ty),*) $(-> $ret)? $body

                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma")]
                fn avx2<T: Native>($($arg: $ty),*) $(-> $ret)? {
                    body::<T>($($arg),*)
                }

                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512<T: Native>($($arg: $ty),*) $(-> $ret)? {
                    body::<T>($($arg),*)
                }

                match self.0 {
                    Level::Baseline => body::<T>($($arg),*),
                    // SAFETY: `Simd::all` makes this level only where the processor has them all.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => unsafe { avx2::<T>($($arg),*) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => unsafe { avx512::<T>($($arg),*) },
                }
            }
        }
    };
}

kernel! {
    /// The sum, as doubles.
    fn sum(values: &[T]) -> f64 {
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
    /// The sum modulo 2⁶⁴.
    fn sum_integers(values: &[T]) -> i64 {
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
    /// The sum of the squared distances from a value.
    fn sum_of_squares(values: &[T], from: f64) -> f64 {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut lanes = [0.0; LANES];
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                let distance = value.to_double() - from;
                *lane += distance * distance;
            }
        }
        for (lane, value) in lanes.iter_mut().zip(rest) {
            let distance = value.to_double() - from;
            *lane += distance * distance;
        }
        folded(lanes)
    }
}

kernel! {
    /// The number of NaN.
    fn count_nan(values: &[T]) -> usize {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut lanes = [0_u32; LANES];
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += u32::from(value.is_nan());
            }
        }
        let rest = rest.iter().filter(|value| value.is_nan()).count();
        lanes.iter().map(|lane| *lane as usize).sum::<usize>() + rest
    }
}

kernel! {
    /// The least value; without NaN among them.
    fn min(values: &[T], start: T) -> T {
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
    /// The greatest value; without NaN among them.
    fn max(values: &[T], start: T) -> T {
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
    /// Adds each value to the sum at its place.
    fn add_each(sums: &mut [f64], values: &[T]) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value.to_double();
        }
    }
}

kernel! {
    /// Adds each value but NaN to the sum at its place.
    fn add_each_but_nan(sums: &mut [f64], values: &[T]) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += if value.is_nan() { 0.0 } else { value.to_double() };
        }
    }
}

kernel! {
    /// Adds each value to the sum at its place, modulo 2⁶⁴.
    fn add_each_integer(sums: &mut [i64], values: &[T]) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum = sum.wrapping_add(value.to_wrapped());
        }
    }
}

kernel! {
    /// Keeps the lesser at each place; NaN takes no place.
    fn min_each(least: &mut [T], values: &[T]) {
        for (least, value) in least.iter_mut().zip(values) {
            // The other way round, so that NO_MINIMUM gives way.
            let keeps = *least <= *value || value.is_nan();
            *least = if keeps { *least } else { *value };
        }
    }
}

kernel! {
    /// Keeps the greater at each place; NaN takes no place.
    fn max_each(most: &mut [T], values: &[T]) {
        for (most, value) in most.iter_mut().zip(values) {
            *most = if *value > *most { *value } else { *most };
        }
    }
}

/// The sum of some lanes, in a tree.
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

    #[test]
    fn there_is_always_one() {
        assert!(Simd::all().contains(&Simd::detect()));
        assert_eq!(Simd::all()[0].name(), "baseline");
    }

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
                // Quarters of small integers have exact sums, whatever their order.
                prop_assert_eq!(simd.sum(&floats), sum as f64 / 4.0);
                prop_assert_eq!(simd.sum(&values), sum as f64);
                prop_assert_eq!(simd.sum_integers(&values), sum);
                let squares: f64 = floats.iter().map(|v| f64::from(v - 0.5).powi(2)).sum();
                prop_assert_eq!(simd.sum_of_squares(&floats, 0.5), squares);
                let nans = holes[..values.len()].iter().filter(|hole| **hole).count();
                prop_assert_eq!(simd.count_nan(&with_nan), nans);
                prop_assert_eq!(simd.min(&values, values[0]), *values.iter().min().unwrap());
                prop_assert_eq!(simd.max(&values, values[0]), *values.iter().max().unwrap());

                let mut sums = vec![1.0; values.len()];
                simd.add_each(&mut sums, &floats);
                simd.add_each_but_nan(&mut sums, &with_nan);
                let mut least = vec![f32::NO_MINIMUM; values.len()];
                simd.min_each(&mut least, &with_nan);
                let mut most = vec![f32::LEAST; values.len()];
                simd.max_each(&mut most, &with_nan);
                let mut integers = vec![i64::MAX; values.len()];
                simd.add_each_integer(&mut integers, &values);
                for (i, v) in floats.iter().map(|v| f64::from(*v)).enumerate() {
                    prop_assert_eq!(sums[i], if holes[i] { 1.0 + v } else { 1.0 + 2.0 * v });
                    prop_assert_eq!(integers[i], i64::MAX.wrapping_add(i64::from(values[i])));
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
