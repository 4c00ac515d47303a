//! [`ZarrTargets`]: what a query says of its columns, noted at `COPY … TO 'x.zarr'` before rules rewrite the query.

use datafusion::{
    common::{Result, config::ConfigOptions, tree_node::Transformed, tree_node::TreeNode as _},
    logical_expr::LogicalPlan,
    optimizer::AnalyzerRule,
};

use super::format::ZarrFormatFactory;
use crate::LsioConfig;

/// Checks the options of a `COPY` that writes Zarr, and notes the keys of its query and whose attributes columns have.
#[derive(Debug)]
pub(crate) struct ZarrTargets;

impl AnalyzerRule for ZarrTargets {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let overwrite = LsioConfig::of(config).overwrite;
        let noted = plan.transform_down(|plan| {
            let LogicalPlan::Copy(copy) = &plan else { return Ok(Transformed::no(plan)) };
            Ok(match ZarrFormatFactory::prepared(copy, overwrite)? {
                Some(copy) => Transformed::yes(LogicalPlan::Copy(copy)),
                None => Transformed::no(plan),
            })
        });
        noted.map(|plan| plan.data)
    }

    fn name(&self) -> &'static str {
        "zarr_targets"
    }
}
