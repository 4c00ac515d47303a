//! Rows of numbers across columns.

use std::array;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BooleanArray, Float64Array},
    buffer::BooleanBuffer,
    datatypes::Float64Type,
};
use datafusion::{
    common::exec_datafusion_err,
    error::{DataFusionError, Result},
};

/// Calls `f` with each row in which all columns have a value and which the filter keeps.
pub(super) fn for_each<const K: usize>(
    columns: &[ArrayRef],
    filter: Option<&BooleanArray>,
    mut f: impl FnMut(usize, [f64; K]),
) -> Result<()> {
    let columns = doubles::<K>(columns)?;
    let mut valid = filter.map(kept);
    for nulls in columns.iter().filter_map(|column| column.nulls()) {
        valid = Some(match valid {
            Some(valid) => &valid & nulls.inner(),
            None => nulls.inner().clone(),
        });
    }
    let row = |index: usize| columns.map(|column| column.value(index));
    match valid {
        Some(valid) => valid.set_indices().for_each(|index| f(index, row(index))),
        None => (0..columns.first().map_or(0, |c| c.len())).for_each(|index| f(index, row(index))),
    }
    Ok(())
}

/// Rows that a filter keeps.
fn kept(filter: &BooleanArray) -> BooleanBuffer {
    match filter.nulls() {
        Some(nulls) => filter.values() & nulls.inner(),
        None => filter.values().clone(),
    }
}

/// Columns of doubles, as cast by the signature.
pub(super) fn doubles<const K: usize>(columns: &[ArrayRef]) -> Result<[&Float64Array; K]> {
    let wrong = || -> DataFusionError {
        let types: Vec<_> = columns.iter().map(|column| column.data_type().to_string()).collect();
        exec_datafusion_err!("an aggregate of {K} columns of doubles was given {types:?}")
    };
    let all: Option<Vec<&Float64Array>> =
        columns.iter().map(|column| column.as_primitive_opt::<Float64Type>()).collect();
    let all = all.filter(|all| all.len() >= K).ok_or_else(wrong)?;
    Ok(array::from_fn(|column| all[column]))
}
