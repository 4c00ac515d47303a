//! Masks of predicates on a tile.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray as _, BooleanArray, BooleanBufferBuilder},
    buffer::BooleanBuffer,
    compute::filter as filter_rows,
};
use datafusion::error::Result;
use lsio_core::read::Tile;

use crate::{
    error::external,
    predicate::{Predicate, holds},
};

/// Evaluates a predicate on a tile at its own rank, in steps of some rows; where only some rows are wanted,
/// on these.
pub(super) fn evaluate(
    tile: &Tile,
    filter: &Predicate,
    columns: &[usize],
    batch_size: usize,
    wanted: Option<&BooleanBuffer>,
) -> Result<BooleanBuffer> {
    if let &[column] = columns
        && let Some((values, nan_is_null)) = tile.values(column)
        && let Some(mask) = filter.compare(values, nan_is_null)
    {
        return Ok(mask);
    }
    if let &[column] = columns
        && let Some(numbers) = tile.packed(column)
        && let Some(mask) = filter.compare_stored(numbers, true)
    {
        return Ok(mask);
    }
    let rows = tile.rows(filter.dims(), columns).map_err(external)?;
    let mut mask = BooleanBufferBuilder::new(rows.len());
    let mut start = 0;
    while start < rows.len() {
        let len = (rows.len() - start).min(batch_size);
        let wanted = wanted.map(|wanted| wanted.slice(start, len));
        let count = wanted.as_ref().map_or(len, BooleanBuffer::count_set_bits);
        if count == 0 {
            mask.append_n(len, false);
            start += len;
            continue;
        }
        let mut columns = rows.slice(start, len).map_err(external)?;
        // A row that isn't wanted must not make the predicate fail either.
        let some = wanted.filter(|_| count < len).map(|wanted| BooleanArray::new(wanted, None));
        if let Some(some) = &some {
            for column in &mut columns {
                *column = filter_rows(column, some)?;
            }
        }
        let values = filter.evaluate(columns, count)?;
        let holds = holds(&values);
        match some {
            None => mask.append_buffer(&holds),
            Some(some) => {
                let first = mask.len();
                mask.append_n(len, false);
                for (position, row) in some.values().set_indices().enumerate() {
                    mask.set_bit(first + row, holds.value(position));
                }
            }
        }
        start += len;
    }
    Ok(mask.finish())
}

/// Broadcasts a predicate's mask from its own rank to the rows of a tile.
pub(super) fn on_rows(
    tile: &Tile,
    filter: &Predicate,
    mask: BooleanBuffer,
) -> Result<BooleanBuffer> {
    let mask: ArrayRef = Arc::new(BooleanArray::new(mask, None));
    let mask = tile.broadcast(&mask, filter.dims()).map_err(external)?;
    Ok(mask.as_boolean().values().clone())
}

/// Intersection of two masks.
pub(super) fn both(one: Option<BooleanBuffer>, other: &BooleanBuffer) -> BooleanBuffer {
    match one {
        Some(one) => &one & other,
        None => other.clone(),
    }
}
