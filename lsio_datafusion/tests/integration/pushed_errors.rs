//! An aggregate in the scan's place fails with the words that it has above the scan, or gives the same rows.

use std::{collections::BTreeSet, panic::AssertUnwindSafe};

use datafusion::{error::DataFusionError, prelude::SessionContext};
use futures::FutureExt as _;
use lsio_datafusion::LsioConfig;
use serde_json::Value;

use crate::harness::{config, rows, same, session, workspace};

/// Expressions of the group `line` that fail for some of its rows or when they are planned, and a few that don't.
const LINE: [&str; 61] = [
    "CAST(text AS INT)",
    "CAST(text AS DOUBLE)",
    "text::BIGINT",
    "CAST(text AS TIMESTAMP)",
    "CAST(text AS DATE)",
    "CAST(text AS BOOLEAN)",
    "CAST(text AS INTERVAL)",
    "CAST(text AS DECIMAL(10, 2))",
    "text + 1",
    "text * float64",
    "CAST(float64 AS INT)",
    "CAST(float64 AS TINYINT)",
    "CAST(float32 AS BIGINT)",
    "CAST(float16 AS TINYINT)",
    "CAST(int64 AS TINYINT)",
    "CAST(int64 AS INT)",
    "CAST(uint64 AS BIGINT)",
    "CAST(int8 AS INT UNSIGNED)",
    "CAST(int16 AS TINYINT)",
    "CAST(float64 AS DECIMAL(5, 2))",
    "CAST(int64 AS DECIMAL(5, 2))",
    "CAST(int32 AS DECIMAL(38, 10)) * CAST(int32 AS DECIMAL(38, 10))",
    "arrow_cast(int64, 'Int8')",
    "arrow_cast(float64, 'UInt16')",
    "arrow_cast(int8, 'Nonsense')",
    "arrow_cast(uint16, 'UInt8')",
    "TRY_CAST(text AS INT)",
    "int64 + int64",
    "int64 * 1000000000000",
    "int64 - uint64",
    "int64 % 0",
    "int64 // 0",
    "1 / int8",
    "abs(int64)",
    "-int64",
    "-uint8",
    "power(int64, 100)",
    "int8 ^ -1",
    "sqrt(int8)",
    "ln(int8 - 200)",
    "factorial(int8)",
    "gcd(int64, int64)",
    "lcm(int64, int32)",
    "round(int64, -1)",
    "date_trunc('fortnight', CAST(int8 AS TIMESTAMP))",
    "date_part('nonsense', CAST(int8 AS TIMESTAMP))",
    "date_bin(INTERVAL '0 days', CAST(int8 AS TIMESTAMP))",
    "length(regexp_replace(text, '(', 'x'))",
    "regexp_like(text, '[')",
    "text ~ '('",
    "regexp_count(text, '*')",
    "to_timestamp(text)",
    "to_date(text)",
    "strptime(text, '%Y')",
    "make_date(int64, 1, 1)",
    "make_timestamp(int64, 1, 1, 0, 0, 0)",
    "nosuch(int8)",
    "nocolumn",
    "chr(int64)",
    "lpad(text, int64)",
    "to_hex(text)",
];

/// The same of the group `times`.
const TIMES: [&str; 25] = [
    "time_ns + INTERVAL '300 years'",
    "time_s + INTERVAL '300 years'",
    "time_us + INTERVAL '300000 years'",
    "time_ns - TIMESTAMP '2020-01-01'",
    "cf_360_day + INTERVAL '10000 years'",
    "cf_noleap - INTERVAL '10000 years'",
    "date_trunc('fortnight', time_ns)",
    "date_trunc('fortnight', cf_noleap)",
    "date_trunc('year', time_ns)",
    "date_part('nonsense', time_us)",
    "date_part('nonsense', cf_360_day)",
    "date_bin(INTERVAL '0 days', time_s)",
    "date_bin(INTERVAL '10 days', time_ns, TIMESTAMP '2000-01-01')",
    "arrow_cast(time_s, 'Timestamp(ns)')",
    "arrow_cast(time_ms, 'Timestamp(Nanosecond, None)')",
    "CAST(step_s AS INT)",
    "arrow_cast(step_s, 'Duration(ns)')",
    "time_ns = '2000-13-01'",
    "time_s > 'noon'",
    "cf_360_day = '2000-02-31'",
    "strftime(time_s, '%Q')",
    "to_char(time_us, 'QQQQ')",
    "year(step_s)",
    "time_ns AT TIME ZONE 'Mars/Olympus'",
    "step_ns + step_ns",
];

/// Queries of an expression. The value of what can't be added up is counted or compared.
const QUERIES: [&str; 6] = [
    "SELECT max({x}) FROM {t}",
    "SELECT sum({x}), avg({x}) FROM {t}",
    "SELECT i % 3 AS k, min({x}) FROM {t} GROUP BY k ORDER BY k",
    "SELECT {x} AS k, count(*) FROM {t} GROUP BY k ORDER BY k",
    "SELECT sum(i) FROM {t} WHERE {x} IS NOT NULL",
    "SELECT sum(i) FILTER (WHERE {x} IS NOT NULL) FROM {t}",
];

fn context(aggregate_pushdown: bool) -> SessionContext {
    let mut config = config();
    let settings = config.options_mut().extensions.get_mut::<LsioConfig>().unwrap();
    settings.aggregate_pushdown = aggregate_pushdown;
    session(config)
}

/// The rows, or the words of the innermost error.
async fn ask(ctx: &SessionContext, sql: &str) -> Result<Vec<Vec<Value>>, String> {
    match AssertUnwindSafe(rows(ctx, sql)).catch_unwind().await {
        Ok(result) => result.map_err(|error| words(&error)),
        Err(_) => Err("it panicked".to_owned()),
    }
}

fn words(error: &DataFusionError) -> String {
    let root = error.find_root().strip_backtrace();
    let prefixes =
        ["Error during planning: ", "Execution error: ", "External error: ", "Arrow error: "];
    let mut text = root.as_str();
    while let Some(rest) = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest;
    }
    text.to_owned()
}

#[tokio::test]
async fn errors_are_those_of_rows() {
    let (pushed, plain) = (context(true), context(false));
    let mut different = Vec::new();
    let mut errors = BTreeSet::new();
    for (group, expressions) in [("line", &LINE[..]), ("times", &TIMES[..])] {
        let store = workspace().join("lsio_datafusion/tests/fixtures/semantics.zarr").join(group);
        for expression in expressions {
            for query in QUERIES {
                let sql = query
                    .replace("{x}", expression)
                    .replace("{t}", &format!("'{}'", store.display()));
                let (a, b) = (ask(&pushed, &sql).await, ask(&plain, &sql).await);
                let agree = match (&a, &b) {
                    (Ok(a), Ok(b)) => same(a, b),
                    (Err(a), Err(b)) => a == b,
                    _ => false,
                };
                if let Err(error) = &a {
                    errors.insert(error.clone());
                }
                if !agree {
                    different.push(format!("{sql}\n  pushed down: {a:?}\n  not: {b:?}"));
                }
            }
        }
    }
    assert!(errors.len() > 20, "{errors:?}");
    assert!(different.is_empty(), "{} differ\n{}", different.len(), different.join("\n"));
}
