//! How the partitions of one execution share the tiles: each takes the next from a common counter.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU64, Ordering},
};

use datafusion::execution::TaskContext;

/// The queues of a plan's executions.
///
/// DataFusion makes one such state for a plan, and a plan may be executed more than once, also at
/// the same time. An execution is known by its task context; if a partition is opened again in the
/// same context, that is a new execution too.
#[derive(Debug, Default)]
pub(super) struct TileQueues {
    executions: Mutex<Vec<Execution>>,
}

#[derive(Debug)]
struct Execution {
    context: Weak<TaskContext>,
    opened: Vec<usize>,
    next: Arc<AtomicU64>,
}

impl TileQueues {
    /// The tiles for a partition, of `tiles` in all.
    pub(super) fn open(&self, partition: usize, context: &Arc<TaskContext>, tiles: u64) -> Tiles {
        let mut executions = self.executions.lock().unwrap_or_else(PoisonError::into_inner);
        executions.retain(|execution| execution.context.strong_count() > 0);
        let position = executions.iter().position(|e| {
            e.context.as_ptr() == Arc::as_ptr(context) && !e.opened.contains(&partition)
        });
        let next = match position {
            Some(position) => {
                let execution = &mut executions[position];
                execution.opened.push(partition);
                Arc::clone(&execution.next)
            }
            None => {
                let next = Arc::new(AtomicU64::new(0));
                executions.push(Execution {
                    context: Arc::downgrade(context),
                    opened: vec![partition],
                    next: Arc::clone(&next),
                });
                next
            }
        };
        Tiles::Shared { next, end: tiles }
    }
}

/// The numbers of the tiles that one partition reads.
#[derive(Debug)]
pub(super) enum Tiles {
    /// The next that no other partition has taken.
    Shared {
        /// The next tile.
        next: Arc<AtomicU64>,
        /// The number of tiles.
        end: u64,
    },
    /// Every `step`th from the start.
    Strided {
        /// The next tile.
        next: u64,
        /// The number of partitions.
        step: u64,
        /// The number of tiles.
        end: u64,
    },
}

impl Iterator for Tiles {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self {
            Self::Shared { next, end } => {
                // The counter passes the end by one a partition, and so can't overflow.
                Some(next.fetch_add(1, Ordering::Relaxed)).filter(|tile| tile < end)
            }
            Self::Strided { next, step, end } => {
                let tile = Some(*next).filter(|tile| tile < end)?;
                *next = next.saturating_add(*step);
                Some(tile)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_do_not_share_tiles() {
        let queues = TileQueues::default();
        let (first, second) = (Arc::new(TaskContext::default()), Arc::new(TaskContext::default()));
        // Two executions in two contexts and a third one in the first context, interleaved.
        let mut tiles: Vec<Tiles> =
            [(0, &first), (0, &second), (1, &first), (0, &first), (1, &second), (1, &first)]
                .into_iter()
                .map(|(partition, context)| queues.open(partition, context, 4))
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
}
