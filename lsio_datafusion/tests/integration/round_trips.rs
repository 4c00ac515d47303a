//! How often a query waits for a server, and what it asks for: no more than it needs.
//!
//! ```text
//! open (1) ──▶ coordinates (1) ──▶ indices of shards (0 or 1) ──▶ chunks that decide (0 or 1) ──▶ chunks (1)
//! ```
//!
//! Of a registered table the coordinates are read while it is opened again.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use datafusion::{physical_plan::execute_stream, prelude::SessionContext};
use futures::StreamExt as _;
use lsio_core::{Dataset, Location, OpenOptions, uring::Engine};
use lsio_datafusion::prelude::*;
use lsio_synthetic::write::{Compression, GroupWriter, SyntheticArray};
use lsio_test_servers::{Link, Protocol, Request, Server, round_trips};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    faults::idle,
    harness::{config, rows, session},
    served::{Cube, PROTOCOLS, cells, serve, url, value, write_v2},
};

/// What is asked for together overlaps by far, even on a busy machine.
const LATENCY: Duration = Duration::from_millis(100);

/// A busy machine only adds round trips: the least of so many tries counts.
const TRIES: usize = 4;

/// The requests that a link lets through at a time before it has learned anything.
const AT_ONCE: [(Protocol, usize); 2] = [(Protocol::S3, 64), (Protocol::Http, 32)];

/// A server at the other end of a slow link, and its files.
struct Remote {
    directory: TempDir,
    server: Server,
    protocol: Protocol,
}

impl Remote {
    fn new(protocol: Protocol, write: impl Fn(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path());
        let server = serve(directory.path(), protocol);
        server.set_link(Link { latency: LATENCY, ..Link::default() });
        Self { directory, server, protocol }
    }

    fn url(&self, path: &str) -> String {
        url(&self.server, self.protocol, path, "")
    }

    async fn open(&self, path: &str, options: &str) -> Dataset {
        let url = url(&self.server, self.protocol, path, options);
        let opened = Location::open(&url, OpenOptions::default(), Engine::ObjectStore).await;
        let (location, options) = opened.unwrap();
        Dataset::open(&location, &options).await.unwrap()
    }

    /// Runs something, and gives what was asked of the server, with the least number of round trips of
    /// some runs, unless it is `expected` at once.
    async fn watch<F: Future>(
        &self,
        expected: usize,
        run: impl Fn() -> F,
    ) -> (F::Output, Vec<Request>, usize) {
        let mut least: Option<(F::Output, Vec<Request>, usize)> = None;
        for _ in 0..TRIES {
            let _ = self.server.take_requests();
            let output = run().await;
            assert!(idle(&self.server).await);
            let requests = self.server.take_requests();
            let trips = round_trips(&requests);
            if least.as_ref().is_none_or(|(_, _, least)| trips < *least) {
                least = Some((output, requests, trips));
            }
            if trips <= expected {
                break;
            }
        }
        least.unwrap()
    }

    async fn opens_in(
        &self,
        path: &str,
        options: &str,
        expected: usize,
    ) -> (Dataset, Vec<Request>) {
        let (dataset, requests, trips) = self.watch(expected, || self.open(path, options)).await;
        assert_eq!(trips, expected, "{:?} {path}?{options}: {}", self.protocol, told(&requests));
        (dataset, requests)
    }

    /// Runs a query of `{}`, which is the URL of the path.
    async fn query(&self, sql: &str, path: &str, partitions: usize, expected: usize) -> Queried {
        let queried = self.queried(sql, path, partitions, expected).await;
        assert_eq!(
            queried.trips,
            expected,
            "{:?} {sql}: {}",
            self.protocol,
            told(&queried.requests)
        );
        queried
    }

    /// The same, whatever the number of round trips.
    async fn queried(&self, sql: &str, path: &str, partitions: usize, expected: usize) -> Queried {
        let sql = sql.replace("{}", &format!("'{}'", self.url(path)));
        let ctx = session(config().with_target_partitions(partitions));
        let run = || async { rows(&ctx, &sql).await.unwrap() };
        let (rows, requests, trips) = self.watch(expected, run).await;
        let opened = requests.iter().filter(|r| r.key == format!("{path}/zarr.json")).count();
        assert_eq!(opened, 1, "{sql}: {}", told(&requests));
        Queried { rows, requests, trips }
    }
}

struct Queried {
    rows: Vec<Vec<Value>>,
    requests: Vec<Request>,
    trips: usize,
}

impl Queried {
    fn of(&self, name: &str) -> impl Iterator<Item = &Request> {
        let part = format!("/{name}/c/");
        self.requests.iter().filter(move |request| request.key.contains(&part))
    }

    fn chunks(&self, name: &str) -> usize {
        self.of(name).count()
    }

    fn bytes(&self, name: &str) -> u64 {
        self.of(name).map(|request| request.bytes).sum()
    }
}

/// The requests, with when they came and went in milliseconds.
fn told(requests: &[Request]) -> String {
    let Some(first) = requests.iter().map(|request| request.start).min() else {
        return "nothing".to_owned();
    };
    let at = |instant: Instant| instant.duration_since(first).as_millis();
    let line = |r: &Request| {
        let range = r.range.as_deref().unwrap_or_default();
        let end = r.end.map(at);
        format!(
            "\n  {}..{end:?} {} {} {} {range} {:?}",
            at(r.start),
            r.method,
            r.key,
            r.query,
            r.status
        )
    };
    requests.iter().map(line).collect()
}

/// `cube.zarr` and `sharded.zarr`, each in pieces of 4 by 6 at one time.
fn cubes(directory: &Path) {
    let cube = Cube { shape: [100, 4, 6], chunks: [1, 4, 6], has_mask: true, ..Cube::default() };
    cube.write(&directory.join("cube.zarr"));
    // Chunks larger than the index: 8 of 8 KiB a shard.
    let sharded = Cube {
        shape: [16, 64, 128],
        chunks: [1, 32, 64],
        shards: Some([2, 64, 128]),
        compression: Compression::Zstd(3),
        ..Cube::default()
    };
    sharded.write(&directory.join("sharded.zarr"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening() {
    for protocol in PROTOCOLS {
        let remote = Remote::new(protocol, |directory| {
            let cube = Cube { has_mask: true, ..Cube::default() };
            cube.write(&directory.join("v3.zarr"));
            cube.write(&directory.join("a/deep/v3.zarr"));
            Cube { is_consolidated: false, ..cube }.write(&directory.join("plain3.zarr"));
            write_v2(&directory.join("v2.zarr"), [2, 4, 6], true);
            write_v2(&directory.join("plain2.zarr"), [2, 4, 6], false);
        });
        for path in ["v3.zarr", "v3.zarr/t2m", "a/deep/v3.zarr", "a/deep/v3.zarr/t2m", "v2.zarr"] {
            let (dataset, requests) = remote.opens_in(path, "", 1).await;
            assert!(dataset.variables().len() >= 4, "{path}");
            // What may be there, and in three groups above.
            assert!(requests.len() <= 5 + 3 * 3, "{}", told(&requests));
        }
        for path in ["plain3.zarr", "plain2.zarr"] {
            if protocol == Protocol::S3 {
                remote.opens_in(path, "", 3).await;
                remote.opens_in(&format!("{path}/t2m"), "", 3).await;
            }
            // Variables, and then the coordinates that they name.
            let (dataset, _) = remote.opens_in(path, "variables=t2m", 3).await;
            assert!(dataset.variables().iter().any(|(variable, _)| variable.name() == "x"));
        }
    }
}

/// 10^8 chunks: only what is read costs anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_of_many_variables_and_chunks() {
    for (protocol, _) in AT_ONCE {
        let remote = Remote::new(protocol, |directory| {
            let group = GroupWriter::create(&directory.join("many.zarr"), json!({})).unwrap();
            for number in 0..300 {
                let spec = SyntheticArray {
                    name: &format!("v{number:03}"),
                    data_type: "float32",
                    dims: &[("time", 333_334), ("y", 8), ("x", 8)],
                    chunks: &[1, 8, 8],
                    shards: None,
                    compression: Compression::Zstd(1),
                    fill_value: json!(7),
                    attributes: json!({"units": "K"}),
                };
                group.array(&spec).unwrap();
            }
            // The same, to be listed.
            copy(&directory.join("many.zarr"), &directory.join("listed.zarr"));
            group.consolidate().unwrap();
        });
        remote.opens_in("many.zarr", "", 1).await;
        let plan = "EXPLAIN SELECT v007, v113 FROM {} WHERE time = 300000 AND y = 3";
        remote.query(plan, "many.zarr", 2, 1).await;
        let sql = plan.trim_start_matches("EXPLAIN ");
        let queried = remote.query(sql, "many.zarr", 2, 2).await;
        assert_eq!(queried.rows, vec![vec![json!(7.0), json!(7.0)]; 8]);
        assert_eq!((queried.chunks("v007"), queried.chunks("v113")), (1, 1));
        if protocol == Protocol::S3 {
            // The documents, the list, and 300 documents, of which some may be late.
            let (_, requests, trips) = remote.watch(3, || remote.open("listed.zarr", "")).await;
            assert!(trips <= 4, "{trips}");
            assert!(requests.len() < 300 + 16, "{}", requests.len());
        }
    }
}

/// Directories without metadata are looked into at the same time, and one list each tells enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_without_metadata() {
    let group = json!({"zarr_format": 3, "node_type": "group"}).to_string();
    let remote = Remote::new(Protocol::S3, |directory| {
        let plate = directory.join("plate.zarr");
        let mut files =
            vec![("zarr.json".to_owned(), &group), ("B/1/zarr.json".to_owned(), &group)];
        for number in 0..1_500 {
            // Chunks come before `zarr.json`, and what follows isn't listed.
            files.push((format!("A/1/0/c/{number:04}"), &group));
            files.push((format!("other/{number:04}"), &group));
            files.push((format!("second/{number:04}/c"), &group));
        }
        files.push(("A/1/zarr.json".to_owned(), &group));
        for (file, text) in files {
            let path = plate.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    });
    let (dataset, requests, trips) = remote.watch(8, || remote.open("plate.zarr", "")).await;
    assert_eq!(dataset.children(), ["A", "B"]);
    // Documents, list, those of the children in either version, lists, again documents, and one more list.
    assert!(trips <= 8, "{trips}: {}", told(&requests));
    let lists = requests.iter().filter(|request| request.query.contains("list-type")).count();
    assert!(lists <= 1 + 4 + 1, "{}", told(&requests));
    assert!(requests.len() < 120, "{}: {}", requests.len(), told(&requests));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

const BOX: &str = "SELECT t2m FROM {} WHERE time BETWEEN '2020-01-01T10:00:00' AND \
                   '2020-01-01T21:00:00' AND y = 1.5 AND x < 30";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_of_plain_chunks() {
    for (protocol, at_once) in AT_ONCE {
        let remote = Remote::new(protocol, cubes);
        let chunk = 4 * 6 * 4;
        // Metadata, coordinates, chunk.
        let point = "SELECT t2m FROM {} WHERE time = '2020-01-01T10:00:00' AND y = 1.5 AND x = 20";
        let queried = remote.query(point, "cube.zarr", 2, 3).await;
        assert_eq!(queried.rows, [[json!(value([10, 1, 2]))]]);
        assert_eq!((queried.chunks("t2m"), queried.bytes("t2m")), (1, chunk));
        for partitions in [2, 4] {
            let queried = remote.query(BOX, "cube.zarr", partitions, 3).await;
            assert_eq!(queried.rows.len(), 12 * 3);
            assert_eq!((queried.chunks("t2m"), queried.bytes("t2m")), (12, 12 * chunk));
            assert_eq!(queried.chunks("time") + queried.chunks("y") + queried.chunks("x"), 3);
        }
        // No coordinate is named, and as many chunks are asked for as the link lets through, which are
        // more once it has learned that they help.
        for partitions in [2, 4] {
            let sql = "SELECT sum(t2m), count(*) FROM {}";
            let trips = 1 + 100_usize.div_ceil(at_once);
            let queried = remote.queried(sql, "cube.zarr", partitions, trips).await;
            assert!(queried.trips <= trips, "{sql}: {}", told(&queried.requests));
            assert_eq!(queried.rows[0][1], json!(2400));
            assert_eq!((queried.requests.iter().filter(|r| r.key.contains("/c/")).count()), 100);
        }
        let few = "time < '2020-01-01T12:00:00'";
        for (sql, trips, chunks) in [
            (format!("SELECT sum(t2m) FROM {{}} WHERE {few} AND y = 1.5"), 3, 12),
            (format!("SELECT time, avg(t2m) FROM {{}} WHERE {few} GROUP BY time"), 3, 12),
            (format!("SELECT y, x, avg(t2m) FROM {{}} WHERE {few} GROUP BY y, x"), 3, 12),
            (format!("SELECT time, x, t2m, mask FROM {{}} WHERE {few} ORDER BY time, x"), 3, 12),
            // What decides, and what is left.
            (format!("SELECT t2m FROM {{}} WHERE {few} AND t2m > 500"), 3, 12),
            // Which chunks are wanted is known when the mask is.
            (format!("SELECT t2m FROM {{}} WHERE {few} AND mask = 2"), 4, 12),
            (format!("SELECT mask, sum(t2m) FROM {{}} WHERE {few} GROUP BY mask"), 4, 12),
            (format!("SELECT sum(t2m * mask) FROM {{}} WHERE {few}"), 3, 12),
            ("SELECT count(*) FROM {} WHERE y > 1".to_owned(), 2, 0),
            ("SELECT count(*) FROM {}".to_owned(), 1, 0),
            ("SELECT DISTINCT time FROM {}".to_owned(), 2, 0),
            ("EXPLAIN SELECT t2m FROM {} WHERE y = 1.5".to_owned(), 2, 0),
        ] {
            let queried = remote.query(&sql, "cube.zarr", 2, trips).await;
            assert_eq!(queried.chunks("t2m"), chunks, "{sql}");
            // Each coordinate once.
            for name in ["time", "y", "x", "mask"] {
                assert!(queried.chunks(name) <= 1, "{sql}: {}", told(&queried.requests));
            }
        }
    }
}

/// A filter on one variable leaves out chunks of another, in one more wave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_on_data() {
    for protocol in PROTOCOLS {
        let remote = Remote::new(protocol, |directory| {
            let group = GroupWriter::create(&directory.join("two.zarr"), json!({})).unwrap();
            for name in ["a", "b"] {
                let spec = SyntheticArray {
                    name,
                    data_type: "float32",
                    dims: &[("time", 12), ("x", 5)],
                    chunks: &[1, 5],
                    shards: None,
                    compression: Compression::None,
                    fill_value: json!(0),
                    attributes: json!({}),
                };
                let array = group.array(&spec).unwrap();
                for t in 0..12_u8 {
                    array.write(&[u64::from(t), 0], &[f32::from(t); 5]).unwrap();
                }
            }
            group.consolidate().unwrap();
        });
        for partitions in [2, 4] {
            let sql = "SELECT time, b FROM {} WHERE a >= 9 AND x = 2 ORDER BY time";
            let queried = remote.query(sql, "two.zarr", partitions, 3).await;
            let expected: [[Value; 2]; 3] = [9, 10, 11].map(|t| [json!(t), json!(f64::from(t))]);
            assert_eq!(queried.rows, expected);
            assert_eq!((queried.chunks("a"), queried.chunks("b")), (12, 3));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_of_shards() {
    for protocol in PROTOCOLS {
        let remote = Remote::new(protocol, cubes);
        let store = remote.directory.path().join("sharded.zarr");
        // As a point is in one of the eight, whose sizes differ a little.
        let shard = fs::read(store.join("t2m/c/1/0/0")).unwrap();
        let index = &shard[shard.len() - (8 * 16 + 4)..];
        let sizes: Vec<u64> = index[..8 * 16]
            .chunks_exact(16)
            .map(|entry| u64::from_le_bytes(entry[8..].try_into().unwrap()))
            .collect();
        let point =
            "SELECT t2m FROM {} WHERE time = '2020-01-01T03:00:00' AND y = 33.5 AND x = 700";
        let queried = remote.query(point, "sharded.zarr", 2, 4).await;
        assert_eq!(queried.rows, [[json!(value([3, 33, 70]))]]);
        assert_eq!(queried.chunks("t2m"), 2);
        // Time 1 in its shard, y 1, x 1: the last.
        at_most_a_tenth_more(queried.bytes("t2m"), sizes[7] + index.len() as u64);

        // A half of one chunk row: of each time two chunks beside each other are one request.
        let sql = "SELECT sum(t2m) FROM {} WHERE time BETWEEN '2020-01-01T01:00:00' AND \
                   '2020-01-01T06:00:00' AND y < 20";
        for partitions in [2, 4] {
            let queried = remote.query(sql, "sharded.zarr", partitions, 4).await;
            let needed: u64 = (1..=6)
                .map(|time| {
                    let shard = fs::read(store.join(format!("t2m/c/{}/0/0", time / 2))).unwrap();
                    let index = &shard[shard.len() - (8 * 16 + 4)..];
                    let size = |chunk: u64| {
                        let at = (time % 2 * 4 + chunk) as usize * 16 + 8;
                        u64::from_le_bytes(index[at..at + 8].try_into().unwrap())
                    };
                    size(0) + size(1)
                })
                .sum();
            let indices = 4;
            at_most_a_tenth_more(queried.bytes("t2m"), needed + indices * (8 * 16 + 4));
            let ranges = queried.chunks("t2m") as u64 - indices;
            assert!((4..=12).contains(&ranges), "{}", told(&queried.requests));
        }
    }
}

fn at_most_a_tenth_more(sent: u64, needed: u64) {
    assert!(sent >= needed && sent * 10 <= needed * 11, "{sent} bytes for {needed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_of_one_store_with_itself() {
    for protocol in PROTOCOLS {
        let remote = Remote::new(protocol, cubes);
        let sql = "SELECT count(*) FROM {} a JOIN {} b ON a.time = b.time AND a.y = b.y AND a.x = b.x \
                   WHERE a.time = '2020-01-01T10:00:00' AND b.time = '2020-01-01T10:00:00'";
        // Metadata and coordinates; nothing says that both have the same ones.
        let queried = remote.query(sql, "cube.zarr", 2, 2).await;
        assert_eq!(queried.rows, [[json!(24)]]);
    }
}

/// However long its coordinates take, a query sees one state of a store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_of_one_query_share_what_was_opened() {
    let remote = Remote::new(Protocol::S3, cubes);
    let latency = Duration::from_millis(300);
    remote.server.set_link(Link { latency, ..Link::default() });
    let scan = "SELECT time FROM {} WHERE t2m > 0 AND time < '2020-01-01T02:00:00'";
    let sql = format!("SELECT count(*) FROM ({})", [scan; 8].join(" UNION ALL "));
    let mut config = config().with_target_partitions(1);
    config.options_mut().execution.planning_concurrency = 1;
    let url = remote.url("cube.zarr");
    let rows = rows(&session(config), &sql.replace("{}", &format!("'{url}'"))).await.unwrap();
    assert_eq!(rows, [[json!(8 * 2 * 24)]]);
    let requests = remote.server.take_requests();
    let opened = requests.iter().filter(|r| r.key == "cube.zarr/zarr.json").count();
    assert_eq!(opened, 1, "{}", told(&requests));
}

/// Writes `grows.zarr` anew, with so many times.
fn grow(directory: &Path, times: u64) {
    let path = directory.join("grows.zarr");
    let _ = fs::remove_dir_all(&path);
    Cube { shape: [times, 4, 6], chunks: [1, 4, 6], ..Cube::default() }.write(&path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_query_sees_what_was_written() {
    for protocol in PROTOCOLS {
        let remote = Remote::new(protocol, |directory| grow(directory, 3));
        let ctx = session(config());
        let url = remote.url("grows.zarr");
        let ddl = format!("CREATE EXTERNAL TABLE by_ddl STORED AS ZARR LOCATION '{url}'");
        rows(&ctx, &ddl).await.unwrap();
        ctx.register_zarr("registered", &url, OpenOptions::default()).await.unwrap();
        let frame = ctx.read_zarr(&url, OpenOptions::default()).await.unwrap();
        for times in [3, 5, 8] {
            grow(remote.directory.path(), times);
            for table in ["by_ddl", "registered", &format!("'{url}'")] {
                let hour = times - 1;
                let sql = format!("SELECT count(*), max(t2m) FROM {table}");
                let max = f64::from(value([hour, 3, 5]));
                assert_eq!(
                    answered(&ctx, &sql).await,
                    [[json!(times * 24), json!(max)]],
                    "{table}"
                );
                let sql = format!(
                    "SELECT t2m FROM {table} WHERE time = '2020-01-01T0{hour}:00:00' AND y = 0.5 \
                     AND x = 10"
                );
                let expected = f64::from(value([hour, 0, 1]));
                assert_eq!(answered(&ctx, &sql).await, [[json!(expected)]], "{table}");
            }
            assert_eq!(frame.clone().count().await.unwrap() as u64, times * 24);
        }
        // What is registered is opened again, once, and read as a URL is.
        let sql = "SELECT t2m FROM registered WHERE time = '2020-01-01T01:00:00' AND y = 0.5";
        // Its coordinates are read meanwhile.
        let (_, requests, trips) = remote.watch(2, || answered(&ctx, sql)).await;
        assert_eq!(trips, 2, "{}", told(&requests));
        let opened = requests.iter().filter(|r| r.key == "grows.zarr/zarr.json").count();
        assert_eq!(opened, 1, "{}", told(&requests));
        for name in ["time", "y"] {
            let key = format!("grows.zarr/{name}/c/0");
            let read = requests.iter().filter(|r| r.key == key).count();
            assert_eq!(read, 1, "{name}: {}", told(&requests));
        }
    }
}

/// Coordinates that are read while the metadata are, are those of now, decoded as the metadata say now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_query_sees_the_coordinates_of_now() {
    for protocol in PROTOCOLS {
        let write = |directory: &Path, first: f64, scale: f64| {
            let path = directory.join("moves.zarr");
            let _ = fs::remove_dir_all(&path);
            let group = GroupWriter::create(&path, json!({})).unwrap();
            let spec = |name, attributes| SyntheticArray {
                name,
                data_type: "float64",
                dims: &[("x", 4)],
                chunks: &[4],
                shards: None,
                compression: Compression::None,
                fill_value: json!(0),
                attributes,
            };
            let x = group.array(&spec("x", json!({"scale_factor": scale}))).unwrap();
            let values = |first: f64| [0.0, 1.0, 2.0, 3.0].map(|n| first + n);
            x.write(&[0], &values(first)).unwrap();
            group.array(&spec("v", json!({}))).unwrap().write(&[0], &values(100.0)).unwrap();
            group.consolidate().unwrap();
        };
        let remote = Remote::new(protocol, |directory| write(directory, 0.0, 1.0));
        let ctx = session(config());
        let url = remote.url("moves.zarr");
        ctx.register_zarr("moves", &url, OpenOptions::default()).await.unwrap();
        let sql = "SELECT v FROM moves WHERE x = 6";
        let frame = ctx.sql(sql).await.unwrap();
        // Values alone, then what they mean, then both.
        for (first, scale, found) in
            [(5.0, 1.0, Some(101)), (5.0, 2.0, None), (0.0, 3.0, Some(102))]
        {
            write(remote.directory.path(), first, scale);
            let expected: Vec<Vec<Value>> =
                found.iter().map(|v| vec![json!(f64::from(*v))]).collect();
            assert_eq!(answered(&ctx, sql).await, expected, "{first} {scale}");
            assert_eq!(frame.clone().count().await.unwrap(), expected.len(), "{first} {scale}");
        }
    }
}

async fn answered(ctx: &SessionContext, sql: &str) -> Vec<Vec<Value>> {
    rows(ctx, sql).await.unwrap()
}

/// Who drops a query's rows, or the query while it is planned, ends its requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_queries_ask_for_nothing_more() {
    for protocol in PROTOCOLS {
        let remote = Remote::new(protocol, |directory| {
            cubes(directory);
            let cube = Cube { shape: [8, 256, 256], chunks: [1, 256, 256], ..Cube::default() };
            cube.write(&directory.join("large.zarr"));
        });
        let server = &remote.server;
        let ctx = session(config().with_target_partitions(2));
        let slow = |latency, bytes_per_second| {
            server.set_link(Link { latency: Duration::from_secs(latency), bytes_per_second });
        };

        // While chunks are waited for, and while their bodies come.
        for (path, latency, bytes) in [("cube.zarr", 60, None), ("large.zarr", 0, Some(50_000))] {
            let sql = format!("SELECT t2m FROM '{}'", remote.url(path));
            server.set_link(Link::default());
            let plan = ctx.query(&sql).await.unwrap().create_physical_plan().await.unwrap();
            slow(latency, bytes);
            let mut stream = execute_stream(plan, ctx.task_ctx()).unwrap();
            let running = tokio::time::timeout(Duration::from_millis(500), stream.next());
            assert!(running.await.is_err());
            assert!(server.in_flight() > 1, "{path}");
            drop(stream);
            assert!(
                idle(server).await,
                "{protocol:?} {path}: {} are in flight",
                server.in_flight()
            );
        }

        // While metadata are.
        slow(60, None);
        let sql = format!("SELECT t2m FROM '{}'", remote.url("cube.zarr"));
        let planning = tokio::time::timeout(Duration::from_millis(500), ctx.query(&sql));
        assert!(planning.await.is_err());
        assert!(idle(server).await, "{protocol:?}: {} are in flight", server.in_flight());
        let asked = server.take_requests().len();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(server.take_requests().len(), 0, "after {asked}");
    }
}

/// The stores' chunks are as large as said.
#[test]
fn chunks_of_the_stores() {
    let directory = tempfile::tempdir().unwrap();
    cubes(directory.path());
    for [time, y, x] in cells([100, 1, 1]) {
        let file = directory.path().join(format!("cube.zarr/t2m/c/{time}/{y}/{x}"));
        assert_eq!(fs::metadata(file).unwrap().len(), 96);
    }
}
