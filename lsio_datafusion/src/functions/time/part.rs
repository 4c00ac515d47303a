//! Parts of a time, as of `date_part` and `year(t)`.

use datafusion::common::{Result, exec_datafusion_err, plan_datafusion_err};
use lsio_core::dataset::calendar::{Calendar, Date};

use super::civil::CivilTime;

/// Part of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TimePart {
    Millennium,
    Century,
    Decade,
    Era,
    Year,
    Quarter,
    Month,
    IsoYear,
    YearWeek,
    Week,
    Day,
    DayOfYear,
    /// Day of the week, from 0 for Sunday.
    DayOfWeek,
    /// Day of the week, from 1 for Monday.
    IsoDayOfWeek,
    Hour,
    Minute,
    Second,
    /// Milliseconds of the minute, as are the next two.
    Millisecond,
    Microsecond,
    Nanosecond,
    /// Seconds since 1970, with their fraction.
    Epoch,
    EpochMillis,
    EpochMicros,
    EpochNanos,
}

impl TimePart {
    /// Finds a part by its name, in any case, singular or plural.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn from_name(name: &str) -> Result<Self> {
        Ok(match normal(name).as_str() {
            "millennium" | "millenium" | "mil" => Self::Millennium,
            "century" | "centurie" | "cent" | "c" => Self::Century,
            "decade" | "dec" => Self::Decade,
            "era" => Self::Era,
            "year" => Self::Year,
            "quarter" => Self::Quarter,
            "month" => Self::Month,
            "isoyear" => Self::IsoYear,
            "yearweek" => Self::YearWeek,
            "week" | "weekofyear" | "w" => Self::Week,
            "day" | "dayofmonth" => Self::Day,
            "doy" | "dayofyear" => Self::DayOfYear,
            "dow" | "dayofweek" | "weekday" => Self::DayOfWeek,
            "isodow" => Self::IsoDayOfWeek,
            "hour" => Self::Hour,
            "minute" => Self::Minute,
            "second" => Self::Second,
            "millisecond" => Self::Millisecond,
            "microsecond" => Self::Microsecond,
            "nanosecond" => Self::Nanosecond,
            "epoch" => Self::Epoch,
            other => {
                return Err(plan_datafusion_err!(
                    "'{other}' is no part of a time; the parts are millennium, century, decade, \
                     year, quarter, month, isoyear, week, day, doy, dow, isodow, hour, minute, \
                     second, millisecond, microsecond, nanosecond and epoch"
                ));
            }
        })
    }

    /// Computes the part of a time in a calendar. [`TimePart::Epoch`] gives whole seconds.
    ///
    /// # Errors
    /// If the calendar lacks the date.
    pub(crate) fn of(self, time: &CivilTime, calendar: Calendar) -> Result<i64> {
        let none = || no_date(time, calendar);
        let Date { year, month, day } = time.date;
        let in_minute = time.nanos % 60_000_000_000;
        let since_epoch = |unit: i128| {
            let utc = time.nanos(calendar)? - i128::from(time.offset) * 1_000_000_000;
            i64::try_from(utc.div_euclid(unit)).ok()
        };
        Ok(match self {
            Self::Millennium => centuries(year, 1_000),
            Self::Century => centuries(year, 100),
            Self::Decade => year / 10,
            Self::Era => i64::from(year > 0),
            Self::Year => year,
            Self::Quarter => (i64::from(month) - 1) / 3 + 1,
            Self::Month => month.into(),
            Self::IsoYear => iso_week(time, calendar).ok_or_else(none)?.year,
            Self::YearWeek => {
                let IsoWeek { year, week } = iso_week(time, calendar).ok_or_else(none)?;
                year * 100 + if year < 0 { -week } else { week }
            }
            Self::Week => iso_week(time, calendar).ok_or_else(none)?.week,
            Self::Day => day.into(),
            Self::DayOfYear => time.day_of_year(calendar).ok_or_else(none)?,
            Self::DayOfWeek => (time.weekday(calendar).ok_or_else(none)? + 1) % 7,
            Self::IsoDayOfWeek => time.weekday(calendar).ok_or_else(none)? + 1,
            Self::Hour => time.nanos / 3_600_000_000_000,
            Self::Minute => time.nanos / 60_000_000_000 % 60,
            Self::Second => in_minute / 1_000_000_000,
            Self::Millisecond => in_minute / 1_000_000,
            Self::Microsecond => in_minute / 1_000,
            Self::Nanosecond => in_minute,
            Self::Epoch => since_epoch(1_000_000_000).ok_or_else(none)?,
            Self::EpochMillis => since_epoch(1_000_000).ok_or_else(none)?,
            Self::EpochMicros => since_epoch(1_000).ok_or_else(none)?,
            Self::EpochNanos => since_epoch(1).ok_or_else(|| {
                exec_datafusion_err!("{} is too far from 1970 for nanoseconds", time.text())
            })?,
        })
    }

    /// Seconds since the calendar's 1970-01-01, with their fraction.
    ///
    /// # Errors
    /// If the calendar lacks the date.
    pub(crate) fn epoch(time: &CivilTime, calendar: Calendar) -> Result<f64> {
        let whole = Self::Epoch.of(time, calendar)?;
        Ok(whole as f64 + (time.nanos % 1_000_000_000) as f64 / 1e9)
    }

    /// Nanoseconds in a duration's part; `None` for parts that durations lack.
    pub(crate) fn duration_nanos(self) -> Option<i64> {
        Some(match self {
            Self::Week => 7 * 86_400_000_000_000,
            Self::Day => 86_400_000_000_000,
            Self::Hour => 3_600_000_000_000,
            Self::Minute => 60_000_000_000,
            Self::Second => 1_000_000_000,
            Self::Millisecond | Self::EpochMillis => 1_000_000,
            Self::Microsecond | Self::EpochMicros => 1_000,
            Self::Nanosecond | Self::EpochNanos => 1,
            _ => return None,
        })
    }
}

/// Error of a date that a calendar lacks.
pub(crate) fn no_date(time: &CivilTime, calendar: Calendar) -> datafusion::error::DataFusionError {
    exec_datafusion_err!("{} is no date of the calendar {}", time.text(), calendar.name())
}

/// Century or millennium of a year, the first starting with the year 1, as in DuckDB.
fn centuries(year: i64, length: i64) -> i64 {
    if year > 0 { (year - 1) / length + 1 } else { year / length - 1 }
}

/// Week of an ISO year, which is the year of the week's Thursday.
struct IsoWeek {
    year: i64,
    week: i64,
}

fn iso_week(time: &CivilTime, calendar: Calendar) -> Option<IsoWeek> {
    let thursday = calendar.day_number(time.date)? - time.weekday(calendar)? + 3;
    let thursday = CivilTime { date: calendar.date(thursday), ..*time };
    let week = (thursday.day_of_year(calendar)? - 1) / 7 + 1;
    Some(IsoWeek { year: thursday.date.year, week })
}

/// Normalises names and abbreviations of parts: singular, in lower case.
pub(crate) fn normal(part: &str) -> String {
    let part = part.trim_matches(['\'', '"']).to_ascii_lowercase();
    match part.as_str() {
        "y" | "yr" | "yrs" => "year",
        "qtr" | "qtrs" => "quarter",
        "mon" | "mons" => "month",
        "d" => "day",
        "h" | "hr" | "hrs" => "hour",
        "m" | "min" | "mins" => "minute",
        "s" | "sec" | "secs" => "second",
        "ms" | "msec" | "msecs" => "millisecond",
        "us" | "usec" | "usecs" => "microsecond",
        "ns" | "nsec" | "nsecs" => "nanosecond",
        part => part.strip_suffix('s').unwrap_or(part),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_calendars_time() {
        let time = CivilTime::parse("2000-02-30T13:14:15.25").unwrap();
        let calendar = Calendar::Days360;
        for (part, value) in [
            ("YEAR", 2000),
            ("quarter", 1),
            ("months", 2),
            ("day", 30),
            ("doy", 60),
            ("hour", 13),
            ("second", 15),
            ("millisecond", 15_250),
            ("century", 20),
            ("decade", 200),
        ] {
            let part = TimePart::from_name(part).unwrap();
            assert_eq!(part.of(&time, calendar).unwrap(), value, "{part:?}");
        }
        let seconds = ((30.0 * 360.0 + 59.0) * 24.0 + 13.0) * 3600.0 + 14.0 * 60.0 + 15.25;
        assert_eq!(TimePart::epoch(&time, calendar).unwrap(), seconds);
        assert!(TimePart::DayOfYear.of(&time, Calendar::NoLeap).is_err());
        assert!(TimePart::from_name("fortnight").is_err());
    }

    /// As DuckDB has them.
    #[test]
    fn weeks_and_centuries() {
        for (time, week, year, century, weekday) in [
            ("2020-01-05", 1, 2020, 21, 0),
            ("2020-12-31", 53, 2020, 21, 4),
            ("2021-01-03", 53, 2020, 21, 0),
            ("2000-01-05", 1, 2000, 20, 3),
        ] {
            let time = CivilTime::parse(time).unwrap();
            let of = |part: TimePart| part.of(&time, Calendar::ProlepticGregorian).unwrap();
            assert_eq!(
                (
                    of(TimePart::Week),
                    of(TimePart::IsoYear),
                    of(TimePart::Century),
                    of(TimePart::DayOfWeek)
                ),
                (week, year, century, weekday),
                "{time:?}"
            );
        }
        assert_eq!((centuries(-5, 100), centuries(1, 100), centuries(2000, 1_000)), (-1, 1, 2));
    }
}
