//! `again`: times the same query several times in a row, from an emptied page cache, for each use of the page cache.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use datafusion::prelude::SessionConfig;
use lsio_core::{
    Resources,
    uring::{Access, Engine, Options},
};
use lsio_datafusion::{LsioConfig, PageCacheUse, SessionResources};

use crate::{
    Error,
    measure::run_once,
    queries::{AGGREGATES, Query, choose},
    runner::threads,
    table::Table,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Stores that make-data wrote
    #[arg(required = true)]
    stores: Vec<PathBuf>,
    /// The query to run again and again
    #[arg(long, default_value = "all")]
    query: String,
    /// How often it is run after the page cache was emptied
    #[arg(long, default_value_t = 3)]
    looks: usize,
    /// Turns of all uses of the page cache; the figures are the least of each look
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Threads of the queries, which have as many partitions [default: one a core]
    #[arg(long)]
    threads: Option<usize>,
    /// GiB that the page cache may be filled with, in place of what is free
    #[arg(long)]
    holds: Option<f64>,
}

/// One run of the query.
#[derive(Clone, Copy)]
struct Look {
    seconds: f64,
    /// Bytes read past the page cache, and into it.
    past: u64,
    filled: u64,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let query = choose(&AGGREGATES, std::slice::from_ref(&args.query))?;
    let query = query.first().ok_or("there is no query")?;
    let threads = threads(args.threads);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    println!("{}, {threads} threads, the least of {} turns", query.sql, args.turns.max(1));
    let mut table = Table::default();
    for store in &args.stores {
        let mut best: Vec<Option<Vec<Look>>> = vec![None; Access::NAMES.len()];
        for _ in 0..args.turns.max(1) {
            for (name, best) in Access::NAMES.iter().zip(&mut best) {
                evict(store)?;
                let looks = runtime.block_on(looks(args, store, threads, query, name.parse()?))?;
                *best = Some(match best.take() {
                    Some(best) => best.into_iter().zip(looks).map(faster).collect(),
                    None => looks,
                });
            }
        }
        for (name, best) in Access::NAMES.iter().zip(best) {
            print(&mut table, store, name, &best.unwrap_or_default());
        }
    }
    println!("past, filled: GB read from the drive past the page cache, and into it, at each look");
    Ok(())
}

fn faster((one, other): (Look, Look)) -> Look {
    if other.seconds < one.seconds { other } else { one }
}

fn print(table: &mut Table, store: &Path, name: &str, looks: &[Look]) {
    let name = format!("{} {name}", store.file_name().unwrap_or_default().to_string_lossy());
    let list = |cell: fn(&Look) -> String| looks.iter().map(cell).collect::<Vec<_>>().join(" ");
    let cells = [
        ("seconds", list(|look| format!("{:7.3}", look.seconds))),
        ("past", list(|look| format!("{:6.2}", look.past as f64 / 1e9))),
        ("filled", list(|look| format!("{:6.2}", look.filled as f64 / 1e9))),
    ];
    table.row("store, use", &name, &cells);
}

/// Runs the query in a row, with engines that have read nothing before.
async fn looks(
    args: &Args,
    store: &Path,
    threads: usize,
    query: &Query,
    access: Access,
) -> Result<Vec<Look>, Error> {
    let mut options = Options::default();
    options.page_cache_bytes = args.holds.map(|gib| (gib * f64::from(1 << 30)) as u64);
    let resources = Resources::builder().with_engine_options(options).build();
    let config = LsioConfig {
        resources: SessionResources::from(resources.clone()),
        page_cache: PageCacheUse::from(access),
        ..LsioConfig::default()
    };
    let config = SessionConfig::new().with_target_partitions(threads).with_option_extension(config);
    let read = || -> Result<(u64, u64), Error> {
        let counts = resources.engines().files(Engine::Auto)?.counts();
        Ok((counts.direct_bytes, counts.buffered_bytes))
    };
    let mut looks = Vec::new();
    for _ in 0..args.looks.max(1) {
        let before = read()?;
        let figures = run_once(&store.to_string_lossy(), &config, &[], query).await?;
        let after = read()?;
        looks.push(Look {
            seconds: figures.seconds,
            past: after.0 - before.0,
            filled: after.1 - before.1,
        });
    }
    Ok(looks)
}

/// Has the system drop all files below a directory from the page cache, which needs no rights.
fn evict(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            evict(&entry.path())?;
        } else {
            evict_file(&fs::File::open(entry.path())?)?;
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn evict_file(file: &fs::File) -> io::Result<()> {
    // Pages that aren't on the disk yet would stay.
    file.sync_data()?;
    Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
}

#[cfg(not(target_os = "linux"))]
fn evict_file(_: &fs::File) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "emptying the page cache needs Linux"))
}
