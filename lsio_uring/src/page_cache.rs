//! Files in the page cache, read by the caller's own thread.

use std::{
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use object_store::path::Path;

use super::{
    UringFileSystem,
    files::{Here, OpenFile},
    options::Access,
    residency::{Residency, residency},
};

/// Upper bound on files open for such reads: the system limits a process's open files.
const MOST_OPEN: usize = 256;

/// Number of these open files.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A file to read from the page cache.
///
/// Such a read is a copy: so fast that passing it to another thread would take longer, and best done in pieces that
/// stay in the processor's own cache. A page that is evicted meanwhile is read from the drive again, and the caller
/// waits.
#[derive(Clone, Debug)]
pub struct CachedFile {
    file: Arc<OpenFile>,
    len: u64,
    _counted: Arc<Counted>,
}

/// One of the counted open files.
#[derive(Debug)]
struct Counted;

impl Counted {
    /// `None` at the upper bound.
    fn new() -> Option<Arc<Self>> {
        let open = OPEN.fetch_add(1, Ordering::Relaxed);
        let counted = Arc::new(Self);
        (open < MOST_OPEN).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

impl UringFileSystem {
    /// Opens an object to read it from the page cache, if that needs no waiting and not too many files are open
    /// already.
    #[must_use]
    pub fn open_cached(&self, location: &Path) -> Option<CachedFile> {
        if matches!(self.access(), Access::Direct | Access::Buffered) {
            return None;
        }
        let counted = Counted::new()?;
        let path = self.file_path(location).ok()?;
        let (file, metadata) = self.files().open(&path, Here::Task).ok()?;
        let file = file.ready(false).ok()?;
        let len = metadata.len();
        (len > 0).then_some(CachedFile { file, len, _counted: counted })
    }
}

impl CachedFile {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether all bytes of a range are in the page cache.
    #[must_use]
    pub fn is_cached(&self, range: &Range<u64>) -> bool {
        let buffered = || self.file.buffered().ok();
        range.end <= self.len && residency(self.file.any(), buffered, range) == Residency::All
    }

    /// Fills `buffer` with bytes from an offset on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file has become shorter, and the operating system's own.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let read = self.file.buffered()?.read_exact_at(buffer, offset);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::new(error.kind(), "the file has become shorter while it was read")
            }
            _ => error,
        })
    }
}
