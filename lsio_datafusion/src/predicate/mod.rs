//! Predicates, told apart by what they vary along.
//!
//! ```text
//! one dimension, in memory    evaluated once over its coordinates: a selection of indices
//! several, all in memory      evaluated for each tile at their own rank, before anything is fetched
//! a data variable             evaluated on its chunks, before those of other columns are fetched
//! not known before it runs    consulted when a tile is about to be fetched, and again to be decoded
//! ```

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BooleanArray, RecordBatch, RecordBatchOptions},
    compute::cast,
    datatypes::{DataType, Schema, SchemaRef},
};
use datafusion::{
    common::{
        exec_err,
        tree_node::{Transformed, TransformedResult as _, TreeNode as _},
    },
    error::Result,
    physical_expr::{PhysicalExpr, expressions::Column, utils::collect_columns},
};
use lsio_core::Table;

mod deferred;
mod nearest;
mod selection;
mod zeros;

pub(crate) use self::{
    deferred::{Deferred, is_deferred},
    nearest::nearest_values,
    selection::{is_selection, select, select_loaded},
};

/// A predicate over columns of a Zarr table.
#[derive(Clone, Debug)]
pub(crate) struct Predicate {
    /// As it is told to the user: columns by their positions in the table.
    expr: Arc<dyn PhysicalExpr>,
    /// The same over a batch of just its own columns.
    compact: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    columns: Vec<usize>,
    dims: Vec<usize>,
}

impl Predicate {
    /// A predicate whose columns are given by their positions in the table.
    pub(crate) fn new(
        expr: Arc<dyn PhysicalExpr>,
        table: &Table,
        table_schema: &Schema,
    ) -> Result<Self> {
        let mut columns: Vec<usize> = collect_columns(&expr).iter().map(Column::index).collect();
        columns.sort_unstable();
        columns.dedup();
        let schema = Arc::new(table_schema.project(&columns)?);
        let compact = with_columns(&zeros::with_both_zeros(&expr)?, |column| {
            let position = columns.binary_search(&column.index()).ok()?;
            Some(Column::new(column.name(), position))
        })?;
        let Some(compact) = compact else {
            return exec_err!("the columns of the predicate {expr} are not those of its table");
        };
        let mut dims: Vec<usize> =
            columns.iter().flat_map(|&c| table.columns[c].dims.iter().copied()).collect();
        dims.sort_unstable();
        dims.dedup();
        Ok(Self { expr, compact, schema, columns, dims })
    }

    /// The predicate, over the table's columns.
    pub(crate) fn expr(&self) -> &Arc<dyn PhysicalExpr> {
        &self.expr
    }

    /// The positions of its columns in the table, in order.
    pub(crate) fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The dimensions along which it varies.
    pub(crate) fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Whether the predicate is true, for each row of its columns.
    pub(crate) fn evaluate(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<BooleanArray> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        let mask = self.compact.evaluate(&batch)?.into_array(rows)?;
        if *mask.data_type() == DataType::Null {
            // NULL is not true.
            return Ok(BooleanArray::from(vec![false; mask.len()]));
        }
        Ok(cast(&mask, &DataType::Boolean)?.as_boolean().clone())
    }
}

/// An expression with other columns in place of its own; `None` if there is none for one of them.
pub(crate) fn with_columns(
    expr: &Arc<dyn PhysicalExpr>,
    replace: impl Fn(&Column) -> Option<Column>,
) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let mut unknown = false;
    let replaced = Arc::clone(expr)
        .transform_up(|expr| {
            let Some(column) = expr.downcast_ref::<Column>() else {
                return Ok(Transformed::no(expr));
            };
            Ok(match replace(column) {
                Some(column) => Transformed::yes(Arc::new(column) as _),
                None => {
                    unknown = true;
                    Transformed::no(expr)
                }
            })
        })
        .data()?;
    Ok((!unknown).then_some(replaced))
}
