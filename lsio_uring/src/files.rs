//! Open files: the most recently used stay open, and are reused only after a check of their path.

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

/// Opens files, and keeps them and the capabilities of their file systems.
#[derive(Debug)]
pub(crate) struct Files {
    open: Mutex<LruCache<PathBuf, Arc<OpenFile>>>,
    systems: Mutex<HashMap<u64, Arc<FileSystem>>>,
    /// Whether any file system so far was remote.
    remote: AtomicBool,
}

/// Thread that a call runs on, which decides whether it may wait for a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Here {
    /// An asynchronous task: a call that would wait fails with [`io::ErrorKind::WouldBlock`].
    Task,
    /// A ring's thread, which may wait for a file to open but has no time for copies.
    Ring,
    /// A worker, which may wait.
    Worker,
}

/// A file that was just opened, or was open already.
#[derive(Debug)]
pub(crate) enum OpenedFile {
    New(OpenFile),
    Kept(Arc<OpenFile>),
}

impl OpenedFile {
    /// Prepares the file for reads; past the page cache if `direct` is set.
    ///
    /// # Errors
    /// The operating system's own.
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

impl Deref for OpenedFile {
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
    /// Device and inode. The path must still lead to them before the file is reused.
    identity: (u64, u64),
    system: Arc<FileSystem>,
    file: File,
    /// Whether `file` reads past the page cache.
    is_direct: bool,
    /// The same file, opened for the other kind of reads.
    other: OnceLock<File>,
}

/// Known capabilities of a file system.
#[derive(Debug)]
pub(crate) struct FileSystem {
    /// Alignment in bytes of positions and sizes of direct reads.
    alignment: usize,
    refuses_direct: AtomicBool,
    /// Whether a server or another program is behind the file system, which may delay any call.
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

    /// Opens a file, or finds it open. Its metadata are current.
    ///
    /// # Errors
    /// [`io::ErrorKind::IsADirectory`] for directories, [`io::ErrorKind::InvalidInput`] for anything else that isn't a
    /// regular file, and the operating system's own.
    pub(crate) fn open(&self, path: &Path, here: Here) -> io::Result<(OpenedFile, Metadata)> {
        let known = self.cache().get(path).cloned();
        if let Some(file) = known {
            if here == Here::Task && file.system.is_remote {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            // The directory entry of an open file stays in memory: this doesn't wait for a drive.
            let now = std::fs::metadata(path);
            if let Ok(now) = now
                && (now.dev(), now.ino()) == file.identity
            {
                return Ok((OpenedFile::Kept(file), now));
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
        Ok((OpenedFile::New(file), metadata))
    }

    /// Whether opening a file may wait for a server.
    pub(crate) fn may_be_remote(&self) -> bool {
        self.remote.load(Ordering::Relaxed)
    }

    /// Keeps a file open for later.
    pub(crate) fn keep(&self, file: &Arc<OpenFile>) {
        // The evicted file is closed here, after the lock is released.
        let _displaced = self.cache().push(file.path.clone(), Arc::clone(file));
    }

    /// Closes a file once no reader uses it.
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
            // This call may take long: not under the lock.
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

    /// File for reads through the page cache.
    ///
    /// # Errors
    /// If the file was opened for direct reads and can't be opened again.
    pub(crate) fn buffered(&self) -> io::Result<&File> {
        if self.is_direct { self.other() } else { Ok(&self.file) }
    }

    /// File for reads past the page cache; `None` if the file system refuses them.
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
                // Other failures, such as too many open files, don't concern the file system.
                if error.raw_os_error() == Some(INVALID) {
                    self.system.refuse_direct();
                }
                None
            }
        }
    }

    /// Either file, for queries about the file rather than reads.
    pub(crate) fn any(&self) -> &File {
        &self.file
    }

    /// Prepares a file that no other thread has yet for reads that will wait for the drive. Making this descriptor a
    /// direct one, where reads will bypass the page cache, saves a second one.
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
        // Not stored: a failure, such as too many open files, may be temporary.
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

    /// Remembers that direct reads don't work on this file system.
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
        // Zero means no direct reads. A larger alignment than a page isn't supported by the buffers.
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

/// Whether a file is on one of the common file systems without a local drive.
#[cfg(target_os = "linux")]
fn is_remote(file: &File) -> bool {
    /// Magic numbers of `statfs(2)`: NFS, SMB, CIFS, SMB2, FUSE, 9P, Ceph, AFS, Lustre, GPFS, BeeGFS.
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

/// `EINVAL`, with which file systems refuse direct reads.
const INVALID: i32 = Errno::INVAL.raw_os_error();

/// Without `NONBLOCK`, opening a named pipe would wait for its writer. Without `NOCTTY`, a terminal might become this
/// process's controlling terminal.
const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Opens a file of any kind.
///
/// # Errors
/// The operating system's own.
pub(crate) fn open(path: &Path, here: Here) -> io::Result<File> {
    let opened = match here {
        Here::Task => open_cached(path),
        Here::Ring | Here::Worker => {
            retry_on_intr(|| rustix::fs::open(path, FLAGS, Mode::empty())).map_err(io::Error::from)
        }
    };
    opened.map(File::from).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => no_file("symbolic links that lead to each other"),
        // Opening a socket fails with "no such device".
        Some(Errno::NXIO) if is_socket(path) => no_file("a socket"),
        _ => error,
    })
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Fails unless this is a regular file.
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
    /// Number of files to leave to a worker before the next try.
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
            // The kernel is older than Linux 5.12, or a sandbox doesn't know the call.
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

/// Opens the same file again, even if its path names another file by now.
#[cfg(target_os = "linux")]
fn reopen(file: &OpenFile, direct: bool) -> io::Result<File> {
    use std::os::fd::AsRawFd as _;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let flags = if direct { flags | OFlags::DIRECT } else { flags };
    let link = format!("/proc/self/fd/{}", file.file.as_raw_fd());
    match retry_on_intr(|| rustix::fs::open(&link, flags, Mode::empty())) {
        Ok(file) => Ok(file.into()),
        Err(error @ (Errno::INVAL | Errno::MFILE | Errno::NFILE)) => Err(error.into()),
        // Without access to /proc, the file is opened by its path, if that is still the same file.
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
        // Only the buffered file is certain: the file system may refuse direct reads.
        let mut bytes = [0; 5];
        file.buffered().unwrap().read_exact_at(&mut bytes, 1).unwrap();
        assert_eq!(bytes, [7; 5]);
        assert_eq!(file.direct().is_some(), !file.system().refuses_direct());
    }
}
