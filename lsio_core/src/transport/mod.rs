//! Reads of objects as their storage likes them. Knows nothing of Zarr.
//!
//! [`Link`] is the way to a storage: what suits its kind, and how many requests it takes at a time, which is learned.
//! `Transfer` reads objects and ranges over it: merged or in parts, tried again, of one version each.

mod counts;
mod gate;
mod link;
mod transfer;

pub use self::{
    counts::Counts,
    link::{Link, Storage},
};
pub(crate) use self::{
    link::What,
    transfer::{Expected, Failure, Object, Transfer, Version, as_usize},
};
