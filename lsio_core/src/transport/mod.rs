//! Reads of objects as their storage likes them. Knows nothing of Zarr.
//!
//! [`Link`] is the way to a storage: what suits its kind, and how many requests it takes at a time, which is learned.
//! `Transfer` reads objects and ranges over it: merged or in parts, tried again, of one version each. `TimedStore` gives
//! up requests without an answer where a store's own client doesn't.

mod counts;
mod gate;
mod link;
mod timed;
mod transfer;

pub use self::{
    counts::Counts,
    link::{Link, Storage},
};
pub(crate) use self::{
    link::What,
    timed::{TimedStore, silent},
    transfer::{Expected, Failure, Object, Transfer, Version, as_usize},
};
