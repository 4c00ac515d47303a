//! Formats of times: those of C's `strftime` and of Postgres' `to_char`.

use std::fmt::Write as _;

use datafusion::common::{Result, plan_datafusion_err, plan_err};
use lsio_core::dataset::calendar::Calendar;

use super::{
    civil::CivilTime,
    part::{TimePart, no_date},
};

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(super) const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Format of a time's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimeFormat(pub(super) Vec<FormatItem>);

/// Item of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FormatItem {
    Text(String),
    /// Number of at least so many digits.
    Number(TimeField, usize),
    /// Name, optionally cut to three letters or padded to nine.
    Name {
        field: Name,
        short: bool,
        case: LetterCase,
        padded: bool,
    },
    /// AM or PM.
    Noon(LetterCase),
    /// Offset from UTC, `+hh[:mm]`; empty for times without a zone.
    Offset {
        minutes: bool,
    },
}

/// Numeric field of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeField {
    Part(TimePart),
    YearOfCentury,
    Hour12,
    /// Fractions of the second.
    Millis,
    Micros,
    Nanos,
    /// Weeks of the year from its first Sunday or Monday on, from 0.
    WeekFromSunday,
    WeekFromMonday,
    /// Weeks of seven days from the first day of the year or month, from 1.
    WeekOfYear,
    WeekOfMonth,
    /// Day of the week, from 1 for Sunday.
    Weekday1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Month,
    Weekday,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LetterCase {
    Title,
    Upper,
    Lower,
}

impl LetterCase {
    fn of(pattern: &str) -> Self {
        let upper = |c: char| c.is_ascii_uppercase();
        match (pattern.starts_with(upper), pattern.chars().nth(1).is_some_and(upper)) {
            (true, true) => Self::Upper,
            (true, false) => Self::Title,
            _ => Self::Lower,
        }
    }

    fn apply(self, text: &str) -> String {
        match self {
            Self::Title => text.to_owned(),
            Self::Upper => text.to_ascii_uppercase(),
            Self::Lower => text.to_ascii_lowercase(),
        }
    }
}

impl TimeFormat {
    /// Parses a format of `strftime`, with `%` before each specifier.
    ///
    /// # Errors
    /// If a specifier isn't known.
    pub(crate) fn strftime(form: &str) -> Result<Self> {
        let mut items = Vec::new();
        let mut rest = form.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                push_char(&mut items, c);
                continue;
            }
            let mut specifier = rest.next();
            let padded = specifier != Some('-');
            if !padded {
                specifier = rest.next();
            }
            let number = |field, width| FormatItem::Number(field, if padded { width } else { 1 });
            let part = |part, width| number(TimeField::Part(part), width);
            let name = |field, short| FormatItem::Name {
                field,
                short,
                case: LetterCase::Title,
                padded: false,
            };
            let several = |form: &str| Self::strftime(form).map(|format| format.0);
            items.extend(match specifier {
                Some('Y') => vec![part(TimePart::Year, 4)],
                Some('y') => vec![number(TimeField::YearOfCentury, 2)],
                Some('C') => vec![part(TimePart::Century, 2)],
                Some('q') => vec![part(TimePart::Quarter, 1)],
                Some('m') => vec![part(TimePart::Month, 2)],
                Some('b' | 'h') => vec![name(Name::Month, true)],
                Some('B') => vec![name(Name::Month, false)],
                Some('d') => vec![part(TimePart::Day, 2)],
                Some('e') => vec![part(TimePart::Day, 1)],
                Some('j') => vec![part(TimePart::DayOfYear, 3)],
                Some('a') => vec![name(Name::Weekday, true)],
                Some('A') => vec![name(Name::Weekday, false)],
                Some('w') => vec![part(TimePart::DayOfWeek, 1)],
                Some('u') => vec![part(TimePart::IsoDayOfWeek, 1)],
                Some('U') => vec![number(TimeField::WeekFromSunday, 2)],
                Some('W') => vec![number(TimeField::WeekFromMonday, 2)],
                Some('V') => vec![part(TimePart::Week, 2)],
                Some('G') => vec![part(TimePart::IsoYear, 4)],
                Some('H') => vec![part(TimePart::Hour, 2)],
                Some('I') => vec![number(TimeField::Hour12, 2)],
                Some('p') => vec![FormatItem::Noon(LetterCase::Upper)],
                Some('M') => vec![part(TimePart::Minute, 2)],
                Some('S') => vec![part(TimePart::Second, 2)],
                Some('g') => vec![number(TimeField::Millis, 3)],
                Some('f') => vec![number(TimeField::Micros, 6)],
                Some('n') => vec![number(TimeField::Nanos, 9)],
                Some('s') => vec![part(TimePart::Epoch, 1)],
                Some('z') => vec![FormatItem::Offset { minutes: false }],
                Some('D') => several("%m/%d/%y")?,
                Some('F' | 'x') => several("%Y-%m-%d")?,
                Some('T' | 'X') => several("%H:%M:%S")?,
                Some('R') => several("%H:%M")?,
                Some('c') => several("%Y-%m-%d %H:%M:%S")?,
                Some('%') => vec![FormatItem::Text("%".to_owned())],
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return plan_err!(
                        "'%{other}' in the form '{form}' of a time isn't known; known are %Y %y \
                         %m %b %B %d %e %j %a %A %w %u %U %W %V %G %q %H %I %p %M %S %g %f %n %s \
                         %z %F %T %R %D %c %x %X and %%, and %- for numbers without zeros"
                    );
                }
            });
        }
        Ok(Self(items))
    }

    /// Parses a pattern of Postgres' `to_char`: `YYYY-MM-DD HH24:MI:SS`.
    ///
    /// # Errors
    /// If letters aren't known.
    pub(crate) fn postgres(pattern: &str) -> Result<Self> {
        let mut items = Vec::new();
        let mut rest = pattern;
        let mut fill = true;
        while let Some(c) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix('"') {
                let (text, after) = after.split_once('"').ok_or_else(|| {
                    plan_datafusion_err!("the quotes in the pattern '{pattern}' don't end")
                })?;
                text.chars().for_each(|c| push_char(&mut items, c));
                rest = after;
                continue;
            }
            if let Some(after) = rest.strip_prefix("FM") {
                (fill, rest) = (false, after);
                continue;
            }
            if let Some((length, item)) = postgres_item(rest, fill) {
                items.push(item);
                rest = rest.get(length..).unwrap_or_default();
                fill = true;
                continue;
            }
            if c.is_alphabetic() {
                return plan_err!(
                    "'{rest}' in the pattern '{pattern}' of a time isn't known: to_char takes \
                     patterns as Postgres' 'YYYY-MM-DD HH24:MI:SS', other letters in quotes \
                     ('YYYY-MM-DD\"T\"HH24'), and strftime's '%Y-%m-%d %H:%M:%S'"
                );
            }
            push_char(&mut items, c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
        Ok(Self(items))
    }

    /// Writes a time in this format.
    ///
    /// # Errors
    /// If the calendar lacks the date.
    pub(crate) fn write(
        &self,
        time: &CivilTime,
        calendar: Calendar,
        out: &mut String,
    ) -> Result<()> {
        for item in &self.0 {
            // Writing to a String can't fail.
            let _ = match item {
                FormatItem::Text(text) => write!(out, "{text}"),
                FormatItem::Number(field, width) => {
                    let value = field.of(time, calendar)?;
                    let sign = if value < 0 { "-" } else { "" };
                    write!(out, "{sign}{:0width$}", value.unsigned_abs())
                }
                FormatItem::Name { field, short, case, padded } => {
                    let name = field.of(time, calendar)?;
                    let name = if *short { &name[..3] } else { name };
                    let width = if *padded { 9 } else { 0 };
                    write!(out, "{:width$}", case.apply(name))
                }
                FormatItem::Noon(case) => {
                    let noon = if time.nanos < 43_200_000_000_000 { "AM" } else { "PM" };
                    write!(out, "{}", case.apply(noon))
                }
                FormatItem::Offset { minutes } => {
                    let sign = if time.offset < 0 { '-' } else { '+' };
                    let total = time.offset.unsigned_abs() / 60;
                    let (hours, rest) = (total / 60, total % 60);
                    if *minutes || rest != 0 {
                        write!(out, "{sign}{hours:02}:{rest:02}")
                    } else {
                        write!(out, "{sign}{hours:02}")
                    }
                }
            };
        }
        Ok(())
    }
}

impl TimeField {
    fn of(self, time: &CivilTime, calendar: Calendar) -> Result<i64> {
        let in_second = time.nanos % 1_000_000_000;
        let weeks = |first: i64| {
            let day = time.day_of_year(calendar)? - 1;
            let weekday = (time.weekday(calendar)? + 7 - first) % 7;
            Some((day + 7 - weekday) / 7)
        };
        let none = || no_date(time, calendar);
        Ok(match self {
            Self::Part(part) => part.of(time, calendar)?,
            Self::YearOfCentury => time.date.year.rem_euclid(100),
            Self::Hour12 => (time.nanos / 3_600_000_000_000 + 11) % 12 + 1,
            Self::Millis => in_second / 1_000_000,
            Self::Micros => in_second / 1_000,
            Self::Nanos => in_second,
            Self::WeekFromSunday => weeks(6).ok_or_else(none)?,
            Self::WeekFromMonday => weeks(0).ok_or_else(none)?,
            Self::WeekOfYear => (time.day_of_year(calendar).ok_or_else(none)? - 1) / 7 + 1,
            Self::WeekOfMonth => (i64::from(time.date.day) - 1) / 7 + 1,
            Self::Weekday1 => TimePart::DayOfWeek.of(time, calendar)? + 1,
        })
    }
}

impl Name {
    /// Full name.
    ///
    /// # Errors
    /// If the calendar lacks the date.
    pub(super) fn of(self, time: &CivilTime, calendar: Calendar) -> Result<&'static str> {
        let (names, at): (&[&'static str], i64) = match self {
            Self::Month => (&MONTHS, i64::from(time.date.month) - 1),
            Self::Weekday => {
                let weekday = time.weekday(calendar);
                (&WEEKDAYS, weekday.ok_or_else(|| no_date(time, calendar))?)
            }
        };
        let name = usize::try_from(at).ok().and_then(|at| names.get(at));
        name.copied().ok_or_else(|| no_date(time, calendar))
    }
}

fn push_char(items: &mut Vec<FormatItem>, c: char) {
    if let Some(FormatItem::Text(text)) = items.last_mut() {
        text.push(c);
    } else {
        items.push(FormatItem::Text(c.to_string()));
    }
}

/// First item of a Postgres pattern, and the length of its text.
fn postgres_item(pattern: &str, fill: bool) -> Option<(usize, FormatItem)> {
    use TimeField::{
        Hour12, Micros, Millis, Part as P, WeekOfMonth, WeekOfYear, Weekday1, YearOfCentury,
    };

    // Longest first.
    let numbers = [
        ("HH24", P(TimePart::Hour), 2),
        ("HH12", Hour12, 2),
        ("HH", Hour12, 2),
        ("IYYY", P(TimePart::IsoYear), 4),
        ("YYYY", P(TimePart::Year), 4),
        ("YY", YearOfCentury, 2),
        ("MI", P(TimePart::Minute), 2),
        ("MM", P(TimePart::Month), 2),
        ("MS", Millis, 3),
        ("US", Micros, 6),
        ("FF3", Millis, 3),
        ("FF6", Micros, 6),
        ("SS", P(TimePart::Second), 2),
        ("DDD", P(TimePart::DayOfYear), 3),
        ("DD", P(TimePart::Day), 2),
        ("ID", P(TimePart::IsoDayOfWeek), 1),
        ("IW", P(TimePart::Week), 2),
        ("WW", WeekOfYear, 2),
        ("CC", P(TimePart::Century), 2),
        ("Q", P(TimePart::Quarter), 1),
    ];
    // Prefixes of other items.
    let letters = [("D", Weekday1, 1), ("W", WeekOfMonth, 1)];
    let names = [
        ("MONTH", Name::Month, false),
        ("MON", Name::Month, true),
        ("DAY", Name::Weekday, false),
        ("DY", Name::Weekday, true),
    ];
    let starts = |with: &str| {
        pattern.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    for (name, field, short) in names {
        if starts(name) {
            let case = LetterCase::of(pattern);
            return Some((
                name.len(),
                FormatItem::Name { field, short, case, padded: fill && !short },
            ));
        }
    }
    for (name, field, width) in numbers.into_iter().chain(letters) {
        if starts(name) {
            return Some((name.len(), FormatItem::Number(field, if fill { width } else { 1 })));
        }
    }
    if starts("AM") || starts("PM") {
        return Some((2, FormatItem::Noon(LetterCase::of(pattern))));
    }
    (starts("OF")).then_some((2, FormatItem::Offset { minutes: false }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(format: &TimeFormat, time: &str, calendar: Calendar) -> String {
        let mut out = String::new();
        format.write(&CivilTime::parse(time).unwrap(), calendar, &mut out).unwrap();
        out
    }

    /// As DuckDB and Postgres write them.
    #[test]
    fn forms() {
        let time = "2020-02-03T05:06:07.123456";
        let gregorian = Calendar::ProlepticGregorian;
        for (form, expected) in [
            ("%a %A %w %u %d %-d", "Mon Monday 1 1 03 3"),
            ("%b %h %B %m %-m %y %-y %Y", "Feb Feb February 02 2 20 20 2020"),
            ("%H %-H %I %-I %p %M %-M %S %-S", "05 5 05 5 AM 06 6 07 7"),
            ("%f %g %n %z|%j %-j %U %W", "123456 123 123456000 +00|034 34 05 05"),
            ("%c|%x|%X|%G %V %%", "2020-02-03 05:06:07|2020-02-03|05:06:07|2020 06 %"),
        ] {
            let format = TimeFormat::strftime(form).unwrap();
            assert_eq!(write(&format, time, gregorian), expected, "{form}");
        }
        for (pattern, expected) in [
            ("YYYY-MM", "2020-02"),
            ("YYYY-MM-DD\"T\"HH24:MI:SS.MS", "2020-02-03T05:06:07.123"),
            ("Mon DD, YY", "Feb 03, 20"),
            ("FMDD. FMMonth", "3. February"),
            ("MONTH|day|Dy", "FEBRUARY |monday   |Mon"),
            ("HH12 PM, Q, DDD, ID, IW, US", "05 AM, 1, 034, 1, 06, 123456"),
        ] {
            let format = TimeFormat::postgres(pattern).unwrap();
            assert_eq!(write(&format, time, gregorian), expected, "{pattern}");
        }
        let format = TimeFormat::strftime("%Y-%m-%d %j").unwrap();
        assert_eq!(write(&format, "2000-02-30", Calendar::Days360), "2000-02-30 060");
        assert_eq!(write(&format, "2000-03-01", Calendar::NoLeap), "2000-03-01 060");
        for form in ["%", "%k", "%-"] {
            assert!(TimeFormat::strftime(form).is_err(), "{form}");
        }
        for pattern in ["YYYYx", "the year", "\"open", "é"] {
            assert!(TimeFormat::postgres(pattern).is_err(), "{pattern}");
        }
    }
}
