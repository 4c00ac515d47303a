//! Rows of files that scans look up: with unique keys, with keys that repeat, and too many.

use std::{fs, sync::Arc};

use datafusion::{
    execution::{memory_pool::GreedyMemoryPool, runtime_env::RuntimeEnvBuilder},
    physical_plan::displayable,
    prelude::SessionContext,
};
use lsio_datafusion::prelude::*;

use crate::harness::{config, frame, reanalysis_store, rows, same, session};

const QUERIES: [&str; 5] = [
    "SELECT name, avg(t2m) AS mean, count(*) AS n FROM '{store}' JOIN '{file}' ON latitude = lat \
     AND longitude = lon GROUP BY name ORDER BY name",
    "SELECT time, name, t2m FROM '{store}' JOIN '{file}' ON latitude = lat AND longitude = lon \
     ORDER BY time, name",
    "SELECT count(*) AS n, count(name) AS m FROM '{store}' LEFT JOIN '{file}' ON latitude = lat \
     AND longitude = lon",
    "SELECT count(*) AS n FROM '{store}' WHERE latitude NOT IN (SELECT lat FROM '{file}' WHERE lat > 0)",
    "SELECT count(*) AS n, max(t2m) AS warmest FROM '{store}' WHERE EXISTS (SELECT 1 FROM '{file}' \
     WHERE lat = latitude AND lon = longitude)",
];

#[tokio::test]
async fn rows_of_files_are_looked_up_if_their_keys_are_unique() {
    let directory = tempfile::tempdir().unwrap();
    let store = reanalysis_store(directory.path(), [20, 7, 12], [3, 4, 5]);
    let unique = "name,lat,lon\na,90.0,0.0\nb,30.0,60.0\nc,31.0,60.0\nd,,60.0\ne,-90.0,330.0\n";
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let files = [
        file("unique.csv", unique.to_owned()),
        file("repeated.csv", format!("{unique}f,30.0,60.0\n")),
        file("empty.csv", "name,lat,lon\n".to_owned()),
    ];
    for partitions in [1, 4] {
        for file in &files {
            for sql in QUERIES {
                let sql = sql.replace("{store}", &store).replace("{file}", file);
                let ctx = session(config().with_target_partitions(partitions));
                let plan = frame(&ctx, &sql).await.unwrap().create_physical_plan().await.unwrap();
                let plan = displayable(plan.as_ref()).indent(false).to_string();
                let looked_up = rows(&ctx, &sql).await.unwrap();
                // The second run reads the file again.
                assert_eq!(looked_up, rows(&ctx, &sql).await.unwrap(), "{sql}");
                rows(&ctx, "SET lsio.join_pushdown = false").await.unwrap();
                let plain = rows(&ctx, &sql).await.unwrap();
                assert_eq!(looked_up, plain, "{partitions}: {sql}\n{plan}");
                if !sql.contains("NOT IN") && !file.contains("empty") {
                    assert!(plan.contains("looked up"), "{plan}");
                }
            }
        }
    }
}

/// Joins with an aggregate and windows over whole partitions, some of whose results come without rows.
const CLIMATOLOGIES: [&str; 14] = [
    "SELECT avg(abs(a.t2m - c.m)) AS d, count(c.m) AS n, min(c.k) AS k FROM '{store}' a JOIN \
     (SELECT date_part('hour', time) AS h, latitude, longitude, avg(t2m) AS m, count(*) AS k FROM '{store}' \
     GROUP BY 1, 2, 3) c ON date_part('hour', a.time) = c.h AND a.latitude = c.latitude \
     AND a.longitude = c.longitude",
    // Other orders of keys and columns, and keys that are asked for.
    "SELECT a.time, c.longitude, c.h, c.high - c.low AS d, c.s FROM '{store}' a JOIN \
     (SELECT max(t2m) AS high, longitude, stddev(t2m) AS s, date_part('hour', time) AS h, min(t2m) AS low \
     FROM '{store}' GROUP BY h, longitude) c ON a.longitude = c.longitude AND date_part('hour', a.time) = c.h \
     WHERE a.latitude > 80 ORDER BY 1, 2",
    // Keys that share a dimension, or have two.
    "SELECT count(*) AS n, sum(c.m) AS m FROM '{store}' a JOIN (SELECT date_part('hour', time) AS h, \
     date_part('day', time) AS d, latitude, avg(t2m) AS m FROM '{store}' GROUP BY 1, 2, 3) c \
     ON date_part('day', a.time) = c.d AND date_part('hour', a.time) = c.h AND a.latitude = c.latitude",
    "SELECT c.b, count(*) AS n, sum(c.m) AS m FROM '{store}' a JOIN (SELECT \
     floor((latitude + longitude) / 60) AS b, avg(t2m) AS m FROM '{store}' GROUP BY 1) c \
     ON floor((a.latitude + a.longitude) / 60) = c.b GROUP BY 1 ORDER BY 1",
    "SELECT count(*) AS n, sum(c.m) AS m FROM '{store}' a JOIN (SELECT latitude > 0 AND longitude > 90 AS p, \
     date_part('hour', time) AS h, latitude, avg(t2m) AS m FROM '{store}' GROUP BY 1, 2, 3) c \
     ON c.p = (a.latitude > 0 AND a.longitude > 90) AND date_part('hour', a.time) = c.h AND a.latitude = c.latitude",
    // Groups without rows, of cells and of coordinates.
    "SELECT count(*) AS n, count(c.m) AS m, sum(c.m) AS s FROM '{store}' a LEFT JOIN \
     (SELECT date_part('hour', time) AS h, latitude, longitude, avg(t2m) AS m FROM '{store}' WHERE t2m > 290 \
     GROUP BY 1, 2, 3) c ON date_part('hour', a.time) = c.h AND a.latitude = c.latitude \
     AND a.longitude = c.longitude",
    "SELECT count(*) AS n, sum(c.m) AS s FROM '{store}' a JOIN (SELECT time, latitude, count(*) AS m \
     FROM '{store}' WHERE t2m > 290 AND latitude < 50 GROUP BY 1, 2) c ON a.time = c.time AND a.latitude = c.latitude",
    "SELECT count(*) AS n, sum(c.m) AS s FROM '{store}' a LEFT JOIN (SELECT time, latitude, avg(t2m) AS m \
     FROM '{store}' GROUP BY 1, 2 HAVING avg(t2m) > 280) c ON a.time = c.time AND a.latitude = c.latitude",
    "SELECT count(*) AS n FROM '{store}' a WHERE NOT EXISTS (SELECT 1 FROM (SELECT time, latitude FROM '{store}' \
     WHERE t2m > 300 GROUP BY 1, 2) c WHERE a.time = c.time AND a.latitude = c.latitude)",
    // Keys that are NULL.
    "SELECT count(*) AS n, sum(c.m) AS s FROM '{store}' a LEFT JOIN (SELECT nullif(latitude, 90) AS l, \
     longitude, sum(t2m) AS m FROM '{store}' GROUP BY 1, 2) c ON nullif(a.latitude, 90) = c.l \
     AND a.longitude = c.longitude",
    "SELECT count(d) AS n, sum(abs(d)) AS s, count(f) AS m FROM (SELECT t2m - avg(t2m) OVER w AS d, \
     max(t2m) OVER w AS f FROM '{store}' \
     WINDOW w AS (PARTITION BY nullif(latitude, 90), date_part('hour', time))) q",
    // Medians, accumulators, and values without a fixed width.
    "SELECT count(*) AS n, sum(c.m) AS s, sum(c.d) AS d FROM '{store}' a JOIN (SELECT latitude, longitude, \
     median(t2m) AS m, count(DISTINCT round(t2m)) AS d FROM '{store}' GROUP BY 1, 2) c \
     ON a.latitude = c.latitude AND a.longitude = c.longitude",
    "SELECT c.t, count(*) AS n FROM '{store}' a JOIN (SELECT latitude, max(CAST(time AS TEXT)) AS t, bool_or(t2m > 300) AS b \
     FROM '{store}' GROUP BY 1) c ON a.latitude = c.latitude GROUP BY 1",
    // An expression above the aggregate.
    "SELECT avg(a.t2m - c.m) AS d FROM '{store}' a JOIN (SELECT latitude, avg(t2m) - 273.15 AS m FROM '{store}' \
     GROUP BY 1) c ON a.latitude = c.latitude",
];

#[tokio::test(flavor = "multi_thread")]
async fn results_of_aggregates_are_looked_up() {
    let directory = tempfile::tempdir().unwrap();
    let store = reanalysis_store(directory.path(), [60, 30, 40], [24, 10, 20]);
    let mut expected = Vec::new();
    for partitions in [1, 2, 7] {
        for limit in [None, Some(3_000_000)] {
            let mut runtime = RuntimeEnvBuilder::new();
            if let Some(limit) = limit {
                // Groups are cut into slabs.
                runtime = runtime.with_memory_pool(Arc::new(GreedyMemoryPool::new(limit)));
            }
            let runtime = runtime.build_arc().unwrap();
            let mut config = config().with_target_partitions(partitions);
            config.options_mut().execution.sort_spill_reservation_bytes = 100_000;
            let ctx =
                SessionContext::new_with_config_rt(config, runtime).with_zarr().enable_url_table();
            for (number, sql) in CLIMATOLOGIES.iter().enumerate() {
                let sql = sql.replace("{store}", &store);
                let plan = frame(&ctx, &sql).await.unwrap().create_physical_plan().await.unwrap();
                let plan = displayable(plan.as_ref()).indent(false).to_string();
                assert!(plan.contains("looked up"), "{plan}");
                let actual =
                    rows(&ctx, &sql).await.unwrap_or_else(|error| panic!("{sql}\n{error}\n{plan}"));
                if expected.len() <= number {
                    let plain = session(self::config().with_target_partitions(2));
                    for setting in ["join", "window", "aggregate"] {
                        let off = format!("SET lsio.{setting}_pushdown = false");
                        rows(&plain, &off).await.unwrap();
                    }
                    expected.push(rows(&plain, &sql).await.unwrap());
                }
                if limit.is_none() {
                    let analyzed = rows(&ctx, &format!("EXPLAIN ANALYZE {sql}")).await.unwrap();
                    let analyzed = analyzed[0][1].as_str().unwrap();
                    // Texts have no fixed width.
                    let has_rows = sql.contains("TEXT");
                    assert_eq!(!analyzed.contains("output_batches=0"), has_rows, "{analyzed}");
                }
                let expected = &expected[number];
                assert!(same(&actual, expected), "{sql}\n{plan}\n{actual:?}\n{expected:?}");
            }
        }
    }
}
