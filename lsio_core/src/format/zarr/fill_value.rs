//! Zarr's `fill_value`: the element in every cell of a chunk that isn't stored.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use half::{bf16, f16};

use crate::dataset::{
    Attribute,
    dtype::ElementType,
    fill::{Range, StoredNumber, numbers},
    small_floats::SmallFloat,
};

/// Bytes of the fill value: one decoded element, with numbers in native byte order; of elements of variable length, the
/// bytes of the text or of the byte string.
///
/// # Errors
/// A text, if the value doesn't fit the type.
pub(crate) fn fill_bytes(element: &ElementType, value: &Attribute) -> Result<Vec<u8>, String> {
    let unfit = || {
        let (value, data_type) = (brief(value), element.data_type());
        format!("its fill value {value} is no value of its data type ({data_type} here)")
    };
    let zeros = || vec![0; element.size().unwrap_or(0)];
    if value.is_null() {
        return Ok(match element {
            // numpy's NaT.
            ElementType::DateTime64(_) | ElementType::TimeDelta64(_) => {
                i64::MIN.to_ne_bytes().to_vec()
            }
            _ => zeros(),
        });
    }
    match element {
        ElementType::DateTime64(_) | ElementType::TimeDelta64(_) => match value.as_text() {
            Some("NaT") => Ok(i64::MIN.to_ne_bytes().to_vec()),
            _ => number_bytes(&ElementType::Int64, value).ok_or_else(unfit),
        },
        ElementType::Complex(part) => {
            let (re, im) = match value.as_list() {
                Some([re, im]) => (re, im),
                Some(_) => return Err(unfit()),
                None => (value, &Attribute::Int(0)),
            };
            let mut bytes = number_bytes(part, re).ok_or_else(unfit)?;
            bytes.extend(number_bytes(part, im).ok_or_else(unfit)?);
            Ok(bytes)
        }
        ElementType::Utf32 { length } => {
            let text = text(value).ok_or_else(unfit)?;
            // Longer text is cut off, as numpy does.
            let letters = text.chars().take(*length);
            let mut bytes: Vec<u8> = letters.flat_map(|c| u32::from(c).to_ne_bytes()).collect();
            bytes.resize(length * 4, 0);
            Ok(bytes)
        }
        ElementType::Utf8 => text(value).map(String::into_bytes).ok_or_else(unfit),
        ElementType::List(_) => Ok(Vec::new()),
        ElementType::Binary => raw(value).ok_or_else(unfit),
        ElementType::Struct(fields) => {
            let mut bytes = zeros();
            if let Attribute::Object(values) = value {
                for field in fields.iter() {
                    let Some(value) = values.get(&field.name) else { continue };
                    let mut one = fill_bytes(&field.element, value)?;
                    if field.big_endian != cfg!(target_endian = "big") {
                        one.chunks_exact_mut(field.element.number_size().max(1))
                            .for_each(<[u8]>::reverse);
                    }
                    let size = one.len().max(1);
                    let place = bytes.get_mut(field.offset..field.offset + field.size());
                    for cell in place.ok_or_else(unfit)?.chunks_exact_mut(size) {
                        cell.copy_from_slice(&one);
                    }
                }
                return Ok(bytes);
            }
            padded(element, value).ok_or_else(unfit)
        }
        ElementType::Text { length } => {
            let mut bytes = match value {
                Attribute::Int(_)
                | Attribute::UInt(_)
                | Attribute::Float(_)
                | Attribute::Bool(_) => text(value).map(String::into_bytes),
                value => raw(value),
            };
            let bytes = bytes.as_mut().ok_or_else(unfit)?;
            bytes.resize(*length, 0);
            Ok(std::mem::take(bytes))
        }
        ElementType::Raw { .. } => padded(element, value).ok_or_else(unfit),
        _ => number_bytes(element, value).ok_or_else(unfit),
    }
}

fn number_bytes(element: &ElementType, value: &Attribute) -> Option<Vec<u8>> {
    // The number in a plain type, then converted to the type's own bytes.
    let plain = match element {
        ElementType::SmallInt { signed: true, .. } => &ElementType::Int8,
        ElementType::SmallInt { signed: false, .. } => &ElementType::UInt8,
        ElementType::SmallFloat(_) => &ElementType::Float32,
        element => element,
    };
    if let (ElementType::SmallFloat(_), Some(bits)) = (element, hexadecimal(value)) {
        let size = element.size()?;
        return Some(match size {
            1 => vec![u8::try_from(bits).ok()?],
            _ => u16::try_from(bits).ok()?.to_ne_bytes().to_vec(),
        });
    }
    // Keeps the bits of a NaN.
    match (element, hexadecimal(value)) {
        (ElementType::Float16, Some(bits)) => {
            return Some(u16::try_from(bits).ok()?.to_ne_bytes().to_vec());
        }
        (ElementType::Float32, Some(bits)) => {
            return Some(u32::try_from(bits).ok()?.to_ne_bytes().to_vec());
        }
        (ElementType::Float64, Some(bits)) => return Some(bits.to_ne_bytes().to_vec()),
        _ => {}
    }
    if value.as_list().is_some() {
        return None;
    }
    let number = *numbers(value, plain, Range::Wrapped).ok()?.first()?;
    #[expect(clippy::cast_possible_truncation, reason = "rounded to the type, as numpy does")]
    Some(match (element, number) {
        (ElementType::Bool, StoredNumber::Int(v)) => vec![u8::from(v != 0)],
        (ElementType::Int8 | ElementType::SmallInt { signed: true, .. }, StoredNumber::Int(v)) => {
            i8::try_from(v).ok()?.to_ne_bytes().to_vec()
        }
        (
            ElementType::UInt8 | ElementType::SmallInt { signed: false, .. },
            StoredNumber::Int(v),
        ) => {
            vec![u8::try_from(v).ok()?]
        }
        (ElementType::Int16, StoredNumber::Int(v)) => i16::try_from(v).ok()?.to_ne_bytes().to_vec(),
        (ElementType::Int32, StoredNumber::Int(v)) => i32::try_from(v).ok()?.to_ne_bytes().to_vec(),
        (ElementType::Int64, StoredNumber::Int(v)) => i64::try_from(v).ok()?.to_ne_bytes().to_vec(),
        (ElementType::UInt16, StoredNumber::Int(v)) => {
            u16::try_from(v).ok()?.to_ne_bytes().to_vec()
        }
        (ElementType::UInt32, StoredNumber::Int(v)) => {
            u32::try_from(v).ok()?.to_ne_bytes().to_vec()
        }
        (ElementType::UInt64, StoredNumber::Int(v)) => {
            u64::try_from(v).ok()?.to_ne_bytes().to_vec()
        }
        (ElementType::Float16, StoredNumber::Float(v)) => f16::from_f64(v).to_ne_bytes().to_vec(),
        (ElementType::Float32, StoredNumber::Float(v)) => (v as f32).to_ne_bytes().to_vec(),
        (ElementType::Float64, StoredNumber::Float(v)) => v.to_ne_bytes().to_vec(),
        (ElementType::SmallFloat(SmallFloat::Bfloat16), StoredNumber::Float(v)) => {
            bf16::from_f64(v).to_ne_bytes().to_vec()
        }
        (ElementType::SmallFloat(float), StoredNumber::Float(v)) => {
            let all: Vec<u8> = (0..=u8::MAX).collect();
            let values = float.widen(&all);
            let same = |own: &f32| f64::from(*own) == v || (own.is_nan() && v.is_nan());
            vec![u8::try_from(values.iter().position(same)?).ok()?]
        }
        _ => return None,
    })
}

/// `0x7fc00000`: the bits of a float.
fn hexadecimal(value: &Attribute) -> Option<u64> {
    u64::from_str_radix(value.as_text()?.strip_prefix("0x")?, 16).ok()
}

/// Converts a value to text as Python does, and so zarr-python: older versions of zarr-python give arrays of text the
/// fill value 0, which stands for `'0'`.
fn text(value: &Attribute) -> Option<String> {
    match value {
        Attribute::Text(text) => Some(text.clone()),
        Attribute::Float(number) => Some(python_float(*number)),
        Attribute::Int(number) => Some(number.to_string()),
        Attribute::UInt(number) => Some(number.to_string()),
        Attribute::Bool(true) => Some("True".to_owned()),
        Attribute::Bool(false) => Some("False".to_owned()),
        _ => None,
    }
}

/// Text of a number as Python writes it: `1.5`, `0.0`, `1e+20`, `1e-05`.
fn python_float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => format!("{number:?}"),
    }
}

/// Decodes bytes: base64, or a list of numbers.
fn raw(value: &Attribute) -> Option<Vec<u8>> {
    match value {
        // Some writers store the text unencoded.
        Attribute::Text(text) => {
            Some(BASE64_STANDARD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec()))
        }
        Attribute::List(bytes) => bytes
            .iter()
            .map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()))
            .collect(),
        Attribute::Int(0) => Some(Vec::new()),
        Attribute::Float(number) if *number == 0.0 => Some(Vec::new()),
        _ => None,
    }
}

/// Like [`raw`], padded with zeros to one element.
fn padded(element: &ElementType, value: &Attribute) -> Option<Vec<u8>> {
    let mut bytes = raw(value)?;
    let size = element.size()?;
    if bytes.len() > size {
        return None;
    }
    bytes.resize(size, 0);
    Some(bytes)
}

fn brief(value: &Attribute) -> String {
    value.to_string().chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::attributes::attribute, *};

    fn v3(data_type: Value, fill: &Value) -> Result<Vec<u8>, String> {
        fill_bytes(&ElementType::from_v3(&data_type).unwrap(), &attribute(fill.clone()))
    }

    fn v2(dtype: &Value, fill: &Value) -> Result<Vec<u8>, String> {
        fill_bytes(&ElementType::from_v2(dtype, &Value::Null).unwrap().0, &attribute(fill.clone()))
    }

    #[test]
    fn every_spelling() {
        let nan = f32::from_bits(0x7fc0_0001).to_ne_bytes().to_vec();
        assert_eq!(v3(json!("float32"), &json!("0x7fc00001")), Ok(nan));
        assert_eq!(
            v3(json!("float64"), &json!("-Infinity")),
            Ok(f64::NEG_INFINITY.to_ne_bytes().to_vec())
        );
        assert_eq!(
            v3(json!("float16"), &json!(1.5)),
            Ok(f16::from_f32(1.5).to_ne_bytes().to_vec())
        );
        assert_eq!(
            v3(json!("bfloat16"), &json!(1.5)),
            Ok(bf16::from_f32(1.5).to_ne_bytes().to_vec())
        );
        assert_eq!(v3(json!("float8_e4m3fn"), &json!(-1.0)), Ok(vec![0xb8]));
        assert_eq!(v3(json!("float8_e4m3fn"), &json!("0x7f")), Ok(vec![0x7f]));
        assert_eq!(v3(json!("int4"), &json!(-3)), Ok(vec![0xfd]));
        assert_eq!(v3(json!("int8"), &json!("0")), Ok(vec![0]));
        assert_eq!(v3(json!("uint64"), &json!(u64::MAX)), Ok(vec![255; 8]));
        assert_eq!(v3(json!("bool"), &json!(0)), Ok(vec![0]));
        assert_eq!(v3(json!("r16"), &json!([1, 255])), Ok(vec![1, 255]));
        assert_eq!(v3(json!("string"), &json!("ä")), Ok("ä".as_bytes().to_vec()));
        let complex: Vec<u8> = [1.0_f32, f32::NAN].iter().flat_map(|v| v.to_ne_bytes()).collect();
        assert_eq!(v3(json!("complex64"), &json!([1, "NaN"])), Ok(complex));
        let time =
            json!({"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 1}});
        assert_eq!(v3(time, &json!("NaT")), Ok(i64::MIN.to_ne_bytes().to_vec()));
        assert_eq!(v2(&json!("|S3"), &json!("YWI=")), Ok(b"ab\0".to_vec()));
        assert_eq!(v2(&json!("<U1"), &json!("x")), Ok(120_u32.to_ne_bytes().to_vec()));
        let structure = json!([["a", ">i2"], ["b", "|u1", [2]]]);
        assert_eq!(v2(&structure, &json!("AAEFBg==")), Ok(vec![0, 1, 5, 6]));
        assert_eq!(v2(&structure, &json!({"a": 1, "b": 7})), Ok(vec![0, 1, 7, 7]));
        assert_eq!(v2(&structure, &Value::Null), Ok(vec![0; 4]));
    }

    #[test]
    fn numbers_as_text_are_those_of_python() {
        let strings = |fill: &Value| {
            let fixed = json!({"name": "fixed_length_utf32", "configuration": {"length_bytes": 8}});
            let fixed: Vec<u8> = v3(fixed, fill).unwrap();
            let fixed = fixed.as_chunks::<4>().0.iter().map(|c| u32::from_ne_bytes(*c));
            let fixed: String = fixed.filter_map(char::from_u32).collect();
            let any = String::from_utf8(v3(json!("string"), fill).unwrap()).unwrap();
            assert!(any.starts_with(fixed.trim_end_matches('\0')), "{any}");
            any
        };
        for (fill, expected) in [
            (json!(0), "0"),
            (json!(-1), "-1"),
            (json!(0.0), "0.0"),
            (json!(1.5), "1.5"),
            (json!(1e20), "1e+20"),
            (json!(1.25e-7), "1.25e-07"),
            (json!(1e15), "1000000000000000.0"),
            (json!(0.0001), "0.0001"),
            (json!(true), "True"),
            (json!("é"), "é"),
            (json!(""), ""),
        ] {
            assert_eq!(strings(&fill), expected);
        }
        assert_eq!(v2(&json!("|S3"), &json!(0)), Ok(b"0\0\0".to_vec()));
        assert_eq!(v2(&json!("|S3"), &json!(12345)), Ok(b"123".to_vec()));
        assert_eq!(v2(&json!("|S3"), &json!("YWJjZGU=")), Ok(b"abc".to_vec()));
        assert_eq!(v2(&json!("|V3"), &json!(0)), Ok(vec![0; 3]));
    }

    #[test]
    fn integers_wrap() {
        assert_eq!(v3(json!("uint16"), &json!(-1)), Ok(vec![255; 2]));
        assert_eq!(v3(json!("int8"), &json!(255)), Ok(vec![255]));
        assert_eq!(v2(&json!(">u4"), &json!(-1)), Ok(vec![255; 4]));
        assert_eq!(v2(&json!([["a", "|u1"]]), &json!({"a": -1})), Ok(vec![255]));
        assert_eq!(v2(&json!("|b1"), &json!(255)), Ok(vec![1]));
    }

    #[test]
    fn what_does_not_fit() {
        for (data_type, fill) in [
            ("int8", json!(1.5)),
            ("uint8", json!(1e20)),
            ("uint8", json!("NaN")),
            ("uint8", json!([1])),
            ("float32", json!({})),
            ("complex64", json!([1])),
            ("r8", json!([1, 2])),
            ("r8", json!([256])),
            ("float8_e4m3fn", json!(0.3)),
            ("string", json!([])),
        ] {
            assert!(v3(json!(data_type), &fill).is_err(), "{data_type} {fill}");
        }
    }
}
