//! Functions of integers: `divide(a, b)` for `//`, `mod(a, b)` for `%`, and `xor(a, b)`.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray},
    compute::kernels::bitwise::bitwise_xor,
    datatypes::{DataType, Float64Type, Int64Type, UInt64Type},
};
use datafusion::{
    common::{Result, exec_datafusion_err, exec_err, plan_err, utils::take_function_args},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
    scalar::ScalarValue,
};

/// Scalar function `divide(a, b)`, DuckDB's name of `a // b`: 64-bit integers rounded towards zero; other
/// numbers as `/`. NULL for division by zero.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Divide {
    signature: Signature,
}

impl Default for Divide {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Divide {
    fn name(&self) -> &'static str {
        "divide"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        numbers(self.name(), types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [left, right] = take_function_args(self.name(), types)?;
        Ok(if left == right { left.clone() } else { DataType::Int64 })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (is_scalar, [left, right]) = arrays(self.name(), &args)?;
        let quotient: ArrayRef = match (left.data_type(), right.data_type()) {
            (DataType::Float64, DataType::Float64) => {
                let divided =
                    zip::<Float64Type, Float64Type, Float64Type>(&left, &right, |a, b| {
                        Ok((b != 0.0).then_some(a / b))
                    })?;
                Arc::new(divided)
            }
            (DataType::UInt64, DataType::UInt64) => {
                let divided = zip::<UInt64Type, UInt64Type, UInt64Type>(&left, &right, |a, b| {
                    Ok(a.checked_div(b))
                })?;
                Arc::new(divided)
            }
            (DataType::Int64, DataType::Int64) => {
                let divided = zip::<Int64Type, Int64Type, Int64Type>(&left, &right, signed)?;
                Arc::new(divided)
            }
            (DataType::UInt64, DataType::Int64) => {
                let divided = zip::<UInt64Type, Int64Type, Int64Type>(&left, &right, signed)?;
                Arc::new(divided)
            }
            (DataType::Int64, DataType::UInt64) => {
                let divided = zip::<Int64Type, UInt64Type, Int64Type>(&left, &right, signed)?;
                Arc::new(divided)
            }
            (left, right) => return exec_err!("`//` divides numbers, not {left} by {right}"),
        };
        result(is_scalar, quotient)
    }
}

/// Scalar function `mod(a, b)`: remainder of the division towards zero. NULL for division by zero.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Remainder {
    signature: Signature,
}

impl Default for Remainder {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Remainder {
    fn name(&self) -> &'static str {
        "mod"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        numbers(self.name(), types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [left, _] = take_function_args(self.name(), types)?;
        Ok(left.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (is_scalar, [left, right]) = arrays(self.name(), &args)?;
        // The remainder is no greater than the dividend, so it fits its type.
        let rest = |a: i128, b: i128| a.checked_rem(b);
        let remainder: ArrayRef = match (left.data_type(), right.data_type()) {
            (DataType::Float64, DataType::Float64) => {
                Arc::new(zip::<Float64Type, Float64Type, Float64Type>(&left, &right, |a, b| {
                    Ok((b != 0.0).then_some(a % b))
                })?)
            }
            (DataType::UInt64, DataType::UInt64) => {
                Arc::new(zip::<UInt64Type, UInt64Type, UInt64Type>(&left, &right, |a, b| {
                    Ok(a.checked_rem(b))
                })?)
            }
            (DataType::Int64, DataType::Int64) => {
                Arc::new(zip::<Int64Type, Int64Type, Int64Type>(&left, &right, |a, b| {
                    Ok(rest(a.into(), b.into()).and_then(|rest| rest.try_into().ok()))
                })?)
            }
            (DataType::UInt64, DataType::Int64) => {
                Arc::new(zip::<UInt64Type, Int64Type, UInt64Type>(&left, &right, |a, b| {
                    Ok(rest(a.into(), b.into()).and_then(|rest| rest.try_into().ok()))
                })?)
            }
            (DataType::Int64, DataType::UInt64) => {
                Arc::new(zip::<Int64Type, UInt64Type, Int64Type>(&left, &right, |a, b| {
                    Ok(rest(a.into(), b.into()).and_then(|rest| rest.try_into().ok()))
                })?)
            }
            (left, right) => return exec_err!("mod takes numbers, not {left} and {right}"),
        };
        result(is_scalar, remainder)
    }
}

/// Scalar function `xor(a, b)`: exclusive or of the bits of two integers. `^` is power.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Xor {
    signature: Signature,
}

impl Default for Xor {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Xor {
    fn name(&self) -> &'static str {
        "xor"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = take_function_args(self.name(), types)?;
        match integers(left, right) {
            Some(types) if types[0] == types[1] => Ok(types),
            Some(_) => Ok(vec![DataType::Int64; 2]),
            None => plan_err!("xor takes integers, not {left} and {right}"),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [left, _] = take_function_args(self.name(), types)?;
        Ok(left.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (is_scalar, [left, right]) = arrays(self.name(), &args)?;
        let bits: ArrayRef = match (left.data_type(), right.data_type()) {
            (DataType::UInt64, DataType::UInt64) => Arc::new(bitwise_xor(
                left.as_primitive::<UInt64Type>(),
                right.as_primitive::<UInt64Type>(),
            )?),
            (DataType::Int64, DataType::Int64) => Arc::new(bitwise_xor(
                left.as_primitive::<Int64Type>(),
                right.as_primitive::<Int64Type>(),
            )?),
            (left, right) => return exec_err!("xor takes integers, not {left} and {right}"),
        };
        result(is_scalar, bits)
    }
}

/// Coerces the types of two numbers.
fn numbers(function: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let [left, right] = take_function_args(function, types)?;
    if let Some(types) = integers(left, right) {
        return Ok(types);
    }
    if [left, right].iter().all(|number| number.is_numeric() || number.is_null()) {
        return Ok(vec![DataType::Float64; 2]);
    }
    plan_err!("{function}(a, b) divides numbers, not {left} by {right}")
}

/// Coerces two integers to 64 bits, uint64 beside unsigned ones.
fn integers(left: &DataType, right: &DataType) -> Option<Vec<DataType>> {
    let wide = |number: &DataType| match number {
        DataType::UInt64 => Some(DataType::UInt64),
        number if number.is_integer() || number.is_null() => Some(DataType::Int64),
        _ => None,
    };
    let (left, right) = match (wide(left)?, wide(right)?) {
        // A narrower unsigned integer isn't negative.
        (DataType::UInt64, _) if right.is_unsigned_integer() => {
            (DataType::UInt64, DataType::UInt64)
        }
        (_, DataType::UInt64) if left.is_unsigned_integer() => (DataType::UInt64, DataType::UInt64),
        types => types,
    };
    Some(vec![left, right])
}

/// Arguments as arrays, and whether all of them are scalars.
fn arrays(function: &str, args: &ScalarFunctionArgs) -> Result<(bool, [ArrayRef; 2])> {
    let [left, right] = take_function_args(function, &args.args)?;
    let is_scalar =
        [left, right].iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
    let rows = if is_scalar { 1 } else { args.number_rows };
    Ok((is_scalar, [left.to_array(rows)?, right.to_array(rows)?]))
}

fn result(is_scalar: bool, array: ArrayRef) -> Result<ColumnarValue> {
    Ok(if is_scalar {
        ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
    } else {
        ColumnarValue::Array(array)
    })
}

/// Combines two arrays value by value; NULL where either is.
fn zip<A: ArrowPrimitiveType, B: ArrowPrimitiveType, C: ArrowPrimitiveType>(
    left: &ArrayRef,
    right: &ArrayRef,
    combine: impl Fn(A::Native, B::Native) -> Result<Option<C::Native>>,
) -> Result<PrimitiveArray<C>> {
    let (left, right) = (left.as_primitive::<A>(), right.as_primitive::<B>());
    (left.iter().zip(right.iter()))
        .map(|pair| match pair {
            (Some(a), Some(b)) => combine(a, b),
            _ => Ok(None),
        })
        .collect()
}

fn signed(a: impl Into<i128>, b: impl Into<i128>) -> Result<Option<i64>> {
    let (a, b) = (a.into(), b.into());
    let Some(quotient) = a.checked_div(b) else { return Ok(None) };
    let quotient = i64::try_from(quotient)
        .map_err(|_| exec_datafusion_err!("{a} // {b} doesn't fit into a BIGINT"))?;
    Ok(Some(quotient))
}
