//! Statistics of columns that lie far from zero and vary little.
//!
//! `fixtures/make_shifted.py` computes them with numpy, in two passes. Here each is asked for of all rows
//! and by groups, inside the scan, by DataFusion, and by both: states out of several scans, merged.

use std::{collections::BTreeMap, fs, ops::Range, path::Path};

use datafusion::prelude::SessionContext;
use lsio_datafusion::LsioConfig;
use lsio_synthetic::write::{Compression, Element, GroupWriter, SyntheticArray};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    harness::{config, rows, same, session, workspace},
    storage::share,
};

#[derive(Deserialize)]
struct Document {
    times: u64,
    places: u64,
    /// Of y and x; null is missing.
    steps: BTreeMap<String, Vec<Option<i16>>>,
    columns: Vec<Column>,
    pairs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    r#type: String,
    offset: f64,
    scale: f64,
    steps: String,
    /// Of all rows, of each place, and of the times by what is left of them divided by 3.
    statistics: BTreeMap<String, Vec<Value>>,
}

#[derive(Deserialize)]
struct Pair {
    y: String,
    x: String,
    /// Of all rows, and of each place.
    statistics: BTreeMap<String, Vec<Value>>,
}

/// How rows come to the aggregates.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The scan reduces them.
    Pushed,
    /// DataFusion does.
    Rows,
    /// DataFusion does, since the limit leaves it no choice.
    Limited,
    /// Scans give states, and DataFusion merges them.
    Union,
}

const WAYS: [Way; 4] = [Way::Pushed, Way::Rows, Way::Limited, Way::Union];
const PARTITIONS: [usize; 3] = [1, 2, 7];

impl Way {
    fn session(self, partitions: usize) -> SessionContext {
        let mut config = config().with_target_partitions(partitions);
        let options = config.options_mut();
        let lsio = options.extensions.get_mut::<LsioConfig>().unwrap();
        lsio.aggregate_pushdown = !matches!(self, Self::Rows);
        session(config)
    }

    fn table(self, path: &Path) -> String {
        let path = format!("'{}'", path.display());
        match self {
            Self::Pushed | Self::Rows => path,
            Self::Limited => format!("(SELECT * FROM {path} LIMIT 99999)"),
            Self::Union => format!(
                "(SELECT * FROM {path} WHERE t < 22 UNION ALL SELECT * FROM {path} WHERE t >= 22)"
            ),
        }
    }
}

fn document() -> Document {
    let path = workspace().join("lsio_datafusion/tests/fixtures/shifted.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

impl Document {
    /// The columns over times and places, in several chunks.
    fn write(&self, path: &Path) {
        let group = GroupWriter::create(path, json!({})).unwrap();
        let both = [("t", self.times), ("p", self.places)];
        let spec = |name| SyntheticArray {
            name,
            data_type: "float64",
            dims: &both,
            chunks: &[13, 3],
            shards: None,
            compression: Compression::None,
            fill_value: json!("NaN"),
            attributes: json!({}),
        };
        for (dim, size) in both.iter().map(|(dim, size)| (*dim, *size)) {
            let dims = &[(dim, size)];
            let spec = SyntheticArray {
                data_type: "int64",
                dims,
                chunks: &[size],
                fill_value: json!(0),
                ..spec(dim)
            };
            group.whole_array(&spec, &(0..size.cast_signed()).collect::<Vec<_>>()).unwrap();
        }
        for column in &self.columns {
            let steps = &self.steps[&column.steps];
            let (offset, scale) = (column.offset, column.scale);
            let value = |step: i16| offset + scale * (f64::from(step) / 128.0);
            let spec = spec(&column.name);
            match column.r#type.as_str() {
                "float64" => write(&group, &spec, steps, f64::NAN, value),
                "float32" => {
                    let spec = SyntheticArray { data_type: "float32", ..spec };
                    write(&group, &spec, steps, f32::NAN, |step| value(step) as f32);
                }
                "int32" => {
                    let attributes = json!({"_FillValue": i32::MIN});
                    let fill_value = json!(i32::MIN);
                    let spec =
                        SyntheticArray { data_type: "int32", attributes, fill_value, ..spec };
                    write(&group, &spec, steps, i32::MIN, |step| value(step).floor() as i32);
                }
                "packed" => {
                    let attributes = json!({
                        "scale_factor": scale / 128.0, "add_offset": offset, "_FillValue": i16::MIN
                    });
                    let fill_value = json!(i16::MIN);
                    let spec =
                        SyntheticArray { data_type: "int16", attributes, fill_value, ..spec };
                    write(&group, &spec, steps, i16::MIN, |step| step);
                }
                other => panic!("columns of {other}"),
            }
        }
        group.consolidate().unwrap();
    }
}

fn write<T: Element>(
    group: &GroupWriter,
    spec: &SyntheticArray<'_>,
    steps: &[Option<i16>],
    missing: T,
    value: impl Fn(i16) -> T,
) {
    let array = group.array(spec).unwrap();
    let ([(_, times), (_, places)], &[height, width]) = (spec.dims, spec.chunks) else { panic!() };
    for (row, column) in cells(0..times.div_ceil(height), 0..places.div_ceil(width)) {
        let (t, p) = (row * height..(row + 1) * height, column * width..(column + 1) * width);
        let cell = |(t, p): (u64, u64)| {
            // Beyond the edges nothing is there.
            let step = (t < *times && p < *places).then(|| steps[(t * places + p) as usize]);
            step.flatten().map_or(missing, &value)
        };
        array.write(&[row, column], &cells(t, p).map(cell).collect::<Vec<_>>()).unwrap();
    }
}

/// All pairs of a row and a column, row by row.
fn cells(rows: Range<u64>, columns: Range<u64>) -> impl Iterator<Item = (u64, u64)> {
    rows.flat_map(move |row| columns.clone().map(move |column| (row, column)))
}

/// Asks for some expressions, each with the values that its groups have, and gives the names of those that
/// have others.
async fn ask(
    ctx: &SessionContext,
    (table, key): (&str, Option<&str>),
    asked: &[(String, Vec<Value>)],
) -> Vec<String> {
    let list: Vec<&str> = asked.iter().map(|(sql, _)| sql.as_str()).collect();
    let list = list.join(", ");
    let sql = match key {
        None => format!("SELECT {list} FROM {table}"),
        Some(key) => format!("SELECT {key} AS key, {list} FROM {table} GROUP BY key ORDER BY key"),
    };
    let actual = rows(ctx, &sql).await.unwrap();
    let first = usize::from(key.is_some());
    let mut wrong = Vec::new();
    for (column, (sql, expected)) in asked.iter().enumerate() {
        let actual: Vec<_> = actual.iter().map(|row| vec![row[first + column].clone()]).collect();
        let expected: Vec<_> = expected.iter().map(|value| vec![value.clone()]).collect();
        if !same(&actual, &expected) {
            wrong.push(format!("{sql} by {key:?} of {table}: {actual:?} for {expected:?}"));
        }
    }
    wrong
}

fn part(answers: &[Value], from: usize, count: usize) -> Vec<Value> {
    answers[from..from + count].to_vec()
}

#[tokio::test]
async fn of_one_column() {
    let document = document();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    document.write(&path);
    let mut wrong = Vec::new();
    let chunks = document.columns.chunks(8);
    let asked = share(chunks.len() as u64) as usize;
    for (number, columns) in chunks.enumerate().take(asked) {
        for (other, way) in WAYS.into_iter().enumerate() {
            let ctx = way.session(PARTITIONS[(number + other) % PARTITIONS.len()]);
            let table = way.table(&path);
            for (key, from, count) in [(None, 0, 1), (Some("p"), 1, 4), (Some("t % 3"), 5, 3)] {
                let asked: Vec<_> = columns
                    .iter()
                    .flat_map(|column| {
                        column.statistics.iter().map(move |(function, answers)| {
                            let sql = format!("{function}({})", column.name);
                            (sql, part(answers, from, count))
                        })
                    })
                    .collect();
                wrong.extend(ask(&ctx, (&table, key), &asked).await);
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(9)]);
}

#[tokio::test]
async fn of_two_columns() {
    let document = document();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    document.write(&path);
    let mut wrong = Vec::new();
    let chunks = document.pairs.chunks(4);
    let asked = share(chunks.len() as u64) as usize;
    for (number, pairs) in chunks.enumerate().take(asked) {
        // Each way and each number of partitions in its turn.
        let way = WAYS[number % WAYS.len()];
        let ctx = way.session(PARTITIONS[number % PARTITIONS.len()]);
        let table = way.table(&path);
        for (key, from, count) in [(None, 0, 1), (Some("p"), 1, 4)] {
            let asked: Vec<_> = pairs
                .iter()
                .flat_map(|pair| {
                    pair.statistics.iter().map(move |(function, answers)| {
                        let sql = format!("{function}({}, {})", pair.y, pair.x);
                        (sql, part(answers, from, count))
                    })
                })
                .collect();
            wrong.extend(ask(&ctx, (&table, key), &asked).await);
        }
    }
    assert!(wrong.is_empty(), "{} wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(9)]);
}
