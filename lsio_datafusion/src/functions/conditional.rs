//! `if(condition, a, b)`.

use std::sync::Arc;

use arrow::{
    array::{Array as _, AsArray as _},
    compute::{kernels::zip::zip, prep_null_mask_filter},
    datatypes::DataType,
};
use datafusion::{
    common::{Result, plan_err, utils::take_function_args},
    logical_expr::{
        ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
        binary::comparison_coercion,
        simplify::{ExprSimplifyResult, SimplifyContext},
        when,
    },
};

/// Scalar function `if(condition, a, b)`: `a` where the condition is true, `b` where it is false or NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct If {
    signature: Signature,
}

impl Default for If {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for If {
    fn name(&self) -> &'static str {
        "if"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [condition, a, b] = take_function_args(self.name(), types)?;
        if !matches!(condition, DataType::Boolean | DataType::Null) {
            return plan_err!("the first argument of if is a condition, not {condition}");
        }
        match comparison_coercion(a, b) {
            Some(both) => Ok(vec![DataType::Boolean, both.clone(), both]),
            None => plan_err!("if can't give both {a} and {b}: cast one of them"),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [_, a, _] = take_function_args(self.name(), types)?;
        Ok(a.clone())
    }

    fn short_circuits(&self) -> bool {
        true
    }

    fn simplify(&self, args: Vec<Expr>, _info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let [condition, a, b] = take_function_args(self.name(), args)?;
        Ok(ExprSimplifyResult::Simplified(when(condition, a).otherwise(b)?))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [condition, a, b] = take_function_args(self.name(), args.args)?;
        let condition = condition.to_array(args.number_rows)?;
        let mut condition = condition.as_boolean().clone();
        if condition.null_count() > 0 {
            condition = prep_null_mask_filter(&condition);
        }
        let (a, b) = (a.to_array(args.number_rows)?, b.to_array(args.number_rows)?);
        Ok(ColumnarValue::Array(Arc::new(zip(&condition, &a, &b)?)))
    }
}
