//! Chunks of a few cells: many of them, most of which may not be stored.

use std::{path::Path, sync::Arc, time::Duration};

use datafusion::{
    common::assert_contains,
    physical_plan::collect,
    prelude::{SessionConfig, SessionContext},
};
use lsio_core::{
    Dataset, Location, OpenOptions,
    object_store::{ObjectStore, local::LocalFileSystem},
};
use lsio_datafusion::LsioConfig;
use lsio_synthetic::write::{Compression, GroupWriter, SyntheticArray};
use serde_json::json;
use url::Url;

use crate::{
    harness::{in_parallel, query, rows, same, session},
    random_queries::Random,
    watched::{Metrics, Watched},
};

/// A session with the settings of users: small chunks are taken together.
fn users(engine: Option<&str>) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(2);
    config.options_mut().extensions.insert(LsioConfig::default());
    if let Some(engine) = engine {
        config.options_mut().set("lsio.io_engine", engine).unwrap();
    }
    session(config)
}

/// Writes a variable `v` whose stored chunks hold the number of each cell.
fn write(
    directory: &Path,
    shape: &[u64],
    chunks: &[u64],
    is_stored: impl Fn(&[u64]) -> bool,
) -> String {
    let store = directory.join("store.zarr");
    let group = GroupWriter::create(&store, json!({})).unwrap();
    let names = ["x", "y", "z"];
    let dims: Vec<(&str, u64)> = names.into_iter().zip(shape.iter().copied()).collect();
    let spec = SyntheticArray {
        name: "v",
        data_type: "int32",
        dims: &dims,
        chunks,
        shards: None,
        compression: Compression::None,
        fill_value: json!(-7),
        attributes: json!({}),
    };
    let array = group.array(&spec).unwrap();
    let grid = lsio_core::grid::ChunkGrid::new(shape.to_vec(), chunks.to_vec()).unwrap();
    // Grids of which nothing is stored may have more chunks than can be visited.
    let count = if grid.len() < 1 << 20 { grid.len() } else { 0 };
    for number in 0..count {
        let chunk = grid.indices(number);
        if !is_stored(&chunk) {
            continue;
        }
        let cells = chunks.iter().product::<u64>();
        let values = (0..cells).map(|cell| {
            let inside = lsio_core::grid::unravel(cell, chunks);
            let at: Vec<u64> =
                inside.iter().zip(&chunk).zip(chunks).map(|((i, c), size)| c * size + i).collect();
            value(&at)
        });
        array.write(&chunk, &values.collect::<Vec<i32>>()).unwrap();
    }
    store.to_string_lossy().into_owned()
}

fn value(at: &[u64]) -> i32 {
    at.iter().fold(0, |number, index| number * 100 + *index as i32)
}

async fn counted(ctx: &SessionContext, sql: &str) -> (usize, Metrics) {
    let plan = ctx.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    let batches = collect(Arc::clone(&plan), ctx.task_ctx()).await.unwrap();
    (batches.iter().map(|batch| batch.num_rows()).sum(), Metrics::of(&plan))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_chunks_than_rows_are_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let huge = write(directory.path(), &[1 << 40], &[1], |_| false);
    let other = tempfile::tempdir().unwrap();
    let square = write(other.path(), &[1 << 20, 1 << 20], &[1, 1], |_| false);
    for (store, filter, limit, wanted) in [
        (&huge, "", Some(20), 20),
        (&huge, "WHERE x = 5", None, 1),
        (&huge, "WHERE x IN (5, 1000000000000) AND v < 0", None, 2),
        (&huge, "WHERE x BETWEEN 100 AND 10099", Some(5000), 5000),
        (&huge, "WHERE x > 1099511627770", None, 5),
        (&square, "", Some(20), 20),
        (&square, "WHERE x = 7", Some(3), 3),
        (&square, "WHERE x < 3 AND y IN (4, 6, 900000)", None, 9),
        (&square, "WHERE y = 1048575", Some(10), 10),
        (&square, "WHERE y < 3000", Some(9001), 9001),
    ] {
        for engine in [None, Some("object_store")] {
            let ctx = users(engine);
            let end = limit.map(|limit| format!("LIMIT {limit}")).unwrap_or_default();
            let sql = format!("SELECT * FROM '{store}' {filter} {end}");
            let (rows, metrics) = counted(&ctx, &sql).await;
            assert_eq!(metrics.get("chunks_absent"), wanted, "{sql}");
            assert_eq!(rows, limit.map_or(wanted, |limit| limit.min(wanted)), "{sql}");
            // Directories are listed in place of most requests.
            assert!(metrics.get("requests") <= wanted, "{sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let is_stored = |chunk: &[u64]| chunk[0].is_multiple_of(100);
    let store = write(directory.path(), &[20_000], &[1], is_stored);
    let ctx = users(None);
    let (rows, metrics) = counted(&ctx, &format!("SELECT v FROM '{store}' WHERE x >= 0")).await;
    assert_eq!(
        (rows, metrics.get("chunks_read"), metrics.get("chunks_absent")),
        (20_000, 200, 19_800)
    );
    assert!(metrics.get("requests") < 2_000, "{}", metrics.get("requests"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_chunks_fit_a_small_memory() {
    let directory = tempfile::tempdir().unwrap();
    let store = write(directory.path(), &[1 << 18], &[1], |_| false);
    // The chunks' places alone would take more than this, were they all kept.
    let runtime = datafusion::execution::runtime_env::RuntimeEnvBuilder::new()
        .with_memory_limit(8 << 20, 1.0)
        .build_arc()
        .unwrap();
    let ctx =
        SessionContext::new_with_config_rt(SessionConfig::new().with_target_partitions(2), runtime);
    let ctx = lsio_datafusion::ZarrSession::with_zarr(ctx).enable_url_table();
    for sql in ["SELECT count(v), sum(v)", "SELECT count(*), sum(v + x - x)"] {
        let all = rows(&ctx, &format!("{sql} FROM '{store}'")).await.unwrap();
        assert_eq!(all, [[json!(1 << 18), json!(-7 * (1 << 18))]]);
    }
    // A tile's places are counted.
    let runtime = datafusion::execution::runtime_env::RuntimeEnvBuilder::new()
        .with_memory_limit(100 << 10, 1.0)
        .build_arc()
        .unwrap();
    let ctx = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
    let ctx = lsio_datafusion::ZarrSession::with_zarr(ctx).enable_url_table();
    let failed = query(&ctx, &format!("SELECT v FROM '{store}' WHERE v < x")).await.unwrap_err();
    assert_contains!(failed.to_string(), "memory");
}

#[test]
fn answers_do_not_depend_on_chunks() {
    in_parallel(0..24, |seed| {
        Box::pin(async move {
            let mut random = Random(seed);
            let rank = 1 + random.below(3) as usize;
            let shape: Vec<u64> =
                (0..rank).map(|_| 1 + random.below([300, 24, 9][rank - 1])).collect();
            let chunks: Vec<u64> = shape.iter().map(|_| 1 + random.below(2)).collect();
            let share = [0.0, 0.02, 0.5, 0.98, 1.0][random.below(5) as usize];
            let mark = random.next();
            let stored = move |chunk: &[u64]| {
                let number =
                    chunk.iter().fold(mark, |n, c| (n ^ c).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                ((number >> 40) as f64) < share * f64::from(1 << 24)
            };
            let directory = tempfile::tempdir().unwrap();
            let store = write(directory.path(), &shape, &chunks, stored);
            let selected = random.below(shape[0]);
            let cells = lsio_core::grid::ChunkGrid::new(shape.clone(), vec![1; rank]).unwrap();
            let all = (0..cells.len()).map(|number| {
                let at = cells.indices(number);
                let chunk: Vec<u64> = at.iter().zip(&chunks).map(|(i, size)| i / size).collect();
                let own = if stored(&chunk) { value(&at) } else { -7 };
                (at, own)
            });
            let all: Vec<(Vec<u64>, i32)> = all.collect();
            let order = ["x", "y", "z"][..rank].join(", ");
            for engine in ["auto", "object_store"] {
                let ctx = users(Some(engine));
                for (filter, keep) in [
                    (
                        "true".to_owned(),
                        Box::new(|_: &[u64], _: i32| true)
                            as Box<dyn Fn(&[u64], i32) -> bool + Send>,
                    ),
                    (format!("x >= {selected}"), Box::new(move |at, _| at[0] >= selected)),
                    ("v > 50".to_owned(), Box::new(|_, value| value > 50)),
                    (
                        format!("v < 1000 AND x <> {selected}"),
                        Box::new(move |at, value| value < 1000 && at[0] != selected),
                    ),
                ] {
                    let kept = all.iter().filter(|(at, value)| keep(at, *value));
                    let kept: Vec<i32> = kept.map(|(_, value)| *value).collect();
                    let expected: Vec<Vec<_>> =
                        kept.iter().map(|value| vec![json!(value)]).collect();
                    let sql = format!("SELECT v FROM '{store}' WHERE {filter}");
                    let ordered = rows(&ctx, &format!("{sql} ORDER BY {order}")).await.unwrap();
                    assert_eq!(ordered, expected, "{seed} {shape:?} {chunks:?} {sql}");
                    let limit = 1 + kept.len() / 3;
                    let first =
                        rows(&ctx, &format!("{sql} ORDER BY {order} LIMIT {limit}")).await.unwrap();
                    assert_eq!(
                        first,
                        expected[..limit.min(expected.len())],
                        "{seed} {sql} {limit}"
                    );
                    let sums = format!("SELECT count(v), sum(v) FROM '{store}' WHERE {filter}");
                    let sums = rows(&ctx, &sums).await.unwrap();
                    let sum = kept.iter().map(|value| i64::from(*value)).sum::<i64>();
                    let sum = if kept.is_empty() { json!(null) } else { json!(sum) };
                    assert!(same(&sums, &[vec![json!(kept.len()), sum]]), "{seed} {sql}: {sums:?}");
                }
            }
        })
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn far_chunks_are_asked_for_in_wide_waves() {
    /// Concurrent requests that are allowed at first.
    const WIDE: usize = 64;

    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &[2_000], &[1], |chunk| chunk[0] % 3 > 0);
    let inner = || LocalFileSystem::new_with_prefix(directory.path()).unwrap();
    for sql in [
        "SELECT * FROM 'slow://here/store.zarr'",
        "SELECT v FROM 'slow://here/store.zarr' WHERE v > 100",
        "SELECT sum(v) FROM 'slow://here/store.zarr'",
    ] {
        let watched = Arc::new(Watched::slow(inner(), Duration::from_millis(4)));
        let ctx = users(None);
        let url = Url::parse("slow://here").unwrap();
        ctx.register_object_store(&url, Arc::clone(&watched) as Arc<dyn ObjectStore>);
        query(&ctx, sql).await.unwrap();
        assert!(watched.most_in_flight() >= WIDE, "{sql}: {}", watched.most_in_flight());
    }
    // A variable that is read as a whole, as coordinates are.
    let watched = Arc::new(Watched::slow(inner(), Duration::from_millis(4)));
    let store = Arc::clone(&watched) as Arc<dyn ObjectStore>;
    let location = Location::new(store, "store.zarr".into(), "slow");
    let dataset = Dataset::open(&location, &OpenOptions::default()).await.unwrap();
    let (variable, _) = &dataset.variables()[0];
    assert_eq!(variable.read_all().await.unwrap().len(), 2_000);
    assert!(watched.most_in_flight() >= WIDE, "{}", watched.most_in_flight());
}
