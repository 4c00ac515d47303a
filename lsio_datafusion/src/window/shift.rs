//! Functions that pick a row of the partition, as index maps.

use std::sync::Arc;

use arrow::{
    array::{AsArray as _, Int64Array},
    datatypes::{DataType, Field, Int64Type, Schema},
};
use datafusion::{
    logical_expr::WindowUDF,
    physical_expr::{
        PhysicalExpr,
        expressions::{Column, Literal},
        window::StandardWindowExpr,
    },
    physical_plan::windows::create_udwf_window_expr,
    scalar::ScalarValue,
};
use lsio_core::IndexMap;

use super::{call::WindowExprRef, lines::Lines, memory::LineRows};
use crate::refusal::Refusal;

/// The map from each index to that of the row whose value the function picks, found by the function itself: it picks
/// among the indices.
///
/// # Errors
/// [`Refusal::Unsupported`] if it can't be evaluated.
pub(super) fn index_map(
    expr: &WindowExprRef,
    function: &Arc<WindowUDF>,
    options: &[Arc<dyn PhysicalExpr>],
    line: &LineRows,
    lines: &Lines,
    size: u64,
) -> Result<IndexMap, Refusal> {
    let position = line.columns.len();
    let mut fields: Vec<Field> = line.schema.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new("index", DataType::Int64, true));
    let schema = Arc::new(Schema::new(fields));
    let indices = lines.selection.iter().map(u64::cast_signed);
    let mut columns = line.columns.clone();
    columns.push(Arc::new(Int64Array::from_iter_values(indices)));
    let mut args: Vec<Arc<dyn PhysicalExpr>> = vec![Arc::new(Column::new("index", position))];
    args.extend(options.iter().cloned());
    let name = "index".to_owned();
    let function = create_udwf_window_expr(function, &args, &schema, name, false)?;
    let frame = Arc::clone(expr.get_window_frame());
    let picks = StandardWindowExpr::new(function, expr.partition_by(), expr.order_by(), frame);
    let picks: WindowExprRef = Arc::new(picks);
    let picked = LineRows { schema, columns }.evaluate(&picks, lines, size)?;
    let picked = picked
        .as_primitive_opt::<Int64Type>()
        .ok_or_else(|| Refusal::unsupported("its function picks no row"))?;
    let indices = picked.iter().map(|index| index.and_then(|index| u64::try_from(index).ok()));
    Ok(IndexMap::new(vec![lines.dim], vec![size], indices.collect()))
}

/// The value where there is no row to pick: the third argument, in the type of the first.
pub(super) fn default_value(
    args: &[Arc<dyn PhysicalExpr>],
    data_type: &DataType,
) -> Result<Option<ScalarValue>, Refusal> {
    let Some(default) = args.get(2) else { return Ok(None) };
    let Some(literal) = default.downcast_ref::<Literal>() else {
        return Err(Refusal::unsupported("its default is no constant"));
    };
    let value = literal.value().cast_to(data_type)?;
    Ok((!value.is_null()).then_some(value))
}
