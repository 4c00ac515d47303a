//! What a process has once: threads, engines, connections. A forked process has none of its parent's threads, so it
//! makes its own, and never touches the parent's.

use std::{
    io,
    num::NonZero,
    process, ptr,
    sync::atomic::{AtomicPtr, Ordering},
    thread,
};

use lsio_core::{Resources, uring};
use pyo3::{PyResult, exceptions::PyRuntimeError};
use tokio::runtime::{Builder, Runtime};

/// Bytes of a thread's stack: planning is recursive.
const STACK: usize = 8 << 20;

/// Upper bound on network threads.
const MOST_NETWORK_THREADS: usize = 4;

/// Threads and resources of one process.
#[derive(Debug)]
pub(crate) struct Process {
    id: u32,
    runtime: Runtime,
    resources: Resources,
}

/// That of this process, or of the one that it was forked from. Never freed: to join threads that a fork has left behind
/// would take forever.
static CURRENT: AtomicPtr<Process> = AtomicPtr::new(ptr::null_mut());

impl Process {
    /// That of this process, which is made at the first call. No lock is taken: another thread may hold it at a fork.
    ///
    /// # Errors
    /// `RuntimeError`, if the system has no more threads.
    pub(crate) fn current() -> PyResult<&'static Self> {
        let id = process::id();
        loop {
            let known = CURRENT.load(Ordering::Acquire);
            // SAFETY: the pointer is null, or to a leaked box.
            if let Some(known) = unsafe { known.as_ref() }
                && known.id == id
            {
                return Ok(known);
            }
            let new = Self::new(id).map_err(|e| PyRuntimeError::new_err(e.to_string()))?;
            let new = Box::into_raw(Box::new(new));
            if CURRENT.compare_exchange(known, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // Another thread was faster.
                // SAFETY: the box is this thread's alone.
                drop(unsafe { Box::from_raw(new) });
            }
        }
    }

    fn new(id: u32) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads())
            .thread_name("lsio-query")
            .thread_stack_size(STACK)
            .enable_all()
            .build()?;
        let network = NonZero::new((threads() / 2).clamp(1, MOST_NETWORK_THREADS));
        let resources = Resources::builder().with_engine_options(uring::Options::default());
        let resources = match network {
            Some(count) => resources.with_network_threads(count),
            None => resources,
        };
        Ok(Self { id, runtime, resources: resources.build() })
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) fn resources(&self) -> &Resources {
        &self.resources
    }
}

/// Number of processors that this process may use.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
