//! Notes on literals that no value of a coordinate equals.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, RecordBatch},
    compute::{
        filter,
        kernels::cmp::{gt, lt},
    },
    datatypes::{DataType, Schema},
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{
    common::{
        ScalarValue,
        tree_node::{TreeNode as _, TreeNodeRecursion},
    },
    error::Result,
    functions_aggregate::min_max::{MaxAccumulator, MinAccumulator},
    logical_expr::{Accumulator as _, Operator},
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, CastExpr, Column, InListExpr, Literal},
    },
};
use lsio_core::Table;

/// Notes each `coordinate = literal` and `coordinate IN (…)` whose literal no value of the coordinate equals,
/// with the nearest values. Only coordinates in memory are searched.
pub(crate) fn nearest_values(
    expr: &Arc<dyn PhysicalExpr>,
    table: &Table,
    table_schema: &Schema,
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    expr.apply(|expr| {
        let mut note = |column, literal| -> Result<()> {
            notes.extend(unmatched(column, literal, table, table_schema)?);
            Ok(())
        };
        if let Some(binary) = expr.downcast_ref::<BinaryExpr>()
            && *binary.op() == Operator::Eq
        {
            note(binary.left(), binary.right())?;
            note(binary.right(), binary.left())?;
        } else if let Some(list) = expr.downcast_ref::<InListExpr>()
            && !list.negated()
        {
            for item in list.list() {
                note(list.expr(), item)?;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(notes)
}

fn unmatched(
    column: &Arc<dyn PhysicalExpr>,
    literal: &Arc<dyn PhysicalExpr>,
    table: &Table,
    table_schema: &Schema,
) -> Result<Option<String>> {
    let Some(literal) = literal.downcast_ref::<Literal>().map(Literal::value) else {
        return Ok(None);
    };
    let plain = column.downcast_ref::<CastExpr>().map_or(column, CastExpr::expr);
    let Some(own) = plain.downcast_ref::<Column>() else { return Ok(None) };
    let Some(values) = table.columns.get(own.index()).and_then(|column| column.loaded()) else {
        return Ok(None);
    };
    let batch = RecordBatch::try_new(
        Arc::new(table_schema.project(&[own.index()])?),
        vec![Arc::clone(values)],
    )?;
    let only =
        crate::expression::with_columns(column, |column| Some(Column::new(column.name(), 0)))?;
    let Some(only) = only else { return Ok(None) };
    let values = only.evaluate(&batch)?.into_array(values.len())?;
    let ordered = values.data_type().is_numeric() || values.data_type().is_temporal();
    if !ordered || literal.is_null() || literal.data_type() != *values.data_type() {
        return Ok(None);
    }
    // Compares as the query does: both zeros are equal.
    let equal = BinaryExpr::new(only, Operator::Eq, Arc::new(Literal::new(literal.clone())));
    let equal = equal.evaluate(&batch)?.into_array(values.len())?;
    if equal.as_boolean().true_count() > 0 {
        return Ok(None);
    }
    let wanted = literal.to_scalar()?;
    let below = greatest(&filter(&values, &lt(&values, &wanted)?)?)?;
    let above = least(&filter(&values, &gt(&values, &wanted)?)?)?;
    let nearest = match (below, above) {
        (Some(below), Some(above)) => format!("the nearest values are {below} and {above}"),
        (Some(only), None) => format!("the largest value is {only}"),
        (None, Some(only)) => format!("the smallest value is {only}"),
        (None, None) => "it has no values".to_owned(),
    };
    let literal = text(literal)?;
    Ok(Some(format!("no {} equals {literal}: {nearest}", own.name())))
}

fn greatest(values: &ArrayRef) -> Result<Option<String>> {
    let mut accumulator = MaxAccumulator::try_new(values.data_type())?;
    accumulator.update_batch(std::slice::from_ref(values))?;
    Some(accumulator.evaluate()?).filter(|value| !value.is_null()).map(|v| text(&v)).transpose()
}

fn least(values: &ArrayRef) -> Result<Option<String>> {
    let mut accumulator = MinAccumulator::try_new(values.data_type())?;
    accumulator.update_batch(std::slice::from_ref(values))?;
    Some(accumulator.evaluate()?).filter(|value| !value.is_null()).map(|v| text(&v)).transpose()
}

fn text(value: &ScalarValue) -> Result<String> {
    let array = value.to_array()?;
    let options = FormatOptions::default().with_null("NULL");
    let text = ArrayFormatter::try_new(&array, &options)?.value(0).to_string();
    Ok(match value.data_type() {
        DataType::Timestamp(..) => format!("'{text}'"),
        _ => text,
    })
}
