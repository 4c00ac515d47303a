//! Waiting for the runtime without the interpreter's lock, until Ctrl-C.

use std::{
    future::Future,
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::Duration,
};

use pyo3::{exceptions::PyRuntimeError, prelude::*};
use tokio::task::JoinHandle;

use crate::process::Process;

/// Interval between two checks for signals.
pub(crate) const LOOK: Duration = Duration::from_millis(40);

/// Time that cancelled work may take to stop before its threads are abandoned.
const GRACE: Duration = Duration::from_millis(80);

/// Runs work on the process's runtime, and waits for it. Ctrl-C, or an exception of any other signal handler, drops the
/// work and is raised.
pub(crate) fn wait<T, F>(py: Python<'_>, work: F) -> PyResult<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    wait_telling(py, work, |_| Ok(()))
}

/// The same, with a call between two looks for signals, whose exception ends the work too.
pub(crate) fn wait_telling<T, F>(
    py: Python<'_>,
    work: F,
    mut tell: impl FnMut(Python<'_>) -> PyResult<()>,
) -> PyResult<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let process = Process::current()?;
    let (give, mut take) = sync_channel(1);
    let task = process.runtime().spawn(async move {
        // Nobody takes the result after Ctrl-C.
        let _ = give.send(work.await);
    });
    loop {
        let (own, done) = received(py, take, LOOK);
        take = own;
        match done {
            Ok(done) => return Ok(done),
            Err(RecvTimeoutError::Timeout) => {
                if let Err(raised) = py.check_signals().and_then(|()| tell(py)) {
                    cancel(py, process, &task);
                    return Err(raised);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Err(panicked()),
        }
    }
}

/// The exception for work that ended without a result.
pub(crate) fn panicked() -> PyErr {
    PyRuntimeError::new_err("a thread of lsio has panicked")
}

/// Waits without the interpreter's lock. A receiver belongs to one thread at a time, so it goes along and comes back.
fn received<T: Send>(
    py: Python<'_>,
    take: Receiver<T>,
    most: Duration,
) -> (Receiver<T>, Result<T, RecvTimeoutError>) {
    py.detach(move || {
        let done = take.recv_timeout(most);
        (take, done)
    })
}

/// Ends work. DataFusion's joins without an equality, its sorts and its aggregates may compute for minutes between two
/// checks for cancellation: where they leave no thread to other work, other work gets new threads.
fn cancel(py: Python<'_>, process: &'static Process, task: &JoinHandle<()>) {
    task.abort();
    let (give, take) = sync_channel(1);
    // Runs when a thread is free.
    process.runtime().spawn(async move {
        let _ = give.send(());
    });
    if received(py, take, GRACE).1.is_err() {
        // Without new threads the old ones remain, and later work waits for them.
        let _ = process.abandon();
    }
}
