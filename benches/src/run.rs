//! `run`: times the named queries, hot and cold.

use std::{path::PathBuf, time::Instant};

use datafusion::prelude::{SessionConfig, SessionContext};
use lsio_core::{Dataset, Location, OpenOptions};
use lsio_datafusion::{IoEngine, prelude::*};

use crate::{
    Error,
    process::{cpu_seconds, drop_caches, fill_cache, peak_memory, reset_peak_memory},
    queries::{QUERIES, Query},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A store that make-data wrote
    store: PathBuf,
    /// The queries to run, separated by commas [default: all]
    #[arg(long, value_delimiter = ',')]
    queries: Vec<String>,
    /// How often each query is run hot; cold runs are a third of it
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// The number of partitions [default: one a core]
    #[arg(long)]
    partitions: Option<usize>,
    /// Leave out the runs with an empty page cache
    #[arg(long)]
    no_cold: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    for name in &args.queries {
        if !QUERIES.iter().any(|query| query.name == name) {
            let known: Vec<_> = QUERIES.iter().map(|query| query.name).collect();
            return Err(format!("no query '{name}'; there are {}", known.join(", ")).into());
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run_queries(args))
}

async fn run_queries(args: &Args) -> Result<(), Error> {
    let store = args.store.to_string_lossy();
    let dataset = Dataset::open(&Location::parse(&store)?, &OpenOptions::default()).await?;
    let mut config = SessionConfig::new();
    if let Some(partitions) = args.partitions {
        config = config.with_target_partitions(partitions);
    }
    let files = IoEngine::default().store()?;
    println!("{store}, {} partitions, read through {files}", config.target_partitions());
    let cold = !args.no_cold && drop_caches();
    if !args.no_cold && !cold {
        println!("cold runs are left out: emptying the page cache needs root");
    }
    if !reset_peak_memory() {
        println!("peaks of memory are those since the start: they can't be reset here");
    }
    println!(
        "{:<14} {:<4} {:>9} {:>9} {:>7} {:>9}",
        "query", "", "seconds", "GB/s", "CPU s", "peak MiB"
    );
    for query in &QUERIES {
        if !args.queries.is_empty() && !args.queries.iter().any(|name| name == query.name) {
            continue;
        }
        let bytes = logical_bytes(&dataset, query);
        if cold {
            let runs = args.runs.div_ceil(3).max(1);
            let figures = measure(&store, &config, query, runs, true).await?;
            print(query, "cold", bytes, &figures);
        }
        // Reads past the page cache don't fill it. And one more run before those that count.
        fill_cache(&args.store)?;
        measure(&store, &config, query, 1, false).await?;
        let figures = measure(&store, &config, query, args.runs.max(1), false).await?;
        print(query, "hot", bytes, &figures);
    }
    Ok(())
}

/// Seconds, seconds of processor time and peak of memory of each run.
type Figures = Vec<(f64, f64, u64)>;

async fn measure(
    store: &str,
    config: &SessionConfig,
    query: &Query,
    runs: usize,
    cold: bool,
) -> Result<Figures, Error> {
    let mut figures = Vec::with_capacity(runs);
    for _ in 0..runs {
        if cold {
            drop_caches();
        }
        reset_peak_memory();
        let cpu = cpu_seconds().unwrap_or(f64::NAN);
        let start = Instant::now();
        // What a user waits for: opening, planning and running.
        let ctx = SessionContext::new_with_config(config.clone()).with_zarr();
        ctx.register_zarr("era5", store, OpenOptions::default()).await?;
        ctx.sql(query.sql).await?.collect().await?;
        let seconds = start.elapsed().as_secs_f64();
        let cpu = cpu_seconds().unwrap_or(f64::NAN) - cpu;
        figures.push((seconds, cpu, peak_memory().unwrap_or(0)));
    }
    Ok(figures)
}

fn print(query: &Query, state: &str, bytes: u64, figures: &Figures) {
    let seconds = median(figures.iter().map(|f| f.0).collect());
    let cpu = median(figures.iter().map(|f| f.1).collect());
    let peak = figures.iter().map(|f| f.2).max().unwrap_or(0);
    let rate =
        if bytes == 0 { "-".to_owned() } else { format!("{:.2}", bytes as f64 / 1e9 / seconds) };
    println!("{:<14} {state:<4} {seconds:>9.4} {rate:>9} {cpu:>7.2} {:>9}", query.name, peak >> 20);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The bytes of the query's variables as stored, uncompressed.
fn logical_bytes(dataset: &Dataset, query: &Query) -> u64 {
    dataset
        .variables()
        .iter()
        .filter(|(variable, _)| query.variables.contains(&variable.name()))
        .map(|(v, _)| v.stored_width().unwrap_or(0) * v.shape().iter().product::<u64>())
        .sum()
}
