//! Record batches of a partition's tiles.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::stream;

use super::{collected::Collected, reader::TileReader, tile_rows::TileRanges};

/// Streams the rows of a reader's tiles.
pub(super) fn rows(
    tiles: TileReader,
    schema: SchemaRef,
    limit: Option<usize>,
    context: &TaskContext,
) -> SendableRecordBatchStream {
    let collected = Collected::new(Arc::clone(&schema), limit, context);
    let ranges = TileRanges::new(tiles, Arc::clone(&schema), collected.batch_size());
    let rows = RowStream { ranges, collected };
    let batches = stream::try_unfold(rows, |mut rows| async move {
        let batch = rows.next().await?;
        Ok(batch.map(|batch| (batch, rows)))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

/// Rows of a reader's tiles, one batch after the other.
struct RowStream {
    ranges: TileRanges,
    collected: Collected,
}

impl RowStream {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let result = self.advance().await;
        if !matches!(result, Ok(Some(_))) {
            // The stream ends after an error.
            self.ranges.finish();
        }
        self.ranges.metrics().record(result)
    }

    async fn advance(&mut self) -> Result<Option<RecordBatch>> {
        while !self.collected.is_full() {
            let Some(next) = self.ranges.next(self.collected.remaining()).await? else {
                return self.collected.rest();
            };
            let Some(range) = next.rows else { continue };
            // An operator above may end the scan after the first rows.
            let early = self.ranges.may_end_early();
            if let Some(batch) = self.collected.add(range.batch()?, early)? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}
