//! Servers of stored objects for tests and benchmarks: S3 and plain HTTP over a local directory, on
//! loopback, in the process of the test.
//!
//! A [`Server`] only reads files. It can be as slow as a remote one ([`Link`]), logs its requests ([`Request`]), from
//! which [`round_trips`] computes the number of answers that a program waited for in sequence, and gives wrong answers
//! where a test asks for them ([`Fault`]).

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

/// Bucket of an S3 server: its root directory.
pub const BUCKET: &str = "data";
/// Access key of an S3 server.
pub const ACCESS_KEY: &str = "test-access-key";
/// Secret of [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "test-secret-key";

/// Protocol of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// S3 with path-style addresses: objects are read and listed, never written. Signatures of requests are checked.
    S3,
    /// GET and HEAD, with ranges and conditions; the path of a URL is the path of a file. No listing.
    Http,
}
