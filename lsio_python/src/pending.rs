//! Work that Python's event loop waits for.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use datafusion::error::Result;
use pyo3::{exceptions::PyRuntimeError, prelude::*};
use tokio::{runtime::Handle, task::AbortHandle};

use crate::{errors, frame::Batches, process::Process, running::Course, wait::panicked};

/// Work on a query, whose end is told by a call.
#[pyclass(frozen)]
pub(crate) struct Pending {
    process: &'static Process,
    work: AbortHandle,
    course: Arc<Course>,
    outcome: Arc<Mutex<Outcome>>,
}

/// What came of the work.
#[derive(Default)]
enum Outcome {
    #[default]
    Pending,
    Done(Result<Option<Batches>>),
    Panicked,
}

impl Pending {
    /// Starts work. At its end, also after it was cancelled, `done` is called by a thread of its own.
    pub(crate) fn start(
        work: impl Future<Output = Result<Option<Batches>>> + Send + 'static,
        course: Arc<Course>,
        done: Py<PyAny>,
    ) -> PyResult<Self> {
        let process = Process::current()?;
        let runtime = process.runtime();
        let task = runtime.spawn(work);
        let abort = task.abort_handle();
        let outcome = Arc::new(Mutex::new(Outcome::Pending));
        let given = Arc::clone(&outcome);
        runtime.spawn(async move {
            let came = match task.await {
                Ok(result) => Outcome::Done(result),
                Err(_) => Outcome::Panicked,
            };
            *given.lock().unwrap_or_else(PoisonError::into_inner) = came;
            // It waits for the interpreter's lock, as no thread that computes may.
            Handle::current().spawn_blocking(move || {
                // An event loop that was closed isn't told. None where the interpreter has ended.
                let _ = Python::try_attach(|py| done.call0(py).map(|_| ()));
            });
        });
        Ok(Self { process, work: abort, course, outcome })
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

#[pymethods]
impl Pending {
    /// Ends the work.
    fn cancel(&self, py: Python<'_>) {
        self.work.abort();
        py.detach(|| self.process.free_threads());
    }

    /// Chunks that were read, of those that will be, once they are known.
    fn progress(&self) -> Option<(u64, u64)> {
        self.course.progress()
    }

    /// Takes the rows, after the end was told. `None` behind the last batch of a stream.
    fn result(&self, py: Python<'_>) -> PyResult<Option<Batches>> {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::take(&mut *outcome) {
            Outcome::Done(result) => result.map_err(|error| errors::of_query(py, &error)),
            Outcome::Panicked => Err(panicked()),
            Outcome::Pending => {
                Err(PyRuntimeError::new_err("the work hasn't ended, or its result was taken"))
            }
        }
    }
}
