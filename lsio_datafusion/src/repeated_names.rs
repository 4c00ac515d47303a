//! Filters above columns that share a name.

use std::sync::Arc;

use datafusion::{
    common::{
        config::ConfigOptions,
        internal_err,
        tree_node::{Transformed, TreeNode as _},
    },
    error::Result,
    physical_expr::expressions::Column,
    physical_expr_common::physical_expr::is_volatile,
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        ExecutionPlan,
        filter::{FilterExec, FilterExecBuilder},
        projection::ProjectionExec,
    },
};

/// Moves filters below projections whose columns share a name, such as those of both sides of a join.
///
/// DataFusion 55.2 finds the columns of a filter by their names when it pushes the filter through a projection
/// (`ProjectionExec::collect_reverse_alias`): one of `l.time` becomes one of `r.time`. A join goes by positions.
#[derive(Debug)]
pub(crate) struct FiltersBelowNames;

impl PhysicalOptimizerRule for FiltersBelowNames {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // From above: a filter may have several projections below it.
        plan.transform_down(|plan| {
            Ok(match below(&plan)? {
                Some(projection) => Transformed::yes(projection),
                None => Transformed::no(plan),
            })
        })
        .map(|transformed| transformed.data)
    }

    fn name(&self) -> &'static str {
        "zarr_filters_below_names"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The projection over the filter, in place of a filter over a projection with repeated names.
fn below(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(filter) = plan.downcast_ref::<FilterExec>() else { return Ok(None) };
    let Some(projection) = filter.input().downcast_ref::<ProjectionExec>() else {
        return Ok(None);
    };
    if filter.projection().is_some() || filter.fetch().is_some() {
        return Ok(None);
    }
    let schema = projection.schema();
    let (mut is_repeated, mut varies) = (false, false);
    let predicate = Arc::clone(filter.predicate()).transform_up(|expr| {
        let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
        let same = schema.fields().iter().filter(|field| field.name() == column.name());
        is_repeated |= same.count() > 1;
        let Some(projected) = projection.expr().get(column.index()) else {
            return internal_err!("a filter of column {column}, which its input doesn't have");
        };
        varies |= is_volatile(&projected.expr);
        Ok(Transformed::yes(Arc::clone(&projected.expr)))
    })?;
    if !is_repeated || varies {
        return Ok(None);
    }
    let input: Arc<dyn ExecutionPlan> = Arc::clone(projection.input());
    let filter = FilterExecBuilder::new(predicate.data, input)
        .with_default_selectivity(filter.default_selectivity())
        .with_batch_size(filter.batch_size())
        .build()?;
    let projection = ProjectionExec::try_new(projection.expr().to_vec(), Arc::new(filter))?;
    Ok(Some(Arc::new(projection)))
}
