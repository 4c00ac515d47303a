//! Rows of a running query, batch by batch.

use std::{fmt, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::{dataframe::DataFrame, error::Result};
use pyo3::prelude::*;
use tokio::{sync::Mutex, task::AbortHandle};

use crate::{
    errors,
    frame::Batches,
    pending::Pending,
    process::Process,
    running::{Course, RunningQuery},
};

/// Rows of a running query. It ends when this is dropped.
#[pyclass(frozen)]
pub(crate) struct RowStream {
    process: &'static Process,
    query: AbortHandle,
    schema: SchemaRef,
    course: Arc<Course>,
    running: Arc<Mutex<RunningQuery>>,
}

impl RowStream {
    pub(crate) fn start(frame: DataFrame, schema: SchemaRef) -> PyResult<Self> {
        let course = Arc::new(Course::default());
        let process = Process::current()?;
        let runtime = process.runtime().handle();
        let running = RunningQuery::start(runtime, frame, Arc::clone(&course));
        let query = running.abort_handle();
        let running = Arc::new(Mutex::new(running));
        Ok(Self { process, query, schema, course, running })
    }

    /// Work that takes the next batch.
    fn work(&self) -> impl Future<Output = Result<Option<Batches>>> + Send + 'static {
        let (schema, course) = (Arc::clone(&self.schema), Arc::clone(&self.course));
        let running = Arc::clone(&self.running);
        async move {
            let batch = running.lock().await.batches.recv().await.transpose()?;
            let notes = course.take_notes();
            // Notes about the result come behind its last batch.
            let rows = batch.map_or_else(Vec::new, |batch| vec![batch]);
            let ended = rows.is_empty() && notes.is_empty();
            Ok((!ended).then(|| Batches::new(schema, rows, notes)))
        }
    }
}

impl fmt::Debug for RowStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowStream").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Drop for RowStream {
    fn drop(&mut self) {
        if !self.query.is_finished() {
            self.query.abort();
            self.process.free_threads();
        }
    }
}

#[pymethods]
impl RowStream {
    /// The next batch, or `None` behind the last one. A batch without rows has only notes.
    #[pyo3(signature = (progress=None))]
    fn next(&self, py: Python<'_>, progress: Option<Py<PyAny>>) -> PyResult<Option<Batches>> {
        let done = Course::wait(py, Arc::clone(&self.course), progress, self.work())?;
        done.map_err(|error| errors::of_query(py, &error))
    }

    /// The same for an event loop: `done` is called at the end, by another thread.
    fn start_next(&self, done: Py<PyAny>) -> PyResult<Pending> {
        Pending::start(self.work(), Arc::clone(&self.course), done)
    }
}
