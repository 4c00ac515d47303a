//! Random statistics of pairs, and of all values of a group, on random stores: the rows are those that DataFusion gives
//! over the same cells in memory, in one pass or several.
//!
//! `LSIO_RANDOM_STORES=2000 cargo test --workspace random_statistics` tries more of them, and `LSIO_RANDOM_SEED=17` one
//! again that failed.

use crate::random_aggregates::{Mix, try_stores};

/// The stores that are tried if nothing else is said, each with a dozen queries.
const STORES: u64 = 120;

#[test]
fn statistics_are_those_of_the_cells_in_memory() {
    try_stores(STORES, Mix::Statistics);
}
