//! Operators above an aggregate, on its results as arrays.

use std::sync::Arc;

use arrow::array::ArrayRef;
use datafusion::{
    error::Result,
    physical_expr::{PhysicalExpr, expressions::Column},
    physical_plan::{
        ExecutionPlan, coalesce_partitions::CoalescePartitionsExec, coop::CooperativeExec,
        filter::FilterExec, projection::ProjectionExec, repartition::RepartitionExec,
    },
};

use super::axes::{axis_of, evaluated, values_along};
use crate::{
    aggregate::{DenseColumn, DenseResults, ZarrAggregateExec},
    predicate::{as_mask, holds},
};

/// An operator that computes each row from one row.
pub(crate) enum Operator<'a> {
    Projection(&'a ProjectionExec),
    Filter(&'a FilterExec),
}

/// The aggregate below operators that compute each row from one row, and these, from below.
pub(crate) fn above_aggregate(
    plan: &Arc<dyn ExecutionPlan>,
) -> Option<(&ZarrAggregateExec, Vec<Operator<'_>>)> {
    if let Some(aggregate) = plan.downcast_ref::<ZarrAggregateExec>() {
        return Some((aggregate, Vec::new()));
    }
    let [input] = plan.children()[..] else { return None };
    if plan.fetch().is_some() {
        return None;
    }
    let (aggregate, mut operators) = above_aggregate(input)?;
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        operators.push(Operator::Projection(projection));
    } else if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        operators.push(Operator::Filter(filter));
    } else if plan.downcast_ref::<CoalescePartitionsExec>().is_none()
        && plan.downcast_ref::<RepartitionExec>().is_none()
        && plan.downcast_ref::<CooperativeExec>().is_none()
    {
        return None;
    }
    Some((aggregate, operators))
}

impl Operator<'_> {
    /// Results of the operator.
    ///
    /// # Errors
    /// Also those of groups without rows, which the operator wouldn't see.
    pub(crate) fn on(&self, results: DenseResults) -> Result<DenseResults> {
        match self {
            Self::Projection(projection) => {
                let exprs = projection.expr().iter().map(|own| column(&own.expr, &results));
                let columns = exprs.collect::<Result<Vec<_>>>()?;
                results.with_columns(projection.schema(), columns)
            }
            Self::Filter(filter) => {
                let kept = as_mask(&over_groups(filter.predicate(), &results)?)?;
                let picked = match filter.projection() {
                    Some(picked) => picked.to_vec(),
                    None => (0..results.columns().len()).collect(),
                };
                let columns = picked.iter().filter_map(|&own| results.columns().get(own).cloned());
                let columns = columns.collect();
                results.with_columns(filter.schema(), columns)?.kept(&holds(&kept))
            }
        }
    }
}

/// An expression over the columns of results, as a column.
fn column(expr: &Arc<dyn PhysicalExpr>, results: &DenseResults) -> Result<DenseColumn> {
    if let Some(own) = expr.downcast_ref::<Column>()
        && let Some(column) = results.columns().get(own.index())
    {
        return Ok(column.clone());
    }
    if let Some(axis) = axis_of(expr, results) {
        return Ok(DenseColumn::Key { axis, values: values_along(expr, axis, results)? });
    }
    Ok(DenseColumn::Result(over_groups(expr, results)?))
}

/// Values of an expression for each group.
fn over_groups(expr: &Arc<dyn PhysicalExpr>, results: &DenseResults) -> Result<ArrayRef> {
    let groups = results.shape().iter().product();
    evaluated(expr, results, groups, |column| results.values(column))
}
