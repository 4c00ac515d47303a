//! The types of stored elements, from Zarr v2 and v3 metadata.

use arrow::datatypes::TimeUnit;
use serde_json::Value;

/// The type of an array's stored elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// One byte, 0 or 1.
    Bool,
    /// 8-bit signed integer.
    Int8,
    /// 16-bit signed integer.
    Int16,
    /// 32-bit signed integer.
    Int32,
    /// 64-bit signed integer.
    Int64,
    /// 8-bit unsigned integer.
    UInt8,
    /// 16-bit unsigned integer.
    UInt16,
    /// 32-bit unsigned integer.
    UInt32,
    /// 64-bit unsigned integer.
    UInt64,
    /// IEEE 754 half precision.
    Float16,
    /// IEEE 754 single precision.
    Float32,
    /// IEEE 754 double precision.
    Float64,
    /// numpy's datetime64: `count` units since 1970-01-01.
    DateTime64(NumpyTime),
    /// numpy's timedelta64: `count` units.
    TimeDelta64(NumpyTime),
    /// numpy's `U`: a fixed number of UTF-32 code units.
    Utf32 {
        /// Code units an element.
        length: usize,
    },
    /// Strings of any length.
    Utf8,
}

/// The unit of numpy's datetime64 and timedelta64: a stored number is `count` times `nanos`
/// nanoseconds, kept in the coarsest Arrow unit that loses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumpyTime {
    /// The Arrow unit.
    pub unit: TimeUnit,
    /// What to multiply stored numbers with to get to the Arrow unit.
    pub multiplier: i64,
}

impl ElementType {
    /// The bytes of an element, or `None` if they vary.
    #[must_use]
    pub fn size(&self) -> Option<usize> {
        Some(match self {
            Self::Bool | Self::Int8 | Self::UInt8 => 1,
            Self::Int16 | Self::UInt16 | Self::Float16 => 2,
            Self::Int32 | Self::UInt32 | Self::Float32 => 4,
            Self::Int64
            | Self::UInt64
            | Self::Float64
            | Self::DateTime64(_)
            | Self::TimeDelta64(_) => 8,
            Self::Utf32 { length } => length.checked_mul(4)?,
            Self::Utf8 => return None,
        })
    }

    /// Whether elements are floating-point numbers.
    #[must_use]
    pub fn is_float(&self) -> bool {
        matches!(self, Self::Float16 | Self::Float32 | Self::Float64)
    }

    /// The type of a Zarr v3 `data_type`.
    ///
    /// # Errors
    /// A text that names the type, if it isn't supported.
    pub fn from_v3(data_type: &Value) -> Result<Self, String> {
        let unsupported = || format!("the data type {data_type} isn't supported");
        let (name, configuration) = match data_type {
            Value::String(name) => (name.as_str(), None),
            Value::Object(object) => (
                object.get("name").and_then(Value::as_str).ok_or_else(unsupported)?,
                object.get("configuration"),
            ),
            _ => return Err(unsupported()),
        };
        Ok(match name {
            "bool" => Self::Bool,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "uint8" => Self::UInt8,
            "uint16" => Self::UInt16,
            "uint32" => Self::UInt32,
            "uint64" => Self::UInt64,
            "float16" => Self::Float16,
            "float32" => Self::Float32,
            "float64" => Self::Float64,
            "string" => Self::Utf8,
            "numpy.datetime64" | "numpy.timedelta64" => {
                let unit = configuration.and_then(|c| c.get("unit")).and_then(Value::as_str);
                let scale = configuration
                    .and_then(|c| c.get("scale_factor"))
                    .map_or(Some(1), Value::as_i64);
                let time = unit
                    .zip(scale)
                    .and_then(|(unit, scale)| NumpyTime::new(unit, scale))
                    .ok_or_else(unsupported)?;
                if name == "numpy.datetime64" {
                    Self::DateTime64(time)
                } else {
                    Self::TimeDelta64(time)
                }
            }
            "fixed_length_utf32" => {
                let bytes = configuration
                    .and_then(|c| c.get("length_bytes"))
                    .and_then(Value::as_u64)
                    .and_then(|b| usize::try_from(b).ok())
                    .filter(|b| b.is_multiple_of(4))
                    .ok_or_else(unsupported)?;
                Self::Utf32 { length: bytes / 4 }
            }
            _ => return Err(unsupported()),
        })
    }

    /// The type of a Zarr v2 `dtype`; `filters` tell what objects are.
    ///
    /// # Errors
    /// A text that names the type, if it isn't supported.
    pub fn from_v2(dtype: &Value, filters: &Value) -> Result<Self, String> {
        let unsupported = || format!("the dtype {dtype} isn't supported");
        let text = dtype.as_str().ok_or_else(unsupported)?;
        let kind = text.strip_prefix(['<', '>', '|', '=']).ok_or_else(unsupported)?;
        Ok(match kind {
            "b1" => Self::Bool,
            "i1" => Self::Int8,
            "i2" => Self::Int16,
            "i4" => Self::Int32,
            "i8" => Self::Int64,
            "u1" => Self::UInt8,
            "u2" => Self::UInt16,
            "u4" => Self::UInt32,
            "u8" => Self::UInt64,
            "f2" => Self::Float16,
            "f4" => Self::Float32,
            "f8" => Self::Float64,
            "O" => {
                let is_utf8 = |f: &Value| f.get("id").and_then(Value::as_str) == Some("vlen-utf8");
                if filters.as_array().is_some_and(|f| f.iter().any(is_utf8)) {
                    Self::Utf8
                } else {
                    return Err(format!(
                        "objects (dtype {dtype}) without the filter vlen-utf8 aren't supported"
                    ));
                }
            }
            _ => match (kind.get(..1), kind.get(1..)) {
                (Some("U"), Some(length)) => {
                    Self::Utf32 { length: length.parse().map_err(|_| unsupported())? }
                }
                (Some("M" | "m"), Some(rest)) => {
                    let time = rest
                        .strip_prefix("8[")
                        .and_then(|r| r.strip_suffix(']'))
                        .and_then(|unit| {
                            let at = unit.find(|c: char| !c.is_ascii_digit())?;
                            let scale = if at == 0 { 1 } else { unit[..at].parse().ok()? };
                            NumpyTime::new(&unit[at..], scale)
                        })
                        .ok_or_else(unsupported)?;
                    if kind.starts_with('M') {
                        Self::DateTime64(time)
                    } else {
                        Self::TimeDelta64(time)
                    }
                }
                _ => return Err(unsupported()),
            },
        })
    }
}

impl NumpyTime {
    /// Units coarser than seconds become seconds. Months, years and units finer than nanoseconds
    /// have no counterpart.
    fn new(unit: &str, scale: i64) -> Option<Self> {
        let (unit, factor) = match unit {
            "ns" => (TimeUnit::Nanosecond, 1),
            "us" | "μs" => (TimeUnit::Microsecond, 1),
            "ms" => (TimeUnit::Millisecond, 1),
            "s" => (TimeUnit::Second, 1),
            "m" => (TimeUnit::Second, 60),
            "h" => (TimeUnit::Second, 3_600),
            "D" => (TimeUnit::Second, 86_400),
            "W" => (TimeUnit::Second, 604_800),
            _ => return None,
        };
        (scale > 0).then_some(Self { unit, multiplier: scale.checked_mul(factor)? })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn v2_and_v3_agree() {
        for (v2, v3) in [
            (json!("|b1"), json!("bool")),
            (json!(">i2"), json!("int16")),
            (json!("<f4"), json!("float32")),
            (
                json!("<M8[10us]"),
                json!({"name": "numpy.datetime64", "configuration": {"unit": "us", "scale_factor": 10}}),
            ),
            (
                json!("<m8[D]"),
                json!({"name": "numpy.timedelta64", "configuration": {"unit": "D", "scale_factor": 1}}),
            ),
            (
                json!("<U3"),
                json!({"name": "fixed_length_utf32", "configuration": {"length_bytes": 12}}),
            ),
        ] {
            let from_v2 = ElementType::from_v2(&v2, &Value::Null);
            assert!(from_v2.is_ok(), "{v2}");
            assert_eq!(from_v2, ElementType::from_v3(&v3));
        }
    }

    #[test]
    fn unsupported_types_are_named() {
        for dtype in [json!("<c8"), json!("|V4"), json!("<M8"), json!("|O"), json!([["a", "<i4"]])]
        {
            let error = ElementType::from_v2(&dtype, &Value::Null);
            assert!(error.is_err_and(|e| e.contains(&dtype.to_string())), "{dtype}");
        }
        assert!(ElementType::from_v3(&json!("complex64")).is_err_and(|e| e.contains("complex64")));
    }
}
