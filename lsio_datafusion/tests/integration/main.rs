//! The tests of lsio_datafusion that run queries: one binary, since each one links DataFusion.

mod answers;
mod differential;
mod errors;
mod examples;
mod harness;
mod plans;
mod sessions;
