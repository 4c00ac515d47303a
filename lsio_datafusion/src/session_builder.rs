//! Sessions for people: paths and URLs are tables, and settings suit arrays.

use std::{num::NonZero, sync::Arc};

use datafusion::{
    error::{DataFusionError, Result},
    execution::{
        SessionStateBuilder, object_store::ObjectStoreUrl, runtime_env::RuntimeEnvBuilder,
    },
    prelude::{SessionConfig, SessionContext},
};
use lsio_core::{Resources, uring::Access};

use crate::{LsioConfig, ZarrSessionBuilder};

/// Builder of the session that the command line and the Python package have.
///
/// Paths and URLs of Zarr stores, and of files that DataFusion reads, are tables. Names keep their case, since those of
/// variables do. Missing values are last in every order. Local files of all formats are read by one engine.
///
/// ```
/// use lsio_core::Resources;
/// use lsio_datafusion::SessionBuilder;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ctx = SessionBuilder::new(Resources::of_process())
///     .with_memory_limit(4 << 30)
///     .build()?;
/// # let _ = ctx;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SessionBuilder {
    resources: Resources,
    memory_limit: Option<usize>,
    threads: Option<NonZero<usize>>,
}

impl SessionBuilder {
    /// Starts with the resources that the session reads with.
    #[must_use]
    pub fn new(resources: Resources) -> Self {
        Self { resources, memory_limit: None, threads: None }
    }

    /// Bounds the bytes that queries take. By default there is no bound.
    #[must_use]
    pub fn with_memory_limit(self, bytes: usize) -> Self {
        Self { memory_limit: Some(bytes), ..self }
    }

    /// Sets the number of tasks in which a query computes at the same time. By default, one for each processor.
    #[must_use]
    pub fn with_threads(self, threads: NonZero<usize>) -> Self {
        Self { threads: Some(threads), ..self }
    }

    /// Builds the session.
    ///
    /// # Errors
    /// If the environment names an unknown engine for local files, or the engine can't be started.
    pub fn build(self) -> Result<SessionContext> {
        let mut config = SessionConfig::new().with_information_schema(true);
        if let Some(threads) = self.threads {
            config = config.with_target_partitions(threads.get());
        }
        let options = config.options_mut();
        // Names of variables keep their case: SELECT TMP.
        options.sql_parser.enable_ident_normalization = false;
        // A descending sort that starts with masked cells is of no use.
        options.sql_parser.default_null_ordering = "nulls_last".to_owned();

        let mut runtime = RuntimeEnvBuilder::new();
        if let Some(bytes) = self.memory_limit {
            runtime = runtime.with_memory_limit(bytes, 1.0);
        }
        let runtime = runtime.build()?;
        // Local files of other formats are read by the same engine as Zarr's.
        let files = ObjectStoreUrl::local_filesystem();
        let engine = self.resources.engine();
        let engine = engine.map_err(|e| DataFusionError::Configuration(e.to_string()))?;
        let store = self.resources.engines().store(engine, Access::Auto)?;
        runtime.register_object_store(files.as_ref(), store);
        let mut state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::new(runtime))
            .with_default_features()
            .with_zarr_resources(self.resources)
            .build();
        let options = state.config_mut().options_mut();
        if let Some(bytes) = self.memory_limit
            && let Some(lsio) = options.extensions.get_mut::<LsioConfig>()
        {
            // What it is by default, but EXPLAIN can tell the number of passes.
            lsio.values_memory = LsioConfig::values_memory_of(bytes);
        }
        Ok(SessionContext::new_with_state(state).enable_url_table())
    }
}
