//! Notes for the user: effects of a query that may not be intended.

use std::{collections::BTreeSet, sync::Arc};

use arrow::datatypes::Schema;
use datafusion::{
    common::{
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode as _, TreeNodeRecursion},
    },
    datasource::source::DataSourceExec,
    error::Result,
    physical_expr::{PhysicalExpr, aggregate::AggregateFunctionExpr, utils::collect_columns},
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        ExecutionPlan,
        aggregates::{AggregateExec, AggregateMode},
    },
};

use crate::{
    ZarrAggregateExec, ZarrSource,
    schema::{dims, is_data},
};

/// Notes aggregates over variables that lack a dimension of their table: each value counts once for every
/// index of that dimension. `EXPLAIN` shows the notes at the scan.
#[derive(Debug)]
pub struct RepeatedValueNotes;

impl PhysicalOptimizerRule for RepeatedValueNotes {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            let Some(aggregate) = plan.downcast_ref::<AggregateExec>() else {
                return Ok(Transformed::no(plan));
            };
            if matches!(aggregate.mode(), AggregateMode::Final | AggregateMode::FinalPartitioned) {
                return Ok(Transformed::no(plan));
            }
            let notes = match source_below(aggregate.input()) {
                Some(source) => repeated_values(aggregate, source),
                None => Vec::new(),
            };
            if notes.is_empty() {
                return Ok(Transformed::no(plan));
            }
            plan.transform_down(|plan| {
                let noted = plan.downcast_ref::<DataSourceExec>().and_then(|scan| {
                    let source = scan.data_source().downcast_ref::<ZarrSource>()?;
                    let source = Arc::new(source.clone().with_notes(&notes));
                    Some(Arc::new(scan.clone().with_data_source(source)) as Arc<dyn ExecutionPlan>)
                });
                Ok(match noted {
                    Some(noted) => Transformed::yes(noted),
                    None => Transformed::no(plan),
                })
            })
        })
        .map(|transformed| transformed.data)
    }

    fn name(&self) -> &'static str {
        "zarr_repeated_value_notes"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Notes at the scans of a plan.
///
/// # Errors
/// Errors of the plan's traversal.
pub fn notes(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<String>> {
    let mut notes: Vec<String> = Vec::new();
    plan.apply(|plan| {
        for note in zarr_source(plan).into_iter().flat_map(ZarrSource::notes) {
            if !notes.contains(note) {
                notes.push(note.clone());
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(notes)
}

/// Notes on the result of a plan, complete when all rows have been read.
///
/// # Errors
/// Errors of the plan's traversal.
pub fn result_notes(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<String>> {
    let mut notes: Vec<String> = Vec::new();
    plan.apply(|plan| {
        let own = plan.downcast_ref::<ZarrAggregateExec>().map(ZarrAggregateExec::notes);
        for note in own.into_iter().flatten() {
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(notes)
}

fn zarr_source(plan: &Arc<dyn ExecutionPlan>) -> Option<&ZarrSource> {
    if let Some(aggregate) = plan.downcast_ref::<ZarrAggregateExec>() {
        return Some(aggregate.source());
    }
    plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<ZarrSource>()
}

/// The scan below a chain of operators with one input each.
fn source_below(plan: &Arc<dyn ExecutionPlan>) -> Option<&ZarrSource> {
    match plan.children().as_slice() {
        [] => zarr_source(plan),
        // An aggregate or limit in between changes what a row is.
        [_] if plan.downcast_ref::<AggregateExec>().is_some() || plan.fetch().is_some() => None,
        [input] => source_below(input),
        _ => None,
    }
}

fn repeated_values(aggregate: &AggregateExec, source: &ZarrSource) -> Vec<String> {
    let schema = aggregate.input_schema();
    let mut grouped = BTreeSet::new();
    for (key, _) in aggregate.group_expr().expr() {
        grouped.extend(varies_along(key, &schema).into_iter().flatten());
    }
    let reads_data = |function: &AggregateFunctionExpr| {
        let arguments = function.expressions();
        arguments.iter().flat_map(collect_columns).any(|c| is_data(schema.field(c.index())))
    };
    // Beside data, expressions of coordinates are weights, which count for every cell.
    let any_data = aggregate.aggr_expr().iter().any(|function| reads_data(function));
    let mut notes = Vec::new();
    for function in aggregate.aggr_expr() {
        if matches!(function.fun().name(), "min" | "max") || function.is_distinct() {
            continue;
        }
        let arguments = function.expressions();
        let mut columns: Vec<_> = arguments.iter().flat_map(collect_columns).collect();
        // Data first, which the note is about.
        columns.sort_by_key(|column| !is_data(schema.field(column.index())));
        let Some(name) = columns.first().map(|column| column.name()) else { continue };
        if any_data && !reads_data(function) {
            continue;
        }
        let Some(varying) = arguments
            .iter()
            .map(|argument| varies_along(argument, &schema))
            .collect::<Option<Vec<_>>>()
        else {
            continue;
        };
        let varying: BTreeSet<String> = varying.into_iter().flatten().collect();
        for dim in &source.table().dims {
            if dim.size > 1 && !varying.contains(&dim.name) && !grouped.contains(&dim.name) {
                let note = format!(
                    "{name} doesn't vary along {}: each value counts {} times; use '{}'",
                    dim.name,
                    dim.size,
                    source.variable_path(name)
                );
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
    }
    notes
}

/// Dimensions along which an expression varies, if the fields of all its columns have theirs.
fn varies_along(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<BTreeSet<String>> {
    let columns = collect_columns(expr);
    let dims: Option<Vec<_>> =
        columns.iter().map(|column| dims(schema.field(column.index()))).collect();
    Some(dims?.into_iter().flatten().collect())
}
