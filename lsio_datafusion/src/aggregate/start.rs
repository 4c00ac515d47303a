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
        stream::{RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter},
    },
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lsio_core::Selection;

use super::{
    keys::CellGroups,
    masks::Weights,
    passes::passes,
    plan::Aggregation,
    run::{AggregateRun, RunLimits},
    slabs::Slabs,
};
use crate::{
    LsioConfig, nan_as_null,
    scan::{Execution, Partition, PartitionMemory, TileNumbers},
};

/// Bytes of a slab's states, as far as groups can be cut: they stay in the processor's cache.
const SLAB_BYTES: usize = 8 << 20;

/// Bytes of all workers' states of a slab; beyond that workers share states.
const STATES_BYTES: usize = 256 << 20;

/// Bytes of all workers' states of groups by values of data; where they are more, hashing them has no advantage.
const NUMBERED_BYTES: usize = 64 << 20;

/// Bytes of a slab's states beyond which few of its groups are expected to have rows.
const MOST_SLAB_BYTES: usize = 1 << 30;

/// Bytes of a slab's kept values where the session's memory has no limit.
const PENCIL_BYTES: usize = 2 << 30;

/// Batches buffered for the reader.
const WAITING_BATCHES: usize = 4;

/// Runs the aggregate, in several passes if the values that are kept don't fit the memory at once.
pub(super) async fn start(
    plan: Arc<Aggregation>,
    fallback: Option<Arc<dyn ExecutionPlan>>,
    metrics: ExecutionPlanMetricsSet,
    context: Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let plan = if plan.source.is_of_execution() {
        let source = plan.source.for_execution(&context).await?;
        Arc::new(Aggregation { source, ..(*plan).clone() })
    } else {
        plan
    };
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
    let most = match plan.values_memory {
        0 => most_pencil_bytes(&context),
        bytes => bytes,
    };
    let passes = passes_over(&plan, &groups, most);
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
    let memory = PartitionMemory::new("ZarrAggregate", &context);
    let bytes = plan.group_bytes();
    let slabs = {
        let most = match &plan.cell_keys {
            // No row is sent before all values of the keys are known: they may be too many.
            Some(_) => usize::MAX,
            // Slabs follow one another forward.
            None if source.continues_backward() => usize::MAX,
            None => slab_groups(&plan, &groups).min(memory.limit() / 8 / bytes.max(1)),
        };
        Slabs::new(&groups, source.tiles(), most)
    };
    let slab_bytes = slabs.most_groups().and_then(|groups| groups.checked_mul(bytes));
    let most = MOST_SLAB_BYTES.min(memory.limit() / 2);
    let Some(slab_bytes) = slab_bytes.filter(|bytes| *bytes <= most) else {
        let Some(fallback) = fallback else {
            return internal_err!("the groups are too many to be held in memory");
        };
        log::info!("the groups of an aggregate don't fit the memory: DataFusion's own is used");
        return plain(&fallback, &plan.without_nan, context);
    };
    let mut source = source.clone().visiting(slabs.order())?;
    if !plan.compared.is_empty() {
        source = source.without_filters()?;
    }
    let tiles = source.tiles().len();
    let config = context.session_config();
    let workers = config.target_partitions().min(usize::try_from(tiles).unwrap_or(usize::MAX));
    let workers = workers.max(1);
    let most = STATES_BYTES.min(memory.limit() / 2);
    let copies = (most / slab_bytes.max(1)).clamp(1, workers);
    let batch_size = config.batch_size().max(1);
    let schema = Arc::clone(&plan.schema);
    let without_nan = plan.without_nan.clone();
    let execution = Execution::new(workers);
    // States of all combinations, of each worker.
    let most_combinations = (NUMBERED_BYTES.min(memory.limit() / 4) / slab_bytes.max(1) / copies)
        .min(u32::MAX as usize / slabs.most_groups().unwrap_or(1).max(1));
    let limits =
        RunLimits { workers, copies, most_bytes: STATES_BYTES, most_combinations, batch_size };
    let run = Arc::new(AggregateRun::new(plan, groups, slabs, memory, limits)?);
    let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&schema), WAITING_BATCHES);
    for worker in 0..workers {
        let numbers = TileNumbers::shared(&execution, tiles);
        let partition = Partition { index: worker, count: workers };
        let reader = source.reader(numbers, partition, &context, &metrics)?;
        builder.spawn(Arc::clone(&run).work(worker, reader, builder.tx()));
    }
    let mut rows = builder.build();
    let first = rows.next().await;
    if let (Some(Err(error)), Some(fallback)) = (&first, fallback)
        && matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
    {
        // The memory of accumulators depends on their values. DataFusion's aggregate spills to disk.
        drop(rows);
        run.release();
        log::info!("{error}: DataFusion's own aggregate is used");
        return plain(&fallback, &without_nan, context);
    }
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter(first).chain(rows))))
}

/// Upper bound on a slab's groups, as far as they can be cut.
pub(super) fn slab_groups(plan: &Aggregation, groups: &CellGroups) -> usize {
    SLAB_BYTES / (plan.group_bytes() + plan.pencil_bytes(groups)).max(1)
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

/// Upper bound on the bytes of a slab's kept values, in a pool of this size.
fn most_pencil_bytes(context: &Arc<TaskContext>) -> usize {
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
