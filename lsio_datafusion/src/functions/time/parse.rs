//! Parser of times in a given format: `strptime`.

use lsio_core::dataset::calendar::{Calendar, Date};

use super::{
    civil::{CivilTime, DAY},
    columns::GREGORIAN,
    format::{FormatItem, LetterCase, MONTHS, Name, TimeField, TimeFormat, WEEKDAYS},
    part::TimePart,
};

/// Fields read so far.
#[derive(Default)]
struct ParsedTime {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: i64,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    nanos: i64,
    epoch: Option<i64>,
    offset: i64,
}

impl TimeFormat {
    /// Parses a time in this format, to UTC where the text has an offset. Missing fields are those of
    /// 1900-01-01, as in C. `None` if the text has another format.
    pub(super) fn parse(&self, text: &str) -> Option<CivilTime> {
        let mut parts = ParsedTime::default();
        let mut rest = text;
        for item in &self.0 {
            rest = parts.read(item, rest)?;
        }
        if rest.is_empty() { parts.time() } else { None }
    }
}

impl ParsedTime {
    /// Parses an item. Returns the rest of the text.
    fn read<'a>(&mut self, item: &FormatItem, text: &'a str) -> Option<&'a str> {
        match item {
            FormatItem::Text(expected) => text.strip_prefix(expected.as_str()),
            FormatItem::Number(field, width) => {
                let (negative, digits) = match text.strip_prefix('-') {
                    Some(digits) => (true, digits),
                    None => (false, text),
                };
                // A year may have more digits than its width, fractions fewer.
                let most = match field {
                    TimeField::Part(TimePart::Year) => 6.max(*width),
                    TimeField::Part(TimePart::Epoch) => 18,
                    TimeField::Part(TimePart::DayOfYear) | TimeField::Millis => 3,
                    TimeField::Micros => 6,
                    TimeField::Nanos => 9,
                    _ => 2,
                };
                let most = if *field == TimeField::Part(TimePart::Year) && digits.len() >= 8 {
                    // Fields may follow without a separator: `20200203`.
                    let run = digits.bytes().take_while(u8::is_ascii_digit).count();
                    if run > 6 { 4 } else { most }
                } else {
                    most
                };
                let length = digits.bytes().take(most).take_while(u8::is_ascii_digit).count();
                let (number, rest) = digits.split_at_checked(length)?;
                let value: i64 = number.parse().ok()?;
                let value = if negative { -value } else { value };
                let is_signed = matches!(field, TimeField::Part(TimePart::Year | TimePart::Epoch));
                if negative && !is_signed {
                    return None;
                }
                self.set(*field, value, length)?;
                Some(rest)
            }
            FormatItem::Name { field, short, .. } => {
                let names: &[&str] = match field {
                    Name::Month => &MONTHS,
                    Name::Weekday => &WEEKDAYS,
                };
                let length = |name: &str| if *short { 3 } else { name.len() };
                let at = names.iter().position(|name| {
                    let start = text.get(..length(name));
                    start.is_some_and(|start| start.eq_ignore_ascii_case(&name[..length(name)]))
                })?;
                if *field == Name::Month {
                    self.month = Some(i64::try_from(at).ok()? + 1);
                }
                text.get(length(names[at])..)
            }
            FormatItem::Noon(LetterCase::Title | LetterCase::Upper | LetterCase::Lower) => {
                let (noon, rest) = text.split_at_checked(2)?;
                self.afternoon = Some(match noon.to_ascii_uppercase().as_str() {
                    "AM" => false,
                    "PM" => true,
                    _ => return None,
                });
                Some(rest)
            }
            FormatItem::Offset { .. } => {
                if let Some(rest) = text.strip_prefix('Z') {
                    return Some(rest);
                }
                let sign = match text.split_at_checked(1)?.0 {
                    "+" => 1,
                    "-" => -1,
                    _ => return None,
                };
                let number = |text: &str| text.parse::<i64>().ok().filter(|n| (0..60).contains(n));
                let hours = number(text.get(1..3)?)?;
                let rest = text.get(3..)?;
                let after = rest.strip_prefix(':').unwrap_or(rest);
                let (minutes, rest) = match after.get(..2).and_then(number) {
                    Some(minutes) => (minutes, after.get(2..)?),
                    None => (0, rest),
                };
                self.offset = sign * (hours * 60 + minutes) * 60;
                Some(rest)
            }
        }
    }

    fn set(&mut self, field: TimeField, value: i64, digits: usize) -> Option<()> {
        let fraction = |value: i64| {
            let zeros = u32::try_from(9_usize.checked_sub(digits)?).ok()?;
            value.checked_mul(10_i64.pow(zeros))
        };
        match field {
            TimeField::Part(TimePart::Year) => self.year = Some(value),
            // POSIX: 69 to 99 are in the 20th century.
            TimeField::YearOfCentury => {
                self.year = Some(value + if value < 69 { 2000 } else { 1900 });
            }
            TimeField::Part(TimePart::Month) => self.month = Some(value),
            TimeField::Part(TimePart::Day) => self.day = Some(value),
            TimeField::Part(TimePart::DayOfYear) => self.day_of_year = Some(value),
            TimeField::Part(TimePart::Hour) if value < 24 => self.hour = value,
            TimeField::Hour12 if (1..=12).contains(&value) => {
                self.hour = value % 12;
                self.afternoon.get_or_insert(false);
            }
            TimeField::Part(TimePart::Minute) if value < 60 => self.minute = value,
            TimeField::Part(TimePart::Second) if value < 60 => self.second = value,
            TimeField::Millis | TimeField::Micros | TimeField::Nanos => {
                self.nanos = fraction(value)?;
            }
            TimeField::Part(TimePart::Epoch) => self.epoch = Some(value),
            // Weeks and weekdays are implied by the date.
            TimeField::Part(TimePart::DayOfWeek | TimePart::IsoDayOfWeek) => {}
            _ => return None,
        }
        Some(())
    }

    fn time(self) -> Option<CivilTime> {
        if let Some(epoch) = self.epoch {
            return CivilTime::from_nanos(i128::from(epoch) * 1_000_000_000, GREGORIAN);
        }
        let small = |value: Option<i64>| u8::try_from(value.unwrap_or(1)).ok();
        let year = self.year.unwrap_or(1900);
        let mut date = Date { year, month: small(self.month)?, day: small(self.day)? };
        let calendar: Calendar = GREGORIAN;
        if let Some(day) = self.day_of_year {
            let first = calendar.day_number(Date { year, month: 1, day: 1 })?;
            date = calendar.date(first + day - 1);
            if date.year != year || day < 1 {
                return None;
            }
        }
        let hour = self.hour + if self.afternoon == Some(true) && self.hour < 12 { 12 } else { 0 };
        let seconds = (hour * 60 + self.minute) * 60 + self.second;
        let local = CivilTime { date, nanos: 0, offset: 0 }.day(calendar)?;
        let nanos = i128::from(local) * i128::from(DAY)
            + i128::from(seconds - self.offset) * 1_000_000_000
            + i128::from(self.nanos);
        CivilTime::from_nanos(nanos, calendar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_form() {
        for (form, text, expected) in [
            ("%Y-%m", "2020-02", "2020-02-01T00:00:00"),
            ("%Y%m%d", "20200203", "2020-02-03T00:00:00"),
            ("%d.%m.%Y %H:%M", "3.2.2020 05:06", "2020-02-03T05:06:00"),
            ("%B %d, %y %I:%M %p", "February 03, 20 12:30 AM", "2020-02-03T00:30:00"),
            ("%Y-%j", "2020-060", "2020-02-29T00:00:00"),
            ("%Y-%m-%dT%H:%M:%S.%f", "2020-02-03T05:06:07.5", "2020-02-03T05:06:07.5"),
            ("%Y-%m-%d %H%z", "2020-02-03 05+02:00", "2020-02-03T03:00:00"),
            ("%s", "86400", "1970-01-02T00:00:00"),
            ("%a, %d %b %Y", "Mon, 03 Feb 2020", "2020-02-03T00:00:00"),
        ] {
            let time = TimeFormat::strftime(form).unwrap().parse(text);
            assert_eq!(time.map(|time| time.text()).as_deref(), Some(expected), "{form}");
        }
        for (form, text) in [
            ("%Y-%m", "2020"),
            ("%Y", "2020-02"),
            ("%m", "13"),
            ("%Y-%m-%d", "2021-02-29"),
            ("%Y-%j", "2021-366"),
            ("%H", "24"),
            ("%B", "Feb"),
            ("%é", "x"),
        ] {
            let parsed = TimeFormat::strftime(form).ok().and_then(|format| format.parse(text));
            assert_eq!(parsed, None, "{form} {text}");
        }
    }
}
