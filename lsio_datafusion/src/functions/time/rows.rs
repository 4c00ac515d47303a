//! Computation of functions on times, row by row. A time without a result is an error that names it.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Float64Array, Int64Array, PrimitiveArray, StringViewBuilder},
    compute::cast,
    datatypes::{DataType, Int64Type, IntervalMonthDayNano, TimeUnit},
};
use datafusion::{
    common::{Result, exec_datafusion_err},
    error::DataFusionError,
};
use lsio_core::dataset::calendar::Calendar;

use super::{
    civil::CivilTime,
    columns::{self, unit_nanos},
    part::{TimePart, no_date},
    steps::shift,
};

/// Maps times to times, as a column of this type.
pub(super) fn map(
    times: &[Option<CivilTime>],
    to: &DataType,
    calendar: Calendar,
    apply: impl Fn(&CivilTime) -> Option<CivilTime>,
) -> Result<ArrayRef> {
    let apply = |time: &CivilTime| apply(time).ok_or_else(|| no_result(time, calendar));
    let times = times.iter().map(|time| time.as_ref().map(apply).transpose());
    columns::write(&times.collect::<Result<Vec<_>>>()?, to, calendar)
}

/// Maps pairs of times to numbers.
pub(super) fn pairs(
    left: &[Option<CivilTime>],
    right: &[Option<CivilTime>],
    calendar: Calendar,
    apply: impl Fn(&CivilTime, &CivilTime) -> Option<i64>,
) -> Result<Vec<Option<i64>>> {
    let pairs = left.iter().zip(right).map(|pair| match pair {
        (Some(left), Some(right)) => match apply(left, right) {
            Some(value) => Ok(Some(value)),
            // Finds the time to blame.
            None if left.day(calendar).is_none() => Err(no_date(left, calendar)),
            None => Err(no_result(right, calendar)),
        },
        _ => Ok(None),
    });
    pairs.collect()
}

/// Adds intervals to times, or subtracts them.
pub(super) fn shifted(
    times: &[Option<CivilTime>],
    intervals: &ArrayRef,
    forward: bool,
    calendar: Calendar,
    to: &DataType,
) -> Result<ArrayRef> {
    let intervals = columns::read_intervals(intervals)?;
    let shifted = times.iter().zip(intervals).map(|pair| match pair {
        (Some(time), Some(interval)) => {
            let interval = if forward { Some(interval) } else { negated(interval) };
            let shifted = interval.and_then(|interval| shift(time, interval, calendar));
            Ok(Some(shifted.ok_or_else(|| no_result(time, calendar))?))
        }
        _ => Ok(None),
    });
    columns::write(&shifted.collect::<Result<Vec<_>>>()?, to, calendar)
}

/// Negates an interval; `None` out of range.
pub(super) fn negated(interval: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    Some(IntervalMonthDayNano::new(
        interval.months.checked_neg()?,
        interval.days.checked_neg()?,
        interval.nanoseconds.checked_neg()?,
    ))
}

/// Computes a part of each time, as a column of this type.
pub(super) fn parts(
    part: TimePart,
    times: &[Option<CivilTime>],
    calendar: Calendar,
    to: &DataType,
) -> Result<ArrayRef> {
    if part == TimePart::Epoch {
        let epoch = |time: &CivilTime| TimePart::epoch(time, calendar);
        let values = times.iter().map(|time| time.as_ref().map(epoch).transpose());
        return Ok(Arc::new(values.collect::<Result<Float64Array>>()?));
    }
    let of = |time: &CivilTime| part.of(time, calendar);
    let values = times.iter().map(|time| time.as_ref().map(of).transpose());
    Ok(cast(&(Arc::new(values.collect::<Result<Int64Array>>()?) as ArrayRef), to)?)
}

/// Maps times to text.
pub(super) fn texts(
    times: &[Option<CivilTime>],
    write: impl Fn(&CivilTime, &mut String) -> Result<()>,
) -> Result<ArrayRef> {
    let mut out = StringViewBuilder::with_capacity(times.len());
    let mut text = String::new();
    for time in times {
        match time {
            None => out.append_null(),
            Some(time) => {
                text.clear();
                write(time, &mut text)?;
                out.append_value(&text);
            }
        }
    }
    Ok(Arc::new(out.finish()))
}

/// Number of whole parts in a duration, cut towards zero.
pub(super) fn count_durations(
    durations: &ArrayRef,
    unit: TimeUnit,
    part: TimePart,
) -> Result<ArrayRef> {
    let values = cast(durations, &DataType::Int64)?;
    let values = values.as_primitive::<Int64Type>();
    let unit = unit_nanos(unit);
    let Some(counted) = part.duration_nanos() else {
        let per_second = (1_000_000_000 / unit) as f64;
        let seconds: Float64Array = values.unary(|value| value as f64 / per_second);
        return Ok(Arc::new(seconds));
    };
    let counts: PrimitiveArray<Int64Type> = values.try_unary(|value| {
        let count = i128::from(value) * i128::from(unit) / i128::from(counted);
        i64::try_from(count).map_err(|_| exec_datafusion_err!("a duration is too long to count"))
    })?;
    Ok(Arc::new(counts))
}

/// Clears a time's offset, so that an ambiguous local time becomes the first.
pub(super) fn unaware(time: CivilTime) -> CivilTime {
    // No time zone has that offset.
    CivilTime { offset: 864_000, ..time }
}

fn no_result(time: &CivilTime, calendar: Calendar) -> DataFusionError {
    if time.day(calendar).is_none() {
        return no_date(time, calendar);
    }
    exec_datafusion_err!("what is made of {} is out of the range of times", time.text())
}
