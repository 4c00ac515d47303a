//! Functions under the names that DuckDB has for them, and sums that don't wrap.

use std::path::Path;

use lsio_synthetic::write::{Compression, GroupWriter, SyntheticArray};
use serde_json::{Value, json};

use crate::{
    harness::{json_rows, rows, same},
    statistics::pushing,
};

const ROWS: &str = "(VALUES (1, 5.0, 'b'), (2, NULL, 'a'), (3, 1.0, 'c'), (4, 2.0, NULL), \
                    (5, 4.0, 'a')) AS t(i, v, s)";

const TIMES: &str = "(VALUES (TIMESTAMP '2020-01-01T10:00:00'), (TIMESTAMP '2020-01-02T11:00:00'), \
                     (NULL)) AS t(t)";

async fn check(sql: &str, expected: &[Value]) {
    let actual = rows(&pushing(true), sql).await.unwrap();
    assert!(same(&actual, &[expected.to_vec()]), "{sql}: {actual:?} for {expected:?}");
}

async fn error(sql: &str) -> String {
    let ctx = pushing(true);
    let error = rows(&ctx, sql).await.unwrap_err();
    let error = lsio_datafusion::clarify(error, sql, &ctx.state()).to_string();
    assert!(!error.contains("Internal error"), "{error}");
    error
}

#[tokio::test]
async fn of_numbers() {
    let null = Value::Null;
    check(
        "SELECT mod(7, 3), mod(-7, 3), mod(7, -3), mod(-7.5, 2), mod(7, 0), mod(7.5, 0), mod(NULL, 2), \
         mod(arrow_cast(7, 'UInt64'), -4), mod(CAST(-128 AS TINYINT), -1)",
        &[
            json!(1),
            json!(-1),
            json!(1),
            json!(-1.5),
            null.clone(),
            null.clone(),
            null.clone(),
            json!(3),
            json!(0),
        ],
    )
    .await;
    // The quotient is cut down, and what it leaves has the divisor's sign.
    check(
        "SELECT fdiv(7, 2), fdiv(-7, 2), fdiv(7.5, 2), fdiv(7, 0) > 1e308, fmod(7, 3), fmod(-7.5, 2), \
         fmod(-7, 3), fmod(7, -3), fmod(-6, 3), fmod(NULL, 1)",
        &[
            json!(3.0),
            json!(-4.0),
            json!(3.0),
            json!(true),
            json!(1.0),
            json!(0.5),
            json!(2.0),
            json!(-2.0),
            json!(0.0),
            null.clone(),
        ],
    )
    .await;
    check(
        "SELECT isinf(CAST('inf' AS DOUBLE)), isinf(-1.0 / 0), isinf(1), isinf(CAST('-inf' AS REAL)), \
         isfinite(1.5), isfinite(CAST('nan' AS DOUBLE)), isfinite(NULL)",
        &[json!(true), json!(true), json!(false), json!(true), json!(true), json!(false), null],
    )
    .await;
    assert!(error("SELECT isinf('a')").await.contains("isinf takes a number, not (Utf8)"));
    assert!(error("SELECT fmod(1)").await.contains("fmod takes two numbers, not (Int64)"));
    assert!(error("SELECT mod('a', 1)").await.contains("mod(a, b) divides numbers"));
}

/// DuckDB's and scipy's answers.
#[tokio::test]
async fn of_samples() {
    check(
        &format!(
            "SELECT product(v), geomean(v), geometric_mean(v), kurtosis(v), kurtosis_pop(v), \
             skewness(i * i), sem(v), fsum(v), kahan_sum(v), sumkahan(v), favg(v), entropy(v), \
             entropy(s), mad(v), mad(i), count_if(v > 1), countif(v > 9) FROM {ROWS}"
        ),
        &[
            json!(40.0),
            json!(2.514_866_859_365_870_5),
            json!(2.514_866_859_365_870_5),
            json!(-3.3),
            json!(-1.64),
            json!(0.699_589_227_640_320_3),
            json!(0.790_569_415_042_094_9),
            json!(12.0),
            json!(12.0),
            json!(12.0),
            json!(3.0),
            json!(2.0),
            json!(1.5),
            json!(1.5),
            json!(1.0),
            json!(3),
            json!(0),
        ],
    )
    .await;
    // Of too few values, or of none.
    let nothing = "FILTER (WHERE i > 9)";
    check(
        &format!(
            "SELECT product(v) {nothing}, geomean(v) {nothing}, skewness(v) FILTER (WHERE i < 4), \
             kurtosis(v) FILTER (WHERE i < 5), skewness(1.0), kurtosis_pop(1.0), entropy(v) {nothing}, \
             mad(v) {nothing}, count_if(v > 1) {nothing}, count_if(NULL), product(v) FILTER (WHERE v > 4) \
             FROM {ROWS}"
        ),
        &[
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            json!(0),
            json!(0),
            json!(5.0),
        ],
    )
    .await;
    // Far from zero, and in parts that are merged.
    check(
        "SELECT abs(skewness(1e9 + value % 3)) < 1e-12, kurtosis_pop(1e9 + value % 3), fsum(value % 3) FROM \
         generate_series(1, 9999)",
        &[json!(true), json!(-1.5), json!(9999.0)],
    )
    .await;
    let sql = format!(
        "SELECT count_if(v > 1) OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM {ROWS}"
    );
    let counts = rows(&pushing(true), &sql).await.unwrap();
    assert_eq!(counts, [[json!(1)], [json!(1)], [json!(0)], [json!(1)], [json!(2)]]);
    assert!(error("SELECT count_if(1.5)").await.contains("rows where a condition holds"));
    assert!(error("SELECT product(DISTINCT 1)").await.contains("DISTINCT"));
}

#[tokio::test]
async fn quantiles_of_times_and_in_lists() {
    check(
        &format!(
            "SELECT median(t), quantile_cont(t, 0.3), quantile_cont(CAST(t AS DATE), 0.3), \
             quantile_disc(t, 0.5), mad(t), median(CAST(t AS TIME)), quantile_cont(t - TIMESTAMP \
             '2020-01-01', 0.2), median(arrow_cast(t, 'Timestamp(Second, Some(\"UTC\"))')) FROM {TIMES}"
        ),
        &[
            json!("2020-01-01T22:30:00"),
            json!("2020-01-01T17:30:00"),
            json!("2020-01-01T07:12:00"),
            json!("2020-01-01T10:00:00"),
            json!("PT45000S"),
            json!("10:30:00"),
            json!("PT54000S"),
            json!("2020-01-01T22:30:00Z"),
        ],
    )
    .await;
    check(
        &format!(
            "SELECT quantile_cont(v, [0.25, 0.5]), quantile_disc(v, [0.25, 0.5]), quantile(s, [0, 1]), \
             percentile_cont([0, 0.1]) WITHIN GROUP (ORDER BY v DESC), quantile_cont(v, []), \
             quantile_cont(v, [0.5]) FILTER (WHERE v > 9) FROM {ROWS}"
        ),
        &[
            json!("[1.75, 3.0]"),
            json!("[1.0, 2.0]"),
            json!("[a, c]"),
            json!("[5.0, 4.7]"),
            json!("[]"),
            Value::Null,
        ],
    )
    .await;
    let groups = "SELECT i % 2 AS g, quantile_cont(v, [0.5, 1]) FROM (VALUES (1, 5.0), (3, 1.0), (2, \
                  CAST(NULL AS DOUBLE))) AS t(i, v) GROUP BY g ORDER BY g";
    let lists = rows(&pushing(true), groups).await.unwrap();
    assert_eq!(lists, [[json!(0), Value::Null], [json!(1), json!("[3.0, 5.0]")]]);
    for (call, says) in [
        ("median('a')", "median takes numbers, times and durations, not Utf8"),
        ("median(true)", "quantile_disc takes any type"),
        ("median(INTERVAL '1 day')", "median takes numbers, times and durations, not Interval"),
        ("quantile_cont(1.0)", "takes a value and a fraction"),
        ("quantile_cont(1.0, 'a')", "takes a fraction from 0 to 1 or a list of them, not Utf8"),
        ("quantile_cont(1.0, [0.5, 2])", "takes a constant fraction from 0 to 1"),
        ("quantile_cont(1.0, [0.5, NULL])", "takes a constant fraction from 0 to 1"),
        ("arg_max(1, 2, 3)", "for several write SELECT value … ORDER BY key LIMIT n"),
        ("arg_max(1)", "takes a value and a key"),
    ] {
        let error = error(&format!("SELECT {call}")).await;
        assert!(error.contains(says) && !error.contains("UserDefined"), "{call}: {error}");
    }
}

#[tokio::test]
async fn means_of_pairs_keep_infinities() {
    let pairs = "FROM (VALUES (CAST('inf' AS DOUBLE), 1), (2.0, 2), (3.0, NULL)) AS t(y, x)";
    check(
        &format!("SELECT regr_avgy(y, x) > 1e308, regr_avgx(y, x) {pairs}"),
        &[json!(true), json!(1.5)],
    )
    .await;
}

const HUGE: i64 = i64::MAX;

/// Integers of 64 bits over t and x, in several tiles.
fn store(path: &Path) {
    let group = GroupWriter::create(path, json!({})).unwrap();
    let dims: &[(&str, u64)] = &[("t", 4), ("x", 3)];
    let spec = |name, data_type| SyntheticArray {
        name,
        data_type,
        dims,
        chunks: &[1, 3],
        shards: None,
        compression: Compression::None,
        fill_value: json!(0),
        attributes: json!({}),
    };
    let wide = group.array(&spec("wide", "int64")).unwrap();
    let unsigned = group.array(&spec("unsigned", "uint64")).unwrap();
    let narrow = group.array(&spec("narrow", "int32")).unwrap();
    for (t, [a, b, c]) in
        [[HUGE, 1, 0], [5, -HUGE, 0], [7, HUGE, 0], [-3, 2, HUGE]].into_iter().enumerate()
    {
        let chunk = [t as u64, 0];
        wide.write(&chunk, &[a, b, c]).unwrap();
        unsigned.write(&chunk, &[u64::MAX, 0, t as u64]).unwrap();
        narrow.write(&chunk, &[i32::MAX, i32::MIN, 1]).unwrap();
    }
    group.consolidate().unwrap();
}

#[tokio::test]
async fn sums_of_integers_never_wrap() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    store(&path);
    let table = format!("'{}'", path.display());
    let halves = format!(
        "(SELECT * FROM {table} WHERE narrow > -9 UNION ALL SELECT * FROM {table} WHERE narrow <= -9)"
    );
    let limited = format!("(SELECT * FROM {table} LIMIT 99)");
    for (pushdown, table) in [(true, &table), (false, &table), (true, &halves), (true, &limited)] {
        let ctx = pushing(pushdown);
        let ask = async |sql: &str| rows(&ctx, &sql.replace("{}", table)).await;
        // What overflows on the way comes back.
        let sums = ask(
            "SELECT sum(wide) FROM {} WHERE narrow = 2147483647 OR wide = -9223372036854775807",
        );
        assert_eq!(sums.await.unwrap(), [[json!(9)]], "{table}");
        let sums = ask("SELECT sum(wide) FROM {} WHERE wide < 0 OR wide > 7").await.unwrap_err();
        assert!(sums.to_string().contains("sum(") && sums.to_string().contains("Int64"), "{sums}");
        let sums = ask("SELECT sum(narrow), sum(wide - wide), sum(CAST(unsigned % 7 AS BIGINT)), sum(wide) FILTER (WHERE \
                        wide < 9) FROM {}")
        .await
        .unwrap();
        let expected = [vec![json!(0), json!(0), json!(10), json!(12 - HUGE)]];
        assert_eq!(sums, expected, "{table}");
        let unsigned = ask("SELECT sum(unsigned) FROM {}").await.unwrap_err().to_string();
        assert!(unsigned.contains("is beyond what UInt64 holds"), "{unsigned}");
        let doubles =
            ask("SELECT sum(CAST(wide AS DOUBLE)), sum(CAST(wide AS DECIMAL(38, 0))) FROM {}");
        let digits = i128::from(HUGE) * 2 + 12;
        let expected = [vec![json!(digits as f64), json!(digits.to_string())]];
        assert!(same(&doubles.await.unwrap(), &expected), "{table}");
        let frames =
            ask("SELECT sum(wide) OVER (ORDER BY wide ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) \
                          FROM {} ORDER BY 1");
        let error = frames.await.unwrap_err().to_string();
        assert!(error.contains("Int64") && !error.contains("panic"), "{error}");
        let frames = ask(
            "SELECT min(s), max(s), arrow_typeof(min(s)) FROM (SELECT sum(narrow) OVER (ORDER \
                          BY narrow ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s FROM {})",
        );
        let (least, most) = (2 * i64::from(i32::MIN), 2 * i64::from(i32::MAX));
        assert_eq!(frames.await.unwrap(), [[json!(least), json!(most), json!("Int64")]]);
        let distinct =
            ask("SELECT sum(DISTINCT wide), count(DISTINCT narrow) FROM {} WHERE wide < 9");
        assert_eq!(distinct.await.unwrap(), [[json!(12 - HUGE), json!(3)]]);
    }
    // Sums over dimensions that a query leaves out are multiples.
    let sql = format!("SELECT sum(u + {HUGE} - u) FROM {table} JOIN (VALUES (1)) AS o(u) ON true");
    assert!(rows(&pushing(true), &sql).await.is_err());
    for sql in [
        "SELECT sum(x) FROM (VALUES (9223372036854775807), (1)) AS t(x)",
        "SELECT sum(x) OVER () FROM (VALUES (9223372036854775807), (1)) AS t(x)",
        "SELECT sum(arrow_cast(x, 'Duration(Second)')) FROM (VALUES (9223372036854775807), (1)) AS t(x)",
    ] {
        let error = error(sql).await;
        assert!(!error.contains("panic"), "{sql}: {error}");
    }
    // DataFusion's own SQL without Zarr is DataFusion's.
    let ctx = pushing(true);
    let wrapping = ctx.sql("SELECT sum(x) FROM (VALUES (9223372036854775807), (1)) AS t(x)").await;
    assert_eq!(json_rows(&wrapping.unwrap().collect().await.unwrap()), [[json!(i64::MIN)]]);
    let back = "SELECT sum(x) FROM (VALUES (9223372036854775807), (1), (-1)) AS t(x)";
    check(back, &[json!(HUGE)]).await;
    let durations =
        "SELECT sum(arrow_cast(x, 'Duration(Second)')) FROM (VALUES (3600), (5)) AS t(x)";
    check(durations, &[json!("PT3605S")]).await;
}
