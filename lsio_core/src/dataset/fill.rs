//! Fill values: the numbers in `_FillValue`, `missing_value` and Zarr's `fill_value`, converted to the stored type.

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::{attributes::Attribute, dtype::ElementType};

/// A number of the stored type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StoredNumber {
    /// An integer, or a boolean as 0 or 1.
    Int(i128),
    /// A float.
    Float(f64),
}

/// Treatment of integers outside of the stored type's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// An error.
    Exact,
    /// Same bits in the type that `_Unsigned` asks for: in 8 bits, -1 means 255 if unsigned, and 255 means -1 if
    /// signed.
    Reinterpreted,
    /// The lowest bits count, as in numpy's conversions between integers: -1 means the largest unsigned number. Older
    /// versions of the Python tools wrote and read Zarr's own `fill_value` in this way.
    Wrapped,
}

/// Parses the numbers of an attribute: a number, a list of numbers, or text. Empty for `null`.
///
/// # Errors
/// A message, if a number doesn't fit the type.
pub(crate) fn numbers(
    value: &Attribute,
    element: &ElementType,
    range: Range,
) -> Result<Vec<StoredNumber>, String> {
    match value {
        Attribute::Null => Ok(Vec::new()),
        Attribute::List(values) => values.iter().map(|v| number(v, element, range)).collect(),
        value => Ok(vec![number(value, element, range)?]),
    }
}

fn number(value: &Attribute, element: &ElementType, range: Range) -> Result<StoredNumber, String> {
    let unfit = || format!("{value} doesn't fit the stored type");
    let parsed = match value {
        Attribute::Bool(value) => StoredNumber::Int(i128::from(*value)),
        Attribute::Int(int) => StoredNumber::Int(i128::from(*int)),
        Attribute::UInt(int) => StoredNumber::Int(i128::from(*int)),
        Attribute::Float(float) => StoredNumber::Float(*float),
        Attribute::Text(text) => parse_text(text, element).ok_or_else(unfit)?,
        _ => return Err(unfit()),
    };
    if element.is_float() {
        let float = match parsed {
            StoredNumber::Int(int) => int as f64,
            StoredNumber::Float(float) => float,
        };
        return Ok(StoredNumber::Float(float));
    }
    let (low, high): (i128, i128) = match element {
        ElementType::Bool => (0, 1),
        ElementType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        ElementType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        ElementType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        ElementType::Int64 => (i64::MIN.into(), i64::MAX.into()),
        ElementType::UInt8 => (0, u8::MAX.into()),
        ElementType::UInt16 => (0, u16::MAX.into()),
        ElementType::UInt32 => (0, u32::MAX.into()),
        ElementType::UInt64 => (0, u64::MAX.into()),
        // Times and strings have markers of their own for "missing".
        _ => return Err(unfit()),
    };
    let int = match parsed {
        StoredNumber::Int(int) => int,
        #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
        StoredNumber::Float(float) if float.fract() == 0.0 && float.abs() < 1.8e19 => float as i128,
        StoredNumber::Float(_) => return Err(unfit()),
    };
    let count = high - low + 1;
    let int = match (range, int < 0, low) {
        (Range::Wrapped, ..) if *element == ElementType::Bool => i128::from(int != 0),
        // numpy has no integers of more than 64 bits.
        (Range::Wrapped, ..) if (i64::MIN.into()..=u64::MAX.into()).contains(&int) => {
            (int - low).rem_euclid(count) + low
        }
        // The same bits, read as an unsigned number.
        (Range::Reinterpreted, true, 0) => int + count,
        // The same bits, read as a signed number.
        (Range::Reinterpreted, false, ..0) if int > high => int - count,
        _ => int,
    };
    if (low..=high).contains(&int) { Ok(StoredNumber::Int(int)) } else { Err(unfit()) }
}

/// Parses a number in text (`"NaN"`, `"-Infinity"`, `"0x7fc00000"`, `"12"`), or in xarray's encoding for Zarr v3:
/// base64 of 8 little-endian bytes, of a float64 or an int64.
fn parse_text(text: &str, element: &ElementType) -> Option<StoredNumber> {
    match text {
        "NaN" | "nan" => return Some(StoredNumber::Float(f64::NAN)),
        "Infinity" | "inf" => return Some(StoredNumber::Float(f64::INFINITY)),
        "-Infinity" | "-inf" => return Some(StoredNumber::Float(f64::NEG_INFINITY)),
        _ => {}
    }
    if let Some(bits) = text.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
        return match element {
            ElementType::Float16 => {
                Some(StoredNumber::Float(half::f16::from_bits(u16::try_from(bits).ok()?).to_f64()))
            }
            ElementType::Float32 => {
                Some(StoredNumber::Float(f32::from_bits(u32::try_from(bits).ok()?).into()))
            }
            ElementType::Float64 => Some(StoredNumber::Float(f64::from_bits(bits))),
            _ => Some(StoredNumber::Int(bits.into())),
        };
    }
    if let Ok(int) = text.parse::<i128>() {
        return Some(StoredNumber::Int(int));
    }
    if let Ok(float) = text.parse::<f64>() {
        return Some(StoredNumber::Float(float));
    }
    let bytes: [u8; 8] = BASE64_STANDARD.decode(text).ok()?.try_into().ok()?;
    if element.is_float() {
        Some(StoredNumber::Float(f64::from_le_bytes(bytes)))
    } else {
        Some(StoredNumber::Int(i64::from_le_bytes(bytes).into()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::format::zarr::attributes::attribute;

    fn numbers(
        value: &Value,
        element: &ElementType,
        range: Range,
    ) -> Result<Vec<StoredNumber>, String> {
        super::numbers(&attribute(value.clone()), element, range)
    }

    #[test]
    fn every_spelling_of_a_fill_value() {
        let float = |v| Ok(vec![StoredNumber::Float(v)]);
        let int = |v| Ok(vec![StoredNumber::Int(v)]);
        let f32 = &ElementType::Float32;
        assert_eq!(numbers(&json!("AAAAAAAAWUA="), f32, Range::Exact), float(100.0));
        assert_eq!(numbers(&json!(1e20), f32, Range::Exact), float(1e20));
        assert_eq!(numbers(&json!(-999), f32, Range::Exact), float(-999.0));
        assert_eq!(numbers(&json!("0x7f800000"), f32, Range::Exact), float(f64::INFINITY));
        assert_eq!(numbers(&json!([-9.0]), &ElementType::Int16, Range::Exact), int(-9));
        assert_eq!(numbers(&json!("-9"), &ElementType::Int16, Range::Exact), int(-9));
        assert_eq!(numbers(&json!(-1), &ElementType::UInt8, Range::Reinterpreted), int(255));
        assert_eq!(numbers(&json!(255), &ElementType::Int8, Range::Reinterpreted), int(-1));
        assert_eq!(numbers(&json!(true), &ElementType::Bool, Range::Exact), int(1));
        assert_eq!(numbers(&Value::Null, f32, Range::Exact), Ok(vec![]));
    }

    #[test]
    fn integers_that_do_not_fit_wrap() {
        let wrapped = |value: Value, element: &ElementType| {
            numbers(&value, element, Range::Wrapped).map(|numbers| numbers[0])
        };
        for (value, element, expected) in [
            (json!(-1), ElementType::UInt8, 255),
            (json!(-1), ElementType::UInt16, 65_535),
            (json!(-1), ElementType::UInt32, i128::from(u32::MAX)),
            (json!(-1), ElementType::UInt64, i128::from(u64::MAX)),
            (json!("-1"), ElementType::UInt8, 255),
            (json!(-1.0), ElementType::UInt8, 255),
            (json!(300), ElementType::UInt8, 44),
            (json!(255), ElementType::Int8, -1),
            (json!(-40_000), ElementType::Int16, 25_536),
            (json!(u64::MAX), ElementType::Int64, -1),
            (json!(-128), ElementType::Int8, -128),
            (json!(255), ElementType::Bool, 1),
        ] {
            assert_eq!(
                wrapped(value.clone(), &element),
                Ok(StoredNumber::Int(expected)),
                "{value}"
            );
        }
        for value in [json!(1.5), json!(1e19), json!(1e20), json!("NaN"), json!("x"), json!({})] {
            let fits = value == json!(1e19);
            assert_eq!(wrapped(value.clone(), &ElementType::UInt8).is_ok(), fits, "{value}");
        }
    }

    #[test]
    fn what_does_not_fit() {
        let int16 = &ElementType::Int16;
        for value in [json!(40_000), json!(1.5), json!(1e20), json!("NaN"), json!("xyz"), json!({})]
        {
            assert!(numbers(&value, int16, Range::Exact).is_err(), "{value}");
        }
        assert!(numbers(&json!(-1), &ElementType::UInt8, Range::Exact).is_err());
    }
}
