//! Columns of a plan whose values together are different in each row.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, BooleanArray},
    buffer::NullBuffer,
    compute::filter,
    datatypes::{Field, Schema},
};
use datafusion::{
    error::Result,
    physical_expr::{PhysicalExpr, expressions::Column},
    physical_plan::{
        ExecutionPlan,
        aggregates::{
            AggregateExec, AggregateMode, group_values::new_group_values, order::GroupOrdering,
        },
        coalesce_partitions::CoalescePartitionsExec,
        coop::CooperativeExec,
        filter::FilterExec,
        projection::ProjectionExec,
    },
};

use super::slot::HeldRows;

/// Combinations of values of keys up to which rows are placed into an array.
const MOST_PLACES: usize = 1 << 24;

/// Whether no two of a plan's rows have the same keys, and there are few enough combinations of keys for an array. Rows
/// with a NULL among them have no partner, and don't count.
pub(super) fn has_places(keys: &[Arc<dyn PhysicalExpr>], rows: &HeldRows) -> Result<bool> {
    if !rows.complete {
        return Ok(false);
    }
    let count = rows.batch.num_rows();
    let values = keys.iter().map(|key| key.evaluate(&rows.batch)?.into_array(count));
    let values: Vec<ArrayRef> = values.collect::<Result<_>>()?;
    let nulls = values.iter().map(|key| key.logical_nulls());
    let nulls = nulls.fold(None, |all, own| NullBuffer::union(all.as_ref(), own.as_ref()));
    let valid = match nulls {
        Some(nulls) => {
            let mask = BooleanArray::new(nulls.into_inner(), None);
            values.iter().map(|key| Ok(filter(key, &mask)?)).collect::<Result<Vec<_>>>()?
        }
        None => values,
    };
    let mut places = 1_usize;
    for key in &valid {
        places = places.saturating_mul(distinct(std::slice::from_ref(key))?);
    }
    let rows = valid.first().map_or(0, |key| key.len());
    Ok(places <= MOST_PLACES && distinct(&valid)? == rows)
}

/// Number of distinct rows of these columns.
fn distinct(columns: &[ArrayRef]) -> Result<usize> {
    let fields = columns.iter().map(|key| Field::new("key", key.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let mut known = new_group_values(schema, &GroupOrdering::None)?;
    known.intern(columns, &mut Vec::new())?;
    Ok(known.len())
}

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
