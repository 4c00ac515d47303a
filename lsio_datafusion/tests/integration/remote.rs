//! The tests of this binary once more, with their stores behind servers: S3, and HTTP without
//! listings.
//!
//! Each server runs here, and the tests in a process of their own that is told its address by the
//! environment, as users do. `LSIO_REMOTE_TESTS=times:: cargo test --workspace over_s3` runs those
//! alone whose names contain that, and `LSIO_REMOTE_ALL=1` tries as many cases as there are locally.

use std::{
    env, fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    thread::{available_parallelism, sleep},
    time::{Duration, Instant},
};

use datafusion::prelude::SessionContext;
use lsio_datafusion::prelude::*;
use lsio_synthetic::write::{Compression, GroupWriter, SyntheticArray};
use lsio_test_servers::{ACCESS_KEY, BUCKET, Protocol, SECRET_KEY, Server};
use serde_json::json;
use url::Url;

use crate::{
    harness::{config, query, rows, session},
    storage::{Answered, NOTES, ROOT},
};

/// Tests, or modules of them, that say nothing of stores behind a server.
const LOCAL_ONLY: &[(&str, &str)] = &[
    ("remote::", "they run the others"),
    ("calendars::bins_of_a_zone_are_local_days", "of a store that must be listed"),
    ("calendars::seconds_are_copied_as_times", "of a store that must be listed"),
    ("calendars::times_out_of_range_are_null", "of a store that must be listed"),
    ("calendars::windows_are_ordered_by_durations", "of a store that must be listed"),
    ("comparisons::", "of stores that must be listed"),
    ("everyday::", "of a parser and a planner, and of files"),
    ("examples::", "programs that write their own stores"),
    ("explains::", "of the plans' words, which name a local store"),
    ("faults::", "they have servers of their own"),
    ("formats::", "of a format of its own"),
    ("front_door::power_in_datafusions_own_sql", "of a parser"),
    ("pushed_errors::", "of messages that name no store"),
    ("looked_up::", "of a local store beside files"),
    ("quantiles::fractions_are_constants_from_0_to_1", "of a planner"),
    ("quantiles::fractions_of_quantiles_are_exact", "of rows in memory"),
    ("quantiles::medians_roll", "of rows in memory"),
    ("reads::", "they watch a store of their own"),
    ("resources::", "they have servers of their own"),
    ("round_trips::", "they have servers of their own"),
    ("statistics::texts_are_not_summed", "of a planner"),
    ("statistics::weights_of_missing_values_are_noted", "of notes on local stores"),
    ("sessions::stores_of_other_object_stores", "of a store in memory"),
    ("sessions::the_engine_for_local_files", "of files"),
    ("words::means_of_pairs_keep_infinities", "of rows in memory"),
    ("words::of_numbers", "of rows in memory"),
    ("words::of_samples", "of rows in memory"),
    ("words::quantiles_of_times_and_in_lists", "of rows in memory"),
    ("written::", "they write local stores"),
    ("small_chunks::", "of stores that are counted, or must be listed"),
    ("small_groups::a_memory_limit_is_obeyed", "of a session of its own"),
    ("small_groups::buckets_are_those_of_postgresql", "of rows in memory"),
    ("specifications::", "of local files that another process opens"),
    ("sweep::", "of a planner, with thousands of queries"),
];

/// The longest time that the tests may take. More is a hang.
const LONGEST: Duration = Duration::from_secs(40 * 60);

/// The least share of the queries that HTTP must have answered: the others ask for stores that must be
/// listed.
const LEAST_SHARE: f64 = 0.9;

#[test]
fn over_s3() {
    let (remotely, locally) = run(Protocol::S3);
    assert!(remotely > 0 && locally == 0, "{remotely} queries answered by S3, {locally} not");
}

#[test]
fn over_http_without_listings() {
    let (remotely, locally) = run(Protocol::Http);
    let share = remotely as f64 / (remotely + locally) as f64;
    assert!(share >= LEAST_SHARE, "{remotely} queries answered by HTTP, {locally} not");
}

/// Runs the tests, and gives how many queries were answered by the server and how many by local files.
fn run(protocol: Protocol) -> (usize, usize) {
    let tests = tests();
    let directory = tempfile::tempdir().unwrap();
    let [notes, output] = ["notes", "output"].map(|name| directory.path().join(name));
    fs::write(&notes, "").unwrap();
    let server = Server::builder("/").protocol(protocol).start().unwrap();

    let start = Instant::now();
    let file = fs::File::create(&output).unwrap();
    let mut child = this_binary();
    // On a single thread tests would have no threads that bear their names.
    let threads = available_parallelism().map_or(2, |threads| threads.get().max(2));
    child
        .arg(format!("--test-threads={threads}"))
        .arg("--exact")
        .args(&tests)
        .stdout(file.try_clone().unwrap())
        .stderr(file);
    child.env(NOTES, &notes);
    match protocol {
        Protocol::Http => child.env(ROOT, server.url()),
        Protocol::S3 => child
            .env(ROOT, format!("s3://{BUCKET}"))
            .env("AWS_ENDPOINT_URL", server.url())
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
    };
    let mut child = child.spawn().unwrap();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if start.elapsed() < LONGEST => sleep(Duration::from_millis(100)),
            None => {
                child.kill().unwrap();
                break child.wait().unwrap();
            }
        }
    };
    let output = fs::read_to_string(&output).unwrap();
    assert!(status.success(), "{protocol:?}: {status}\n{output}");
    assert!(output.contains(&format!("{} passed; 0 failed; 0 ignored", tests.len())), "{output}");

    let notes = fs::read_to_string(&notes).unwrap();
    let noted: Vec<(&str, &str)> =
        notes.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let is = |noted: &str, answered: Answered| noted == format!("{answered:?}");
    let asks = |test: &str| {
        let mut own = noted.iter().filter(|(name, _)| *name == test);
        own.any(|(_, at)| is(at, Answered::Remotely) || is(at, Answered::Nowhere))
    };
    let idle: Vec<_> = tests.iter().filter(|test| !asks(test)).collect();
    assert!(idle.is_empty(), "{protocol:?}: these ask nothing of the server: {idle:?}");
    let count = |answered| noted.iter().filter(|(_, at)| is(at, answered)).count();
    let (remotely, locally) = (count(Answered::Remotely), count(Answered::Locally));
    // Also where the test succeeds and its output is captured.
    let requests = server.take_requests().len();
    let said = format!(
        "{protocol:?}: {} tests, {remotely} queries by {requests} requests and {locally} local ones, {:.0?}\n",
        tests.len(),
        start.elapsed()
    );
    std::io::stderr().write_all(said.as_bytes()).unwrap();
    (remotely, locally)
}

/// The names of the tests that are to be run: all but [`LOCAL_ONLY`].
fn tests() -> Vec<String> {
    let list = this_binary().args(["--list", "--format=terse"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let all: Vec<&str> = list.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let is =
        |test: &str, name: &str| test == name || (name.ends_with("::") && test.starts_with(name));
    for (name, _) in LOCAL_ONLY {
        assert!(all.iter().any(|test| is(test, name)), "there is no {name}");
    }
    let mut tests: Vec<String> = all.into_iter().map(str::to_owned).collect();
    tests.retain(|test| !LOCAL_ONLY.iter().any(|(name, _)| is(test, name)));
    if let Ok(part) = env::var("LSIO_REMOTE_TESTS") {
        tests.retain(|test| test.contains(&part));
    }
    // Without names it would be all, these here among them.
    assert!(!tests.is_empty(), "no such tests");
    tests
}

/// This program, in an environment that says nothing of S3 or the network.
fn this_binary() -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    for (name, _) in env::vars_os() {
        let upper = name.to_string_lossy().to_ascii_uppercase();
        if upper.starts_with("AWS_") || upper.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command
        .env("AWS_CONFIG_FILE", "/nothing")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nothing")
        .stdin(Stdio::null());
    command
}

/// The names of a store and its arrays, all of which URLs have to encode.
const STORE: &str = "a b%20ü?dims=x#1+&=;.zarr";
const ARRAYS: [&str; 4] = ["temp é", "100%", "a%2Fb", "x?y#z&"];

fn write(path: &Path) {
    let group = GroupWriter::create(path, json!({})).unwrap();
    for (number, name) in [1.0, 2.0, 3.0, 4.0].into_iter().zip(ARRAYS) {
        let spec = SyntheticArray {
            name,
            data_type: "float64",
            dims: &[("y", 2), ("x", 3)],
            chunks: &[1, 2],
            shards: None,
            compression: Compression::Zstd(1),
            fill_value: json!(0.5),
            attributes: json!({}),
        };
        // The other three chunks aren't stored.
        group.array(&spec).unwrap().write(&[0, 0], &[number; 2]).unwrap();
    }
    group.consolidate().unwrap();
}

fn encoded(root: &str, names: &[&str]) -> String {
    let mut url = Url::parse(root).unwrap();
    url.path_segments_mut().unwrap().extend(names);
    url.into()
}

async fn assert_sums(ctx: &SessionContext, store: &str, options: &str) {
    let sums: Vec<_> = ARRAYS.iter().map(|name| format!("sum(\"{name}\")")).collect();
    let sums = rows(ctx, &format!("SELECT {} FROM '{store}{options}'", sums.join(", "))).await;
    assert_eq!(json!(sums.unwrap()), json!([[4.0, 6.0, 8.0, 10.0]]), "{store}");
    for (number, name) in [1.0, 2.0, 3.0, 4.0].into_iter().zip(ARRAYS) {
        let store = encoded(store, &[name]);
        let sql = format!("SELECT sum(\"{name}\") FROM '{store}{options}' WHERE x < 2 AND y < 1");
        assert_eq!(rows(ctx, &sql).await.unwrap(), [[json!(2.0 * number)]], "{store}");
    }
}

/// The session knows nothing of the server but what the queries say.
#[tokio::test]
async fn options_of_queries_name_the_server() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory.path().join(STORE));
    let server = Server::builder(directory.path()).start().unwrap();
    let ctx = session(config());
    let store = encoded(&format!("s3://{BUCKET}"), &[STORE]);
    let options = [
        ("aws.endpoint", server.url()),
        ("aws.access_key_id", ACCESS_KEY.to_owned()),
        ("aws.secret_access_key", SECRET_KEY.to_owned()),
    ];
    let behind: Vec<_> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let behind = format!("?{}", behind.join("&"));
    assert_sums(&ctx, &store, &behind).await;
    for sql in [
        format!("SELECT * FROM '{store}{behind}&dims=x,y' ORDER BY x, y"),
        format!("SELECT * FROM '{store}{behind}&consolidated=false&dims=x,y' ORDER BY x, y"),
    ] {
        let rows = rows(&ctx, &sql).await.unwrap();
        assert_eq!(json!(rows[1]), json!([0, 1, 0.5, 0.5, 0.5, 0.5]), "{sql}");
    }

    let given: Vec<_> = options.iter().map(|(key, value)| format!("'{key}' '{value}'")).collect();
    let table = |name: &str, given: &str| {
        format!("CREATE EXTERNAL TABLE {name} STORED AS ZARR LOCATION '{store}' OPTIONS ({given})")
    };
    query(&ctx, &table("t", &format!("{}, 'zarr.dims' 'x,y'", given.join(", ")))).await.unwrap();
    assert_eq!(rows(&ctx, "SELECT max(\"x?y#z&\") FROM t").await.unwrap(), [[json!(4.0)]]);

    let wrong = given.join(", ").replace(SECRET_KEY, "wrong-secret");
    let error = query(&ctx, &table("wrong", &wrong)).await.unwrap_err().to_string();
    assert!(error.contains(BUCKET) && error.contains("aws.access_key_id"), "{error}");
    assert!(!error.contains("wrong-secret"), "{error}");
    let requests = server.take_requests();
    assert!(requests.iter().any(|request| request.key.ends_with("/a%2Fb/c/0/0")), "{requests:?}");
}

#[tokio::test]
async fn stores_that_are_registered_need_no_options() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory.path().join(STORE));
    let server = Server::builder(directory.path()).start().unwrap();
    let mut options = OpenOptions::default();
    for (key, value) in [
        ("aws.endpoint", server.url().as_str()),
        ("aws.access_key_id", ACCESS_KEY),
        ("aws.secret_access_key", SECRET_KEY),
    ] {
        options.set(key, value).unwrap();
    }
    let url = Url::parse("s3://mine").unwrap();
    let bucket = Url::parse(&format!("s3://{BUCKET}")).unwrap();
    let resources = lsio_core::Resources::of_process();
    let opened = resources.open_store(&bucket, &options).await.unwrap();
    let ctx = session(config());
    ctx.register_object_store(&url, opened.store);
    assert_sums(&ctx, &encoded("s3://mine", &[STORE]), "").await;
}

#[tokio::test]
async fn names_in_the_urls_of_web_servers() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory.path().join(STORE));
    let server = Server::builder(directory.path()).protocol(Protocol::Http).start().unwrap();
    let ctx = session(config());
    let store = encoded(&server.url(), &[STORE]);
    assert_sums(&ctx, &store, "").await;
    // Without listings, what is wanted must be named.
    let error = rows(&ctx, &format!("SELECT * FROM '{store}?consolidated=false'")).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("doesn't list") && error.contains("?variables="), "{error}");
    let sql = format!("SELECT sum(\"100%\") FROM '{store}?consolidated=false&variables=100%25'");
    assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!(6.0)]]);
}
