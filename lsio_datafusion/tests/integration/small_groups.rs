//! Statistics of many small groups: what xarray and numpy give, in one pass or several, and in little memory.

use std::{fs, sync::Arc};

use datafusion::{
    execution::{memory_pool::GreedyMemoryPool, runtime_env::RuntimeEnvBuilder},
    physical_plan::{collect, displayable},
    prelude::{SessionConfig, SessionContext},
};
use lsio_datafusion::{LsioConfig, prelude::*};
use lsio_synthetic::write::{Compression, GroupWriter, SyntheticArray};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::{config, frame, rows, same, session, workspace};

#[derive(Deserialize)]
struct Entry {
    sql: String,
    rows: Vec<Vec<Value>>,
}

/// A session that keeps at most so many bytes of values at a time.
fn keeping(values_memory: usize, partitions: usize) -> SessionConfig {
    let mut config = config().with_target_partitions(partitions);
    let lsio = config.options_mut().extensions.get_mut::<LsioConfig>().unwrap();
    lsio.values_memory = values_memory;
    config
}

#[tokio::test]
async fn statistics_are_those_of_xarray_and_numpy() {
    let fixtures = workspace().join("lsio_datafusion/tests/fixtures");
    let document = fs::read_to_string(fixtures.join("small_groups.json")).unwrap();
    let entries: Vec<Entry> = serde_json::from_str(&document).unwrap();
    let store = format!("'{}'", fixtures.join("gridded_v3.zarr").display());
    for (memory, partitions) in [(0, 1), (0, 7), (100, 2), (1, 1)] {
        let ctx = session(keeping(memory, partitions));
        for Entry { sql, rows: expected } in &entries {
            let actual = rows(&ctx, &sql.replace("{}", &store)).await.unwrap();
            assert!(same(&actual, expected), "{sql}\n{actual:?}\n{expected:?}");
        }
    }
}

/// Times of a chunk.
const TIMES: u64 = 5;

/// Writes `v` and `w` on (t, y, x), each chunk with all of y and x.
fn store(path: &std::path::Path, sizes: [u64; 3]) {
    let group = GroupWriter::create(path, json!({})).unwrap();
    let [t, y, x] = sizes;
    let dims = [("t", t), ("y", y), ("x", x)];
    for (number, name) in ["v", "w"].into_iter().enumerate() {
        let value = |cell: u64| {
            let (time, place) = (cell / (y * x), cell % (y * x));
            match (time * 7 + place + number as u64) % 11 {
                0 => f32::NAN,
                _ => ((time * 31 + place * (3 + number as u64)) % 101) as f32 / 4.0,
            }
        };
        let spec = SyntheticArray {
            name,
            data_type: "float32",
            dims: &dims,
            chunks: &[TIMES, y, x],
            shards: None,
            compression: Compression::Zstd(1),
            fill_value: json!("NaN"),
            attributes: json!({}),
        };
        let array = group.array(&spec).unwrap();
        for chunk in 0..t.div_ceil(TIMES) {
            let cells = chunk * TIMES * y * x..(chunk + 1) * TIMES * y * x;
            let values: Vec<f32> = cells.map(value).collect();
            array.write(&[chunk, 0, 0], &values).unwrap();
        }
    }
    group.consolidate().unwrap();
}

/// Number of passes that a plan's metrics tell, after it has run twice with the same rows.
async fn passes(ctx: &SessionContext, sql: &str, expected: &[Vec<Value>]) -> usize {
    let frame = frame(ctx, sql).await.unwrap();
    let plan = frame.clone().create_physical_plan().await.unwrap();
    let text = displayable(plan.as_ref()).indent(false).to_string();
    assert!(text.contains("pencils=["), "{text}");
    for _ in 0..2 {
        let batches = collect(Arc::clone(&plan), Arc::new(frame.task_ctx())).await.unwrap();
        let actual = crate::harness::json_rows(&batches);
        assert!(same(&actual, expected), "{sql}\n{text}");
    }
    let analyzed = rows(ctx, &format!("EXPLAIN ANALYZE {sql}")).await.unwrap();
    let text = analyzed[0][1].as_str().unwrap();
    let (_, count) = text.split_once("passes=").unwrap();
    count.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

#[tokio::test]
async fn what_does_not_fit_is_read_in_passes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    store(&path, [23, 12, 10]);
    let sql = format!(
        "SELECT y, x, median(v), quantile_cont(v, [0.1, 0.9]), median(w) FILTER (WHERE t > 3), \
         quantile_disc(v, 0.3), count(DISTINCT v), mode(v), mad(v - w), avg(v), corr(v, w), \
         approx_median(v) FROM '{}' WHERE w <> 3 OR w IS NULL GROUP BY y, x ORDER BY y, x",
        path.display()
    );
    let mut plain = config();
    let lsio = plain.options_mut().extensions.get_mut::<LsioConfig>().unwrap();
    lsio.aggregate_pushdown = false;
    // The approximations of DataFusion are others.
    let exact = sql.replace("approx_median(v)", "CAST(median(v) AS REAL)");
    let expected = rows(&session(plain), &exact).await.unwrap();
    assert_eq!(expected.len(), 120);
    for partitions in [1, 2, 7] {
        let (sql, expected) = (&sql, &expected);
        let of = async |memory| passes(&session(keeping(memory, partitions)), sql, expected).await;
        assert_eq!(of(0).await, 1);
        let few = of(30_000).await;
        assert!((2..10).contains(&few), "{few}");
        // No group is cut, so this is the most.
        assert_eq!(of(1).await, 120);
    }
    // EXPLAIN tells where planning knows the memory.
    let explained = rows(&session(keeping(1, 2)), &format!("EXPLAIN {sql}")).await.unwrap();
    assert!(explained[1][1].as_str().unwrap().contains("passes=120"), "{explained:?}");
}

#[tokio::test]
async fn a_memory_limit_is_obeyed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    // 15 MB of values.
    store(&path, [100, 200, 190]);
    let sql = format!(
        "SELECT sum(m), sum(q), sum(c) FROM (SELECT y, x, median(v) AS m, quantile_cont(v, 0.9) AS q, \
         corr(v, w) AS c FROM '{}' GROUP BY y, x)",
        path.display()
    );
    let expected = rows(&session(config()), &sql).await.unwrap();
    let limit = Arc::new(GreedyMemoryPool::new(32_000_000));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(limit).build_arc().unwrap();
    let config = config().with_target_partitions(2);
    let ctx = SessionContext::new_with_config_rt(config, runtime).with_zarr().enable_url_table();
    let analyzed = rows(&ctx, &format!("EXPLAIN ANALYZE {sql}")).await.unwrap();
    let text = analyzed[0][1].as_str().unwrap();
    let (_, count) = text.split_once("passes=").unwrap();
    let count: String = count.chars().take_while(char::is_ascii_digit).collect();
    assert!((2..6).contains(&count.parse::<usize>().unwrap()), "{text}");
    assert!(same(&rows(&ctx, &sql).await.unwrap(), &expected));
}

#[tokio::test]
async fn buckets_are_those_of_postgresql() {
    let ctx = session(config());
    for (call, expected) in [
        ("width_bucket(5.35, 0.024, 10.06, 5)", json!(3)),
        ("width_bucket(-1, 0, 10, 5)", json!(0)),
        ("width_bucket(0, 0, 10, 5)", json!(1)),
        ("width_bucket(1.9999, 0, 10, 5)", json!(1)),
        ("width_bucket(2, 0, 10, 5)", json!(2)),
        ("width_bucket(10, 0, 10, 5)", json!(6)),
        ("width_bucket(11, 0, 10, 5)", json!(6)),
        ("width_bucket(9.9999999999, 0, 10, 5)", json!(5)),
        ("width_bucket(0.3, 0, 1, 10)", json!(4)),
        ("width_bucket(arrow_cast(0.7, 'Float32'), 0, 1, 10)", json!(8)),
        ("width_bucket(10, 10, 0, 5)", json!(1)),
        ("width_bucket(8, 10, 0, 5)", json!(2)),
        ("width_bucket(11, 10, 0, 5)", json!(0)),
        ("width_bucket(0, 10, 0, 5)", json!(6)),
        ("width_bucket(CAST('Infinity' AS DOUBLE), 0, 10, 5)", json!(6)),
        ("width_bucket(-CAST('Infinity' AS DOUBLE), 0, 10, 5)", json!(0)),
        ("width_bucket(CAST('NaN' AS DOUBLE), 0, 10, 5)", Value::Null),
        ("width_bucket(NULL, 0, 10, 5)", Value::Null),
        ("width_bucket(1, NULL, 10, 5)", Value::Null),
        ("width_bucket(1, 0, 10, NULL)", Value::Null),
    ] {
        let actual = rows(&ctx, &format!("SELECT {call}")).await.unwrap();
        assert_eq!(actual, [[expected]], "{call}");
    }
    let rows_of = "(VALUES (1.0, 0.0, 2), (3.0, 4.0, 1), (NULL, 4.0, 1)) v(a, low, n)";
    let actual = rows(&ctx, &format!("SELECT width_bucket(a, low, 10, n) FROM {rows_of}")).await;
    assert_eq!(actual.unwrap(), [[json!(1)], [json!(0)], [Value::Null]]);
    for (call, message) in [
        ("width_bucket(1, 0, 10, 0)", "the number of buckets must be 1 or more"),
        ("width_bucket(1, 3, 3, 2)", "the bounds must be different"),
        ("width_bucket(1, 0, CAST('Infinity' AS DOUBLE), 2)", "the bounds must be finite"),
        ("width_bucket('a', 0, 10, 2)", "takes numbers, not Utf8"),
        ("histogram(a, 10, 0, 2)", "takes a lower bound, an upper one"),
        ("histogram(a, 0, 10, 0)", "the number of buckets must be 1 or more"),
        ("histogram(a, 0, 10, n)", "takes constant bounds"),
        ("histogram(a, 0, 10)", "the number of buckets, such as histogram(t, 250, 320, 70)"),
    ] {
        let error = rows(&ctx, &format!("SELECT {call} FROM {rows_of}")).await.unwrap_err();
        assert!(error.to_string().contains(message), "{call}: {error}");
    }
}

#[tokio::test]
async fn keys_of_data_are_counted_in_the_scan() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    store(&path, [23, 12, 10]);
    let keys = "floor(v / 10) AS a, width_bucket(w, 0, 25, 5) AS b, y % 2 AS c";
    let of = |keys: &str| {
        format!(
            "SELECT {keys}, count(*), count(v), avg(w), max(w), histogram(w, 0, 25, 3) \
             FROM '{}' WHERE x > 1 GROUP BY ALL ORDER BY ALL",
            path.display()
        )
    };
    let mut plain = config();
    let lsio = plain.options_mut().extensions.get_mut::<LsioConfig>().unwrap();
    lsio.aggregate_pushdown = false;
    let plain = session(plain);
    for keys in [keys, "v AS a", "v > 3 AS a", "CASE WHEN v > 3 THEN 'high' END AS a, t AS b"] {
        let sql = of(keys);
        let expected = rows(&plain, &sql).await.unwrap();
        for partitions in [1, 2, 7] {
            let ctx = session(config().with_target_partitions(partitions));
            let explained = rows(&ctx, &format!("EXPLAIN {sql}")).await.unwrap();
            let text = explained[1][1].as_str().unwrap();
            assert!(text.contains("numbered values=["), "{text}");
            for _ in 0..2 {
                let actual = rows(&ctx, &sql).await.unwrap();
                assert!(same(&actual, &expected), "{sql}\n{actual:?}\n{expected:?}");
            }
        }
    }
    // Too many values for the memory: DataFusion's aggregate runs, and nothing is lost.
    let path = directory.path().join("large.zarr");
    store(&path, [60, 30, 20]);
    let sql = format!(
        "SELECT count(*), sum(n), min(a), max(a) FROM (SELECT v + 1000 * t + 100000 * y AS a, count(*) AS n \
         FROM '{}' GROUP BY 1)",
        path.display()
    );
    let expected = rows(&plain, &sql).await.unwrap();
    let limit = Arc::new(GreedyMemoryPool::new(4_000_000));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(limit).build_arc().unwrap();
    let config = config().with_target_partitions(2);
    let ctx = SessionContext::new_with_config_rt(config, runtime).with_zarr().enable_url_table();
    assert!(same(&rows(&ctx, &sql).await.unwrap(), &expected));
}
