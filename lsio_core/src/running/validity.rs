//! Which values of a block are missing.

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    datatypes::{ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type},
};

use crate::reduce::Simd;

/// Which values are missing.
#[derive(Debug)]
pub(super) enum Validity {
    /// None is.
    All,
    /// NaN is, and nothing else.
    NotNan,
    /// Those with a 0.
    Bytes(Vec<u8>),
}

impl Validity {
    pub(super) fn of(values: &ArrayRef, nan_is_null: bool) -> Self {
        let nan_is_null = nan_is_null && values.data_type().is_floating();
        let nulls = values.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        let Some(nulls) = nulls else {
            // Most blocks have no NaN, and kernels for those are faster than the search is slow.
            return if nan_is_null && has_nan(values) { Self::NotNan } else { Self::All };
        };
        let mut bytes: Vec<u8> = nulls.iter().map(u8::from).collect();
        if nan_is_null {
            match values.data_type() {
                DataType::Float16 => clear_nan::<Float16Type>(&mut bytes, values, |v| v.is_nan()),
                DataType::Float32 => clear_nan::<Float32Type>(&mut bytes, values, f32::is_nan),
                DataType::Float64 => clear_nan::<Float64Type>(&mut bytes, values, f64::is_nan),
                _ => {}
            }
        }
        Self::Bytes(bytes)
    }

    /// One byte for each value, 0 where it is missing; `None` if none is.
    pub(super) fn into_bytes(self, values: &ArrayRef) -> Option<Vec<u8>> {
        let mut all = vec![1; values.len()];
        match (self, values.data_type()) {
            (Self::All, _) => return None,
            (Self::Bytes(bytes), _) => return Some(bytes),
            (Self::NotNan, DataType::Float16) => {
                clear_nan::<Float16Type>(&mut all, values, |v| v.is_nan());
            }
            (Self::NotNan, DataType::Float32) => {
                clear_nan::<Float32Type>(&mut all, values, f32::is_nan);
            }
            (Self::NotNan, _) => clear_nan::<Float64Type>(&mut all, values, f64::is_nan),
        }
        Some(all)
    }
}

fn has_nan(values: &ArrayRef) -> bool {
    let simd = Simd::detect();
    match values.data_type() {
        DataType::Float32 => simd.has_nan(values.as_primitive::<Float32Type>().values()),
        DataType::Float64 => simd.has_nan(values.as_primitive::<Float64Type>().values()),
        _ => true,
    }
}

fn clear_nan<T: ArrowPrimitiveType>(
    bytes: &mut [u8],
    values: &ArrayRef,
    is_nan: fn(T::Native) -> bool,
) {
    let Some(values) = values.as_primitive_opt::<T>() else { return };
    for (byte, value) in bytes.iter_mut().zip(values.values()) {
        *byte &= u8::from(!is_nan(*value));
    }
}
