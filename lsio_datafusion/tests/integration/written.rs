//! `COPY … TO 'x.zarr'`: what is written comes back, however it became arrays.

use std::{fs, path::Path};

use datafusion::prelude::SessionContext;
use serde_json::{Value, json};

use crate::harness::{config, rows, session, workspace};

fn fixture(name: &str) -> String {
    let store = workspace().join("lsio_datafusion/tests/fixtures").join(format!("{name}.zarr"));
    store.to_string_lossy().into_owned()
}

/// Runs a query and writes it; returns its rows, and those of the store, sorted as text.
async fn both(
    ctx: &SessionContext,
    query: &str,
    columns: &str,
    options: &str,
) -> (Vec<String>, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("new.zarr");
    let target = target.display();
    let expected = rows(ctx, query).await.unwrap();
    let options = if options.is_empty() { String::new() } else { format!(" OPTIONS ({options})") };
    let copy = format!("COPY ({query}) TO '{target}' STORED AS ZARR{options}");
    let count = rows(ctx, &copy).await.unwrap_or_else(|error| panic!("{copy}: {error}"));
    assert_eq!(count, [[json!(expected.len())]], "{copy}");
    let written = rows(ctx, &format!("SELECT {columns} FROM '{target}'")).await.unwrap();
    (sorted(&expected), sorted(&written))
}

fn sorted(rows: &[Vec<Value>]) -> Vec<String> {
    let mut rows: Vec<String> = rows.iter().map(|row| json!(row).to_string()).collect();
    rows.sort();
    rows
}

async fn comes_back(ctx: &SessionContext, query: &str, columns: &str, input: &str) {
    let explain = format!("EXPLAIN COPY ({query}) TO '/nowhere/new.zarr'");
    let plan = json!(rows(ctx, &explain).await.unwrap()).to_string();
    assert!(plan.contains(&format!("input={input}")), "{query}: {plan}");
    for options in
        ["", "format 2, codec 'zstd:1'", "codec 'blosc-lz4', zarr.format '3'", "codec 'none'"]
    {
        let (expected, written) = both(ctx, query, columns, options).await;
        assert_eq!(written, expected, "{query} OPTIONS ({options})");
    }
}

#[tokio::test]
async fn scans_are_written_by_tiles() {
    let ctx = session(config());
    let store = fixture("gridded_v3");
    for (query, columns) in [
        ("SELECT * FROM '{}'", "*"),
        ("SELECT time, latitude, longitude, t FROM '{}'", "time, latitude, longitude, t"),
        ("SELECT longitude, t, latitude, time FROM '{}'", "longitude, t, latitude, time"),
        (
            "SELECT time AS when, latitude AS lat, longitude, t * 2 AS double, counts FROM '{}'",
            "when, lat, longitude, double, counts",
        ),
        (
            "SELECT time, latitude, longitude, t FROM '{}' WHERE latitude < 40 AND time > '2020-02-28'",
            "time, latitude, longitude, t",
        ),
        (
            "SELECT latitude, longitude, t FROM '{}' WHERE time = '2020-03-01'",
            "latitude, longitude, t",
        ),
        (
            "SELECT latitude, longitude, t FROM '{}' WHERE time = '2020-03-01' ORDER BY t",
            "latitude, longitude, t",
        ),
        (
            "SELECT time, longitude, t, latitude FROM '{}' WHERE longitude IN (0, 120, 300)",
            "time, longitude, t, latitude",
        ),
        ("SELECT time, trend FROM '{}?dims=time'", "time, trend"),
    ] {
        comes_back(&ctx, &query.replace("{}", &store), columns, "tiles").await;
    }
}

#[tokio::test]
async fn aggregates_are_written_by_slabs() {
    let ctx = session(config());
    let store = fixture("gridded_v3");
    for (query, columns) in [
        ("SELECT latitude, avg(t) AS t FROM '{}' GROUP BY latitude", "latitude, t"),
        (
            "SELECT avg(t) AS t, longitude, max(counts) AS most, latitude FROM '{}' GROUP BY latitude, longitude",
            "t, longitude, most, latitude",
        ),
        (
            "SELECT month(time) AS month, latitude, count(t) AS n FROM '{}' GROUP BY 1, 2",
            "month, latitude, n",
        ),
        (
            "SELECT latitude, avg(t) AS t FROM '{}' GROUP BY latitude HAVING avg(t) IS NOT NULL ORDER BY latitude DESC",
            "latitude, t",
        ),
        (
            "SELECT floor(latitude / 60) AS band, min(t) - 1 AS least FROM '{}' GROUP BY 1",
            "band, least",
        ),
        ("SELECT time, min(time) AS first, avg(t) AS t FROM '{}' GROUP BY time", "time, first, t"),
    ] {
        comes_back(&ctx, &query.replace("{}", &store), columns, "slabs").await;
    }
}

#[tokio::test]
async fn other_rows_are_placed_one_by_one() {
    let ctx = session(config());
    let values =
        "(VALUES ('b', 2, 1.5), ('a', 1, 2.5), ('a', 2, NULL), ('b', 1, 4.5)) v(name, x, y)";
    for options in
        ["dims 'name,x'", "dims 'x,name', format 2", "dims 'name, x', chunks 'x=1', shards 'x=2'"]
    {
        let query = format!("SELECT * FROM {values}");
        let (expected, written) = both(&ctx, &query, "name, x, y", options).await;
        assert_eq!(written, expected, "{options}");
    }
    let store = fixture("gridded_v3");
    let query = format!(
        "SELECT a.latitude, a.longitude, max(a.t + b.column1) AS t FROM '{store}' a \
         CROSS JOIN (VALUES (1.0), (2.0)) b GROUP BY a.latitude, a.longitude"
    );
    let (expected, written) = both(&ctx, &query, "latitude, longitude, t", "").await;
    assert_eq!(written, expected);
}

#[tokio::test]
async fn cells_without_a_row_are_missing() {
    let ctx = session(config());
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("x.zarr").display().to_string();
    let values = "(VALUES ('b', 2, 1.5, 7), ('a', 1, 2.5, 8)) v(name, x, y, n)";
    let copy = format!("COPY (SELECT * FROM {values}) TO '{target}' OPTIONS (dims 'name,x')");
    assert_eq!(rows(&ctx, &copy).await.unwrap(), [[json!(2)]]);
    let read = rows(&ctx, &format!("SELECT name, x, y, n FROM '{target}' ORDER BY 1, 2")).await;
    assert_eq!(
        read.unwrap(),
        [
            [json!("a"), json!(1), json!(2.5), json!(8)],
            [json!("a"), json!(2), Value::Null, Value::Null],
            [json!("b"), json!(1), Value::Null, Value::Null],
            [json!("b"), json!(2), json!(1.5), json!(7)],
        ]
    );

    let store = fixture("gridded_v3");
    let target = directory.path().join("hot.zarr").display().to_string();
    let where_hot = format!("FROM '{store}' WHERE t > 5");
    let copy =
        format!("COPY (SELECT time, latitude, longitude, t, counts {where_hot}) TO '{target}'");
    let count = rows(&ctx, &copy).await.unwrap();
    let counted = rows(&ctx, &format!("SELECT count(*) {where_hot}")).await.unwrap();
    assert_eq!(count, counted);
    let columns = "time, latitude, longitude, t, counts";
    let expected = rows(&ctx, &format!("SELECT {columns} {where_hot}")).await.unwrap();
    let read = rows(&ctx, &format!("SELECT {columns} FROM '{target}' WHERE t IS NOT NULL")).await;
    assert_eq!(sorted(&read.unwrap()), sorted(&expected));
    let all = rows(&ctx, &format!("SELECT count(*) FROM '{target}'")).await.unwrap();
    assert_eq!(all, rows(&ctx, &format!("SELECT count(*) FROM '{store}'")).await.unwrap());
}

#[tokio::test]
async fn chunks_and_shards_are_those_that_were_asked_for() {
    let ctx = session(config());
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("x.zarr");
    let store = fixture("gridded_v3");
    let copy = format!(
        "COPY (SELECT time, latitude, longitude, t FROM '{store}') TO '{}' \
         OPTIONS (chunks 'time=7,longitude=3', shards 'longitude=6', codec 'zstd:9')",
        target.display()
    );
    rows(&ctx, &copy).await.unwrap();
    let document = fs::read_to_string(target.join("t/zarr.json")).unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    // Along latitude the chunks are the store's.
    assert_eq!(document["chunk_grid"]["configuration"]["chunk_shape"], json!([7, 2, 6]));
    let shard = &document["codecs"][0]["configuration"];
    assert_eq!(shard["chunk_shape"], json!([7, 2, 3]));
    assert_eq!(shard["codecs"][1]["configuration"]["level"], json!(9));
    assert_eq!(document["dimension_names"], json!(["time", "latitude", "longitude"]));
}

#[tokio::test]
async fn names_of_tables_are_left_out_of_those_of_arrays() {
    let ctx = session(config());
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("x.zarr").display().to_string();
    let store = fixture("gridded_v3");
    let query = format!("SELECT latitude, avg(t), max(counts) FROM '{store}' GROUP BY latitude");
    rows(&ctx, &format!("COPY ({query}) TO '{target}'")).await.unwrap();
    let read = format!("SELECT latitude, \"avg(t)\", \"max(counts)\" FROM '{target}'");
    let read = rows(&ctx, &read).await.unwrap();
    assert_eq!(sorted(&read), sorted(&rows(&ctx, &query).await.unwrap()));
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[tokio::test]
async fn what_can_not_be_written_is_an_error_that_helps() {
    let ctx = session(config());
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("x.zarr").display().to_string();
    let store = fixture("gridded_v3");
    for (query, options, parts) in [
        ("SELECT * FROM '{}'", "chunk 'time=1'", &["chunk", "did you mean chunks"][..]),
        ("SELECT * FROM '{}'", "chunks 'tim=1'", &["'tim'", "time, latitude, longitude"]),
        ("SELECT * FROM '{}'", "format 4", &["2 or 3"]),
        ("SELECT * FROM '{}'", "format 2, chunks 'time=7', shards 'time=7'", &["no shards"]),
        ("SELECT * FROM '{}'", "codec 'zip'", &["'zip'", "zstd"]),
        ("SELECT latitude, longitude, t FROM '{}'", "", &["several rows", "latitude", "dims"]),
        ("SELECT t FROM '{}' LIMIT 5", "", &["no column", "dims"]),
        ("SELECT 1 AS a, 2 AS b", "", &["dims"]),
        ("SELECT NULL::int AS a, 2 AS b", "dims 'a'", &["'a'", "NULL"]),
        ("SELECT 1 AS a, 2 AS b", "dims 'c'", &["'c'", "a, b"]),
        ("SELECT 1 AS a, [2] AS b", "dims 'a'", &["'b'", "List"]),
        (
            "SELECT x, CASE WHEN x = 1 THEN 'a' END AS b FROM (VALUES (1), (2)) v(x)",
            "dims 'x'",
            &["'b'", "NULL", "coalesce"],
        ),
        (
            "SELECT column1 AS a, column1 * 1000000 AS b, 1 AS c FROM generate_series(1, 2000) s(column1)",
            "dims 'a,b'",
            &["sparse", "4000000"],
        ),
    ] {
        let query = query.replace("{}", &store);
        let options = if options.is_empty() { "sparse false" } else { options };
        let copy = format!("COPY ({query}) TO '{target}' OPTIONS ({options})");
        let error = rows(&ctx, &copy).await.map(|_| copy).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{query} OPTIONS ({options}): {error}");
        }
        assert!(is_empty(directory.path()), "{query} left something");
    }

    let copy = format!("COPY (SELECT * FROM '{store}') TO '{target}'");
    rows(&ctx, &copy).await.unwrap();
    let error = rows(&ctx, &copy).await.unwrap_err().to_string();
    assert!(error.contains("x.zarr") && error.contains("overwrite"), "{error}");
    rows(&ctx, &format!("{copy} OPTIONS (overwrite true)")).await.unwrap();
    // Read and replaced at once.
    let itself = format!(
        "COPY (SELECT time, latitude, longitude, t + 1 AS t FROM '{target}') TO '{target}' OPTIONS (overwrite true)"
    );
    let sum = format!("SELECT sum(t) - count(t) FROM '{target}'");
    let before = rows(&ctx, &format!("SELECT sum(t) FROM '{target}'")).await.unwrap();
    rows(&ctx, &itself).await.unwrap();
    assert_eq!(rows(&ctx, &sum).await.unwrap(), before);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}
