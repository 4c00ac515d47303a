//! Functions, operators and clauses × types: no query panics, and no message asks anybody to file a bug.

use std::{collections::BTreeMap, env, panic::AssertUnwindSafe, sync::Arc};

use datafusion::prelude::SessionContext;
use futures::FutureExt as _;

use crate::harness::{config, in_parallel, query, session, workspace};

/// Of so many queries one is asked; `LSIO_SWEEP=1` asks all, which takes an hour, `LSIO_SWEEP=37` minutes.
const STRIDE: usize = 601;

/// Names of functions that don't come back, or tell what changes.
const LEFT_OUT: [&str; 1] = ["sleep"];

/// Columns of the group `line`, and what can be made of them.
const LINE: [&str; 15] = [
    "flag",
    "int8",
    "int64",
    "uint8",
    "uint64",
    "float16",
    "float32",
    "float64",
    "text",
    "named_struct('a', int32, 'b', float64)",
    "[int32, 1]",
    "[float64]",
    "arrow_cast(text, 'Binary')",
    "arrow_cast(arrow_cast('ab', 'Binary'), 'FixedSizeBinary(2)')",
    "CAST(int16 AS DECIMAL(20, 3))",
];

/// The same of the group `times`.
const TIMES: [&str; 11] = [
    "step_s",
    "step_us",
    "step_ns",
    "time_s",
    "time_us",
    "time_ns",
    "cf_360_day",
    "cf_standard",
    "CAST(time_us AS DATE)",
    "CAST(cf_standard AS TIME)",
    "(time_us - time_us + INTERVAL '1 month')",
];

const LITERALS: [&str; 9] = [
    "2",
    "1.5",
    "'day'",
    "NULL",
    "TRUE",
    "INTERVAL '1 day'",
    "INTERVAL '1 month'",
    "TIMESTAMP '2000-01-01'",
    "[1, 2]",
];

/// The types of casts.
const CASTS: [&str; 20] = [
    "BOOLEAN",
    "TINYINT",
    "INT",
    "BIGINT",
    "BIGINT UNSIGNED",
    "REAL",
    "DOUBLE",
    "DECIMAL(10, 2)",
    "VARCHAR",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "INTERVAL",
    "BYTEA",
    "TIMESTAMP(0)",
    "Duration(s)",
    "Float16",
    "List(Int32)",
    "Interval(YearMonth)",
];

const OPERATORS: [&str; 27] = [
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "^",
    "**",
    "=",
    "<>",
    "<",
    ">=",
    "AND",
    "OR",
    "||",
    "&",
    "|",
    "#",
    "<<",
    ">>",
    "~",
    "!~*",
    "LIKE",
    "ILIKE",
    "IS DISTINCT FROM",
    "->",
    "@>",
];

/// Frames of windows.
const FRAMES: [&str; 9] = [
    "OVER ()",
    "OVER (ORDER BY i)",
    "OVER (ORDER BY {x})",
    "OVER (PARTITION BY {x} ORDER BY i)",
    "OVER (ORDER BY i ROWS 2 PRECEDING)",
    "OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)",
    "OVER (ORDER BY {x} RANGE BETWEEN 1 PRECEDING AND CURRENT ROW)",
    "OVER (ORDER BY {x} DESC RANGE BETWEEN INTERVAL '1 day' PRECEDING AND INTERVAL '1 hour' FOLLOWING)",
    "OVER (ORDER BY {x}, i GROUPS 1 PRECEDING)",
];

/// Clauses of a query of `{t}`.
const CLAUSES: [&str; 42] = [
    "SELECT {x} AS k, count(*) FROM {t} GROUP BY k",
    "SELECT DISTINCT {x} FROM {t}",
    "SELECT DISTINCT ON ({x}) {x}, i FROM {t} ORDER BY {x}, i",
    "SELECT {x} FROM {t} ORDER BY {x}",
    "SELECT {x} FROM {t} ORDER BY {x} DESC LIMIT 3",
    "SELECT {x} AS k FROM {t} ORDER BY ALL",
    "SELECT count(*) FROM {t} WHERE {x}",
    "SELECT {x} AS k FROM {t} GROUP BY ALL HAVING max({x}) > min({x})",
    "SELECT count(*) FROM {t} WHERE {x} = (SELECT max({x}) FROM {t})",
    "SELECT count(*) FROM {t} WHERE {x} IN (SELECT {x} FROM {t})",
    "SELECT count(*) FROM {t} WHERE {x} NOT IN (SELECT {x} FROM {t})",
    "SELECT count(*) FROM (SELECT {x} AS k FROM {t}) a JOIN (SELECT {x} AS k FROM {t}) b USING (k)",
    "SELECT count(*) FROM (SELECT {x} AS k FROM {t}) a JOIN (SELECT {x} AS k FROM {t}) b ON a.k < b.k",
    "SELECT count(*) FROM (SELECT {x} AS k FROM {t}) a FULL JOIN (SELECT {x} AS k FROM {t}) b ON a.k = b.k",
    "SELECT {x} FROM {t} UNION SELECT {x} FROM {t}",
    "SELECT {x} FROM {t} UNION ALL SELECT 1",
    "SELECT {x} FROM {t} UNION ALL SELECT 'a'",
    "SELECT {x} FROM {t} INTERSECT SELECT {x} FROM {t}",
    "SELECT {x} FROM {t} EXCEPT SELECT {x} FROM {t}",
    "SELECT CASE WHEN i > 3 THEN {x} END FROM {t}",
    "SELECT CASE WHEN i > 3 THEN {x} ELSE 0 END FROM {t}",
    "SELECT CASE WHEN i > 3 THEN {x} ELSE 'a' END FROM {t}",
    "SELECT CASE {x} WHEN 0 THEN 1 WHEN 'a' THEN 2 ELSE 3 END FROM {t}",
    "SELECT -{x} FROM {t}",
    "SELECT NOT {x} FROM {t}",
    "SELECT {x} IS TRUE, {x} IS NOT NULL FROM {t}",
    "SELECT {x} BETWEEN 0 AND 1 FROM {t}",
    "SELECT {x} BETWEEN '2000-01-01' AND '2001-01-01' FROM {t}",
    "SELECT {x} IN (0, 1) FROM {t}",
    "SELECT {x} IN ('a', '2000-01-01') FROM {t}",
    "SELECT {x} = ANY([0, 1]) FROM {t}",
    "SELECT ({x})[1] FROM {t}",
    "SELECT ({x})['a'] FROM {t}",
    "SELECT EXTRACT(year FROM {x}) FROM {t}",
    "SELECT EXTRACT(epoch FROM {x}) FROM {t}",
    "SELECT {x} AT TIME ZONE 'Europe/Berlin' FROM {t}",
    "SELECT max({x}) FROM {t} GROUP BY ROLLUP (i % 2, {x})",
    "SELECT unnest({x}) FROM {t}",
    "SELECT a.i, b.* FROM {t} a, LATERAL (SELECT {x} AS k FROM {t} ORDER BY k LIMIT 1) b",
    "SUMMARIZE SELECT {x} AS k FROM {t}",
    "SELECT i FROM {t} LIMIT {x}",
    "SELECT approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY {x}) FROM {t}",
];

/// Calls of a function with one column.
const CALLS: [&str; 9] = [
    "{f}({x})",
    "{f}({x}, {x})",
    "{f}({x}, {l})",
    "{f}({l}, {x})",
    "{f}({x}, {l}, {l})",
    "{f}({l}, {x}, {x})",
    "{f}({l}, {l}, {x})",
    "{f}({x}, {l}, {l}, {l})",
    "{f}({x}, 'a', {l})",
];

/// Calls of an aggregate.
const AGGREGATES: [&str; 7] = [
    "{f}({x})",
    "{f}(DISTINCT {x})",
    "{f}({x} ORDER BY {x})",
    "{f}({x}) FILTER (WHERE i > 3)",
    "{f}({x}, {l})",
    "{f}({l}, {x})",
    "{f}({x}, {x})",
];

fn store(group: &str) -> String {
    let path = workspace().join("lsio_datafusion/tests/fixtures/semantics.zarr").join(group);
    format!("'{}'", path.display())
}

/// Fills in a function and literals.
fn calls(function: &str, forms: &[&str]) -> Vec<String> {
    let mut calls = Vec::new();
    for form in forms {
        let form = form.replace("{f}", function);
        if form.contains("{l}") {
            calls.extend(LITERALS.iter().map(|literal| form.replace("{l}", literal)));
        } else {
            calls.push(form);
        }
    }
    calls
}

/// All queries, with `{x}` for a column.
fn queries(ctx: &SessionContext) -> Vec<String> {
    let state = ctx.state();
    let names = |names: Vec<&String>| {
        let mut names: Vec<String> = names.into_iter().cloned().collect();
        names.retain(|name| !LEFT_OUT.contains(&name.as_str()));
        names.sort_unstable();
        names
    };
    let mut queries: Vec<String> = CLAUSES.iter().map(|clause| (*clause).to_owned()).collect();
    for operator in OPERATORS {
        for other in LITERALS.iter().chain(&LINE).chain(&TIMES) {
            queries.push(format!("SELECT {{x}} {operator} {other} FROM {{t}}"));
            queries
                .push(format!("SELECT count(*) FROM {{t}} WHERE ({{x}} {operator} {other}) = 1"));
        }
    }
    for to in CASTS {
        let casts = match to.contains('(') && !to.starts_with("DEC") && !to.starts_with("TIMES") {
            true => {
                vec![format!("arrow_cast({{x}}, '{to}')"), format!("arrow_try_cast({{x}}, '{to}')")]
            }
            false => vec![format!("CAST({{x}} AS {to})"), format!("TRY_CAST({{x}} AS {to})")],
        };
        for cast in casts {
            queries.push(format!("SELECT {cast} FROM {{t}}"));
            queries.push(format!("SELECT max({cast}) FROM {{t}} GROUP BY i % 3"));
        }
    }
    for function in names(state.scalar_functions().keys().collect()) {
        for call in calls(&function, &CALLS) {
            queries.push(format!("SELECT {call} FROM {{t}}"));
        }
    }
    let aggregates = names(state.aggregate_functions().keys().collect());
    for function in &aggregates {
        for call in calls(function, &AGGREGATES) {
            queries.push(format!("SELECT {call} FROM {{t}}"));
            queries.push(format!("SELECT {call} FROM {{t}} GROUP BY i % 3"));
        }
    }
    for function in names(state.window_functions().keys().collect()).iter().chain(&aggregates) {
        for frame in FRAMES {
            for args in ["", "{x}", "2", "{x}, 2", "{x}, 1, {x}"] {
                queries.push(format!("SELECT {function}({args}) {frame} FROM {{t}}"));
            }
        }
    }
    queries
}

/// A message without what differs between columns.
fn kind(message: &str) -> String {
    let mut kind: String = message.chars().filter(|c| !c.is_ascii_digit()).collect();
    for name in LINE.iter().chain(&TIMES) {
        kind = kind.replace(&name.replace(|c: char| c.is_ascii_digit(), ""), "x");
    }
    kind.chars().take(160).collect()
}

fn is_bad(message: &str) -> bool {
    let lower = message.to_lowercase();
    ["internal error", "file a bug", "bug in datafusion", "panic"].iter().any(|b| lower.contains(b))
}

#[test]
fn nothing_panics_or_asks_for_a_bug_report() {
    let ctx = session(config());
    let mut asked = Vec::new();
    for query in queries(&ctx) {
        for (group, columns) in [("line", &LINE[..]), ("times", &TIMES[..])] {
            for column in columns {
                let sql = query.replace("{x}", column).replace("{t}", &store(group));
                asked.push(sql);
            }
        }
    }
    let stride = env::var("LSIO_SWEEP").ok().and_then(|stride| stride.parse().ok());
    let stride = stride.unwrap_or(STRIDE);
    let asked: Vec<String> = asked.into_iter().step_by(stride).collect();
    let asked: Arc<Vec<String>> = Arc::new(asked);
    let count = asked.len() as u64;
    let messages = {
        let asked = Arc::clone(&asked);
        in_parallel(0..count, move |at| {
            let ctx = ctx.clone();
            let asked = Arc::clone(&asked);
            Box::pin(async move {
                let sql = &asked[at as usize];
                let message = match AssertUnwindSafe(query(&ctx, sql)).catch_unwind().await {
                    Ok(Ok(_)) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(panic) => {
                        let text = panic.downcast_ref::<String>().cloned();
                        Some(format!("it panicked: {}", text.unwrap_or_default()))
                    }
                };
                (sql.clone(), message)
            })
        })
    };
    let mut bad: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut said: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for (sql, message) in messages {
        let Some(message) = message else { continue };
        let kind = kind(&message);
        said.entry(kind.clone()).or_insert_with(|| (0, format!("{sql}\n      {message}"))).0 += 1;
        if is_bad(&message) {
            bad.entry(kind).or_default().push(format!("{sql}\n      {message}"));
        }
    }
    if let Ok(path) = env::var("LSIO_SWEEP_MESSAGES") {
        let lines: Vec<String> =
            said.iter().map(|(_, (count, first))| format!("{count} {first}")).collect();
        std::fs::write(path, lines.join("\n")).unwrap();
    }
    let lines: Vec<String> = bad
        .iter()
        .map(|(kind, queries)| format!("{} × {kind}\n    {}", queries.len(), queries[0]))
        .collect();
    assert!(bad.is_empty(), "{count} asked, {} kinds\n{}", bad.len(), lines.join("\n"));
}
