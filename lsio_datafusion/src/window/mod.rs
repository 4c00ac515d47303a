//! Windows inside the scan: a window along a dimension is a shift or a running kernel, and its values are a column of
//! the scan.
//!
//! ```text
//! rule.rs      finds windows over Zarr scans; says why one stays where it is
//! node.rs      DataFusion's operators for windows, as one
//! call.rs      the function of a window expression, and what hides in its private fields
//! lines.rs     the dimension along which a window runs, its partitions there, and the order of their indices
//! plan.rs      what a window expression becomes:
//!   │ memory.rs    values in memory along the dimension, where its arguments are known: row_number, rank, count(*)
//!   │ shift.rs     an index map, for functions that pick a row: lag, lead, first_value, nth_value
//!   │ frames.rs    frames as ranges of indices
//!   │ running.rs   a column that kernels compute over frames: sum, avg, min, max, count, var, stddev
//! whole.rs     aggregates over whole partitions: by the partition keys, and looked up
//! fold.rs      the scan that takes the window's place
//! ```
//!
//! A window runs along one dimension if PARTITION BY pins all others: each of their selected indices has keys of its
//! own. A partition is then a *line* of cells along the dimension, or a part of one.

mod call;
mod fold;
mod frames;
mod lines;
mod memory;
mod node;
mod plan;
mod rule;
mod running;
mod shift;
mod whole;

pub(crate) use self::rule::relate;
