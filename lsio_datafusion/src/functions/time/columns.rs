//! Columns of times, of any type.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray, StringViewBuilder},
    compute::cast,
    datatypes::{
        DataType, Date32Type, DurationMicrosecondType, Int64Type, IntervalMonthDayNano,
        IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
    },
};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use lsio_core::dataset::calendar::Calendar;

use super::{
    civil::{CivilTime, DAY},
    part::no_date,
    zones::Zone,
};

/// Whether a type can be read as times. Text can, if it spells times.
pub(crate) fn is_time(data_type: &DataType) -> bool {
    is_text(data_type)
        || matches!(
            data_type,
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null
        )
}

/// Whether a type is text.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Reads times of any type. `calendar` is that of text.
///
/// # Errors
/// If a text is no time, the type isn't one of times, or a time is out of range.
pub(crate) fn read(array: &ArrayRef, calendar: Calendar) -> Result<Vec<Option<CivilTime>>> {
    let data_type = array.data_type();
    match data_type {
        data_type if is_text(data_type) => {
            let texts = cast(array, &DataType::Utf8View)?;
            let read = |text: &str| {
                let local = text.strip_suffix('Z').unwrap_or(text);
                let (time, _) = CivilTime::parse_partial(local).ok_or_else(|| not_a_time(text))?;
                if calendar.day_number(time.date).is_none() {
                    return Err(no_date(&time, calendar));
                }
                Ok(time)
            };
            texts.as_string_view().iter().map(|text| text.map(read).transpose()).collect()
        }
        DataType::Null => Ok(vec![None; array.len()]),
        DataType::Date32 | DataType::Date64 => {
            let days = cast(&cast(array, &DataType::Date32)?, &DataType::Int32)?;
            read_integers(&cast(&days, &DataType::Int64)?, |days| {
                CivilTime::from_nanos(i128::from(days) * i128::from(DAY), GREGORIAN)
            })
        }
        DataType::Timestamp(unit, _) => {
            let unit = unit_nanos(*unit);
            let zone = Zone::of(data_type)?;
            read_integers(&cast(array, &DataType::Int64)?, |value| {
                let nanos = i128::from(value) * i128::from(unit);
                let Some(zone) = zone else { return CivilTime::from_nanos(nanos, GREGORIAN) };
                let offset = zone.offset(i64::try_from(nanos.div_euclid(SECOND)).ok()?)?;
                let local = nanos + i128::from(offset) * SECOND;
                Some(CivilTime { offset, ..CivilTime::from_nanos(local, GREGORIAN)? })
            })
        }
        other => exec_err!("{other} is no type of times"),
    }
}

/// Writes times as a column of a type. `calendar` is that of text; other types take the civil time.
///
/// # Errors
/// If a time doesn't exist in the type.
pub(crate) fn write(
    times: &[Option<CivilTime>],
    to: &DataType,
    calendar: Calendar,
) -> Result<ArrayRef> {
    if is_text(to) {
        let mut out = StringViewBuilder::with_capacity(times.len());
        let mut text = String::new();
        for time in times {
            match time {
                None => out.append_null(),
                Some(time) => {
                    text.clear();
                    time.write(&mut text);
                    out.append_value(&text);
                }
            }
        }
        return Ok(cast(&(Arc::new(out.finish()) as ArrayRef), to)?);
    }
    let out_of_range = |time: &CivilTime| match time.nanos(GREGORIAN) {
        None => exec_datafusion_err!(
            "{} of the calendar {} is no date of SQL's types, whose calendar is the Gregorian \
             one",
            time.text(),
            calendar.name()
        ),
        Some(_) => exec_datafusion_err!("{} is out of the range of {to}", time.text()),
    };
    match to {
        DataType::Date32 => {
            let day = |time: &CivilTime| {
                let day = time.day(GREGORIAN).and_then(|day| i32::try_from(day).ok());
                day.ok_or_else(|| out_of_range(time))
            };
            let days: PrimitiveArray<Date32Type> = times
                .iter()
                .map(|time| time.as_ref().map(day).transpose())
                .collect::<Result<_>>()?;
            Ok(Arc::new(days))
        }
        DataType::Timestamp(unit, _) => {
            let unit = i128::from(unit_nanos(*unit));
            let zone = Zone::of(to)?;
            let value = |time: &CivilTime| {
                let mut nanos = time.nanos(GREGORIAN)?;
                if let Some(zone) = zone {
                    let local = i64::try_from(nanos.div_euclid(SECOND)).ok()?;
                    let utc = zone.utc(local, Some(time.offset))?;
                    nanos += i128::from(utc - local) * SECOND;
                }
                i64::try_from(nanos.div_euclid(unit)).ok()
            };
            let value = |time: &CivilTime| value(time).ok_or_else(|| out_of_range(time));
            let values: Int64Array = times
                .iter()
                .map(|time| time.as_ref().map(value).transpose())
                .collect::<Result<_>>()?;
            Ok(cast(&(Arc::new(values) as ArrayRef), to)?)
        }
        other => exec_err!("{other} is no type of times"),
    }
}

/// Reads intervals, and durations as intervals.
///
/// # Errors
/// If the type is neither.
pub(crate) fn read_intervals(array: &ArrayRef) -> Result<Vec<Option<IntervalMonthDayNano>>> {
    match array.data_type() {
        DataType::Duration(unit) => {
            let unit = unit_nanos(*unit);
            let values = cast(array, &DataType::Int64)?;
            let interval = |value: i64| {
                // Splits off days: 64-bit nanoseconds end after 292 years.
                let per_day = DAY / unit;
                let days = i32::try_from(value.div_euclid(per_day)).ok()?;
                Some(IntervalMonthDayNano::new(0, days, value.rem_euclid(per_day) * unit))
            };
            let values = values.as_primitive::<Int64Type>().iter();
            let interval = |value: i64| {
                interval(value)
                    .ok_or_else(|| exec_datafusion_err!("a duration is too long for a time"))
            };
            values.map(|value| value.map(interval).transpose()).collect()
        }
        DataType::Null => Ok(vec![None; array.len()]),
        DataType::Interval(_) | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let intervals = cast(array, &DataType::Interval(IntervalUnit::MonthDayNano))?;
            Ok(intervals.as_primitive::<IntervalMonthDayNanoType>().iter().collect())
        }
        other => exec_err!("{other} is no interval"),
    }
}

/// Microseconds as durations.
///
/// # Errors
/// None.
pub(crate) fn durations(micros: Vec<Option<i64>>) -> Result<ArrayRef> {
    Ok(Arc::new(PrimitiveArray::<DurationMicrosecondType>::from(micros)))
}

/// Error of a text that is no time.
pub(crate) fn not_a_time(text: &str) -> datafusion::error::DataFusionError {
    exec_datafusion_err!(
        "'{text}' is no time: the form is YYYY-MM-DDThh:mm:ss, from the right as much left out as \
         you like"
    )
}

/// Calendar of SQL's types.
pub(crate) const GREGORIAN: Calendar = Calendar::ProlepticGregorian;

const SECOND: i128 = 1_000_000_000;

/// Nanoseconds in a unit.
pub(crate) fn unit_nanos(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

fn read_integers(
    values: &ArrayRef,
    read: impl Fn(i64) -> Option<CivilTime>,
) -> Result<Vec<Option<CivilTime>>> {
    let values = values.as_primitive::<Int64Type>().iter();
    let read = |value: i64| {
        read(value).ok_or_else(|| exec_datafusion_err!("a time is out of the range of calendars"))
    };
    values.map(|value| value.map(read).transpose()).collect()
}
