//! Random queries over random joins: what stands around FROM.

use super::{
    relations::{Relation, condition, relation},
    stores::{Column, Store},
};
use crate::random_queries::{Kind, Random, direction};

/// A query with placeholders of its tables.
pub(super) struct Query {
    pub sql: String,
    /// Whether the order of its rows matters.
    pub ordered: bool,
    /// Columns at the end that rounding may change.
    pub approximate: usize,
}

/// A random query. Of NaN, no extremes are asked for: which is the least depends on the order of rows.
pub(super) fn query(random: &mut Random, stores: &[Store], nan: bool) -> Query {
    let mut relation = relation(random, stores);
    if random.one_in(4) {
        let columns = relation.columns.clone();
        relation.filters.push(condition(random, &columns));
    }
    let columns = relation.columns.clone();
    let mixed = mixed(random, &columns);
    let rows = |sql| Query { sql, ordered: false, approximate: 0 };
    match random.below(14) {
        0 => rows(relation.select("count(*)", "")),
        1 if !relation.from.contains("SELECT") => rows(relation.select("*", "")),
        2 => {
            // A filter of both sides, above the join.
            let list = format!("{}, {mixed} AS d", list(random, &columns));
            let inner = relation.select(&list, "");
            let test = random.choose(&["d > 1", "d IS NULL", "d <= 0 OR d IS NULL", "d = 0"]);
            rows(with_outside(&inner, &relation.with, |inner| {
                format!("SELECT * FROM ({inner}) f WHERE {test}")
            }))
        }
        3 => {
            let limit = random.below(20);
            let list = if random.one_in(2) { all(&columns) } else { as_they_are(&columns) };
            // Rows that are alike in all columns are the same.
            let mut keys: Vec<String> = columns.iter().map(|c| c.sql.clone()).collect();
            keys.rotate_left(limit as usize % columns.len());
            keys.iter_mut().for_each(|key| *key = format!("{key} {}", direction(random)));
            let keys = keys.join(", ");
            let rest = format!(" ORDER BY {keys} LIMIT {limit}");
            Query { ordered: true, ..rows(relation.select(&list, &rest)) }
        }
        4 => {
            let limit = random.below(30);
            let inner = relation.select(&list(random, &columns), &format!(" LIMIT {limit}"));
            rows(with_outside(&inner, &relation.with, |inner| {
                format!("SELECT count(*) FROM ({inner}) f")
            }))
        }
        5 => rows(relation.select(&format!("DISTINCT {}", list(random, &columns)), "")),
        6 => {
            let picked = list(random, &columns);
            let one = relation.select(&picked, "");
            let filter = condition(random, &columns);
            relation.filters.push(filter);
            let other = relation.without_with(&picked, "");
            let kind = random.choose(&["UNION ALL", "INTERSECT", "EXCEPT", "UNION"]);
            rows(format!("{one} {kind} {other}"))
        }
        7..=10 => aggregate(random, &relation, &mixed, nan),
        11 => rows(relation.select(&as_they_are(&columns), "")),
        _ => rows(relation.select(&format!("{}, {mixed} AS d", list(random, &columns)), "")),
    }
}

impl Relation {
    fn select(&self, list: &str, rest: &str) -> String {
        format!("{}{}", self.with, self.without_with(list, rest))
    }

    fn without_with(&self, list: &str, rest: &str) -> String {
        let filters = self.filters.join(" AND ");
        let filters = if filters.is_empty() { filters } else { format!(" WHERE {filters}") };
        format!("SELECT {list} FROM {}{filters}{rest}", self.from)
    }
}

/// A query around another, whose WITH stays in front.
fn with_outside(inner: &str, with: &str, outer: impl Fn(&str) -> String) -> String {
    format!("{with}{}", outer(&inner[with.len()..]))
}

fn aggregate(random: &mut Random, relation: &Relation, mixed: &str, nan: bool) -> Query {
    let columns = &relation.columns;
    let mut groups: Vec<String> = Vec::new();
    for _ in 0..random.below(3) {
        let column = random.choose(columns);
        let group = match column.kind {
            Kind::Time if random.one_in(2) => format!("date_part('month', {})", column.sql),
            _ => column.sql.clone(),
        };
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let mut list: Vec<String> =
        groups.iter().enumerate().map(|(number, group)| format!("{group} AS k{number}")).collect();
    let any = &random.choose(columns).sql;
    list.push("count(*) AS n".to_owned());
    list.push(format!("count({any}) AS m"));
    list.push(format!("count({mixed}) AS o"));
    if !nan {
        list.push(format!("min({any}) AS low"));
        list.push(format!("max({mixed}) AS high"));
    }
    let approximate =
        [format!("avg(abs({mixed}))"), format!("sum({mixed})"), format!("stddev_pop({mixed})")];
    let approximate = &approximate[..1 + random.below(3) as usize];
    list.extend(
        approximate.iter().enumerate().map(|(number, call)| format!("{call} AS a{number}")),
    );
    let mut rest = String::new();
    if !groups.is_empty() {
        rest = format!(" GROUP BY {}", groups.join(", "));
        if random.one_in(5) {
            rest.push_str(" HAVING count(*) > 2");
        }
    }
    let approximate = approximate.len();
    Query { sql: relation.select(&list.join(", "), &rest), ordered: false, approximate }
}

/// A number that is made of columns of both sides, where there are any.
fn mixed(random: &mut Random, columns: &[Column]) -> String {
    let numbers: Vec<&Column> =
        columns.iter().filter(|c| matches!(c.kind, Kind::Integer | Kind::Float)).collect();
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
        return "1".to_owned();
    };
    let (one, other) = match random.one_in(2) {
        true => (first, last),
        false => (random.choose(&numbers), random.choose(&numbers)),
    };
    match random.below(4) {
        0 => format!("(CAST({} AS DOUBLE) * {})", one.sql, other.sql),
        1 => format!("coalesce({}, {})", one.sql, other.sql),
        _ => format!("({} - {})", one.sql, other.sql),
    }
}

/// Some of the columns.
fn list(random: &mut Random, columns: &[Column]) -> String {
    let mut picked: Vec<Column> = columns.iter().filter(|_| random.one_in(2)).cloned().collect();
    if picked.is_empty() {
        picked.push(random.choose(columns).clone());
    }
    all(&picked)
}

fn all(columns: &[Column]) -> String {
    let named = columns.iter().enumerate();
    let named: Vec<String> = named.map(|(number, c)| format!("{} AS o{number}", c.sql)).collect();
    named.join(", ")
}

/// Columns under their own names, which both sides may have.
fn as_they_are(columns: &[Column]) -> String {
    let names: Vec<&str> = columns.iter().map(|column| column.sql.as_str()).collect();
    names.join(", ")
}
