//! Random windows over random stores: the values are those that DataFusion gives over the same cells in memory.
//!
//! `LSIO_RANDOM_STORES=2000 cargo test --workspace random_windows` tries more of them, and `LSIO_RANDOM_SEED=17` one
//! again that failed.

use std::{env, fmt::Write as _, panic::AssertUnwindSafe, sync::Arc};

use datafusion::{
    datasource::MemTable,
    physical_plan::{ExecutionPlan, collect, displayable, execution_plan::reset_plan_states},
    prelude::SessionContext,
};
use futures::FutureExt as _;
use lsio_datafusion::LsioConfig;
use serde_json::{Value, json};

use crate::{
    harness::{config, frame, in_parallel, json_rows, rows, session},
    random_queries::{Kind, Random, Store, direction, predicate, write},
    storage::share,
};

/// The stores that are tried if nothing else is said, each with a dozen queries.
const STORES: u64 = 120;

/// A window, and the functions that have one value over it.
struct Window {
    over: String,
    /// Whether no two rows of a partition are peers.
    ordered: bool,
    /// Whether the frame is given by rows.
    by_rows: bool,
}

fn bounds(random: &mut Random, unit: &str, kind: Kind) -> String {
    let offset = |random: &mut Random| match (unit, kind) {
        ("RANGE", Kind::Time) => {
            let of = ["20 days", "30 days", "1 month", "50 days", "0 days", "1 year"];
            format!("INTERVAL '{}'", random.choose(&of))
        }
        ("RANGE", Kind::Float) => format!("{:.1}", random.below(5) as f64 * 0.5),
        _ => random.below(4).to_string(),
    };
    match random.below(9) {
        0 => "BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW".to_owned(),
        1 => "BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING".to_owned(),
        2 => "BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING".to_owned(),
        3 => format!("BETWEEN UNBOUNDED PRECEDING AND {} FOLLOWING", offset(random)),
        4 => format!("BETWEEN {} PRECEDING AND UNBOUNDED FOLLOWING", offset(random)),
        5 => format!("BETWEEN {} PRECEDING AND CURRENT ROW", offset(random)),
        6 => format!("BETWEEN CURRENT ROW AND {} FOLLOWING", offset(random)),
        _ => format!("BETWEEN {} PRECEDING AND {} FOLLOWING", offset(random), offset(random)),
    }
}

fn window(random: &mut Random, store: &Store, unique: bool) -> Window {
    let along = random.below(store.dims.len().max(1) as u64) as usize;
    let mut keys: Vec<String> = Vec::new();
    for (dim, name) in store.dims.iter().enumerate() {
        // Now and then one is left out.
        if dim != along && !random.one_in(12) {
            keys.push(name.clone());
        }
    }
    let kind = |name: &str| store.columns.iter().find(|(own, _)| own == name).unwrap().1;
    let mut split = false;
    if let Some(name) = store.dims.get(along)
        && random.one_in(5)
    {
        split = true;
        keys.push(match kind(name) {
            Kind::Time => format!("date_part('{}', {name})", random.choose(&["month", "year"])),
            Kind::Text => format!("substr({name}, 2, 1)"),
            _ => format!("{name} > 0"),
        });
    }
    if keys.len() > 1 && random.one_in(2) {
        keys.reverse();
    }
    let partition =
        if keys.is_empty() { String::new() } else { format!("PARTITION BY {} ", keys.join(", ")) };
    let complete = keys.len() + 1 - usize::from(split) >= store.dims.len();
    let has_order = !store.dims.is_empty() && !random.one_in(8);
    let mut over = partition;
    let ordered = has_order && unique && complete;
    let mut by_rows = !has_order;
    if has_order {
        let name = &store.dims[along];
        write!(over, "ORDER BY {name} {}", direction(random)).unwrap();
        let one_key = !random.one_in(6);
        if !one_key {
            write!(over, ", {} DESC", random.choose(&store.data)).unwrap();
        }
        let numeric = !matches!(kind(name), Kind::Text);
        let unit = *random.choose(&["ROWS", "ROWS", "RANGE", "RANGE", "GROUPS", ""]);
        let fits = unit != "RANGE" || (one_key && numeric);
        if !unit.is_empty() && fits && (ordered || unit != "ROWS") {
            write!(over, " {unit} {}", bounds(random, unit, kind(name))).unwrap();
            by_rows = unit == "ROWS";
        }
    }
    Window { over, ordered, by_rows }
}

fn function(random: &mut Random, store: &Store, window: &Window) -> String {
    let (column, kind) = random.choose(&store.columns).clone();
    let data = random.choose(&store.data).clone();
    let column = if random.one_in(4) { column } else { data };
    let kind = store.columns.iter().find(|(own, _)| *own == column).map_or(kind, |(_, kind)| *kind);
    let number = matches!(kind, Kind::Integer | Kind::Float);
    let value = match random.below(6) {
        0 if number => format!("abs({column} - 1.5)"),
        1 if number => format!("{column} * {}", random.choose(&store.data)),
        _ => column.clone(),
    };
    if window.ordered && random.one_in(2) {
        return match random.below(9) {
            0 => "row_number()".to_owned(),
            1 => format!("ntile({})", 1 + random.below(4)),
            2 => format!("lag({value})"),
            3 => format!("lag({value}, {})", random.between(-2, 4)),
            4 if number => format!("lead({value}, {}, {})", random.below(4), random.below(3)),
            4 => format!("lead({value}, {})", random.below(4)),
            5 => format!("first_value({value})"),
            6 => format!("last_value({value})"),
            7 => format!("nth_value({value}, {})", 1 + random.below(3)),
            _ => format!("lag({value}) IGNORE NULLS"),
        };
    }
    let is_data = store.data.contains(&column) || number;
    let one_value = window.ordered || !window.by_rows || window.over.is_empty();
    if !one_value && random.one_in(2) {
        return "count(*)".to_owned();
    }
    match random.below(14) {
        0 => "rank()".to_owned(),
        1 => "dense_rank()".to_owned(),
        2 => "percent_rank()".to_owned(),
        3 => "cume_dist()".to_owned(),
        4 => "count(*)".to_owned(),
        5 => format!("count({value})"),
        6 => format!("min({value})"),
        7 => format!("max({value})"),
        8 if number => format!("stddev({value})"),
        9 if number => format!("var_pop({value})"),
        10 if number => format!("sum({value}) FILTER (WHERE {column} > 1)"),
        11 | 12 if number && is_data => format!("avg({value})"),
        _ if number => format!("sum({value})"),
        _ => format!("count({value})"),
    }
}

fn random_query(random: &mut Random, store: &Store, unique: bool) -> String {
    let mut list: Vec<String> = store.columns.iter().map(|(name, _)| name.clone()).collect();
    let own = window(random, store, unique);
    for number in 0..1 + random.below(3) {
        let function = function(random, store, &own);
        list.push(format!("{function} OVER ({}) AS w{number}", own.over));
    }
    let coordinates: Vec<(String, Kind)> =
        store.columns.iter().filter(|(name, _)| store.dims.contains(name)).cloned().collect();
    let below = if !coordinates.is_empty() && random.one_in(3) {
        // A selection along each dimension.
        format!(" WHERE {}", predicate(random, &coordinates[..1], 1))
    } else if random.one_in(10) {
        format!(" WHERE {}", predicate(random, &store.columns, 2))
    } else {
        String::new()
    };
    let mut inner = format!("SELECT {} FROM {{}}{below}", list.join(", "));
    if random.one_in(4) {
        // Another window over the first one.
        let other = window(random, store, unique);
        let function = function(random, store, &other);
        inner = format!("SELECT *, {function} OVER ({}) AS w9 FROM ({inner})", other.over);
    }
    match random.below(8) {
        0 => format!("SELECT * FROM ({inner}) WHERE {}", predicate(random, &store.columns, 1)),
        1 => format!("SELECT * FROM ({inner}) WHERE w0 IS NOT NULL"),
        2 => format!("SELECT count(*), count(w0), max(w0) FROM ({inner})"),
        3 if !store.dims.is_empty() => {
            let key = random.choose(&store.dims);
            format!("SELECT {key}, count(w0), min(w0) FROM ({inner}) GROUP BY {key}")
        }
        4 => format!(
            "SELECT w0 FROM ({inner}) ORDER BY w0 DESC NULLS LAST LIMIT {}",
            random.below(6)
        ),
        _ => inner,
    }
}

/// Rows as texts, in order. Floats are rounded: sums of thirds depend on the order of their terms.
fn canonical(rows: &[Vec<Value>]) -> Vec<String> {
    let rounded = |value: &Value| match value.as_f64() {
        Some(number) if value.is_f64() => {
            let rounded = (number * 1e6).round() / 1e6;
            json!(if rounded == 0.0 { 0.0 } else { rounded })
        }
        _ => value.clone(),
    };
    let texts =
        rows.iter().map(|row| Value::from(row.iter().map(rounded).collect::<Vec<_>>()).to_string());
    let mut texts: Vec<String> = texts.collect();
    texts.sort_unstable();
    texts
}

async fn plan_of(
    ctx: &SessionContext,
    sql: &str,
) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    frame(ctx, sql).await?.create_physical_plan().await
}

/// What came of queries.
#[derive(Default)]
struct Tried {
    all: usize,
    /// Those of which a window has become a column.
    pushed: usize,
    wrong: Vec<String>,
}

async fn try_store(seed: u64) -> Tried {
    let mut random = Random(seed ^ 0x5151);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    let store = write(&mut random, &path);
    let table = format!("'{}'", path.to_string_lossy());
    let plain = session(config());
    let cells = frame(&plain, &format!("SELECT * FROM {table}")).await.unwrap();
    let schema = Arc::clone(cells.schema().inner());
    let cells = cells.collect().await.unwrap();
    let memory = MemTable::try_new(schema, vec![cells]).unwrap();
    plain.register_table("plain", Arc::new(memory)).unwrap();
    // Whether no two cells have the same coordinates.
    let keys = if store.dims.is_empty() { "1".to_owned() } else { store.dims.join(", ") };
    let sql = format!(
        "SELECT (SELECT count(*) FROM plain) = (SELECT count(*) FROM (SELECT DISTINCT {keys} FROM plain))"
    );
    let unique = rows(&plain, &sql).await.unwrap()[0][0] == json!(true);
    let mut tried = Tried::default();
    for _ in 0..12 {
        let sql = random_query(&mut random, &store, unique);
        let partitions = *random.choose(&[1, 2, 7]);
        let mut config = config()
            .with_target_partitions(partitions)
            .with_batch_size(1 + random.below(40) as usize);
        let options = config.options_mut();
        options.optimizer.repartition_file_min_size = 0;
        options.execution.enable_file_stream_work_stealing = !random.one_in(4);
        let settings = options.extensions.get_mut::<LsioConfig>().unwrap();
        settings.tile_bytes = *random.choose(&[0, 40, 2 << 20]);
        settings.coordinate_memory = *random.choose(&[0, 64 << 20, 64 << 20]);
        settings.window_pushdown = !random.one_in(8);
        let on = settings.window_pushdown;
        let ctx = session(config);
        let (in_memory, over_store) = (sql.replace("{}", "plain"), sql.replace("{}", &table));
        let answer = AssertUnwindSafe(rows(&plain, &in_memory)).catch_unwind();
        // In debug builds DataFusion 55.2 panics where it finds the sort keys of two windows different.
        let Ok(answer) = answer.await else { continue };
        let expected = match answer {
            Ok(expected) => canonical(&expected),
            Err(error) => {
                let other = rows(&ctx, &over_store).await;
                assert!(other.is_err(), "LSIO_RANDOM_SEED={seed}: only in memory {sql}: {error}");
                continue;
            }
        };
        let plan = AssertUnwindSafe(plan_of(&ctx, &over_store)).catch_unwind();
        let Ok(plan) = plan.await else { continue };
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => {
                tried.wrong.push(format!("LSIO_RANDOM_SEED={seed}: {sql}\n{error}"));
                continue;
            }
        };
        let text = displayable(plan.as_ref()).indent(false).to_string();
        if on {
            tried.all += 1;
            tried.pushed += usize::from(text.contains("windows=[") || text.contains("looked up="));
        } else {
            assert!(!text.contains("windows=[") && !text.contains("looked up="), "{text}");
        }
        // A plan runs twice, but for those whose filters keep what they have found.
        let runs = if text.contains("DynamicFilter") { 1 } else { 2 };
        let again = reset_plan_states(Arc::clone(&plan)).unwrap();
        for plan in [plan, again].into_iter().take(runs) {
            let actual = match collect(plan, ctx.task_ctx()).await {
                Ok(batches) => canonical(&json_rows(&batches)),
                Err(error) => vec![error.to_string()],
            };
            if actual != expected {
                let other = actual.iter().zip(&expected).find(|(one, other)| one != other);
                let rows = format!("{} rows for {}: {other:?}", actual.len(), expected.len());
                tried.wrong.push(format!("LSIO_RANDOM_SEED={seed}: {sql}\n{text}\n{rows}"));
                break;
            }
        }
    }
    tried
}

#[test]
fn values_are_those_of_the_cells_in_memory() {
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("LSIO_RANDOM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LSIO_RANDOM_STORES").unwrap_or_else(|| share(STORES)),
    };
    let is_one = seeds.end - seeds.start == 1;
    let tried = in_parallel(seeds, |seed| try_store(seed).boxed());
    let wrong: Vec<&String> = tried.iter().flat_map(|tried| &tried.wrong).collect();
    let first: Vec<&str> = wrong.iter().take(3).map(|text| text.as_str()).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), first.join("\n\n"));
    let pushed: usize = tried.iter().map(|tried| tried.pushed).sum();
    let all: usize = tried.iter().map(|tried| tried.all).sum();
    // Otherwise nothing is tested.
    assert!(is_one || pushed * 4 > all, "{pushed} of {all} windows are columns");
}
