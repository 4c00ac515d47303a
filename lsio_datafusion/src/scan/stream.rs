//! One partition of a scan: from tiles to record batches.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, BooleanArray, BooleanBufferBuilder, RecordBatch,
        RecordBatchOptions,
    },
    buffer::BooleanBuffer,
    compute::{concat_batches, filter as filter_rows},
    datatypes::SchemaRef,
};
use datafusion::{
    error::Result,
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation},
    },
    physical_expr::PhysicalExpr,
    physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::stream;
use lsio_core::{
    Table,
    read::{Block, FetchTask, Fetched, Rows, Scan, Tile},
};

use super::{metrics::Metrics, queue::TileNumbers};
use crate::{
    error::external,
    predicate::{Deferred, Predicate},
};

/// The memory for what is fetched ahead of its use, by one partition, as far as there is that much.
const AHEAD_BYTES: usize = 24 << 20;

/// The most tiles that are fetched ahead.
const AHEAD_TILES: usize = 32;

/// The tiles whose remaining columns are fetched while further ones are filtered.
const FILTERED_TILES: usize = 4;

/// The memory for chunks that several tiles need, as far as there is that much.
const SHARED_BYTES: usize = 64 << 20;

/// What one partition of a scan does.
pub(super) struct Work {
    pub(super) scan: Arc<Scan>,
    /// The scan's columns by their positions in the table.
    pub(super) columns: Vec<usize>,
    /// The output's columns by their positions in the scan.
    pub(super) output: Vec<usize>,
    pub(super) schema: SchemaRef,
    /// What decides on rows.
    pub(super) filters: Vec<Predicate>,
    /// What may leave out rows as far as it is known.
    pub(super) deferred: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) table: Arc<Table>,
    pub(super) table_schema: SchemaRef,
    pub(super) limit: Option<usize>,
    pub(super) partitions: usize,
}

/// Reads the tiles of these numbers.
pub(super) fn read(
    work: Work,
    tiles: TileNumbers,
    context: &TaskContext,
    metrics: Metrics,
) -> SendableRecordBatchStream {
    let schema = Arc::clone(&work.schema);
    let pool = context.memory_pool();
    let reservation = MemoryConsumer::new("ZarrScan").register(pool);
    let limit = match pool.memory_limit() {
        MemoryLimit::Finite(limit) => limit,
        MemoryLimit::Infinite | MemoryLimit::Unknown => usize::MAX,
    };
    let reader = Reader {
        remaining: work.limit,
        batch_size: context.session_config().batch_size().max(1),
        memory: Memory { reservation, pool: Arc::clone(pool), limit },
        work,
        tiles,
        metrics,
        deferred: None,
        ahead: VecDeque::new(),
        filtered: VecDeque::new(),
        current: None,
        few: Vec::new(),
        given: 0,
        cost: 0,
        shared: 0,
        done: 0,
        finished: false,
    };
    let batches = stream::try_unfold(reader, |mut reader| async move {
        let batch = reader.next().await?;
        Ok(batch.map(|batch| (batch, reader)))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

struct Reader {
    work: Work,
    tiles: TileNumbers,
    /// What is known by now; nothing before the first poll.
    deferred: Option<Deferred>,
    /// Tiles of which the first columns are on their way.
    ahead: VecDeque<Ahead>,
    /// Tiles whose wanted rows are known, and the remaining columns on their way.
    filtered: VecDeque<Filtered>,
    /// The tile whose rows are being given out.
    current: Option<Current>,
    /// Batches of few rows, which wait to become one.
    few: Vec<RecordBatch>,
    /// The rows that a limit still allows.
    remaining: Option<usize>,
    batch_size: usize,
    /// The rows that were given out.
    given: usize,
    /// The memory for the first columns of the last tile.
    cost: usize,
    /// The memory that was given for chunks that several tiles need.
    shared: usize,
    /// The tiles of which all wanted rows were given out.
    done: usize,
    memory: Memory,
    metrics: Metrics,
    finished: bool,
}

struct Ahead {
    number: u64,
    block: Block,
    rows: Option<BooleanBuffer>,
    /// The predicates that its first columns decide.
    filters: Vec<Predicate>,
    /// What had been known of deferred predicates.
    known: usize,
    fetch: FetchTask,
    reserved: usize,
}

struct Filtered {
    tile: Tile,
    rows: Option<BooleanBuffer>,
    fetch: Option<FetchTask>,
    reserved: usize,
}

struct Current {
    rows: Rows,
    wanted: Option<BooleanBuffer>,
    next: usize,
    reserved: usize,
}

/// The rows of a tile that are still wanted, if not all, and the predicates that data decide.
type Restricted = (Option<BooleanBuffer>, Vec<Predicate>);

impl Reader {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        if self.finished {
            return Ok(None);
        }
        let result = self.advance().await;
        if !matches!(result, Ok(Some(_))) {
            // What comes after an error would be out of place, and what is under way is given up.
            self.finish();
        }
        self.metrics.record(result)
    }

    async fn advance(&mut self) -> Result<Option<RecordBatch>> {
        if self.deferred.is_none() {
            self.start().await?;
        }
        loop {
            if self.remaining == Some(0) {
                return Ok(None);
            }
            if let Some(batch) = self.next_batch()? {
                return Ok(Some(self.limited(batch)));
            }
            self.fetch_ahead().await?;
            if self.filtered.len() < FILTERED_TILES && self.next_is_filter() {
                self.filter().await?;
            } else if let Some(filtered) = self.filtered.pop_front() {
                self.open(filtered).await?;
            } else if self.ahead.is_empty() {
                // Only what waits to become a larger batch is left.
                return Ok(self.take_few()?.map(|batch| self.limited(batch)));
            } else {
                self.filter().await?;
            }
        }
    }

    /// What can only be done when the query runs: what operators above know by now is asked for here.
    async fn start(&mut self) -> Result<()> {
        self.work.scan.load().await.map_err(external)?;
        if self.work.scan.shares_chunks() {
            let mut bytes = SHARED_BYTES / self.work.partitions.max(1);
            while bytes > 0 && !self.memory.take_spare(bytes) {
                bytes /= 2;
            }
            self.work.scan.share_memory(bytes);
            self.shared = bytes;
        }
        self.deferred = Some(Deferred::new(
            &self.work.deferred,
            Arc::clone(&self.work.table),
            Arc::clone(&self.work.table_schema),
        ));
        Ok(())
    }

    /// Whether the next thing to do is to find out which rows of a tile are wanted, while the
    /// remaining columns of others are on their way.
    fn next_is_filter(&self) -> bool {
        self.ahead.front().is_some_and(|ahead| !ahead.filters.is_empty())
    }

    /// The tiles that may be on their way at the same time.
    fn most_ahead(&self) -> usize {
        let tiles = self.work.scan.tiles();
        // What one partition has taken no other can take: leave enough for all.
        let share = tiles.len() / (2 * self.work.partitions.max(1) as u64);
        let mut most = AHEAD_TILES.min(usize::try_from(share).unwrap_or(usize::MAX));
        if let (Some(remaining), true) = (self.remaining, self.work.filters.is_empty()) {
            let rows = tiles.shape().iter().copied().fold(1, u64::saturating_mul).max(1);
            let needed = (remaining as u64).div_ceil(rows);
            most = most.min(usize::try_from(needed).unwrap_or(usize::MAX));
        } else if self.remaining.is_some() || !self.work.deferred.is_empty() {
            // The first rows may be all that is needed; an operator above says so in a filter.
            most = most.min(1 + self.done);
        }
        most.max(1)
    }

    /// Starts fetches, as long as there is memory for them.
    async fn fetch_ahead(&mut self) -> Result<()> {
        let most = self.most_ahead();
        while self.ahead.len() + self.filtered.len() < most {
            let held: usize = self.ahead.iter().map(|ahead| ahead.reserved).sum();
            let is_first = self.ahead.is_empty() && self.filtered.is_empty();
            if !is_first && held >= AHEAD_BYTES {
                break;
            }
            // Nobody else can take a tile any more that was taken, so the memory comes first: as much
            // as the last one needed.
            let guess = self.cost;
            if !is_first && !self.memory.take_spare(guess) {
                break;
            }
            let reserved = if is_first { 0 } else { guess };
            let Some(number) = self.tiles.next() else {
                self.memory.give_back(reserved);
                break;
            };
            let known = self.deferred.as_mut().map_or(0, Deferred::refresh);
            let mut block = self.work.scan.tiles().block(number);
            let Some((rows, filters)) = self.restrict(number, &mut block, true)? else {
                self.memory.give_back(reserved);
                // There may be many of these: other tasks get their turn.
                tokio::task::yield_now().await;
                continue;
            };
            let first = self.first_columns(&filters);
            self.cost = self.work.scan.cost(&first, &block);
            self.memory.give_back(reserved.saturating_sub(self.cost));
            self.memory.take(self.cost.saturating_sub(reserved))?;
            let fetch = self.work.scan.fetch(&first, &block, rows.as_ref());
            let reserved = self.cost;
            self.ahead.push_back(Ahead { number, block, rows, filters, known, fetch, reserved });
        }
        Ok(())
    }

    /// Applies what needs no data: leaves out indices of the block, and rows. Gives what needs data;
    /// `None` if no cell is left.
    fn restrict(
        &mut self,
        number: u64,
        block: &mut Block,
        skip: bool,
    ) -> Result<Option<Restricted>> {
        let timer = Instant::now();
        let mut rows: Option<BooleanBuffer> = None;
        let mut later = Vec::new();
        let deferred = self.deferred.as_ref().map_or(&[][..], Deferred::current);
        let all = self.work.filters.iter().map(|f| (f, true));
        let mut several = Vec::new();
        let mut none_left = None;
        for (filter, decides) in all.chain(deferred.iter().map(|f| (f, false))) {
            let Some(columns) = self.work.scan_columns(filter) else { continue };
            if !columns.iter().all(|&column| self.work.scan.is_local(column)) {
                later.push(filter.clone());
                continue;
            }
            let &[dim] = filter.dims() else {
                several.push((filter, columns, decides));
                continue;
            };
            let tile = self.work.scan.local(&columns, block.clone()).map_err(external)?;
            match evaluate(&tile, filter, &columns, usize::MAX, None) {
                Ok(mask) => block.restrict(dim, &BooleanArray::new(mask, None)),
                Err(error) if decides => return Err(error),
                Err(_) => {}
            }
            if block.rows() == 0 {
                none_left = Some(dim);
                break;
            }
        }
        if let Some(dim) = none_left {
            if skip {
                // The tiles that follow have the same indices along this dimension.
                self.tiles.skip_to(self.work.scan.tiles().after(number, dim));
            }
            self.metrics.evaluating(timer.elapsed());
            return Ok(None);
        }
        for (filter, columns, decides) in several {
            let tile = self.work.scan.local(&columns, block.clone()).map_err(external)?;
            let mask = match evaluate(&tile, filter, &columns, self.batch_size, None) {
                Ok(mask) => mask,
                Err(error) if decides => return Err(error),
                Err(_) => continue,
            };
            if mask.count_set_bits() == mask.len() {
                continue;
            }
            rows = Some(both(rows, &on_rows(&tile, filter, mask)?));
        }
        self.metrics.evaluating(timer.elapsed());
        if rows.as_ref().is_some_and(|rows| rows.count_set_bits() == 0) {
            return Ok(None);
        }
        Ok(Some((rows, later)))
    }

    /// The columns that are fetched first: those that decide on rows, or all.
    fn first_columns(&self, filters: &[Predicate]) -> Vec<usize> {
        if filters.is_empty() {
            return self.work.output.clone();
        }
        let mut columns: Vec<usize> =
            filters.iter().filter_map(|filter| self.work.scan_columns(filter)).flatten().collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// Decodes the first columns of the next tile, and finds out which of its rows are wanted.
    async fn filter(&mut self) -> Result<()> {
        let Some(ahead) = self.ahead.pop_front() else { return Ok(()) };
        let Ahead { number, block, mut rows, mut filters, known, fetch, reserved } = ahead;
        let fetched = self.join(fetch).await?;
        // What is known by now may leave nothing of the tile.
        if self.deferred.as_mut().is_some_and(|deferred| deferred.refresh() != known) {
            let Some((now, later)) = self.restrict(number, &mut block.clone(), false)? else {
                self.memory.give_back(reserved);
                return Ok(());
            };
            // The rows of a block that has shrunk are others: then they stay as they are.
            if let Some(now) = now
                && now.len() == block.rows()
            {
                rows = Some(both(rows, &now));
            }
            let has = |filter: &Predicate| {
                let columns = self.work.scan_columns(filter);
                columns.is_some_and(|columns| {
                    let first = self.first_columns(&filters);
                    columns
                        .iter()
                        .all(|column| self.work.scan.is_local(*column) || first.contains(column))
                })
            };
            let later: Vec<Predicate> = later.into_iter().filter(|filter| has(filter)).collect();
            if !later.is_empty() {
                filters = later;
            }
        }
        let mut tile = self.work.scan.local(&[], block).map_err(external)?;
        let decoded = self.work.scan.decode(fetched, &mut tile).await.map_err(external)?;
        self.metrics.decoded(decoded);
        for filter in &filters {
            let Some(columns) = self.work.scan_columns(filter) else { continue };
            self.work.scan.add_local(&columns, &mut tile).map_err(external)?;
            let timer = Instant::now();
            let is_full = filter.dims().len() == tile.block().selections().len();
            let wanted = rows.as_ref().filter(|_| is_full);
            let mask = evaluate(&tile, filter, &columns, self.batch_size, wanted);
            let decides = self.work.filters.iter().any(|own| own.expr() == filter.expr());
            let mask = match mask {
                Ok(mask) => mask,
                Err(error) if decides => return Err(error),
                Err(_) => continue,
            };
            let mask = if is_full { mask } else { on_rows(&tile, filter, mask)? };
            rows = Some(both(rows, &mask));
            self.metrics.evaluating(timer.elapsed());
            // Other tasks get their turn.
            tokio::task::yield_now().await;
            if rows.as_ref().is_some_and(|rows| rows.count_set_bits() == 0) {
                self.memory.give_back(reserved);
                self.done += 1;
                return Ok(());
            }
        }
        if let Some(all) = &rows
            && all.count_set_bits() == all.len()
        {
            rows = None;
        }
        let missing: Vec<usize> =
            self.work.output.iter().copied().filter(|&column| !tile.has(column)).collect();
        let needed = self.work.scan.cost(&missing, tile.block());
        let mut filtered = Filtered { tile, rows, fetch: None, reserved };
        if missing.iter().any(|&column| !self.work.scan.is_local(column)) {
            self.memory.take(needed)?;
            filtered.reserved += needed;
            let block = filtered.tile.block();
            filtered.fetch = Some(self.work.scan.fetch(&missing, block, filtered.rows.as_ref()));
        }
        self.filtered.push_back(filtered);
        Ok(())
    }

    /// Waits for a fetch, and counts what it brought.
    async fn join(&self, fetch: FetchTask) -> Result<Fetched> {
        let waiting = Instant::now();
        let fetched = fetch.join().await;
        self.metrics.waiting(waiting.elapsed());
        let fetched = fetched.map_err(external)?;
        self.metrics.count(fetched.counts());
        Ok(fetched)
    }

    /// Makes the rows of a tile those that are given out.
    async fn open(&mut self, filtered: Filtered) -> Result<()> {
        let Filtered { mut tile, rows: wanted, fetch, reserved } = filtered;
        if let Some(fetch) = fetch {
            let fetched = self.join(fetch).await?;
            let decoded = self.work.scan.decode(fetched, &mut tile).await.map_err(external)?;
            self.metrics.decoded(decoded);
        }
        self.work.scan.add_local(&self.work.output, &mut tile).map_err(external)?;
        let dims: Vec<usize> = (0..tile.block().selections().len()).collect();
        let rows = tile.rows(&dims, &self.work.output).map_err(external)?;
        self.metrics.peak_memory(self.work.scan.peak_memory());
        self.current = Some(Current { rows, wanted, next: 0, reserved });
        Ok(())
    }

    /// The next rows of the tile at hand.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        while let Some(current) = &mut self.current {
            let start = current.next;
            let mut len = (current.rows.len() - start).min(self.batch_size);
            if len == 0 {
                let reserved = current.reserved;
                self.current = None;
                self.memory.give_back(reserved);
                self.done += 1;
                continue;
            }
            if let (None, Some(remaining)) = (&current.wanted, self.remaining) {
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
            self.metrics.broadcasting(timer.elapsed());
            let options = RecordBatchOptions::new().with_row_count(Some(count));
            let schema = Arc::clone(&self.work.schema);
            let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
            let waiting: usize = self.few.iter().map(RecordBatch::num_rows).sum();
            let mut enough = self.batch_size.min(self.remaining.unwrap_or(usize::MAX)) / 2;
            if !self.work.deferred.is_empty() {
                // What an operator above sees may end the scan.
                enough = enough.min(self.given);
            }
            if waiting == 0 && count >= enough {
                return Ok(Some(batch));
            }
            self.few.push(batch);
            if waiting + count >= enough {
                return self.take_few();
            }
        }
        Ok(None)
    }

    fn take_few(&mut self) -> Result<Option<RecordBatch>> {
        let few = std::mem::take(&mut self.few);
        if few.len() <= 1 {
            return Ok(few.into_iter().next());
        }
        Ok(Some(concat_batches(&self.work.schema, &few)?))
    }

    /// As much of a batch as a limit allows.
    fn limited(&mut self, batch: RecordBatch) -> RecordBatch {
        self.given += batch.num_rows();
        let Some(remaining) = &mut self.remaining else { return batch };
        let len = batch.num_rows().min(*remaining);
        *remaining -= len;
        batch.slice(0, len)
    }

    /// Gives up what is under way, and tells what was read.
    fn finish(&mut self) {
        if self.finished {
            return;
        }
        self.finished = true;
        self.ahead.clear();
        self.filtered.clear();
        self.current = None;
        self.few.clear();
        self.work.scan.unshare_memory(self.shared);
        self.memory.reservation.free();
        if let Some(sum) = self.tiles.execution().finish(self.metrics.asked()) {
            self.metrics.finish(sum, self.work.scan.all_chunks());
        }
    }
}

/// A stream may be dropped before its end.
impl Drop for Reader {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Work {
    /// A predicate's columns by their positions in the scan; `None` if it doesn't read one of them.
    fn scan_columns(&self, filter: &Predicate) -> Option<Vec<usize>> {
        let position = |column| self.columns.iter().position(|own| own == column);
        filter.columns().iter().map(position).collect()
    }
}

/// Memory of the session's pool.
struct Memory {
    reservation: MemoryReservation,
    pool: Arc<dyn MemoryPool>,
    limit: usize,
}

impl Memory {
    /// Takes what is necessary.
    fn take(&self, bytes: usize) -> Result<()> {
        self.reservation.try_grow(bytes).map_err(|error| {
            error.context(format!(
                "a chunk of the scan takes {:.1} MB of memory, which the limit doesn't leave: raise \
                 it (-m), or lower datafusion.execution.target_partitions",
                bytes as f64 / 1e6
            ))
        })
    }

    /// Takes what would be of use, as long as half of the memory is left for others.
    fn take_spare(&self, bytes: usize) -> bool {
        let half = self.limit / 2;
        self.pool.reserved().saturating_add(bytes) <= half
            && self.reservation.try_grow(bytes).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.reservation.shrink(bytes.min(self.reservation.size()));
    }
}

/// Evaluates a predicate on a tile, at its own rank, so many rows at a time; as far as only some rows
/// are wanted, on these.
fn evaluate(
    tile: &Tile,
    filter: &Predicate,
    columns: &[usize],
    batch_size: usize,
    wanted: Option<&BooleanBuffer>,
) -> Result<BooleanBuffer> {
    let rows = tile.rows(filter.dims(), columns).map_err(external)?;
    let mut mask = BooleanBufferBuilder::new(rows.len());
    let mut start = 0;
    while start < rows.len() {
        let len = (rows.len() - start).min(batch_size);
        let wanted = wanted.map(|wanted| wanted.slice(start, len));
        let count = wanted.as_ref().map_or(len, BooleanBuffer::count_set_bits);
        if count == 0 {
            mask.append_n(len, false);
            start += len;
            continue;
        }
        let mut columns = rows.slice(start, len).map_err(external)?;
        // A row that isn't wanted must not make the predicate fail either.
        let some = wanted.filter(|_| count < len).map(|wanted| BooleanArray::new(wanted, None));
        if let Some(some) = &some {
            for column in &mut columns {
                *column = filter_rows(column, some)?;
            }
        }
        let values = filter.evaluate(columns, count)?;
        let holds = match values.nulls() {
            // NULL is not true.
            Some(nulls) => values.values() & nulls.inner(),
            None => values.values().clone(),
        };
        match some {
            None => mask.append_buffer(&holds),
            Some(some) => {
                let first = mask.len();
                mask.append_n(len, false);
                for (position, row) in some.values().set_indices().enumerate() {
                    mask.set_bit(first + row, holds.value(position));
                }
            }
        }
        start += len;
    }
    Ok(mask.finish())
}

/// A predicate's mask, which has its own rank, as one value for each row of a tile.
fn on_rows(tile: &Tile, filter: &Predicate, mask: BooleanBuffer) -> Result<BooleanBuffer> {
    let mask: ArrayRef = Arc::new(BooleanArray::new(mask, None));
    let mask = tile.broadcast(&mask, filter.dims()).map_err(external)?;
    Ok(mask.as_boolean().values().clone())
}

fn both(one: Option<BooleanBuffer>, other: &BooleanBuffer) -> BooleanBuffer {
    match one {
        Some(one) => &one & other,
        None => other.clone(),
    }
}
