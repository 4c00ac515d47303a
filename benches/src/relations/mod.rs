//! `relations`: times questions that relate cells to other cells (differences of grids, anomalies, shifts, rolling and
//! cumulative values, skill of forecasts, percentiles) in turns with a bare loop that decodes once the chunks that they
//! need.

pub(crate) mod alone;
mod questions;
mod stores;

use std::{path::PathBuf, time::Duration};

use clap::ValueEnum;
use datafusion::prelude::SessionConfig;
use lsio_datafusion::LsioConfig;
use lsio_synthetic::write::Compression;
use tokio::runtime::{Builder, Runtime};

use self::{
    questions::{Question, choose},
    stores::{Specification, Stores},
};
use crate::{
    Error,
    chunks::Chunks,
    measure::{self, Figures, median},
    process::{fill_cache, reset_peak_memory},
    runner::threads,
    table::Table,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory for the stores, which are written if they aren't there
    directory: PathBuf,
    /// The questions to ask, separated by commas [default: all]
    #[arg(long, value_delimiter = ',')]
    questions: Vec<String>,
    /// How chunks are encoded
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Codec::Zstd, Codec::BloscLz4])]
    codecs: Vec<Codec>,
    /// Days of hourly fields of 181 × 360 cells: 31 of them are 194 MB a variable
    #[arg(long, default_value_t = 31)]
    days: u64,
    /// The shape of the chunks: times, latitudes, longitudes
    #[arg(long, value_delimiter = ',', num_args = 1, default_values_t = [24, 91, 180])]
    chunks: Vec<u64>,
    /// The shape of the model's chunks [default: that of the others]
    #[arg(long, value_delimiter = ',', num_args = 1)]
    model_chunks: Vec<u64>,
    /// How often each question is asked
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Threads of the questions, which have as many partitions, and of the loop [default: one a core]
    #[arg(long)]
    threads: Option<usize>,
    /// Seconds after which a question is given up that is asked with the rules off; 0: none is asked so
    #[arg(long, default_value_t = 60)]
    off_limit: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Codec {
    Zstd,
    BloscLz4,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let questions = choose(&args.questions)?;
    let threads = threads(args.threads);
    if !reset_peak_memory() {
        println!("peaks of memory are those since the start: they can't be reset here");
    }
    let chunks = shape(&args.chunks)?;
    let others = if args.model_chunks.is_empty() { chunks } else { shape(&args.model_chunks)? };
    for &codec in &args.codecs {
        let (name, compression) = match codec {
            Codec::Zstd => ("zstd", Compression::Zstd(3)),
            Codec::BloscLz4 => ("blosc-lz4", Compression::BloscLz4(5)),
        };
        let text = |shape: [u64; 3]| shape.map(|size| size.to_string()).join("x");
        let set = format!("{name}-{}-{}-{}", args.days, text(chunks), text(others));
        let directory = args.directory.join(set);
        let spec = Specification { days: args.days, chunks: [chunks, others], compression };
        let stores = Stores::in_directory(&directory, &spec)?;
        println!("{}, {threads} threads, hot, {} runs", directory.display(), args.runs.max(1));
        let session = Session::new(threads)?;
        let mut table = Table::default();
        for question in &questions {
            let bench = Bench { args, threads, session: &session, stores: &stores, question };
            table.row("question", question.name, &bench.cells()?);
        }
    }
    println!("ratio: the question's seconds over the loop's, the median of the turns");
    println!(
        "off s: with lsio.join_pushdown and lsio.window_pushdown off, in a process of its own"
    );
    Ok(())
}

fn shape(sizes: &[u64]) -> Result<[u64; 3], Error> {
    let shape = sizes.try_into().ok().filter(|shape: &[u64; 3]| !shape.contains(&0));
    shape.ok_or_else(|| "a shape has three sizes: times,latitudes,longitudes".into())
}

/// Statements that switch the rules off, as far as the session knows them.
fn off() -> Vec<&'static str> {
    let known = SessionConfig::new().with_option_extension(LsioConfig::default());
    let known = known.options().entries();
    [
        ("lsio.join_pushdown", "SET lsio.join_pushdown = false"),
        ("lsio.window_pushdown", "SET lsio.window_pushdown = false"),
    ]
    .into_iter()
    .filter(|(name, _)| known.iter().any(|entry| entry.key == *name))
    .map(|(_, statement)| statement)
    .collect()
}

/// Runs questions on a number of threads.
struct Session {
    runtime: Runtime,
    config: SessionConfig,
}

impl Session {
    /// There are as many partitions as threads.
    fn new(threads: usize) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
        Ok(Self { runtime, config: SessionConfig::new().with_target_partitions(threads) })
    }

    fn run(&self, stores: &Stores, question: &Question, setup: &[&str]) -> Result<Figures, Error> {
        let tables = stores.tables();
        let tables = tables.each_ref().map(|(table, path)| (*table, path.as_str()));
        let asked = measure::ask(&tables, &self.config, setup, question.sql);
        Ok(self.runtime.block_on(asked)?.0)
    }
}

/// One question, with its lower bound.
struct Bench<'a> {
    args: &'a Args,
    threads: usize,
    session: &'a Session,
    stores: &'a Stores,
    question: &'a Question,
}

impl Bench<'_> {
    fn cells(&self) -> Result<Vec<(&'static str, String)>, Error> {
        let mut chunks = Vec::new();
        for (table, variable) in self.question.needs {
            let store = self.stores.path(table);
            fill_cache(&store.join(variable))?;
            chunks.push(Chunks::find(&store, &[variable])?);
        }
        // One round before those that count.
        self.turn(&chunks)?;
        let turns = (0..self.args.runs.max(1)).map(|_| self.turn(&chunks));
        let turns = turns.collect::<Result<Vec<_>, Error>>()?;
        let seconds = median(turns.iter().map(|(_, on)| on.seconds));
        let floor = median(turns.iter().map(|(floor, _)| *floor));
        let ratio = median(turns.iter().map(|(floor, on)| on.seconds / floor));
        let peak = turns.iter().map(|(_, on)| on.peak).max().unwrap_or(0);
        let mut cells = vec![
            ("seconds", format!("{seconds:.4}")),
            ("floor s", format!("{floor:.4}")),
            ("ratio", format!("{ratio:.2}")),
            ("goal", format!("{:.1}", self.question.goal)),
            ("peak MiB", (peak >> 20).to_string()),
        ];
        if self.args.off_limit > 0 {
            let limit = Duration::from_secs(self.args.off_limit);
            let off =
                alone::run_off(self.stores.directory(), self.question.name, self.threads, limit)?;
            let (off, peak) = match off {
                Some(off) => (format!("{:.4}", off.seconds), (off.peak >> 20).to_string()),
                None => (format!("> {}", limit.as_secs()), "-".to_owned()),
            };
            cells.extend([("off s", off), ("off MiB", peak)]);
        }
        Ok(cells)
    }

    /// Seconds of the loop, and the question's figures.
    fn turn(&self, chunks: &[Chunks]) -> Result<(f64, Figures), Error> {
        let mut floor = 0.0;
        for chunks in chunks {
            floor += chunks.decode(self.threads)?;
        }
        Ok((floor, self.session.run(self.stores, self.question, &[])?))
    }
}
