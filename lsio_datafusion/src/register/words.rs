//! Internal errors of DataFusion in plain words.
//!
//! DataFusion 55.2 returns `Internal` errors, which ask for a bug report, for queries that are merely wrong:
//! a function with too many arguments, a frame over a type that has none.

use std::{fmt, sync::Arc};

use arrow::error::ArrowError;
use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    common::tree_node::Transformed,
    config::ConfigOptions,
    error::{DataFusionError, Result},
    execution::context::QueryPlanner,
    logical_expr::LogicalPlan,
    optimizer::{AnalyzerRule, ApplyOrder, OptimizerConfig, OptimizerRule},
    physical_plan::ExecutionPlan,
};

/// End of an internal error.
const PLEA: &str = ".\nThis issue was likely caused by a bug in DataFusion's code. Please help us to resolve this \
                    by filing a bug report in our issue tracker: https://github.com/apache/datafusion/issues";

/// Start of an internal error.
const INTERNAL: &str = "Internal error: ";

/// Text after an internal error about a function's arguments.
const NO_MATCH: &str = "No function matches the given name and argument types";

/// Rewrites an error without "internal error" and without the plea for a bug report.
pub(crate) fn in_words(error: DataFusionError) -> DataFusionError {
    match error {
        DataFusionError::Internal(text) => {
            let text = text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or(&text);
            DataFusionError::Plan(format!("DataFusion can't run this query: {}", plain(text)))
        }
        DataFusionError::Plan(text) => DataFusionError::Plan(plain(&text)),
        DataFusionError::Execution(text) => DataFusionError::Execution(plain(&text)),
        DataFusionError::NotImplemented(text) => DataFusionError::NotImplemented(plain(&text)),
        DataFusionError::Context(text, inner) => {
            DataFusionError::Context(text, Box::new(in_words(*inner)))
        }
        DataFusionError::Diagnostic(diagnostic, inner) => {
            DataFusionError::Diagnostic(diagnostic, Box::new(in_words(*inner)))
        }
        DataFusionError::Collection(errors) => {
            DataFusionError::Collection(errors.into_iter().map(in_words).collect())
        }
        DataFusionError::ArrowError(error, backtrace) => match *error {
            ArrowError::ExternalError(source) => external(source),
            error => DataFusionError::ArrowError(Box::new(error), backtrace),
        },
        DataFusionError::External(source) => external(source),
        other => other,
    }
}

fn external(source: Box<dyn std::error::Error + Send + Sync>) -> DataFusionError {
    match source.downcast::<DataFusionError>() {
        Ok(inner) => in_words(*inner),
        Err(source) => DataFusionError::External(source),
    }
}

/// Removes the phrases of internal errors from a text.
fn plain(text: &str) -> String {
    if !text.contains(INTERNAL) && !text.contains(PLEA) {
        return text.to_owned();
    }
    if let Some((_, reason)) = text.split_once(NO_MATCH) {
        return format!("{NO_MATCH}{reason}");
    }
    text.replace(PLEA, "").replace(INTERNAL, "").replace("Execution error: ", "")
}

/// Rule whose errors are rewritten.
#[derive(Debug)]
struct Worded<R>(R);

impl AnalyzerRule for Worded<Arc<dyn AnalyzerRule + Send + Sync>> {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        self.0.analyze(plan, config).map_err(in_words)
    }

    fn name(&self) -> &str {
        self.0.name()
    }
}

impl OptimizerRule for Worded<Arc<dyn OptimizerRule + Send + Sync>> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        self.0.rewrite(plan, config).map_err(in_words)
    }
}

/// Wraps a session's rules.
pub(super) fn worded_analyzers(rules: &mut [Arc<dyn AnalyzerRule + Send + Sync>]) {
    for rule in rules {
        *rule = Arc::new(Worded(Arc::clone(rule)));
    }
}

/// Wraps a session's rules.
pub(super) fn worded_optimizers(rules: &mut [Arc<dyn OptimizerRule + Send + Sync>]) {
    for rule in rules {
        *rule = Arc::new(Worded(Arc::clone(rule)));
    }
}

/// Planner whose errors are rewritten.
pub(super) struct WordedPlanner(pub(super) Arc<dyn QueryPlanner + Send + Sync>);

impl fmt::Debug for WordedPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl QueryPlanner for WordedPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.0.create_physical_plan(plan, session).await.map_err(in_words)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::common::internal_datafusion_err;

    use super::*;

    #[test]
    fn nobody_is_asked_for_a_bug_report() {
        let internal = || internal_datafusion_err!("the sky is green");
        let quoted = || internal().to_string();
        for error in [
            internal(),
            internal().context("a rule"),
            DataFusionError::External(Box::new(internal())),
            DataFusionError::ArrowError(
                Box::new(ArrowError::from_external_error(Box::new(internal()))),
                None,
            ),
            DataFusionError::Collection(vec![internal()]),
            DataFusionError::Plan(quoted()),
            DataFusionError::Execution(quoted()),
        ] {
            let text = in_words(error).to_string();
            assert!(text.contains("the sky is green"), "{text}");
            assert!(!text.contains("bug") && !text.contains("Internal"), "{text}");
        }
    }

    #[test]
    fn a_function_that_matches_nothing_says_what_it_takes() {
        let reason =
            "No function matches the given name and argument types 'f(Int8)'. Candidates: f()";
        let text =
            format!("Function 'f' failed: {}. {reason}", internal_datafusion_err!("f takes none"));
        assert_eq!(plain(&text), reason);
    }
}
