//! What a window expression becomes.

use std::{any::Any, sync::Arc};

use arrow::array::ArrayRef;
use datafusion::{
    functions_window::{cume_dist::CumeDist, rank::Rank},
    logical_expr::WindowFrameUnits,
    physical_expr::{PhysicalExpr, utils::collect_columns, window::StandardWindowExpr},
    physical_plan::windows::WindowUDFExpr,
    scalar::ScalarValue,
};
use lsio_core::IndexMap;

use super::{
    call::{WindowCall, WindowExprRef},
    frames::{frames, is_whole},
    lines::{Lines, over_table},
    memory::{LineRows, is_known},
    node::WindowNode,
    running::RunningColumn,
    shift::{default_value, index_map},
};
use crate::{expression::Expression, refusal::Refusal, scan_rows::ScanRows};

/// What a window expression becomes.
#[derive(Debug)]
pub(super) enum WindowColumn {
    /// Values along the dimension, in memory.
    Memory(ArrayRef),
    /// The value of an expression over the table at another index of the dimension.
    Shifted {
        map: IndexMap,
        value: Arc<dyn PhysicalExpr>,
        /// The value where there is no other index.
        default: Option<ScalarValue>,
    },
    /// An aggregate over frames.
    Running(RunningColumn),
}

/// Plans the expressions of a window operator over rows of a scan, which run along the same dimension. An expression
/// that can't become a column has the reason.
///
/// # Errors
/// [`Refusal::Unsupported`] if none can.
pub(super) fn planned(
    node: &WindowNode<'_>,
    rows: &ScanRows,
) -> Result<(Lines, Vec<Result<WindowColumn, String>>), Refusal> {
    let Some(first) = node.exprs.first() else {
        return Err(Refusal::unsupported("it has no functions"));
    };
    let lines = Lines::new(rows, first.partition_by(), first.order_by())?;
    let varies = |dims: &[usize]| dims.contains(&lines.dim);
    let mut filtered = varies(&rows.source.filter_dims());
    for filter in &rows.filters {
        let (table, schema) = (rows.source.table(), rows.source.table_schema());
        filtered |= varies(Expression::new(Arc::clone(filter), table, schema)?.dims());
    }
    if filtered {
        return Err(Refusal::unsupported("a filter below it leaves out rows of its partitions"));
    }
    let mut columns = Vec::with_capacity(node.exprs.len());
    for expr in node.exprs {
        let same =
            expr.partition_by() == first.partition_by() && expr.order_by() == first.order_by();
        let column = match same {
            true => column(expr, node, rows, &lines),
            false => Err(Refusal::unsupported("its partitions are others")),
        };
        columns.push(match column {
            Ok(column) => Ok(column),
            Err(Refusal::Unsupported(reason)) => Err(reason),
            Err(failed) => return Err(failed),
        });
    }
    Ok((lines, columns))
}

fn column(
    expr: &WindowExprRef,
    node: &WindowNode<'_>,
    rows: &ScanRows,
    lines: &Lines,
) -> Result<WindowColumn, Refusal> {
    let call = WindowCall::of(expr)?;
    let args = match &call {
        WindowCall::Pick { args, .. } => args,
        _ => [].as_slice(),
    };
    if needs_order(expr) && !lines.unique {
        return Err(Refusal::unsupported("ORDER BY leaves rows of a partition in any order"));
    }
    let table = rows.source.table();
    let size = table.dims[lines.dim].size;
    let keys = expr.order_by().iter().map(|key| Arc::clone(&key.expr));
    let named = keys.chain(expr.expressions()).chain(args.iter().cloned());
    let named: Vec<usize> =
        named.flat_map(|named| collect_columns(&named)).map(|column| column.index()).collect();
    let line = |named: &[usize]| LineRows::new(rows, lines, &node.input.schema(), named);
    if is_known(expr, args, rows, lines)? {
        return Ok(WindowColumn::Memory(line(&named)?.evaluate(expr, lines, size)?));
    }
    match call {
        WindowCall::Pick { function, args, has_default } => {
            let Some((value, options)) = args.split_first() else {
                return Err(Refusal::unsupported("its function has no arguments"));
            };
            let data_type = value.data_type(&node.input.schema())?;
            let default = if has_default { default_value(args, &data_type)? } else { None };
            let keys = expr.order_by().iter().flat_map(|key| collect_columns(&key.expr));
            let keys: Vec<usize> = keys.map(|column| column.index()).collect();
            let options = options.get(..1.min(options.len())).unwrap_or_default();
            let map = index_map(expr, function, options, &line(&keys)?, lines, size)?;
            let value = Arc::clone(over_table(rows, value)?.expr());
            Ok(WindowColumn::Shifted { map, value, default })
        }
        WindowCall::Running { function, arg } => {
            if is_whole(expr.get_window_frame()) {
                return Err(Refusal::unsupported("its frame is the whole partition"));
            }
            let frames = frames(lines, expr.get_window_frame())?;
            let arg = over_table(rows, &arg)?;
            let field = expr.field()?;
            RunningColumn::new(function, &arg, field.data_type(), rows, lines, frames)
                .map(WindowColumn::Running)
        }
        WindowCall::Other => {
            Err(Refusal::Unsupported(format!("no kernel computes {}", expr.name())))
        }
    }
}

/// Whether the values depend on the order of rows with the same keys.
fn needs_order(expr: &WindowExprRef) -> bool {
    let frame = expr.get_window_frame();
    let Some(standard) = expr.as_any().downcast_ref::<StandardWindowExpr>() else {
        return frame.units == WindowFrameUnits::Rows && !is_whole(frame);
    };
    let function = standard.get_standard_func_expr().as_any().downcast_ref::<WindowUDFExpr>();
    function.is_none_or(|function| {
        let own: &dyn Any = function.fun().inner().as_ref();
        !own.is::<Rank>() && !own.is::<CumeDist>()
    })
}
