//! `make-data`: a synthetic store of a given size.

use std::{path::PathBuf, time::Instant};

use clap::ValueEnum;
use lsio_synthetic::{
    reanalysis::{self, Specification},
    write::Compression,
};

use crate::Error;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The size in GiB, uncompressed
    #[arg(long, default_value_t = 1.0)]
    gib: f64,
    /// How chunks are encoded
    #[arg(long, value_enum, default_value_t = Codec::Zstd)]
    codec: Codec,
    /// The shape of the chunks: times, latitudes, longitudes
    #[arg(long, value_delimiter = ',', num_args = 1, default_values_t = [24, 181, 360])]
    chunks: Vec<u64>,
    /// Write one chunk a variable, and link it under all keys: a large store that takes little space
    #[arg(long)]
    one_chunk: bool,
    /// A new or empty directory
    directory: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Codec {
    /// float32, not compressed
    Raw,
    /// float32, zstd
    Zstd,
    /// float32, Blosc with lz4 and shuffle
    BloscLz4,
    /// float32, zstd, in shards of 4 × 4 chunks along latitude and longitude
    ShardedZstd,
    /// int16 with scale and offset, zstd
    Int16Zstd,
    /// int16 with scale and offset, Blosc with lz4 and shuffle
    Int16BloscLz4,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    // The grid of ERA5, 0.25°.
    let (latitudes, longitudes) = (721, 1440);
    let chunks: [u64; 3] = args
        .chunks
        .clone()
        .try_into()
        .map_err(|_| "--chunks takes three sizes: times,latitudes,longitudes")?;
    let packed = matches!(args.codec, Codec::Int16Zstd | Codec::Int16BloscLz4);
    let mut spec = Specification {
        times: 1,
        latitudes,
        longitudes,
        chunks,
        shards: matches!(args.codec, Codec::ShardedZstd).then_some([
            chunks[0],
            4 * chunks[1],
            4 * chunks[2],
        ]),
        compression: match args.codec {
            Codec::Raw => Compression::None,
            Codec::BloscLz4 | Codec::Int16BloscLz4 => Compression::BloscLz4(5),
            Codec::Zstd | Codec::ShardedZstd | Codec::Int16Zstd => Compression::Zstd(3),
        },
        packed,
        one_chunk: args.one_chunk,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a size that was asked for on the command line"
    )]
    let times = (args.gib * f64::from(1 << 30) / spec.bytes() as f64).ceil() as u64;
    spec.times = times.max(1);
    let start = Instant::now();
    reanalysis::write(&args.directory, &spec)?;
    println!(
        "{}: {} × {latitudes} × {longitudes} cells, {:.2} GB in {:.1} s",
        args.directory.display(),
        spec.times,
        spec.bytes() as f64 / 1e9,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
