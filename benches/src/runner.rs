//! Runs queries of a store on a given number of threads, from code that isn't asynchronous itself.

use std::{
    path::{Path, PathBuf},
    thread,
};

use datafusion::prelude::SessionConfig;
use lsio_core::{Dataset, Location, OpenOptions};
use tokio::runtime::{Builder, Runtime};

use crate::{
    Error,
    measure::{Figures, logical_bytes, run_once},
    process::fill_cache,
    queries::Query,
};

/// The number of threads where none is asked for: one a core.
pub(crate) fn threads(asked: Option<usize>) -> usize {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    asked.unwrap_or_else(cores).max(1)
}

/// A store, and the threads that its queries run on.
pub(crate) struct Runner {
    store: PathBuf,
    dataset: Dataset,
    runtime: Runtime,
    config: SessionConfig,
}

impl Runner {
    /// Queries have as many partitions as there are threads.
    pub(crate) fn new(store: &Path, threads: usize) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
        let location = Location::parse(&store.to_string_lossy())?;
        let dataset = runtime.block_on(Dataset::open(&location, &OpenOptions::default()))?;
        let config = SessionConfig::new().with_target_partitions(threads);
        Ok(Self { store: store.to_owned(), dataset, runtime, config })
    }

    /// Runs a query once, after statements that set the session up.
    pub(crate) fn run(&self, setup: &[&str], query: &Query) -> Result<Figures, Error> {
        let store = self.store.to_string_lossy();
        self.runtime.block_on(run_once(&store, &self.config, setup, query))
    }

    /// The bytes of the query's variables as stored, uncompressed.
    pub(crate) fn logical_bytes(&self, query: &Query) -> u64 {
        logical_bytes(&self.dataset, query)
    }

    /// Has the page cache hold the query's variables, if it has room for them.
    pub(crate) fn fill_cache(&self, query: &Query) -> Result<(), Error> {
        for variable in query.variables {
            fill_cache(&self.store.join(variable))?;
        }
        Ok(())
    }
}
