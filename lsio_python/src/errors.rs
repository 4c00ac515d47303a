//! Errors as exceptions. Their classes are Python's, in `lsio/_errors.py`, where each is also what Python raises for its
//! kind.

use std::error::Error as StdError;

use datafusion::{arrow::error::ArrowError, error::DataFusionError};
use lsio_core::{ErrorKind, object_store};
use pyo3::{exceptions::PyRuntimeError, prelude::*, types::PyString};

/// The exception for an error of DataFusion.
pub(crate) fn of_query(py: Python<'_>, error: &DataFusionError) -> PyErr {
    let (class, text) = describe(error);
    raise(py, class, &text)
}

/// The exception for an error of reading.
pub(crate) fn of_store(py: Python<'_>, error: &lsio_core::Error) -> PyErr {
    raise(py, class_of(error), &error.to_string())
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

/// Class and text of the innermost error.
fn describe(error: &DataFusionError) -> (&'static str, String) {
    match error.find_root() {
        DataFusionError::External(source) => describe_source(source.as_ref()),
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::ExternalError(source) => describe_source(source.as_ref()),
            error => ("Error", error.to_string()),
        },
        DataFusionError::Collection(errors) if !errors.is_empty() => describe(&errors[0]),
        DataFusionError::ObjectStore(error) => (class_of_store(error), error.to_string()),
        root => {
            let class = match root {
                DataFusionError::ResourcesExhausted(_) => "OutOfMemoryError",
                DataFusionError::NotImplemented(_) => "UnsupportedError",
                DataFusionError::Plan(_)
                | DataFusionError::SQL(..)
                | DataFusionError::SchemaError(..)
                | DataFusionError::Configuration(_)
                | DataFusionError::Execution(_) => "QueryError",
                _ => "Error",
            };
            (class, text(root))
        }
    }
}

fn describe_source(source: &(dyn StdError + Send + Sync + 'static)) -> (&'static str, String) {
    if let Some(error) = source.downcast_ref::<DataFusionError>() {
        return describe(error);
    }
    if let Some(error) = source.downcast_ref::<lsio_core::Error>() {
        return (class_of(error), error.to_string());
    }
    ("QueryError", source.to_string())
}

/// Text of an error without the prefix of its kind and without a backtrace.
fn text(error: &DataFusionError) -> String {
    let text = match error {
        DataFusionError::Plan(text)
        | DataFusionError::Execution(text)
        | DataFusionError::Configuration(text)
        | DataFusionError::NotImplemented(text)
        | DataFusionError::ResourcesExhausted(text) => text.clone(),
        error => error.strip_backtrace(),
    };
    text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or(&text).to_owned()
}

fn class_of(error: &lsio_core::Error) -> &'static str {
    if let lsio_core::Error::Store { source, .. } = error {
        return class_of_store(source);
    }
    match error.kind() {
        ErrorKind::NotFound if matches!(error, lsio_core::Error::NoSuch { .. }) => {
            "UnknownNameError"
        }
        ErrorKind::NotFound => "NotFoundError",
        ErrorKind::Request => "InvalidRequestError",
        ErrorKind::Unsupported => "UnsupportedError",
        ErrorKind::Broken => "CorruptDataError",
        ErrorKind::Store => "StoreError",
        _ => "Error",
    }
}

fn class_of_store(error: &object_store::Error) -> &'static str {
    match error {
        object_store::Error::NotFound { .. } => "NotFoundError",
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => "PermissionDeniedError",
        _ => "StoreError",
    }
}
