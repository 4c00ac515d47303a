//! The functions that give both zeros one value.

use std::sync::Arc;

use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, FixedSizeListArray, GenericListArray, Int16Array,
        Int32Array, Int64Array, OffsetSizeTrait, StructArray,
    },
    datatypes::{DataType, Field, FieldRef, Float16Type, Float32Type, Float64Type},
};
use datafusion::{
    common::{Result, exec_err, internal_err, utils::normalize_float_zero},
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
        Volatility,
        sort_properties::{ExprProperties, SortProperties},
    },
    physical_expr::{PhysicalExpr, ScalarFunctionExpr},
    scalar::ScalarValue,
};

/// Stand-in for a value where bits are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// The value with 0.0 for -0.0, also within lists and structures.
    OneZero,
    /// Integer of the same width and order, the same for both zeros. Equal integers are equal floats, and a
    /// NaN equals one of the same bits, as in DataFusion's joins.
    Integer,
}

/// Function that converts values to a form.
pub(super) fn function(form: Form) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Comparable::new(form)))
}

/// The float whose bits are a key of a join: different floats have different keys, but for both zeros.
pub(crate) fn float_key_of(expr: &Arc<dyn PhysicalExpr>) -> Option<&Arc<dyn PhysicalExpr>> {
    let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
    match call.args() {
        [of] if call.fun().inner().is::<Comparable>() => Some(of),
        _ => None,
    }
}

/// Whether a type has signed zeros.
pub(super) fn holds_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            holds_floats(item.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|field| holds_floats(field.data_type())),
        other => other.is_floating(),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Comparable {
    form: Form,
    signature: Signature,
}

impl Comparable {
    fn new(form: Form) -> Self {
        Self { form, signature: Signature::any(1, Volatility::Immutable) }
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        match self.form {
            Form::OneZero => one_zero(values),
            Form::Integer => integers(values),
        }
    }
}

impl ScalarUDFImpl for Comparable {
    fn name(&self) -> &'static str {
        match self.form {
            Form::OneZero => "one_zero",
            Form::Integer => "float_key",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let [of] = arg_types else { return internal_err!("{} takes one argument", self.name()) };
        Ok(match (self.form, of) {
            (Form::Integer, DataType::Float16) => DataType::Int16,
            (Form::Integer, DataType::Float32) => DataType::Int32,
            (Form::Integer, DataType::Float64) => DataType::Int64,
            _ => of.clone(),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [of] = args.arg_fields else {
            return internal_err!("{} takes one argument", self.name());
        };
        let data_type = self.return_type(&[of.data_type().clone()])?;
        Ok(Arc::new(Field::new(self.name(), data_type, of.is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(values)] => Ok(ColumnarValue::Array(self.apply(values)?)),
            [ColumnarValue::Scalar(value)] => {
                let values = self.apply(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?))
            }
            _ => exec_err!("{} takes one argument", self.name()),
        }
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        // The argument's order stays. An order by further keys doesn't, as -0.0 and 0.0 become one.
        Ok(inputs.first().map_or(SortProperties::Unordered, |input| input.sort_properties))
    }
}

/// Replaces -0.0 by 0.0, also within lists and structures.
fn one_zero(values: &ArrayRef) -> Result<ArrayRef> {
    Ok(match values.data_type() {
        data_type if !holds_floats(data_type) => Arc::clone(values),
        DataType::List(item) => list::<i32>(values, item)?,
        DataType::LargeList(item) => list::<i64>(values, item)?,
        DataType::FixedSizeList(item, len) => {
            let lists = values.as_fixed_size_list();
            let items = one_zero(lists.values())?;
            let nulls = lists.nulls().cloned();
            Arc::new(FixedSizeListArray::try_new(Arc::clone(item), *len, items, nulls)?)
        }
        DataType::Struct(fields) => {
            let parts = values.as_struct();
            let columns = parts.columns().iter().map(one_zero).collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new_with_length(
                fields.clone(),
                columns,
                parts.nulls().cloned(),
                parts.len(),
            )?)
        }
        _ => normalize_float_zero(values),
    })
}

fn list<O: OffsetSizeTrait>(values: &ArrayRef, item: &FieldRef) -> Result<ArrayRef> {
    let lists = values.as_list::<O>();
    Ok(Arc::new(GenericListArray::<O>::try_new(
        Arc::clone(item),
        lists.offsets().clone(),
        one_zero(lists.values())?,
        lists.nulls().cloned(),
    )?))
}

/// Integers in the order of floats: the bits of a negative number count downwards.
fn integers(values: &ArrayRef) -> Result<ArrayRef> {
    Ok(match values.data_type() {
        DataType::Float16 => {
            let keys: Int16Array = values.as_primitive::<Float16Type>().unary(|value| {
                let bits = value.to_bits().cast_signed();
                if bits == i16::MIN { 0 } else { bits ^ ((bits >> 15) & i16::MAX) }
            });
            Arc::new(keys)
        }
        DataType::Float32 => {
            let keys: Int32Array = values.as_primitive::<Float32Type>().unary(|value| {
                let bits = value.to_bits().cast_signed();
                if bits == i32::MIN { 0 } else { bits ^ ((bits >> 31) & i32::MAX) }
            });
            Arc::new(keys)
        }
        DataType::Float64 => {
            let keys: Int64Array = values.as_primitive::<Float64Type>().unary(|value| {
                let bits = value.to_bits().cast_signed();
                if bits == i64::MIN { 0 } else { bits ^ ((bits >> 63) & i64::MAX) }
            });
            Arc::new(keys)
        }
        other => return exec_err!("float_key takes a float, not {other}"),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Float64Array};
    use datafusion::arrow::datatypes::{Int32Type, Int64Type};

    use super::*;

    #[test]
    fn integers_are_in_the_order_of_floats() {
        let values = [f64::NEG_INFINITY, -2.5, -f64::MIN_POSITIVE, 0.0, 1e-300, 7.0, f64::INFINITY];
        let keys = integers(&(Arc::new(Float64Array::from(values.to_vec())) as ArrayRef)).unwrap();
        assert!(keys.as_primitive::<Int64Type>().values().is_sorted_by(|one, other| one < other));
        let zeros: ArrayRef = Arc::new(Float32Array::from(vec![-0.0, 0.0, f32::NAN, f32::NAN]));
        let keys = integers(&zeros).unwrap();
        let keys = keys.as_primitive::<Int32Type>();
        assert_eq!(keys.value(0), keys.value(1));
        assert_eq!(keys.value(2), keys.value(3));
    }
}
