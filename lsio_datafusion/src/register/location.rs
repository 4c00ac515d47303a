//! From the text after FROM to an opened dataset: options after `?`, and the object store.

use datafusion::{
    common::plan_err, config::ConfigOptions, error::Result, execution::runtime_env::RuntimeEnv,
};
use lsio_core::{Dataset, Location, OpenOptions, scheme};

use super::{glob::pattern_of_stores, home::expand_home};
use crate::{IoEngine, LsioConfig, error::external};

/// Opens the dataset at a path or URL. Options after a `?` are added to `options`.
///
/// Local paths are read with the engine of the session's settings. URLs are read through the object store
/// that is registered with the session; without one, or with store options, through a new one
/// ([`lsio_core::cloud`]).
///
/// # Errors
/// Those of [`Location::open`] and [`Dataset::open`].
pub async fn open_dataset(
    location: &str,
    options: OpenOptions,
    config: &ConfigOptions,
    runtime: &RuntimeEnv,
) -> Result<Dataset> {
    let engine = LsioConfig::of(config).io_engine;
    if scheme(location).is_none()
        && let Some(reason) = pattern_of_stores(&expand_home(location), true)
    {
        return plan_err!("{reason}");
    }
    let (location, options) = resolve(location, options, engine, runtime).await?;
    Dataset::open(&location, &options).await.map_err(external)
}

/// Location of a path or URL, and its options.
pub(super) async fn resolve(
    text: &str,
    mut options: OpenOptions,
    engine: IoEngine,
    runtime: &RuntimeEnv,
) -> Result<(Location, OpenOptions)> {
    let text = &*expand_home(text);
    if matches!(scheme(text), None | Some("file")) {
        return Location::open(text, options, engine.get()?).await.map_err(external);
    }
    let url = Location::url(text, &mut options).map_err(external)?;
    // Store options take precedence over the session's store.
    let registered =
        options.store.is_empty().then(|| runtime.object_store_registry.get_store(&url));
    let location = match registered {
        Some(Ok(store)) => {
            Location::open_registered(store, &url, &options).await.map_err(external)?
        }
        _ => Location::open_url(&url, &options).await.map_err(external)?,
    };
    Ok((location, options))
}
