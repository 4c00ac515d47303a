//! Times one run of a query, and summarises several.

use std::time::Instant;

use datafusion::{
    arrow::array::RecordBatch,
    prelude::{SessionConfig, SessionContext},
};
use lsio_core::{Dataset, OpenOptions};
use lsio_datafusion::prelude::*;

use crate::{
    Error,
    process::{cpu_seconds, peak_memory, reset_peak_memory},
    queries::Query,
};

/// Cost of a run of a query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub seconds: f64,
    /// Processor time in seconds.
    pub cpu: f64,
    /// Peak of the memory in bytes.
    pub peak: u64,
}

/// Runs a query once in a new session, after setup statements.
pub(crate) async fn run_once(
    store: &str,
    config: &SessionConfig,
    setup: &[&str],
    query: &Query,
) -> Result<Figures, Error> {
    Ok(ask(&[("era5", store)], config, setup, query.sql).await?.0)
}

/// Runs a query of stores, each under the name of a table, once in a new session. Returns the answer too.
pub(crate) async fn ask(
    stores: &[(&str, &str)],
    config: &SessionConfig,
    setup: &[&str],
    sql: &str,
) -> Result<(Figures, Vec<RecordBatch>), Error> {
    reset_peak_memory();
    let cpu = cpu_seconds().unwrap_or(f64::NAN);
    let start = Instant::now();
    // Everything that a user waits for: opening, planning and running.
    let ctx = SessionContext::new_with_config(config.clone()).with_zarr();
    for statement in setup {
        ctx.query(statement).await?;
    }
    for (table, store) in stores {
        ctx.register_zarr(table, store, OpenOptions::default()).await?;
    }
    let answer = ctx.query(sql).await?.collect().await?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = cpu_seconds().unwrap_or(f64::NAN) - cpu;
    Ok((Figures { seconds, cpu, peak: peak_memory().unwrap_or(0) }, answer))
}

/// Median; the upper one of two middle values.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Uncompressed bytes of the query's variables, in their stored type.
pub(crate) fn logical_bytes(dataset: &Dataset, query: &Query) -> u64 {
    dataset
        .variables()
        .iter()
        .filter(|(variable, _)| query.variables.contains(&variable.name()))
        .map(|(v, _)| v.stored_width().unwrap_or(0) * v.shape().iter().product::<u64>())
        .sum()
}
