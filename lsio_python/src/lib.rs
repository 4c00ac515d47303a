//! The native part of the Python package `lsio`: sessions, frames, and arrays of stores.
//!
//! Python's side has the public API and its documentation (`python/lsio/`); this side has what needs Rust. Nothing here
//! waits for a query with the interpreter's lock held.

mod blocks;
mod capsules;
mod columns;
mod errors;
mod frame;
mod grid;
mod memory;
mod parameters;
mod pending;
mod process;
mod rows;
mod running;
mod session;
mod store;
mod stream;
mod texts;
mod wait;

use std::{ffi::OsString, iter};

use pyo3::prelude::*;

/// Runs the command line with arguments, without the program's name, and returns its exit code.
#[pyfunction]
fn command_line(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    let arguments = iter::once(OsString::from("lsio")).chain(arguments);
    py.detach(|| lsio_sql_cli::run(arguments))
}

/// The native part of the package `lsio`.
#[pymodule]
fn _lsio(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<session::Session>()?;
    module.add_class::<frame::Frame>()?;
    module.add_class::<frame::Batches>()?;
    module.add_class::<rows::RowStream>()?;
    module.add_class::<pending::Pending>()?;
    module.add_class::<store::Store>()?;
    module.add_class::<grid::Grid>()?;
    module.add_function(wrap_pyfunction!(command_line, module)?)?;
    module.add_function(wrap_pyfunction!(process::flush, module)?)?;
    Ok(())
}
