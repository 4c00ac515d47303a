//! Why an aggregate stays above its scan.

use datafusion::error::DataFusionError;

/// An aggregate that isn't pushed down.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The scan can't compute it; `EXPLAIN` shows the reason.
    Unsupported(String),
    /// Planning failed.
    Failed(DataFusionError),
}

impl Refusal {
    pub(super) fn unsupported(reason: impl Into<String>) -> Self {
        Self::Unsupported(reason.into())
    }
}

impl From<DataFusionError> for Refusal {
    fn from(error: DataFusionError) -> Self {
        Self::Failed(error)
    }
}
