//! Why an operator stays above its scan.

use datafusion::error::DataFusionError;

/// An operator that isn't pushed into a scan.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The scan can't compute it; `EXPLAIN` shows the reason.
    Unsupported(String),
    /// Planning failed.
    Failed(DataFusionError),
}

impl Refusal {
    pub(crate) fn unsupported(reason: impl Into<String>) -> Self {
        Self::Unsupported(reason.into())
    }
}

impl From<DataFusionError> for Refusal {
    fn from(error: DataFusionError) -> Self {
        Self::Failed(error)
    }
}
