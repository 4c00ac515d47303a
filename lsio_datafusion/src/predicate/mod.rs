//! Predicates, classified by the dimensions along which they vary.
//!
//! ```text
//! one dimension, in memory    evaluated once over its coordinates: a selection of indices
//! several, all in memory      evaluated for each tile at their own rank, before anything is fetched
//! a data variable             evaluated on its chunks, before those of other columns are fetched
//! not known before it runs    consulted when a tile is about to be fetched, and again to be decoded
//! ```

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BooleanArray},
    buffer::BooleanBuffer,
    compute::cast,
    datatypes::{DataType, Schema},
};
use datafusion::{
    error::Result,
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, Column, Literal},
    },
    scalar::ScalarValue,
};
use lsio_core::{
    Table,
    reduce::{Comparison, Number, StoredNumbers, compare, compare_stored},
};

use crate::expression::Expression;

mod deferred;
mod indices;
mod nearest;
mod selection;
mod zeros;

pub(crate) use self::{
    deferred::{Deferred, is_deferred},
    nearest::nearest_values,
    selection::{is_selection, select, select_loaded},
};

/// Predicate over columns of a Zarr table.
#[derive(Clone, Debug)]
pub(crate) struct Predicate {
    /// Predicate as shown to the user.
    expr: Arc<dyn PhysicalExpr>,
    /// Predicate as evaluated.
    expression: Expression,
    /// Comparison for a kernel, if the predicate compares a column of floats with a number.
    comparison: Option<(Comparison, Number)>,
}

/// A predicate that compares one column with a number.
#[derive(Clone, Debug)]
pub(crate) struct ColumnPredicate {
    pub(crate) predicate: Predicate,
    /// Position of the column in the table.
    pub(crate) column: usize,
}

impl Predicate {
    /// Wraps a predicate over the table's columns.
    pub(crate) fn new(
        expr: Arc<dyn PhysicalExpr>,
        table: &Table,
        table_schema: &Schema,
    ) -> Result<Self> {
        let evaluated = zeros::with_both_zeros(&expr)?;
        let comparison = comparison(&expr);
        Ok(Self { expr, expression: Expression::new(evaluated, table, table_schema)?, comparison })
    }

    /// Position of the column, if the predicate compares one with a number and a kernel can evaluate it.
    pub(crate) fn compared_column(&self, table: &Table) -> Option<usize> {
        let (_, number) = self.comparison?;
        let &[column] = self.columns() else { return None };
        match (number, table.columns[column].data_type()) {
            (Number::Float32(number), DataType::Float32) if !number.is_nan() => Some(column),
            (Number::Float64(number), DataType::Float64) if !number.is_nan() => Some(column),
            _ => None,
        }
    }

    /// Evaluates the predicate on values of its only column by a kernel; `None` if none can.
    pub(crate) fn compare(&self, values: &ArrayRef, nan_is_null: bool) -> Option<BooleanBuffer> {
        let (comparison, with) = self.comparison?;
        compare(values, nan_is_null, comparison, with)
    }

    /// Like [`Predicate::compare`], on numbers as they are stored.
    pub(crate) fn compare_stored(
        &self,
        numbers: StoredNumbers<'_>,
        nan_is_null: bool,
    ) -> Option<BooleanBuffer> {
        let (comparison, with) = self.comparison?;
        compare_stored(numbers, nan_is_null, comparison, with)
    }

    /// Predicate over the table's columns.
    pub(crate) fn expr(&self) -> &Arc<dyn PhysicalExpr> {
        &self.expr
    }

    /// Positions of its columns in the table, ascending.
    pub(crate) fn columns(&self) -> &[usize] {
        self.expression.columns()
    }

    /// Dimensions along which it varies.
    pub(crate) fn dims(&self) -> &[usize] {
        self.expression.dims()
    }

    /// Evaluates the predicate on rows of its columns.
    pub(crate) fn evaluate(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<BooleanArray> {
        as_mask(&self.expression.evaluate(columns, rows)?)
    }
}

/// Rows where a mask is true; NULL isn't.
pub(crate) fn holds(mask: &BooleanArray) -> BooleanBuffer {
    match mask.nulls() {
        Some(nulls) => mask.values() & nulls.inner(),
        None => mask.values().clone(),
    }
}

/// Comparison of a column with a number, if the predicate is one.
fn comparison(expr: &Arc<dyn PhysicalExpr>) -> Option<(Comparison, Number)> {
    let binary = expr.downcast_ref::<BinaryExpr>()?;
    let (column, literal) = (binary.left(), binary.right());
    column.downcast_ref::<Column>()?;
    let number = match literal.downcast_ref::<Literal>()?.value() {
        ScalarValue::Float32(Some(value)) => Number::Float32(*value),
        ScalarValue::Float64(Some(value)) => Number::Float64(*value),
        _ => return None,
    };
    let comparison = match binary.op() {
        Operator::Lt => Comparison::Less,
        Operator::LtEq => Comparison::LessOrEqual,
        Operator::Eq => Comparison::Equal,
        Operator::NotEq => Comparison::NotEqual,
        Operator::Gt => Comparison::Greater,
        Operator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    };
    Some((comparison, number))
}

/// Values of a predicate as a mask.
pub(crate) fn as_mask(values: &ArrayRef) -> Result<BooleanArray> {
    if *values.data_type() == DataType::Null {
        // NULL isn't true.
        return Ok(BooleanArray::from(vec![false; values.len()]));
    }
    Ok(cast(values, &DataType::Boolean)?.as_boolean().clone())
}
