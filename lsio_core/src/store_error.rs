//! Distinguishes errors of object stores that object_store's own enumeration doesn't.

use std::{error::Error as _, io::ErrorKind};

/// Whether an object doesn't exist.
///
/// A local path that ends at a directory or leads through a file names something that exists. A search for a document
/// may go on elsewhere, but a chunk there is not just missing.
pub(crate) fn is_missing(error: &object_store::Error) -> bool {
    match io_error(error) {
        Some(io) => io.kind() == ErrorKind::NotFound && !is_object_stores_directory(io),
        None => matches!(error, object_store::Error::NotFound { .. }),
    }
}

/// Whether a local path ends at a directory or leads through a file.
pub(crate) fn is_directory(error: &object_store::Error) -> bool {
    let kinds = [ErrorKind::NotADirectory, ErrorKind::IsADirectory];
    io_error(error).is_some_and(|io| kinds.contains(&io.kind()) || is_object_stores_directory(io))
}

/// Whether this is the error of object_store's `LocalFileSystem` (0.13) for a directory in an object's place: "not
/// found", without an error of the system.
fn is_object_stores_directory(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
        && error.raw_os_error().is_none()
        && error.get_ref().is_some_and(|inner| inner.to_string() == "is directory")
}

/// The operating system's error.
pub(crate) fn io_error(error: &object_store::Error) -> Option<&std::io::Error> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io);
        }
        source = error.source();
    }
    None
}
