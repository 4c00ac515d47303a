//! Running queries: their rows, what the engine notes, and how far they are.

use std::{
    fmt,
    future::Future,
    mem,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use arrow::array::RecordBatch;
use datafusion::{
    dataframe::DataFrame,
    error::Result,
    execution::TaskContext,
    physical_plan::{self, ExecutionPlan, execute_stream},
};
use futures::StreamExt as _;
use lsio_datafusion::{ProgressWatch, notes, result_notes};
use pyo3::prelude::*;
use tokio::{
    runtime::Handle,
    sync::mpsc::{Receiver, channel},
    task::{AbortHandle, JoinHandle},
};

use crate::wait::wait_telling;

/// Batches that are computed before they are asked for.
const AHEAD: usize = 2;

/// What is told of a query while it runs: progress and notes.
#[derive(Debug, Default)]
pub(crate) struct Course {
    watch: OnceLock<ProgressWatch>,
    notes: Mutex<Vec<String>>,
}

impl Course {
    /// Chunks that were read, of those that will be. `None` before it is known.
    pub(crate) fn progress(&self) -> Option<(u64, u64)> {
        let progress = self.watch.get()?.progress();
        (progress.total > 0).then_some((progress.done, progress.total))
    }

    /// What the engine has noted since the last call.
    pub(crate) fn take_notes(&self) -> Vec<String> {
        mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for work on a query, and tells its progress to a callable of Python: the waiting thread calls it.
    pub(crate) fn wait<T: Send + 'static>(
        py: Python<'_>,
        course: Arc<Self>,
        progress: Option<Py<PyAny>>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> PyResult<T> {
        let tell = |py: Python<'_>| match (&progress, course.progress()) {
            (Some(call), Some(told)) => call.call1(py, told).map(|_| ()),
            _ => Ok(()),
        };
        let done = wait_telling(py, work, tell)?;
        tell(py)?;
        Ok(done)
    }

    async fn plan(&self, frame: DataFrame) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>)> {
        let task = Arc::new(frame.task_ctx());
        let plan = frame.create_physical_plan().await?;
        // Set once: each query has a course of its own.
        let _ = self.watch.set(ProgressWatch::of(&plan));
        self.note(notes(&plan)?);
        Ok((plan, task))
    }

    fn note(&self, said: Vec<String>) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).extend(said);
    }
}

/// Runs a query, and keeps its rows.
pub(crate) async fn collect(frame: DataFrame, course: &Course) -> Result<Vec<RecordBatch>> {
    let (plan, task) = course.plan(frame).await?;
    let batches = physical_plan::collect(Arc::clone(&plan), task).await?;
    course.note(result_notes(&plan)?);
    Ok(batches)
}

/// A query whose batches are taken one by one. It ends when this is dropped.
pub(crate) struct RunningQuery {
    pub(crate) batches: Receiver<Result<RecordBatch>>,
    task: JoinHandle<()>,
}

impl RunningQuery {
    pub(crate) fn start(runtime: &Handle, frame: DataFrame, course: Arc<Course>) -> Self {
        let (give, batches) = channel(AHEAD);
        let task = runtime.spawn(async move {
            let ran = async {
                let (plan, task) = course.plan(frame).await?;
                let mut stream = execute_stream(Arc::clone(&plan), task)?;
                while let Some(batch) = stream.next().await {
                    if give.send(Ok(batch?)).await.is_err() {
                        // Nobody takes more.
                        return Ok(());
                    }
                }
                course.note(result_notes(&plan)?);
                Ok(())
            };
            if let Err(error) = ran.await {
                let _ = give.send(Err(error)).await;
            }
        });
        Self { batches, task }
    }

    pub(crate) fn abort_handle(&self) -> AbortHandle {
        self.task.abort_handle()
    }
}

impl fmt::Debug for RunningQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningQuery").finish_non_exhaustive()
    }
}

impl Drop for RunningQuery {
    fn drop(&mut self) {
        self.task.abort();
    }
}
