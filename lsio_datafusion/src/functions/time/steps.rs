//! Calendar arithmetic: truncation, intervals, bins and differences.

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::common::{Result, exec_err, plan_datafusion_err};
use lsio_core::dataset::calendar::{Calendar, Date};

use super::{
    civil::{CivilTime, DAY},
    part::normal,
};

/// Unit to which times are truncated, and in which differences are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unit {
    /// Nanoseconds, less than a day.
    Nanos(i64),
    Day,
    /// Weeks from Monday.
    Week,
    Months(i64),
}

impl Unit {
    /// Finds a unit by its name, in any case, singular or plural.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn from_name(name: &str) -> Result<Self> {
        Ok(match normal(name).as_str() {
            "nanosecond" => Self::Nanos(1),
            "microsecond" => Self::Nanos(1_000),
            "millisecond" => Self::Nanos(1_000_000),
            "second" => Self::Nanos(1_000_000_000),
            "minute" => Self::Nanos(60_000_000_000),
            "hour" => Self::Nanos(3_600_000_000_000),
            "day" | "dayofyear" | "doy" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Months(1),
            "quarter" => Self::Months(3),
            "year" => Self::Months(12),
            "decade" => Self::Months(120),
            "century" | "centurie" => Self::Months(1_200),
            "millennium" | "millenium" => Self::Months(12_000),
            other => {
                return Err(plan_datafusion_err!(
                    "'{other}' is no unit of time; the units are microsecond, millisecond, \
                     second, minute, hour, day, week, month, quarter, year, decade, century and \
                     millennium"
                ));
            }
        })
    }

    /// Start of the unit that contains a time.
    pub(crate) fn truncate(self, time: &CivilTime, calendar: Calendar) -> Option<CivilTime> {
        let Date { year, month, .. } = time.date;
        let midnight = |date: Date| CivilTime { date, nanos: 0, ..*time };
        Some(match self {
            Self::Nanos(unit) => CivilTime { nanos: time.nanos - time.nanos % unit, ..*time },
            Self::Day => midnight(time.date),
            Self::Week => {
                let monday = calendar.day_number(time.date)? - time.weekday(calendar)?;
                midnight(calendar.date(monday))
            }
            Self::Months(months @ 1..=11) => {
                let back = u8::try_from((i64::from(month) - 1) % months).ok()?;
                midnight(Date { month: month - back, day: 1, ..time.date })
            }
            Self::Months(months) => {
                let years = months / 12;
                // A century starts with its year 0, as in DuckDB.
                midnight(Date { year: year - year.rem_euclid(years), month: 1, day: 1 })
            }
        })
    }

    /// Number of unit boundaries between two times, as of DuckDB's `date_diff`.
    pub(crate) fn boundaries(
        self,
        from: &CivilTime,
        to: &CivilTime,
        calendar: Calendar,
    ) -> Option<i64> {
        let count = |time: &CivilTime| {
            Some(match self {
                Self::Nanos(unit) => {
                    i64::try_from(time.nanos(calendar)?.div_euclid(unit.into())).ok()?
                }
                Self::Day => time.day(calendar)?,
                Self::Week => {
                    let monday = calendar.day_number(time.date)? - time.weekday(calendar)?;
                    monday.div_euclid(7)
                }
                // DuckDB rounds towards the year 0.
                Self::Months(months) if months > 12 => year0(time.date, calendar) / (months / 12),
                Self::Months(months) => month_count(time.date, calendar).div_euclid(months),
            })
        };
        count(to)?.checked_sub(count(from)?)
    }

    /// Number of whole units between two times, as of DuckDB's `date_sub`.
    pub(crate) fn complete(
        self,
        from: &CivilTime,
        to: &CivilTime,
        calendar: Calendar,
    ) -> Option<i64> {
        let nanos =
            |unit: i128| i64::try_from((to.nanos(calendar)? - from.nanos(calendar)?) / unit).ok();
        match self {
            Self::Nanos(unit) => nanos(unit.into()),
            Self::Day => nanos(DAY.into()),
            Self::Week => nanos(7 * i128::from(DAY)),
            Self::Months(months) => {
                let (from_nanos, to_nanos) = (from.nanos(calendar)?, to.nanos(calendar)?);
                let mut count = month_count(to.date, calendar) - month_count(from.date, calendar);
                let reached = CivilTime { date: add_months(from.date, count, calendar), ..*from };
                let reached = reached.nanos(calendar)?;
                if count > 0 && reached > to_nanos {
                    count -= 1;
                } else if count < 0 && reached < to_nanos {
                    count += 1;
                }
                debug_assert!((to_nanos >= from_nanos) || count <= 0);
                Some(count / months)
            }
        }
    }
}

/// Adds an interval to a time: months first, at most to the month's last day, then days, then the rest.
pub(crate) fn shift(
    time: &CivilTime,
    interval: IntervalMonthDayNano,
    calendar: Calendar,
) -> Option<CivilTime> {
    let IntervalMonthDayNano { months, days, nanoseconds } = interval;
    // A date that the calendar lacks is an error.
    calendar.day_number(time.date)?;
    let date = add_months(time.date, months.into(), calendar);
    let nanos = CivilTime { date, ..*time }.nanos(calendar)?
        + i128::from(days) * i128::from(DAY)
        + i128::from(nanoseconds);
    Some(CivilTime { offset: time.offset, ..CivilTime::from_nanos(nanos, calendar)? })
}

/// Bins of `date_bin` and `time_bucket`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CalendarBins {
    stride: CalendarBinWidth,
    origin: CivilTime,
    calendar: Calendar,
}

#[derive(Clone, Copy, Debug)]
enum CalendarBinWidth {
    Nanos(i128),
    Months(i64),
}

impl CalendarBins {
    /// Bins of an interval's width, one of which starts at `origin`.
    ///
    /// # Errors
    /// If the interval isn't positive, or mixes months with days.
    pub(crate) fn new(
        stride: IntervalMonthDayNano,
        origin: CivilTime,
        calendar: Calendar,
    ) -> Result<Self> {
        let IntervalMonthDayNano { months, days, nanoseconds } = stride;
        let nanos = i128::from(days) * i128::from(DAY) + i128::from(nanoseconds);
        let stride = match (months, nanos) {
            (0, nanos) if nanos > 0 => CalendarBinWidth::Nanos(nanos),
            (months, 0) if months > 0 => CalendarBinWidth::Months(months.into()),
            (0, _) | (_, 0) => return exec_err!("the width of bins of time must be positive"),
            _ => {
                return exec_err!(
                    "the width of bins of time must be of months, or of days and shorter units"
                );
            }
        };
        Ok(Self { stride, origin, calendar })
    }

    /// Start of the bin that contains a time.
    pub(crate) fn start(&self, time: &CivilTime) -> Option<CivilTime> {
        let calendar = self.calendar;
        let nanos = time.nanos(calendar)?;
        let start = match self.stride {
            CalendarBinWidth::Nanos(stride) => {
                let origin = self.origin.nanos(calendar)?;
                nanos - (nanos - origin).rem_euclid(stride)
            }
            CalendarBinWidth::Months(stride) => {
                let origin = self.origin;
                let months = month_count(time.date, calendar) - month_count(origin.date, calendar);
                let shifted = |months: i64| {
                    let date = add_months(origin.date, months, calendar);
                    CivilTime { date, ..origin }.nanos(calendar)
                };
                let whole = months - months.rem_euclid(stride);
                // The origin may lie later in its month.
                let start = shifted(whole)?;
                if start > nanos { shifted(whole - stride)? } else { start }
            }
        };
        Some(CivilTime { offset: time.offset, ..CivilTime::from_nanos(start, calendar)? })
    }
}

/// Last day of a date's month.
pub(crate) fn last_day(date: Date, calendar: Calendar) -> Date {
    Date { day: calendar.days_in_month(date.year, date.month), ..date }
}

/// Adds months to a date; the day is at most the month's last.
pub(crate) fn add_months(date: Date, months: i64, calendar: Calendar) -> Date {
    if months == 0 {
        return date;
    }
    let count = month_count(date, calendar).saturating_add(months);
    let year0 = count.div_euclid(12);
    let year = if year0 <= 0 && !calendar.has_year_zero() { year0 - 1 } else { year0 };
    let month = u8::try_from(count.rem_euclid(12) + 1).unwrap_or(1);
    Date { year, month, day: date.day.min(calendar.days_in_month(year, month)) }
}

/// Months since the year 0.
fn month_count(date: Date, calendar: Calendar) -> i64 {
    year0(date, calendar) * 12 + i64::from(date.month) - 1
}

/// Year of a count with a year 0, also where the calendar has none.
fn year0(date: Date, calendar: Calendar) -> i64 {
    date.year + i64::from(date.year < 0 && !calendar.has_year_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> CivilTime {
        CivilTime::parse(text).unwrap()
    }

    fn interval(months: i32, days: i32, nanos: i64) -> IntervalMonthDayNano {
        IntervalMonthDayNano::new(months, days, nanos)
    }

    #[test]
    fn intervals_count_the_calendars_days() {
        for (calendar, from, step, to) in [
            (Calendar::NoLeap, "2000-02-28T12", interval(0, 1, 0), "2000-03-01T12:00:00"),
            (Calendar::AllLeap, "2001-02-28", interval(0, 1, 0), "2001-02-29T00:00:00"),
            (Calendar::Days360, "2000-01-30", interval(1, 0, 0), "2000-02-30T00:00:00"),
            (Calendar::Days360, "2000-02-30", interval(0, 1, 0), "2000-03-01T00:00:00"),
            (Calendar::NoLeap, "2000-03-31", interval(-1, 0, 0), "2000-02-28T00:00:00"),
            (Calendar::Julian, "1900-02-28", interval(0, 1, 0), "1900-02-29T00:00:00"),
            (Calendar::Julian, "0001-01-31", interval(-1, 0, 0), "-0001-12-31T00:00:00"),
            (Calendar::NoLeap, "2000-01-01", interval(0, 0, -1_000), "1999-12-31T23:59:59.999999"),
        ] {
            assert_eq!(shift(&time(from), step, calendar).unwrap().text(), to, "{calendar:?}");
        }
        assert_eq!(shift(&time("2000-02-29"), interval(1, 0, 0), Calendar::NoLeap), None);
    }

    #[test]
    fn bins_and_units() {
        let calendar = Calendar::NoLeap;
        let start = |stride, origin, at: &str| {
            let bins = CalendarBins::new(stride, time(origin), calendar).unwrap();
            bins.start(&time(at)).unwrap().text()
        };
        // 73 bins of five days are a year.
        assert_eq!(start(interval(0, 5, 0), "1970-01-01", "2000-03-01"), "2000-02-25T00:00:00");
        assert_eq!(start(interval(0, 5, 0), "1970-01-01", "2000-03-02"), "2000-03-02T00:00:00");
        assert_eq!(start(interval(5, 0, 0), "1970-01-01", "1969-12-31"), "1969-08-01T00:00:00");
        assert_eq!(
            start(interval(1, 0, 0), "2000-01-31T06", "0850-02-28T05"),
            "0850-01-31T06:00:00"
        );
        assert!(CalendarBins::new(interval(1, 1, 0), time("1970-01-01"), calendar).is_err());
        assert!(CalendarBins::new(interval(0, -1, 0), time("1970-01-01"), calendar).is_err());
        for (unit, expected) in [
            // cftime: the 26th is a Monday there.
            ("week", "2000-02-26T00:00:00"),
            ("quarter", "2000-01-01T00:00:00"),
            ("decade", "2000-01-01T00:00:00"),
            ("minute", "2000-02-30T13:14:00"),
        ] {
            let unit = Unit::from_name(unit).unwrap();
            let cut = unit.truncate(&time("2000-02-30T13:14:15.25"), Calendar::Days360).unwrap();
            assert_eq!(cut.text(), expected, "{unit:?}");
        }
    }

    /// As DuckDB counts, where it knows the calendar.
    #[test]
    fn differences() {
        let gregorian = Calendar::ProlepticGregorian;
        for (unit, from, to, boundaries, complete) in [
            ("day", "2020-01-01T23", "2020-01-02T01", 1, 0),
            ("month", "2020-01-31", "2020-02-29", 1, 1),
            ("month", "2020-03-31", "2020-02-29", -1, -1),
            ("month", "2020-02-29T12", "2020-01-31", -1, 0),
            ("week", "2020-01-05", "2020-01-06", 1, 0),
            ("decade", "2019-01-05", "2020-01-06", 1, 0),
            ("quarter", "2019-01-05", "2020-01-06", 4, 4),
            ("hour", "2020-01-01T00:59", "2020-01-01T01:01", 1, 0),
        ] {
            let unit = Unit::from_name(unit).unwrap();
            let (from, to) = (time(from), time(to));
            assert_eq!(unit.boundaries(&from, &to, gregorian), Some(boundaries), "{unit:?}");
            assert_eq!(unit.complete(&from, &to, gregorian), Some(complete), "{unit:?}");
        }
        let (from, to) = (time("2000-02-28"), time("2000-03-01"));
        assert_eq!(Unit::Day.boundaries(&from, &to, Calendar::NoLeap), Some(1));
        assert_eq!(Unit::Day.boundaries(&from, &to, Calendar::Days360), Some(3));
    }
}
