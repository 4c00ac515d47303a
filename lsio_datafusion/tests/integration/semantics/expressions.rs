//! Aggregates, filters and constants: what they give follows from the values of an expression's rows.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::prelude::SessionContext;

use super::{
    Asked, Findings,
    answers::{Answers, Cell, Column, columns, is_right},
    ask, pushing_down, store,
};
use crate::harness::{config, query, session};

/// Groups of `kind`.
const KINDS: usize = 6;

/// Rows of `grid` for one of `line`.
const COPIES: usize = 3;

/// Cells of `line` that are asked about as constants.
const CONSTANTS: [usize; 12] = [0, 1, 4, 6, 7, 12, 13, 14, 16, 18, 19, 22];

/// What is selected of `line` or `grid`, and what that makes of a column of `line`: the rows of each group.
#[derive(Clone, Copy)]
enum Scope {
    All,
    Kinds,
    Copies,
}

impl Scope {
    const ALL: [Self; 3] = [Self::All, Self::Kinds, Self::Copies];

    fn sql(self, list: &str) -> String {
        match self {
            Self::All => format!("SELECT {list} FROM '{}'", store("line")),
            Self::Kinds => {
                format!("SELECT {list} FROM '{}' GROUP BY kind ORDER BY kind", store("line"))
            }
            Self::Copies => format!("SELECT {list} FROM '{}' GROUP BY j ORDER BY j", store("grid")),
        }
    }

    fn groups<'a>(self, cells: &'a [Cell], kinds: &[usize]) -> Vec<Vec<&'a Cell>> {
        match self {
            Self::All => vec![cells.iter().collect()],
            Self::Copies => vec![cells.iter().collect(); COPIES],
            Self::Kinds => (0..KINDS)
                .map(|kind| {
                    cells.iter().zip(kinds).filter(|(_, k)| **k == kind).map(|(c, _)| c).collect()
                })
                .collect(),
        }
    }
}

/// What an aggregate gives of a group's values: the value, and what an order of addition may change.
type Aggregate = fn(&[&Cell]) -> (Cell, f64);

/// Aggregates of each expression.
const NUMBERS: [(&str, Aggregate); 5] =
    [("count", count), ("sum", sum), ("avg", avg), ("min", min), ("max", max)];

fn present<'a>(cells: &[&'a Cell]) -> Vec<&'a Cell> {
    cells.iter().copied().filter(|cell| **cell != Cell::Null).collect()
}

fn count(cells: &[&Cell]) -> (Cell, f64) {
    (Cell::Int(present(cells).len() as i128), 0.0)
}

fn sum(cells: &[&Cell]) -> (Cell, f64) {
    let present = present(cells);
    let whole: Option<i128> = present
        .iter()
        .map(|cell| if let Cell::Int(value) = cell { Some(*value) } else { None })
        .sum();
    match whole {
        _ if present.is_empty() => (Cell::Null, 0.0),
        Some(whole) if i64::try_from(whole).is_ok() => (Cell::Int(whole), 0.0),
        // Where 64 bits don't hold it, it is an error.
        Some(_) => (Cell::Any, 0.0),
        None => {
            let numbers: Vec<f64> = present.iter().filter_map(|cell| cell.number()).collect();
            let sum: f64 = numbers.iter().sum();
            let reach: f64 = numbers.iter().map(|number| number.abs()).sum();
            let overflows = reach.is_infinite() && numbers.iter().all(|number| number.is_finite());
            let sum = if sum.is_nan() { Cell::Null } else { Cell::Float(sum) };
            (if overflows { Cell::Any } else { sum }, 1e-12 * reach)
        }
    }
}

fn avg(cells: &[&Cell]) -> (Cell, f64) {
    let doubles: Vec<Cell> =
        cells.iter().map(|cell| cell.number().map_or(Cell::Null, Cell::Float)).collect();
    let (sum, reach) = sum(&doubles.iter().collect::<Vec<_>>());
    let count = present(cells).len() as f64;
    (sum.number().map_or(sum, |sum| Cell::Float(sum / count)), reach / count)
}

fn min(cells: &[&Cell]) -> (Cell, f64) {
    extreme(cells, |a, b| a < b)
}

fn max(cells: &[&Cell]) -> (Cell, f64) {
    extreme(cells, |a, b| a > b)
}

fn extreme(cells: &[&Cell], is_better: fn(f64, f64) -> bool) -> (Cell, f64) {
    let mut best: Option<&Cell> = None;
    for cell in present(cells) {
        let better = match (cell, best) {
            (_, None) => true,
            (Cell::Int(a), Some(Cell::Int(b))) => {
                if is_better(0.0, 1.0) {
                    a < b
                } else {
                    a > b
                }
            }
            (a, Some(b)) => is_better(a.number().unwrap(), b.number().unwrap()),
        };
        if better {
            best = Some(cell);
        }
    }
    (best.cloned().unwrap_or(Cell::Null), 0.0)
}

/// Compares aggregates, which may be off by the order in which they are summed.
pub(super) fn compare_sums(
    findings: &mut Findings,
    asked: &Asked<'_>,
    column: &Column,
    expected: &[Cell],
) {
    // Of what narrow floats compute, each value is rounded.
    let share = match asked.column {
        "float32" if asked.answers.ulps > 0 => 1e-6,
        "float16" if asked.answers.ulps > 0 => 1e-3,
        _ => 1e-12,
    };
    let expected: Vec<(Cell, f64)> = expected
        .iter()
        .map(|cell| (cell.clone(), cell.number().map_or(0.0, |number| share * number.abs())))
        .collect();
    compare_within(findings, asked, column, &expected, "");
}

fn compare_within(
    findings: &mut Findings,
    asked: &Asked<'_>,
    column: &Column,
    expected: &[(Cell, f64)],
    what: &str,
) {
    findings.asked += 1;
    if column.cells.len() != expected.len() {
        findings.fault(asked, format!("{what}{} rows for {}", column.cells.len(), expected.len()));
    }
    for (row, (actual, (expected, off))) in column.cells.iter().zip(expected).enumerate() {
        let near = match (actual.number(), expected.number()) {
            (Some(a), Some(e)) => (a - e).abs() <= *off,
            _ => false,
        };
        if !near && !is_right(actual, &column.data_type, expected, 4) {
            let kind = &column.data_type;
            findings.fault(asked, format!("{what}[{row}] ({kind}) {actual} for {expected}"));
        }
    }
}

/// The expressions of `line` with the rows that they give here, without those that fail: `rows` tells of them.
async fn lines<'a>(ctx: &SessionContext, asked: &'a [Asked<'a>]) -> Vec<(&'a Asked<'a>, Column)> {
    let sql = |list: &str| format!("SELECT {list} FROM '{}' ORDER BY i", store("line"));
    let mut answered = ask(ctx, asked, &sql, &mut Findings::default()).await;
    answered.retain(|(_, column)| !column.cells.contains(&Cell::Float(f64::NAN)));
    answered
}

fn of_line(all: &[Answers]) -> Vec<Asked<'_>> {
    let line = all.iter().filter(|answers| answers.over == "line");
    line.flat_map(|answers| answers.columns().map(|column| Asked::new(answers, column))).collect()
}

async fn kinds(ctx: &SessionContext) -> Vec<usize> {
    let sql = format!("SELECT kind FROM '{}' ORDER BY i", store("line"));
    let found = columns(&query(ctx, &sql).await.unwrap()).remove(0).cells;
    found.iter().map(|kind| kind.number().unwrap() as usize).collect()
}

/// Aggregates of expressions are those of their rows, in the scan's place and above it.
#[tokio::test]
async fn aggregates_of_expressions() {
    let all = Answers::all();
    let asked = of_line(&all);
    let ctx = pushing_down(true);
    let kinds = kinds(&ctx).await;
    let lines = lines(&ctx, &asked).await;
    let mut findings = Findings::default();
    for pushed_down in [true, false] {
        let ctx = pushing_down(pushed_down);
        for (first, scope) in Scope::ALL.into_iter().enumerate() {
            for (name, aggregate) in NUMBERS {
                let chosen = lines.iter().skip(first).step_by(Scope::ALL.len());
                let mut batch = Vec::new();
                let mut expected = Vec::new();
                for (asked, column) in chosen {
                    let is_number = column.data_type.is_numeric();
                    if !is_number && name != "count" {
                        continue;
                    }
                    let sql = format!("{name}({})", asked.sql);
                    let groups = scope.groups(&column.cells, &kinds);
                    let results: Vec<_> = groups.iter().map(|cells| aggregate(cells)).collect();
                    let is_any = results.iter().any(|(cell, _)| *cell == Cell::Any);
                    if name == "sum" && is_any && column.data_type.is_integer() {
                        let failed = query(&ctx, &scope.sql(&sql)).await.err();
                        let failed = failed.map(|error| error.to_string());
                        // Unsigned integers hold more.
                        if failed.is_some_and(|error| !error.contains("is beyond what")) {
                            findings.fault(asked, format!("{sql} fails otherwise"));
                        }
                        continue;
                    }
                    batch.push(Asked { sql, expected: Vec::new(), ..**asked });
                    expected.push(results);
                }
                let by_name: BTreeMap<String, &Vec<(Cell, f64)>> =
                    batch.iter().map(|asked| asked.sql.clone()).zip(&expected).collect();
                for (asked, column) in
                    ask(&ctx, &batch, &|list| scope.sql(list), &mut findings).await
                {
                    compare_within(
                        &mut findings,
                        asked,
                        &column,
                        by_name[&asked.sql],
                        &format!("{name} "),
                    );
                }
            }
        }
    }
    findings.check("aggregates_of_expressions");
}

/// Filters keep the rows that are true, those of a store's chunks as well.
#[tokio::test]
async fn filters() {
    let all = Answers::all();
    let asked = of_line(&all);
    let ctx = session(config());
    let mut findings = Findings::default();
    let lines = lines(&ctx, &asked).await;
    let booleans = lines.iter().filter(|(_, column)| column.data_type == DataType::Boolean);
    let booleans: Vec<&(&Asked<'_>, Column)> = booleans.collect();
    for (n, batch) in booleans.chunks(32).enumerate() {
        let ctx = pushing_down(n % 2 == 0);
        let grid = store("grid");
        let parts: Vec<String> = batch
            .iter()
            .enumerate()
            .map(|(n, (asked, _))| {
                format!(
                    "SELECT {n} AS n, count(*) AS c, sum(i) AS s FROM '{grid}' WHERE {}",
                    asked.sql
                )
            })
            .collect();
        let sql = format!("{} ORDER BY n", parts.join(" UNION ALL "));
        let found = columns(&query(&ctx, &sql).await.unwrap());
        for (n, (asked, column)) in batch.iter().enumerate() {
            findings.asked += 1;
            let rows: Vec<usize> =
                (0..column.cells.len()).filter(|&i| column.cells[i] == Cell::Bool(true)).collect();
            let count = Cell::Int((COPIES * rows.len()) as i128);
            let sum = Cell::Int((COPIES * rows.iter().sum::<usize>()) as i128);
            let sum = if rows.is_empty() { Cell::Null } else { sum };
            let (c, s) = (&found[1].cells[n], &found[2].cells[n]);
            if (c, s) != (&count, &sum) {
                findings.fault(asked, format!("{c} rows, their sum {s}, for {count} and {sum}"));
            }
        }
    }
    findings.check("filters");
}

/// Constants give what columns of the same values give.
#[tokio::test]
async fn constants() {
    let all = Answers::all();
    let ctx = session(config());
    let mut findings = Findings::default();
    let types = [
        ("int16", "SMALLINT"),
        ("uint64", "BIGINT UNSIGNED"),
        ("float32", "REAL"),
        ("float64", "DOUBLE"),
    ];
    for (name, data_type) in types {
        let sql = format!("SELECT CAST({name} AS VARCHAR) FROM '{}' ORDER BY i", store("line"));
        let values = columns(&query(&ctx, &sql).await.unwrap()).remove(0).cells;
        let mut batch = Vec::new();
        let answers =
            all.iter().filter(|a| a.over == "line" && a.columns().any(|column| column == name));
        for (n, answers) in answers.enumerate() {
            let expected = answers.of(name);
            for (at, row) in CONSTANTS.into_iter().enumerate() {
                // Each expression of every fourth, so that all have their turn.
                if (n + at) % 4 == 0 {
                    let constant = format!("CAST({} AS {data_type})", values[row]);
                    let sql = answers.sql.replace("{x}", &constant);
                    batch.push(Asked {
                        answers,
                        column: name,
                        sql,
                        expected: vec![expected[row].clone()],
                    });
                }
            }
        }
        let select = |list: &str| format!("SELECT {list} FROM '{}' WHERE i = 0", store("line"));
        for (asked, column) in ask(&ctx, &batch, &select, &mut findings).await {
            findings.compare(asked, &column);
        }
    }
    findings.check("constants");
}
