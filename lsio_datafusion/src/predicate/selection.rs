//! Selections of a dimension's indices, from predicates over one dimension.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use datafusion::{
    common::tree_node::TreeNode as _,
    error::Result,
    logical_expr::{Expr, Volatility},
    scalar::ScalarValue,
};
use lsio_core::{Column, Selection, Table};

use super::{Predicate, indices::select_indices};
use crate::error::external;

/// Indices for which a predicate is evaluated at a time.
const BATCH: u64 = 1 << 16;

/// Upper bound on the indices for which planning evaluates a predicate.
const MOST_INDICES: u64 = 1 << 30;

/// Bytes up to which planning reads a column.
const MOST_BYTES: u64 = 64 << 20;

/// Whether a predicate depends on a single dimension only, and not on when it is evaluated.
pub(crate) fn is_selection(expr: &Expr, table: &Table) -> bool {
    let changes = expr.exists(|expr| {
        Ok(match expr {
            Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Volatile,
            Expr::ScalarSubquery(_)
            | Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::OuterReferenceColumn(..)
            | Expr::Placeholder(_)
            | Expr::AggregateFunction(_)
            | Expr::WindowFunction(_) => true,
            _ => false,
        })
    });
    if changes.unwrap_or(true) {
        return false;
    }
    let mut dims: Vec<usize> = Vec::new();
    for reference in expr.column_refs() {
        let Some(column) = table.columns.iter().find(|c| c.name == reference.name) else {
            return false;
        };
        if !column.is_local(table.dims.len(), MOST_BYTES) {
            return false;
        }
        dims.extend(&column.dims);
    }
    dims.dedup();
    matches!(dims.as_slice(), [dim] if table.dims[*dim].size <= MOST_INDICES)
}

/// Dimension of a predicate, and the indices for which it is true. Reads columns that aren't in memory; those
/// of more than `held_bytes` aren't kept.
pub(crate) async fn select(
    predicate: &Predicate,
    table: &Table,
    held_bytes: u64,
) -> Result<Option<(usize, Selection)>> {
    let mut values = Vec::new();
    for &position in predicate.columns() {
        let column = &table.columns[position];
        values.push(if column.is_held(table.dims.len(), held_bytes) {
            column.load().await.map_err(external)?
        } else {
            column.read().await.map_err(external)?
        });
    }
    evaluate(predicate, table, &values)
}

/// Dimension and indices of a predicate; `None` also if a column isn't in memory.
pub(crate) fn select_loaded(
    predicate: &Predicate,
    table: &Table,
) -> Result<Option<(usize, Selection)>> {
    let mut values = Vec::new();
    for &position in predicate.columns() {
        let column = &table.columns[position];
        if !column.is_known() {
            return Ok(None);
        }
        values.push(column.loaded().cloned());
    }
    evaluate(predicate, table, &values)
}

/// Evaluates a predicate on values; `None` stands for a dimension's own indices.
fn evaluate(
    predicate: &Predicate,
    table: &Table,
    values: &[Option<ArrayRef>],
) -> Result<Option<(usize, Selection)>> {
    let &[dim] = predicate.dims() else { return Ok(None) };
    let size = table.dims[dim].size;
    let columns = predicate.columns();
    if columns.iter().all(|&position| table.columns[position].is_index())
        && let Some(selection) = select_indices(predicate.expr(), size)
    {
        return Ok(Some((dim, selection)));
    }
    if size > MOST_INDICES {
        return Ok(None);
    }
    let mut ranges = Vec::new();
    let mut start = 0;
    while start < size {
        let len = BATCH.min(size - start);
        let rows = usize::try_from(len).unwrap_or(usize::MAX);
        let columns = predicate.columns().iter().zip(values).map(|(&position, values)| {
            slice(&table.columns[position], values.as_ref(), start, rows)
        });
        let mask = predicate.evaluate(columns.collect::<Result<_>>()?, rows)?;
        let selected = Selection::from_mask(&mask);
        ranges.extend(selected.ranges().map(|range| start + range.start..start + range.end));
        start += len;
    }
    Ok(Some((dim, ranges.into_iter().collect())))
}

fn slice(column: &Column, values: Option<&ArrayRef>, start: u64, rows: usize) -> Result<ArrayRef> {
    Ok(match values {
        Some(values) if column.dims.is_empty() => {
            ScalarValue::try_from_array(values, 0)?.to_array_of_size(rows)?
        }
        Some(values) => values.slice(usize::try_from(start).unwrap_or(usize::MAX), rows),
        None => {
            let indices = start.cast_signed()..(start + rows as u64).cast_signed();
            Arc::new(Int64Array::from_iter_values(indices))
        }
    })
}
