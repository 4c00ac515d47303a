//! Record batches of a partition's tiles.

use std::{sync::Arc, time::Instant};

use arrow::{
    array::{BooleanArray, RecordBatch, RecordBatchOptions},
    buffer::BooleanBuffer,
    compute::filter as filter_rows,
    datatypes::SchemaRef,
};
use datafusion::{
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::stream;
use lsio_core::read::Rows;

use super::{
    collected::Collected,
    reader::{ReadyTile, TileReader},
};
use crate::error::external;

/// Streams the rows of a reader's tiles.
pub(super) fn rows(
    tiles: TileReader,
    schema: SchemaRef,
    limit: Option<usize>,
    context: &TaskContext,
) -> SendableRecordBatchStream {
    let rows = RowStream::new(tiles, Arc::clone(&schema), limit, context);
    let batches = stream::try_unfold(rows, |mut rows| async move {
        let batch = rows.next().await?;
        Ok(batch.map(|batch| (batch, rows)))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

/// Rows of a reader's tiles, one batch after the other.
pub(super) struct RowStream {
    tiles: TileReader,
    schema: SchemaRef,
    /// Tile whose rows are being returned.
    current: Option<Current>,
    collected: Collected,
    finished: bool,
}

/// Rows of a tile.
pub(super) struct OfTile {
    /// The number of the tile.
    pub(super) number: u64,
    pub(super) rows: Option<RecordBatch>,
    /// Whether they are the tile's last ones.
    pub(super) ends: bool,
}

struct Current {
    number: u64,
    rows: Rows,
    wanted: Option<BooleanBuffer>,
    next: usize,
    reserved: usize,
}

impl RowStream {
    pub(super) fn new(
        tiles: TileReader,
        schema: SchemaRef,
        limit: Option<usize>,
        context: &TaskContext,
    ) -> Self {
        let collected = Collected::new(Arc::clone(&schema), limit, context);
        Self { tiles, schema, current: None, collected, finished: false }
    }

    /// What comes next of a tile: no batch has rows of two.
    pub(super) async fn next_of_tile(&mut self) -> Result<Option<OfTile>> {
        if self.finished {
            return Ok(None);
        }
        let result = self.advance_in_tile().await;
        if !matches!(result, Ok(Some(_))) {
            self.finish();
        }
        result
    }

    async fn advance_in_tile(&mut self) -> Result<Option<OfTile>> {
        if self.collected.is_full() {
            return Ok(None);
        }
        if self.current.is_none() {
            match self.tiles.next(self.collected.remaining()).await? {
                Some(ready) => self.open(ready).await?,
                None => return Ok(None),
            }
        }
        let Some(number) = self.current.as_ref().map(|current| current.number) else {
            return Ok(None);
        };
        let rows = match self.next_batch()? {
            Some(batch) => Some(batch),
            None => self.collected.rest()?,
        };
        Ok(Some(OfTile { number, rows, ends: self.current.is_none() }))
    }

    /// Drops pending fetches.
    fn finish(&mut self) {
        self.finished = true;
        self.current = None;
        self.collected.clear();
        self.tiles.finish();
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        if self.finished {
            return Ok(None);
        }
        let result = self.advance().await;
        if !matches!(result, Ok(Some(_))) {
            // The stream ends after an error.
            self.finish();
        }
        self.tiles.metrics().record(result)
    }

    async fn advance(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if self.collected.is_full() {
                return Ok(None);
            }
            if let Some(batch) = self.next_batch()? {
                return Ok(Some(batch));
            }
            match self.tiles.next(self.collected.remaining()).await? {
                Some(ready) => self.open(ready).await?,
                None => return self.collected.rest(),
            }
        }
    }

    /// Starts to return the rows of a tile.
    async fn open(&mut self, mut ready: ReadyTile) -> Result<()> {
        self.tiles.decode(&mut ready).await?;
        let ReadyTile { number, tile, rows: wanted, reserved, .. } = ready;
        let dims: Vec<usize> = (0..tile.block().selections().len()).collect();
        let rows = tile.rows(&dims, &self.tiles.work().output).map_err(external)?;
        self.current = Some(Current { number, rows, wanted, next: 0, reserved });
        Ok(())
    }

    /// Next rows of the current tile, as soon as there are enough for a batch.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        while let Some(current) = &mut self.current {
            let start = current.next;
            let mut len = (current.rows.len() - start).min(self.collected.batch_size());
            if len == 0 {
                let reserved = current.reserved;
                self.current = None;
                self.tiles.give_back(reserved);
                continue;
            }
            if let (None, Some(remaining)) = (&current.wanted, self.collected.remaining()) {
                len = len.min(remaining);
            }
            current.next += len;
            let wanted = current.wanted.as_ref().map(|wanted| wanted.slice(start, len));
            let count = wanted.as_ref().map_or(len, BooleanBuffer::count_set_bits);
            if count == 0 {
                continue;
            }
            let timer = Instant::now();
            let mut columns = current.rows.slice(start, len).map_err(external)?;
            if let Some(wanted) = wanted.filter(|_| count < len) {
                let mask = BooleanArray::new(wanted, None);
                for column in &mut columns {
                    *column = filter_rows(column, &mask)?;
                }
            }
            self.tiles.metrics().broadcasting(timer.elapsed());
            let options = RecordBatchOptions::new().with_row_count(Some(count));
            let schema = Arc::clone(&self.schema);
            let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
            // An operator above may end the scan after the first rows.
            if let Some(batch) = self.collected.add(batch, self.tiles.may_end_early())? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}
