//! Packed and masked numbers as floats: missing ones become NaN, which is NULL.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array as _, ArrayData, ArrayRef, Float32Array, Float64Array, make_array},
    buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer},
    datatypes::DataType,
};

use super::native::{Native, native_slice, native_slice_mut};
use crate::simd::{Simd, kernel};

/// How stored numbers become floats.
#[derive(Clone, Debug, PartialEq)]
pub struct Unpacking(pub(super) UnpackingKind);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum UnpackingKind {
    /// Integers become doubles.
    Scaled(Scaling),
    /// Floats stay as they are, but for the missing ones.
    Singles(Vec<f32>),
    Doubles(Vec<f64>),
}

/// Integers that are multiplied by the first of `by`, with the second added.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scaling {
    /// An integer of at most 32 bits.
    pub(super) integers: DataType,
    pub(super) missing: Vec<i64>,
    pub(super) by: [f64; 2],
}

/// Calls a macro with the type of integers that doubles hold.
macro_rules! of_integers {
    ($integers:expr, $call:ident, $none:expr) => {
        match $integers {
            DataType::Int8 => $call!(i8),
            DataType::Int16 => $call!(i16),
            DataType::Int32 => $call!(i32),
            DataType::UInt8 => $call!(u8),
            DataType::UInt16 => $call!(u16),
            DataType::UInt32 => $call!(u32),
            _ => $none,
        }
    };
}

pub(super) use of_integers;

/// The numbers of a [`Scaling`], in their type.
#[derive(Clone, Debug)]
pub(super) struct Packed<S> {
    /// Numbers that mean "missing", each once.
    pub(super) missing: Vec<S>,
    pub(super) by: [f64; 2],
}

impl<S: Native + TryFrom<i64>> Packed<S> {
    pub(super) fn new(scaling: &Scaling) -> Self {
        let mut missing: Vec<i64> = scaling.missing.clone();
        missing.sort_unstable();
        missing.dedup();
        let missing = missing.into_iter().filter_map(|value| S::try_from(value).ok()).collect();
        Self { missing, by: scaling.by }
    }
}

impl<S: Native> Packed<S> {
    pub(super) fn value(&self, number: S) -> f64 {
        unpacked(number, self.by)
    }

    /// Upper bound on the distance of values from 0, in steps of the packed numbers.
    pub(super) fn most_steps(&self) -> f64 {
        let [factor, offset] = self.by;
        let largest = 2_f64.powi(8 * size_of::<S>() as i32);
        largest + (offset / factor).abs()
    }

    /// Number of missing values.
    pub(super) fn count_missing(&self, values: &[S], simd: Simd) -> usize {
        self.missing.iter().map(|missing| simd.count_equal(values, *missing)).sum()
    }
}

#[inline(always)]
fn unpacked<S: Native>(number: S, [factor, offset]: [f64; 2]) -> f64 {
    number.to_double() * factor + offset
}

impl Unpacking {
    /// Of integers of at most 32 bits. `None` for other types, and for factors that aren't finite.
    #[must_use]
    pub fn scaled(integers: DataType, missing: Vec<i64>, by: [f64; 2]) -> Option<Self> {
        let are_known = matches!(
            integers,
            DataType::Int8
                | DataType::Int16
                | DataType::Int32
                | DataType::UInt8
                | DataType::UInt16
                | DataType::UInt32
        );
        let is_finite = by.iter().all(|number| number.is_finite());
        let scaling = Scaling { integers, missing, by };
        (are_known && is_finite).then_some(Self(UnpackingKind::Scaled(scaling)))
    }

    /// Of float32, of which these are missing.
    #[must_use]
    pub fn singles(missing: Vec<f32>) -> Self {
        Self(UnpackingKind::Singles(missing))
    }

    /// Of float64, of which these are missing.
    #[must_use]
    pub fn doubles(missing: Vec<f64>) -> Self {
        Self(UnpackingKind::Doubles(missing))
    }

    /// Bytes of a stored number.
    #[must_use]
    pub fn stored_width(&self) -> usize {
        match &self.0 {
            UnpackingKind::Scaled(scaling) => scaling.integers.primitive_width().unwrap_or(1),
            UnpackingKind::Singles(_) => 4,
            UnpackingKind::Doubles(_) => 8,
        }
    }

    /// Number of packed numbers.
    pub(super) fn count(&self, bytes: &[u8]) -> usize {
        bytes.len() / self.stored_width()
    }

    /// Whether bytes are whole, aligned numbers.
    pub(super) fn fits(&self, bytes: &[u8]) -> bool {
        let width = self.stored_width();
        bytes.len().is_multiple_of(width) && bytes.as_ptr().addr().is_multiple_of(width)
    }

    /// Whether the number at this position is missing.
    pub(super) fn is_missing(&self, bytes: &[u8], at: usize) -> bool {
        let width = self.stored_width();
        let number = bytes.get(at * width..(at + 1) * width);
        let array = number.and_then(|number| self.array(number));
        array.is_some_and(|array| array.is_null(0))
    }

    /// Unpacks some of the numbers into doubles, with NaN for missing ones. `false` for numbers that don't become doubles.
    pub(super) fn doubles_of(&self, bytes: &[u8], rows: Range<usize>, to: &mut Vec<f64>) -> bool {
        let simd = Simd::detect();
        // The contents are overwritten.
        to.resize(rows.len(), 0.0);
        match &self.0 {
            UnpackingKind::Scaled(scaling) => {
                macro_rules! of {
                    ($t:ty) => {{
                        let packed = Packed::<$t>::new(scaling);
                        let from = native_slice::<$t>(bytes).and_then(|from| from.get(rows));
                        from.map(|from| simd.scale_numbers(to, from, &packed.missing, packed.by))
                    }};
                }
                of_integers!(scaling.integers, of, None).is_some()
            }
            UnpackingKind::Doubles(missing) => {
                let from = native_slice::<f64>(bytes).and_then(|from| from.get(rows));
                from.map(|from| simd.mask_doubles(to, from, missing)).is_some()
            }
            UnpackingKind::Singles(_) => false,
        }
    }

    /// Masks some of the numbers, with NaN for missing ones. `false` for numbers that aren't float32.
    pub(super) fn singles_of(&self, bytes: &[u8], rows: Range<usize>, to: &mut Vec<f32>) -> bool {
        to.resize(rows.len(), 0.0);
        let UnpackingKind::Singles(missing) = &self.0 else { return false };
        let from = native_slice::<f32>(bytes).and_then(|from| from.get(rows));
        from.map(|from| Simd::detect().mask_singles(to, from, missing)).is_some()
    }

    /// Unpacks aligned numbers in native byte order into an array, where missing ones are NULL. `None` for bytes that
    /// aren't whole numbers.
    #[must_use]
    pub fn array(&self, from: &[u8]) -> Option<ArrayRef> {
        let mut to = MutableBuffer::from_len_zeroed(self.unpacked_bytes(from));
        let nulls = self.unpack(from, &mut to)?;
        Some(self.array_of(to.into(), nulls))
    }

    /// Bytes of unpacked numbers.
    pub(crate) fn unpacked_bytes(&self, from: &[u8]) -> usize {
        let width = if matches!(self.0, UnpackingKind::Singles(_)) { 4 } else { 8 };
        self.count(from).saturating_mul(width)
    }

    /// An array of unpacked numbers.
    pub(crate) fn array_of(&self, values: Buffer, nulls: Option<NullBuffer>) -> ArrayRef {
        match &self.0 {
            UnpackingKind::Singles(_) => Arc::new(Float32Array::new(values.into(), nulls)),
            _ => Arc::new(Float64Array::new(values.into(), nulls)),
        }
    }

    /// Unpacks aligned numbers in native byte order, a block at a time: its values are still in the first-level cache when
    /// its missing ones are found. Returns which are missing, if some are. `None` for bytes that aren't whole numbers, or
    /// room for another number of them.
    pub(crate) fn unpack(&self, from: &[u8], to: &mut [u8]) -> Option<Option<NullBuffer>> {
        let simd = Simd::detect();
        Some(match &self.0 {
            UnpackingKind::Scaled(scaling) => {
                macro_rules! of {
                    ($t:ty) => {{
                        let packed = Packed::<$t>::new(scaling);
                        blocks(
                            native_slice::<$t>(from)?,
                            native_slice_mut(to),
                            |to, from, present| {
                                simd.scale_numbers(to, from, &[], packed.by);
                                let missing = packed.count_missing(from, simd);
                                mark(present, from, missing, |v| !packed.missing.contains(&v))
                            },
                        )?
                    }};
                }
                of_integers!(scaling.integers, of, return None)
            }
            UnpackingKind::Singles(missing) => {
                let (from, to) = (native_slice::<f32>(from)?, native_slice_mut::<f32>(to));
                blocks(from, to, |to, from, present| {
                    simd.mask_singles(to, from, missing);
                    let missing = usize::from(simd.has_nan(to));
                    mark(present, to, missing, |v| !v.is_nan())
                })?
            }
            UnpackingKind::Doubles(missing) => {
                let (from, to) = (native_slice::<f64>(from)?, native_slice_mut::<f64>(to));
                blocks(from, to, |to, from, present| {
                    simd.mask_doubles(to, from, missing);
                    let missing = usize::from(simd.has_nan(to));
                    mark(present, to, missing, |v| !v.is_nan())
                })?
            }
        })
    }
}

/// Numbers as they are stored, aligned and in native byte order.
#[derive(Clone, Copy, Debug)]
pub struct StoredNumbers<'a> {
    pub(super) bytes: &'a [u8],
    /// How they become values, if they aren't values already.
    pub(super) unpacking: Option<&'a Unpacking>,
}

impl<'a> StoredNumbers<'a> {
    /// Numbers, with how they become values unless they are values.
    #[must_use]
    pub fn new(bytes: &'a [u8], unpacking: Option<&'a Unpacking>) -> Self {
        Self { bytes, unpacking }
    }

    /// Number of values, each of `width` bytes where nothing is unpacked.
    #[must_use]
    pub fn len(&self, width: usize) -> usize {
        let width = self.unpacking.map_or(width, Unpacking::stored_width);
        self.bytes.len().checked_div(width).unwrap_or(0)
    }

    /// A copy as values of this type. `None` for bytes that aren't whole numbers.
    #[must_use]
    pub fn array(&self, data_type: &DataType) -> Option<ArrayRef> {
        if let Some(unpacking) = self.unpacking {
            return unpacking.array(self.bytes);
        }
        let len = self.bytes.len().checked_div(data_type.primitive_width()?)?;
        let data = ArrayData::builder(data_type.clone()).len(len);
        Some(make_array(data.add_buffer(Buffer::from(self.bytes)).build().ok()?))
    }
}

/// Number of values unpacked at a time: they stay in the first-level cache until their NULLs are found.
const BLOCK: usize = 2048;

/// Bits of a block's values, one word for each 64.
type Present = [u64; BLOCK / 64];

/// Unpacks values a block at a time. `unpack` marks those that are present, and returns whether some are missing. `None`
/// for room for another number of values.
fn blocks<S: Native, T: Native>(
    from: &[S],
    to: &mut [T],
    mut unpack: impl FnMut(&mut [T], &[S], &mut Present) -> bool,
) -> Option<Option<NullBuffer>> {
    if from.len() != to.len() {
        return None;
    }
    let mut words: Vec<u64> = Vec::new();
    for (number, (from, to)) in from.chunks(BLOCK).zip(to.chunks_mut(BLOCK)).enumerate() {
        let mut present = [u64::MAX; BLOCK / 64];
        let has_missing = unpack(to, from, &mut present);
        if has_missing || !words.is_empty() {
            words.resize(number * (BLOCK / 64), u64::MAX);
            words.extend(&present[..from.len().div_ceil(64)]);
        }
    }
    Some(
        (!words.is_empty())
            .then(|| NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(words), 0, from.len()))),
    )
}

/// Marks the values that are present, if some are missing. Returns whether some are.
fn mark<T: Native>(
    present: &mut Present,
    values: &[T],
    missing: usize,
    is_present: impl Fn(T) -> bool,
) -> bool {
    if missing == 0 {
        return false;
    }
    for (word, values) in present.iter_mut().zip(values.chunks(64)) {
        let bits = values.iter().enumerate();
        *word = bits.fold(0, |word, (bit, value)| word | u64::from(is_present(*value)) << bit);
    }
    true
}

kernel! {
    /// Multiplies each number by the first of `by` and adds the second; one that is missing becomes NaN.
    fn scale_numbers<T: Native>(to: &mut [f64], from: &[T], missing: &[T], by: [f64; 2]) {
        // One loop for each kind of mask, so that the compiler vectorizes each.
        match missing {
            [] => for (to, from) in to.iter_mut().zip(from) {
                *to = unpacked(*from, by);
            },
            [one] => for (to, from) in to.iter_mut().zip(from) {
                *to = if *from == *one { f64::NAN } else { unpacked(*from, by) };
            },
            [one, other] => for (to, from) in to.iter_mut().zip(from) {
                *to = if *from == *one || *from == *other { f64::NAN } else { unpacked(*from, by) };
            },
            many => for (to, from) in to.iter_mut().zip(from) {
                *to = if many.contains(from) { f64::NAN } else { unpacked(*from, by) };
            },
        }
    }
}

kernel! {
    /// Number of values that equal another.
    fn count_equal<T: Native>(values: &[T], other: T) -> usize {
        // Counters as wide as the values, so that the compiler compares a whole vector at a time.
        let mut count = 0;
        for block in values.chunks(128) {
            count += usize::from(block.iter().fold(0_u8, |count, value| count + u8::from(*value == other)));
        }
        count
    }
}

macro_rules! mask {
    ($name:ident, $t:ty) => {
        kernel! {
            /// Copies each number; one that is missing becomes NaN.
            fn $name(to: &mut [$t], from: &[$t], missing: &[$t]) {
                match missing {
                    [] => to.copy_from_slice(from),
                    [one] => for (to, from) in to.iter_mut().zip(from) {
                        *to = if *from == *one { <$t>::NAN } else { *from };
                    },
                    [one, other] => for (to, from) in to.iter_mut().zip(from) {
                        *to = if *from == *one || *from == *other { <$t>::NAN } else { *from };
                    },
                    many => for (to, from) in to.iter_mut().zip(from) {
                        *to = if many.contains(from) { <$t>::NAN } else { *from };
                    },
                }
            }
        }
    };
}

mask!(mask_singles, f32);
mask!(mask_doubles, f64);

#[cfg(test)]
mod tests {
    use arrow::{
        array::AsArray as _,
        datatypes::{Float32Type, Float64Type},
    };

    use super::*;

    #[test]
    fn missing_numbers_are_null() {
        let of = |missing: &[i64]| {
            Unpacking::scaled(DataType::Int16, missing.to_vec(), [0.5, 10.0]).unwrap()
        };
        let stored: Vec<i16> = [4, -32768, 7, -1, 32767].repeat(1000);
        for (missing, null) in [
            (&[][..], &[][..]),
            (&[-32768], &[1]),
            (&[-32768, -1, -1], &[1, 3]),
            (&[-32768, -1, 7, 100_000], &[1, 2, 3]),
        ] {
            let from = Buffer::from_slice_ref(&stored);
            let array = of(missing).array(&from).unwrap();
            let own = array.as_primitive::<Float64Type>();
            for (place, (own, stored)) in own.iter().zip(&stored).enumerate() {
                let expected = f64::from(*stored) * 0.5 + 10.0;
                assert_eq!(own, (!null.contains(&(place % 5))).then_some(expected));
            }
            // Missing in the last block only.
            let mut stored = vec![3_i16; 5000];
            stored[4999] = -32768;
            let array = of(missing).array(&Buffer::from_slice_ref(&stored)).unwrap();
            assert_eq!(array.null_count(), usize::from(!missing.is_empty()));
            assert!(of(missing).array(&[0; 3]).is_none());
        }
        assert_eq!(Unpacking::scaled(DataType::Int64, Vec::new(), [1.0, 0.0]), None);
        assert_eq!(Unpacking::scaled(DataType::Int8, Vec::new(), [1.0, f64::NAN]), None);

        let from = Buffer::from_slice_ref([1.5_f32, 1e20, f32::NAN]);
        let array = Unpacking::singles(vec![1e20]).array(&from).unwrap();
        let own: Vec<_> = array.as_primitive::<Float32Type>().iter().collect();
        assert_eq!(own, [Some(1.5), None, None]);
        let from = Buffer::from_slice_ref([1e20_f64, 2.0]);
        let array = Unpacking::doubles(vec![1e20]).array(&from).unwrap();
        assert_eq!(
            array.as_primitive::<Float64Type>().iter().collect::<Vec<_>>(),
            [None, Some(2.0)]
        );
    }
}
