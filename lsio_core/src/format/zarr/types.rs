//! Element types in Zarr's metadata: `dtype` in version 2, `data_type` in version 3.

use serde_json::Value;

use crate::dataset::{
    dtype::{ElementType, Field, MAX_ELEMENT_BYTES, NumpyTime},
    small_floats::SmallFloat,
};

/// Upper bound on the fields of a structured type.
const MAX_FIELDS: usize = 1_024;

/// Upper bound on the dimensions of a field that is an array.
const MAX_FIELD_DIMENSIONS: usize = 16;

impl ElementType {
    /// Type of a Zarr v3 `data_type`.
    ///
    /// # Errors
    /// A text with the name of an unsupported type.
    pub(crate) fn from_v3(data_type: &Value) -> Result<Self, String> {
        Self::v3(data_type, 0)
    }

    fn v3(data_type: &Value, depth: usize) -> Result<Self, String> {
        let unsupported = || format!("the data type {} isn't supported", brief(data_type));
        let (name, configuration) = match data_type {
            Value::String(name) => (name.as_str(), None),
            Value::Object(object) => (
                object.get("name").and_then(Value::as_str).ok_or_else(unsupported)?,
                object.get("configuration"),
            ),
            _ => return Err(unsupported()),
        };
        let setting = |key: &str| configuration.and_then(|c| c.get(key));
        let length_bytes = || {
            let bytes = setting("length_bytes").and_then(Value::as_u64);
            bytes.and_then(element_bytes).ok_or_else(unsupported)
        };
        if let Some(element) = Self::number(name) {
            return Ok(element);
        }
        Ok(match name {
            "string" | "variable_length_utf8" => Self::Utf8,
            "bytes" | "variable_length_bytes" => Self::Binary,
            "numpy.datetime64" | "numpy.timedelta64" => {
                let unit = setting("unit").and_then(Value::as_str);
                let scale = setting("scale_factor").map_or(Some(1), Value::as_i64);
                let time = unit.zip(scale).and_then(|(unit, scale)| NumpyTime::new(unit, scale));
                let time = time.ok_or_else(unsupported)?;
                if name == "numpy.datetime64" {
                    Self::DateTime64(time)
                } else {
                    Self::TimeDelta64(time)
                }
            }
            "fixed_length_utf32" => match length_bytes()? {
                bytes if bytes.is_multiple_of(4) => Self::Utf32 { length: bytes / 4 },
                _ => return Err(unsupported()),
            },
            "null_terminated_bytes" | "fixed_length_ascii" => {
                Self::Text { length: length_bytes()? }
            }
            "raw_bytes" => Self::Raw { length: length_bytes()? },
            "struct" | "structured" => {
                let fields = setting("fields").and_then(Value::as_array).ok_or_else(unsupported)?;
                let fields = fields.iter().map(|field| {
                    let (name, data_type) = match field {
                        Value::Array(pair) => (pair.first()?, pair.get(1)?),
                        field => (field.get("name")?, field.get("data_type")?),
                    };
                    Some((name.as_str()?.to_owned(), data_type.clone()))
                });
                let fields = fields.collect::<Option<Vec<_>>>().ok_or_else(unsupported)?;
                let fields = fields.into_iter().map(|(name, data_type)| {
                    nested(depth)?;
                    let element = Self::v3(&data_type, depth + 1)?;
                    // The codec `bytes` determines the byte order of its numbers.
                    Ok((name, element, false, Vec::new()))
                });
                structure(fields.collect::<Result<_, String>>()?)?
            }
            _ => match name.strip_prefix('r').and_then(|bits| bits.parse::<u64>().ok()) {
                Some(bits) if bits.is_multiple_of(8) => {
                    Self::Raw { length: element_bytes(bits / 8).ok_or_else(unsupported)? }
                }
                _ => return Err(unsupported()),
            },
        })
    }

    /// Type of a number, by its name in Zarr v3.
    fn number(name: &str) -> Option<Self> {
        let complex = |part| Self::Complex(Box::new(part));
        Some(match name {
            "bool" => Self::Bool,
            "int2" => Self::SmallInt { bits: 2, signed: true },
            "int4" => Self::SmallInt { bits: 4, signed: true },
            "uint2" => Self::SmallInt { bits: 2, signed: false },
            "uint4" => Self::SmallInt { bits: 4, signed: false },
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
            "complex64" | "complex_float32" => complex(Self::Float32),
            "complex128" | "complex_float64" => complex(Self::Float64),
            "complex_float16" => complex(Self::Float16),
            name => match name.strip_prefix("complex_") {
                Some(part) => complex(Self::SmallFloat(SmallFloat::from_name(part)?)),
                None => Self::SmallFloat(SmallFloat::from_name(name)?),
            },
        })
    }

    /// Type of a Zarr v2 `dtype`, and whether it is big-endian. `filters` determine the type of objects.
    ///
    /// # Errors
    /// A text with the name of an unsupported type.
    pub(crate) fn from_v2(dtype: &Value, filters: &Value) -> Result<(Self, bool), String> {
        Self::v2(dtype, filters, 0)
    }

    fn v2(dtype: &Value, filters: &Value, depth: usize) -> Result<(Self, bool), String> {
        if let Value::Array(fields) = dtype {
            nested(depth)?;
            let fields = fields.iter().map(|field| Self::v2_field(field, dtype, depth));
            return Ok((structure(fields.collect::<Result<_, String>>()?)?, false));
        }
        let unsupported = || format!("the dtype {} isn't supported", brief(dtype));
        let text = dtype.as_str().ok_or_else(unsupported)?;
        let kind = text.trim_start_matches(['<', '>', '|', '=']);
        if text.len() - kind.len() > 1 {
            return Err(unsupported());
        }
        let big_endian =
            text.starts_with('>') || (cfg!(target_endian = "big") && !text.starts_with('<'));
        let complex = |part| Self::Complex(Box::new(part));
        let element = match kind {
            "b1" | "bool" => Self::Bool,
            "i1" | "int8" => Self::Int8,
            "i2" | "int16" => Self::Int16,
            "i4" | "int32" => Self::Int32,
            "i8" | "int64" => Self::Int64,
            "u1" | "uint8" => Self::UInt8,
            "u2" | "uint16" => Self::UInt16,
            "u4" | "uint32" => Self::UInt32,
            "u8" | "uint64" => Self::UInt64,
            "f2" | "float16" => Self::Float16,
            "f4" | "float32" => Self::Float32,
            "f8" | "float64" => Self::Float64,
            "c8" | "complex64" => complex(Self::Float32),
            "c16" | "complex128" => complex(Self::Float64),
            "O" => object(dtype, filters)?,
            _ => {
                let is_category = filters.get(0).and_then(|f| f.get("id")).and_then(Value::as_str)
                    == Some("categorize");
                let length = || kind.get(1..).and_then(|l| l.parse().ok()).and_then(element_bytes);
                match kind.get(..1) {
                    Some("U" | "S" | "a") if is_category => Self::Utf8,
                    Some("U") => Self::Utf32 {
                        length: length()
                            .filter(|l| *l <= MAX_ELEMENT_BYTES / 4)
                            .ok_or_else(unsupported)?,
                    },
                    Some("S" | "a") => Self::Text { length: length().ok_or_else(unsupported)? },
                    Some("V") => Self::Raw { length: length().ok_or_else(unsupported)? },
                    Some(which @ ("M" | "m")) => {
                        let time = numpy_time(kind).ok_or_else(unsupported)?;
                        if which == "M" { Self::DateTime64(time) } else { Self::TimeDelta64(time) }
                    }
                    _ => {
                        // Names of ml_dtypes, as tensorstore writes them.
                        Self::SmallFloat(SmallFloat::from_name(kind).ok_or_else(unsupported)?)
                    }
                }
            }
        };
        Ok((element, big_endian))
    }

    /// A field of a structured dtype: its name, its dtype, and its shape if it is an array.
    fn v2_field(
        field: &Value,
        dtype: &Value,
        depth: usize,
    ) -> Result<(String, Self, bool, Vec<usize>), String> {
        let broken = || format!("the dtype {} has a field that is no pair", brief(dtype));
        let parts = field.as_array().filter(|p| p.len() == 2 || p.len() == 3);
        let parts = parts.ok_or_else(broken)?;
        let name = parts[0].as_str().ok_or_else(broken)?.to_owned();
        let (element, big_endian) = Self::v2(&parts[1], &Value::Null, depth + 1)?;
        let size = |size: &Value| size.as_u64().and_then(element_bytes);
        let shape = match parts.get(2) {
            None => Vec::new(),
            Some(Value::Array(sizes)) if sizes.len() <= MAX_FIELD_DIMENSIONS => {
                sizes.iter().map(size).collect::<Option<_>>().ok_or_else(broken)?
            }
            Some(one) => vec![size(one).ok_or_else(broken)?],
        };
        Ok((name, element, big_endian, shape))
    }
}

/// Type of a Zarr v2 object, from the first filter.
fn object(dtype: &Value, filters: &Value) -> Result<ElementType, String> {
    let first = filters.as_array().and_then(|filters| filters.first());
    let id = first.and_then(|filter| filter.get("id")).and_then(Value::as_str);
    match id {
        Some("vlen-utf8" | "json2" | "json" | "categorize") => Ok(ElementType::Utf8),
        Some("vlen-bytes") => Ok(ElementType::Binary),
        Some("vlen-array") => {
            let item = first.and_then(|filter| filter.get("dtype")).unwrap_or(&Value::Null);
            let (item, big_endian) = ElementType::v2(item, &Value::Null, 1)?;
            match item {
                item if item.is_number() && !big_endian => Ok(ElementType::List(Box::new(item))),
                item => Err(format!("lists of {item:?} (filter vlen-array) aren't supported")),
            }
        }
        Some(id) => Err(format!("objects (dtype {dtype}) with the filter {id} aren't supported")),
        None => Err(format!(
            "objects (dtype {dtype}) need a filter that says what they are, such as vlen-utf8"
        )),
    }
}

/// A structured type of consecutive fields.
fn structure(fields: Vec<(String, ElementType, bool, Vec<usize>)>) -> Result<ElementType, String> {
    if fields.len() > MAX_FIELDS {
        return Err(format!("a structured type has more than {MAX_FIELDS} fields"));
    }
    let mut offset = 0_usize;
    let mut known: Vec<Field> = Vec::with_capacity(fields.len());
    for (name, element, big_endian, shape) in fields {
        if element.size().is_none() {
            return Err(format!("the field '{name}' has no fixed size"));
        }
        if element.size() == Some(0) && !shape.is_empty() {
            return Err(format!("the field '{name}' has elements without bytes"));
        }
        if known.iter().any(|field| field.name == name) {
            return Err(format!("the field '{name}' occurs twice"));
        }
        let count = shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size));
        let bytes = count.zip(element.size()).and_then(|(count, size)| count.checked_mul(size));
        let end = bytes.and_then(|bytes| offset.checked_add(bytes));
        let end = end.filter(|end| *end <= MAX_ELEMENT_BYTES).ok_or_else(|| {
            format!(
                "an element takes more than {MAX_ELEMENT_BYTES} bytes, up to the field '{name}'"
            )
        })?;
        known.push(Field { name, element, big_endian, shape, offset });
        offset = end;
    }
    if known.is_empty() {
        return Err("a structured type has no fields".to_owned());
    }
    Ok(ElementType::Struct(known.into()))
}

/// Fails if structured types are nested too deep.
fn nested(depth: usize) -> Result<(), String> {
    if depth < 16 { Ok(()) } else { Err("structured types are more than 16 deep".to_owned()) }
}

fn element_bytes(bytes: u64) -> Option<usize> {
    usize::try_from(bytes).ok().filter(|bytes| *bytes <= MAX_ELEMENT_BYTES)
}

/// A value as text, truncated if it is long.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The unit in `M8[10us]`.
fn numpy_time(kind: &str) -> Option<NumpyTime> {
    let unit = kind.get(1..)?.strip_prefix("8[")?.strip_suffix(']')?;
    let at = unit.find(|c: char| !c.is_ascii_digit())?;
    let scale = if at == 0 { 1 } else { unit[..at].parse().ok()? };
    NumpyTime::new(&unit[at..], scale)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use serde_json::json;

    use super::*;

    fn v2(dtype: &Value) -> Result<ElementType, String> {
        ElementType::from_v2(dtype, &Value::Null).map(|(element, _)| element)
    }

    #[test]
    fn v2_and_v3_agree() {
        for (of_v2, of_v3) in [
            (json!("|b1"), json!("bool")),
            (json!(">i2"), json!("int16")),
            (json!("<f4"), json!("float32")),
            (json!("<c8"), json!("complex64")),
            (json!("bfloat16"), json!("bfloat16")),
            (json!("|V3"), json!("r24")),
            (
                json!("|S5"),
                json!({"name": "null_terminated_bytes", "configuration": {"length_bytes": 5}}),
            ),
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
            (
                json!([["a", "<i4"], ["b", [["c", "|u1"]]]]),
                json!({"name": "structured", "configuration": {"fields": [
                    ["a", "int32"],
                    ["b", {"name": "struct", "configuration": {"fields": [{"name": "c", "data_type": "uint8"}]}}],
                ]}}),
            ),
        ] {
            let from_v2 = v2(&of_v2);
            assert!(from_v2.is_ok(), "{of_v2} {from_v2:?}");
            assert_eq!(from_v2, ElementType::from_v3(&of_v3));
        }
    }

    #[test]
    fn structures_are_laid_out() {
        let element = v2(&json!([["a", "<i4"], ["b", ">f8", [2, 3]], ["c", "|S3"]])).unwrap();
        assert_eq!(element.size(), Some(4 + 48 + 3));
        let ElementType::Struct(fields) = &element else { panic!() };
        assert_eq!(fields.iter().map(|f| f.offset).collect::<Vec<_>>(), [0, 4, 52]);
        assert!(fields[1].big_endian);
        let DataType::Struct(fields) = element.data_type() else { panic!() };
        assert_eq!(fields[1].data_type().to_string().matches("FixedSizeList").count(), 2);
    }

    #[test]
    fn unsupported_types_are_named() {
        let many: Vec<_> = (0..2_000).map(|i| json!([format!("f{i}"), "<i4"])).collect();
        let deep = (0..100).fold(json!("<i4"), |inner, _| json!([["a", inner]]));
        for dtype in [
            json!("<q8"),
            json!("<M8"),
            json!("|O"),
            json!("|V99999999999"),
            json!("<<i4"),
            json!([["a"]]),
            json!([]),
            json!([["a", "<i4"], ["a", "<i4"]]),
            json!([["a", "<f8", [4_000_000_000_u64, 4_000_000_000_u64]]]),
            json!([["a", "<i4"], ["b", "|S0", [16_777_216]]]),
            json!(many),
            deep,
        ] {
            assert!(v2(&dtype).is_err(), "{}", brief(&dtype));
        }
        for name in ["complex", "r12", "int3", "r99999999999999"] {
            let error = ElementType::from_v3(&json!(name));
            assert!(error.is_err_and(|e| e.contains(name)), "{name}");
        }
    }
}
