//! Zarr's metadata, versions 2 and 3.

pub(crate) mod codecs;
mod configurations;
