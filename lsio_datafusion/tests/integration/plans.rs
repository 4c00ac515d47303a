//! What plans say, and that answers don't depend on how they run.

use std::{fs, path::Path, sync::Arc, time::Instant};

use datafusion::{
    physical_plan::{ExecutionPlan, collect, displayable},
    prelude::{SessionConfig, SessionContext},
};
use lsio_datafusion::{LsioConfig, ZarrSession as _, ZarrSource};
use lsio_synthetic::{
    reanalysis::{self, Specification},
    write::Compression,
};
use serde_json::{Value, json};

use crate::{
    harness::{config, frame, json_rows, reanalysis_store, rows, same, session},
    storage::{self, one_in},
};

/// Seven chunks along time, 2 × 2 on the map, cut off at all edges.
fn store(directory: &Path) -> String {
    reanalysis_store(directory, [20, 7, 11], [3, 4, 6])
}

fn partitioned(partitions: usize, batch_size: usize) -> SessionConfig {
    let mut config = config().with_target_partitions(partitions).with_batch_size(batch_size);
    config.options_mut().optimizer.repartition_file_min_size = 0;
    config
}

async fn plan(ctx: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    frame(ctx, sql).await.unwrap().create_physical_plan().await.unwrap()
}

fn text(plan: &Arc<dyn ExecutionPlan>) -> String {
    displayable(plan.as_ref()).indent(false).to_string()
}

const QUERIES: [&str; 8] = [
    "SELECT count(*), count(t2m), sum(CAST(t2m AS DOUBLE)), min(t2m), max(u10) FROM '{store}'",
    "SELECT latitude, avg(t2m) FROM '{store}' GROUP BY latitude ORDER BY latitude",
    "SELECT time, longitude, max(v10) FROM '{store}' GROUP BY time, longitude ORDER BY time, longitude",
    "SELECT * FROM '{store}' ORDER BY time, latitude, longitude",
    "SELECT v10, longitude, v10 AS again FROM '{store}' WHERE t2m > 290 ORDER BY time, latitude, longitude",
    "SELECT count(*) FROM '{store}' WHERE u10 > v10",
    "SELECT count(*), min(latitude) FROM (SELECT latitude FROM '{store}' LIMIT 333)",
    "SELECT a.time, sum(a.t2m - b.t2m) FROM '{store}' a JOIN '{store}' b \
     ON a.time = b.time AND a.latitude = b.latitude AND a.longitude = b.longitude GROUP BY a.time ORDER BY a.time",
];

#[tokio::test(flavor = "multi_thread")]
async fn answers_do_not_depend_on_partitions_and_batches() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    for sql in QUERIES {
        let sql = sql.replace("{store}", &store);
        let expected = rows(&session(partitioned(1, 8192)), &sql).await.unwrap();
        assert!(!expected.is_empty());
        for partitions in [1, 2, 7, 16].into_iter().step_by(one_in().min(2)) {
            for batch_size in [1, 7, 1024, 8192] {
                let ctx = session(partitioned(partitions, batch_size));
                let actual = rows(&ctx, &sql).await.unwrap();
                assert!(same(&actual, &expected), "{partitions}, {batch_size}: {sql}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_plan_runs_twice_and_at_the_same_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    for (stealing, pushdown, node) in [
        (true, true, "ZarrAggregateExec"),
        (true, false, "DataSourceExec"),
        (false, false, "DataSourceExec"),
    ] {
        let mut config = partitioned(7, 100);
        let options = config.options_mut();
        options.execution.enable_file_stream_work_stealing = stealing;
        options.extensions.get_mut::<LsioConfig>().unwrap().aggregate_pushdown = pushdown;
        let ctx = session(config);
        let sql =
            format!("SELECT count(*), sum(CAST(t2m AS DOUBLE)) FROM '{store}' WHERE u10 > -1000");
        let plan = plan(&ctx, &sql).await;
        assert!(text(&plan).contains(node), "{}", text(&plan));
        let task = ctx.task_ctx();
        let first = json_rows(&collect(Arc::clone(&plan), Arc::clone(&task)).await.unwrap());
        assert_eq!(first[0][0], json!(20 * 7 * 11));
        // Again in the same context, and twice at once in contexts of their own.
        let again = json_rows(&collect(Arc::clone(&plan), task).await.unwrap());
        assert!(same(&again, &first));
        let (left, right) = tokio::join!(
            collect(Arc::clone(&plan), ctx.task_ctx()),
            collect(Arc::clone(&plan), ctx.task_ctx())
        );
        assert!(same(&json_rows(&left.unwrap()), &first));
        assert!(same(&json_rows(&right.unwrap()), &first));
    }
}

#[tokio::test]
async fn explain_shows_columns_and_chunks() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let ctx = session(partitioned(4, 8192));
    let plan =
        plan(&ctx, &format!("SELECT latitude, avg(u10) FROM '{store}' GROUP BY latitude")).await;
    let text = text(&plan);
    let scan = format!(
        "zarr='{}', columns=[u10], grid=[time=20, latitude=7, longitude=11], chunks=28",
        storage::address(&store)
    );
    for expected in ["ZarrAggregateExec: gby=[latitude@0 as latitude]", "groups=7", &scan] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[tokio::test]
async fn counts_and_ranges_of_coordinates_read_no_chunk() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    // Without the data, whatever reads a chunk of it would see fill values; without coordinates too,
    // whatever counts cells still can.
    for name in ["t2m", "u10", "v10"] {
        fs::remove_dir_all(Path::new(&store).join(name).join("c")).unwrap();
    }
    let ctx = session(config());
    let sql = format!(
        "SELECT count(*), min(time), max(time), min(latitude), count(longitude) FROM '{store}'"
    );
    let plan = plan(&ctx, &sql).await;
    assert!(!text(&plan).contains("DataSourceExec"), "{}", text(&plan));
    assert_eq!(
        rows(&ctx, &sql).await.unwrap(),
        [[
            json!(1540),
            json!("2019-01-01T00:00:00"),
            json!("2019-01-01T19:00:00"),
            json!(-90.0),
            json!(1540)
        ]]
    );
}

#[tokio::test]
async fn limits_are_exact_and_start_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    for partitions in [1, 7] {
        let ctx = session(partitioned(partitions, 16));
        for limit in [0, 1, 5, 17, 72, 73, 1000, 5000] {
            let sql = format!("SELECT time, t2m FROM '{store}' LIMIT {limit}");
            let rows = rows(&ctx, &sql).await.unwrap();
            assert_eq!(rows.len(), limit.min(1540));
            assert!(rows.first().is_none_or(|row| row[0] == json!("2019-01-01T00:00:00")));
        }
        let sql = format!("SELECT count(*) FROM (SELECT t2m FROM '{store}' LIMIT 100 OFFSET 1500)");
        assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!(40)]]);
    }
}

#[tokio::test]
async fn aggregates_over_repeated_values_are_noted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    crate::differential::write_lower_rank(&path);
    let store = path.to_string_lossy();
    let low = format!("{store}/low");
    let ctx = session(config());
    for (sql, noted) in [
        ("SELECT avg(low) FROM '{store}'", true),
        ("SELECT sum(low + 1) FROM '{store}' WHERE y = 0", true),
        ("SELECT min(low), max(low), count(DISTINCT low) FROM '{store}'", false),
        ("SELECT sum(low * full) FROM '{store}'", false),
        ("SELECT y, sum(low) FROM '{store}' GROUP BY y", false),
        ("SELECT sum(low) FROM '{store}/low'", false),
    ] {
        let plan = plan(&ctx, &sql.replace("{store}", &store)).await;
        let notes = lsio_datafusion::notes(&plan).unwrap();
        assert_eq!(!notes.is_empty(), noted, "{sql}: {notes:?}");
        for note in notes {
            assert_eq!(
                note,
                format!(
                    "low doesn't vary along y: each value counts 2 times; use '{}'",
                    storage::address(&low)
                )
            );
            assert!(text(&plan).contains(&note));
        }
    }
}

/// A store of 10⁸ chunks, of which none is stored.
fn huge(path: &Path, shape: &[u64], chunks: &[u64], names: Value) {
    let metadata = json!({
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 1.5, "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "dimension_names": names, "attributes": {},
    });
    fs::create_dir_all(path).unwrap();
    fs::write(path.join("zarr.json"), metadata.to_string()).unwrap();
}

#[tokio::test]
async fn nothing_enumerates_chunks() {
    let directory = tempfile::tempdir().unwrap();
    let flat = directory.path().join("flat.zarr");
    huge(&flat, &[100_000_000, 4], &[1, 4], Value::Null);
    let cube = directory.path().join("cube.zarr");
    huge(&cube, &[10_000, 1_000, 1_000], &[10, 10, 10], json!(["t", "y", "x"]));
    let ctx = session(partitioned(4, 8192));
    for (path, count) in [(flat, 400_000_000_u64), (cube, 10_000_000_000)] {
        let path = path.to_string_lossy();
        let start = Instant::now();
        assert_eq!(rows(&ctx, &format!("SELECT * FROM '{path}' LIMIT 5")).await.unwrap().len(), 5);
        let counted = rows(&ctx, &format!("SELECT count(*) FROM '{path}'")).await.unwrap();
        assert_eq!(counted, [[json!(count)]]);
        // Far below what 10⁸ of anything takes, and far above what a slow machine needs.
        assert!(start.elapsed().as_secs() < 10);
    }
}

#[tokio::test]
async fn projections_are_pushed_into_the_scan() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let ctx = session(config());
    let plan = plan(&ctx, &format!("SELECT v10 AS v, time FROM '{store}'")).await;
    let [scan] = plan.children()[..] else { panic!("{}", text(&plan)) };
    let scan = scan.downcast_ref::<datafusion::datasource::source::DataSourceExec>();
    let source = scan.and_then(|scan| scan.data_source().downcast_ref::<ZarrSource>());
    assert!(source.is_some(), "{}", text(&plan));
    let names: Vec<String> = plan.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["v", "time"]);
}

#[tokio::test]
async fn explain_shows_selections_filters_and_orders() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let ctx = session(partitioned(4, 8192));
    for (sql, shown) in [
        (
            "SELECT t2m FROM '{store}' WHERE latitude > 0 AND date_part('hour', time) IN (1, 2, 9)",
            "selection=[time=3/20 in 2 ranges, latitude=3/7], chunks=4/28",
        ),
        (
            "SELECT u10 FROM '{store}' WHERE t2m > 290",
            "filter=t2m@3 > 290 (on the values of chunks)",
        ),
        (
            "SELECT u10 FROM '{store}' WHERE latitude > longitude",
            "(on several dimensions, before chunks are read)",
        ),
        ("SELECT t2m FROM '{store}' ORDER BY time DESC LIMIT 3", "order=[time from the end]"),
        ("SELECT t2m FROM '{store}' ORDER BY t2m LIMIT 3", "(as far as known when the query runs)"),
        ("SELECT * FROM '{store}' LIMIT 3", "limit=3"),
    ] {
        let plan = plan(&ctx, &sql.replace("{store}", &store)).await;
        assert!(text(&plan).contains(shown), "{sql}: {}", text(&plan));
    }
}

/// Whole maps as chunks: rows come out of the scan in the order of time, and nothing sorts them.
#[tokio::test]
async fn orders_that_cost_nothing_are_exact() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.zarr");
    let spec = Specification {
        times: 20,
        latitudes: 7,
        longitudes: 11,
        chunks: [1, 7, 11],
        shards: None,
        compression: Compression::None,
        packed: false,
        one_chunk: false,
    };
    reanalysis::write(&store, &spec).unwrap();
    let store = store.to_string_lossy().into_owned();
    let ctx = session(partitioned(4, 8192));
    let plain = session(partitioned(1, 8192));
    plain.query("SET datafusion.optimizer.enable_sort_pushdown = false").await.unwrap();
    for (order, exact) in [
        ("time", true),
        ("time DESC", true),
        ("time, latitude DESC, longitude", true),
        ("time DESC, latitude DESC", true),
        ("time, latitude", false),
        ("latitude DESC", false),
        ("time, t2m", false),
    ] {
        for limit in ["", " LIMIT 100"] {
            let keys = format!("{order}, latitude, longitude");
            let keys = if exact { order } else { keys.as_str() };
            let sql = format!("SELECT * FROM '{store}' ORDER BY {keys}{limit}");
            let plan = plan(&ctx, &sql).await;
            assert_eq!(text(&plan).contains("Sort"), !exact, "{sql}: {}", text(&plan));
            let actual = rows(&ctx, &sql).await.unwrap();
            // Rows that are alike in the keys may come in any order: the keys must be the same.
            let column = usize::from(keys.starts_with("latitude"));
            let keys = |rows: &[Vec<Value>]| -> Vec<Value> {
                rows.iter().map(|row| row[column].clone()).collect()
            };
            let expected = rows(&plain, &sql).await.unwrap();
            assert_eq!(keys(&actual), keys(&expected), "{sql}");
            if limit.is_empty() {
                let sorted = |rows: &[Vec<Value>]| {
                    let mut rows: Vec<String> = rows.iter().map(|r| format!("{r:?}")).collect();
                    rows.sort_unstable();
                    rows
                };
                assert_eq!(sorted(&actual), sorted(&expected), "{sql}");
            }
        }
    }
}

#[tokio::test]
async fn coordinates_that_match_nothing_name_their_neighbours() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let ctx = session(config());
    for (filter, note) in [
        ("latitude = 31", "no latitude equals 31.0: the nearest values are 30.0 and 60.0"),
        ("latitude IN (30, 91)", "no latitude equals 91.0: the largest value is 90.0"),
        (
            "time = '2019-01-01T03:30:00'",
            "no time equals '2019-01-01T03:30:00': the nearest values are '2019-01-01T03:00:00' and \
             '2019-01-01T04:00:00'",
        ),
    ] {
        let plan = plan(&ctx, &format!("SELECT t2m FROM '{store}' WHERE {filter}")).await;
        assert_eq!(lsio_datafusion::notes(&plan).unwrap(), [note]);
    }
    for filter in ["latitude = 30", "latitude > 31", "t2m = 17"] {
        let plan = plan(&ctx, &format!("SELECT t2m FROM '{store}' WHERE {filter}")).await;
        assert_eq!(lsio_datafusion::notes(&plan).unwrap(), Vec::<String>::new());
    }
}

/// One chunk under ten keys, and under a thousand: memory doesn't grow with the store.
#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let one = directory.path().join("one.zarr");
    let spec = Specification {
        times: 8,
        latitudes: 64,
        longitudes: 64,
        chunks: [8, 64, 64],
        shards: None,
        compression: Compression::Zstd(1),
        packed: false,
        one_chunk: false,
    };
    reanalysis::write(&one, &spec).unwrap();
    // Ever more chunks, which are links to that one.
    for chunks in [10_u64, 1000] {
        let store = directory.path().join(format!("{chunks}.zarr/t2m"));
        let metadata = fs::read_to_string(one.join("t2m/zarr.json")).unwrap();
        let mut metadata: Value = serde_json::from_str(&metadata).unwrap();
        metadata["shape"] = json!([8 * chunks, 64, 64]);
        fs::create_dir_all(store.join("c")).unwrap();
        fs::write(store.join("zarr.json"), metadata.to_string()).unwrap();
        for chunk in 0..chunks {
            let path = store.join(format!("c/{chunk}/0"));
            fs::create_dir_all(&path).unwrap();
            fs::hard_link(one.join("t2m/c/0/0/0"), path.join("0")).unwrap();
        }
        let ctx = session(partitioned(2, 8192));
        let sql = format!("SELECT sum(value), count(*) FROM '{}'", store.to_string_lossy());
        let plan = plan(&ctx, &sql).await;
        let result = json_rows(&collect(Arc::clone(&plan), ctx.task_ctx()).await.unwrap());
        assert_eq!(result[0][1], json!(chunks * 8 * 64 * 64));
        let mut scan = plan;
        while let Some(child) = scan.children().first().map(|child| Arc::clone(child)) {
            scan = child;
        }
        let peak = scan.metrics().unwrap().iter().find_map(|metric| {
            (metric.value().name() == "peak_memory").then(|| metric.value().as_usize())
        });
        // Two partitions, and a few chunks of 128 KiB of each under way.
        assert!(peak.unwrap() <= 1 << 20, "{chunks} chunks: {peak:?}");
    }
}
