//! Files below a server's root, as objects.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _, Seek as _, SeekFrom},
    ops::Range,
    path::{Component, Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures::Stream;
use s3s::{
    StdError,
    stream::{ByteStream, RemainingLength},
};

/// Bytes of a file per read.
const PIECE_BYTES: u64 = 256 << 10;

/// Files below a directory.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    root: Arc<Path>,
}

impl Files {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root: root.into() }
    }

    /// File or directory of this name; `None` unless it is a valid name below the root.
    pub(crate) fn path(&self, key: &str) -> Option<PathBuf> {
        let is_name = |part: &str| {
            let mut parts = Path::new(part).components();
            parts.next() == Some(Component::Normal(part.as_ref())) && parts.next().is_none()
        };
        key.split('/').all(is_name).then(|| self.root.join(key))
    }

    /// Root directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Opens an object; `None` if it doesn't exist.
    pub(crate) fn open(&self, key: &str) -> io::Result<Option<Object>> {
        let Some(path) = self.path(key) else { return Ok(None) };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if is_none(&e) => return Ok(None),
            Err(e) => return Err(e),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        Ok(Some(Object { file, about: About::new(&metadata)? }))
    }
}

/// Whether an error means that a file doesn't exist.
pub(crate) fn is_none(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory | InvalidFilename | InvalidInput)
}

/// Metadata of an object.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
    /// Without quotes. Changes if the file is replaced, or changes after a tick of the file system's clock.
    pub(crate) etag: String,
}

impl About {
    pub(crate) fn new(metadata: &Metadata) -> io::Result<Self> {
        let modified = metadata.modified()?;
        let nanoseconds = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let size = metadata.len();
        let etag = format!("{size:x}-{nanoseconds:x}-{:x}", inode(metadata));
        Ok(Self { size, modified, etag })
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

/// An open object.
#[derive(Debug)]
pub(crate) struct Object {
    file: File,
    pub(crate) about: About,
}

impl Object {
    /// Bytes of a range, which must be within the object.
    pub(crate) fn read(mut self, range: Range<u64>) -> io::Result<Pieces> {
        self.file.seek(SeekFrom::Start(range.start))?;
        Ok(Pieces { file: self.file, left: range.end - range.start })
    }
}

/// Bytes of a file, in pieces. Polling the stream reads them: files of tests are in memory, where a read is faster than
/// a handover to another thread.
#[derive(Debug)]
pub(crate) struct Pieces {
    file: File,
    left: u64,
}

impl Pieces {
    fn next(&mut self) -> io::Result<Bytes> {
        let bytes = self.left.min(PIECE_BYTES);
        let mut piece = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
        (&self.file).take(bytes).read_to_end(&mut piece)?;
        if (piece.len() as u64) < bytes {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has shrunk"));
        }
        self.left -= bytes;
        Ok(piece.into())
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let piece = self.next();
        if piece.is_err() {
            self.left = 0;
        }
        Poll::Ready(Some(piece.map_err(Into::into)))
    }
}

impl ByteStream for Pieces {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(usize::try_from(self.left).unwrap_or(usize::MAX))
    }
}
