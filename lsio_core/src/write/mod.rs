//! Writes a Zarr group: boxes of arrays go into chunks and shards, each object is written once, and the metadata come
//! last.
//!
//! ```text
//! boxes or cells ──► open chunks ──► encoded chunks ──► objects ──► a place beside the target ──► the target
//!  (many tasks)      until all of    (by the task that   a chunk,    or in a bucket, without      metadata last
//!                    its cells came   brought the last)  or a shard  the group's metadata
//! ```
//!
//! A store that isn't finished is no store: local files are written into a directory beside the target, which takes its
//! name at the end; in a bucket the document that makes a group of the objects is written last.
//!
//! ```
//! use arrow::{array::{ArrayRef, Float32Array}, datatypes::DataType};
//! use lsio_core::{Dataset, Location, OpenOptions, grid::Region, write::{NewArray, NewGroup, StoreWriter}};
//! use std::sync::Arc;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("new.zarr").to_string_lossy().into_owned();
//! let t2m = NewArray::new("t2m", &DataType::Float32, &[("y", 2), ("x", 3)])?.with_chunks(vec![1, 3])?;
//! let location = Location::parse(&path)?;
//! let writer = StoreWriter::create(&location, NewGroup::of(vec![t2m])).await?;
//! let values: ArrayRef = Arc::new(Float32Array::from(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
//! writer.arrays()[0].write(&Region { start: vec![0, 0], shape: vec![2, 3] }, &values).await?;
//! let written = writer.commit().await?;
//! assert_eq!(written.chunks, 2);
//!
//! let dataset = Dataset::open(&location, &OpenOptions::default()).await?;
//! assert_eq!(&dataset.variable("t2m")?.read_all().await?, &values);
//! # Ok(())
//! # }
//! ```

mod array;
mod cells;
mod chunk;
mod local;
mod memory;
mod objects;
mod store;
mod target;
#[cfg(test)]
mod tests;

pub use self::{
    array::{ArrayWriter, StoredCells},
    memory::WriteMemory,
    store::{Existing, NewGroup, StoreWriter, Written},
};
pub use crate::dataset::{Compression, NewArray, ZarrFormat};
