//! The types of stored elements, from Zarr v2 and v3 metadata.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Fields, IntervalUnit, TimeUnit};
use serde_json::Value;

use super::small_floats::SmallFloat;

/// The most fields of a structured type.
const MAX_FIELDS: usize = 1_024;

/// The most dimensions of a field that is an array.
const MAX_FIELD_DIMENSIONS: usize = 16;

/// The most bytes of one element: a Zarr chunk has to hold many.
const MAX_ELEMENT_BYTES: usize = 1 << 24;

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
    /// An integer of 2 or 4 bits, in a byte of its own.
    SmallInt {
        /// The bits that count, the lowest.
        bits: u32,
        /// Whether the highest of them is the sign.
        signed: bool,
    },
    /// A float of other formats than IEEE 754's, in one or two bytes.
    SmallFloat(SmallFloat),
    /// Two floats: the real and the imaginary part.
    Complex(Box<ElementType>),
    /// numpy's datetime64: `count` units since 1970-01-01.
    DateTime64(NumpyTime),
    /// numpy's timedelta64: `count` units.
    TimeDelta64(NumpyTime),
    /// numpy's `U`: a fixed number of UTF-32 code units.
    Utf32 {
        /// Code units an element.
        length: usize,
    },
    /// numpy's `S`: text in a fixed number of bytes, padded with zeros.
    Text {
        /// Bytes an element.
        length: usize,
    },
    /// The same as its bytes, without the zeros at its end.
    Bytes {
        /// Bytes an element.
        length: usize,
    },
    /// numpy's `V`: bytes without a meaning.
    Raw {
        /// Bytes an element.
        length: usize,
    },
    /// Fields side by side.
    Struct(Arc<[Field]>),
    /// Strings of any length.
    Utf8,
    /// Bytes of any length.
    Binary,
    /// Lists of any length, of elements of a fixed size.
    List(Box<ElementType>),
}

/// A field of a structured type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub element: ElementType,
    /// Whether the most significant byte of its numbers comes first.
    pub big_endian: bool,
    /// The number of elements along each dimension of a field that is an array; empty otherwise.
    pub shape: Vec<usize>,
    /// Where it starts in the structure.
    pub offset: usize,
}

impl Field {
    /// The number of its elements.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.element.size().unwrap_or(0).saturating_mul(self.count())
    }
}

/// The unit of numpy's datetime64 and timedelta64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumpyTime {
    /// The Arrow unit: the coarsest that loses nothing.
    pub unit: TimeUnit,
    /// What to multiply stored numbers with to get to the Arrow unit.
    pub multiplier: i64,
    /// The months of the unit, where it is no fixed number of seconds; otherwise 0.
    pub months: i64,
    /// What to divide stored numbers by, for units finer than nanoseconds; otherwise 1.
    pub divisor: i64,
}

impl ElementType {
    /// The bytes of an element, or `None` if they vary.
    #[must_use]
    pub fn size(&self) -> Option<usize> {
        Some(match self {
            Self::Bool | Self::Int8 | Self::UInt8 | Self::SmallInt { .. } => 1,
            Self::Int16 | Self::UInt16 | Self::Float16 => 2,
            Self::Int32 | Self::UInt32 | Self::Float32 => 4,
            Self::Int64
            | Self::UInt64
            | Self::Float64
            | Self::DateTime64(_)
            | Self::TimeDelta64(_) => 8,
            Self::SmallFloat(float) => float.size(),
            Self::Complex(part) => part.size()?.checked_mul(2)?,
            Self::Utf32 { length } => length.checked_mul(4)?,
            Self::Text { length } | Self::Bytes { length } | Self::Raw { length } => *length,
            Self::Struct(fields) => match fields.last() {
                Some(last) => last.offset.checked_add(last.size())?,
                None => 0,
            },
            Self::Utf8 | Self::Binary | Self::List(_) => return None,
        })
    }

    /// The bytes that stand in the order of a number, which differs between machines: 1 for none.
    #[must_use]
    pub(crate) fn number_size(&self) -> usize {
        match self {
            Self::Complex(part) => part.number_size(),
            Self::Utf32 { .. } => 4,
            Self::Text { .. } | Self::Bytes { .. } | Self::Raw { .. } | Self::Struct(_) => 1,
            _ => self.size().unwrap_or(1),
        }
    }

    /// The name of plain numbers in numpy.
    #[must_use]
    pub(crate) fn numpy_name(&self) -> Option<&'static str> {
        Some(match self {
            Self::Bool => "|b1",
            Self::Int8 => "|i1",
            Self::Int16 => "<i2",
            Self::Int32 => "<i4",
            Self::Int64 => "<i8",
            Self::UInt8 => "|u1",
            Self::UInt16 => "<u2",
            Self::UInt32 => "<u4",
            Self::UInt64 => "<u8",
            Self::Float16 => "<f2",
            Self::Float32 => "<f4",
            Self::Float64 => "<f8",
            _ => return None,
        })
    }

    /// Whether elements are floating-point numbers.
    #[must_use]
    pub fn is_float(&self) -> bool {
        matches!(self, Self::Float16 | Self::Float32 | Self::Float64)
    }

    /// Whether elements are numbers that attributes can mask, scale or give a meaning.
    #[must_use]
    pub(crate) fn is_number(&self) -> bool {
        self.is_float()
            || matches!(
                self,
                Self::Int8
                    | Self::Int16
                    | Self::Int32
                    | Self::Int64
                    | Self::UInt8
                    | Self::UInt16
                    | Self::UInt32
                    | Self::UInt64
            )
    }

    /// The type of plain values: without what attributes say of them.
    #[must_use]
    pub(crate) fn data_type(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int8 | Self::SmallInt { signed: true, .. } => DataType::Int8,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::UInt8 | Self::SmallInt { signed: false, .. } => DataType::UInt8,
            Self::UInt16 => DataType::UInt16,
            Self::UInt32 => DataType::UInt32,
            Self::UInt64 => DataType::UInt64,
            Self::Float16 => DataType::Float16,
            Self::Float32 | Self::SmallFloat(_) => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Complex(part) => {
                let part = |name| ArrowField::new(name, part.data_type(), true);
                DataType::Struct(Fields::from(vec![part("re"), part("im")]))
            }
            Self::DateTime64(time) => DataType::Timestamp(time.unit, None),
            // Months differ in length, so they are no duration.
            Self::TimeDelta64(time) if time.months > 0 => {
                DataType::Interval(IntervalUnit::YearMonth)
            }
            Self::TimeDelta64(time) => DataType::Duration(time.unit),
            Self::Utf32 { .. } | Self::Text { .. } | Self::Utf8 => DataType::Utf8View,
            Self::Raw { length } => DataType::FixedSizeBinary(i32::try_from(*length).unwrap_or(0)),
            Self::Struct(fields) => {
                let field = |field: &Field| {
                    // The innermost dimension is the innermost list.
                    let data_type =
                        field.shape.iter().rev().fold(field.element.data_type(), |item, &size| {
                            let item = Arc::new(ArrowField::new_list_field(item, true));
                            DataType::FixedSizeList(item, i32::try_from(size).unwrap_or(0))
                        });
                    ArrowField::new(&field.name, data_type, true)
                };
                DataType::Struct(fields.iter().map(field).collect())
            }
            Self::Binary | Self::Bytes { .. } => DataType::BinaryView,
            Self::List(item) => {
                DataType::List(Arc::new(ArrowField::new_list_field(item.data_type(), true)))
            }
        }
    }

    /// The same with bytes in place of the text in numpy's `S`, which may be in any encoding.
    #[must_use]
    pub(crate) fn without_text(&self) -> Self {
        match self {
            Self::Text { length } => Self::Bytes { length: *length },
            Self::Struct(fields) => {
                let bytes = |field: &Field| Field {
                    element: field.element.without_text(),
                    ..field.clone()
                };
                Self::Struct(fields.iter().map(bytes).collect())
            }
            other => other.clone(),
        }
    }

    /// The type of a Zarr v3 `data_type`.
    ///
    /// # Errors
    /// A text that names the type, if it isn't supported.
    pub fn from_v3(data_type: &Value) -> Result<Self, String> {
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
                    // The codec `bytes` writes its numbers in the order that it is told.
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

    /// Numbers, by their names in Zarr v3.
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

    /// The type of a Zarr v2 `dtype`; `filters` tell what objects are. Also whether the most
    /// significant byte comes first.
    ///
    /// # Errors
    /// A text that names the type, if it isn't supported.
    pub fn from_v2(dtype: &Value, filters: &Value) -> Result<(Self, bool), String> {
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

    /// A field of a structured dtype: its name, its dtype, and the shape if it is an array.
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

/// What objects of Zarr v2 are, which the first filter says.
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

/// Fields one after the other.
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

/// Fails where structured types are too deep in each other.
fn nested(depth: usize) -> Result<(), String> {
    if depth < 16 { Ok(()) } else { Err("structured types are more than 16 deep".to_owned()) }
}

fn element_bytes(bytes: u64) -> Option<usize> {
    usize::try_from(bytes).ok().filter(|bytes| *bytes <= MAX_ELEMENT_BYTES)
}

/// A value as text, cut off where it is long.
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

impl NumpyTime {
    /// Units coarser than seconds become seconds, finer ones than nanoseconds become nanoseconds;
    /// `generic` is no unit.
    fn new(unit: &str, scale: i64) -> Option<Self> {
        let (unit, factor, months, divisor) = match unit {
            "as" => (TimeUnit::Nanosecond, 1, 0, 1_000_000_000),
            "fs" => (TimeUnit::Nanosecond, 1, 0, 1_000_000),
            "ps" => (TimeUnit::Nanosecond, 1, 0, 1_000),
            "ns" => (TimeUnit::Nanosecond, 1, 0, 1),
            "us" | "μs" => (TimeUnit::Microsecond, 1, 0, 1),
            "ms" => (TimeUnit::Millisecond, 1, 0, 1),
            "s" => (TimeUnit::Second, 1, 0, 1),
            "m" => (TimeUnit::Second, 60, 0, 1),
            "h" => (TimeUnit::Second, 3_600, 0, 1),
            "D" => (TimeUnit::Second, 86_400, 0, 1),
            "W" => (TimeUnit::Second, 604_800, 0, 1),
            "M" => (TimeUnit::Second, 1, 1, 1),
            "Y" => (TimeUnit::Second, 1, 12, 1),
            _ => return None,
        };
        let multiplier = scale.checked_mul(factor).filter(|m| *m > 0)?;
        Some(Self { unit, multiplier, months, divisor })
    }
}

#[cfg(test)]
mod tests {
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
