//! The session's settings under `lsio.`.

use std::{fmt, sync::Arc};

use datafusion::{
    common::{config::ConfigExtension, extensions_options},
    config::{ConfigField, ConfigOptions, Visit},
    error::{DataFusionError, Result},
};
use lsio_core::{
    read::ScanOptions,
    uring::{self, Engine, PageCache},
};
use object_store::ObjectStore;

extensions_options! {
    /// Settings of Light Speed IO: `SET lsio.coordinate_memory = 1000000`.
    pub struct LsioConfig {
        /// Bytes up to which a coordinate, or a variable that lacks a dimension of its table, is
        /// read as a whole and kept; larger ones are streamed.
        pub coordinate_memory: usize, default = 64 << 20

        /// Decoded bytes of a column up to which small chunks are read and decoded together.
        pub tile_bytes: usize, default = 2 << 20

        /// Whether aggregates are computed inside the scan where that is possible.
        pub aggregate_pushdown: bool, default = true

        /// Whether NULL takes the place of NaN that expressions give, as in 0.0 / 0.0 or ln(-1). Without it
        /// they give NaN, as numpy does. Whether NaN in a store is NULL is an option of its table.
        pub nan_as_null: bool, default = true

        /// Whether / of two integers gives an integer and fails for a divisor of 0, as in PostgreSQL. By
        /// default it gives a double, as in numpy and DuckDB.
        pub integer_division: bool, default = false

        /// What reads the chunks of local stores: auto, uring, pread or object_store. Without it the
        /// environment variable LSIO_IO_ENGINE says.
        pub io_engine: IoEngine, default = IoEngine::default()
    }
}

impl ConfigExtension for LsioConfig {
    const PREFIX: &'static str = "lsio";
}

impl LsioConfig {
    /// The settings of a session, or the defaults where the session doesn't know them.
    #[must_use]
    pub fn of(options: &ConfigOptions) -> Self {
        options.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// How a table is to be read.
    pub(crate) fn scan_options(&self, is_local: bool) -> Result<ScanOptions> {
        Ok(ScanOptions {
            held_bytes: self.coordinate_memory as u64,
            tile_bytes: self.tile_bytes as u64,
            store: if is_local { Some(self.io_engine.store()?) } else { None },
            page_cache: if is_local { PageCache::new(self.io_engine.get()?)? } else { None },
        })
    }
}

/// The setting `lsio.io_engine`: an engine, or what the environment says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoEngine(Option<Engine>);

impl IoEngine {
    /// The engine.
    ///
    /// # Errors
    /// If it isn't set, and the environment names one that doesn't exist.
    pub fn get(self) -> Result<Engine> {
        self.0.map_or_else(Engine::from_environment, Ok).map_err(configuration)
    }

    /// The object store for local files.
    ///
    /// # Errors
    /// Those of [`IoEngine::get`], and if the engine doesn't work here.
    pub fn store(self) -> Result<Arc<dyn ObjectStore>> {
        Ok(uring::store(self.get()?)?)
    }
}

impl From<Engine> for IoEngine {
    fn from(engine: Engine) -> Self {
        Self(Some(engine))
    }
}

impl fmt::Display for IoEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.map_or_else(Engine::from_environment, Ok) {
            Ok(engine) => engine.fmt(f),
            Err(unknown) => f.write_str(&unknown.name),
        }
    }
}

impl ConfigField for IoEngine {
    fn visit<V: Visit>(&self, visitor: &mut V, key: &str, description: &'static str) {
        visitor.some(key, self, description);
    }

    fn set(&mut self, _: &str, value: &str) -> Result<()> {
        self.0 = Some(value.parse().map_err(configuration)?);
        Ok(())
    }
}

fn configuration(unknown: uring::UnknownEngine) -> DataFusionError {
    DataFusionError::Configuration(unknown.to_string())
}
