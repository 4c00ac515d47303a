//! `run`: times the named queries, hot and cold.

use std::path::PathBuf;

use datafusion::prelude::SessionConfig;
use lsio_core::{Dataset, Location, OpenOptions, Resources, uring::Access};

use crate::{
    Error,
    measure::{Figures, logical_bytes, median, run_once},
    process::{drop_caches, fill_cache, reset_peak_memory},
    queries::{QUERIES, Query, choose},
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
    let queries = choose(&QUERIES, &args.queries)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run_queries(args, &queries))
}

async fn run_queries(args: &Args, queries: &[&Query]) -> Result<(), Error> {
    let store = args.store.to_string_lossy();
    let dataset = Dataset::open(&Location::parse(&store)?, &OpenOptions::default()).await?;
    let mut config = SessionConfig::new();
    if let Some(partitions) = args.partitions {
        config = config.with_target_partitions(partitions);
    }
    let resources = Resources::of_process();
    let files = resources.engines().store(resources.engine()?, Access::Auto)?;
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
    for query in queries {
        let bytes = logical_bytes(&dataset, query);
        if cold {
            let runs = args.runs.div_ceil(3).max(1);
            let figures = measure(&store, &config, query, runs, true).await?;
            print(query, "cold", bytes, &figures);
        }
        // Reads past the page cache don't fill it. Then one run before those that count.
        fill_cache(&args.store)?;
        measure(&store, &config, query, 1, false).await?;
        let figures = measure(&store, &config, query, args.runs.max(1), false).await?;
        print(query, "hot", bytes, &figures);
    }
    Ok(())
}

async fn measure(
    store: &str,
    config: &SessionConfig,
    query: &Query,
    runs: usize,
    cold: bool,
) -> Result<Vec<Figures>, Error> {
    let mut figures = Vec::with_capacity(runs);
    for _ in 0..runs {
        if cold {
            drop_caches();
        }
        figures.push(run_once(store, config, &[], query).await?);
    }
    Ok(figures)
}

fn print(query: &Query, state: &str, bytes: u64, figures: &[Figures]) {
    let seconds = median(figures.iter().map(|f| f.seconds));
    let cpu = median(figures.iter().map(|f| f.cpu));
    let peak = figures.iter().map(|f| f.peak).max().unwrap_or(0);
    let rate =
        if bytes == 0 { "-".to_owned() } else { format!("{:.2}", bytes as f64 / 1e9 / seconds) };
    println!("{:<14} {state:<4} {seconds:>9.4} {rate:>9} {cpu:>7.2} {:>9}", query.name, peak >> 20);
}
