//! What was read of remote stores, kept on the local disk.
//!
//! ```text
//! CachedStore   the object store: asks the store whether a copy is still right
//!   │ disk      the copies: found, read, written, removed
//!   │ evict     how full the directory is, and what goes when it is too full
//!   ▼ settings  which one there is, and what the environment says of it
//! ```
//!
//! A copy is never used before the store has confirmed its ETag, so it is never stale: what is saved
//! is the transfer, not the request. Any number of processes may use a directory at once and be
//! killed at any time; what they do to each other are misses. Trouble with the disk is a warning in
//! the log and never an error.

mod disk;
mod evict;
mod settings;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use self::settings::CacheChoice;
pub use self::{
    disk::{DiskCache, StoreUsage, Usage},
    settings::parse_size,
    store::{CachedStore, cached},
};
