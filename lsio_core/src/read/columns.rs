//! The columns of a scan: where each takes its values from, and which read the same chunks.

use std::sync::Arc;

use super::{
    fetch::Fetcher,
    scan::ScanOptions,
    source::{Chunked, ColumnSource, ScanColumn},
    tiles::Tiles,
};
use crate::{
    Column, Result, Variable,
    dataset::{ColumnValues, StoredColumn},
};

/// Source of a column of a grid of this shape.
pub(super) fn source(
    column: &Column,
    shape: &[u64],
    options: &ScanOptions,
) -> Result<ColumnSource> {
    column.check_readable()?;
    let is_local = column.is_local(shape.len(), options.held_bytes);
    let chunked = |stored: &StoredColumn, mapped| -> Result<ColumnSource> {
        let variable = &stored.variable;
        let mut fetcher = Fetcher::new(variable)?;
        if variable.location().local_path().is_some() {
            if let Some(store) = &options.store {
                fetcher = fetcher.with_store(Arc::clone(store));
            }
            fetcher = fetcher.with_page_cache(options.page_cache.clone());
        }
        let (variable, axes) = (Arc::clone(variable), stored.axes.clone());
        Ok(ColumnSource::Chunked(Box::new(Chunked::new(variable, axes, mapped, fetcher))))
    };
    match column.values() {
        ColumnValues::Index => return Ok(ColumnSource::Index),
        ColumnValues::Present(maps) => return Ok(ColumnSource::Present(Arc::clone(maps))),
        ColumnValues::Derived(derive) => {
            let derive = Arc::clone(derive);
            return Ok(ColumnSource::Derived { derive, inputs: Vec::new() });
        }
        ColumnValues::Stored(stored) if !is_local => return chunked(stored, None),
        ColumnValues::Mapped(mapped) if !is_local => {
            if let ColumnValues::Stored(stored) = mapped.column.values() {
                return chunked(stored, Some(Arc::clone(mapped)));
            }
        }
        _ => {}
    }
    let shape = column.dims.iter().map(|&d| shape[d]).collect();
    Ok(ColumnSource::Held { column: column.clone(), shape })
}

/// Finds the columns that read the same chunks, and those whose chunks are needed once only.
pub(super) fn share(columns: &mut [ScanColumn], tiles: &Tiles) {
    let mut variables: Vec<Option<Arc<Variable>>> = Vec::with_capacity(columns.len());
    for column in columns.iter() {
        variables.push(match &column.source {
            ColumnSource::Chunked(chunked) => Some(Arc::clone(&chunked.variable)),
            _ => None,
        });
    }
    let same = |one: &Option<Arc<Variable>>, other: &Option<Arc<Variable>>| match (one, other) {
        (Some(one), Some(other)) => one.is_same_array(other),
        _ => false,
    };
    for (position, column) in columns.iter_mut().enumerate() {
        let own = &variables[position];
        let first = variables.iter().position(|other| same(own, other)).unwrap_or(position);
        let alone = variables.iter().filter(|other| same(own, other)).count() == 1;
        let is_input = column.input_of.is_some();
        if let ColumnSource::Chunked(chunked) = &mut column.source {
            chunked.shares = first;
            chunked.exclusive = alone && !is_input && chunked.is_of_one_tile(&column.dims, tiles);
        }
    }
}
