//! Aggregates over frames of windows, against a plain computation of each frame.
//!
//! The cells are such as leave a residue where something is subtracted: huge beside tiny ones, infinities, NaN
//! and NULL. Sums are exact ones, rounded once; variances are those of two passes.

use std::{collections::BTreeMap, env, fmt::Write as _, path::Path, sync::Arc};

use arrow::{
    array::{Array as _, AsArray as _, Float64Array, Int64Array, RecordBatch},
    compute::cast,
    datatypes::{DataType, Field, Float64Type, Schema},
};
use datafusion::datasource::MemTable;
use futures::FutureExt as _;
use lsio_synthetic::write::{Compression, GroupWriter, SyntheticArray};
use serde_json::json;

use crate::{
    harness::{config, in_parallel, query, session},
    random_queries::Random,
    storage::share,
};

/// The tables that are tried if nothing else is said.
const TABLES: u64 = 24;

/// A row: a key with ties, a partition, and two values of which some are missing.
#[derive(Clone, Copy, Debug)]
struct Row {
    key: f64,
    partition: i64,
    y: Option<f64>,
    x: Option<f64>,
}

type Column = fn(&Row) -> Option<f64>;

const VALUES: [f64; 12] = [
    1e17,
    -1e17,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    5e-324,
    1e-300,
    -0.0,
    0.0,
    1e9,
    1e9 + 1.0 / 1024.0,
    1e100,
];

fn value(random: &mut Random) -> Option<f64> {
    match random.below(10) {
        0..=3 => Some(VALUES[random.below(VALUES.len() as u64) as usize]),
        4 => None,
        _ => Some(random.below(1000) as f64 / 64.0 - 7.0),
    }
}

fn table(random: &mut Random) -> Vec<Row> {
    let mut key = 0.0;
    let length = 1 + random.below(150);
    (0..length)
        .map(|_| {
            key += [0.0, 0.0, 0.5, 1.0, 7.25][random.below(5) as usize];
            let partition = random.below(3).cast_signed();
            Row { key, partition, y: value(random), x: value(random) }
        })
        .collect()
}

/// What a frame starts or ends with: rows or distances from the current row, which is 0; none is the
/// partition's end.
type Bound = Option<f64>;

#[derive(Clone, Copy, Debug)]
struct Frame {
    by_rows: bool,
    partitioned: bool,
    descending: bool,
    start: Bound,
    end: Bound,
}

impl Frame {
    fn random(random: &mut Random) -> Self {
        let by_rows = random.below(2) == 0;
        let mut bound = || {
            let width = random.below(9) as f64 - 4.0;
            (random.below(6) > 0).then_some(if by_rows { width } else { width * 1.25 })
        };
        let (start, end) = (bound(), bound());
        let (start, end) = match (start, end) {
            (Some(start), Some(end)) => (Some(start.min(end)), Some(start.max(end))),
            ends => ends,
        };
        let (partitioned, descending) = (random.below(2) == 0, random.below(3) == 0);
        Self { by_rows, partitioned, descending, start, end }
    }

    fn sql(self) -> String {
        let bound = |bound: Bound, open: &str| match bound {
            None => format!("UNBOUNDED {open}"),
            Some(0.0) => "CURRENT ROW".to_owned(),
            Some(width) if width < 0.0 => format!("{} PRECEDING", -width),
            Some(width) => format!("{width} FOLLOWING"),
        };
        let partition = if self.partitioned { "PARTITION BY p" } else { "" };
        let order = match (self.by_rows, self.descending) {
            (true, false) => "i",
            (true, true) => "i DESC",
            (false, false) => "k",
            (false, true) => "k DESC",
        };
        let unit = if self.by_rows { "ROWS" } else { "RANGE" };
        let (start, end) = (bound(self.start, "PRECEDING"), bound(self.end, "FOLLOWING"));
        format!("({partition} ORDER BY {order} {unit} BETWEEN {start} AND {end})")
    }

    /// The rows of a row's frame.
    fn of(self, rows: &[Row], row: usize) -> Vec<Row> {
        let own = rows[row];
        let partition: Vec<usize> = (0..rows.len())
            .filter(|other| !self.partitioned || rows[*other].partition == own.partition)
            .collect();
        let place = |index: usize| partition.iter().position(|other| *other == index).unwrap();
        let is_in = |other: usize| {
            let distance = match self.by_rows {
                true => place(other) as f64 - place(row) as f64,
                false => rows[other].key - own.key,
            };
            let distance = if self.descending { -distance } else { distance };
            self.start.is_none_or(|start| distance >= start)
                && self.end.is_none_or(|end| distance <= end)
        };
        let within = partition.iter().copied().filter(|other| is_in(*other));
        within.map(|other| rows[other]).collect()
    }
}

/// The sum, rounded once.
///
/// Shewchuk: Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric Predicates (1997).
fn exact_sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut parts: Vec<f64> = Vec::new();
    let mut infinite = 0.0;
    for mut value in values {
        if !value.is_finite() {
            infinite += value;
            continue;
        }
        let mut kept = Vec::new();
        for mut part in parts {
            if value.abs() < part.abs() {
                (value, part) = (part, value);
            }
            let sum = value + part;
            let lost = part - (sum - value);
            if lost != 0.0 {
                kept.push(lost);
            }
            value = sum;
        }
        kept.push(value);
        parts = kept;
    }
    if infinite == 0.0 { parts.iter().sum() } else { infinite }
}

/// What each function gives for a frame; NaN is NULL.
fn expected(rows: &[Row]) -> Vec<(&'static str, Option<f64>)> {
    let y: Vec<f64> = rows.iter().filter_map(|row| row.y).filter(|y| !y.is_nan()).collect();
    let present = |value: Option<f64>| value.filter(|value| !value.is_nan());
    let both: Vec<(f64, f64)> =
        rows.iter().filter_map(|row| present(row.y).zip(present(row.x))).collect();
    let mean = |values: &[f64]| exact_sum(values.iter().copied()) / values.len() as f64;
    let distances = |values: &[f64]| -> Vec<f64> {
        // From a value among them, so that equal ones have none.
        let Some(first) = values.first() else { return vec![] };
        let near: Vec<f64> = values.iter().map(|value| value - first).collect();
        let mean = mean(&near);
        near.iter().map(|value| value - mean).collect()
    };
    let products = |a: &[f64], b: &[f64]| exact_sum(a.iter().zip(b).map(|(a, b)| a * b));
    let n = y.len() as f64;
    let own = distances(&y);
    let squares = products(&own, &own);
    let (ys, xs): (Vec<f64>, Vec<f64>) = both.iter().copied().unzip();
    let (dy, dx) = (distances(&ys), distances(&xs));
    let (syy, sxx, sxy) = (products(&dy, &dy), products(&dx, &dx), products(&dy, &dx));
    let some = |holds: bool, value: f64| holds.then_some(value).filter(|value| !value.is_nan());
    let pairs = both.len() as f64;
    vec![
        ("count(y)", Some(n)),
        ("sum(y)", some(n > 0.0, exact_sum(y.iter().copied()))),
        ("avg(y)", some(n > 0.0, mean(&y))),
        ("min(y)", y.iter().copied().reduce(f64::min)),
        ("max(y)", y.iter().copied().reduce(f64::max)),
        ("var_samp(y)", some(n > 1.0, squares / (n - 1.0))),
        ("var_pop(y)", some(n > 0.0, squares / n)),
        ("stddev_samp(y)", some(n > 1.0, (squares / (n - 1.0)).sqrt())),
        ("stddev_pop(y)", some(n > 0.0, (squares / n).sqrt())),
        ("covar_samp(y, x)", some(pairs > 1.0, sxy / (pairs - 1.0))),
        ("covar_pop(y, x)", some(pairs > 0.0, sxy / pairs)),
        ("corr(y, x)", some(syy != 0.0 && sxx != 0.0, sxy / (syy.sqrt() * sxx.sqrt()))),
        ("regr_slope(y, x)", some(pairs > 1.0 && sxx != 0.0, sxy / sxx)),
        ("regr_avgy(y, x)", some(pairs > 0.0, mean(&ys))),
        ("regr_avgx(y, x)", some(pairs > 0.0, mean(&xs))),
        ("regr_count(y, x)", Some(pairs)),
    ]
}

/// Whether a value is near enough. Products of distances that nearly cancel are as exact as the largest
/// of them lets them be, which `scale` tells.
fn is_near(actual: Option<f64>, expected: Option<f64>, scale: f64) -> bool {
    match (actual, expected) {
        (None, None) => true,
        (Some(actual), Some(expected)) => {
            actual == expected
                || (actual - expected).abs() <= 1e-9 * expected.abs().max(scale * 1e-5)
        }
        _ => false,
    }
}

/// The largest that a result may be by its function: where it is far less, terms have cancelled.
fn scale(function: &str, rows: &[Row]) -> f64 {
    let most = |value: Column| {
        rows.iter()
            .filter_map(value)
            .filter(|value| value.is_finite())
            .fold(0.0, |most: f64, v| most.max(v.abs()))
    };
    match function {
        "covar_samp(y, x)" | "covar_pop(y, x)" => most(|row| row.y) * most(|row| row.x),
        "regr_slope(y, x)" => most(|row| row.y) / most(|row| row.x),
        "corr(y, x)" => 1.0,
        _ => 0.0,
    }
}

fn write(path: &Path, rows: &[Row]) {
    let group = GroupWriter::create(path, json!({})).unwrap();
    let dims = [("i", rows.len() as u64)];
    let spec = |name, data_type, fill_value| SyntheticArray {
        name,
        data_type,
        dims: &dims,
        chunks: &[1],
        shards: None,
        compression: Compression::None,
        fill_value,
        attributes: json!({}),
    };
    let integers = |name| spec(name, "int64", json!(0));
    let doubles = |name| spec(name, "float64", json!("NaN"));
    let indices: Vec<i64> = (0..rows.len() as i64).collect();
    group.whole_array(&integers("i"), &indices).unwrap();
    let partitions: Vec<i64> = rows.iter().map(|row| row.partition).collect();
    group.whole_array(&integers("p"), &partitions).unwrap();
    let columns: [(&str, Column); 3] =
        [("k", |row| Some(row.key)), ("y", |row| row.y), ("x", |row| row.x)];
    for (name, value) in columns {
        let values: Vec<f64> = rows.iter().map(|row| value(row).unwrap_or(f64::NAN)).collect();
        group.whole_array(&doubles(name), &values).unwrap();
    }
    group.consolidate().unwrap();
}

/// The same rows without any Zarr; what a store can't hold is NULL here too.
fn in_memory(rows: &[Row]) -> MemTable {
    let field = |name, data_type| Field::new(name, data_type, true);
    let schema = Arc::new(Schema::new(vec![
        field("i", DataType::Int64),
        field("p", DataType::Int64),
        field("k", DataType::Float64),
        field("y", DataType::Float64),
        field("x", DataType::Float64),
    ]));
    let doubles = |value: Column| -> Arc<Float64Array> {
        let values = rows.iter().map(|row| value(row).filter(|value| !value.is_nan()));
        Arc::new(values.collect())
    };
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)),
            Arc::new(rows.iter().map(|row| Some(row.partition)).collect::<Int64Array>()),
            doubles(|row| Some(row.key)),
            doubles(|row| row.y),
            doubles(|row| row.x),
        ],
    );
    MemTable::try_new(schema, vec![vec![batch.unwrap()]]).unwrap()
}

/// Rows of doubles.
fn doubles(batches: &[RecordBatch]) -> Vec<Vec<Option<f64>>> {
    let rows = batches.iter().flat_map(|batch| {
        let columns = batch.columns().iter();
        let columns: Vec<_> =
            columns.map(|column| cast(column, &DataType::Float64).unwrap()).collect();
        let row = move |row: usize| -> Vec<Option<f64>> {
            let column = |column: &arrow::array::ArrayRef| {
                column.is_valid(row).then(|| column.as_primitive::<Float64Type>().value(row))
            };
            columns.iter().map(column).collect()
        };
        (0..batch.num_rows()).map(row).collect::<Vec<_>>()
    });
    rows.collect()
}

async fn check(seed: u64) -> Vec<(String, String)> {
    let mut random = Random(seed);
    let table = table(&mut random);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    write(&path, &table);
    let frames: Vec<Frame> = (0..3).map(|_| Frame::random(&mut random)).collect();
    let ctx = session(config().with_target_partitions(1 + random.below(3) as usize));
    ctx.register_table("memory", Arc::new(in_memory(&table))).unwrap();
    let mut wrong = Vec::new();
    let store = format!("'{}'", path.display());
    for (name, from) in [("a store", store.as_str()), ("rows in memory", "memory")] {
        for frame in &frames {
            let functions: Vec<&str> =
                expected(&table).iter().map(|(function, _)| *function).collect();
            let mut sql = "SELECT i".to_owned();
            for function in &functions {
                write!(sql, ", {function} OVER w").unwrap();
            }
            write!(sql, " FROM {from} WINDOW w AS {} ORDER BY i", frame.sql()).unwrap();
            let actual = doubles(&query(&ctx, &sql).await.unwrap());
            assert_eq!(actual.len(), table.len());
            for (row, actual) in actual.iter().enumerate() {
                let within = frame.of(&table, row);
                for ((function, expected), actual) in expected(&within).iter().zip(&actual[1..]) {
                    // Without Zarr, NaN stays.
                    let actual = actual.filter(|actual| from != "memory" || !actual.is_nan());
                    if !is_near(actual, *expected, scale(function, &within)) {
                        let place = format!("seed {seed}, row {row} of {}", frame.sql());
                        let values = format!("{actual:?} for {expected:?} of {within:?}");
                        wrong.push((format!("{function} of {name}"), format!("{place}: {values}")));
                    }
                }
            }
        }
    }
    wrong
}

#[test]
fn frames_have_no_memory() {
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("LSIO_RANDOM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LSIO_RANDOM_STORES").unwrap_or_else(|| share(TABLES)),
    };
    let wrong = in_parallel(seeds, |seed| check(seed).boxed());
    let wrong: Vec<(String, String)> = wrong.into_iter().flatten().collect();
    let count = wrong.len();
    // One of each kind.
    let wrong: BTreeMap<String, String> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "{count} wrong: {wrong:#?}");
}
