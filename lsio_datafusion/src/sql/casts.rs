//! Names of aggregates over casts.

use datafusion::{
    common::{
        Result,
        tree_node::{Transformed, TreeNode as _, TreeNodeRecursion},
    },
    logical_expr::{
        Expr, SortExpr,
        planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawWindowExpr},
    },
};

use crate::walk::rewriting;

/// Names casts inside aggregates and windows, so that `avg(v)` and `avg(CAST(v AS BIGINT))` are two columns.
/// DataFusion 55.2 leaves casts out of column names, and refuses duplicates.
#[derive(Debug)]
pub(crate) struct NamedCasts;

impl ExprPlanner for NamedCasts {
    fn plan_aggregate(
        &self,
        mut expr: RawAggregateExpr,
    ) -> Result<PlannerResult<RawAggregateExpr>> {
        expr.args = all(expr.args)?;
        expr.filter = filter(expr.filter)?;
        expr.order_by = sorted(expr.order_by)?;
        Ok(PlannerResult::Original(expr))
    }

    fn plan_window(&self, mut expr: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        expr.args = all(expr.args)?;
        expr.filter = filter(expr.filter)?;
        Ok(PlannerResult::Original(expr))
    }
}

fn all(expressions: Vec<Expr>) -> Result<Vec<Expr>> {
    expressions.into_iter().map(named).collect()
}

fn filter(expr: Option<Box<Expr>>) -> Result<Option<Box<Expr>>> {
    expr.map(|expr| Ok(Box::new(named(*expr)?))).transpose()
}

fn sorted(expressions: Vec<SortExpr>) -> Result<Vec<SortExpr>> {
    (expressions.into_iter())
        .map(|sorted| Ok(SortExpr { expr: named(sorted.expr)?, ..sorted }))
        .collect()
}

fn named(expr: Expr) -> Result<Expr> {
    let named = expr.transform_down(rewriting(&mut |expr| {
        Ok(match &expr {
            // An alias has a name already.
            Expr::Alias(_) => Transformed::new(expr, false, TreeNodeRecursion::Jump),
            Expr::Cast(cast) => {
                let name =
                    format!("CAST({} AS {})", cast.expr.schema_name(), cast.field.data_type());
                Transformed::new(expr.alias(name), true, TreeNodeRecursion::Jump)
            }
            Expr::TryCast(cast) => {
                let name =
                    format!("TRY_CAST({} AS {})", cast.expr.schema_name(), cast.field.data_type());
                Transformed::new(expr.alias(name), true, TreeNodeRecursion::Jump)
            }
            _ => Transformed::no(expr),
        })
    }))?;
    Ok(named.data)
}
