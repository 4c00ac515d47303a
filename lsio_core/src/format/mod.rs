//! Formats: how a dataset's hierarchy is found and read. The model makes a [`Dataset`](crate::Dataset) of a
//! [`Format`]'s contents.

mod open;
pub(crate) mod zarr;

pub use self::zarr::Zarr;
pub use crate::dataset::{ArrayContent, ArraySpec, Content, Format, GroupContent};
