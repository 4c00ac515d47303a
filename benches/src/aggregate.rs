//! `aggregate`: times aggregate queries in alternation with their lower bound: hot, a bare loop over the same chunks on
//! as many threads; cold, the drive.

use std::path::PathBuf;

use crate::{
    Error,
    chunks::Chunks,
    drive,
    measure::{Figures, median},
    process::{drop_caches, reset_peak_memory},
    queries::{AGGREGATES, Query, choose},
    runner::{Runner, threads},
    table::Table,
};

/// Makes DataFusion aggregate rows, in place of the scan its chunks.
const OFF: &str = "SET lsio.aggregate_pushdown = false";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A store that make-data wrote
    store: PathBuf,
    /// The queries to run, separated by commas [default: all]
    #[arg(long, value_delimiter = ',')]
    queries: Vec<String>,
    /// How often each query is run
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Threads of the queries, which have as many partitions, and of the loop [default: one a core]
    #[arg(long)]
    threads: Option<usize>,
    /// Time each query without the push-down of aggregates too
    #[arg(long)]
    off: bool,
    /// Empty the page cache before each query, and compare with the drive
    #[arg(long)]
    cold: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let queries = choose(&AGGREGATES, &args.queries)?;
    let threads = threads(args.threads);
    let runner = Runner::new(&args.store, threads)?;
    let state = if args.cold { "cold" } else { "hot" };
    println!("{}, {threads} threads, {state}, {} runs", args.store.display(), args.runs.max(1));
    if !reset_peak_memory() {
        println!("peaks of memory are those since the start: they can't be reset here");
    }
    let mut table = Table::default();
    for query in queries {
        let chunks = Chunks::find(&args.store, query.variables)?;
        let bench = Bench { args, threads, runner: &runner, query, chunks: &chunks };
        let turns = bench.turns()?;
        let logical = runner.logical_bytes(query);
        let mut cells = if args.cold {
            cold_cells(&turns, logical, chunks.stored_bytes())
        } else {
            hot_cells(&turns, logical)
        };
        cells.extend(other_cells(&turns));
        table.row("query", query.name, &cells);
    }
    if !args.cold {
        println!("ratio: the query's seconds over the floor's, the median of the turns");
    }
    Ok(())
}

/// One query, with its lower bound.
struct Bench<'a> {
    args: &'a Args,
    threads: usize,
    runner: &'a Runner,
    query: &'a Query,
    chunks: &'a Chunks,
}

/// Times of consecutive runs.
struct Turn {
    bound: Bound,
    on: Figures,
    /// Without the push-down.
    off: Option<Figures>,
}

/// Lower bound of the query, in seconds.
#[derive(Clone, Copy)]
enum Bound {
    /// Reading and decoding chunks.
    Decode(f64),
    /// Raw chunks, which need no decoding: reading whole chunks, and reading small pieces.
    Read { chunks: f64, pieces: f64 },
    /// Reading past the page cache.
    Drive(f64),
}

impl Bound {
    /// Seconds to compare the query with.
    fn seconds(self) -> f64 {
        match self {
            Self::Decode(seconds) | Self::Drive(seconds) => seconds,
            Self::Read { pieces, .. } => pieces,
        }
    }
}

impl Bench<'_> {
    fn turns(&self) -> Result<Vec<Turn>, Error> {
        if !self.args.cold {
            // Reads past the page cache don't fill it.
            self.runner.fill_cache(self.query)?;
        }
        // One round before those that count.
        self.turn()?;
        (0..self.args.runs.max(1)).map(|_| self.turn()).collect()
    }

    fn turn(&self) -> Result<Turn, Error> {
        let bound = if self.args.cold {
            Bound::Drive(drive::read(self.chunks.files())?)
        } else if self.chunks.are_raw() {
            let chunks = self.chunks.decode(self.threads)?;
            Bound::Read { chunks, pieces: self.chunks.read_plainly(self.threads)? }
        } else {
            Bound::Decode(self.chunks.decode(self.threads)?)
        };
        let on = self.run(&[])?;
        let off = if self.args.off { Some(self.run(&[OFF])?) } else { None };
        Ok(Turn { bound, on, off })
    }

    fn run(&self, setup: &[&str]) -> Result<Figures, Error> {
        if self.args.cold && !drop_caches() {
            return Err("emptying the page cache needs root".into());
        }
        self.runner.run(setup, self.query)
    }
}

type Cells = Vec<(&'static str, String)>;

fn hot_cells(turns: &[Turn], logical: u64) -> Cells {
    let seconds = median(turns.iter().map(|turn| turn.on.seconds));
    let mut cells = vec![
        ("seconds", format!("{seconds:.4}")),
        ("GB/s", format!("{:.2}", logical as f64 / 1e9 / seconds)),
    ];
    let whole: Vec<f64> = turns
        .iter()
        .filter_map(|turn| match turn.bound {
            Bound::Read { chunks, .. } => Some(chunks),
            Bound::Decode(_) | Bound::Drive(_) => None,
        })
        .collect();
    let floor = median(turns.iter().map(|turn| turn.bound.seconds()));
    let ratio = median(turns.iter().map(|turn| turn.on.seconds / turn.bound.seconds()));
    if whole.is_empty() {
        cells.push(("floor s", format!("{floor:.4}")));
        cells.push(("ratio", format!("{ratio:.3}")));
    } else {
        let share = median(turns.iter().map(|turn| turn.bound.seconds() / turn.on.seconds));
        cells.push(("chunks s", format!("{:.4}", median(whole))));
        cells.push(("plain s", format!("{floor:.4}")));
        cells.push(("ratio", format!("{ratio:.3}")));
        cells.push(("of plain", format!("{:.0} %", 100.0 * share)));
    }
    cells
}

fn cold_cells(turns: &[Turn], logical: u64, stored: u64) -> Cells {
    let seconds = median(turns.iter().map(|turn| turn.on.seconds));
    let drive = median(turns.iter().map(|turn| turn.bound.seconds()));
    let share = median(turns.iter().map(|turn| turn.bound.seconds() / turn.on.seconds));
    let rate = |bytes: u64, seconds: f64| format!("{:.3}", bytes as f64 / 1e9 / seconds);
    vec![
        ("seconds", format!("{seconds:.4}")),
        ("stored GB/s", rate(stored, seconds)),
        ("drive GB/s", rate(stored, drive)),
        ("of drive", format!("{:.0} %", 100.0 * share)),
        ("logical GB/s", rate(logical, seconds)),
        ("min/TB", format!("{:.2}", seconds / 60.0 / (logical as f64 / 1e12))),
    ]
}

/// Figures that hot and cold runs share.
fn other_cells(turns: &[Turn]) -> Cells {
    let mut cells = Vec::new();
    let off: Vec<(f64, f64)> = turns
        .iter()
        .filter_map(|turn| turn.off.map(|off| (off.seconds, off.seconds / turn.on.seconds)))
        .collect();
    if !off.is_empty() {
        cells.push(("off s", format!("{:.4}", median(off.iter().map(|(seconds, _)| *seconds)))));
        cells.push(("off/on", format!("{:.2}", median(off.iter().map(|(_, ratio)| *ratio)))));
    }
    let peak = turns.iter().map(|turn| turn.on.peak).max().unwrap_or(0);
    cells.push(("peak MiB", (peak >> 20).to_string()));
    cells
}
