//! What arithmetic gives: the values of numpy, with NULL in place of NaN.
//!
//! `fixtures/make_arithmetic.py` computes them with numpy: expressions of all stored types, with NULL,
//! infinities, both zeros and extremes among their operands. Here each is asked for as rows and in
//! aggregates, inside the scan and by DataFusion.

use std::{fs, path::Path};

use arrow::{
    array::AsArray,
    compute::cast,
    datatypes::{DataType, Float64Type},
};
use datafusion::prelude::SessionContext;
use lsio_synthetic::write::{Compression, GroupWriter, SyntheticArray};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::{config, query, rows, same, session, workspace};

/// The expressions that are asked for together.
const TOGETHER: usize = 8;

#[derive(Deserialize)]
struct Document {
    columns: Vec<Column>,
    expressions: Vec<Expression>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    r#type: String,
    values: Vec<Value>,
}

/// An expression and its values: numbers, null, and "NaN", "inf" and "-inf".
#[derive(Deserialize)]
struct Expression {
    sql: String,
    single: bool,
    values: Vec<Value>,
}

impl Expression {
    /// The values; NaN of values that are there is NULL if that is said.
    fn expected(&self, nan_as_null: bool) -> Vec<Option<f64>> {
        let values = self.values.iter().map(number);
        values.map(|value| value.filter(|value| !(nan_as_null && value.is_nan()))).collect()
    }

    fn is_near(&self, actual: Option<f64>, expected: Option<f64>, scale: f64) -> bool {
        let (Some(actual), Some(expected)) = (actual, expected) else { return actual == expected };
        let tolerance = if self.single { 2e-6 } else { 1e-9 };
        (actual.is_nan() && expected.is_nan())
            || actual == expected
            || (actual - expected).abs() <= tolerance * scale
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_f64(),
    }
}

fn document() -> Document {
    let path = workspace().join("lsio_datafusion/tests/fixtures/arithmetic.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A grid of two rows that are alike; `e` and `g` lack the dimension along which they lie, so that they
/// are computed with at another rank.
fn write(store: &Path, columns: &[Column]) {
    let group = GroupWriter::create(store, json!({})).unwrap();
    for column in columns {
        let is_float = column.r#type.starts_with("float");
        let is_flat = matches!(column.name.as_str(), "e" | "g");
        let (dims, chunks): (&[(&str, u64)], &[u64]) =
            if is_flat { (&[("x", 15)], &[15]) } else { (&[("y", 2), ("x", 15)], &[1, 8]) };
        let spec = SyntheticArray {
            name: &column.name,
            data_type: &column.r#type,
            dims,
            chunks,
            shards: None,
            compression: Compression::None,
            fill_value: if is_float { json!("NaN") } else { json!(0) },
            attributes: json!({}),
        };
        let cells: Vec<&Value> =
            column.values.iter().cycle().take(if is_flat { 15 } else { 30 }).collect();
        macro_rules! write {
            ($parse:expr) => {{
                let values: Vec<_> = cells.iter().map(|cell| $parse(cell)).collect();
                group.whole_array(&spec, &values).unwrap();
            }};
        }
        match column.r#type.as_str() {
            "float64" => write!(|v| number(v).unwrap()),
            "float32" => write!(|v| number(v).unwrap() as f32),
            "int8" => write!(|v: &Value| v.as_i64().unwrap() as i8),
            "int16" => write!(|v: &Value| v.as_i64().unwrap() as i16),
            "int32" => write!(|v: &Value| v.as_i64().unwrap() as i32),
            "int64" => write!(|v: &Value| v.as_i64().unwrap()),
            "uint8" => write!(|v: &Value| v.as_u64().unwrap() as u8),
            "uint16" => write!(|v: &Value| v.as_u64().unwrap() as u16),
            "uint32" => write!(|v: &Value| v.as_u64().unwrap() as u32),
            _ => write!(|v: &Value| v.as_u64().unwrap()),
        }
    }
    group.consolidate().unwrap();
}

/// The columns of a result as doubles.
async fn doubles(ctx: &SessionContext, sql: &str) -> Vec<Vec<Option<f64>>> {
    let batches = query(ctx, sql).await.unwrap_or_else(|error| panic!("{sql}\n{error}"));
    let mut columns = Vec::new();
    for batch in &batches {
        columns.resize(batch.num_columns(), Vec::new());
        for (all, column) in columns.iter_mut().zip(batch.columns()) {
            let column = cast(column, &DataType::Float64).unwrap();
            all.extend(column.as_primitive::<Float64Type>().iter());
        }
    }
    columns
}

async fn set(ctx: &SessionContext, setting: &str, value: &str) {
    rows(ctx, &format!("SET {setting} = {value}")).await.unwrap();
}

/// A list of SQL, one or more items for each expression.
fn list(expressions: &[Expression], mut item: impl FnMut(&str) -> String) -> String {
    let items = expressions.iter().map(|expression| item(&format!("({})", expression.sql)));
    items.collect::<Vec<_>>().join(", ")
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_numpys() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.zarr");
    let Document { columns, expressions } = document();
    write(&store, &columns);
    let store = store.to_string_lossy();
    let mut wrong = Vec::new();
    for nan_as_null in [true, false] {
        let ctx = session(config());
        set(&ctx, "lsio.nan_as_null", &nan_as_null.to_string()).await;
        for expressions in expressions.chunks(TOGETHER) {
            let mut number = 0..;
            let items = list(expressions, |e| format!("{e} AS r{}", number.next().unwrap_or(0)));
            let sql = format!("SELECT {items} FROM '{store}' ORDER BY y, x");
            let results = doubles(&ctx, &sql).await;
            for (expression, actual) in expressions.iter().zip(results) {
                let expected = expression.expected(nan_as_null);
                for (cell, actual) in actual.into_iter().enumerate() {
                    let expected = expected[cell % 15];
                    let scale = expected.unwrap_or_default().abs();
                    if !expression.is_near(actual, expected, scale) {
                        wrong.push(format!(
                            "{} at {cell}, nan_as_null={nan_as_null}: {actual:?}, not {expected:?}",
                            expression.sql
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the values of an expression are aggregated to: their number, sum, mean, minimum, maximum, and the
/// number of those that are NULL, above 0, and not above 0.
fn aggregated(values: &[Option<f64>]) -> [Option<f64>; 8] {
    let there: Vec<f64> = values.iter().copied().flatten().collect();
    let some = |value: f64| (!there.is_empty() && !value.is_nan()).then_some(value);
    let sum: f64 = there.iter().sum();
    let positive = there.iter().filter(|value| **value > 0.0).count();
    [
        Some(there.len() as f64),
        some(sum),
        some(sum / there.len() as f64),
        some(there.iter().copied().fold(f64::INFINITY, f64::min)),
        some(there.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        Some((values.len() - there.len()) as f64),
        Some(positive as f64),
        Some((there.len() - positive) as f64),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_are_those_of_the_values_that_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.zarr");
    let Document { columns, expressions } = document();
    write(&store, &columns);
    let store = store.to_string_lossy();
    let mut wrong = Vec::new();
    for pushdown in ["true", "false"] {
        let ctx = session(config());
        set(&ctx, "lsio.aggregate_pushdown", pushdown).await;
        for expressions in expressions.chunks(TOGETHER) {
            let mut number = 0..;
            let items = list(expressions, |e| {
                let n = number.next().unwrap_or(0);
                format!(
                    "count({e}) AS n{n}, sum({e}) AS s{n}, avg({e}) AS m{n}, min({e}) AS l{n}, \
                     max({e}) AS h{n}, count(*) FILTER (WHERE {e} IS NULL) AS z{n}, \
                     count(*) FILTER (WHERE {e} > 0) AS p{n}, \
                     count(*) FILTER (WHERE NOT {e} > 0) AS q{n}"
                )
            });
            for by in ["", " GROUP BY y ORDER BY y", " GROUP BY x ORDER BY x"] {
                let results = doubles(&ctx, &format!("SELECT {items} FROM '{store}'{by}")).await;
                for (expression, actual) in expressions.iter().zip(results.chunks(8)) {
                    let values = expression.expected(true);
                    let (groups, times): (Vec<&[Option<f64>]>, usize) = match by.contains('x') {
                        true => (values.chunks(1).collect(), 2),
                        false => (vec![&values; actual[0].len()], 3 - actual[0].len()),
                    };
                    for (row, group) in groups.into_iter().enumerate() {
                        let expected = aggregated(&group.repeat(times));
                        let actual: Vec<_> = actual.iter().map(|column| column[row]).collect();
                        let scale: f64 = group.iter().flatten().map(|value| value.abs()).sum();
                        let near = actual.iter().zip(expected).all(|(actual, expected)| {
                            expression.is_near(*actual, expected, 2.0 * scale)
                        });
                        if !near {
                            wrong.push(format!(
                                "{}, pushdown={pushdown}{by}, {row}: {actual:?}, not {expected:?}",
                                expression.sql
                            ));
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// NaN is NULL wherever expressions stand.
#[tokio::test(flavor = "multi_thread")]
async fn nan_is_null_in_every_clause() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.zarr");
    write(&store, &document().columns);
    let store = store.to_string_lossy();
    // With x from 0 on, i1 is -128, 127, 0, 1, -1, 7, -7, 3, 0, 100, 2, 5, -2, 0, 9: 4 of 15 are below
    // 0, and 3 are 0.
    for (sql, expected) in [
        ("SELECT count(*) FROM {} WHERE ln(i1) > -1000", json!([[16]])),
        ("SELECT count(*) FROM {} WHERE NOT (ln(i1) > -1000)", json!([[6]])),
        ("SELECT count(*) FROM {} WHERE sqrt(i1) IS NULL", json!([[8]])),
        ("SELECT count(*) FROM {} WHERE sqrt(i1) IS NOT NULL", json!([[22]])),
        ("SELECT count(*) FROM {} WHERE ln(i1) = ln(i1)", json!([[22]])),
        ("SELECT count(*) FROM {} WHERE ln(i1) BETWEEN 0 AND 1e9", json!([[16]])),
        ("SELECT count(*) FROM {} WHERE ln(i1) NOT IN (1, 2)", json!([[22]])),
        ("SELECT count(*) FROM {} WHERE sqrt(x - 3) >= 0", json!([[24]])),
        ("SELECT x FROM {} WHERE y = 0 ORDER BY sqrt(i1) DESC NULLS LAST, x LIMIT 1", json!([[1]])),
        ("SELECT x FROM {} WHERE y = 0 ORDER BY ln(i1) NULLS FIRST, x LIMIT 2", json!([[0], [4]])),
        (
            "SELECT sqrt(i1) s, count(*) FROM {} GROUP BY 1 HAVING sqrt(i1) IS NULL",
            json!([[null, 8]]),
        ),
        ("SELECT DISTINCT sqrt(i1) IS NULL FROM {} ORDER BY 1", json!([[false], [true]])),
        ("SELECT count(DISTINCT sqrt(i1)) FROM {}", json!([[9]])),
        ("SELECT count(*) FROM {} a JOIN {} b ON sqrt(a.i1 - 99) = sqrt(b.i1 - 99)", json!([[8]])),
        (
            "SELECT x, count(*) FROM {} GROUP BY x HAVING avg(sqrt(i1)) > 9 ORDER BY x",
            json!([[1, 2], [9, 2]]),
        ),
        (
            "SELECT count(*) FROM (SELECT x, sum(sqrt(i1)) s FROM {} GROUP BY x) WHERE s > -1e9",
            json!([[11]]),
        ),
        (
            "SELECT coalesce(ln(i1), 5), nullif(sqrt(i1), 1), greatest(sqrt(i1), -1), CASE WHEN i1 < 0 THEN ln(i1) ELSE 1 END, power(ln(i1), 0) FROM {} WHERE x = 4 AND y = 0",
            json!([[5.0, null, -1.0, null, null]]),
        ),
        ("SELECT count(CASE WHEN sqrt(i1) > 1 THEN 1 ELSE ln(i1) END) FROM {}", json!([[22]])),
        (
            "SELECT count(CAST(sqrt(i1) AS INT)), sum(length(CAST(sqrt(i1) AS VARCHAR))) > 0 FROM {}",
            json!([[22, true]]),
        ),
        (
            "SELECT count(sqrt(i1)) OVER (), lag(sqrt(i1)) OVER (ORDER BY y, x) FROM {} ORDER BY y, x LIMIT 2",
            json!([[22, null], [22, null]]),
        ),
        (
            "SELECT rank() OVER (ORDER BY ln(i1) NULLS LAST) FROM {} ORDER BY y, x LIMIT 1",
            json!([[23]]),
        ),
        (
            "SELECT sum(d) OVER (ORDER BY x ROWS BETWEEN 14 PRECEDING AND CURRENT ROW) FROM {} WHERE y = 0 ORDER BY x DESC LIMIT 1",
            json!([[null]]),
        ),
        ("SELECT sum(d), avg(d), stddev(d), var_pop(d) FROM {}", json!([[null, null, null, null]])),
        ("SELECT count(*) FROM {} HAVING avg(d) IS NULL", json!([[30]])),
        ("SELECT x FROM {} GROUP BY x HAVING sum(d) IS NULL ORDER BY x", json!([[7]])),
        (
            "SELECT count(v), count(*) FROM (SELECT sqrt(i1) v FROM {} UNION ALL SELECT ln(i1) FROM {})",
            json!([[44, 60]]),
        ),
        (
            "WITH c AS (SELECT sqrt(i1) r FROM {}) SELECT count(r), count(r - r), min(r * 2) FROM c",
            json!([[22, 22, 0.0]]),
        ),
        (
            "SELECT count(*) FROM {} a WHERE EXISTS (SELECT 1 FROM {} b WHERE sqrt(b.i1) = sqrt(a.i1) AND a.x = b.x)",
            json!([[22]]),
        ),
        (
            "SELECT x FROM {} a WHERE y = 0 AND (SELECT avg(ln(b.i1 - 9)) FROM {} b WHERE b.x = a.x) > 0 ORDER BY x",
            json!([[1], [9]]),
        ),
        (
            "SELECT count(*) FILTER (WHERE ln(i1) > -1000), sum(i1) FILTER (WHERE ln(i1) > -1000) FROM {}",
            json!([[16, 508]]),
        ),
        ("SELECT first_value(sqrt(i1) ORDER BY sqrt(i1) NULLS FIRST) FROM {}", json!([[null]])),
        ("SELECT median(ln(i1)) IS NULL, count(*) FROM {} WHERE i1 < 0", json!([[true, 8]])),
        ("SELECT array_agg(sqrt(i1)) FROM {} WHERE x = 4 AND y = 0", json!([["[]"]])),
        ("SELECT count(corr) FROM (SELECT corr(i1, 1.0) FROM {}) t(corr)", json!([[0]])),
    ] {
        for pushdown in ["true", "false"] {
            let ctx = session(config());
            set(&ctx, "lsio.aggregate_pushdown", pushdown).await;
            let sql = sql.replace("{}", &format!("'{store}'"));
            let actual = rows(&ctx, &sql).await.unwrap_or_else(|error| panic!("{sql}\n{error}"));
            let expected: Vec<Vec<Value>> = serde_json::from_value(expected.clone()).unwrap();
            assert!(same(&actual, &expected), "{pushdown}: {sql}\ngave {actual:?}");
        }
    }
}
