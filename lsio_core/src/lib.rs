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
//! - [`Resources`] is what a process has for reading: engines, a cache, threads, credentials, open stores.
//! - [`cache`] keeps what was read of remote stores on the local disk.
//! - [`cloud`] knows the stores of URLs, with credentials as people have them.
//! - [`uring`] is the crate `lsio_uring`: the object store for local files, which is of use by itself.
//! - [`read::Scan`] reads columns of a table, tile by tile.
//! - [`transport`] is how objects are read from each kind of storage.
//!
//! A box of one variable, and its mean by latitude:
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
//! All variables as rows of one table, without a loop over chunks or cells: [`Dataset::table`] and
//! [`read::Scan`].

pub mod cache;
pub mod cloud;
pub mod dataset;
mod environment;
mod error;
mod format;
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
mod resources;
mod selection;
mod simd;
pub mod similar;
mod store_error;
mod store_options;
pub mod transport;
mod urls;
pub mod zip;

pub use lsio_uring as uring;
pub use object_store;

pub use crate::{
    dataset::{Column, Dataset, Dimension, Role, Table, Variable},
    environment::Environment,
    error::{Error, Result},
    location::Location,
    options::{DecodeTimes, Limits, Network, OpenOptions},
    recycle::{Recycled, Recycler},
    resources::{Resources, ResourcesBuilder},
    selection::Selection,
    store_options::StoreOptions,
    urls::scheme,
};
