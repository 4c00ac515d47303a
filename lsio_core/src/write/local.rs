//! A directory beside the target, which takes the target's name when it is complete.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;

/// A local directory that is being written. Dropped before [`Staged::publish`], it is removed.
#[derive(Debug)]
pub(super) struct Staged {
    directory: PathBuf,
    target: PathBuf,
    /// Directories that exist.
    made: Mutex<HashSet<PathBuf>>,
    published: bool,
}

impl Staged {
    /// Makes the directory, and those above the target.
    pub(super) fn new(target: &Path) -> io::Result<Self> {
        let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "the path has no last part");
        let name = target.file_name().ok_or_else(no_name)?.to_string_lossy().into_owned();
        let parent = target.parent().ok_or_else(no_name)?;
        fs::create_dir_all(parent)?;
        // Two writers never have the same directory.
        for attempt in 0..1_000_u32 {
            let own = format!(".{name}.lsio-{}-{attempt}", std::process::id());
            let directory = parent.join(own);
            match fs::create_dir(&directory) {
                Ok(()) => {
                    let (target, made) = (target.to_owned(), Mutex::default());
                    return Ok(Self { directory, target, made, published: false });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is no free name beside it"))
    }

    /// Writes a file, whose name is relative to the directory.
    pub(super) fn write<'a>(
        &self,
        key: &str,
        parts: impl Iterator<Item = &'a Bytes>,
    ) -> io::Result<()> {
        let path = self.directory.join(key);
        if let Some(parent) = path.parent() {
            let is_made = |made: &HashSet<PathBuf>| made.contains(parent);
            let lock = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
            if !is_made(&lock()) {
                fs::create_dir_all(parent)?;
                lock().insert(parent.to_owned());
            }
        }
        let mut file = File::create_new(path)?;
        for part in parts {
            file.write_all(part)?;
        }
        Ok(())
    }

    /// Gives the directory the target's name: of a target that exists only if `replace` says so. The bytes are on the
    /// drive before.
    pub(super) fn publish(mut self, replace: bool) -> io::Result<()> {
        sync(&self.directory)?;
        let replaced = rename(&self.directory, &self.target, replace)?;
        self.published = true;
        if let Some(parent) = self.target.parent() {
            // Not all file systems sync directories.
            let _ = File::open(parent).and_then(|parent| parent.sync_all());
        }
        match replaced {
            // What was there before has the directory's name.
            true => remove(&self.directory),
            false => Ok(()),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published {
            // Nobody can be told, and what is left is no store.
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Writes all files below a directory to the drive.
fn sync(directory: &Path) -> io::Result<()> {
    let directory = File::open(directory)?;
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(&directory)?;
    #[cfg(not(target_os = "linux"))]
    directory.sync_all()?;
    Ok(())
}

/// Renames the directory. Returns whether what was at the target has the directory's name now.
fn rename(directory: &Path, target: &Path, replace: bool) -> io::Result<bool> {
    // An empty directory holds nothing that could be lost.
    if target.is_dir() && fs::read_dir(target)?.next().is_none() {
        fs::remove_dir(target)?;
    }
    match rename_with(directory, target, false) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && replace => {
            rename_with(directory, target, true)?;
            Ok(true)
        }
        other => other.map(|()| false),
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn rename_with(from: &Path, to: &Path, exchange: bool) -> io::Result<()> {
    use rustix::{
        fs::{CWD, RenameFlags, renameat_with},
        io::Errno,
    };

    let flags = if exchange { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    match renameat_with(CWD, from, CWD, to, flags) {
        Err(Errno::NOSYS | Errno::INVAL | Errno::NOTSUP) => rename_plainly(from, to, exchange),
        other => Ok(other?),
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn rename_with(from: &Path, to: &Path, exchange: bool) -> io::Result<()> {
    rename_plainly(from, to, exchange)
}

/// Renames on file systems that can't do both steps in one.
fn rename_plainly(from: &Path, to: &Path, exchange: bool) -> io::Result<()> {
    if !exchange {
        if to.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        return fs::rename(from, to);
    }
    let aside = from.with_extension("old");
    fs::rename(to, &aside)?;
    match fs::rename(from, to) {
        Ok(()) => fs::rename(&aside, from),
        Err(error) => {
            // What was there comes back.
            fs::rename(&aside, to)?;
            Err(error)
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn targets_are_what_they_were_or_complete() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("a").join("x.zarr");
        let written = |content: &'static str| {
            let staged = Staged::new(&target).unwrap();
            staged.write("t/c/0", [Bytes::from(content)].iter()).unwrap();
            staged
        };
        drop(written("given up"));
        let parent = target.parent().unwrap();
        assert!(names(parent).is_empty());

        // An empty directory may be there.
        fs::create_dir(&target).unwrap();
        written("one").publish(false).unwrap();
        assert_eq!(names(parent), ["x.zarr"]);
        let content = || fs::read_to_string(target.join("t/c/0")).unwrap();
        assert_eq!(content(), "one");

        let error = written("two").publish(false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((content().as_str(), names(parent).len()), ("one", 1));

        written("three").publish(true).unwrap();
        assert_eq!((content().as_str(), names(parent).len()), ("three", 1));
        fs::remove_dir_all(&target).unwrap();
        written("four").publish(true).unwrap();
        assert_eq!(content(), "four");
    }

    #[test]
    fn file_systems_without_exchange_replace_in_two_steps() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        fs::create_dir(&from).unwrap();
        fs::write(&to, "old").unwrap();
        let error = rename_plainly(&from, &to, false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        rename_plainly(&from, &to, true).unwrap();
        assert!(to.is_dir());
        assert_eq!(fs::read_to_string(&from).unwrap(), "old");
    }
}
