//! Window expressions whose values are known when the query is planned.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array, new_null_array},
    compute::{concat, take},
    datatypes::{Schema, SchemaRef},
};
use datafusion::physical_expr::PhysicalExpr;

use super::{
    call::WindowExprRef,
    lines::{Lines, over_table, selected},
};
use crate::{coordinates::evaluated, refusal::Refusal, scan_rows::ScanRows};

/// Upper bound on the partitions along a dimension that are evaluated one by one.
const MOST_PARTITIONS: usize = 1 << 14;

/// Rows of a line: the input's columns that vary along the window's dimension only, over its selected indices. Other
/// columns are NULL: expressions that name them must not be evaluated.
#[derive(Debug)]
pub(super) struct LineRows {
    pub(super) schema: SchemaRef,
    pub(super) columns: Vec<ArrayRef>,
}

impl LineRows {
    /// The rows with the columns that these expressions over the input name.
    pub(super) fn new(
        rows: &ScanRows,
        lines: &Lines,
        schema: &SchemaRef,
        named: &[usize],
    ) -> Result<Self, Refusal> {
        let len = usize::try_from(lines.selection.len()).unwrap_or(usize::MAX);
        let fields = schema.fields().iter();
        let fields: Vec<_> =
            fields.map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let mut columns = Vec::with_capacity(fields.len());
        for (position, field) in fields.iter().enumerate() {
            let own = match named.contains(&position).then(|| rows.columns.get(position)).flatten()
            {
                Some(expr) => along(rows, lines, expr)?,
                None => None,
            };
            columns.push(own.unwrap_or_else(|| new_null_array(field.data_type(), len)));
        }
        Ok(Self { schema: Arc::new(Schema::new(fields)), columns })
    }

    /// Evaluates a window expression on each partition. The result is over all indices of the dimension, which has
    /// `size`, and NULL where none is selected.
    pub(super) fn evaluate(
        &self,
        expr: &WindowExprRef,
        lines: &Lines,
        size: u64,
    ) -> Result<ArrayRef, Refusal> {
        if lines.partitions.len() > MOST_PARTITIONS {
            return Err(Refusal::Unsupported(format!(
                "it has {} partitions along one dimension",
                lines.partitions.len()
            )));
        }
        let mut results: Vec<ArrayRef> = Vec::with_capacity(lines.partitions.len());
        let mut places: Vec<Option<u64>> = vec![None; usize::try_from(size).unwrap_or(0)];
        let indices: Vec<u64> = lines.selection.iter().collect();
        let mut next = 0;
        for partition in &lines.partitions {
            let positions = UInt64Array::from_iter_values(partition.iter().map(|&p| p as u64));
            let columns = self.columns.iter().map(|column| take(column, &positions, None));
            let columns = columns.collect::<Result<Vec<_>, _>>();
            let options = RecordBatchOptions::new().with_row_count(Some(partition.len()));
            let batch = columns.and_then(|columns| {
                RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            });
            let batch = batch.map_err(|error| Refusal::Failed(error.into()))?;
            // The error may come from rows that a filter above leaves out.
            let values = expr
                .evaluate(&batch)
                .map_err(|error| Refusal::Unsupported(format!("it can't be evaluated: {error}")))?;
            if values.len() != partition.len() {
                return Err(Refusal::unsupported("it has another number of values than rows"));
            }
            results.push(values);
            for position in partition {
                if let Some(place) = indices
                    .get(*position)
                    .and_then(|&index| places.get_mut(usize::try_from(index).unwrap_or(usize::MAX)))
                {
                    *place = Some(next);
                }
                next += 1;
            }
        }
        let field = expr.field()?;
        let parts: Vec<&dyn arrow::array::Array> = results.iter().map(AsRef::as_ref).collect();
        let all = if parts.is_empty() {
            new_null_array(field.data_type(), 0)
        } else {
            concat(&parts).map_err(|error| Refusal::Failed(error.into()))?
        };
        if all.data_type() != field.data_type() {
            return Err(Refusal::unsupported("its values are of another type than planned"));
        }
        take(&all, &UInt64Array::from(places), None).map_err(|error| Refusal::Failed(error.into()))
    }
}

/// Values along the window's dimension; `None` if the expression varies along others.
fn along(
    rows: &ScanRows,
    lines: &Lines,
    expr: &Arc<dyn PhysicalExpr>,
) -> Result<Option<ArrayRef>, Refusal> {
    let expr = crate::expression::Expression::new(
        Arc::clone(expr),
        rows.source.table(),
        rows.source.table_schema(),
    )?;
    if expr.dims().iter().any(|dim| *dim != lines.dim) {
        return Ok(None);
    }
    let values = evaluated(&[&expr], &[lines.dim], &rows.source)?;
    values.first().map(|values| selected(values, &lines.selection)).transpose()
}

/// Whether the arguments of a window expression are in memory and vary along its dimension only.
pub(super) fn is_known(
    expr: &WindowExprRef,
    args: &[Arc<dyn PhysicalExpr>],
    rows: &ScanRows,
    lines: &Lines,
) -> Result<bool, Refusal> {
    for arg in expr.expressions().iter().chain(args) {
        let arg = over_table(rows, arg)?;
        let table = rows.source.table();
        let varies = arg.dims().iter().any(|dim| *dim != lines.dim);
        if varies || arg.columns().iter().any(|&column| !table.columns[column].is_known()) {
            return Ok(false);
        }
    }
    Ok(true)
}
