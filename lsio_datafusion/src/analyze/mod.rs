//! Rules that give expressions on Zarr tables the meaning that their users expect.
//!
//! They run before DataFusion's own type coercion, on plans that read a Zarr table, and leave all
//! other plans alone.

use datafusion::{
    common::{
        DFSchema, Result,
        tree_node::{Transformed, TreeNode as _, TreeNodeRecursion},
    },
    datasource::source_as_provider,
    logical_expr::{Expr, LogicalPlan, expr_rewriter::NamePreserver, utils::merge_schema},
};

mod calendar_functions;
mod calendar_text;
mod literals;
mod wide_integers;

pub use calendar_functions::CalendarFunctions;
pub use literals::ComparedLiterals;
pub use wide_integers::WideIntegers;

use crate::ZarrTable;

/// Rewrites every expression of a plan that reads a Zarr table, from the leaves up; `rewrite` gets
/// each with the fields that its columns refer to. Names of output columns stay.
fn rewrite_expressions(
    plan: LogicalPlan,
    rewrite: impl Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    if !reads_zarr(&plan)? {
        return Ok(plan);
    }
    plan.transform_up_with_subqueries(|plan| {
        let mut schema = merge_schema(&plan.inputs());
        if let LogicalPlan::TableScan(scan) = &plan {
            schema.merge(&DFSchema::try_from_qualified_schema(
                scan.table_name.clone(),
                &scan.source.schema(),
            )?);
        }
        let names = NamePreserver::new(&plan);
        let rewritten = plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let rewritten = expr.transform_up(|expr| rewrite(expr, &schema))?;
            Ok(rewritten.update_data(|expr| name.restore(expr)))
        })?;
        if rewritten.transformed {
            rewritten.map_data(LogicalPlan::recompute_schema)
        } else {
            Ok(rewritten)
        }
    })
    .map(|rewritten| rewritten.data)
}

fn reads_zarr(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::TableScan(scan) = plan {
            let provider = source_as_provider(&scan.source);
            if provider.is_ok_and(|provider| provider.downcast_ref::<ZarrTable>().is_some()) {
                found = true;
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}
