//! The types of stored elements.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Fields, IntervalUnit, TimeUnit};

use super::small_floats::SmallFloat;

/// The largest supported element in bytes, since a chunk holds many elements.
pub(crate) const MAX_ELEMENT_BYTES: usize = 1 << 24;

/// The type of an array's stored elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ElementType {
    /// Boolean in one byte, 0 or 1.
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
    /// An integer of 2 or 4 bits in one byte.
    SmallInt {
        /// The number of lowest bits that count: 2 or 4.
        bits: u32,
        /// Whether the highest of these bits is the sign.
        signed: bool,
    },
    /// A float of a format outside of IEEE 754, in one or two bytes.
    SmallFloat(SmallFloat),
    /// Two floats: the real and the imaginary part.
    Complex(Box<ElementType>),
    /// numpy's datetime64: 64-bit count of units since 1970-01-01.
    DateTime64(NumpyTime),
    /// numpy's timedelta64: 64-bit count of units.
    TimeDelta64(NumpyTime),
    /// numpy's `U`: a fixed number of UTF-32 code units.
    Utf32 {
        /// Code units per element.
        length: usize,
    },
    /// numpy's `S`: text in a fixed number of bytes, padded with zeros.
    Text {
        /// Bytes per element.
        length: usize,
    },
    /// numpy's `S` as bytes, without the padding of zeros.
    Bytes {
        /// Bytes per element.
        length: usize,
    },
    /// numpy's `V`: opaque bytes.
    Raw {
        /// Bytes per element.
        length: usize,
    },
    /// A structure: fields side by side.
    Struct(Arc<[Field]>),
    /// Strings of variable length.
    Utf8,
    /// Bytes of variable length.
    Binary,
    /// Lists of variable length, of elements of a fixed size.
    List(Box<ElementType>),
}

/// A field of a structured type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// The field's name.
    pub name: String,
    /// The type of the field's elements.
    pub element: ElementType,
    /// Whether the field's numbers are big-endian.
    pub big_endian: bool,
    /// The shape in elements of a field that is an array; empty otherwise.
    pub shape: Vec<usize>,
    /// The field's offset in the structure, in bytes.
    pub offset: usize,
}

impl Field {
    /// The number of elements of the field.
    #[must_use]
    pub(crate) fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The size of the field in bytes.
    #[must_use]
    pub(crate) fn size(&self) -> usize {
        self.element.size().unwrap_or(0).saturating_mul(self.count())
    }
}

/// The unit of numpy's datetime64 and timedelta64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NumpyTime {
    /// The Arrow unit: the coarsest without loss, or nanoseconds for finer units.
    pub unit: TimeUnit,
    /// Factor from stored numbers to the Arrow unit.
    pub multiplier: i64,
    /// The length of the unit in months, for months and years, which are no fixed number of seconds; otherwise 0.
    pub months: i64,
    /// Divisor from units finer than nanoseconds to nanoseconds; otherwise 1.
    pub divisor: i64,
}

impl ElementType {
    /// The size of an element in bytes. `None` if the size varies.
    #[must_use]
    pub(crate) fn size(&self) -> Option<usize> {
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

    /// The size in bytes of the numbers within an element, to which a byte order applies; 1 if byte order doesn't
    /// apply.
    #[must_use]
    pub(crate) fn number_size(&self) -> usize {
        match self {
            Self::Complex(part) => part.number_size(),
            Self::Utf32 { .. } => 4,
            Self::Text { .. } | Self::Bytes { .. } | Self::Raw { .. } | Self::Struct(_) => 1,
            _ => self.size().unwrap_or(1),
        }
    }

    /// numpy's name of the type, little-endian. `None` for other types than plain numbers and booleans.
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

    /// numpy's name of the type in the machine's order of bytes. `None` for structures, for types that numpy doesn't
    /// have, and for elements of variable length.
    #[must_use]
    pub(crate) fn numpy_dtype(&self) -> Option<String> {
        Some(match self {
            Self::Complex(part) => match part.as_ref() {
                Self::Float32 => "c8".to_owned(),
                Self::Float64 => "c16".to_owned(),
                _ => return None,
            },
            Self::DateTime64(time) => format!("M8[{}]", time.numpy_unit()?),
            Self::TimeDelta64(time) => format!("m8[{}]", time.numpy_unit()?),
            Self::Utf32 { length } => format!("U{length}"),
            Self::Text { length } | Self::Bytes { length } => format!("S{length}"),
            Self::Raw { length } => format!("V{length}"),
            other => other.numpy_name()?.trim_start_matches(['<', '|']).to_owned(),
        })
    }

    /// Whether elements are IEEE 754 floats.
    #[must_use]
    pub(crate) fn is_float(&self) -> bool {
        matches!(self, Self::Float16 | Self::Float32 | Self::Float64)
    }

    /// Whether elements are integers or floats, which the CF attributes can mask, scale and interpret.
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

    /// The Arrow type of the elements before the CF conventions.
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
            // Months differ in length, so they aren't durations.
            Self::TimeDelta64(time) if time.months > 0 => {
                DataType::Interval(IntervalUnit::YearMonth)
            }
            Self::TimeDelta64(time) => DataType::Duration(time.unit),
            Self::Utf32 { .. } | Self::Text { .. } | Self::Utf8 => DataType::Utf8View,
            Self::Raw { length } => DataType::FixedSizeBinary(i32::try_from(*length).unwrap_or(0)),
            Self::Struct(fields) => {
                let field = |field: &Field| {
                    // The innermost dimension becomes the innermost list.
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

    /// The same type with numpy's `S` as bytes instead of text, since its text may be in any encoding.
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
}

impl NumpyTime {
    /// numpy's unit, with its multiple.
    pub(crate) fn numpy_unit(&self) -> Option<String> {
        let multiple = |count: i64, unit: &str| match count {
            1 => unit.to_owned(),
            count => format!("{count}{unit}"),
        };
        if self.months > 0 {
            return Some(multiple(self.multiplier, if self.months == 12 { "Y" } else { "M" }));
        }
        let unit = match (self.unit, self.divisor) {
            (TimeUnit::Second, _) => "s",
            (TimeUnit::Millisecond, _) => "ms",
            (TimeUnit::Microsecond, _) => "us",
            (TimeUnit::Nanosecond, 1) => "ns",
            (TimeUnit::Nanosecond, 1_000) => "ps",
            (TimeUnit::Nanosecond, 1_000_000) => "fs",
            (TimeUnit::Nanosecond, _) => "as",
        };
        // numpy's name of what is the same length.
        Some(match (unit, self.multiplier) {
            ("s", count) if count % 86_400 == 0 => multiple(count / 86_400, "D"),
            ("s", count) if count % 3_600 == 0 => multiple(count / 3_600, "h"),
            ("s", count) if count % 60 == 0 => multiple(count / 60, "m"),
            (unit, count) => multiple(count, unit),
        })
    }

    /// Converts `scale` numpy units to an Arrow unit: units coarser than seconds become seconds, units finer than
    /// nanoseconds become nanoseconds. `None` for unknown units, `generic` among them.
    pub(crate) fn new(unit: &str, scale: i64) -> Option<Self> {
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
