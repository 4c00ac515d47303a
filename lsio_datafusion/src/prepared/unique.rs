//! Columns of a plan whose values together are different in each row.

use std::sync::Arc;

use datafusion::{
    physical_expr::expressions::Column,
    physical_plan::{
        ExecutionPlan,
        aggregates::{AggregateExec, AggregateMode},
        coalesce_partitions::CoalescePartitionsExec,
        coop::CooperativeExec,
        filter::FilterExec,
        projection::ProjectionExec,
    },
};

/// Positions of columns that no two rows of a plan have in common; `None` if none are known. No columns: there is one
/// row at most.
pub(crate) fn unique_columns(plan: &Arc<dyn ExecutionPlan>) -> Option<Vec<usize>> {
    if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        let is_final =
            !matches!(aggregate.mode(), AggregateMode::Partial | AggregateMode::PartialReduce);
        let by = aggregate.group_expr();
        return (is_final && !by.has_grouping_set()).then(|| (0..by.expr().len()).collect());
    }
    let children = plan.children();
    let [input] = children.as_slice() else { return None };
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let below = unique_columns(input)?;
        let named = |position: &usize| {
            projection.expr().iter().position(|expr| {
                expr.expr.downcast_ref::<Column>().is_some_and(|own| own.index() == *position)
            })
        };
        return below.iter().map(named).collect();
    }
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        let below = unique_columns(input)?;
        return match filter.projection() {
            Some(picked) => {
                let own = |position: &usize| picked.iter().position(|own| own == position);
                below.iter().map(own).collect()
            }
            None => Some(below),
        };
    }
    let passes = plan.downcast_ref::<CooperativeExec>().is_some()
        || plan.downcast_ref::<CoalescePartitionsExec>().is_some();
    if passes { unique_columns(input) } else { None }
}
