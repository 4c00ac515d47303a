//! What a process has once: threads, engines, connections. A forked process has none of its parent's threads, so it
//! makes its own, and never touches the parent's.

use std::{
    io, mem,
    num::NonZero,
    process, ptr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicPtr, Ordering},
        mpsc::sync_channel,
    },
    thread,
    time::Duration,
};

use lsio_core::{Resources, ResourcesBuilder, cache::DiskCache, uring};
use pyo3::{PyResult, Python, exceptions::PyRuntimeError, pyfunction};
use tokio::runtime::{Builder, Runtime};

use crate::wait::wait;

/// Bytes of a thread's stack: planning is recursive.
const STACK: usize = 8 << 20;

/// Time that cancelled work may take to leave a thread free.
const GRACE: Duration = Duration::from_millis(80);

/// Upper bound on network threads.
const MOST_NETWORK_THREADS: usize = 4;

/// Threads and resources of one process.
#[derive(Debug)]
pub(crate) struct Process {
    id: u32,
    runtime: Runtime,
    resources: Resources,
    /// Caches of sessions, which may have something to write.
    caches: Mutex<Vec<Weak<DiskCache>>>,
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
        let resources = Self::resources_builder().build();
        Ok(Self { id, runtime: runtime()?, resources, caches: Mutex::default() })
    }

    /// Starts resources that share no threads with those of other processes.
    pub(crate) fn resources_builder() -> ResourcesBuilder {
        let resources = Resources::builder().with_engine_options(uring::Options::default());
        match NonZero::new((threads() / 2).clamp(1, MOST_NETWORK_THREADS)) {
            Some(count) => resources.with_network_threads(count),
            None => resources,
        }
    }

    /// Sees to it that later work finds threads, after work was cancelled. DataFusion's joins without an equality, its sorts
    /// and its aggregates may compute for minutes between two checks for cancellation: where no thread is free after a grace
    /// period, they are left to it, and later work gets new ones. What runs beside it goes on.
    pub(crate) fn free_threads(&'static self) {
        let (give, take) = sync_channel(1);
        // Runs when a thread is free.
        self.runtime.spawn(async move {
            let _ = give.send(());
        });
        if take.recv_timeout(GRACE).is_err() {
            // Where the system has no more threads, later work waits for these.
            let _ = self.abandon();
        }
    }

    fn abandon(&'static self) -> io::Result<()> {
        let caches = mem::take(&mut *self.caches.lock().unwrap_or_else(PoisonError::into_inner));
        let new = Box::into_raw(Box::new(Self {
            id: self.id,
            runtime: runtime()?,
            resources: self.resources.clone(),
            caches: Mutex::new(caches),
        }));
        let old = ptr::from_ref(self).cast_mut();
        if CURRENT.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // Another thread has replaced it.
            // SAFETY: the box is this thread's alone.
            drop(unsafe { Box::from_raw(new) });
        }
        Ok(())
    }

    /// Keeps the process from ending before a cache has written what it has read.
    pub(crate) fn remember(&self, cache: &Arc<DiskCache>) {
        let mut caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        caches.retain(|known| known.strong_count() > 0);
        caches.push(Arc::downgrade(cache));
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) fn resources(&self) -> &Resources {
        &self.resources
    }
}

/// Waits until what was read of remote stores is in the caches. Does nothing in a process that hasn't used any.
#[pyfunction]
pub(crate) fn flush(py: Python<'_>) -> PyResult<()> {
    // SAFETY: the pointer is null, or to a leaked box.
    let known = unsafe { CURRENT.load(Ordering::Acquire).as_ref() };
    let Some(known) = known.filter(|known| known.id == process::id()) else { return Ok(()) };
    let mut caches: Vec<_> = {
        let known = known.caches.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().filter_map(Weak::upgrade).collect()
    };
    // One that can't be opened has nothing to write.
    caches.extend(known.resources.cache().ok().flatten());
    wait(py, async move {
        for cache in caches {
            cache.flush().await;
        }
    })
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads())
        .thread_name("lsio-query")
        .thread_stack_size(STACK)
        .enable_all()
        .build()
}

/// Number of processors that this process may use.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
