//! Aggregates that the scan does: which ones those are, what they read, and what groups without a
//! value give.

use std::{fs, path::Path};

use datafusion::{
    functions_aggregate::expr_fn::avg,
    physical_plan::displayable,
    prelude::{SessionConfig, SessionContext, col},
};
use lsio_datafusion::{LsioConfig, prelude::*};
use lsio_synthetic::{
    reanalysis::{self, Specification},
    write::{Compression, GroupWriter, SyntheticArray},
};
use serde_json::{Value, json};

use crate::{
    harness::{address, config, frame, rows, same, session},
    storage::one_in,
};

const NOT_PUSHED: &str = "aggregate not pushed down";

/// Twelve maps of 4 × 5, 20 days apart, with values on all dimensions, a height on the map, and a
/// coordinate on time and latitude.
fn store(path: &Path) {
    let group = GroupWriter::create(path, json!({})).unwrap();
    let spec = |name, data_type, dims, attributes| SyntheticArray {
        name,
        data_type,
        dims,
        chunks: &[5, 2, 3],
        shards: None,
        compression: Compression::Zstd(1),
        fill_value: json!(0),
        attributes,
    };
    let cube: &[(&str, u64)] = &[("time", 12), ("latitude", 4), ("longitude", 5)];
    let days: Vec<i64> = (0..12).map(|i| i * 20).collect();
    let units = json!({"units": "days since 2019-01-01", "calendar": "proleptic_gregorian"});
    group.whole_array(&spec("time", "int64", &cube[..1], units), &days).unwrap();
    let latitudes = [60.0, 30.0, 0.0, -30.0];
    group.whole_array(&spec("latitude", "float64", &cube[1..2], json!({})), &latitudes).unwrap();
    let longitudes = [0.0_f32, 72.0, 144.0, 216.0, 288.0];
    group.whole_array(&spec("longitude", "float32", &cube[2..], json!({})), &longitudes).unwrap();
    let heights: Vec<f32> = (0..20_i16).map(|i| f32::from(i) * 10.0).collect();
    group.whole_array(&spec("orography", "float32", &cube[1..], json!({})), &heights).unwrap();
    let steps: Vec<i32> = (0..48).map(|cell| cell / 4 + cell % 4).collect();
    group.whole_array(&spec("step", "int32", &cube[..2], json!({})), &steps).unwrap();
    let attributes = json!({"coordinates": "step"});
    for (name, offset) in [("v", -20.0_f32), ("u", 7.0)] {
        let array = group.array(&spec(name, "float32", cube, attributes.clone())).unwrap();
        for t in 0..3_u8 {
            for y in 0..2_u8 {
                for x in 0..2_u8 {
                    let first = f32::from(t) * 30.0 + f32::from(y) * 7.0 + f32::from(x) + offset;
                    let values: Vec<f32> =
                        (0..30_u8).map(|cell| first + f32::from(cell) * 0.5).collect();
                    array.write(&[t, y, x].map(u64::from), &values).unwrap();
                }
            }
        }
    }
    group.consolidate().unwrap();
}

fn table(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy())
}

fn pushing(pushdown: bool) -> SessionConfig {
    let mut config = config().with_target_partitions(3);
    let options = config.options_mut();
    options.optimizer.repartition_file_min_size = 0;
    options.extensions.get_mut::<LsioConfig>().unwrap().aggregate_pushdown = pushdown;
    config
}

async fn plan(ctx: &SessionContext, sql: &str) -> String {
    let plan = frame(ctx, sql).await.unwrap().create_physical_plan().await.unwrap();
    displayable(plan.as_ref()).indent(false).to_string()
}

/// Queries, and whether the scan does their aggregates; what the plan must say besides.
const SHAPES: &[(&str, bool, &str)] = &[
    ("SELECT avg(v) FROM {}", true, ""),
    ("SELECT count(v), sum(v), min(v), max(v) FROM {}", true, ""),
    ("SELECT var(v), var_pop(v), stddev(v), stddev_pop(v) FROM {}", true, ""),
    ("SELECT latitude, avg(v) FROM {} GROUP BY latitude", true, ""),
    ("SELECT latitude, longitude, avg(v), max(u) FROM {} GROUP BY latitude, longitude", true, ""),
    ("SELECT time, min(v) FROM {} GROUP BY time", true, ""),
    ("SELECT date_trunc('month', time) AS m, avg(v) FROM {} GROUP BY m", true, ""),
    ("SELECT date_part('month', time), avg(v) FROM {} GROUP BY 1", true, ""),
    (
        "SELECT date_part('year', time), date_part('month', time), sum(v) FROM {} GROUP BY 1, 2",
        true,
        "",
    ),
    ("SELECT date_part('month', time), latitude, sum(v) FROM {} GROUP BY 1, 2", true, ""),
    ("SELECT date_part('month', time), count(*) FROM {} GROUP BY 1", true, ""),
    ("SELECT floor(latitude / 30), avg(v) FROM {} GROUP BY 1", true, ""),
    (
        "SELECT CASE WHEN latitude > 20 THEN 'north' ELSE 'south' END, avg(v) FROM {} GROUP BY 1",
        true,
        "",
    ),
    ("SELECT 'all', latitude, avg(v) FROM {} GROUP BY 1, 2", true, ""),
    ("SELECT step, avg(v) FROM {} GROUP BY step", true, ""),
    ("SELECT step % 3, avg(v) FROM {} GROUP BY 1", true, ""),
    ("SELECT latitude + longitude, avg(v) FROM {} GROUP BY 1", true, ""),
    ("SELECT latitude, max(orography) FROM {} GROUP BY latitude", true, ""),
    ("SELECT avg(v + 1), sum(v * u) FROM {}", true, ""),
    ("SELECT sum(v * cos(radians(latitude))) / sum(cos(radians(latitude))) FROM {}", true, ""),
    ("SELECT time, max(sqrt(v * v + u * u)) FROM {} GROUP BY time", true, ""),
    ("SELECT avg(abs(v)), sum(CASE WHEN v > 1 THEN v END) FROM {}", true, ""),
    ("SELECT longitude, sum(CAST(v AS BIGINT)) FROM {} GROUP BY longitude", true, ""),
    ("SELECT latitude, avg(v) FROM {} WHERE longitude > 100 GROUP BY latitude", true, ""),
    ("SELECT latitude, avg(v) FROM {} WHERE v > 0 GROUP BY latitude", true, ""),
    ("SELECT avg(v) FROM {} WHERE u > v + 1 AND time > '2019-03-01'", true, ""),
    ("SELECT latitude, count(*) FILTER (WHERE v > 0) FROM {} GROUP BY latitude", true, ""),
    ("SELECT latitude, avg(v) FROM {} GROUP BY latitude HAVING max(v) > 3", true, ""),
    ("SELECT latitude, avg(v) FROM {} GROUP BY latitude ORDER BY latitude LIMIT 2", true, ""),
    ("SELECT DISTINCT latitude FROM {}", true, ""),
    (
        "SELECT k, avg(y) FROM (SELECT latitude AS k, v * 2 AS y FROM {} WHERE v > 0) GROUP BY k",
        true,
        "",
    ),
    (
        "SELECT latitude, avg(v) FROM {} GROUP BY latitude UNION ALL \
         SELECT latitude, avg(u) FROM {} GROUP BY latitude",
        true,
        "",
    ),
    (
        "SELECT q.k, a FROM (SELECT latitude AS k, avg(v) AS a FROM {} GROUP BY latitude) q \
         JOIN (VALUES (0.0), (30.0)) s(x) ON q.k = s.x",
        true,
        "",
    ),
    ("SELECT avg(u) FROM {} WHERE latitude >= 0 AND longitude IN (0, 72)", true, ""),
    // What comes out of a scan with a limit isn't all.
    ("SELECT avg(v) FROM (SELECT v FROM {} LIMIT 7)", false, NOT_PUSHED),
    ("SELECT latitude, sum(v) FROM (SELECT * FROM {} LIMIT 9) GROUP BY 1", false, NOT_PUSHED),
    // Values are numbered; kept values and accumulators have no numbers that change.
    ("SELECT v, count(*) FROM {} GROUP BY v", true, "numbered values=[v]"),
    ("SELECT latitude, v, count(u) FROM {} GROUP BY latitude, v", true, "numbered values=[v]"),
    ("SELECT floor(v), median(u) FROM {} GROUP BY 1", false, NOT_PUSHED),
    ("SELECT DISTINCT v FROM {} LIMIT 2", false, "takes few of its groups"),
    ("SELECT floor(v), array_agg(u ORDER BY u) FROM {} GROUP BY 1", false, NOT_PUSHED),
    // Each row has its own number.
    ("SELECT latitude, sum(v + random()) FROM {} GROUP BY latitude", false, ""),
    ("SELECT stddev(r) > 0 FROM (SELECT random() AS r FROM {})", false, NOT_PUSHED),
    ("SELECT count(*) > 1 FROM {} WHERE random() < 0.9", false, NOT_PUSHED),
    // A key that can't be evaluated for rows that are left out.
    (
        "SELECT CAST(concat('n', step) AS INT), count(*) FROM {} WHERE v > 1e30 GROUP BY 1",
        false,
        NOT_PUSHED,
    ),
    // Its accumulator takes the rows as they come.
    ("SELECT latitude, nth_value(v, 2 ORDER BY v) FROM {} GROUP BY latitude", false, NOT_PUSHED),
    ("SELECT v FROM {}", false, ""),
];

#[tokio::test]
async fn plans_say_which_aggregates_are_pushed_down() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    store(&path);
    let (on, off) = (session(pushing(true)), session(pushing(false)));
    for &(sql, pushed, shown) in SHAPES {
        let sql = sql.replace("{}", &table(&path));
        let text = plan(&on, &sql).await;
        assert_eq!(text.contains("ZarrAggregateExec"), pushed, "{sql}\n{text}");
        assert!(text.contains(shown), "{sql}\n{text}");
        let text = plan(&off, &sql).await;
        assert!(!text.contains("ZarrAggregateExec"), "{sql}\n{text}");
        // A limit without an order, and random numbers, may give other rows.
        if !sql.contains("LIMIT") && !sql.contains("random") {
            let (mut actual, mut expected) =
                (rows(&on, &sql).await.unwrap(), rows(&off, &sql).await.unwrap());
            // Groups come in any order. All that has no group before its aggregates is one row.
            actual.sort_by_key(|row| format!("{row:?}"));
            expected.sort_by_key(|row| format!("{row:?}"));
            assert!(same(&actual, &expected), "{sql}\n{actual:?}\ninstead of\n{expected:?}");
        }
    }
}

#[tokio::test]
async fn data_frames_get_the_same_plan() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    store(&path);
    let ctx = session(pushing(true));
    let store = address(&path.to_string_lossy());
    let frame = ctx.read_zarr(&store, OpenOptions::default()).await.unwrap();
    let frame = frame.aggregate(vec![col("latitude")], vec![avg(col("v"))]).unwrap();
    let plan = frame.create_physical_plan().await.unwrap();
    let text = displayable(plan.as_ref()).indent(false).to_string();
    assert!(text.contains("ZarrAggregateExec"), "{text}");
}

#[tokio::test]
async fn the_setting_is_one_of_the_session() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    store(&path);
    let sql = format!("SELECT latitude, avg(v) FROM {} GROUP BY latitude", table(&path));
    let ctx = session(pushing(true));
    for (value, pushed) in [("true", true), ("false", false), ("true", true)] {
        ctx.query(&format!("SET lsio.aggregate_pushdown = {value}")).await.unwrap();
        let text = plan(&ctx, &sql).await;
        assert_eq!(text.contains("ZarrAggregateExec"), pushed, "{text}");
    }
}

/// Overwrites all files below a directory.
fn spoil(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            spoil(&path);
        } else {
            fs::write(path, [7_u8; 100]).unwrap();
        }
    }
}

#[tokio::test]
async fn aggregates_of_coordinates_read_no_chunk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    store(&path);
    let queries = [
        "SELECT date_trunc('month', time) AS m, count(*) FROM {} GROUP BY m ORDER BY m",
        "SELECT date_part('month', time) AS m, count(*) FROM {} WHERE latitude > 0 \
         GROUP BY m ORDER BY m",
        "SELECT DISTINCT latitude FROM {} ORDER BY latitude",
        "SELECT date_part('month', time) AS m, min(latitude) FROM {} GROUP BY m ORDER BY m",
    ]
    .map(|sql| sql.replace("{}", &table(&path)));
    let mut expected = Vec::new();
    for sql in &queries {
        let rows = rows(&session(pushing(false)), sql).await.unwrap();
        assert!(!rows.is_empty(), "{sql}");
        expected.push(rows);
    }
    for name in ["v", "u"] {
        spoil(&path.join(name).join("c"));
    }
    let ctx = session(pushing(true));
    for (sql, expected) in queries.iter().zip(&expected) {
        assert_eq!(rows(&ctx, sql).await.unwrap(), *expected, "{sql}");
    }
    // What needs the values can't have them.
    for sql in ["SELECT avg(v) FROM {}", "SELECT latitude, max(u) FROM {} GROUP BY latitude"] {
        let sql = sql.replace("{}", &table(&path));
        assert!(rows(&ctx, &sql).await.is_err(), "{sql}");
    }
}

/// Four groups of 50 values, of which every other one has none.
fn gaps(path: &Path, chunks: &[u64]) {
    let group = GroupWriter::create(path, json!({})).unwrap();
    let is_gap = |g: u64| g % 2 == 1;
    let spec = |name, data_type, fill_value, attributes| SyntheticArray {
        name,
        data_type,
        dims: &[("g", 4), ("x", 50)],
        chunks,
        shards: None,
        compression: Compression::None,
        fill_value,
        attributes,
    };
    let floats = group.array(&spec("v", "float32", json!("NaN"), json!({}))).unwrap();
    let masked = json!({"_FillValue": -1});
    let integers = group.array(&spec("i", "int16", json!(-1), masked)).unwrap();
    for chunk_g in 0..4_u64.div_ceil(chunks[0]) {
        for chunk_x in 0..50_u64.div_ceil(chunks[1]) {
            // A float of each cell; those beyond the edges mean nothing.
            let cells: Vec<Option<i16>> = (0..chunks[0] * chunks[1])
                .map(|cell| {
                    let g = chunk_g * chunks[0] + cell / chunks[1];
                    let x = chunk_x * chunks[1] + cell % chunks[1];
                    (!is_gap(g)).then(|| i16::try_from(g + x).unwrap())
                })
                .collect();
            let values: Vec<f32> = cells.iter().map(|c| c.map_or(f32::NAN, f32::from)).collect();
            floats.write(&[chunk_g, chunk_x], &values).unwrap();
            let values: Vec<i16> = cells.iter().map(|c| c.unwrap_or(-1)).collect();
            integers.write(&[chunk_g, chunk_x], &values).unwrap();
        }
    }
    group.consolidate().unwrap();
}

/// Groups whose values are all NULL, next to groups that have no NULL: whoever skips the groups
/// that a batch doesn't have must not take them for groups with a value.
#[tokio::test]
async fn groups_without_a_value_are_null() {
    // With x from 0 to 49, the values of group g are g + x.
    let float = |g: f64| {
        json!([
            g,
            50.0 * g + 1225.0,
            50,
            g + 24.5,
            g,
            g + 49.0,
            212.5,
            208.25_f64.sqrt(),
            g + 24.5,
            50,
            1
        ])
    };
    let integer = |g: i64| json!([g, 50 * g + 1225, 50, g as f64 + 24.5, g, g + 49, 50]);
    let none = Value::Null;
    let float_gap = |g: i64| json!([g, none, 0, none, none, none, none, none, none, 50, 0]);
    let integer_gap = |g: i64| json!([g, none, 0, none, none, none, 50]);
    let to_rows = |rows: [Value; 4]| -> Vec<Vec<Value>> {
        rows.map(|row| row.as_array().unwrap().clone()).to_vec()
    };
    for chunks in [[4, 50], [1, 50], [2, 7], [3, 50], [4, 1]] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.zarr");
        gaps(&path, &chunks);
        for (pushdown, partitions, batch_size, tile_bytes) in
            [(true, 1, 8192, 2 << 20), (true, 3, 7, 0), (true, 2, 60, 400), (false, 2, 7, 0)]
        {
            let mut config =
                pushing(pushdown).with_target_partitions(partitions).with_batch_size(batch_size);
            let settings = config.options_mut().extensions.get_mut::<LsioConfig>().unwrap();
            settings.tile_bytes = tile_bytes;
            let ctx = session(config);
            for (sql, expected) in [
                (
                    "SELECT g, sum(v), count(v), avg(v), min(v), max(v), var(v), stddev_pop(v), \
                     median(v), count(*), count(v) FILTER (WHERE x = 3) FROM {} \
                     GROUP BY g ORDER BY g",
                    to_rows([float(0.0), float_gap(1), float(2.0), float_gap(3)]),
                ),
                (
                    "SELECT g, sum(i), count(i), avg(i), min(i), max(i), count(*) FROM {} \
                     GROUP BY g ORDER BY g",
                    to_rows([integer(0), integer_gap(1), integer(2), integer_gap(3)]),
                ),
                // All values, but for some groups none is chosen.
                (
                    "SELECT g, sum(x) FILTER (WHERE v >= 0), count(*) FILTER (WHERE i > 500), \
                     avg(x) FILTER (WHERE g <> 2) FROM {} GROUP BY g ORDER BY g",
                    to_rows([
                        json!([0, 1225, 0, 24.5]),
                        json!([1, none, 0, 24.5]),
                        json!([2, 1225, 0, none]),
                        json!([3, none, 0, 24.5]),
                    ]),
                ),
            ] {
                let sql = sql.replace("{}", &table(&path));
                let actual = rows(&ctx, &sql).await.unwrap();
                let at = format!("{chunks:?}, {pushdown}, {partitions}, {batch_size}: {sql}");
                assert!(same(&actual, &expected), "{at}\n{actual:?}\ninstead of\n{expected:?}");
            }
            let sql = "SELECT g % 2 AS k, sum(v), median(v), count(i), sum(i) FROM {} \
                       GROUP BY k ORDER BY k";
            let actual = rows(&ctx, &sql.replace("{}", &table(&path))).await.unwrap();
            let expected = [json!([0, 2550.0, 25.5, 100, 2550]), json!([1, none, none, 0, none])]
                .map(|row| row.as_array().unwrap().clone());
            assert!(same(&actual, &expected), "{chunks:?}: {actual:?}");
        }
    }
}

#[tokio::test]
async fn nothing_selected_is_one_row_without_groups_and_none_with_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    gaps(&path, &[2, 7]);
    for pushdown in [true, false] {
        let ctx = session(pushing(pushdown));
        for filter in ["x > 1000", "v > 1000", "g = 1 AND v > 0", "x + g > 1000"] {
            let from = format!("FROM {} WHERE {filter}", table(&path));
            let sql = format!("SELECT count(*), count(v), sum(v), min(i), avg(i), var(v) {from}");
            let actual = rows(&ctx, &sql).await.unwrap();
            let none = Value::Null;
            let expected = json!([0, 0, none, none, none, none]);
            assert_eq!(json!(actual), json!([expected]), "{sql}");
            for key in ["g", "g % 2", "g, x"] {
                let sql = format!("SELECT {key}, count(*), sum(v) {from} GROUP BY {key}");
                assert_eq!(rows(&ctx, &sql).await.unwrap(), Vec::<Vec<Value>>::new(), "{sql}");
            }
            let sql = format!("SELECT DISTINCT g {from}");
            assert_eq!(rows(&ctx, &sql).await.unwrap(), Vec::<Vec<Value>>::new(), "{sql}");
        }
    }
}

/// Chunks as large as real ones are, cut off at the edges, in every encoding: what is reduced piece by
/// piece, and what is summed before it is weighted, gives what DataFusion's operators give.
#[tokio::test(flavor = "multi_thread")]
async fn large_chunks_give_what_rows_give() {
    let directory = tempfile::tempdir().unwrap();
    let (on, off) = (session(pushing(true)), session(pushing(false)));
    let encodings = [
        ("shards", Compression::BloscLz4(5), Some([4, 100, 400]), false),
        ("raw", Compression::None, None, false),
        ("zstd", Compression::Zstd(1), None, false),
        ("blosc", Compression::BloscLz4(5), None, false),
        ("packed", Compression::BloscLz4(5), None, true),
        ("packed zstd", Compression::Zstd(1), None, true),
    ];
    for (name, compression, shards, packed) in encodings.into_iter().step_by(one_in()) {
        let path = directory.path().join(name);
        let spec = Specification {
            times: 5,
            latitudes: 70,
            longitudes: 400,
            chunks: [4, 50, 400],
            shards,
            compression,
            packed,
            one_chunk: false,
        };
        reanalysis::write(&path, &spec).unwrap();
        for sql in [
            "SELECT avg(t2m), min(t2m), max(t2m), count(t2m), stddev(t2m), sum(u10) FROM {}",
            "SELECT latitude, avg(t2m) FROM {} GROUP BY latitude",
            "SELECT longitude, avg(t2m), max(v10) FROM {} GROUP BY longitude",
            "SELECT latitude, longitude, avg(t2m), min(t2m) FROM {} GROUP BY latitude, longitude",
            "SELECT floor(latitude / 10), floor(longitude / 7), avg(t2m), min(t2m) FROM {} GROUP BY 1, 2",
            "SELECT time, sum(t2m * cos(radians(latitude))), sum(cos(radians(latitude))) FROM {} \
             GROUP BY time",
            "SELECT longitude, sum(t2m * cos(radians(latitude))) FROM {} WHERE t2m > 290 GROUP BY 1",
            "SELECT time, avg(sqrt(u10 * u10 + v10 * v10)), max(abs(u10) - 1.5) FROM {} GROUP BY time",
            "SELECT latitude, count(*), avg(u10) FILTER (WHERE v10 < 0) FROM {} \
             WHERE t2m > 280 AND u10 <= 3 AND v10 <> 0 GROUP BY latitude",
            "SELECT count(*), avg(t2m) FROM {} WHERE t2m > 285 AND latitude < 30",
            "SELECT count(*), min(u10), var(u10) FROM {} WHERE u10 <> 0 AND v10 <= 2",
            // Several slabs, of one tile and of several.
            "SELECT count(*), sum(a), max(b) FROM (SELECT time, latitude, longitude, max(t2m) AS a, \
             avg(u10) AS b FROM {} GROUP BY 1, 2, 3)",
            "SELECT latitude, count(*), sum(a), sum(b), min(c) FROM (SELECT \
             date_part('hour', time) % 2, latitude, longitude, avg(t2m) AS a, stddev(t2m) AS b, \
             min(u10) AS c FROM {} GROUP BY 1, 2, 3) GROUP BY latitude",
        ] {
            let sql = sql.replace("{}", &table(&path));
            assert!(plan(&on, &sql).await.contains("ZarrAggregateExec"), "{sql}");
            let (mut actual, mut expected) =
                (rows(&on, &sql).await.unwrap(), rows(&off, &sql).await.unwrap());
            // By their keys: what follows is the same up to rounding.
            actual.sort_by_key(|row| format!("{row:?}"));
            expected.sort_by_key(|row| format!("{row:?}"));
            assert!(same(&actual, &expected), "{sql}");
        }
    }
}

/// Chunks of more than 4 MiB are decompressed block by block: whole, in part, several at the same time, and unpacked.
#[tokio::test(flavor = "multi_thread")]
async fn large_frames_give_what_rows_give() {
    let directory = tempfile::tempdir().unwrap();
    let (on, off) = (session(pushing(true)), session(pushing(false)));
    for packed in [false, true] {
        let path = directory.path().join(format!("packed_{packed}"));
        let spec = Specification {
            times: 18,
            latitudes: 350,
            longitudes: 400,
            chunks: [16, 350, 400],
            shards: None,
            compression: Compression::Zstd(1),
            packed,
            one_chunk: false,
        };
        reanalysis::write(&path, &spec).unwrap();
        for sql in [
            "SELECT avg(t2m), min(t2m), max(t2m), count(t2m), sum(u10 * v10) FROM {}",
            "SELECT time, max(t2m), sum(v10) FROM {} WHERE latitude < 30 GROUP BY time",
        ] {
            let sql = sql.replace("{}", &table(&path));
            assert!(plan(&on, &sql).await.contains("ZarrAggregateExec"), "{sql}");
            let (mut actual, mut expected) =
                (rows(&on, &sql).await.unwrap(), rows(&off, &sql).await.unwrap());
            actual.sort_by_key(|row| format!("{row:?}"));
            expected.sort_by_key(|row| format!("{row:?}"));
            assert!(same(&actual, &expected), "{packed} {sql}");
        }
    }
}
