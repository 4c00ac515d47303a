//! Paths as tables: `SELECT … FROM 'store.zarr'`.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    catalog::{TableProvider, UrlTableFactory},
    common::plan_err,
    error::Result,
    execution::runtime_env::RuntimeEnv,
};
use futures::StreamExt as _;
use lsio_core::{Dataset, Error, Location, OpenOptions, Resources, scheme};

use super::{
    glob::{is_store, pattern_of_stores},
    home::expand_home,
    location::resolve,
};
use crate::{ZarrTable, error::external};

/// Extensions of other formats' files.
const OTHER_FORMATS: [&str; 8] =
    ["parquet", "csv", "tsv", "json", "ndjson", "jsonl", "arrow", "avro"];

/// Extensions of compressed files, after that of their format.
const COMPRESSIONS: [&str; 4] = ["gz", "bz2", "xz", "zst"];

/// Objects of a directory that are inspected for other formats.
const OBJECTS_LOOKED_AT: usize = 1_000;

/// Makes tables of names that are paths or URLs of Zarr groups and arrays. DataFusion asks for every unknown
/// name.
#[derive(Debug)]
pub(super) struct ZarrUrlTableFactory {
    /// For metadata. Queries read chunks with the engine that is set when they run.
    resources: Resources,
    runtime: Arc<RuntimeEnv>,
}

impl ZarrUrlTableFactory {
    pub(super) fn new(resources: Resources, runtime: Arc<RuntimeEnv>) -> Self {
        Self { resources, runtime }
    }

    /// Registers the store of a cloud URL with the session, for readers of other formats. They report a
    /// failure; a URL with a query belongs to its file alone.
    async fn register_store(&self, name: &str) {
        if matches!(scheme(name), None | Some("file")) {
            return;
        }
        let mut options = OpenOptions::default();
        let Ok(url) = Location::url(name, &mut options) else { return };
        let registry = &self.runtime.object_store_registry;
        if url.query().is_some() || registry.get_store(&url).is_ok() {
            return;
        }
        match self.resources.open_store(&url, &options).await {
            Ok(opened) => drop(registry.register_store(&url, opened.store)),
            Err(error) => log::warn!("{error}"),
        }
    }
}

#[async_trait]
impl UrlTableFactory for ZarrUrlTableFactory {
    async fn try_new(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let name = &*expand_home(name, self.resources.environment());
        if let Some(reason) = pattern_of_stores(name, is_named_zarr(name)) {
            return plan_err!("{reason}");
        }
        if !may_be_zarr(name) {
            self.register_store(name).await;
            return Ok(None);
        }
        let resolved = resolve(name, OpenOptions::default(), &self.resources, &self.runtime).await;
        let (location, options) = match resolved {
            Ok(resolved) => resolved,
            Err(error) if is_named_zarr(name) || is_path(name) => return Err(error),
            Err(_) => return Ok(None),
        };
        match Dataset::open(&location, &options).await {
            Ok(dataset) => Ok(Some(Arc::new(ZarrTable::of_query(dataset).map_err(external)?))),
            // A plain name is more likely a missing table; for a path, an error that names it helps more than
            // "no such table".
            Err(Error::NotFound { .. }) if !is_named_zarr(name) && !is_path(name) => Ok(None),
            Err(Error::NotZarr { stores, .. })
                if stores.is_empty() && !is_named_zarr(name) && !is_path(name) =>
            {
                Ok(None)
            }
            Err(Error::NotZarr { .. })
                if !is_named_zarr(name)
                    && !location.is_archived()
                    && holds_other_formats(&location).await =>
            {
                Ok(None)
            }
            Err(error) => Err(external(error)),
        }
    }
}

/// Whether a name may be a Zarr store: any path, unless its extension says otherwise. A directory with Zarr
/// metadata is a store whatever its name: an array may be named like a format.
fn may_be_zarr(name: &str) -> bool {
    let path = name.split('?').next().unwrap_or(name);
    if path.is_empty() || (path.contains('*') && !Path::new(name).exists()) {
        return false;
    }
    let file = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let file = file.to_ascii_lowercase();
    // A path to the metadata means the store; the error says so.
    if file == "zarr.json" {
        return true;
    }
    // The part before the first dot is no extension.
    let mut extensions = file.split('.').skip(1).collect::<Vec<_>>().into_iter().rev();
    let last = extensions.next().unwrap_or_default();
    let extension =
        if COMPRESSIONS.contains(&last) { extensions.next().unwrap_or_default() } else { last };
    !OTHER_FORMATS.contains(&extension) || is_store(Path::new(path))
}

/// Whether a part of the path has the extension of a Zarr store, zipped or not.
fn is_named_zarr(name: &str) -> bool {
    let path = name.split('?').next().unwrap_or(name).to_ascii_lowercase();
    path.split('/').any(|part| part.strip_suffix(".zip").unwrap_or(part).ends_with(".zarr"))
}

/// Whether a name looks like a path.
fn is_path(name: &str) -> bool {
    let has_options = || name.split_once('?').is_some_and(|(path, _)| Path::new(path).exists());
    name.contains('/') || scheme(name).is_some() || has_options() || is_archive(name)
}

/// Whether a name is that of a zip archive.
fn is_archive(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".zip") && Path::new(name).is_file()
}

/// Whether a location has files of other formats. In zip archives only Zarr is read.
async fn holds_other_formats(location: &Location) -> bool {
    let mut objects = location.store().list(Some(location.path())).take(OBJECTS_LOOKED_AT);
    while let Some(object) = objects.next().await {
        let Ok(object) = object else { continue };
        let name = object.location.filename().unwrap_or_default().to_ascii_lowercase();
        if name != "zarr.json"
            && name.split('.').skip(1).any(|extension| OTHER_FORMATS.contains(&extension))
        {
            return true;
        }
    }
    false
}
