//! Replacement of aggregates that lose digits by exact ones.

use datafusion::{
    common::{Result, config::ConfigOptions, tree_node::Transformed},
    functions_aggregate::{
        average::Avg,
        bit_and_or_xor::{bit_and_udaf, bit_or_udaf, bit_xor_udaf},
        count::Count,
        regr::Regr,
    },
    logical_expr::{AggregateUDF, Expr, LogicalPlan, WindowFunctionDefinition},
    optimizer::AnalyzerRule,
};

use super::rewrite_aggregates;
use crate::functions::aggregate::replacement;

/// Replaces DataFusion's aggregates that lose digits by those that `with_zarr` registers under the same
/// names, as DataFrames name DataFusion's own. `ExactSums` replaces sums.
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
        Expr::AggregateFunction(mut call) => {
            let exact = replacement(&call.func).filter(|_| reads_zarr);
            let unordered = reads_zarr && ignores_order(&call.func);
            let changed = exact.is_some() || (unordered && !call.params.order_by.is_empty());
            if unordered {
                call.params.order_by.clear();
            }
            if let Some(exact) = exact {
                call.func = exact;
            }
            Ok(Transformed::new_transformed(Expr::AggregateFunction(call), changed))
        }
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

/// Whether an aggregate ignores the order of rows and doesn't say so: DataFusion 55.2 passes the keys of
/// `count(x ORDER BY y)` to kernels that panic at a second argument.
fn ignores_order(function: &AggregateUDF) -> bool {
    let own = function.inner();
    let of_bits = [bit_and_udaf(), bit_or_udaf(), bit_xor_udaf()];
    own.is::<Count>()
        || own.is::<Avg>()
        || own.is::<Regr>()
        || of_bits.iter().any(|of_bits| function == of_bits.as_ref())
}
