//! Open files: those used last stay open, and are never trusted without a look at their path.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io,
    num::NonZero,
    ops::Deref,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use lru::LruCache;
use rustix::{
    fs::{Mode, OFlags, fcntl_setfl},
    io::{Errno, retry_on_intr},
};
use std::os::{fd::OwnedFd, unix::fs::MetadataExt as _};

use super::buffers::BLOCK;

/// Opens files, and remembers them and what their file systems can do.
#[derive(Debug)]
pub(crate) struct Files {
    open: Mutex<LruCache<PathBuf, Arc<OpenFile>>>,
    systems: Mutex<HashMap<u64, Arc<FileSystem>>>,
    /// Whether one of the file systems so far was remote.
    remote: AtomicBool,
}

/// Whether a call may wait for a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Here {
    /// An asynchronous task: what would have to wait fails with [`io::ErrorKind::WouldBlock`].
    Task,
    /// The thread of a ring, which may wait for a file to open but has no time for copies.
    Ring,
    /// A thread for what may wait.
    Worker,
}

/// A file that was just opened, or was open already.
#[derive(Debug)]
pub(crate) enum Opened {
    New(OpenFile),
    Kept(Arc<OpenFile>),
}

impl Opened {
    /// The file, ready to be read; past the page cache if `direct` is set.
    ///
    /// # Errors
    /// The system's own.
    pub(crate) fn ready(self, direct: bool) -> io::Result<Arc<OpenFile>> {
        match self {
            Self::New(mut file) => {
                file.settle(direct)?;
                Ok(Arc::new(file))
            }
            Self::Kept(file) => Ok(file),
        }
    }
}

impl Deref for Opened {
    type Target = OpenFile;

    fn deref(&self) -> &OpenFile {
        match self {
            Self::New(file) => file,
            Self::Kept(file) => file,
        }
    }
}

/// A regular file that is open for reading.
#[derive(Debug)]
pub(crate) struct OpenFile {
    path: PathBuf,
    /// Device and inode: what a path is compared with before the file is used again.
    identity: (u64, u64),
    system: Arc<FileSystem>,
    file: File,
    /// Whether `file` reads past the page cache.
    is_direct: bool,
    /// The same file, opened the other way.
    other: OnceLock<File>,
}

/// What is known of a file system.
#[derive(Debug)]
pub(crate) struct FileSystem {
    /// What positions and sizes of direct reads have to be a multiple of.
    alignment: usize,
    refuses_direct: AtomicBool,
    /// Whether a server or another program stands behind it, which may keep any call waiting.
    is_remote: bool,
}

impl Files {
    /// Keeps up to `capacity` files open.
    pub(crate) fn new(capacity: usize) -> Self {
        let open = match NonZero::new(capacity) {
            Some(capacity) => LruCache::new(capacity),
            None => LruCache::new(NonZero::<usize>::MIN),
        };
        Self { open: Mutex::new(open), systems: Mutex::default(), remote: AtomicBool::new(false) }
    }

    /// Opens a file, or finds it open. Its metadata are of now.
    ///
    /// # Errors
    /// [`io::ErrorKind::IsADirectory`] for directories, [`io::ErrorKind::InvalidInput`] for anything
    /// else that is no regular file, and the system's own.
    pub(crate) fn open(&self, path: &Path, here: Here) -> io::Result<(Opened, Metadata)> {
        let known = self.cache().get(path).cloned();
        if let Some(file) = known {
            if here == Here::Task && file.system.is_remote {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            // While a file is open its directory entry stays in memory: this doesn't wait for a drive.
            let now = std::fs::metadata(path);
            if let Ok(now) = now
                && (now.dev(), now.ino()) == file.identity
            {
                return Ok((Opened::Kept(file), now));
            }
            self.forget(path);
        }
        let file = open(path, here)?;
        let metadata = file.metadata()?;
        check_kind(metadata.file_type())?;
        let identity = (metadata.dev(), metadata.ino());
        let system = self.system(identity.0, &file);
        let file = OpenFile {
            path: path.to_owned(),
            identity,
            system,
            file,
            is_direct: false,
            other: OnceLock::new(),
        };
        Ok((Opened::New(file), metadata))
    }

    /// Whether opening a file may take as long as a server likes.
    pub(crate) fn may_be_remote(&self) -> bool {
        self.remote.load(Ordering::Relaxed)
    }

    /// Keeps a file open for later.
    pub(crate) fn keep(&self, file: &Arc<OpenFile>) {
        // What it displaces is closed here, after the lock is free.
        let _displaced = self.cache().push(file.path.clone(), Arc::clone(file));
    }

    /// Closes a file, as soon as nobody reads it.
    pub(crate) fn forget(&self, path: &Path) {
        let _closed = self.cache().pop(path);
    }

    fn cache(&self) -> MutexGuard<'_, LruCache<PathBuf, Arc<OpenFile>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn system(&self, device: u64, file: &File) -> Arc<FileSystem> {
        let systems = || self.systems.lock().unwrap_or_else(PoisonError::into_inner);
        let known = systems().get(&device).cloned();
        known.unwrap_or_else(|| {
            // Asking may take its time: not under the lock.
            let system = Arc::new(FileSystem::of(file));
            self.remote.fetch_or(system.is_remote, Ordering::Relaxed);
            Arc::clone(systems().entry(device).or_insert(system))
        })
    }
}

impl OpenFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn system(&self) -> &FileSystem {
        &self.system
    }

    /// The file for reads through the page cache.
    ///
    /// # Errors
    /// If it was opened for direct reads and can't be opened again.
    pub(crate) fn buffered(&self) -> io::Result<&File> {
        if self.is_direct { self.other() } else { Ok(&self.file) }
    }

    /// The file for reads past the page cache; `None` if its file system has none.
    pub(crate) fn direct(&self) -> Option<&File> {
        if self.system.refuses_direct() {
            return None;
        }
        if self.is_direct {
            return Some(&self.file);
        }
        match self.other() {
            Ok(file) => Some(file),
            Err(error) => {
                // Other failures, such as too many open files, say nothing about the file system.
                if error.raw_os_error() == Some(INVALID) {
                    self.system.refuse_direct();
                }
                None
            }
        }
    }

    /// Either file: for questions about the file, not for reads.
    pub(crate) fn any(&self) -> &File {
        &self.file
    }

    /// Readies a file that nobody else has yet for reads, which are to wait for the drive. If it will
    /// be read past the cache, making this descriptor a direct one saves a second one.
    fn settle(&mut self, direct: bool) -> io::Result<()> {
        if direct && !self.system.refuses_direct() {
            match set_direct(&self.file) {
                Ok(()) => {
                    self.is_direct = true;
                    return Ok(());
                }
                Err(_) => self.system.refuse_direct(),
            }
        }
        Ok(fcntl_setfl(&self.file, OFlags::empty())?)
    }

    fn other(&self) -> io::Result<&File> {
        if let Some(file) = self.other.get() {
            return Ok(file);
        }
        // Failures, such as too many open files, may be over next time.
        let file = reopen(self, !self.is_direct)?;
        Ok(self.other.get_or_init(|| file))
    }
}

impl FileSystem {
    pub(crate) fn alignment(&self) -> u64 {
        self.alignment as u64
    }

    pub(crate) fn refuses_direct(&self) -> bool {
        self.refuses_direct.load(Ordering::Relaxed)
    }

    /// Remembers that direct reads don't work here.
    pub(crate) fn refuse_direct(&self) {
        if !self.refuses_direct.swap(true, Ordering::Relaxed) {
            log::info!("a file system refuses direct reads; its files are read through the cache");
        }
    }

    #[cfg(target_os = "linux")]
    fn of(file: &File) -> Self {
        use rustix::fs::{AtFlags, StatxFlags, statx};
        let alignment = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)
            .ok()
            .filter(|s| s.stx_mask & StatxFlags::DIOALIGN.bits() != 0)
            .map(|s| s.stx_dio_offset_align.max(s.stx_dio_mem_align) as usize);
        // Zero says that there are no direct reads. More than a page has no buffer here.
        let refuses = alignment.is_some_and(|a| a == 0 || !BLOCK.is_multiple_of(a));
        Self {
            alignment: BLOCK,
            refuses_direct: AtomicBool::new(refuses),
            is_remote: is_remote(file),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn of(_: &File) -> Self {
        Self { alignment: BLOCK, refuses_direct: AtomicBool::new(true), is_remote: false }
    }
}

/// Whether a file is on one of the common file systems behind which there is no drive of this machine.
#[cfg(target_os = "linux")]
fn is_remote(file: &File) -> bool {
    /// The magic numbers of `statfs(2)`: NFS, SMB, CIFS, SMB2, FUSE, 9P, Ceph, AFS, Lustre, GPFS, BeeGFS.
    const REMOTE: [u32; 11] = [
        0x6969,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x6573_5546,
        0x0102_1997,
        0x00c3_6400,
        0x5346_414f,
        0x0bd0_0bd0,
        0x4750_4653,
        0x1983_0326,
    ];
    rustix::fs::fstatfs(file).is_ok_and(|system| REMOTE.contains(&(system.f_type as u32)))
}

/// `EINVAL`, which is how file systems refuse direct reads.
const INVALID: i32 = Errno::INVAL.raw_os_error();

/// Without `NONBLOCK`, opening a named pipe would wait for its writer; without `NOCTTY`, a terminal
/// might become this process's own.
const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

fn open(path: &Path, here: Here) -> io::Result<File> {
    let opened = match here {
        Here::Task => open_cached(path),
        Here::Ring | Here::Worker => {
            retry_on_intr(|| rustix::fs::open(path, FLAGS, Mode::empty())).map_err(io::Error::from)
        }
    };
    opened.map(File::from).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => no_file("symbolic links that lead to each other"),
        // A socket has no drive behind it: the system says that there is no such device.
        Some(Errno::NXIO) if is_socket(path) => no_file("a socket"),
        _ => error,
    })
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Fails for what is no regular file.
fn check_kind(kind: std::fs::FileType) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    match kind {
        kind if kind.is_file() => Ok(()),
        kind if kind.is_dir() => Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "it is a directory, not a regular file",
        )),
        kind if kind.is_fifo() => Err(no_file("a named pipe")),
        kind if kind.is_socket() => Err(no_file("a socket")),
        kind if kind.is_char_device() || kind.is_block_device() => Err(no_file("a device")),
        _ => Err(no_file("something else")),
    }
}

fn no_file(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, not a regular file"))
}

/// Opens a file only if its directory entries are in memory.
#[cfg(target_os = "linux")]
fn open_cached(path: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{CWD, ResolveFlags, openat2};
    /// How many of the next files to leave to a worker without trying.
    static DOUBTS: AtomicU32 = AtomicU32::new(0);
    /// After a file that isn't in memory, the next ones mostly aren't either.
    const AFTER_A_MISS: u32 = 15;
    const FOR_EVER: u32 = u32::MAX;

    let doubts = DOUBTS.load(Ordering::Relaxed);
    if doubts > 0 {
        if doubts < FOR_EVER {
            DOUBTS.store(doubts - 1, Ordering::Relaxed);
        }
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let opened = retry_on_intr(|| openat2(CWD, path, FLAGS, Mode::empty(), ResolveFlags::CACHED));
    opened.map_err(|error| {
        match error {
            Errno::AGAIN => DOUBTS.store(AFTER_A_MISS, Ordering::Relaxed),
            // The call is younger than Linux 5.12, or a sandbox doesn't know it.
            Errno::NOSYS | Errno::INVAL | Errno::PERM | Errno::TOOBIG => {
                DOUBTS.store(FOR_EVER, Ordering::Relaxed);
                return io::ErrorKind::WouldBlock.into();
            }
            _ => {}
        }
        error.into()
    })
}

#[cfg(not(target_os = "linux"))]
fn open_cached(_: &Path) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::WouldBlock.into())
}

#[cfg(target_os = "linux")]
fn set_direct(file: &File) -> io::Result<()> {
    Ok(fcntl_setfl(file, OFlags::DIRECT)?)
}

#[cfg(not(target_os = "linux"))]
fn set_direct(_: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Opens the very file that is open already, whatever its path names by now.
#[cfg(target_os = "linux")]
fn reopen(file: &OpenFile, direct: bool) -> io::Result<File> {
    use std::os::fd::AsRawFd as _;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let flags = if direct { flags | OFlags::DIRECT } else { flags };
    let link = format!("/proc/self/fd/{}", file.file.as_raw_fd());
    match retry_on_intr(|| rustix::fs::open(&link, flags, Mode::empty())) {
        Ok(file) => Ok(file.into()),
        Err(error @ (Errno::INVAL | Errno::MFILE | Errno::NFILE)) => Err(error.into()),
        // No /proc, or not for this process: by its name, if that is still the same file.
        Err(_) => {
            let again = retry_on_intr(|| rustix::fs::open(&file.path, flags, Mode::empty()))?;
            let again = File::from(again);
            let metadata = again.metadata()?;
            if (metadata.dev(), metadata.ino()) == file.identity {
                Ok(again)
            } else {
                Err(io::Error::new(io::ErrorKind::NotFound, "replaced while it was read"))
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn reopen(_: &OpenFile, _: bool) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_opened_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, "one").unwrap();
        let files = Files::new(4);
        let open = || {
            let (file, metadata) = files.open(&path, Here::Worker).unwrap();
            (file.ready(false).unwrap(), metadata)
        };
        let (first, metadata) = open();
        assert_eq!(metadata.len(), 3);
        files.keep(&first);
        let (again, _) = open();
        assert!(Arc::ptr_eq(&first, &again));

        std::fs::write(directory.path().join("g"), "three").unwrap();
        std::fs::rename(directory.path().join("g"), &path).unwrap();
        let (second, metadata) = open();
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(metadata.len(), 5);

        files.keep(&second);
        std::fs::remove_file(&path).unwrap();
        let gone = files.open(&path, Here::Worker).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let socket = directory.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let [to_pipe, to_itself] = ["to_pipe", "to_itself"].map(|name| directory.path().join(name));
        std::os::unix::fs::symlink(&pipe, &to_pipe).unwrap();
        std::os::unix::fs::symlink(&to_itself, &to_itself).unwrap();
        let files = Files::new(4);
        for (path, kind, text) in [
            (pipe.as_path(), io::ErrorKind::InvalidInput, "a named pipe"),
            (&to_pipe, io::ErrorKind::InvalidInput, "a named pipe"),
            (&socket, io::ErrorKind::InvalidInput, "a socket"),
            (&to_itself, io::ErrorKind::InvalidInput, "symbolic links"),
            (Path::new("/dev/zero"), io::ErrorKind::InvalidInput, "a device"),
            (directory.path(), io::ErrorKind::IsADirectory, "a directory"),
            (&directory.path().join("none"), io::ErrorKind::NotFound, ""),
            (&pipe.join("below"), io::ErrorKind::NotADirectory, ""),
        ] {
            // The first may not know; the second must.
            for here in [Here::Task, Here::Worker] {
                let error = files.open(path, here).unwrap_err();
                if here == Here::Task && error.kind() == io::ErrorKind::WouldBlock {
                    continue;
                }
                assert_eq!(error.kind(), kind, "{}: {error}", path.display());
                assert!(error.to_string().contains(text), "{}: {error}", path.display());
            }
        }
    }

    #[test]
    fn a_file_opens_both_ways() {
        use std::os::unix::fs::FileExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, vec![7; 3 * BLOCK]).unwrap();
        let files = Files::new(4);
        let file = files.open(&path, Here::Worker).unwrap().0.ready(true).unwrap();
        // Beyond the buffered file nothing is certain: the file system may refuse direct reads.
        let mut bytes = [0; 5];
        file.buffered().unwrap().read_exact_at(&mut bytes, 1).unwrap();
        assert_eq!(bytes, [7; 5]);
        assert_eq!(file.direct().is_some(), !file.system().refuses_direct());
    }
}
