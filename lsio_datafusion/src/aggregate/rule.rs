//! Finds aggregates over Zarr scans.

use std::sync::Arc;

use datafusion::{
    common::{
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode as _, TreeNodeRecursion},
    },
    datasource::source::DataSourceExec,
    error::Result,
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        ExecutionPlan,
        aggregates::{AggregateExec, AggregateMode},
        coalesce_partitions::CoalescePartitionsExec,
        replace_children_if_necessary,
        union::UnionExec,
    },
};

use super::{ZarrAggregateExec, plan::Aggregation, results};
use crate::{
    LsioConfig, ZarrSource,
    refusal::Refusal,
    scan_rows::{ScanRows, is_transparent},
};

/// Puts aggregates into the Zarr scans below them.
///
/// Runs after filters are pushed into the scan and before rows are distributed. An aggregate that can't be
/// pushed down stays as it is; the scan's line in `EXPLAIN` says why.
#[derive(Debug)]
pub struct AggregatePushdown;

impl PhysicalOptimizerRule for AggregatePushdown {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !LsioConfig::of(config).aggregate_pushdown {
            return Ok(plan);
        }
        plan.transform_down(|plan| {
            let Some(aggregate) = plan.downcast_ref::<AggregateExec>() else {
                return Ok(Transformed::no(plan));
            };
            let partial = match aggregate.mode() {
                AggregateMode::Single | AggregateMode::SinglePartitioned => aggregate,
                AggregateMode::Final | AggregateMode::FinalPartitioned => {
                    match aggregate.input().downcast_ref::<AggregateExec>() {
                        Some(partial) if *partial.mode() == AggregateMode::Partial => partial,
                        _ => return Ok(Transformed::no(plan)),
                    }
                }
                AggregateMode::Partial | AggregateMode::PartialReduce => {
                    return Ok(Transformed::no(plan));
                }
            };
            match pushed(aggregate, partial, config) {
                Ok(pushed) => Ok(Transformed::new(pushed, true, TreeNodeRecursion::Jump)),
                Err(Refusal::Unsupported(reason)) => Ok(Transformed::yes(refused(plan, &reason)?)),
                Err(Refusal::Failed(error)) => Err(error),
            }
        })?
        .data
        .transform_up(results::without_nan)
        .map(|transformed| transformed.data)
    }

    fn name(&self) -> &'static str {
        "zarr_aggregate_pushdown"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The plan that takes the place of a whole aggregate.
fn pushed(
    whole: &AggregateExec,
    partial: &AggregateExec,
    config: &ConfigOptions,
) -> Result<Arc<dyn ExecutionPlan>, Refusal> {
    if let Some(union) = union_below(partial.input()) {
        return over_union(whole, partial, union, config);
    }
    let rows = ScanRows::of(partial.input())?;
    let fallback = fallback(whole, partial, config)?;
    let mut plan = Aggregation::new(partial, rows, whole.schema(), false)?;
    plan.values_memory = LsioConfig::of(config).values_memory;
    Ok(Arc::new(ZarrAggregateExec::new(plan, &description(partial), Some(fallback))))
}

/// Aggregates each input of a union to states, which the aggregate above merges.
fn over_union(
    whole: &AggregateExec,
    partial: &AggregateExec,
    union: &Arc<dyn ExecutionPlan>,
    config: &ConfigOptions,
) -> Result<Arc<dyn ExecutionPlan>, Refusal> {
    if *partial.mode() != AggregateMode::Partial {
        return Err(Refusal::unsupported("it is over a union"));
    }
    let mut arms: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
    let mut reasons = Vec::new();
    for arm in union.children() {
        let input = replaced(partial.input(), union, arm)?;
        let plan = ScanRows::of(&input)
            .and_then(|rows| Aggregation::new(partial, rows, partial.schema(), true));
        arms.push(match plan {
            Ok(plan) => {
                let fallback = in_one_partition(partial, &input, config)?;
                Arc::new(ZarrAggregateExec::new(plan, &description(partial), Some(fallback)))
            }
            Err(Refusal::Failed(error)) => return Err(error.into()),
            Err(Refusal::Unsupported(reason)) => {
                let plain = refused(input, &reason)?;
                reasons.push(reason);
                let partial: Arc<dyn ExecutionPlan> = Arc::new(partial.clone());
                replace_children_if_necessary(partial, vec![plain])?
            }
        });
    }
    if reasons.len() == arms.len() {
        return Err(Refusal::Unsupported(reasons.swap_remove(0)));
    }
    let whole: Arc<dyn ExecutionPlan> = Arc::new(whole.clone());
    Ok(replace_children_if_necessary(whole, vec![UnionExec::try_new(arms)?])?)
}

/// The union below operators that pass on rows and pick columns.
fn union_below(plan: &Arc<dyn ExecutionPlan>) -> Option<&Arc<dyn ExecutionPlan>> {
    if plan.downcast_ref::<UnionExec>().is_some() {
        return Some(plan);
    }
    if !is_transparent(plan) {
        return None;
    }
    match plan.children().as_slice() {
        [input] => union_below(input),
        _ => None,
    }
}

/// Replaces the input at the end of a chain of operators.
fn replaced(
    plan: &Arc<dyn ExecutionPlan>,
    end: &Arc<dyn ExecutionPlan>,
    by: &Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    if Arc::ptr_eq(plan, end) {
        return Ok(Arc::clone(by));
    }
    let children = plan
        .children()
        .into_iter()
        .map(|input| replaced(input, end, by))
        .collect::<Result<Vec<_>>>()?;
    replace_children_if_necessary(Arc::clone(plan), children)
}

/// The same aggregate by DataFusion's operators, in one partition.
fn fallback(
    whole: &AggregateExec,
    partial: &AggregateExec,
    config: &ConfigOptions,
) -> Result<Arc<dyn ExecutionPlan>> {
    let whole_plan: Arc<dyn ExecutionPlan> = Arc::new(whole.clone());
    if *partial.mode() != AggregateMode::Partial {
        return Ok(whole_plan);
    }
    let merged = in_one_partition(partial, partial.input(), config)?;
    replace_children_if_necessary(whole_plan, vec![merged])
}

/// States of a partial aggregate over these rows, read by all partitions of the session and merged into one.
fn in_one_partition(
    partial: &AggregateExec,
    rows: &Arc<dyn ExecutionPlan>,
    config: &ConfigOptions,
) -> Result<Arc<dyn ExecutionPlan>> {
    let parallel = Arc::clone(rows)
        .transform_down(|plan| {
            let Some(scan) = plan.downcast_ref::<DataSourceExec>() else {
                return Ok(Transformed::no(plan));
            };
            let partitions = config.execution.target_partitions;
            Ok(match scan.data_source().repartitioned(partitions, 0, None)? {
                Some(source) => Transformed::yes(Arc::new(scan.clone().with_data_source(source))),
                None => Transformed::no(plan),
            })
        })?
        .data;
    let partial: Arc<dyn ExecutionPlan> = Arc::new(partial.clone());
    let partial = replace_children_if_necessary(partial, vec![parallel])?;
    Ok(Arc::new(CoalescePartitionsExec::new(partial)))
}

/// Notes the reason at the scans below.
fn refused(plan: Arc<dyn ExecutionPlan>, reason: &str) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_down(|plan| {
        let noted = plan.downcast_ref::<DataSourceExec>().and_then(|scan| {
            let source = scan.data_source().downcast_ref::<ZarrSource>()?;
            let source = Arc::new(source.clone().with_refusal(reason));
            Some(Arc::new(scan.clone().with_data_source(source)) as Arc<dyn ExecutionPlan>)
        });
        Ok(match noted {
            Some(noted) => Transformed::yes(noted),
            None => Transformed::no(plan),
        })
    })
    .map(|transformed| transformed.data)
}

/// Keys and functions.
fn description(aggregate: &AggregateExec) -> String {
    let keys = aggregate.group_expr().expr().iter().map(|(expr, name)| {
        let expr = expr.to_string();
        if expr == *name { expr } else { format!("{expr} as {name}") }
    });
    let functions = aggregate.aggr_expr().iter().map(|function| function.name().to_owned());
    format!(
        "gby=[{}], aggr=[{}]",
        keys.collect::<Vec<_>>().join(", "),
        functions.collect::<Vec<_>>().join(", ")
    )
}
