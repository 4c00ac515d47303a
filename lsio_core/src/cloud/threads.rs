//! The threads of the network: connections, TLS and timeouts never wait for a thread that decodes.

use std::{
    future::Future,
    io,
    num::NonZero,
    sync::{Arc, LazyLock, OnceLock},
    thread,
};

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};

/// Threads that carry requests, started at the first one.
#[derive(Debug)]
pub(crate) struct NetworkThreads {
    count: usize,
    runtime: OnceLock<io::Result<Runtime>>,
}

impl NetworkThreads {
    /// This many threads.
    pub(crate) fn new(count: NonZero<usize>) -> Arc<Self> {
        Arc::new(Self { count: count.get(), runtime: OnceLock::new() })
    }

    /// Threads that the process shares. Half the cores, as the other half decodes what they receive; and at
    /// most four, which decrypt several GB/s, more than the network of most machines brings.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<NetworkThreads>> = LazyLock::new(|| {
            let cores = thread::available_parallelism().map_or(1, NonZero::get);
            let count = NonZero::new((cores / 2).clamp(1, 4)).unwrap_or(NonZero::<usize>::MIN);
            NetworkThreads::new(count)
        });
        Arc::clone(&SHARED)
    }

    /// Runs a future on these threads. It is aborted when what is returned is dropped.
    ///
    /// # Errors
    /// If the threads can't be started.
    pub(super) fn spawn<T: Send + 'static>(
        self: &Arc<Self>,
        future: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<Task<T>> {
        let start = || {
            Builder::new_multi_thread()
                .worker_threads(self.count)
                .thread_name("lsio-network")
                .enable_all()
                .build()
        };
        match self.runtime.get_or_init(start) {
            Ok(runtime) => Ok(Task { task: runtime.spawn(future), _threads: Arc::clone(self) }),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }
}

impl Drop for NetworkThreads {
    fn drop(&mut self) {
        // A runtime that is dropped waits for its threads, which is forbidden in asynchronous tasks.
        if let Some(Ok(runtime)) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A future that runs on the network's threads until it is dropped. The threads stay as long.
#[derive(Debug)]
pub(super) struct Task<T> {
    task: JoinHandle<T>,
    _threads: Arc<NetworkThreads>,
}

impl<T> Task<T> {
    /// What the future returns.
    ///
    /// # Errors
    /// If it panicked.
    pub(super) async fn join(mut self) -> io::Result<T> {
        (&mut self.task).await.map_err(io::Error::other)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
