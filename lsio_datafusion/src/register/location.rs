//! From the text behind FROM to an opened dataset: options behind `?`, and the object store.

use std::path::Path as FilePath;

use datafusion::{
    common::exec_datafusion_err,
    config::ConfigOptions,
    error::{DataFusionError, Result},
    execution::runtime_env::RuntimeEnv,
};
use lsio_core::{Dataset, Location, OpenOptions, scheme};
use object_store::path::Path;
use url::Url;

use crate::{IoEngine, LsioConfig, error::external};

/// Opens the dataset at a path or URL. Options behind a `?` are added to `options`.
///
/// Local paths are read from the file system, with the engine that the session's settings name; other
/// URLs through the object store that the session has registered for them.
///
/// # Errors
/// Those of [`Dataset::open`], unknown options, and URLs without an object store.
pub async fn open_dataset(
    location: &str,
    options: OpenOptions,
    config: &ConfigOptions,
    runtime: &RuntimeEnv,
) -> Result<Dataset> {
    let engine = LsioConfig::of(config).io_engine;
    let (location, options) = resolve(location, options, engine, runtime).await?;
    Dataset::open(&location, &options).await.map_err(external)
}

/// The place that a path or URL names, and its options.
pub(super) async fn resolve(
    text: &str,
    mut options: OpenOptions,
    engine: IoEngine,
    runtime: &RuntimeEnv,
) -> Result<(Location, OpenOptions)> {
    let (location, options) = match scheme(text) {
        None | Some("file") => {
            let base = match split_options(text) {
                Some((base, query)) => {
                    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
                        options.set(&key, &value).map_err(external)?;
                    }
                    base
                }
                None => text,
            };
            (Location::parse_with(base, engine.get()?).map_err(external)?, options)
        }
        Some(_) => {
            let mut url = Url::parse(text).map_err(|e| DataFusionError::External(Box::new(e)))?;
            // Pairs that aren't ours belong to the server.
            for (key, value) in url.query_pairs() {
                if OpenOptions::KEYS.contains(&key.as_ref()) {
                    options.set(&key, &value).map_err(external)?;
                }
            }
            let store = runtime.object_store_registry.get_store(&url).map_err(|_| {
                // Neither passwords nor signatures belong in a message.
                exec_datafusion_err!(
                    "no object store is registered for {}://{}: lsio reads local paths, programs \
                     register stores with SessionContext::register_object_store",
                    url.scheme(),
                    url.host_str().unwrap_or_default()
                )
            })?;
            let path = Path::from_url_path(url.path())
                .map_err(|e| DataFusionError::External(Box::new(e)))?;
            // The name is for messages: without what may be secret.
            url.set_query(None);
            let _ = url.set_username("");
            let _ = url.set_password(None);
            (Location::find(store, path, url.as_str()).await, options)
        }
    };
    Ok((location.with_limits(options.limits), options))
}

/// Splits a local path from its options. A path that exists to the letter has none.
fn split_options(text: &str) -> Option<(&str, &str)> {
    if scheme(text).is_none() && FilePath::new(text).exists() {
        return None;
    }
    text.split_once('?')
}
