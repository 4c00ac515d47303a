//! How full a cache is, and what goes when it is too full.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use cacache::{Metadata, RemoveOpts};

/// Where cacache keeps contents, the index, and files that are being written.
const CONTENT: &str = "content-v2";
const INDEX: &str = "index-v5";
const TEMPORARY: &str = "tmp";

/// What an entry whose content has so many bytes takes on the disk, about: whole blocks of 4 KiB, one
/// of them for the index.
pub(super) fn charge(len: u64) -> u64 {
    const BLOCK: u64 = 4096;
    len.div_ceil(BLOCK).saturating_add(1).saturating_mul(BLOCK)
}

/// All entries of a cache. What can't be read isn't among them.
pub(super) fn entries(directory: &Path) -> impl Iterator<Item = Metadata> {
    cacache::list_sync(directory).filter_map(Result::ok)
}

/// Removes an entry, its content and its line in the index. What fails stays, for a later eviction.
pub(super) fn remove(directory: &Path, key: &str) {
    let remove = || RemoveOpts::new().remove_fully(true).remove_sync(directory, key);
    // Without its content, the entry can't be removed before it is marked as removed.
    if remove().is_err() && matches!(cacache::metadata_sync(directory, key), Ok(Some(_))) {
        let _ = cacache::remove_sync(directory, key).and_then(|()| remove());
    }
}

/// Removes all entries, while other processes may write some.
pub(super) fn remove_all(directory: &Path) -> io::Result<()> {
    let temporary = directory.join(TEMPORARY);
    fs::create_dir_all(&temporary)?;
    let (process, thread) = (std::process::id(), std::thread::current().id());
    for part in [INDEX, CONTENT] {
        // Nobody writes to what has another name. If this process is killed, it is swept.
        let away = temporary.join(format!("{part}-{process}-{thread:?}"));
        match fs::rename(directory.join(part), &away) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    walk(&temporary, &mut |path, _| drop(fs::remove_file(path)))
}

/// Makes room for `needed` bytes: if there is none within `max_bytes`, the oldest entries go, until an
/// eighth of it is free. Returns how many bytes are left there.
pub(super) fn make_room(directory: &Path, max_bytes: u64, needed: u64) -> u64 {
    let mut entries: Vec<_> = entries(directory).collect();
    let mut total = sweep(directory, &entries);
    let sizes = entries.iter().map(|entry| charge(entry.size as u64));
    total = sizes.fold(total, u64::saturating_add);
    if total.saturating_add(needed) <= max_bytes {
        return total;
    }
    let target = (max_bytes - max_bytes / 8).saturating_sub(needed);
    entries.sort_by_key(|entry| entry.time);
    for entry in entries {
        if total <= target {
            break;
        }
        remove(directory, &entry.key);
        total = total.saturating_sub(charge(entry.size as u64));
    }
    total
}

/// Removes what processes left that were killed or came in each other's way: contents that belong to
/// no entry, temporary files, empty directories. Returns the bytes of those that are too young: they
/// may be about to become entries.
fn sweep(directory: &Path, entries: &[Metadata]) -> u64 {
    const YOUNG: Duration = Duration::from_secs(3600);

    let content = directory.join(CONTENT);
    let known: HashSet<_> = entries.iter().map(|entry| content_path(&content, entry)).collect();
    let mut young = 0;
    let mut visit = |path: PathBuf, metadata: fs::Metadata| {
        let age = metadata.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        if known.contains(&path) {
        } else if age.is_some_and(|age| age > YOUNG) {
            let _ = fs::remove_file(path);
        } else {
            young = charge(metadata.len()).saturating_add(young);
        }
    };
    let _ = walk(&content, &mut visit);
    let _ = walk(&directory.join(TEMPORARY), &mut visit);
    let _ = walk(&directory.join(INDEX), &mut |_, _| {});
    young
}

fn content_path(content: &Path, entry: &Metadata) -> PathBuf {
    let (algorithm, hex) = entry.integrity.to_hex();
    let (first, rest) = hex.split_at_checked(2).unwrap_or_default();
    let (second, rest) = rest.split_at_checked(2).unwrap_or_default();
    content.join(algorithm.to_string()).join(first).join(second).join(rest)
}

/// Visits the files below a directory, and removes directories that are empty.
fn walk(directory: &Path, visit: &mut impl FnMut(PathBuf, fs::Metadata)) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Not of what a link leads to; and what is gone meanwhile is gone.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            let _ = walk(&entry.path(), visit);
            // Fails, as it should, if there is something in it.
            let _ = fs::remove_dir(entry.path());
        } else {
            visit(entry.path(), metadata);
        }
    }
    Ok(())
}
