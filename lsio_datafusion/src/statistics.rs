//! What a scan knows without reading data: its row count, and everything about its coordinates.
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
use lsio_core::{Column, Table};

/// The statistics of one column over all rows of the table.
pub(crate) fn column_statistics(table: &Table, column: &Column) -> Result<ColumnStatistics> {
    let mut statistics = ColumnStatistics::new_unknown();
    let rows = usize::try_from(table.rows).ok();
    if let (Some(rows), Some(width)) = (rows, column.data_type().primitive_width())
        && let Some(bytes) = rows.checked_mul(width)
    {
        statistics.byte_size = Precision::Exact(bytes);
    }
    if table.rows == 0 {
        return Ok(statistics);
    }
    let size = |d: usize| usize::try_from(table.dims[d].size).ok();
    match (&column.variable, column.loaded()) {
        (None, _) => {
            let Some(size) = column.dims.first().and_then(|&d| size(d)) else {
                return Ok(statistics);
            };
            let last = i64::try_from(size).unwrap_or(i64::MAX) - 1;
            statistics.null_count = Precision::Exact(0);
            statistics.min_value = Precision::Exact(ScalarValue::Int64(Some(0)));
            statistics.max_value = Precision::Exact(ScalarValue::Int64(Some(last)));
            statistics.distinct_count = Precision::Exact(size);
        }
        (Some(_), Some(values)) if !values.is_empty() => {
            // Each value stands once for every index of the other dimensions.
            let repeats = rows.map(|rows| rows / values.len());
            if let Some(nulls) = repeats.and_then(|r| r.checked_mul(values.null_count())) {
                statistics.null_count = Precision::Exact(nulls);
            }
            if !matches!(values.data_type(), DataType::Boolean | DataType::Null) {
                let (min, max) = min_max(values)?;
                statistics.min_value = Precision::Exact(min);
                statistics.max_value = Precision::Exact(max);
            }
        }
        _ => {}
    }
    Ok(statistics)
}

/// The same accumulators as a query without statistics would use.
fn min_max(values: &ArrayRef) -> Result<(ScalarValue, ScalarValue)> {
    let mut min = MinAccumulator::try_new(values.data_type())?;
    min.update_batch(std::slice::from_ref(values))?;
    let mut max = MaxAccumulator::try_new(values.data_type())?;
    max.update_batch(std::slice::from_ref(values))?;
    Ok((min.evaluate()?, max.evaluate()?))
}
