//! Times by the CF conventions (section 4.4): numbers of a unit since a reference date in a calendar.

use arrow::datatypes::TimeUnit;

use super::calendar::{Calendar, Date, gregorian_day};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The unit and origin of a time variable: `<unit> since <reference>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeUnits {
    calendar: Calendar,
    unit_nanos: i64,
    /// The reference instant in microseconds since the calendar's day 0, rounded down.
    reference: i64,
    /// The nanoseconds of the reference instant beyond whole microseconds.
    reference_nanos: i64,
}

impl TimeUnits {
    /// Parses a `units` attribute such as `hours since 1900-01-01 00:00:00`. `None` if the text is malformed, or if the
    /// reference date doesn't exist in the calendar.
    #[must_use]
    pub(super) fn parse(units: &str, calendar: Calendar) -> Option<Self> {
        let (unit, rest) = units.trim().split_once(char::is_whitespace)?;
        let (since, reference) = rest.trim_start().split_once(char::is_whitespace)?;
        if !since.eq_ignore_ascii_case("since") {
            return None;
        }
        let unit_nanos = match duration_unit(unit) {
            Some(nanos) => nanos,
            None => calendar_unit(unit, calendar)?,
        };
        let reference_nanos = nanos_beyond_micros(reference);
        let reference = parse_instant(reference.trim(), calendar)?;
        Some(Self { calendar, unit_nanos, reference, reference_nanos })
    }

    /// Units of numpy's datetime64: since 1970-01-01, proleptic Gregorian.
    #[must_use]
    pub(super) fn since_1970(unit: TimeUnit) -> Self {
        let unit_nanos = match unit {
            TimeUnit::Second => 1_000_000_000,
            TimeUnit::Millisecond => 1_000_000,
            TimeUnit::Microsecond => 1_000,
            TimeUnit::Nanosecond => 1,
        };
        let calendar = Calendar::ProlepticGregorian;
        Self { calendar, unit_nanos, reference: 0, reference_nanos: 0 }
    }

    /// The instant of a stored integer, in microseconds since the calendar's day 0, rounded down. `None` if out of
    /// range.
    #[must_use]
    pub(super) fn instant_from_i64(&self, value: i64) -> Option<i64> {
        let nanos = i128::from(value) * i128::from(self.unit_nanos);
        let micros = (nanos + i128::from(self.reference_nanos)).div_euclid(1_000);
        i64::try_from(micros + i128::from(self.reference)).ok()
    }

    /// The instant of a stored float, in microseconds since the calendar's day 0. `None` for NaN or if out of range.
    ///
    /// Rounds as cftime does: to the nearest microsecond, halves to even. In units of a second or longer, an instant
    /// that would round to a microsecond beside a whole second rounds towards the second: the difference is the error
    /// of a float such as 0.1.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked before")]
    pub(super) fn instant_from_f64(&self, value: f64) -> Option<i64> {
        // Whole units and the rest are converted separately: their sum in f64 would lose microseconds.
        let whole = value.trunc();
        if value.is_nan() || whole.abs() >= 9.0e18 {
            return None;
        }
        let nanos = i128::from(whole as i64) * i128::from(self.unit_nanos);
        let nanos = nanos + i128::from(self.reference_nanos);
        let rest = nanos.rem_euclid(1_000) as f64 + (value - whole) * self.unit_nanos as f64;
        let rest = rest / 1_000.0;
        let floor = nanos.div_euclid(1_000) + rest.floor() as i128;
        let fraction = rest - rest.floor();
        let ceil = floor + i128::from(fraction > 0.0);
        let is_up = fraction > 0.5 || (fraction == 0.5 && floor % 2 != 0);
        let nearest = if is_up { ceil } else { floor };
        let micros = match nearest.rem_euclid(1_000_000) {
            1 if self.unit_nanos >= 1_000_000_000 => floor,
            999_999 if self.unit_nanos >= 1_000_000_000 => ceil,
            _ => nearest,
        };
        i64::try_from(micros + i128::from(self.reference)).ok()
    }

    /// The SQL timestamp with the same label as the instant, in microseconds since 1970-01-01. `None` if the label
    /// doesn't exist in the proleptic Gregorian calendar, as 29 February 1500 of the Julian calendar.
    #[must_use]
    pub(super) fn timestamp(&self, instant: i64) -> Option<i64> {
        let day = instant.div_euclid(MICROS_PER_DAY);
        let in_day = instant.rem_euclid(MICROS_PER_DAY);
        if self.calendar == Calendar::ProlepticGregorian {
            return Some(instant);
        }
        let date = self.calendar.date(day);
        if date.day > Calendar::ProlepticGregorian.days_in_month(date.year, date.month) {
            return None;
        }
        gregorian_day(date.year, date.month, date.day)
            .checked_mul(MICROS_PER_DAY)?
            .checked_add(in_day)
    }

    /// Appends the instant as ISO text, `YYYY-MM-DDThh:mm:ss[.f]`.
    pub(super) fn write_text(&self, instant: i64, out: &mut String) {
        let date = self.calendar.date(instant.div_euclid(MICROS_PER_DAY));
        date.write_iso(instant.rem_euclid(MICROS_PER_DAY), out);
    }

    /// The calendar.
    #[must_use]
    pub(super) fn calendar(&self) -> Calendar {
        self.calendar
    }
}

/// The length in nanoseconds of a unit of time, spelled as in the CF conventions and UDUNITS. `None` for other units.
#[must_use]
pub(super) fn duration_unit(unit: &str) -> Option<i64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "nanosecond" | "nanoseconds" | "nanosec" | "nanosecs" | "ns" => 1,
        "microsecond" | "microseconds" | "microsec" | "microsecs" | "us" | "µs" => 1_000,
        "millisecond" | "milliseconds" | "millisec" | "millisecs" | "msec" | "msecs" | "ms" => {
            1_000_000
        }
        "second" | "seconds" | "sec" | "secs" | "s" => 1_000_000_000,
        "minute" | "minutes" | "min" | "mins" => 60_000_000_000,
        "hour" | "hours" | "hr" | "hrs" | "h" => 3_600_000_000_000,
        "day" | "days" | "d" => 86_400_000_000_000,
        _ => return None,
    })
}

/// The length in nanoseconds of a unit that is fixed in only one calendar: months and common years.
fn calendar_unit(unit: &str, calendar: Calendar) -> Option<i64> {
    const DAY: i64 = 86_400_000_000_000;
    match (unit.to_ascii_lowercase().as_str(), calendar) {
        ("month" | "months", Calendar::Days360) => Some(30 * DAY),
        ("common_year" | "common_years", Calendar::NoLeap) => Some(365 * DAY),
        _ => None,
    }
}

/// Parses a date and time of day with an optional offset from UTC, to microseconds since the calendar's day 0.
fn parse_instant(text: &str, calendar: Calendar) -> Option<i64> {
    let (date, rest) = match text.find(['T', 't', ' ', ',']) {
        Some(at) => (&text[..at], text[at + 1..].trim()),
        None => (text, ""),
    };
    let negative = date.starts_with('-');
    let date = date.strip_prefix(['-', '+']).unwrap_or(date);
    let date = parse_date(date, negative)?;
    let day_number = calendar.day_number(date)?;

    let (time, offset) = split_offset(rest);
    let time = if time.is_empty() { 0 } else { parse_time_of_day(time)? };
    let offset = parse_offset(offset)?;
    day_number.checked_mul(MICROS_PER_DAY)?.checked_add(time - offset)
}

/// Parses a date without its sign: `2000-1-31`, `2000-1`, `2000`, `2000/01/31` or `20000131`.
fn parse_date(text: &str, negative: bool) -> Option<Date> {
    let is_packed = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit());
    let mut parts = match text.split_once('/') {
        // Otherwise the position of the year is ambiguous.
        Some((year, _)) if year.len() == 4 => text.split('/'),
        _ => text.split('-'),
    };
    let (year, month, day) = if is_packed {
        (&text[..4], Some(&text[4..6]), Some(&text[6..]))
    } else {
        (parts.next()?, parts.next(), parts.next())
    };
    if parts.next().is_some() && !is_packed {
        return None;
    }
    let number =
        |part: Option<&str>| part.map_or(Some(1), |part| u8::try_from(digits(part, 2)?).ok());
    let year = digits(year, 6)?;
    let year = if negative { -year } else { year };
    Some(Date { year, month: number(month)?, day: number(day)? })
}

/// Splits a time of day from its offset: `12:00:00 +1:00`, `12:00:00+01:00`, `12:00Z`, `12:00 UTC`, bare offsets.
fn split_offset(text: &str) -> (&str, &str) {
    match text.find(|c: char| c.is_ascii_alphabetic() || c == '+' || c == '-') {
        Some(at) => (text[..at].trim_end(), &text[at..]),
        None => match text.split_once(char::is_whitespace) {
            Some((time, offset)) => (time, offset.trim()),
            None => (text, ""),
        },
    }
}

fn parse_time_of_day(text: &str) -> Option<i64> {
    // Without colons: `12`, `1230`, `123015`.
    let is_packed = matches!(text.len(), 4 | 6) && text.bytes().all(|b| b.is_ascii_digit());
    let packed: String = if is_packed {
        let (hours, rest) = text.split_at_checked(2)?;
        let (minutes, seconds) = rest.split_at_checked(2)?;
        let colon = if seconds.is_empty() { "" } else { ":" };
        format!("{hours}:{minutes}{colon}{seconds}")
    } else {
        String::new()
    };
    let mut parts = if is_packed { packed.split(':') } else { text.split(':') };
    let hours = digits(parts.next()?, 2)?;
    let minutes = parts.next().map_or(Some(0), |p| digits(p, 2))?;
    let mut micros = 0;
    if let Some(seconds) = parts.next() {
        let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
        micros = digits(whole, 2)? * 1_000_000;
        if !fraction.is_empty() {
            // Digits beyond microseconds are cut off, but must be digits.
            if !fraction.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let padded: String = fraction.chars().chain("000000".chars()).take(6).collect();
            micros += digits(&padded, 6)?;
        }
    }
    if parts.next().is_some() || hours > 23 || minutes > 59 || micros >= 60_000_000 {
        return None;
    }
    Some((hours * 60 + minutes) * 60_000_000 + micros)
}

/// The seventh to ninth decimal of a reference's seconds, in nanoseconds.
fn nanos_beyond_micros(reference: &str) -> i64 {
    let Some((_, fraction)) = reference.split_once('.') else { return 0 };
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).map(|b| i64::from(b - b'0'));
    let finer = digits.skip(6).chain([0; 3]).take(3);
    finer.fold(0, |nanos, digit| nanos * 10 + digit)
}

fn parse_offset(text: &str) -> Option<i64> {
    let text = text.trim();
    // `UTC+1` isn't accepted: some mean an hour before UTC by it, others an hour after.
    if ["UTC", "GMT", "Z"].iter().any(|zone| text.eq_ignore_ascii_case(zone)) {
        return Some(0);
    }
    if text.is_empty() {
        return Some(0);
    }
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, minutes) = match text.split_once(':') {
        Some((hours, minutes)) => (hours, minutes),
        None if text.len() == 4 => text.split_at_checked(2)?,
        None => (text, "0"),
    };
    Some(sign * (digits(hours, 2)? * 60 + digits(minutes, 2)?) * 60_000_000)
}

fn digits(text: &str, most: usize) -> Option<i64> {
    let valid = !text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_digit());
    if valid { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(units: &str, calendar: Calendar, value: f64) -> Option<String> {
        let units = TimeUnits::parse(units, calendar)?;
        let mut out = String::new();
        units.write_text(units.instant_from_f64(value)?, &mut out);
        Some(out)
    }

    #[test]
    fn spellings_of_units() {
        let standard = Calendar::Standard;
        for (units, value, expected) in [
            ("days since 2000-01-01", 1.5, "2000-01-02T12:00:00"),
            ("days  since   2000-01-02", 0.0, "2000-01-02T00:00:00"),
            ("Days Since 2000-1-1 6", 1.0, "2000-01-02T06:00:00"),
            ("hours since 1900-01-01 00:00:0.0", 24.0, "1900-01-02T00:00:00"),
            ("h since 1970-01-01T00:00:00Z", 1.0, "1970-01-01T01:00:00"),
            ("seconds since 1970-01-01 00:00:00 UTC", 1.25, "1970-01-01T00:00:01.25"),
            ("msec since 1970-01-01", 1.0, "1970-01-01T00:00:00.001"),
            ("microseconds since 1970-01-01 12:00", 1.0, "1970-01-01T12:00:00.000001"),
            ("min since 2000-01-01 00:00:00 +1:30", 0.0, "1999-12-31T22:30:00"),
            ("minutes since 2000-01-01 00:00:00-05", 0.0, "2000-01-01T05:00:00"),
            ("days since 0001-01-01 00:00:00.000000", 0.0, "0001-01-01T00:00:00"),
            ("days since 1-1-1", 577_736.0, "1582-10-04T00:00:00"),
            ("days since 1-1-1", 577_737.0, "1582-10-15T00:00:00"),
        ] {
            assert_eq!(text(units, standard, value).as_deref(), Some(expected), "{units}");
        }
        assert_eq!(
            text("months since 2000-01-30", Calendar::Days360, 1.0).as_deref(),
            Some("2000-02-30T00:00:00")
        );
    }

    #[derive(serde::Deserialize)]
    struct Case {
        units: String,
        calendar: String,
        values: Vec<f64>,
        /// Whether the values are integers.
        integers: bool,
        /// ISO text of each; `None` if the units can't be decoded.
        texts: Option<Vec<String>>,
    }

    /// Expected texts come from xarray and cftime: see `make_times.py`.
    #[test]
    fn as_xarray_decodes() {
        let cases = include_str!("../../tests/fixtures/times.json");
        let cases: Vec<Case> = serde_json::from_str(cases).unwrap();
        assert!(cases.len() > 100);
        let mut wrong = Vec::new();
        for case in cases {
            let Case { units, calendar, values, integers, texts } = case;
            let name = format!("{units} ({calendar})");
            let calendar = Calendar::from_name(&calendar).unwrap();
            let parsed = TimeUnits::parse(&units, calendar);
            let (Some(parsed), Some(texts)) = (parsed, &texts) else {
                if parsed.is_some() || texts.is_some() {
                    wrong.push(format!("{name}: {parsed:?} and {texts:?}"));
                }
                continue;
            };
            for (value, expected) in values.iter().zip(texts) {
                let instant = if integers {
                    parsed.instant_from_i64(*value as i64)
                } else {
                    parsed.instant_from_f64(*value)
                };
                let mut text = String::new();
                parsed.write_text(instant.unwrap(), &mut text);
                if text != *expected {
                    wrong.push(format!("{name}, {value}: {text} and not {expected}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
    }

    #[test]
    fn units_that_are_none() {
        for units in [
            "K",
            "days",
            "seconds",
            "since 2000-01-01",
            "months since 2000-01-01",
            "day as %Y%m%d.%f",
            "days since 2000-02-30",
            "days since yesterday",
            "days since 2000-01-01 25:61:00",
            "days since 2000-01-01 24:00:00",
            "days since 2000-01-01 UTC+1",
            "days since 01/02/2000",
            "days since 0000-01-01",
            "common_years since 2000-01-01",
            "days since 2000-01-01-01",
            "days since ",
        ] {
            assert_eq!(TimeUnits::parse(units, Calendar::Standard), None, "{units}");
        }
    }

    #[test]
    fn labels_that_timestamps_lack() {
        let units = TimeUnits::parse("days since 1500-02-28", Calendar::Standard);
        let instants = units.map(|u| [0, 1, 2].map(|d| u.timestamp(u.instant_from_i64(d)?)));
        let day = |y, m, d| Some(gregorian_day(y, m, d) * MICROS_PER_DAY);
        assert_eq!(instants, Some([day(1500, 2, 28), None, day(1500, 3, 1)]));
    }

    #[test]
    fn nanoseconds_of_a_reference_count() {
        // As xarray writes times of nanoseconds: 2010-01-01 to the nanosecond.
        let units = "nanoseconds since 2000-01-01 00:00:00.123456789";
        let units = TimeUnits::parse(units, Calendar::ProlepticGregorian).unwrap();
        let mut text = String::new();
        units.write_text(units.instant_from_i64(315_619_199_876_543_211).unwrap(), &mut text);
        assert_eq!(text, "2010-01-01T00:00:00");
    }

    #[test]
    fn numbers_out_of_range() {
        let units = TimeUnits::parse("days since 2000-01-01", Calendar::Standard);
        assert_eq!(units.and_then(|u| u.instant_from_f64(9.969_209_968_386_869e36)), None);
        assert_eq!(units.and_then(|u| u.instant_from_i64(i64::MAX)), None);
        assert_eq!(units.and_then(|u| u.instant_from_f64(f64::INFINITY)), None);
    }
}
