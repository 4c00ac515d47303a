//! Local files at the speed of the drive: an [`ObjectStore`] on io_uring.
//!
//! [`UringFileSystem`] replaces object_store's [`LocalFileSystem`](object_store::local::LocalFileSystem) for reading
//! local files: names, listings, writes and errors are the same. It needs no asynchronous runtime.
//!
//! ```
//! use lsio_uring::UringFileSystem;
//! use object_store::{ObjectStore as _, ObjectStoreExt as _, path::Path};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let file = directory.path().join("file");
//! # std::fs::write(&file, "some bytes")?;
//! let store = UringFileSystem::new()?;
//! println!("Local files are read with {}.", store.engine()); // uring, or pread where that doesn't work
//!
//! let file = Path::from_absolute_path(&file)?;
//! let bytes = store.get(&file).await?.bytes().await?;
//! assert_eq!(&bytes[..], b"some bytes");
//!
//! // Near ranges become one read, and many reads are under way at once.
//! let words = store.get_ranges(&file, &[0..4, 5..10]).await?;
//! assert_eq!(words, ["some", "bytes"]);
//! # Ok(())
//! # }
//! ```
//!
//! [`UringFileSystem::with_options`] sets the engine ([`Engine`]), the memory, the threads, and when reads bypass the
//! page cache ([`Access`]); [`Engines`] has one store per engine. On systems other than Linux, and where io_uring is
//! forbidden, a few threads with `pread(2)` do the same; on systems other than Unix [`store`] returns `LocalFileSystem`.
//!
//! # How a read goes
//!
//! ```text
//! get, get_ranges, stream_ranges               store.rs
//!    │  open, or find open: in the task if      files.rs
//!    │  the directory entry is in memory, else
//!    │  in a worker
//!    ▼
//! ranges → spans: merged, split                 plan.rs
//!    │  is it in the page cache?                ways.rs, residency.rs
//!    │  is it to be filled?                     admission.rs, ghosts.rs, free_memory.rs
//!    ▼
//! as many as the window allows                  reads.rs
//!    ├─ yes, small: copied by the task
//!    ├─ yes, or to be: copied by a worker       workers.rs
//!    └─ no:  the ring's thread, by turns ─────  driver.rs (fair.rs, ring.rs)
//!            or without io_uring a worker       engine.rs
//!    ▼
//! memory of the pool → Bytes                    buffers.rs
//!    ▼
//! the caller's mailbox                          mailbox.rs
//! ```
//!
//! Three things make reads fast where the drive is the limit: bypassing the page cache saves a copy and the cache's own
//! work, reused huge pages save page faults and pinning, and many reads in flight keep a drive busy. io_uring alone
//! gains little; it keeps the processor free.

use std::sync::Arc;

use object_store::{ObjectStore, Result};

mod engines;
mod options;
#[cfg(unix)]
mod page_cache;

#[cfg(unix)]
mod admission;
#[cfg(unix)]
mod buffers;
#[cfg(unix)]
mod counters;
#[cfg(target_os = "linux")]
mod driver;
#[cfg(unix)]
mod engine;
#[cfg(unix)]
mod error;
#[cfg(unix)]
mod fair;
#[cfg(unix)]
mod files;
#[cfg(unix)]
mod free_memory;
#[cfg(unix)]
mod ghosts;
#[cfg(unix)]
mod handover;
#[cfg(unix)]
mod mailbox;
#[cfg(unix)]
mod plan;
#[cfg(unix)]
mod reads;
#[cfg(unix)]
mod residency;
#[cfg(target_os = "linux")]
mod ring;
#[cfg(all(test, target_os = "linux"))]
mod simulated;
#[cfg(unix)]
mod small;
#[cfg(unix)]
mod store;
#[cfg(unix)]
mod ways;
#[cfg(unix)]
mod workers;

pub use engines::Engines;
pub use options::{Access, Engine, Options, UnknownAccess, UnknownEngine};
#[cfg(unix)]
pub use {
    buffers::is_read_memory, counters::Counts, page_cache::CachedFile, small::SmallFile,
    store::UringFileSystem,
};

/// Whether bytes lie in memory for reads, which a forked process doesn't have: there is none here.
#[cfg(not(unix))]
#[must_use]
pub fn is_read_memory(_: &[u8]) -> bool {
    false
}

/// Page cache of all local files. Always empty on systems other than Unix.
#[derive(Clone, Debug)]
pub struct PageCache {
    #[cfg(unix)]
    files: UringFileSystem,
}

/// Outcome of a read of a small file: always unknown here.
#[cfg(not(unix))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmallFile {
    /// The whole file is in the buffer: this many bytes.
    Read(usize),
    /// There is no such file.
    Absent,
    /// Unknown.
    Unknown,
}

/// A file in the page cache: never exists here.
#[cfg(not(unix))]
#[derive(Clone, Debug)]
pub enum CachedFile {}

impl PageCache {
    /// Page cache of all local files, with the process's shared engines; `None` if `engine` is object_store's own.
    ///
    /// # Errors
    /// If the engine doesn't work here.
    pub fn new(engine: Engine) -> Result<Option<Self>> {
        Engines::shared().page_cache(engine)
    }

    #[cfg(unix)]
    fn of(files: UringFileSystem) -> Self {
        Self { files }
    }

    /// Opens an object, if that needs no waiting.
    #[must_use]
    #[cfg(unix)]
    pub fn open(&self, location: &object_store::path::Path) -> Option<CachedFile> {
        self.files.open_cached(location)
    }

    /// Reads a whole object of less than `buffer`'s bytes, if the page cache has all of it.
    #[must_use]
    #[cfg(unix)]
    pub fn read_small(&self, location: &object_store::path::Path, buffer: &mut [u8]) -> SmallFile {
        self.files.read_small(location, buffer)
    }

    /// Reads a whole object: always unknown.
    #[must_use]
    #[cfg(not(unix))]
    pub fn read_small(&self, _: &object_store::path::Path, _: &mut [u8]) -> SmallFile {
        SmallFile::Unknown
    }

    /// Opens an object: always `None`.
    #[must_use]
    #[cfg(not(unix))]
    pub fn open(&self, _: &object_store::path::Path) -> Option<CachedFile> {
        None
    }
}

#[cfg(not(unix))]
impl CachedFile {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match *self {}
    }

    /// Whether the file is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match *self {}
    }

    /// Whether all bytes of a range are in the page cache.
    #[must_use]
    pub fn is_cached(&self, _: &std::ops::Range<u64>) -> bool {
        match *self {}
    }

    /// Reads bytes from an offset on.
    ///
    /// # Errors
    /// None.
    pub fn read_at(&self, _: u64, _: &mut [u8]) -> std::io::Result<()> {
        match *self {}
    }
}

/// Object store that reads all local files with `engine`, one of the process's shared engines.
///
/// # Errors
/// Those of [`Engines::store`].
pub fn store(engine: Engine) -> Result<Arc<dyn ObjectStore>> {
    Engines::shared().store(engine, Access::Auto)
}
