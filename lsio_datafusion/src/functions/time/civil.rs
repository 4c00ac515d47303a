//! Civil time: a date of a calendar and a time of day.

use lsio_core::dataset::calendar::{Calendar, Date};

/// Nanoseconds in a day.
pub(crate) const DAY: i64 = 86_400_000_000_000;

/// A date of some calendar and a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CivilTime {
    pub date: Date,
    /// Nanoseconds since midnight.
    pub nanos: i64,
    /// Offset from UTC in seconds, positive in the east; 0 without a time zone.
    pub offset: i64,
}

/// Finest part that a time's text spells out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Precision {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

impl CivilTime {
    /// Midnight of a date.
    pub(crate) fn midnight(year: i64, month: u8, day: u8) -> Self {
        Self { date: Date { year, month, day }, nanos: 0, offset: 0 }
    }

    /// Parses `YYYY-MM-DD[{T| }hh[:mm[:ss[.f]]]]`. Whether the date exists depends on the calendar.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::parse_partial(text).filter(|(_, last)| *last >= Precision::Day).map(|(time, _)| time)
    }

    /// Parses the same, and `YYYY-MM` and `YYYY` as their first moment.
    pub(crate) fn parse_partial(text: &str) -> Option<(Self, Precision)> {
        let (date, time) = match text.split_once(['T', ' ']) {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let (sign, date) = match date.split_at_checked(1)? {
            ("-", date) => (-1, date),
            ("+", date) => (1, date),
            _ => (1, date),
        };
        let mut parts = date.split('-');
        let year = parts.next()?;
        if !(4..=7).contains(&year.len()) {
            return None;
        }
        let year = sign * digits(year)?;
        let (month, day) = (parts.next(), parts.next());
        let precision = match (month, day) {
            (None, _) => Precision::Year,
            (_, None) => Precision::Month,
            _ => Precision::Day,
        };
        let number = |part: Option<&str>, last: i64| match part {
            None => Some(1),
            Some(part) if part.len() > 2 => None,
            Some(part) => digits(part)
                .filter(|n| (1..=last).contains(n))
                .and_then(|number| u8::try_from(number).ok()),
        };
        let date = Date { year, month: number(month, 12)?, day: number(day, 31)? };
        if parts.next().is_some() || (time.is_some() && precision < Precision::Day) {
            return None;
        }
        let (nanos, precision) = match time {
            Some(time) => parse_time_of_day(time)?,
            None => (0, precision),
        };
        Some((Self { date, nanos, offset: 0 }, precision))
    }

    /// Converts nanoseconds since the calendar's 1970-01-01.
    pub(crate) fn from_nanos(nanos: i128, calendar: Calendar) -> Option<Self> {
        let day = i64::try_from(nanos.div_euclid(DAY.into())).ok()?;
        let in_day = i64::try_from(nanos.rem_euclid(DAY.into())).ok()?;
        let day = day.checked_add(epoch(calendar))?;
        // Calendars count such days in 64 bits.
        if day.unsigned_abs() > 3_660_000_000 {
            return None;
        }
        Some(Self { date: calendar.date(day), nanos: in_day, offset: 0 })
    }

    /// Nanoseconds since the calendar's 1970-01-01; `None` if it lacks the date.
    pub(crate) fn nanos(&self, calendar: Calendar) -> Option<i128> {
        Some(i128::from(self.day(calendar)?) * i128::from(DAY) + i128::from(self.nanos))
    }

    /// Days since the calendar's 1970-01-01; `None` if it lacks the date.
    pub(crate) fn day(&self, calendar: Calendar) -> Option<i64> {
        Some(calendar.day_number(self.date)? - epoch(calendar))
    }

    /// Day of the year, from 1.
    pub(crate) fn day_of_year(&self, calendar: Calendar) -> Option<i64> {
        let first = calendar.day_number(Date { month: 1, day: 1, ..self.date })?;
        Some(calendar.day_number(self.date)? - first + 1)
    }

    /// Day of the week: 0 is Monday. In calendars of models as cftime counts it.
    pub(crate) fn weekday(&self, calendar: Calendar) -> Option<i64> {
        let first = match calendar {
            Calendar::AllLeap => 6,
            Calendar::Days360 => 2,
            _ => 3,
        };
        Some((calendar.day_number(self.date)? + first).rem_euclid(7))
    }

    /// Writes the time as ISO text, to the microsecond.
    pub(crate) fn write(&self, out: &mut String) {
        self.date.write_iso(self.nanos / 1_000, out);
    }

    /// The time as ISO text, to the microsecond.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }
}

/// Day number of 1970-01-01 in a calendar.
fn epoch(calendar: Calendar) -> i64 {
    calendar.day_number(Date { year: 1970, month: 1, day: 1 }).unwrap_or(0)
}

/// Nanoseconds of `hh[:mm[:ss[.f]]]`.
fn parse_time_of_day(text: &str) -> Option<(i64, Precision)> {
    let mut parts = text.split(':');
    let two = |part: &str| digits(part).filter(|_| part.len() == 2);
    let hour = two(parts.next()?).filter(|hour| *hour < 24)?;
    let mut nanos = hour * 3_600_000_000_000;
    let mut precision = Precision::Hour;
    if let Some(minute) = parts.next() {
        nanos += two(minute).filter(|minute| *minute < 60)? * 60_000_000_000;
        precision = Precision::Minute;
    }
    if let Some(seconds) = parts.next() {
        let (second, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
        nanos += two(second).filter(|second| *second < 60)? * 1_000_000_000;
        if fraction.is_empty() || fraction.len() > 9 {
            return None;
        }
        nanos += digits(&format!("{fraction:0<9}"))?;
        precision = Precision::Second;
    }
    if parts.next().is_some() {
        return None;
    }
    Some((nanos, precision))
}

/// Parses a number that has digits only.
fn digits(text: &str) -> Option<i64> {
    let valid = !text.is_empty() && text.len() < 18 && text.bytes().all(|b| b.is_ascii_digit());
    if valid { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_any_precision() {
        for (text, expected, precision) in [
            ("2020", "2020-01-01T00:00:00", Precision::Year),
            ("2020-02", "2020-02-01T00:00:00", Precision::Month),
            ("2020-2-3", "2020-02-03T00:00:00", Precision::Day),
            ("2020-02-03 05", "2020-02-03T05:00:00", Precision::Hour),
            ("2020-02-03T05:06", "2020-02-03T05:06:00", Precision::Minute),
            ("2020-02-30T05:06:07.5", "2020-02-30T05:06:07.5", Precision::Second),
            ("-0043-03-15", "-0043-03-15T00:00:00", Precision::Day),
            ("+12000-01", "12000-01-01T00:00:00", Precision::Month),
        ] {
            let (time, last) = CivilTime::parse_partial(text).unwrap();
            assert_eq!((time.text().as_str(), last), (expected, precision), "{text}");
        }
        for text in [
            "",
            "-",
            "K",
            "20",
            "2020-13",
            "2020-00",
            "2020-02-32",
            "2020-02T05",
            "2000-xx-01",
            "2020-02-03T",
            "2020-02-03T24",
            "2020-02-03T5",
            "2020-02-03T05:60",
            "2020-1-1-1",
            "2020-02-03T05:06:07.",
            "2020-02-03T05:06:07:08",
            "2020-02-03T05:06:07Z",
            "é",
        ] {
            assert_eq!(CivilTime::parse_partial(text), None, "{text}");
        }
        assert_eq!(CivilTime::parse("2020-02"), None);
    }

    #[test]
    fn days_are_counted_in_the_calendar() {
        for (calendar, days) in [
            (Calendar::NoLeap, 30 * 365 + 59),
            (Calendar::AllLeap, 30 * 366 + 60),
            (Calendar::Days360, 30 * 360 + 60),
            (Calendar::ProlepticGregorian, 11_017),
            (Calendar::Julian, 11_017),
        ] {
            let time = CivilTime::parse("2000-03-01T12").unwrap();
            assert_eq!(time.day(calendar), Some(days), "{calendar:?}");
            let back = time.nanos(calendar).and_then(|n| CivilTime::from_nanos(n, calendar));
            assert_eq!(back, Some(time), "{calendar:?}");
        }
        assert_eq!(CivilTime::midnight(2000, 2, 29).day(Calendar::NoLeap), None);
        assert_eq!(CivilTime::from_nanos(i128::MAX, Calendar::NoLeap), None);
    }
}
