//! Quantiles, extremes of other columns, and most frequent values.

use serde_json::{Value, json};

use crate::{
    harness::{rows, same},
    statistics::{check, pushing},
};

const ROWS: &str = "(VALUES (1, 5.0, 'b'), (2, NULL, 'a'), (3, 1.0, 'c'), (4, 2.0, NULL), \
                    (5, 4.0, 'a')) AS t(i, v, s)";

async fn check_values(select: &str, expected: &[Value]) {
    let sql = format!("SELECT {select} FROM {ROWS}");
    let actual = rows(&pushing(true), &sql).await.unwrap();
    assert!(same(&actual, &[expected.to_vec()]), "{sql}: {actual:?} for {expected:?}");
}

#[tokio::test]
async fn fractions_of_quantiles_are_exact() {
    let sql = "SELECT quantile_cont(value, 1.0 / 9) FROM generate_series(0, 9000000)";
    assert_eq!(rows(&pushing(true), sql).await.unwrap(), [[json!(1_000_000.0)]]);
    // numpy.quantile of 1, 2, 4, 5.
    check_values(
        "quantile_cont(v, 0.1), percentile_cont(0.9) WITHIN GROUP (ORDER BY v), median(v), \
         quantile_cont(v, 0), quantile_cont(v, 1), median(i), median(v) FILTER (WHERE v > 4), \
         median(v) FILTER (WHERE v > 9), median(DISTINCT v - v)",
        &[
            json!(1.3),
            json!(4.7),
            json!(3.0),
            json!(1.0),
            json!(5.0),
            json!(3.0),
            json!(5.0),
            Value::Null,
            json!(0.0),
        ],
    )
    .await;
    // From the end: 5, 4, 2, 1.
    check_values(
        "percentile_cont(0.1) WITHIN GROUP (ORDER BY v DESC), \
         percentile_disc(0.5) WITHIN GROUP (ORDER BY v DESC)",
        &[json!(4.7), json!(4.0)],
    )
    .await;
    check_values(
        "quantile_disc(v, 0.5), quantile(s, 0.5), quantile_disc(i, 0.0), quantile_disc(i, 1.0)",
        &[json!(2.0), json!("a"), json!(1), json!(5)],
    )
    .await;
}

#[tokio::test]
async fn quantiles_of_cells() {
    // Cells of Float32 aren't rounded to it again: 20 + i / 4 of 3, 4, 5, 6, 10, …
    let valid: Vec<f64> =
        (0..30).filter(|i| i % 7 >= 3).map(|i| 20.0 + f64::from(i) / 4.0).collect();
    let quantile = |q: f64| {
        let place = (valid.len() - 1) as f64 * q;
        let (low, t) = (place.floor() as usize, place.fract());
        let (a, b) = (valid[low], valid[(low + 1).min(valid.len() - 1)]);
        if t < 0.5 { a + (b - a) * t } else { b - (b - a) * (1.0 - t) }
    };
    let expected = [vec![json!(quantile(0.5)), json!(quantile(0.37)), json!(quantile(0.93))]];
    check(
        "SELECT median(sst), quantile_cont(sst, 0.37), percentile_cont(0.93) WITHIN GROUP (ORDER BY \
         sst) FROM {}",
        &expected,
    )
    .await;
    check(
        "SELECT arrow_typeof(median(sst)), arrow_typeof(approx_percentile_cont(sst, 0.5)), \
         arrow_typeof(quantile_disc(sst, 0.5)) FROM {}",
        &[vec![json!("Float64"), json!("Float64"), json!("Float32")]],
    )
    .await;
    check(
        "SELECT lat, median(lon), quantile_disc(lon, 0.5), median(sst) FROM {} WHERE lat > 40 GROUP \
         BY lat ORDER BY lat",
        &[
            vec![json!(45.0), json!(144.0), json!(144.0), json!(21.375)],
            vec![json!(75.0), json!(144.0), json!(144.0), json!(20.875)],
        ],
    )
    .await;
}

#[tokio::test]
async fn medians_roll() {
    let over = "OVER (ORDER BY i ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)";
    let sql =
        format!("SELECT median(v) {over}, quantile_disc(s, 0.0) {over} FROM {ROWS} ORDER BY i");
    let actual = rows(&pushing(true), &sql).await.unwrap();
    let expected = [
        [json!(5.0), json!("b")],
        [json!(5.0), json!("a")],
        [json!(3.0), json!("a")],
        [json!(1.5), json!("a")],
        [json!(2.0), json!("a")],
    ];
    assert_eq!(actual, expected);
    let sql = "SELECT max(m) FROM (SELECT median(value) OVER (ORDER BY value ROWS BETWEEN 99 PRECEDING \
               AND CURRENT ROW) - value AS m FROM generate_series(1, 1000)) WHERE m < -40";
    assert_eq!(rows(&pushing(true), sql).await.unwrap(), [[json!(-40.5)]]);
}

#[tokio::test]
async fn fractions_are_constants_from_0_to_1() {
    for fraction in ["1.5", "-0.1", "NULL", "i"] {
        let sql = format!("SELECT quantile_cont(v, {fraction}) FROM {ROWS}");
        let error = rows(&pushing(true), &sql).await.unwrap_err().to_string();
        assert!(error.contains("takes a constant fraction from 0 to 1"), "{error}");
    }
}

#[tokio::test]
async fn values_where_others_are_extreme() {
    check_values(
        "arg_max(i, v), arg_min(s, v), max_by(s, i), min_by(i, s), arg_max(v, s), argmax(i, v) \
         FILTER (WHERE v < 2), arg_max(i, v) FILTER (WHERE v > 9), arg_min(i, v * 0)",
        &[json!(1), json!("c"), json!("a"), json!(2), json!(1.0), json!(3), Value::Null, json!(1)],
    )
    .await;
    // The last valid cell is the warmest; masked cells don't count.
    check(
        "SELECT arg_max(lat, sst), arg_max(lon, sst), arg_min(lon, sst), min_by(sst, -lat - lon / \
         1000) FROM {}",
        &[vec![json!(-75.0), json!(144.0), json!(216.0), json!(21.0)]],
    )
    .await;
    check(
        "SELECT lat, arg_max(lon, sst) FROM {} GROUP BY lat ORDER BY lat LIMIT 2",
        &[vec![json!(-75.0), json!(144.0)], vec![json!(-45.0), json!(288.0)]],
    )
    .await;
}

#[tokio::test]
async fn most_frequent_values() {
    check_values(
        "mode(s), mode(i), mode(v) FILTER (WHERE v > 9), mode() WITHIN GROUP (ORDER BY s), mode(CASE \
         WHEN i < 3 THEN -0.0 WHEN i = 3 THEN 0.0 WHEN i = 4 THEN 0.0 / 0.0 ELSE 1.0 END)",
        &[json!("a"), json!(1), Value::Null, json!("a"), json!(0.0)],
    )
    .await;
    check(
        "SELECT mode(lat), mode(CASE WHEN sst > 22 THEN 'warm' WHEN sst <= 22 THEN 'cold' END) FROM {}",
        &[vec![json!(-75.0), json!("warm")]],
    )
    .await;
    check(
        "SELECT max(m) FROM (SELECT lat, mode(lon) AS m FROM {} GROUP BY lat)",
        &[vec![json!(0.0)]],
    )
    .await;
}
