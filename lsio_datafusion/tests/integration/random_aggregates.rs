//! Random aggregates on random stores: the rows are those that DataFusion gives over the same cells
//! in memory.
//!
//! `LSIO_RANDOM_STORES=2000 cargo test --workspace random_aggregates` tries more of them, and
//! `LSIO_RANDOM_SEED=17` one again that failed.

use std::{env, fmt::Write as _, path::Path, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float64Type},
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{
    datasource::MemTable,
    error::Result,
    physical_plan::{collect, displayable},
    prelude::{SessionConfig, SessionContext},
};
use futures::FutureExt as _;
use lsio_core::grid::{ChunkGrid, unravel};
use lsio_datafusion::LsioConfig;
use lsio_synthetic::write::{ArrayWriter, Compression, GroupWriter, SyntheticArray};
use serde_json::{Value, json};

use crate::{
    harness::{config, frame, in_parallel, session},
    random_queries::{Kind, Random, Store, coordinate, direction, leaf, predicate, write},
    storage::share,
};

/// The stores that are tried if nothing else is said, each with a dozen queries.
const STORES: u64 = 200;

/// Which aggregates the queries have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mix {
    /// Mostly sums, means and extremes.
    Everyday,
    /// Statistics of pairs, and those that need all values of a group.
    Statistics,
}

/// A store and what its values are like.
struct Tables {
    store: Store,
    /// Whether there are infinities: products of them may be NaN.
    infinite: bool,
    /// Whether there are values that don't fit an integer.
    wide: bool,
}

impl Tables {
    fn numbers(&self) -> Vec<&(String, Kind)> {
        let is_number = |kind: &Kind| matches!(kind, Kind::Integer | Kind::Float);
        self.store.columns.iter().filter(|(_, kind)| is_number(kind)).collect()
    }

    fn is_data(&self, name: &str) -> bool {
        self.store.data.iter().any(|data| data == name)
    }

    fn coordinates(&self) -> Vec<&(String, Kind)> {
        self.store.columns.iter().filter(|(name, _)| !self.is_data(name)).collect()
    }

    /// A column of numbers, mostly a data variable.
    fn number(&self, random: &mut Random) -> (String, Kind) {
        let numbers = self.numbers();
        let data: Vec<_> = numbers.iter().filter(|(name, _)| self.is_data(name)).copied().collect();
        let from = if data.is_empty() || random.one_in(4) { &numbers } else { &data };
        (*random.choose(from)).clone()
    }
}

/// Writes a store with what `random_queries` lacks: dimensions that are long or of length 0, chunks
/// of one value or of none, groups without a value, and numbers of all sizes. `shape` decides on
/// everything but the data, so that two stores may have the same columns.
fn write_long(shape: &mut Random, values: &mut Random, path: &Path) -> Tables {
    let group = GroupWriter::create(path, json!({})).unwrap();
    let rank = 1 + shape.below(3) as usize;
    let mut sizes: Vec<u64> = Vec::new();
    let mut cells = 3000_u64;
    for _ in 0..rank {
        let size = (*shape.choose(&[1_u64, 2, 3, 5, 8, 30, 100, 300])).min(cells);
        cells /= size;
        sizes.push(size);
    }
    if shape.one_in(2) {
        sizes.reverse();
    }
    if shape.one_in(12) {
        let d = shape.below(rank as u64) as usize;
        sizes[d] = 0;
    }
    let names: Vec<String> = (0..rank).map(|d| format!("d{d}")).collect();
    let mut store = Store { columns: Vec::new(), dims: names.clone(), data: Vec::new() };
    let mut auxiliary = Vec::new();
    for (name, &size) in names.iter().zip(&sizes) {
        // Without a cell there is nothing to write: the index stands for it.
        let kind = if size == 0 {
            Kind::Integer
        } else {
            coordinate(shape, &group, path, name, name, size)
        };
        store.columns.push((name.clone(), kind));
    }
    for d in 0..rank {
        if sizes[d] > 0 && shape.one_in(2) {
            // Long runs of a few values.
            let name = format!("region{d}");
            let run = 1 + shape.below(20);
            let regions: Vec<i16> = (0..sizes[d]).map(|i| (i / run % 4) as i16).collect();
            let dims = [(names[d].as_str(), sizes[d])];
            group.whole_array(&coordinate_spec(&name, "int16", &dims), &regions).unwrap();
            store.columns.push((name.clone(), Kind::Integer));
            auxiliary.push(name);
        }
    }
    if rank >= 2 && sizes[rank - 2] * sizes[rank - 1] > 0 && shape.one_in(2) {
        let dims = [rank - 2, rank - 1].map(|d| (names[d].as_str(), sizes[d]));
        let own: Vec<u64> = dims.iter().map(|d| d.1).collect();
        let plane: Vec<i32> = (0..own[0] * own[1])
            .map(|cell| {
                let at = unravel(cell, &own);
                (at[0] / 3 + at[1]) as i32 % 11
            })
            .collect();
        group.whole_array(&coordinate_spec("plane", "int32", &dims), &plane).unwrap();
        store.columns.push(("plane".to_owned(), Kind::Integer));
        auxiliary.push("plane".to_owned());
    }
    let (mut infinite, mut wide) = (false, false);
    let attributes = json!({"coordinates": auxiliary.join(" ")});
    for number in 0..1 + shape.below(3) {
        let mut dims: Vec<usize> = (0..rank).collect();
        if shape.one_in(3) {
            dims.reverse();
        }
        if number > 0 && shape.one_in(3) {
            dims.truncate(shape.below(rank as u64 + 1) as usize);
        }
        let own: Vec<(&str, u64)> = dims.iter().map(|&d| (names[d].as_str(), sizes[d])).collect();
        let name = format!("v{number}");
        let numbers = Numbers::new(shape);
        long_variable(shape, values, &group, &name, &own, &numbers, &attributes);
        infinite |= numbers == Numbers::Infinite;
        wide |= matches!(numbers, Numbers::Infinite | Numbers::Wide);
        store.columns.push((name.clone(), numbers.kind()));
        store.data.push(name);
    }
    group.consolidate().unwrap();
    Tables { store, infinite, wide }
}

fn coordinate_spec<'a>(
    name: &'a str,
    data_type: &'a str,
    dims: &'a [(&'a str, u64)],
) -> SyntheticArray<'a> {
    SyntheticArray {
        name,
        data_type,
        dims,
        chunks: &[],
        shards: None,
        compression: Compression::Zstd(1),
        fill_value: json!(0),
        attributes: json!({}),
    }
}

/// What the numbers of a variable are like.
#[derive(Clone, Debug, PartialEq)]
enum Numbers {
    /// A type, its least and largest value, and the one that is masked.
    Integers(&'static str, i64, i64, i64),
    /// 16-bit integers with scale and offset.
    Packed,
    /// Halves, which any order adds up to the same.
    Halves(&'static str),
    /// Such as temperatures.
    Fractions(&'static str),
    /// From very small to very large.
    Wide,
    /// Halves and infinities.
    Infinite,
}

impl Numbers {
    fn new(random: &mut Random) -> Self {
        let float = *random.choose(&["float32", "float64"]);
        match random.below(14) {
            0 => Self::Integers("int8", -100, 100, -101),
            1 => Self::Integers("uint8", 0, 200, 255),
            2 => Self::Integers("int16", -3, 9, -4),
            3 => Self::Integers("uint16", 0, 60_000, 65_535),
            4 => Self::Integers("int32", -1_000_000, 1_000_000, i64::from(i32::MIN)),
            5 => Self::Integers("int64", -1_000_000, 1_000_000, -1_000_001),
            6 | 7 => Self::Packed,
            8 | 9 => Self::Halves(float),
            10 | 11 => Self::Fractions(float),
            12 => Self::Wide,
            _ => Self::Infinite,
        }
    }

    fn data_type(&self) -> &'static str {
        match *self {
            Self::Integers(name, ..) | Self::Halves(name) | Self::Fractions(name) => name,
            Self::Packed => "int16",
            Self::Wide => "float64",
            Self::Infinite => "float32",
        }
    }

    fn kind(&self) -> Kind {
        if matches!(self, Self::Integers(..)) { Kind::Integer } else { Kind::Float }
    }

    /// The value that means none.
    fn missing(&self) -> f64 {
        match self {
            Self::Integers(_, _, _, masked) => *masked as f64,
            Self::Packed => -32_768.0,
            _ => f64::NAN,
        }
    }

    fn draw(&self, random: &mut Random) -> f64 {
        match *self {
            Self::Integers(_, low, high, _) => random.between(low, high) as f64,
            Self::Packed => random.between(-3000, 3000) as f64,
            Self::Halves(_) => random.between(-3, 9) as f64 * 0.5,
            Self::Fractions(_) => 250.0 + random.below(1_000_003) as f64 / 20_000.0,
            Self::Wide => {
                let sign = if random.one_in(3) { -1.0 } else { 1.0 };
                let power = random.between(-30, 30) as i32;
                sign * (1.0 + random.below(1000) as f64 / 1000.0) * 10_f64.powi(power)
            }
            Self::Infinite => match random.below(30) {
                0 => f64::INFINITY,
                1 => f64::NEG_INFINITY,
                _ => random.between(-3, 9) as f64 * 0.5,
            },
        }
    }
}

fn long_variable(
    shape: &mut Random,
    values: &mut Random,
    group: &GroupWriter,
    name: &str,
    dims: &[(&str, u64)],
    numbers: &Numbers,
    attributes: &Value,
) {
    let chunks: Vec<u64> = dims
        .iter()
        .map(|(_, size)| size.div_ceil(1 + shape.below(4)).max(1) + shape.below(2))
        .collect();
    let shards: Option<Vec<u64>> =
        shape.one_in(3).then(|| chunks.iter().map(|c| c * (1 + shape.below(3))).collect());
    let mut attributes = attributes.clone();
    let missing = numbers.missing();
    let is_float = numbers.data_type().starts_with("float");
    if !is_float {
        attributes["_FillValue"] = json!(missing as i64);
    }
    if *numbers == Numbers::Packed {
        attributes["scale_factor"] = json!(0.01);
        attributes["add_offset"] = json!(273.15);
    }
    // Where there is no value, whatever the other indices are.
    let gap = (!dims.is_empty() && shape.one_in(3))
        .then(|| (shape.below(dims.len() as u64) as usize, 2 + shape.below(4)));
    let array = group
        .array(&SyntheticArray {
            name,
            data_type: numbers.data_type(),
            dims,
            chunks: &chunks,
            shards: shards.as_deref(),
            compression: match shape.below(3) {
                0 => Compression::None,
                1 => Compression::Zstd(1),
                _ => Compression::BloscLz4(1),
            },
            fill_value: match (shape.one_in(2), is_float) {
                (true, _) => json!(3),
                (false, true) => json!("NaN"),
                (false, false) => json!(missing as i64),
            },
            attributes,
        })
        .unwrap();
    let outer = shards.unwrap_or(chunks);
    let grid = ChunkGrid::new(dims.iter().map(|d| d.1).collect(), outer.clone()).unwrap();
    for chunk in 0..grid.len() {
        if values.one_in(8) {
            continue;
        }
        let start = grid.region(chunk).start;
        let pattern = values.below(8);
        let mut value = numbers.draw(values);
        let number: u64 = outer.iter().product();
        let cells: Vec<f64> = (0..number)
            .map(|cell| {
                match pattern {
                    // All the same.
                    0 => {}
                    1 => value = missing,
                    // Runs.
                    2 | 3 if !values.one_in(16) => {}
                    _ if values.one_in(10) => value = missing,
                    _ => value = numbers.draw(values),
                }
                let inside = unravel(cell, &outer);
                match gap {
                    Some((d, every)) if (start[d] + inside[d]) % every == 1 => missing,
                    _ => value,
                }
            })
            .collect();
        write_cells(&array, numbers.data_type(), &grid.indices(chunk), &cells);
    }
}

fn write_cells(array: &ArrayWriter, data_type: &str, chunk: &[u64], cells: &[f64]) {
    macro_rules! write_as {
        ($t:ty) => {
            array.write(chunk, &cells.iter().map(|&value| value as $t).collect::<Vec<_>>())
        };
    }
    match data_type {
        "int8" => write_as!(i8),
        "uint8" => write_as!(u8),
        "int16" => write_as!(i16),
        "uint16" => write_as!(u16),
        "int32" => write_as!(i32),
        "int64" => write_as!(i64),
        "float32" => write_as!(f32),
        _ => write_as!(f64),
    }
    .unwrap();
}

/// When two results of an aggregate are the same.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Compare {
    Exact,
    /// A list in any order.
    Sorted,
    /// A sum, in any order.
    Sum,
    Mean,
    /// What the values' squared deviations add up to is divided by their number less this.
    Variance(usize),
    Deviation(usize),
    Covariance(usize),
    Correlation,
    /// The square of a correlation.
    R2,
    /// The sum of the products of two deviations.
    Products,
    /// The mean of one side, over the rows that have both.
    PairMean(usize),
    /// The mean of the first argument, weighted by the second.
    WeightedMean,
    /// Anything from the least to the largest value.
    Between,
}

#[derive(Clone, Debug)]
struct Aggregate {
    /// The call, with `{0}`, `{1}`, … in place of the arguments.
    template: String,
    arguments: Vec<String>,
    filter: Option<String>,
    compare: Compare,
    /// Whether rows may be ordered by it: it has no two zeros.
    ordered: bool,
}

impl Aggregate {
    fn call(&self) -> String {
        self.fill(&self.template)
    }

    /// Calls that give the values that were aggregated.
    fn hidden(&self) -> Vec<String> {
        match self.compare {
            Compare::Exact | Compare::Sorted => Vec::new(),
            Compare::Covariance(_)
            | Compare::Correlation
            | Compare::R2
            | Compare::Products
            | Compare::PairMean(_)
            | Compare::WeightedMean => [("{0}", "{1}"), ("{1}", "{0}")]
                .map(|(one, other)| {
                    self.fill(&format!(
                        "array_agg(CASE WHEN {other} IS NOT NULL THEN CAST({one} AS DOUBLE) END)"
                    ))
                })
                .to_vec(),
            _ => vec![self.fill("array_agg(CAST({0} AS DOUBLE))")],
        }
    }

    fn fill(&self, template: &str) -> String {
        let mut call = template.to_owned();
        for (number, argument) in self.arguments.iter().enumerate() {
            call = call.replace(&format!("{{{number}}}"), argument);
        }
        if let Some(filter) = &self.filter {
            write!(call, " FILTER (WHERE {filter})").unwrap();
        }
        call
    }
}

struct Key {
    sql: String,
    kind: Kind,
    is_column: bool,
}

/// What is around an aggregate, or below it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Plain,
    /// Keys and arguments are columns of a subquery.
    Projected,
    OverUnion,
    UnionOf,
    Joined,
    Distinct,
    Rollup,
    Cube,
    Sets,
}

struct Query {
    form: Form,
    keys: Vec<Key>,
    aggregates: Vec<Aggregate>,
    filter: Option<String>,
    having: Option<String>,
    order: Option<String>,
    /// Whether GROUP BY has positions instead of expressions.
    positions: bool,
    /// Any column.
    column: String,
}

impl Query {
    fn has_sets(&self) -> bool {
        matches!(self.form, Form::Rollup | Form::Cube | Form::Sets)
    }

    /// The columns before the first aggregate: they tell the rows apart.
    fn key_columns(&self) -> usize {
        match self.form {
            Form::UnionOf => self.keys.len() + 1,
            _ if self.has_sets() => self.keys.len() * 2,
            _ => self.keys.len(),
        }
    }

    /// The query with `{}` and `{other}` in place of the tables. With `hidden` there are more
    /// columns: the values that were aggregated.
    fn sql(&self, hidden: bool) -> String {
        let mut keys: Vec<String> = self.keys.iter().map(|key| key.sql.clone()).collect();
        let mut aggregates = self.aggregates.clone();
        let mut from = "{}".to_owned();
        let mut filter = self.filter.as_ref().map_or(String::new(), |f| format!(" WHERE {f}"));
        if self.form == Form::OverUnion {
            from = "(SELECT * FROM {} UNION ALL SELECT * FROM {other}) p".to_owned();
        } else if self.form == Form::Projected {
            let mut list = vec![format!("{} AS c", self.column)];
            let mut project = |sql: &mut String, name: String| {
                list.push(format!("{sql} AS {name}"));
                *sql = name;
            };
            for (number, key) in keys.iter_mut().enumerate() {
                project(key, format!("g{number}"));
            }
            for (number, aggregate) in aggregates.iter_mut().enumerate() {
                for (place, argument) in aggregate.arguments.iter_mut().enumerate() {
                    project(argument, format!("y{number}_{place}"));
                }
                if let Some(filter) = &mut aggregate.filter {
                    project(filter, format!("f{number}"));
                }
            }
            from = format!("(SELECT {} FROM {{}}{filter}) p", list.join(", "));
            filter.clear();
        }

        let mut list: Vec<(String, String)> = Vec::new();
        let mut add = |calls: Vec<String>, letter: &str| {
            let named = calls.into_iter().enumerate();
            list.extend(named.map(|(number, call)| (call, format!("{letter}{number}"))));
        };
        add(keys.clone(), "k");
        if self.has_sets() {
            add(keys.iter().map(|key| format!("grouping({key})")).collect(), "n");
        }
        add(aggregates.iter().map(Aggregate::call).collect(), "a");
        if hidden {
            add(aggregates.iter().flat_map(Aggregate::hidden).collect(), "h");
        }
        let columns: Vec<String> =
            list.iter().map(|(call, name)| format!("{call} AS {name}")).collect();
        let columns = columns.join(", ");
        if self.form == Form::Distinct {
            let order = self.order.as_deref().unwrap_or("");
            return format!("SELECT DISTINCT {columns} FROM {from}{filter}{order}");
        }

        let grouped = match self.form {
            Form::Rollup => format!("ROLLUP ({})", keys.join(", ")),
            Form::Cube => format!("CUBE ({})", keys.join(", ")),
            Form::Sets => {
                format!("GROUPING SETS (({}), ({}), ())", keys.join(", "), keys[keys.len() - 1])
            }
            _ if self.positions => {
                (1..=keys.len()).map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
            }
            _ => keys.join(", "),
        };
        let mut rest = format!(" FROM {from}{filter}");
        if !keys.is_empty() {
            write!(rest, " GROUP BY {grouped}").unwrap();
        }
        if let Some(having) = &self.having {
            write!(rest, " HAVING {having}").unwrap();
        }
        if let Some(order) = &self.order {
            rest.push_str(order);
        }
        match self.form {
            Form::UnionOf => {
                let other = rest.replace("{}", "{other}");
                format!(
                    "SELECT 'a' AS u, {columns}{rest} UNION ALL SELECT 'b' AS u, {columns}{other}"
                )
            }
            Form::Joined => {
                let values = match self.keys[0].kind {
                    Kind::Text => "('s1'), ('S2'), ('low'), ('all')",
                    Kind::Time => {
                        "(TIMESTAMP '2019-01-01T00:00:00'), (TIMESTAMP '2019-02-01T00:00:00')"
                    }
                    _ => "(0), (1), (2), (4)",
                };
                let names: Vec<String> = list.iter().map(|(_, name)| format!("q.{name}")).collect();
                format!(
                    "SELECT {} FROM (SELECT {columns}{rest}) q JOIN (VALUES {values}) s(x) \
                     ON q.k0 = s.x",
                    names.join(", ")
                )
            }
            _ => format!("SELECT {columns}{rest}"),
        }
    }
}

fn random_key(random: &mut Random, tables: &Tables) -> Key {
    if random.one_in(14) {
        return Key { sql: "'all'".to_owned(), kind: Kind::Text, is_column: false };
    }
    let coordinates = tables.coordinates();
    let all: Vec<_> = tables.store.columns.iter().collect();
    // Data as a key isn't pushed down, but must be right.
    let from = if coordinates.is_empty() || random.one_in(14) { &all } else { &coordinates };
    let (name, kind) = *random.choose(from);
    let column = Key { sql: name.clone(), kind: *kind, is_column: true };
    if random.one_in(2) {
        return column;
    }
    let expression = |sql: String, kind: Kind| Key { sql, kind, is_column: false };
    match (kind, random.below(5)) {
        (Kind::Time, 0..=1) => expression(format!("date_trunc('month', {name})"), Kind::Time),
        (Kind::Time, 2..=3) => expression(format!("date_part('month', {name})"), Kind::Integer),
        (Kind::Time, _) => expression(format!("date_part('year', {name})"), Kind::Integer),
        (Kind::Text, 0..=2) => expression(format!("upper({name})"), Kind::Text),
        (Kind::Text, _) => column,
        (_, 0) => expression(format!("floor({name} / 3.0)"), Kind::Float),
        // A remainder of a float may be the other zero, and infinities have none.
        (Kind::Integer, 1) => expression(format!("CAST({name} AS BIGINT) % 2"), Kind::Integer),
        (_, 4) => {
            let numbers: Vec<_> = coordinates
                .iter()
                .filter(|(_, kind)| matches!(kind, Kind::Integer | Kind::Float))
                .collect();
            if numbers.is_empty() {
                return column;
            }
            let other = &random.choose(&numbers).0;
            expression(format!("({name} + {other})"), Kind::Float)
        }
        _ => expression(
            format!(
                "CASE WHEN {name} < 1 THEN 'low' WHEN {name} < 3 THEN 'middle' ELSE 'high' END"
            ),
            Kind::Text,
        ),
    }
}

/// A function of data as a key, mostly with few values.
fn random_cell_key(random: &mut Random, tables: &Tables) -> Key {
    let (name, kind) = tables.number(random);
    let (sql, kind) = match random.below(5) {
        0 => (format!("floor({name} / 3.0)"), Kind::Float),
        1 => (format!("width_bucket({name}, 0, 8, 4)"), Kind::Integer),
        2 => {
            (format!("CASE WHEN {name} > 1 THEN 'high' WHEN {name} < 0 THEN 'low' END"), Kind::Text)
        }
        3 => (format!("{name} > 2"), Kind::Text),
        _ => (name, kind),
    };
    Key { sql, kind, is_column: false }
}

/// A number to aggregate, and whether it may be NaN.
fn random_argument(random: &mut Random, tables: &Tables) -> (String, bool) {
    let (one, kind) = tables.number(random);
    let (other, other_kind) = tables.number(random);
    let cast = if tables.wide { "TRY_CAST" } else { "CAST" };
    match random.below(17) {
        0 => (format!("{one} + 1"), false),
        1 => of_infinities(format!("{one} * {other}"), tables),
        2 => {
            let coordinates = tables.coordinates();
            let angles: Vec<_> = coordinates
                .iter()
                .filter(|(_, kind)| matches!(kind, Kind::Integer | Kind::Float))
                .collect();
            if angles.is_empty() {
                return (one, false);
            }
            of_infinities(format!("{one} * cos(radians({}))", random.choose(&angles).0), tables)
        }
        3 if kind == Kind::Float && other_kind == Kind::Float => {
            of_infinities(format!("sqrt({one} * {one} + {other} * {other})"), tables)
        }
        // Squares of integers may not fit their type.
        3 => of_infinities(
            format!("sqrt(CAST({one} AS DOUBLE) * {one} + CAST({other} AS DOUBLE) * {other})"),
            tables,
        ),
        4 => (format!("abs({one})"), false),
        5 => (format!("CASE WHEN {one} > 1 THEN {one} END"), false),
        6 => (format!("{cast}({one} AS BIGINT)"), false),
        // Differences of columns of one type, and of two.
        7 if kind == Kind::Float && other_kind == Kind::Float => {
            of_infinities(format!("abs({one} - {other})"), tables)
        }
        7 | 8 => of_infinities(format!("CAST({one} AS DOUBLE) - CAST({other} AS DOUBLE)"), tables),
        9 => of_infinities(
            format!("power(CAST({one} AS DOUBLE) - CAST({other} AS DOUBLE), 2)"),
            tables,
        ),
        _ => (one, false),
    }
}

/// An expression that is NaN for some infinities, if the tables have any: then it is marked.
fn of_infinities(expression: String, tables: &Tables) -> (String, bool) {
    match tables.infinite {
        true => (format!("«{expression}»"), true),
        false => (expression, false),
    }
}

/// A query in which marked expressions are what they are.
fn unmarked(sql: &str) -> String {
    sql.replace('«', "(").replace('»', ")")
}

/// A query in which marked expressions are NULL where they are NaN, as in a query that reads a Zarr table.
fn without_nan(sql: &str) -> String {
    let mut parts = sql.split('«');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (expression, rest) = part.split_once('»').unwrap();
        let null_if_nan = "CASE WHEN isnan(CAST(({}) AS DOUBLE)) THEN NULL ELSE ({}) END";
        whole.push_str(&null_if_nan.replace("{}", expression));
        whole.push_str(rest);
    }
    whole
}

/// A statistic of pairs, or one that needs all values of a group.
fn random_statistic(random: &mut Random, tables: &Tables) -> Aggregate {
    let number = tables.number(random).0;
    let second = tables.number(random).0;
    let any = random.choose(&tables.store.data).clone();
    let argument = random_argument(random, tables).0;
    let pair = vec![number.clone(), second];
    let fraction = *random.choose(&["0", "0.25", "0.3", "0.5", "0.95", "1"]);
    let (template, arguments, compare) = match random.below(24) {
        0..=1 => ("median({0})".to_owned(), vec![argument], Compare::Exact),
        2..=3 => (format!("percentile_cont({{0}}, {fraction})"), vec![number], Compare::Exact),
        4 => {
            let order = direction(random);
            let call = format!("percentile_cont({fraction}) WITHIN GROUP (ORDER BY {{0}} {order})");
            (call, vec![argument], Compare::Exact)
        }
        5 => (format!("quantile_cont({{0}}, [0.1, {fraction}])"), vec![number], Compare::Exact),
        6 => (format!("quantile_disc({{0}}, {fraction})"), vec![any], Compare::Exact),
        7 => ("median(DISTINCT {0})".to_owned(), vec![number], Compare::Exact),
        8 => ("mad({0})".to_owned(), vec![number], Compare::Exact),
        9 => ("mode({0})".to_owned(), vec![any], Compare::Exact),
        10..=11 => ("count(DISTINCT {0})".to_owned(), vec![any], Compare::Exact),
        12 if !tables.infinite => (
            format!("approx_percentile_cont({{0}}, {fraction})"),
            vec![format!("CAST({number} AS DOUBLE)")],
            Compare::Between,
        ),
        13..=14 => ("corr({0}, {1})".to_owned(), pair, Compare::Correlation),
        15 => ("covar_samp({0}, {1})".to_owned(), pair, Compare::Covariance(1)),
        16 => ("covar_pop({0}, {1})".to_owned(), pair, Compare::Covariance(0)),
        17 => ("regr_count({0}, {1})".to_owned(), pair, Compare::Exact),
        18 => ("regr_avgx({0}, {1})".to_owned(), pair, Compare::PairMean(1)),
        19 => ("regr_avgy({0}, {1})".to_owned(), pair, Compare::PairMean(0)),
        22..=23 => ("histogram({0}, -1, 7.5, 5)".to_owned(), vec![argument], Compare::Exact),
        20 => ("regr_r2({0}, {1})".to_owned(), pair, Compare::R2),
        _ => ("regr_sxy({0}, {1})".to_owned(), pair, Compare::Products),
    };
    let filter = random.one_in(6).then(|| predicate(random, &tables.store.columns, 1));
    Aggregate { template, arguments, filter, compare, ordered: false }
}

fn random_aggregate(random: &mut Random, tables: &Tables) -> Aggregate {
    let columns = &tables.store.columns;
    let any = if random.one_in(2) {
        random.choose(columns).0.clone()
    } else {
        random.choose(&tables.store.data).clone()
    };
    let number = tables.number(random).0;
    let second = tables.number(random).0;
    let (argument, may_be_nan) = random_argument(random, tables);
    let mut ordered = false;
    // The rest is rare: one aggregate that isn't pushed down keeps all others back.
    let pick = if random.one_in(12) { 20 } else { random.below(20) };
    let (template, arguments, compare) = match pick {
        0..=1 => {
            ordered = true;
            ("count(*)".to_owned(), Vec::new(), Compare::Exact)
        }
        2..=3 => {
            ordered = true;
            ("count({0})".to_owned(), vec![any], Compare::Exact)
        }
        4..=7 => ("sum({0})".to_owned(), vec![argument], Compare::Sum),
        8..=10 => ("avg({0})".to_owned(), vec![argument], Compare::Mean),
        11..=14 => {
            let function = random.choose(&["min({0})", "max({0})"]);
            // Which of a NaN and a number is the least depends on their order.
            ordered = may_be_nan || random.one_in(2);
            let of = if ordered { any } else { argument };
            ((*function).to_owned(), vec![of], Compare::Exact)
        }
        15 => {
            let function = random.choose(&["var({0})", "var_samp({0})"]);
            ((*function).to_owned(), vec![argument], Compare::Variance(1))
        }
        16 => ("var_pop({0})".to_owned(), vec![argument], Compare::Variance(0)),
        17 => {
            let function = random.choose(&["stddev({0})", "stddev_samp({0})"]);
            ((*function).to_owned(), vec![argument], Compare::Deviation(1))
        }
        18 => ("stddev_pop({0})".to_owned(), vec![argument], Compare::Deviation(0)),
        19 => {
            // A weight of lower rank, mostly.
            let coordinates = tables.coordinates();
            let is_number = |kind: &Kind| matches!(kind, Kind::Integer | Kind::Float);
            let of: Vec<_> = coordinates.into_iter().filter(|(_, kind)| is_number(kind)).collect();
            let angle = match of.is_empty() || random.one_in(5) {
                true => second,
                false => random.choose(&of).0.clone(),
            };
            let weight = format!("abs(cos(CAST({angle} AS DOUBLE)))");
            ("weighted_avg({0}, {1})".to_owned(), vec![number, weight], Compare::WeightedMean)
        }
        // What nothing is known about, or what isn't pushed down.
        _ => match random.below(11) {
            0..=1 => ("median({0})".to_owned(), vec![number], Compare::Exact),
            2 if !tables.infinite => (
                "approx_percentile_cont(0.3) WITHIN GROUP (ORDER BY {0})".to_owned(),
                vec![format!("CAST({number} AS DOUBLE)")],
                Compare::Between,
            ),
            3 => ("corr({0}, {1})".to_owned(), vec![number, second], Compare::Correlation),
            4 => ("covar_samp({0}, {1})".to_owned(), vec![number, second], Compare::Covariance(1)),
            5 => ("covar_pop({0}, {1})".to_owned(), vec![number, second], Compare::Covariance(0)),
            6 => ("sum(DISTINCT {0})".to_owned(), vec![number], Compare::Sum),
            7 => ("bool_and({0} > 0)".to_owned(), vec![number], Compare::Exact),
            8 => ("array_agg({0})".to_owned(), vec![any], Compare::Sorted),
            9 => {
                // Rows that are alike in all keys have the same value too.
                let mut arguments = vec![number];
                arguments.extend(tables.store.dims.iter().cloned());
                let mut keys: Vec<String> = (1..arguments.len())
                    .map(|place| format!("{{{place}}} {}", direction(random)))
                    .collect();
                // DataFusion's accumulator panics on a key that is there twice.
                if !arguments[1..].contains(&arguments[0]) {
                    keys.push("{0}".to_owned());
                }
                (
                    format!("first_value({{0}} ORDER BY {})", keys.join(", ")),
                    arguments,
                    Compare::Exact,
                )
            }
            _ => ("count(DISTINCT {0})".to_owned(), vec![any], Compare::Exact),
        },
    };
    let filter = random.one_in(6).then(|| predicate(random, columns, 1));
    Aggregate { template, arguments, filter, compare, ordered }
}

fn random_query(random: &mut Random, tables: &Tables, mix: Mix) -> Query {
    let store = &tables.store;
    let mut keys: Vec<Key> = Vec::new();
    for _ in 0..*random.choose(&[0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4]) {
        let key = match mix {
            Mix::Statistics if random.one_in(4) => random_cell_key(random, tables),
            _ => random_key(random, tables),
        };
        if keys.iter().all(|other| other.sql != key.sql) {
            keys.push(key);
        }
    }
    let mut form = match random.below(20) {
        0..=1 => Form::Projected,
        2 => Form::OverUnion,
        3 => Form::UnionOf,
        4..=5 => Form::Joined,
        6..=7 => Form::Distinct,
        8 => Form::Rollup,
        9 => Form::Cube,
        10 => Form::Sets,
        _ => Form::Plain,
    };
    let has_sets = matches!(form, Form::Rollup | Form::Cube | Form::Sets);
    let needs_keys = has_sets || matches!(form, Form::Joined | Form::Distinct);
    if (needs_keys && keys.is_empty()) || (has_sets && keys.iter().any(|key| !key.is_column)) {
        form = Form::Plain;
    }
    let mut aggregates = Vec::new();
    if form != Form::Distinct {
        for _ in 0..1 + random.below(3) + random.below(3) {
            aggregates.push(match mix {
                Mix::Statistics if !random.one_in(4) => random_statistic(random, tables),
                _ => random_aggregate(random, tables),
            });
        }
    }
    let column = random.choose(&store.columns).clone();
    let filter = match random.below(10) {
        0..=3 => None,
        4 => Some(match column.1 {
            Kind::Text => format!("{} = 'nothing'", column.0),
            Kind::Time => format!("{} > '2100-01-01'", column.0),
            _ => format!("{} > 1000000", column.0),
        }),
        5 => Some(format!("{0} = (SELECT max({0}) FROM {{}})", column.0)),
        6 => Some(leaf(random, &column)),
        _ => Some(predicate(random, &store.columns, 2)),
    };
    let on_columns = matches!(form, Form::Plain | Form::OverUnion | Form::UnionOf | Form::Joined);
    let having = (on_columns && random.one_in(5)).then(|| {
        let (name, kind) = random.choose(&store.columns).clone();
        match random.below(3) {
            0 => format!("count(*) > {}", random.below(20)),
            1 => format!("count({name}) <= {}", random.below(20)),
            _ => leaf(random, &(format!("max({name})"), kind)),
        }
    });
    let may_limit =
        matches!(form, Form::Plain | Form::OverUnion | Form::Projected | Form::Distinct);
    let order = (may_limit && random.one_in(4)).then(|| {
        // The keys tell all rows apart, so the order is total.
        let mut by: Vec<String> = Vec::new();
        let aggregates = aggregates.iter().enumerate();
        for (number, _) in aggregates.filter(|(_, aggregate)| aggregate.ordered) {
            if random.one_in(2) {
                by.push(format!("a{number} {}", direction(random)));
            }
        }
        for number in 0..keys.len() {
            by.push(format!("k{number} {}", direction(random)));
        }
        let limit = 1 + random.below(12);
        if by.is_empty() {
            format!(" LIMIT {limit}")
        } else {
            format!(" ORDER BY {} LIMIT {limit}", by.join(", "))
        }
    });
    let positions = on_columns && form != Form::UnionOf && random.one_in(3);
    Query { form, keys, aggregates, filter, having, order, positions, column: column.0 }
}

/// A value of a result. JSON has no infinities.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Null,
    Float(f64),
    Other(String),
}

impl Cell {
    /// The two zeros have the same.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Null => "NULL".to_owned(),
            Self::Float(value) => format!("{:?}", value + 0.0),
            Self::Other(text) => format!("'{text}'"),
        }
    }

    /// The numbers of a list.
    fn numbers(&self) -> Vec<f64> {
        self.items().iter().filter(|item| !item.is_empty()).map(|i| i.parse().unwrap()).collect()
    }

    fn items(&self) -> Vec<&str> {
        match self {
            Self::Other(text) => {
                text.trim_start_matches('[').trim_end_matches(']').split(", ").collect()
            }
            _ => Vec::new(),
        }
    }
}

pub(crate) fn cells(batches: &[RecordBatch]) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<Vec<Cell>> = batch.columns().iter().map(column).collect();
        rows.extend((0..batch.num_rows()).map(|r| columns.iter().map(|c| c[r].clone()).collect()));
    }
    rows
}

fn column(array: &ArrayRef) -> Vec<Cell> {
    let formatter = ArrayFormatter::try_new(array, &FormatOptions::default()).unwrap();
    let floats = array
        .data_type()
        .is_floating()
        .then(|| cast(array, &DataType::Float64).unwrap())
        .map(|floats| floats.as_primitive::<Float64Type>().clone());
    (0..array.len())
        .map(|row| match &floats {
            _ if array.is_null(row) => Cell::Null,
            Some(floats) => Cell::Float(floats.value(row)),
            None => Cell::Other(formatter.value(row).to_string()),
        })
        .collect()
}

/// Sums over values in plain loops.
struct Moments {
    number: f64,
    mean: f64,
    /// The sum of the squared deviations from the mean.
    deviations: f64,
    mean_square: f64,
}

impl Moments {
    fn new(values: &[f64]) -> Self {
        let number = values.len() as f64;
        let mean = values.iter().sum::<f64>() / number;
        let deviations = values.iter().map(|value| (value - mean).powi(2)).sum();
        let mean_square = values.iter().map(|value| value * value).sum::<f64>() / number;
        Self { number, mean, deviations, mean_square }
    }

    fn is_finite(&self) -> bool {
        self.deviations.is_finite() && self.mean_square.is_finite()
    }

    /// By how much the mean of the squares is larger than the variance: that many times the
    /// rounding is in what is computed from the squares.
    fn condition(&self) -> f64 {
        self.mean_square * self.number / self.deviations
    }
}

fn agree(compare: Compare, actual: &Cell, expected: &Cell, hidden: &[Cell]) -> bool {
    let values: Vec<Vec<f64>> = hidden.iter().map(Cell::numbers).collect();
    let moments: Vec<Moments> = values.iter().map(|values| Moments::new(values)).collect();
    if matches!(compare, Compare::Correlation | Compare::R2) {
        // Of values that are (nearly) the same, rounding decides: it may be NULL.
        let is_plain = |m: &Moments| m.is_finite() && m.number > 1.0 && m.condition() < 1e8;
        if !moments.iter().all(is_plain) {
            let is_null = |cell: &Cell| matches!(cell, Cell::Null);
            return values[0].len() > 1 || is_null(actual) == is_null(expected);
        }
    }
    let is_missing = |cell: &Cell| match cell {
        Cell::Null => true,
        Cell::Float(value) => value.is_nan(),
        Cell::Other(_) => false,
    };
    if compare == Compare::WeightedMean {
        return is_weighted_mean(actual, &values);
    }
    // Infinities have no variance: rounding decides whether it is NaN.
    if matches!(compare, Compare::Variance(_) | Compare::Deviation(_))
        && !moments[0].is_finite()
        && (is_missing(actual) || is_missing(expected))
    {
        return true;
    }
    let (actual, expected) = match (actual, expected) {
        // Results that are NaN are NULL.
        (Cell::Null, expected) if is_missing(expected) => return true,
        (Cell::Other(_), Cell::Other(_)) if compare == Compare::Sorted => {
            let (mut actual, mut expected) = (actual.items(), expected.items());
            actual.sort_unstable();
            expected.sort_unstable();
            return actual == expected;
        }
        (Cell::Other(actual), Cell::Other(expected)) => return actual == expected,
        (Cell::Float(actual), Cell::Float(expected)) => (*actual, *expected),
        _ => return false,
    };
    let same = actual == expected;
    let near = |reference: f64, tolerance: f64| (actual - reference).abs() <= tolerance;
    match compare {
        // DataFusion's grouped minimum starts at the greatest finite number, and so never becomes +∞.
        Compare::Exact | Compare::Sorted => same || is_bound(actual, expected),
        Compare::Sum | Compare::Mean => {
            let scale: f64 = values[0].iter().map(|value| value.abs()).sum();
            let number = if compare == Compare::Mean { values[0].len() as f64 } else { 1.0 };
            // Infinities and NaN add up to the same in any order.
            same || (scale.is_finite() && near(expected, 1e-12 * scale / number))
        }
        Compare::Variance(less) | Compare::Deviation(less) => {
            if !moments[0].is_finite() {
                return true;
            }
            let reference = moments[0].deviations / (moments[0].number - less as f64);
            // The second part is what rounding leaves of values that are all alike.
            let tolerance = 1e-9 * reference + 1e-13 * moments[0].mean_square;
            if compare == Compare::Variance(less) {
                near(reference, tolerance)
            } else {
                actual >= 0.0 && (actual * actual - reference).abs() <= tolerance
            }
        }
        Compare::PairMean(side) => {
            let scale = moments[side].mean_square.sqrt();
            // Infinities add up to the same in any order.
            same || !scale.is_finite() || near(expected, 1e-11 * scale)
        }
        Compare::Covariance(_) | Compare::Correlation | Compare::R2 | Compare::Products => {
            let [x, y] = &moments[..] else { return false };
            if !x.is_finite() || !y.is_finite() {
                return true;
            }
            let pairs = values[0].iter().zip(&values[1]);
            let product: f64 = pairs.map(|(a, b)| (a - x.mean) * (b - y.mean)).sum();
            let scale = (x.mean_square * y.mean_square).sqrt();
            let slack = 1e-9 + 1e-11 * (x.condition() + y.condition());
            let correlation = product / (x.deviations * y.deviations).sqrt();
            match compare {
                Compare::Covariance(less) => {
                    let reference = product / (x.number - less as f64);
                    near(reference, 1e-9 * reference.abs() + 1e-11 * scale)
                }
                Compare::Products => near(product, 1e-9 * product.abs() + 1e-11 * scale * x.number),
                Compare::R2 => near(correlation * correlation, 2.0 * slack),
                _ => near(correlation, slack),
            }
        }
        // Compared above, with what the test adds up itself.
        Compare::WeightedMean => false,
        Compare::Between => {
            let least = values[0].iter().copied().fold(f64::INFINITY, f64::min);
            let largest = values[0].iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let slack = 1e-6 * least.abs().max(largest.abs());
            actual >= least - slack && actual <= largest + slack
        }
    }
}

/// Whether a cell is the mean of some values, weighted by others that are 0 or more.
fn is_weighted_mean(actual: &Cell, values: &[Vec<f64>]) -> bool {
    let [values, weights] = values else { return false };
    let total: f64 = weights.iter().sum();
    let products: Vec<f64> = values.iter().zip(weights).map(|(v, w)| v * w).collect();
    let scale: f64 = products.iter().map(|product| product.abs()).sum();
    let missing = match actual {
        Cell::Null => true,
        Cell::Float(actual) if scale.is_finite() && total > 0.0 => {
            let expected = products.iter().sum::<f64>() / total;
            return (actual - expected).abs() <= 1e-12 * scale / total;
        }
        // Infinities are what they add up to in any order.
        Cell::Float(actual) => {
            let expected = products.iter().sum::<f64>() / total;
            return *actual == expected || !scale.is_finite() && expected.is_finite();
        }
        Cell::Other(_) => false,
    };
    // Nothing, weights of 0, or infinities of both signs.
    missing && (total == 0.0 || !(products.iter().sum::<f64>() / total).is_finite())
}

/// What is wrong with the rows, if anything is.
fn difference(query: &Query, actual: &[Vec<Cell>], expected: &[Vec<Cell>]) -> Option<String> {
    if actual.len() != expected.len() {
        return Some(format!("{} rows instead of {}", actual.len(), expected.len()));
    }
    let keys = query.key_columns();
    let key = |row: &Vec<Cell>| row[..keys].iter().map(Cell::text).collect::<Vec<String>>();
    let (mut actual, mut expected) = (actual.to_vec(), expected.to_vec());
    if query.order.is_none() {
        actual.sort_by_cached_key(key);
        expected.sort_by_cached_key(key);
    }
    for (actual, expected) in actual.iter().zip(&expected) {
        if key(actual) != key(expected) {
            return Some(format!("keys {:?} instead of {:?}", key(actual), key(expected)));
        }
        let mut hidden = &expected[keys + query.aggregates.len()..];
        for (number, aggregate) in query.aggregates.iter().enumerate() {
            let (own, others) = hidden.split_at(aggregate.hidden().len());
            hidden = others;
            let (a, e) = (&actual[keys + number], &expected[keys + number]);
            if !agree(aggregate.compare, a, e, own) {
                let own: String = format!("{own:?}").chars().take(2000).collect();
                return Some(format!(
                    "{} is {} instead of {} for {:?}, {:?} of {own}",
                    aggregate.call(),
                    a.text(),
                    e.text(),
                    key(expected),
                    aggregate.compare,
                ));
            }
        }
    }
    None
}

pub(crate) fn shown(rows: &[Vec<Cell>], columns: usize) -> String {
    let mut lines = String::new();
    for row in rows.iter().take(60) {
        let cells: Vec<String> = row.iter().take(columns).map(Cell::text).collect();
        writeln!(lines, "  {}", cells.join(", ")).unwrap();
    }
    if rows.len() > 60 {
        writeln!(lines, "  and {} more", rows.len() - 60).unwrap();
    }
    lines
}

struct Ran {
    rows: Vec<Vec<Cell>>,
    types: Vec<DataType>,
    plan: String,
}

async fn run(ctx: &SessionContext, sql: &str) -> Result<Ran> {
    let frame = frame(ctx, sql).await?;
    let task = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await?;
    let text = displayable(plan.as_ref()).indent(false).to_string();
    let types: Vec<DataType> =
        plan.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    let batches = collect(plan, task).await?;
    for batch in &batches {
        for (array, data_type) in batch.columns().iter().zip(&types) {
            assert!(same_type(array.data_type(), data_type), "{sql}\n{text}");
        }
    }
    Ok(Ran { rows: cells(&batches), types, plan: text })
}

/// Whether one is infinite, and the other the last finite number before it.
fn is_bound(infinite: f64, finite: f64) -> bool {
    let is_last = [f64::from(f32::MAX), f64::MAX].contains(&finite.abs());
    infinite.is_infinite() && is_last && infinite.signum() == finite.signum()
}

/// The fields in lists have metadata, which mean nothing here. Arithmetic on integers is widened for
/// Zarr's columns and not for those in memory.
fn same_type(one: &DataType, other: &DataType) -> bool {
    let exact = |t: &DataType| t.is_integer() || t.is_decimal();
    one == other || (one.is_nested() && other.is_nested()) || (exact(one) && exact(other))
}

/// What came of queries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) queries: usize,
    pub(crate) pushed: usize,
    pub(crate) failed: usize,
}

fn random_config(random: &mut Random, pushdown: bool) -> SessionConfig {
    let batch_size = if random.one_in(5) { 8192 } else { 1 + random.below(40) as usize };
    let mut config =
        config().with_target_partitions(1 + random.below(5) as usize).with_batch_size(batch_size);
    let options = config.options_mut();
    options.optimizer.repartition_file_min_size = 0;
    options.execution.enable_file_stream_work_stealing = !random.one_in(4);
    let settings = options.extensions.get_mut::<LsioConfig>().unwrap();
    settings.tile_bytes = *random.choose(&[0, 40, 2 << 20]);
    settings.coordinate_memory = *random.choose(&[0, 64 << 20]);
    settings.aggregate_pushdown = pushdown;
    // Values that don't fit are read in several passes.
    settings.values_memory = *random.choose(&[0, 100, 2000]);
    config
}

/// Makes the cells of a store a table in memory, from a scan that leaves nothing out. Integers are as
/// wide as Zarr's become in arithmetic.
pub(crate) async fn load(plain: &SessionContext, name: &str, table: &str) {
    let all = frame(plain, &format!("SELECT * FROM {table}")).await.unwrap();
    let columns = all.schema().fields().iter().map(|field| {
        let name = field.name();
        let narrow = field.data_type().primitive_width().is_some_and(|width| width < 8);
        match field.data_type().is_integer() && narrow {
            true => format!("CAST({name} AS BIGINT) AS {name}"),
            false => name.clone(),
        }
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    let frame = frame(plain, &format!("SELECT {columns} FROM {table}")).await.unwrap();
    let schema = Arc::clone(frame.schema().inner());
    let cells = frame.collect().await.unwrap();
    let memory = MemTable::try_new(schema, vec![cells]).unwrap();
    plain.register_table(name, Arc::new(memory)).unwrap();
}

async fn try_store(seed: u64, mix: Mix) -> Counts {
    let mut random = Random(seed);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.zarr");
    let mut config = config().with_target_partitions(1);
    config.options_mut().optimizer.enable_topk_aggregation = false;
    let plain = session(config);
    let table = format!("'{}'", path.to_string_lossy());
    let (tables, other_table) = if seed.is_multiple_of(2) {
        let store = write(&mut random, &path);
        (Tables { store, infinite: false, wide: false }, table.clone())
    } else {
        let other = directory.path().join("other.zarr");
        let shape = random.next();
        write_long(&mut Random(shape), &mut random, &other);
        let tables = write_long(&mut Random(shape), &mut random, &path);
        (tables, format!("'{}'", other.to_string_lossy()))
    };
    load(&plain, "plain", &table).await;
    load(&plain, "other", &other_table).await;

    let mut counts = Counts::default();
    for _ in 0..12 {
        let query = random_query(&mut random, &tables, mix);
        let sql = unmarked(&query.sql(false));
        let sql = sql.replace("{other}", &other_table).replace("{}", &table);
        let reference = without_nan(&query.sql(true).replace("{other}", "other"));
        let reference = reference.replace("{}", "plain");
        let expected = run(&plain, &reference).await;
        let pushdowns: &[bool] = if random.one_in(4) { &[true, false] } else { &[true] };
        for &pushdown in pushdowns {
            let ctx = session(random_config(&mut random, pushdown));
            let actual = run(&ctx, &sql).await;
            let at = format!("LSIO_RANDOM_SEED={seed}, pushdown {pushdown}: {sql}");
            counts.queries += usize::from(pushdown);
            match (&actual, &expected) {
                (Ok(actual), Ok(expected)) => {
                    let is_pushed = actual.plan.contains("ZarrAggregateExec");
                    assert!(pushdown || !is_pushed, "{at}\n{}", actual.plan);
                    counts.pushed += usize::from(is_pushed);
                    let columns = query.key_columns() + query.aggregates.len();
                    let types = actual.types.iter().zip(&expected.types[..columns]);
                    let wrong = if actual.types.len() != columns {
                        Some(format!("{} columns", actual.types.len()))
                    } else if !types.clone().all(|(a, e)| same_type(a, e)) {
                        Some(format!("types: {:?}", types.collect::<Vec<_>>()))
                    } else {
                        difference(&query, &actual.rows, &expected.rows)
                    };
                    if let Some(wrong) = wrong {
                        panic!(
                            "{at}\n{wrong}\n{}gave\n{}instead of\n{}",
                            actual.plan,
                            shown(&actual.rows, columns),
                            shown(&expected.rows, columns),
                        );
                    }
                }
                (Err(error), Err(_)) => {
                    // Shown when a test fails, with the share of those that failed.
                    println!("{at}: {error}");
                    counts.failed += usize::from(pushdown);
                }
                // DataFusion leaves casts out of names, so different columns may get the same one.
                (Err(error), _) | (_, Err(error))
                    if error.to_string().contains("duplicate unqualified field name") =>
                {
                    counts.failed += usize::from(pushdown);
                }
                (Err(error), Ok(_)) => panic!("{at}: {error}"),
                (Ok(actual), Err(error)) => {
                    panic!("{at}: only in memory: {error}\n{}", actual.plan)
                }
            }
        }
    }
    counts
}

#[test]
fn aggregates_are_those_of_the_cells_in_memory() {
    try_stores(STORES, Mix::Everyday);
}

/// Tries stores with aggregates of a mix.
pub(crate) fn try_stores(stores: u64, mix: Mix) {
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("LSIO_RANDOM_SEED") {
        println!("{:?}", in_parallel(seed..seed + 1, move |seed| try_store(seed, mix).boxed()));
        return;
    }
    let stores = number("LSIO_RANDOM_STORES").unwrap_or_else(|| share(stores));
    let mut total = Counts::default();
    for counts in in_parallel(0..stores, move |seed| try_store(seed, mix).boxed()) {
        total.queries += counts.queries;
        total.pushed += counts.pushed;
        total.failed += counts.failed;
    }
    // Otherwise the queries above tested something else.
    println!("{total:?}");
    assert!(total.pushed * 3 > total.queries, "{total:?}");
    assert!(total.failed * 10 <= total.queries, "{total:?}");
}
