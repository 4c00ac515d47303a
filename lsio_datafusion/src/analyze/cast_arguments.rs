//! Casts of aggregates' arguments to types that give right results.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::{
    common::{DFSchema, Result, config::ConfigOptions, tree_node::Transformed},
    functions_aggregate::{
        approx_median::ApproxMedian, approx_percentile_cont::ApproxPercentileCont,
        approx_percentile_cont_with_weight::ApproxPercentileContWithWeight,
    },
    logical_expr::{
        AggregateUDF, Expr, ExprSchemable as _, LogicalPlan, WindowFunctionDefinition, cast,
    },
    optimizer::AnalyzerRule,
};

use super::rewrite_aggregates;
use crate::functions::aggregate::TakesBooleans;

/// Casts booleans to numbers for `sum`, `avg` and `count_if`, and numbers to doubles for approximate
/// quantiles. The functions become DataFusion's own.
///
/// Runs first, so that all other rules see DataFusion's own functions.
#[derive(Debug)]
pub struct CastArguments;

impl AnalyzerRule for CastArguments {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_aggregates(plan, with_casts)
    }

    fn name(&self) -> &'static str {
        "zarr_cast_arguments"
    }
}

fn with_casts(expr: Expr, reads_zarr: bool, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let mut expr = expr;
    let changed = match &mut expr {
        Expr::AggregateFunction(call) => {
            let changed = cast_first(&call.func, &mut call.params.args, reads_zarr, schema)?;
            if changed
                && let ([order], Some(value)) =
                    (call.params.order_by.as_mut_slice(), call.params.args.first())
                && call.func.supports_within_group_clause()
            {
                // WITHIN GROUP (ORDER BY value) repeats the argument.
                order.expr = value.clone();
            }
            let own = own(&call.func, reads_zarr);
            let is_front = own.is_some();
            if let Some(own) = own {
                call.func = own;
            }
            changed || is_front
        }
        Expr::WindowFunction(call) => {
            let WindowFunctionDefinition::AggregateUDF(function) = &call.fun else {
                return Ok(Transformed::no(expr));
            };
            let changed = cast_first(function, &mut call.params.args, reads_zarr, schema)?;
            let own = own(function, reads_zarr);
            let is_front = own.is_some();
            if let Some(own) = own {
                call.fun = WindowFunctionDefinition::AggregateUDF(own);
            }
            changed || is_front
        }
        _ => false,
    };
    Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
}

/// DataFusion's function for one that takes booleans. Where no Zarr table is read, exact functions stay until
/// types are final.
fn own(function: &AggregateUDF, reads_zarr: bool) -> Option<Arc<AggregateUDF>> {
    let front = function.inner().downcast_ref::<TakesBooleans>()?;
    (reads_zarr || !front.is_exact()).then(|| Arc::clone(front.own()))
}

/// Casts the first argument of a function. Returns whether it had to.
fn cast_first(
    function: &AggregateUDF,
    arguments: &mut [Expr],
    reads_zarr: bool,
    schema: &DFSchema,
) -> Result<bool> {
    let Some(argument) = arguments.first_mut() else { return Ok(false) };
    let own = function.inner().as_ref();
    let data_type = argument.get_type(schema)?;
    *argument = match own.downcast_ref::<TakesBooleans>() {
        Some(function) if matches!(data_type, DataType::Boolean) => {
            function.numbers(std::mem::take(argument))?
        }
        // DataFusion 55.2 rounds approximate quantiles to the type of their argument: those of integers
        // to integers, and those of Float32 so that they compare as other numbers than they print as.
        None if reads_zarr && is_approximate_quantile(function) && is_narrow(&data_type) => {
            cast(std::mem::take(argument), DataType::Float64)
        }
        _ => return Ok(false),
    };
    Ok(true)
}

fn is_approximate_quantile(function: &AggregateUDF) -> bool {
    let own = function.inner().as_ref();
    own.is::<ApproxMedian>()
        || own.is::<ApproxPercentileCont>()
        || own.is::<ApproxPercentileContWithWeight>()
}

/// Whether a type is numeric and not Float64.
fn is_narrow(data_type: &DataType) -> bool {
    data_type.is_numeric() && *data_type != DataType::Float64
}
