//! The operators `^` and `//`, and `*` and `/` of durations, in every SQL that the session plans.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::{
    common::{DFSchema, Result, ScalarValue, plan_err},
    functions::math,
    logical_expr::{
        Expr, ExprSchemable as _, Operator, ScalarUDF,
        planner::{ExprPlanner, PlannerResult, RawBinaryExpr},
    },
    sql::sqlparser::ast::BinaryOperator,
};

use crate::functions::{
    Divide,
    durations::{DurationArithmetic, DurationOp},
};

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
            // From another parser, for which `^` binds less than `+`, and parentheses are gone by now.
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
            BinaryOperator::Multiply
            | BinaryOperator::Divide
            | BinaryOperator::Plus
            | BinaryOperator::Minus => Ok(of_durations(RawBinaryExpr { op, left, right }, schema)),
            op => Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        }
    }
}

/// Plans a product, quotient or sum of durations, which DataFusion 55.2 doesn't plan or for which it returns
/// an interval.
fn of_durations(expr: RawBinaryExpr, schema: &DFSchema) -> PlannerResult<RawBinaryExpr> {
    let data_type = |expr: &Expr| expr.get_type(schema).unwrap_or(DataType::Null);
    let (left, right) = (data_type(&expr.left), data_type(&expr.right));
    let is_number = |found: &DataType| found.is_numeric();
    let is_length =
        |found: &DataType| matches!(found, DataType::Duration(_) | DataType::Interval(_));
    let (op, swapped) = match (&left, &expr.op, &right) {
        (DataType::Duration(_), BinaryOperator::Divide, by) if is_length(by) => {
            (DurationOp::Ratio, false)
        }
        (DataType::Duration(_), BinaryOperator::Divide, by) if is_number(by) => {
            (DurationOp::Over, false)
        }
        (DataType::Duration(_), BinaryOperator::Multiply, by) if is_number(by) => {
            (DurationOp::Times, false)
        }
        (by, BinaryOperator::Multiply, DataType::Duration(_)) if is_number(by) => {
            (DurationOp::Times, true)
        }
        (DataType::Duration(_), BinaryOperator::Plus, _) if is_fixed(&expr.right, &right) => {
            (DurationOp::Plus, false)
        }
        (_, BinaryOperator::Plus, DataType::Duration(_)) if is_fixed(&expr.left, &left) => {
            (DurationOp::Plus, true)
        }
        (DataType::Duration(_), BinaryOperator::Minus, _) if is_fixed(&expr.right, &right) => {
            (DurationOp::Minus, false)
        }
        _ => return PlannerResult::Original(expr),
    };
    let function = ScalarUDF::new_from_impl(DurationArithmetic::new(op));
    let RawBinaryExpr { left, right, .. } = expr;
    let args = if swapped { vec![right, left] } else { vec![left, right] };
    PlannerResult::Planned(function.call(args))
}

/// Whether an expression is a duration or an interval without months, so that it has a length.
fn is_fixed(expr: &Expr, data_type: &DataType) -> bool {
    match expr {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) => interval.months == 0,
        _ => matches!(data_type, DataType::Duration(_)),
    }
}

/// Operator of an expression whose parentheses may be lost.
fn arithmetic(expr: &Expr) -> Option<Operator> {
    let Expr::BinaryExpr(binary) = expr else { return None };
    Some(binary.op)
}

/// Makes a literal without a sign unsigned, so that its neighbour doesn't become signed.
fn as_unsigned(expr: Expr) -> Expr {
    match &expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), metadata) => match u64::try_from(*value) {
            Ok(value) => Expr::Literal(ScalarValue::UInt64(Some(value)), metadata.clone()),
            Err(_) => expr,
        },
        _ => expr,
    }
}
