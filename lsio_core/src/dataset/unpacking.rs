//! How a variable's stored numbers become floats, where that is all of their decoding.

use super::{dtype::ElementType, fill::StoredNumber};
use crate::reduce::Unpacking;

/// Of integers, which `missing` holds as they are stored. `None` for other elements, and for integers that doubles don't
/// hold.
pub(super) fn scaled(
    element: &ElementType,
    missing: &[StoredNumber],
    by: [f64; 2],
) -> Option<Unpacking> {
    let missing = missing.iter().filter_map(|number| match number {
        StoredNumber::Int(value) => i64::try_from(*value).ok(),
        StoredNumber::Float(_) => None,
    });
    Unpacking::scaled(element.data_type(), missing.collect(), by)
}

/// Of floats of which some values are missing. `None` for other elements.
#[expect(clippy::cast_possible_truncation, reason = "what is missing is in the stored type")]
pub(super) fn masked(element: &ElementType, missing: &[StoredNumber]) -> Option<Unpacking> {
    let missing = missing.iter().filter_map(|number| match number {
        StoredNumber::Float(value) if !value.is_nan() => Some(*value),
        _ => None,
    });
    match element {
        ElementType::Float32 => {
            Some(Unpacking::singles(missing.map(|value| value as f32).collect()))
        }
        ElementType::Float64 => Some(Unpacking::doubles(missing.collect())),
        _ => None,
    }
}
