//! The same bytes and the same kinds of errors as `LocalFileSystem`.

use std::{
    ops::Range,
    path::Path as FilePath,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, future::join_all};
use lsio_uring::{Options, UringFileSystem};
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, Result, local::LocalFileSystem,
    path::Path,
};

use super::{directories, modes, store};

/// Around what blocks, small reads and spans are multiples of.
const SIZES: [usize; 15] = [
    0,
    1,
    511,
    512,
    4095,
    4096,
    4097,
    (16 << 10) - 1,
    16 << 10,
    65_537,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
    (4 << 20) + 5,
    (33 << 20) + 7,
];

/// Numbers that look random and are the same each time (Vigna's splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes());
        let mut bytes: Vec<u8> = words.take(len.div_ceil(8)).flatten().collect();
        bytes.truncate(len);
        bytes
    }

    /// A range that likes the edges of blocks and of the file, and lies beyond it now and then.
    fn range(&mut self, size: u64) -> Range<u64> {
        let place = |random: &mut Self| {
            let near = random.below(5);
            match random.below(4) {
                0 => (random.below(size / 4096 + 2) * 4096 + near).saturating_sub(2),
                1 => (size + near).saturating_sub(2),
                2 => random.below(size / 512 + 2) * 512,
                _ => random.below(size),
            }
        };
        let start = place(self);
        let end = if self.below(3) == 0 { start + self.below(40_000) } else { place(self) };
        start.min(end)..start.max(end)
    }
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::Generic { .. } => "generic",
        Error::NotFound { .. } => "not found",
        Error::Precondition { .. } => "precondition",
        Error::NotModified { .. } => "not modified",
        _ => "other",
    }
}

#[track_caller]
fn same<T: PartialEq>(theirs: &Result<T>, ours: &Result<T>, what: &str) {
    match (theirs, ours) {
        (Ok(theirs), Ok(ours)) => assert!(theirs == ours, "{what}: other bytes"),
        (Err(theirs), Err(ours)) => assert_eq!(kind(theirs), kind(ours), "{what}"),
        (Ok(_), Err(error)) => panic!("{what}: {error}, where LocalFileSystem reads it"),
        (Err(error), Ok(_)) => panic!("{what}: read, where LocalFileSystem says {error}"),
    }
}

/// Has the pages of a file leave the cache, as far as the system does that.
fn evict(path: &FilePath) {
    let file = std::fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    #[cfg(target_os = "linux")]
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

/// What callers gave up may still be under way, and ends by itself.
async fn all_is_given_back(store: &UringFileSystem) {
    for _ in 0..5000 {
        if store.counts().used_bytes == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("buffers are lost: {:?}", store.counts());
}

async fn each_store(test: impl AsyncFn(&FilePath, LocalFileSystem, UringFileSystem, &Options)) {
    for directory in directories() {
        for options in modes() {
            let local = LocalFileSystem::new_with_prefix(directory.path()).unwrap();
            let ours = store(directory.path(), &options).unwrap();
            test(directory.path(), local, ours, &options).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_and_ranges_of_all_sizes() {
    let mut random = Random(1);
    let contents: Vec<Vec<u8>> = SIZES.iter().map(|&size| random.bytes(size)).collect();
    each_store(async |directory, local, ours, options| {
        let mut random = Random(2);
        for bytes in &contents {
            let size = bytes.len() as u64;
            let path = Path::from("object");
            std::fs::write(directory.join("object"), bytes).unwrap();
            for cold in [true, false] {
                if cold {
                    evict(&directory.join("object"));
                }
                let name = format!("{size} bytes, cold: {cold}, {options:?}");
                let whole = ours.get(&path).await.unwrap();
                assert_eq!(whole.range, 0..size);
                assert_eq!(whole.meta, local.head(&path).await.unwrap());
                assert!(whole.bytes().await.unwrap() == bytes[..], "{name}");

                for _ in 0..if size > 1 << 21 { 6 } else { 30 } {
                    let range = random.range(size);
                    let asked = match random.below(5) {
                        0 => GetRange::Offset(range.start),
                        1 => GetRange::Suffix(range.start),
                        _ => GetRange::Bounded(range.clone()),
                    };
                    let get = async |store: &dyn ObjectStore| {
                        let range = Some(asked.clone());
                        let options = GetOptions { range, ..GetOptions::default() };
                        store.get_opts(&path, options).await?.bytes().await
                    };
                    let what = format!("{asked:?} of {name}");
                    same(&get(&local).await, &get(&ours).await, &what);
                }
                let ranges: Vec<_> = (0..random.below(if size > 1 << 21 { 8 } else { 50 }))
                    .map(|_| random.range(size))
                    .collect();
                let theirs = local.get_ranges(&path, &ranges).await;
                same(&theirs, &ours.get_ranges(&path, &ranges).await, &name);
                let inside: Vec<_> = ranges
                    .iter()
                    .filter(|range| range.end <= size)
                    .flat_map(|range| [range.clone(), range.clone()])
                    .collect();
                let theirs = local.get_ranges(&path, &inside).await.unwrap();
                assert!(theirs == ours.get_ranges(&path, &inside).await.unwrap(), "{name}");
            }
        }
        all_is_given_back(&ours).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_ranges_at_once() {
    let bytes = Random(3).bytes(50 << 20);
    each_store(async |directory, _, ours, options| {
        let path = Path::from("object");
        std::fs::write(directory.join("object"), &bytes).unwrap();
        let mut random = Random(4);
        let ranges: Vec<Range<u64>> = (0..10_000)
            .map(|_| {
                let start = random.below((50 << 20) - 20_000);
                start..start + random.below(20_000)
            })
            .collect();
        let expected = |range: &Range<u64>| &bytes[range.start as usize..range.end as usize];
        for cold in [true, false] {
            if cold {
                evict(&directory.join("object"));
            }
            let all = ours.get_ranges(&path, &ranges).await.unwrap();
            assert!(
                ranges.iter().zip(&all).all(|(range, got)| got == expected(range)),
                "{options:?}"
            );
            // Streamed, and at the same time by several callers.
            let streamed = join_all((0..3).map(|_| async {
                let stream = ours.stream_ranges(&path, &ranges).await.unwrap();
                stream
                    .try_fold(0, async |count, (number, got)| {
                        assert!(got == expected(&ranges[number]));
                        Ok(count + 1)
                    })
                    .await
                    .unwrap()
            }));
            assert_eq!(streamed.await, [10_000; 3]);
        }
        all_is_given_back(&ours).await;
    })
    .await;
}

/// What consumers hold doesn't keep others from reading.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_is_held_than_the_pool_has() {
    let bytes = Random(5).bytes(10 << 20);
    each_store(async |directory, _, ours, options| {
        let path = Path::from("object");
        std::fs::write(directory.join("object"), &bytes).unwrap();
        for cold in [true, false] {
            if cold {
                evict(&directory.join("object"));
            }
            let mut held: Vec<Bytes> = Vec::new();
            for _ in 0..20 {
                held.push(ours.get(&path).await.unwrap().bytes().await.unwrap());
            }
            assert!(held.iter().all(|got| *got == bytes), "{options:?}");
            assert!(ours.counts().used_bytes <= 64 << 20, "{:?}", ours.counts());
        }
        all_is_given_back(&ours).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_gives_everything_back() {
    let bytes = Random(6).bytes(40 << 20);
    each_store(async |directory, _, ours, _| {
        let path = Path::from("object");
        std::fs::write(directory.join("object"), &bytes).unwrap();
        let ranges: Vec<_> = (0..400).map(|n| n * 100_000..n * 100_000 + 50_000).collect();
        for round in 0..20 {
            if round % 2 == 0 {
                evict(&directory.join("object"));
            }
            // Before the first poll, after some polls, with some of it in hand.
            drop(ours.get(&path));
            let mut get = Box::pin(ours.get_ranges(&path, &ranges));
            for _ in 0..round {
                if futures::poll!(&mut get).is_ready() {
                    break;
                }
            }
            drop(get);
            let object = ours.get(&path).await.unwrap();
            if round % 3 == 0 {
                drop(object);
            } else {
                let held: Vec<_> = object.into_stream().take(round).collect().await;
                assert!(held.iter().all(Result::is_ok));
            }
            let stream = ours.stream_ranges(&path, &ranges).await.unwrap();
            let _ = stream.take(round * 5).collect::<Vec<_>>().await;
        }
        all_is_given_back(&ours).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_change_while_they_are_read() {
    each_store(async |directory, _, ours, options| {
        let file = directory.join("object");
        let path = Path::from("object");
        // Every version is of one byte, so that a mixture would show.
        let version = |n: u8| vec![n; (1 << 20) + 4097 * usize::from(n)];
        std::fs::write(&file, version(0)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let (stop, staged, file) = (Arc::clone(&stop), directory.join("staged"), file.clone());
            std::thread::spawn(move || {
                for n in (1..=255).cycle() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    std::fs::write(&staged, version(n)).unwrap();
                    std::fs::rename(&staged, &file).unwrap();
                }
            })
        };
        for _ in 0..100 {
            let object = ours.get(&path).await.unwrap();
            let size = object.meta.size;
            let bytes = object.bytes().await.unwrap();
            assert!(bytes == version(bytes[0]), "{options:?}");
            assert_eq!(bytes.len() as u64, size);
            let ranges = [0..100_000, 500_000..600_000, 900_000..1_000_000];
            let parts = ours.get_ranges(&path, &ranges).await.unwrap();
            assert!(parts.iter().flatten().all(|byte| *byte == parts[0][0]), "{options:?}");
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();

        // Truncated: an error or the old bytes, and never others.
        for cut in [0, 1, 4096, 300_000, 1 << 20] {
            std::fs::write(&file, version(9)).unwrap();
            evict(&file);
            let object = ours.get(&path).await.unwrap();
            std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(cut).unwrap();
            match object.bytes().await {
                Ok(bytes) => assert!(bytes == version(9), "{options:?}"),
                Err(error) => assert!(error.to_string().contains("truncated"), "{error}"),
            }
            let error = ours.get_ranges(&path, &[0..1, cut..cut + 1]).await.unwrap_err();
            assert_eq!(kind(&error), "generic", "{error}");
        }
        all_is_given_back(&ours).await;
    })
    .await;
}

#[tokio::test]
async fn a_sparse_file_larger_than_memory() {
    const SIZE: u64 = 1 << 43;
    each_store(async |directory, _, ours, options| {
        let path = Path::from("object");
        let file = std::fs::File::create(directory.join("object")).unwrap();
        if file.set_len(SIZE).is_err() {
            eprintln!("SKIPPED a sparse file in {}: it is too large there", directory.display());
            return;
        }
        let object = ours.get(&path).await.unwrap();
        assert_eq!(object.range, 0..SIZE);
        let start: Vec<_> = object.into_stream().take(3).try_collect().await.unwrap();
        assert!(start.iter().flatten().all(|byte| *byte == 0), "{options:?}");
        drop(start);
        assert_eq!(&ours.get_range(&path, SIZE - 2..SIZE + 5).await.unwrap()[..], [0, 0]);
        let error = ours.get_ranges(&path, std::slice::from_ref(&(0..SIZE))).await.unwrap_err();
        assert_eq!(kind(&error), "generic", "{error}");
        all_is_given_back(&ours).await;
    })
    .await;
}
