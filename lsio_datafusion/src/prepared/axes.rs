//! Index maps to the axes of an aggregate's results.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array},
    compute::take,
    datatypes::Schema,
};
use datafusion::{
    common::{internal_err, utils::normalize_float_zero},
    error::Result,
    physical_expr::{PhysicalExpr, expressions::Column, utils::collect_columns},
};
use lsio_core::IndexMap;

use super::{
    lookup::PreparedKey,
    ordinals::{NONE, Ordinals},
};
use crate::{
    aggregate::{DenseColumn, DenseResults},
    expression::{union, with_columns},
};

/// For each axis of the results, the map to its indices. `None` if a key doesn't belong to one axis, or doesn't tell its
/// indices apart.
pub(super) fn axes(keys: &[PreparedKey], results: &DenseResults) -> Result<Option<Vec<IndexMap>>> {
    let mut by_axis: Vec<Vec<&PreparedKey>> = vec![Vec::new(); results.shape().len()];
    for key in keys {
        match axis_of(&key.of_row, results) {
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

/// The axis along which an expression over the results varies, if it is one.
pub(super) fn axis_of(expr: &Arc<dyn PhysicalExpr>, results: &DenseResults) -> Option<usize> {
    let mut found = None;
    for column in collect_columns(expr) {
        let Some(DenseColumn::Key { axis, .. }) = results.columns().get(column.index()) else {
            return None;
        };
        if found.replace(*axis).is_some_and(|other| other != *axis) {
            return None;
        }
    }
    found
}

/// Values of an expression over the keys of an axis, for each of its indices.
pub(super) fn values_along(
    expr: &Arc<dyn PhysicalExpr>,
    axis: usize,
    results: &DenseResults,
) -> Result<ArrayRef> {
    evaluated(expr, results, results.shape()[axis], |column| match results.columns().get(column) {
        Some(DenseColumn::Key { values, .. }) => Ok(Arc::clone(values)),
        _ => results.values(column),
    })
}

/// Evaluates an expression over the columns of results, whose values `values` gives.
pub(super) fn evaluated(
    expr: &Arc<dyn PhysicalExpr>,
    results: &DenseResults,
    rows: usize,
    values: impl Fn(usize) -> Result<ArrayRef>,
) -> Result<ArrayRef> {
    let mut used: Vec<usize> = collect_columns(expr).iter().map(Column::index).collect();
    used.sort_unstable();
    used.dedup();
    let compact = with_columns(expr, |column| {
        let position = used.binary_search(&column.index()).ok()?;
        Some(Column::new(column.name(), position))
    })?;
    let Some(compact) = compact else {
        return internal_err!("{expr} isn't over the results of an aggregate");
    };
    let fields = results.schema().project(&used)?;
    // Groups without rows have no values.
    let fields = fields.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = used.into_iter().map(values).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
    compact.evaluate(&batch)?.into_array(rows)
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
    let of_groups =
        keys.iter().map(|key| Ok(normalize_float_zero(&values_along(&key.of_row, axis, results)?)));
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
