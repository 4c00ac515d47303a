//! Cells as text: arrow's formats, except for durations, as arrow writes six hours as `PT21600S`.

use std::fmt;

use arrow::{
    array::{Array, AsArray as _},
    datatypes::{
        DataType, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
        DurationSecondType, Field, TimeUnit,
    },
    error::ArrowError,
    util::display::{
        ArrayFormatter, ArrayFormatterFactory, DisplayIndex, FormatOptions, FormatResult,
    },
};

/// Formatter of a column's cells; NULL is empty text.
///
/// # Errors
/// If the column is of a type that arrow can't write.
pub fn formatter(column: &dyn Array) -> Result<ArrayFormatter<'_>, ArrowError> {
    let options = FormatOptions::default().with_formatter_factory(Some(&DurationFormatters));
    // arrow asks the factory for lists' and structs' items, not for a column itself.
    match DurationFormatters.create_array_formatter(column, &options, None)? {
        Some(formatter) => Ok(formatter),
        None => ArrayFormatter::try_new(column, &options),
    }
}

/// Formats durations as `[-][D day(s) ]HH:MM:SS[.f]`, which pandas and DuckDB read.
#[derive(Debug)]
struct DurationFormatters;

impl ArrayFormatterFactory for DurationFormatters {
    fn create_array_formatter<'formatter>(
        &self,
        array: &'formatter dyn Array,
        options: &FormatOptions<'formatter>,
        _field: Option<&'formatter Field>,
    ) -> Result<Option<ArrayFormatter<'formatter>>, ArrowError> {
        let DataType::Duration(unit) = array.data_type() else { return Ok(None) };
        let cells = DurationColumn { array, unit: *unit, null: options.null() };
        Ok(Some(ArrayFormatter::new(Box::new(cells), options.safe())))
    }
}

/// Column of durations.
struct DurationColumn<'a> {
    array: &'a dyn Array,
    unit: TimeUnit,
    null: &'a str,
}

impl DurationColumn<'_> {
    fn duration(&self, row: usize) -> Duration {
        let count = match self.unit {
            TimeUnit::Second => self.array.as_primitive::<DurationSecondType>().value(row),
            TimeUnit::Millisecond => {
                self.array.as_primitive::<DurationMillisecondType>().value(row)
            }
            TimeUnit::Microsecond => {
                self.array.as_primitive::<DurationMicrosecondType>().value(row)
            }
            TimeUnit::Nanosecond => self.array.as_primitive::<DurationNanosecondType>().value(row),
        };
        Duration { count, unit: self.unit }
    }
}

impl DisplayIndex for DurationColumn<'_> {
    fn write(&self, row: usize, out: &mut dyn fmt::Write) -> FormatResult {
        if self.array.is_null(row) {
            out.write_str(self.null)?;
        } else {
            write!(out, "{}", self.duration(row))?;
        }
        Ok(())
    }
}

struct Duration {
    count: i64,
    unit: TimeUnit,
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Units in a second, and digits of their fraction.
        let (units, digits) = match self.unit {
            TimeUnit::Second => (1, 0),
            TimeUnit::Millisecond => (1_000, 3),
            TimeUnit::Microsecond => (1_000_000, 6),
            TimeUnit::Nanosecond => (1_000_000_000, 9),
        };
        if self.count < 0 {
            f.write_str("-")?;
        }
        let count = self.count.unsigned_abs();
        let (seconds, fraction) = (count / units, count % units);
        match seconds / 86_400 {
            0 => {}
            1 => f.write_str("1 day ")?,
            days => write!(f, "{days} days ")?,
        }
        let (hours, minutes) = (seconds / 3_600 % 24, seconds / 60 % 60);
        write!(f, "{hours:02}:{minutes:02}:{:02}", seconds % 60)?;
        if fraction > 0 {
            let text = format!("{fraction:0digits$}");
            write!(f, ".{}", text.trim_end_matches('0'))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{DurationSecondArray, ListArray, UInt8Array},
        datatypes::Int32Type,
    };

    use super::*;

    #[test]
    fn durations() {
        for (count, unit, expected) in [
            (0, TimeUnit::Second, "00:00:00"),
            (21_600, TimeUnit::Second, "06:00:00"),
            (-90, TimeUnit::Second, "-00:01:30"),
            (86_400, TimeUnit::Second, "1 day 00:00:00"),
            (-108_000_000, TimeUnit::Millisecond, "-1 day 06:00:00"),
            (172_801_500, TimeUnit::Millisecond, "2 days 00:00:01.5"),
            (1, TimeUnit::Nanosecond, "00:00:00.000000001"),
            (-120_000, TimeUnit::Microsecond, "-00:00:00.12"),
            (i64::MIN, TimeUnit::Second, "-106751991167300 days 15:30:08"),
        ] {
            assert_eq!(Duration { count, unit }.to_string(), expected);
        }
    }

    #[test]
    fn columns() {
        let array = DurationSecondArray::from(vec![Some(60), None]);
        let cells = formatter(&array).unwrap();
        assert_eq!(cells.value(0).to_string(), "00:01:00");
        assert_eq!(cells.value(1).to_string(), "");
        let array = UInt8Array::from(vec![3]);
        assert_eq!(formatter(&array).unwrap().value(0).to_string(), "3");
        // Inside of lists too.
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(60), None])]);
        let to =
            DataType::List(Arc::new(Field::new("x", DataType::Duration(TimeUnit::Second), true)));
        let list = arrow::compute::cast(
            &arrow::compute::cast(
                &list,
                &DataType::List(Arc::new(Field::new("x", DataType::Int64, true))),
            )
            .unwrap(),
            &to,
        )
        .unwrap();
        assert_eq!(formatter(&list).unwrap().value(0).to_string(), "[00:01:00, ]");
    }
}
