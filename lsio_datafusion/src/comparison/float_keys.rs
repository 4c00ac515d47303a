//! Floats as keys of joins.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::{
    common::{
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode as _, TreeNodeRecursion},
    },
    datasource::source::DataSourceExec,
    error::Result,
    physical_expr::{PhysicalExpr, PhysicalExprRef, ScalarFunctionExpr},
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        ExecutionPlan,
        joins::{HashJoinExec, JoinOn, SortMergeJoinExec},
    },
};

use super::function::{Form, function, holds_floats};
use crate::ZarrSource;

/// Replaces float keys of joins by integers, the same for both zeros, in plans that read a Zarr table.
///
/// DataFusion 55.2 compares float keys as it should, but pushes filters down that compare bits, in which 0.0
/// misses -0.0. With each batch it also searches all keys of the build side for a -0.0: as many steps as both
/// sides' rows multiplied.
#[derive(Debug)]
pub struct FloatKeys;

impl PhysicalOptimizerRule for FloatKeys {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !reads_zarr(&plan)? {
            return Ok(plan);
        }
        let config = Arc::new(config.clone());
        plan.transform_up(|plan| {
            Ok(match with_integer_keys(&plan, &config)? {
                Some(join) => Transformed::yes(join),
                None => Transformed::no(plan),
            })
        })
        .map(|transformed| transformed.data)
    }

    fn name(&self) -> &'static str {
        "zarr_float_keys"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn with_integer_keys(
    plan: &Arc<dyn ExecutionPlan>,
    config: &Arc<ConfigOptions>,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        let on = keys(join.on(), &join.left().schema(), &join.right().schema(), config)?;
        let Some(on) = on else { return Ok(None) };
        return Ok(Some(Arc::new(join.builder().with_on(on).build()?)));
    }
    if let Some(join) = plan.downcast_ref::<SortMergeJoinExec>() {
        let on = keys(join.on(), &join.left().schema(), &join.right().schema(), config)?;
        let Some(on) = on else { return Ok(None) };
        return Ok(Some(Arc::new(SortMergeJoinExec::try_new(
            Arc::clone(join.left()),
            Arc::clone(join.right()),
            on,
            join.filter().clone(),
            join.join_type(),
            join.sort_options().to_vec(),
            join.null_equality(),
        )?)));
    }
    Ok(None)
}

/// Keys with floats as integers; `None` without floats.
fn keys(
    on: &[(PhysicalExprRef, PhysicalExprRef)],
    left: &Schema,
    right: &Schema,
    config: &Arc<ConfigOptions>,
) -> Result<Option<JoinOn>> {
    let mut changed = false;
    let mut keys = Vec::with_capacity(on.len());
    for (one, other) in on {
        let data_type = one.data_type(left)?;
        // The join requires one type on both sides.
        if !holds_floats(&data_type) || data_type != other.data_type(right)? {
            keys.push((Arc::clone(one), Arc::clone(other)));
            continue;
        }
        let form = if data_type.is_floating() { Form::Integer } else { Form::OneZero };
        keys.push((key(one, form, left, config)?, key(other, form, right, config)?));
        changed = true;
    }
    Ok(changed.then_some(keys))
}

fn key(
    of: &Arc<dyn PhysicalExpr>,
    form: Form,
    schema: &Schema,
    config: &Arc<ConfigOptions>,
) -> Result<Arc<dyn PhysicalExpr>> {
    let of = vec![Arc::clone(of)];
    let key = ScalarFunctionExpr::try_new(function(form), of, schema, Arc::clone(config))?;
    Ok(Arc::new(key))
}

/// Whether a plan scans a Zarr table.
pub(crate) fn reads_zarr(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let mut found = false;
    plan.apply(|plan| {
        let scan = plan.downcast_ref::<DataSourceExec>();
        found |= scan.is_some_and(|scan| scan.data_source().downcast_ref::<ZarrSource>().is_some());
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}
