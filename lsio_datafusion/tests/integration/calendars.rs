//! Times of calendars, zones and durations: what plans make of them. What cftime says of the values is in
//! `answers_calendars.json`.

use lsio_synthetic::write::{Compression, GroupWriter, SyntheticArray};
use serde_json::json;

use crate::harness::{config, query, rows, session, workspace};

fn fixture(name: &str) -> String {
    let path = workspace().join("lsio_datafusion/tests/fixtures").join(name);
    path.to_string_lossy().into_owned()
}

/// Six steps of six hours: lead times, and days since 2020-10-24T12.
fn forecast(directory: &tempfile::TempDir) -> String {
    let store = directory.path().join("forecast.zarr");
    let group = GroupWriter::create(&store, json!({})).unwrap();
    let hours: Vec<i64> = (0..6).map(|step| step * 6).collect();
    let units = |units: &str| json!({"units": units, "dtype": "timedelta64[s]"});
    let since = json!({"units": "hours since 2020-10-24T12:00:00"});
    for (name, attributes) in [("lead", units("hours")), ("time", since), ("v", json!({}))] {
        let spec = SyntheticArray {
            name,
            data_type: "int64",
            dims: &[("lead", 6)],
            chunks: &[6],
            shards: None,
            compression: Compression::None,
            fill_value: json!(-1),
            attributes,
        };
        group.whole_array(&spec, &hours).unwrap();
    }
    store.to_string_lossy().into_owned()
}

#[tokio::test]
async fn words_of_one_coordinate_are_grouped_inside_the_scan() {
    let ctx = session(config());
    for store in ["calendar_noleap.zarr", "calendar_360_day.zarr", "calendar_standard.zarr"] {
        let store = fixture(store);
        for key in [
            "year(time)",
            "dayofyear(time)",
            "strftime(time, '%Y-%m')",
            "to_char(time, 'YYYY-MM')",
            "date_bin(INTERVAL '5 days', time)",
            "time_bucket(INTERVAL '1 month', time)",
            "time + INTERVAL '1 day'",
        ] {
            let sql = format!("EXPLAIN SELECT {key}, sum(v) FROM '{store}' GROUP BY 1");
            let plan = rows(&ctx, &sql).await.unwrap()[1][1].to_string();
            assert!(plan.contains("ZarrAggregateExec"), "{key}: {plan}");
        }
        let sql = format!("EXPLAIN SELECT v FROM '{store}' WHERE time = '2000-02'");
        let plan = rows(&ctx, &sql).await.unwrap()[1][1].to_string();
        assert!(plan.contains("selection=[time=") && !plan.contains("FilterExec"), "{plan}");
    }
}

/// The clocks of Berlin go back on 2020-10-25, from 3 to 2: a day of 25 hours.
#[tokio::test]
async fn bins_of_a_zone_are_local_days() {
    let ctx = session(config());
    let directory = tempfile::tempdir().unwrap();
    let store = forecast(&directory);
    let local = "time AT TIME ZONE 'UTC' AT TIME ZONE 'Europe/Berlin'";
    for bin in [
        format!("date_bin(INTERVAL '1 day', {local})"),
        format!("time_bucket(INTERVAL '1 day', {local})"),
        format!("date_trunc('day', {local})"),
    ] {
        let sql = format!("SELECT {bin} AS day, count(*) FROM '{store}' GROUP BY 1 ORDER BY 1");
        let expected = [
            [json!("2020-10-24T00:00:00+02:00"), json!(2)],
            [json!("2020-10-25T00:00:00+02:00"), json!(4)],
        ];
        assert_eq!(rows(&ctx, &sql).await.unwrap(), expected, "{bin}");
    }
}

#[tokio::test]
async fn windows_are_ordered_by_durations() {
    let ctx = session(config());
    let directory = tempfile::tempdir().unwrap();
    let store = forecast(&directory);
    for (over, expected) in [
        ("ORDER BY lead", [0, 6, 18, 36, 60, 90]),
        ("ORDER BY lead DESC", [90, 90, 84, 72, 54, 30]),
        ("ORDER BY lead ROWS 1 PRECEDING", [0, 6, 18, 30, 42, 54]),
        ("ORDER BY lead RANGE INTERVAL '6 hours' PRECEDING", [0, 6, 18, 30, 42, 54]),
        (
            "ORDER BY lead RANGE BETWEEN INTERVAL '12 hours' PRECEDING AND INTERVAL '6 hours' FOLLOWING",
            [6, 18, 36, 60, 84, 72 + 6],
        ),
    ] {
        let sql = format!("SELECT sum(v) OVER ({over}) FROM '{store}' ORDER BY v");
        let sums: Vec<_> = rows(&ctx, &sql).await.unwrap().concat();
        let mut expected = expected.map(|sum| json!(sum));
        if over.contains("FOLLOWING") {
            expected[5] = json!(18 + 24 + 30);
        }
        assert_eq!(sums, expected, "{over}");
    }
    let sql = format!(
        "SELECT sum(v) OVER (ORDER BY lead RANGE INTERVAL '1 month' PRECEDING) FROM '{store}'"
    );
    let error = query(&ctx, &sql).await.unwrap_err().to_string();
    assert!(error.contains("say it in days"), "{error}");
}

#[tokio::test]
async fn seconds_are_copied_as_times() {
    let ctx = session(config());
    let store = fixture("distant_s.zarr");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("copy.parquet").to_string_lossy().into_owned();
    query(&ctx, &format!("COPY (SELECT time, v FROM '{store}') TO '{file}'")).await.unwrap();
    let sql = format!("SELECT DISTINCT arrow_typeof(time) FROM '{file}'");
    assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!("Timestamp(ms)")]]);
    let sql = format!("SELECT count(*) FROM '{store}' z JOIN '{file}' p ON z.time = p.time");
    assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!(11)]]);
}

/// `time` is beyond what 64 bits of microseconds hold in its third cell.
#[tokio::test]
async fn times_out_of_range_are_null() {
    let ctx = session(config());
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("far.zarr");
    let spec = SyntheticArray {
        name: "time",
        data_type: "int64",
        dims: &[("x", 3)],
        chunks: &[3],
        shards: None,
        compression: Compression::None,
        fill_value: json!(0),
        attributes: json!({"units": "days since 2000-01-01"}),
    };
    let group = GroupWriter::create(&store, json!({})).unwrap();
    group.whole_array(&spec, &[0_i64, 1, i64::MAX / 2]).unwrap();
    let sql = format!("SELECT time FROM '{}' ORDER BY x", store.display());
    let expected = [[json!("2000-01-01T00:00:00")], [json!("2000-01-02T00:00:00")], [json!(null)]];
    assert_eq!(rows(&ctx, &sql).await.unwrap(), expected);
}
