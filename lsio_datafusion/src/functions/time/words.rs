//! Names of the functions on times: those that DuckDB has and DataFusion lacks, and those that replace
//! DataFusion's where a calendar or a zone matters.

use std::ops::RangeInclusive;

use datafusion::logical_expr::ScalarUDF;

use super::{format::Name, function::CivilFunction, part::TimePart};

/// Operation of a [`CivilFunction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Word {
    /// `year(time)` and its like.
    Part(TimePart),
    /// `date_part(part, time)`, with DataFusion's types.
    DatePart,
    /// `date_trunc(unit, time)`.
    Truncate,
    /// `date_bin(width, time[, origin])`: bins start at 1970-01-01.
    Bin,
    /// `time_bucket(width, time[, origin or offset])`: bins start at Monday 2000-01-03, those of months
    /// at 2000-01-01.
    Bucket,
    /// `date_add(time, interval)`.
    Add,
    /// `time - interval`.
    Subtract,
    /// `time - time`, a duration.
    Difference,
    /// `date_diff(unit, from, to)`: number of unit boundaries between.
    Boundaries,
    /// `date_sub(unit, from, to)`: number of whole units between; `date_sub(time, interval)`.
    Complete,
    /// `monthname(time)` and `dayname(time)`.
    Name(NameOf),
    /// `last_day(time)`: the last day of the month.
    LastDay,
    /// `make_timestamp(year, month, day, hour, minute, second)`.
    MakeTimestamp,
    /// `strftime(time, form)`.
    Strftime,
    /// `to_char(time, pattern)`, with Postgres' pattern.
    ToChar,
    /// `strptime(text, form)`.
    Strptime,
    /// Time as ISO text, the form of times in calendars that SQL doesn't know.
    Text,
    /// Text of a calendar as a date.
    Date,
}

/// Part of a time that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum NameOf {
    Month,
    Weekday,
}

impl NameOf {
    pub(super) fn name(self) -> Name {
        match self {
            Self::Month => Name::Month,
            Self::Weekday => Name::Weekday,
        }
    }
}

impl Word {
    /// The allowed numbers of arguments.
    pub(super) fn arity(self) -> RangeInclusive<usize> {
        match self {
            Self::Part(_) | Self::Name(_) | Self::LastDay | Self::Text | Self::Date => 1..=1,
            Self::Bin | Self::Bucket | Self::Complete => 2..=3,
            Self::Boundaries => 3..=3,
            Self::MakeTimestamp => 1..=6,
            _ => 2..=2,
        }
    }

    /// Positions of the times among `count` arguments.
    pub(super) fn times(self, count: usize) -> &'static [usize] {
        match self {
            Self::DatePart | Self::Truncate | Self::Bin | Self::Bucket => &[1],
            Self::Difference => &[0, 1],
            Self::Boundaries => &[1, 2],
            Self::Complete if count == 3 => &[1, 2],
            Self::MakeTimestamp | Self::Strptime => &[],
            _ => &[0],
        }
    }
}

/// Functions added to a session.
pub(crate) fn functions() -> Vec<ScalarUDF> {
    let parts: [(&'static str, &[&str], TimePart); 23] = [
        ("year", &[], TimePart::Year),
        ("month", &[], TimePart::Month),
        ("day", &["dayofmonth"], TimePart::Day),
        ("hour", &[], TimePart::Hour),
        ("minute", &[], TimePart::Minute),
        ("second", &[], TimePart::Second),
        ("millisecond", &[], TimePart::Millisecond),
        ("microsecond", &[], TimePart::Microsecond),
        ("nanosecond", &[], TimePart::Nanosecond),
        ("quarter", &[], TimePart::Quarter),
        ("week", &["weekofyear"], TimePart::Week),
        ("dayofyear", &["doy"], TimePart::DayOfYear),
        ("dayofweek", &["weekday", "dow"], TimePart::DayOfWeek),
        ("isodow", &[], TimePart::IsoDayOfWeek),
        ("isoyear", &[], TimePart::IsoYear),
        ("yearweek", &[], TimePart::YearWeek),
        ("decade", &[], TimePart::Decade),
        ("century", &[], TimePart::Century),
        ("millennium", &[], TimePart::Millennium),
        ("era", &[], TimePart::Era),
        ("epoch", &[], TimePart::Epoch),
        ("epoch_ms", &[], TimePart::EpochMillis),
        ("epoch_us", &["epoch_micros"], TimePart::EpochMicros),
    ];
    let others: [(&'static str, &[&str], Word); 11] = [
        ("monthname", &[], Word::Name(NameOf::Month)),
        ("dayname", &[], Word::Name(NameOf::Weekday)),
        ("last_day", &[], Word::LastDay),
        ("make_timestamp", &[], Word::MakeTimestamp),
        ("date_diff", &["datediff"], Word::Boundaries),
        ("date_sub", &["datesub"], Word::Complete),
        ("date_add", &[], Word::Add),
        ("time_bucket", &[], Word::Bucket),
        ("strftime", &[], Word::Strftime),
        ("strptime", &[], Word::Strptime),
        ("epoch_ns", &[], Word::Part(TimePart::EpochNanos)),
    ];
    let parts = parts.into_iter().map(|(name, aliases, part)| (name, aliases, Word::Part(part)));
    let functions = parts.chain(others).map(|(name, aliases, word)| {
        ScalarUDF::new_from_impl(CivilFunction::new(name, aliases, word))
    });
    functions.collect()
}
