//! Rules that give expressions on Zarr tables the meaning that their users expect.
//!
//! They run before DataFusion's own type coercion, on plans that read a Zarr table, and leave other plans
//! alone.

use datafusion::{
    common::{
        DFSchema, Result,
        tree_node::{Transformed, TreeNode as _, TreeNodeRecursion},
    },
    datasource::source_as_provider,
    logical_expr::{Expr, LogicalPlan, expr_rewriter::NamePreserver, utils::merge_schema},
};

mod calendar_functions;
mod cast_arguments;
mod copied_times;
mod distant_times;
mod exact_aggregates;
mod exact_sums;
mod instants;
mod labels;
mod lateral;
mod literals;
mod missing_values;
mod ordered_durations;
mod partial_times;
mod time_functions;
mod total_functions;
mod traced;
mod values;
mod wide_integers;

pub use calendar_functions::CalendarFunctions;
pub use cast_arguments::CastArguments;
pub use copied_times::CopiedTimes;
pub use distant_times::DistantTimes;
pub use exact_aggregates::ExactAggregates;
pub(crate) use exact_sums::ExactSums;
pub(crate) use exact_sums::with_exact_sums;
pub use labels::FloatLabels;
pub use lateral::LimitedLaterals;
pub use literals::ComparedLiterals;
pub(crate) use literals::is_comparison;
pub use missing_values::MissingValues;
pub use ordered_durations::OrderedDurations;
pub use partial_times::PartialTimes;
pub use wide_integers::WideIntegers;

pub(crate) use total_functions::{POWER, ROOT};

use lsio_core::dataset::calendar::Calendar;

use crate::{
    ZarrTable,
    schema::text_calendar,
    walk::{reading, rewriting},
};

/// Rewrites every expression of a plan that reads a Zarr table, from the leaves up; `rewrite` gets each with
/// its scope. Names of output columns stay.
fn rewrite_expressions(
    plan: LogicalPlan,
    rewrite: impl Fn(Expr, &Scope<'_>) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    rewrite_expressions_and_plans(plan, rewrite, |plan, _changed, _scope| Ok(plan))
}

/// Rewrites every expression as [`rewrite_expressions`] does, then each node by `rewrite_plan`, which gets
/// whether an expression of the node has changed.
fn rewrite_expressions_and_plans(
    plan: LogicalPlan,
    rewrite: impl Fn(Expr, &Scope<'_>) -> Result<Transformed<Expr>>,
    rewrite_plan: impl Fn(LogicalPlan, bool, &Scope<'_>) -> Result<LogicalPlan>,
) -> Result<LogicalPlan> {
    let tables = tables(&plan)?;
    if tables.zarr == 0 {
        return Ok(plan);
    }
    let rewritten = plan.transform_up_with_subqueries(rewriting(&mut |plan| {
        // A number of rows isn't a value.
        if matches!(plan, LogicalPlan::Limit(_)) {
            return Ok(Transformed::no(plan));
        }
        let schema = input_schema(&plan)?;
        let names = NamePreserver::new(&plan);
        let scope = Scope {
            schema: &schema,
            only_zarr: tables.others == 0,
            distant_times: tables.distant_times,
            stored_nan: tables.stored_nan,
        };
        let rewritten = plan.map_expressions(rewriting(&mut |expr| {
            let name = names.save(&expr);
            let rewritten = expr.transform_up(rewriting(&mut |expr| rewrite(expr, &scope)))?;
            Ok(rewritten.update_data(|expr| name.restore(expr)))
        }))?;
        let Transformed { data, transformed, tnr } = rewritten;
        let plan = rewrite_plan(data, transformed, &scope)?;
        // Always, as a change below may have changed columns' types.
        let plan = plan.recompute_schema()?;
        let plan = if tables.text_times { traced::with_calendars(plan, &schema)? } else { plan };
        Ok(Transformed { data: plan, transformed, tnr })
    }))?;
    if !tables.text_times {
        return Ok(rewritten.data);
    }
    let restored =
        rewritten.data.transform_up_with_subqueries(rewriting(&mut |plan: LogicalPlan| {
            plan.recompute_schema().map(Transformed::no)
        }));
    restored.map(|restored| restored.data)
}

/// Rewrites every expression of any plan, from the leaves up; `rewrite` gets each with whether the plan reads
/// a Zarr table, and the schema of its columns. Names of output columns stay.
fn rewrite_aggregates(
    plan: LogicalPlan,
    rewrite: impl Fn(Expr, bool, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    let reads_zarr = reads_zarr(&plan)?;
    plan.transform_up_with_subqueries(rewriting(&mut |plan: LogicalPlan| {
        let schema = merge_schema(&plan.inputs());
        let names = NamePreserver::new(&plan);
        let rewritten = plan.map_expressions(rewriting(&mut |expr| {
            let name = names.save(&expr);
            let rewritten =
                expr.transform_up(rewriting(&mut |expr| rewrite(expr, reads_zarr, &schema)))?;
            Ok(rewritten.update_data(|expr| name.restore(expr)))
        }))?;
        if !rewritten.transformed && !reads_zarr {
            return Ok(rewritten);
        }
        // A change below may have changed columns' types.
        rewritten.map_data(LogicalPlan::recompute_schema)
    }))
    .map(|rewritten| rewritten.data)
}

/// Schema of the columns in a node's expressions.
pub(crate) fn input_schema(plan: &LogicalPlan) -> Result<DFSchema> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = plan {
        schema.merge(&DFSchema::try_from_qualified_schema(
            scan.table_name.clone(),
            &scan.source.schema(),
        )?);
    }
    Ok(schema)
}

/// Whether a plan reads a Zarr table.
pub(crate) fn reads_zarr(plan: &LogicalPlan) -> Result<bool> {
    Ok(tables(plan)?.zarr > 0)
}

/// Scope of an expression: the schema of its columns, and what is known of the plan's tables.
struct Scope<'a> {
    schema: &'a DFSchema,
    /// Whether the plan reads Zarr tables and no others.
    only_zarr: bool,
    /// Whether a Zarr table of the plan has times out of the range of nanoseconds.
    distant_times: bool,
    /// Whether a column of a table may be NaN.
    stored_nan: bool,
}

impl Scope<'_> {
    /// Calendar of an expression that is a text time.
    fn calendar(&self, expr: &Expr) -> Option<Calendar> {
        traced::calendar(expr, self.schema)
    }
}

/// Tables that a plan reads.
#[derive(Default)]
struct Tables {
    zarr: usize,
    others: usize,
    distant_times: bool,
    stored_nan: bool,
    text_times: bool,
}

fn tables(plan: &LogicalPlan) -> Result<Tables> {
    let mut tables = Tables::default();
    plan.apply_with_subqueries(reading(&mut |plan| {
        if let LogicalPlan::TableScan(scan) = plan {
            let provider = source_as_provider(&scan.source);
            let table = provider.as_ref().ok().and_then(|p| p.downcast_ref::<ZarrTable>());
            let has_floats =
                scan.source.schema().fields().iter().any(|f| f.data_type().is_floating());
            tables.stored_nan |=
                has_floats && table.is_none_or(|table| !table.dataset().options().nan_as_null);
            if table.is_some() {
                tables.zarr += 1;
                let schema = scan.source.schema();
                tables.text_times |=
                    schema.fields().iter().any(|field| text_calendar(field).is_some());
                tables.distant_times |= (scan.source.schema().fields().iter()).any(|field| {
                    let is_coarse = instants::coarse_unit(field.data_type()).is_some();
                    is_coarse || text_calendar(field).is_some()
                });
            } else {
                tables.others += 1;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }))?;
    Ok(tables)
}
