//! Progress of a running query, from the metrics of its scans.

use std::{fmt, sync::Arc};

use datafusion::{datasource::source::DataSourceExec, physical_plan::ExecutionPlan};

use crate::{ZarrAggregateExec, ZarrSource};

/// Chunks that a query has read, of those that it will read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryProgress {
    /// Chunks that were read, or found not to be stored.
    pub done: u64,
    /// Chunks in all, as far as known: it shrinks where a running query finds that it can skip some.
    pub total: u64,
    /// Bytes that were read.
    pub bytes: u64,
}

/// The scans of a plan, watched while it runs.
pub struct ProgressWatch {
    scans: Vec<WatchedScan>,
}

/// Scan of a Zarr table, or an aggregate over one.
struct WatchedScan {
    plan: Arc<dyn ExecutionPlan>,
    /// Chunks that it will read, as far as known before it runs.
    chunks: u64,
}

impl ProgressWatch {
    /// Finds the scans of Zarr tables in a plan.
    #[must_use]
    pub fn of(plan: &Arc<dyn ExecutionPlan>) -> Self {
        let mut scans = Vec::new();
        find_scans(plan, &mut scans);
        Self { scans }
    }

    /// The progress now.
    #[must_use]
    pub fn progress(&self) -> QueryProgress {
        let mut progress = QueryProgress::default();
        for scan in &self.scans {
            let metrics = scan.plan.metrics().unwrap_or_default();
            let sum = |name| metrics.sum_by_name(name).map_or(0, |sum| sum.as_usize() as u64);
            let done = sum("chunks_read") + sum("chunks_absent");
            // A scan's total is known at its end: chunks that it hasn't read by then, it has pruned.
            let ended = sum("chunks_total") > 0;
            progress.done += done;
            progress.total += if ended { done } else { scan.chunks.max(done) };
            progress.bytes += sum("bytes_read");
        }
        progress
    }
}

impl fmt::Debug for ProgressWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressWatch").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

fn find_scans(plan: &Arc<dyn ExecutionPlan>, scans: &mut Vec<WatchedScan>) {
    let aggregate = plan.downcast_ref::<ZarrAggregateExec>().map(ZarrAggregateExec::source);
    let source = plan
        .downcast_ref::<DataSourceExec>()
        .and_then(|scan| scan.data_source().downcast_ref::<ZarrSource>());
    if let Some(source) = aggregate.or(source) {
        scans.push(WatchedScan { plan: Arc::clone(plan), chunks: source.chunks() });
    }
    for child in plan.children() {
        find_scans(child, scans);
    }
}
