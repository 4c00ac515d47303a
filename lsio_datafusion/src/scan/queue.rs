//! Tiles shared by the partitions of an execution: each takes the next from a common counter.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use datafusion::{error::Result, execution::TaskContext};
use tokio::sync::OnceCell;

use super::{ZarrSource, shares::Shares};

/// One of the partitions that share a scan's tiles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partition {
    pub(crate) index: usize,
    /// The number of all partitions.
    pub(crate) count: usize,
}

/// Queues of a plan's executions.
///
/// DataFusion makes one such state for a plan, and may execute the plan several times, also concurrently. An
/// execution is identified by its task context; opening a partition again in the same context starts another
/// one.
#[derive(Debug, Default)]
pub(crate) struct TileQueues {
    executions: Mutex<Vec<KnownExecution>>,
}

#[derive(Debug)]
struct KnownExecution {
    context: Weak<TaskContext>,
    opened: Vec<usize>,
    execution: Arc<Execution>,
}

/// State shared by the partitions of one execution.
#[derive(Debug)]
pub(crate) struct Execution {
    /// Next tile that no partition has taken.
    next: AtomicU64,
    /// Partitions that haven't finished.
    running: AtomicUsize,
    stored: AtomicU64,
    absent: AtomicU64,
    /// The source, where the execution has its own.
    source: OnceCell<Arc<ZarrSource>>,
}

/// Chunks that an execution requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestedChunks {
    /// Chunks that were stored.
    pub(crate) stored: u64,
    /// Chunks that weren't.
    pub(crate) absent: u64,
}

impl Execution {
    pub(crate) fn new(partitions: usize) -> Arc<Self> {
        Self::starting_at(0, partitions)
    }

    fn starting_at(tile: u64, partitions: usize) -> Arc<Self> {
        Arc::new(Self {
            next: AtomicU64::new(tile),
            running: AtomicUsize::new(partitions),
            stored: AtomicU64::new(0),
            absent: AtomicU64::new(0),
            source: OnceCell::new(),
        })
    }

    /// The execution's own source: `make` makes it for the first partition that asks.
    pub(crate) async fn source(
        &self,
        make: impl Future<Output = Result<ZarrSource>>,
    ) -> Result<Arc<ZarrSource>> {
        let made = self.source.get_or_try_init(|| async { make.await.map(Arc::new) });
        made.await.cloned()
    }

    /// Adds the chunks of a finished partition. Returns the sum to the last one.
    pub(crate) fn finish(&self, asked: RequestedChunks) -> Option<RequestedChunks> {
        self.stored.fetch_add(asked.stored, Ordering::Relaxed);
        self.absent.fetch_add(asked.absent, Ordering::Relaxed);
        // The last partition sees all that the others added before.
        (self.running.fetch_sub(1, Ordering::AcqRel) == 1).then(|| RequestedChunks {
            stored: self.stored.load(Ordering::Relaxed),
            absent: self.absent.load(Ordering::Relaxed),
        })
    }
}

impl TileQueues {
    /// Tiles for one of the partitions that read `tiles` together.
    pub(crate) fn open(
        &self,
        partition: Partition,
        context: &Arc<TaskContext>,
        tiles: Range<u64>,
    ) -> TileNumbers {
        let mut executions = self.executions.lock().unwrap_or_else(PoisonError::into_inner);
        executions.retain(|known| known.context.strong_count() > 0);
        let position = executions.iter().position(|known| {
            known.context.as_ptr() == Arc::as_ptr(context)
                && !known.opened.contains(&partition.index)
        });
        let execution = match position {
            Some(position) => {
                let known = &mut executions[position];
                known.opened.push(partition.index);
                Arc::clone(&known.execution)
            }
            None => {
                let execution = Execution::starting_at(tiles.start, partition.count);
                executions.push(KnownExecution {
                    context: Arc::downgrade(context),
                    opened: vec![partition.index],
                    execution: Arc::clone(&execution),
                });
                execution
            }
        };
        TileNumbers { execution, end: tiles.end, strides: None, shares: None }
    }
}

/// Numbers of the tiles that one partition reads.
#[derive(Debug)]
pub(crate) struct TileNumbers {
    execution: Arc<Execution>,
    end: u64,
    /// Set where partitions share no counter.
    strides: Option<Strides>,
    /// Set where tiles are handed out in shares, with the number of the worker.
    shares: Option<(Arc<Shares>, usize)>,
}

/// Every `step`-th tile from `next` on.
#[derive(Debug)]
struct Strides {
    next: u64,
    step: u64,
}

impl TileNumbers {
    /// Tiles for one of the workers of an execution, which take them in shares.
    pub(crate) fn in_shares(
        execution: &Arc<Execution>,
        shares: &Arc<Shares>,
        worker: usize,
    ) -> Self {
        let shares = Some((Arc::clone(shares), worker));
        Self { execution: Arc::clone(execution), end: u64::MAX, strides: None, shares }
    }

    /// Every n-th tile, for partitions without shared state.
    pub(crate) fn strided(partition: Partition, tiles: Range<u64>) -> Self {
        // Of several partitions none knows whether it is the last.
        let running = if partition.count == 1 { 1 } else { usize::MAX };
        let strides = Some(Strides {
            next: tiles.start.saturating_add(partition.index as u64),
            step: partition.count.max(1) as u64,
        });
        Self { execution: Execution::new(running), end: tiles.end, strides, shares: None }
    }

    /// The same tiles in turns for several readers: the first one reads the first.
    pub(crate) fn in_turns(self, readers: usize) -> Vec<Self> {
        let readers = readers.max(1) as u64;
        let (next, step) = match &self.strides {
            Some(Strides { next, step }) => (*next, *step),
            None => (self.execution.next.load(Ordering::Relaxed), 1),
        };
        // All readers are those of one partition.
        let more = usize::try_from(readers - 1).unwrap_or(usize::MAX);
        let running = self.execution.running.load(Ordering::Relaxed);
        self.execution.running.store(running.saturating_add(more), Ordering::Relaxed);
        let reader = |index: u64| Self {
            execution: Arc::clone(&self.execution),
            end: self.end,
            strides: Some(Strides {
                next: next.saturating_add(index.saturating_mul(step)),
                step: step.saturating_mul(readers),
            }),
            shares: None,
        };
        (0..readers).map(reader).collect()
    }

    /// The first tile that comes next, if no other partition takes it.
    pub(crate) fn first(&self) -> u64 {
        match &self.strides {
            Some(Strides { next, .. }) => *next,
            None => self.execution.next.load(Ordering::Relaxed),
        }
    }

    /// State shared by the partitions.
    pub(crate) fn execution(&self) -> &Arc<Execution> {
        &self.execution
    }

    /// Skips all tiles before this one, for all partitions; of a share, those of the share.
    pub(crate) fn skip_to(&mut self, tile: u64) {
        if let Some((shares, worker)) = &self.shares {
            return shares.skip_to(*worker, tile);
        }
        match &mut self.strides {
            None => {
                self.execution.next.fetch_max(tile.min(self.end), Ordering::Relaxed);
            }
            Some(Strides { next, step }) => {
                let behind = tile.min(self.end).saturating_sub(*next);
                *next = next.saturating_add(behind.div_ceil(*step).saturating_mul(*step));
            }
        }
    }
}

impl Iterator for TileNumbers {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if let Some((shares, worker)) = &self.shares {
            return shares.take(*worker);
        }
        match &mut self.strides {
            // The counter exceeds the end by at most one for each partition, so it can't overflow.
            None => Some(self.execution.next.fetch_add(1, Ordering::Relaxed)),
            Some(Strides { next, step }) => {
                let tile = *next;
                *next = next.saturating_add(*step);
                Some(tile)
            }
        }
        .filter(|tile| *tile < self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(index: usize, count: usize) -> Partition {
        Partition { index, count }
    }

    #[test]
    fn executions_do_not_share_tiles() {
        let queues = TileQueues::default();
        let (first, second) = (Arc::new(TaskContext::default()), Arc::new(TaskContext::default()));
        // Two executions in two contexts and a third one in the first context, interleaved.
        let mut tiles: Vec<TileNumbers> =
            [(0, &first), (0, &second), (1, &first), (0, &first), (1, &second), (1, &first)]
                .into_iter()
                .map(|(partition, context)| queues.open(of(partition, 2), context, 0..4))
                .collect();
        let mut take = |which: [usize; 2]| {
            let mut taken: Vec<u64> = Vec::new();
            for _ in 0..4 {
                taken.extend(which.iter().filter_map(|&i| tiles[i].next()));
            }
            taken
        };
        for which in [[0, 2], [1, 4], [3, 5]] {
            assert_eq!(take(which), [0, 1, 2, 3]);
        }
    }

    #[test]
    fn tiles_are_left_out() {
        let queues = TileQueues::default();
        let context = Arc::new(TaskContext::default());
        let mut shared = [0, 1].map(|partition| queues.open(of(partition, 2), &context, 0..10));
        shared[0].skip_to(7);
        shared[1].skip_to(3);
        assert_eq!(
            (shared[1].next(), shared[0].next(), shared[0].next()),
            (Some(7), Some(8), Some(9))
        );
        let mut strided = TileNumbers::strided(of(1, 3), 0..12);
        strided.skip_to(5);
        assert_eq!(strided.next(), Some(7));
        strided.skip_to(2);
        assert_eq!(strided.next(), Some(10));
        strided.skip_to(100);
        assert_eq!(strided.next(), None);
        // A part of the tiles.
        let context = Arc::new(TaskContext::default());
        let parts = [0, 1].map(|partition| queues.open(of(partition, 2), &context, 3..6));
        assert_eq!(parts.into_iter().flatten().collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(TileNumbers::strided(of(1, 2), 3..8).collect::<Vec<_>>(), [4, 6]);
        let context = Arc::new(TaskContext::default());
        let turns = queues.open(of(0, 1), &context, 3..8).in_turns(3);
        assert_eq!(turns.iter().map(TileNumbers::first).collect::<Vec<_>>(), [3, 4, 5]);
        let turns: Vec<Vec<u64>> = turns.into_iter().map(Iterator::collect).collect();
        assert_eq!(turns, [vec![3, 6], vec![4, 7], vec![5]]);
    }

    #[test]
    fn the_last_partition_gets_the_sum() {
        let execution = Execution::new(2);
        assert_eq!(execution.finish(RequestedChunks { stored: 1, absent: 2 }), None);
        let sum = RequestedChunks { stored: 4, absent: 2 };
        assert_eq!(execution.finish(RequestedChunks { stored: 3, absent: 0 }), Some(sum));
    }
}
