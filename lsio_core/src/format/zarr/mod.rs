//! Zarr's metadata, versions 2 and 3.

mod absent;
pub(crate) mod array;
pub(crate) mod attributes;
mod children;
mod chunks;
pub(crate) mod codecs;
mod configurations;
mod deviations;
pub(crate) mod documents;
pub(crate) mod encoder;
mod fill_value;
mod foreign;
mod hierarchy;
mod keys;
mod listing;
mod names;
mod nodes;
mod types;
pub(crate) mod written;

pub use self::hierarchy::Zarr;
