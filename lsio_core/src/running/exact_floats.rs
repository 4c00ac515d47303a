//! Sums of floats that are exact, so that what leaves a frame is subtracted.
//!
//! Floats between two magnitudes are multiples of a unit. Sums of multiples of a unit are exact as long as they are less
//! than 2⁵³ units: those of most measurements in float32. Others are split into multiples of a larger unit and a rest,
//! and both are summed.

use super::{
    loops::Key,
    slabs::{Output, Rows},
    slide::{Slide, Steps},
    validity::Validity,
    walk::{Row, RowValidity, Summary, Walk},
};
use crate::{
    reduce::{Native, Simd},
    simd::kernel,
};

/// Bits of a double's significand.
const BITS: i32 = 53;

/// A number whose magnitude is known from its bits.
pub(crate) trait Magnitude: Native {
    type Bits: Key;

    /// The bits without the sign, which rise with the magnitude. NaN is above infinity.
    fn magnitude(self) -> Self::Bits;

    /// Bounds of all values whose magnitudes are 0 or between these; `None` if one may be infinite or NaN.
    fn spread(least: Self::Bits, greatest: Self::Bits) -> Option<Spread>;
}

/// Bounds of finite values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    /// All are less than 2 to this power.
    top: i32,
    /// All are multiples of 2 to this power.
    unit: i32,
}

/// How sums are exact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Exactness {
    /// As they are.
    Whole,
    /// If the values are split by adding this number and subtracting it.
    Split(f64),
}

impl Spread {
    /// Bounds of the values that aren't missing.
    pub(super) fn of<T: Magnitude>(simd: Simd, values: &[T], validity: &Validity) -> Option<Self> {
        let (least, greatest) = match validity {
            Validity::All => simd.magnitudes(values),
            Validity::NotNan => simd.magnitudes_but_nan(values),
            Validity::Bytes(valid) => simd.magnitudes_valid(values, valid),
        };
        T::spread(least, greatest)
    }

    /// How sums of up to `rows` values are exact, if they are.
    pub(super) fn exactness(self, rows: usize) -> Option<Exactness> {
        // A row enters before another leaves.
        let carries = i32::try_from((rows + 2).ilog2()).ok()? + 1;
        if self.top + carries - self.unit <= BITS {
            return Some(Exactness::Whole);
        }
        // The larger unit is one of which the sums hold less than 2⁵³.
        let larger = self.top + carries - BITS;
        let rest = larger - 1 + carries - self.unit;
        let rounds = 1.5 * 2_f64.powi(larger + BITS - 1);
        (rest <= BITS && rounds.is_finite()).then_some(Exactness::Split(rounds))
    }
}

macro_rules! integer {
    ($($t:ty => $top:literal),*) => {$(
        impl Magnitude for $t {
            type Bits = i32;

            #[inline(always)]
            fn magnitude(self) -> i32 {
                0
            }

            fn spread(_least: i32, _greatest: i32) -> Option<Spread> {
                Some(Spread { top: $top, unit: 0 })
            }
        }
    )*};
}

integer!(i8 => 8, i16 => 16, i32 => 32, i64 => 64, u8 => 8, u16 => 16, u32 => 32, u64 => 64);

macro_rules! float {
    ($($t:ty => $bits:ty, $significand:literal);*) => {$(
        impl Magnitude for $t {
            type Bits = $bits;

            #[inline(always)]
            fn magnitude(self) -> $bits {
                self.abs().to_bits().cast_signed()
            }

            fn spread(least: $bits, greatest: $bits) -> Option<Spread> {
                if greatest == 0 {
                    return Some(Spread { top: 0, unit: 0 });
                }
                if !<$t>::from_bits(greatest.cast_unsigned()).is_finite() {
                    return None;
                }
                // Numbers below the normal ones have the unit of the least normal ones.
                let exponent = |bits: $bits| {
                    let biased = i32::try_from((bits >> $significand).max(1)).ok()?;
                    Some(biased - <$t>::MAX_EXP + 1)
                };
                Some(Spread { top: exponent(greatest)? + 1, unit: exponent(least)? - $significand })
            }
        }
    )*};
}

float!(f32 => i32, 23; f64 => i64, 52);

/// Sums of values whose [`Exactness`] is known.
#[derive(Debug)]
pub(super) struct ExactSums<T, const SPLIT: bool> {
    simd: Simd,
    mean: bool,
    rounds: f64,
    doubles: Vec<f64>,
    stored: std::marker::PhantomData<T>,
}

impl<T: Native, const SPLIT: bool> ExactSums<T, SPLIT> {
    /// Sums in lanes, or their means. Values are split by `rounds`.
    pub(super) fn new(simd: Simd, mean: bool, rounds: f64, width: usize) -> Self {
        Self { simd, mean, rounds, doubles: vec![0.0; width], stored: std::marker::PhantomData }
    }

    fn change(&mut self, lanes: &mut [f64], row: Row<'_, T>, sign: f64) {
        match row.valid {
            RowValidity::All | RowValidity::NotNan => self.change_each(lanes, row.values, sign),
            RowValidity::Bytes(valid) => {
                let mut doubles = std::mem::take(&mut self.doubles);
                self.simd.widen_valid(&mut doubles, row.values, valid);
                self.change_each(lanes, &doubles, sign);
                self.doubles = doubles;
            }
        }
    }

    fn change_each<V: Native>(&self, lanes: &mut [f64], values: &[V], sign: f64) {
        if SPLIT {
            let (sums, rests) = lanes.split_at_mut(values.len());
            self.simd.change_split(sums, rests, values, [sign, self.rounds]);
        } else {
            self.simd.change_each(lanes, values, sign);
        }
    }
}

impl<T: Native, const SPLIT: bool> Summary for ExactSums<T, SPLIT> {
    type Stored = T;
    type Lane = f64;
    type Out = f64;

    const PLANES: usize = if SPLIT { 2 } else { 1 };
    const EXACT: bool = true;

    fn add(&mut self, lanes: &mut [f64], row: Row<'_, T>) {
        self.change(lanes, row, 1.0);
    }

    fn subtract(&mut self, lanes: &mut [f64], row: Row<'_, T>) {
        self.change(lanes, row, -1.0);
    }

    fn merge(&self, _older: &mut [f64], _newer: &[f64]) {}

    fn finish(&mut self, lanes: &[f64], counts: &[i32], to: &mut [f64]) {
        if SPLIT {
            let (sums, rests) = lanes.split_at(to.len());
            to.iter_mut()
                .zip(sums.iter().zip(rests))
                .for_each(|(to, (sum, rest))| *to = sum + rest);
        } else {
            to.copy_from_slice(lanes);
        }
        if self.mean {
            self.simd.divide(to, counts);
        }
    }

    fn slide(
        &self,
        walk: &Walk<'_>,
        rows: &Rows<'_, T>,
        to: &mut Output<'_, f64>,
        valid: Option<&mut Output<'_, u8>>,
    ) -> bool {
        let (values, validity, stride, width) = rows.all();
        let skips_nan = match validity {
            RowValidity::All => false,
            RowValidity::NotNan => true,
            RowValidity::Bytes(_) => return false,
        };
        self.simd.slide(Slide {
            values,
            stride,
            width,
            to: to.all(),
            valid: valid.map(Output::all),
            steps: &Steps::new(walk),
            skips_nan,
            mean: self.mean,
            fused: self.simd.is_fused(),
            rounds: SPLIT.then_some(self.rounds),
        });
        true
    }
}

kernel! {
    /// The least magnitude that isn't 0, or the greatest possible one, and the greatest magnitude.
    fn magnitudes<T: Magnitude>(values: &[T]) -> (T::Bits, T::Bits) {
        bounds(values.iter().map(|value| value.magnitude()))
    }
}

kernel! {
    /// Like `magnitudes`, of the values that aren't NaN.
    fn magnitudes_but_nan<T: Magnitude>(values: &[T]) -> (T::Bits, T::Bits) {
        bounds(values.iter().map(|value| if value.is_nan() { T::Bits::default() } else { value.magnitude() }))
    }
}

kernel! {
    /// Like `magnitudes`, of the values that are valid.
    fn magnitudes_valid<T: Magnitude>(values: &[T], valid: &[u8]) -> (T::Bits, T::Bits) {
        let own = values.iter().zip(valid);
        bounds(own.map(|(value, valid)| if *valid == 0 { T::Bits::default() } else { value.magnitude() }))
    }
}

#[inline(always)]
fn bounds<B: Key>(magnitudes: impl Iterator<Item = B>) -> (B, B) {
    let (mut least, mut greatest) = (B::GREATEST, B::default());
    for own in magnitudes {
        greatest = if own > greatest { own } else { greatest };
        let own = if own == B::default() { B::GREATEST } else { own };
        least = if own < least { own } else { least };
    }
    (least, greatest)
}

kernel! {
    /// Adds each value but NaN, multiplied by 1 or -1, to the sum at the same position.
    fn change_each<T: Native>(sums: &mut [f64], values: &[T], sign: f64) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += if value.is_nan() { 0.0 } else { sign * value.to_double() };
        }
    }
}

kernel! {
    /// Like `change_each`, split by adding `rounds` and subtracting it.
    fn change_split<T: Native>(sums: &mut [f64], rests: &mut [f64], values: &[T], by: [f64; 2]) {
        let [sign, rounds] = by;
        for ((sum, rest), value) in sums.iter_mut().zip(rests).zip(values) {
            let value = if value.is_nan() { 0.0 } else { sign * value.to_double() };
            let rounded = (value + rounds) - rounds;
            *sum += rounded;
            *rest += value - rounded;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exactness(values: &[f32], rows: usize) -> Option<Exactness> {
        Spread::of(Simd::detect(), values, &Validity::NotNan)?.exactness(rows)
    }

    #[test]
    fn magnitudes_decide() {
        assert_eq!(exactness(&[0.0, f32::NAN, -0.0], 1000), Some(Exactness::Whole));
        assert_eq!(exactness(&[250.5, -310.25, 0.0], 168), Some(Exactness::Whole));
        assert!(matches!(exactness(&[1e-6, 30.0], 168), Some(Exactness::Split(_))));
        assert_eq!(exactness(&[1e-30, 30.0], 168), None);
        assert_eq!(exactness(&[f32::INFINITY, 30.0], 168), None);
        assert_eq!(Spread::of(Simd::detect(), &[7_i64], &Validity::All), i64::spread(0, 0));
        let all = |top, unit| Spread { top, unit }.exactness(2);
        assert_eq!(
            (all(10, -40), all(11, -40)),
            (Some(Exactness::Whole), Some(Exactness::Split(1.5 * 2_f64.powi(13))))
        );
        assert_eq!(f32::spread(1, 1), Some(Spread { top: -125, unit: -149 }));
        assert_eq!(
            f64::spread(1.0_f64.to_bits().cast_signed(), 1.5_f64.to_bits().cast_signed()),
            Some(Spread { top: 1, unit: -52 })
        );
    }

    /// Sums of splits are those of integers.
    #[test]
    fn sums_are_exact() {
        let values: Vec<f32> =
            (0..400_u32).map(|i| (i as f32 * 0.37).sin() * 10_f32.powi(i as i32 % 9 - 6)).collect();
        let Some(Exactness::Split(rounds)) = exactness(&values, 100) else { panic!() };
        let mut sums = ExactSums::<f32, true>::new(Simd::detect(), false, rounds, 1);
        let mut lanes = [0.0; 2];
        let row = |value: &'static [f32]| Row { values: value, valid: RowValidity::All };
        let values: &'static [f32] = values.leak();
        // Multiples of 2⁻¹⁴⁹ would be too large: these are multiples of 2⁻⁶⁰.
        let exact = |value: &f32| (f64::from(*value) * 2_f64.powi(60)) as i128;
        for at in 0..values.len() {
            sums.add(&mut lanes, row(&values[at..=at]));
            if at >= 100 {
                sums.subtract(&mut lanes, row(&values[at - 100..=at - 100]));
            }
            let own: i128 = values[at.saturating_sub(99)..=at].iter().map(exact).sum();
            let mut to = [0.0];
            sums.finish(&lanes, &[1], &mut to);
            assert_eq!(to[0], own as f64 / 2_f64.powi(60), "{at}");
        }
    }
}
