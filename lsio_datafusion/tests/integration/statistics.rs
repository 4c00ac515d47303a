//! Aggregate functions with right answers: weighted means, shifted data, sliding windows.

use std::{path::Path, sync::Arc};

use datafusion::{physical_plan::collect, prelude::SessionContext};
use lsio_datafusion::{LsioConfig, result_notes};
use lsio_synthetic::write::{Compression, GroupWriter, SyntheticArray};
use serde_json::{Value, json};

use crate::harness::{config, rows, same, session};

/// A column of six rows of latitude and five of longitude; land is masked.
fn store(path: &Path) {
    let group = GroupWriter::create(path, json!({})).unwrap();
    let map: &[(&str, u64)] = &[("lat", 6), ("lon", 5)];
    let spec = |name, data_type, dims, chunks| SyntheticArray {
        name,
        data_type,
        dims,
        chunks,
        shards: None,
        compression: Compression::None,
        fill_value: json!("NaN"),
        attributes: json!({}),
    };
    let latitudes: Vec<f64> = (0..6).map(|i| 75.0 - 30.0 * f64::from(i)).collect();
    group.whole_array(&spec("lat", "float64", &map[..1], &[6]), &latitudes).unwrap();
    let longitudes: Vec<f64> = (0..5).map(|i| 72.0 * f64::from(i)).collect();
    group.whole_array(&spec("lon", "float64", &map[1..], &[5]), &longitudes).unwrap();
    let (sst, offset): (Vec<f32>, Vec<f64>) = cells();
    group.whole_array(&spec("sst", "float32", map, &[2, 5]), &sst).unwrap();
    group.whole_array(&spec("near", "float64", map, &[2, 5]), &offset).unwrap();
    group.consolidate().unwrap();
}

/// Temperatures with masked cells, and values beside 10⁹ that differ by thousandths.
fn cells() -> (Vec<f32>, Vec<f64>) {
    let sst = (0..30_u8).map(|i| if i % 7 < 3 { f32::NAN } else { 20.0 + f32::from(i) / 4.0 });
    let near = (0..30_u8).map(|i| 1e9 + f64::from(u32::from(i) * 37 % 31) / 4096.0);
    (sst.collect(), near.collect())
}

pub(crate) fn pushing(pushdown: bool) -> SessionContext {
    let mut config = config().with_target_partitions(3);
    config.options_mut().extensions.get_mut::<LsioConfig>().unwrap().aggregate_pushdown = pushdown;
    session(config)
}

pub(crate) async fn check(sql: &str, expected: &[Vec<Value>]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    store(&path);
    let sql = sql.replace("{}", &format!("'{}'", path.to_string_lossy()));
    for pushdown in [false, true] {
        let actual = rows(&pushing(pushdown), &sql).await.unwrap();
        assert!(same(&actual, expected), "{sql} {pushdown}: {actual:?} for {expected:?}");
    }
}

#[tokio::test]
async fn weights_count_only_where_the_value_is() {
    let (sst, _) = cells();
    let (mut products, mut weights) = (0.0, 0.0);
    for (i, value) in sst.iter().enumerate().filter(|(_, v)| !v.is_nan()) {
        let weight = (75.0 - 30.0 * (i / 5) as f64).to_radians().cos();
        products += f64::from(*value) * weight;
        weights += weight;
    }
    let expected = [vec![json!(products / weights)]];
    check("SELECT weighted_avg(sst, cos(radians(lat))) FROM {}", &expected).await;
    check("SELECT weighted_avg(sst, cos(radians(lat)) + lon * 0) FROM {}", &expected).await;
    check("SELECT weighted_avg(sst, sst * 0) FROM {}", &[vec![Value::Null]]).await;
}

#[tokio::test]
async fn shifted_data_keep_their_digits() {
    let (_, near) = cells();
    let small: Vec<f64> = near.iter().map(|v| v - 1e9).collect();
    let mean = small.iter().sum::<f64>() / 30.0;
    let squares: f64 = small.iter().map(|v| (v - mean).powi(2)).sum();
    let lat: Vec<f64> = (0..30).map(|i| 75.0 - 30.0 * f64::from(i / 5)).collect();
    let lat_mean = lat.iter().sum::<f64>() / 30.0;
    let lat_squares: f64 = lat.iter().map(|v| (v - lat_mean).powi(2)).sum();
    let both: f64 = small.iter().zip(&lat).map(|(n, l)| (n - mean) * (l - lat_mean)).sum();
    let expected = [vec![
        json!(squares / 29.0),
        json!((squares / 30.0).sqrt()),
        json!(both / (squares * lat_squares).sqrt()),
        json!(both / 29.0),
        json!(both / lat_squares),
    ]];
    let select = "var(near), stddev_pop(near), corr(near, lat), covar_samp(near, lat), \
                  regr_slope(near, lat) FROM {}";
    check(&format!("SELECT {select}"), &expected).await;
    // One group, which DataFusion hashes.
    check(&format!("SELECT {select} GROUP BY lat * 0"), &expected).await;
}

#[tokio::test]
async fn nothing_stays_behind_of_what_leaves_a_frame() {
    let over = "OVER (ORDER BY lat * 1000 + lon ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)";
    // The first cell is huge, all others are 1.
    let x = "CASE WHEN lat < -70 AND lon = 0 THEN 1e17 ELSE 1.0 END";
    let sql = format!(
        "SELECT min(s), max(s), min(a), max(v) FROM (SELECT lat, lon, sum({x}) {over} AS s, \
         avg({x}) {over} AS a, stddev({x}) {over} AS v FROM {{}}) WHERE lat > -70"
    );
    check(&sql, &[vec![json!(3.0), json!(3.0), json!(1.0), json!(0.0)]]).await;
}

#[tokio::test]
async fn booleans_are_counted() {
    let (sst, _) = cells();
    let warm = |v: &&f32| **v > 24.0;
    let valid = sst.iter().filter(|v| !v.is_nan()).count();
    let count = sst.iter().filter(warm).count();
    let fraction = count as f64 / valid as f64;
    let expected = [vec![json!(count), json!(fraction), json!(fraction), json!(1), json!(20)]];
    let sql = "SELECT sum(sst > 24), avg(sst > 24), mean(CASE WHEN sst > 24 THEN true ELSE false \
               END) FILTER (WHERE sst IS NOT NULL), sum(DISTINCT sst > 24), sum(lat > -90 AND lat < \
               0 OR lat = 75) FROM {}";
    check(sql, &expected).await;
    check(
        "SELECT max(s) FROM (SELECT lat, avg(sst > 0) AS s FROM {} GROUP BY lat)",
        &[vec![json!(1.0)]],
    )
    .await;
    let over = "OVER (ORDER BY lat * 1000 + lon ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)";
    let sql = format!(
        "SELECT max(s), max(a) FROM (SELECT sum(lat > 0) {over} AS s, avg(lat > 0) {over} AS a FROM {{}})"
    );
    check(&sql, &[vec![json!(2), json!(1.0)]]).await;
    check("SELECT sum(lat), avg(lon) FROM {}", &[vec![json!(0.0), json!(144.0)]]).await;
}

#[tokio::test]
async fn texts_are_not_summed() {
    for call in [
        "sum('a')",
        "avg('a')",
        "sum(true, false)",
        "avg(arrow_cast(0, 'Timestamp(Second, None)'))",
    ] {
        let error = rows(&pushing(true), &format!("SELECT {call}")).await.unwrap_err().to_string();
        assert!(error.contains("takes one number, boolean or duration, not"), "{error}");
        assert!(!error.contains("Internal"), "{error}");
    }
}

#[tokio::test]
async fn weights_of_missing_values_are_noted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    store(&path);
    let notes = async |select: &str| {
        let ctx = pushing(true);
        let frame = ctx.sql(&format!("SELECT {select} FROM '{}'", path.display())).await.unwrap();
        let task = Arc::new(frame.task_ctx());
        let plan = frame.create_physical_plan().await.unwrap();
        collect(Arc::clone(&plan), task).await.unwrap();
        result_notes(&plan).unwrap()
    };
    let masked = cells().0.iter().filter(|v| v.is_nan()).count();
    let expected = [format!(
        "sum(cos(radians(lat))) counts the weight of {masked} cells where sst is NULL: \
         weighted_avg(sst, cos(radians(lat))) leaves them out"
    )];
    let weight = "cos(radians(lat))";
    assert_eq!(notes(&format!("sum(sst * {weight}) / sum({weight})")).await, expected);
    assert_eq!(notes(&format!("sum({weight} * sst) / sum({weight})")).await, expected);
    let valid = "FILTER (WHERE sst IS NOT NULL)";
    for right in [
        format!("sum(sst * {weight}) / sum({weight}) {valid}"),
        format!("sum(sst * {weight}) {valid} / sum({weight}) {valid}"),
        format!("weighted_avg(sst, {weight})"),
        format!("sum(near * {weight}) / sum({weight})"),
        format!("sum(sst * {weight}), sum(lat)"),
    ] {
        assert!(notes(&right).await.is_empty(), "{right}");
    }
    let masked = "sum(sst * cos(radians(lat)) * lon), sum(lon * cos(radians(lat)))";
    assert_eq!(notes(masked).await.len(), 1);
}
