//! Sums of differences, computed in the type that numpy computes them in.

use super::{
    super::number_format::{NumberFormat, NumberKind, WideNumber},
    in_blocks,
};

/// Sums up the encoded numbers: each result is one more of them.
///
/// numpy sums in the type that holds both the encoded and the decoded numbers, and converts each sum
/// to the decoded type.
pub(super) fn accumulate(from: &NumberFormat, encoded: &[u8], to: &NumberFormat, out: &mut [u8]) {
    // Nothing changes what comes first, not even the sign of a zero.
    match float_width(from, to) {
        None => {
            // Integers wrap alike, however wide they are.
            let mut sum = 0_i64;
            in_blocks::<i64>(from, encoded, to, out, |numbers| {
                for number in numbers {
                    sum = sum.wrapping_add(*number);
                    *number = sum;
                }
            });
        }
        Some(2) => {
            let mut sum = (-0.0).to_f16();
            in_blocks::<f64>(from, encoded, to, out, |numbers| {
                for number in numbers {
                    sum += number.to_f16();
                    *number = sum.to_f64();
                }
            });
        }
        Some(4) => {
            let mut sum = -0.0_f32;
            in_blocks::<f64>(from, encoded, to, out, |numbers| {
                for number in numbers {
                    sum += *number as f32;
                    *number = f64::from(sum);
                }
            });
        }
        Some(_) => {
            let mut sum = -0.0_f64;
            in_blocks::<f64>(from, encoded, to, out, |numbers| {
                for number in numbers {
                    sum += *number;
                    *number = sum;
                }
            });
        }
    }
}

/// The inverse of [`accumulate`] for integers.
///
/// # Errors
/// A text, if one of the formats is of floats: their differences lose digits.
pub(super) fn differences(
    from: &NumberFormat,
    decoded: &[u8],
    to: &NumberFormat,
    out: &mut [u8],
) -> Result<(), String> {
    if float_width(from, to).is_some() {
        return Err("differences of floats lose digits, and can't be written".to_owned());
    }
    let mut last = 0_i64;
    in_blocks::<i64>(from, decoded, to, out, |numbers| {
        for number in numbers {
            let difference = number.wrapping_sub(last);
            last = std::mem::replace(number, difference);
        }
    });
    Ok(())
}

/// The bytes of the float that holds numbers of both formats, or `None` if an integer does.
fn float_width(a: &NumberFormat, b: &NumberFormat) -> Option<usize> {
    let is_float = |format: &NumberFormat| format.kind == NumberKind::Float;
    let is_u64 = |format: &NumberFormat| format.kind == NumberKind::UInt && format.width == 8;
    let has_sign = |format: &NumberFormat| format.kind == NumberKind::Int;
    if !is_float(a) && !is_float(b) {
        // No integer holds both.
        let mixed = is_u64(a) && has_sign(b) || is_u64(b) && has_sign(a);
        return mixed.then_some(8);
    }
    let width = |format: &NumberFormat| match (format.kind, format.width) {
        (NumberKind::Float, width) => width,
        // What has as many bits of mantissa.
        (_, 1) => 2,
        (_, 2) => 4,
        _ => 8,
    };
    Some(width(a).max(width(b)))
}
