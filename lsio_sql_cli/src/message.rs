//! Error messages for users.

use std::error::Error as StdError;

use datafusion::{
    arrow::error::ArrowError, error::DataFusionError, sql::sqlparser::parser::ParserError,
};

/// End of DataFusion's internal errors, of no use to a user.
const PLEA: &str = "This issue was likely caused by a bug in DataFusion's code.";

/// Message of an error without the prefixes of intermediate layers.
pub(crate) fn message(error: &(dyn StdError + 'static)) -> String {
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return plain(&root(error));
    }
    plain(&error.to_string())
}

/// Message of the innermost error.
fn root(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::External(source) => match source.downcast_ref::<DataFusionError>() {
            Some(inner) => root(inner),
            None => source.to_string(),
        },
        DataFusionError::Collection(errors) if !errors.is_empty() => root(&errors[0]),
        DataFusionError::Plan(text)
        | DataFusionError::Execution(text)
        | DataFusionError::Configuration(text) => without_backtrace(text),
        DataFusionError::Internal(text) => {
            format!("DataFusion can't run this query: {}", without_backtrace(text))
        }
        DataFusionError::NotImplemented(text) => {
            format!("not supported: {}", without_backtrace(text))
        }
        DataFusionError::SQL(error, _) => match error.as_ref() {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => {
                format!("this is no SQL: {}", without_backtrace(text))
            }
            ParserError::RecursionLimitExceeded => "the SQL is nested too deep".to_owned(),
        },
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::ExternalError(source) => message(source.as_ref()),
            error => error.to_string(),
        },
        root => root.strip_backtrace(),
    }
}

/// Removes the backtrace that DataFusion appends where the environment asks for it.
fn without_backtrace(text: &str) -> String {
    text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or(text).to_owned()
}

/// Removes the prefixes of intermediate layers from a message that quotes them.
fn plain(text: &str) -> String {
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
        message(&error)
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
}
