//! Resources for reading: engines for local files, a cache on disk, network threads, credentials, open stores.

use std::{
    num::NonZero,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use url::Url;

use crate::{
    OpenOptions, Result,
    cache::{CacheChoice, DiskCache},
    cloud::{NetworkThreads, Opened, Stores},
    environment::Environment,
    uring::{self, Engine, Engines, UnknownEngine},
};

/// Variable that selects the engine for local files.
const ENGINE: &str = "LSIO_IO_ENGINE";

/// Resources for reading, as a value that is handed down: engines for local files, a cache on disk, network
/// threads, the environment of credentials, and open stores.
///
/// [`Resources::of_process`] is the default, made from environment variables. A program builds others, and
/// hands them to what it opens:
///
/// ```
/// use std::num::NonZero;
///
/// use lsio_core::{Dataset, Location, OpenOptions, Resources, cache::DiskCache, uring::Engine};
///
/// # use lsio_synthetic::{reanalysis::{self, Specification}, write::Compression};
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let scratch = directory.path().join("cache");
/// # let store = directory.path().join("era5.zarr").to_string_lossy().into_owned();
/// # reanalysis::write(store.as_ref(), &Specification {
/// #     times: 2, latitudes: 3, longitudes: 4, chunks: [2, 3, 4],
/// #     shards: None, compression: Compression::None, packed: false, one_chunk: false,
/// # })?;
/// let resources = Resources::builder()
///     .with_cache(DiskCache::open(scratch, 20 << 30)?)
///     .with_engine(Engine::Pread)
///     .with_network_threads(NonZero::new(2).ok_or("no threads")?)
///     .build();
/// let (location, options) =
///     Location::open_in(&store, OpenOptions::default(), &resources).await?;
/// let dataset = Dataset::open(&location, &options).await?;
/// # assert!(dataset.variable("t2m").is_ok());
/// # Ok(())
/// # }
/// ```
///
/// Clones share everything. Stores, with their connections and credentials, stay open until the last clone is
/// dropped.
#[derive(Clone, Debug)]
pub struct Resources {
    engine: Result<Engine, UnknownEngine>,
    shared: Arc<SharedResources>,
}

/// What clones share.
#[derive(Debug)]
struct SharedResources {
    engines: Arc<Engines>,
    stores: Stores,
}

impl Resources {
    /// Default resources of the process, made from environment variables at the first use.
    #[must_use]
    pub fn of_process() -> Self {
        static OF_PROCESS: LazyLock<Resources> = LazyLock::new(Resources::from_environment);
        OF_PROCESS.clone()
    }

    /// Resources from environment variables: `LSIO_IO_ENGINE`, `LSIO_CACHE_BYTES`, `LSIO_CACHE_DIR`, and those
    /// of credentials. An invalid variable is an error where it is needed: an invalid cache size doesn't keep
    /// local files from being read.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::builder().build()
    }

    /// Builds resources. What isn't set comes from environment variables.
    #[must_use]
    pub fn builder() -> ResourcesBuilder {
        ResourcesBuilder::default()
    }

    /// The same resources with another engine for local files.
    #[must_use]
    pub fn with_engine(&self, engine: Engine) -> Self {
        Self { engine: Ok(engine), shared: Arc::clone(&self.shared) }
    }

    /// Engine for local files.
    ///
    /// # Errors
    /// [`UnknownEngine`] if the environment names one that doesn't exist.
    pub fn engine(&self) -> Result<Engine, UnknownEngine> {
        self.engine.clone()
    }

    /// Stores for local files, one for each engine.
    #[must_use]
    pub fn engines(&self) -> &Engines {
        &self.shared.engines
    }

    /// Cache on disk for remote stores, if there is one.
    ///
    /// # Errors
    /// [`Error::InvalidOption`](crate::Error::InvalidOption) if `LSIO_CACHE_BYTES` is no size, and
    /// [`Error::Cache`](crate::Error::Cache) if there is no directory for it.
    pub fn cache(&self) -> Result<Option<Arc<DiskCache>>> {
        self.shared.stores.cache.get(self.environment())
    }

    /// Directory of the cache, whether or not there is one.
    ///
    /// # Errors
    /// [`Error::Cache`](crate::Error::Cache) without a home directory and `LSIO_CACHE_DIR`.
    pub fn cache_directory(&self) -> Result<PathBuf> {
        self.shared.stores.cache.directory(self.environment())
    }

    /// Environment in which credentials and the home directory are found.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.shared.stores.environment
    }

    /// Opens the store of a remote URL without options of ours
    /// ([`Location::url`](crate::Location::url) takes them off). Equal URLs and options share a store.
    ///
    /// # Errors
    /// [`Error::Location`](crate::Error::Location) for unknown kinds of URLs, and for options or credentials that
    /// can't be used.
    pub async fn open_store(&self, url: &Url, options: &OpenOptions) -> Result<Opened> {
        self.shared.stores.open(url, options).await
    }
}

impl PartialEq for Resources {
    /// Identity: equal settings are not enough.
    fn eq(&self, other: &Self) -> bool {
        self.engine == other.engine && Arc::ptr_eq(&self.shared, &other.shared)
    }
}

/// Builder of [`Resources`]. What isn't set comes from environment variables.
#[derive(Debug, Default)]
pub struct ResourcesBuilder {
    environment: Option<Environment>,
    engine: Option<Engine>,
    engines: Option<Engines>,
    cache: Option<Option<Arc<DiskCache>>>,
    threads: Option<NonZero<usize>>,
}

impl ResourcesBuilder {
    /// Replaces the process's environment. With [`Environment::default`], which is empty, credentials come from
    /// options alone.
    #[must_use]
    pub fn with_environment(self, environment: Environment) -> Self {
        Self { environment: Some(environment), ..self }
    }

    /// Sets the engine for local files.
    #[must_use]
    pub fn with_engine(self, engine: Engine) -> Self {
        Self { engine: Some(engine), ..self }
    }

    /// Sets memory, rings and threads of engines of their own, and where they remember reads. By default, engines are shared
    /// in the process, and remember reads in `XDG_RUNTIME_DIR` or the directory for temporary files.
    #[must_use]
    pub fn with_engine_options(self, options: uring::Options) -> Self {
        Self { engines: Some(Engines::new(options)), ..self }
    }

    /// Caches remote reads on disk.
    #[must_use]
    pub fn with_cache(self, cache: Arc<DiskCache>) -> Self {
        Self { cache: Some(Some(cache)), ..self }
    }

    /// Disables the cache on disk.
    #[must_use]
    pub fn without_cache(self) -> Self {
        Self { cache: Some(None), ..self }
    }

    /// Sets the number of network threads, which are started at the first request. By default, threads are
    /// shared in the process: half the number of cores, at most four.
    #[must_use]
    pub fn with_network_threads(self, count: NonZero<usize>) -> Self {
        Self { threads: Some(count), ..self }
    }

    /// Builds the resources. Nothing is started or opened before it is used.
    #[must_use]
    pub fn build(self) -> Resources {
        let environment = self.environment.unwrap_or_else(Environment::of_process);
        let engine = self.engine.map_or_else(|| engine(&environment), Ok);
        let engines = self.engines.map_or_else(shared_engines, Arc::new);
        let cache = self.cache.map_or_else(CacheChoice::of_environment, CacheChoice::Given);
        let threads = self.threads.map_or_else(NetworkThreads::shared, NetworkThreads::new);
        let stores = Stores::new(environment, cache, threads);
        Resources { engine, shared: Arc::new(SharedResources { engines, stores }) }
    }
}

/// Engines that the process's resources share.
fn shared_engines() -> Arc<Engines> {
    static SHARED: LazyLock<Arc<Engines>> = LazyLock::new(|| {
        let mut options = uring::Options::default();
        options.runtime_directory = Environment::of_process().runtime_directory();
        Arc::new(Engines::new(options))
    });
    Arc::clone(&SHARED)
}

/// Engine that `LSIO_IO_ENGINE` names.
fn engine(environment: &Environment) -> Result<Engine, UnknownEngine> {
    match environment.var_os(ENGINE) {
        None => Ok(Engine::Auto),
        Some(name) => name.to_string_lossy().parse(),
    }
}
