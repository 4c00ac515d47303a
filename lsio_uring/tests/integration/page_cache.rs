//! When reads fill the page cache, by counts of the engine.

use std::{fs, path::Path as FilePath};

use lsio_uring::{Access, Counts, Engine, Options, UringFileSystem};
use object_store::{ObjectStoreExt as _, path::Path};
use tempfile::TempDir;

use super::store;

const BYTES: u64 = 6 << 20;

/// A file outside the page cache; `None` where the drive's files can't be read past it.
async fn cold_file(name: &str) -> Option<TempDir> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join(name);
    fs::write(&path, vec![7; BYTES as usize]).unwrap();
    evict(&path);
    let never = open(directory.path(), Access::Never, None);
    let counts = read(&never, name).await;
    if counts.direct_bytes == BYTES {
        return Some(directory);
    }
    eprintln!("SKIPPED: files can't be read past the page cache: {counts:?}");
    None
}

fn evict(path: &FilePath) {
    let file = fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

fn open(directory: &FilePath, access: Access, runtime: Option<&FilePath>) -> UringFileSystem {
    let mut options = Options::default();
    options.engine = Engine::Pread;
    options.access = access;
    options.runtime_directory = runtime.map(FilePath::to_owned);
    options.page_cache_bytes = Some(4 * BYTES);
    store(directory, &options).unwrap()
}

/// Counts of reading an object.
async fn read(store: &UringFileSystem, name: &str) -> Counts {
    let before = store.counts();
    let bytes = store.get(&Path::from(name)).await.unwrap().bytes().await.unwrap();
    assert!(bytes.len() as u64 == BYTES && bytes.iter().all(|&byte| byte == 7));
    let mut counts = store.counts();
    counts.direct_bytes -= before.direct_bytes;
    counts.buffered_bytes -= before.buffered_bytes;
    counts.cached_bytes -= before.cached_bytes;
    counts
}

fn ways(counts: Counts) -> [u64; 3] {
    [counts.direct_bytes, counts.buffered_bytes, counts.cached_bytes]
}

const PAST: [u64; 3] = [BYTES, 0, 0];
const FILLED: [u64; 3] = [0, BYTES, 0];
const CACHED: [u64; 3] = [0, 0, BYTES];

#[tokio::test]
async fn the_second_read_fills_and_the_third_copies() {
    let Some(directory) = cold_file("f").await else { return };
    let path = directory.path().join("f");
    let runtime = tempfile::tempdir().unwrap();
    let auto = || open(directory.path(), Access::Auto, Some(runtime.path()));
    assert_eq!(ways(read(&auto(), "f").await), PAST);
    // Another engine, as of another process.
    assert_eq!(ways(read(&auto(), "f").await), FILLED);
    assert_eq!(ways(read(&auto(), "f").await), CACHED);

    // Another version of the file.
    fs::write(&path, vec![7; BYTES as usize]).unwrap();
    evict(&path);
    let alone = open(directory.path(), Access::Auto, None);
    for store in [auto(), alone] {
        assert_eq!(ways(read(&store, "f").await), PAST);
    }
    assert_eq!(ways(read(&auto(), "f").await), FILLED);
}

#[tokio::test]
async fn settings_always_fill_or_never() {
    let Some(directory) = cold_file("f").await else { return };
    let path = directory.path().join("f");
    let store = open(directory.path(), Access::Never, None);
    for _ in 0..3 {
        assert_eq!(ways(read(&store, "f").await), PAST);
    }
    // What is in the page cache is read from there in any case.
    assert_eq!(ways(read(&store.with_access(Access::Fill), "f").await), FILLED);
    for access in [Access::Fill, Access::Never, Access::Auto] {
        assert_eq!(ways(read(&store.with_access(access), "f").await), CACHED);
    }
    evict(&path);
    assert_eq!(ways(read(&store.with_access(Access::Fill), "f").await), FILLED);
}

#[tokio::test]
async fn a_scan_of_more_than_the_memory_leaves_the_page_cache_alone() {
    let Some(directory) = cold_file("hot").await else { return };
    let names: Vec<String> = (0..12).map(|number| format!("f{number}")).collect();
    for name in &names {
        let path = directory.path().join(name);
        fs::write(&path, vec![7; BYTES as usize]).unwrap();
        evict(&path);
    }
    let store = open(directory.path(), Access::Auto, None);
    for expected in [PAST, FILLED, CACHED] {
        assert_eq!(ways(read(&store, "hot").await), expected);
    }
    // Three times what the page cache may be filled with, three times.
    for _ in 0..3 {
        for name in &names {
            assert_eq!(ways(read(&store, name).await), PAST, "{name}");
        }
    }
    assert_eq!(ways(read(&store, "hot").await), CACHED);
    // A part of it that the memory holds.
    for expected in [PAST, FILLED, CACHED] {
        for name in &names[..3] {
            assert_eq!(ways(read(&store, name).await), expected, "{name}");
        }
    }
}
