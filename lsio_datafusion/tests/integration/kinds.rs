//! Columns of every kind in queries. `lsio_core` tests the same stores against the values that other
//! tools read: here rows, filters and aggregates must agree with the arrays that are read at once.

use std::path::PathBuf;

use arrow::{
    array::{Array as _, ArrayRef, BooleanArray},
    compute::{concat, filter},
    datatypes::DataType,
};
use lsio_core::{Dataset, Location, OpenOptions};
use serde_json::Value;

use crate::{
    harness::{config, frame, session, workspace},
    storage::one_in,
};

fn fixtures() -> PathBuf {
    workspace().join("lsio_core/tests/fixtures")
}

#[tokio::test]
async fn columns_of_every_kind_come_as_rows() {
    let cases = std::fs::read_to_string(fixtures().join("matrix.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&cases).unwrap();
    let mut wrong = Vec::new();
    let mut asked = 0;
    // Some of each kind: the decoding is the same.
    let every = 3 * one_in();
    for (number, case) in cases.iter().enumerate() {
        if case["array"] != "a" || number % every != 0 || case["case"]["codec"] == "zfpy" {
            continue;
        }
        asked += 1;
        let path = format!(
            "{}/matrix.zip/stores/{}/a",
            fixtures().display(),
            case["store"].as_str().unwrap()
        );
        if let Err(reason) = check(&path).await {
            wrong.push(format!("{path} {}\n    {reason}", case["case"]));
        }
    }
    assert!(asked > 250 / one_in());
    assert!(wrong.is_empty(), "{} of {asked}\n{}", wrong.len(), wrong.join("\n"));
}

async fn check(path: &str) -> Result<(), String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let location = Location::parse(path).map_err(|e| text(&e))?;
    let dataset = Dataset::open(&location, &OpenOptions::default()).await.map_err(|e| text(&e))?;
    let table = dataset.table().map_err(|e| text(&e))?;
    let variable =
        table.columns.iter().find(|c| c.name == "a").unwrap().variable().cloned().unwrap();
    let expected = variable.read_all().await.map_err(|e| text(&e))?;
    let ctx = session(config());
    let dims: Vec<String> = table.dims.iter().map(|d| format!("\"{}\"", d.name)).collect();
    let order =
        if dims.is_empty() { String::new() } else { format!("ORDER BY {}", dims.join(", ")) };
    let query = async |sql: &str| -> Result<ArrayRef, String> {
        let frame = frame(&ctx, sql).await.map_err(|e| format!("{sql}: {e}"))?;
        let data_type = frame.schema().field(0).data_type().clone();
        let batches = frame.collect().await.map_err(|e| format!("{sql}: {e}"))?;
        let columns: Vec<_> = batches.iter().map(|b| b.column(0).as_ref()).collect();
        if columns.is_empty() {
            return Ok(arrow::array::new_empty_array(&data_type));
        }
        concat(&columns).map_err(|e| e.to_string())
    };
    let same = |what: &str, given: &ArrayRef, expected: &ArrayRef| {
        if given == expected {
            Ok(())
        } else {
            Err(format!("{what}: {given:?}\n    instead of {expected:?}"))
        }
    };
    same("rows", &query(&format!("SELECT a FROM '{path}' {order}")).await?, &expected)?;
    let missing: BooleanArray = (0..expected.len()).map(|i| Some(expected.is_null(i))).collect();
    let missing = filter(&expected, &missing).map_err(|e| e.to_string())?;
    same("nulls", &query(&format!("SELECT a FROM '{path}' WHERE a IS NULL")).await?, &missing)?;
    let counted = query(&format!("SELECT count(a) + count(*) FROM '{path}'")).await?;
    let count = i64::try_from(2 * expected.len() - expected.null_count()).unwrap();
    same(
        "count",
        &counted,
        &(std::sync::Arc::new(arrow::array::Int64Array::from(vec![count])) as ArrayRef),
    )?;
    let numeric = expected.data_type().is_numeric() && *expected.data_type() != DataType::Float16;
    if numeric && expected.len() > expected.null_count() {
        // The pushed-down minimum against that of the rows.
        let pushed = query(&format!("SELECT min(a) FROM '{path}'")).await?;
        let rows =
            query(&format!("SELECT min(a) FROM (SELECT a FROM '{path}' {order} LIMIT 1000)"))
                .await?;
        same("min", &pushed, &rows)?;
    }
    Ok(())
}
