//! Random queries on random stores: the rows are those that DataFusion gives over the same cells in
//! memory.
//!
//! `LSIO_RANDOM_STORES=2000 cargo test --workspace random_queries` tries more of them, and
//! `LSIO_RANDOM_SEED=17` one again that failed.

use std::{env, fs, path::Path, sync::Arc};

use arrow::array::RecordBatch;
use datafusion::{
    datasource::MemTable,
    physical_plan::{collect, displayable},
    prelude::SessionContext,
};
use futures::FutureExt as _;
use lsio_core::grid::ChunkGrid;
use lsio_datafusion::LsioConfig;
use lsio_synthetic::write::{Compression, GroupWriter, SyntheticArray};
use serde_json::{Value, json};

use crate::{
    harness::{config, frame, in_parallel, json_rows, query, rows, session},
    storage::{consolidate_if_unlisted, share},
};

/// The stores that are tried if nothing else is said, each with a dozen queries.
const STORES: u64 = 160;

/// SplitMix64: the same numbers for a seed everywhere.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low) as u64 + 1) as i64
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn choose<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// What the values of a column are like, and so what may be asked of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Integer,
    Float,
    Time,
    Text,
}

pub(crate) struct Store {
    pub columns: Vec<(String, Kind)>,
    pub dims: Vec<String>,
    pub data: Vec<String>,
}

/// Writes a store: some dimensions with coordinates of every kind, and variables on some of them.
pub(crate) fn write(random: &mut Random, path: &Path) -> Store {
    let group = GroupWriter::create(path, json!({})).unwrap();
    let rank = random.below(6) as usize;
    let names: Vec<String> = (0..rank).map(|d| format!("d{d}")).collect();
    let sizes: Vec<u64> =
        (0..rank).map(|_| 1 + random.below(if rank > 3 { 4 } else { 8 })).collect();
    let mut store = Store { columns: Vec::new(), dims: names.clone(), data: Vec::new() };
    for (name, &size) in names.iter().zip(&sizes) {
        let kind = coordinate(random, &group, path, name, name, size);
        store.columns.push((name.clone(), kind));
    }
    let mut auxiliary = Vec::new();
    for d in 0..rank {
        if random.one_in(3) {
            let name = format!("aux{d}");
            let kind = coordinate(random, &group, path, &name, &names[d], sizes[d]);
            // One that has no values of its own isn't there.
            if path.join(&name).exists() {
                store.columns.push((name.clone(), kind));
                auxiliary.push(name);
            }
        }
    }
    if rank >= 2 && random.one_in(2) {
        let dims: Vec<usize> = vec![rank - 2, rank - 1];
        variable(random, &group, "plane", &names, &sizes, &dims, &json!({}));
        store.columns.push(("plane".to_owned(), Kind::Integer));
        auxiliary.push("plane".to_owned());
    }
    for number in 0..1 + random.below(3) {
        let name = format!("v{number}");
        let mut dims: Vec<usize> = (0..rank).collect();
        for i in (1..dims.len()).rev() {
            dims.swap(i, random.below(i as u64 + 1) as usize);
        }
        if number > 0 && random.one_in(2) {
            dims.truncate(random.below(rank as u64 + 1) as usize);
        }
        let attributes = json!({"coordinates": auxiliary.join(" ")});
        let kind = variable(random, &group, &name, &names, &sizes, &dims, &attributes);
        store.columns.push((name.clone(), kind));
        store.data.push(name);
    }
    group.consolidate().unwrap();
    store
}

/// A coordinate, or none: then the column is the dimension's index.
pub(crate) fn coordinate(
    random: &mut Random,
    group: &GroupWriter,
    path: &Path,
    name: &str,
    dim: &str,
    size: u64,
) -> Kind {
    let spec = |data_type, attributes| SyntheticArray {
        name,
        data_type,
        dims: Box::leak(Box::new([(Box::leak(dim.to_owned().into_boxed_str()) as &str, size)])),
        chunks: &[],
        shards: None,
        compression: Compression::Zstd(1),
        fill_value: json!(0),
        attributes,
    };
    let count = size as i64;
    match random.below(8) {
        0 => Kind::Integer,
        1 => {
            let values: Vec<f64> = (0..count).map(|i| i as f64 * 0.5 - 1.0).collect();
            group.whole_array(&spec("float64", json!({})), &values).unwrap();
            Kind::Float
        }
        2 => {
            let values: Vec<f32> = (0..count).map(|i| 2.0 - i as f32 * 0.5).collect();
            group.whole_array(&spec("float32", json!({})), &values).unwrap();
            Kind::Float
        }
        3 => {
            let values: Vec<i64> = (0..count).map(|_| random.between(-2, 3)).collect();
            group.whole_array(&spec("int64", json!({})), &values).unwrap();
            Kind::Integer
        }
        4 => {
            let values: Vec<f64> = (0..count)
                .map(|_| if random.one_in(4) { f64::NAN } else { random.between(-2, 3) as f64 })
                .collect();
            group.whole_array(&spec("float64", json!({})), &values).unwrap();
            Kind::Float
        }
        5 | 6 => {
            let values: Vec<i64> = (0..count).map(|i| i * 20).collect();
            let attributes = json!({
                "units": "days since 2019-01-01", "calendar": "proleptic_gregorian",
            });
            group.whole_array(&spec("int64", attributes), &values).unwrap();
            Kind::Time
        }
        _ => {
            let texts: Vec<String> = (0..size).map(|_| format!("s{}", random.below(4))).collect();
            text_coordinate(path, name, dim, &texts);
            Kind::Text
        }
    }
}

/// A coordinate of texts, below a group that isn't consolidated yet.
pub(crate) fn text_coordinate(path: &Path, name: &str, dim: &str, texts: &[String]) {
    let size = texts.len();
    let metadata = json!({
        "zarr_format": 3, "node_type": "array", "shape": [size], "data_type": "string",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [size]}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": "",
        "codecs": [{"name": "vlen-utf8"}], "dimension_names": [dim], "attributes": {},
    });
    let mut chunk = (size as u32).to_le_bytes().to_vec();
    for text in texts {
        chunk.extend((text.len() as u32).to_le_bytes());
        chunk.extend(text.as_bytes());
    }
    fs::create_dir_all(path.join(name).join("c")).unwrap();
    fs::write(path.join(name).join("zarr.json"), metadata.to_string()).unwrap();
    fs::write(path.join(name).join("c").join("0"), chunk).unwrap();
}

/// A variable of small numbers, of which some are masked and some chunks aren't stored.
pub(crate) fn variable(
    random: &mut Random,
    group: &GroupWriter,
    name: &str,
    names: &[String],
    sizes: &[u64],
    dims: &[usize],
    attributes: &Value,
) -> Kind {
    let own: Vec<(&str, u64)> = dims.iter().map(|&d| (names[d].as_str(), sizes[d])).collect();
    let chunks: Vec<u64> = own.iter().map(|(_, size)| 1 + random.below(size + 1)).collect();
    let shards: Option<Vec<u64>> =
        random.one_in(2).then(|| chunks.iter().map(|c| c * (1 + random.below(3))).collect());
    let mut attributes = attributes.clone();
    let is_float = random.one_in(2);
    let packed = !is_float && random.one_in(2);
    if packed {
        attributes["scale_factor"] = json!(0.5);
        attributes["add_offset"] = json!(-1.0);
    }
    if !is_float {
        attributes["_FillValue"] = json!(-3);
    }
    let array = group
        .array(&SyntheticArray {
            name,
            data_type: if is_float { "float32" } else { "int16" },
            dims: &own,
            chunks: &chunks,
            shards: shards.as_deref(),
            compression: match random.below(3) {
                0 => Compression::None,
                1 => Compression::Zstd(1),
                _ => Compression::BloscLz4(1),
            },
            fill_value: if is_float { json!("NaN") } else { json!(random.between(-3, 2)) },
            attributes,
        })
        .unwrap();
    let shape: Vec<u64> = own.iter().map(|d| d.1).collect();
    let outer = shards.unwrap_or(chunks);
    let cells: u64 = outer.iter().product();
    let grid = ChunkGrid::new(shape, outer).unwrap();
    for chunk in 0..grid.len() {
        if random.one_in(5) {
            continue;
        }
        let values: Vec<i64> = (0..cells).map(|_| random.between(-3, 9)).collect();
        let indices = grid.indices(chunk);
        if is_float {
            let floats = values.iter().map(|&v| if v == -3 { f32::NAN } else { v as f32 * 0.5 });
            array.write(&indices, &floats.collect::<Vec<_>>()).unwrap();
        } else {
            array.write(&indices, &values.iter().map(|&v| v as i16).collect::<Vec<_>>()).unwrap();
        }
    }
    if is_float || packed { Kind::Float } else { Kind::Integer }
}

/// A predicate on one column.
pub(crate) fn leaf(random: &mut Random, (name, kind): &(String, Kind)) -> String {
    let number = |random: &mut Random| match kind {
        Kind::Float => format!("{:.1}", random.between(-4, 10) as f64 / 2.0),
        _ => random.between(-2, 8).to_string(),
    };
    let op = *random.choose(&["=", "<>", "<", "<=", ">", ">="]);
    match (kind, random.below(7)) {
        (_, 0) => format!("{name} IS {}NULL", if random.one_in(2) { "" } else { "NOT " }),
        (Kind::Text, 1) => format!("{name} LIKE 's{}%'", random.below(4)),
        (Kind::Text, 2) => format!("{name} IN ('s1', 's{}')", random.below(6)),
        (Kind::Text, 3) => format!("upper({name}) {op} 'S2'"),
        (Kind::Text, _) => format!("{name} {op} 's{}'", random.below(4)),
        (Kind::Time, 1) => {
            format!("date_part('month', {name}) IN (1, {})", 1 + random.below(6))
        }
        (Kind::Time, 2) => format!("date_trunc('month', {name}) {op} '2019-02-01'"),
        (Kind::Time, 3) => {
            format!("{name} BETWEEN '2019-01-10' AND '2019-0{}-15'", 1 + random.below(7))
        }
        (Kind::Time, _) => format!("{name} {op} '2019-0{}-21'", 1 + random.below(6)),
        (_, 1) => format!("{name} BETWEEN {} AND {}", number(random), number(random)),
        (_, 2) => format!("{name} IN ({}, {}, {})", number(random), number(random), number(random)),
        (_, 3) => format!("abs({name}) {op} {}", number(random)),
        (_, 4) => format!("CASE WHEN {name} {op} {} THEN true END", number(random)),
        (_, _) => format!("{name} {op} {}", number(random)),
    }
}

pub(crate) fn predicate(random: &mut Random, columns: &[(String, Kind)], depth: usize) -> String {
    if depth > 0 && !random.one_in(3) {
        let one = predicate(random, columns, depth - 1);
        return match random.below(5) {
            0 => format!("NOT ({one})"),
            1 => format!("({one} OR {})", predicate(random, columns, depth - 1)),
            _ => format!("({one} AND {})", predicate(random, columns, depth - 1)),
        };
    }
    let numbers: Vec<&(String, Kind)> =
        columns.iter().filter(|(_, kind)| matches!(kind, Kind::Integer | Kind::Float)).collect();
    if numbers.len() > 1 && random.one_in(5) {
        let (one, other) = (random.choose(&numbers), random.choose(&numbers));
        return format!("{} {} {}", one.0, random.choose(&["<", ">=", "="]), other.0);
    }
    let column = random.choose(columns).clone();
    leaf(random, &column)
}

/// A query with `{}` in place of the table, and whether the order of its rows matters.
fn random_query(random: &mut Random, store: &Store) -> (String, bool) {
    let mut picked: Vec<String> =
        store.columns.iter().filter(|_| random.one_in(2)).map(|(name, _)| name.clone()).collect();
    if picked.is_empty() {
        picked.push(store.columns[0].0.clone());
    }
    let filter = predicate(random, &store.columns, 3);
    let all: Vec<&str> = store.columns.iter().map(|(name, _)| name.as_str()).collect();
    let list = picked.join(", ");
    let data = random.choose(&store.data).clone();
    match random.below(11) {
        0 => (
            format!(
                "SELECT count(*), count({data}), sum({data}), min({data}) FROM {{}} WHERE {filter}"
            ),
            true,
        ),
        1 => {
            // Everything is a key, so rows that are alike are the same.
            let mut keys = vec![format!("{data} {}", direction(random))];
            keys.extend(all.iter().map(|name| format!("{name} {}", direction(random))));
            let limit = random.below(20);
            (
                format!(
                    "SELECT {list}, {data} FROM {{}} WHERE {filter} ORDER BY {} LIMIT {limit}",
                    keys.join(", ")
                ),
                true,
            )
        }
        2 => {
            let mut keys: Vec<String> =
                store.dims.iter().map(|name| format!("{name} {}", direction(random))).collect();
            keys.extend(all.iter().map(|name| format!("{name} {}", direction(random))));
            let rows = if random.one_in(2) { format!("WHERE {filter}") } else { String::new() };
            let limit = match random.one_in(2) {
                true => format!("LIMIT {}", 1 + random.below(30)),
                false => String::new(),
            };
            (
                format!(
                    "SELECT {} FROM {{}} {rows} ORDER BY {} {limit}",
                    all.join(", "),
                    keys.join(", ")
                ),
                true,
            )
        }
        3 => {
            let column = random.choose(&store.columns).0.clone();
            let function = random.choose(&["max", "min"]);
            (
                format!(
                    "SELECT {list} FROM {{}} WHERE {column} = (SELECT {function}({column}) FROM {{}}) AND {filter}"
                ),
                false,
            )
        }
        4 => {
            let column = random.choose(&store.columns).0.clone();
            (
                format!(
                    "SELECT {list} FROM {{}} WHERE {column} IN (SELECT {column} FROM {{}} WHERE {filter})"
                ),
                false,
            )
        }
        5 => {
            let one = random.choose(&store.columns).0.clone();
            let other = random.choose(&store.columns).0.clone();
            let list: Vec<String> = picked.iter().map(|name| format!("a.{name}")).collect();
            (
                format!(
                    "SELECT {} FROM {{}} a JOIN (SELECT DISTINCT {one} AS k, {other} AS l FROM {{}} \
                     WHERE {filter} ORDER BY 1, 2 LIMIT 3) b ON a.{one} = b.k AND a.{other} = b.l",
                    list.join(", ")
                ),
                false,
            )
        }
        6 => {
            let key = random.choose(&store.columns).0.clone();
            (
                format!(
                    "SELECT {key}, count(*), max({data}) FROM {{}} GROUP BY {key} HAVING {}",
                    leaf(random, &(key.clone(), kind(store, &key)))
                ),
                false,
            )
        }
        7 => (format!("SELECT max({data}), min({data}) FROM {{}} WHERE {filter}"), true),
        8 => {
            let inner = random.below(40);
            (
                format!(
                    "SELECT count(*) FROM (SELECT {list} FROM {{}} WHERE {filter} LIMIT {inner})"
                ),
                true,
            )
        }
        _ => (format!("SELECT {list} FROM {{}} WHERE {filter}"), false),
    }
}

fn kind(store: &Store, name: &str) -> Kind {
    store.columns.iter().find(|(own, _)| own == name).unwrap().1
}

pub(crate) fn direction(random: &mut Random) -> String {
    let order = if random.one_in(2) { "ASC" } else { "DESC" };
    format!("{order} NULLS {}", if random.one_in(2) { "FIRST" } else { "LAST" })
}

fn canonical(batches: &[RecordBatch], ordered: bool) -> Vec<String> {
    let mut rows: Vec<String> =
        json_rows(batches).iter().map(|row| Value::from(row.clone()).to_string()).collect();
    if !ordered {
        rows.sort_unstable();
    }
    rows
}

async fn try_store(seed: u64) {
    let mut random = Random(seed);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    let store = write(&mut random, &path);
    let table = format!("'{}'", path.to_string_lossy());

    // The cells in memory, from a scan that leaves nothing out.
    let plain = session(config());
    let frame = frame(&plain, &format!("SELECT * FROM {table}")).await.unwrap();
    let schema = Arc::clone(frame.schema().inner());
    let cells = frame.collect().await.unwrap();
    let memory = MemTable::try_new(schema, vec![cells]).unwrap();
    plain.register_table("plain", Arc::new(memory)).unwrap();

    for _ in 0..12 {
        let (sql, ordered) = random_query(&mut random, &store);
        let partitions = 1 + random.below(4) as usize;
        let mut config = config()
            .with_target_partitions(partitions)
            .with_batch_size(1 + random.below(40) as usize);
        let options = config.options_mut();
        options.optimizer.repartition_file_min_size = 0;
        options.execution.enable_file_stream_work_stealing = !random.one_in(4);
        let settings = options.extensions.get_mut::<LsioConfig>().unwrap();
        settings.tile_bytes = *random.choose(&[0, 40, 2 << 20]);
        settings.coordinate_memory = *random.choose(&[0, 64 << 20]);
        let ctx = session(config);
        let actual = run(&ctx, &sql.replace("{}", &table)).await;
        let expected = query(&plain, &sql.replace("{}", "plain")).await;
        match (actual, expected) {
            (Ok((actual, plan)), Ok(expected)) => {
                let (actual, expected) =
                    (canonical(&actual, ordered), canonical(&expected, ordered));
                assert_eq!(actual, expected, "LSIO_RANDOM_SEED={seed}: {sql}\n{plan}");
            }
            (Err(_), Err(_)) => {}
            (Err(error), Ok(_)) => panic!("LSIO_RANDOM_SEED={seed}: {sql}: {error}"),
            (Ok(_), Err(error)) => panic!("LSIO_RANDOM_SEED={seed}: only in memory {sql}: {error}"),
        }
    }
}

async fn run(
    ctx: &SessionContext,
    sql: &str,
) -> datafusion::error::Result<(Vec<RecordBatch>, String)> {
    let frame = frame(ctx, sql).await?;
    let task = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await?;
    let text = displayable(plan.as_ref()).indent(false).to_string();
    Ok((collect(plan, task).await?, text))
}

#[test]
fn rows_are_those_of_the_cells_in_memory() {
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("LSIO_RANDOM_SEED") {
        in_parallel(seed..seed + 1, |seed| try_store(seed).boxed());
        return;
    }
    let stores = number("LSIO_RANDOM_STORES").unwrap_or_else(|| share(STORES));
    in_parallel(0..stores, |seed| try_store(seed).boxed());
}

/// The plans of the queries above must be those that are meant to be tested.
#[tokio::test]
async fn filters_are_where_they_belong() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    crate::differential::write_lower_rank(&path);
    let table = format!("'{}'", path.to_string_lossy());
    let ctx = session(config());
    for (filter, shown) in [
        ("x = 1", "selection=[x=1/3], chunks=1/1"),
        ("x <> 1 AND y IN (0, 5)", "selection=[y=1/2, x=2/3 in 2 ranges]"),
        ("x > y", "(on several dimensions, before chunks are read)"),
        ("\"full\" > 2", "(on the values of chunks)"),
        ("x = (SELECT max(x) FROM {})", "(as far as known when the query runs)"),
        ("x > 5", "selection=[x=0/3], chunks=0/1"),
    ] {
        let sql = format!("SELECT \"full\" FROM {{}} WHERE {filter}").replace("{}", &table);
        let (_, plan) = run(&ctx, &sql).await.unwrap();
        assert!(plan.contains(shown), "{filter}: {plan}");
        let needs_filter = filter.contains("SELECT");
        assert_eq!(plan.contains("FilterExec"), needs_filter, "{filter}: {plan}");
    }
    let counted = rows(&ctx, &format!("SELECT count(*) FROM {table} WHERE x > 0")).await.unwrap();
    assert_eq!(counted, [[json!(4)]]);
}

/// The two zeros are equal, also in the sets that joins push down.
#[tokio::test]
async fn zeros_are_equal() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    let group = GroupWriter::create(&path, json!({})).unwrap();
    for (name, values) in [("x", [-1.0, -0.0, 1.0]), ("v", [0.0, -0.0, 3.0])] {
        let spec = SyntheticArray {
            name,
            data_type: "float64",
            dims: &[("x", 3)],
            chunks: &[],
            shards: None,
            compression: Compression::None,
            fill_value: json!(9.0),
            attributes: json!({}),
        };
        group.whole_array(&spec, &values).unwrap();
    }
    consolidate_if_unlisted(&path);
    let table = format!("'{}'", path.to_string_lossy());
    let ctx = session(config());
    for (sql, count) in [
        ("SELECT count(*) FROM {} JOIN (VALUES (0.0)) s(k) ON x = k", 1),
        ("SELECT count(*) FROM {} JOIN (VALUES (0.0), (1.0)) s(k) ON x = k", 2),
        ("SELECT count(*) FROM {} JOIN (VALUES (0.0), (5.0)) s(k) ON v = k", 2),
        ("SELECT count(*) FROM {} JOIN (VALUES (0.0, 0.0)) s(k, l) ON x = k AND v = l", 1),
        ("SELECT count(*) FROM {} WHERE x IN (0.0, 2, 3, 4, 5, 6, 7, 8, 9)", 1),
        ("SELECT count(*) FROM {} WHERE v NOT IN (-0.0, 2, 4, 5, 6, 7, 8, 9, 10)", 1),
    ] {
        let sql = sql.replace("{}", &table);
        assert_eq!(rows(&ctx, &sql).await.unwrap(), [[json!(count)]], "{sql}");
    }
}
