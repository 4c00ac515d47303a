//! Rows of a plan that runs before the scans that look them up.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use arrow::{
    array::{Array as _, RecordBatch},
    compute::concat_batches,
};
use datafusion::{
    error::{DataFusionError, Result},
    execution::{
        TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    physical_plan::{ExecutionPlan, execute_stream},
};
use futures::TryStreamExt as _;
use tokio::sync::OnceCell;

use super::operators::above_aggregate;
use crate::aggregate::DenseResults;

/// Place of a plan's rows, for each execution of the plan that looks them up. An execution is known by its task context.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    executions: Mutex<Vec<KnownExecution>>,
}

#[derive(Debug)]
struct KnownExecution {
    context: Weak<TaskContext>,
    rows: Weak<PlanRows>,
    /// Held until each partition was opened: one that has no rows may have ended before the next is.
    kept: Option<Arc<PlanRows>>,
    /// Number of partitions that weren't opened yet.
    unopened: usize,
}

/// Rows of one execution. They are read by the first that asks, and freed when the last has gone.
#[derive(Debug)]
pub(crate) struct PlanRows {
    plan: Arc<dyn ExecutionPlan>,
    /// Upper bound on the rows, if reading ends there.
    most: Option<usize>,
    context: Arc<TaskContext>,
    rows: OnceCell<Result<Arc<PlanResults>, Arc<DataFusionError>>>,
}

/// What a plan gave.
#[derive(Debug)]
pub(crate) enum PlanResults {
    Rows(HeldRows),
    /// Results of an aggregate as arrays over its keys, without rows.
    Dense(DenseResults),
}

/// Rows of a plan.
#[derive(Debug)]
pub(crate) struct HeldRows {
    pub(crate) batch: RecordBatch,
    /// Whether these are all rows of the plan.
    pub(crate) complete: bool,
    _reservation: MemoryReservation,
}

impl Slot {
    /// The rows of a plan in an execution, read up to `most` of them. Each of as many `partitions` opens it.
    pub(super) fn open(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        most: Option<usize>,
        context: &Arc<TaskContext>,
        partitions: usize,
    ) -> Arc<PlanRows> {
        let mut executions = self.executions.lock().unwrap_or_else(PoisonError::into_inner);
        executions.retain(|known| known.rows.strong_count() > 0);
        if let Some(rows) = find(&executions, context) {
            let own =
                executions.iter_mut().find(|known| known.context.as_ptr() == Arc::as_ptr(context));
            if let Some(known) = own {
                known.unopened = known.unopened.saturating_sub(1);
                if known.unopened == 0 {
                    known.kept = None;
                }
            }
            return rows;
        }
        let rows = Arc::new(PlanRows {
            plan: Arc::clone(plan),
            most,
            context: Arc::clone(context),
            rows: OnceCell::new(),
        });
        let unopened = partitions.saturating_sub(1);
        executions.push(KnownExecution {
            context: Arc::downgrade(context),
            rows: Arc::downgrade(&rows),
            kept: (unopened > 0).then(|| Arc::clone(&rows)),
            unopened,
        });
        rows
    }

    /// The rows in an execution that has been opened.
    pub(crate) fn of(&self, context: &Arc<TaskContext>) -> Option<Arc<PlanRows>> {
        find(&self.executions.lock().unwrap_or_else(PoisonError::into_inner), context)
    }
}

fn find(executions: &[KnownExecution], context: &Arc<TaskContext>) -> Option<Arc<PlanRows>> {
    let known = executions.iter().filter(|known| known.context.as_ptr() == Arc::as_ptr(context));
    known.filter_map(|known| known.rows.upgrade()).next()
}

impl PlanRows {
    /// Runs the plan, unless it has run.
    pub(crate) async fn get(&self) -> Result<Arc<PlanResults>> {
        let rows = self.rows.get_or_init(|| async { self.read().await.map_err(Arc::new) }).await;
        rows.clone().map_err(DataFusionError::Shared)
    }

    async fn read(&self) -> Result<Arc<PlanResults>> {
        if self.most.is_none()
            && let Some(results) = dense_results(&self.plan, &self.context).await?
        {
            return Ok(Arc::new(PlanResults::Dense(results)));
        }
        let consumer = MemoryConsumer::new("ZarrPrepare");
        let reservation = consumer.register(self.context.memory_pool());
        let mut stream = execute_stream(Arc::clone(&self.plan), Arc::clone(&self.context))?;
        let mut batches = Vec::new();
        let (mut count, mut complete) = (0, true);
        while let Some(batch) = stream.try_next().await? {
            reservation.try_grow(own_bytes(&batch)?).map_err(|error| {
                error.context(
                    "the rows of a plan that a scan looks up don't fit the memory: raise its limit \
                     (-m), or SET lsio.join_pushdown = false",
                )
            })?;
            count += batch.num_rows();
            if self.most.is_some_and(|most| count > most) {
                complete = false;
                break;
            }
            batches.push(batch);
        }
        let batch = concat_batches(&self.plan.schema(), &batches)?;
        drop(batches);
        reservation.try_resize(own_bytes(&batch)?)?;
        let rows = HeldRows { batch, complete, _reservation: reservation };
        Ok(Arc::new(PlanResults::Rows(rows)))
    }
}

/// Runs a plan that is an aggregate over a scan, with operators above it that compute each row from one row. `None` if
/// its rows must be made: execute it.
async fn dense_results(
    plan: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
) -> Result<Option<DenseResults>> {
    let Some((aggregate, operators)) = above_aggregate(plan) else { return Ok(None) };
    let Some(results) = aggregate.dense(context).await? else { return Ok(None) };
    match operators.iter().try_fold(results, |results, operator| operator.on(results)) {
        Ok(results) => Ok(Some(results)),
        Err(error) => {
            // It may come from a group that has no rows, or be one of memory, which rows need less of.
            log::info!("{error}: the results of an aggregate become rows");
            Ok(None)
        }
    }
}

/// Bytes of a batch's own rows: batches may be slices of one large one.
fn own_bytes(batch: &RecordBatch) -> Result<usize> {
    let mut bytes = 0_usize;
    for column in batch.columns() {
        bytes = bytes.saturating_add(column.to_data().get_slice_memory_size()?);
    }
    Ok(bytes)
}
