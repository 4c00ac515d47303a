//! The copies in their directory.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io::{self, Read as _, Write as _},
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use bytes::Bytes;
use cacache::{Algorithm, Integrity, SyncReader, WriteOpts};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, sync::Semaphore};

use super::evict::{self, charge};
use crate::{Error, Result, error::short};

/// The bytes that wait to be written, at most; who has more waits until they are.
const PENDING: u32 = 64 << 20;

/// The largest copy: its bytes are in memory until they are written.
const LARGEST: u64 = 256 << 20;

/// The file that says whose directory this is. Programs for backups leave out directories that have
/// it (<https://bford.info/cachedir/>).
const TAG: &str = "CACHEDIR.TAG";
const TAG_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55
# This directory holds copies of what Light Speed IO (lsio) has read of remote stores.
# They are fetched again when they are gone: `lsio cache --clear` removes them.
";

/// A directory with copies of what was read of remote stores, bounded in bytes.
///
/// It takes up to `max_bytes`, counted in blocks of 4 KiB with one more for each entry; processes that
/// share it may exceed that together by a quarter of it each, until the next of them looks. The oldest
/// entries go first. Nothing here fails a query: what can't be read is fetched, and what can't be
/// written is left out, with one warning in the log.
#[derive(Debug)]
pub struct DiskCache {
    directory: PathBuf,
    max_bytes: u64,
    fill: Mutex<Fill>,
    /// Whether writing has failed; it isn't tried again.
    broken: AtomicBool,
    /// A permit for each byte that may wait to be written.
    pending: Arc<Semaphore>,
}

/// What this process knows of how full the directory is.
#[derive(Debug, Default)]
struct Fill {
    /// The bytes there, unless nobody has looked yet.
    bytes: Option<u64>,
    /// Those written since somebody looked.
    since: u64,
}

/// What a cache holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The number of copies.
    pub entries: u64,
    /// The bytes that they take.
    pub bytes: u64,
    /// The same for each store, the largest first.
    pub stores: Vec<StoreUsage>,
}

/// What a cache holds of one store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// The store's name, as given to [`cached`](super::cached).
    pub name: String,
    /// The number of copies.
    pub entries: u64,
    /// The bytes that they take.
    pub bytes: u64,
}

/// What a copy is a copy of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CopySource {
    pub e_tag: String,
    /// The size of the whole object.
    pub size: u64,
    pub last_modified: SystemTime,
    /// The part of it that this is.
    pub range: Range<u64>,
}

impl CopySource {
    /// The bytes of the copy.
    pub(super) fn len(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }
}

/// A copy as the index has it.
#[derive(Debug)]
pub(super) struct CopyEntry {
    pub key: CopyKey,
    pub stored: CopySource,
    /// When it was written, in milliseconds.
    pub time: u128,
    integrity: Integrity,
}

/// What a copy is found by: the store, the path in it and the range as it was asked for, as JSON.
#[derive(Clone, Debug)]
pub(super) struct CopyKey(String);

impl CopyKey {
    pub(super) fn new(store: &str, path: &str, range: &str) -> Self {
        Self(serde_json::json!([store, path, range]).to_string())
    }

    /// What the content of an entry starts with. So entries never share content, and none can be taken
    /// for that of another store, whatever bytes that one sends.
    fn prefix(&self) -> Vec<u8> {
        format!("{}\n", self.0).into_bytes()
    }
}

impl DiskCache {
    /// A cache in `directory` of up to `max_bytes`. Nothing is created before something is kept; and
    /// nothing is kept in a directory that has other things in it.
    ///
    /// # Errors
    /// [`Error::Cache`] if the path is empty or `max_bytes` is 0.
    pub fn open(directory: impl Into<PathBuf>, max_bytes: u64) -> Result<Arc<Self>> {
        let directory = directory.into();
        let invalid = |reason: String| unusable(&directory, reason);
        if max_bytes == 0 {
            return Err(invalid("it may take no bytes; give a size such as 20g".to_owned()));
        }
        // The process may change its current directory.
        let directory = std::path::absolute(&directory).map_err(|e| invalid(e.to_string()))?;
        Ok(Arc::new(Self {
            directory,
            max_bytes,
            fill: Mutex::default(),
            broken: AtomicBool::new(false),
            pending: Arc::new(Semaphore::new(PENDING as usize)),
        }))
    }

    /// Where the cache is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The bytes that it may take.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// What it holds now. Reads the whole index from the disk.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut stores = BTreeMap::<String, (u64, u64)>::new();
        for entry in evict::entries(&self.directory) {
            let Ok([store, _, _]) = serde_json::from_str::<[String; 3]>(&entry.key) else {
                continue;
            };
            let (entries, bytes) = stores.entry(store).or_default();
            *entries += 1;
            *bytes = bytes.saturating_add(charge(entry.size as u64));
        }
        let store = |(name, (entries, bytes))| StoreUsage { name, entries, bytes };
        let mut stores: Vec<_> = stores.into_iter().map(store).collect();
        stores.sort_by_key(|store| std::cmp::Reverse(store.bytes));
        Usage {
            entries: stores.iter().map(|store| store.entries).sum(),
            bytes: stores.iter().fold(0, |sum, store| store.bytes.saturating_add(sum)),
            stores,
        }
    }

    /// Removes all copies, and returns what they were. The directory stays, with the file that says
    /// that it is a cache.
    ///
    /// # Errors
    /// [`Error::Cache`] if the directory isn't a cache, or something in it can't be removed.
    pub fn clear(&self) -> Result<Usage> {
        let failed = |e: io::Error| unusable(&self.directory, e.to_string());
        match is_foreign(&self.directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Usage::default()),
            Err(e) => return Err(failed(e)),
            Ok(true) => {
                let reason = format!("it has no {TAG} of lsio; nothing was removed");
                return Err(unusable(&self.directory, reason));
            }
            Ok(false) if !is_tagged(&self.directory) => return Ok(Usage::default()),
            Ok(false) => {}
        }
        let usage = self.usage();
        evict::remove_all(&self.directory).map_err(failed)?;
        *self.fill() = Fill::default();
        Ok(usage)
    }

    /// Waits until what was read so far is written.
    pub async fn flush(&self) {
        // Fails only if somebody closes the semaphore, which nobody does.
        let _ = self.pending.acquire_many(PENDING).await;
    }

    /// The bytes of the largest copy that is kept.
    pub(super) fn largest(&self) -> u64 {
        (self.max_bytes / 4).min(LARGEST)
    }

    /// The entries that there are for some keys.
    pub(super) async fn find(self: &Arc<Self>, keys: Vec<CopyKey>) -> Vec<Option<CopyEntry>> {
        let (cache, none) = (Arc::clone(self), keys.iter().map(|_| None).collect());
        let find = move || keys.into_iter().map(|key| cache.find_now(key)).collect();
        blocking(find).await.unwrap_or(none)
    }

    fn find_now(&self, key: CopyKey) -> Option<CopyEntry> {
        let found = cacache::metadata_sync(&self.directory, &key.0).ok()??;
        let stored: CopySource = serde_json::from_value(found.metadata).ok()?;
        Some(CopyEntry { key, stored, time: found.time, integrity: found.integrity })
    }

    /// The bytes of an entry, if they are still there and the same.
    pub(super) async fn read(self: &Arc<Self>, entry: CopyEntry) -> Option<Bytes> {
        let cache = Arc::clone(self);
        blocking(move || cache.read_now(&entry)).await?
    }

    fn read_now(&self, entry: &CopyEntry) -> Option<Bytes> {
        let error = match self.try_read(entry) {
            Ok(Some(bytes)) => return Some(bytes),
            Ok(None) => "it isn't what was written".to_owned(),
            // Another process has removed it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                evict::remove(&self.directory, &entry.key.0);
                return None;
            }
            Err(e) => e.to_string(),
        };
        let (directory, key) = (self.directory.display(), short(&entry.key.0));
        log::warn!(
            "the cache in '{directory}' has a damaged copy of {key}, which is fetched again: {error}"
        );
        evict::remove(&self.directory, &entry.key.0);
        None
    }

    /// `None` if the content is damaged.
    fn try_read(&self, entry: &CopyEntry) -> io::Result<Option<Bytes>> {
        let prefix = entry.key.prefix();
        let len = entry.stored.len().saturating_add(prefix.len() as u64);
        let open = SyncReader::open_hash(&self.directory, entry.integrity.clone());
        let mut reader = open.map_err(io_error)?;
        let mut content = Vec::with_capacity(len.min(LARGEST) as usize);
        (&mut reader).take(len.saturating_add(1)).read_to_end(&mut content)?;
        let same =
            content.len() as u64 == len && content.starts_with(&prefix) && reader.check().is_ok();
        Ok(same.then(|| Bytes::from(content).slice(prefix.len()..)))
    }

    /// Removes what there is for some keys.
    pub(super) async fn remove(self: &Arc<Self>, keys: Vec<CopyKey>) {
        let cache = Arc::clone(self);
        blocking(move || keys.iter().for_each(|key| evict::remove(&cache.directory, &key.0))).await;
    }

    /// Keeps a copy. Returns when it is among those that are about to be written.
    pub(super) async fn write(
        self: &Arc<Self>,
        key: CopyKey,
        stored: CopySource,
        parts: Vec<Bytes>,
    ) {
        let Ok(runtime) = Handle::try_current() else { return };
        let permits = u32::try_from(stored.len()).unwrap_or(PENDING).clamp(1, PENDING);
        let pending = Arc::clone(&self.pending).acquire_many_owned(permits).await;
        let cache = Arc::clone(self);
        runtime.spawn_blocking(move || {
            cache.write_now(&key, &stored, &parts);
            drop(pending);
        });
    }

    fn write_now(&self, key: &CopyKey, stored: &CopySource, parts: &[Bytes]) {
        /// Another process may remove a directory just before a file is made in it.
        const TRIES: usize = 3;

        for left in (0..TRIES).rev() {
            if self.broken.load(Ordering::Relaxed) {
                return;
            }
            match self.try_write(key, stored, parts) {
                Ok(()) => return,
                Err(e) if e.kind() == io::ErrorKind::NotFound && left > 0 => {}
                Err(e) if !self.broken.swap(true, Ordering::Relaxed) => {
                    let directory = self.directory.display();
                    log::warn!("nothing more is written to the cache in '{directory}': {e}");
                }
                Err(_) => {}
            }
        }
    }

    fn try_write(&self, key: &CopyKey, stored: &CopySource, parts: &[Bytes]) -> io::Result<()> {
        tag(&self.directory)?;
        let prefix = key.prefix();
        let len = prefix.len() + parts.iter().map(Bytes::len).sum::<usize>();
        self.make_room(charge(len as u64));
        // The index is only ever appended to, and the content of the old entry is nobody else's.
        evict::remove(&self.directory, &key.0);
        let options = WriteOpts::new().algorithm(Algorithm::Xxh3).size(len);
        let options = options.metadata(serde_json::to_value(stored)?);
        let mut writer = options.open_sync(&self.directory, &key.0).map_err(io_error)?;
        writer.write_all(&prefix)?;
        parts.iter().try_for_each(|part| writer.write_all(part))?;
        writer.commit().map(drop).map_err(io_error)
    }

    /// Sees to it that so many bytes more are within the bound.
    fn make_room(&self, needed: u64) {
        let mut fill = self.fill();
        let since = fill.since.saturating_add(needed);
        let bytes = match fill.bytes {
            Some(bytes)
                if bytes.saturating_add(needed) <= self.max_bytes
                    && since <= self.max_bytes / 16 =>
            {
                bytes
            }
            // What other processes did is not known, or there is no room.
            _ => {
                fill.since = 0;
                evict::make_room(&self.directory, self.max_bytes, needed)
            }
        };
        fill.bytes = Some(bytes.saturating_add(needed));
        fill.since = fill.since.saturating_add(needed);
    }

    fn fill(&self) -> std::sync::MutexGuard<'_, Fill> {
        self.fill.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does something with files. `None` if there is no runtime that could.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    Handle::try_current().ok()?.spawn_blocking(work).await.ok()
}

fn is_tagged(directory: &Path) -> bool {
    fs::read(directory.join(TAG)).is_ok_and(|text| text == TAG_TEXT.as_bytes())
}

/// Makes the directory a cache, if it is empty or not there.
fn tag(directory: &Path) -> io::Result<()> {
    if is_tagged(directory) {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    // What is in stores is not for everybody.
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(directory)?;
    if is_foreign(directory)? {
        let reason = "there are other things in the directory; give an empty one";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
    }
    // In one step, so that nobody sees half of it.
    let whole = format!("{TAG}.{}.{:?}", std::process::id(), std::thread::current().id());
    let whole = directory.join(whole);
    let renamed = fs::write(&whole, TAG_TEXT).and_then(|()| fs::rename(whole, directory.join(TAG)));
    if is_tagged(directory) { Ok(()) } else { renamed }
}

/// Whether there is something in a directory that is no cache.
fn is_foreign(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        // Another process may be about to make it a cache; or have done so since.
        let name = entry?.file_name();
        let is_tag = name.to_string_lossy().strip_prefix(TAG).is_some_and(|s| s.starts_with('.'));
        if !is_tag && !is_tagged(directory) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn io_error(error: cacache::Error) -> io::Error {
    match error {
        cacache::Error::IoError(source, what) => {
            io::Error::new(source.kind(), format!("{what}: {source}"))
        }
        other => io::Error::other(other),
    }
}

fn unusable(directory: &Path, reason: String) -> Error {
    Error::Cache { directory: directory.display().to_string(), reason }
}
