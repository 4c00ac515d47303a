//! Servers that fail: a query gives the right answer in the end, or an error that names the object, in
//! time.
//!
//! Each fault is injected once at each request of ten queries, and from each request on for good. Not
//! all of these cases are run by default: all are with the environment variable `LSIO_FAULTS_ALL`.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use datafusion::error::Result;
use futures::{StreamExt as _, stream};
use lsio_core::write::Compression;
use lsio_test_servers::{Fault, Incoming, Protocol, Server};
use serde_json::{Value, json};

use crate::{
    harness::{config, rows, session},
    served::{Cube, PROTOCOLS, serve, url, write_v2},
};

/// A read fails after this time, and a query may take some more: it reads several objects one after the
/// other, and the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(2);
const MARGIN: Duration = Duration::from_secs(20);
const OPTIONS: &str = "request_timeout=300ms&deadline=2s";

/// The cases that run at the same time. Most of the time they wait.
const CONCURRENT: usize = 24;

/// One case in so many is run by default; both have no factor in common with the number of faults.
const EVERY_ONCE: usize = 13;
const EVERY_FOREVER: usize = 29;

const FAULTS: [Fault; 11] = [
    Fault::Status(500),
    Fault::Status(403),
    Fault::Throttle,
    Fault::Hang,
    Fault::HangInBody(0.5),
    Fault::ResetInBody,
    Fault::ShortBody,
    Fault::ShortChunked,
    Fault::WrongRange,
    Fault::ChangedEtag,
    Fault::Drop,
];

/// The queries, with the stores' names in brackets. The last statement's rows are the answer.
const QUERIES: [&[&str]; 10] = [
    &["SELECT count(*), count(t2m), sum(t2m), min(t2m), max(t2m) FROM {raw}"],
    &["SELECT time, avg(t2m), max(t2m) FROM {raw} GROUP BY time ORDER BY time"],
    &["SELECT t2m FROM {sharded} WHERE time = '2020-01-01T03:00:00' AND y = 2.5 AND x = 40"],
    &["SELECT time, y, x, t2m FROM {sharded} WHERE time BETWEEN '2020-01-01T01:00:00' AND \
       '2020-01-01T02:00:00' AND y < 2 AND x >= 20 ORDER BY time, y, x"],
    &["SELECT time, y, x, t2m FROM {blosc} WHERE t2m > 312 AND mask < 2 ORDER BY t2m"],
    &["SELECT count(t2m) FROM (SELECT t2m FROM {sharded} LIMIT 7)"],
    &["SELECT a.time, sum(a.t2m * b.mask) FROM {raw} a JOIN {blosc} b ON a.time = b.time AND \
       a.y = b.y AND a.x = b.x WHERE b.t2m > 0 GROUP BY a.time ORDER BY a.time"],
    &["SELECT count(*) FROM {v2} WHERE y > 1 AND x < 50"],
    &["SELECT * FROM {v2} ORDER BY t2m DESC"],
    &[
        "CREATE EXTERNAL TABLE t STORED AS ZARR LOCATION {blosc}",
        "SELECT x, sum(t2m), sum(mask) FROM t WHERE y > 1 GROUP BY x ORDER BY x",
    ],
];

fn write_stores(directory: &Path) {
    let raw = Cube { missing: &[[1, 0, 0]], ..Cube::default() };
    raw.write(&directory.join("raw.zarr"));
    let sharded = Cube {
        chunks: [1, 2, 3],
        shards: Some([3, 4, 6]),
        compression: Compression::Zstd(1),
        ..Cube::default()
    };
    sharded.write(&directory.join("sharded.zarr"));
    let blosc = Cube {
        compression: Compression::BloscLz4(5),
        has_mask: true,
        is_consolidated: false,
        ..Cube::default()
    };
    blosc.write(&directory.join("blosc.zarr"));
    write_v2(&directory.join("v2.zarr"), [2, 4, 6], true);
}

async fn answer(server: &Server, protocol: Protocol, query: usize) -> Result<Vec<Vec<Value>>> {
    let ctx = session(config().with_target_partitions(2));
    let mut answer = Vec::new();
    for sql in QUERIES[query] {
        let mut sql = (*sql).to_owned();
        for name in ["raw", "sharded", "blosc", "v2"] {
            // Web servers don't list what a store without consolidated metadata holds.
            let named = name == "blosc" && protocol == Protocol::Http;
            let options = format!("{OPTIONS}{}", if named { "&variables=t2m,mask" } else { "" });
            let url = url(server, protocol, &format!("{name}.zarr"), &options);
            sql = sql.replace(&format!("{{{name}}}"), &format!("'{url}'"));
        }
        answer = rows(&ctx, &sql).await?;
    }
    Ok(answer)
}

/// A fault at one request of a query, or from there on.
#[derive(Clone, Copy, Debug)]
struct Case {
    query: usize,
    request: usize,
    fault: Fault,
    forever: bool,
}

/// What was asked for when the fault struck: a key, or the prefix of a list.
fn asked(incoming: &Incoming) -> String {
    let prefix = incoming.query.split('&').find_map(|pair| pair.strip_prefix("prefix="));
    match (incoming.key.as_str(), prefix) {
        ("", Some(prefix)) => prefix.trim_end_matches('/').to_owned(),
        (key, _) => key.to_owned(),
    }
}

/// Whether a query must get over a fault that strikes once.
fn must_recover(fault: Fault) -> bool {
    match fault {
        // A server that says no is believed.
        Fault::Status(403) => false,
        _ => true,
    }
}

/// What is wrong with how a query went, if anything.
async fn run(
    server: &Server,
    protocol: Protocol,
    case: Case,
    right: &[Vec<Value>],
) -> std::result::Result<(), String> {
    let struck: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&struck);
    server.set_faults(move |incoming| {
        let is_hit = incoming.number == case.request;
        if !is_hit && !(case.forever && incoming.number > case.request) {
            return None;
        }
        log.lock().unwrap().push(asked(incoming));
        Some(case.fault)
    });
    let start = Instant::now();
    let answered = tokio::time::timeout(3 * MARGIN, answer(server, protocol, case.query)).await;
    let took = start.elapsed();
    server.clear_faults();
    let struck = struck.lock().unwrap().clone();
    match answered {
        Err(_) => Err(format!("it hangs; struck: {struck:?}")),
        Ok(Ok(rows)) if rows == right => Ok(()),
        Ok(Ok(rows)) => Err(format!("it gives {rows:?}; struck: {struck:?}")),
        Ok(Err(error)) => {
            let text = error.to_string();
            if !struck.iter().any(|key| text.contains(key)) {
                return Err(format!("its error names none of {struck:?}: {text}"));
            }
            if !case.forever && must_recover(case.fault) {
                return Err(format!("it fails for good: {text}"));
            }
            if took > DEADLINE + MARGIN {
                return Err(format!("it fails after {took:?}: {text}"));
            }
            Ok(())
        }
    }
}

/// Waits until nobody asks a server for anything any more.
pub async fn idle(server: &Server) -> bool {
    for _ in 0..500 {
        if server.in_flight() == 0 {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

async fn check(protocol: Protocol) {
    let all = std::env::var_os("LSIO_FAULTS_ALL").is_some();
    let started = Instant::now();
    let directory = tempfile::tempdir().unwrap();
    write_stores(directory.path());
    let first = serve(directory.path(), protocol);
    let mut right = Vec::new();
    let mut cases = Vec::new();
    let (mut once, mut forever) = (0, 0);
    for query in 0..QUERIES.len() {
        right.push(answer(&first, protocol, query).await.unwrap());
        for request in 0..first.take_requests().len() {
            for fault in FAULTS {
                once += 1;
                if all || once % EVERY_ONCE == 0 {
                    cases.push(Case { query, request, fault, forever: false });
                }
                forever += 1;
                if all || forever % EVERY_FOREVER == 0 {
                    cases.push(Case { query, request, fault, forever: true });
                }
            }
        }
    }
    assert_eq!(right[2], [[json!(325.0)]]);
    let count = cases.len();
    let servers = Mutex::new(vec![first]);
    let wrong: Vec<String> = stream::iter(cases)
        .map(|case| {
            let (servers, right) = (&servers, &right);
            let directory = directory.path();
            async move {
                let known = servers.lock().unwrap().pop();
                let server = known.unwrap_or_else(|| serve(directory, protocol));
                let result = run(&server, protocol, case, &right[case.query]).await;
                if !idle(&server).await {
                    return Some(format!("{case:?}: requests stay in flight"));
                }
                servers.lock().unwrap().push(server);
                result.err().map(|text| format!("{case:?}: {text}"))
            }
        })
        .buffer_unordered(CONCURRENT)
        .filter_map(std::future::ready)
        .collect()
        .await;
    eprintln!("{protocol:?}: {count} cases in {:?}", started.elapsed());
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_survive_faults_of_s3() {
    check(Protocol::S3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_survive_faults_of_web_servers() {
    check(Protocol::Http).await;
}

/// Without faults both give what the numbers in the stores add up to.
#[tokio::test]
async fn answers_without_faults() {
    let directory = tempfile::tempdir().unwrap();
    write_stores(directory.path());
    for protocol in PROTOCOLS {
        let server = serve(directory.path(), protocol);
        let sum: f64 = crate::served::cells([6, 4, 6])
            .into_iter()
            .filter(|cell| !(2..4).contains(&cell[0]))
            .map(|cell| f64::from(crate::served::value(cell)))
            .sum();
        assert_eq!(
            answer(&server, protocol, 0).await.unwrap(),
            [[json!(144), json!(144), json!(sum), json!(0.0), json!(536.0)]]
        );
        assert_eq!(answer(&server, protocol, 5).await.unwrap(), [[json!(7)]]);
        assert_eq!(answer(&server, protocol, 7).await.unwrap(), [[json!(2 * 3 * 5)]]);
    }
}
