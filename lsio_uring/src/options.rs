//! How local files are read.

use std::{fmt, str::FromStr, thread};

/// Which engine reads local files.
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
    /// The names of the engines, as [`Engine::from_str`] takes them.
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

/// A name that no engine has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no I/O engine '{name}': LSIO_IO_ENGINE and the setting lsio.io_engine take one of {}",
    Engine::NAMES.join(", ")
)]
pub struct UnknownEngine {
    /// The name.
    pub name: String,
}

/// When reads go past the page cache (`O_DIRECT`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Each read as is best for it: from the page cache if the kernel says that it is there, through
    /// it if it is small, and else past it.
    #[default]
    Auto,
    /// Always past it, where the file system allows that.
    Direct,
    /// Always through it.
    Buffered,
}

/// Settings of a [`UringFileSystem`](super::UringFileSystem)'s engine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The engine. [`Engine::ObjectStore`] is none of ours, and an error here.
    pub engine: Engine,
    /// When reads go past the page cache.
    pub access: Access,
    /// The threads with a ring each. One is enough for 5 GB/s and more.
    pub rings: usize,
    /// The most threads for what may wait: opening files, copies out of the page cache, and with
    /// [`Engine::Pread`] all reads. They are started when they are needed.
    pub threads: usize,
    /// The bytes of the reads that a ring has under way.
    pub in_flight_bytes: usize,
    /// The bytes that the pool of memory may grow to, rounded up to arenas of 32 MiB. It starts
    /// empty, and doesn't shrink.
    pub pool_bytes: usize,
    /// The files that stay open for further reads, at least one.
    pub open_files: usize,
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
        }
    }
}
