//! Local files, cold and hot: `UringFileSystem` on io_uring and on threads, beside `LocalFileSystem`.
//!
//! `cargo bench -p lsio_uring --bench local_files` writes 5 GiB of files to `LSIO_BENCH_DIR` (else
//! below `target`), reads them through the trait that all have in common, and ends with a table: for
//! each side its best number of requests in flight, GB/s, the processor's time, how much came from
//! the drive, and how much of that past the page cache. Cold runs need to be allowed to empty the
//! caches of the kernel, as root is.
#![allow(clippy::unwrap_used, reason = "a benchmark that can't be set up should stop")]

use std::{
    cell::RefCell,
    fmt, fs,
    io::Write as _,
    ops::Range,
    path::{Path as FilePath, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use futures::future::join_all;
use lsio_uring::{Engine, Options, UringFileSystem};
use object_store::{ObjectStore, ObjectStoreExt as _, local::LocalFileSystem, path::Path};
use tokio::runtime::Runtime;

const REQUESTS_IN_FLIGHT: [usize; 4] = [1, 4, 16, 64];

/// Files, and what is read of them.
struct Workload {
    name: &'static str,
    files: Arc<[Path]>,
    read: Read,
    bytes: u64,
}

enum Read {
    /// Every file as a whole.
    Files,
    /// Ranges of the first file, each with a request of its own.
    Ranges(Arc<[Range<u64>]>),
    /// Ranges of the first file in one request.
    RangesAtOnce(Arc<[Range<u64>]>),
}

struct Side {
    name: &'static str,
    store: Arc<dyn ObjectStore>,
    ours: Option<UringFileSystem>,
}

#[derive(Clone)]
struct Sample {
    workload: &'static str,
    cold: bool,
    side: &'static str,
    in_flight: usize,
    bytes: u64,
    wall: f64,
    cpu: f64,
    from_drive: u64,
    direct: u64,
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let directory = directory();
    let runtime = Runtime::new().unwrap();
    let workloads = workloads(&directory);
    let sides = sides(&directory);
    let samples = RefCell::new(Vec::new());
    let temperatures: &[bool] = if drop_caches() {
        &[true, false]
    } else {
        println!("No cold runs: this process may not write to /proc/sys/vm/drop_caches.");
        &[false]
    };
    for workload in &workloads {
        for &cold in temperatures {
            let temperature = if cold { "cold" } else { "hot" };
            let mut group = criterion.benchmark_group(format!("{} {temperature}", workload.name));
            group.sample_size(10).sampling_mode(SamplingMode::Flat);
            group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(1));
            group.throughput(Throughput::Bytes(workload.bytes));
            let depths = match workload.read {
                Read::RangesAtOnce(_) => &REQUESTS_IN_FLIGHT[..1],
                Read::Files | Read::Ranges(_) => &REQUESTS_IN_FLIGHT[..],
            };
            // The sides by turns, so that they meet the same state of the machine.
            for &in_flight in depths {
                for side in &sides {
                    group.bench_function(BenchmarkId::new(side.name, in_flight), |bencher| {
                        bencher.iter_custom(|iterations| {
                            let run = || {
                                let sample = sample(&runtime, workload, side, cold, in_flight);
                                let wall = sample.wall;
                                samples.borrow_mut().push(sample);
                                Duration::from_secs_f64(wall)
                            };
                            (0..iterations).map(|_| run()).sum()
                        });
                    });
                }
            }
            group.finish();
        }
    }
    criterion.final_summary();
    summary(&samples.borrow(), &sides);
}

/// Reads a workload once.
fn sample(
    runtime: &Runtime,
    workload: &Workload,
    side: &Side,
    cold: bool,
    in_flight: usize,
) -> Sample {
    if cold {
        assert!(drop_caches(), "the caches can't be emptied any more");
    }
    let direct = || side.ours.as_ref().map_or(0, |ours| ours.counts().direct_bytes);
    let (from_drive, past_cache, cpu) = (read_bytes(), direct(), cpu_time());
    let start = Instant::now();
    let read = runtime.block_on(read(workload, side, in_flight));
    let wall = start.elapsed().as_secs_f64();
    assert_eq!(read, workload.bytes, "{} of {}", side.name, workload.name);
    Sample {
        workload: workload.name,
        cold,
        side: side.name,
        in_flight,
        bytes: workload.bytes,
        wall,
        cpu: cpu_time() - cpu,
        from_drive: read_bytes() - from_drive,
        direct: direct() - past_cache,
    }
}

/// The requests of a workload, dealt out to as many tasks as may be in flight.
async fn read(workload: &Workload, side: &Side, in_flight: usize) -> u64 {
    if let Read::RangesAtOnce(ranges) = &workload.read {
        let all = side.store.get_ranges(&workload.files[0], ranges).await.unwrap();
        return all.iter().map(|bytes| bytes.len() as u64).sum();
    }
    let next = Arc::new(AtomicUsize::new(0));
    let tasks = (0..in_flight).map(|_| {
        let (store, next) = (Arc::clone(&side.store), Arc::clone(&next));
        let files = Arc::clone(&workload.files);
        let ranges = match &workload.read {
            Read::Ranges(ranges) => Some(Arc::clone(ranges)),
            Read::Files | Read::RangesAtOnce(_) => None,
        };
        tokio::spawn(async move {
            let mut total = 0;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let bytes = if let Some(ranges) = &ranges {
                    let Some(range) = ranges.get(number) else { return total };
                    store.get_range(&files[0], range.clone()).await.unwrap()
                } else {
                    let Some(file) = files.get(number) else { return total };
                    store.get(file).await.unwrap().bytes().await.unwrap()
                };
                total += bytes.len() as u64;
            }
        })
    });
    join_all(tasks).await.into_iter().map(|total| total.unwrap()).sum()
}

fn sides(directory: &FilePath) -> Vec<Side> {
    let local = LocalFileSystem::new_with_prefix(directory).unwrap();
    let mut sides =
        vec![Side { name: "LocalFileSystem", store: Arc::new(local.clone()), ours: None }];
    for (name, engine) in [("pread", Engine::Pread), ("uring", Engine::Uring)] {
        let mut options = Options::default();
        options.engine = engine;
        match UringFileSystem::with_options(local.clone(), options) {
            Ok(store) => {
                // Not what is believed to run, but what does.
                assert_eq!(store.engine(), engine);
                sides.push(Side { name, store: Arc::new(store.clone()), ours: Some(store) });
            }
            Err(error) => println!("Without {name}: {error}"),
        }
    }
    sides
}

fn directory() -> PathBuf {
    let directory = std::env::var_os("LSIO_BENCH_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/local_files")),
        PathBuf::from,
    );
    fs::create_dir_all(&directory).unwrap();
    directory.canonicalize().unwrap()
}

fn workloads(directory: &FilePath) -> Vec<Workload> {
    let files = |name: &'static str, count: usize, size: u64| {
        let files: Arc<[Path]> = (0..count).map(|n| Path::from(format!("{size}/{n}"))).collect();
        fs::create_dir_all(directory.join(size.to_string())).unwrap();
        for file in files.iter() {
            write(&directory.join(file.as_ref()), size);
        }
        Workload { name, files, read: Read::Files, bytes: count as u64 * size }
    };
    let large: Arc<[Path]> = [Path::from("large")].into();
    const LARGE: u64 = 4 << 30;
    write(&directory.join("large"), LARGE);
    let pieces: Arc<[_]> = (0..LARGE >> 23).map(|n| n << 23..(n + 1) << 23).collect();
    // At any place of the first GiB, spread evenly and in no order.
    let random = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % ((1 << 30) - (16 << 10));
    let ranges: Arc<[_]> = (1..=4000).map(|n| random(n)..random(n) + (16 << 10)).collect();
    let bytes = 4000 * (16 << 10);
    vec![
        files("100 files of 8 MiB", 100, 8 << 20),
        files("1000 files of 256 KiB", 1000, 256 << 10),
        files("4000 files of 16 KiB", 4000, 16 << 10),
        Workload {
            name: "4000 ranges of 16 KiB in one request",
            files: Arc::clone(&large),
            read: Read::RangesAtOnce(Arc::clone(&ranges)),
            bytes,
        },
        Workload {
            name: "4000 ranges of 16 KiB in as many requests",
            files: Arc::clone(&large),
            read: Read::Ranges(ranges),
            bytes,
        },
        Workload {
            name: "a file of 4 GiB by 8 MiB",
            files: large,
            read: Read::Ranges(pieces),
            bytes: LARGE,
        },
    ]
}

/// Writes a file of bytes that no layer can compress, unless it is there.
fn write(path: &FilePath, size: u64) {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() == size) {
        return;
    }
    let mut file = std::io::BufWriter::with_capacity(1 << 20, fs::File::create(path).unwrap());
    let mut state = size;
    for _ in 0..size / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes()).unwrap();
    }
    file.flush().unwrap();
}

/// Empties the caches of the kernel: pages, directory entries and inodes.
fn drop_caches() -> bool {
    let synced = std::process::Command::new("sync").status().is_ok_and(|status| status.success());
    synced && fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// The bytes that this process has had read from drives.
fn read_bytes() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("read_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// The processor's time of this process in seconds.
fn cpu_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// What a side does on average at one number of requests in flight.
struct Figures {
    in_flight: usize,
    /// GB/s, by the median of the times.
    speed: f64,
    /// Milliseconds of the processor for a GB.
    cpu: f64,
    from_drive: f64,
    direct: f64,
}

fn figures(samples: &[Sample]) -> Option<Figures> {
    let first = samples.first()?;
    let median = |value: &dyn Fn(&Sample) -> f64| {
        let mut values: Vec<f64> = samples.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let bytes = first.bytes as f64;
    Some(Figures {
        in_flight: first.in_flight,
        speed: bytes / 1e9 / median(&|sample| sample.wall),
        cpu: median(&|sample| sample.cpu) * 1e3 / (bytes / 1e9),
        from_drive: median(&|sample| sample.from_drive as f64) / bytes,
        direct: median(&|sample| sample.direct as f64) / bytes,
    })
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { in_flight, speed, cpu, from_drive, direct } = self;
        let (from_drive, direct) = (from_drive * 100.0, direct * 100.0);
        write!(f, "{in_flight:9} {speed:7.2} {cpu:9.0} {from_drive:8.0}% {direct:6.0}%")
    }
}

/// The best of each side, and its ratio to `LocalFileSystem`.
fn summary(samples: &[Sample], sides: &[Side]) {
    println!(
        "\n{:43} {:4} {:16} {:>9} {:>7} {:>9} {:>9} {:>7} {:>7} {:>7}",
        "", "", "", "in flight", "GB/s", "CPU ms/GB", "drive", "direct", "speed", "CPU"
    );
    let mut workloads: Vec<(&str, bool)> = samples.iter().map(|s| (s.workload, s.cold)).collect();
    workloads.dedup();
    for (workload, cold) in workloads {
        let mut base: Option<Figures> = None;
        for side in sides {
            let best = REQUESTS_IN_FLIGHT.iter().filter_map(|&in_flight| {
                let own: Vec<Sample> = samples
                    .iter()
                    .filter(|s| {
                        (s.workload, s.cold, s.side, s.in_flight)
                            == (workload, cold, side.name, in_flight)
                    })
                    .cloned()
                    .collect();
                figures(&own)
            });
            let Some(best) = best.max_by(|a, b| a.speed.total_cmp(&b.speed)) else { continue };
            let base = base.get_or_insert(Figures { ..best });
            println!(
                "{workload:43} {:4} {:16} {best} {:6.2}x {:6.3}x",
                if cold { "cold" } else { "hot" },
                side.name,
                best.speed / base.speed,
                best.cpu / base.cpu
            );
        }
    }
}
