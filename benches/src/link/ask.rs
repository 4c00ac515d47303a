//! One query in a process of its own, without connections or caches. Compares the answer with that of the local
//! directory, and prints the query's figures on a line.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
};

use datafusion::{arrow::array::RecordBatch, common::ScalarValue, prelude::SessionConfig};
use lsio_test_servers::{ACCESS_KEY, BUCKET, SECRET_KEY};

use super::Protocol;
use crate::{
    Error,
    measure::{self, Figures},
};

/// Relative tolerance for floats against those of the local directory: partial sums are added in the order of their
/// arrival.
const TOLERANCE: f64 = 1e-9;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The address of a store
    store: String,
    /// The same store in a local directory
    local: String,
    /// The query
    sql: String,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let config = SessionConfig::new();
    let ask =
        |store: &str| runtime.block_on(measure::ask(&[("era5", store)], &config, &[], &args.sql));
    let (figures, answer) = ask(&args.store)?;
    let (_, expected) = ask(&args.local)?;
    compare(rows(&answer)?, rows(&expected)?)?;
    println!("{} {} {}", figures.seconds, figures.cpu, figures.peak);
    Ok(())
}

/// Runs a query in a process of its own.
pub(crate) fn run_alone(store: &str, local: &Path, sql: &str) -> Result<Figures, Error> {
    let output = Command::new(env::current_exe()?)
        .args(["ask", "--", store])
        .arg(local)
        .arg(sql)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("this query of {} failed: {sql}", local.display()).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let mut words = text.split_whitespace();
    let mut next = || words.next().ok_or("the query's process says too little");
    Ok(Figures { seconds: next()?.parse()?, cpu: next()?.parse()?, peak: next()?.parse()? })
}

/// Address of a store on the server, with all options to read it.
pub(crate) fn address(protocol: Protocol, server: &str, store: &str) -> String {
    match protocol {
        Protocol::S3 => format!(
            "s3://{BUCKET}/{store}?aws.endpoint={server}&aws.region=us-east-1\
             &aws.access_key_id={ACCESS_KEY}&aws.secret_access_key={SECRET_KEY}"
        ),
        Protocol::Http => format!("{server}/{store}"),
    }
}

/// A row with exact values before floats: sorted so, rows whose floats differ a little keep their positions.
type Row = Vec<ScalarValue>;

fn rows(batches: &[RecordBatch]) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for batch in batches {
        let (floats, exact): (Vec<_>, Vec<_>) =
            batch.columns().iter().partition(|column| column.data_type().is_floating());
        for row in 0..batch.num_rows() {
            let value = |column| ScalarValue::try_from_array(column, row);
            rows.push(exact.iter().chain(&floats).map(|c| value(c)).collect::<Result<Row, _>>()?);
        }
    }
    rows.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    Ok(rows)
}

fn compare(answer: Vec<Row>, expected: Vec<Row>) -> Result<(), Error> {
    if answer.len() != expected.len() {
        let (many, others) = (answer.len(), expected.len());
        return Err(format!("the answer has {many} rows, the local store's {others}").into());
    }
    for (row, other) in answer.iter().zip(&expected) {
        if row.len() != other.len() || !row.iter().zip(other).all(|(a, b)| is_same(a, b)) {
            return Err(format!("the answer has {row:?}, the local store's {other:?}").into());
        }
    }
    Ok(())
}

fn is_same(a: &ScalarValue, b: &ScalarValue) -> bool {
    let is_near = |a: f64, b: f64| (a - b).abs() <= TOLERANCE * a.abs().max(b.abs());
    match (a, b) {
        (ScalarValue::Float64(Some(x)), ScalarValue::Float64(Some(y))) => a == b || is_near(*x, *y),
        (ScalarValue::Float32(Some(x)), ScalarValue::Float32(Some(y))) => {
            a == b || is_near(f64::from(*x), f64::from(*y))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_may_differ_a_little() {
        let float = |value: f64| ScalarValue::Float64(Some(value));
        assert!(is_same(&float(f64::NAN), &float(f64::NAN)));
        assert!(is_same(&float(1e9), &float(1e9 + 0.5)));
        assert!(!is_same(&float(1.0), &float(1.0 + 1e-8)));
        assert!(!is_same(&float(1.0), &ScalarValue::Float64(None)));
        assert!(!is_same(
            &ScalarValue::from(1_000_000_000_i64),
            &ScalarValue::from(1_000_000_001_i64)
        ));
    }

    #[test]
    fn other_rows_are_told() {
        let row = |count: i64, mean: f64| vec![ScalarValue::from(count), ScalarValue::from(mean)];
        compare(vec![row(1, 2.0)], vec![row(1, 2.0 + 1e-12)]).unwrap();
        assert!(compare(vec![row(1, 2.0)], vec![row(2, 2.0)]).is_err());
        assert!(compare(vec![row(1, 2.0)], vec![]).is_err());
    }
}
