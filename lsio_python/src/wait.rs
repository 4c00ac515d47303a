//! Waiting for the runtime without the interpreter's lock, until Ctrl-C.

use std::{
    future::Future,
    sync::mpsc::{RecvTimeoutError, sync_channel},
    thread,
    time::Duration,
};

use pyo3::{exceptions::PyRuntimeError, prelude::*};

use crate::process::Process;

/// Interval between two checks for signals.
pub(crate) const LOOK: Duration = Duration::from_millis(40);

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
        // A receiver belongs to one thread at a time, so it goes with the closure and comes back.
        let (own, done) = py.detach(move || {
            let done = take.recv_timeout(LOOK);
            (take, done)
        });
        take = own;
        match done {
            Ok(done) => return Ok(done),
            Err(RecvTimeoutError::Timeout) => {
                if let Err(raised) = py.check_signals().and_then(|()| tell(py)) {
                    task.abort();
                    py.detach(|| process.free_threads());
                    return Err(raised);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Err(panicked()),
        }
    }
}

/// Runs work on a thread of its own, and waits for it. Ctrl-C, or an exception of any other signal handler, calls `stop`,
/// after which the work must end soon, and is raised then.
pub(crate) fn wait_stopping<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> T + Send,
    stop: impl Fn(),
) -> PyResult<T> {
    thread::scope(|scope| {
        let (give, mut take) = sync_channel(1);
        let task = scope.spawn(move || {
            // Nobody takes the result after Ctrl-C.
            let _ = give.send(work());
        });
        let waited = loop {
            let (own, done) = py.detach(move || {
                let done = take.recv_timeout(LOOK);
                (take, done)
            });
            take = own;
            match done {
                Ok(done) => break Ok(done),
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(raised) = py.check_signals() {
                        stop();
                        break Err(raised);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break Err(panicked()),
            }
        };
        // Joined here, so that a panic there is none here.
        let _ = py.detach(|| task.join());
        waited
    })
}

/// The exception for work that ended without a result.
pub(crate) fn panicked() -> PyErr {
    PyRuntimeError::new_err("a thread of lsio has panicked")
}
