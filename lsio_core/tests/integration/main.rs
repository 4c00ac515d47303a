//! Tests of what the crate offers, in one binary.

#[cfg(unix)]
mod local_files;
