//! Finds windows over Zarr scans.

use std::sync::Arc;

use datafusion::{
    common::{config::ConfigOptions, tree_node::Transformed},
    error::Result,
    physical_expr::expressions::Column,
    physical_plan::{
        ExecutionPlan,
        projection::{ProjectionExec, ProjectionExpr},
        replace_children_if_necessary,
    },
};

use super::{
    call::WindowExprRef,
    fold::folded,
    node::WindowNode,
    whole::{is_whole_aggregate, looked_up},
};
use crate::{LsioConfig, join::Folded, prepared::Prepared, refusal::Refusal, scan_rows::noted};

/// Puts a window over a Zarr scan into it, if the plan's root is one, and adds the plans that the scan then looks up to
/// `prepared`. A window that stays as it is has the reason in the line of its scan in `EXPLAIN`.
pub(crate) fn relate(
    plan: Arc<dyn ExecutionPlan>,
    config: &ConfigOptions,
    prepared: &mut Vec<Prepared>,
) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    if !LsioConfig::of(config).window_pushdown {
        return Ok(Transformed::no(plan));
    }
    let Some(node) = WindowNode::of(&plan) else { return Ok(Transformed::no(plan)) };
    match folded(&node) {
        Ok(Folded { scan, .. }) => with_looked_up(scan, prepared).map(Transformed::yes),
        Err(Refusal::Unsupported(reason)) => {
            let looked_up = with_looked_up(Arc::clone(&plan), prepared)?;
            if Arc::ptr_eq(&looked_up, &plan) {
                return refused(&node, &reason).map(Transformed::yes);
            }
            Ok(Transformed::yes(looked_up))
        }
        Err(Refusal::Failed(error)) => Err(error),
    }
}

/// Puts aggregates over whole partitions into the scan: those of a window at the root, or below a projection that orders
/// its columns.
fn with_looked_up(
    plan: Arc<dyn ExecutionPlan>,
    prepared: &mut Vec<Prepared>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(node) = WindowNode::of(&plan) else {
        return match (plan.downcast_ref::<ProjectionExec>(), plan.children().as_slice()) {
            (Some(_), [input]) if WindowNode::of(input).is_some() => {
                let input = with_looked_up(Arc::clone(input), prepared)?;
                replace_children_if_necessary(plan, vec![input])
            }
            _ => Ok(plan),
        };
    };
    let is_whole: Vec<bool> = node.exprs.iter().map(is_whole_aggregate).collect();
    let pick = |whole: bool| -> Vec<WindowExprRef> {
        let own = node.exprs.iter().zip(&is_whole).filter(|(_, own)| **own == whole);
        own.map(|(expr, _)| Arc::clone(expr)).collect()
    };
    let (whole, others) = (pick(true), pick(false));
    if whole.is_empty() {
        return Ok(plan);
    }
    let own = WindowNode { exprs: &whole, ..node };
    let scan = match looked_up(&own) {
        Ok(folded) => {
            prepared.extend(folded.prepared);
            folded.scan
        }
        Err(Refusal::Unsupported(reason)) => return refused(&node, &reason),
        Err(Refusal::Failed(error)) => return Err(error),
    };
    if others.is_empty() {
        return Ok(scan);
    }
    let inputs = node.input.schema().fields().len();
    let (mut next_whole, mut next_other) = (inputs, inputs + whole.len());
    let mut places: Vec<usize> = (0..inputs).collect();
    for is_whole in is_whole {
        let next = if is_whole { &mut next_whole } else { &mut next_other };
        places.push(*next);
        *next += 1;
    }
    ordered(node.with(others, scan)?, places)
}

/// Notes the reason at the scan below.
fn refused(node: &WindowNode<'_>, reason: &str) -> Result<Arc<dyn ExecutionPlan>> {
    let input = noted(node.input, &|source| source.with_window_refusal(reason))?;
    replace_children_if_necessary(Arc::clone(node.plan), vec![input])
}

/// The columns of a plan in another order.
pub(super) fn ordered(
    plan: Arc<dyn ExecutionPlan>,
    places: impl IntoIterator<Item = usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let columns = places.into_iter().map(|position| {
        let name = schema.field(position).name().clone();
        ProjectionExpr { expr: Arc::new(Column::new(&name, position)), alias: name }
    });
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), plan)?))
}
