//! `lsio-bench`: makes data, and times queries on it.
//!
//! ```text
//! cargo run --release --bin lsio-bench -- make-data --gib 4 --codec zstd /tmp/zstd.zarr
//! cargo run --release --bin lsio-bench -- run /tmp/zstd.zarr
//! cargo run --release --bin lsio-bench -- bare /tmp/zstd.zarr
//! ```

mod bare;
mod make_data;
mod process;
mod queries;
mod run;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "lsio-bench", version, about = "Benchmarks of Light Speed IO")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a synthetic store like ERA5: three variables on time, latitude and longitude
    MakeData(make_data::Args),
    /// Time a bare loop over the chunks of one variable: the floor for a full scan
    Bare(bare::Args),
    /// Time named queries on a store that make-data wrote
    Run(run::Args),
}

/// What the commands fail with.
type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Error> {
    match Args::parse().command {
        Command::MakeData(args) => make_data::run(&args),
        Command::Bare(args) => bare::run(&args),
        Command::Run(args) => run::run(&args),
    }
}
