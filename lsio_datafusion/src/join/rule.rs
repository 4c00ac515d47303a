//! Finds joins over Zarr scans.

use std::sync::Arc;

use datafusion::{
    common::{
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode as _},
    },
    error::Result,
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{ExecutionPlan, joins::HashJoinExec, replace_children_if_necessary},
};

use super::{
    fold::{Folded, folded},
    sides::Sides,
};
use crate::{
    LsioConfig,
    prepared::{Fallback, with_prepared},
    refusal::Refusal,
    scan_rows::{narrowed, noted},
    window,
};

/// Puts joins of Zarr scans on their coordinates into one scan.
///
/// Runs when the sides of joins are decided, before rows are distributed, and before aggregates are pushed down. A join
/// that stays as it is has the reason in the lines of its scans in `EXPLAIN`.
#[derive(Debug, Default)]
pub struct JoinPushdown {
    /// The rules that come later.
    later: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
}

impl JoinPushdown {
    /// A rule that also looks up rows of which only a query's execution tells whether their keys are unique: those of a
    /// CSV file, say. If they aren't, the plan runs as it was, after the rules `later`, which are those behind this one.
    #[must_use]
    pub fn before(later: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>) -> Self {
        Self { later }
    }
}

impl PhysicalOptimizerRule for JoinPushdown {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let joins = LsioConfig::of(config).join_pushdown;
        let mut prepared = Vec::new();
        let before = Arc::clone(&plan);
        let checks = !self.later.is_empty();
        let plan = plan.transform_up(|plan| {
            if let Some(narrow) = narrowed(&plan)? {
                return Ok(Transformed::yes(narrow));
            }
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
            match pushed(join, checks) {
                Ok(folded) => {
                    prepared.extend(folded.prepared);
                    Ok(Transformed::yes(folded.scan))
                }
                Err(Refusal::Unsupported(reason)) => {
                    let sides = plan
                        .children()
                        .into_iter()
                        .map(|side| noted(side, &|source| source.with_join_refusal(&reason)));
                    let sides = sides.collect::<Result<Vec<_>>>()?;
                    replace_children_if_necessary(plan, sides).map(Transformed::yes)
                }
                Err(Refusal::Failed(error)) => Err(error),
            }
        });
        let is_checked = prepared.iter().any(|own| own.unique.is_some());
        let fallback = is_checked.then(|| Fallback { plan: before, later: self.later.clone() });
        with_prepared(plan?.data, prepared, fallback)
    }

    fn name(&self) -> &'static str {
        "zarr_join_pushdown"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The scan that takes the place of a join. `checks` is whether the rows that are looked up may be found to have equal
/// keys when the query runs.
pub(crate) fn pushed(join: &HashJoinExec, checks: bool) -> Result<Folded, Refusal> {
    let mut first = None;
    for sides in Sides::of(join)? {
        match folded(join, &sides, checks) {
            Err(Refusal::Unsupported(reason)) => {
                first.get_or_insert(reason);
            }
            done => return done,
        }
    }
    Err(Refusal::Unsupported(first.unwrap_or_else(|| "it has no sides".to_owned())))
}
