//! Filters on columns that share a name, such as those of both sides of a join.

use std::{collections::HashSet, fmt, sync::Arc};

use datafusion::{
    common::{
        config::ConfigOptions,
        internal_err,
        tree_node::{Transformed, TreeNode as _, TreeNodeRecursion},
    },
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions},
        filter_pushdown::{
            ChildFilterDescription, ChildPushdownResult, FilterDescription, FilterPushdownPhase,
            FilterPushdownPropagation,
        },
        replace_children_if_necessary,
    },
};

/// A rule that pushes filters down, without mistaking a column for another one of its name.
///
/// DataFusion 55.2 finds the columns of a filter by their names when it passes the filter on
/// (`FilterRemapper::try_remap`, `ProjectionExec::collect_reverse_alias`): one of `r.time` becomes one of `l.time`. Here
/// such a filter stays above the operator whose columns share the name.
#[derive(Debug)]
pub(crate) struct FiltersByName(pub(crate) Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for FiltersByName {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        unguarded(self.0.optimize(guarded(plan)?, config)?)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// Makes names that are repeated unique: `time`, `time_2`.
pub(crate) fn unique_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let names: Vec<&str> = names.collect();
    let mut taken: HashSet<String> = HashSet::new();
    let all: HashSet<&str> = names.iter().copied().collect();
    let unique = names.iter().map(|name| {
        let mut own = (*name).to_owned();
        let mut number = 2_usize;
        while taken.contains(&own) || (own != *name && all.contains(own.as_str())) {
            own = format!("{name}_{number}");
            number += 1;
        }
        taken.insert(own.clone());
        own
    });
    unique.collect()
}

/// Puts guards above the operators whose columns share names.
fn guarded(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|plan| {
        let mut changed = false;
        let mut children = Vec::new();
        for child in plan.children() {
            let repeated = repeated(child);
            changed |= !repeated.is_empty();
            children.push(if repeated.is_empty() {
                Arc::clone(child)
            } else {
                Arc::new(NameGuardExec { input: Arc::clone(child), repeated })
            });
        }
        if !changed {
            return Ok(Transformed::no(plan));
        }
        replace_children_if_necessary(plan, children).map(Transformed::yes)
    });
    Ok(plan?.data)
}

/// Removes the guards.
fn unguarded(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|plan| {
        Ok(match plan.downcast_ref::<NameGuardExec>() {
            Some(guard) => Transformed::yes(Arc::clone(&guard.input)),
            None => Transformed::no(plan),
        })
    });
    Ok(plan?.data)
}

/// Names that several columns of an operator share.
fn repeated(plan: &Arc<dyn ExecutionPlan>) -> HashSet<String> {
    let schema = plan.schema();
    let mut known = HashSet::new();
    let names = schema.fields().iter().map(|field| field.name());
    names.filter(|name| !known.insert(*name)).cloned().collect()
}

/// Stands above an operator while filters are pushed down, and takes none on a column that shares its name.
#[derive(Debug)]
struct NameGuardExec {
    input: Arc<dyn ExecutionPlan>,
    repeated: HashSet<String>,
}

impl DisplayAs for NameGuardExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "NameGuardExec")
    }
}

impl ExecutionPlan for NameGuardExec {
    fn name(&self) -> &'static str {
        "NameGuardExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else {
            return internal_err!("NameGuardExec has an input");
        };
        Ok(Arc::new(Self { input, repeated: self.repeated.clone() }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }

    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let schema = self.input.schema();
        let names = schema.fields().iter().enumerate();
        let unique = names.filter(|(_, field)| !self.repeated.contains(field.name()));
        let unique = unique.map(|(index, _)| index).collect();
        let child = ChildFilterDescription::from_child_with_allowed_indices(
            &parent_filters,
            unique,
            &self.input,
        )?;
        Ok(FilterDescription::new().with_child(child))
    }

    fn handle_child_pushdown_result(
        &self,
        _phase: FilterPushdownPhase,
        result: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::<Arc<dyn ExecutionPlan>>::if_all(result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_unique() {
        let unique = |names: &[&str]| unique_names(names.iter().copied());
        assert_eq!(unique(&["time", "t2m"]), ["time", "t2m"]);
        assert_eq!(unique(&["t", "t", "t_2", "t"]), ["t", "t_3", "t_2", "t_4"]);
    }
}
