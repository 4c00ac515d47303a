//! Open stores, with their connections, credentials and links.

use std::{
    fmt,
    num::NonZero,
    sync::{Arc, Mutex, PoisonError},
};

use lru::LruCache;
use object_store::{BackoffConfig, ObjectStore, RetryConfig, path::Path};
use tokio::sync::OnceCell;
use url::Url;

use super::{
    address::{Address, StoreKind},
    aws, azure,
    explain::StoreDescription,
    gcp,
    http::Connector,
    store::CloudStore,
    threads::NetworkThreads,
    web,
};
use crate::{
    Error, Network, OpenOptions, Result, StoreOptions,
    cache::{CacheChoice, cached},
    environment::Environment,
    transport::{Link, Storage},
    urls::redact,
};

/// Upper bound of the stores that are kept open.
const STORES: NonZero<usize> = NonZero::new(64).unwrap();

/// Retries of a request, if the deadline allows.
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

/// Opens the stores of URLs, and keeps them open: equal URLs and options share a store.
pub(crate) struct Stores {
    /// Environment in which credentials are found.
    pub(crate) environment: Environment,
    /// Cache on disk.
    pub(crate) cache: CacheChoice,
    /// Threads that carry requests.
    pub(crate) threads: Arc<NetworkThreads>,
    open: Mutex<LruCache<StoreKey, Arc<OnceCell<SharedStore>>>>,
}

type StoreKey = (StoreSettings, Network);
type SharedStore = (Arc<dyn ObjectStore>, Arc<Link>);

impl fmt::Debug for Stores {
    /// Without the stores: what opened them holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { environment, cache, threads, open: _ } = self;
        f.debug_struct("Stores")
            .field("environment", environment)
            .field("cache", cache)
            .field("threads", threads)
            .finish_non_exhaustive()
    }
}

impl Stores {
    /// No store is open yet.
    pub(crate) fn new(
        environment: Environment,
        cache: CacheChoice,
        threads: Arc<NetworkThreads>,
    ) -> Self {
        Self { environment, cache, threads, open: Mutex::new(LruCache::new(STORES)) }
    }

    /// Opens the store of a URL without options of ours.
    ///
    /// # Errors
    /// [`Error::Location`] for unknown kinds of URLs, and for options or credentials that can't be used.
    pub(crate) async fn open(&self, url: &Url, options: &OpenOptions) -> Result<Opened> {
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
        let setup = setup(address, &options.store, &self.environment).map_err(invalid)?;
        let key = (setup, options.network);
        let cell = {
            let mut stores = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(stores.get_or_insert(key.clone(), Arc::default))
        };
        let build = || self.build(&key.0, key.1);
        let (store, link) = cell.get_or_try_init(build).await.map_err(invalid)?;
        Ok(Opened { store: Arc::clone(store), path, link: Arc::clone(link), name })
    }

    async fn build(&self, setup: &StoreSettings, network: Network) -> Result<SharedStore, String> {
        let storage = match setup {
            StoreSettings::Http(_) => Storage::Http,
            _ => Storage::ObjectStore,
        };
        let link = Link::new(storage, network);
        let connector = Connector::new(network, Arc::clone(&link), Arc::clone(&self.threads));
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: network.deadline,
            // Half a minute in all: a server may be started anew.
            backoff: BackoffConfig { base: 3.0, ..BackoffConfig::default() },
        };
        let (store, way) = match setup.clone() {
            StoreSettings::S3(setup) => setup.build(&self.environment, connector, retry).await?,
            StoreSettings::Gcs(setup) => setup.build(connector, retry)?,
            StoreSettings::Azure(setup) => setup.build(connector, retry)?,
            StoreSettings::Http(setup) => setup.build(connector, retry)?,
        };
        Ok((self.finish(store, way)?, link))
    }

    /// What readers get of a store that was made: errors that say what to do, and the cache, if there is one.
    fn finish(
        &self,
        store: Arc<dyn ObjectStore>,
        way: StoreDescription,
    ) -> Result<Arc<dyn ObjectStore>, String> {
        let name = way.what.clone();
        let store = Arc::new(CloudStore::new(store, way));
        Ok(match self.cache.get(&self.environment).map_err(|e| e.to_string())? {
            Some(cache) => cached(store, cache, &name),
            None => store,
        })
    }
}

/// All that decides how a store is read.
#[derive(Clone, PartialEq, Eq, Hash)]
enum StoreSettings {
    S3(aws::AwsSettings),
    Gcs(gcp::GcpSettings),
    Azure(azure::AzureSettings),
    Http(web::WebSettings),
}

fn setup(
    address: Address,
    options: &StoreOptions,
    environment: &Environment,
) -> Result<StoreSettings, String> {
    let Address { kind, root, bucket, login, query, .. } = address;
    Ok(match kind {
        StoreKind::S3 => StoreSettings::S3(aws::setup(&bucket, options, environment)?),
        StoreKind::Gcs => StoreSettings::Gcs(gcp::setup(&bucket, options, environment)),
        StoreKind::Azure => StoreSettings::Azure(azure::setup(
            &root,
            &bucket,
            query.as_deref(),
            options,
            environment,
        )?),
        StoreKind::Http => StoreSettings::Http(web::setup(&root, query, login, options)),
    })
}
