//! The test of an aggregate's results for NaN, moved into the aggregate.

use std::{collections::BTreeSet, sync::Arc};

use datafusion::{
    common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion},
    error::Result,
    physical_expr::{PhysicalExpr, expressions::Column},
    physical_plan::{ExecutionPlan, projection::ProjectionExec},
};

use super::ZarrAggregateExec;
use crate::nan_as_null::inside;

/// Replaces NaN by NULL inside an aggregate where the projection above tests its columns for NaN. A
/// projection that does nothing else is removed.
pub(super) fn without_nan(
    plan: Arc<dyn ExecutionPlan>,
) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let Some(projection) = plan.downcast_ref::<ProjectionExec>() else {
        return Ok(Transformed::no(plan));
    };
    let Some(aggregate) = projection.input().downcast_ref::<ZarrAggregateExec>() else {
        return Ok(Transformed::no(plan));
    };
    let (mut tested, mut plain) = (BTreeSet::new(), BTreeSet::new());
    for projected in projection.expr() {
        projected.expr.apply(|expr| {
            if let Some(column) = tested_column(expr) {
                tested.insert(column.index());
                return Ok(TreeNodeRecursion::Jump);
            }
            plain.extend(expr.downcast_ref::<Column>().map(Column::index));
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    let columns: Vec<usize> = tested.difference(&plain).copied().collect();
    if columns.is_empty() {
        return Ok(Transformed::no(plan));
    }
    let mut exprs = projection.expr().to_vec();
    for projected in &mut exprs {
        let expr = Arc::clone(&projected.expr).transform_down(|expr| {
            let column = tested_column(&expr).filter(|column| columns.contains(&column.index()));
            Ok(match column {
                Some(column) => {
                    let column: Arc<dyn PhysicalExpr> = Arc::new(column.clone());
                    Transformed::new(column, true, TreeNodeRecursion::Jump)
                }
                None => Transformed::no(expr),
            })
        })?;
        projected.expr = expr.data;
    }
    let aggregate: Arc<dyn ExecutionPlan> = Arc::new(aggregate.without_nan(columns));
    let projected = ProjectionExec::try_new(exprs, Arc::clone(&aggregate))?;
    let passes_on = projected.schema() == aggregate.schema()
        && projected.expr().iter().enumerate().all(|(position, projected)| {
            let column = projected.expr.downcast_ref::<Column>();
            column.is_some_and(|column| column.index() == position)
        });
    Ok(Transformed::yes(if passes_on { aggregate } else { Arc::new(projected) }))
}

/// The column of an expression that is a test for NaN and nothing else.
fn tested_column(expr: &Arc<dyn PhysicalExpr>) -> Option<&Column> {
    inside(expr)?.downcast_ref::<Column>()
}
