//! The store for local files: in each engine and mode, on a drive and in memory.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests: they fail by panicking"
)]

mod conformance;
mod differential;
#[cfg(target_os = "linux")]
mod page_cache;
#[cfg(target_os = "linux")]
mod restricted;

use std::path::Path;

use lsio_uring::{Access, Engine, Options, UringFileSystem};
use object_store::local::LocalFileSystem;
use tempfile::TempDir;

/// The ways of reading, each of which has to give the same.
pub(crate) fn modes() -> Vec<Options> {
    let mut modes = Vec::new();
    for engine in [Engine::Uring, Engine::Pread] {
        for access in [Access::Auto, Access::Fill, Access::Direct, Access::Buffered] {
            let mut options = Options::default();
            options.engine = engine;
            options.access = access;
            // Small, so that tests meet its limits.
            options.pool_bytes = 64 << 20;
            options.threads = 4;
            modes.push(options);
        }
    }
    if let Err(error) = store(Path::new("/"), &modes[0]) {
        eprintln!("SKIPPED all tests of io_uring: {error}");
        modes.retain(|options| options.engine == Engine::Pread);
    }
    modes
}

/// Directories on a drive and, where there is one, in memory.
pub(crate) fn directories() -> Vec<TempDir> {
    let mut directories = vec![tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()];
    match tempfile::tempdir_in("/dev/shm") {
        Ok(directory) => directories.push(directory),
        Err(error) => eprintln!("SKIPPED tests in /dev/shm: {error}"),
    }
    directories
}

pub(crate) fn store(directory: &Path, options: &Options) -> object_store::Result<UringFileSystem> {
    let local = LocalFileSystem::new_with_prefix(directory)?;
    UringFileSystem::with_options(local, options.clone())
}
