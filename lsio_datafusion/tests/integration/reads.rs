//! What is asked of the store: the chunks that hold wanted cells, each once, and nothing else.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arrow::array::{AsArray as _, RecordBatch};
use datafusion::{
    physical_plan::{ExecutionPlan, collect, execute_stream},
    prelude::SessionContext,
};
use futures::StreamExt as _;
use lsio_core::{
    Dataset, Location, OpenOptions, Recycler,
    grid::ChunkGrid,
    object_store::{ObjectStore, local::LocalFileSystem},
};
use lsio_datafusion::ZarrSession as _;
use lsio_synthetic::{
    reanalysis::{self, Specification},
    write::Compression,
};
use url::Url;

use crate::{
    harness::{config, session},
    watched::{Metrics, Watched},
};

const SHAPE: [u64; 3] = [40, 13, 20];
const CHUNKS: [u64; 3] = [4, 3, 5];

/// A store of three variables, read through a [`Watched`] one.
struct Setup {
    directory: tempfile::TempDir,
    watched: Arc<Watched>,
    shards: Option<[u64; 3]>,
}

impl Setup {
    fn new(shards: Option<[u64; 3]>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [times, latitudes, longitudes] = SHAPE;
        let spec = Specification {
            times,
            latitudes,
            longitudes,
            chunks: CHUNKS,
            shards,
            compression: Compression::Zstd(1),
            packed: false,
            one_chunk: false,
        };
        reanalysis::write(&directory.path().join("store.zarr"), &spec).unwrap();
        let inner = LocalFileSystem::new_with_prefix(directory.path()).unwrap();
        let watched = Arc::new(Watched::new(inner));
        Self { directory, watched, shards }
    }

    /// A session for one query: what it keeps of the store is gone with it.
    fn session(&self, partitions: usize) -> SessionContext {
        let mut config = config().with_target_partitions(partitions).with_batch_size(64);
        config.options_mut().optimizer.repartition_file_min_size = 0;
        let ctx = session(config);
        let url = Url::parse("watched://here").unwrap();
        ctx.register_object_store(&url, Arc::clone(&self.watched) as Arc<dyn ObjectStore>);
        ctx
    }

    async fn plan(&self, ctx: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
        let sql = sql.replace("{}", "'watched://here/store.zarr'");
        ctx.query(&sql).await.unwrap().create_physical_plan().await.unwrap()
    }

    async fn run(&self, partitions: usize, sql: &str) -> (Vec<RecordBatch>, Metrics) {
        let ctx = self.session(partitions);
        let plan = self.plan(&ctx, sql).await;
        let batches = collect(Arc::clone(&plan), ctx.task_ctx()).await.unwrap();
        (batches, Metrics::of(&plan))
    }

    /// The bytes that must be read, by object, for the chunks that `wanted` says: an independent
    /// reckoning, from the files.
    fn expected(&self, variable: &str, wanted: impl Fn([u64; 3]) -> bool) -> BTreeMap<String, u64> {
        let outer = self.shards.unwrap_or(CHUNKS);
        let grid = ChunkGrid::new(SHAPE.to_vec(), outer.to_vec()).unwrap();
        let mut expected = BTreeMap::new();
        for number in 0..grid.len() {
            let object = grid.indices(number);
            let key = object.iter().map(u64::to_string).collect::<Vec<_>>().join("/");
            let file = self.directory.path().join("store.zarr").join(variable).join("c").join(&key);
            let bytes = std::fs::read(file).unwrap();
            let per: Vec<u64> = outer.iter().zip(CHUNKS).map(|(o, c)| o / c).collect();
            let count = per.iter().product::<u64>();
            let mut read = 0;
            let mut all = true;
            for inside in 0..count {
                let at = lsio_core::grid::unravel(inside, &per);
                let chunk = [0, 1, 2].map(|d| object[d] * per[d] + at[d]);
                let exists = (0..3).all(|d| chunk[d] * CHUNKS[d] < SHAPE[d]);
                if !exists || !wanted(chunk) {
                    all = false;
                } else if self.shards.is_none() {
                    read += bytes.len() as u64;
                } else {
                    // The sizes are in the index at the end of the shard, before its checksum.
                    let index = bytes.len() - 4 - 16 * count as usize;
                    let entry = index + 16 * inside as usize + 8;
                    read += u64::from_le_bytes(bytes[entry..entry + 8].try_into().unwrap());
                }
            }
            if read > 0 {
                if self.shards.is_some() {
                    read = if all { bytes.len() as u64 } else { read + 16 * count + 4 };
                }
                expected.insert(key, read);
            }
        }
        expected
    }
}

/// The chunks along a dimension that hold one of these indices.
fn holds(dim: usize, indices: impl IntoIterator<Item = u64>) -> Vec<u64> {
    indices.into_iter().map(|index| index / CHUNKS[dim]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_chunks_of_selected_cells() {
    let all = |dim: usize| holds(dim, 0..SHAPE[dim]);
    // Latitudes are 15 degrees apart, from the north; longitudes 18; times an hour.
    let queries: [(&str, [Vec<u64>; 3]); 8] = [
        ("true", [all(0), all(1), all(2)]),
        (
            "time = '2019-01-01T06:00:00' AND latitude = 45 AND longitude = 90",
            [holds(0, [6]), holds(1, [3]), holds(2, [5])],
        ),
        (
            "latitude BETWEEN -20 AND 50 AND longitude < 60",
            [all(0), holds(1, 3..=7), holds(2, 0..=3)],
        ),
        (
            "time >= '2019-01-02' AND time < '2019-01-02T03:00:00'",
            [holds(0, 24..27), all(1), all(2)],
        ),
        (
            "date_part('hour', time) = 3 AND latitude IN (90, -90)",
            [holds(0, [3, 27]), holds(1, [0, 12]), all(2)],
        ),
        ("longitude = 180 OR longitude > 340", [all(0), all(1), holds(2, [10, 19])]),
        ("latitude = 44", [vec![], vec![], vec![]]),
        // No row is left, but that shows only where the chunks would be.
        ("latitude > 80 AND latitude > longitude + 1000", [vec![], vec![], vec![]]),
    ];
    for shards in [None, Some([8, 6, 10]), Some([40, 15, 20])] {
        let setup = Setup::new(shards);
        for partitions in [1, 3] {
            for (filter, chunks) in &queries {
                let sql = format!("SELECT t2m, u10 FROM {{}} WHERE {filter}");
                let (_, metrics) = setup.run(partitions, &sql).await;
                let mut requests = 0;
                let mut bytes = 0;
                for variable in ["t2m", "u10"] {
                    let wanted = |chunk: [u64; 3]| (0..3).all(|d| chunks[d].contains(&chunk[d]));
                    let expected = setup.expected(variable, wanted);
                    let (asked, read) = setup.watched.take(variable);
                    // Tiles may share a shard: then its index is still read once.
                    assert_eq!(read, expected, "{shards:?} {partitions}: {filter}");
                    requests += asked;
                    bytes += read.values().sum::<u64>();
                }
                assert_eq!(setup.watched.take("v10").0, 0);
                assert_eq!(metrics.get("bytes_read") as u64, bytes, "{filter}");
                assert_eq!(metrics.get("requests"), requests, "{filter}");
                let wanted = 2 * chunks
                    .iter()
                    .map(|along| along.iter().collect::<std::collections::BTreeSet<_>>().len())
                    .product::<usize>();
                assert_eq!(metrics.get("chunks_read"), wanted, "{filter}");
                assert_eq!(metrics.get("chunks_total"), 2 * 10 * 5 * 4);
                assert_eq!(metrics.get("chunks_pruned"), 2 * 10 * 5 * 4 - wanted, "{filter}");
                assert_eq!(metrics.get("chunks_absent"), 0);
            }
        }
    }
}

/// For each chunk of t2m whether it holds a value above a limit.
async fn chunks_above(setup: &Setup, limit: f32) -> BTreeMap<[u64; 3], bool> {
    let path = setup.directory.path().join("store.zarr");
    let location = Location::parse(&path.to_string_lossy()).unwrap();
    let dataset = Dataset::open(&location, &OpenOptions::default()).await.unwrap();
    let (variable, _) = dataset.variables().iter().find(|(v, _)| v.name() == "t2m").unwrap();
    let recycler = Arc::new(Recycler::default());
    let grid = variable.chunk_grid();
    let mut above = BTreeMap::new();
    for number in 0..grid.len() {
        let chunk = grid.indices(number);
        let encoded = variable.fetch_chunk(&chunk).await.unwrap();
        let values = variable.decode_chunk(&chunk, encoded.as_ref(), &recycler).unwrap();
        let values = values.as_primitive::<arrow::datatypes::Float32Type>();
        let any = values.iter().flatten().any(|value| value > limit);
        above.insert([chunk[0], chunk[1], chunk[2]], any);
    }
    above
}

#[tokio::test(flavor = "multi_thread")]
async fn other_columns_only_where_a_row_is_left() {
    for shards in [None, Some([8, 6, 10])] {
        let setup = Setup::new(shards);
        let above = chunks_above(&setup, 306.0).await;
        let some = above.values().filter(|above| **above).count();
        assert!(0 < some && some < above.len() / 2, "{some} of {}", above.len());
        for partitions in [1, 3] {
            let sql = "SELECT time, u10 FROM {} WHERE t2m > 306";
            setup.run(partitions, sql).await;
            assert_eq!(setup.watched.take("t2m").1, setup.expected("t2m", |_| true));
            let expected = setup.expected("u10", |chunk| above[&chunk]);
            assert_eq!(setup.watched.take("u10").1, expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_and_subqueries_read_their_chunks() {
    let setup = Setup::new(None);
    let queries = [
        "SELECT t2m FROM {} WHERE time = (SELECT max(time) FROM {})",
        "SELECT a.t2m FROM {} a JOIN (VALUES (TIMESTAMP '2019-01-02T15:00:00'), \
         (TIMESTAMP '2019-01-02T14:00:00')) b(t) ON a.time = b.t",
        "SELECT t2m FROM {} WHERE time IN (SELECT TIMESTAMP '2019-01-02T12:00:00')",
    ];
    for sql in queries {
        let (rows, metrics) = setup.run(2, sql).await;
        assert!(rows.iter().map(RecordBatch::num_rows).sum::<usize>() > 0);
        let expected = setup.expected("t2m", |chunk| chunk[0] == 9);
        assert_eq!(setup.watched.take("t2m").1, expected, "{sql}");
        assert_eq!(metrics.get("chunks_read"), 20, "{sql}");
    }
    // Stations: pairs of coordinates.
    let sql = "SELECT a.t2m FROM {} a JOIN (VALUES (90.0, 0.0), (-90.0, 342.0)) b(y, x) \
               ON a.latitude = b.y AND a.longitude = b.x";
    let (rows, _) = setup.run(2, sql).await;
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 80);
    let expected = setup.expected("t2m", |[_, y, x]| (y, x) == (0, 0) || (y, x) == (4, 3));
    assert_eq!(setup.watched.take("t2m").1, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_rows_need_the_first_chunks() {
    let setup = Setup::new(None);
    for (order, first) in [("time", 0), ("time DESC", 9)] {
        let sql = format!("SELECT time, t2m FROM {{}} ORDER BY {order} LIMIT 5");
        setup.run(1, &sql).await;
        let (_, read) = setup.watched.take("t2m");
        // One row of chunks, and no more than what was on its way.
        assert!(read.keys().all(|key| key.starts_with(&format!("{first}/"))), "{order}: {read:?}");
    }
    let sql = "SELECT time, latitude, longitude, t2m, u10 FROM {} ORDER BY t2m DESC LIMIT 10";
    setup.run(1, sql).await;
    assert_eq!(setup.watched.take("t2m").0, 200);
    let (requests, _) = setup.watched.take("u10");
    assert!(requests < 100, "{requests} of 200 chunks for the ten hottest cells");

    setup.run(3, "SELECT t2m FROM {} LIMIT 7").await;
    assert_eq!(setup.watched.take("t2m").0, 1);
    setup.run(1, "SELECT t2m FROM {} WHERE t2m > 0 LIMIT 7").await;
    assert_eq!(setup.watched.take("t2m").0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_fails_names_the_chunk() {
    for shards in [None, Some([8, 6, 10])] {
        let setup = Setup::new(shards);
        for partitions in [1, 3] {
            for fails in (0..60).step_by(7) {
                let ctx = setup.session(partitions);
                let sql = "SELECT avg(u10) FROM {} WHERE t2m > 290";
                let plan = setup.plan(&ctx, sql).await;
                // The coordinates have no chunks among those that are counted by now.
                setup.watched.fails.store(fails, Ordering::Relaxed);
                let pool = Arc::clone(ctx.task_ctx().memory_pool());
                let result = collect(plan, ctx.task_ctx());
                let result = tokio::time::timeout(Duration::from_secs(60), result).await.unwrap();
                let message = result.unwrap_err().to_string();
                assert!(message.contains("the plug was pulled"), "{message}");
                assert!(message.contains("t2m/c/") || message.contains("u10/c/"), "{message}");
                setup.watched.fails.store(usize::MAX / 2, Ordering::Relaxed);
                wait_for_memory(&pool).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_may_be_dropped_at_any_point() {
    let setup = Setup::new(None);
    for taken in [0, 1, 2, 5, 17, 60] {
        let ctx = setup.session(3);
        let plan = setup.plan(&ctx, "SELECT time, u10 FROM {} WHERE t2m > 280").await;
        let task = ctx.task_ctx();
        let pool = Arc::clone(task.memory_pool());
        let mut stream = execute_stream(plan, task).unwrap();
        for _ in 0..taken {
            stream.next().await.unwrap().unwrap();
        }
        drop(stream);
        wait_for_memory(&pool).await;
    }
}

/// What was reserved is given back, if not at once: other partitions end in tasks of their own.
async fn wait_for_memory(pool: &Arc<dyn datafusion::execution::memory_pool::MemoryPool>) {
    for _ in 0..500 {
        if pool.reserved() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} bytes are still reserved", pool.reserved());
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_several_tiles_need_are_read_once() {
    // The chunks of one are rows where those of the other are columns.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    write_crossed(&path);
    let inner = LocalFileSystem::new_with_prefix(directory.path()).unwrap();
    let watched = Arc::new(Watched::new(inner));
    let setup = Setup { directory, watched, shards: None };
    for partitions in [1, 4] {
        let (rows, _) = setup.run(partitions, "SELECT sum(a), sum(b), sum(a * b) FROM {}").await;
        let sums: Vec<f64> = (0..3)
            .map(|i| rows[0].column(i).as_primitive::<arrow::datatypes::Float64Type>().value(0))
            .collect();
        assert_eq!(sums, crossed_sums());
        assert_eq!(setup.watched.take("a").0, 20);
        assert_eq!(setup.watched.take("b").0, 30);
    }
}

const CROSSED: (u64, u64) = (40, 60);

fn crossed_sums() -> [f64; 3] {
    let mut sums = [0.0; 3];
    for y in 0..CROSSED.0 {
        for x in 0..CROSSED.1 {
            let (a, b) = ((y * CROSSED.1 + x) as f64, (x * 3 + y) as f64);
            sums[0] += a;
            sums[1] += b;
            sums[2] += a * b;
        }
    }
    sums
}

fn write_crossed(path: &Path) {
    use lsio_synthetic::write::{GroupWriter, SyntheticArray};
    use serde_json::json;

    let group = GroupWriter::create(path, json!({})).unwrap();
    let (height, width) = CROSSED;
    for (name, chunks) in [("a", [2, width]), ("b", [height, 2])] {
        let dims = [("y", height), ("x", width)];
        let array = group
            .array(&SyntheticArray {
                name,
                data_type: "float64",
                dims: &dims,
                chunks: &chunks,
                shards: None,
                compression: Compression::None,
                fill_value: json!(0.0),
                attributes: json!({}),
            })
            .unwrap();
        let grid = ChunkGrid::new(vec![height, width], chunks.to_vec()).unwrap();
        for number in 0..grid.len() {
            let region = grid.region(number);
            let mut values = Vec::new();
            for y in region.start[0]..region.start[0] + region.shape[0] {
                for x in region.start[1]..region.start[1] + region.shape[1] {
                    let value = if name == "a" { y * width + x } else { x * 3 + y };
                    values.push(value as f64);
                }
            }
            array.write(&grid.indices(number), &values).unwrap();
        }
    }
}
