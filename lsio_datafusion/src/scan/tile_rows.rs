//! The rows of a reader's tiles, a range of cells at a time.

use std::{sync::Arc, time::Instant};

use arrow::{
    array::{BooleanArray, RecordBatch, RecordBatchOptions},
    buffer::BooleanBuffer,
    compute::filter as filter_rows,
    datatypes::SchemaRef,
};
use datafusion::error::Result;
use lsio_core::read::Rows;

use super::{
    metrics::{Metrics, RowsTimer},
    reader::{ReadyTile, TileReader},
};
use crate::error::external;

/// The decoded rows of a tile.
pub(super) struct TileRows {
    rows: Rows,
    wanted: Option<BooleanBuffer>,
    schema: SchemaRef,
    timer: RowsTimer,
}

/// Consecutive cells of a tile, with wanted rows.
pub(super) struct CellRange {
    tile: Arc<TileRows>,
    start: usize,
    len: usize,
    /// The wanted rows.
    count: usize,
}

/// What comes next of a tile.
pub(super) struct OfTile<T> {
    /// The number of the tile.
    pub(super) number: u64,
    /// Rows; `None` if there are no more.
    pub(super) rows: Option<T>,
    /// Whether nothing else comes of the tile.
    pub(super) ends: bool,
}

impl TileRows {
    /// The first cells from `start` on with wanted rows, up to `most` cells.
    fn from(self: &Arc<Self>, mut start: usize, most: usize) -> Option<CellRange> {
        loop {
            let len = (self.rows.len() - start).min(most);
            if len == 0 {
                return None;
            }
            let wanted = self.wanted.as_ref().map(|wanted| wanted.slice(start, len));
            let count = wanted.map_or(len, |wanted| wanted.count_set_bits());
            if count > 0 {
                return Some(CellRange { tile: Arc::clone(self), start, len, count });
            }
            start += len;
        }
    }
}

impl CellRange {
    /// Number of rows.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether most cells are wanted, so that making rows of them is work.
    pub(super) fn is_full(&self) -> bool {
        self.count >= self.len / 4
    }

    /// Makes the rows.
    ///
    /// # Errors
    /// Those of [`Rows::slice`].
    pub(super) fn batch(&self) -> Result<RecordBatch> {
        let Self { tile, start, len, count } = self;
        let timer = Instant::now();
        let mut columns = tile.rows.slice(*start, *len).map_err(external)?;
        if let Some(wanted) = tile.wanted.as_ref().filter(|_| count < len) {
            let mask = BooleanArray::new(wanted.slice(*start, *len), None);
            for column in &mut columns {
                *column = filter_rows(column, &mask)?;
            }
        }
        tile.timer.add(timer.elapsed());
        let options = RecordBatchOptions::new().with_row_count(Some(*count));
        let schema = Arc::clone(&tile.schema);
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }
}

/// Reads tiles, and gives their rows in order.
pub(super) struct TileRanges {
    tiles: TileReader,
    schema: SchemaRef,
    /// Upper bound on the cells of a range.
    batch_size: usize,
    current: Option<Current>,
    /// Memory of a tile whose last range was given.
    given_back: usize,
    finished: bool,
}

/// A tile whose rows are being given.
struct Current {
    number: u64,
    rows: Arc<TileRows>,
    next: usize,
    reserved: usize,
}

impl TileRanges {
    pub(super) fn new(tiles: TileReader, schema: SchemaRef, batch_size: usize) -> Self {
        Self { tiles, schema, batch_size, current: None, given_back: 0, finished: false }
    }

    /// Schema of the rows.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Counts of the reader.
    pub(super) fn metrics(&self) -> &Metrics {
        self.tiles.metrics()
    }

    /// Whether an operator above may end the scan after the first rows.
    pub(super) fn may_end_early(&self) -> bool {
        self.tiles.may_end_early()
    }

    /// What comes next, of `remaining` rows that are wanted. `None` comes last.
    ///
    /// # Errors
    /// Those of reads, after which nothing comes.
    pub(super) async fn next(
        &mut self,
        remaining: Option<usize>,
    ) -> Result<Option<OfTile<CellRange>>> {
        if self.finished {
            return Ok(None);
        }
        let result = self.advance(remaining).await;
        if !matches!(result, Ok(Some(_))) {
            self.finish();
        }
        result
    }

    /// Drops what is under way.
    pub(super) fn finish(&mut self) {
        self.finished = true;
        self.current = None;
        self.tiles.finish();
    }

    async fn advance(&mut self, remaining: Option<usize>) -> Result<Option<OfTile<CellRange>>> {
        if self.given_back > 0 {
            self.tiles.give_back(std::mem::take(&mut self.given_back));
        }
        if self.current.is_none() {
            match self.tiles.next(remaining).await? {
                Some(ready) => self.open(ready).await?,
                None => return Ok(None),
            }
        }
        let Some(current) = &mut self.current else { return Ok(None) };
        let mut most = self.batch_size;
        if let (None, Some(remaining)) = (&current.rows.wanted, remaining) {
            most = most.min(remaining).max(1);
        }
        let number = current.number;
        let range = current.rows.from(current.next, most);
        if let Some(range) = &range {
            current.next = range.start + range.len;
        }
        let ends = current.rows.from(current.next, self.batch_size).is_none();
        if ends {
            self.given_back = current.reserved;
            self.current = None;
        }
        Ok(Some(OfTile { number, rows: range, ends }))
    }

    /// Decodes a tile.
    async fn open(&mut self, mut ready: ReadyTile) -> Result<()> {
        self.tiles.decode(&mut ready).await?;
        let ReadyTile { number, tile, rows: wanted, reserved, .. } = ready;
        let dims: Vec<usize> = (0..tile.block().selections().len()).collect();
        let rows = tile.rows(&dims, &self.tiles.work().output).map_err(external)?;
        let (schema, timer) = (Arc::clone(&self.schema), self.tiles.metrics().rows_timer());
        let rows = Arc::new(TileRows { rows, wanted, schema, timer });
        self.current = Some(Current { number, rows, next: 0, reserved });
        Ok(())
    }
}
