//! Errors as exceptions. Their classes are Python's, in `lsio/_errors.py`, where each is also what Python raises for its
//! kind.

use std::error::Error as StdError;

use datafusion::error::DataFusionError;
use lsio_datafusion::{QueryErrorKind, describe};
use pyo3::{exceptions::PyRuntimeError, prelude::*, types::PyString};

/// The exception for an error of DataFusion.
pub(crate) fn of_query(py: Python<'_>, error: &DataFusionError) -> PyErr {
    described(py, error)
}

/// The exception for an error of reading.
pub(crate) fn of_store(py: Python<'_>, error: &lsio_core::Error) -> PyErr {
    described(py, error)
}

/// An exception of a class of `lsio._errors`.
pub(crate) fn raise(py: Python<'_>, class: &str, text: &str) -> PyErr {
    let made = py
        .import("lsio._errors")
        .and_then(|module| module.getattr(PyString::new(py, class)))
        .and_then(|class| class.call1((text,)));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        // The package isn't beside this module.
        Err(_) => PyRuntimeError::new_err(text.to_owned()),
    }
}

fn described(py: Python<'_>, error: &(dyn StdError + 'static)) -> PyErr {
    let described = describe(error);
    let class = match described.kind {
        QueryErrorKind::NotFound => "NotFoundError",
        QueryErrorKind::UnknownName => "UnknownNameError",
        QueryErrorKind::Request => "InvalidRequestError",
        QueryErrorKind::Query => "QueryError",
        QueryErrorKind::Unsupported => "UnsupportedError",
        QueryErrorKind::Corrupt => "CorruptDataError",
        QueryErrorKind::Store => "StoreError",
        QueryErrorKind::PermissionDenied => "PermissionDeniedError",
        QueryErrorKind::OutOfMemory => "OutOfMemoryError",
        _ => "Error",
    };
    raise(py, class, &described.message)
}
