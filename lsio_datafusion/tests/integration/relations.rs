//! Cells in relation to other cells: anomalies, shifts, rolling and cumulative values, differences of grids, skill of
//! forecasts. `fixtures/make_relations.py` has xarray's line for each question, and wrote the answers.

use std::fs;

use datafusion::prelude::SessionConfig;
use lsio_datafusion::LsioConfig;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    harness::{config, rows, same, session, workspace},
    storage::one_in,
};

#[derive(Deserialize)]
struct Question {
    name: String,
    sql: String,
    rows: Vec<Vec<Value>>,
}

/// Settings under which every question has the same answer.
fn configs() -> Vec<(String, SessionConfig)> {
    let mut configs = Vec::new();
    for partitions in [1, 2, 7] {
        let mut config = config().with_target_partitions(partitions).with_batch_size(100);
        config.options_mut().optimizer.repartition_file_min_size = 0;
        configs.push((format!("{partitions} partitions"), config));
    }
    let mut large = config().with_target_partitions(2);
    large.options_mut().extensions.get_mut::<LsioConfig>().unwrap().tile_bytes = 2 << 20;
    configs.push(("large tiles".to_owned(), large));
    let mut off = config().with_target_partitions(2);
    switch_off(
        &mut off,
        &["lsio.join_pushdown", "lsio.window_pushdown", "lsio.aggregate_pushdown"],
    );
    configs.push(("rows".to_owned(), off));
    configs.into_iter().step_by(one_in().min(4)).collect()
}

/// Switches off what the session knows of these settings.
fn switch_off(config: &mut SessionConfig, names: &[&str]) {
    let known = config.options().entries();
    for name in names.iter().filter(|name| known.iter().any(|entry| entry.key == **name)) {
        config.options_mut().set(name, "false").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn relations_are_those_of_xarray() {
    let fixtures = workspace().join("lsio_datafusion/tests/fixtures");
    let text = fs::read_to_string(fixtures.join("relations.json")).unwrap();
    let questions: Vec<Question> = serde_json::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    for (settings, config) in configs() {
        let ctx = session(config);
        for question in &questions {
            let mut sql = question.sql.clone();
            for group in ["a", "b", "forecast"] {
                let table = format!("'{}'", fixtures.join("relations.zarr").join(group).display());
                sql = sql.replace(&format!("{{{group}}}"), &table);
            }
            let about = || format!("{} with {settings}: {sql}", question.name);
            match rows(&ctx, &sql).await {
                Ok(actual) if same(&actual, &question.rows) => {}
                Ok(actual) => {
                    let rows = actual.len();
                    let pairs = actual.iter().zip(&question.rows);
                    let first = pairs.enumerate().find(|(_, (a, e))| {
                        !same(std::slice::from_ref(*a), std::slice::from_ref(*e))
                    });
                    wrong.push(format!("{}\n  {rows} rows, first other: {first:?}", about()));
                }
                Err(error) => wrong.push(format!("{}\n  failed: {error}", about())),
            }
        }
    }
    assert!(questions.len() > 40);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
