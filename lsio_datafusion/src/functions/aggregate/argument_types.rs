//! Argument types of aggregates that keep values.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::{common::plan_err, error::Result};

use super::{booleans::listed, collect::CollectKind};
use crate::functions::bucket_types;

impl CollectKind {
    /// Coerces the types of arguments.
    pub(super) fn coerced(self, types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        Ok(match (self, types) {
            (Self::Quantile, [value, fraction]) => {
                vec![self.interpolated(value)?, fraction_type(name, fraction)?]
            }
            (Self::QuantileAmong, [value, fraction]) => {
                vec![value.clone(), fraction_type(name, fraction)?]
            }
            (Self::Quantile | Self::QuantileAmong, _) => {
                return plan_err!(
                    "{name} takes a value and a fraction, such as {name}(t, 0.9), or a list of \
                     fractions, not ({})",
                    listed(types)
                );
            }
            (Self::Median | Self::Deviation, [value]) => vec![self.interpolated(value)?],
            (Self::ArgMax | Self::ArgMin, [value, key]) => vec![value.clone(), key.clone()],
            (Self::ArgMax | Self::ArgMin, [_, _, _]) => {
                return plan_err!(
                    "{name} gives one value, {name}(value, key): for several write SELECT value … \
                     ORDER BY key LIMIT n"
                );
            }
            (Self::ArgMax | Self::ArgMin, _) => {
                return plan_err!(
                    "{name} takes a value and a key, such as {name}(time, t), not ({})",
                    listed(types)
                );
            }
            (Self::Mode | Self::Entropy, [value]) => vec![value.clone()],
            (Self::Histogram, [value, low, high, count])
                if [value, low, high, count].iter().all(|of| of.is_numeric() || of.is_null()) =>
            {
                bucket_types(value)
            }
            (Self::Histogram, _) => {
                return plan_err!(
                    "{name} takes numbers: a value, a lower and an upper bound, and the number of \
                     buckets, such as {name}(t, 250, 320, 70), not ({})",
                    listed(types)
                );
            }
            (Self::IntegerSum | Self::WideSum, [value]) if sum_type(value).is_some() => {
                sum_type(value).into_iter().collect()
            }
            _ => return plan_err!("{name} takes one argument, not ({})", listed(types)),
        })
    }

    /// Type of values for interpolation.
    fn interpolated(self, value: &DataType) -> Result<DataType> {
        use DataType::{
            Date32, Date64, Duration, Float16, Float32, Null, Time32, Time64, Timestamp,
        };
        Ok(match value {
            Float16 | Float32 | Timestamp(..) | Duration(_) | Time64(_) => value.clone(),
            Date32 | Date64 => Timestamp(TimeUnit::Microsecond, None),
            Time32(_) => Time64(TimeUnit::Nanosecond),
            Null => DataType::Float64,
            number if number.is_numeric() => DataType::Float64,
            other => {
                return plan_err!(
                    "{} takes numbers, times and durations, not {other}: quantile_disc takes any type",
                    self.name()
                );
            }
        })
    }
}

/// Type of fractions: a double, or a list of doubles.
fn fraction_type(name: &str, fraction: &DataType) -> Result<DataType> {
    let is_number = |fraction: &DataType| fraction.is_numeric() || fraction.is_null();
    match fraction {
        number if is_number(number) => Ok(DataType::Float64),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)
            if is_number(item.data_type()) =>
        {
            Ok(DataType::new_list(DataType::Float64, true))
        }
        other => plan_err!("{name} takes a fraction from 0 to 1 or a list of them, not {other}"),
    }
}

/// Type of sums of integers or durations.
pub(crate) fn sum_type(value: &DataType) -> Option<DataType> {
    match value {
        DataType::Duration(_) => Some(value.clone()),
        integer if integer.is_unsigned_integer() => Some(DataType::UInt64),
        integer if integer.is_integer() => Some(DataType::Int64),
        _ => None,
    }
}

/// Type of the distance between two values.
pub(super) fn distance(value: &DataType) -> DataType {
    match value {
        DataType::Timestamp(unit, _) | DataType::Time64(unit) | DataType::Duration(unit) => {
            DataType::Duration(*unit)
        }
        _ => DataType::Float64,
    }
}

pub(super) fn is_time(value: &DataType) -> bool {
    matches!(value, DataType::Timestamp(..) | DataType::Time64(_) | DataType::Duration(_))
}
