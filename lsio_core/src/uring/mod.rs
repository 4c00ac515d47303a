//! Local files at the speed of the drive: an [`ObjectStore`](object_store::ObjectStore) on io_uring.
//!
//! [`UringFileSystem`] takes the place of object_store's `LocalFileSystem` for all that reads local
//! files. It needs nothing else of this crate: it can be registered with any DataFusion session.
//!
//! ```
//! use lsio_core::{object_store::{ObjectStoreExt as _, path::Path}, uring::UringFileSystem};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let file = directory.path().join("file");
//! # std::fs::write(&file, "some bytes")?;
//! let store = UringFileSystem::new()?;
//! let bytes = store.get(&Path::from_absolute_path(&file)?).await?.bytes().await?;
//! assert_eq!(&bytes[..], b"some bytes");
//! # Ok(())
//! # }
//! ```
//!
//! # How a read goes
//!
//! ```text
//! get, get_ranges, stream_ranges               store.rs
//!    │  open, or find open: in the task if      files.rs
//!    │  the directory entry is in memory, else
//!    │  in a worker
//!    ▼
//! ranges → spans: merged, split                 plan.rs
//!    │  is it in the page cache?                residency.rs
//!    ▼
//! as many as the window allows                  reads.rs
//!    ├─ yes, small: copied by the task
//!    ├─ yes: copied by a worker                 workers.rs
//!    └─ no:  the ring's thread, by turns ─────  driver.rs (fair.rs, ring.rs)
//!            or without io_uring a worker       engine.rs
//!    ▼
//! memory of the pool → Bytes                    buffers.rs
//!    ▼
//! the caller's mailbox                          mailbox.rs
//! ```
//!
//! Three things make it fast where the drive is the limit: reading past the page cache saves a copy and
//! the cache's own work, huge pages that are used again save page faults and pinning, and many reads
//! under way keep a drive busy. io_uring alone gains little; it keeps the processor free.

mod buffers;
mod counters;
#[cfg(target_os = "linux")]
mod driver;
mod engine;
mod error;
mod fair;
mod files;
mod handover;
mod mailbox;
mod options;
mod plan;
mod reads;
mod residency;
#[cfg(target_os = "linux")]
mod ring;
mod store;
mod workers;

pub use counters::Counts;
pub use options::{Access, Engine, Options, UnknownEngine};
pub use store::UringFileSystem;
