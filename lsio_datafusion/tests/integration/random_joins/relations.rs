//! Random joins: what stands behind FROM, in all spellings.

use super::stores::{Column, Store};
use crate::random_queries::{Kind, Random, leaf};

/// Placeholders of the three stores' tables.
pub(super) const TABLES: [&str; 3] = ["{A}", "{B}", "{C}"];

/// What a query reads.
pub(super) struct Relation {
    /// What stands before SELECT.
    pub with: String,
    pub from: String,
    pub filters: Vec<String>,
    /// Columns, as the query may name them.
    pub columns: Vec<Column>,
}

/// A store under a name in a query.
struct Side {
    sql: String,
    columns: Vec<Column>,
    alias: &'static str,
}

impl Side {
    /// The table as it is, or a subquery of it.
    fn new(random: &mut Random, stores: &[Store], number: usize, alias: &'static str) -> Self {
        let table = TABLES[number];
        let mut columns = stores[number].columns.clone();
        let mut sql = table.to_owned();
        if random.one_in(4) {
            // Fewer columns, in another order, of fewer rows.
            let first = random.below(columns.len() as u64) as usize;
            columns.rotate_left(first);
            if columns.len() > 2 && random.one_in(3) {
                columns.pop();
            }
            let mut filter = String::new();
            if random.one_in(3) {
                filter = format!(" WHERE {}", condition(random, &columns));
            }
            let mut names = Vec::new();
            for column in &mut columns {
                let sql = column.sql.clone();
                if sql.contains(' ') {
                    column.sql = "valid".to_owned();
                }
                names.push(format!("{sql} AS {}", column.sql));
            }
            sql = format!("(SELECT {} FROM {table}{filter})", names.join(", "));
        }
        Self { sql, columns, alias }
    }

    /// The columns behind this side's name.
    fn qualified(&self) -> Vec<Column> {
        let name = |column: &Column| match column.sql.split_once(" + ") {
            Some((one, other)) => format!("({0}.{one} + {0}.{other})", self.alias),
            None => format!("{}.{}", self.alias, column.sql),
        };
        self.columns.iter().map(|column| Column { sql: name(column), ..column.clone() }).collect()
    }

    fn source(&self) -> String {
        format!("{} {}", self.sql, self.alias)
    }
}

/// A condition on one of these columns.
pub(super) fn condition(random: &mut Random, columns: &[Column]) -> String {
    let column = random.choose(columns).clone();
    let known = format!("{} IS NOT NULL", column.sql);
    // Texts that are compared as times of a calendar are tested elsewhere.
    if column.is_calendar {
        return known;
    }
    let leaf = leaf(random, &(column.sql, column.kind));
    // In memory, a list compares bits: 0.0 isn't -0.0.
    if column.kind == Kind::Float && leaf.contains(" IN (") { known } else { leaf }
}

fn is_number(kind: Kind) -> bool {
    matches!(kind, Kind::Integer | Kind::Float)
}

fn comparable(one: &Column, other: &Column) -> bool {
    one.is_calendar == other.is_calendar
        && (one.kind == other.kind || (is_number(one.kind) && is_number(other.kind)))
}

/// Both are equal, in one of the ways to say so.
fn equality(random: &mut Random, one: &Column, other: &Column) -> String {
    let (mut l, mut r) = (one.sql.clone(), other.sql.clone());
    if let Some((start, lead)) = l.trim_matches(['(', ')']).split_once(" + ")
        && random.one_in(3)
    {
        // A forecast's time, from the other side: no key of a single table.
        return format!("{start} = {r} - {lead}");
    }
    let kinds = (one.kind, other.kind);
    if !random.one_in(3) || one.is_calendar {
        // As it stands, for the most part.
    } else if is_number(one.kind) {
        match random.below(6) {
            0 => l = format!("CAST({l} AS DOUBLE)"),
            1 => (l, r) = (format!("CAST({l} AS FLOAT)"), format!("CAST({r} AS FLOAT)")),
            2 => r = format!("{r} + 1"),
            3 => l = format!("{l} - 1"),
            4 => (l, r) = (format!("{l} * 2"), format!("{r} * 2")),
            _ if kinds == (Kind::Float, Kind::Float) => r = format!("-{r}"),
            _ => l = format!("abs({l})"),
        }
    } else if one.kind == Kind::Time {
        match random.below(6) {
            0 => r = format!("{r} + INTERVAL '20 day'"),
            1 => l = format!("{l} - INTERVAL '40 day'"),
            2 => (l, r) = (format!("CAST({l} AS DATE)"), format!("CAST({r} AS DATE)")),
            3 => r = format!("CAST({r} AS DATE)"),
            4 => {
                (l, r) = (format!("date_trunc('month', {l})"), format!("date_trunc('month', {r})"));
            }
            _ => (l, r) = (format!("date_part('month', {l})"), format!("date_part('month', {r})")),
        }
    } else {
        match random.below(2) {
            0 => (l, r) = (format!("upper({l})"), format!("upper({r})")),
            _ => (l, r) = (format!("{l} || '!'"), format!("concat({r}, '!')")),
        }
    }
    if random.one_in(3) {
        (l, r) = (r, l);
    }
    if random.one_in(10) { format!("({l} IS NOT DISTINCT FROM {r})") } else { format!("{l} = {r}") }
}

/// Keys: the dimensions that both have, now and then one less, or one that isn't unique.
fn keys(random: &mut Random, left: &[Column], right: &[Column]) -> Vec<String> {
    let mut keys = Vec::new();
    for one in left {
        for other in right.iter().filter(|other| one.dim.is_some() && one.dim == other.dim) {
            if comparable(one, other) {
                keys.push(equality(random, one, other));
            }
        }
    }
    if keys.len() > 1 && random.one_in(5) {
        keys.swap_remove(random.below(keys.len() as u64) as usize);
    }
    if keys.is_empty() || random.one_in(12) {
        let (one, other) = (random.choose(left), random.choose(right));
        if comparable(one, other) {
            keys.push(equality(random, one, other));
        }
    }
    for i in (1..keys.len()).rev() {
        keys.swap(i, random.below(i as u64 + 1) as usize);
    }
    keys
}

/// A condition beyond the keys: of one side, or of both.
fn residual(random: &mut Random, left: &[Column], right: &[Column]) -> String {
    let numbers = |columns: &[Column]| -> Vec<Column> {
        columns.iter().filter(|column| is_number(column.kind)).cloned().collect()
    };
    let (l, r) = (numbers(left), numbers(right));
    if !l.is_empty() && !r.is_empty() && random.one_in(2) {
        let (l, r) = (&random.choose(&l).sql, &random.choose(&r).sql);
        return match random.below(5) {
            0 => format!("{l} + {r} > 2"),
            1 => format!("({l} > {r} OR {l} IS NULL)"),
            2 => format!("abs({l} - {r}) <= 1"),
            3 => format!("{l} <> {r}"),
            _ => format!("{l} < {r}"),
        };
    }
    let of = if random.one_in(2) { left } else { right };
    condition(random, of)
}

/// What stands behind ON.
fn on(random: &mut Random, left: &[Column], right: &[Column]) -> String {
    let mut all = keys(random, left, right);
    if random.one_in(4) {
        all.push(residual(random, left, right));
    }
    if all.is_empty() { "true".to_owned() } else { all.join(" AND ") }
}

fn join_type(random: &mut Random) -> &'static str {
    let types = ["JOIN", "INNER JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"];
    types[random.below(types.len() as u64) as usize]
}

pub(super) fn relation(random: &mut Random, stores: &[Store]) -> Relation {
    let (first, second) = if random.one_in(4) { (1, 0) } else { (0, 1) };
    // A store with itself.
    let second = if random.one_in(10) { first } else { second };
    let left = Side::new(random, stores, first, "l");
    let right = Side::new(random, stores, second, "r");
    let (l, r) = (left.qualified(), right.qualified());
    let both = || l.iter().chain(&r).cloned().collect::<Vec<_>>();
    let mut relation =
        Relation { with: String::new(), from: left.source(), filters: Vec::new(), columns: both() };
    match random.below(30) {
        0..=8 => {
            let kind = join_type(random);
            relation.from =
                format!("{} {kind} {} ON {}", left.source(), right.source(), on(random, &l, &r));
        }
        9..=11 => using(random, &left, &right, &mut relation),
        12..=13 => {
            relation.from = format!("{}, {}", left.source(), right.source());
            relation.filters = keys(random, &l, &r);
        }
        14 => {
            let (columns, kind) = *random.choose(&[
                (&l, "LEFT SEMI JOIN"),
                (&l, "LEFT ANTI JOIN"),
                (&r, "RIGHT SEMI JOIN"),
                (&r, "RIGHT ANTI JOIN"),
            ]);
            relation.columns = columns.clone();
            relation.from =
                format!("{} {kind} {} ON {}", left.source(), right.source(), on(random, &l, &r));
        }
        15..=18 => subquery(random, &left, &right, &mut relation),
        19 => {
            let kind = join_type(random);
            relation.with = format!(
                "WITH l AS (SELECT * FROM {}), r AS (SELECT * FROM {}) ",
                left.source(),
                right.source()
            );
            relation.from = format!("l {kind} r ON {}", on(random, &l, &r));
        }
        20..=21 => lateral(random, &left, &right, &mut relation),
        22..=24 => aggregated(random, &left, &right, &mut relation),
        25..=26 => listed(random, &left, &mut relation),
        _ => {
            // Three tables, in a chain.
            let third = if random.one_in(6) { random.below(2) as usize } else { 2 };
            let last = Side::new(random, stores, third, "m");
            let m = last.qualified();
            let (one, two) = (join_type(random), join_type(random));
            let between = on(random, &l, &r);
            let to = if random.one_in(2) { &l } else { &r };
            relation.from = format!(
                "{} {one} {} ON {between} {two} {} ON {}",
                left.source(),
                right.source(),
                last.source(),
                on(random, to, &m)
            );
            relation.columns.extend(m);
        }
    }
    relation
}

/// USING and NATURAL.
fn using(random: &mut Random, left: &Side, right: &Side, relation: &mut Relation) {
    let kind = join_type(random);
    let common: Vec<&Column> = left
        .columns
        .iter()
        .filter(|one| right.columns.iter().any(|two| one.sql == two.sql && comparable(one, two)))
        .collect();
    let names: Vec<String> = common.iter().map(|column| column.sql.clone()).collect();
    // What is left of both, and keys without a side.
    let is_common = |column: &Column| names.iter().any(|name| column.sql[2..] == **name);
    relation.columns.retain(|column| !is_common(column));
    relation.columns.extend(common.into_iter().cloned());
    relation.from = match random.below(3) {
        0 => format!("{} NATURAL {kind} {}", left.source(), right.source()),
        _ if names.is_empty() => format!("{} CROSS JOIN {}", left.source(), right.source()),
        _ => format!("{} {kind} {} USING ({})", left.source(), right.source(), names.join(", ")),
    };
}

/// EXISTS, IN, and a single value for each row.
fn subquery(random: &mut Random, left: &Side, right: &Side, relation: &mut Relation) {
    let (l, r) = (left.qualified(), right.qualified());
    relation.columns.clone_from(&l);
    let not = if random.one_in(2) { "NOT " } else { "" };
    let pairs: Vec<(&Column, &Column)> = l
        .iter()
        .flat_map(|one| r.iter().map(move |other| (one, other)))
        .filter(|(one, other)| one.dim.is_some() && one.dim == other.dim && comparable(one, other))
        .collect();
    let source = right.source();
    let filter = match random.below(10) {
        0..=2 => format!("{not}EXISTS (SELECT 1 FROM {source} WHERE {})", on(random, &l, &r)),
        3..=4 if !pairs.is_empty() => {
            let (one, other) = random.choose(&pairs);
            let rest = if random.one_in(2) { condition(random, &r) } else { "true".to_owned() };
            format!("{} {not}IN (SELECT {} FROM {source} WHERE {rest})", one.sql, other.sql)
        }
        5 => format!(
            "({not}EXISTS (SELECT 1 FROM {source} WHERE {}) OR {})",
            on(random, &l, &r),
            condition(random, &l)
        ),
        6 if !pairs.is_empty() => {
            let (one, other) = random.choose(&pairs);
            format!(
                "({} {not}IN (SELECT {} FROM {source}) OR {})",
                one.sql,
                other.sql,
                condition(random, &l)
            )
        }
        7 if !pairs.is_empty() => {
            let (one, other) = random.choose(&pairs);
            let function = random.choose(&["max", "min"]);
            format!("{} = (SELECT {function}({}) FROM {source})", one.sql, other.sql)
        }
        _ => {
            let numbers: Vec<&Column> = r.iter().filter(|column| is_number(column.kind)).collect();
            let (Some(of), of_left) = (
                numbers.last(),
                l.iter()
                    .filter(|column| is_number(column.kind))
                    .map(|column| &column.sql)
                    .next_back(),
            ) else {
                return;
            };
            let function = random.choose(&["avg", "sum", "count"]);
            let keys = keys(random, &l, &r).join(" AND ");
            let filter = if keys.is_empty() { keys } else { format!(" WHERE {keys}") };
            let value = format!("(SELECT {function}({}) FROM {source}{filter})", of.sql);
            match of_left {
                Some(name) if random.one_in(2) => format!("{name} <= {value}"),
                _ => {
                    let column = Column::new(&value, Kind::Float);
                    relation.columns.push(column);
                    return;
                }
            }
        }
    };
    relation.filters.push(filter);
}

fn lateral(random: &mut Random, left: &Side, right: &Side, relation: &mut Relation) {
    let (l, r) = (left.qualified(), right.qualified());
    let names: Vec<String> = r
        .iter()
        .enumerate()
        .map(|(number, column)| format!("{} AS c{number}", column.sql))
        .collect();
    let filter = on(random, &l, &r);
    let of = format!("(SELECT {} FROM {} WHERE {filter}) q", names.join(", "), right.source());
    relation.from = match random.below(3) {
        0 => format!("{} LEFT JOIN LATERAL {of} ON true", left.source()),
        1 => format!("{}, LATERAL {of}", left.source()),
        _ => format!("{} CROSS JOIN LATERAL {of}", left.source()),
    };
    let named = r.iter().enumerate();
    let named = named.map(|(number, c)| Column { sql: format!("q.c{number}"), ..c.clone() });
    relation.columns = l.into_iter().chain(named).collect();
}

/// A join with the means of groups: a climatology.
fn aggregated(random: &mut Random, left: &Side, right: &Side, relation: &mut Relation) {
    let l = left.qualified();
    let numbers: Vec<&Column> =
        right.columns.iter().filter(|column| is_number(column.kind)).collect();
    let Some(of) = numbers.last() else { return };
    let (mut groups, mut ons) = (Vec::new(), Vec::new());
    for one in &l {
        let is_same =
            |other: &&Column| one.dim.is_some() && one.dim == other.dim && comparable(one, other);
        let Some(other) = right.columns.iter().find(is_same) else { continue };
        if random.one_in(5) {
            continue;
        }
        let transform = |sql: &str, pick: u64| match (one.kind, pick) {
            (Kind::Time, 0 | 1) => format!("date_part('month', {sql})"),
            (Kind::Time, 2) => format!("date_trunc('month', {sql})"),
            (Kind::Float | Kind::Integer, 0) => format!("floor({sql} / 2.0)"),
            _ => sql.to_owned(),
        };
        let pick = if one.is_calendar { 9 } else { random.below(6) };
        let name = format!("k{}", groups.len());
        ons.push(format!("{} = c.{name}", transform(&one.sql, pick)));
        groups.push(format!("{} AS {name}", transform(&other.sql, pick)));
    }
    let function = random.choose(&["avg", "avg", "sum", "count"]);
    let by: Vec<String> = (1..=groups.len()).map(|number| number.to_string()).collect();
    let group = if by.is_empty() { String::new() } else { format!(" GROUP BY {}", by.join(", ")) };
    groups.push(format!("{function}({}) AS mean", of.sql));
    let clim = format!("SELECT {} FROM {}{group}", groups.join(", "), right.source());
    let kind = *random.choose(&["JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
    let ons = if ons.is_empty() { "true".to_owned() } else { ons.join(" AND ") };
    if random.one_in(3) {
        relation.with = format!("WITH c AS ({clim}) ");
        relation.from = format!("{} {kind} c ON {ons}", left.source());
    } else {
        relation.from = format!("{} {kind} ({clim}) c ON {ons}", left.source());
    }
    relation.columns = l;
    let number = relation.columns.iter().rev().find(|column| is_number(column.kind));
    if let Some(anomaly) = number.map(|column| format!("({} - c.mean)", column.sql)) {
        relation.columns.push(Column::new(&anomaly, Kind::Float));
    }
    relation.columns.push(Column::new("c.mean", Kind::Float));
}

/// A join with a list, a file, or a table in memory.
fn listed(random: &mut Random, left: &Side, relation: &mut Relation) {
    let l = left.qualified();
    let keys: Vec<&Column> = l.iter().filter(|c| c.dim.is_some() && !c.is_calendar).collect();
    relation.columns.clone_from(&l);
    if keys.is_empty() {
        return;
    }
    let one = *random.choose(&keys);
    let list = match one.kind {
        Kind::Time => {
            "(VALUES (TIMESTAMP '2019-01-21T00:00:00', 'p'), (TIMESTAMP '2019-03-02T00:00:00', 'q'))"
        }
        Kind::Text => "(VALUES ('s1', 'p'), ('s2', 'q'), (NULL, 'r'))",
        _ if random.one_in(2) => "{CSV}",
        _ => *random.choose(&[
            "(VALUES (1, 'p'), (2, 'q'), (7, 'r'))",
            "(VALUES (0.0, 'p'), (0.5, 'q'), (1.0, 'q'))",
            "(VALUES (1, 'p'), (1, 'q'), (NULL, 'r'))",
        ]),
    };
    let kind = join_type(random);
    let (key, label) = if list == "{CSV}" { ("v.k", "v.n") } else { ("v.column1", "v.column2") };
    relation.from = format!("{} {kind} {list} v ON {} = {key}", left.source(), one.sql);
    relation.columns.push(Column::new(label, Kind::Text));
}
