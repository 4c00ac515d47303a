//! Sums and means that don't wrap and keep no residue.

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
use crate::{
    functions::aggregate::{TakesBooleans, integer_sum, sliding, sum_type, wide_sum},
    walk::rewriting,
};

/// Replaces DataFusion's sums of 64-bit integers, which wrap, and its sums and means over sliding frames,
/// which subtract. Runs after type coercion, as the argument's type decides.
///
/// In plans of `ctx.query` it does so for every table, so that a CSV file has the sums of a store.
#[derive(Debug)]
pub(crate) struct ExactSums;

impl AnalyzerRule for ExactSums {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let reads_zarr = reads_zarr(&plan)?;
        let plan = plan
            .transform_up_with_subqueries(rewriting(&mut |plan| with_wide_sums(plan, reads_zarr)))?
            .data;
        rewrite_aggregates(plan, exact)
    }

    fn name(&self) -> &'static str {
        "zarr_exact_sums"
    }
}

/// Replaces the sums and means in a plan of `ctx.query`.
pub(crate) fn with_exact_sums(plan: LogicalPlan) -> Result<LogicalPlan> {
    let as_exact = |function: &AggregateUDF| {
        let front = function.inner().downcast_ref::<TakesBooleans>();
        front.filter(|front| !front.is_exact()).and_then(TakesBooleans::as_exact).map(Arc::new)
    };
    rewrite_aggregates(plan, |mut expr, _, _| {
        let exact = match &mut expr {
            Expr::AggregateFunction(call) => as_exact(&call.func).map(|exact| call.func = exact),
            Expr::WindowFunction(call) => match &call.fun {
                WindowFunctionDefinition::AggregateUDF(function) => as_exact(function)
                    .map(|exact| call.fun = WindowFunctionDefinition::AggregateUDF(exact)),
                WindowFunctionDefinition::WindowUDF(_) => None,
            },
            _ => None,
        };
        Ok(Transformed::new_transformed(expr, exact.is_some()))
    })
}

/// Sums integers over frames as decimals, which hold any sum, and casts above.
///
/// The frame itself can't give an error: DataFusion 55.2 evaluates the window again after one, and panics.
fn with_wide_sums(plan: LogicalPlan, reads_zarr: bool) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Window(window) = plan else { return Ok(Transformed::no(plan)) };
    let input = window.input.schema();
    let mut types = Vec::new();
    let mut exprs = Vec::new();
    for expr in &window.window_expr {
        let mut own = None;
        let wide = expr.clone().transform_up(rewriting(&mut |expr| {
            let Expr::WindowFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
            own = summed(&call, reads_zarr, input)?;
            if own.is_some() {
                call.fun = WindowFunctionDefinition::AggregateUDF(wide_sum());
            }
            Ok(Transformed::new_transformed(Expr::WindowFunction(call), own.is_some()))
        }))?;
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

/// Type of an exact sum of integers or durations over a frame, if it is to be exact.
fn summed(call: &WindowFunction, reads_zarr: bool, schema: &DFSchema) -> Result<Option<DataType>> {
    let WindowFunctionDefinition::AggregateUDF(function) = &call.fun else { return Ok(None) };
    let Some(own) = inexact(function, reads_zarr) else { return Ok(None) };
    Ok(match types(&call.params.args, schema)?.as_slice() {
        [argument] if own.inner().is::<Sum>() => sum_type(argument),
        _ => None,
    })
}

fn exact(expr: Expr, reads_zarr: bool, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::AggregateFunction(mut call) => {
            let Some(own) = inexact(&call.func, reads_zarr) else {
                return Ok(Transformed::no(Expr::AggregateFunction(call)));
            };
            let args = types(&call.params.args, schema)?;
            let exact = integer_sum(&own, &args).unwrap_or(own);
            let changed = exact != call.func;
            call.func = exact;
            Ok(Transformed::new_transformed(Expr::AggregateFunction(call), changed))
        }
        Expr::WindowFunction(mut call) => {
            let WindowFunctionDefinition::AggregateUDF(function) = &call.fun else {
                return Ok(Transformed::no(Expr::WindowFunction(call)));
            };
            let Some(own) = inexact(function, reads_zarr) else {
                return Ok(Transformed::no(Expr::WindowFunction(call)));
            };
            let args = types(&call.params.args, schema)?;
            let exact = sliding(&own, &args).filter(|_| !call.params.distinct).unwrap_or(own);
            let changed = exact != *function;
            call.fun = WindowFunctionDefinition::AggregateUDF(exact);
            Ok(Transformed::new_transformed(Expr::WindowFunction(call), changed))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// DataFusion's function, if it is inexact.
fn inexact(function: &Arc<AggregateUDF>, reads_zarr: bool) -> Option<Arc<AggregateUDF>> {
    match function.inner().downcast_ref::<TakesBooleans>() {
        Some(front) => Some(Arc::clone(front.own())),
        None => reads_zarr.then(|| Arc::clone(function)),
    }
}

fn types(args: &[Expr], schema: &DFSchema) -> Result<Vec<DataType>> {
    args.iter().map(|arg| arg.get_type(schema)).collect()
}
