//! Rows of all tiles in their order, decoded by several workers.
//!
//! The workers read tiles in turns. One waits once it has some batches that nobody has taken, so that few tiles are in
//! memory: one for each worker, and those that are fetched ahead. Rows of the tile whose turn it is are made by tasks of
//! their own, so that all cores make them.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    common::{
        internal_err,
        runtime::{JoinSet, SpawnedTask},
    },
    error::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{
        metrics::{BaselineMetrics, RecordOutput as _},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::stream;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{
    collected::Collected,
    tile_rows::{CellRange, OfTile, TileRanges},
};

/// Batches of a worker that wait to be taken, at least.
const WAITING: usize = 8;

/// What is computed of a batch.
pub(super) type Compute = Arc<dyn Fn(RecordBatch) -> Result<RecordBatch> + Send + Sync>;

/// What is read in the order of tiles.
pub(super) struct TilesInOrder {
    /// Rows of tiles in turns, with the number of the first tile of each.
    pub(super) workers: Vec<(u64, TileRanges)>,
    /// What the workers compute of their rows.
    pub(super) compute: Option<Compute>,
    /// Schema of the rows, after that.
    pub(super) schema: SchemaRef,
    pub(super) limit: Option<usize>,
    pub(super) metrics: BaselineMetrics,
}

impl TilesInOrder {
    /// Streams the rows.
    pub(super) fn rows(self, context: &TaskContext) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let step = self.workers.len() as u64;
        let (limit, compute) = (self.limit, self.compute);
        let workers = self.workers.into_iter().map(|(first, ranges)| {
            let few = Collected::new(Arc::clone(ranges.schema()), None, context);
            let task = Task { ranges, limit, compute: compute.clone(), few };
            Worker { state: WorkerState::Waiting(Box::new(task)), head: None, at_least: first }
        });
        let merged = InOrder {
            workers: workers.collect(),
            tasks: JoinSet::new(),
            step,
            collected: Collected::new(self.schema, limit, context),
        };
        let metrics = self.metrics;
        let batches = stream::try_unfold((merged, metrics), |(mut merged, metrics)| async move {
            let Some(batch) = merged.next().await? else {
                merged.tasks.shutdown().await;
                return Ok(None);
            };
            Ok(Some((batch.record_output(&metrics), (merged, metrics))))
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }
}

struct InOrder {
    workers: Vec<Worker>,
    /// Tasks of the workers. They end with the stream.
    tasks: JoinSet<()>,
    /// The distance of two tiles of a worker.
    step: u64,
    collected: Collected,
}

struct Worker {
    state: WorkerState,
    /// What comes next from this worker.
    head: Option<OfTile<Made>>,
    /// Number of the first tile of which rows may come.
    at_least: u64,
}

enum WorkerState {
    /// For the first poll.
    Waiting(Box<Task>),
    /// `None` comes last.
    Running(Receiver<Result<Option<OfTile<Made>>>>),
    Finished,
}

/// Rows that are made, or being made.
enum Made {
    Here(RecordBatch),
    There(SpawnedTask<Result<RecordBatch>>),
}

/// Work of a worker.
struct Task {
    ranges: TileRanges,
    /// Rows that the limit still allows.
    limit: Option<usize>,
    compute: Option<Compute>,
    /// Small batches of one tile.
    few: Collected,
}

impl InOrder {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let waiting = WAITING.max(2 * self.workers.len());
        for worker in &mut self.workers {
            worker.start(&mut self.tasks, waiting);
        }
        while !self.collected.is_full() {
            let Some(batch) = self.next_rows().await? else { return self.collected.rest() };
            if let Some(batch) = self.collected.add(batch, false)? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// The rows that come next.
    async fn next_rows(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let unfinished = self.workers.iter_mut().filter(|worker| !worker.is_finished());
            let Some(worker) = unfinished.min_by_key(|worker| worker.at_least) else {
                return Ok(None);
            };
            match worker.head.take() {
                Some(OfTile { number, rows, ends }) => {
                    worker.at_least = if ends { number + self.step } else { number };
                    match rows {
                        Some(Made::Here(rows)) => return Ok(Some(rows)),
                        Some(Made::There(task)) => {
                            let rows = task.await.map_err(|e| DataFusionError::External(e.into()));
                            return rows?.map(Some);
                        }
                        None => {}
                    }
                }
                None => worker.fill().await?,
            }
        }
    }
}

impl Worker {
    fn is_finished(&self) -> bool {
        matches!(self.state, WorkerState::Finished) && self.head.is_none()
    }

    fn start(&mut self, tasks: &mut JoinSet<()>, waiting: usize) {
        if !matches!(self.state, WorkerState::Waiting(_)) {
            return;
        }
        let (to, from) = channel(waiting);
        let running = WorkerState::Running(from);
        if let WorkerState::Waiting(task) = std::mem::replace(&mut self.state, running) {
            tasks.spawn(task.give(to));
        }
    }

    /// Waits for what comes next.
    async fn fill(&mut self) -> Result<()> {
        let next = match &mut self.state {
            WorkerState::Running(rows) => match rows.recv().await {
                Some(next) => next?,
                // Rows would be missing.
                None => {
                    return internal_err!("a worker of an ordered scan ended before its last tile");
                }
            },
            WorkerState::Waiting(_) | WorkerState::Finished => None,
        };
        match next {
            Some(next) => {
                self.at_least = next.number;
                self.head = Some(next);
            }
            None => self.state = WorkerState::Finished,
        }
        Ok(())
    }
}

impl Task {
    /// Sends what comes of a worker's tiles, up to the end or the first error.
    async fn give(mut self, to: Sender<Result<Option<OfTile<Made>>>>) {
        loop {
            let next = self.next().await;
            let is_last = !matches!(next, Ok(Some(_)));
            // Nobody may wait any more.
            if to.send(next).await.is_err() || is_last {
                return;
            }
        }
    }

    async fn next(&mut self) -> Result<Option<OfTile<Made>>> {
        while self.limit != Some(0) {
            let Some(OfTile { number, rows, mut ends }) = self.ranges.next(self.limit).await?
            else {
                return Ok(None);
            };
            if let (Some(limit), Some(range)) = (&mut self.limit, &rows) {
                *limit = limit.saturating_sub(range.count());
                // Nothing of this tile is wanted any more.
                ends |= *limit == 0;
            }
            let mut made = match rows {
                // Few rows at a time are collected here; many are made elsewhere, if none wait here.
                Some(range) if range.is_full() && self.few.is_empty() => Some(self.there(range)),
                Some(range) => self.here(|few| few.add(range.batch()?, false))?,
                None => None,
            };
            if made.is_none() && ends {
                made = self.here(Collected::rest)?;
            }
            if made.is_some() || ends {
                return Ok(Some(OfTile { number, rows: made, ends }));
            }
        }
        Ok(None)
    }

    fn there(&self, range: CellRange) -> Made {
        let compute = self.compute.clone();
        Made::There(SpawnedTask::spawn(async move {
            let batch = range.batch()?;
            match compute {
                Some(compute) => compute(batch),
                None => Ok(batch),
            }
        }))
    }

    fn here(
        &mut self,
        collect: impl FnOnce(&mut Collected) -> Result<Option<RecordBatch>>,
    ) -> Result<Option<Made>> {
        let Some(batch) = collect(&mut self.few)? else { return Ok(None) };
        let batch = match &self.compute {
            Some(compute) => compute(batch)?,
            None => batch,
        };
        Ok(Some(Made::Here(batch)))
    }
}
