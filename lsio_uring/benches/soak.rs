//! A long run of mixed reads of local files, to see that memory and descriptors stay flat.
//!
//! `cargo bench -p lsio_uring --bench soak -- --minutes 60 --engine uring` reads files of 1 byte to
//! 40 MB, cold and hot, whole, by ranges and as streams that are dropped on the way, about 300 times
//! a second, checks the bytes, and prints each minute what the process holds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that can't go on should stop")]

use std::{
    fs,
    io::Write as _,
    ops::Range,
    path::{Path as FilePath, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::StreamExt as _;
use lsio_uring::{Options, UringFileSystem};
use object_store::{ObjectStore as _, ObjectStoreExt as _, local::LocalFileSystem, path::Path};

const TASKS: u64 = 16;
const FILES: u64 = 64;
const PER_SECOND: u64 = 300;

fn main() {
    let (minutes, engine) = arguments();
    let directory = tempfile::tempdir_in(target()).unwrap();
    let sizes: Vec<u64> = (0..FILES).map(|n| write(directory.path(), n)).collect();
    let local = LocalFileSystem::new_with_prefix(directory.path()).unwrap();
    let mut options = Options::default();
    options.engine = engine.parse().unwrap();
    let store = UringFileSystem::with_options(local, options).unwrap();
    println!("{store}: {minutes} minutes");
    println!(
        "minute  operations  resident MiB  descriptors  threads  direct GiB  buffered  cached"
    );

    let operations = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|seed| {
                let (store, sizes) = (store.clone(), sizes.clone());
                let (directory, operations) =
                    (directory.path().to_owned(), Arc::clone(&operations));
                tokio::spawn(async move {
                    let mut random = Random(seed);
                    let mut pace =
                        tokio::time::interval(Duration::from_millis(1000 * TASKS / PER_SECOND));
                    while Instant::now() < end {
                        pace.tick().await;
                        operate(&store, &directory, &sizes, &mut random).await;
                        operations.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let mut minute = 0;
        while Instant::now() < end {
            report(minute, operations.load(Ordering::Relaxed), &store);
            minute += 1;
            let left = end.saturating_duration_since(Instant::now());
            tokio::time::sleep(left.min(Duration::from_secs(60))).await;
        }
        for task in tasks {
            task.await.unwrap();
        }
        // What was dropped on the way comes back by itself.
        tokio::time::sleep(Duration::from_secs(1)).await;
        report(minute, operations.load(Ordering::Relaxed), &store);
        assert_eq!(store.counts().used_bytes, 0, "buffers are lost");
    });
}

/// One read of some kind, checked.
async fn operate(
    store: &UringFileSystem,
    directory: &FilePath,
    sizes: &[u64],
    random: &mut Random,
) {
    let file = random.below(FILES);
    let (size, path) = (sizes[file as usize], Path::from(file.to_string()));
    // Cold or hot; what is read past the cache doesn't make it hot.
    let on_disk = directory.join(file.to_string());
    match random.below(10) {
        0 => drop(fs::read(on_disk)),
        #[cfg(target_os = "linux")]
        1 => {
            let file = fs::File::open(on_disk).unwrap();
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        }
        _ => {}
    }
    let range = |random: &mut Random| {
        let start = random.below(size);
        start..(start + 1 + random.below(200_000)).min(size)
    };
    match random.below(5) {
        0 if size < 2_000_000 || random.below(8) == 0 => {
            check(file, 0, &store.get(&path).await.unwrap().bytes().await.unwrap());
        }
        1 => {
            let range = range(random);
            check(file, range.start, &store.get_range(&path, range).await.unwrap());
        }
        2 => {
            let ranges: Vec<Range<u64>> = (0..random.below(50)).map(|_| range(random)).collect();
            let all = store.get_ranges(&path, &ranges).await.unwrap();
            for (range, bytes) in ranges.iter().zip(all) {
                assert_eq!(bytes.len() as u64, range.end - range.start);
                check(file, range.start, &bytes);
            }
        }
        3 => {
            let ranges: Vec<Range<u64>> = (0..random.below(50)).map(|_| range(random)).collect();
            let stream = store.stream_ranges(&path, &ranges).await.unwrap();
            let some: Vec<_> = stream.take(random.below(10) as usize).collect().await;
            for landed in some {
                let (number, bytes) = landed.unwrap();
                check(file, ranges[number].start, &bytes);
            }
        }
        _ => {
            let mut get = Box::pin(store.get(&path));
            if let std::task::Poll::Ready(object) = futures::poll!(&mut get) {
                let _ = object.unwrap().into_stream().take(1).collect::<Vec<_>>().await;
            }
        }
    }
}

/// The byte at a place of a file.
fn byte(file: u64, at: u64) -> u8 {
    ((at / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8 ^ file as u8 ^ at as u8
}

/// Compares the ends and some bytes between.
fn check(file: u64, start: u64, bytes: &Bytes) {
    let step = (bytes.len() / 1000).max(1);
    let last = bytes.len().saturating_sub(1);
    for index in (0..bytes.len()).step_by(step).chain(last..bytes.len()) {
        assert_eq!(bytes[index], byte(file, start + index as u64), "byte {index} of {file}");
    }
}

fn write(directory: &FilePath, number: u64) -> u64 {
    let mut random = Random(number + 1000);
    let size = match number % 4 {
        0 => 1 + random.below(20_000),
        1 => 1 + random.below(1_000_000),
        2 => 1 + random.below(9_000_000),
        _ if number % 16 == 3 => 1 + random.below(40_000_000),
        _ => 1 + random.below(300_000),
    };
    let mut file =
        std::io::BufWriter::new(fs::File::create(directory.join(number.to_string())).unwrap());
    for at in 0..size {
        file.write_all(&[byte(number, at)]).unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
    size
}

fn report(minute: u64, operations: u64, store: &UringFileSystem) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let counts = store.counts();
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    println!(
        "{minute:6} {operations:11} {:13} {descriptors:12} {:8} {:11.2} {:9.2} {:7.2}",
        field("VmRSS:") >> 10,
        field("Threads:"),
        gib(counts.direct_bytes),
        gib(counts.buffered_bytes),
        gib(counts.cached_bytes)
    );
}

fn arguments() -> (f64, String) {
    let (mut minutes, mut engine) = (1.0, "auto".to_owned());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--minutes" => minutes = arguments.next().unwrap().parse().unwrap(),
            "--engine" => engine = arguments.next().unwrap(),
            // Of cargo.
            "--bench" => {}
            other => panic!("there is no argument {other}: use --minutes and --engine"),
        }
    }
    (minutes, engine)
}

fn target() -> PathBuf {
    let target = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"));
    fs::create_dir_all(&target).unwrap();
    target
}

/// Numbers that look random and are the same each time (Vigna's splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }
}
