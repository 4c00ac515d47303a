//! `tiny`: what a chunk of one element costs, stored or not.

use std::{
    fs,
    path::{Path, PathBuf},
};

use datafusion::prelude::SessionConfig;
use lsio_synthetic::write::{Compression, GroupWriter, SyntheticArray};
use serde_json::{Value, json};
use tokio::runtime::Builder;

use crate::{
    Error,
    measure::{ask, median},
    process::{cpu_seconds, reset_peak_memory},
    runner::threads,
    table::Table,
};

/// Chunks of the arrays of which most chunks aren't stored.
const MANY: u64 = 1 << 22;

/// Distance of two stored chunks of such an array.
const RARE: u64 = 4096;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory for the stores, which are written if they aren't there
    directory: PathBuf,
    /// Stored chunks of the arrays of which all are
    #[arg(long, default_value_t = 1 << 16)]
    stored: u64,
    /// How often each query is run
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Threads, and partitions of the query [default: one a core]
    #[arg(long)]
    threads: Option<usize>,
}

/// A store whose only array with small chunks has chunks of one element.
struct Tiny {
    name: &'static str,
    chunks: u64,
    /// Distance of two stored chunks; `None` if no chunk is stored.
    every: Option<u64>,
    /// Whether the array is a coordinate.
    is_coordinate: bool,
    sql: &'static str,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let threads = threads(args.threads);
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let config = SessionConfig::new().with_target_partitions(threads);
    let tiny = |name, chunks, every, sql| Tiny { name, chunks, every, is_coordinate: false, sql };
    let sum = "SELECT count(v), sum(v) FROM t";
    let stores = [
        tiny("absent", MANY, None, sum),
        tiny("sparse", MANY, Some(RARE), sum),
        tiny("limit", MANY, None, "SELECT * FROM t LIMIT 20"),
        tiny("stored", args.stored, Some(1), sum),
        tiny("rows", args.stored, Some(1), "SELECT count(*) FROM t WHERE v > x"),
        Tiny {
            name: "coordinate",
            chunks: args.stored,
            every: Some(1),
            is_coordinate: true,
            sql: "SELECT max(time) FROM t WHERE v >= 0",
        },
    ];
    println!("chunks of one element, {threads} threads, hot, {} runs", args.runs.max(1));
    if !reset_peak_memory() {
        println!("peaks of memory are those since the start: they can't be reset here");
    }
    let mut table = Table::default();
    for store in &stores {
        let path = store.path(&args.directory);
        store.write_if_missing(&path)?;
        let bare = store.bare(&path)?;
        let (mut seconds, mut cpu, mut peak) = (Vec::new(), Vec::new(), 0);
        let tables = [("t", &*path.to_string_lossy())];
        for number in 0..=args.runs.max(1) {
            let (figures, _) = runtime.block_on(ask(&tables, &config, &[], store.sql))?;
            // One run before those that count.
            if number > 0 {
                seconds.push(figures.seconds);
                cpu.push(figures.cpu);
                peak = figures.peak.max(peak);
            }
        }
        let each = |seconds: f64| format!("{:.2}", seconds * 1e6 / store.chunks as f64);
        let cells = [
            ("chunks", store.chunks.to_string()),
            ("seconds", format!("{:.4}", median(seconds))),
            ("CPU, us/chunk", each(median(cpu))),
            ("bare, us/chunk", bare.map_or_else(String::new, each)),
            ("peak MiB", (peak >> 20).to_string()),
        ];
        table.row("query", store.name, &cells);
    }
    Ok(())
}

impl Tiny {
    fn path(&self, directory: &Path) -> PathBuf {
        let name = match (self.every, self.is_coordinate) {
            (None, _) => "absent".to_owned(),
            (_, true) => format!("coordinate-{}", self.chunks),
            (Some(every), _) => format!("every-{every}-{}", self.chunks),
        };
        directory.join(name)
    }

    fn write_if_missing(&self, path: &Path) -> Result<(), Error> {
        if path.exists() {
            return Ok(());
        }
        // Under another name until it is complete.
        let partial = path.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        let group = GroupWriter::create(&partial, json!({}))?;
        let (name, dim) = if self.is_coordinate { ("time", "time") } else { ("v", "x") };
        let dims = [(dim, self.chunks)];
        let spec = |name, chunks, attributes: Value| SyntheticArray {
            name,
            data_type: "int64",
            dims: &dims,
            chunks,
            shards: None,
            compression: Compression::None,
            fill_value: json!(7),
            attributes,
        };
        let attributes = match self.is_coordinate {
            true => json!({"units": "hours since 2000-01-01"}),
            false => json!({}),
        };
        let array = group.array(&spec(name, &[1], attributes))?;
        if let Some(every) = self.every {
            let step = usize::try_from(every)?;
            for chunk in (0..self.chunks).step_by(step) {
                array.write(&[chunk], &[chunk.cast_signed()])?;
            }
        }
        if self.is_coordinate {
            let values: Vec<i64> = (0..self.chunks.cast_signed()).collect();
            group.whole_array(&spec("v", &[1], json!({})), &values)?;
        }
        fs::rename(&partial, path)?;
        Ok(())
    }

    /// Processor time in seconds for one thread to open and read every chunk, if all of them are stored.
    fn bare(&self, path: &Path) -> Result<Option<f64>, Error> {
        if self.every != Some(1) {
            return Ok(None);
        }
        let name = if self.is_coordinate { "time" } else { "v" };
        let chunks = path.join(name).join("c");
        let read = || -> Result<f64, Error> {
            let start = cpu_seconds().unwrap_or(f64::NAN);
            for chunk in 0..self.chunks {
                std::hint::black_box(fs::read(chunks.join(chunk.to_string()))?);
            }
            Ok(cpu_seconds().unwrap_or(f64::NAN) - start)
        };
        read()?;
        Ok(Some(read()?))
    }
}
