//! Results of an aggregate, which are an array over its keys already.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array, new_null_array},
    compute::take,
    datatypes::{Field, Schema},
};
use datafusion::{
    common::utils::normalize_float_zero,
    error::Result,
    execution::TaskContext,
    physical_expr::{expressions::Column, utils::collect_columns},
    physical_plan::{
        ExecutionPlan, coalesce_partitions::CoalescePartitionsExec, coop::CooperativeExec,
        projection::ProjectionExec, repartition::RepartitionExec,
    },
};
use lsio_core::IndexMap;

use super::{
    lookup::PreparedKey,
    ordinals::{NONE, Ordinals},
};
use crate::{
    aggregate::{DenseColumn, DenseResults, ZarrAggregateExec},
    expression::union,
};

/// Runs a plan that is an aggregate over a scan, of which it passes on columns. `None` if its rows must be made: execute
/// it.
pub(super) async fn dense_results(
    plan: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
) -> Result<Option<DenseResults>> {
    let Some((aggregate, columns)) = passed_on(plan) else { return Ok(None) };
    let results = aggregate.dense(context).await?;
    results.map(|results| results.projected(&columns, plan.schema())).transpose()
}

/// The aggregate whose rows a plan passes on, and the positions of its columns.
fn passed_on(plan: &Arc<dyn ExecutionPlan>) -> Option<(&ZarrAggregateExec, Vec<usize>)> {
    if let Some(aggregate) = plan.downcast_ref::<ZarrAggregateExec>() {
        return Some((aggregate, (0..plan.schema().fields().len()).collect()));
    }
    let [input] = plan.children()[..] else { return None };
    let (aggregate, below) = passed_on(input)?;
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let columns = projection.expr().iter().map(|own| {
            let column = own.expr.downcast_ref::<Column>()?;
            below.get(column.index()).copied()
        });
        return Some((aggregate, columns.collect::<Option<_>>()?));
    }
    let passes = plan.downcast_ref::<CoalescePartitionsExec>().is_some()
        || plan.downcast_ref::<RepartitionExec>().is_some()
        || plan.downcast_ref::<CooperativeExec>().is_some();
    (passes && plan.fetch().is_none()).then_some((aggregate, below))
}

/// For each axis of the results, the map to its indices. `None` if a key doesn't belong to one axis, or doesn't tell its
/// indices apart.
pub(super) fn axes(keys: &[PreparedKey], results: &DenseResults) -> Result<Option<Vec<IndexMap>>> {
    let mut by_axis: Vec<Vec<&PreparedKey>> = vec![Vec::new(); results.shape().len()];
    for key in keys {
        match axis_of(key, results) {
            Some(axis) => by_axis[axis].push(key),
            None => return Ok(None),
        }
    }
    let mut maps = Vec::with_capacity(by_axis.len());
    for (axis, keys) in by_axis.iter().enumerate() {
        match axis_map(axis, keys, results)? {
            Some(map) => maps.push(map),
            None => return Ok(None),
        }
    }
    Ok(Some(maps))
}

/// The axis along which a key varies, if it is one.
fn axis_of(key: &PreparedKey, results: &DenseResults) -> Option<usize> {
    let mut found = None;
    for column in collect_columns(&key.of_row) {
        let Some(DenseColumn::Key { axis, .. }) = results.columns().get(column.index()) else {
            return None;
        };
        if found.replace(*axis).is_some_and(|other| other != *axis) {
            return None;
        }
    }
    found
}

/// The map to the indices of an axis, by all keys that vary along it.
fn axis_map(
    axis: usize,
    keys: &[&PreparedKey],
    results: &DenseResults,
) -> Result<Option<IndexMap>> {
    let dims = union(keys.iter().map(|key| key.dims.as_slice()));
    if keys.is_empty() || dims.len() > 2 {
        return Ok(None);
    }
    let size = results.shape()[axis];
    let along = keys_along(axis, results)?;
    let of_groups = keys.iter().map(|key| {
        let values = key.of_row.evaluate(&along)?.into_array(size)?;
        Ok(normalize_float_zero(&values))
    });
    let of_groups = of_groups.collect::<Result<Vec<_>>>()?;
    let mut known = Ordinals::new(&of_groups, keys.iter().map(|key| key.null_equals).collect())?;
    let ordinals = known.of(&of_groups)?;
    if known.len() < size {
        return Ok(None);
    }
    // The index of each ordinal.
    let mut indices: Vec<Option<u64>> = vec![None; size];
    for (index, ordinal) in (0_u64..).zip(&ordinals) {
        if let Some(own) = place(*ordinal).and_then(|ordinal| indices.get_mut(ordinal)) {
            *own = Some(index);
        }
    }
    let sizes: Vec<u64> = dims.iter().filter_map(|dim| size_along(keys, *dim)).collect();
    let of_cells = keys.iter().map(|key| over(key, &dims, &sizes));
    let of_cells = known.of(&of_cells.collect::<Result<Vec<_>>>()?)?;
    let index = |ordinal: u64| indices.get(place(ordinal)?).copied().flatten();
    let indices = of_cells.into_iter().map(index).collect();
    Ok(Some(IndexMap::new(dims, sizes, indices)))
}

fn place(ordinal: u64) -> Option<usize> {
    if ordinal == NONE { None } else { usize::try_from(ordinal).ok() }
}

/// The keys along an axis, as rows of the plan; NULL in other columns.
fn keys_along(axis: usize, results: &DenseResults) -> Result<RecordBatch> {
    let (size, schema) = (results.shape()[axis], results.schema());
    let fields: Vec<Field> =
        schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let columns = results.columns().iter().zip(&fields).map(|(column, field)| match column {
        DenseColumn::Key { axis: own, values } if *own == axis => Arc::clone(values),
        _ => new_null_array(field.data_type(), size),
    });
    let columns: Vec<ArrayRef> = columns.collect();
    let options = RecordBatchOptions::new().with_row_count(Some(size));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

fn size_along(keys: &[&PreparedKey], dim: usize) -> Option<u64> {
    keys.iter().find_map(|key| {
        let own = key.dims.iter().position(|own| *own == dim)?;
        key.sizes.get(own).copied()
    })
}

/// The values of a key over the cells of these dimensions, two at most, in C order.
fn over(key: &PreparedKey, dims: &[usize], sizes: &[u64]) -> Result<ArrayRef> {
    let values = normalize_float_zero(&key.values);
    if key.dims == dims {
        return Ok(values);
    }
    let cells = sizes.iter().copied().fold(1, u64::saturating_mul);
    let inner = sizes.last().copied().unwrap_or(1).max(1);
    let indices: UInt64Array = match (key.dims.as_slice(), dims) {
        ([own], [outer, _]) if own == outer => (0..cells).map(|cell| Some(cell / inner)).collect(),
        ([_], _) => (0..cells).map(|cell| Some(cell % inner)).collect(),
        _ => (0..cells).map(|_| Some(0)).collect(),
    };
    Ok(take(&values, &indices, None)?)
}
