//! Types of values that have kernels.

use std::{
    cmp::Ordering,
    ops::{Add, Div, Mul, Neg, Sub},
};

use arrow::datatypes::ArrowNativeType;

/// A number in its in-memory form.
pub(crate) trait Native: ArrowNativeType + PartialOrd {
    /// Whether values can be NaN.
    const FLOATS: bool;

    /// Whether the sum of many values fits 64 bits.
    const SMALL: bool;

    /// Least value in the order of [`Native::order`].
    const LEAST: Self;

    /// Identity of `min`: any value replaces it.
    const NO_MINIMUM: Self;

    fn to_double(self) -> f64;

    /// Integer modulo 2⁶⁴. Integers only.
    fn to_wrapped(self) -> i64;

    /// Exact integer. Integers only.
    fn to_integer(self) -> i128;

    /// Integer shifted right by 32 bits. Integers only.
    fn high_half(self) -> i64;

    fn is_nan(self) -> bool;

    /// Whether a value is NaN. A loop over integers, which keeps no mask of comparisons.
    fn any_nan(values: &[Self]) -> bool;

    /// Adds each value but NaN to the sum at the same position. Returns whether one is NaN.
    fn add_present(sums: &mut [f64], values: &[Self]) -> bool;

    /// Total order, with NaN above all other values.
    fn order(self, other: Self) -> Ordering;
}

macro_rules! integer {
    ($($t:ty => $small:literal),*) => {$(
        #[allow(clippy::cast_possible_wrap, reason = "modulo 2⁶⁴ is what is promised")]
        impl Native for $t {
            const FLOATS: bool = false;
            const SMALL: bool = $small;
            const LEAST: Self = <$t>::MIN;
            const NO_MINIMUM: Self = <$t>::MAX;

            #[inline(always)]
            fn to_double(self) -> f64 {
                self as f64
            }

            #[inline(always)]
            fn to_wrapped(self) -> i64 {
                self as i64
            }

            #[inline(always)]
            fn to_integer(self) -> i128 {
                i128::from(self)
            }

            #[inline(always)]
            fn high_half(self) -> i64 {
                (i128::from(self) >> 32) as i64
            }

            #[inline(always)]
            fn is_nan(self) -> bool {
                false
            }

            #[inline(always)]
            fn any_nan(_values: &[Self]) -> bool {
                false
            }

            #[inline(always)]
            fn add_present(sums: &mut [f64], values: &[Self]) -> bool {
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value.to_double());
                false
            }

            #[inline(always)]
            fn order(self, other: Self) -> Ordering {
                self.cmp(&other)
            }
        }
    )*};
}

integer!(
    i8 => true, i16 => true, i32 => true, i64 => false,
    u8 => true, u16 => true, u32 => true, u64 => false
);

macro_rules! float {
    ($($t:ty),*) => {$(
        impl Native for $t {
            const FLOATS: bool = true;
            const SMALL: bool = false;
            const LEAST: Self = <$t>::NEG_INFINITY;
            const NO_MINIMUM: Self = <$t>::NAN;

            #[inline(always)]
            fn to_double(self) -> f64 {
                f64::from(self)
            }

            #[inline(always)]
            fn to_wrapped(self) -> i64 {
                0
            }

            #[inline(always)]
            fn to_integer(self) -> i128 {
                0
            }

            #[inline(always)]
            fn high_half(self) -> i64 {
                0
            }

            #[inline(always)]
            fn is_nan(self) -> bool {
                <$t>::is_nan(self)
            }

            #[inline(always)]
            fn any_nan(values: &[Self]) -> bool {
                // Negative once a magnitude is above that of infinity.
                let infinity = <$t>::INFINITY.to_bits().cast_signed();
                let below = |value: &Self| infinity - value.abs().to_bits().cast_signed();
                values.iter().map(below).fold(0, |all, own| all | own) < 0
            }

            #[inline(always)]
            fn add_present(sums: &mut [f64], values: &[Self]) -> bool {
                let infinity = <$t>::INFINITY.to_bits().cast_signed();
                let mut all = 0;
                for (sum, value) in sums.iter_mut().zip(values) {
                    all |= infinity - value.abs().to_bits().cast_signed();
                    *sum += if value.is_nan() { 0.0 } else { value.to_double() };
                }
                all < 0
            }

            #[inline(always)]
            fn order(self, other: Self) -> Ordering {
                self.partial_cmp(&other).unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
            }
        }
    )*};
}

float!(f32, f64);

/// Numbers that are consecutive in memory, in native byte order; `None` for bytes that aren't whole numbers, or aren't
/// aligned.
pub(crate) fn native_slice<T: Native>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: every pattern of bits is a number, and only whole, aligned numbers are taken.
    let (_, values, _) = unsafe { bytes.align_to::<T>() };
    (size_of_val(values) == bytes.len()).then_some(values)
}

/// The whole, aligned numbers in memory, in native byte order.
pub(crate) fn native_slice_mut<T: Native>(bytes: &mut [u8]) -> &mut [T] {
    // SAFETY: every pattern of bits is a number as well as bytes, and only whole, aligned numbers are taken.
    unsafe { bytes.align_to_mut::<T>() }.1
}

/// A floating-point number.
pub(crate) trait Real:
    Native
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    fn absolute(self) -> Self;

    fn root(self) -> Self;
}

macro_rules! real {
    ($($t:ty),*) => {$(
        impl Real for $t {
            #[inline(always)]
            fn absolute(self) -> Self {
                self.abs()
            }

            #[inline(always)]
            fn root(self) -> Self {
                self.sqrt()
            }
        }
    )*};
}

real!(f32, f64);
