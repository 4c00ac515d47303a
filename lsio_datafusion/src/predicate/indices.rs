//! Selections that follow from a predicate's form: comparisons of a dimension's own indices with numbers. They take no
//! time for each index, of which a dimension may have more than can be visited.

use std::{ops::Range, sync::Arc};

use datafusion::{
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, Column, InListExpr, Literal},
    },
    scalar::ScalarValue,
};
use lsio_core::Selection;

/// Indices of a dimension of `size` indices for which a predicate is true; `None` if its form doesn't tell. All columns
/// of the predicate must be the dimension's indices.
pub(super) fn select_indices(expr: &Arc<dyn PhysicalExpr>, size: u64) -> Option<Selection> {
    if let Some(list) = expr.downcast_ref::<InListExpr>() {
        list.expr().downcast_ref::<Column>()?;
        let numbers: Vec<i128> = list.list().iter().map(number).collect::<Option<_>>()?;
        let chosen = numbers.iter().map(|number| within(*number..number.saturating_add(1), size));
        let chosen = Selection::from(chosen.collect::<Vec<_>>());
        return Some(if list.negated() { others(&chosen, size) } else { chosen });
    }
    let binary = expr.downcast_ref::<BinaryExpr>()?;
    let (left, right) = (binary.left(), binary.right());
    match binary.op() {
        Operator::And => Some(select_indices(left, size)?.intersect(&select_indices(right, size)?)),
        Operator::Or => {
            let (left, right) = (select_indices(left, size)?, select_indices(right, size)?);
            Some(Selection::from(left.ranges().chain(right.ranges()).collect::<Vec<_>>()))
        }
        operator => {
            let (operator, number) = match left.downcast_ref::<Column>() {
                Some(_) => (*operator, number(right)?),
                None => {
                    right.downcast_ref::<Column>()?;
                    (operator.swap()?, number(left)?)
                }
            };
            compared(operator, number, size)
        }
    }
}

fn compared(operator: Operator, number: i128, size: u64) -> Option<Selection> {
    let next = number.saturating_add(1);
    let range = match operator {
        Operator::Eq => number..next,
        Operator::Lt => 0..number,
        Operator::LtEq => 0..next,
        Operator::Gt => next..i128::MAX,
        Operator::GtEq => number..i128::MAX,
        Operator::NotEq => {
            return Some(others(&std::iter::once(within(number..next, size)).collect(), size));
        }
        _ => return None,
    };
    Some(std::iter::once(within(range, size)).collect())
}

/// The part of a range that a dimension of `size` indices has.
fn within(range: Range<i128>, size: u64) -> Range<u64> {
    let index = |bound: i128| bound.clamp(0, i128::from(size)).try_into().unwrap_or(size);
    index(range.start)..index(range.end)
}

/// The indices that aren't chosen.
fn others(chosen: &Selection, size: u64) -> Selection {
    let starts = std::iter::once(0).chain(chosen.ranges().map(|range| range.end));
    let ends = chosen.ranges().map(|range| range.start).chain([size]);
    starts.zip(ends).map(|(start, end)| start..end).collect()
}

/// An integer that is known.
fn number(expr: &Arc<dyn PhysicalExpr>) -> Option<i128> {
    match *expr.downcast_ref::<Literal>()?.value() {
        ScalarValue::Int64(value) => value.map(i128::from),
        ScalarValue::Int32(value) => value.map(i128::from),
        ScalarValue::UInt64(value) => value.map(i128::from),
        ScalarValue::UInt32(value) => value.map(i128::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{AsArray as _, Int64Array, RecordBatch},
        datatypes::{DataType, Field, Schema},
    };
    use datafusion::physical_expr::expressions::{binary, col, in_list, lit};
    use proptest::prelude::*;

    use super::*;

    const SIZE: i64 = 12;

    fn comparison() -> impl Strategy<Value = Arc<dyn PhysicalExpr>> {
        let operators = prop::sample::select(vec![
            Operator::Eq,
            Operator::NotEq,
            Operator::Lt,
            Operator::LtEq,
            Operator::Gt,
            Operator::GtEq,
        ]);
        let schema = schema();
        let compared = {
            let schema = schema.clone();
            (operators, -3..SIZE + 3, any::<bool>()).prop_map(move |(operator, number, swapped)| {
                let (index, number) = (col("i", &schema).unwrap(), lit(number));
                let (left, right) = if swapped { (number, index) } else { (index, number) };
                binary(left, operator, right, &schema).unwrap()
            })
        };
        let listed = (prop::collection::vec(-3..SIZE + 3, 1..5), any::<bool>());
        let listed = listed.prop_map(move |(numbers, negated)| {
            let numbers = numbers.into_iter().map(lit).collect();
            in_list(col("i", &schema).unwrap(), numbers, &negated, &schema).unwrap()
        });
        prop_oneof![3 => compared, 1 => listed]
    }

    fn predicate() -> impl Strategy<Value = Arc<dyn PhysicalExpr>> {
        comparison().prop_recursive(3, 8, 2, |inner| {
            (inner.clone(), inner, any::<bool>()).prop_map(|(left, right, both)| {
                let operator = if both { Operator::And } else { Operator::Or };
                binary(left, operator, right, &schema()).unwrap()
            })
        })
    }

    fn schema() -> Schema {
        Schema::new(vec![Field::new("i", DataType::Int64, false)])
    }

    proptest! {
        #[test]
        fn are_those_where_the_predicate_is_true(expr in predicate()) {
            let indices = Arc::new(Int64Array::from_iter_values(0..SIZE));
            let batch = RecordBatch::try_new(Arc::new(schema()), vec![indices]).unwrap();
            let mask = expr.evaluate(&batch).unwrap().into_array(batch.num_rows()).unwrap();
            let expected = Selection::from_mask(mask.as_boolean());
            prop_assert_eq!(select_indices(&expr, SIZE as u64), Some(expected));
        }
    }
}
