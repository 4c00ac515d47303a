//! Kinds and messages of errors of queries.

use std::{error::Error as StdError, io};

use datafusion::{
    arrow::error::ArrowError, error::DataFusionError, sql::sqlparser::parser::ParserError,
};
use lsio_core::{Error, ErrorKind, object_store};

/// Ending of DataFusion's internal errors, of no use to a user.
const PLEA: &str = "This issue was likely caused by a bug in DataFusion's code.";

/// Kind of an error of a query: what can be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueryErrorKind {
    /// Nothing is at the path, or no Zarr.
    NotFound,
    /// A group, variable, dimension or column of this name doesn't exist.
    UnknownName,
    /// An option or an index can't be what was given.
    Request,
    /// The statement can't be planned or run.
    Query,
    /// A codec, a data type or a statement isn't supported.
    Unsupported,
    /// Metadata or chunks are corrupt.
    Corrupt,
    /// A store failed.
    Store,
    /// A store refuses the read.
    PermissionDenied,
    /// The query needs more memory than it may have.
    OutOfMemory,
    /// Any other.
    Other,
}

/// Kind of an error, and its message without the prefixes of intermediate layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorDescription {
    /// The kind.
    pub kind: QueryErrorKind,
    /// The message.
    pub message: String,
}

/// Describes an error of DataFusion, of [`lsio_core`], of a store, or any other, by its innermost cause.
///
/// ```
/// use datafusion::error::DataFusionError;
/// use lsio_datafusion::{QueryErrorKind, describe};
///
/// let error = DataFusionError::NotImplemented("MERGE".to_owned()).context("a rule");
/// let described = describe(&error);
/// assert_eq!(described.kind, QueryErrorKind::Unsupported);
/// assert_eq!(described.message, "not supported: MERGE");
/// ```
#[must_use]
pub fn describe(error: &(dyn StdError + 'static)) -> ErrorDescription {
    let (kind, message) = kind_and_message(error);
    ErrorDescription { kind, message: without_plea(&message) }
}

fn kind_and_message(error: &(dyn StdError + 'static)) -> (QueryErrorKind, String) {
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return of_datafusion(error);
    }
    let kind = if let Some(error) = error.downcast_ref::<Error>() {
        of_core(error)
    } else if let Some(error) = error.downcast_ref::<object_store::Error>() {
        of_store(error)
    } else {
        QueryErrorKind::Query
    };
    (kind, error.to_string())
}

fn of_datafusion(error: &DataFusionError) -> (QueryErrorKind, String) {
    let root = error.find_root();
    match root {
        DataFusionError::External(source) => kind_and_message(source.as_ref()),
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::ExternalError(source) => kind_and_message(source.as_ref()),
            error => (QueryErrorKind::Query, error.to_string()),
        },
        DataFusionError::Collection(errors) if !errors.is_empty() => of_datafusion(&errors[0]),
        DataFusionError::ObjectStore(error) => (of_store(error), root.strip_backtrace()),
        DataFusionError::IoError(error) => (of_io(error), root.strip_backtrace()),
        DataFusionError::Plan(text)
        | DataFusionError::Execution(text)
        | DataFusionError::Configuration(text) => (QueryErrorKind::Query, without_backtrace(text)),
        DataFusionError::SQL(error, _) => {
            let message = match error.as_ref() {
                ParserError::TokenizerError(text) | ParserError::ParserError(text) => {
                    format!("this is no SQL: {}", without_backtrace(text))
                }
                ParserError::RecursionLimitExceeded => "the SQL is nested too deep".to_owned(),
            };
            (QueryErrorKind::Query, message)
        }
        DataFusionError::SchemaError(..) => (QueryErrorKind::Query, root.strip_backtrace()),
        DataFusionError::NotImplemented(text) => {
            (QueryErrorKind::Unsupported, format!("not supported: {}", without_backtrace(text)))
        }
        DataFusionError::Internal(text) => {
            let message = format!("DataFusion can't run this query: {}", without_backtrace(text));
            (QueryErrorKind::Other, message)
        }
        DataFusionError::ResourcesExhausted(_) => {
            (QueryErrorKind::OutOfMemory, root.strip_backtrace())
        }
        root => (QueryErrorKind::Other, root.strip_backtrace()),
    }
}

fn of_core(error: &Error) -> QueryErrorKind {
    match error {
        Error::Store { source, .. } => return of_store(source),
        Error::NoSuch { .. } => return QueryErrorKind::UnknownName,
        _ => {}
    }
    match error.kind() {
        ErrorKind::NotFound => QueryErrorKind::NotFound,
        ErrorKind::Request => QueryErrorKind::Request,
        ErrorKind::Unsupported => QueryErrorKind::Unsupported,
        ErrorKind::Broken => QueryErrorKind::Corrupt,
        ErrorKind::Store => QueryErrorKind::Store,
        _ => QueryErrorKind::Other,
    }
}

fn of_store(error: &object_store::Error) -> QueryErrorKind {
    match error {
        object_store::Error::NotFound { .. } => QueryErrorKind::NotFound,
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => QueryErrorKind::PermissionDenied,
        _ => QueryErrorKind::Store,
    }
}

fn of_io(error: &io::Error) -> QueryErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => QueryErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => QueryErrorKind::PermissionDenied,
        _ => QueryErrorKind::Store,
    }
}

/// Removes the backtrace that DataFusion appends where the environment asks for it.
fn without_backtrace(text: &str) -> String {
    text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or(text).to_owned()
}

/// Removes DataFusion's plea, and the prefix of internal errors from a message that quotes one.
fn without_plea(text: &str) -> String {
    let text = match text.split_once(PLEA) {
        // The plea follows the text's own full stop.
        Some((text, _)) => text.trim_end().trim_end_matches('.'),
        None => text.trim_end(),
    };
    text.replace("Internal error: ", "")
}

#[cfg(test)]
mod tests {
    use datafusion::common::{internal_datafusion_err, plan_datafusion_err};

    use super::*;

    fn said(error: DataFusionError) -> String {
        describe(&error).message
    }

    #[test]
    fn nobody_is_asked_to_file_a_bug() {
        let internal = || internal_datafusion_err!("the sky is green");
        let outer = || Box::new(internal());
        for error in [
            internal(),
            internal().context("a rule"),
            DataFusionError::External(outer()),
            DataFusionError::ArrowError(Box::new(ArrowError::ExternalError(outer())), None),
            DataFusionError::Collection(vec![internal()]),
        ] {
            assert_eq!(said(error), "DataFusion can't run this query: the sky is green");
        }
        let text = internal().to_string();
        assert!(text.contains(PLEA), "{text}");
        for error in
            [DataFusionError::Execution(text.clone()), DataFusionError::External(text.into())]
        {
            assert_eq!(said(error), "the sky is green");
        }
    }

    #[test]
    fn layers_are_left_out() {
        assert_eq!(
            said(plan_datafusion_err!("no such thing").context("type_coercion")),
            "no such thing"
        );
        let error = DataFusionError::NotImplemented("MERGE".to_owned());
        assert_eq!(said(error), "not supported: MERGE");
        let error = ParserError::ParserError("Expected: x".to_owned());
        assert_eq!(
            said(DataFusionError::SQL(Box::new(error), None)),
            "this is no SQL: Expected: x"
        );
    }

    #[test]
    fn kinds_are_those_of_the_cause() {
        use QueryErrorKind::{
            Corrupt, NotFound, OutOfMemory, PermissionDenied, Query, UnknownName,
        };

        let denied = || object_store::Error::PermissionDenied {
            path: "a".to_owned(),
            source: "refused".into(),
        };
        let missing = Error::NotFound { location: "a.zarr".to_owned(), similar: None };
        let unknown = Error::NoSuch {
            location: "a.zarr".to_owned(),
            what: "variable",
            name: "t".to_owned(),
            known: Vec::new(),
        };
        let broken = Error::Metadata { key: "zarr.json".to_owned(), reason: "no shape".to_owned() };
        let external = |error: Error| DataFusionError::External(Box::new(error));
        for (error, kind) in [
            (external(missing), NotFound),
            (external(unknown).context("a table"), UnknownName),
            (external(broken), Corrupt),
            (DataFusionError::ObjectStore(Box::new(denied())), PermissionDenied),
            (DataFusionError::External(Box::new(denied())), PermissionDenied),
            (DataFusionError::ResourcesExhausted("1 GB".to_owned()), OutOfMemory),
            (plan_datafusion_err!("no column"), Query),
        ] {
            assert_eq!(describe(&error).kind, kind, "{error}");
        }
    }
}
