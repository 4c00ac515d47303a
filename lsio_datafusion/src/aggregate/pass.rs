//! One pass over the cells of an aggregate: its slabs, and the workers that reduce them.

use std::sync::Arc;

use datafusion::{
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{metrics::ExecutionPlanMetricsSet, stream::RecordBatchReceiverStreamBuilder},
};

use super::{
    dense::DenseTarget,
    keys::CellGroups,
    plan::Aggregation,
    run::{AggregateRun, RunLimits},
    slabs::Slabs,
    start::slab_groups,
};
use crate::{
    ZarrSource,
    scan::{Execution, Partition, PartitionMemory, Shares, TileNumbers},
};

/// Bytes of all workers' states of a slab; beyond that workers share states.
const STATES_BYTES: usize = 256 << 20;

/// Bytes of all workers' states of groups by values of data; where they are more, hashing them has no advantage.
const NUMBERED_BYTES: usize = 64 << 20;

/// Bytes of a slab's states beyond which few of its groups are expected to have rows.
const MOST_SLAB_BYTES: usize = 1 << 30;

/// Batches buffered for the reader.
const WAITING_BATCHES: usize = 4;

/// A pass over the source's selection.
pub(super) struct Pass {
    plan: Arc<Aggregation>,
    groups: Arc<CellGroups>,
    slabs: Slabs,
    source: ZarrSource,
    limits: RunLimits,
    memory: PartitionMemory,
}

impl Pass {
    /// A pass that gives the results of these groups; `None` if they are too many to be held in memory.
    pub(super) fn new(
        plan: Arc<Aggregation>,
        groups: Arc<CellGroups>,
        context: &TaskContext,
    ) -> Result<Option<Self>> {
        let memory = PartitionMemory::new("ZarrAggregate", context);
        let bytes = plan.group_bytes();
        let config = context.session_config();
        // Each worker may open a slab of its own.
        let share = memory.limit() / config.target_partitions().saturating_mul(4).max(8);
        let slabs = {
            let most = match &plan.cell_keys {
                // No row is sent before all values of the keys are known: they may be too many.
                Some(_) => usize::MAX,
                // Slabs follow one another forward.
                None if plan.source.continues_backward() => usize::MAX,
                None => slab_groups(&plan, &groups).min(share / bytes.max(1)),
            };
            Slabs::new(&groups, plan.source.tiles(), most)
        };
        let slab_bytes = slabs.most_groups().and_then(|groups| groups.checked_mul(bytes));
        let most = MOST_SLAB_BYTES.min(memory.limit() / 2);
        let Some(slab_bytes) = slab_bytes.filter(|bytes| *bytes <= most) else {
            return Ok(None);
        };
        let mut source = plan.source.clone().visiting(slabs.order())?;
        if !plan.compared.is_empty() {
            source = source.without_filters()?;
        }
        let tiles = source.tiles().len();
        let workers = config.target_partitions().min(usize::try_from(tiles).unwrap_or(usize::MAX));
        let workers = workers.max(1);
        let most = STATES_BYTES.min(memory.limit() / 2);
        let copies = (most / slab_bytes.max(1)).clamp(1, workers);
        // States of all combinations, of each worker.
        let most_combinations =
            (NUMBERED_BYTES.min(memory.limit() / 4) / slab_bytes.max(1) / copies)
                .min(u32::MAX as usize / slabs.most_groups().unwrap_or(1).max(1));
        let limits = RunLimits {
            workers,
            copies,
            most_bytes: most,
            most_combinations,
            batch_size: config.batch_size().max(1),
        };
        Ok(Some(Self { plan, groups, slabs, source, limits, memory }))
    }

    /// Starts the workers. Their results come as rows, or are added to `dense`: then no rows come.
    pub(super) fn start(
        self,
        dense: Option<DenseTarget>,
        context: &Arc<TaskContext>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<(Arc<AggregateRun>, SendableRecordBatchStream)> {
        let Self { plan, groups, slabs, source, limits, memory } = self;
        let schema = Arc::clone(&plan.schema);
        let workers = limits.workers;
        // Values that are kept and states of accumulators may take more memory than a share of it, and tiles that
        // continue each other are computed in order.
        let apart = plan.pencils.is_empty()
            && plan.accumulated.is_empty()
            && plan.cell_keys.is_none()
            && !source.continues();
        let of_slabs = slabs.clone();
        let shares =
            Shares::new(slabs.shares(), apart, workers, move |share| of_slabs.tiles_of(share));
        let shares = Arc::new(shares);
        let run = AggregateRun::new(plan, groups, (slabs, Arc::clone(&shares)), memory, limits)?;
        let run = Arc::new(match dense {
            Some(dense) => run.into_dense(dense),
            None => run,
        });
        let execution = Execution::new(workers);
        let mut builder = RecordBatchReceiverStreamBuilder::new(schema, WAITING_BATCHES);
        for worker in 0..workers {
            let numbers = TileNumbers::in_shares(&execution, &shares, worker);
            let partition = Partition { index: worker, count: workers };
            let reader = source.reader(numbers, partition, context, metrics)?;
            builder.spawn(Arc::clone(&run).work(worker, reader, builder.tx()));
        }
        Ok((run, builder.build()))
    }
}
