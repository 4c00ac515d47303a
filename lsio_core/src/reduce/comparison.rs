//! Compares values with a constant, into masks.

use arrow::{array::Array, buffer::BooleanBuffer, datatypes::DataType};

use super::{
    native::{Native, native_slice},
    packed_comparison::compare_packed,
    reduction::native_values,
    unpacking::{StoredNumbers, UnpackingKind},
};
use crate::simd::Simd;

/// An operator of comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say all")]
pub enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
}

/// A constant to compare with.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say all")]
pub enum Number {
    Float32(f32),
    Float64(f64),
}

/// Compares each value with a number of the same type. NULL never compares true. NaN doesn't either if `nan_is_null`,
/// and otherwise is above all other values. `None` for values of another type, and if `with` is NaN.
#[must_use]
pub fn compare(
    values: &dyn Array,
    nan_is_null: bool,
    comparison: Comparison,
    with: Number,
) -> Option<BooleanBuffer> {
    let mask = match (values.data_type(), with) {
        (DataType::Float32, Number::Float32(with)) if !with.is_nan() => {
            mask(&native_values::<f32>(&values.to_data())?, comparison, with, !nan_is_null)
        }
        (DataType::Float64, Number::Float64(with)) if !with.is_nan() => {
            mask(&native_values::<f64>(&values.to_data())?, comparison, with, !nan_is_null)
        }
        _ => return None,
    };
    Some(match values.nulls() {
        Some(nulls) => &mask & nulls.inner(),
        None => mask,
    })
}

/// Like [`compare`], of numbers as they are stored. Missing ones never compare true.
#[must_use]
pub fn compare_stored(
    StoredNumbers { bytes, unpacking }: StoredNumbers<'_>,
    nan_is_null: bool,
    comparison: Comparison,
    with: Number,
) -> Option<BooleanBuffer> {
    let Some(unpacking) = unpacking else {
        return match with {
            Number::Float32(with) if !with.is_nan() => {
                Some(mask(native_slice(bytes)?, comparison, with, !nan_is_null))
            }
            Number::Float64(with) if !with.is_nan() => {
                Some(mask(native_slice(bytes)?, comparison, with, !nan_is_null))
            }
            _ => None,
        };
    };
    match (&unpacking.0, with) {
        (UnpackingKind::Scaled(scaling), Number::Float64(with)) => {
            compare_packed(bytes, scaling, comparison, with)
        }
        (UnpackingKind::Singles(_) | UnpackingKind::Doubles(_), _) => {
            compare(&unpacking.array(bytes)?, true, comparison, with)
        }
        _ => None,
    }
}

fn mask<T: Native>(
    values: &[T],
    comparison: Comparison,
    with: T,
    nan_is_most: bool,
) -> BooleanBuffer {
    let simd = Simd::detect();
    let (chunks, rest) = values.as_chunks::<64>();
    let mut words: Vec<u64> = Vec::with_capacity(chunks.len() + 1);
    words.extend(chunks.iter().map(|chunk| simd.compare(comparison, chunk, with, nan_is_most)));
    if !rest.is_empty() {
        let mut last = [with; 64];
        last[..rest.len()].copy_from_slice(rest);
        words.push(simd.compare(comparison, &last, with, nan_is_most));
    }
    BooleanBuffer::new(words.into(), 0, values.len())
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use arrow::array::Float32Array;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_that_of_each_value(
            values in prop::collection::vec(prop::option::of(-3_i8..4), 0..200),
            with in -3_i8..4,
            nan_is_null: bool,
        ) {
            let floats: Float32Array = values
                .iter()
                .map(|v| v.map(|v| if v == 3 { f32::NAN } else { f32::from(v) }))
                .collect();
            let with = f32::from(with);
            for comparison in [
                Comparison::Less,
                Comparison::LessOrEqual,
                Comparison::Equal,
                Comparison::NotEqual,
                Comparison::Greater,
                Comparison::GreaterOrEqual,
            ] {
                let mask = compare(&floats, nan_is_null, comparison, Number::Float32(with)).unwrap();
                let expected: Vec<bool> = floats
                    .iter()
                    .map(|value| {
                        let Some(value) = value.filter(|v| !(nan_is_null && v.is_nan())) else {
                            return false;
                        };
                        // NaN is above all other values.
                        let order = value.partial_cmp(&with).unwrap_or(Ordering::Greater);
                        match comparison {
                            Comparison::Less => order.is_lt(),
                            Comparison::LessOrEqual => order.is_le(),
                            Comparison::Equal => order.is_eq(),
                            Comparison::NotEqual => order.is_ne(),
                            Comparison::Greater => order.is_gt(),
                            Comparison::GreaterOrEqual => order.is_ge(),
                        }
                    })
                    .collect();
                prop_assert_eq!(mask.iter().collect::<Vec<_>>(), expected);
            }
            let nothing = compare(&floats, true, Comparison::Less, Number::Float64(1.0));
            prop_assert!(nothing.is_none());
        }
    }
}
