//! `power(x, y)`, which `^` is.

use arrow::{
    array::{AsArray, Float64Array},
    compute::{binary, unary},
    datatypes::{DataType, Float64Type},
};
use datafusion::{
    common::{Result, exec_err, utils::take_function_args},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
    scalar::ScalarValue,
};
use std::sync::Arc;

/// The scalar function `power(x, y)`, also `pow`: a double, as numpy's and DuckDB's.
///
/// DataFusion 55.2's ends the query where zero is raised to a negative power, which is infinity.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Power {
    signature: Signature,
    aliases: Vec<String>,
}

impl Default for Power {
    fn default() -> Self {
        let signature = Signature::exact(vec![DataType::Float64; 2], Volatility::Immutable);
        Self { signature, aliases: vec!["pow".to_owned()] }
    }
}

impl ScalarUDFImpl for Power {
    fn name(&self) -> &'static str {
        "power"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [base, exponent] = take_function_args(self.name(), args.args)?;
        if base.data_type() != DataType::Float64 || exponent.data_type() != DataType::Float64 {
            return exec_err!("power takes numbers");
        }
        let result: Float64Array = match (&base, &exponent) {
            (ColumnarValue::Scalar(base), ColumnarValue::Scalar(exponent)) => {
                let power = match (base, exponent) {
                    (ScalarValue::Float64(Some(x)), ScalarValue::Float64(Some(y))) => {
                        Some(power(*x, *y))
                    }
                    _ => None,
                };
                return Ok(ColumnarValue::Scalar(ScalarValue::Float64(power)));
            }
            (
                ColumnarValue::Array(base),
                ColumnarValue::Scalar(ScalarValue::Float64(Some(exponent))),
            ) => {
                let base = base.as_primitive::<Float64Type>();
                if *exponent == 2.0 {
                    unary(base, |x| x * x)
                } else {
                    unary(base, |x| power(x, *exponent))
                }
            }
            _ => {
                let base = base.to_array(args.number_rows)?;
                let exponent = exponent.to_array(args.number_rows)?;
                binary(
                    base.as_primitive::<Float64Type>(),
                    exponent.as_primitive::<Float64Type>(),
                    power,
                )?
            }
        };
        Ok(ColumnarValue::Array(Arc::new(result)))
    }
}

/// Squares are products, as numpy's are: exact where the product is.
fn power(base: f64, exponent: f64) -> f64 {
    if exponent == 2.0 { base * base } else { base.powf(exponent) }
}
