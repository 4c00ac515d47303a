//! The threads that queries run on, which are left behind where a query doesn't stop.
//!
//! Between two looks at whether anybody still wants the result, DataFusion 55.2's joins without an
//! equality, its sorts and its aggregates may compute for minutes. Whoever waits for such a query, or for
//! its threads, waits as long. So the program waits elsewhere, and the next query gets new threads.

use std::{
    fmt,
    future::Future,
    io, thread,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use tokio::runtime::{Builder, Runtime};

/// How long a cancelled query may take to stop before its threads are left behind.
const GRACE: Duration = Duration::from_millis(150);

/// Between two looks at whether it has stopped.
const LOOK: Duration = Duration::from_millis(2);

/// The stack of a thread, as large as the main thread's mostly is: planning is recursive.
const STACK: usize = 8 << 20;

/// What a run ends with after Ctrl-C.
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
    /// Where this program waits. No query runs there, so that signals are seen at once.
    waiting: Runtime,
    /// Where queries run; `None` after they have been left behind, until the next query.
    workers: Option<Runtime>,
}

impl QueryThreads {
    /// From here on Ctrl-C doesn't end the program any more: it ends the run.
    pub(crate) fn new() -> io::Result<Self> {
        let waiting = Builder::new_current_thread().enable_all().build()?;
        // The prompt's editor, whenever it is left, puts back the handler that it has found, so this one
        // has to be there before.
        waiting.block_on(async { tokio::signal::ctrl_c().now_or_never().transpose() })?;
        Ok(Self { waiting, workers: Some(workers()?) })
    }

    /// Runs to the end or to the next Ctrl-C. After that, all that belongs to the run has stopped, or
    /// its threads are left behind: they go on to where the query looks up, and then give back its memory.
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
    /// Quitting waits for nobody.
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

/// Whether all tasks end soon.
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
