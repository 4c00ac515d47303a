//! SQL's operators and functions on every stored type, beside what numpy and DuckDB give:
//! `fixtures/semantics.py` says how.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
};

use datafusion::{
    error::{DataFusionError, Result},
    prelude::SessionContext,
};
use futures::FutureExt as _;
use lsio_datafusion::LsioConfig;

use self::{
    answers::{Answers, Cell, Column, columns, is_right},
    known::known,
};
use crate::harness::{config, query, session, workspace};

mod answers;
mod expressions;
mod known;

/// Expressions of one query.
const TOGETHER: usize = 100;

/// Values that are told of one expression.
const TOLD: usize = 3;

/// What was asked, and what isn't as it should be.
#[derive(Default)]
struct Findings {
    asked: usize,
    /// By what was asked, expression and column.
    wrong: BTreeMap<(String, String), String>,
}

impl Findings {
    /// Compares a column that came with what is expected.
    fn compare(&mut self, asked: &Asked<'_>, column: &Column) {
        self.asked += 1;
        let pairs = column.cells.iter().zip(&asked.expected);
        let wrong: Vec<String> = pairs
            .enumerate()
            .filter(|(_, (a, e))| !is_right(a, &column.data_type, e, asked.answers.ulps))
            .map(|(row, (a, e))| format!("[{row}] {a} for {e}"))
            .collect();
        let told = wrong[..wrong.len().min(TOLD)].join(", ");
        if column.cells.len() != asked.expected.len() {
            self.fault(asked, format!("{} rows for {}", column.cells.len(), asked.expected.len()));
        } else if !wrong.is_empty() {
            self.fault(asked, format!("{} wrong ({}): {told}", wrong.len(), column.data_type));
        }
    }

    fn fault(&mut self, asked: &Asked<'_>, fault: String) {
        let key = (asked.answers.sql.clone(), asked.column.to_owned());
        self.wrong.entry(key).or_insert(fault);
    }

    /// Fails with all that is wrong and not known, and with what is known and no longer wrong.
    fn check(self, test: &str) {
        assert!(self.asked > 0);
        let is_known =
            |sql: &str, column: &str| known().any(|known| known.is_of(test, sql, column));
        let mut lines: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for ((sql, column), fault) in &self.wrong {
            if !is_known(sql, column) {
                lines.entry((sql, fault)).or_default().push(column);
            }
        }
        let mut text: Vec<String> = lines
            .iter()
            .map(|((sql, fault), columns)| format!("{sql} of {}: {fault}", columns.join(", ")))
            .collect();
        let differing: BTreeSet<(&str, &str)> =
            self.wrong.keys().map(|(sql, column)| (sql.as_str(), column.as_str())).collect();
        for known in known().filter(|known| known.tests.contains(&test)) {
            for (sql, column) in known
                .sql
                .iter()
                .flat_map(|sql| known.columns.iter().map(move |column| (sql, column)))
            {
                if !differing.contains(&(sql, column)) {
                    text.push(format!("{sql} of {column}: no difference any more"));
                }
            }
        }
        assert!(text.is_empty(), "{} asked\n{}", self.asked, text.join("\n"));
    }
}

/// An expression of one column, and what is expected of it.
struct Asked<'a> {
    answers: &'a Answers,
    column: &'a str,
    sql: String,
    expected: Vec<Cell>,
}

impl<'a> Asked<'a> {
    fn new(answers: &'a Answers, column: &'a str) -> Self {
        let sql = answers.expression(column);
        Self { answers, column, sql, expected: answers.of(column) }
    }
}

/// The address of a group of the store.
fn store(group: &str) -> String {
    let path = workspace().join("lsio_datafusion/tests/fixtures/semantics.zarr").join(group);
    path.to_string_lossy().into_owned()
}

/// A session with or without pushed-down aggregates.
fn pushing_down(aggregate_pushdown: bool) -> SessionContext {
    let mut config = config();
    let settings = config.options_mut().extensions.get_mut::<LsioConfig>().unwrap();
    settings.aggregate_pushdown = aggregate_pushdown;
    session(config)
}

/// Asks many expressions in one query, and finds out which of them fail if it does. `sql` makes the query of its
/// select list.
async fn ask<'a>(
    ctx: &SessionContext,
    asked: &'a [Asked<'a>],
    sql: &(dyn Fn(&str) -> String + Sync),
    findings: &mut Findings,
) -> Vec<(&'a Asked<'a>, Column)> {
    let mut answered = Vec::new();
    let mut batches: Vec<&[Asked<'_>]> = asked.chunks(TOGETHER).rev().collect();
    while let Some(batch) = batches.pop() {
        let list: Vec<String> =
            batch.iter().enumerate().map(|(n, asked)| format!("{} AS e{n}", asked.sql)).collect();
        match answer(ctx, &sql(&list.join(", "))).await {
            Ok(result) => answered.extend(batch.iter().zip(result)),
            Err(error) if batch.len() == 1 => {
                let error = error.to_string();
                let error: String =
                    error.lines().next().unwrap_or_default().chars().take(160).collect();
                findings.asked += 1;
                findings.fault(&batch[0], format!("failed: {error}"));
            }
            Err(_) => {
                let (first, second) = batch.split_at(batch.len() / 2);
                batches.extend([second, first]);
            }
        }
    }
    answered
}

/// Runs a query; a panic is an error.
async fn answer(ctx: &SessionContext, sql: &str) -> Result<Vec<Column>> {
    match AssertUnwindSafe(query(ctx, sql)).catch_unwind().await {
        Ok(result) => Ok(columns(&result?)),
        Err(_) => Err(DataFusionError::Execution("it panicked".to_owned())),
    }
}

/// Everything that is asked of these groups, by group.
fn asked_of<'a>(all: &'a [Answers], groups: &[&str]) -> BTreeMap<&'a str, Vec<Asked<'a>>> {
    let mut by_group: BTreeMap<&str, Vec<Asked<'_>>> = BTreeMap::new();
    for answers in all.iter().filter(|answers| groups.contains(&answers.over.as_str())) {
        let asked = answers.columns().map(|column| Asked::new(answers, column));
        by_group.entry(&answers.over).or_default().extend(asked);
    }
    by_group
}

#[tokio::test]
async fn rows() {
    let all = Answers::all();
    let ctx = session(config());
    let mut findings = Findings::default();
    for (group, asked) in asked_of(&all, &["line", "pairs", "times"]) {
        let order = if group == "pairs" { "j, i" } else { "i" };
        let sql = |list: &str| format!("SELECT {list} FROM '{}' ORDER BY {order}", store(group));
        for (asked, column) in ask(&ctx, &asked, &sql, &mut findings).await {
            findings.compare(asked, &column);
        }
    }
    findings.check("rows");
}

/// The groups of `kind`, all of them, and those without infinities.
const SCOPES: [&str; 3] = ["", "GROUP BY kind ORDER BY kind", "WHERE kind < 2 OR kind = 5"];

/// Aggregates of columns, over each group and over all.
#[tokio::test]
async fn aggregates() {
    let all = Answers::all();
    let mut findings = Findings::default();
    for (_, asked) in asked_of(&all, &["aggregates"]) {
        for pushed_down in [true, false] {
            let ctx = pushing_down(pushed_down);
            for scope in SCOPES {
                let sql = |list: &str| format!("SELECT {list} FROM '{}' {scope}", store("line"));
                for (asked, column) in ask(&ctx, &asked, &sql, &mut findings).await {
                    let expected = match scope {
                        "" => &asked.expected[6..7],
                        "WHERE kind < 2 OR kind = 5" => &asked.expected[7..8],
                        _ => &asked.expected[..6],
                    };
                    expressions::compare_sums(&mut findings, asked, &column, expected);
                }
            }
        }
    }
    findings.check("aggregates");
}
