//! Points in time of literals, in any century.

use arrow::{
    array::timezone::Tz,
    compute::kernels::cast_utils::string_to_datetime,
    datatypes::{DataType, TimeUnit},
};
use datafusion::scalar::ScalarValue;
use lsio_core::dataset::calendar::{Calendar, Date, gregorian_day};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Point in time: microseconds since 1970, and nanoseconds within the microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instant {
    micros: i64,
    nanos: i64,
}

impl Instant {
    /// Parses a text as DataFusion does, and years of other than four digits: `-0043-03-15`, `+12000-01-01`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let utc: Tz = "+00:00".parse().ok()?;
        if let Ok(time) = string_to_datetime(&utc, text) {
            return Self::new(time.timestamp(), i64::from(time.timestamp_subsec_nanos()));
        }
        let (sign, rest) = match text.split_at_checked(1)? {
            ("-", rest) => (-1, rest),
            ("+", rest) => (1, rest),
            _ => (1, text),
        };
        let (year, rest) = rest.split_once('-')?;
        if !(4..=6).contains(&year.len()) || !year.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let year = sign * year.parse::<i64>().ok()?;
        // Parses the rest in a year of the same length.
        let calendar = Calendar::ProlepticGregorian;
        let like = if calendar.is_leap(year) { 2000 } else { 2001 };
        let time = string_to_datetime(&utc, &format!("{like}-{rest}")).ok()?;
        let days = gregorian_day(year, 1, 1) - gregorian_day(like, 1, 1);
        Self::new(time.timestamp() + days * 86_400, i64::from(time.timestamp_subsec_nanos()))
    }

    /// Point in time of a literal: a text, a date, or a timestamp without a zone.
    pub(super) fn of_literal(value: &ScalarValue) -> Option<Self> {
        use ScalarValue::{
            Date32, Date64, LargeUtf8, TimestampMicrosecond, TimestampMillisecond,
            TimestampNanosecond, TimestampSecond, Utf8, Utf8View,
        };

        let micros = match value {
            Utf8(Some(text)) | LargeUtf8(Some(text)) | Utf8View(Some(text)) => {
                return Self::parse(text);
            }
            Date32(Some(days)) => i64::from(*days).checked_mul(MICROS_PER_DAY)?,
            Date64(Some(millis)) | TimestampMillisecond(Some(millis), None) => {
                millis.checked_mul(1_000)?
            }
            TimestampSecond(Some(seconds), None) => seconds.checked_mul(1_000_000)?,
            TimestampMicrosecond(Some(micros), None) => *micros,
            TimestampNanosecond(Some(nanos), None) => {
                return Some(Self {
                    micros: nanos.div_euclid(1_000),
                    nanos: nanos.rem_euclid(1_000),
                });
            }
            _ => return None,
        };
        Some(Self { micros, nanos: 0 })
    }

    fn new(seconds: i64, nanos: i64) -> Option<Self> {
        let micros = seconds.checked_mul(1_000_000)?.checked_add(nanos / 1_000)?;
        Some(Self { micros, nanos: nanos % 1_000 })
    }

    /// Microseconds since 1970; `None` if there is a remainder.
    pub(super) fn micros(self) -> Option<i64> {
        (self.nanos == 0).then_some(self.micros)
    }

    /// Nearest 64-bit number of nanoseconds since 1970: the first and the last stand for all before and
    /// after.
    pub(super) fn nearest_nanos(self) -> i64 {
        self.nanos().unwrap_or(if self.micros < 0 { i64::MIN } else { i64::MAX })
    }

    /// Nanoseconds since 1970; `None` outside the years 1677 to 2262.
    pub(super) fn nanos(self) -> Option<i64> {
        i64::try_from(self.all_nanos()).ok()
    }

    /// Nanoseconds since 1970, in any year.
    pub(super) fn all_nanos(self) -> i128 {
        i128::from(self.micros) * 1_000 + i128::from(self.nanos)
    }

    /// The label as ISO text, `YYYY-MM-DDThh:mm:ss[.f]`.
    pub(super) fn text(self) -> String {
        let mut text = String::new();
        Calendar::ProlepticGregorian
            .date(self.micros.div_euclid(MICROS_PER_DAY))
            .write_iso(self.micros.rem_euclid(MICROS_PER_DAY), &mut text);
        text
    }
}

/// Number of units in a second.
pub(super) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Unit of a timestamp without a zone, if its range exceeds the years 1677 to 2262.
pub(super) fn coarse_unit(data_type: &DataType) -> Option<TimeUnit> {
    match data_type {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => None,
        DataType::Timestamp(unit, None) => Some(*unit),
        _ => None,
    }
}

/// Adds months to a date; the day is at most the month's last.
pub(super) fn add_months(date: Date, months: i64) -> Date {
    let month = date.year * 12 + i64::from(date.month) - 1 + months;
    let year = month.div_euclid(12);
    let month = u8::try_from(month.rem_euclid(12) + 1).unwrap_or(1);
    let last = Calendar::ProlepticGregorian.days_in_month(year, month);
    Date { year, month, day: date.day.min(last) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, again) in [
            ("0850-01-01", "0850-01-01T00:00:00"),
            ("9999-12-31 10:00:00.25", "9999-12-31T10:00:00.25"),
            ("2263-01-01T00:00:00+01:00", "2262-12-31T23:00:00"),
            ("-0043-03-15T12:00:00", "-0043-03-15T12:00:00"),
            ("+12000-02-29", "12000-02-29T00:00:00"),
            ("0000-02-29", "0000-02-29T00:00:00"),
        ] {
            assert_eq!(Instant::parse(text).unwrap().text(), again, "{text}");
        }
        for text in ["0850", "x", "", "é", "2001-02-29", "12001-02-29", "1-1-1", "-43-03-15"] {
            assert_eq!(Instant::parse(text), None, "{text}");
        }
    }

    #[test]
    fn units() {
        let fine = Instant::parse("1969-12-31T23:59:59.999999999").unwrap();
        assert_eq!((fine.micros(), fine.nanos()), (None, Some(-1)));
        let far = Instant::parse("2263-01-01").unwrap();
        assert_eq!((far.micros(), far.nanos()), (Some(9_246_182_400_000_000), None));
        assert_eq!(far.nearest_nanos(), i64::MAX);
        assert_eq!(
            Instant::of_literal(&ScalarValue::TimestampNanosecond(Some(-1), None)),
            Some(fine)
        );
        let date = Date { year: 1999, month: 12, day: 31 };
        assert_eq!(add_months(date, 2), Date { year: 2000, month: 2, day: 29 });
        assert_eq!(add_months(date, -1), Date { year: 1999, month: 11, day: 30 });
    }
}
