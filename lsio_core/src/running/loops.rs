//! The inner loops: one row of lanes at a time.

use arrow::datatypes::ArrowNativeType;

use crate::{reduce::Native, simd::kernel};

/// An integer in the order of the values that it stands for.
pub(crate) trait Key: ArrowNativeType + Ord {
    const LEAST: Self;
    const GREATEST: Self;
}

/// A number that has a [`Key`].
pub(crate) trait Ordered: Native {
    type Key: Key;

    fn to_key(self) -> Self::Key;

    fn from_key(key: Self::Key) -> Self;
}

macro_rules! integer {
    ($($t:ty),*) => {$(
        impl Key for $t {
            const LEAST: Self = <$t>::MIN;
            const GREATEST: Self = <$t>::MAX;
        }

        impl Ordered for $t {
            type Key = $t;

            #[inline(always)]
            fn to_key(self) -> $t {
                self
            }

            #[inline(always)]
            fn from_key(key: $t) -> $t {
                key
            }
        }
    )*};
}

integer!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! float {
    ($($t:ty => $key:ty, $shift:literal);*) => {$(
        /// The order of IEEE 754's `totalOrder`: NaN is above all numbers.
        impl Ordered for $t {
            type Key = $key;

            #[inline(always)]
            fn to_key(self) -> $key {
                let bits = self.to_bits().cast_signed();
                bits ^ ((bits >> $shift) & <$key>::MAX)
            }

            #[inline(always)]
            fn from_key(key: $key) -> $t {
                <$t>::from_bits((key ^ ((key >> $shift) & <$key>::MAX)).cast_unsigned())
            }
        }
    )*};
}

float!(f32 => i32, 31; f64 => i64, 63);

kernel! {
    /// 1 for each value that isn't NaN, 0 for NaN.
    fn not_nan<T: Native>(to: &mut [u8], values: &[T]) {
        for (to, value) in to.iter_mut().zip(values) {
            *to = u8::from(!value.is_nan());
        }
    }
}

kernel! {
    /// Converts each value to float64, and each that is missing to 0.
    fn widen_valid<T: Native>(to: &mut [f64], values: &[T], valid: &[u8]) {
        for ((to, value), valid) in to.iter_mut().zip(values).zip(valid) {
            *to = if *valid == 0 { 0.0 } else { value.to_double() };
        }
    }
}

kernel! {
    /// Converts each value to float64, and NaN to 0.
    fn widen_but_nan<T: Native>(to: &mut [f64], values: &[T]) {
        for (to, value) in to.iter_mut().zip(values) {
            *to = if value.is_nan() { 0.0 } else { value.to_double() };
        }
    }
}

kernel! {
    /// Adds `sign` to the count at each position with a valid value.
    fn count_each(counts: &mut [i32], valid: &[u8], sign: i32) {
        for (count, valid) in counts.iter_mut().zip(valid) {
            *count += i32::from(*valid) * sign;
        }
    }
}

kernel! {
    /// Adds `sign` to the count at each position whose value isn't NaN.
    fn count_each_but_nan<T: Native>(counts: &mut [i32], values: &[T], sign: i32) {
        for (count, value) in counts.iter_mut().zip(values) {
            *count += if value.is_nan() { 0 } else { sign };
        }
    }
}

kernel! {
    /// 1 for each count of at least `least`.
    fn enough(to: &mut [u8], counts: &[i32], least: i32) {
        for (to, count) in to.iter_mut().zip(counts) {
            *to = u8::from(*count >= least);
        }
    }
}

kernel! {
    /// Adds each value to the sum at the same position, and what its rounding loses to `lost`.
    ///
    /// Knuth: The Art of Computer Programming, volume 2, theorem 4.2.2 B.
    fn add_exactly(sums: &mut [f64], lost: &mut [f64], values: &[f64]) {
        for ((sum, lost), value) in sums.iter_mut().zip(lost).zip(values) {
            let whole = *sum + value;
            let added = whole - *sum;
            *lost += (*sum - (whole - added)) + (value - added);
            *sum = whole;
        }
    }
}

kernel! {
    /// Like `add_exactly`, for values as they are stored.
    fn add_each_exactly<T: Native>(sums: &mut [f64], lost: &mut [f64], values: &[T]) {
        for ((sum, lost), value) in sums.iter_mut().zip(lost).zip(values) {
            let value = value.to_double();
            let whole = *sum + value;
            let added = whole - *sum;
            *lost += (*sum - (whole - added)) + (value - added);
            *sum = whole;
        }
    }
}

kernel! {
    /// Like `add_each_exactly`, but leaves out NaN.
    fn add_each_but_nan_exactly<T: Native>(sums: &mut [f64], lost: &mut [f64], values: &[T]) {
        for ((sum, lost), value) in sums.iter_mut().zip(lost).zip(values) {
            let value = if value.is_nan() { 0.0 } else { value.to_double() };
            let whole = *sum + value;
            let added = whole - *sum;
            *lost += (*sum - (whole - added)) + (value - added);
            *sum = whole;
        }
    }
}

kernel! {
    /// The sums, each with what rounding has lost. The rounding error of infinity is NaN, and left out.
    fn whole_sums(to: &mut [f64], sums: &[f64], lost: &[f64]) {
        for ((to, sum), lost) in to.iter_mut().zip(sums).zip(lost) {
            *to = if sum.is_finite() { sum + lost } else { *sum };
        }
    }
}

kernel! {
    /// Divides each sum by its count.
    fn divide(sums: &mut [f64], counts: &[i32]) {
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum /= f64::from(*count);
        }
    }
}

kernel! {
    /// Keys of the values.
    fn keys<T: Ordered>(to: &mut [T::Key], values: &[T]) {
        for (to, value) in to.iter_mut().zip(values) {
            *to = value.to_key();
        }
    }
}

kernel! {
    /// Keys of the values, and `missing` for those that are missing.
    fn keys_valid<T: Ordered>(to: &mut [T::Key], values: &[T], valid: &[u8], missing: T::Key) {
        for ((to, value), valid) in to.iter_mut().zip(values).zip(valid) {
            *to = if *valid == 0 { missing } else { value.to_key() };
        }
    }
}

kernel! {
    /// Keys of the values, and `missing` for NaN.
    fn keys_but_nan<T: Ordered>(to: &mut [T::Key], values: &[T], missing: T::Key) {
        for (to, value) in to.iter_mut().zip(values) {
            *to = if value.is_nan() { missing } else { value.to_key() };
        }
    }
}

kernel! {
    /// Values of the keys.
    fn values_of_keys<T: Ordered>(to: &mut [T], keys: &[T::Key]) {
        for (to, key) in to.iter_mut().zip(keys) {
            *to = T::from_key(*key);
        }
    }
}

kernel! {
    /// The lesser key at each position.
    fn lesser<T: Key>(to: &mut [T], keys: &[T]) {
        for (to, key) in to.iter_mut().zip(keys) {
            *to = if *key < *to { *key } else { *to };
        }
    }
}

kernel! {
    /// The greater key at each position.
    fn greater<T: Key>(to: &mut [T], keys: &[T]) {
        for (to, key) in to.iter_mut().zip(keys) {
            *to = if *key > *to { *key } else { *to };
        }
    }
}

/// Rows of moments, one lane for each position. See [`crate::reduce::Moments`].
pub(crate) struct MomentRows<'a> {
    pub(crate) count: &'a mut [f64],
    pub(crate) start: &'a mut [f64],
    pub(crate) mean: &'a mut [f64],
    pub(crate) squares: &'a mut [f64],
}

kernel! {
    /// Adds each value that is valid to the moments at the same position, as `Moments::add` does.
    fn add_moments(to: MomentRows<'_>, values: &[f64], valid: &[u8]) {
        let moments = to.count.iter_mut().zip(to.start).zip(to.mean).zip(to.squares);
        for ((((count, start), mean), squares), (value, valid)) in moments.zip(values.iter().zip(valid)) {
            let is_valid = *valid != 0;
            *start = if *count == 0.0 && is_valid { *value } else { *start };
            *count += f64::from(*valid);
            let from_start = value - *start;
            let distance = from_start - *mean;
            let moved = *mean + distance / *count;
            *mean = if is_valid { moved } else { *mean };
            let more = *squares + distance * (from_start - *mean);
            *squares = if is_valid { more } else { *squares };
        }
    }
}

kernel! {
    /// Adds other moments to those at the same position, as `Moments::merge` does.
    fn merge_moments(to: MomentRows<'_>, other: [&[f64]; 4]) {
        let moments = to.count.iter_mut().zip(to.start).zip(to.mean).zip(to.squares);
        let [counts, starts, means, all_squares] = other;
        let others = counts.iter().zip(starts).zip(means).zip(all_squares);
        for ((((count, start), mean), squares), (((n, s), m), q)) in moments.zip(others) {
            let both = *count + n;
            let distance = (s - *start) + (m - *mean);
            let moved = *mean + distance * (n / both);
            let more = *squares + (q + distance * distance * (*count * n / both));
            let (was_empty, is_empty) = (*count == 0.0, *n == 0.0);
            *mean = if is_empty { *mean } else if was_empty { *m } else { moved };
            *squares = if is_empty { *squares } else if was_empty { *q } else { more };
            *start = if was_empty { *s } else { *start };
            *count = both;
        }
    }
}

kernel! {
    /// Like `add_moments`, where all values are valid and all lanes have this count: one division serves all.
    fn add_moments_to(count: f64, start: &mut [f64], mean: &mut [f64], squares: &mut [f64], values: &[f64]) {
        if count == 0.0 {
            start.copy_from_slice(values);
        }
        let share = 1.0 / (count + 1.0);
        let moments = start.iter().zip(mean).zip(squares);
        for (((start, mean), squares), value) in moments.zip(values) {
            let from_start = value - start;
            let distance = from_start - *mean;
            *mean += distance * share;
            *squares += distance * (from_start - *mean);
        }
    }
}

kernel! {
    /// Like `merge_moments`, where all lanes have these counts, of which neither is 0.
    fn merge_moments_of(of: [f64; 2], to: MomentRows<'_>, other: [&[f64]; 4]) {
        let [count, more] = of;
        let (share, both) = (more / (count + more), count * more / (count + more));
        let [_, starts, means, all_squares] = other;
        let moments = to.start.iter().zip(to.mean).zip(to.squares);
        for (((start, mean), squares), ((s, m), q)) in moments.zip(starts.iter().zip(means).zip(all_squares)) {
            let distance = (s - start) + (m - *mean);
            *mean += distance * share;
            *squares += q + distance * distance * both;
        }
    }
}

kernel! {
    /// Multiplies, and takes the root if wanted.
    fn scaled(to: &mut [f64], values: &[f64], by: f64, root: bool) {
        for (to, value) in to.iter_mut().zip(values) {
            *to = value * by;
        }
        if root {
            to.iter_mut().for_each(|to| *to = to.sqrt());
        }
    }
}

kernel! {
    /// The variance of each lane, with the divisor `count - less`, or its root.
    fn variances(to: &mut [f64], counts: &[f64], squares: &[f64], less: f64, root: bool) {
        for ((to, count), squares) in to.iter_mut().zip(counts).zip(squares) {
            *to = squares / (count - less);
        }
        if root {
            to.iter_mut().for_each(|to| *to = to.sqrt());
        }
    }
}

kernel! {
    /// Adds each integer that is valid to the sum at the same position.
    fn add_integers<T: Native>(sums: &mut [i128], values: &[T], valid: Option<&[u8]>) {
        match valid {
            None => for (sum, value) in sums.iter_mut().zip(values) {
                *sum = sum.wrapping_add(value.to_integer());
            },
            Some(valid) => for ((sum, value), valid) in sums.iter_mut().zip(values).zip(valid) {
                *sum = sum.wrapping_add(value.to_integer() * i128::from(*valid));
            },
        }
    }
}

kernel! {
    /// Subtracts each integer that is valid from the sum at the same position.
    fn subtract_integers<T: Native>(sums: &mut [i128], values: &[T], valid: Option<&[u8]>) {
        match valid {
            None => for (sum, value) in sums.iter_mut().zip(values) {
                *sum = sum.wrapping_sub(value.to_integer());
            },
            Some(valid) => for ((sum, value), valid) in sums.iter_mut().zip(values).zip(valid) {
                *sum = sum.wrapping_sub(value.to_integer() * i128::from(*valid));
            },
        }
    }
}
