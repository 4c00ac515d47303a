//! Errors of reads.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Store name in [`object_store::Error::Generic`].
pub(crate) const STORE: &str = "UringFileSystem";

/// Reason why a file, or a range of it, could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("unable to open '{}': {source}", path.display())]
    Open { path: PathBuf, source: io::Error },

    #[error("reading '{}' failed: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },

    #[error(
        "'{}' ended at byte {length}, but its bytes up to {wanted} were to be read: it was truncated while it was read",
        path.display()
    )]
    Ended { path: PathBuf, length: u64, wanted: u64 },

    #[error("the range {start}..{end} is not within '{}', which has {length} bytes", path.display())]
    OutOfRange { path: PathBuf, start: u64, end: u64, length: u64 },

    #[error("reading '{}' was given up: the engine has stopped", path.display())]
    Stopped { path: PathBuf },
}

impl ReadError {
    pub(crate) fn open(path: &Path, source: io::Error) -> Self {
        Self::Open { path: path.to_owned(), source }
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }
}

impl From<ReadError> for object_store::Error {
    fn from(error: ReadError) -> Self {
        let not_found = |source: &io::Error| {
            matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory)
        };
        match error {
            ReadError::Open { path, source } if not_found(&source) => {
                Self::NotFound { path: path.to_string_lossy().into_owned(), source: source.into() }
            }
            error => Self::Generic { store: STORE, source: Box::new(error) },
        }
    }
}
