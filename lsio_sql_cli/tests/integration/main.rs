//! The tests of the binary: one program, since each one links DataFusion.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can't go on should say so and stop"
)]

#[cfg(target_os = "linux")]
mod cancel;
mod cli;
mod formats;
#[cfg(target_os = "linux")]
mod hostile;
mod infos;
mod messages;
#[cfg(target_os = "linux")]
mod prompt;
