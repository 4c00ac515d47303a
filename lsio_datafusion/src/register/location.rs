//! From the text after FROM to an opened dataset: options after `?`, and the object store.

use datafusion::{
    common::plan_err, config::ConfigOptions, error::Result, execution::runtime_env::RuntimeEnv,
};
use lsio_core::{Dataset, Location, OpenOptions, Resources, scheme};

use super::{glob::pattern_of_stores, home::expand_home};
use crate::{LsioConfig, config::configuration, error::external};

/// Opens the dataset at a path or URL. Options after a `?` are added to `options`.
///
/// Local paths are read from the file system, with the engine that the session's settings name. URLs are
/// read through the object store that the session has registered for them; without one, or with options
/// of stores, through one that the session's resources open for them ([`Resources::open_store`]).
///
/// # Errors
/// Those of [`Location::open_in`] and [`Dataset::open`].
pub async fn open_dataset(
    location: &str,
    options: OpenOptions,
    config: &ConfigOptions,
    runtime: &RuntimeEnv,
) -> Result<Dataset> {
    let resources = LsioConfig::of(config).resources();
    if scheme(location).is_none()
        && let Some(reason) =
            pattern_of_stores(&expand_home(location, resources.environment()), true)
    {
        return plan_err!("{reason}");
    }
    let (location, options) = resolve(location, options, &resources, runtime).await?;
    Dataset::open(&location, &options).await.map_err(external)
}

/// Location of a path or URL, and its options.
pub(crate) async fn resolve(
    text: &str,
    mut options: OpenOptions,
    resources: &Resources,
    runtime: &RuntimeEnv,
) -> Result<(Location, OpenOptions)> {
    let text = &*expand_home(text, resources.environment());
    if matches!(scheme(text), None | Some("file")) {
        resources.engine().map_err(configuration)?;
        return Location::open_in(text, options, resources).await.map_err(external);
    }
    let url = Location::url(text, &mut options).map_err(external)?;
    // Store options take precedence over the session's store.
    let registered =
        options.store.is_empty().then(|| runtime.object_store_registry.get_store(&url));
    let location = match registered {
        Some(Ok(store)) => {
            Location::open_registered(store, &url, &options).await.map_err(external)?
        }
        _ => Location::open_url(&url, &options, resources).await.map_err(external)?,
    };
    Ok((location, options))
}
