//! Aggregates that DataFusion rounds away are replaced by exact ones.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::{
    common::{
        Column, DFSchema, Result,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode as _},
    },
    functions_aggregate::sum::Sum,
    logical_expr::{
        AggregateUDF, Expr, ExprSchemable as _, LogicalPlan, Projection, Window,
        WindowFunctionDefinition, cast, expr::WindowFunction,
    },
    optimizer::AnalyzerRule,
};

use super::{reads_zarr, rewrite_aggregates};
use crate::functions::aggregate::{TakesBooleans, replacement, sliding, sum_type, wide_sum};

/// Replaces DataFusion's aggregates that lose digits by those that `with_zarr` registers under the same
/// names, which DataFrames don't ask for names; and those that wrap.
#[derive(Debug)]
pub struct ExactAggregates;

impl AnalyzerRule for ExactAggregates {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        if reads_zarr(&plan)? { with_exact_aggregates(plan) } else { Ok(plan) }
    }

    fn name(&self) -> &'static str {
        "zarr_exact_aggregates"
    }
}

/// The same for a plan that may read no Zarr: one of our own SQL, in which a table in memory or a CSV file
/// has the same sums as a store.
pub(crate) fn with_exact_aggregates(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(with_wide_sums)?.data;
    rewrite_aggregates(plan, |expr, _, schema| exact(expr, schema))
}

/// Sums integers over frames in a type that holds any sum, and casts above.
///
/// A frame can't end the query itself: DataFusion 55.2 asks a window again that has given an error, and
/// panics then.
fn with_wide_sums(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Window(window) = plan else { return Ok(Transformed::no(plan)) };
    let input = window.input.schema();
    let mut types = Vec::new();
    let mut exprs = Vec::new();
    for expr in &window.window_expr {
        let mut own = None;
        let wide = expr.clone().transform_up(|expr| {
            let Expr::WindowFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
            own = summed(&call, input)?;
            if own.is_some() {
                call.fun = WindowFunctionDefinition::AggregateUDF(wide_sum());
            }
            Ok(Transformed::new_transformed(Expr::WindowFunction(call), own.is_some()))
        })?;
        exprs.push(wide.data);
        types.push(own);
    }
    if types.iter().all(Option::is_none) {
        return Ok(Transformed::no(LogicalPlan::Window(window)));
    }
    let first = input.fields().len();
    let plan = LogicalPlan::Window(Window::try_new(exprs, window.input)?);
    let columns = plan.schema().iter().enumerate().map(|(position, (qualifier, field))| {
        let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        let own = position.checked_sub(first).and_then(|own| types.get(own)).cloned().flatten();
        match own {
            Some(own @ DataType::Duration(_)) => cast(cast(column, DataType::Int64), own)
                .alias_qualified(qualifier.cloned(), field.name()),
            Some(own) => cast(column, own).alias_qualified(qualifier.cloned(), field.name()),
            None => column,
        }
    });
    let columns: Vec<Expr> = columns.collect();
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?)))
}

/// The type of DataFusion's sum of integers or durations over a frame, if it is that.
fn summed(call: &WindowFunction, schema: &DFSchema) -> Result<Option<DataType>> {
    let WindowFunctionDefinition::AggregateUDF(function) = &call.fun else { return Ok(None) };
    let types = types(&call.params.args, schema)?;
    Ok(match types.as_slice() {
        [argument] if own(function).inner().is::<Sum>() => sum_type(argument),
        _ => None,
    })
}

fn exact(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::AggregateFunction(mut call) => {
            let args = types(&call.params.args, schema)?;
            let Some(exact) = replacement(own(&call.func), &args) else {
                return Ok(Transformed::no(Expr::AggregateFunction(call)));
            };
            call.func = exact;
            Ok(Transformed::yes(Expr::AggregateFunction(call)))
        }
        Expr::WindowFunction(mut call) => {
            let exact = match &call.fun {
                WindowFunctionDefinition::AggregateUDF(function) => {
                    let function = own(function);
                    let args = types(&call.params.args, schema)?;
                    replacement(function, &args)
                        .or_else(|| sliding(function, &args).filter(|_| !call.params.distinct))
                }
                WindowFunctionDefinition::WindowUDF(_) => None,
            };
            let Some(exact) = exact else { return Ok(Transformed::no(Expr::WindowFunction(call))) };
            call.fun = WindowFunctionDefinition::AggregateUDF(exact);
            Ok(Transformed::yes(Expr::WindowFunction(call)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// DataFusion's function where one that takes booleans stands for it. Of booleans it has no replacement.
fn own(function: &AggregateUDF) -> &AggregateUDF {
    let takes_booleans = function.inner().downcast_ref::<TakesBooleans>();
    takes_booleans.map_or(function, |function| function.own().as_ref())
}

fn types(args: &[Expr], schema: &DFSchema) -> Result<Vec<DataType>> {
    args.iter().map(|arg| arg.get_type(schema)).collect()
}
