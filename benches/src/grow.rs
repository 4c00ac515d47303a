//! `grow`: one aggregate query on stores of several sizes, to see that the time grows with the data and the memory
//! doesn't.

use std::path::PathBuf;

use crate::{
    Error,
    measure::median,
    process::reset_peak_memory,
    queries::{AGGREGATES, find},
    runner::{Runner, threads},
    table::Table,
};

/// Length of the longest bar, in characters.
const LONGEST: f64 = 60.0;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Stores that make-data wrote
    #[arg(required = true)]
    stores: Vec<PathBuf>,
    /// The query: one of those of aggregate
    #[arg(long, default_value = "by_latitude")]
    query: String,
    /// How often the query is run
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Threads, and partitions of the query [default: one a core]
    #[arg(long)]
    threads: Option<usize>,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let query = find(&AGGREGATES, &args.query)?;
    let threads = threads(args.threads);
    println!("{}, {threads} threads, hot, {} runs", query.name, args.runs.max(1));
    if !reset_peak_memory() {
        println!("peaks of memory are those since the start: they can't be reset here");
    }
    let mut table = Table::default();
    let mut points = Vec::new();
    for store in &args.stores {
        let runner = Runner::new(store, threads)?;
        // One run before those that count.
        runner.fill_cache(query)?;
        runner.run(&[], query)?;
        let (mut seconds, mut peak) = (Vec::new(), 0);
        for _ in 0..args.runs.max(1) {
            let figures = runner.run(&[], query)?;
            seconds.push(figures.seconds);
            peak = figures.peak.max(peak);
        }
        let (seconds, bytes) = (median(seconds), runner.logical_bytes(query) as f64);
        let gib = bytes / f64::from(1 << 30);
        let name = store.file_name().unwrap_or(store.as_os_str()).to_string_lossy();
        let cells = [
            ("GiB", format!("{gib:.2}")),
            ("seconds", format!("{seconds:.4}")),
            ("GB/s", format!("{:.2}", bytes / 1e9 / seconds)),
            ("peak MiB", (peak >> 20).to_string()),
        ];
        table.row("store", &name, &cells);
        points.push((gib, seconds));
    }
    plot(points);
    Ok(())
}

/// Prints a bar of seconds for each size.
fn plot(mut points: Vec<(f64, f64)>) {
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let slowest = points.iter().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max);
    println!("\n{:>10}  seconds", "GiB");
    for (gib, seconds) in points {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the longest bar"
        )]
        let length = (LONGEST * seconds / slowest).round() as usize;
        println!("{gib:>10.2}  {} {seconds:.4}", "#".repeat(length));
    }
}
