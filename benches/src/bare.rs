//! `bare`: lower bound for a full scan. Reads every chunk of one variable into a reused buffer, has the C library
//! decode it into another, and does nothing else.

use std::path::PathBuf;

use crate::{Error, chunks::Chunks, measure::median};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A store that make-data wrote
    store: PathBuf,
    /// The variable
    #[arg(long, default_value = "t2m")]
    variable: String,
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// How often
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let chunks = Chunks::find(&args.store, &[args.variable.as_str()])?;
    // The first run fills the page cache.
    chunks.decode(args.threads.max(1))?;
    let mut seconds = Vec::new();
    for _ in 0..args.runs.max(1) {
        seconds.push(chunks.decode(args.threads.max(1))?);
    }
    let median = median(seconds);
    println!(
        "{} chunks, {:.3} s, {:.2} GB/s decoded",
        chunks.len(),
        median,
        chunks.decoded_bytes() as f64 / 1e9 / median
    );
    Ok(())
}
