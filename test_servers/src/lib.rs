//! Servers of stored objects for tests and benchmarks.
