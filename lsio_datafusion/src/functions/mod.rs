//! Functions that a session gets with Zarr.

pub(crate) mod aggregate;

pub use aggregate::expr_fn::weighted_avg;
