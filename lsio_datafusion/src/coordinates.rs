//! Expressions over coordinates that are in memory when a query is planned.

use arrow::array::ArrayRef;
use lsio_core::{
    Selection,
    read::{Scan, ScanOptions},
};

use crate::{ZarrSource, error::external, expression::Expression, refusal::Refusal};

/// Upper bound on the cells for which planning evaluates an expression over several dimensions.
const MOST_CELLS: u64 = 1 << 22;

/// Upper bound on the indices for which planning evaluates an expression over one dimension.
const MOST_INDICES: u64 = 1 << 26;

/// Evaluates expressions on all indices of the dimensions `dims` of a scan's grid, in C order.
///
/// # Errors
/// [`Refusal::Unsupported`] if a value isn't in memory, there are too many, or they can't be computed.
pub(crate) fn evaluated(
    exprs: &[&Expression],
    dims: &[usize],
    source: &ZarrSource,
) -> Result<Vec<ArrayRef>, Refusal> {
    let table = source.table();
    let mut columns: Vec<usize> = exprs.iter().flat_map(|expr| expr.columns()).copied().collect();
    columns.sort_unstable();
    columns.dedup();
    for &position in &columns {
        let column = &table.columns[position];
        if !column.is_known() {
            let reason = format!("{} isn't in memory when the query is planned", column.name);
            return Err(Refusal::Unsupported(reason));
        }
    }
    let cells = dims.iter().map(|&d| table.dims[d].size).fold(1, u64::saturating_mul);
    if cells > if dims.len() > 1 { MOST_CELLS } else { MOST_INDICES } {
        return Err(Refusal::Unsupported(format!("a key varies over {cells} cells")));
    }
    let selection = table.dims.iter().enumerate().map(|(dim, size)| match dims.contains(&dim) {
        true => Selection::all(size.size),
        false => Selection::default(),
    });
    let options = ScanOptions { held_bytes: u64::MAX, ..ScanOptions::default() };
    let scan = Scan::new(table, &columns, selection.collect(), &options).map_err(external)?;
    let all: Vec<usize> = (0..columns.len()).collect();
    let tile = scan.local(&all, scan.tiles().whole()).map_err(external)?;
    let mut values = Vec::with_capacity(exprs.len());
    for expr in exprs {
        let own = expr.columns().iter();
        let own: Vec<usize> = own.filter_map(|column| columns.binary_search(column).ok()).collect();
        let rows = tile.rows(dims, &own).map_err(external)?;
        let len = rows.len();
        let computed = expr.evaluate(rows.slice(0, len).map_err(external)?, len);
        values.push(computed.map_err(|error| {
            Refusal::Unsupported(format!("{} can't be evaluated: {error}", expr.expr()))
        })?);
    }
    Ok(values)
}
