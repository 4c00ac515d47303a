//! The result of an aggregate in the scan: arrays over its keys, written without making rows.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, UInt64Array},
    compute::{SortOptions, sort_to_indices, take},
    datatypes::Field,
};
use datafusion::{
    error::Result,
    physical_plan::{
        ExecutionPlan, coalesce_partitions::CoalescePartitionsExec, sorts::sort::SortExec,
        sorts::sort_preserving_merge::SortPreservingMergeExec,
    },
};
use lsio_core::{
    grid::{strides, unravel},
    write::{NewGroup, StoreWriter},
};

use super::{
    exec::Write,
    fields::{Missing, StoredForm},
    format::WriteRequest,
    grid::{NewDim, NewRole, NewVariable, is_label, new_group},
    memory::PoolMemory,
    whole::write_whole,
};
use crate::{
    aggregate::{DenseColumn, DenseResults},
    error::external,
    prepared::above_aggregate,
};

/// Whether a plan's results may come as arrays.
pub(super) fn is_dense(input: &Arc<dyn ExecutionPlan>) -> bool {
    above_aggregate(unsorted(input)).is_some()
}

/// The plan below sorts: arrays have an order of their own.
pub(super) fn unsorted(plan: &Arc<dyn ExecutionPlan>) -> &Arc<dyn ExecutionPlan> {
    let sorts = plan.downcast_ref::<SortExec>().is_some()
        || plan.downcast_ref::<SortPreservingMergeExec>().is_some()
        || plan.downcast_ref::<CoalescePartitionsExec>().is_some();
    match plan.children()[..] {
        [input] if sorts && plan.fetch().is_none() => unsorted(input),
        _ => plan,
    }
}

/// Writes the results, and returns the number of groups. `None`, with nothing written, if they must come as rows.
pub(super) async fn write(write: &Write) -> Result<Option<u64>> {
    let Some((aggregate, operators)) = above_aggregate(unsorted(&write.input)) else {
        return Ok(None);
    };
    // Keys that aren't shown tell groups apart that look alike: known before all is read.
    if write.request.keys.is_none() && write.request.options.dims.is_none() {
        return Ok(None);
    }
    let Some(mut results) = aggregate.dense(&write.context).await? else { return Ok(None) };
    for operator in operators {
        results = operator.on(results)?;
    }
    let fields = write.request.fields(&write.input.schema());
    let Some(axes) = axes(&results, &fields, &write.request)? else {
        return super::rows::write_batches(write, vec![results.rows()?]).await.map(Some);
    };
    let count = results.count() as u64;
    write_axes(write, &results, &fields, &axes).await?;
    Ok(Some(count))
}

/// A dimension of what is written.
struct Axis {
    /// The axis of the results.
    axis: usize,
    /// The column with its labels.
    column: usize,
    /// The results' index of each label. `None` if they are in order.
    order: Option<UInt64Array>,
    labels: ArrayRef,
}

/// The dimensions, in the order in which they are written. `None` if the axes of the results aren't those.
fn axes(
    results: &DenseResults,
    fields: &[Field],
    request: &WriteRequest,
) -> Result<Option<Vec<Axis>>> {
    let wanted: Vec<usize> = match &request.options.dims {
        None => {
            let keys = request.keys.clone().unwrap_or_default();
            // In the order of the columns.
            let is_key = |column: &usize| keys.contains(column);
            (0..fields.len()).filter(is_key).collect()
        }
        Some(names) => {
            let position = |name: &String| fields.iter().position(|field| field.name() == name);
            let Some(columns) = names.iter().map(position).collect() else { return Ok(None) };
            columns
        }
    };
    let mut axes: Vec<Axis> = Vec::new();
    for column in wanted {
        let Some(DenseColumn::Key { axis, values }) = results.columns().get(column) else {
            return Ok(None);
        };
        if axes.iter().any(|other| other.axis == *axis) || values.logical_null_count() > 0 {
            return Ok(None);
        }
        let source = request.sources.get(column).and_then(Option::as_deref);
        let (labels, order) = if is_label(source) || is_monotonic(values)? {
            (Arc::clone(values), None)
        } else {
            let order = sort_to_indices(values, None, None)?;
            let order = UInt64Array::from_iter_values(order.values().iter().map(|&at| at.into()));
            (take(values, &order, None)?, Some(order))
        };
        axes.push(Axis { axis: *axis, column, order, labels });
    }
    // Each axis is a dimension, and keys vary along one.
    Ok((axes.len() == results.shape().len()).then_some(axes))
}

/// Whether labels ascend or descend.
fn is_monotonic(values: &ArrayRef) -> Result<bool> {
    for descending in [false, true] {
        let order =
            sort_to_indices(values, Some(SortOptions { descending, nulls_first: false }), None)?;
        if order.values().iter().enumerate().all(|(at, own)| at == *own as usize) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn write_axes(
    write: &Write,
    results: &DenseResults,
    fields: &[Field],
    axes: &[Axis],
) -> Result<()> {
    let request = &write.request;
    let source = |column: usize| request.sources.get(column).and_then(Option::as_deref);
    let dims: Vec<NewDim> = axes
        .iter()
        .map(|own| NewDim {
            name: fields[own.column].name().clone(),
            size: own.labels.len() as u64,
            chunk: None,
        })
        .collect();
    let mut variables = Vec::new();
    let mut values: Vec<ArrayRef> = Vec::new();
    for (dim, own) in axes.iter().enumerate() {
        let field = &fields[own.column];
        if let Some(labels) = NewVariable::labels(dim, field, source(own.column), &own.labels)? {
            variables.push(labels);
            values.push(Arc::clone(&own.labels));
        }
    }
    let indices = indices(results.shape(), axes);
    for (column, field) in fields.iter().enumerate() {
        if axes.iter().any(|own| own.column == column) {
            continue;
        }
        let own = results.values(column)?;
        let own = match &indices {
            Some(indices) => take(&own, indices, None)?,
            None => own,
        };
        let missing = if results.present().is_some() || own.logical_null_count() > 0 {
            Missing::Maybe
        } else {
            Missing::Never
        };
        variables.push(NewVariable {
            name: field.name().clone(),
            dims: (0..dims.len()).collect(),
            form: StoredForm::new(field, source(column), missing, Some(&own))?,
            role: NewRole::Data,
        });
        values.push(own);
    }
    let group = new_group(&dims, &variables, request, &write.input.schema())?;
    write_variables(write, group, &variables, &values).await
}

/// Writes a group whose values are all in memory.
pub(super) async fn write_variables(
    write: &Write,
    group: NewGroup,
    variables: &[NewVariable],
    values: &[ArrayRef],
) -> Result<()> {
    let group = NewGroup { memory: Some(PoolMemory::new(&write.context)), ..group };
    let writer = StoreWriter::create(&write.location, group).await.map_err(external)?;
    let writer = Arc::new(writer);
    let workers = write.context.session_config().target_partitions();
    for (number, (variable, values)) in variables.iter().zip(values).enumerate() {
        write_whole(&writer, number, &variable.form.encode(values)?, workers).await?;
    }
    write.count(&writer.commit().await.map_err(external)?);
    Ok(())
}

/// For each cell of the new arrays the index of its group. `None` if they are the same.
fn indices(shape: &[usize], axes: &[Axis]) -> Option<UInt64Array> {
    let in_order = axes.iter().enumerate().all(|(dim, own)| own.axis == dim && own.order.is_none());
    if in_order {
        return None;
    }
    let shape: Vec<u64> = shape.iter().map(|size| *size as u64).collect();
    let strides = strides(&shape);
    let new: Vec<u64> = axes.iter().map(|own| shape[own.axis]).collect();
    let cells = 0..new.iter().product::<u64>();
    let group = |cell: u64| {
        let along = unravel(cell, &new).into_iter().zip(axes);
        along
            .map(|(index, own)| {
                let index = own.order.as_ref().map_or(index, |order| order.value(index as usize));
                index * strides[own.axis]
            })
            .sum::<u64>()
    };
    Some(UInt64Array::from_iter_values(cells.map(group)))
}
