//! Statistics of a scan without reading data: its row count, and those of coordinates.
//!
//! DataFusion answers `count(*)` and the minima and maxima of coordinates from these alone.

use arrow::{
    array::{Array, ArrayRef},
    datatypes::DataType,
};
use datafusion::{
    common::{ColumnStatistics, stats::Precision},
    error::Result,
    functions_aggregate::min_max::{MaxAccumulator, MinAccumulator},
    logical_expr::Accumulator,
    scalar::ScalarValue,
};
use lsio_core::{Column, Selection, Table};

use crate::error::external;

/// Statistics of one column over the rows at which the selections of all dimensions meet.
pub(crate) fn column_statistics(
    table: &Table,
    column: &Column,
    selection: &[Selection],
) -> Result<ColumnStatistics> {
    let mut statistics = ColumnStatistics::new_unknown();
    let rows = selection.iter().map(Selection::len).fold(1, u64::saturating_mul);
    let is_empty = rows == 0;
    let rows = usize::try_from(rows).ok();
    if let (Some(rows), Some(width)) = (rows, column.data_type().primitive_width())
        && let Some(bytes) = rows.checked_mul(width)
    {
        statistics.byte_size = Precision::Exact(bytes);
    }
    if is_empty {
        return Ok(statistics);
    }
    let own: Vec<&Selection> = column.dims.iter().map(|&d| &selection[d]).collect();
    let values = column.loaded().map(|values| column.select(values, table, &own)).transpose();
    match (column.is_index(), values.map_err(external)?) {
        (true, _) => {
            let &[selected] = own.as_slice() else { return Ok(statistics) };
            let bounds = selected.bounds();
            let index = |index: u64| ScalarValue::Int64(i64::try_from(index).ok());
            statistics.null_count = Precision::Exact(0);
            statistics.min_value = Precision::Exact(index(bounds.start));
            statistics.max_value = Precision::Exact(index(bounds.end - 1));
            if let Ok(count) = usize::try_from(selected.len()) {
                statistics.distinct_count = Precision::Exact(count);
            }
        }
        (false, Some(values)) if !values.is_empty() => {
            // Each value counts once for every index of the other dimensions.
            let repeats = rows.map(|rows| rows / values.len());
            if let Some(nulls) = repeats.and_then(|r| r.checked_mul(values.null_count())) {
                statistics.null_count = Precision::Exact(nulls);
            }
            // Minima and maxima of other types have no use, or aren't defined.
            let t = values.data_type();
            let is_time = t.is_temporal() && !matches!(t, DataType::Interval(_));
            if t.is_numeric() || is_time || t.is_string() {
                let (min, max) = min_max(&values)?;
                statistics.min_value = Precision::Exact(min);
                statistics.max_value = Precision::Exact(max);
            }
        }
        _ => {}
    }
    Ok(statistics)
}

/// Computes with the accumulators of a query without statistics.
fn min_max(values: &ArrayRef) -> Result<(ScalarValue, ScalarValue)> {
    let mut min = MinAccumulator::try_new(values.data_type())?;
    min.update_batch(std::slice::from_ref(values))?;
    let mut max = MaxAccumulator::try_new(values.data_type())?;
    max.update_batch(std::slice::from_ref(values))?;
    Ok((min.evaluate()?, max.evaluate()?))
}
