//! One partition of a scan: from tiles to record batches.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};
use datafusion::{
    error::{DataFusionError, Result},
    execution::RecordBatchStream,
    physical_plan::metrics::{
        BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricCategory, Time,
    },
};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use lsio_core::read::{Scan, Tile};

use super::queue::Tiles;
use crate::error::external;

pub(super) struct ZarrStream {
    schema: SchemaRef,
    tiles: BoxStream<'static, lsio_core::Result<Tile>>,
    /// The tile at hand, and the first of its rows that isn't out yet.
    current: Option<(Tile, usize)>,
    /// The rows that a limit still allows.
    remaining: Option<usize>,
    batch_size: usize,
    metrics: Metrics,
}

impl ZarrStream {
    pub(super) fn new(
        scan: Arc<Scan>,
        tiles: Tiles,
        schema: SchemaRef,
        limit: Option<usize>,
        batch_size: usize,
        partitions: usize,
        metrics: Metrics,
    ) -> Self {
        // A limit is reached soon: what is fetched ahead would be for nothing.
        let ahead = if limit.is_some() { 1 } else { scan.fetch_ahead(partitions) };
        let tiles = stream::once(async move {
            scan.load().await?;
            Ok(scan.read(tiles, ahead))
        })
        .try_flatten()
        .boxed();
        Self {
            schema,
            tiles,
            current: None,
            remaining: limit,
            batch_size: batch_size.max(1),
            metrics,
        }
    }

    /// The next rows of the tile at hand.
    fn next_batch(&mut self) -> Option<Result<RecordBatch>> {
        let (tile, start) = self.current.take()?;
        let allowed = self.remaining.unwrap_or(usize::MAX);
        let len = (tile.rows() - start).min(self.batch_size).min(allowed);
        if len == 0 {
            return None;
        }
        let timer = self.metrics.time_broadcasting.timer();
        let columns = tile.slice(start, len).map_err(external);
        timer.done();
        let options = RecordBatchOptions::new().with_row_count(Some(len));
        let batch = columns.and_then(|columns| {
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
                .map_err(DataFusionError::from)
        });
        if let Some(remaining) = &mut self.remaining {
            *remaining -= len;
        }
        self.current = Some((tile, start + len));
        Some(batch)
    }
}

impl Stream for ZarrStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let poll = loop {
            if let Some(batch) = self.next_batch() {
                break Poll::Ready(Some(batch));
            }
            if self.remaining == Some(0) {
                // Nothing more is wanted: reads under way are given up.
                self.tiles = stream::empty().boxed();
                break Poll::Ready(None);
            }
            let time = self.metrics.time_decoding.clone();
            let timer = time.timer();
            let tile = self.tiles.poll_next_unpin(cx);
            timer.done();
            match ready!(tile) {
                None => break Poll::Ready(None),
                Some(Err(error)) => {
                    // What comes after an error would be out of place.
                    self.tiles = stream::empty().boxed();
                    break Poll::Ready(Some(Err(external(error))));
                }
                Some(Ok(tile)) => {
                    self.metrics.count(&tile);
                    self.current = Some((tile, 0));
                }
            }
        };
        self.metrics.baseline.record_poll(poll)
    }
}

impl RecordBatchStream for ZarrStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// What `EXPLAIN ANALYZE` shows of a partition.
pub(super) struct Metrics {
    baseline: BaselineMetrics,
    bytes_read: Count,
    chunks_read: Count,
    chunks_absent: Count,
    /// Polling for tiles: starting fetches, and decoding what has come.
    time_decoding: Time,
    time_broadcasting: Time,
}

impl Metrics {
    pub(super) fn new(set: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let builder = || MetricBuilder::new(set);
        Self {
            baseline: BaselineMetrics::new(set, partition),
            bytes_read: builder()
                .with_category(MetricCategory::Bytes)
                .counter("bytes_read", partition),
            chunks_read: builder().counter("chunks_read", partition),
            chunks_absent: builder().counter("chunks_absent", partition),
            time_decoding: builder().subset_time("time_decoding", partition),
            time_broadcasting: builder().subset_time("time_broadcasting", partition),
        }
    }

    fn count(&self, tile: &Tile) {
        let counts = tile.counts();
        self.bytes_read.add(counts.bytes);
        self.chunks_read.add(counts.chunks);
        self.chunks_absent.add(counts.absent);
    }
}
