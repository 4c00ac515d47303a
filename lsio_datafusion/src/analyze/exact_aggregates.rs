//! Aggregates that DataFusion rounds away are replaced by exact ones.

use arrow::datatypes::DataType;
use datafusion::{
    common::{DFSchema, Result, config::ConfigOptions, tree_node::Transformed},
    logical_expr::{AggregateUDF, Expr, ExprSchemable as _, LogicalPlan, WindowFunctionDefinition},
    optimizer::AnalyzerRule,
};

use super::rewrite_aggregates;
use crate::functions::aggregate::{TakesBooleans, replacement, sliding};

/// Replaces DataFusion's aggregates that lose digits by those that `with_zarr` registers under the same
/// names, which DataFrames don't ask for names; and those that wrap.
#[derive(Debug)]
pub struct ExactAggregates;

impl AnalyzerRule for ExactAggregates {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_aggregates(plan, |expr, reads_zarr, schema| match reads_zarr {
            true => exact(expr, schema),
            false => Ok(Transformed::no(expr)),
        })
    }

    fn name(&self) -> &'static str {
        "zarr_exact_aggregates"
    }
}

/// The same for a plan that may read no Zarr: one of our own SQL, in which a table in memory or a CSV file
/// has the same sums as a store.
pub(crate) fn with_exact_aggregates(plan: LogicalPlan) -> Result<LogicalPlan> {
    rewrite_aggregates(plan, |expr, _, schema| exact(expr, schema))
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
