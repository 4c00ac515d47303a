//! The tests of lsio_datafusion that run queries: one binary, since each one links DataFusion.

mod answers;
mod harness;
