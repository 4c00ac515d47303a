//! Conversion between UTC and local times.

use arrow::{
    array::timezone::Tz,
    datatypes::{DataType, TimestampSecondType},
    temporal_conversions::as_datetime_with_timezone,
};
use datafusion::common::{Result, exec_datafusion_err};

const HOUR: i64 = 3_600;

/// Time zone, fixed or with daylight saving time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zone(Tz);

impl Zone {
    /// Time zone of a timestamp's type, if it has one.
    ///
    /// # Errors
    /// If there is no zone of that name.
    pub(crate) fn of(data_type: &DataType) -> Result<Option<Self>> {
        let DataType::Timestamp(_, Some(name)) = data_type else { return Ok(None) };
        let zone = name.parse().map_err(|_| exec_datafusion_err!("there is no time zone '{name}'"));
        Ok(Some(Self(zone?)))
    }

    /// Offset from UTC in seconds, at a number of seconds since 1970 in UTC.
    pub(crate) fn offset(self, utc: i64) -> Option<i64> {
        let local = as_datetime_with_timezone::<TimestampSecondType>(utc, self.0)?.naive_local();
        local.and_utc().timestamp().checked_sub(utc)
    }

    /// Converts a local time to seconds since 1970 in UTC. An ambiguous time has the offset `like`, else the
    /// earlier one; a skipped time is moved forward by the gap.
    pub(crate) fn utc(self, local: i64, like: Option<i64>) -> Option<i64> {
        // A zone's offset changes by less than a day, and rarely.
        let before = self.offset(local.checked_sub(26 * HOUR)?)?;
        let after = self.offset(local.checked_add(26 * HOUR)?)?;
        let is_valid = |offset: i64| self.offset(local - offset) == Some(offset);
        if let Some(like) = like.filter(|like| is_valid(*like)) {
            return Some(local - like);
        }
        let first = before.max(after);
        let second = before.min(after);
        let offset = [first, second].into_iter().find(|offset| is_valid(*offset));
        Some(local - offset.unwrap_or(before))
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn local_times() {
        let berlin = DataType::Timestamp(TimeUnit::Second, Some("Europe/Berlin".into()));
        let berlin = Zone::of(&berlin).unwrap().unwrap();
        // 2020-10-25T01:00Z, when the clocks go back from 3 to 2.
        let back = 1_603_587_600;
        assert_eq!(berlin.offset(back - 1), Some(2 * HOUR));
        assert_eq!(berlin.offset(back), Some(HOUR));
        let half_past_two = back + HOUR + HOUR / 2;
        assert_eq!(berlin.utc(half_past_two, None), Some(back - HOUR / 2));
        assert_eq!(berlin.utc(half_past_two, Some(HOUR)), Some(back + HOUR / 2));
        assert_eq!(berlin.utc(half_past_two, Some(5 * HOUR)), Some(back - HOUR / 2));
        // 2020-03-29T01:00Z, when they go forward from 2 to 3.
        let forward = 1_585_443_600;
        let half_past_two = forward + HOUR + HOUR / 2;
        assert_eq!(berlin.utc(half_past_two, None), Some(forward + HOUR / 2));
        let nowhere = DataType::Timestamp(TimeUnit::Second, Some("Nowhere/At_All".into()));
        assert!(Zone::of(&nowhere).is_err());
        assert_eq!(berlin.offset(i64::MAX), None);
    }
}
