//! Operators on text times.

use arrow::datatypes::DataType;
use datafusion::{
    common::{DFSchema, Result},
    logical_expr::{
        ExprSchemable as _,
        planner::{ExprPlanner, PlannerResult, RawBinaryExpr},
    },
    sql::sqlparser::ast::BinaryOperator,
};

use super::{
    columns::{is_text, is_time},
    function::CivilFunction,
    words::Word,
};

/// Plans text - text and text ± interval as those of times: times in calendars that SQL doesn't know are
/// text, on which DataFusion 55.2 has no arithmetic.
#[derive(Debug)]
pub(crate) struct TimePlanner;

impl ExprPlanner for TimePlanner {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let is_minus = expr.op == BinaryOperator::Minus;
        if !is_minus && expr.op != BinaryOperator::Plus {
            return Ok(PlannerResult::Original(expr));
        }
        let types = (expr.left.get_type(schema), expr.right.get_type(schema));
        let (Ok(left), Ok(right)) = types else { return Ok(PlannerResult::Original(expr)) };
        let is_interval = |data_type: &DataType| {
            matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
        };
        let call = |name, word, args| {
            Ok(PlannerResult::Planned(CivilFunction::call(name, word, None, args)))
        };
        match (left, right) {
            (left, right)
                if is_minus
                    && ((is_text(&left) && is_text(&right))
                        || (left == DataType::Utf8View && is_time(&right))
                        || (is_time(&left) && right == DataType::Utf8View)) =>
            {
                call("time_difference", Word::Difference, vec![expr.left, expr.right])
            }
            (DataType::Utf8View, interval) if is_interval(&interval) => {
                let word = if is_minus { Word::Subtract } else { Word::Add };
                let name = if is_minus { "time_subtract" } else { "time_add" };
                call(name, word, vec![expr.left, expr.right])
            }
            (interval, DataType::Utf8View) if !is_minus && is_interval(&interval) => {
                call("time_add", Word::Add, vec![expr.right, expr.left])
            }
            _ => Ok(PlannerResult::Original(expr)),
        }
    }
}
