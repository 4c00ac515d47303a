//! Kinds of errors: what a program does about one without reading its text.

use crate::Error;

/// The kind of an [`Error`], by what a caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The path, group, variable or dimension doesn't exist.
    NotFound,
    /// The request must be written in another way: an option, a grid to be chosen, an index out of bounds.
    Request,
    /// The data can't be read here: their codec, data type or extension isn't supported.
    Unsupported,
    /// The stored metadata or chunks are broken.
    Broken,
    /// The object store failed. Trying again may help.
    Store,
    /// The memory that may be used doesn't suffice.
    Memory,
    /// The read was given up, since its runtime is shutting down or a thread has panicked.
    Interrupted,
}

impl Error {
    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::NotZarr { .. } | Self::NoSuch { .. } => {
                ErrorKind::NotFound
            }
            Self::Location { .. }
            | Self::NoVariables { .. }
            | Self::SeveralGrids { .. }
            | Self::SeveralLevels { .. }
            | Self::UnknownOption { .. }
            | Self::InvalidOption { .. }
            | Self::OutOfBounds { .. }
            | Self::Place { .. }
            | Self::Encode { .. }
            | Self::Compression { .. }
            | Self::Write { .. }
            | Self::WrittenTwice { .. }
            | Self::Cache { .. } => ErrorKind::Request,
            Self::Unreadable { .. } => ErrorKind::Unsupported,
            Self::EmptyArchive { .. }
            | Self::Metadata { .. }
            | Self::Chunk { .. }
            | Self::Decode { .. } => ErrorKind::Broken,
            Self::Store { .. } => ErrorKind::Store,
            Self::Memory { .. } => ErrorKind::Memory,
            Self::Interrupted { .. } => ErrorKind::Interrupted,
        }
    }
}
