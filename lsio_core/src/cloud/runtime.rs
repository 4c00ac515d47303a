//! The threads of the network: connections, TLS and timeouts never wait for a thread that decodes.

use std::{future::Future, io, num::NonZero, sync::LazyLock, thread};

use tokio::{runtime, task::JoinHandle};

/// The process's one. Half the cores, as the other half decodes what they receive; and at most four,
/// which decrypt several GB/s, more than the network of most machines brings.
static RUNTIME: LazyLock<io::Result<runtime::Runtime>> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    runtime::Builder::new_multi_thread()
        .worker_threads((cores / 2).clamp(1, 4))
        .thread_name("lsio-network")
        .enable_all()
        .build()
});

/// Runs a future on the network's threads. It is aborted when what is returned is dropped.
///
/// # Errors
/// If the threads can't be started.
pub(super) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> io::Result<Task<T>> {
    match &*RUNTIME {
        Ok(runtime) => Ok(Task(runtime.spawn(future))),
        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
    }
}

/// A future that runs on the network's threads until it is dropped.
#[derive(Debug)]
pub(super) struct Task<T>(JoinHandle<T>);

impl<T> Task<T> {
    /// What the future returns.
    ///
    /// # Errors
    /// If it panicked.
    pub(super) async fn join(mut self) -> io::Result<T> {
        (&mut self.0).await.map_err(io::Error::other)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
