//! How a column is stored: its type in Zarr, its fill value, and its attributes by the CF conventions.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, ArrowPrimitiveType, AsArray as _, Int64Array, PrimitiveArray},
    compute::cast,
    datatypes::{
        DataType, Field, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, UInt8Type,
        UInt16Type, UInt32Type, UInt64Type,
    },
};
use datafusion::{
    common::{exec_err, plan_err},
    error::Result,
};
use lsio_core::dataset::{Attribute, Attributes};

use crate::schema::{ATTRIBUTES, text_calendar};

/// Attributes that tell how a variable was stored, or that name variables which may not be there.
const STORED_ONLY: [&str; 12] = [
    "_FillValue",
    "missing_value",
    "scale_factor",
    "add_offset",
    "_Unsigned",
    "dtype",
    "units",
    "calendar",
    "coordinates",
    "grid_mapping",
    "bounds",
    "_ARRAY_DIMENSIONS",
];

/// How the values of a column are stored.
#[derive(Clone, Debug)]
pub(super) struct StoredForm {
    /// The column's name, for messages.
    name: String,
    /// The type of the elements, as Arrow's.
    pub(super) data_type: DataType,
    /// What cells without a value have. `None`: Zarr's usual value of the type.
    pub(super) fill_value: Option<Attribute>,
    pub(super) attributes: Attributes,
    encoding: Encoding,
    /// Whether missing values can't be told from others.
    lacks_missing: bool,
}

/// From the column's values to the stored ones.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Encoding {
    Cast,
    /// Counts of this unit.
    Counts(TimeUnit),
}

/// Whether a column may lack values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// A value for each cell.
    Never,
    Maybe,
}

impl StoredForm {
    /// The form of a column. `source` is the column of a store whose attributes it has. `values` are all of its values,
    /// where they are known.
    ///
    /// # Errors
    /// If Zarr has no type for them.
    pub(super) fn new(
        field: &Field,
        source: Option<&Field>,
        missing: Missing,
        values: Option<&ArrayRef>,
    ) -> Result<Self> {
        let name = field.name().clone();
        if let Some(calendar) = source.and_then(text_calendar) {
            return plan_err!(
                "the column '{name}' has times of the calendar {calendar} as text, which aren't written to Zarr yet: \
                 read the store with the option decode_times=false"
            );
        }
        let stored = source.and_then(|source| source.metadata().get(ATTRIBUTES));
        let stored: Attributes = stored.and_then(|text| text.parse().ok()).unwrap_or_default();
        let mut attributes: Vec<(String, Attribute)> = stored
            .iter()
            .filter(|(name, _)| !STORED_ONLY.contains(name))
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect();
        let mut add = |name: &str, value: Attribute| attributes.push((name.to_owned(), value));
        let units = stored.text("units").filter(|units| !units.contains(" since "));
        let maybe = missing == Missing::Maybe;
        let mut fill_value = None;
        let mut encoding = Encoding::Cast;
        let mut lacks_missing = false;
        let data_type = match field.data_type() {
            DataType::Timestamp(unit, _) => {
                let unit = values.map_or(*unit, |values| coarsest(values, *unit));
                add("units", Attribute::Text(format!("{} since 1970-01-01", unit_name(unit))));
                add("calendar", Attribute::Text("proleptic_gregorian".to_owned()));
                encoding = Encoding::Counts(unit);
                fill_value = maybe.then_some(Attribute::Int(i64::MIN));
                DataType::Int64
            }
            DataType::Date32 | DataType::Date64 => {
                add("units", Attribute::Text("days since 1970-01-01".to_owned()));
                add("calendar", Attribute::Text("proleptic_gregorian".to_owned()));
                fill_value = maybe.then_some(Attribute::Int(i64::MIN));
                encoding = Encoding::Cast;
                DataType::Int64
            }
            DataType::Duration(unit) => {
                add("units", Attribute::Text(unit_name(*unit).to_owned()));
                // xarray takes numbers with units of time for durations only with it.
                let dtype = format!("timedelta64[{}]", unit_letters(*unit));
                add("dtype", Attribute::Text(dtype));
                encoding = Encoding::Counts(*unit);
                fill_value = maybe.then_some(Attribute::Int(i64::MIN));
                DataType::Int64
            }
            number if number.is_numeric() => {
                if let Some(units) = units {
                    add("units", Attribute::Text(units.to_owned()));
                }
                let number = match number {
                    DataType::Decimal32(..)
                    | DataType::Decimal64(..)
                    | DataType::Decimal128(..)
                    | DataType::Decimal256(..) => DataType::Float64,
                    other => other.clone(),
                };
                if maybe && number.is_integer() {
                    let own = stored.get("_FillValue").or_else(|| stored.get("missing_value"));
                    let own = own.filter(|own| fits(&number, own)).cloned();
                    fill_value = Some(own.unwrap_or_else(|| least(&number)));
                }
                number
            }
            DataType::Boolean if maybe => {
                // CF has no booleans; xarray reads these as such.
                add("dtype", Attribute::Text("bool".to_owned()));
                fill_value = Some(Attribute::Int(-1));
                DataType::Int8
            }
            DataType::Boolean => DataType::Boolean,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                lacks_missing = true;
                DataType::Utf8View
            }
            DataType::Dictionary(_, values)
                if matches!(
                    values.as_ref(),
                    DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
                ) =>
            {
                lacks_missing = true;
                DataType::Utf8View
            }
            other => {
                return plan_err!(
                    "the column '{name}' has the type {other}, which can't be written to Zarr: leave it out, or cast it"
                );
            }
        };
        if let Some(fill) = &fill_value {
            add("_FillValue", fill.clone());
        }
        let attributes = attributes.into_iter().collect();
        Ok(Self { name, data_type, fill_value, attributes, encoding, lacks_missing })
    }

    /// The stored values of some of the column's, NULL where they are missing.
    ///
    /// # Errors
    /// If a value can't be told from a missing one, or doesn't fit.
    pub(super) fn encode(&self, values: &ArrayRef) -> Result<ArrayRef> {
        if self.lacks_missing && values.null_count() > 0 {
            return exec_err!(
                "the column '{}' has NULL among its texts, which Zarr can't say: write coalesce({0}, '') or another text",
                self.name
            );
        }
        let stored = match (&self.encoding, values.data_type()) {
            (Encoding::Counts(unit), DataType::Timestamp(own, _) | DataType::Duration(own)) => {
                let counts = cast(values, &DataType::Int64)?;
                self.counts(counts.as_primitive(), *own, *unit)?
            }
            (_, DataType::Date32) => cast(&cast(values, &DataType::Int32)?, &DataType::Int64)?,
            (_, DataType::Date64) => {
                let days = cast(values, &DataType::Date32)?;
                cast(&cast(&days, &DataType::Int32)?, &DataType::Int64)?
            }
            (_, own) if *own == self.data_type => Arc::clone(values),
            _ => cast(values, &self.data_type)?,
        };
        if let Some(fill) = &self.fill_value
            && has_value(&stored, fill)
        {
            return exec_err!(
                "the column '{}' has the value {fill}, which would mark missing values: cast it to a wider type",
                self.name
            );
        }
        Ok(stored)
    }

    fn counts(&self, counts: &Int64Array, own: TimeUnit, unit: TimeUnit) -> Result<ArrayRef> {
        if own == unit {
            return Ok(Arc::new(counts.clone()));
        }
        let (from, to) = (nanoseconds(own), nanoseconds(unit));
        let counts: Int64Array = if from >= to {
            counts.try_unary(|count| count.checked_mul(from / to).ok_or(())).map_err(|()| {
                datafusion::common::exec_datafusion_err!(
                    "the column '{}' has times that 64 bits of {} can't hold",
                    self.name,
                    unit_name(unit)
                )
            })?
        } else {
            counts.unary(|count| count.div_euclid(to / from))
        };
        Ok(Arc::new(counts))
    }
}

/// The coarsest unit in which these times are whole.
fn coarsest(values: &ArrayRef, own: TimeUnit) -> TimeUnit {
    let units =
        [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
    let Ok(counts) = cast(values, &DataType::Int64) else { return own };
    let counts: &Int64Array = counts.as_primitive();
    let is_whole = |unit: &TimeUnit| {
        let factor = nanoseconds(*unit) / nanoseconds(own);
        factor <= 1 || counts.iter().flatten().all(|count| count % factor == 0)
    };
    units.into_iter().find(is_whole).unwrap_or(own)
}

fn nanoseconds(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "seconds",
        TimeUnit::Millisecond => "milliseconds",
        TimeUnit::Microsecond => "microseconds",
        TimeUnit::Nanosecond => "nanoseconds",
    }
}

fn unit_letters(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

/// Whether an attribute is a number of this integer type.
fn fits(data_type: &DataType, value: &Attribute) -> bool {
    let number = match value {
        Attribute::Int(number) => i128::from(*number),
        Attribute::UInt(number) => i128::from(*number),
        _ => return false,
    };
    let bits = data_type.primitive_width().unwrap_or(8) * 8;
    let (low, high) = if data_type.is_signed_integer() {
        (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1)
    } else {
        (0, (1_i128 << bits) - 1)
    };
    (low..=high).contains(&number)
}

/// A value that is rarely one: the least of a signed type, the largest of an unsigned one.
fn least(data_type: &DataType) -> Attribute {
    match data_type {
        DataType::Int8 => Attribute::Int(i8::MIN.into()),
        DataType::Int16 => Attribute::Int(i16::MIN.into()),
        DataType::Int32 => Attribute::Int(i32::MIN.into()),
        DataType::UInt8 => Attribute::Int(u8::MAX.into()),
        DataType::UInt16 => Attribute::Int(u16::MAX.into()),
        DataType::UInt32 => Attribute::Int(u32::MAX.into()),
        DataType::UInt64 => Attribute::UInt(u64::MAX),
        _ => Attribute::Int(i64::MIN),
    }
}

/// Whether integers that aren't NULL have this value.
fn has_value(values: &ArrayRef, value: &Attribute) -> bool {
    fn has<T: ArrowPrimitiveType>(values: &PrimitiveArray<T>, value: Option<T::Native>) -> bool {
        value.is_some_and(|value| match values.nulls() {
            None => values.values().contains(&value),
            Some(_) => values.iter().flatten().any(|own| own == value),
        })
    }
    let number = match value {
        Attribute::Int(number) => i128::from(*number),
        Attribute::UInt(number) => i128::from(*number),
        _ => return false,
    };
    match values.data_type() {
        DataType::Int8 => has(values.as_primitive::<Int8Type>(), number.try_into().ok()),
        DataType::Int16 => has(values.as_primitive::<Int16Type>(), number.try_into().ok()),
        DataType::Int32 => has(values.as_primitive::<Int32Type>(), number.try_into().ok()),
        DataType::Int64 => has(values.as_primitive::<Int64Type>(), number.try_into().ok()),
        DataType::UInt8 => has(values.as_primitive::<UInt8Type>(), number.try_into().ok()),
        DataType::UInt16 => has(values.as_primitive::<UInt16Type>(), number.try_into().ok()),
        DataType::UInt32 => has(values.as_primitive::<UInt32Type>(), number.try_into().ok()),
        DataType::UInt64 => has(values.as_primitive::<UInt64Type>(), number.try_into().ok()),
        _ => false,
    }
}
