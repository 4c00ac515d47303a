//! Runs queries of a store on a given number of threads, from synchronous code.

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

/// Number of threads; by default one per core.
pub(crate) fn threads(asked: Option<usize>) -> usize {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    asked.unwrap_or_else(cores).max(1)
}

/// A store, with the threads for its queries.
pub(crate) struct Runner {
    store: PathBuf,
    dataset: Dataset,
    runtime: Runtime,
    config: SessionConfig,
}

impl Runner {
    /// Queries have one partition per thread.
    pub(crate) fn new(store: &Path, threads: usize) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
        let location = Location::parse(&store.to_string_lossy())?;
        let dataset = runtime.block_on(Dataset::open(&location, &OpenOptions::default()))?;
        let config = SessionConfig::new().with_target_partitions(threads);
        Ok(Self { store: store.to_owned(), dataset, runtime, config })
    }

    /// Runs a query once, after setup statements.
    pub(crate) fn run(&self, setup: &[&str], query: &Query) -> Result<Figures, Error> {
        let store = self.store.to_string_lossy();
        self.runtime.block_on(run_once(&store, &self.config, setup, query))
    }

    /// Uncompressed bytes of the query's variables, in their stored type.
    pub(crate) fn logical_bytes(&self, query: &Query) -> u64 {
        logical_bytes(&self.dataset, query)
    }

    /// Reads the query's variables into the page cache, as far as it has room.
    pub(crate) fn fill_cache(&self, query: &Query) -> Result<(), Error> {
        for variable in query.variables {
            fill_cache(&self.store.join(variable))?;
        }
        Ok(())
    }
}
