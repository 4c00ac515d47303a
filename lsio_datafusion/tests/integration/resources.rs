//! Sessions with resources of their own, and the times that registered stores are waited for.

use std::{path::Path, sync::Arc, time::Duration};

use datafusion::prelude::SessionContext;
use lsio_core::{Environment, Resources, cache::DiskCache, uring::Engine};
use lsio_datafusion::prelude::*;
use lsio_test_servers::{Fault, Protocol};
use object_store::{ClientOptions, RetryConfig, http::HttpBuilder};
use serde_json::{Value, json};
use url::Url;

use crate::{
    harness::{config, json_rows},
    served::{Cube, cells, serve, url, value},
};

/// What a query gives, from just where it says.
async fn rows(ctx: &SessionContext, sql: &str) -> Result<Vec<Vec<Value>>, String> {
    let batches = async { ctx.query(sql).await?.collect().await };
    batches.await.map(|batches| json_rows(&batches)).map_err(|e| e.to_string())
}

fn session(resources: &Resources) -> SessionContext {
    SessionContext::new_with_config(config()).with_zarr_resources(resources.clone())
}

fn with_cache(directory: &Path, name: &str) -> Resources {
    let cache = DiskCache::open(directory.join(name), 64 << 20).unwrap();
    Resources::builder().with_cache(cache).build()
}

/// Resources with these variables and no others.
fn under(vars: &[(&str, &str)]) -> Resources {
    let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let environment = Environment { vars: vars.collect(), ..Environment::default() };
    Resources::builder().with_environment(environment).build()
}

async fn entries(resources: &Resources) -> u64 {
    let cache = resources.cache().unwrap().unwrap();
    cache.flush().await;
    cache.usage().entries
}

fn total(cube: &Cube) -> Vec<Vec<Value>> {
    let sum: f64 = cells(cube.shape).into_iter().map(|cell| f64::from(value(cell))).sum();
    vec![vec![json!(sum)]]
}

#[tokio::test]
async fn sessions_have_caches_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let cube = Cube::default();
    cube.write(&directory.path().join("cube.zarr"));
    let server = serve(directory.path(), Protocol::Http);
    let from = url(&server, Protocol::Http, "cube.zarr", "");
    let sql = format!("SELECT sum(t2m) FROM '{from}'");

    let scratch = tempfile::tempdir().unwrap();
    let [one, other, later] =
        ["one", "other", "later"].map(|name| with_cache(scratch.path(), name));
    let (first, second) = (session(&one), session(&other));
    assert_eq!(rows(&first, &sql).await.unwrap(), total(&cube));
    assert!(entries(&one).await > 0);
    assert_eq!(entries(&other).await, 0);
    second.register_zarr("cube", &from, OpenOptions::default()).await.unwrap();
    assert_eq!(rows(&second, "SELECT sum(t2m) FROM cube").await.unwrap(), total(&cube));
    assert_eq!(entries(&other).await, entries(&one).await);

    // A session that has been taught before takes others.
    let taught = SessionContext::new().with_zarr().with_zarr_resources(later.clone());
    assert_eq!(rows(&taught, &sql).await.unwrap(), total(&cube));
    assert_eq!(entries(&later).await, entries(&one).await);
}

#[tokio::test]
async fn sessions_have_engines_and_homes_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let cube = Cube::default();
    cube.write(&directory.path().join("cube.zarr"));
    let home = directory.path().to_str().unwrap();
    let engine = "SHOW lsio.io_engine";
    let shown = |engine: &str| vec![vec![json!("lsio.io_engine"), json!(engine)]];

    let at_home = session(&under(&[("HOME", home), ("LSIO_IO_ENGINE", "object_store")]));
    assert_eq!(rows(&at_home, engine).await.unwrap(), shown("object_store"));
    let sql = "SELECT sum(t2m) FROM '~/cube.zarr'";
    assert_eq!(rows(&at_home, sql).await.unwrap(), total(&cube));
    let pread = session(&Resources::builder().with_engine(Engine::Pread).build());
    assert_eq!(rows(&pread, engine).await.unwrap(), shown("pread"));
    rows(&pread, "SET lsio.io_engine = 'auto'").await.unwrap();
    assert_eq!(rows(&pread, engine).await.unwrap(), shown("auto"));
    assert_eq!(rows(&at_home, engine).await.unwrap(), shown("object_store"));
    assert!(rows(&session(&under(&[])), sql).await.is_err());

    // A mistake in a variable is told by what needs it, until a setting says better.
    let fast = session(&under(&[("LSIO_IO_ENGINE", "fast")]));
    assert_eq!(rows(&fast, engine).await.unwrap(), shown("fast"));
    let path = format!("{home}/cube.zarr");
    let error = rows(&fast, &format!("SELECT sum(t2m) FROM '{path}'")).await.unwrap_err();
    assert!(error.contains("LSIO_IO_ENGINE") && error.contains("'fast'"), "{error}");
    rows(&fast, "SET lsio.io_engine = 'auto'").await.unwrap();
    fast.register_zarr("cube", &path, OpenOptions::default()).await.unwrap();
    assert_eq!(rows(&fast, "SELECT sum(t2m) FROM cube").await.unwrap(), total(&cube));
    let error = rows(&fast, "SET lsio.resources = 'x'").await.unwrap_err();
    assert!(error.contains("there is no setting lsio.resources"), "{error}");
}

#[tokio::test]
async fn registered_stores_are_waited_for_as_the_options_say() {
    let directory = tempfile::tempdir().unwrap();
    let cube = Cube::default();
    cube.write(&directory.path().join("cube.zarr"));
    let server = serve(directory.path(), Protocol::Http);
    // A client that waits for ever, and never tries again.
    let client = ClientOptions::new().with_allow_http(true).with_timeout_disabled();
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let store = HttpBuilder::new().with_url(server.url()).with_client_options(client);
    let store = store.with_retry(retry).build().unwrap();
    let ctx = SessionContext::new_with_config(config()).with_zarr();
    ctx.register_object_store(&Url::parse("mine://b").unwrap(), Arc::new(store));
    let query = |options: &str| {
        let sql = format!("SELECT sum(t2m) FROM 'mine://b/cube.zarr?{options}'");
        let ctx = ctx.clone();
        async move {
            let running = tokio::time::timeout(Duration::from_secs(60), rows(&ctx, &sql));
            running.await.expect("the query hangs")
        }
    };

    for fault in [Fault::Hang, Fault::HangInBody(0.5)] {
        let _ = server.take_requests();
        server.set_faults(move |request| (request.number % 3 == 0).then_some(fault));
        assert_eq!(query("request_timeout=200ms").await.unwrap(), total(&cube), "{fault:?}");
        server.set_faults(move |_| Some(fault));
        let error = query("request_timeout=100ms").await.unwrap_err();
        assert!(error.contains("100ms (option request_timeout)"), "{error}");
        let error = query("deadline=300ms").await.unwrap_err();
        assert!(error.contains("option deadline"), "{error}");
    }
}
