//! `lsio-bench`: makes data, and times queries on it.
//!
//! ```text
//! cargo run --release --bin lsio-bench -- make-data --gib 4 --codec zstd /tmp/zstd.zarr
//! cargo run --release --bin lsio-bench -- run /tmp/zstd.zarr
//! cargo run --release --bin lsio-bench -- bare /tmp/zstd.zarr
//! cargo run --release --bin lsio-bench -- aggregate /tmp/zstd.zarr
//! cargo run --release --bin lsio-bench -- relations /tmp/relations
//! cargo run --release --bin lsio-bench -- again /tmp/1.zarr /tmp/4.zarr
//! cargo run --release --bin lsio-bench -- grow /tmp/1.zarr /tmp/2.zarr /tmp/4.zarr
//! cargo run --release --bin lsio-bench -- tiny /tmp/tiny
//! cargo run --release --bin lsio-bench -- read /tmp/zstd.zarr
//! cargo run --release --bin lsio-bench -- link --latency 50ms --rate 250 /tmp/zstd.zarr
//! ```

mod again;
mod aggregate;
mod bare;
mod chunks;
mod drive;
mod grow;
mod link;
mod make_data;
mod measure;
mod process;
mod queries;
mod read;
mod relations;
mod run;
mod runner;
mod shard;
mod table;
mod tiny;
mod workers;

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
    /// Time aggregate queries in turns with a bare loop over the same chunks, or with the drive
    Aggregate(aggregate::Args),
    /// Time queries that relate cells to other cells in turns with a bare loop over the chunks they need
    Relations(relations::Args),
    /// A question of relations
    #[command(hide = true)]
    Relate(relations::alone::Args),
    /// Time a query several times from an emptied page cache, for each setting of lsio.page_cache
    Again(again::Args),
    /// Time queries of chunks of one element, stored and not
    Tiny(tiny::Args),
    /// Time one aggregate query on stores of several sizes
    Grow(grow::Args),
    /// Time reads of a variable into memory, in turns with a bare loop over the same chunks
    Read(read::Args),
    /// Time queries of stores behind a slow link, in turns with a bare loop that gets the same chunks
    Link(link::Args),
    /// The server of link
    #[command(hide = true)]
    Serve(link::serve::Args),
    /// A query of link
    #[command(hide = true)]
    Ask(link::ask::Args),
}

/// Error of the commands.
type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Error> {
    match Args::parse().command {
        Command::MakeData(args) => make_data::run(&args),
        Command::Bare(args) => bare::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Aggregate(args) => aggregate::run(&args),
        Command::Relations(args) => relations::run(&args),
        Command::Relate(args) => relations::alone::run(&args),
        Command::Again(args) => again::run(&args),
        Command::Tiny(args) => tiny::run(&args),
        Command::Grow(args) => grow::run(&args),
        Command::Read(args) => read::run(&args),
        Command::Link(args) => link::run(&args),
        Command::Serve(args) => link::serve::run(&args),
        Command::Ask(args) => link::ask::run(&args),
    }
}
