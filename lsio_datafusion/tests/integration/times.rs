//! Times outside 1677 to 2262, and flags: what plans make of them.

use datafusion::prelude::SessionContext;
use serde_json::json;

use crate::{
    harness::{config, query, rows, session, workspace},
    storage::naming,
};

fn fixture(name: &str) -> String {
    let path = workspace().join("lsio_datafusion/tests/fixtures").join(name);
    path.to_string_lossy().into_owned()
}

async fn explain(ctx: &SessionContext, sql: &str) -> String {
    let rows = rows(ctx, &format!("EXPLAIN {sql}")).await.unwrap();
    rows[1][1].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn filters_on_distant_times_become_selections() {
    let ctx = session(config());
    let store = fixture("distant_standard.zarr");
    for (condition, selected) in [
        ("time >= '0850-01-01'", "time=10/11"),
        ("time BETWEEN TIMESTAMP '0850-01-01' AND DATE '2263-01-01'", "time=8/11"),
        ("date_trunc('year', time) = '9999-01-01'", "time=1/11"),
        ("date_part('year', time) IN (850, 1582)", "time=3/11"),
        ("date_bin(INTERVAL '100 years', time) = '1570-01-01'", "time=2/11"),
        ("time > now()", "time=3/11"),
        ("time < arrow_cast('2000-01-01', 'Timestamp(Nanosecond, None)')", "time=7/11"),
        ("time + INTERVAL '1 month' > '9999-12-31'", "time=1/11"),
        ("to_char(time, '%Y') = '0850'", "time=1/11"),
    ] {
        let sql = format!("SELECT v FROM '{store}' WHERE {condition}");
        let plan = explain(&ctx, &sql).await;
        assert!(plan.contains(&format!("selection=[{selected}")), "{condition}: {plan}");
        assert!(!plan.contains("FilterExec"), "{condition}: {plan}");
    }
    let sql = format!("SELECT date_trunc('year', time), sum(v) FROM '{store}' GROUP BY 1");
    let plan = explain(&ctx, &sql).await;
    assert!(plan.contains("ZarrAggregateExec") && plan.contains("groups=10"), "{plan}");
}

#[tokio::test]
async fn other_plans_keep_their_nanoseconds() {
    let ctx = session(config());
    let kind =
        "SELECT arrow_typeof(TIMESTAMP '2000-01-01'), arrow_typeof(to_timestamp('2000-01-01'))";
    let nanos = json!("Timestamp(ns)");
    assert_eq!(rows(&ctx, kind).await.unwrap(), [[nanos.clone(), nanos.clone()]]);
    // So do those of a Zarr table whose times are nanoseconds, as written by pandas' users.
    let store = fixture("datetime64_v2.zarr/stamps");
    let kinds = rows(&ctx, &format!("{kind} FROM '{store}' LIMIT 1")).await.unwrap();
    assert_eq!(kinds, [[nanos.clone(), nanos]]);
    // Literals beyond them compare with them nonetheless.
    for (condition, count) in [
        ("stamps > '0850-01-01'", 2),
        ("stamps < TIMESTAMP '9999-12-31'", 2),
        ("stamps BETWEEN DATE '0001-01-01' AND '2020-01-02'", 1),
        ("stamps > '2263-01-01'", 0),
    ] {
        let sql = format!("SELECT count(*) FROM '{store}' WHERE {condition}");
        assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!(count)]], "{condition}");
    }
}

#[tokio::test]
async fn distant_times_meet_other_tables() {
    let ctx = session(config());
    let store = naming("v", fixture("distant_us.zarr"));
    let nanos = "arrow_cast('2000-02-28T07:00:00', 'Timestamp(Nanosecond, None)')";
    query(&ctx, &format!("CREATE TABLE events AS SELECT {nanos} AS time, 1 AS n")).await.unwrap();
    query(&ctx, &format!("CREATE VIEW model AS SELECT time AS t, v FROM '{store}'")).await.unwrap();
    for (sql, expected) in [
        ("SELECT v FROM model JOIN events ON t = time", 7),
        ("SELECT count(*) FROM model, events WHERE t > time", 3),
        ("SELECT count(*) FROM model WHERE t >= (SELECT max(time) FROM events)", 4),
        ("SELECT v FROM model WHERE t IN (SELECT time FROM events)", 7),
        ("SELECT count(*) FROM model LEFT JOIN events ON t < time", 11),
        ("SELECT count(*) FROM model WHERE EXISTS (SELECT 1 FROM events WHERE time > t)", 7),
    ] {
        assert_eq!(rows(&ctx, sql).await.unwrap(), [[json!(expected)]], "{sql}");
    }
}

/// The columns keep their own units.
#[tokio::test]
async fn distant_times_are_inserted_and_copied() {
    let ctx = session(config());
    let store = naming("v", fixture("distant_us.zarr"));
    query(&ctx, "CREATE TABLE nanos (time TIMESTAMP, v BIGINT)").await.unwrap();
    query(&ctx, "CREATE TABLE micros (time TIMESTAMP(6), v BIGINT)").await.unwrap();
    let near = "WHERE time BETWEEN '1900-01-01' AND '2100-01-01'";
    query(&ctx, &format!("INSERT INTO nanos SELECT time, v FROM '{store}' {near}")).await.unwrap();
    query(&ctx, &format!("INSERT INTO micros SELECT time, v FROM '{store}'")).await.unwrap();
    let error = query(&ctx, &format!("INSERT INTO nanos SELECT time, v FROM '{store}'")).await;
    assert!(error.unwrap_err().to_string().contains("exceeds the representable"));
    for (sql, expected) in [
        ("SELECT arrow_typeof(time), v FROM nanos", [json!("Timestamp(ns)"), json!(7)]),
        ("SELECT arrow_typeof(max(time)), max(v) FROM micros", [json!("Timestamp(µs)"), json!(10)]),
    ] {
        assert_eq!(rows(&ctx, sql).await.unwrap(), [expected], "{sql}");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("copy.parquet").to_string_lossy().into_owned();
    query(&ctx, &format!("COPY (SELECT * FROM '{store}') TO '{file}'")).await.unwrap();
    let sql = format!("SELECT count(*) FROM '{store}' z JOIN '{file}' p ON z.time = p.time");
    assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!(11)]]);
    // Texts that are no times are NULL where that is asked for, and an error elsewhere.
    let sql = format!(
        "SELECT count(TRY_CAST(concat(CAST(time AS VARCHAR), CASE WHEN v > 4 THEN 'x' ELSE '' END) \
         AS TIMESTAMP)) FROM '{store}'"
    );
    assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!(5)]]);
    assert!(query(&ctx, &sql.replace("TRY_CAST", "CAST")).await.is_err());
}

#[tokio::test]
async fn flags_are_grouped_inside_the_scan() {
    let ctx = session(config());
    let store = fixture("flags.zarr");
    let sql = format!("SELECT flag_meaning(cover), sum(t) FROM '{store}' GROUP BY 1");
    let plan = explain(&ctx, &sql).await;
    assert!(plan.contains("ZarrAggregateExec: gby=[flag_meaning(cover"), "{plan}");
    let sql = format!("SELECT t FROM '{store}' WHERE flag_meaning(cover) = 'forest'");
    let plan = explain(&ctx, &sql).await;
    assert!(plan.contains("x=1/3"), "{plan}");
}
