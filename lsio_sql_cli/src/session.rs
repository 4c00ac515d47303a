//! Session with Zarr, Parquet, CSV and JSON paths as tables, and settings that suit arrays.

use std::sync::Arc;

use datafusion::{
    error::{DataFusionError, Result},
    execution::{
        SessionStateBuilder, object_store::ObjectStoreUrl, runtime_env::RuntimeEnvBuilder,
    },
    prelude::{SessionConfig, SessionContext},
};
use lsio_core::{Resources, uring::Access};
use lsio_datafusion::{LsioConfig, prelude::*};

pub(crate) fn new(memory_limit: Option<usize>, resources: &Resources) -> Result<SessionContext> {
    let mut config = SessionConfig::new().with_information_schema(true);
    let options = config.options_mut();
    // Names of variables keep their case: SELECT TMP.
    options.sql_parser.enable_ident_normalization = false;
    // A descending sort that starts with masked cells is of no use.
    options.sql_parser.default_null_ordering = "nulls_last".to_owned();

    let mut runtime = RuntimeEnvBuilder::new();
    if let Some(bytes) = memory_limit {
        runtime = runtime.with_memory_limit(bytes, 1.0);
    }
    let runtime = runtime.build()?;
    // Local files of other formats are read by the same engine as Zarr's.
    let files = ObjectStoreUrl::local_filesystem();
    let engine = resources.engine();
    let engine = engine.map_err(|e| DataFusionError::Configuration(e.to_string()))?;
    runtime.register_object_store(files.as_ref(), resources.engines().store(engine, Access::Auto)?);
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(Arc::new(runtime))
        .with_default_features()
        .with_zarr_resources(resources.clone())
        .build();
    let options = state.config_mut().options_mut();
    if let (Some(bytes), Some(lsio)) = (memory_limit, options.extensions.get_mut::<LsioConfig>()) {
        // What it is by default, but EXPLAIN can tell the number of passes.
        lsio.values_memory = LsioConfig::values_memory_of(bytes);
    }
    Ok(SessionContext::new_with_state(state).enable_url_table())
}
