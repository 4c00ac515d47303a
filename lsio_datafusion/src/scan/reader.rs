//! Tiles of one partition: selection of wanted cells, and fetching of their chunks.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use arrow::{array::BooleanArray, buffer::BooleanBuffer, datatypes::SchemaRef};
use datafusion::{error::Result, execution::TaskContext, physical_expr::PhysicalExpr};
use lsio_core::{
    Table,
    read::{Block, FetchTask, Fetched, Scan, Strips, Tile},
};

use super::{
    ahead::{Budget, Share},
    masks::{both, evaluate, on_rows},
    memory::PartitionMemory,
    metrics::Metrics,
    queue::TileNumbers,
};
use crate::{
    error::external,
    predicate::{Deferred, Predicate},
};

/// Limits on reading ahead, beside the bytes of [`Budget`].
struct Reach {
    /// Upper bound on tiles fetched ahead.
    tiles: usize,
    /// Filtered tiles whose remaining columns are fetched while further tiles are filtered.
    filtered: usize,
}

/// Limits for local storage, which answers in microseconds.
const LOCAL: Reach = Reach { tiles: 32, filtered: 4 };

/// Limits over a network, where many requests wait for their answers at the same time.
const REMOTE: Reach = Reach { tiles: 256, filtered: 64 };

/// Upper bound on tiles fetched ahead where tiles continue each other: what one worker has fetched others wait for.
const CONTINUED_TILES: usize = 2;

/// Bytes of chunks kept for several tiles, as far as the pool allows: the tiles of a rolling mean of a week of hours need
/// a hundred megabytes of them.
const SHARED_BYTES: usize = 192 << 20;

const A_CHUNK: &str = "a chunk of the scan";

/// Scan as one partition reads it.
pub(crate) struct PartitionScan {
    pub(crate) scan: Arc<Scan>,
    /// Positions of the scan's columns in the table.
    pub(crate) columns: Vec<usize>,
    /// Positions of the output's columns in the scan.
    pub(crate) output: Vec<usize>,
    /// Predicates that decide on rows.
    pub(crate) filters: Vec<Predicate>,
    /// Predicates that may drop rows as far as they are known.
    pub(crate) deferred: Vec<Arc<dyn PhysicalExpr>>,
    pub(crate) table: Arc<Table>,
    pub(crate) table_schema: SchemaRef,
    pub(crate) partitions: usize,
    /// The end of a limit on the rows, if it is known before they are read.
    pub(crate) last: Option<LastTile>,
}

/// The last tile of which a limit leaves rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastTile {
    pub(crate) number: u64,
    /// The rows that are left.
    pub(crate) rows: usize,
}

/// Reader of tiles.
pub(crate) struct TileReader {
    work: PartitionScan,
    tiles: TileNumbers,
    batch_size: usize,
    reach: Reach,
    /// Part of the bytes fetched ahead in the process.
    share: Share,
    /// State of deferred predicates; `None` before the first poll.
    deferred: Option<Deferred>,
    /// Tiles whose first columns are being fetched.
    ahead: VecDeque<Ahead>,
    /// Filtered tiles whose remaining columns are being fetched.
    filtered: VecDeque<Filtered>,
    /// Bytes of the last tile's first columns: as they take memory, and as they are stored.
    cost: usize,
    stored: usize,
    /// Bytes reserved for chunks that several tiles need.
    shared: usize,
    /// Tiles that were read or had no wanted row.
    done: usize,
    memory: PartitionMemory,
    metrics: Metrics,
    finished: bool,
}

/// A filtered tile whose columns were fetched.
pub(crate) struct ReadyTile {
    pub(crate) number: u64,
    /// Cells, with the columns that predicates needed.
    pub(crate) tile: Tile,
    /// Wanted rows, if not all.
    pub(crate) rows: Option<BooleanBuffer>,
    /// Chunks to decode.
    pub(crate) fetched: Option<Fetched>,
    /// Bytes reserved for it, for [`TileReader::give_back`].
    pub(crate) reserved: usize,
}

struct Ahead {
    number: u64,
    block: Block,
    rows: Option<BooleanBuffer>,
    /// Predicates on its first columns.
    filters: Vec<Predicate>,
    /// State of deferred predicates when it was fetched.
    known: usize,
    fetch: FetchTask,
    reserved: usize,
    /// Bytes of the share.
    stored: usize,
}

struct Filtered {
    number: u64,
    tile: Tile,
    rows: Option<BooleanBuffer>,
    rest: Rest,
    reserved: usize,
    /// Bytes of the share.
    stored: usize,
}

/// Columns that aren't decoded yet.
enum Rest {
    None,
    Fetching(FetchTask),
    Fetched(Fetched),
}

/// Rows of a tile that are still wanted, if not all, and predicates on data.
type Restricted = (Option<BooleanBuffer>, Vec<Predicate>);

impl TileReader {
    /// Reader of the tiles of these numbers.
    pub(crate) fn new(
        work: PartitionScan,
        tiles: TileNumbers,
        context: &TaskContext,
        metrics: Metrics,
    ) -> Self {
        let is_remote = work.scan.is_remote();
        Self {
            reach: if is_remote { REMOTE } else { LOCAL },
            share: Budget::of(is_remote).share(),
            batch_size: context.session_config().batch_size().max(1),
            memory: PartitionMemory::new("ZarrScan", context),
            work,
            tiles,
            metrics,
            deferred: None,
            ahead: VecDeque::new(),
            filtered: VecDeque::new(),
            cost: 0,
            stored: 0,
            shared: 0,
            done: 0,
            finished: false,
        }
    }

    pub(crate) fn work(&self) -> &PartitionScan {
        &self.work
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns the next tile with wanted rows, at most `remaining` of them.
    pub(crate) async fn next(&mut self, remaining: Option<usize>) -> Result<Option<ReadyTile>> {
        if self.deferred.is_none() {
            self.start(remaining).await?;
        }
        loop {
            self.fetch_ahead(remaining).await?;
            if self.filters_further() && self.next_is_filter() {
                self.filter().await?;
            } else if let Some(filtered) = self.filtered.pop_front() {
                self.share.give_back(filtered.stored);
                return self.fetched(filtered).await.map(Some);
            } else if self.ahead.is_empty() {
                return Ok(None);
            } else {
                self.filter().await?;
            }
        }
    }

    /// Decodes a tile's remaining columns, and adds those in memory.
    pub(crate) async fn decode(&self, ready: &mut ReadyTile) -> Result<()> {
        if let Some(fetched) = ready.fetched.take() {
            let decoded = self.work.scan.decode(fetched, &mut ready.tile).await;
            self.metrics.decoded(decoded.map_err(external)?);
        }
        self.work.scan.add_local(&self.work.output, &mut ready.tile).map_err(external)?;
        self.metrics.peak_memory(self.work.scan.peak_memory());
        Ok(())
    }

    /// Decodes a tile's remaining columns, but computes none: [`TileReader::next_strip`] does. `None`, with nothing done,
    /// if there is none to compute.
    pub(crate) async fn strips(&self, ready: &mut ReadyTile) -> Result<Option<Strips>> {
        // Where tiles continue each other, all are computed as a whole or none is.
        let whole = self.work.scan.continues() && !self.work.filters.is_empty();
        let Some(fetched) = ready.fetched.take_if(|own| own.has_derived() && !whole) else {
            return Ok(None);
        };
        let strips = self.work.scan.strips(fetched, &ready.tile).await;
        let (strips, decoded) = strips.map_err(external)?;
        self.metrics.decoded(decoded);
        Ok(Some(strips))
    }

    /// The next part of a tile, with all columns, and its wanted rows.
    pub(crate) async fn next_strip(
        &self,
        strips: &mut Strips,
        ready: &ReadyTile,
    ) -> Result<Option<(Tile, Option<BooleanBuffer>)>> {
        let strip = self.work.scan.next_strip(strips, &ready.tile, &self.work.output).await;
        let Some(strip) = strip.map_err(external)? else {
            self.metrics.peak_memory(self.work.scan.peak_memory());
            return Ok(None);
        };
        let rows = ready.rows.as_ref().map(|rows| ready.tile.rows_of(strip.block(), rows));
        Ok(Some((strip, rows.transpose().map_err(external)?)))
    }

    /// Releases the memory of a tile.
    pub(crate) fn give_back(&mut self, reserved: usize) {
        self.memory.give_back(reserved);
        self.done += 1;
    }

    /// Whether deferred predicates may drop rows.
    pub(crate) fn may_end_early(&self) -> bool {
        !self.work.deferred.is_empty()
    }

    /// Drops pending fetches, and records the metrics.
    pub(crate) fn finish(&mut self) {
        if self.finished {
            return;
        }
        self.finished = true;
        self.ahead.clear();
        self.filtered.clear();
        self.share.give_back_all();
        self.work.scan.unshare_memory(self.shared);
        self.memory.give_back_all();
        if let Some(sum) = self.tiles.execution().finish(self.metrics.asked()) {
            self.metrics.finish(sum, self.work.scan.all_chunks());
        }
    }

    /// Prepares at run time, when dynamic filters are known.
    async fn start(&mut self, remaining: Option<usize>) -> Result<()> {
        if self.work.scan.continues() {
            let bytes = self.work.scan.carried_bytes() / self.work.partitions.max(1);
            self.memory.take(bytes, "the state of a window")?;
        }
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
        if self.work.scan.is_remote() && !self.is_restricted() {
            // Fetches chunks and whole columns concurrently.
            self.fetch_ahead(remaining).await?;
        }
        self.work.scan.load().await.map_err(external)
    }

    /// Whether columns that are read as a whole may exclude chunks.
    fn is_restricted(&self) -> bool {
        let is_local = |filter: &Predicate| {
            let columns = self.work.scan_columns(filter);
            columns.is_some_and(|columns| columns.iter().all(|&c| self.work.scan.is_local(c)))
        };
        self.may_end_early() || self.work.filters.iter().any(is_local)
    }

    /// Whether to filter a tile next, while the remaining columns of others are fetched.
    fn next_is_filter(&self) -> bool {
        self.ahead.front().is_some_and(|ahead| !ahead.filters.is_empty())
    }

    /// Whether another tile may be filtered before the filtered ones are used.
    fn filters_further(&self) -> bool {
        self.filtered.is_empty()
            || (self.filtered.len() < self.reach.filtered && !self.share.is_used_up())
    }

    /// Upper bound on tiles fetched at the same time.
    fn most_ahead(&self, remaining: Option<usize>) -> usize {
        let tiles = self.work.scan.tiles();
        let partitions = self.work.partitions.max(1) as u64;
        let is_remote = self.work.scan.is_remote();
        // A tile taken by one partition can't go to another, so some are left for all. Where all can be
        // requested at once, that is worth more than an even end.
        let share = match is_remote {
            true => tiles.len().div_ceil(partitions),
            false => tiles.len() / (2 * partitions),
        };
        let mut most = self.reach.tiles.min(usize::try_from(share).unwrap_or(usize::MAX));
        if self.work.scan.continues() && !is_remote {
            most = most.min(CONTINUED_TILES);
        }
        if self.work.last.is_some() {
            // All tiles up to there are needed.
        } else if let (Some(remaining), true) = (remaining, self.work.filters.is_empty()) {
            let rows = tiles.shape().iter().copied().fold(1, u64::saturating_mul).max(1);
            let needed = (remaining as u64).div_ceil(rows);
            most = most.min(usize::try_from(needed).unwrap_or(usize::MAX));
        } else if remaining.is_some() || !self.work.deferred.is_empty() {
            // The first rows may suffice, which an operator above says in a filter.
            most = most.min(if is_remote { 1 + 3 * self.done } else { 1 + self.done });
        }
        most.max(1)
    }

    /// Starts fetches as long as there is memory for them.
    async fn fetch_ahead(&mut self, remaining: Option<usize>) -> Result<()> {
        let most = self.most_ahead(remaining);
        while self.ahead.len() + self.filtered.len() < most {
            let is_first = self.ahead.is_empty() && self.filtered.is_empty();
            let likely = self.stored;
            if !self.share.take(likely, is_first) {
                break;
            }
            // Reserves memory before taking a tile, as no other partition can take it then: as much as the
            // last one needed.
            let guess = self.cost;
            if !is_first && !self.memory.take_spare(guess) {
                self.share.give_back(likely);
                break;
            }
            let reserved = if is_first { 0 } else { guess };
            let Some(number) = self.tiles.next() else {
                self.share.give_back(likely);
                self.memory.give_back(reserved);
                break;
            };
            let known = self.deferred.as_mut().map_or(0, Deferred::refresh);
            let mut block = self.work.scan.tiles().block(number);
            let Some((rows, filters)) = self.restrict(number, &mut block, true)? else {
                self.share.give_back(likely);
                self.memory.give_back(reserved);
                // Yields to other tasks, as there may be many of these.
                tokio::task::yield_now().await;
                continue;
            };
            if let Some(last) = &self.work.last
                && last.number == number
            {
                block.keep_first(last.rows);
            }
            let first = self.first_columns(&filters);
            self.cost = self.work.scan.cost(&first, &block);
            self.stored = self.work.scan.stored(&first, &block);
            self.share.correct(likely, self.stored);
            let stored = self.stored;
            self.memory.give_back(reserved.saturating_sub(self.cost));
            self.memory.take(self.cost.saturating_sub(reserved), A_CHUNK)?;
            let fetch = self.work.scan.fetch(&first, &block, rows.as_ref());
            let reserved = self.cost;
            let ahead = Ahead { number, block, rows, filters, known, fetch, reserved, stored };
            self.ahead.push_back(ahead);
        }
        Ok(())
    }

    /// Applies predicates that need no data, to the indices of the block and to rows. Returns those that need
    /// data; `None` if no cell is left.
    fn restrict(
        &mut self,
        number: u64,
        block: &mut Block,
        skip: bool,
    ) -> Result<Option<Restricted>> {
        let timer = Instant::now();
        let mut rows: Option<BooleanBuffer> = None;
        let mut later = Vec::new();
        // Tiles that continue each other are read as a whole, all of them.
        let continues = self.work.scan.continues();
        let deferred = self.deferred.as_ref().filter(|_| !continues);
        let deferred = deferred.map_or(&[][..], Deferred::current);
        let all = self.work.filters.iter().map(|f| (f, true));
        let mut several = Vec::new();
        let mut none_left = None;
        for (filter, decides) in all.chain(deferred.iter().map(|f| (f, false))) {
            let Some(columns) = self.work.scan_columns(filter) else { continue };
            if !columns.iter().all(|&column| self.work.scan.is_local(column)) {
                later.push(filter.clone());
                continue;
            }
            let (&[dim], false) = (filter.dims(), continues) else {
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
                // The following tiles have the same indices along this dimension.
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
        if !continues && rows.as_ref().is_some_and(|rows| rows.count_set_bits() == 0) {
            return Ok(None);
        }
        Ok(Some((rows, later)))
    }

    /// Columns fetched first: those of the predicates, or all.
    fn first_columns(&self, filters: &[Predicate]) -> Vec<usize> {
        if filters.is_empty() {
            return self.work.output.clone();
        }
        let mut columns: Vec<usize> =
            filters.iter().filter_map(|filter| self.work.scan_columns(filter)).flatten().collect();
        if self.work.scan.continues() {
            columns.extend(&self.work.output);
        }
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// Decodes the first columns of the next tile, and evaluates the predicates.
    async fn filter(&mut self) -> Result<()> {
        let Some(ahead) = self.ahead.pop_front() else { return Ok(()) };
        let Ahead { number, block, mut rows, mut filters, known, fetch, reserved, stored } = ahead;
        let fetched = self.join(fetch).await?;
        // It is no longer ahead.
        self.share.give_back(stored);
        // Filters known by now may exclude the whole tile.
        if self.deferred.as_mut().is_some_and(|deferred| deferred.refresh() != known) {
            let Some((now, later)) = self.restrict(number, &mut block.clone(), false)? else {
                self.give_back(reserved);
                return Ok(());
            };
            // Rows of a smaller block don't correspond: these stay as they are.
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
        if filters.is_empty() {
            let rest = Rest::Fetched(fetched);
            self.filtered.push_back(Filtered { number, tile, rows, rest, reserved, stored: 0 });
            return Ok(());
        }
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
            // Yields to other tasks.
            tokio::task::yield_now().await;
            if rows.as_ref().is_some_and(|rows| rows.count_set_bits() == 0) {
                self.give_back(reserved);
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
        let stored = self.work.scan.stored(&missing, tile.block());
        let mut filtered = Filtered { number, tile, rows, rest: Rest::None, reserved, stored: 0 };
        if missing.iter().any(|&column| !self.work.scan.is_local(column)) {
            self.memory.take(needed, A_CHUNK)?;
            filtered.reserved += needed;
            // Its other columns are there already.
            self.share.take(stored, true);
            filtered.stored = stored;
            let block = filtered.tile.block();
            let fetch = self.work.scan.fetch(&missing, block, filtered.rows.as_ref());
            filtered.rest = Rest::Fetching(fetch);
        }
        self.filtered.push_back(filtered);
        Ok(())
    }

    /// Waits for a fetch, and counts it.
    async fn join(&self, fetch: FetchTask) -> Result<Fetched> {
        let waiting = Instant::now();
        let fetched = fetch.join().await;
        self.metrics.waiting(waiting.elapsed());
        let fetched = fetched.map_err(external)?;
        self.metrics.count(fetched.counts());
        Ok(fetched)
    }

    /// Waits for the remaining columns of a tile.
    async fn fetched(&self, filtered: Filtered) -> Result<ReadyTile> {
        let Filtered { number, tile, rows, rest, reserved, .. } = filtered;
        let fetched = match rest {
            Rest::None => None,
            Rest::Fetching(fetch) => Some(self.join(fetch).await?),
            Rest::Fetched(fetched) => Some(fetched),
        };
        Ok(ReadyTile { number, tile, rows, fetched, reserved })
    }
}

/// A reader may be dropped before its end.
impl Drop for TileReader {
    fn drop(&mut self) {
        self.finish();
    }
}

impl PartitionScan {
    /// Positions of a predicate's columns in the scan; `None` if it lacks one.
    fn scan_columns(&self, filter: &Predicate) -> Option<Vec<usize>> {
        let position = |column| self.columns.iter().position(|own| own == column);
        filter.columns().iter().map(position).collect()
    }
}
