//! Throughput of the drive: reads past the page cache.

use std::{
    fs::File,
    hint::black_box,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use crate::{Error, workers};

/// Number of reads in flight.
const THREADS: usize = 8;

/// Bytes per read, and alignment of its buffer.
const READ: usize = 1 << 20;

/// Bytes that a thread reads in sequence, so that large files are shared among threads.
const SPAN: u64 = 8 << 20;

/// Reads files, given with their sizes in bytes, past the page cache. Returns the time in seconds.
pub(crate) fn read(files: &[(PathBuf, u64)]) -> Result<f64, Error> {
    let spans: Vec<(&Path, u64)> = files
        .iter()
        .flat_map(|(path, size)| (0..size.div_ceil(SPAN)).map(move |n| (path.as_path(), n * SPAN)))
        .collect();
    let prepare = || Ok(vec![1_u8; 2 * READ]);
    let work = |memory: &mut Vec<u8>, item: usize| -> Result<(), Error> {
        let (path, start) = spans[item];
        let address = memory.as_ptr().addr();
        let skipped = address.next_multiple_of(READ) - address;
        read_span(path, start, &mut memory[skipped..skipped + READ])
            .map_err(|error| format!("{}: {error}", path.display()).into())
    };
    workers::time(THREADS, spans.len(), prepare, work)
}

fn read_span(path: &Path, start: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut file = open(path)?;
    file.seek(SeekFrom::Start(start))?;
    for _ in 0..SPAN / READ as u64 {
        let read = file.read(buffer)?;
        black_box(&*buffer);
        if read < buffer.len() {
            // The end of the file. No aligned read can follow.
            break;
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;

    let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    File::options().read(true).custom_flags(direct).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open(_: &Path) -> io::Result<File> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "reads past the page cache need Linux"))
}
