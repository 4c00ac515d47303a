//! The cache beside the store that it is for: answers are the same, and fewer bytes come.

use std::{
    fmt, fs,
    ops::Range,
    path::{Path as FilePath, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use proptest::prelude::*;

use super::{DiskCache, Usage, cached};

/// A store in memory that counts what it sends, and has faults.
#[derive(Debug, Default)]
struct Remote {
    memory: InMemory,
    requests: AtomicU64,
    bytes: AtomicU64,
    /// It doesn't know conditions.
    unconditional: AtomicBool,
    /// Its ETags are weak.
    weak: AtomicBool,
    /// Every answer has another ETag.
    confused: AtomicBool,
    /// Bodies end early.
    truncating: AtomicBool,
    /// An object is replaced after so many requests more.
    change: Mutex<Option<(u64, Path, Vec<u8>)>>,
}

impl Remote {
    /// The requests and bytes since it was last asked.
    fn served(&self) -> (u64, u64) {
        (self.requests.swap(0, Ordering::SeqCst), self.bytes.swap(0, Ordering::SeqCst))
    }

    async fn set(&self, path: &Path, bytes: impl Into<Vec<u8>>) {
        self.memory.put(path, bytes.into().into()).await.unwrap();
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}

#[async_trait]
impl ObjectStore for Remote {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, o: PutOptions) -> Result<PutResult> {
        self.memory.put_opts(at, bytes, o).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.memory.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> Result<GetResult> {
        let request = self.requests.fetch_add(1, Ordering::SeqCst);
        if self.unconditional.load(Ordering::SeqCst) {
            (options.if_match, options.if_none_match) = (None, None);
        }
        let mut result = self.memory.get_opts(location, options).await?;
        let change = self.change.lock().unwrap().take_if(|change| {
            change.0 = change.0.saturating_sub(1);
            change.0 == 0
        });
        if let Some((_, path, bytes)) = change {
            self.set(&path, bytes).await;
        }
        let e_tag = result.meta.e_tag.take().unwrap();
        result.meta.e_tag = Some(match () {
            () if self.weak.load(Ordering::SeqCst) => format!("W/{e_tag}"),
            () if self.confused.load(Ordering::SeqCst) => format!("{e_tag}-{request}"),
            () => e_tag,
        });
        let range = result.range.clone();
        let meta = result.meta.clone();
        let bytes = result.bytes().await?;
        self.bytes.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        // Bodies come in several parts.
        let mut parts: Vec<_> = bytes.chunks(700).map(Bytes::copy_from_slice).map(Ok).collect();
        if self.truncating.load(Ordering::SeqCst) {
            parts.pop();
            let source = "the connection was closed".into();
            parts.push(Err(Error::Generic { store: "remote", source }));
        }
        let payload = GetResultPayload::Stream(futures::stream::iter(parts).boxed());
        Ok(GetResult { payload, meta, range, attributes: Default::default() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.memory.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.memory.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.memory.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.memory.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.memory.copy_opts(from, to, options).await
    }
}

/// A store with a cache in a directory of its own.
struct Setup {
    directory: tempfile::TempDir,
    remote: Arc<Remote>,
    cache: Arc<DiskCache>,
    store: Arc<dyn ObjectStore>,
}

const MANY: u64 = 1 << 30;

fn setup(max_bytes: u64) -> Setup {
    let directory = tempfile::tempdir().unwrap();
    let remote = Arc::new(Remote::default());
    let cache = DiskCache::open(directory.path().join("cache"), max_bytes).unwrap();
    let store = cached(Arc::clone(&remote) as Arc<dyn ObjectStore>, Arc::clone(&cache), "memory");
    Setup { directory, remote, cache, store }
}

impl Setup {
    /// What a read gives, when all that it wrote is on the disk, and what was served for it.
    async fn get(&self, path: &str, range: Option<GetRange>) -> (Vec<u8>, (u64, u64)) {
        let options = GetOptions { range, ..GetOptions::default() };
        let result = self.store.get_opts(&Path::from(path), options).await.unwrap();
        let bytes = result.bytes().await.unwrap().to_vec();
        self.cache.flush().await;
        (bytes, self.remote.served())
    }

    async fn ranges(&self, path: &str, ranges: &[Range<u64>]) -> (Vec<Bytes>, (u64, u64)) {
        let bytes = self.store.get_ranges(&Path::from(path), ranges).await.unwrap();
        self.cache.flush().await;
        (bytes, self.remote.served())
    }

    /// The files below a part of the cache.
    fn files(&self, part: &str) -> Vec<PathBuf> {
        files(&self.cache.directory().join(part))
    }
}

fn files(directory: &FilePath) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let below = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    entries.flat_map(|entry| below(entry.unwrap().path())).collect()
}

/// Bytes that say which object and version they are of.
fn object(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ seed.wrapping_mul(97)) as u8).collect()
}

#[tokio::test]
async fn what_was_read_is_not_sent_again() {
    let s = setup(MANY);
    let bytes = object(1, 5000);
    s.remote.set(&Path::from("a/b"), bytes.clone()).await;
    assert!(!s.cache.directory().exists(), "nothing is created before something is kept");

    for range in [
        None,
        Some(GetRange::Bounded(100..2000)),
        Some(GetRange::Bounded(4000..9000)),
        Some(GetRange::Offset(10)),
        Some(GetRange::Suffix(123)),
    ] {
        let at = range.as_ref().map_or(0..5000, |range| range.as_range(5000).unwrap());
        let expected = &bytes[at.start as usize..at.end as usize];
        let (first, served) = s.get("a/b", range.clone()).await;
        assert_eq!((first.as_slice(), served), (expected, (1, expected.len() as u64)));
        let (again, served) = s.get("a/b", range.clone()).await;
        assert_eq!((again.as_slice(), served), (expected, (1, 0)));

        let options = GetOptions { range, ..GetOptions::default() };
        let path = Path::from("a/b");
        let copy = s.store.get_opts(&path, options.clone()).await.unwrap();
        let plain = s.remote.memory.get_opts(&path, options).await.unwrap();
        assert_eq!((copy.meta, copy.range), (plain.meta, plain.range));
        s.remote.served();
    }

    let usage = s.cache.usage();
    assert_eq!((usage.entries, usage.stores.len()), (5, 1));
    assert_eq!(usage.stores[0].name, "memory");
    assert!(usage.bytes > 12_000 && usage.stores[0].bytes == usage.bytes);
}

#[tokio::test]
async fn objects_of_no_bytes_are_kept_too() {
    let s = setup(MANY);
    s.remote.set(&Path::from("empty"), "").await;
    assert_eq!(s.get("empty", None).await, (vec![], (1, 0)));
    assert_eq!(s.cache.usage().entries, 1);
    assert_eq!(s.get("empty", None).await, (vec![], (1, 0)));
}

#[tokio::test]
async fn another_version_is_another_answer() {
    let s = setup(MANY);
    let path = Path::from("x");
    for version in 0..40 {
        s.remote.set(&path, object(version, 3000)).await;
        assert_eq!(s.get("x", None).await, (object(version, 3000), (1, 3000)));
        assert_eq!(s.get("x", None).await, (object(version, 3000), (1, 0)));
    }
    // However often an object is replaced, there is one copy, and the index doesn't grow.
    assert_eq!((s.files("content-v2").len(), s.files("index-v5").len()), (1, 1));
    assert!(fs::metadata(&s.files("index-v5")[0]).unwrap().len() < 1000);

    s.remote.memory.delete(&path).await.unwrap();
    assert!(matches!(s.store.get(&path).await, Err(Error::NotFound { .. })));
    assert_eq!(s.cache.usage(), Usage::default());
    assert_eq!((s.files("content-v2").len(), s.files("index-v5").len()), (0, 0));
}

#[tokio::test]
async fn stores_of_other_names_have_other_copies() {
    let s = setup(MANY);
    let other = Arc::new(Remote::default());
    let cache = Arc::clone(&s.cache);
    let store = cached(Arc::clone(&other) as Arc<dyn ObjectStore>, cache, "other");
    // Their ETags are the same: both are the first of their store.
    s.remote.set(&Path::from("x"), "here").await;
    other.set(&Path::from("x"), "there").await;
    for _ in 0..2 {
        assert_eq!(s.get("x", None).await.0, b"here");
        assert_eq!(store.get(&Path::from("x")).await.unwrap().bytes().await.unwrap(), "there");
        s.cache.flush().await;
    }
    let mut names: Vec<_> = s.cache.usage().stores.into_iter().map(|store| store.name).collect();
    names.sort();
    assert_eq!(names, ["memory", "other"]);
}

#[tokio::test]
async fn conditions_of_the_caller_hold() {
    let s = setup(MANY);
    let path = Path::from("x");
    s.remote.set(&path, "first").await;
    let e_tag = s.remote.memory.head(&path).await.unwrap().e_tag;
    s.get("x", None).await;

    let matching = GetOptions { if_match: e_tag.clone(), ..GetOptions::default() };
    let other = GetOptions { if_match: Some("other".to_owned()), ..GetOptions::default() };
    let none = GetOptions { if_none_match: e_tag, ..GetOptions::default() };
    let head = GetOptions { head: true, ..GetOptions::default() };
    let result = s.store.get_opts(&path, matching.clone()).await.unwrap();
    assert_eq!(result.bytes().await.unwrap(), "first");
    assert_eq!(s.remote.served(), (1, 0));
    let failed = s.store.get_opts(&path, other).await;
    assert!(matches!(failed, Err(Error::Precondition { .. })));
    let failed = s.store.get_opts(&path, none).await;
    assert!(matches!(failed, Err(Error::NotModified { .. })));
    assert_eq!(s.store.get_opts(&path, head).await.unwrap().meta.size, 5);

    s.remote.set(&path, "second").await;
    let failed = s.store.get_opts(&path, matching).await;
    assert!(matches!(failed, Err(Error::Precondition { .. })));
}

#[tokio::test]
async fn what_cannot_be_validated_is_not_kept() {
    let s = setup(MANY);
    s.remote.set(&Path::from("x"), object(1, 2000)).await;
    s.remote.weak.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(s.get("x", None).await, (object(1, 2000), (1, 2000)));
    }
    s.remote.weak.store(false, Ordering::SeqCst);
    s.remote.truncating.store(true, Ordering::SeqCst);
    let result = s.store.get(&Path::from("x")).await.unwrap();
    assert!(result.bytes().await.is_err());
    s.cache.flush().await;
    assert!(!s.cache.directory().exists());
}

#[tokio::test]
async fn a_store_without_conditions_is_only_slower() {
    let s = setup(MANY);
    s.remote.unconditional.store(true, Ordering::SeqCst);
    for version in [1, 1, 2, 2] {
        if version == 2 {
            s.remote.set(&Path::from("x"), object(2, 2000)).await;
        } else {
            s.remote.set(&Path::from("x"), object(1, 2000)).await;
        }
        assert_eq!(s.get("x", None).await.0, object(version, 2000));
        // The copy that is there is not written again.
        let written = || fs::metadata(&s.files("content-v2")[0]).unwrap().modified().unwrap();
        let old = SystemTime::now() - Duration::from_secs(10);
        let file = fs::File::options().append(true).open(&s.files("content-v2")[0]).unwrap();
        file.set_modified(old).unwrap();
        let before = written();
        assert_eq!(s.get("x", None).await.0, object(version, 2000));
        assert_eq!(written(), before);
        let (parts, _) = s.ranges("x", &[0..10, 5..2000]).await;
        assert_eq!(parts, [&object(version, 2000)[..10], &object(version, 2000)[5..]]);
    }
}

#[tokio::test]
async fn ranges_are_validated_together() {
    let s = setup(MANY);
    let path = Path::from("x");
    let bytes = object(1, 10_000);
    s.remote.set(&path, bytes.clone()).await;
    let parts = |bytes: &[u8], ranges: &[Range<u64>]| -> Vec<Bytes> {
        let part = |r: &Range<u64>| bytes[r.start as usize..r.end as usize].to_vec().into();
        ranges.iter().map(part).collect()
    };
    let some = [100..1100, 5000..5100, 100..200];
    assert_eq!(s.ranges("x", &some).await, (parts(&bytes, &some), (3, 1200)));
    assert_eq!(s.ranges("x", &some).await, (parts(&bytes, &some), (1, 0)));
    // Those that are missing, and one request for those that are not.
    let more = [7000..8000, 100..1100, 5000..5100, 9000..9001];
    assert_eq!(s.ranges("x", &more).await, (parts(&bytes, &more), (3, 1001)));
    assert_eq!(s.ranges("x", &more).await, (parts(&bytes, &more), (1, 0)));

    // One request tells that there is another version, and its bytes are used.
    let bytes = object(2, 10_000);
    s.remote.set(&path, bytes.clone()).await;
    assert_eq!(s.ranges("x", &more).await, (parts(&bytes, &more), (4, 2101)));
    // Of what is left of the old one, nothing is used.
    let both = [100..200, 5000..5100];
    assert_eq!(s.ranges("x", &both).await, (parts(&bytes, &both), (2, 100)));

    for ranges in [&[][..], &[3..3, 0..5], &[0..5, 20_000..20_001], &[0..5, 9_990..20_000]] {
        let copy = s.store.get_ranges(&path, ranges).await;
        let plain = s.remote.get_ranges(&path, ranges).await;
        assert_eq!(copy.ok(), plain.ok(), "{ranges:?}");
    }
    s.remote.memory.delete(&path).await.unwrap();
    let missing = s.store.get_ranges(&path, &some).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn the_ranges_of_an_answer_are_of_one_version() {
    let (old, new) = (object(1, 4000), object(2, 4000));
    for cached_first in [false, true] {
        for after in 1..=3 {
            let s = setup(MANY);
            let path = Path::from("x");
            s.remote.set(&path, old.clone()).await;
            if cached_first {
                s.ranges("x", &[0..100, 200..300]).await;
            }
            *s.remote.change.lock().unwrap() = Some((after, path.clone(), new.clone()));
            let (parts, _) = s.ranges("x", &[0..100, 200..300, 1000..4000]).await;
            let expected = |bytes: &[u8]| {
                [&bytes[..100], &bytes[200..300], &bytes[1000..]].map(Bytes::copy_from_slice)
            };
            assert!(
                parts == expected(&old) || parts == expected(&new),
                "{cached_first} {after}: the versions are mixed"
            );
        }
    }
    // A store whose ETags mean nothing is read all the same.
    let s = setup(MANY);
    s.remote.set(&Path::from("x"), old.clone()).await;
    s.remote.confused.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let (parts, _) = s.ranges("x", &[0..100, 200..300]).await;
        assert_eq!(parts, [&old[..100], &old[200..300]]);
    }
}

#[tokio::test]
async fn damaged_copies_are_fetched_again() {
    let bytes = object(1, 3000);
    type Damage = fn(&FilePath);
    let damages: [(&str, Damage); 7] = [
        ("content-v2", |path| fs::write(path, b"").unwrap()),
        ("content-v2", |path| {
            let mut content = fs::read(path).unwrap();
            *content.last_mut().unwrap() ^= 1;
            fs::write(path, content).unwrap();
        }),
        ("content-v2", |path| {
            let mut content = fs::read(path).unwrap();
            content.truncate(content.len() / 2);
            fs::write(path, content).unwrap();
        }),
        // A file with a hole, as large as files can be.
        ("content-v2", |path| {
            fs::File::options().append(true).open(path).unwrap().set_len(1 << 40).unwrap();
        }),
        ("content-v2", |path| fs::remove_file(path).unwrap()),
        ("index-v5", |path| fs::write(path, b"\n\xff\xfe").unwrap()),
        ("index-v5", |path| {
            let content = fs::read_to_string(path).unwrap();
            fs::write(path, content.replace("e_tag\":\"", "e_tag\":\"1")).unwrap();
        }),
    ];
    for (number, (part, damage)) in damages.into_iter().enumerate() {
        let s = setup(MANY);
        s.remote.set(&Path::from("x"), bytes.clone()).await;
        s.get("x", None).await;
        damage(&s.files(part)[0]);
        let (again, (_, sent)) = s.get("x", None).await;
        assert_eq!((again, sent), (bytes.clone(), 3000), "{number}");
        assert_eq!(s.get("x", None).await, (bytes.clone(), (1, 0)), "{number}");
        assert_eq!(s.files("index-v5").len(), 1, "{number}");

        s.ranges("x", &[0..1000, 1000..2000]).await;
        s.files(part).iter().for_each(|path| damage(path));
        let (parts, _) = s.ranges("x", &[0..1000, 1000..2000, 2000..2500]).await;
        assert_eq!(parts, [&bytes[..1000], &bytes[1000..2000], &bytes[2000..2500]], "{number}");
    }
}

#[tokio::test]
async fn the_content_of_another_entry_is_none() {
    let s = setup(MANY);
    s.remote.set(&Path::from("x"), "one").await;
    s.remote.set(&Path::from("y"), "two").await;
    s.get("x", None).await;
    let content = s.files("content-v2").remove(0);
    s.get("y", None).await;
    // As if the two had the same hash: the index leads to the file, whose hash is right.
    let index = |key: &str| {
        let key = format!(r#"["memory","{key}",""]"#);
        cacache::metadata_sync(s.cache.directory(), key).unwrap().unwrap()
    };
    let (x, y) = (index("x"), index("y"));
    let options =
        cacache::WriteOpts::new().integrity(x.integrity).size(y.size).metadata(y.metadata);
    let key = y.key.clone();
    cacache::index::insert(s.cache.directory(), &key, options).unwrap();
    assert!(content.exists());
    assert_eq!(s.get("y", None).await.0, b"two");
}

#[tokio::test]
async fn no_more_is_kept_than_allowed() {
    const MAX: u64 = 1 << 20;
    let s = setup(MAX);
    let on_disk = || {
        let len = |path: &PathBuf| fs::metadata(path).unwrap().len();
        files(s.cache.directory()).iter().map(len).sum::<u64>()
    };
    for number in 0..60 {
        let path = format!("objects/{number}");
        s.remote.set(&Path::from(path.as_str()), object(number, 50_000)).await;
        s.get(&path, None).await;
        assert!(s.cache.usage().bytes <= MAX && on_disk() <= MAX, "{number}");
    }
    let usage = s.cache.usage();
    assert!((10..=18).contains(&usage.entries), "{usage:?}");
    // The last ones are there, the first ones are not.
    assert_eq!(s.get("objects/59", None).await.1, (1, 0));
    assert_eq!(s.get("objects/0", None).await.1, (1, 50_000));
    // One that would drive out all others isn't kept.
    s.remote.set(&Path::from("large"), object(1, 300_000)).await;
    for _ in 0..2 {
        assert_eq!(s.get("large", None).await, (object(1, 300_000), (1, 300_000)));
    }
    assert_eq!(s.files("content-v2").len() as u64, s.cache.usage().entries);
}

#[tokio::test]
async fn what_killed_processes_left_goes() {
    let s = setup(1 << 20);
    s.remote.set(&Path::from("x"), object(1, 1000)).await;
    s.get("x", None).await;
    let stray = |name: &str, age: u64| {
        let path = s.cache.directory().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, vec![0; 100_000]).unwrap();
        let file = fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        path
    };
    let old = [stray("tmp/a", 7200), stray("content-v2/xxh3/ab/cd/ef", 7200)];
    let young = [stray("tmp/b", 60), stray("content-v2/xxh3/12/34/56", 60)];
    // Another process looks when it first writes.
    let cache = DiskCache::open(s.cache.directory(), 1 << 20).unwrap();
    let store = cached(Arc::clone(&s.remote) as Arc<dyn ObjectStore>, Arc::clone(&cache), "memory");
    s.remote.set(&Path::from("y"), object(2, 1000)).await;
    store.get(&Path::from("y")).await.unwrap().bytes().await.unwrap();
    cache.flush().await;
    assert!(old.iter().all(|path| !path.exists()) && young.iter().all(|path| path.exists()));
    assert!(!s.cache.directory().join("content-v2/xxh3/ab").exists());
    assert_eq!(cache.usage().entries, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_may_use_a_directory_at_once() {
    const MAX: u64 = 1 << 20;
    let s = setup(MAX);
    let remote = &s.remote;
    for object_number in 0..16 {
        remote.set(&Path::from(format!("{object_number}")), object(object_number, 20_000)).await;
    }
    let work = (0..4_usize).map(|worker| {
        // Each with what it knows alone, as processes.
        let cache = DiskCache::open(s.cache.directory(), MAX).unwrap();
        let remote = Arc::clone(&s.remote);
        let store = cached(Arc::clone(&remote) as _, Arc::clone(&cache), "memory");
        tokio::spawn(async move {
            for step in 0..60 {
                let number = (step * 7 + worker * 5) % 16;
                let path = Path::from(format!("{number}"));
                let start = (step % 5) as u64 * 1000;
                let expected = object(number, 20_000);
                let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
                assert_eq!(bytes, expected);
                let parts = store.get_ranges(&path, &[start..start + 900, 9..19]).await.unwrap();
                let at = start as usize;
                assert_eq!(parts, [&expected[at..at + 900], &expected[9..19]]);
                if worker == 0 && step % 20 == 10 {
                    cache.clear().unwrap();
                }
            }
            cache.flush().await;
        })
    });
    for done in futures::future::join_all(work).await {
        done.unwrap();
    }
    // Each may exceed it by a quarter before it looks again.
    assert!(s.cache.usage().bytes <= 2 * MAX);
}

#[tokio::test]
async fn clearing_removes_what_the_cache_made() {
    let s = setup(MANY);
    assert_eq!(s.cache.clear().unwrap(), Usage::default());
    fs::create_dir(s.cache.directory()).unwrap();
    assert_eq!(s.cache.clear().unwrap(), Usage::default());
    s.remote.set(&Path::from("x"), object(1, 1000)).await;
    s.get("x", None).await;
    let mine = s.cache.directory().join("mine");
    fs::write(&mine, "").unwrap();
    assert_eq!(s.cache.clear().unwrap().entries, 1);
    assert_eq!(s.cache.usage(), Usage::default());
    assert_eq!(
        files(s.cache.directory()).len(),
        2,
        "what is mine, and what says that it is a cache"
    );
    assert!(mine.exists());
    // It is still a cache.
    s.get("x", None).await;
    assert_eq!(s.get("x", None).await.1, (1, 0));
    let tag = fs::read_to_string(s.cache.directory().join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55"));
}

#[tokio::test]
async fn other_directories_are_left_alone() {
    let s = setup(MANY);
    s.remote.set(&Path::from("x"), object(1, 1000)).await;
    let foreign = s.directory.path().join("foreign");
    fs::create_dir_all(foreign.join("content-v2")).unwrap();
    fs::write(foreign.join("content-v2/file"), "mine").unwrap();
    let below_file = s.directory.path().join("file");
    fs::write(&below_file, "mine").unwrap();
    // The cache of another program.
    let tagged = s.directory.path().join("tagged");
    fs::create_dir_all(&tagged).unwrap();
    fs::write(tagged.join("CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55").unwrap();
    for directory in [foreign.clone(), tagged.clone(), below_file.join("cache"), below_file.clone()]
    {
        let cache = DiskCache::open(&directory, MANY).unwrap();
        let store = cached(Arc::clone(&s.remote) as _, Arc::clone(&cache), "memory");
        for _ in 0..2 {
            let result = store.get(&Path::from("x")).await.unwrap();
            assert_eq!(result.bytes().await.unwrap(), object(1, 1000));
            let parts = store.get_ranges(&Path::from("x"), &[0..9, 9..99]).await.unwrap();
            assert_eq!(parts, [&object(1, 1000)[..9], &object(1, 1000)[9..99]]);
            cache.flush().await;
        }
        assert_eq!(cache.usage(), Usage::default());
        let error = cache.clear().unwrap_err().to_string();
        assert!(error.contains(&directory.display().to_string()), "{error}");
    }
    assert_eq!(fs::metadata(tagged.join("CACHEDIR.TAG")).unwrap().len(), 43);
    assert_eq!(files(&tagged).len(), 1);
    assert_eq!(files(&foreign), [foreign.join("content-v2/file")]);
    assert_eq!(fs::read(below_file).unwrap(), b"mine");
    assert!(DiskCache::open("", MANY).is_err() && DiskCache::open(foreign, 0).is_err());
}

#[test]
fn without_a_runtime_nothing_is_kept() {
    let s = setup(MANY);
    futures::executor::block_on(async {
        s.remote.set(&Path::from("x"), object(1, 1000)).await;
        for _ in 0..2 {
            assert_eq!(s.get("x", None).await, (object(1, 1000), (1, 1000)));
        }
    });
    assert!(!s.cache.directory().exists());
}

/// Something done to a store.
#[derive(Clone, Debug)]
enum Step {
    Put { object: u8, len: usize },
    Delete { object: u8 },
    Get { object: u8, range: Option<GetRange> },
    Ranges { object: u8, ranges: Vec<Range<u64>> },
    Damage,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // A few places, so that they come again.
    let at = (0..6_u64).prop_map(|n| n * 400);
    let range = (at.clone(), at.clone()).prop_map(|(start, end)| start..end);
    let asked = prop_oneof![
        range.clone().prop_map(GetRange::Bounded),
        at.clone().prop_map(GetRange::Offset),
        at.prop_map(GetRange::Suffix),
    ];
    let object = 0..3_u8;
    let step = prop_oneof![
        3 => (object.clone(), 0..2500_usize).prop_map(|(object, len)| Step::Put { object, len }),
        1 => object.clone().prop_map(|object| Step::Delete { object }),
        6 => (object.clone(), proptest::option::of(asked))
            .prop_map(|(object, range)| Step::Get { object, range }),
        6 => (object, proptest::collection::vec(range, 0..5))
            .prop_map(|(object, ranges)| Step::Ranges { object, ranges }),
        1 => Just(Step::Damage),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn answers_are_those_of_the_store(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let s = setup(64 << 10);
            for (number, step) in steps.into_iter().enumerate() {
                let path = |object: u8| Path::from(format!("{object}"));
                match step {
                    Step::Put { object: o, len } => s.remote.set(&path(o), object(number, len)).await,
                    Step::Delete { object } => s.remote.memory.delete(&path(object)).await.unwrap(),
                    Step::Get { object, range } => {
                        let options = GetOptions { range, ..GetOptions::default() };
                        let mut answers = Vec::new();
                        for store in [&s.store, &(Arc::clone(&s.remote) as _)] {
                            let result = store.get_opts(&path(object), options.clone()).await;
                            answers.push(match result {
                                Ok(result) => Ok((
                                    result.meta.clone(),
                                    result.range.clone(),
                                    result.bytes().await.unwrap(),
                                )),
                                Err(error) => Err(error.to_string()),
                            });
                        }
                        prop_assert_eq!(&answers[0], &answers[1], "step {}", number);
                    }
                    Step::Ranges { object, ranges } => {
                        let copy = s.store.get_ranges(&path(object), &ranges).await;
                        let plain = s.remote.get_ranges(&path(object), &ranges).await;
                        prop_assert_eq!(copy.ok(), plain.ok(), "step {}", number);
                    }
                    Step::Damage => {
                        for file in s.files("content-v2").iter().step_by(2) {
                            fs::write(file, "damage").unwrap();
                        }
                    }
                }
                s.cache.flush().await;
            }
            Ok(())
        })?;
    }
}
