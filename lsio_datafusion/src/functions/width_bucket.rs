//! `width_bucket(value, low, high, count)`.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, Int64Array},
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type},
};
use datafusion::{
    common::{Result, exec_datafusion_err, plan_err, utils::take_function_args},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
    scalar::ScalarValue,
};
use lsio_core::reduce::{Buckets, NoBuckets};

/// Scalar function `width_bucket(value, low, high, count)`: the number of the bucket in which a value lies, among
/// buckets of equal width from `low` to `high`, as in PostgreSQL. 0 is before the first, `count` + 1 behind the last,
/// which excludes `high`. If `low` is the greater bound, buckets are counted downwards.
///
/// NULL gives NULL, and so does a value that is NaN.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct WidthBucket {
    signature: Signature,
}

impl Default for WidthBucket {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for WidthBucket {
    fn name(&self) -> &'static str {
        "width_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [value, ..] = take_function_args::<4, _>(self.name(), types)?;
        if let Some(other) = types.iter().find(|found| !found.is_numeric() && !found.is_null()) {
            return plan_err!("width_bucket(value, low, high, count) takes numbers, not {other}");
        }
        Ok(bucket_types(value))
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value, low, high, count] = take_function_args(self.name(), &args.args)?;
        let is_single = value.data_type() == DataType::Float32;
        let is_scalar = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let values = cast(&value.to_array(rows)?, &DataType::Float64)?;
        let values = values.as_primitive::<Float64Type>();
        let scalars = [low, high, count].map(|bound| match bound {
            ColumnarValue::Scalar(scalar) => Some(scalar),
            ColumnarValue::Array(_) => None,
        });
        let wrong = |error: NoBuckets| exec_datafusion_err!("width_bucket: {error}");
        let buckets: Int64Array = if let [Some(low), Some(high), Some(count)] = scalars {
            match (low, high, count) {
                (
                    ScalarValue::Float64(Some(low)),
                    ScalarValue::Float64(Some(high)),
                    ScalarValue::Int64(Some(count)),
                ) => {
                    let buckets = Buckets::new(*low, *high, *count, is_single).map_err(wrong)?;
                    let of = |value: f64| (!value.is_nan()).then(|| i64::from(buckets.of(value)));
                    values.iter().map(|value| value.and_then(of)).collect()
                }
                _ => Int64Array::new_null(rows),
            }
        } else {
            let [low, high] = [low, high].map(|bound| bound.to_array(rows));
            let (low, high, count) = (low?, high?, count.to_array(rows)?);
            let low = low.as_primitive::<Float64Type>().iter();
            let bounds = low.zip(high.as_primitive::<Float64Type>());
            let bounds = bounds.zip(count.as_primitive::<Int64Type>());
            let rows = values.iter().zip(bounds).map(|(value, ((low, high), count))| {
                let (Some(value), Some(low), Some(high), Some(count)) = (value, low, high, count)
                else {
                    return Ok(None);
                };
                let buckets = Buckets::new(low, high, count, is_single).map_err(wrong)?;
                Ok((!value.is_nan()).then(|| i64::from(buckets.of(value))))
            });
            rows.collect::<Result<_>>()?
        };
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::Int64(
                (!buckets.is_null(0)).then(|| buckets.value(0)),
            ))
        } else {
            ColumnarValue::Array(Arc::new(buckets) as ArrayRef)
        })
    }
}

/// Types of a value, two bounds and a number of buckets.
pub(crate) fn bucket_types(value: &DataType) -> Vec<DataType> {
    let value = match value {
        DataType::Float16 | DataType::Float32 => DataType::Float32,
        _ => DataType::Float64,
    };
    vec![value, DataType::Float64, DataType::Float64, DataType::Int64]
}
