//! Directories in which many chunks of an array aren't stored: they are listed once, and then nothing is asked for that
//! isn't there.
//!
//! Opening a file that doesn't exist takes microseconds, an entry of a listing a fraction of that. A listing may read as
//! many entries as pay off for the absent files that were found so far; a directory with more is tried again when many
//! more were.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::{Path as FilePath, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use object_store::path::Path;

/// Absent files after which a directory is listed.
const FEW: usize = 4;

/// Entries that a listing may read for each absent file that was found.
const ENTRIES: usize = 16;

/// Growth of the number of absent files before a directory that had too many entries is listed again.
const AGAIN: usize = 4;

/// Upper bound on the names and directories that are remembered. Beyond it all are forgotten.
const MOST: usize = 1 << 18;

/// The names in the directories of one array's chunks, as far as one scan needs them.
#[derive(Debug)]
pub(crate) struct ListedDirectories {
    /// The root of the local file system that the store reads.
    root: PathBuf,
    /// The directory of the array. Nothing above it is listed.
    base: String,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    directories: HashMap<String, Directory>,
    names: usize,
}

/// What is known of a directory.
#[derive(Clone, Debug)]
enum Directory {
    /// Files that don't exist were asked for: this many. It is listed when there are `next`.
    Asked {
        absent: usize,
        next: usize,
    },
    /// A task is listing it, or it can't be listed.
    Closed,
    Listed(Arc<Names>),
}

/// Hashes of the names in a directory. A name whose hash is missing doesn't exist.
#[derive(Debug, Default)]
pub(crate) struct Names(HashSet<u64>);

impl Names {
    /// Whether there may be a file of this name.
    pub(crate) fn may_have(&self, name: &str) -> bool {
        self.0.contains(&hash(name))
    }
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// Outcome of a listing.
enum Listing {
    Names(Names),
    /// There are more entries than pay off.
    TooMany,
    /// There is no such directory.
    Absent,
    Failed,
}

impl ListedDirectories {
    /// Directories of an array at `base` in the local file system under `root`.
    pub(crate) fn new(root: &FilePath, base: &Path) -> Self {
        Self { root: root.to_owned(), base: base.as_ref().to_owned(), known: Mutex::default() }
    }

    /// Names in a directory, if they are known.
    pub(crate) fn names(&self, directory: &str) -> Option<Arc<Names>> {
        let known = self.known();
        let mut at = directory;
        loop {
            match known.directories.get(at) {
                Some(Directory::Listed(names)) if at == directory => {
                    return Some(Arc::clone(names));
                }
                // It isn't known to be there.
                Some(Directory::Listed(_)) => return None,
                _ => {}
            }
            let (above, name) = at.rsplit_once('/').filter(|(above, _)| self.is_ours(above))?;
            if let Some(Directory::Listed(names)) = known.directories.get(above)
                && !names.may_have(name)
            {
                return Some(Arc::default());
            }
            at = above;
        }
    }

    /// Whether a file is known not to exist.
    pub(crate) fn lacks(&self, path: &Path) -> bool {
        let Some((directory, name)) = path.as_ref().rsplit_once('/') else { return false };
        self.names(directory).is_some_and(|names| !names.may_have(name))
    }

    /// Notes that a file doesn't exist, and lists its directory if that pays off.
    pub(crate) async fn note_absent(&self, path: &Path) {
        let mut path = path.as_ref();
        while let Some((directory, _)) = path.rsplit_once('/') {
            let Some(absent) = self.is_due(directory) else { return };
            let (file, most) = (self.root.join(directory), absent.saturating_mul(ENTRIES));
            let listed = tokio::task::spawn_blocking(move || list(&file, most)).await;
            let listed = listed.unwrap_or(Listing::Failed);
            let is_absent = matches!(listed, Listing::Absent);
            self.learn(directory, absent, listed);
            if !is_absent {
                return;
            }
            // The directory is an absent name of the one above.
            path = directory;
        }
    }

    /// Counts an absent file of a directory. Returns their number if the directory should be listed now.
    fn is_due(&self, directory: &str) -> Option<usize> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
        if !self.is_ours(directory) || !directory.bytes().all(plain) {
            return None;
        }
        let mut known = self.known();
        if known.names + known.directories.len() > MOST {
            *known = Known::default();
        }
        let Some(state) = known.directories.get_mut(directory) else {
            let first = Directory::Asked { absent: 1, next: FEW };
            known.directories.insert(directory.to_owned(), first);
            return None;
        };
        let Directory::Asked { absent, next } = state else { return None };
        *absent += 1;
        let count = *absent;
        if count < *next {
            return None;
        }
        *state = Directory::Closed;
        Some(count)
    }

    fn learn(&self, directory: &str, absent: usize, listed: Listing) {
        let mut known = self.known();
        let state = match listed {
            Listing::Names(names) => {
                known.names += names.0.len();
                Directory::Listed(Arc::new(names))
            }
            Listing::Absent => Directory::Listed(Arc::default()),
            Listing::TooMany => Directory::Asked { absent, next: absent.saturating_mul(AGAIN) },
            Listing::Failed => Directory::Closed,
        };
        known.directories.insert(directory.to_owned(), state);
    }

    /// Whether a directory is the array's, or below it.
    fn is_ours(&self, directory: &str) -> bool {
        let below = directory.strip_prefix(self.base.as_str());
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lists a directory of up to `most` entries.
fn list(directory: &FilePath, most: usize) -> Listing {
    let entries = match directory.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Listing::Absent,
        Err(_) => return Listing::Failed,
    };
    let mut names = HashSet::new();
    for entry in entries {
        let Ok(entry) = entry else { return Listing::Failed };
        if names.len() >= most {
            return Listing::TooMany;
        }
        // Keys are UTF-8: another name is none of theirs.
        if let Some(name) = entry.file_name().to_str() {
            names.insert(hash(name));
        }
    }
    Listing::Names(Names(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_there_is_known_after_a_few() {
        let store = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(store.path().join("a/c/0")).unwrap();
        for name in ["1", "5"] {
            std::fs::write(store.path().join("a/c/0").join(name), "").unwrap();
        }
        let listed = ListedDirectories::new(store.path(), &Path::from("a"));
        let path = |key: &str| Path::from(format!("a/c/{key}"));
        for index in 10..10 + FEW {
            assert!(!listed.lacks(&path("0/77")));
            listed.note_absent(&path(&format!("0/{index}"))).await;
        }
        assert!(listed.lacks(&path("0/77")));
        assert!(!listed.lacks(&path("0/1")) && !listed.lacks(&path("0/5")));
        // Directories that don't exist, and what is in them.
        for directory in 1..=FEW {
            for index in 0..FEW {
                listed.note_absent(&path(&format!("{directory}/{index}"))).await;
            }
        }
        assert!(listed.lacks(&path("50/3")) && listed.lacks(&path("51/2/3")));
        assert!(!listed.lacks(&path("0/1")) && listed.lacks(&path("0/3")));
        // Another array's.
        assert!(!listed.lacks(&Path::from("ab/c/3")));
        listed.note_absent(&Path::from("ab/c/3")).await;
        assert!(!listed.known().directories.contains_key("ab/c"));
    }

    #[tokio::test]
    async fn large_directories_are_not_read_for_a_few() {
        let store = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(store.path().join("a")).unwrap();
        for index in 0..FEW * ENTRIES + 1 {
            std::fs::write(store.path().join(format!("a/{index}")), "").unwrap();
        }
        let listed = ListedDirectories::new(store.path(), &Path::from("a"));
        for index in 0..FEW * AGAIN {
            assert!(!listed.lacks(&Path::from("a/x")), "{index}");
            listed.note_absent(&Path::from("a/y")).await;
        }
        assert!(listed.lacks(&Path::from("a/x")) && !listed.lacks(&Path::from("a/9")));
    }
}
