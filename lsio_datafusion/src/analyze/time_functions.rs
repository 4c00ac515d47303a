//! Functions on timestamps of seconds, milliseconds and microseconds that don't convert to nanoseconds.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, PrimitiveArray},
    compute::cast,
    datatypes::{
        DataType, Field, FieldRef, Float64Type, Int64Type, IntervalMonthDayNano, TimeUnit,
        TimestampMicrosecondType, TimestampNanosecondType,
    },
};
use datafusion::{
    common::{Result, exec_datafusion_err, exec_err},
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
        sort_properties::{ExprProperties, SortProperties},
    },
    scalar::ScalarValue,
};
use lsio_core::dataset::calendar::{Calendar, Date, gregorian_day};

use super::instants::{Instant, add_months, coarse_unit, per_second};

const SECONDS_PER_DAY: i64 = 86_400;

/// Operation of a [`TimeFunction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum TimeKind {
    /// `date_trunc(unit, time)`.
    Trunc,
    /// `date_bin(stride, time[, origin])`.
    Bin,
    /// Text to microseconds.
    Parse,
    /// Seconds since 1970, with a fraction, to microseconds.
    Seconds,
    /// A time to the nearest nanosecond in range.
    Saturate,
    /// `date_part(unit, duration)`: whole units, cut towards zero.
    Whole(DurationUnit),
    /// `date_part('epoch', duration)`: seconds with a fraction.
    Epoch,
}

/// Unit in which a duration is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct DurationUnit {
    nanos: i64,
    /// Whether DataFusion's type for it is Int64 instead of Int32.
    is_long: bool,
}

impl TimeKind {
    /// Unit for a `date_part` of a duration. DataFusion's own gives NULL where the seconds don't fit 32 bits:
    /// after 68 years.
    pub(super) fn duration_part(part: &str) -> Option<Self> {
        let nanos = match part.to_ascii_lowercase().as_str() {
            "epoch" => return Some(Self::Epoch),
            "week" => 7 * 86_400_000_000_000,
            "day" => 86_400_000_000_000,
            "hour" => 3_600_000_000_000,
            "minute" => 60_000_000_000,
            "second" => 1_000_000_000,
            "millisecond" => 1_000_000,
            "microsecond" => 1_000,
            "nanosecond" => 1,
            _ => return None,
        };
        Some(Self::Whole(DurationUnit { nanos, is_long: nanos == 1 }))
    }
}

/// Function on times of microseconds or coarser, or on durations.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TimeFunction {
    kind: TimeKind,
    signature: Signature,
}

impl TimeFunction {
    pub(super) fn new(kind: TimeKind) -> Self {
        Self { kind, signature: Signature::variadic_any(Volatility::Immutable) }
    }

    fn apply(&self, args: &[ColumnarValue]) -> Result<ArrayRef> {
        let time = match self.kind {
            TimeKind::Trunc | TimeKind::Bin | TimeKind::Whole(_) | TimeKind::Epoch => args.get(1),
            _ => args.first(),
        };
        let Some(time) = time else { return exec_err!("{} lacks an argument", self.name()) };
        let time = match time {
            ColumnarValue::Array(array) => Arc::clone(array),
            ColumnarValue::Scalar(value) => value.to_array()?,
        };
        match self.kind {
            TimeKind::Trunc => {
                let Some(ColumnarValue::Scalar(unit)) = args.first() else {
                    return exec_err!("the first argument of date_trunc must be a constant text");
                };
                let Some(unit) = unit.try_as_str().flatten() else {
                    return exec_err!("the first argument of date_trunc must be a constant text");
                };
                let granularity = Granularity::from_name(unit)?;
                on_seconds(&time, |value, scale| granularity.truncate(value, scale))
            }
            TimeKind::Bin => {
                let bins = TimestampBins::new(args)?;
                on_seconds(&time, |value, scale| bins.start(value, scale))
            }
            TimeKind::Parse => {
                let texts = cast(&time, &DataType::Utf8View)?;
                let micros = texts.as_string_view().iter().map(|text| text.map(parse).transpose());
                Ok(Arc::new(micros.collect::<Result<PrimitiveArray<TimestampMicrosecondType>>>()?))
            }
            TimeKind::Seconds => {
                let seconds = cast(&time, &DataType::Float64)?;
                let micros = seconds.as_primitive::<Float64Type>().try_unary(micros)?;
                let micros: PrimitiveArray<TimestampMicrosecondType> = micros;
                Ok(Arc::new(micros))
            }
            TimeKind::Epoch => {
                let (values, unit) = durations(&time)?;
                let per_second = per_second(unit) as f64;
                let seconds: PrimitiveArray<Float64Type> =
                    values.unary(|value| value as f64 / per_second);
                Ok(Arc::new(seconds))
            }
            TimeKind::Whole(DurationUnit { nanos, is_long }) => {
                let (values, unit) = durations(&time)?;
                let unit = i128::from(1_000_000_000 / per_second(unit));
                let counted = values.try_unary(|value| {
                    let counted = i64::try_from(i128::from(value) * unit / i128::from(nanos)).ok();
                    let fits = |counted: &i64| is_long || i32::try_from(*counted).is_ok();
                    counted.filter(fits).ok_or_else(|| {
                        exec_datafusion_err!(
                            "a duration is too long to be counted in units of {nanos} \
                             nanoseconds: date_part('epoch', …) counts seconds of any number"
                        )
                    })
                });
                let counted: PrimitiveArray<Int64Type> = counted?;
                let to = if is_long { DataType::Int64 } else { DataType::Int32 };
                Ok(cast(&counted, &to)?)
            }
            TimeKind::Saturate => {
                let unit = coarse_unit(time.data_type());
                let Some(unit) = unit else {
                    return exec_err!("{} isn't a time without a zone", time.data_type());
                };
                let nanos = 1_000_000_000 / per_second(unit);
                let values = cast(&time, &DataType::Int64)?;
                let values = values.as_primitive::<Int64Type>();
                let values: PrimitiveArray<TimestampNanosecondType> =
                    values.unary(|value| value.saturating_mul(nanos));
                Ok(Arc::new(values))
            }
        }
    }
}

impl ScalarUDFImpl for TimeFunction {
    fn name(&self) -> &str {
        match self.kind {
            TimeKind::Trunc => "date_trunc",
            TimeKind::Bin => "date_bin",
            TimeKind::Parse => "to_microseconds",
            TimeKind::Seconds => "seconds_to_microseconds",
            TimeKind::Saturate => "nearest_nanoseconds",
            TimeKind::Whole(_) | TimeKind::Epoch => "date_part",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        Ok(match self.kind {
            TimeKind::Trunc | TimeKind::Bin => arg_types.get(1).cloned().unwrap_or(micros),
            TimeKind::Parse | TimeKind::Seconds => micros,
            TimeKind::Saturate => DataType::Timestamp(TimeUnit::Nanosecond, None),
            TimeKind::Epoch => DataType::Float64,
            TimeKind::Whole(DurationUnit { is_long: true, .. }) => DataType::Int64,
            TimeKind::Whole(_) => DataType::Int32,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> =
            args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_array = args.args.iter().any(|arg| matches!(arg, ColumnarValue::Array(_)));
        let result = self.apply(&args.args)?;
        if is_array {
            return Ok(ColumnarValue::Array(result));
        }
        Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
    }

    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        let constant = |at: usize| {
            input.get(at).is_none_or(|arg| arg.sort_properties == SortProperties::Singleton)
        };
        let time = match self.kind {
            TimeKind::Trunc | TimeKind::Bin if constant(0) && constant(2) => input.get(1),
            TimeKind::Saturate | TimeKind::Seconds => input.first(),
            _ => None,
        };
        Ok(time.map_or(SortProperties::Unordered, |time| time.sort_properties))
    }
}

/// Applies a function of a time and the number of its units in a second.
fn on_seconds(time: &ArrayRef, apply: impl Fn(i64, i64) -> Option<i64>) -> Result<ArrayRef> {
    let Some(unit) = coarse_unit(time.data_type()) else {
        return exec_err!("{} isn't a time without a zone", time.data_type());
    };
    let scale = per_second(unit);
    let values = cast(time, &DataType::Int64)?;
    let values: PrimitiveArray<Int64Type> =
        values.as_primitive::<Int64Type>().try_unary(|value| {
            apply(value, scale).ok_or_else(|| {
                exec_datafusion_err!("{value} / {scale} seconds since 1970 is out of range")
            })
        })?;
    Ok(cast(&(Arc::new(values) as ArrayRef), time.data_type())?)
}

/// Durations as integers, and their unit.
fn durations(durations: &ArrayRef) -> Result<(PrimitiveArray<Int64Type>, TimeUnit)> {
    let DataType::Duration(unit) = durations.data_type() else {
        return exec_err!("{} isn't a duration", durations.data_type());
    };
    let values = cast(durations, &DataType::Int64)?;
    Ok((values.as_primitive::<Int64Type>().clone(), *unit))
}

/// Parses a time as microseconds since 1970.
fn parse(text: &str) -> Result<i64> {
    let Some(instant) = Instant::parse(text) else {
        return exec_err!("'{text}' is no time of the form YYYY-MM-DDThh:mm:ss");
    };
    instant.micros().ok_or_else(|| {
        exec_datafusion_err!(
            "'{text}' is finer than a microsecond; arrow_cast(…, 'Timestamp(Nanosecond, None)') \
             reads it"
        )
    })
}

/// Microseconds of seconds since 1970.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked before")]
fn micros(seconds: f64) -> Result<i64> {
    let whole = seconds.floor();
    if seconds.is_nan() || whole.abs() > 9.0e12 {
        return exec_err!("{seconds} seconds since 1970 is out of the range of times");
    }
    Ok(whole as i64 * 1_000_000 + ((seconds - whole) * 1e6).round() as i64)
}

/// Unit to which `date_trunc` cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Granularity {
    /// Part of a second, by their number in it.
    Fraction(i64),
    Seconds(i64),
    Week,
    Months(i64),
}

impl Granularity {
    fn from_name(name: &str) -> Result<Self> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "microsecond" => Self::Fraction(1_000_000),
            "millisecond" => Self::Fraction(1_000),
            "second" => Self::Seconds(1),
            "minute" => Self::Seconds(60),
            "hour" => Self::Seconds(3_600),
            "day" => Self::Seconds(SECONDS_PER_DAY),
            "week" => Self::Week,
            "month" => Self::Months(1),
            "quarter" => Self::Months(3),
            "year" => Self::Months(12),
            other => {
                return exec_err!(
                    "date_trunc('{other}', …) isn't supported; the units are microsecond, \
                     millisecond, second, minute, hour, day, week, month, quarter and year"
                );
            }
        })
    }

    fn truncate(self, value: i64, scale: i64) -> Option<i64> {
        let floor = |unit: i64| value.checked_sub(value.rem_euclid(unit));
        match self {
            Self::Fraction(parts) => floor((scale / parts).max(1)),
            Self::Seconds(seconds) => floor(seconds * scale),
            Self::Week => {
                // 1970-01-01 is a Thursday.
                let day = value.div_euclid(SECONDS_PER_DAY * scale);
                let monday = day.checked_sub((day + 3).rem_euclid(7))?;
                monday.checked_mul(SECONDS_PER_DAY * scale)
            }
            Self::Months(months) => {
                let calendar = Calendar::ProlepticGregorian;
                let date = calendar.date(value.div_euclid(SECONDS_PER_DAY * scale));
                let first = Date { day: 1, ..date };
                let back = (i64::from(date.month) - 1).rem_euclid(months);
                let first = add_months(first, -back);
                gregorian_day(first.year, first.month, 1).checked_mul(SECONDS_PER_DAY * scale)
            }
        }
    }
}

/// Bins of `date_bin`.
struct TimestampBins {
    stride: TimestampBinWidth,
    /// Nanoseconds since 1970.
    origin: i128,
}

enum TimestampBinWidth {
    Nanos(i128),
    Months(i64),
}

impl TimestampBins {
    fn new(args: &[ColumnarValue]) -> Result<Self> {
        let stride = match args.first() {
            Some(ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(interval)))) => {
                *interval
            }
            Some(ColumnarValue::Scalar(ScalarValue::IntervalDayTime(Some(interval)))) => {
                let nanos = i64::from(interval.milliseconds) * 1_000_000;
                IntervalMonthDayNano::new(0, interval.days, nanos)
            }
            _ => return exec_err!("the stride of date_bin must be a constant interval"),
        };
        let IntervalMonthDayNano { months, days, nanoseconds } = stride;
        let nanos = i128::from(days) * 86_400_000_000_000 + i128::from(nanoseconds);
        let stride = match (months, nanos) {
            (0, nanos) if nanos > 0 => TimestampBinWidth::Nanos(nanos),
            (months, 0) if months > 0 => TimestampBinWidth::Months(months.into()),
            (0, _) | (_, 0) => return exec_err!("the stride of date_bin must be positive"),
            _ => return exec_err!("the stride of date_bin must be months, or days and shorter"),
        };
        let origin = match args.get(2) {
            None => 0,
            Some(ColumnarValue::Scalar(origin)) => match Instant::of_literal(origin) {
                Some(origin) => origin.all_nanos(),
                None => return exec_err!("'{origin}' is no origin for date_bin: a time is wanted"),
            },
            Some(ColumnarValue::Array(_)) => {
                return exec_err!("the origin of date_bin must be a constant");
            }
        };
        Ok(Self { stride, origin })
    }

    /// Start of a time's bin.
    fn start(&self, value: i64, scale: i64) -> Option<i64> {
        let unit = i128::from(1_000_000_000 / scale);
        let nanos = i128::from(value) * unit;
        let start = match self.stride {
            TimestampBinWidth::Nanos(stride) => nanos - (nanos - self.origin).rem_euclid(stride),
            TimestampBinWidth::Months(stride) => {
                let calendar = Calendar::ProlepticGregorian;
                let date = |nanos: i128| {
                    let day = i64::try_from(nanos.div_euclid(NANOS_PER_DAY)).ok()?;
                    Some(calendar.date(day))
                };
                let (from, to) = (date(self.origin)?, date(nanos)?);
                let months =
                    (to.year - from.year) * 12 + i64::from(to.month) - i64::from(from.month);
                let shifted = |months: i64| {
                    let date = add_months(from, months);
                    let day = gregorian_day(date.year, date.month, date.day);
                    i128::from(day) * NANOS_PER_DAY + self.origin.rem_euclid(NANOS_PER_DAY)
                };
                let whole = months - months.rem_euclid(stride);
                // The origin may lie later in its month.
                let start = shifted(whole);
                if start > nanos { shifted(whole - stride) } else { start }
            }
        };
        i64::try_from(start.div_euclid(unit)).ok()
    }
}

const NANOS_PER_DAY: i128 = 86_400_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        Instant::parse(text).unwrap().micros().unwrap()
    }

    #[test]
    fn truncation() {
        for (unit, time, expected) in [
            ("week", "0001-01-07T12:00:00", "0001-01-01"),
            ("WEEK", "1969-12-28T23:59:59", "1969-12-22"),
            ("quarter", "0850-06-30T12:00:00", "0850-04-01"),
            ("year", "-0001-06-30", "-0001-01-01"),
            ("month", "9999-12-31T23:59:59.999999", "9999-12-01"),
            ("millisecond", "1500-01-01T00:00:00.123456", "1500-01-01T00:00:00.123"),
            ("second", "1500-01-01T00:00:00.123456", "1500-01-01T00:00:00"),
        ] {
            let truncated = Granularity::from_name(unit).unwrap().truncate(micros(time), 1_000_000);
            assert_eq!(truncated, Some(micros(expected)), "{unit} {time}");
        }
        let second = micros("0850-06-30") / 1_000_000;
        let month = Granularity::Months(1).truncate(second, 1);
        assert_eq!(month, Some(micros("0850-06-01") / 1_000_000));
        assert_eq!(Granularity::Fraction(1_000).truncate(second, 1), Some(second));
        assert!(Granularity::from_name("decade").is_err());
        assert_eq!(Granularity::Week.truncate(i64::MIN, 1_000_000), None);
    }

    #[test]
    fn bins_of_months_start_at_their_origin() {
        let bins =
            |months, origin| TimestampBins { stride: TimestampBinWidth::Months(months), origin };
        let origin = Instant::parse("2000-01-31T06:00:00").unwrap().all_nanos();
        for (months, origin, time, expected) in [
            (1, 0, "0850-03-05", "0850-03-01"),
            (5, 0, "1969-12-31", "1969-08-01"),
            (1, origin, "0850-02-28T05:00:00", "0850-01-31T06:00:00"),
            (1, origin, "0850-02-28T07:00:00", "0850-02-28T06:00:00"),
        ] {
            let start = bins(months, origin).start(micros(time), 1_000_000);
            assert_eq!(start, Some(micros(expected)), "{time}");
        }
    }
}
