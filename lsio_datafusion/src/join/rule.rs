//! Finds joins over Zarr scans.

use std::sync::Arc;

use datafusion::{
    common::{
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode as _},
    },
    datasource::source::DataSourceExec,
    error::Result,
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{ExecutionPlan, joins::HashJoinExec, replace_children_if_necessary},
};

use super::{
    fold::{Folded, folded},
    sides::Sides,
};
use crate::{
    LsioConfig, ZarrSource, prepared::with_prepared, refusal::Refusal, scan_rows::is_transparent,
    window,
};

/// Puts joins of Zarr scans on their coordinates into one scan.
///
/// Runs when the sides of joins are decided, before rows are distributed, and before aggregates are pushed down. A join
/// that stays as it is has the reason in the lines of its scans in `EXPLAIN`.
#[derive(Debug)]
pub struct JoinPushdown;

impl PhysicalOptimizerRule for JoinPushdown {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let joins = LsioConfig::of(config).join_pushdown;
        let mut prepared = Vec::new();
        let plan = plan.transform_up(|plan| {
            // Joins and windows may each lie over the other.
            let plan = match window::relate(plan, config, &mut prepared)? {
                Transformed { data, transformed: false, .. } => data,
                window => return Ok(window),
            };
            if !joins {
                return Ok(Transformed::no(plan));
            }
            let Some(join) = plan.downcast_ref::<HashJoinExec>() else {
                return Ok(Transformed::no(plan));
            };
            match pushed(join) {
                Ok(folded) => {
                    prepared.extend(folded.prepared);
                    Ok(Transformed::yes(folded.scan))
                }
                Err(Refusal::Unsupported(reason)) => {
                    let sides = plan.children().into_iter().map(|side| refused(side, &reason));
                    let sides = sides.collect::<Result<Vec<_>>>()?;
                    replace_children_if_necessary(plan, sides).map(Transformed::yes)
                }
                Err(Refusal::Failed(error)) => Err(error),
            }
        });
        with_prepared(plan?.data, prepared)
    }

    fn name(&self) -> &'static str {
        "zarr_join_pushdown"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The scan that takes the place of a join.
pub(crate) fn pushed(join: &HashJoinExec) -> Result<Folded, Refusal> {
    let mut first = None;
    for sides in Sides::of(join)? {
        match folded(join, &sides) {
            Err(Refusal::Unsupported(reason)) => {
                first.get_or_insert(reason);
            }
            done => return done,
        }
    }
    Err(Refusal::Unsupported(first.unwrap_or_else(|| "it has no sides".to_owned())))
}

/// Notes the reason at the scan of a side.
fn refused(side: &Arc<dyn ExecutionPlan>, reason: &str) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(scan) = side.downcast_ref::<DataSourceExec>()
        && let Some(source) = scan.data_source().downcast_ref::<ZarrSource>()
    {
        let source = Arc::new(source.clone().with_join_refusal(reason));
        return Ok(Arc::new(scan.clone().with_data_source(source)));
    }
    match side.children().as_slice() {
        [input] if is_transparent(side) => {
            let input = refused(input, reason)?;
            replace_children_if_necessary(Arc::clone(side), vec![input])
        }
        _ => Ok(Arc::clone(side)),
    }
}
