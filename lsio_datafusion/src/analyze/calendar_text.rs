//! Times as ISO text, `YYYY-MM-DDThh:mm:ss[.f]`, in calendars that SQL's timestamps don't have.

use datafusion::{common::exec_err, error::Result};
use lsio_core::dataset::calendar::{Calendar, Date};

/// A time, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TextTime {
    date: Date,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
}

impl TextTime {
    /// Reads a date, or a date and a time of day.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
        let (sign, date) = match date.strip_prefix('-') {
            Some(date) => (-1, date),
            None => (1, date),
        };
        let mut parts = date.split('-');
        let date = Date {
            year: sign * parts.next()?.parse::<i64>().ok()?,
            month: parts.next()?.parse().ok()?,
            day: parts.next()?.parse().ok()?,
        };
        let mut parts = time.split(':');
        let hour = parts.next()?.parse().ok()?;
        let minute = parts.next()?.parse().ok()?;
        let (second, fraction) = match parts.next() {
            Some(seconds) => seconds.split_once('.').unwrap_or((seconds, "")),
            None => ("0", ""),
        };
        let second = second.parse().ok()?;
        let micros: String = fraction.chars().chain("000000".chars()).take(6).collect();
        Some(Self { date, hour, minute, second, micros: micros.parse().ok()? })
    }

    /// A part of the time, named as in SQL's `date_part`; whole seconds count the fraction for
    /// `epoch` only.
    ///
    /// # Errors
    /// If the part isn't known, or means nothing in the calendar.
    pub(super) fn part(&self, part: &str, calendar: Calendar) -> Result<f64> {
        let Date { year, month, day } = self.date;
        let days_since = |from: Date| {
            let days = calendar.day_number(self.date).zip(calendar.day_number(from));
            days.map(|(day, first)| day - first)
        };
        let in_minute = self.second * 1_000_000 + self.micros;
        let value = match normal(part).as_str() {
            "year" => year,
            "quarter" => (i64::from(month) - 1) / 3 + 1,
            "month" => i64::from(month),
            "day" => i64::from(day),
            "doy" => match days_since(Date { year, month: 1, day: 1 }) {
                Some(days) => days + 1,
                None => {
                    return exec_err!(
                        "{:?} is no date of the calendar {}",
                        self.date,
                        calendar.name()
                    );
                }
            },
            "hour" => self.hour,
            "minute" => self.minute,
            "second" => self.second,
            "millisecond" => in_minute / 1_000,
            "microsecond" => in_minute,
            "epoch" => match days_since(Date { year: 1970, month: 1, day: 1 }) {
                Some(days) => {
                    let seconds = ((days * 24 + self.hour) * 60 + self.minute) * 60 + self.second;
                    return Ok(seconds as f64 + self.micros as f64 / 1e6);
                }
                None => {
                    return exec_err!(
                        "{:?} is no date of the calendar {}",
                        self.date,
                        calendar.name()
                    );
                }
            },
            other => {
                return exec_err!(
                    "date_part('{other}', …) of a time in the calendar {} isn't supported; \
                     the parts are year, quarter, month, day, doy, hour, minute, second, \
                     millisecond, microsecond and epoch",
                    calendar.name()
                );
            }
        };
        Ok(value as f64)
    }

    /// The time with everything below a unit set back, as `date_trunc` does.
    ///
    /// # Errors
    /// If the unit isn't known, or means nothing in the calendar.
    pub(super) fn truncate(mut self, unit: &str, calendar: Calendar) -> Result<Self> {
        const UNITS: [&str; 9] = [
            "microsecond",
            "millisecond",
            "second",
            "minute",
            "hour",
            "day",
            "month",
            "quarter",
            "year",
        ];
        let unit = normal(unit);
        let Some(level) = UNITS.iter().position(|u| *u == unit) else {
            return exec_err!(
                "date_trunc('{unit}', …) of a time in the calendar {} isn't supported; \
                 the units are {}",
                calendar.name(),
                UNITS.join(", ")
            );
        };
        if level >= 1 {
            self.micros -= self.micros % 1_000;
        }
        if level >= 2 {
            self.micros = 0;
        }
        if level >= 3 {
            self.second = 0;
        }
        if level >= 4 {
            self.minute = 0;
        }
        if level >= 5 {
            self.hour = 0;
        }
        if level >= 6 {
            self.date.day = 1;
        }
        if level == 7 {
            self.date.month -= (self.date.month - 1) % 3;
        }
        if level == 8 {
            self.date.month = 1;
        }
        Ok(self)
    }

    /// Writes the time as text.
    pub(super) fn write(&self, out: &mut String) {
        let seconds = (self.hour * 60 + self.minute) * 60 + self.second;
        self.date.write_iso(seconds * 1_000_000 + self.micros, out);
    }
}

/// The singular, in lower case, of the names and abbreviations that `date_part` takes.
fn normal(part: &str) -> String {
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
        part => part.strip_suffix('s').unwrap_or(part),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_truncation() {
        let time = TextTime::parse("2000-02-30T13:14:15.25").unwrap();
        let calendar = Calendar::Days360;
        for (part, value) in [
            ("YEAR", 2000.0),
            ("quarter", 1.0),
            ("months", 2.0),
            ("day", 30.0),
            ("doy", 60.0),
            ("hour", 13.0),
            ("second", 15.0),
            ("millisecond", 15_250.0),
            ("epoch", ((30.0 * 360.0 + 59.0) * 24.0 + 13.0) * 3600.0 + 14.0 * 60.0 + 15.25),
        ] {
            assert_eq!(time.part(part, calendar).unwrap(), value, "{part}");
        }
        assert!(time.part("week", calendar).is_err());
        for (unit, expected) in [
            ("year", "2000-01-01T00:00:00"),
            ("quarter", "2000-01-01T00:00:00"),
            ("month", "2000-02-01T00:00:00"),
            ("day", "2000-02-30T00:00:00"),
            ("minute", "2000-02-30T13:14:00"),
            ("millisecond", "2000-02-30T13:14:15.25"),
        ] {
            let mut out = String::new();
            time.truncate(unit, calendar).unwrap().write(&mut out);
            assert_eq!(out, expected, "{unit}");
        }
        assert!(time.truncate("week", calendar).is_err());
    }

    #[test]
    fn text_that_is_no_time() {
        for text in ["", "2000", "2000-xx-01", "2000-01-01T12", "K"] {
            assert_eq!(TextTime::parse(text), None, "{text}");
        }
    }
}
