//! Zarr's metadata, versions 2 and 3.

pub(crate) mod array;
pub(crate) mod attributes;
pub(crate) mod codecs;
mod configurations;
mod deviations;
pub(crate) mod documents;
pub(crate) mod encoder;
mod fill_value;
mod foreign;
mod keys;
mod listing;
mod names;
mod types;
