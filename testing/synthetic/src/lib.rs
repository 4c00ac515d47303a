//! Synthetic Zarr stores: for the demo of `lsio`, for benchmarks and for tests.
//!
//! - [`write`](mod@write) writes arrays chunk by chunk into a local directory, encoded by zarrs.
//! - [`reanalysis`] writes a dataset that looks like ERA5.
//!
//! The crate depends on none of the readers that it serves.

pub mod reanalysis;
pub mod write;
