//! Aggregates that DataFusion rounds away are replaced by exact ones.

use datafusion::{
    common::{
        DFSchema, Result,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode as _},
    },
    logical_expr::{
        Expr, ExprSchemable as _, LogicalPlan, WindowFunctionDefinition,
        expr_rewriter::NamePreserver, utils::merge_schema,
    },
    optimizer::AnalyzerRule,
};

use super::tables;
use crate::functions::aggregate::{replacement, sliding};

/// Replaces DataFusion's aggregates that lose digits by those that `with_zarr` registers under the same
/// names: DataFrames name DataFusion's own.
#[derive(Debug)]
pub struct ExactAggregates;

impl AnalyzerRule for ExactAggregates {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let reads_zarr = tables(&plan)?.zarr > 0;
        plan.transform_up_with_subqueries(|plan| {
            let schema = merge_schema(&plan.inputs());
            let names = NamePreserver::new(&plan);
            let rewritten = plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let rewritten = expr.transform_up(|expr| exact(expr, reads_zarr, &schema))?;
                Ok(rewritten.update_data(|expr| name.restore(expr)))
            })?;
            if !rewritten.transformed && !reads_zarr {
                return Ok(rewritten);
            }
            // What changed below may have given columns other types.
            rewritten.map_data(LogicalPlan::recompute_schema)
        })
        .map(|rewritten| rewritten.data)
    }

    fn name(&self) -> &'static str {
        "zarr_exact_aggregates"
    }
}

fn exact(expr: Expr, reads_zarr: bool, schema: &DFSchema) -> Result<Transformed<Expr>> {
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
                    let args = call.params.args.iter().map(|arg| arg.get_type(schema));
                    let args = args.collect::<Result<Vec<_>>>()?;
                    replacement(function)
                        .or_else(|| sliding(function, &args).filter(|_| !call.params.distinct))
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
