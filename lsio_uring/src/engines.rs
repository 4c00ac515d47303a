//! Stores of all local files, one per engine.

use std::sync::{Arc, LazyLock};

use object_store::{ObjectStore, Result, local::LocalFileSystem};

#[cfg(unix)]
use {object_store::Error, std::sync::OnceLock};

use crate::{Access, Engine, Options, PageCache};
#[cfg(unix)]
use crate::{UringFileSystem, error::STORE};

/// Stores of all local files, one per [`Engine`], each started at its first use.
///
/// ```
/// use lsio_uring::{Access, Engine, Engines, Options};
///
/// let mut options = Options::default();
/// options.pool_bytes = 32 << 20;
/// let engines = Engines::new(options);
/// let files = engines.store(Engine::Auto, Access::Never)?;
/// # let _ = files;
/// # Ok::<(), object_store::Error>(())
/// ```
#[derive(Debug)]
pub struct Engines {
    #[cfg_attr(not(unix), expect(dead_code, reason = "there are no engines of ours"))]
    options: Options,
    #[cfg(unix)]
    auto: Started,
    #[cfg(unix)]
    pread: Started,
    #[cfg(unix)]
    uring: Started,
}

/// A store, once it was requested.
#[cfg(unix)]
type Started = OnceLock<std::result::Result<UringFileSystem, Arc<Error>>>;

impl Engines {
    /// Engines with these settings. Each call chooses its engine, whatever [`Options::engine`] is.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            #[cfg(unix)]
            auto: Started::new(),
            #[cfg(unix)]
            pread: Started::new(),
            #[cfg(unix)]
            uring: Started::new(),
        }
    }

    /// The process's shared engines, with [`Options::default`].
    #[must_use]
    pub fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<Engines>> =
            LazyLock::new(|| Arc::new(Engines::new(Options::default())));
        Arc::clone(&SHARED)
    }

    /// Object store that reads all local files with `engine`; what `access` says doesn't hold for object_store's own, which
    /// fills the page cache.
    ///
    /// # Errors
    /// If the engine doesn't work here. [`Engine::Auto`] always works.
    #[cfg(unix)]
    pub fn store(&self, engine: Engine, access: Access) -> Result<Arc<dyn ObjectStore>> {
        match engine {
            Engine::ObjectStore => Ok(Arc::new(LocalFileSystem::new())),
            ours => Ok(Arc::new(self.files(ours)?.with_access(access))),
        }
    }

    /// Object store that reads all local files: always object_store's own on this system.
    ///
    /// # Errors
    /// If the engine is [`Engine::Uring`] or [`Engine::Pread`], which need Unix.
    #[cfg(not(unix))]
    pub fn store(&self, engine: Engine, _: Access) -> Result<Arc<dyn ObjectStore>> {
        match engine {
            Engine::Auto | Engine::ObjectStore => Ok(Arc::new(LocalFileSystem::new())),
            Engine::Uring | Engine::Pread => Err(object_store::Error::NotSupported {
                source: format!("the engine '{engine}' needs Linux or another Unix").into(),
            }),
        }
    }

    /// Page cache of all local files, read with `engine`; `None` for object_store's own.
    ///
    /// # Errors
    /// If the engine doesn't work here.
    #[cfg(unix)]
    pub fn page_cache(&self, engine: Engine) -> Result<Option<PageCache>> {
        Ok(match engine {
            Engine::ObjectStore => None,
            ours => Some(PageCache::of(self.files(ours)?)),
        })
    }

    /// Page cache of all local files: `None`.
    ///
    /// # Errors
    /// None.
    #[cfg(not(unix))]
    pub fn page_cache(&self, _: Engine) -> Result<Option<PageCache>> {
        Ok(None)
    }

    /// Store with one of this crate's own engines.
    ///
    /// # Errors
    /// [`Error::Generic`] if [`Engine::Uring`] is requested and doesn't work here, and for [`Engine::ObjectStore`].
    #[cfg(unix)]
    pub fn files(&self, engine: Engine) -> Result<UringFileSystem> {
        let start = |engine| {
            let options = Options { engine, ..self.options.clone() };
            UringFileSystem::with_options(LocalFileSystem::new(), options).map_err(Arc::new)
        };
        let auto = || self.auto.get_or_init(|| start(Engine::Auto));
        let started = match engine {
            Engine::Auto => auto(),
            Engine::Pread => self.pread.get_or_init(|| start(Engine::Pread)),
            Engine::Uring => self.uring.get_or_init(|| match auto() {
                // The engine that already runs is io_uring.
                Ok(files) if files.engine() == Engine::Uring => Ok(files.clone()),
                _ => start(Engine::Uring),
            }),
            Engine::ObjectStore => &start(engine),
        };
        started.clone().map_err(|source| Error::Generic { store: STORE, source: Box::new(source) })
    }
}
