//! Metrics that `EXPLAIN ANALYZE` shows.

use std::{sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use datafusion::{
    error::Result,
    physical_plan::metrics::{
        BaselineMetrics, Count, ExecutionPlanMetricsSet, Gauge, MetricBuilder, MetricCategory,
        RecordOutput as _, Time,
    },
};
use lsio_core::{read::Decoded, transport::Counts};

use super::queue::RequestedChunks;

/// Metrics of one partition.
pub(crate) struct Metrics {
    baseline: BaselineMetrics,
    /// Chunks of the columns that are read, with or without selected cells.
    chunks_total: Count,
    /// Chunks never requested.
    chunks_pruned: Count,
    chunks_read: Count,
    /// Chunks that aren't stored.
    chunks_absent: Count,
    requests: Count,
    bytes_read: Count,
    bytes_decoded: Count,
    time_waiting: Time,
    time_decoding: Time,
    time_evaluating: Time,
    time_broadcasting: Time,
    time_aggregating: Time,
    /// Time in which one worker makes the results of groups, by itself.
    time_finishing: Time,
    /// States of a slab that were merged with another worker's.
    states_merged: Count,
    peak_memory: Gauge,
    store: Arc<str>,
}

/// Time spent making rows, wherever that is done.
#[derive(Clone)]
pub(crate) struct RowsTimer {
    broadcasting: Time,
    compute: Time,
}

impl RowsTimer {
    pub(crate) fn add(&self, time: Duration) {
        self.broadcasting.add_duration(time);
        self.compute.add_duration(time);
    }
}

impl Metrics {
    pub(crate) fn new(set: &ExecutionPlanMetricsSet, partition: usize, store: Arc<str>) -> Self {
        let count = |name: &'static str| MetricBuilder::new(set).counter(name, partition);
        let bytes = |name: &'static str| {
            MetricBuilder::new(set).with_category(MetricCategory::Bytes).counter(name, partition)
        };
        let time = |name: &'static str| MetricBuilder::new(set).subset_time(name, partition);
        Self {
            baseline: BaselineMetrics::new(set, partition),
            chunks_total: count("chunks_total"),
            chunks_pruned: count("chunks_pruned"),
            chunks_read: count("chunks_read"),
            chunks_absent: count("chunks_absent"),
            requests: count("requests"),
            bytes_read: bytes("bytes_read"),
            bytes_decoded: bytes("bytes_decoded"),
            time_waiting: time("time_waiting"),
            time_decoding: time("time_decoding"),
            time_evaluating: time("time_evaluating"),
            time_broadcasting: time("time_broadcasting"),
            time_aggregating: time("time_aggregating"),
            time_finishing: time("time_finishing"),
            states_merged: count("states_merged"),
            peak_memory: MetricBuilder::new(set).peak_memory_usage("peak_memory", partition),
            store,
        }
    }

    /// Counts a fetch.
    pub(crate) fn count(&self, counts: Counts) {
        self.chunks_read.add(counts.chunks);
        self.chunks_absent.add(counts.absent);
        self.requests.add(counts.requests);
        self.bytes_read.add(counts.bytes);
    }

    /// Counts decoded chunks.
    pub(crate) fn decoded(&self, decoded: Decoded) {
        self.bytes_decoded.add(decoded.bytes);
        self.time_decoding.add_duration(decoded.time);
        self.baseline.elapsed_compute().add_duration(decoded.time);
    }

    /// Adds time spent waiting for chunks.
    pub(crate) fn waiting(&self, time: Duration) {
        self.time_waiting.add_duration(time);
    }

    /// Adds time spent evaluating predicates.
    pub(crate) fn evaluating(&self, time: Duration) {
        self.time_evaluating.add_duration(time);
        self.baseline.elapsed_compute().add_duration(time);
    }

    /// For time spent making rows.
    pub(crate) fn rows_timer(&self) -> RowsTimer {
        let compute = self.baseline.elapsed_compute().clone();
        RowsTimer { broadcasting: self.time_broadcasting.clone(), compute }
    }

    /// Adds time spent reducing values.
    pub(crate) fn aggregating(&self, time: Duration) {
        self.time_aggregating.add_duration(time);
        self.baseline.elapsed_compute().add_duration(time);
    }

    /// Adds time spent making results of groups, from the states of some workers.
    pub(crate) fn finishing(&self, time: Duration, states: usize) {
        self.time_finishing.add_duration(time);
        self.baseline.elapsed_compute().add_duration(time);
        self.states_merged.add(states.saturating_sub(1));
    }

    /// Updates the peak of memory for decoded values, over all partitions.
    pub(crate) fn peak_memory(&self, bytes: usize) {
        self.peak_memory.set_max(bytes);
    }

    /// Counts a batch of the output, or records its end.
    pub(crate) fn record(&self, batch: Result<Option<RecordBatch>>) -> Result<Option<RecordBatch>> {
        Ok(batch?.map(|batch| batch.record_output(&self.baseline)))
    }

    /// Chunks that this partition requested.
    pub(crate) fn asked(&self) -> RequestedChunks {
        RequestedChunks {
            stored: self.chunks_read.value() as u64,
            absent: self.chunks_absent.value() as u64,
        }
    }

    /// Records the totals when the last partition ends.
    pub(crate) fn finish(&self, sum: RequestedChunks, all_chunks: u64) {
        let total = usize::try_from(all_chunks).unwrap_or(usize::MAX);
        let asked = usize::try_from(sum.stored + sum.absent).unwrap_or(usize::MAX);
        self.chunks_total.add(total);
        self.chunks_pruned.add(total.saturating_sub(asked));
        if sum.stored == 0 && sum.absent > 0 {
            log::warn!(
                "none of the {} chunks that the query asked for is stored in '{}': all values are \
                 the fill value. A store whose chunks lie elsewhere looks like that",
                sum.absent,
                self.store
            );
        }
    }
}
