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
mod cast_arguments;
mod distant_times;
mod exact_aggregates;
mod instants;
mod literals;
mod time_functions;
mod wide_integers;

pub use calendar_functions::CalendarFunctions;
pub use cast_arguments::CastArguments;
pub use distant_times::DistantTimes;
pub use exact_aggregates::ExactAggregates;
pub use literals::ComparedLiterals;
pub use wide_integers::WideIntegers;

use crate::{ZarrTable, schema::text_calendar};

/// Rewrites every expression of a plan that reads a Zarr table, from the leaves up; `rewrite` gets
/// each with what its columns refer to. Names of output columns stay.
fn rewrite_expressions(
    plan: LogicalPlan,
    rewrite: impl Fn(Expr, &Scope<'_>) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    rewrite_expressions_and_plans(plan, rewrite, |plan, _changed, _scope| Ok(plan))
}

/// The same, and then lets `rewrite_plan` change each node itself; it is told whether an expression of
/// the node has changed.
fn rewrite_expressions_and_plans(
    plan: LogicalPlan,
    rewrite: impl Fn(Expr, &Scope<'_>) -> Result<Transformed<Expr>>,
    rewrite_plan: impl Fn(LogicalPlan, bool, &Scope<'_>) -> Result<LogicalPlan>,
) -> Result<LogicalPlan> {
    let tables = tables(&plan)?;
    if tables.zarr == 0 {
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
        let scope = Scope {
            schema: &schema,
            only_zarr: tables.others == 0,
            distant_times: tables.distant_times,
        };
        let rewritten = plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let rewritten = expr.transform_up(|expr| rewrite(expr, &scope))?;
            Ok(rewritten.update_data(|expr| name.restore(expr)))
        })?;
        let Transformed { data, transformed, tnr } = rewritten;
        let plan = rewrite_plan(data, transformed, &scope)?;
        // Also where nothing changed here: what changed below may have given columns other types.
        Ok(Transformed { data: plan.recompute_schema()?, transformed, tnr })
    })
    .map(|rewritten| rewritten.data)
}

/// What an expression's columns refer to.
struct Scope<'a> {
    schema: &'a DFSchema,
    /// Whether the plan reads Zarr tables and no others.
    only_zarr: bool,
    /// Whether a Zarr table of the plan has times that nanoseconds may not reach.
    distant_times: bool,
}

/// How many tables a plan reads.
#[derive(Default)]
struct Tables {
    zarr: usize,
    others: usize,
    distant_times: bool,
}

fn tables(plan: &LogicalPlan) -> Result<Tables> {
    let mut tables = Tables::default();
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::TableScan(scan) = plan {
            let provider = source_as_provider(&scan.source);
            if provider.is_ok_and(|provider| provider.downcast_ref::<ZarrTable>().is_some()) {
                tables.zarr += 1;
                tables.distant_times |= (scan.source.schema().fields().iter()).any(|field| {
                    let is_coarse = instants::coarse_unit(field.data_type()).is_some();
                    is_coarse || text_calendar(field).is_some()
                });
            } else {
                tables.others += 1;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(tables)
}
