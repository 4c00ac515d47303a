//! Aggregates that DataFusion rounds away are replaced by exact ones.

use datafusion::{
    common::{Result, config::ConfigOptions, tree_node::Transformed},
    logical_expr::{Expr, LogicalPlan, WindowFunctionDefinition},
    optimizer::AnalyzerRule,
};

use super::rewrite_aggregates;
use crate::functions::aggregate::replacement;

/// Replaces DataFusion's aggregates that lose digits by those that `with_zarr` registers under the same
/// names: DataFrames name DataFusion's own. Sums are [`ExactSums`](super::ExactSums)'s.
#[derive(Debug)]
pub struct ExactAggregates;

impl AnalyzerRule for ExactAggregates {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_aggregates(plan, |expr, reads_zarr, _| exact(expr, reads_zarr))
    }

    fn name(&self) -> &'static str {
        "zarr_exact_aggregates"
    }
}

fn exact(expr: Expr, reads_zarr: bool) -> Result<Transformed<Expr>> {
    match expr {
        Expr::AggregateFunction(mut call) => Ok(match replacement(&call.func) {
            Some(exact) if reads_zarr => {
                call.func = exact;
                Transformed::yes(Expr::AggregateFunction(call))
            }
            _ => Transformed::no(Expr::AggregateFunction(call)),
        }),
        Expr::WindowFunction(mut call) => {
            let exact = match &call.fun {
                WindowFunctionDefinition::AggregateUDF(function) if reads_zarr => {
                    replacement(function)
                }
                _ => None,
            };
            let Some(exact) = exact else { return Ok(Transformed::no(Expr::WindowFunction(call))) };
            call.fun = WindowFunctionDefinition::AggregateUDF(exact);
            Ok(Transformed::yes(Expr::WindowFunction(call)))
        }
        other => Ok(Transformed::no(other)),
    }
}
