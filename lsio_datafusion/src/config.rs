//! Session settings under `lsio.`.

use std::{any::Any, fmt};

use datafusion::{
    common::{config::ConfigExtension, config_err, config_namespace},
    config::{ConfigEntry, ConfigField, ConfigOptions, ExtensionOptions, Visit},
    error::{DataFusionError, Result},
};
use lsio_core::{
    Resources,
    cache::parse_size,
    read::ScanOptions,
    similar::closest,
    uring::{Access, Engine},
};

config_namespace! {
    /// Settings of Light Speed IO: `SET lsio.coordinate_memory = 1000000`.
    pub struct LsioConfig {
        /// Bytes up to which a coordinate, or a variable that lacks a dimension of its table, is read as a
        /// whole and kept; larger ones are streamed.
        pub coordinate_memory: usize, transform = bytes, default = 64 << 20

        /// Decoded bytes of a column up to which small chunks are read and decoded together.
        pub tile_bytes: usize, transform = bytes, default = 2 << 20

        /// Bytes of the values that medians, and other statistics of all values of a group, keep at a time; what
        /// doesn't fit is read in several passes. 0 is a part of the session's memory.
        pub values_memory: usize, transform = bytes, default = 0

        /// Whether aggregates are computed inside the scan where that is possible.
        pub aggregate_pushdown: bool, default = true

        /// Whether joins of scans on their coordinates become columns of one scan where that is possible.
        pub join_pushdown: bool, default = true

        /// Whether windows along one dimension of a scan become columns of it where that is possible.
        pub window_pushdown: bool, default = true

        /// Whether NaN computed by expressions is NULL, as in 0.0 / 0.0 or ln(-1). Otherwise it stays NaN, as
        /// in numpy. Whether NaN in a store is NULL is an option of its table.
        pub nan_as_null: bool, default = true

        /// Whether / of two integers gives an integer and fails for a divisor of 0, as in PostgreSQL. By
        /// default it gives a double, as in numpy and DuckDB.
        pub integer_division: bool, default = false

        /// Engine that reads the chunks of local stores: auto, uring, pread or object_store. If unset, the
        /// environment variable LSIO_IO_ENGINE.
        pub io_engine: IoEngine, default = IoEngine::default()

        /// Whether reads of local files fill the system's page cache: auto (at the second read of the same
        /// bytes, if that comes soon and the free memory holds what is read in between), fill, or never.
        pub page_cache: PageCacheUse, default = PageCacheUse::default()

        /// Resources that the session reads with. They are no setting: SET and SHOW don't know them.
        pub resources: SessionResources, default = SessionResources::default()

        /// Whether COPY replaces a file, or a Zarr group, that exists. It never writes into another directory that
        /// isn't empty.
        pub overwrite: bool, default = false
    }
}

// Written by hand: DataFusion 55.2's macro `extensions_options` leaves the prefix out of the names, so that
// SHOW doesn't find a setting by the name that SET takes.
impl ExtensionOptions for LsioConfig {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let name = format!("{}.{key}", Self::PREFIX);
        let known: Vec<String> = self.entries().into_iter().map(|entry| entry.key).collect();
        if !known.contains(&name) {
            let meant = closest(&name, &known)
                .map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
            return config_err!(
                "there is no setting {name}{meant} (there are {})",
                known.join(", ")
            );
        }
        ConfigField::set(self, key, value).map_err(|error| {
            let reason = match error.find_root() {
                DataFusionError::External(source) => source.to_string(),
                root => root.strip_backtrace(),
            };
            DataFusionError::Configuration(format!("{name} can't be '{value}': {reason}"))
        })
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        struct Entries(Vec<ConfigEntry>);

        impl Visit for Entries {
            fn some<V: fmt::Display>(&mut self, key: &str, value: V, description: &'static str) {
                let value = Some(value.to_string());
                self.0.push(ConfigEntry { key: key.to_owned(), value, description });
            }

            fn none(&mut self, key: &str, description: &'static str) {
                self.0.push(ConfigEntry { key: key.to_owned(), value: None, description });
            }
        }

        let mut shown = self.clone();
        let engine = self.resources.0.engine();
        shown.io_engine.0 = self.io_engine.0.or(engine.as_ref().ok().copied());
        let mut entries = Entries(Vec::new());
        shown.visit(&mut entries, Self::PREFIX, "");
        let is_engine = |entry: &&mut ConfigEntry| entry.key == "lsio.io_engine";
        if let (Err(unknown), Some(entry)) = (engine, entries.0.iter_mut().find(is_engine)) {
            // Shown as it is spelled: reading with it is the error.
            entry.value.get_or_insert(unknown.name);
        }
        entries.0
    }
}

/// Parses a size such as `4 MiB` to a number of bytes; other text is returned as it is.
fn bytes(value: &str) -> String {
    parse_size(value).map_or_else(|| value.to_owned(), |bytes| bytes.to_string())
}

impl ConfigExtension for LsioConfig {
    const PREFIX: &'static str = "lsio";
}

impl LsioConfig {
    /// What `values_memory` is under a memory limit, unless it is set.
    #[must_use]
    pub fn values_memory_of(limit: usize) -> usize {
        // Two slabs may be open, and chunks are fetched ahead while half of the memory is free.
        limit / 5 * 2
    }

    /// Settings of a session, or the defaults where it has none.
    #[must_use]
    pub fn of(options: &ConfigOptions) -> Self {
        options.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// Resources of the session, with the engine of `lsio.io_engine`.
    #[must_use]
    pub fn resources(&self) -> Resources {
        match self.io_engine.0 {
            Some(engine) => self.resources.0.with_engine(engine),
            None => self.resources.0.clone(),
        }
    }

    /// How a table is to be read.
    pub(crate) fn scan_options(&self, is_local: bool) -> Result<ScanOptions> {
        let (mut store, mut page_cache) = (None, None);
        if is_local {
            let resources = self.resources();
            let engine = resources.engine().map_err(configuration)?;
            store = Some(resources.engines().store(engine, self.page_cache.0)?);
            page_cache = resources.engines().page_cache(engine)?;
        }
        let (held_bytes, tile_bytes) = (self.coordinate_memory as u64, self.tile_bytes as u64);
        Ok(ScanOptions { held_bytes, tile_bytes, store, page_cache })
    }
}

/// The setting `lsio.io_engine`: an engine, or that of the session's resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoEngine(Option<Engine>);

impl From<Engine> for IoEngine {
    fn from(engine: Engine) -> Self {
        Self(Some(engine))
    }
}

impl ConfigField for IoEngine {
    fn visit<V: Visit>(&self, visitor: &mut V, key: &str, description: &'static str) {
        match self.0 {
            Some(engine) => visitor.some(key, engine, description),
            None => visitor.none(key, description),
        }
    }

    fn set(&mut self, _: &str, value: &str) -> Result<()> {
        self.0 = Some(value.parse().map_err(configuration)?);
        Ok(())
    }
}

/// The setting `lsio.page_cache`: whether reads of local files fill the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageCacheUse(Access);

impl From<Access> for PageCacheUse {
    fn from(access: Access) -> Self {
        Self(access)
    }
}

impl ConfigField for PageCacheUse {
    fn visit<V: Visit>(&self, visitor: &mut V, key: &str, description: &'static str) {
        visitor.some(key, self.0, description);
    }

    fn set(&mut self, _: &str, value: &str) -> Result<()> {
        self.0 = value.parse().map_err(configuration)?;
        Ok(())
    }
}

/// Resources of a session, as a field of its configuration without `SET` and `SHOW`.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionResources(Resources);

impl Default for SessionResources {
    /// Resources of the process.
    fn default() -> Self {
        Self(Resources::of_process())
    }
}

impl From<Resources> for SessionResources {
    fn from(resources: Resources) -> Self {
        Self(resources)
    }
}

impl ConfigField for SessionResources {
    fn visit<V: Visit>(&self, _: &mut V, _: &str, _: &'static str) {}

    fn set(&mut self, key: &str, _: &str) -> Result<()> {
        config_err!("there is no setting {key}")
    }
}

pub(crate) fn configuration(unknown: impl fmt::Display) -> DataFusionError {
    DataFusionError::Configuration(unknown.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> ConfigOptions {
        let mut options = ConfigOptions::default();
        options.extensions.insert(LsioConfig::default());
        options
    }

    #[test]
    fn settings_have_their_names() {
        let entries = options().entries();
        let names: Vec<&str> = entries
            .iter()
            .map(|entry| entry.key.as_str())
            .filter(|key| key.starts_with("lsio."))
            .collect();
        assert!(names.contains(&"lsio.tile_bytes"), "{names:?}");
        assert!(!entries.iter().any(|entry| entry.key == "tile_bytes"));
        assert!(
            entries
                .iter()
                .all(|entry| !entry.key.starts_with("lsio.") || !entry.description.is_empty())
        );
    }

    #[test]
    fn sizes_and_slips() {
        let mut options = options();
        options.set("lsio.tile_bytes", "4 MiB").unwrap();
        assert_eq!(LsioConfig::of(&options).tile_bytes, 4 << 20);
        options.set("lsio.tile_bytes", "1000").unwrap();
        assert_eq!(LsioConfig::of(&options).tile_bytes, 1_000);
        let error = options.set("lsio.tile_bite", "1").unwrap_err().to_string();
        assert!(error.contains("did you mean lsio.tile_bytes?"), "{error}");
        assert!(error.contains("lsio.coordinate_memory"), "{error}");
        let error = options.set("lsio.tile_bytes", "many").unwrap_err().to_string();
        assert!(error.contains("lsio.tile_bytes can't be 'many'"), "{error}");
    }
}
