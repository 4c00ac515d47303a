//! Tests of what the crate offers, in one binary.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests: they fail by panicking"
)]

mod bounds;
mod cloud;
mod imports;
mod lookups;
mod matrix;
mod read_into;
mod resources;
