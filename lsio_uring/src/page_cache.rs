//! Files that are in the page cache: read where they are needed, without a thread in between.

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

/// The files that are open at the same time to be read there, at most: the system allows a process
/// only so many.
const MOST_OPEN: usize = 256;

/// Those that are open.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A file to be read where it is in the page cache.
///
/// Reading it there is copying it: so fast that handing it to another thread would take longer, and best
/// done in pieces that stay in the processor's own cache. A page that is dropped meanwhile is read
/// from the drive again, and the reader waits.
#[derive(Clone, Debug)]
pub struct CachedFile {
    file: Arc<OpenFile>,
    len: u64,
    _counted: Arc<Counted>,
}

/// One of the files that are open.
#[derive(Debug)]
struct Counted;

impl Counted {
    /// `None` if there are too many.
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
    /// Opens an object to be read where it is in the page cache, if that goes without waiting, and not
    /// too many are open already.
    #[must_use]
    pub fn open_cached(&self, location: &Path) -> Option<CachedFile> {
        if self.access() != Access::Auto {
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
    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
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

    /// Reads bytes from an offset on, as many as the buffer has.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file has become shorter, and the system's own.
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
