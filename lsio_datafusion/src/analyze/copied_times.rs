//! Times that are copied to files.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::{
    common::{
        Result,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode as _},
    },
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, dml::CopyTo},
    optimizer::AnalyzerRule,
};

/// Copies times of whole seconds as milliseconds. Parquet has no logical type for seconds, and arrow writes
/// them as plain integers, which pandas and DuckDB take for numbers.
#[derive(Debug)]
pub struct CopiedTimes;

impl AnalyzerRule for CopiedTimes {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_down(|plan| match plan {
            LogicalPlan::Copy(copy) => copied(copy),
            other => Ok(Transformed::no(other)),
        })
        .map(|plan| plan.data)
    }

    fn name(&self) -> &'static str {
        "zarr_copied_times"
    }
}

fn copied(copy: CopyTo) -> Result<Transformed<LogicalPlan>> {
    let schema = Arc::clone(copy.input.schema());
    let mut changed = false;
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (column, field) in schema.columns().into_iter().zip(schema.fields()) {
        let DataType::Timestamp(TimeUnit::Second, zone) = field.data_type() else {
            columns.push(Expr::Column(column));
            continue;
        };
        changed = true;
        let to = DataType::Timestamp(TimeUnit::Millisecond, zone.clone());
        let qualifier = column.relation.clone();
        columns.push(cast(Expr::Column(column), to).alias_qualified(qualifier, field.name()));
    }
    if !changed {
        return Ok(Transformed::no(LogicalPlan::Copy(copy)));
    }
    let input = LogicalPlanBuilder::from(Arc::clone(&copy.input)).project(columns)?.build()?;
    Ok(Transformed::yes(LogicalPlan::Copy(CopyTo { input: Arc::new(input), ..copy })))
}
