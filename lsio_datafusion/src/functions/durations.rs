//! Arithmetic on durations.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray as _, Float64Array, Int64Array},
    compute::{cast, unary},
    datatypes::{
        DataType, Float64Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
    },
};
use datafusion::{
    common::{Result, exec_datafusion_err, exec_err, plan_err, utils::take_function_args},
    logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
    scalar::ScalarValue,
};

/// Operation on a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum DurationOp {
    /// Duration times number: a duration.
    Times,
    /// Duration by number: a duration, NULL for 0.
    Over,
    /// Duration by duration or interval: a double, NULL for 0.
    Ratio,
    /// Duration plus duration or interval: a duration in the finer unit.
    Plus,
    /// Duration minus duration or interval.
    Minus,
}

/// Arithmetic on durations that DataFusion 55.2 doesn't plan, or for which it returns an interval, which
/// equals no duration. Results have the duration's unit for a product with an integer, and microseconds or
/// finer where there may be a fraction.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct DurationArithmetic {
    op: DurationOp,
    signature: Signature,
}

impl DurationArithmetic {
    pub(crate) fn new(op: DurationOp) -> Self {
        Self { op, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// Unit of a result that may have a fraction.
fn fine(unit: TimeUnit) -> TimeUnit {
    match unit {
        TimeUnit::Nanosecond => TimeUnit::Nanosecond,
        _ => TimeUnit::Microsecond,
    }
}

fn unit_nanos(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

impl ScalarUDFImpl for DurationArithmetic {
    fn name(&self) -> &'static str {
        match self.op {
            DurationOp::Times => "multiply_duration",
            DurationOp::Over => "divide_duration",
            DurationOp::Ratio => "duration_ratio",
            DurationOp::Plus => "add_durations",
            DurationOp::Minus => "subtract_durations",
        }
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let [left, right] = take_function_args(self.name(), args)?;
        let sign = match self.op {
            DurationOp::Times => '*',
            DurationOp::Over | DurationOp::Ratio => '/',
            DurationOp::Plus => '+',
            DurationOp::Minus => '-',
        };
        Ok(format!("{} {sign} {}", left.schema_name(), right.schema_name()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = take_function_args(self.name(), types)?;
        let right = match (self.op, right) {
            (DurationOp::Ratio | DurationOp::Plus | DurationOp::Minus, DataType::Duration(_)) => {
                right.clone()
            }
            (DurationOp::Ratio | DurationOp::Plus | DurationOp::Minus, DataType::Interval(_)) => {
                DataType::Interval(IntervalUnit::MonthDayNano)
            }
            (DurationOp::Times, number) if number.is_integer() => DataType::Int64,
            (DurationOp::Times | DurationOp::Over, number)
                if number.is_numeric() || number.is_null() =>
            {
                DataType::Float64
            }
            _ => return plan_err!("{} takes no {left} and {right}", self.name()),
        };
        match left {
            DataType::Duration(_) => Ok(vec![left.clone(), right]),
            _ => plan_err!("{} takes a duration, not {left}", self.name()),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [left, right] = take_function_args(self.name(), types)?;
        let DataType::Duration(unit) = left else {
            return plan_err!("{} takes a duration, not {left}", self.name());
        };
        Ok(match self.op {
            DurationOp::Ratio => DataType::Float64,
            DurationOp::Plus | DurationOp::Minus => match right {
                DataType::Duration(other) if unit_nanos(*other) < unit_nanos(*unit) => {
                    DataType::Duration(*other)
                }
                DataType::Duration(_) => DataType::Duration(*unit),
                _ => DataType::Duration(fine(*unit)),
            },
            DurationOp::Times if *right == DataType::Int64 => DataType::Duration(*unit),
            _ => DataType::Duration(fine(*unit)),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [durations, by] = take_function_args(self.name(), arrays)?;
        let result = match self.op {
            DurationOp::Ratio => ratio(&durations, &by)?,
            DurationOp::Plus => summed(&durations, &by, 1, args.return_type())?,
            DurationOp::Minus => summed(&durations, &by, -1, args.return_type())?,
            _ => scaled(&durations, &by, self.op, args.return_type())?,
        };
        if is_scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

/// Durations as integers, and the nanoseconds of one.
fn counts(durations: &ArrayRef) -> Result<(Int64Array, i64)> {
    let DataType::Duration(unit) = durations.data_type() else {
        return exec_err!("{} is no duration", durations.data_type());
    };
    let counts = cast(durations, &DataType::Int64)?;
    Ok((counts.as_primitive::<Int64Type>().clone(), unit_nanos(*unit)))
}

fn scaled(durations: &ArrayRef, by: &ArrayRef, op: DurationOp, to: &DataType) -> Result<ArrayRef> {
    let too_long = || exec_datafusion_err!("a duration times or by a number is too long");
    let (counts, from) = counts(durations)?;
    let mut scaled = Vec::with_capacity(counts.len());
    if let Some(integers) = by.as_primitive_opt::<Int64Type>() {
        for pair in counts.iter().zip(integers) {
            let (Some(count), Some(by)) = pair else {
                scaled.push(None);
                continue;
            };
            scaled.push(Some(count.checked_mul(by).ok_or_else(too_long)?));
        }
    } else {
        let DataType::Duration(unit) = to else { return exec_err!("{to} is no duration") };
        let scale = (from / unit_nanos(*unit)) as f64;
        let numbers = by.as_primitive::<Float64Type>();
        for pair in counts.iter().zip(numbers) {
            let (Some(count), Some(by)) = pair else {
                scaled.push(None);
                continue;
            };
            let value = match op {
                DurationOp::Times => count as f64 * scale * by,
                _ => count as f64 * scale / by,
            };
            let is_number = !by.is_nan() && (op == DurationOp::Times || by != 0.0);
            scaled.push(is_number.then(|| whole(value).ok_or_else(too_long)).transpose()?);
        }
    }
    Ok(cast(&(Arc::new(Int64Array::from(scaled)) as ArrayRef), to)?)
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked before")]
fn whole(value: f64) -> Option<i64> {
    (value.abs() < 9.2e18).then(|| value.round() as i64)
}

/// Sum of durations, or of durations and intervals, in the unit of a type.
fn summed(left: &ArrayRef, right: &ArrayRef, sign: i128, to: &DataType) -> Result<ArrayRef> {
    let DataType::Duration(unit) = to else { return exec_err!("{to} is no duration") };
    let unit = i128::from(unit_nanos(*unit));
    let nanos = |array: &ArrayRef| -> Result<Vec<Option<i128>>> {
        if let Some(intervals) = array.as_primitive_opt::<IntervalMonthDayNanoType>() {
            let nanos = intervals.iter().map(|interval| {
                let Some(interval) = interval else { return Ok(None) };
                if interval.months != 0 {
                    return exec_err!("months have no length: add days, hours, minutes or seconds");
                }
                let days = i128::from(interval.days) * 86_400_000_000_000;
                Ok(Some(days + i128::from(interval.nanoseconds)))
            });
            return nanos.collect();
        }
        let (counts, unit) = counts(array)?;
        Ok(counts.iter().map(|count| Some(i128::from(count?) * i128::from(unit))).collect())
    };
    let sums = nanos(left)?.into_iter().zip(nanos(right)?).map(|pair| match pair {
        (Some(left), Some(right)) => {
            let sum = (left + sign * right).div_euclid(unit);
            let sum = i64::try_from(sum);
            sum.map(Some).map_err(|_| exec_datafusion_err!("a sum of durations is too long"))
        }
        _ => Ok(None),
    });
    let sums: Int64Array = sums.collect::<Result<_>>()?;
    Ok(cast(&(Arc::new(sums) as ArrayRef), to)?)
}

fn ratio(durations: &ArrayRef, by: &ArrayRef) -> Result<ArrayRef> {
    let (left, left_unit) = counts(durations)?;
    let (right, right_unit): (Float64Array, i64) = match by.data_type() {
        DataType::Duration(_) => {
            let (right, unit) = counts(by)?;
            (unary(&right, |count| count as f64), unit)
        }
        _ => {
            let intervals = by.as_primitive::<IntervalMonthDayNanoType>();
            let nanos = intervals.try_unary(|interval| {
                if interval.months != 0 {
                    return exec_err!(
                        "months have no length: divide a duration by days, hours, minutes or seconds"
                    );
                }
                Ok(f64::from(interval.days) * 86_400e9 + interval.nanoseconds as f64)
            })?;
            (nanos, 1)
        }
    };
    let ratios: Float64Array = left
        .iter()
        .zip(&right)
        .map(|pair| match pair {
            // Units are powers of ten: their ratio or its inverse is whole.
            (Some(left), Some(right)) if right != 0.0 => Some(match left_unit / right_unit {
                0 => left as f64 / (right * (right_unit / left_unit) as f64),
                scale => left as f64 * scale as f64 / right,
            }),
            _ => None,
        })
        .collect();
    Ok(Arc::new(ratios))
}

#[cfg(test)]
mod tests {
    use arrow::array::{DurationMillisecondArray, DurationSecondArray};

    use super::*;

    #[test]
    fn fractions_are_kept() {
        let durations: ArrayRef =
            Arc::new(DurationSecondArray::from(vec![Some(3), None, Some(-3)]));
        let by: ArrayRef = Arc::new(Float64Array::from(vec![2.0, 2.0, 0.0]));
        let to = DataType::Duration(TimeUnit::Microsecond);
        let halves = scaled(&durations, &by, DurationOp::Over, &to).unwrap();
        let halves = cast(&halves, &DataType::Int64).unwrap();
        let halves: Vec<_> = halves.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(halves, [Some(1_500_000), None, None]);
    }

    #[test]
    fn ratios_are_of_lengths() {
        let seconds: ArrayRef = Arc::new(DurationSecondArray::from(vec![3, 1]));
        let millis: ArrayRef = Arc::new(DurationMillisecondArray::from(vec![1_500, 0]));
        let ratios = |a, b| -> Vec<Option<f64>> {
            ratio(a, b).unwrap().as_primitive::<Float64Type>().iter().collect()
        };
        assert_eq!(ratios(&seconds, &millis), [Some(2.0), None]);
        assert_eq!(ratios(&millis, &seconds), [Some(0.5), Some(0.0)]);
    }
}
