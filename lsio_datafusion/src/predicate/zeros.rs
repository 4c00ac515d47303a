//! Equality of both zeros in sets of values.
//!
//! DataFusion 55.2 knows it in `=` and in joins. Its sets, as in long lists after IN and in filters pushed
//! down by joins, compare bits.

use std::sync::Arc;

use datafusion::{
    common::tree_node::{Transformed, TransformedResult as _, TreeNode as _},
    error::Result,
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, InListExpr, Literal, NotExpr},
    },
    scalar::ScalarValue,
};

/// Rewrites an expression so that a set with one zero contains both.
pub(super) fn with_both_zeros(expr: &Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    Arc::clone(expr)
        .transform_up(|expr| {
            let Some(list) = expr.downcast_ref::<InListExpr>() else {
                return Ok(Transformed::no(expr));
            };
            let mut zeros = Vec::new();
            for value in literals(list) {
                zeros.extend(equals_zero(list.expr(), value)?);
            }
            let Some(zeros) =
                zeros.into_iter().reduce(|one, other| binary(one, Operator::Or, other))
            else {
                return Ok(Transformed::no(expr));
            };
            Ok(Transformed::yes(if list.negated() {
                binary(expr, Operator::And, Arc::new(NotExpr::new(zeros)))
            } else {
                binary(expr, Operator::Or, zeros)
            }))
        })
        .data()
}

/// Test of an expression for a set's values with a zero; `None` without such. Values of joins with several
/// keys are structures.
fn equals_zero(
    expr: &Arc<dyn PhysicalExpr>,
    value: &ScalarValue,
) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let ScalarValue::Struct(fields) = value else {
        let equal = || binary(Arc::clone(expr), Operator::Eq, literal(value.clone()));
        return Ok(is_zero(value).then(equal));
    };
    let values = fields.columns().iter().map(|field| ScalarValue::try_from_array(field, 0));
    let values: Vec<ScalarValue> = values.collect::<Result<_>>()?;
    if !values.iter().any(is_zero) {
        return Ok(None);
    }
    let parts = expr.children();
    if parts.len() != values.len() {
        // An unknown set matches everything.
        return Ok(Some(literal(ScalarValue::Boolean(Some(true)))));
    }
    let equal = parts
        .into_iter()
        .zip(values)
        .map(|(part, value)| binary(Arc::clone(part), Operator::Eq, literal(value)));
    Ok(equal.reduce(|one, other| binary(one, Operator::And, other)))
}

fn binary(
    left: Arc<dyn PhysicalExpr>,
    op: Operator,
    right: Arc<dyn PhysicalExpr>,
) -> Arc<dyn PhysicalExpr> {
    Arc::new(BinaryExpr::new(left, op, right))
}

fn literal(value: ScalarValue) -> Arc<dyn PhysicalExpr> {
    Arc::new(Literal::new(value))
}

fn literals(list: &InListExpr) -> impl Iterator<Item = &ScalarValue> {
    list.list().iter().filter_map(|item| item.downcast_ref::<Literal>().map(Literal::value))
}

fn is_zero(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Float16(Some(value)) => value.to_f32() == 0.0,
        ScalarValue::Float32(Some(value)) => *value == 0.0,
        ScalarValue::Float64(Some(value)) => *value == 0.0,
        ScalarValue::Dictionary(_, value) => is_zero(value),
        _ => false,
    }
}
