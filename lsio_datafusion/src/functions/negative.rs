//! `negative(x)`, which stands for `-x` where DataFusion plans none.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray as _, Int64Array},
    compute::{cast, kernels::numeric::neg_wrapping},
    datatypes::{DataType, UInt64Type},
};
use datafusion::{
    common::{Result, plan_err, utils::take_function_args},
    logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
    scalar::ScalarValue,
};

/// Scalar function `negative(x)`: int64 for integers, wrapping beyond as numpy does; durations stay
/// durations. DataFusion 55.2 plans no `-x` of unsigned numbers and durations.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Negative {
    signature: Signature,
}

impl Default for Negative {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Negative {
    fn name(&self) -> &'static str {
        "negative"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let [of] = take_function_args(self.name(), args)?;
        Ok(format!("(- {})", of.schema_name()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [of] = take_function_args(self.name(), types)?;
        let has_sign = of.is_numeric()
            || matches!(of, DataType::Null | DataType::Duration(_) | DataType::Interval(_));
        if has_sign { Ok(vec![of.clone()]) } else { plan_err!("there is no -x of a {of}") }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [of] = take_function_args(self.name(), types)?;
        Ok(if of.is_integer() { DataType::Int64 } else { of.clone() })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [of] = take_function_args(self.name(), args.args)?;
        Ok(match of {
            ColumnarValue::Array(values) => ColumnarValue::Array(negated(&values)?),
            ColumnarValue::Scalar(value) => {
                let values = negated(&value.to_array()?)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)
            }
        })
    }
}

fn negated(values: &ArrayRef) -> Result<ArrayRef> {
    Ok(match values.data_type() {
        DataType::UInt64 => {
            let values = values.as_primitive::<UInt64Type>();
            let negated: Int64Array = values.unary(|value| value.cast_signed().wrapping_neg());
            Arc::new(negated)
        }
        data_type if data_type.is_integer() => neg_wrapping(&cast(values, &DataType::Int64)?)?,
        DataType::Duration(_) => {
            let counts = cast(values, &DataType::Int64)?;
            cast(&neg_wrapping(&counts)?, values.data_type())?
        }
        DataType::Null => Arc::clone(values),
        _ => neg_wrapping(values)?,
    })
}
