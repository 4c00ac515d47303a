//! What `^` and `//` mean, in every SQL that the session plans.

use std::sync::Arc;

use datafusion::{
    common::{DFSchema, Result, ScalarValue, plan_err},
    functions::math,
    logical_expr::{
        Expr, ExprSchemable as _, Operator, ScalarUDF,
        planner::{ExprPlanner, PlannerResult, RawBinaryExpr},
    },
    sql::sqlparser::ast::BinaryOperator,
};

use crate::functions::Divide;

/// Plans `^` as power and `//` as the division of integers, as DuckDB does. DataFusion 55.2 plans `^` as
/// exclusive or, which is `xor(a, b)`, and doesn't know `//`.
#[derive(Debug)]
pub(crate) struct Operators {
    power: Arc<ScalarUDF>,
    divide: Arc<ScalarUDF>,
}

impl Default for Operators {
    fn default() -> Self {
        Self { power: math::power(), divide: Arc::new(ScalarUDF::new_from_impl(Divide::default())) }
    }
}

impl ExprPlanner for Operators {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = expr;
        match op {
            BinaryOperator::PGExp => Ok(PlannerResult::Planned(self.power.call(vec![left, right]))),
            // From a parser that isn't ours: for it, `^` binds less than `+` does, and parentheses are
            // gone by now.
            BinaryOperator::BitwiseXor => {
                if let Some(inner) = [&left, &right].into_iter().find_map(arithmetic) {
                    return plan_err!(
                        "`^` beside `{inner}` can mean two things here: write power(x, y), or run the \
                         query with `ctx.query`, which knows `^` as power; xor(a, b) is the exclusive or"
                    );
                }
                Ok(PlannerResult::Planned(self.power.call(vec![left, right])))
            }
            BinaryOperator::DuckIntegerDivide | BinaryOperator::MyIntegerDivide => {
                let unsigned = |expr: &Expr| {
                    expr.get_type(schema).is_ok_and(|found| found.is_unsigned_integer())
                };
                let left = if unsigned(&right) { as_unsigned(left) } else { left };
                let right = if unsigned(&left) { as_unsigned(right) } else { right };
                Ok(PlannerResult::Planned(self.divide.call(vec![left, right])))
            }
            op => Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        }
    }
}

/// The operator of an expression whose parentheses may have been lost.
fn arithmetic(expr: &Expr) -> Option<Operator> {
    let Expr::BinaryExpr(binary) = expr else { return None };
    Some(binary.op)
}

/// A literal without a sign as an unsigned one, so that it doesn't make its neighbour signed.
fn as_unsigned(expr: Expr) -> Expr {
    match &expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), metadata) => match u64::try_from(*value) {
            Ok(value) => Expr::Literal(ScalarValue::UInt64(Some(value)), metadata.clone()),
            Err(_) => expr,
        },
        _ => expr,
    }
}
