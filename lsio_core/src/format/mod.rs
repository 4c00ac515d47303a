//! Formats: how the hierarchy of a dataset is found and read. The model makes a [`Dataset`](crate::Dataset) of
//! what a [`Format`] gives.

mod open;
pub(crate) mod zarr;

pub use self::zarr::Zarr;
pub use crate::dataset::{ArrayContent, ArraySpec, Content, Format, GroupContent};
