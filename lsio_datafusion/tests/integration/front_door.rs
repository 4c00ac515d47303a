//! SQL as DuckDB's users write it: power, names that begin with a digit, `FROM` alone, and names that differ.

use datafusion::prelude::SessionContext;
use lsio_synthetic::write::{Compression, Element, GroupWriter, SyntheticArray};
use serde_json::{Value, json};

use crate::harness::{config, json_rows, query, rows, session};

fn array<T: Element>(
    group: &GroupWriter,
    name: &str,
    data_type: &str,
    dims: &[(&str, u64)],
    attributes: Value,
    values: &[T],
) {
    let spec = SyntheticArray {
        name,
        data_type,
        dims,
        chunks: &[],
        shards: None,
        compression: Compression::None,
        fill_value: json!(0),
        attributes,
    };
    group.whole_array(&spec, values).unwrap();
}

/// Two stores, `{a}` and `{b}`, that share their times; `{a}` has a latitude as well, and `{g}` longitudes.
struct Data {
    directory: tempfile::TempDir,
    ctx: SessionContext,
}

impl Data {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = |name: &str| {
            GroupWriter::create(&directory.path().join(format!("{name}.zarr")), json!({})).unwrap()
        };
        let days = json!({ "units": "days since 2020-01-01", "calendar": "standard" });
        let a = store("a");
        array(&a, "time", "int64", &[("time", 2)], days.clone(), &[0_i64, 1]);
        array(&a, "lat", "float64", &[("lat", 3)], json!({}), &[-10.0, 0.0, 10.0]);
        let grid = [("time", 2), ("lat", 3)];
        let celsius = [280.0, 281.0, 282.0, 283.0, 284.0, 285.5];
        array(&a, "2m_temperature", "float64", &grid, json!({}), &celsius);
        array(&a, "10u", "float32", &grid, json!({}), &[3.0_f32, 4.0, 0.0, -1.0, 2.0, 5.0]);
        array(&a, "i", "int32", &grid, json!({}), &[7_i32, -7, 0, 2, 3, 5]);
        a.consolidate().unwrap();
        let b = store("b");
        array(&b, "time", "int64", &[("time", 2)], days.clone(), &[1_i64, 2]);
        array(&b, "w", "float64", &[("time", 2)], json!({}), &[10.0, 20.0]);
        b.consolidate().unwrap();
        let c = store("c");
        array(&c, "time", "int64", &[("time", 3)], days, &[0_i64, 1, 2]);
        array(&c, "z", "float64", &[("time", 3)], json!({}), &[0.5, 1.5, 2.5]);
        c.consolidate().unwrap();
        let g = store("g");
        let east = [0.0_f32, 90.1, 180.0, 190.1, 349.9, 350.0, 359.9];
        array(&g, "lon", "float32", &[("lon", 7)], json!({}), &east);
        array(
            &g,
            "west",
            "float64",
            &[("lon", 7)],
            json!({}),
            &[0.0, 90.1, -180.0, -169.9, -10.1, -10.0, -0.1],
        );
        g.consolidate().unwrap();
        Self { directory, ctx: session(config()) }
    }

    fn sql(&self, sql: &str) -> String {
        ["a", "b", "c", "g"].iter().fold(sql.to_owned(), |sql, name| {
            let path = self.directory.path().join(format!("{name}.zarr"));
            sql.replace(&format!("{{{name}}}"), &format!("'{}'", path.display()))
        })
    }

    /// Checks all cases, and names all that fail.
    async fn check(&self, cases: &[(&str, Value)]) {
        let mut wrong = Vec::new();
        for (sql, expected) in cases {
            match rows(&self.ctx, &self.sql(sql)).await {
                Ok(rows) if json!(rows) == *expected => {}
                Ok(rows) => wrong.push(format!("{sql}\n  gave {}", json!(rows))),
                Err(error) => wrong.push(format!("{sql}\n  {error}")),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Names of the columns of a result.
    async fn names(&self, sql: &str) -> Vec<String> {
        let frame = crate::harness::frame(&self.ctx, &self.sql(sql)).await.unwrap();
        frame.schema().fields().iter().map(|field| field.name().clone()).collect()
    }

    /// The message of the error that a query gives, as users see it.
    async fn error(&self, sql: &str) -> String {
        let sql = self.sql(sql);
        let error = query(&self.ctx, &sql).await.map(|rows| json_rows(&rows)).unwrap_err();
        lsio_datafusion::clarify(error, &sql, &self.ctx.state()).to_string()
    }
}

#[tokio::test]
async fn power() {
    let data = Data::new();
    data.check(&[
        (
            "SELECT 2*3^2, 2^3^2, -2^2, 2^-1, 2**3, (1+1)^3, 4^0.5",
            json!([[18.0, 64.0, 4.0, 0.5, 8.0, 8.0, 2.0]]),
        ),
        (
            "SELECT 1 + 2 ^ 2, 2 ^ 2 + 1, 2 ^ 2 * 3, 2::int ^ 2, 3 ^ 2 = 9",
            json!([[5.0, 5.0, 12.0, 4.0, true]]),
        ),
        (
            "SELECT avg((\"2m_temperature\" - 280) ^ 2) FROM {a}",
            json!([[(1.0 + 4.0 + 9.0 + 16.0 + 30.25) / 6.0]]),
        ),
        ("SELECT sum(10u^2 + 10u^2), sum((10u*10u)^0.5) FROM {a}", json!([[110.0, 15.0]])),
        ("SELECT count(*) FROM {a} WHERE 10u^2 > 8", json!([[3]])),
        ("SELECT i^2 AS s FROM {a} ORDER BY i^2 DESC, i LIMIT 2", json!([[49.0], [49.0]])),
        ("SELECT xor(5, 3), xor(i, 1) FROM {a} WHERE i = 7", json!([[6, 6]])),
    ])
    .await;
}

/// A parser that isn't ours has lost the parentheses: `2*3^2` is `(2*3)^2` for it.
#[tokio::test]
async fn power_in_datafusions_own_sql() {
    let data = Data::new();
    let sql = |sql: &str| data.sql(sql);
    let run = async |text: &str| data.ctx.sql(&sql(text)).await?.collect().await;
    assert_eq!(json!(json_rows(&run("SELECT 2 ^ 3").await.unwrap())), json!([[8.0]]));
    let squares = run("SELECT sum(i ^ 2) FROM {a}").await.unwrap();
    assert_eq!(json!(json_rows(&squares)), json!([[49.0 + 49.0 + 4.0 + 9.0 + 25.0]]));
    for ambiguous in ["SELECT 2 * 3 ^ 2", "SELECT sum(i ^ 2 + i ^ 2) FROM {a}"] {
        let error = run(ambiguous).await.unwrap_err().to_string();
        assert!(error.contains("power(x, y)"), "{ambiguous}: {error}");
    }
}

#[tokio::test]
async fn integer_division() {
    let data = Data::new();
    data.check(&[
        ("SELECT 7 // 2, -7 // 2, 7 // 0, 7.5 // 0, 2 * 7 // 4", json!([[3, -3, null, null, 3]])),
        (
            "SELECT i // 2, divide(i, 3) FROM {a} ORDER BY time, lat LIMIT 2",
            json!([[3, 2], [-3, -2]]),
        ),
        ("SELECT sum(i // 0) FROM {a}", json!([[null]])),
        ("SELECT i / 2 FROM {a} WHERE i = 7", json!([[3.5]])),
    ])
    .await;
}

#[tokio::test]
async fn names_that_begin_with_a_digit() {
    let data = Data::new();
    data.check(&[
        ("SELECT 2m_temperature FROM {a} ORDER BY 2m_temperature DESC LIMIT 1", json!([[285.5]])),
        (
            "SELECT avg(2m_temperature), avg(10u) FROM {a}",
            json!([[(280.0 + 281.0 + 282.0 + 283.0 + 284.0 + 285.5) / 6.0, 13.0 / 6.0]]),
        ),
        ("SELECT t.10u, t.2m_temperature FROM {a} t WHERE t.10u = 4", json!([[4.0, 281.0]])),
        ("SELECT count(*) FROM {a} WHERE 2m_temperature > 282 AND 10u >= 2", json!([[2]])),
        (
            "SELECT 10u, count(*) FROM {a} GROUP BY 10u HAVING 10u > 3 ORDER BY 10u",
            json!([[4.0, 1], [5.0, 1]]),
        ),
        ("SELECT max(i) FILTER (WHERE 10u > 3) FROM {a}", json!([[5]])),
        ("SELECT max(10u) AS 10u_max, max(10u) 3x FROM {a}", json!([[5.0, 5.0]])),
        (
            "SELECT 2m_temperature - 273.15 AS 2mt FROM {a} ORDER BY 2mt LIMIT 1",
            json!([[280.0 - 273.15]]),
        ),
        ("SELECT 10u+1, 1+10u, 10u*2, -10u FROM {a} WHERE 10u=4", json!([[5.0, 5.0, 8.0, -4.0]])),
        ("SELECT CAST(10u AS INT), 10u::int FROM {a} WHERE 10u IN (4)", json!([[4, 4]])),
        (
            "SELECT * EXCLUDE (10u, 2m_temperature) FROM {a} WHERE 10u = 4",
            json!([["2020-01-01T00:00:00", 0.0, -7]]),
        ),
        ("WITH 1x AS (SELECT 10u FROM {a}) SELECT max(10u) FROM 1x", json!([[5.0]])),
        // Numbers stay numbers.
        (
            "SELECT 1e3, 2e-1, 1_000, .5, 5., 1 AS x, 2 y, 0.25e1",
            json!([[1000.0, 0.2, 1000, 0.5, 5.0, 1, 2, 2.5]]),
        ),
        ("SELECT 1 FROM {a} LIMIT 1", json!([[1]])),
    ])
    .await;
    assert_eq!(data.names("SELECT 2m_temperature FROM {a}").await, ["2m_temperature"]);
    for sql in [
        "SELECT 3m_temperature FROM {a}",
        "SELECT avg(3m_temperature) FROM {a}",
        "SELECT 1 WHERE 3x = 4",
        "SELECT 2x",
    ] {
        let error = data.error(sql).await;
        assert!(error.contains("there is no column '"), "{sql}: {error}");
        assert!(error.contains("AS"), "{sql}: {error}");
    }
    // DataFusion's own parser takes it for a number and a name.
    for sql in [
        "SELECT 2m_temperature FROM {a}",
        "SELECT i, 10u FROM {a}",
        "SELECT 2m_temperature, avg(i) FROM {a} GROUP BY 1",
    ] {
        let result = data.ctx.sql(&data.sql(sql)).await;
        let result = match result {
            Ok(frame) => frame.collect().await,
            Err(error) => Err(error),
        };
        let error = result.map(|rows| json_rows(&rows)).unwrap_err().to_string();
        assert!(error.contains("quotes"), "{sql}: {error}");
    }
    let other = data.ctx.sql(&data.sql("SELECT 2 two, 3m FROM {a} LIMIT 1")).await.unwrap();
    assert_eq!(json!(json_rows(&other.collect().await.unwrap())), json!([[2, 3]]));
}

#[tokio::test]
async fn columns_of_using_in_where() {
    let data = Data::new();
    let first = "2020-01-02T00:00:00";
    data.check(&[
        ("SELECT w FROM {a} JOIN {b} USING (time) WHERE time < '2021-01-01' AND lat = 0", json!([[10.0]])),
        ("SELECT time, w FROM {a} a JOIN {b} b USING (time) WHERE time >= '2020-01-02' AND lat = 0", json!([[first, 10.0]])),
        ("SELECT count(*) FROM {a} LEFT JOIN {b} USING (time) WHERE time < '2020-01-02'", json!([[3]])),
        ("SELECT time, w FROM {a} RIGHT JOIN {b} USING (time) WHERE time > '2020-01-02'", json!([["2020-01-03T00:00:00", 20.0]])),
        ("SELECT count(*) FROM {a} FULL JOIN {b} USING (time) WHERE time > '2020-01-02'", json!([[1]])),
        ("SELECT count(*) FROM {a} FULL JOIN {b} USING (time) WHERE time < '2020-01-02'", json!([[3]])),
        ("SELECT z, w FROM {c} JOIN {b} USING (time) JOIN {a} USING (time) WHERE time = '2020-01-02' AND lat = 0", json!([[1.5, 10.0]])),
        ("SELECT z, w FROM {c} LEFT JOIN {b} USING (time) LEFT JOIN {a} USING (time) WHERE time < '2020-01-02' AND lat = 0", json!([[0.5, null]])),
        ("SELECT time, z, w FROM (SELECT * FROM {c} RIGHT JOIN {b} USING (time) WHERE time > '2020-01-02')", json!([["2020-01-03T00:00:00", 2.5, 20.0]])),
        ("SELECT max(w) FROM {c} NATURAL JOIN {b}", json!([[20.0]])),
        ("SELECT max(w) FROM {c} NATURAL JOIN {b} WHERE time < '2020-01-03'", json!([[10.0]])),
        ("SELECT w FROM (SELECT * FROM {c}) p JOIN {b} USING (time) WHERE time < '2020-01-03'", json!([[10.0]])),
        ("SELECT count(*) FROM {c} WHERE z > (SELECT min(w) - 9 FROM {b} JOIN {c} USING (time) WHERE time < '2020-01-03')", json!([[2]])),
        ("SELECT max(w) FROM {c} JOIN {b} USING (time) WHERE z > 1 AND (time < '2020-01-03' OR time IS NULL)", json!([[10.0]])),
        ("SELECT time, max(w) FROM {c} JOIN {b} USING (time) WHERE time < '2020-01-03' GROUP BY time ORDER BY time", json!([[first, 10.0]])),
        ("SELECT time, w, z FROM {b} RIGHT JOIN {c} USING (time) WHERE time < '2020-01-02' ORDER BY time", json!([["2020-01-01T00:00:00", null, 0.5]])),
        ("SELECT time, w FROM {b} RIGHT JOIN {c} USING (time) ORDER BY time", json!([["2020-01-01T00:00:00", null], [first, 10.0], ["2020-01-03T00:00:00", 20.0]])),
        ("SELECT time, count(*) FROM {b} FULL JOIN {c} USING (time) GROUP BY time ORDER BY time LIMIT 1", json!([["2020-01-01T00:00:00", 1]])),
    ])
    .await;
}

#[tokio::test]
async fn all_columns() {
    let data = Data::new();
    data.check(&[
        (
            "FROM {c}",
            json!([
                ["2020-01-01T00:00:00", 0.5],
                ["2020-01-02T00:00:00", 1.5],
                ["2020-01-03T00:00:00", 2.5]
            ]),
        ),
        ("FROM {c} ORDER BY time LIMIT 1", json!([["2020-01-01T00:00:00", 0.5]])),
        ("FROM {c} WHERE z > 2", json!([["2020-01-03T00:00:00", 2.5]])),
        ("FROM {c} SELECT max(z)", json!([[2.5]])),
        ("SELECT max(z) FROM (FROM {c} WHERE z < 2)", json!([[1.5]])),
        ("WITH x AS (FROM {c}) FROM x LIMIT 1", json!([["2020-01-01T00:00:00", 0.5]])),
        (
            "SELECT * FROM (FROM {c} WHERE z < 1 UNION ALL FROM {c} WHERE z > 2) ORDER BY time",
            json!([["2020-01-01T00:00:00", 0.5], ["2020-01-03T00:00:00", 2.5]]),
        ),
        (
            "SELECT lat, max(i) FROM {a} GROUP BY ALL ORDER BY ALL",
            json!([[-10.0, 7], [0.0, 3], [10.0, 5]]),
        ),
        (
            "SELECT max(i), lat > 0 FROM {a} GROUP BY ALL ORDER BY ALL DESC",
            json!([[7, false], [5, true]]),
        ),
        ("SELECT max(i) FROM {a} GROUP BY ALL", json!([[7]])),
        ("SELECT * FROM {c} ORDER BY ALL LIMIT 1", json!([["2020-01-01T00:00:00", 0.5]])),
    ])
    .await;
}

#[tokio::test]
async fn items_of_one_name() {
    let data = Data::new();
    data.check(&[
        ("SELECT CAST(time AS DATE), avg(i) FROM {a} GROUP BY time ORDER BY time", json!([["2020-01-01", 0.0], ["2020-01-02", 10.0 / 3.0]])),
        ("SELECT CAST(time AS DATE), avg(i) FROM {a} GROUP BY CAST(time AS DATE) ORDER BY 1", json!([["2020-01-01", 0.0], ["2020-01-02", 10.0 / 3.0]])),
        ("SELECT time::date, time FROM {c} ORDER BY time LIMIT 1", json!([["2020-01-01", "2020-01-01T00:00:00"]])),
        ("SELECT CAST(z AS INT), z FROM {c} ORDER BY z", json!([[0, 0.5], [1, 1.5], [2, 2.5]])),
        ("SELECT z, z, c.z FROM {c} c ORDER BY z LIMIT 1", json!([[0.5, 0.5, 0.5]])),
        ("SELECT CAST(z AS INT), CAST(z AS VARCHAR), TRY_CAST(z AS INT) FROM {c} ORDER BY z LIMIT 1", json!([[0, "0.5", 0]])),
        ("SELECT avg(z), avg(CAST(z AS BIGINT)) FROM {c}", json!([[1.5, 1.0]])),
        ("SELECT avg(CAST(z AS BIGINT)), avg(z) FROM {c}", json!([[1.0, 1.5]])),
        ("SELECT count(CAST(z AS INT)), count(CAST(z AS VARCHAR)), count(z::int) FROM {c}", json!([[3, 3, 3]])),
        ("SELECT sum(z + 1), sum(z::int + 1), sum((z + 1)::int) FROM {c}", json!([[7.5, 6, 6]])),
        ("SELECT sum(z) FILTER (WHERE z > 0), sum(z) FILTER (WHERE z::int > 0) FROM {c}", json!([[4.5, 4.0]])),
        ("SELECT time, sum(z), sum(z::int) FROM {c} GROUP BY time HAVING sum(z::int) > 1 ORDER BY sum(z::int)", json!([["2020-01-03T00:00:00", 2.5, 2]])),
        ("SELECT sum(z) OVER (), sum(z::int) OVER () FROM {c} LIMIT 1", json!([[4.5, 3]])),
        ("SELECT z::int, z, count(*) FROM {c} GROUP BY z::int, z ORDER BY z LIMIT 1", json!([[0, 0.5, 1]])),
        ("SELECT z::int, z::varchar, count(*) FROM {c} GROUP BY 1, 2 ORDER BY 1 LIMIT 1", json!([[0, "0.5", 1]])),
        ("SELECT z::int, z::varchar, count(*) FROM {c} GROUP BY ALL ORDER BY ALL LIMIT 1", json!([[0, "0.5", 1]])),
        ("SELECT DISTINCT time::date, time FROM {c} ORDER BY time LIMIT 1", json!([["2020-01-01", "2020-01-01T00:00:00"]])),
        ("SELECT max(x) FROM (SELECT avg(z) AS x, avg(z::int) FROM {c})", json!([[1.5]])),
        ("SELECT *, z::int FROM {c} WHERE z < 1", json!([["2020-01-01T00:00:00", 0.5, 0]])),
    ])
    .await;
}

#[tokio::test]
async fn longitudes_between() {
    let data = Data::new();
    data.check(&[
        ("SELECT count(*) FROM {g} WHERE lon_between(lon, 350, 10)", json!([[3]])),
        ("SELECT count(*) FROM {g} WHERE lon_between(west, 350, 10)", json!([[3]])),
        ("SELECT count(*) FROM {g} WHERE lon_between(lon, -10, 10)", json!([[3]])),
        ("SELECT count(*) FROM {g} WHERE lon_between(lon, 170, -169.9)", json!([[2]])),
        ("SELECT count(*) FROM {g} WHERE lon_between(lon, 90.1, 180)", json!([[2]])),
        ("SELECT count(*) FROM {g} WHERE lon_between(lon, -0.1, 0)", json!([[2]])),
        ("SELECT count(*) FROM {g} WHERE NOT lon_between(lon, 0, 360)", json!([[0]])),
        ("SELECT count(*) FILTER (WHERE lon_between(lon, 350, 10)) FROM {g}", json!([[3]])),
        (
            "SELECT lon_between(190, -175, -165), lon_between(NULL, 0, 1), lon_between(5, 10, 350)",
            json!([[true, null, false]]),
        ),
    ])
    .await;
}

#[tokio::test]
async fn names_of_other_engines() {
    let data = Data::new();
    data.check(&[
        (
            "SELECT variance(z), approx_count_distinct(i), arbitrary(i) FROM {c}, {a} WHERE i = 5",
            json!([[1.0, 1, 5]]),
        ),
        (
            "SELECT if(1 > 2, 3, 4), sign(-2.0), ceiling(0.5), len('abc')",
            json!([[4, -1.0, 1.0, 3]]),
        ),
    ])
    .await;
    for (sql, meant) in [
        ("SELECT std(z) FROM {c}", "stddev"),
        ("SELECT nanmean(z) FROM {c}", "avg"),
        ("SELECT w FROM {c} JOIN {b} ON z = w WHERE time IS NULL", "time"),
        ("SELECT foo_bar_baz(z) FROM {c}", "SHOW FUNCTIONS"),
    ] {
        let error = data.error(sql).await;
        assert!(error.contains(meant), "{sql}: {error}");
    }
}

#[tokio::test]
async fn summaries() {
    let data = Data::new();
    let names = [
        "column_name",
        "column_type",
        "min",
        "max",
        "approx_unique",
        "avg",
        "std",
        "q25",
        "q50",
        "q75",
        "count",
        "null_percentage",
    ];
    assert_eq!(data.names("SUMMARIZE {c}").await, names);
    let z = json!(["z", "Float64", "0.5", "2.5", 3, 1.5, 1.0, 1.0, 1.5, 2.0, 3, "0.00"]);
    let found = rows(&data.ctx, &data.sql("SUMMARIZE {c}")).await.unwrap();
    assert_eq!(json!(found[1]), z);
    assert_eq!(
        json!(found[0][0..5]),
        json!(["time", "Timestamp(µs)", "2020-01-01T00:00:00", "2020-01-03T00:00:00", 3])
    );
    assert_eq!(json!(found[0][5..]), json!([null, null, null, null, null, 3, "0.00"]));
    data.check(&[
        (
            "SUMMARIZE SELECT z FROM {c} WHERE z > 1",
            json!([[
                "z",
                "Float64",
                "1.5",
                "2.5",
                2,
                2.0,
                0.5_f64.sqrt(),
                1.75,
                2.0,
                2.25,
                2,
                "0.00"
            ]]),
        ),
        (
            "SUMMARIZE FROM {c} WHERE z > 9",
            json!([
                ["time", "Timestamp(µs)", null, null, 0, null, null, null, null, null, 0, null],
                ["z", "Float64", null, null, 0, null, null, null, null, null, 0, null]
            ]),
        ),
        (
            "SUMMARIZE SELECT nullif(z, 0.5) AS n, true AS b, 'x' AS s, 1 AS \"2x\" FROM {c}",
            json!([
                ["n", "Float64", "1.5", "2.5", 2, 2.0, 0.5_f64.sqrt(), 1.75, 2.0, 2.25, 3, "33.33"],
                ["b", "Boolean", "true", "true", 1, null, null, null, null, null, 3, "0.00"],
                ["s", "Utf8", "x", "x", 1, null, null, null, null, null, 3, "0.00"],
                ["2x", "Int64", "1", "1", 1, 1.0, 0.0, 1.0, 1.0, 1.0, 3, "0.00"],
            ]),
        ),
        (
            "summarize with x as (from {c}) from x where z = 2.5",
            json!([
                [
                    "time",
                    "Timestamp(µs)",
                    "2020-01-03T00:00:00",
                    "2020-01-03T00:00:00",
                    1,
                    null,
                    null,
                    null,
                    null,
                    null,
                    1,
                    "0.00"
                ],
                ["z", "Float64", "2.5", "2.5", 1, 2.5, null, 2.5, 2.5, 2.5, 1, "0.00"]
            ]),
        ),
    ])
    .await;
}
