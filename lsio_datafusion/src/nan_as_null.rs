//! The function that replaces NaN by NULL, as computed NaN is a missing value.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{Array as _, ArrayRef, ArrowPrimitiveType, AsArray as _, PrimitiveArray},
    buffer::{BooleanBuffer, NullBuffer},
    datatypes::{DataType, Float16Type, Float32Type, Float64Type},
};
use datafusion::{
    common::{Result, exec_err},
    logical_expr::{
        ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
        expr::ScalarFunction,
    },
    physical_expr::{PhysicalExpr, ScalarFunctionExpr},
    scalar::ScalarValue,
};

/// Replaces NaN by NULL in an expression.
pub(crate) fn nan_as_null(expr: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&FUNCTION), vec![expr]))
}

/// Whether a function is `nan_as_null`.
pub(crate) fn is_nan_as_null(function: &ScalarUDF) -> bool {
    function.inner().is::<NanAsNull>()
}

/// Argument of a call of `nan_as_null`.
pub(crate) fn inside(expr: &Arc<dyn PhysicalExpr>) -> Option<&Arc<dyn PhysicalExpr>> {
    let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
    match call.args() {
        [argument] if is_nan_as_null(call.fun()) => Some(argument),
        _ => None,
    }
}

/// Replaces NaN by NULL in an array.
pub(crate) fn without_nan(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float16 => made_null::<Float16Type>(array, |v| v.is_nan()),
        DataType::Float32 => made_null::<Float32Type>(array, f32::is_nan),
        DataType::Float64 => made_null::<Float64Type>(array, f64::is_nan),
        _ => Arc::clone(array),
    }
}

/// Whether a number is NaN.
pub(crate) fn is_nan(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Float16(Some(value)) => value.is_nan(),
        ScalarValue::Float32(Some(value)) => value.is_nan(),
        ScalarValue::Float64(Some(value)) => value.is_nan(),
        _ => false,
    }
}

static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(NanAsNull { signature }))
});

#[derive(Debug, PartialEq, Eq, Hash)]
struct NanAsNull {
    signature: Signature,
}

impl ScalarUDFImpl for NanAsNull {
    fn name(&self) -> &'static str {
        "nan_as_null"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [data_type] => Ok(data_type.clone()),
            _ => exec_err!("nan_as_null takes one number"),
        }
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(values)] => Ok(ColumnarValue::Array(without_nan(values))),
            [ColumnarValue::Scalar(value)] if is_nan(value) => {
                Ok(ColumnarValue::Scalar(ScalarValue::try_new_null(&value.data_type())?))
            }
            [ColumnarValue::Scalar(value)] => Ok(ColumnarValue::Scalar(value.clone())),
            _ => exec_err!("nan_as_null takes one number"),
        }
    }
}

fn made_null<T: ArrowPrimitiveType>(array: &ArrayRef, is_nan: fn(T::Native) -> bool) -> ArrayRef {
    let Some(floats) = array.as_primitive_opt::<T>() else { return Arc::clone(array) };
    let values = floats.values();
    // Most blocks have none: a pass that only searches is cheap.
    let any = |block: &[T::Native]| block.iter().fold(false, |any, &v| any | is_nan(v));
    if !values.chunks(1024).any(any) {
        return Arc::clone(array);
    }
    let valid = BooleanBuffer::collect_bool(values.len(), |i| !is_nan(values[i]));
    let nulls = NullBuffer::union(Some(&NullBuffer::new(valid)), floats.nulls());
    Arc::new(PrimitiveArray::<T>::new(values.clone(), nulls))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Float64Array, Int64Array};

    use super::*;

    #[test]
    fn nan_becomes_null_beside_what_is_null_already() {
        let values = [Some(1.0), None, Some(f64::NAN), Some(f64::INFINITY), Some(-f64::NAN)];
        let array: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        let expected = Float64Array::from(vec![Some(1.0), None, None, Some(f64::INFINITY), None]);
        assert_eq!(without_nan(&array).as_primitive::<Float64Type>(), &expected);
        let slice = without_nan(&array.slice(2, 2));
        assert_eq!(slice.as_primitive::<Float64Type>(), &expected.slice(2, 2));

        let singles: ArrayRef = Arc::new(Float32Array::from(vec![f32::NAN, 2.0]));
        assert_eq!(without_nan(&singles).null_count(), 1);
    }

    #[test]
    fn what_has_no_nan_stays_the_same_array() {
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None]));
        let integers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        for array in [doubles, integers] {
            assert!(Arc::ptr_eq(&without_nan(&array), &array));
        }
    }
}
