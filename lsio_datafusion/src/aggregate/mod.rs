//! Aggregates inside the scan: a dense reduction of chunks, without rows and without hashing.
//!
//! ```text
//! rule.rs       finds an aggregate over a Zarr scan; says why one stays where it is
//! plan.rs       Aggregation: what is grouped by, which functions of which arguments
//! exec.rs       ZarrAggregateExec: takes the place of both of DataFusion's aggregates
//!   │ keys.rs   groups of the indices of each dimension, evaluated once
//!   │ cell_keys.rs  keys that are functions of data: numbers of the values that are there
//!   │ passes.rs parts of the cells that are read one after the other, where values don't fit the memory
//!   │ slabs.rs  parts of the groups that no two tiles share, so that few are in memory
//!   │ start.rs  passes, and DataFusion's operators where groups don't fit the memory
//!   │ pass.rs   one pass: its slabs and workers
//!   ▼
//! run.rs        workers take tiles from one queue, and give out slabs that are done
//!   │ reduce.rs one tile: arguments evaluated at their own rank
//!   │ full_rank.rs  those that have all dimensions, a few rows at a time that fit the cache
//!   │ operands.rs  their columns of floats, borrowed for kernels
//!   │ pencils.rs  arguments of which all values are kept, for medians and the like
//!   │ state.rs  states of groups: kernels' (lsio_core::reduce), or DataFusion's accumulators
//!   ▼
//! output.rs     rows: one for each group
//! dense.rs      or arrays over the keys, for a scan that looks the results up
//! results.rs    the test for NaN among results, taken into the aggregate
//! masks.rs      notes on weights that count where values are missing
//! ```
//!
//! An argument is reduced at its own rank: what doesn't vary along a dimension is counted as often as
//! there are indices, not repeated.

mod cell_keys;
mod dense;
mod exec;
mod finished;
mod full_rank;
mod key_columns;
mod keys;
mod masks;
mod operands;
mod output;
mod pass;
mod passes;
mod pencils;
mod plan;
mod reduce;
mod results;
mod rule;
mod run;
mod slabs;
mod start;
mod state;
mod weighted;

pub(crate) use self::dense::{DenseColumn, DenseResults};
pub use self::{exec::ZarrAggregateExec, rule::AggregatePushdown};
