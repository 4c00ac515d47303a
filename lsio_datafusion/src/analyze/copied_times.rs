//! Times and durations in files written by COPY.

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

use crate::{functions::duration_text, walk::rewriting, write::is_zarr};

/// Casts times of seconds to milliseconds, as Parquet has no logical type for seconds: arrow writes plain
/// integers, which pandas and DuckDB read as numbers. Durations in JSON become text such as tables show,
/// which pandas and DuckDB read; arrow writes `PT21600S`.
#[derive(Debug)]
pub struct CopiedTimes;

impl AnalyzerRule for CopiedTimes {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_down(rewriting(&mut |plan| match plan {
            // Zarr has times of its own.
            LogicalPlan::Copy(copy) if !is_zarr(&copy) => copied(copy),
            other => Ok(Transformed::no(other)),
        }))
        .map(|plan| plan.data)
    }

    fn name(&self) -> &'static str {
        "zarr_copied_times"
    }
}

fn copied(copy: CopyTo) -> Result<Transformed<LogicalPlan>> {
    let schema = Arc::clone(copy.input.schema());
    let is_json = copy.file_type.get_ext().trim_start_matches('.') == "json";
    let mut changed = false;
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (column, field) in schema.columns().into_iter().zip(schema.fields()) {
        let qualifier = column.relation.clone();
        let column = Expr::Column(column);
        let copied = match field.data_type() {
            DataType::Timestamp(TimeUnit::Second, zone) => {
                cast(column, DataType::Timestamp(TimeUnit::Millisecond, zone.clone()))
            }
            DataType::Duration(_) if is_json => duration_text().call(vec![column]),
            _ => {
                columns.push(column);
                continue;
            }
        };
        changed = true;
        columns.push(copied.alias_qualified(qualifier, field.name()));
    }
    if !changed {
        return Ok(Transformed::no(LogicalPlan::Copy(copy)));
    }
    let input = LogicalPlanBuilder::from(Arc::clone(&copy.input)).project(columns)?.build()?;
    Ok(Transformed::yes(LogicalPlan::Copy(CopyTo { input: Arc::new(input), ..copy })))
}
