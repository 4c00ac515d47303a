//! Errors of lsio_core as DataFusion's.

use datafusion::error::DataFusionError;

/// Wraps an error of lsio_core: the message stays, and the type is found by downcasting the source.
pub(crate) fn external(error: lsio_core::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
