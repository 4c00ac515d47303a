//! Rows of all tiles in their order, decoded by several workers.
//!
//! The workers read tiles in turns. One waits once it has some batches that nobody has taken, so that few tiles are in
//! memory: one for each worker, and those that are fetched ahead.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    common::{internal_err, runtime::JoinSet},
    error::Result,
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
    stream::{OfTile, RowStream},
};

/// Batches of a worker that wait to be taken.
const WAITING: usize = 8;

/// What is read in the order of tiles.
pub(super) struct TilesInOrder {
    /// Rows of tiles in turns, with the number of the first tile of each.
    pub(super) workers: Vec<(u64, RowStream)>,
    pub(super) schema: SchemaRef,
    pub(super) limit: Option<usize>,
    pub(super) metrics: BaselineMetrics,
}

impl TilesInOrder {
    /// Streams the rows.
    pub(super) fn rows(self, context: &TaskContext) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let step = self.workers.len() as u64;
        let workers = self.workers.into_iter().map(|(first, rows)| Worker {
            state: WorkerState::Waiting(Box::new(rows)),
            head: None,
            at_least: first,
        });
        let merged = InOrder {
            workers: workers.collect(),
            tasks: JoinSet::new(),
            step,
            collected: Collected::new(self.schema, self.limit, context),
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
    head: Option<OfTile>,
    /// Number of the first tile of which rows may come.
    at_least: u64,
}

enum WorkerState {
    /// For the first poll.
    Waiting(Box<RowStream>),
    /// `None` comes last.
    Running(Receiver<Result<Option<OfTile>>>),
    Finished,
}

impl InOrder {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        for worker in &mut self.workers {
            worker.start(&mut self.tasks);
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
                    if rows.is_some() {
                        return Ok(rows);
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

    fn start(&mut self, tasks: &mut JoinSet<()>) {
        if !matches!(self.state, WorkerState::Waiting(_)) {
            return;
        }
        let (to, from) = channel(WAITING);
        let running = WorkerState::Running(from);
        if let WorkerState::Waiting(rows) = std::mem::replace(&mut self.state, running) {
            tasks.spawn(give(*rows, to));
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

/// Sends what comes of a worker's tiles, up to the end or the first error.
async fn give(mut rows: RowStream, to: Sender<Result<Option<OfTile>>>) {
    loop {
        let next = rows.next_of_tile().await;
        let is_last = !matches!(next, Ok(Some(_)));
        // Nobody may wait any more.
        if to.send(next).await.is_err() || is_last {
            return;
        }
    }
}
