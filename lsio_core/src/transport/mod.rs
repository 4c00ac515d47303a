//! Reads objects in the way that suits their storage. Knows nothing of Zarr.
//!
//! [`Link`] is the link to a storage: the profile of its kind, and the learned limit on concurrent requests. `Transfer`
//! reads objects and ranges over a link: merged or split, retried, each object of one version. `TimedStore` gives up
//! requests without an answer where a store's own client doesn't.

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
