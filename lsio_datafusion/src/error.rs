//! How this crate's errors reach DataFusion's users: as they are, with their own words.

use datafusion::error::DataFusionError;

/// Wraps an error of lsio_core, so that its message is shown and its type can be found again by
/// downcasting the source.
pub(crate) fn external(error: lsio_core::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
