//! `link`: times queries of stores behind a slow link, in alternation with the link itself: a bare loop that gets the
//! same objects and does nothing else.
//!
//! ```text
//! link ──▶ serve   a process: the server, and the link to it
//!      ──▶ ask     one process per run: a query from a cold start to its answer, which is checked
//!      ──▶ bare    the loop, with object_store's own client
//! ```
//!
//! Server and queries have processes of their own, so that a query's cost is measured alone.

pub(crate) mod ask;
mod bare;
mod needed;
pub(crate) mod serve;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use self::{
    needed::{Needed, Selected},
    serve::{Served, Traffic},
};
use crate::{
    Error,
    measure::{Figures, median},
    process::fill_cache,
    queries::{AGGREGATES, QUERIES, find},
    table::Table,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Stores that make-data wrote
    #[arg(required = true)]
    stores: Vec<PathBuf>,
    #[command(flatten)]
    link: Link,
    /// How often each query and the bare loop are run, in turns
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// A query of the table era5 that reads all chunks of its variables [default: an aggregate of all
    /// variables, a box and a point]
    #[arg(long)]
    query: Option<String>,
    /// How many objects the bare loop gets at a time; the fastest of these counts
    #[arg(long, value_delimiter = ',', default_values_t = [8, 16, 32, 64, 128])]
    concurrency: Vec<usize>,
}

/// The server, and the link to it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Link {
    /// How the server is spoken to
    #[arg(long, value_enum, default_value_t = Protocol::S3)]
    protocol: Protocol,
    /// The time until an answer begins
    #[arg(long, value_parser = latency, default_value = "50ms")]
    latency: Duration,
    /// The MB/s that all answers get together; 0: without a limit
    #[arg(long, default_value_t = 250)]
    rate: u64,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Protocol {
    S3,
    Http,
}

impl Protocol {
    /// Name on the command line.
    fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Http => "http",
        }
    }
}

/// A query, with its selection.
struct Question<'a> {
    name: &'a str,
    sql: &'a str,
    selected: Selected,
}

/// Consecutive runs: the fastest bare loop, and the query.
struct Turn {
    bare: Figures,
    query: Figures,
    traffic: Traffic,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    if args.concurrency.is_empty() || args.concurrency.contains(&0) {
        return Err("--concurrency takes numbers from 1 on".into());
    }
    let questions = match &args.query {
        Some(sql) => vec![Question { name: "query", sql, selected: Selected::All }],
        None => vec![
            Question { name: "all", sql: find(&AGGREGATES, "all")?.sql, selected: Selected::All },
            Question { name: "box", sql: find(&QUERIES, "box")?.sql, selected: Selected::BOX },
            Question {
                name: "point",
                sql: "SELECT t2m, u10, v10 FROM era5 WHERE time = '2019-01-01T00:00:00' \
                      AND latitude = 45 AND longitude = 90",
                selected: Selected::POINT,
            },
        ],
    };
    let Link { protocol, latency, rate } = &args.link;
    println!(
        "{}, {latency:?}, {}, {} runs",
        protocol.name(),
        if *rate == 0 { "no limit".to_owned() } else { format!("{rate} MB/s") },
        args.repeat.max(1)
    );
    for store in &args.stores {
        measure(args, store, &questions)?;
    }
    println!("link s: the bare loop's seconds with as many requests at a time as were fastest");
    println!("ratio: the query's seconds over the loop's, the median of the turns");
    println!("MB: what all answers had; needed: the chunks that hold what is asked for");
    Ok(())
}

fn measure(args: &Args, store: &Path, questions: &[Question<'_>]) -> Result<(), Error> {
    let local = store.canonicalize().map_err(|e| format!("{}: {e}", store.display()))?;
    let (Some(root), Some(name)) = (local.parent(), local.file_name()) else {
        return Err(format!("{} is no store in a directory", store.display()).into());
    };
    // The name becomes a part of URLs.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name = name.to_str().filter(|name| name.chars().all(is_plain)).ok_or_else(|| {
        format!("{}: the store's name may have letters, digits, '-', '_' and '.'", store.display())
    })?;
    println!("\n{}", store.display());
    // The server must not wait for the drive.
    fill_cache(&local)?;
    let mut served = Served::start(&args.link, root)?;
    let address = ask::address(args.link.protocol, &served.url, name);
    let mut table = Table::default();
    for question in questions {
        let needed = Needed::find(&local, name, question.sql, question.selected)?;
        let loops = bare::Loop::new(args.link.protocol, &served.url, &needed.pieces)?;
        let mut fastest = (f64::INFINITY, 1);
        for &concurrency in &args.concurrency {
            let seconds = loops.run(concurrency)?.seconds;
            if seconds < fastest.0 {
                fastest = (seconds, concurrency);
            }
        }
        let mut turns = Vec::new();
        for _ in 0..args.repeat.max(1) {
            let bare = loops.run(fastest.1)?;
            served.traffic()?;
            let query = ask::run_alone(&address, &local, question.sql)?;
            turns.push(Turn { bare, query, traffic: served.traffic()? });
        }
        table.row("query", question.name, &cells(&turns, fastest.1, &needed));
    }
    Ok(())
}

fn cells(turns: &[Turn], concurrency: usize, needed: &Needed) -> Vec<(&'static str, String)> {
    let middle = |value: fn(&Turn) -> f64| median(turns.iter().map(value));
    let peak = turns.iter().map(|turn| turn.query.peak).max().unwrap_or(0);
    vec![
        ("seconds", format!("{:.3}", middle(|turn| turn.query.seconds))),
        ("link s", format!("{:.3}", middle(|turn| turn.bare.seconds))),
        ("at a time", concurrency.to_string()),
        ("ratio", format!("{:.3}", middle(|turn| turn.query.seconds / turn.bare.seconds))),
        ("CPU s", format!("{:.2}", middle(|turn| turn.query.cpu))),
        ("link CPU s", format!("{:.2}", middle(|turn| turn.bare.cpu))),
        ("peak MiB", (peak >> 20).to_string()),
        ("requests", middle(|turn| turn.traffic.requests as f64).to_string()),
        ("needed", needed.pieces.len().to_string()),
        ("MB", format!("{:.2}", middle(|turn| turn.traffic.bytes as f64) / 1e6)),
        ("needed MB", format!("{:.2}", needed.bytes() as f64 / 1e6)),
        ("round trips", middle(|turn| turn.traffic.round_trips as f64).to_string()),
    ]
}

/// Parses a time with its unit, `50ms` or `0.1s`.
fn latency(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').ok_or("a time such as 50ms or 0.1s is expected")?, 1.0),
    };
    let number: f64 = number.parse().map_err(|_| "a time such as 50ms or 0.1s is expected")?;
    Duration::try_from_secs_f64(number * unit).map_err(|e| e.to_string())
}
