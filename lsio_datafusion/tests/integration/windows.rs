//! Windows as columns of the scan: which ones, why others aren't, and values that are known.

use std::path::Path;

use datafusion::{physical_plan::displayable, prelude::SessionContext};
use lsio_synthetic::write::{Compression, GroupWriter, SyntheticArray};
use serde_json::{Value, json};

use crate::{
    harness::{config, frame, rows, session},
    storage::consolidate_if_unlisted,
};

/// A store of `v` on (time, x), 6 × 2, whose days 2, 3 and 4 of the year are missing. `v` is 10 × x + its index in time,
/// but NULL at the last one of x = 1.
fn write(path: &Path) {
    let group = GroupWriter::create(path, json!({})).unwrap();
    let spec = |name, data_type, dims, chunks, attributes| SyntheticArray {
        name,
        data_type,
        dims,
        chunks,
        shards: None,
        compression: Compression::Zstd(1),
        fill_value: json!(0),
        attributes,
    };
    let days = json!({"units": "days since 2019-01-01", "calendar": "proleptic_gregorian"});
    let time = spec("time", "int64", &[("time", 6)], &[], days);
    group.whole_array(&time, &[0_i64, 1, 5, 6, 7, 40]).unwrap();
    group.whole_array(&spec("x", "float64", &[("x", 2)], &[], json!({})), &[0.0, 1.0]).unwrap();
    let v = spec("v", "float32", &[("time", 6), ("x", 2)], &[2, 2], json!({"_FillValue": -1.0}));
    let v = group.array(&v).unwrap();
    for chunk in 0..3 {
        let cell = |t: u64, x: u64| if (t, x) == (5, 1) { -1.0 } else { (10 * x + t) as f32 };
        let first = 2 * chunk;
        let values = [cell(first, 0), cell(first, 1), cell(first + 1, 0), cell(first + 1, 1)];
        v.write(&[chunk, 0], &values).unwrap();
    }
    group.consolidate().unwrap();
    consolidate_if_unlisted(path);
}

struct Store {
    _directory: tempfile::TempDir,
    path: String,
    ctx: SessionContext,
}

impl Store {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.zarr");
        write(&path);
        let mut config = config().with_target_partitions(3);
        config.options_mut().optimizer.repartition_file_min_size = 0;
        let (path, ctx) = (path.to_string_lossy().into_owned(), session(config));
        Self { _directory: directory, path, ctx }
    }

    fn sql(&self, sql: &str) -> String {
        sql.replace("{}", &format!("'{}'", self.path))
            .replace("LINE", "PARTITION BY x ORDER BY time")
    }

    async fn plan(&self, sql: &str) -> String {
        let frame = frame(&self.ctx, &self.sql(sql)).await.unwrap();
        let plan = frame.create_physical_plan().await.unwrap();
        displayable(plan.as_ref()).indent(false).to_string()
    }

    /// Values along time where x = 1.
    async fn values(&self, window: &str) -> Vec<Value> {
        let sql = format!(
            "SELECT w FROM (SELECT time, x, {window} AS w FROM {{}}) WHERE x = 1 ORDER BY time"
        );
        let on = rows(&self.ctx, &self.sql(&sql)).await.unwrap();
        rows(&self.ctx, "SET lsio.window_pushdown = false").await.unwrap();
        let off = rows(&self.ctx, &self.sql(&sql)).await.unwrap();
        rows(&self.ctx, "SET lsio.window_pushdown = true").await.unwrap();
        assert_eq!(on, off, "{window}");
        on.into_iter().flatten().collect()
    }
}

#[tokio::test]
async fn windows_along_a_dimension_are_columns() {
    let store = Store::new();
    for window in [
        "lag(v) OVER (LINE)",
        "lead(v * 2, 2, 7) OVER (LINE)",
        "first_value(v) OVER (LINE DESC ROWS 2 PRECEDING)",
        "row_number() OVER (LINE)",
        "ntile(2) OVER (LINE NULLS FIRST)",
        "count(*) OVER (PARTITION BY x)",
        "avg(v) OVER (LINE ROWS 2 PRECEDING)",
        "sum(v) OVER (LINE)",
        "max(v) OVER (LINE RANGE INTERVAL '1 month' PRECEDING)",
        "stddev(v) OVER (LINE DESC GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING)",
        "sum(v) OVER (PARTITION BY x, date_part('month', time) ORDER BY time)",
        "min(v) OVER (PARTITION BY time ORDER BY x ROWS 1 PRECEDING)",
    ] {
        let plan = store.plan(&format!("SELECT time, x, {window} FROM {{}}")).await;
        assert!(plan.contains("windows=["), "{window}: {plan}");
        assert!(!plan.contains("AggExec") && !plan.contains("Sort"), "{window}: {plan}");
    }
    // The anomaly, in one line: an aggregate, and its rows looked up.
    let sql = "SELECT avg(abs(a)) FROM (SELECT v - avg(v) OVER \
               (PARTITION BY date_part('month', time), x) AS a FROM {})";
    let plan = store.plan(sql).await;
    assert!(plan.contains("ZarrPrepareExec") && plan.contains("looked up="), "{plan}");
    assert!(!plan.contains("WindowAggExec"), "{plan}");
    assert_eq!(plan.matches("ZarrAggregateExec").count(), 2, "{plan}");
    // January: 0 to 4 and 10 to 14; February: 5 alone.
    let expected = (6.0 + 6.0 + 0.0) / 11.0;
    let answer = rows(&store.ctx, &store.sql(sql)).await.unwrap();
    assert!((answer[0][0].as_f64().unwrap() - expected).abs() < 1e-12, "{answer:?}");
    // Windows above windows, and aggregates of them.
    let sql = "SELECT x, max(d) FROM (SELECT x, v - lag(v) OVER (LINE) AS d FROM {}) GROUP BY x";
    let plan = store.plan(sql).await;
    assert!(plan.contains("ZarrAggregateExec") && plan.contains("windows=["), "{plan}");
    let answer = rows(&store.ctx, &store.sql(&format!("{sql} ORDER BY x"))).await.unwrap();
    assert_eq!(answer, [[json!(0.0), json!(1.0)], [json!(1.0), json!(1.0)]]);
}

#[tokio::test]
async fn others_stay_and_say_why() {
    let store = Store::new();
    for (window, reason) in [
        ("avg(v) OVER (PARTITION BY v ORDER BY time)", "PARTITION BY leaves time and x free"),
        ("lag(v) OVER (ORDER BY time)", "PARTITION BY leaves time and x free"),
        ("lag(v) OVER (PARTITION BY x ORDER BY v)", "varies along several dimensions"),
        ("lag(v) OVER (PARTITION BY x)", "ORDER BY leaves rows of a partition in any order"),
        ("lag(v) OVER (PARTITION BY x ORDER BY 1)", "ORDER BY leaves rows"),
        ("lag(v) IGNORE NULLS OVER (LINE)", "IGNORE NULLS"),
        ("sum(v) FILTER (WHERE v > 3) OVER (LINE ROWS 1 PRECEDING)", "it has a FILTER clause"),
        ("sum(v) FILTER (WHERE v > 3) OVER (LINE)", "it has a FILTER clause"),
        ("median(v) OVER (LINE)", "no kernel computes"),
        (
            "sum(v) OVER (PARTITION BY x, time > '2019-01-06' OR time < '2019-01-02' ORDER BY time)",
            "partitions interleave",
        ),
        (
            "sum(v) OVER (PARTITION BY x ORDER BY abs(date_part('day', time) - 6))",
            "the order of its rows",
        ),
        ("lag(random()) OVER (LINE)", "is another value each time"),
    ] {
        let plan = store.plan(&format!("SELECT time, x, v, {window} AS w FROM {{}}")).await;
        let note = plan.split_once("window not pushed down=").map(|(_, note)| note);
        assert!(note.is_some_and(|note| note.contains(reason)), "{window}: {plan}");
    }
    let filtered = "SELECT lag(v) OVER (LINE) FROM {} WHERE v > 2";
    let plan = store.plan(filtered).await;
    assert!(plan.contains("window not pushed down=a filter below it"), "{plan}");
    let limited = "SELECT lag(v) OVER (LINE) FROM (SELECT * FROM {} LIMIT 5)";
    let plan = store.plan(limited).await;
    assert!(plan.contains("window not pushed down=it is over"), "{plan}");
    // A window of what a window has looked up, or computed.
    let anomaly = "SELECT *, v - avg(v) OVER (PARTITION BY x) AS a FROM {}";
    let above = format!("SELECT sum(a) OVER (LINE ROWS 1 PRECEDING) AS w FROM ({anomaly})");
    let plan = store.plan(&above).await;
    assert!(plan.contains("is known only when the query runs"), "{plan}");
    let answer = rows(&store.ctx, &store.sql(&format!("SELECT max(w) FROM ({above})"))).await;
    // 13 + 14 - 2 * 12; 4 + 5 - 2 * 2.5.
    assert_eq!(answer.unwrap(), [[json!(4.0)]]);
    let sum = "SELECT *, sum(v) OVER (LINE) AS a FROM {}";
    let plan =
        store.plan(&format!("SELECT max(a) OVER (LINE ROWS 1 PRECEDING) FROM ({sum})")).await;
    assert!(plan.contains("is computed by a window itself"), "{plan}");
    // One of two.
    let both = "SELECT lag(v) OVER (LINE), median(v) OVER (LINE), row_number() OVER (LINE) FROM {}";
    let plan = store.plan(both).await;
    assert!(plan.contains("windows=[lag") && plan.contains("row_number()"), "{plan}");
    assert!(plan.contains("window not pushed down=no kernel computes median"), "{plan}");
    rows(&store.ctx, "SET lsio.window_pushdown = false").await.unwrap();
    let plan = store.plan("SELECT lag(v) OVER (LINE) FROM {}").await;
    assert!(plan.contains("BoundedWindowAggExec") && !plan.contains("not pushed"), "{plan}");
}

#[tokio::test]
async fn values_are_known() {
    let store = Store::new();
    let null = Value::Null;
    let f = |value: f64| json!(value);
    for (window, expected) in [
        ("lag(v) OVER (LINE)", vec![null.clone(), f(10.0), f(11.0), f(12.0), f(13.0), f(14.0)]),
        ("lag(v, 2, 99) OVER (LINE)", vec![f(99.0), f(99.0), f(10.0), f(11.0), f(12.0), f(13.0)]),
        (
            "lead(v) OVER (LINE DESC)",
            vec![null.clone(), f(10.0), f(11.0), f(12.0), f(13.0), f(14.0)],
        ),
        (
            "lead(coalesce(v, 5)) OVER (LINE)",
            vec![f(11.0), f(12.0), f(13.0), f(14.0), f(5.0), null.clone()],
        ),
        (
            "nth_value(v, 2) OVER (LINE)",
            vec![null.clone(), f(11.0), f(11.0), f(11.0), f(11.0), f(11.0)],
        ),
        ("sum(v) OVER (LINE)", vec![f(10.0), f(21.0), f(33.0), f(46.0), f(60.0), f(60.0)]),
        (
            "sum(v) OVER (LINE DESC)",
            vec![f(60.0), f(50.0), f(39.0), f(27.0), f(14.0), null.clone()],
        ),
        (
            "avg(v) OVER (LINE ROWS 1 PRECEDING)",
            vec![f(10.0), f(10.5), f(11.5), f(12.5), f(13.5), f(14.0)],
        ),
        // Days 0, 1, 5, 6, 7 and 40: gaps count.
        (
            "sum(v) OVER (LINE RANGE INTERVAL '1 day' PRECEDING)",
            vec![f(10.0), f(21.0), f(12.0), f(25.0), f(27.0), null.clone()],
        ),
        (
            "count(v) OVER (LINE RANGE BETWEEN INTERVAL '1 month' PRECEDING AND CURRENT ROW)",
            [1, 2, 3, 4, 5, 0].map(Value::from).to_vec(),
        ),
        (
            "count(*) OVER (LINE RANGE BETWEEN INTERVAL '2 days' PRECEDING AND INTERVAL '1 day' PRECEDING)",
            [0, 1, 0, 1, 2, 0].map(Value::from).to_vec(),
        ),
        (
            "sum(v) OVER (LINE ROWS BETWEEN UNBOUNDED PRECEDING AND 3 PRECEDING)",
            vec![null.clone(), null.clone(), null.clone(), f(10.0), f(21.0), f(33.0)],
        ),
        ("row_number() OVER (LINE DESC)", [6, 5, 4, 3, 2, 1].map(Value::from).to_vec()),
        ("max(v) OVER (PARTITION BY x)", vec![f(14.0); 6]),
        ("count(v) OVER (PARTITION BY x)", vec![json!(5); 6]),
    ] {
        assert_eq!(store.values(window).await, expected, "{window}");
    }
    // Only selected rows are in a partition, and filters above leave its values.
    let selected =
        "SELECT lag(v) OVER (LINE) AS w FROM {} WHERE time <> '2019-01-02' AND x = 0 ORDER BY time";
    let answer = rows(&store.ctx, &store.sql(selected)).await.unwrap();
    let expected = [null.clone(), f(0.0), f(2.0), f(3.0), f(4.0)].map(|value| vec![value]);
    assert_eq!(answer, expected);
    let above = "SELECT w FROM (SELECT time, x, v, sum(v) OVER (LINE) AS w FROM {}) WHERE time > '2019-01-06' AND x = 0 ORDER BY time";
    let answer = rows(&store.ctx, &store.sql(above)).await.unwrap();
    assert_eq!(answer, [f(6.0), f(10.0), f(15.0)].map(|value| vec![value]));
    let above = "SELECT w FROM (SELECT time, x, v, sum(v) OVER (LINE) AS w FROM {}) WHERE w > 12 AND x = 0 ORDER BY time";
    let answer = rows(&store.ctx, &store.sql(above)).await.unwrap();
    assert_eq!(answer, [vec![f(15.0)]]);
}
