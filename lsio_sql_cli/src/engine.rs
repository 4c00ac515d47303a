//! Threads that run queries, abandoned if a query doesn't stop.
//!
//! DataFusion 55.2's joins without an equality, its sorts and its aggregates may compute for minutes between
//! two checks for cancellation. Whoever waits for such a query, or for its threads, waits as long. So the
//! program waits on a runtime of its own, and the next query gets new threads.

use std::{
    fmt,
    future::Future,
    io, thread,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use tokio::runtime::{Builder, Runtime};

/// Time that a cancelled query may take to stop before its threads are abandoned.
const GRACE: Duration = Duration::from_millis(150);

/// Interval between two checks for its end.
const LOOK: Duration = Duration::from_millis(2);

/// Bytes of a thread's stack, usual for a main thread: planning is recursive.
const STACK: usize = 8 << 20;

/// Result of a run after Ctrl-C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// Runs queries until they end or until Ctrl-C.
pub(crate) struct QueryThreads {
    /// Runtime on which the program waits. No query runs there, so that signals are seen at once.
    waiting: Runtime,
    /// Runtime on which queries run; `None` after it was abandoned, until the next query.
    workers: Option<Runtime>,
}

impl QueryThreads {
    /// Takes over Ctrl-C: it ends the run from here on, not the program.
    pub(crate) fn new() -> io::Result<Self> {
        let waiting = Builder::new_current_thread().enable_all().build()?;
        // The prompt's editor restores the handler that it has found, so this one has to be installed before.
        waiting.block_on(async { tokio::signal::ctrl_c().now_or_never().transpose() })?;
        Ok(Self { waiting, workers: Some(workers()?) })
    }

    /// Runs to the end or to the next Ctrl-C. Afterwards all tasks of the run have stopped, or its threads
    /// are abandoned: they compute up to the next check, and then release the query's memory.
    pub(crate) fn run<T: Send + 'static>(
        &mut self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, crate::Error> {
        let workers = match self.workers.take() {
            Some(workers) => workers,
            None => workers()?,
        };
        let mut task = workers.spawn(work);
        let done = self.waiting.block_on(async {
            tokio::select! {
                done = &mut task => Some(done),
                Ok(()) = tokio::signal::ctrl_c() => None,
            }
        });
        match done {
            Some(Ok(result)) => {
                self.workers = Some(workers);
                Ok(result)
            }
            Some(Err(ended)) => {
                self.workers = Some(workers);
                Err(ended.into())
            }
            None => {
                task.abort();
                drop(task);
                if stops(&workers) {
                    self.workers = Some(workers);
                } else {
                    workers.shutdown_background();
                }
                Err(Cancelled.into())
            }
        }
    }
}

impl Drop for QueryThreads {
    /// Quitting doesn't wait for queries.
    fn drop(&mut self) {
        if let Some(workers) = self.workers.take() {
            workers.shutdown_background();
        }
    }
}

fn workers() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .thread_name("lsio-query")
        .thread_stack_size(STACK)
        .enable_all()
        .build()
}

/// Whether all tasks end within the grace period.
fn stops(workers: &Runtime) -> bool {
    let start = Instant::now();
    while workers.metrics().num_alive_tasks() > 0 {
        if start.elapsed() > GRACE {
            return false;
        }
        thread::sleep(LOOK);
    }
    true
}
