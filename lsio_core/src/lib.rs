//! Reads Zarr datasets into Arrow arrays.
//!
//! The storage side of Light Speed IO: object stores, the Zarr formats and the CF conventions, without queries.
//! `lsio_datafusion` makes SQL tables of datasets.
//!
//! - [`Location`]: a place in an object store, given as a local path, a URL, or a path in a store of your own.
//! - [`Dataset`]: the dimensions, coordinates and data variables of a Zarr group, as xarray understands them. Opening a
//!   dataset reads only metadata.
//! - [`Variable`]: one array. Reads return decoded values: masked cells are null, packed numbers are unpacked, times
//!   are timestamps or ISO text.
//! - [`Table`]: a dataset as rows, one per cell of a grid of dimensions.
//! - [`zip`]: an object store for zip archives, which reads Zarr stores in place.
//! - [`Resources`]: what a process has for reading: engines, a cache, threads, credentials, open stores.
//! - [`format`](mod@format): formats, Zarr and others, and [`chunks`]: where their chunks are.
//! - [`cache`]: a cache on the local disk for bytes of remote stores.
//! - [`cloud`]: object stores by URL, with credentials from options, the environment and files.
//! - [`uring`]: the crate `lsio_uring`, an object store for local files, usable by itself.
//! - [`read::Scan`]: reads columns of a table, tile by tile.
//! - [`running`]: functions over frames that move along a dimension.
//! - [`ChunkEncoder`]: encodes chunks as an array's metadata state.
//! - [`transport`]: reads of objects, adapted to each kind of storage.
//! - [`write`](mod@write): writes a Zarr group.
//!
//! This example reads a region of one variable, and computes its mean by latitude:
//!
//! ```
//! use arrow::{array::{Array as _, AsArray as _}, datatypes::{Float32Type, Float64Type}};
//! use lsio_core::{Dataset, Location, OpenOptions, grid::Region};
//!
//! # use lsio_synthetic::{reanalysis::{self, Specification}, write::Compression};
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("era5.zarr").to_string_lossy().into_owned();
//! # let compression = Compression::Zstd(3);
//! # reanalysis::write(path.as_ref(), &Specification {
//! #     times: 24, latitudes: 5, longitudes: 8, chunks: [12, 5, 8],
//! #     shards: None, compression, packed: false, one_chunk: false,
//! # })?;
//! let dataset = Dataset::open(&Location::parse(&path)?, &OpenOptions::default()).await?;
//! let dims: Vec<_> = dataset.dims().iter().map(|dim| (dim.name.clone(), dim.size)).collect();
//! assert_eq!(dims[1], ("longitude".to_owned(), 8));
//!
//! let t2m = dataset.variable("t2m")?;
//! assert_eq!(t2m.dims(), ["time", "latitude", "longitude"]);
//! let region = Region { start: vec![0, 1, 2], shape: vec![24, 3, 4] };
//! let values = t2m.read(&region).await?;
//! let values = values.as_primitive::<Float32Type>();
//!
//! let latitudes = dataset.variable("latitude")?.read_all().await?;
//! let latitudes = latitudes.as_primitive::<Float64Type>();
//! for row in 0..3 {
//!     // Masked cells are null.
//!     let cells = (0..24).flat_map(|time| (0..4).map(move |x| (time * 3 + row) * 4 + x));
//!     let valid: Vec<f64> =
//!         cells.filter(|cell| values.is_valid(*cell)).map(|cell| values.value(cell).into()).collect();
//!     let mean = valid.iter().sum::<f64>() / valid.len() as f64;
//!     println!("{:>6.1}° {mean:.2} K", latitudes.value(row + 1));
//! #   assert!((200.0..330.0).contains(&mean));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Dataset::table`] and [`read::Scan`] read all variables as rows of one table, without a loop over chunks or cells.

pub mod cache;
pub mod chunks;
pub mod cloud;
pub mod dataset;
mod environment;
mod error;
mod error_kind;
pub mod format;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod grid;
mod huge_pages;
mod index_map;
mod json;
mod location;
mod options;
pub mod read;
mod recycle;
pub mod reduce;
mod resources;
pub mod running;
mod selection;
mod simd;
pub mod similar;
mod store_error;
mod store_options;
pub mod transport;
mod urls;
pub mod write;
pub mod zip;

pub use lsio_uring as uring;
pub use object_store;

pub use crate::{
    dataset::{Column, Dataset, Dimension, Role, Table, Variable},
    environment::Environment,
    error::{Error, Result},
    error_kind::ErrorKind,
    format::zarr::encoder::ChunkEncoder,
    index_map::IndexMap,
    location::Location,
    options::{DecodeTimes, Limits, Network, OpenOptions},
    recycle::{Recycled, Recycler},
    resources::{Resources, ResourcesBuilder},
    selection::Selection,
    store_options::StoreOptions,
    urls::scheme,
};
