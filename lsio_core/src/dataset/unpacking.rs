//! Packed and masked numbers as floats, a piece at a time: missing ones become NaN, which is NULL.

use super::{dtype::ElementType, fill::StoredNumber};
use crate::{
    reduce::{Native, native_slice, native_slice_mut},
    simd::{Simd, kernel},
};

/// How stored numbers become floats.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Unpacking {
    /// Integers become doubles: multiplied by a factor, with an offset added.
    Scaled {
        element: ElementType,
        missing: Vec<i64>,
        by: [f64; 2],
    },
    /// Floats stay as they are.
    Singles(Vec<f32>),
    Doubles(Vec<f64>),
}

/// Calls a macro with the type of integers that doubles hold.
macro_rules! of_integers {
    ($element:expr, $call:ident, $none:expr) => {
        match $element {
            ElementType::Int8 => $call!(i8),
            ElementType::Int16 => $call!(i16),
            ElementType::Int32 => $call!(i32),
            ElementType::UInt8 => $call!(u8),
            ElementType::UInt16 => $call!(u16),
            ElementType::UInt32 => $call!(u32),
            _ => $none,
        }
    };
}

impl Unpacking {
    /// Of integers, which `missing` holds as they are stored. `None` for other elements.
    pub(super) fn scaled(
        element: &ElementType,
        missing: &[StoredNumber],
        by: [f64; 2],
    ) -> Option<Self> {
        macro_rules! of {
            ($t:ty) => {
                missing
                    .iter()
                    .filter_map(|number| match number {
                        StoredNumber::Int(value) => <$t>::try_from(*value).ok().map(i64::from),
                        StoredNumber::Float(_) => None,
                    })
                    .collect()
            };
        }
        let missing = of_integers!(element, of, return None);
        Some(Self::Scaled { element: element.clone(), missing, by })
    }

    /// Of floats of which some values are missing. `None` for other elements.
    #[expect(clippy::cast_possible_truncation, reason = "what is missing is in the stored type")]
    pub(super) fn masked(element: &ElementType, missing: &[StoredNumber]) -> Option<Self> {
        let missing = missing.iter().filter_map(|number| match number {
            StoredNumber::Float(value) if !value.is_nan() => Some(*value),
            _ => None,
        });
        match element {
            ElementType::Float32 => {
                Some(Self::Singles(missing.map(|value| value as f32).collect()))
            }
            ElementType::Float64 => Some(Self::Doubles(missing.collect())),
            _ => None,
        }
    }

    /// Bytes of an unpacked number.
    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Singles(_) => 4,
            Self::Scaled { .. } | Self::Doubles(_) => 8,
        }
    }

    /// Unpacks numbers: aligned, in native byte order. Returns whether `to` has the size of all of them.
    pub(crate) fn unpack(&self, from: &[u8], to: &mut [u8]) -> bool {
        let simd = Simd::detect();
        match self {
            Self::Scaled { element, missing, by } => {
                macro_rules! of {
                    ($t:ty) => {{
                        let missing: Vec<$t> = missing
                            .iter()
                            .filter_map(|value| <$t>::try_from(*value).ok())
                            .collect();
                        pair::<$t, f64>(from, to)
                            .map(|(from, to)| simd.scale_numbers(to, from, &missing, *by))
                    }};
                }
                of_integers!(element, of, None).is_some()
            }
            Self::Singles(missing) => pair::<f32, f32>(from, to)
                .map(|(from, to)| simd.mask_singles(to, from, missing))
                .is_some(),
            Self::Doubles(missing) => pair::<f64, f64>(from, to)
                .map(|(from, to)| simd.mask_doubles(to, from, missing))
                .is_some(),
        }
    }
}

/// Numbers in memory, and places for as many others. `None` if they aren't whole, or not as many.
fn pair<'a, T: Native, U: Native>(
    from: &'a [u8],
    to: &'a mut [u8],
) -> Option<(&'a [T], &'a mut [U])> {
    let (from, to) = (native_slice::<T>(from)?, native_slice_mut::<U>(to));
    (from.len() == to.len()).then_some((from, to))
}

kernel! {
    /// Multiplies each number by the first of `by` and adds the second; one that is missing becomes NaN.
    fn scale_numbers<T: Native>(to: &mut [f64], from: &[T], missing: &[T], by: [f64; 2]) {
        let [factor, offset] = by;
        let own = |value: T| value.to_double() * factor + offset;
        // One loop for each kind of mask, so that the compiler vectorizes each.
        match missing {
            [] => for (to, from) in to.iter_mut().zip(from) {
                *to = own(*from);
            },
            [one] => for (to, from) in to.iter_mut().zip(from) {
                *to = if *from == *one { f64::NAN } else { own(*from) };
            },
            [one, other] => for (to, from) in to.iter_mut().zip(from) {
                *to = if *from == *one || *from == *other { f64::NAN } else { own(*from) };
            },
            many => for (to, from) in to.iter_mut().zip(from) {
                *to = if many.contains(from) { f64::NAN } else { own(*from) };
            },
        }
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
    use arrow::buffer::{Buffer, MutableBuffer};

    use super::*;

    fn unpack<T: Native>(unpacking: &Unpacking, from: &[T]) -> Option<Vec<u8>> {
        let mut to = MutableBuffer::from_len_zeroed(from.len() * unpacking.width());
        let from = Buffer::from_slice_ref(from);
        unpacking.unpack(&from, &mut to).then(|| to.to_vec())
    }

    fn doubles(bytes: &[u8]) -> Vec<f64> {
        bytes.as_chunks().0.iter().map(|own| f64::from_ne_bytes(*own)).collect()
    }

    #[test]
    fn missing_numbers_become_nan() {
        let missing =
            |numbers: &[i128]| numbers.iter().map(|n| StoredNumber::Int(*n)).collect::<Vec<_>>();
        let of = |numbers: &[i128]| {
            Unpacking::scaled(&ElementType::Int16, &missing(numbers), [0.5, 10.0]).unwrap()
        };
        let stored = [4_i16, -32768, 7, -1, 32767];
        for (missing, nan) in [
            (&[][..], &[][..]),
            (&[-32768], &[1]),
            (&[-32768, -1], &[1, 3]),
            (&[-32768, -1, 7, 100_000], &[1, 2, 3]),
        ] {
            let own = doubles(&unpack(&of(missing), &stored).unwrap());
            for (place, (own, stored)) in own.iter().zip(stored).enumerate() {
                let expected = f64::from(stored) * 0.5 + 10.0;
                assert!(if nan.contains(&place) { own.is_nan() } else { *own == expected });
            }
        }
        assert_eq!(Unpacking::scaled(&ElementType::Int64, &[], [1.0, 0.0]), None);

        let floats = [1e20_f32, f32::NAN, 3.5].map(f64::from).map(StoredNumber::Float);
        let own = Unpacking::masked(&ElementType::Float32, &floats[..2]).unwrap();
        let own = unpack(&own, &[1.5_f32, 1e20, 3.5]).unwrap();
        let own: Vec<f32> = own.as_chunks().0.iter().map(|own| f32::from_ne_bytes(*own)).collect();
        assert!(own[0] == 1.5 && own[1].is_nan() && own[2] == 3.5);
    }
}
