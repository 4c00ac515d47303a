//! `bare`: the floor for a full scan. Reads every chunk of one variable into a buffer that is used
//! again, has the C library decode it into another, and does nothing else.

use std::{
    ffi::c_void,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Barrier,
    thread,
    time::Instant,
};

use lsio_core::Location;

use crate::Error;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A store that make-data wrote, without shards
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

/// How chunks are compressed.
#[derive(Clone, Copy, Debug)]
enum Codec {
    Raw,
    Zstd,
    Blosc,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let chunks = Chunks::find(&args.store, &args.variable)?;
    // The first run fills the page cache.
    chunks.decode(args.threads.max(1))?;
    let mut seconds = Vec::new();
    for _ in 0..args.runs.max(1) {
        seconds.push(chunks.decode(args.threads.max(1))?);
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let bytes = chunks.decoded * chunks.files.len();
    println!(
        "{} chunks, {:.3} s, {:.2} GB/s decoded",
        chunks.files.len(),
        median,
        bytes as f64 / 1e9 / median
    );
    Ok(())
}

/// The chunks of a variable, as files.
pub(crate) struct Chunks {
    files: Vec<PathBuf>,
    codec: Codec,
    /// The bytes of a decoded chunk.
    decoded: usize,
    /// The bytes of the largest file.
    stored: usize,
}

impl Chunks {
    pub(crate) fn find(store: &Path, variable: &str) -> Result<Self, Error> {
        let location = Location::parse(&store.join(variable).to_string_lossy())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let dataset = runtime.block_on(lsio_core::Dataset::open(&location, &Default::default()))?;
        let found = dataset.variables().iter().find(|(own, _)| own.name() == variable);
        let (variable, _) = found.ok_or("there is no such variable")?;
        let layout = variable.layout();
        let codec = match layout.codecs.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            _ if layout.inner_chunks.is_some() => return Err("the store is sharded".into()),
            ["bytes"] => Codec::Raw,
            ["bytes", "zstd"] => Codec::Zstd,
            ["bytes", name] if name.starts_with("blosc") => Codec::Blosc,
            other => return Err(format!("the codecs {other:?} aren't known here").into()),
        };
        let cells: u64 = layout.chunks.iter().product();
        let width = variable.stored_width().ok_or("the elements have no fixed size")?;
        let mut files = Vec::new();
        let mut stored = 0;
        list(&store.join(variable.name()).join("c"), &mut files, &mut stored)?;
        files.sort_unstable();
        let decoded = usize::try_from(cells * width)?;
        Ok(Self { files, codec, decoded, stored: usize::try_from(stored)? })
    }

    /// Decodes all chunks on so many threads, and gives the seconds that it took.
    pub(crate) fn decode(&self, threads: usize) -> Result<f64, Error> {
        let gate = Barrier::new(threads + 1);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|worker| {
                    let gate = &gate;
                    scope.spawn(move || -> Result<(), Error> {
                        let mut encoded = vec![0_u8; self.stored];
                        let mut decoded = vec![0_u8; self.decoded];
                        let mut zstd = zstd::bulk::Decompressor::new()?;
                        gate.wait();
                        for file in self.files.iter().skip(worker).step_by(threads) {
                            self.decode_one(file, &mut encoded, &mut decoded, &mut zstd)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            gate.wait();
            let start = Instant::now();
            for worker in workers {
                worker.join().map_err(|_| "a worker gave up")??;
            }
            Ok(start.elapsed().as_secs_f64())
        })
    }

    fn decode_one(
        &self,
        file: &Path,
        encoded: &mut [u8],
        decoded: &mut [u8],
        zstd: &mut zstd::bulk::Decompressor<'_>,
    ) -> Result<(), Error> {
        let mut file = File::open(file)?;
        let mut len = 0;
        loop {
            match file.read(&mut encoded[len..])? {
                0 => break,
                read => len += read,
            }
        }
        let encoded = &encoded[..len];
        let size = match self.codec {
            Codec::Raw => len,
            Codec::Zstd => zstd.decompress_to_buffer(encoded, decoded)?,
            Codec::Blosc => {
                // SAFETY: the library reads what the header says of `encoded`, which this benchmark
                // has had written, and writes at most `decoded.len()` bytes.
                let size = unsafe {
                    blosc_src::blosc_decompress_ctx(
                        encoded.as_ptr().cast::<c_void>(),
                        decoded.as_mut_ptr().cast::<c_void>(),
                        decoded.len(),
                        1,
                    )
                };
                usize::try_from(size)?
            }
        };
        if size != self.decoded {
            return Err(format!("a chunk holds {size} bytes instead of {}", self.decoded).into());
        }
        std::hint::black_box(&decoded);
        Ok(())
    }
}

fn list(directory: &Path, files: &mut Vec<PathBuf>, largest: &mut u64) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            list(&entry.path(), files, largest)?;
        } else {
            *largest = metadata.len().max(*largest);
            files.push(entry.path());
        }
    }
    Ok(())
}
