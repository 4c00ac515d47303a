//! The tests of lsio_datafusion that run queries: one binary, since each one links DataFusion.
#![allow(
    clippy::duplicate_mod,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can't go on stops; each example is a program with its own copy of the store"
)]

mod aggregates;
mod answers;
mod arithmetic;
mod calendars;
mod comparisons;
mod differential;
mod errors;
mod everyday;
mod examples;
mod explains;
mod faults;
mod formats;
mod front_door;
mod harness;
mod kinds;
mod looked_up;
mod orders;
mod plans;
mod pushed_errors;
mod quantiles;
mod random_aggregates;
mod random_joins;
mod random_queries;
mod random_statistics;
mod random_windows;
mod reads;
mod relations;
#[cfg(unix)]
mod remote;
mod resources;
mod round_trips;

mod semantics;
mod served;
mod sessions;
mod shifted;
mod sliding;
mod small_chunks;
mod small_groups;
mod specifications;
mod statistics;
mod storage;
mod sweep;
mod times;
mod watched;
mod windows;
mod words;
mod written;
