//! Starts an aggregate: in one pass or several, or by DataFusion's operators.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::{
    common::internal_err,
    error::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{
        ExecutionPlan,
        metrics::{ExecutionPlanMetricsSet, MetricBuilder},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lsio_core::Selection;

use super::{
    dense::{DenseResults, DenseTarget},
    keys::CellGroups,
    masks::Weights,
    pass::Pass,
    passes::passes,
    plan::Aggregation,
    slabs::Slabs,
};
use crate::{LsioConfig, nan_as_null, scan::PartitionMemory};

/// Bytes of a slab's states, as far as groups can be cut: they stay in the second-level cache, and there are enough slabs
/// for each worker to have its own.
const SLAB_BYTES: usize = 1 << 20;

/// Bytes of a slab's states and of the values that are kept of it.
const SLAB_VALUES_BYTES: usize = 8 << 20;

/// Bytes of a slab's kept values where the session's memory has no limit.
const PENCIL_BYTES: usize = 2 << 30;

/// Runs the aggregate, in several passes if the values that are kept don't fit the memory at once.
pub(super) async fn start(
    plan: Arc<Aggregation>,
    fallback: Option<Arc<dyn ExecutionPlan>>,
    metrics: ExecutionPlanMetricsSet,
    context: Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let plan = of_execution(plan, &context).await?;
    plan.weights.iter().for_each(Weights::reset);
    if plan.pencils.is_empty() {
        return pass(plan, fallback, metrics, context).await;
    }
    let source = &plan.source;
    let groups = match &plan.groups {
        Some(groups) => Arc::clone(groups),
        None => match plan.keys.read(source.table(), source.selection()).await {
            Ok(groups) => Arc::new(groups),
            // A pass tells the error, or uses the fallback.
            Err(_) => return pass(plan, fallback, metrics, context).await,
        },
    };
    let passes = passes_over(&plan, &groups, most_values(&plan, &context));
    MetricBuilder::new(&metrics).counter("passes", 0).add(passes.len());
    if passes.len() <= 1 {
        return pass(plan, fallback, metrics, context).await;
    }
    let schema = Arc::clone(&plan.schema);
    let mut fallback = fallback;
    let passes: Vec<_> = passes.into_iter().map(|selection| (selection, fallback.take())).collect();
    let rows = stream::iter(passes)
        .then(move |(selection, fallback)| {
            let (plan, metrics) = (Arc::clone(&plan), metrics.clone());
            let context = Arc::clone(&context);
            async move { pass(Arc::new(plan.over(selection)?), fallback, metrics, context).await }
        })
        .try_flatten();
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
}

/// Runs the aggregate over the source's selection.
async fn pass(
    plan: Arc<Aggregation>,
    mut fallback: Option<Arc<dyn ExecutionPlan>>,
    metrics: ExecutionPlanMetricsSet,
    context: Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let source = &plan.source;
    let groups = match &plan.groups {
        Some(groups) => Arc::clone(groups),
        None => match (plan.keys.read(source.table(), source.selection()).await, fallback) {
            (Ok(groups), own) => {
                fallback = own;
                Arc::new(groups)
            }
            // The error may come from a row that a filter drops.
            (Err(error), Some(fallback)) => {
                log::info!("{error}: DataFusion's own aggregate is used");
                return plain(&fallback, &plan.without_nan, context);
            }
            (Err(error), None) => return Err(error),
        },
    };
    let Some(pass) = Pass::new(Arc::clone(&plan), groups, &context)? else {
        let Some(fallback) = fallback else {
            return internal_err!("the groups are too many to be held in memory");
        };
        log::info!("the groups of an aggregate don't fit the memory: DataFusion's own is used");
        return plain(&fallback, &plan.without_nan, context);
    };
    let (run, mut rows) = pass.start(None, &context, &metrics)?;
    let first = rows.next().await;
    if let (Some(Err(error)), Some(fallback)) = (&first, fallback)
        && is_short_of_memory(error)
    {
        // The memory of accumulators depends on their values. DataFusion's aggregate spills to disk.
        drop(rows);
        run.release();
        log::info!("{error}: DataFusion's own aggregate is used");
        return plain(&fallback, &plan.without_nan, context);
    }
    let schema = Arc::clone(&plan.schema);
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter(first).chain(rows))))
}

/// Runs the aggregate in one pass, with the results as arrays over its keys. `None` if they must come as rows, which
/// [`start`] then gives.
pub(super) async fn dense(
    plan: Arc<Aggregation>,
    metrics: ExecutionPlanMetricsSet,
    context: Arc<TaskContext>,
) -> Result<Option<DenseResults>> {
    if plan.states || plan.cell_keys.is_some() || !plan.is_grouped() {
        return Ok(None);
    }
    let plan = of_execution(plan, &context).await?;
    plan.weights.iter().for_each(Weights::reset);
    let groups = match &plan.groups {
        Some(groups) => Arc::clone(groups),
        None => match plan.keys.read(plan.source.table(), plan.source.selection()).await {
            Ok(groups) => Arc::new(groups),
            Err(_) => return Ok(None),
        },
    };
    if !plan.pencils.is_empty()
        && passes_over(&plan, &groups, most_values(&plan, &context)).len() > 1
    {
        return Ok(None);
    }
    let Some(target) = DenseTarget::new(&plan, &groups, &context) else { return Ok(None) };
    let Some(pass) = Pass::new(plan, groups, &context)? else { return Ok(None) };
    let (run, mut rows) = pass.start(Some(target), &context, &metrics)?;
    while let Some(batch) = rows.next().await {
        match batch {
            Err(error) if is_short_of_memory(&error) => {
                drop(rows);
                run.release();
                return Ok(None);
            }
            batch => drop(batch?),
        }
    }
    run.dense_results().map(Some)
}

fn is_short_of_memory(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

/// The aggregate over the source of one execution.
async fn of_execution(
    plan: Arc<Aggregation>,
    context: &Arc<TaskContext>,
) -> Result<Arc<Aggregation>> {
    if !plan.source.is_of_execution() {
        return Ok(plan);
    }
    let source = plan.source.for_execution(context).await?;
    Ok(Arc::new(Aggregation { source, ..(*plan).clone() }))
}

/// Upper bound on a slab's groups, as far as they can be cut.
pub(super) fn slab_groups(plan: &Aggregation, groups: &CellGroups) -> usize {
    let most = if plan.pencils.is_empty() { SLAB_BYTES } else { SLAB_VALUES_BYTES };
    most / (plan.group_bytes() + plan.pencil_bytes(groups)).max(1)
}

/// Selections of the passes in which the values that are kept of a slab take at most so many bytes.
pub(super) fn passes_over(
    plan: &Aggregation,
    groups: &CellGroups,
    most: usize,
) -> Vec<Vec<Selection>> {
    let tiles = plan.source.tiles();
    let slabs = Slabs::new(groups, tiles, slab_groups(plan, groups));
    let bytes = slabs.most_groups().unwrap_or(0).saturating_mul(plan.pencil_bytes(groups));
    passes(groups, tiles, bytes, most)
}

/// Upper bound on the bytes of a slab's kept values.
fn most_values(plan: &Aggregation, context: &Arc<TaskContext>) -> usize {
    if plan.values_memory > 0 {
        return plan.values_memory;
    }
    let limit = PartitionMemory::new("ZarrAggregate", context).limit();
    if limit == usize::MAX { PENCIL_BYTES } else { LsioConfig::values_memory_of(limit) }
}

/// Runs DataFusion's aggregate, and replaces NaN by NULL in some columns.
fn plain(
    aggregate: &Arc<dyn ExecutionPlan>,
    without_nan: &[usize],
    context: Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let rows = aggregate.execute(0, context)?;
    let (schema, without_nan) = (rows.schema(), without_nan.to_vec());
    let rows = rows.map(move |batch| {
        let batch: RecordBatch = batch?;
        let mut columns = batch.columns().to_vec();
        for &position in &without_nan {
            if let Some(column) = columns.get_mut(position) {
                *column = nan_as_null::without_nan(column);
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(batch.schema(), columns, &options)?)
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
}
