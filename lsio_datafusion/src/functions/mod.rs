//! Functions that a session gets with Zarr.

pub(crate) mod aggregate;
pub(crate) mod time;

pub use aggregate::expr_fn::weighted_avg;
