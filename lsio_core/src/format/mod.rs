//! Formats: what they store of an array or a group, as the typed data that the rest is made of. Whatever is JSON on
//! disk is JSON in here, and nowhere else.

pub(crate) mod zarr;
