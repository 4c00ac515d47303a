//! Reads Zarr datasets into Arrow arrays.
//!
//! This crate is the storage side of Light Speed IO: it knows object stores, the Zarr formats and
//! the CF conventions, and nothing of queries. `lsio_datafusion` makes tables of what it reads.
//!
//! - [`Location`] is a place in an object store: a local path, a URL of the cloud, or a path in a store of
//!   your own.
//! - [`Dataset`] is what a Zarr group holds, as xarray understands it: dimensions, coordinates, data
//!   variables. Opening one reads metadata and nothing else.
//! - [`Variable`] is one array. Its values come decoded: masked cells are null, packed numbers are
//!   unpacked, times are times.
//! - [`Table`] is a dataset seen as rows, one for each cell of a grid of dimensions.
//! - [`zip`] holds the object store for zip archives, from which Zarr stores are read in place.
//! - [`cache`] keeps what was read of remote stores on the local disk.
//! - [`cloud`] opens the stores of URLs, with credentials as people have them.
//! - [`uring`] holds the object store for local files, which is of use by itself.
//! - [`read::Scan`] reads columns of a table, tile by tile.
//!
//! ```
//! use lsio_core::{
//!     Dataset, Location, OpenOptions,
//!     synthetic::{self, Specification},
//!     write::Compression,
//! };
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("store.zarr");
//! let specification = Specification {
//!     times: 24,
//!     latitudes: 5,
//!     longitudes: 8,
//!     chunks: [12, 5, 8],
//!     shards: None,
//!     compression: Compression::Zstd(3),
//!     packed: false,
//!     one_chunk: false,
//! };
//! synthetic::write(&path, &specification)?;
//!
//! let location = Location::parse(&path.to_string_lossy())?;
//! let dataset = Dataset::open(&location, &OpenOptions::default()).await?;
//! let table = dataset.table()?;
//! assert_eq!(table.rows, 24 * 5 * 8);
//!
//! let names: Vec<_> = table.columns.iter().map(|column| column.name.as_str()).collect();
//! assert_eq!(names, ["time", "latitude", "longitude", "t2m", "u10", "v10"]);
//!
//! let t2m = table.columns[3].variable.as_ref().ok_or("no variable")?;
//! assert_eq!(t2m.read_all().await?.len(), 24 * 5 * 8);
//! # Ok(())
//! # }
//! ```

pub mod cache;
pub mod cloud;
pub mod dataset;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod grid;
mod json;
mod location;
mod options;
pub mod read;
mod recycle;
pub mod reduce;
mod selection;
mod simd;
pub mod similar;
pub mod synthetic;
pub mod uring;
pub mod write;
pub mod zip;

pub use object_store;

pub use crate::{
    dataset::{Column, Dataset, Dimension, Role, Table, Variable},
    error::{Error, Result},
    location::{Location, scheme},
    options::{DecodeTimes, Limits, Network, OpenOptions},
    recycle::{Recycled, Recycler},
    selection::Selection,
};
