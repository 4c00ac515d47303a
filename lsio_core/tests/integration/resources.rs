//! Resources that a program makes: each has what it was given, and sees nothing of the others.

use std::{fs, num::NonZero, path::PathBuf};

use lsio_core::{
    Environment, Location, OpenOptions, Resources,
    cache::DiskCache,
    cloud::Opened,
    object_store::ObjectStoreExt as _,
    uring::{Engine, Options},
};
use lsio_test_servers::{Protocol, Server};
use tempfile::TempDir;
use url::Url;

/// The bytes of the object `file`: several frames of a body.
const BYTES: usize = 1 << 20;

/// A directory with the object, and its server.
fn served() -> (TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), vec![7; BYTES]).unwrap();
    let server = Server::builder(directory.path()).protocol(Protocol::Http).start().unwrap();
    (directory, server)
}

async fn open(server: &Server, resources: &Resources) -> Opened {
    let url = Url::parse(&format!("{}/file", server.url())).unwrap();
    resources.open_store(&url, &OpenOptions::default()).await.unwrap()
}

/// Reads the object, and waits until it is in the cache, if there is one.
async fn read(server: &Server, resources: &Resources) {
    let opened = open(server, resources).await;
    let bytes = opened.store.get(&opened.path).await.unwrap().bytes().await.unwrap();
    assert_eq!(bytes, vec![7; BYTES]);
    if let Some(cache) = resources.cache().unwrap() {
        cache.flush().await;
    }
}

fn entries(resources: &Resources) -> u64 {
    resources.cache().unwrap().map_or(0, |cache| cache.usage().entries)
}

/// Resources with these variables and no others.
fn under(vars: &[(&str, &str)]) -> Resources {
    let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let environment = Environment { vars: vars.collect(), ..Environment::default() };
    Resources::builder().with_environment(environment).build()
}

#[tokio::test]
async fn caches_are_apart() {
    let (_files, server) = served();
    let scratch = tempfile::tempdir().unwrap();
    let with = |name: &str| {
        let cache = DiskCache::open(scratch.path().join(name), 64 << 20).unwrap();
        Resources::builder().with_cache(cache).build()
    };
    let (one, other) = (with("one"), with("other"));
    let none = Resources::builder().without_cache().build();
    read(&server, &none).await;
    assert!(none.cache().unwrap().is_none());
    read(&server, &one).await;
    assert_eq!((entries(&one), entries(&other)), (1, 0));
    read(&server, &other).await;
    assert_eq!((entries(&one), entries(&other)), (1, 1));
    assert_eq!(one.cache_directory().unwrap(), scratch.path().join("one"));

    // Clones share, and a copy spares the bytes.
    let _ = server.take_requests();
    read(&server, &one.with_engine(Engine::Pread)).await;
    let requests = server.take_requests();
    assert!(requests.iter().all(|request| request.bytes < BYTES as u64), "{requests:?}");
}

#[tokio::test]
async fn variables_ask_for_a_cache_where_nothing_else_does() {
    let (_files, server) = served();
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().to_str().unwrap();
    let vars = [("LSIO_CACHE_BYTES", "64m"), ("LSIO_CACHE_DIR", directory)];
    let asked = under(&vars);
    read(&server, &asked).await;
    assert_eq!(entries(&asked), 1);
    assert_eq!(asked.cache().unwrap().unwrap().max_bytes(), 64 << 20);
    for off in [&[][..], &[("LSIO_CACHE_BYTES", "0")], &[("LSIO_CACHE_BYTES", "")]] {
        assert!(under(off).cache().unwrap().is_none(), "{off:?}");
    }

    let home = |vars: &[(&str, &str)]| {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let home = Some(PathBuf::from("/h"));
        let environment = Environment { vars: vars.collect(), home, ..Environment::default() };
        Resources::builder().with_environment(environment).build().cache_directory().unwrap()
    };
    assert_eq!(home(&vars), scratch.path());
    assert_eq!(home(&[("XDG_CACHE_HOME", "/x")]), PathBuf::from("/x/lsio"));
    assert_eq!(home(&[]), PathBuf::from("/h/.cache/lsio"));
    let error = under(&[]).cache_directory().unwrap_err().to_string();
    assert!(error.contains("no home directory") && error.contains("LSIO_CACHE_DIR"), "{error}");
}

#[cfg(unix)]
#[test]
fn directories_need_not_be_unicode() {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

    let name = OsString::from_vec(b"/scratch/\xe9".to_vec());
    let environment = Environment {
        other_vars: [("LSIO_CACHE_DIR".to_owned(), name.clone())].into(),
        ..Environment::default()
    };
    let resources = Resources::builder().with_environment(environment).build();
    assert_eq!(resources.cache_directory().unwrap(), PathBuf::from(name));
}

#[tokio::test]
async fn mistakes_in_variables_are_told_by_what_needs_them() {
    let (files, server) = served();
    let path = files.path().join("file");
    let path = path.to_str().unwrap();
    let fast = under(&[("LSIO_IO_ENGINE", "fast")]);
    let error = Location::parse_in(path, &fast).unwrap_err().to_string();
    assert!(error.contains("LSIO_IO_ENGINE") && error.contains("'fast'"), "{error}");
    assert!(error.contains(path), "{error}");
    read(&server, &fast).await;
    assert!(Location::parse_in(path, &fast.with_engine(Engine::Auto)).is_ok());

    let much = under(&[("LSIO_CACHE_BYTES", "much")]);
    assert!(Location::parse_in(path, &much).is_ok());
    let url = Url::parse(&format!("{}/file", server.url())).unwrap();
    let error = much.open_store(&url, &OpenOptions::default()).await.unwrap_err().to_string();
    assert!(error.contains("LSIO_CACHE_BYTES") && error.contains("'much'"), "{error}");
    let error = much.cache().unwrap_err().to_string();
    assert!(error.contains("LSIO_CACHE_BYTES") && error.contains("'much'"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn engines_are_apart() {
    let (files, _server) = served();
    let path = files.path().join("file");
    let path = path.to_str().unwrap();
    let mut options = Options::default();
    options.pool_bytes = 32 << 20;
    let own = Resources::builder().with_engine(Engine::Pread).with_engine_options(options).build();
    let other = Resources::builder().with_engine(Engine::ObjectStore).build();
    assert_eq!(under(&[("LSIO_IO_ENGINE", "pread")]).engine(), Ok(Engine::Pread));
    assert_eq!(under(&[]).engine(), Ok(Engine::Auto));

    let reads = |resources: &Resources| {
        let counts = resources.engines().files(Engine::Pread).unwrap().counts();
        counts.direct_reads + counts.buffered_reads + counts.cached_reads
    };
    let before = (reads(&own), reads(&other));
    for resources in [&own, &other] {
        let location = Location::parse_in(path, resources).unwrap();
        let bytes = location.store().get(location.path()).await.unwrap().bytes().await.unwrap();
        assert_eq!(bytes.len(), BYTES);
    }
    // Nobody else in this process reads with the second's.
    assert!(reads(&own) > before.0);
    assert_eq!(reads(&other), before.1);
}

#[tokio::test]
async fn bodies_outlive_the_resources_that_opened_them() {
    let (_files, server) = served();
    let threads = NonZero::new(1).unwrap();
    let resources = Resources::builder().with_network_threads(threads).build();
    let opened = open(&server, &resources).await;
    let response = opened.store.get(&opened.path).await.unwrap();
    drop((opened, resources));
    assert_eq!(response.bytes().await.unwrap().len(), BYTES);
}
