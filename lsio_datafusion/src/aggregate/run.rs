//! One execution: workers take tiles from one queue.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use arrow::{array::RecordBatch, buffer::BooleanBuffer};
use datafusion::{common::internal_err, error::Result};
use lsio_core::{
    Recycler,
    read::{Pieces, Scratch, Tile},
};
use tokio::sync::{Notify, mpsc::Sender};

use super::{
    cell_keys::Dictionary,
    dense::{DenseResults, DenseTarget},
    finished::{FinishedShare, FinishedShares, send},
    keys::CellGroups,
    output::{self, Places},
    pencils::{GroupSizes, SlabPencils},
    plan::Aggregation,
    reduce::{TileInput, reduce},
    slabs::{Slab, Slabs},
    state::SlabState,
};
use crate::scan::{PartitionMemory, ReadyTile, Shares, TileReader};

/// Bounds of one execution.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunLimits {
    pub(super) workers: usize,
    /// States of a slab: with one for each worker none waits.
    pub(super) copies: usize,
    /// Bytes of states from which on only the worker that is furthest behind opens a slab.
    pub(super) most_bytes: usize,
    /// Upper bound on the combinations of keys that vary along data.
    pub(super) most_combinations: usize,
    /// Rows of a batch of the output.
    pub(super) batch_size: usize,
}

/// One of the workers that take tiles from the queue.
struct Worker {
    index: usize,
    reader: TileReader,
    scratch: Scratch,
}

/// Cells of a tile, or of a strip of one.
struct TileCells<'a> {
    tile: &'a Tile,
    /// The wanted rows, if not all.
    rows: Option<&'a BooleanBuffer>,
    /// Columns that are decoded in pieces.
    pieces: Option<Pieces>,
}

/// State shared by the workers of one execution.
pub(super) struct AggregateRun {
    plan: Arc<Aggregation>,
    groups: Arc<CellGroups>,
    sizes: GroupSizes,
    /// Combinations of the keys that vary along data.
    dictionary: Option<Dictionary>,
    slabs: Slabs,
    shares: Arc<Shares>,
    /// Whether columns are decoded in pieces.
    streams: bool,
    batch_size: usize,
    /// Upper bound on the states of a slab.
    copies: usize,
    memory: PartitionMemory,
    /// Memory of results, which comes back from those who have read them.
    recycler: Arc<Recycler>,
    /// Slabs with states, by number.
    open: Mutex<BTreeMap<u64, Arc<OpenSlab>>>,
    /// Bytes of all states.
    bytes: AtomicUsize,
    /// Bytes from which on only the worker that is furthest behind opens a slab.
    most_bytes: usize,
    /// The tile of each worker.
    at: Vec<AtomicU64>,
    moved: Notify,
    /// Workers that haven't finished.
    running: AtomicUsize,
    given: AtomicBool,
    /// Results of shares, until they are sent.
    finished: FinishedShares,
    /// Arrays to which results are added, in place of rows.
    dense: Option<DenseTarget>,
}

/// Slab under reduction.
struct OpenSlab {
    slab: Slab,
    copies: Vec<Mutex<Option<SlabState>>>,
    /// Values that are kept, by all workers together.
    pencils: RwLock<Option<SlabPencils>>,
    bytes: AtomicUsize,
}

impl AggregateRun {
    pub(super) fn new(
        plan: Arc<Aggregation>,
        groups: Arc<CellGroups>,
        (slabs, shares): (Slabs, Arc<Shares>),
        memory: PartitionMemory,
        RunLimits { workers, copies, most_bytes, batch_size, most_combinations }: RunLimits,
    ) -> Result<Self> {
        // Shared states must not be locked for as long as decoding takes.
        let streams = copies >= workers && !plan.streamed.is_empty();
        let sizes = GroupSizes::new(&groups);
        let dictionary = plan.cell_keys.as_ref();
        let dictionary = dictionary.map(|keys| Dictionary::new(keys, most_combinations));
        Ok(Self {
            dictionary: dictionary.transpose()?,
            plan,
            groups,
            sizes,
            slabs,
            shares,
            streams,
            batch_size,
            copies,
            memory,
            recycler: Arc::default(),
            open: Mutex::default(),
            bytes: AtomicUsize::new(0),
            most_bytes,
            moved: Notify::new(),
            at: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            running: AtomicUsize::new(workers),
            given: AtomicBool::new(false),
            finished: FinishedShares::default(),
            dense: None,
        })
    }

    /// The same run, whose results are added to arrays.
    pub(super) fn into_dense(self, dense: DenseTarget) -> Self {
        Self { dense: Some(dense), ..self }
    }

    /// The results that were added to arrays, when all workers have finished.
    pub(super) fn dense_results(&self) -> Result<DenseResults> {
        match &self.dense {
            Some(dense) => dense.finish(&self.plan, &self.groups),
            None => internal_err!("the results of an aggregate were sent as rows"),
        }
    }

    /// Reduces a reader's tiles, and sends finished slabs.
    pub(super) async fn work(
        self: Arc<Self>,
        index: usize,
        reader: TileReader,
        rows: Sender<Result<RecordBatch>>,
    ) -> Result<()> {
        let mut worker = Worker { index, reader, scratch: Scratch::default() };
        while let Some(mut ready) = worker.reader.next(None).await? {
            self.move_to(index, ready.number);
            let tiles = worker.reader.work().scan.tiles();
            let number = self.slabs.number(ready.tile.block(), tiles);
            self.go_on(&worker, Some(self.slabs.share_of(number)), &rows).await?;
            self.wait_for_others(index, number).await;
            if let Some(mut strips) = worker.reader.strips(&mut ready).await? {
                while let Some((tile, rows)) = worker.reader.next_strip(&mut strips, &ready).await?
                {
                    let cells = TileCells { tile: &tile, rows: rows.as_ref(), pieces: None };
                    self.reduce(&mut worker, number, cells)?;
                    tokio::task::yield_now().await;
                }
            } else {
                let pieces = self.pieces(&worker.reader, &mut ready);
                worker.reader.decode(&mut ready).await?;
                let rows = ready.rows.as_ref();
                self.reduce(&mut worker, number, TileCells { tile: &ready.tile, rows, pieces })?;
            }
            worker.reader.give_back(ready.reserved);
            drop(ready);
            // Yields to other tasks.
            tokio::task::yield_now().await;
        }
        self.move_to(index, u64::MAX);
        worker.reader.finish();
        self.go_on(&worker, None, &rows).await?;
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            // All workers are past the last tile now.
            self.end(&rows).await?;
        }
        Ok(())
    }

    /// Releases all memory; unfinished work is dropped.
    pub(super) fn release(&self) {
        self.memory.give_back_all();
    }

    fn move_to(&self, worker: usize, tile: u64) {
        self.at[worker].store(tile, Ordering::SeqCst);
        self.moved.notify_waiters();
    }

    /// First tile that some worker isn't past.
    fn behind(&self) -> u64 {
        self.at.iter().map(|at| at.load(Ordering::SeqCst)).min().unwrap_or(u64::MAX)
    }

    /// Waits for the other workers before opening a slab, if the open ones take much memory. The worker that
    /// is furthest behind never waits: it closes slabs when it moves on.
    async fn wait_for_others(&self, worker: usize, slab: u64) {
        loop {
            let moved = self.moved.notified();
            let is_open = || {
                let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                open.contains_key(&slab)
            };
            let is_last = self.at[worker].load(Ordering::SeqCst) <= self.behind();
            if self.bytes.load(Ordering::Relaxed) < self.most_bytes || is_last || is_open() {
                return;
            }
            moved.await;
        }
    }

    /// Takes the columns that can be decoded in pieces out of a fetched tile.
    fn pieces(&self, reader: &TileReader, ready: &mut ReadyTile) -> Option<Pieces> {
        let (true, None, Some(fetched)) = (self.streams, &ready.rows, &mut ready.fetched) else {
            return None;
        };
        let work = reader.work();
        let position = |column| work.columns.binary_search(column).ok();
        let columns: Vec<usize> = self.plan.streamed.iter().map(position).collect::<Option<_>>()?;
        work.scan.take_pieces(fetched, &columns, ready.tile.block())
    }

    /// Adds cells to the worker's state of the slab of this number.
    fn reduce(
        &self,
        Worker { index, reader, scratch }: &mut Worker,
        number: u64,
        TileCells { tile, rows, pieces }: TileCells<'_>,
    ) -> Result<()> {
        let timer = Instant::now();
        let open = self.open(number);
        self.open_pencils(&open)?;
        let pencils = open.pencils.read().unwrap_or_else(PoisonError::into_inner);
        let copy = &open.copies[*index % open.copies.len()];
        let mut copy = copy.lock().unwrap_or_else(PoisonError::into_inner);
        let state = match &mut *copy {
            Some(state) => state,
            None => {
                let bytes = open.slab.groups.saturating_mul(self.plan.group_bytes());
                self.take(&open, bytes)?;
                copy.insert(SlabState::new(&self.plan, open.slab.groups)?)
            }
        };
        let columns = &reader.work().columns;
        let input = TileInput {
            groups: &self.groups,
            slab: &open.slab,
            tile,
            rows,
            pieces,
            position: &|column| columns.binary_search(&column).ok(),
            batch_size: self.batch_size,
            dictionary: self.dictionary.as_ref(),
            pencils: pencils.as_ref().map_or(&[], SlabPencils::pencils),
        };
        let (groups, numbers) = (state.groups, state.size_of_numbers());
        let decoded = reduce(&self.plan, &input, scratch, state)?;
        let more = state.groups.saturating_sub(groups);
        let more = more.saturating_mul(self.plan.group_bytes());
        self.take(&open, more + state.size_of_numbers().saturating_sub(numbers))?;
        if !self.plan.accumulated.is_empty() {
            let size = state.size_of_accumulators();
            let more = size.saturating_sub(state.accumulator_bytes);
            state.accumulator_bytes += more;
            self.take(&open, more)?;
        }
        reader.metrics().decoded(decoded);
        reader.metrics().aggregating(timer.elapsed().saturating_sub(decoded.time));
        Ok(())
    }

    /// Makes place for the values that are kept of a slab.
    fn open_pencils(&self, open: &OpenSlab) -> Result<()> {
        if self.plan.pencils.is_empty() {
            return Ok(());
        }
        let mut pencils = open.pencils.write().unwrap_or_else(PoisonError::into_inner);
        if pencils.is_none() {
            self.take(open, SlabPencils::bytes(&self.plan, &self.sizes, &open.slab))?;
            *pencils = Some(SlabPencils::new(&self.plan, &self.sizes, &open.slab)?);
        }
        Ok(())
    }

    fn take(&self, open: &OpenSlab, bytes: usize) -> Result<()> {
        self.memory.take(bytes, "the state of the aggregate's groups")?;
        open.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn open(&self, number: u64) -> Arc<OpenSlab> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let slab = open.entry(number).or_insert_with(|| {
            Arc::new(OpenSlab {
                slab: self.slabs.slab(number),
                copies: (0..self.copies).map(|_| Mutex::new(None)).collect(),
                pencils: RwLock::default(),
                bytes: AtomicUsize::new(0),
            })
        });
        Arc::clone(slab)
    }

    /// Notes that a worker goes on with a tile of this share, or ends. Makes and sends the results of shares that all
    /// workers are past.
    async fn go_on(
        &self,
        worker: &Worker,
        share: Option<u64>,
        rows: &Sender<Result<RecordBatch>>,
    ) -> Result<()> {
        for done in self.shares.go_on(worker.index, share) {
            let mut finished = FinishedShare::default();
            for slab in self.slabs.of_share(done) {
                let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&slab);
                if let Some(open) = open {
                    self.finish(worker, &open, &mut finished).await?;
                }
            }
            self.finished.add(done, finished);
            let sent = |bytes| {
                self.bytes.fetch_sub(bytes, Ordering::Relaxed);
                self.moved.notify_waiters();
            };
            self.finished.send(rows, self.batch_size, sent).await;
        }
        Ok(())
    }

    /// Sends the row of an aggregate without keys and without cells.
    async fn end(&self, rows: &Sender<Result<RecordBatch>>) -> Result<()> {
        if !self.plan.is_grouped() && !self.given.load(Ordering::Acquire) {
            let slab = self.slabs.slab(0);
            let state = SlabState::new(&self.plan, slab.groups)?;
            let pencils = SlabPencils::empty(&self.plan)?;
            let ordered = pencils.evaluate(&self.plan).await?;
            let (plan, groups, memory) = (&self.plan, &self.groups, &self.recycler);
            let batch = output::rows(plan, groups, &slab, state, &ordered, None, memory)?;
            send(batch, self.batch_size, rows).await;
        }
        Ok(())
    }

    /// Makes the results of a slab.
    async fn finish(
        &self,
        worker: &Worker,
        open: &OpenSlab,
        finished: &mut FinishedShare,
    ) -> Result<()> {
        let timer = Instant::now();
        let mut whole: Option<SlabState> = None;
        let mut states = 0;
        for copy in &open.copies {
            let state = copy.lock().unwrap_or_else(PoisonError::into_inner).take();
            states += usize::from(state.is_some());
            match (&mut whole, state) {
                (Some(whole), Some(state)) => whole.merge(state)?,
                (None, state) => whole = state,
                (Some(_), None) => {}
            }
        }
        let pencils = open.pencils.write().unwrap_or_else(PoisonError::into_inner).take();
        let bytes = open.bytes.load(Ordering::Relaxed);
        finished.bytes += bytes;
        let Some(state) = whole else {
            self.memory.give_back(bytes);
            return Ok(());
        };
        let ordered = match pencils {
            Some(pencils) => pencils.evaluate(&self.plan).await?,
            None => Vec::new(),
        };
        match &self.dense {
            Some(dense) => {
                let results =
                    output::results(&self.plan, state, &ordered, Places::All, &self.recycler)?;
                dense.add(&open.slab, &results)?;
            }
            None => {
                let (groups, dictionary) = (&self.groups, self.dictionary.as_ref());
                let (plan, slab, memory) = (&self.plan, &open.slab, &self.recycler);
                let batch = output::rows(plan, groups, slab, state, &ordered, dictionary, memory)?;
                finished.batches.push(batch);
            }
        }
        self.memory.give_back(bytes);
        self.given.store(true, Ordering::Release);
        worker.reader.metrics().finishing(timer.elapsed(), states);
        Ok(())
    }
}
