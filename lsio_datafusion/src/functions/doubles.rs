//! Functions of doubles: `isinf`, `isfinite`, `fdiv` and `fmod`.

use std::sync::Arc;

use arrow::{
    array::{AsArray as _, BooleanArray, Float64Array},
    compute::binary,
    datatypes::{DataType, Float64Type},
};
use datafusion::{
    common::{Result, plan_err},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
    scalar::ScalarValue,
};

/// Function of doubles. NULL gives NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DoubleUdf {
    kind: DoubleFunction,
    signature: Signature,
}

/// Functions as in `DuckDB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum DoubleFunction {
    /// Whether a number is infinite.
    IsInfinite,
    /// Whether a number is neither infinite nor NaN.
    IsFinite,
    /// Quotient, rounded down.
    Quotient,
    /// Remainder of that quotient, with the sign of the divisor.
    Remainder,
}

pub(super) const ALL: [DoubleFunction; 4] = [
    DoubleFunction::IsInfinite,
    DoubleFunction::IsFinite,
    DoubleFunction::Quotient,
    DoubleFunction::Remainder,
];

impl DoubleUdf {
    pub(super) fn new(kind: DoubleFunction) -> Self {
        Self { kind, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl DoubleFunction {
    fn of_one(self, value: f64) -> bool {
        if self == Self::IsInfinite { value.is_infinite() } else { value.is_finite() }
    }

    fn of_two(self, a: f64, b: f64) -> f64 {
        let quotient = (a / b).floor();
        match self {
            Self::Remainder if b == 0.0 || a.is_infinite() => f64::NAN,
            Self::Remainder => {
                // Exact, unlike a - b * quotient.
                let rest = a % b;
                if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
            }
            _ => quotient,
        }
    }

    fn arguments(self) -> usize {
        if matches!(self, Self::IsInfinite | Self::IsFinite) { 1 } else { 2 }
    }
}

impl ScalarUDFImpl for DoubleUdf {
    fn name(&self) -> &'static str {
        match self.kind {
            DoubleFunction::IsInfinite => "isinf",
            DoubleFunction::IsFinite => "isfinite",
            DoubleFunction::Quotient => "fdiv",
            DoubleFunction::Remainder => "fmod",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let are_numbers = types.iter().all(|number| number.is_numeric() || number.is_null());
        if types.len() == self.kind.arguments() && are_numbers {
            return Ok(vec![DataType::Float64; types.len()]);
        }
        let types: Vec<String> = types.iter().map(ToString::to_string).collect();
        let call = match self.kind.arguments() {
            1 => "a number",
            _ => "two numbers",
        };
        plan_err!("{} takes {call}, not ({})", self.name(), types.join(", "))
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(match self.kind.arguments() {
            1 => DataType::Boolean,
            _ => DataType::Float64,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let columns = arrays.iter().map(|array| array.as_primitive_opt::<Float64Type>());
        let columns: Option<Vec<&Float64Array>> = columns.collect();
        let kind = self.kind;
        let result: arrow::array::ArrayRef = match columns.as_deref() {
            Some([column]) => {
                Arc::new(BooleanArray::from_unary(*column, |value| kind.of_one(value)))
            }
            Some([a, b]) => {
                let result: Float64Array = binary(a, b, |a, b| kind.of_two(a, b))?;
                Arc::new(result)
            }
            _ => return plan_err!("{} takes doubles", self.name()),
        };
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?),
            false => ColumnarValue::Array(result),
        })
    }
}
