//! Operators on times that DataFusion's types don't allow.

use datafusion::{
    common::{DFSchema, Result},
    logical_expr::{
        ExprSchemable as _,
        planner::{ExprPlanner, PlannerResult, RawBinaryExpr},
    },
    sql::sqlparser::ast::BinaryOperator,
};

use super::{columns::is_text, function::CivilFunction, words::Word};

/// Plans the difference of two texts as that of two times: times in calendars that SQL doesn't know are
/// texts, and DataFusion 55.2 knows no `-` of texts.
#[derive(Debug)]
pub(crate) struct TimePlanner;

impl ExprPlanner for TimePlanner {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let is_text = |expr: &datafusion::logical_expr::Expr| {
            expr.get_type(schema).is_ok_and(|data_type| is_text(&data_type))
        };
        if expr.op != BinaryOperator::Minus || !is_text(&expr.left) || !is_text(&expr.right) {
            return Ok(PlannerResult::Original(expr));
        }
        let args = vec![expr.left, expr.right];
        let difference = CivilFunction::call("time_difference", Word::Difference, None, args);
        Ok(PlannerResult::Planned(difference))
    }
}
