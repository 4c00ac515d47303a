//! The calendars of the CF conventions (section 4.4.1): day numbers to dates and back.

/// A calendar of the CF conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Calendar {
    /// Mixed: Julian up to 1582-10-04, Gregorian from 1582-10-15 on (`standard`, `gregorian`).
    Standard,
    /// Gregorian for all times (`proleptic_gregorian`).
    ProlepticGregorian,
    /// Julian for all times (`julian`).
    Julian,
    /// No leap years (`noleap`, `365_day`).
    NoLeap,
    /// Every year is a leap year (`all_leap`, `366_day`).
    AllLeap,
    /// Twelve months of 30 days (`360_day`).
    Days360,
}

/// A date in a calendar that isn't part of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// The year. The year before 1 is 0, or -1 in calendars that [have no year 0](Calendar::has_year_zero).
    pub year: i64,
    /// The month, from 1.
    pub month: u8,
    /// The day of the month, from 1.
    pub day: u8,
}

impl Date {
    /// Appends the date and a time of day, in microseconds since midnight, as ISO text: `YYYY-MM-DDThh:mm:ss[.f]`.
    pub fn write_iso(self, micros_of_day: i64, out: &mut String) {
        use std::fmt::Write as _;

        let Self { year, month, day } = self;
        let seconds = micros_of_day / 1_000_000;
        let sign = if year < 0 { "-" } else { "" };
        // Writing to a String can't fail.
        let _ = write!(
            out,
            "{sign}{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
            year.abs(),
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        );
        let fraction = micros_of_day % 1_000_000;
        if fraction != 0 {
            let digits = format!("{fraction:06}");
            let _ = write!(out, ".{}", digits.trim_end_matches('0'));
        }
    }
}

/// The first day of the Gregorian calendar, 1582-10-15, in days since 1970-01-01.
const GREGORIAN_START: i64 = -141_427;

impl Calendar {
    /// The calendar of a name in the CF conventions, in any letter case. `None` for unknown names.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "standard" | "gregorian" => Self::Standard,
            "proleptic_gregorian" => Self::ProlepticGregorian,
            "julian" => Self::Julian,
            "noleap" | "365_day" => Self::NoLeap,
            "all_leap" | "366_day" => Self::AllLeap,
            "360_day" => Self::Days360,
            _ => return None,
        })
    }

    /// The name in the CF conventions.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::ProlepticGregorian => "proleptic_gregorian",
            Self::Julian => "julian",
            Self::NoLeap => "noleap",
            Self::AllLeap => "all_leap",
            Self::Days360 => "360_day",
        }
    }

    /// Whether SQL timestamps, which are proleptic Gregorian, can hold the calendar's dates. True for the proleptic
    /// Gregorian calendar, and for the standard calendar: its days agree from 1582-10-15 on, and nearly all earlier
    /// labels exist.
    #[must_use]
    pub fn fits_timestamp(self) -> bool {
        matches!(self, Self::Standard | Self::ProlepticGregorian)
    }

    /// Whether the year 0 precedes the year 1. Otherwise the year -1 does, as in cftime: the historical calendars have
    /// no year 0.
    #[must_use]
    pub fn has_year_zero(self) -> bool {
        !matches!(self, Self::Standard | Self::Julian)
    }

    /// The astronomical year, which counts backwards without a gap. `None` for the year 0 in calendars without one.
    fn counted(self, year: i64) -> Option<i64> {
        match year {
            _ if self.has_year_zero() || year > 0 => Some(year),
            0 => None,
            year => Some(year + 1),
        }
    }

    /// The inverse of [`Calendar::counted`].
    fn labelled(self, date: Date) -> Date {
        if self.has_year_zero() || date.year > 0 {
            date
        } else {
            Date { year: date.year - 1, ..date }
        }
    }

    /// The number of days in a month; 0 if the month doesn't exist.
    #[must_use]
    pub fn days_in_month(self, year: i64, month: u8) -> u8 {
        if self.counted(year).is_none() {
            return 0;
        }
        match (self, month) {
            (_, 0 | 13..) => 0,
            (Self::Days360, _) => 30,
            (_, 4 | 6 | 9 | 11) => 30,
            (_, 2) => 28 + u8::from(self.is_leap(year)),
            _ => 31,
        }
    }

    /// Whether the year has a 29 February. False for a year that doesn't exist.
    #[must_use]
    pub fn is_leap(self, year: i64) -> bool {
        let Some(year) = self.counted(year) else { return false };
        let julian = year.rem_euclid(4) == 0;
        let gregorian = julian && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
        match self {
            Self::Standard if year <= 1582 => julian,
            Self::Standard | Self::ProlepticGregorian => gregorian,
            Self::Julian => julian,
            Self::NoLeap | Self::Days360 => false,
            Self::AllLeap => true,
        }
    }

    /// The number of a date's day. The calendars of real days (standard, proleptic Gregorian, Julian) count from
    /// 1970-01-01 Gregorian, the others from their own 1970-01-01. `None` if the date doesn't exist, or is beyond
    /// ±10,000,000 years.
    #[must_use]
    pub fn day_number(self, date: Date) -> Option<i64> {
        let Date { year, month, day } = date;
        if day == 0 || day > self.days_in_month(year, month) || year.abs() > 10_000_000 {
            return None;
        }
        let year = self.counted(year)?;
        let month0 = i64::from(month) - 1;
        let day0 = i64::from(day) - 1;
        Some(match self {
            Self::Standard => {
                let gregorian = gregorian_day(year, month, day);
                if gregorian >= GREGORIAN_START {
                    gregorian
                } else {
                    let julian = julian_day(year, month, day);
                    if julian >= GREGORIAN_START {
                        // One of the ten days that the Gregorian reform skipped.
                        return None;
                    }
                    julian
                }
            }
            Self::ProlepticGregorian => gregorian_day(year, month, day),
            Self::Julian => julian_day(year, month, day),
            Self::NoLeap => (year - 1970) * 365 + days_before(month, false) + day0,
            Self::AllLeap => (year - 1970) * 366 + days_before(month, true) + day0,
            Self::Days360 => (year - 1970) * 360 + month0 * 30 + day0,
        })
    }

    /// The date of a day number: the inverse of [`Calendar::day_number`].
    #[must_use]
    pub fn date(self, day_number: i64) -> Date {
        match self {
            Self::Standard if day_number < GREGORIAN_START => {
                self.labelled(julian_date(day_number))
            }
            Self::Standard | Self::ProlepticGregorian => gregorian_date(day_number),
            Self::Julian => self.labelled(julian_date(day_number)),
            Self::NoLeap => regular_date(day_number, 365, false),
            Self::AllLeap => regular_date(day_number, 366, true),
            Self::Days360 => {
                let in_year = day_number.rem_euclid(360);
                Date {
                    year: 1970 + day_number.div_euclid(360),
                    month: small(in_year / 30 + 1),
                    day: small(in_year % 30 + 1),
                }
            }
        }
    }
}

/// Days from 1970-01-01 to a proleptic Gregorian date. Doesn't check that the date exists.
///
/// After Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years start in March, so that the leap day is
/// the last.
#[must_use]
pub fn gregorian_day(year: i64, month: u8, day: u8) -> i64 {
    let (year, in_year) = march_based(year, month, day);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + in_year;
    era * 146_097 + day_of_era - 719_468
}

fn gregorian_date(day_number: i64) -> Date {
    let shifted = day_number + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let in_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    from_march_based(era * 400 + year_of_era, in_year)
}

fn julian_day(year: i64, month: u8, day: u8) -> i64 {
    let (year, in_year) = march_based(year, month, day);
    let era = year.div_euclid(4);
    era * 1_461 + year.rem_euclid(4) * 365 + in_year - 719_470
}

fn julian_date(day_number: i64) -> Date {
    let shifted = day_number + 719_470;
    let era = shifted.div_euclid(1_461);
    let day_of_era = shifted.rem_euclid(1_461);
    let year_of_era = (day_of_era - day_of_era / 1_460) / 365;
    from_march_based(era * 4 + year_of_era, day_of_era - year_of_era * 365)
}

/// The year that starts in March, and the day of that year from 0.
fn march_based(year: i64, month: u8, day: u8) -> (i64, i64) {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (i64::from(month) + 9) % 12;
    (year, (153 * month + 2) / 5 + i64::from(day) - 1)
}

fn from_march_based(year: i64, in_year: i64) -> Date {
    let month = (5 * in_year + 2) / 153;
    let day = small(in_year - (153 * month + 2) / 5 + 1);
    let month = small(if month < 10 { month + 3 } else { month - 9 });
    Date { year: if month <= 2 { year + 1 } else { year }, month, day }
}

fn days_before(month: u8, leap: bool) -> i64 {
    const DAYS: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    DAYS[usize::from(month - 1)] + i64::from(leap && month > 2)
}

fn regular_date(day_number: i64, year_length: i64, leap: bool) -> Date {
    let in_year = day_number.rem_euclid(year_length);
    let month = (1..=12).rev().find(|&m| days_before(m, leap) <= in_year).unwrap_or(1);
    Date {
        year: 1970 + day_number.div_euclid(year_length),
        month,
        day: small(in_year - days_before(month, leap) + 1),
    }
}

/// A month or day number, which is small by construction.
fn small(value: i64) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Calendar; 6] = [
        Calendar::Standard,
        Calendar::ProlepticGregorian,
        Calendar::Julian,
        Calendar::NoLeap,
        Calendar::AllLeap,
        Calendar::Days360,
    ];

    #[test]
    fn every_day_has_one_date_and_dates_ascend() {
        for calendar in ALL {
            let mut last = calendar.date(-1_000_001);
            for day in -1_000_000..1_000_000 {
                let date = calendar.date(day);
                assert_eq!(calendar.day_number(date), Some(day), "{calendar:?} {date:?}");
                assert!(last < date, "{calendar:?} {last:?} {date:?}");
                last = date;
            }
        }
    }

    #[test]
    fn the_reform_skips_ten_days() {
        let date = |year, month, day| Date { year, month, day };
        let standard = Calendar::Standard;
        assert_eq!(standard.date(GREGORIAN_START), date(1582, 10, 15));
        assert_eq!(standard.date(GREGORIAN_START - 1), date(1582, 10, 4));
        assert_eq!(standard.day_number(date(1582, 10, 10)), None);
        assert_eq!(standard.day_number(date(1970, 1, 1)), Some(0));
        // Year 1 of the mixed calendar starts two days before that of the proleptic one.
        assert_eq!(standard.day_number(date(1, 1, 1)), Some(-719_164));
        assert_eq!(Calendar::ProlepticGregorian.day_number(date(1, 1, 1)), Some(-719_162));
        // The day before is in the year -1, which is a leap year.
        assert_eq!(standard.date(-719_165), date(-1, 12, 31));
        assert_eq!(standard.day_number(date(0, 12, 31)), None);
        assert_eq!(standard.day_number(date(-1, 2, 29)), Some(-719_165 - 306));
        assert_eq!(Calendar::ProlepticGregorian.date(-719_163), date(0, 12, 31));
    }

    #[test]
    fn dates_that_do_not_exist() {
        let date = |year, month, day| Date { year, month, day };
        assert_eq!(Calendar::NoLeap.day_number(date(2000, 2, 29)), None);
        assert_eq!(Calendar::Days360.day_number(date(2000, 2, 30)), Some(30 * 360 + 59));
        assert_eq!(Calendar::Days360.day_number(date(2000, 1, 31)), None);
        assert_eq!(Calendar::ProlepticGregorian.day_number(date(1900, 2, 29)), None);
        assert_eq!(Calendar::Standard.day_number(date(2000, 13, 1)), None);
    }
}
