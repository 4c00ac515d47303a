//! Stores in the cloud: `s3://`, `gs://`, `az://`, `abfs://`, `http://` and `https://`.
//!
//! ```text
//! URL ──▶ Address    which store, which path, what of it may be shown
//!           │
//!           ▼
//!         Setup      where it is and who asks: from options, environment and files, without a request
//!           │        (equal ones share a store: its connections, its credentials, its Link)
//!           ▼
//!         store      object_store's client ── Connector: the network's own threads, timeouts
//!           │
//!           ▼
//!         CloudStore errors that say what to do
//!           │
//!           ▼
//!         CachedStore if there is a cache on disk
//! ```

mod address;
mod aws;
mod azure;
mod environment;
mod explain;
mod gcp;
mod http;
mod runtime;
mod store;
mod web;

use std::{
    num::NonZero,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use lru::LruCache;
use object_store::{BackoffConfig, ObjectStore, RetryConfig, path::Path};
use tokio::sync::OnceCell;
use url::Url;

pub(crate) use self::address::take_options;
use self::{
    address::{Address, Kind},
    explain::Way,
    http::Connector,
    store::CloudStore,
};
pub use self::{
    address::{public_name, public_text},
    environment::Environment,
};
use crate::{
    Error, Network, OpenOptions, Result, StoreOptions,
    cache::{DiskCache, cached},
    transport::{Link, Storage},
    urls::redact,
};

/// The stores that stay open while nobody reads from them.
const STORES: NonZero<usize> = NonZero::new(64).unwrap();

/// How often a request is tried again, if the deadline allows.
const RETRIES: usize = 10;

/// A place in a store of the cloud.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The path within it.
    pub path: Path,
    /// The URL without what may be secret.
    pub name: String,
    /// What is known of the way there.
    pub link: Arc<Link>,
}

/// Opens the store of a URL that holds none of our options any more, with the credentials that this
/// process finds. Stores are shared: two calls with the same URL, options and environment get the same.
///
/// # Errors
/// [`Error::Location`] for URLs of no store that is known, and if the options or credentials can't be
/// used.
pub async fn open(url: &Url, options: &OpenOptions) -> Result<Opened> {
    open_in(url, options, &Environment::of_process()).await
}

/// As [`open`], with credentials from another environment.
///
/// # Errors
/// As [`open`].
pub async fn open_in(
    url: &Url,
    options: &OpenOptions,
    environment: &Environment,
) -> Result<Opened> {
    let address = Address::parse(url)?;
    let name = address.name.clone();
    let invalid = |reason: String| Error::Location {
        location: name.clone(),
        reason: redact(&reason).into_owned(),
    };
    if let Some(key) = options.store.stranger(address.kind.prefix()) {
        return Err(invalid(format!("the option {key} is for other stores")));
    }
    let path = address.path.clone();
    let key = (setup(address, &options.store, environment).map_err(invalid)?, options.network);
    let cell = {
        let mut stores = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(stores.get_or_insert(key.clone(), Arc::default))
    };
    let build = || key.0.build(environment, key.1);
    let (store, link) = cell.get_or_try_init(build).await.map_err(invalid)?;
    Ok(Opened { store: Arc::clone(store), path, link: Arc::clone(link), name })
}

type Key = (Setup, Network);
type Shared = (Arc<dyn ObjectStore>, Arc<Link>);

/// The stores that are open.
static OPEN: LazyLock<Mutex<LruCache<Key, Arc<OnceCell<Shared>>>>> =
    LazyLock::new(|| Mutex::new(LruCache::new(STORES)));

/// All that decides how a store is read.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Setup {
    S3(aws::Setup),
    Gcs(gcp::Setup),
    Azure(azure::Setup),
    Http(web::Setup),
}

fn setup(
    address: Address,
    options: &StoreOptions,
    environment: &Environment,
) -> Result<Setup, String> {
    let Address { kind, root, bucket, login, query, .. } = address;
    Ok(match kind {
        Kind::S3 => Setup::S3(aws::setup(&bucket, options, environment)?),
        Kind::Gcs => Setup::Gcs(gcp::setup(&bucket, options, environment)),
        Kind::Azure => {
            Setup::Azure(azure::setup(&root, &bucket, query.as_deref(), options, environment)?)
        }
        Kind::Http => Setup::Http(web::setup(&root, query, login, options)),
    })
}

impl Setup {
    async fn build(&self, environment: &Environment, network: Network) -> Result<Shared, String> {
        let storage = match self {
            Self::Http(_) => Storage::Http,
            _ => Storage::ObjectStore,
        };
        let link = Link::new(storage, network);
        let connector = Connector::new(network, Arc::clone(&link));
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: network.deadline,
            // Half a minute in all: a server may be started anew.
            backoff: BackoffConfig { base: 3.0, ..BackoffConfig::default() },
        };
        let (store, way) = match self.clone() {
            Self::S3(setup) => setup.build(environment, network, Arc::clone(&link), retry).await?,
            Self::Gcs(setup) => setup.build(connector, retry)?,
            Self::Azure(setup) => setup.build(connector, retry)?,
            Self::Http(setup) => setup.build(connector, retry)?,
        };
        Ok((finish(store, way)?, link))
    }
}

/// What readers get of a store that was made: errors that say what to do, and the cache, if there is one.
fn finish(store: Arc<dyn ObjectStore>, way: Way) -> Result<Arc<dyn ObjectStore>, String> {
    let name = way.what.clone();
    let store = Arc::new(CloudStore::new(store, way));
    Ok(match DiskCache::from_environment().map_err(|e| e.to_string())? {
        Some(cache) => cached(store, cache, &name),
        None => store,
    })
}
