//! Aggregates over whole partitions: an aggregate by the partition keys, whose rows the scan looks up.

use std::{any::Any, sync::Arc};

use datafusion::{
    common::{JoinType, NullEquality},
    error::Result,
    functions_aggregate::{average::avg_udaf, sum::sum_udaf},
    physical_expr::{
        PhysicalExpr,
        aggregate::{AggregateExprBuilder, AggregateFunctionExpr},
        expressions::{CaseExpr, Column, IsNotNullExpr, lit},
        window::PlainAggregateWindowExpr,
    },
    physical_expr_common::physical_expr::is_volatile,
    physical_plan::{
        aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy},
        joins::{HashJoinExec, PartitionMode},
        projection::{ProjectionExec, ProjectionExpr},
    },
};

use super::{
    call::{WindowCall, WindowExprRef},
    frames::is_whole,
    node::WindowNode,
};
use crate::{
    field_expr::FieldExpr,
    functions::aggregate::{Statistic, StatisticKind},
    join::{Folded, pushed},
    refusal::Refusal,
};

/// The plan that takes the place of a window whose frames are whole partitions. The plan that it looks up runs before.
///
/// # Errors
/// [`Refusal::Unsupported`] if an expression isn't such an aggregate, or the scan can't look up its values.
pub(super) fn looked_up(node: &WindowNode<'_>) -> Result<Folded, Refusal> {
    let Some(first) = node.exprs.first() else {
        return Err(Refusal::unsupported("it has no functions"));
    };
    if first.partition_by().is_empty() {
        return Err(Refusal::unsupported("it has no PARTITION BY"));
    }
    let mut functions = Vec::with_capacity(node.exprs.len());
    for expr in node.exprs {
        if expr.partition_by() != first.partition_by() {
            return Err(Refusal::unsupported("its partitions are others"));
        }
        functions.push(Arc::new(function(expr, node)?));
    }
    let input = node.input.schema();
    let mut left: Vec<ProjectionExpr> = Vec::new();
    for (index, field) in input.fields().iter().enumerate() {
        let (expr, alias) = (Arc::new(Column::new(field.name(), index)), field.name().clone());
        left.push(ProjectionExpr { expr, alias });
    }
    let mut keys: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
    let mut on: Vec<(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)> = Vec::new();
    for (number, key) in first.partition_by().iter().enumerate() {
        if is_volatile(key) {
            return Err(Refusal::Unsupported(format!("{key} is another value each time")));
        }
        let name = format!("partition_key_{number}");
        let own = match key.downcast_ref::<Column>() {
            Some(column) => column.clone(),
            None => {
                left.push(ProjectionExpr { expr: Arc::clone(key), alias: name.clone() });
                Column::new(&name, left.len() - 1)
            }
        };
        on.push((Arc::new(own), Arc::new(Column::new(&name, number))));
        keys.push((Arc::clone(key), name));
    }
    let by = PhysicalGroupBy::new_single(keys);
    let filters = vec![None; functions.len()];
    let rows = Arc::clone(node.input);
    let mode = AggregateMode::Single;
    let aggregate = AggregateExec::try_new(mode, by, functions, filters, rows, Arc::clone(&input))?;
    let first_result = left.len() + on.len();
    let left = Arc::new(ProjectionExec::try_new(left, Arc::clone(node.input))?);
    let join = HashJoinExec::try_new(
        left,
        Arc::new(aggregate),
        on,
        None,
        &JoinType::Left,
        None,
        PartitionMode::CollectLeft,
        // All rows of a partition have the same key, NULL too.
        NullEquality::NullEqualsNull,
        false,
    )?;
    let Folded { scan, prepared } = pushed(&join, false)?;
    let schema = scan.schema();
    let column = |index: usize| Column::new(schema.field(index).name(), index);
    let mut output: Vec<ProjectionExpr> = Vec::new();
    for (index, field) in input.fields().iter().enumerate() {
        output.push(ProjectionExpr { expr: Arc::new(column(index)), alias: field.name().clone() });
    }
    for (number, expr) in node.exprs.iter().enumerate() {
        let field = expr.field()?;
        let mut value: Arc<dyn PhysicalExpr> = Arc::new(column(first_result + number));
        if !field.is_nullable() {
            // Each row has a partition; only the join's columns don't know.
            let known = Arc::new(IsNotNullExpr::new(Arc::clone(&value)));
            value = Arc::new(CaseExpr::try_new(None, vec![(known, value)], Some(lit(0_i64)))?);
        }
        let alias = field.name().clone();
        output.push(ProjectionExpr { expr: FieldExpr::of(value, field), alias });
    }
    Ok(Folded { scan: Arc::new(ProjectionExec::try_new(output, scan)?), prepared })
}

/// Whether an expression aggregates whole partitions.
pub(super) fn is_whole_aggregate(expr: &WindowExprRef) -> bool {
    let is_aggregate = expr.as_any().is::<PlainAggregateWindowExpr>();
    is_aggregate && is_whole(expr.get_window_frame())
}

/// The aggregate function of an expression.
fn function(expr: &WindowExprRef, node: &WindowNode<'_>) -> Result<AggregateFunctionExpr, Refusal> {
    // Refuses what the scan doesn't know.
    WindowCall::of(expr)?;
    let own = expr.as_any().downcast_ref::<PlainAggregateWindowExpr>();
    let Some(own) = own.filter(|_| is_whole(expr.get_window_frame())) else {
        return Err(Refusal::unsupported("its frame isn't the whole partition"));
    };
    let function = own.get_aggregate_expr();
    if !expr.order_by().is_empty() && !function.fun().order_sensitivity().is_insensitive() {
        return Err(Refusal::Unsupported(format!("{} wants its rows in order", function.name())));
    }
    if function.expressions().iter().any(is_volatile) {
        return Err(Refusal::Unsupported(format!(
            "{} is another value each time",
            function.name()
        )));
    }
    let field = expr.field()?;
    let is_count = matches!(field.data_type(), arrow::datatypes::DataType::Int64);
    if !field.is_nullable() && !is_count {
        return Err(Refusal::Unsupported(format!("{} has a value for no rows", function.name())));
    }
    // Without a frame, these sum as the aggregates of the same name do, for which there are kernels.
    let kind: &dyn Any = function.fun().inner().as_ref();
    let plain = match kind.downcast_ref::<Statistic>().map(Statistic::kind) {
        Some(StatisticKind::Sum) => Some(sum_udaf()),
        Some(StatisticKind::Avg) => Some(avg_udaf()),
        _ => None,
    };
    let Some(plain) = plain else { return Ok(function.clone()) };
    let plain = AggregateExprBuilder::new(plain, function.expressions())
        .schema(node.input.schema())
        .alias(function.name())
        .build()?;
    if plain.field().data_type() != field.data_type() {
        return Ok(function.clone());
    }
    Ok(plain)
}
