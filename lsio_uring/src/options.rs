//! Options for reading local files.

use std::{fmt, path::PathBuf, str::FromStr, thread};

/// Engine that reads local files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    /// io_uring where it works, else [`Engine::Pread`].
    #[default]
    Auto,
    /// io_uring, and an error where it doesn't work.
    Uring,
    /// `pread(2)` on a few threads, into the same memory.
    Pread,
    /// object_store's own [`LocalFileSystem`](object_store::local::LocalFileSystem), for comparison.
    ObjectStore,
}

impl Engine {
    /// Names of the engines, for [`Engine::from_str`].
    pub const NAMES: [&str; 4] = ["auto", "uring", "pread", "object_store"];
}

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        match name {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "pread" => Ok(Self::Pread),
            "object_store" => Ok(Self::ObjectStore),
            _ => Err(UnknownEngine { name: name.to_owned() }),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Pread => "pread",
            Self::ObjectStore => "object_store",
        })
    }
}

/// A name without an engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no I/O engine '{name}': LSIO_IO_ENGINE and the setting lsio.io_engine take one of {}",
    Engine::NAMES.join(", ")
)]
pub struct UnknownEngine {
    /// The unknown name.
    pub name: String,
}

/// When reads go past the page cache (`O_DIRECT`), and when they fill it.
///
/// With the first three, bytes that the kernel reports in the page cache are copied from there, and small reads go
/// through it. They differ in what happens to other bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Access {
    /// Past the page cache at the first read, so that a scan of more than the memory costs others nothing. Through it at
    /// the second read of the same bytes, if that comes within an hour and the free memory holds all that was read in
    /// between: from then on they are there. See [`Options::runtime_directory`].
    #[default]
    Auto,
    /// Through the page cache, so that the next read finds the bytes there.
    Fill,
    /// Past the page cache.
    Never,
    /// Always past the page cache, even if the bytes are there, where the file system allows that.
    Direct,
    /// Always through the page cache, whose state isn't asked.
    Buffered,
}

impl Access {
    /// Names for [`Access::from_str`].
    pub const NAMES: [&str; 3] = ["auto", "fill", "never"];
}

impl FromStr for Access {
    type Err = UnknownAccess;

    fn from_str(name: &str) -> Result<Self, UnknownAccess> {
        match name {
            "auto" => Ok(Self::Auto),
            "fill" => Ok(Self::Fill),
            "never" => Ok(Self::Never),
            _ => Err(UnknownAccess { name: name.to_owned() }),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Fill => "fill",
            Self::Never => "never",
            Self::Direct => "direct",
            Self::Buffered => "buffered",
        })
    }
}

/// A name without a use of the page cache.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the page cache can't be used as '{name}': the setting lsio.page_cache takes one of {}",
    Access::NAMES.join(", ")
)]
pub struct UnknownAccess {
    /// The unknown name.
    pub name: String,
}

/// Settings of a [`UringFileSystem`](super::UringFileSystem)'s engine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The engine. [`Engine::ObjectStore`] is an error here.
    pub engine: Engine,
    /// When reads go past the page cache.
    pub access: Access,
    /// Number of threads with a ring each. One is enough for 5 GB/s and more.
    pub rings: usize,
    /// Upper bound on threads for calls that may wait: opening files, copies from the page cache, and with
    /// [`Engine::Pread`] all reads. Threads are started on demand.
    pub threads: usize,
    /// Upper bound in bytes on a ring's reads in flight.
    pub in_flight_bytes: usize,
    /// Upper bound in bytes on the pool of memory, rounded up to arenas of 32 MiB. The pool starts empty, and doesn't
    /// shrink.
    pub pool_bytes: usize,
    /// Number of files that stay open for further reads, at least one.
    pub open_files: usize,
    /// Directory for what [`Access::Auto`] remembers of reads, so that a second read by another process is one: a table
    /// of up to 4 MiB in `lsio-UID`, which must be the user's alone. Without one, or if it can't be used, each engine
    /// remembers its own reads.
    pub runtime_directory: Option<PathBuf>,
    /// Bytes that [`Access::Auto`] fills the page cache with; by default the free memory, and half of what the system
    /// could free, within the limits of the process's container.
    pub page_cache_bytes: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        Self {
            engine: Engine::Auto,
            access: Access::Auto,
            rings: 1,
            threads: cores.max(16),
            in_flight_bytes: 16 << 20,
            pool_bytes: (128 << 20).max(cores * (24 << 20)),
            open_files: 64,
            runtime_directory: None,
            page_cache_bytes: None,
        }
    }
}
