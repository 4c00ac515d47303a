//! Servers that fail: a query gives the right answer in the end, or an error that names the object, in
//! time.
//!
//! Each fault is injected once at each request of ten queries, from each request on for good, and for
//! good at each of the objects. Not all of these cases are run by default: all are with the environment
//! variable `LSIO_FAULTS_ALL`.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use datafusion::error::Result;
use futures::{StreamExt as _, stream};
use lsio_synthetic::write::Compression;
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
const CONCURRENT: usize = 16;

/// One case in so many is run by default; it has no factor in common with the numbers of faults and of
/// times, so that over the requests each meets each.
const EVERY: usize = 23;

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
    &["SELECT time, avg(t2m), max(t2m) FROM {raw/t2m} GROUP BY time ORDER BY time"],
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
        for (name, path) in [
            ("raw", "raw.zarr"),
            ("raw/t2m", "raw.zarr/t2m"),
            ("sharded", "sharded.zarr"),
            ("blosc", "blosc.zarr"),
            ("v2", "v2.zarr"),
        ] {
            // Web servers don't list what a store without consolidated metadata holds.
            let named = name == "blosc" && protocol == Protocol::Http;
            let options = format!("{OPTIONS}{}", if named { "&variables=t2m,mask" } else { "" });
            let url = url(server, protocol, path, &options);
            sql = sql.replace(&format!("{{{name}}}"), &format!("'{url}'"));
        }
        answer = rows(&ctx, &sql).await?;
    }
    Ok(answer)
}

/// When a fault strikes.
#[derive(Clone, Debug)]
enum When {
    /// At the request with this number.
    Once(usize),
    /// From this request on.
    From(usize),
    /// Whenever this object or list is asked for.
    At(String),
}

/// A fault of a query.
#[derive(Clone, Debug)]
struct Case {
    query: usize,
    fault: Fault,
    when: When,
}

/// What is asked for: a key, or the prefix of a list.
fn asked(key: &str, query: &str) -> String {
    match query.split('&').find_map(|pair| pair.strip_prefix("prefix=")) {
        Some(prefix) if key.is_empty() => prefix.trim_end_matches('/').to_owned(),
        _ => key.to_owned(),
    }
}

/// Whether a query must get over a fault that strikes once.
fn must_recover(fault: Fault) -> bool {
    match fault {
        // A server that says no is believed.
        Fault::Status(403) => false,
        // Without a length nobody can tell whether an object is whole, and a server that mixes up ranges
        // doesn't do so by chance.
        Fault::ShortChunked | Fault::WrongRange => false,
        _ => true,
    }
}

/// Whether an error names an object: by its key, or by the array and the key in there.
fn names(error: &str, key: &str) -> bool {
    let in_array = |(array, chunk): (&str, &str)| {
        error.contains(&format!("{array}'")) && error.contains(&format!("'c/{chunk}'"))
    };
    error.contains(key) || key.split_once("/c/").is_some_and(in_array)
}

/// What is wrong with how a query went, if anything.
async fn run(
    server: &Server,
    protocol: Protocol,
    case: &Case,
    right: &[Vec<Value>],
) -> std::result::Result<(), String> {
    let struck: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&struck);
    let Case { fault, when, .. } = case.clone();
    server.set_faults(move |incoming: &Incoming| {
        let asked = asked(&incoming.key, &incoming.query);
        let strikes = match &when {
            When::Once(number) => incoming.number == *number,
            When::From(number) => incoming.number >= *number,
            When::At(object) => asked == *object,
        };
        if !strikes {
            return None;
        }
        log.lock().unwrap().push(asked);
        Some(fault)
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
            // What is denied may just not be there, as S3 doesn't tell: then it is the store that lacks it.
            let is_denied = case.fault == Fault::Status(403);
            let store =
                |key: &str| key.split_once('/').is_some_and(|(store, _)| text.contains(store));
            if !struck.iter().any(|key| names(&text, key) || (is_denied && store(key))) {
                return Err(format!("its error names none of {struck:?}: {text}"));
            }
            if matches!(case.when, When::Once(_)) && must_recover(case.fault) {
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
pub(crate) async fn idle(server: &Server) -> bool {
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
    let mut possible = 0;
    for query in 0..QUERIES.len() {
        right.push(answer(&first, protocol, query).await.unwrap());
        let requests = first.take_requests();
        let objects: BTreeSet<String> =
            requests.iter().map(|request| asked(&request.key, &request.query)).collect();
        // A list, and the group that an array's coordinates are in.
        let is_telling = |when: &When| match when {
            When::Once(number) => query == 4 && requests[*number].is_list(),
            When::At(object) => query == 1 && object == "raw.zarr/zarr.json",
            When::From(_) => false,
        };
        let whens = (0..requests.len()).map(When::Once);
        let whens = whens.chain((0..requests.len()).map(When::From));
        for when in whens.chain(objects.into_iter().map(When::At)) {
            for fault in FAULTS {
                possible += 1;
                if all || possible % EVERY == 0 || is_telling(&when) {
                    cases.push(Case { query, fault, when: when.clone() });
                }
            }
        }
    }
    assert_eq!(right[2], [[json!(325.0)]]);
    let count = cases.len();
    // Each is asked once before it fails: clients take their time to be made.
    let mut servers = vec![first];
    while servers.len() < CONCURRENT {
        let server = serve(directory.path(), protocol);
        answer(&server, protocol, 7).await.unwrap();
        servers.push(server);
    }
    let servers = Mutex::new(servers);
    let wrong: Vec<String> = stream::iter(cases)
        .map(|case| {
            let (servers, right) = (&servers, &right);
            async move {
                let server = servers.lock().unwrap().pop().unwrap();
                let result = run(&server, protocol, &case, &right[case.query]).await;
                let ended = idle(&server).await;
                servers.lock().unwrap().push(server);
                match result {
                    Err(text) => Some(format!("{case:?}: {text}")),
                    Ok(()) if !ended => Some(format!("{case:?}: requests stay in flight")),
                    Ok(()) => None,
                }
            }
        })
        .buffer_unordered(CONCURRENT)
        .filter_map(std::future::ready)
        .collect()
        .await;
    eprintln!("{protocol:?}: {count} of {possible} cases in {:?}", started.elapsed());
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
