//! Servers of stored objects for tests and benchmarks: S3 and plain HTTP over a local directory, on
//! loopback, in the process of the test.
//!
//! A [`Server`] reads files only. It can be as slow as a real one ([`Link`]), keeps a log of what it
//! was asked ([`Request`]), from which [`round_trips`] tells how long a program waited for answers one
//! after the other, and answers wrongly where a test says so ([`Fault`]).

mod body;
mod fault;
mod files;
mod headers;
mod http_objects;
mod link;
mod listing;
mod log;
mod s3_objects;
mod serve;
mod server;
#[cfg(test)]
mod tests;

pub use fault::{Fault, Incoming};
pub use link::Link;
pub use log::{Request, round_trips};
pub use server::{Builder, Server};

/// The bucket of an S3 server: its root directory.
pub const BUCKET: &str = "data";
/// The access key that an S3 server knows.
pub const ACCESS_KEY: &str = "test-access-key";
/// The secret that belongs to [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "test-secret-key";

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// S3 with path-style addresses: objects are read and listed, nothing is written. The signatures
    /// of requests are checked.
    S3,
    /// GET and HEAD, with ranges and conditions, of files whose paths are those of the URLs. Nothing
    /// is listed.
    Http,
}
