//! `read`: times reads of a variable into fresh memory, in turns with a bare loop that decodes the same chunks.

use std::{num::NonZero, path::PathBuf, time::Instant};

use lsio_core::{
    Dataset, Location, OpenOptions, Resources, Variable,
    read::into::{Along, Cells, Indices, Place, ReadInto, Stop, ValuesAs, Wanted},
};
use tokio::runtime::Runtime;

use crate::{
    Error,
    chunks::Chunks,
    measure::median,
    process::{cpu_seconds, drop_caches, fill_cache},
    runner::threads,
    table::Table,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A store that make-data wrote
    store: PathBuf,
    /// The variable
    #[arg(long, default_value = "t2m")]
    variable: String,
    /// How often each read is run
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Empty the page cache before each read
    #[arg(long)]
    cold: bool,
}

/// Cells to read.
struct Question {
    name: &'static str,
    cells: Cells,
    /// Whether the bare loop decodes the chunks that hold them: all chunks.
    is_all: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let location = Location::parse(&args.store.to_string_lossy())?;
    let dataset = runtime.block_on(Dataset::open(&location, &OpenOptions::default()))?;
    let variable = dataset.variable(&args.variable)?;
    let chunks = Chunks::find(&args.store, &[&args.variable])?;
    println!("{} of {}, {} runs", args.variable, args.store.display(), args.runs.max(1));
    fill_cache(&args.store)?;
    let mut table = Table::default();
    for question in questions(variable.shape()) {
        let (mut seconds, mut cpu, mut loops) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..args.runs.max(1) {
            if args.cold && !drop_caches() {
                return Err("emptying the page cache needs root".into());
            }
            let before = cpu_seconds().unwrap_or(f64::NAN);
            seconds.push(read(&runtime, variable, &question.cells)?);
            cpu.push(cpu_seconds().unwrap_or(f64::NAN) - before);
            if question.is_all && !args.cold {
                loops.push(chunks.decode(threads(None))?);
            }
        }
        let (seconds, cpu) = (median(seconds), median(cpu));
        let bytes: u64 = question.cells.shape().iter().product::<u64>() * width(variable)?;
        let ratio = if loops.is_empty() {
            "-".to_owned()
        } else {
            format!("{:.2}", seconds / median(loops))
        };
        let cells = [
            ("seconds", format!("{seconds:.4}")),
            ("GB/s", format!("{:.2}", bytes as f64 / 1e9 / seconds)),
            ("CPU s", format!("{cpu:.2}")),
            ("of the loop", ratio),
        ];
        table.row("read", question.name, &cells);
    }
    println!(
        "of the loop: the time as a multiple of a bare loop that decodes the same chunks and keeps nothing"
    );
    Ok(())
}

/// Reads cells into memory that was never touched. Returns the time in seconds.
fn read(runtime: &Runtime, variable: &Variable, cells: &Cells) -> Result<f64, Error> {
    let resources = Resources::of_process();
    let page_cache = resources.engines().page_cache(resources.engine()?)?;
    let how = ReadInto { runtime: runtime.handle().clone(), page_cache, stop: Stop::default() };
    let (shape, width) = (cells.shape(), width(variable)?);
    let start = Instant::now();
    let mut memory = vec![0; usize::try_from(shape.iter().product::<u64>() * width)?];
    let place = Place::contiguous(&mut memory, &shape, usize::try_from(width)?)?;
    variable.read_into(vec![Wanted { cells: cells.clone(), place }], ValuesAs::Stored, &how)?;
    Ok(start.elapsed().as_secs_f64())
}

fn width(variable: &Variable) -> Result<u64, Error> {
    Ok(variable.stored_width().ok_or("the elements have no fixed size")?)
}

/// The whole, a box, every seventh index, and the series of a thousand places.
fn questions(shape: &[u64]) -> Vec<Question> {
    let range = |start: u64, step: u64, len: u64| Indices::Range {
        start,
        step: NonZero::new(step).unwrap_or(NonZero::<u64>::MIN),
        len,
    };
    let box_around = |size: &u64| range(size / 4, 1, (size / 2).max(1));
    let thinned = |size: &u64| range(0, 7, size.div_ceil(7));
    let places = shape.iter().enumerate().map(|(dim, size)| match dim {
        0 => Along::Each(Indices::all(*size)),
        _ => Along::Points((0..1000).map(|point| point * 7919 % size).collect()),
    });
    vec![
        Question { name: "whole", cells: Cells::all(shape), is_all: true },
        Question {
            name: "box",
            cells: Cells::Outer(shape.iter().map(box_around).collect()),
            is_all: false,
        },
        Question {
            name: "thinned",
            cells: Cells::Outer(shape.iter().map(thinned).collect()),
            is_all: true,
        },
        Question { name: "places", cells: Cells::Points(places.collect()), is_all: true },
    ]
}
