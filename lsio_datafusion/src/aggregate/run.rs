//! One execution: workers that take tiles from one queue.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use arrow::array::RecordBatch;
use datafusion::error::Result;
use lsio_core::read::{Decoded, Pieces, Scratch};
use tokio::sync::{Notify, mpsc::Sender};

use super::{
    keys::CellGroups,
    output,
    plan::Aggregation,
    reduce::{TileInput, reduce},
    slabs::{Slab, Slabs},
    state::SlabState,
};
use crate::scan::{PartitionMemory, ReadyTile, TileReader};

/// Bounds of one execution.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunLimits {
    pub(super) workers: usize,
    /// States of a slab: with one for each worker none waits.
    pub(super) copies: usize,
    /// Bytes of states from which on only the worker that is furthest behind opens a slab.
    pub(super) most_bytes: usize,
    /// Rows of a batch of the output.
    pub(super) batch_size: usize,
}

/// One of the workers that take tiles from the queue.
struct Worker {
    index: usize,
    reader: TileReader,
    scratch: Scratch,
}

/// State shared by the workers of one execution.
pub(super) struct AggregateRun {
    plan: Arc<Aggregation>,
    groups: Arc<CellGroups>,
    slabs: Slabs,
    /// Whether columns may be decoded in pieces.
    streams: bool,
    batch_size: usize,
    /// The states of a slab, at most: with one for each worker none has to wait.
    copies: usize,
    memory: PartitionMemory,
    /// The slabs that have states, by number.
    open: Mutex<BTreeMap<u64, Arc<OpenSlab>>>,
    /// The bytes of their states.
    bytes: AtomicUsize,
    /// The bytes from which on a slab is opened only by the worker that is furthest behind.
    most_bytes: usize,
    /// The tile that each worker is at, and that one of them has moved.
    at: Vec<AtomicU64>,
    moved: Notify,
    /// The workers that aren't at their end.
    running: AtomicUsize,
    given: AtomicBool,
}

/// A slab whose tiles are being reduced.
struct OpenSlab {
    slab: Slab,
    copies: Vec<Mutex<Option<SlabState>>>,
    bytes: AtomicUsize,
}

impl AggregateRun {
    pub(super) fn new(
        plan: Arc<Aggregation>,
        groups: Arc<CellGroups>,
        slabs: Slabs,
        memory: PartitionMemory,
        RunLimits { workers, copies, most_bytes, batch_size }: RunLimits,
    ) -> Self {
        // Whoever shares states with others must not keep them for as long as decoding takes.
        let streams = copies >= workers && !plan.streamed.is_empty();
        Self {
            plan,
            groups,
            slabs,
            streams,
            batch_size,
            copies,
            memory,
            open: Mutex::default(),
            bytes: AtomicUsize::new(0),
            most_bytes,
            moved: Notify::new(),
            at: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            running: AtomicUsize::new(workers),
            given: AtomicBool::new(false),
        }
    }

    /// Reduces the tiles of a reader, and gives out slabs that are done.
    pub(super) async fn work(
        self: Arc<Self>,
        index: usize,
        reader: TileReader,
        rows: Sender<Result<RecordBatch>>,
    ) -> Result<()> {
        let mut worker = Worker { index, reader, scratch: Scratch::default() };
        let mut last = None;
        while let Some(mut ready) = worker.reader.next(None).await? {
            self.move_to(index, ready.number);
            let tiles = worker.reader.work().scan.tiles();
            let number = self.slabs.number(ready.tile.block(), tiles);
            if last.replace(number).is_some_and(|last| last != number) {
                self.close(&rows).await?;
            }
            self.wait_for_others(index, number).await;
            let pieces = self.pieces(&worker.reader, &mut ready);
            worker.reader.decode(&mut ready).await?;
            let timer = Instant::now();
            let decoded = self.reduce(&mut worker, number, &ready, pieces)?;
            worker.reader.metrics().decoded(decoded);
            worker.reader.metrics().aggregating(timer.elapsed().saturating_sub(decoded.time));
            worker.reader.give_back(ready.reserved);
            drop(ready);
            // Other tasks get their turn.
            tokio::task::yield_now().await;
        }
        self.move_to(index, u64::MAX);
        worker.reader.finish();
        self.close(&rows).await?;
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Now all have moved behind the last tile, and see that of each other.
            self.close(&rows).await?;
            self.end(&rows).await?;
        }
        Ok(())
    }

    /// Gives back all memory: what is under way is given up.
    pub(super) fn release(&self) {
        self.memory.give_back_all();
    }

    fn move_to(&self, worker: usize, tile: u64) {
        self.at[worker].store(tile, Ordering::SeqCst);
        self.moved.notify_waiters();
    }

    /// The first tile that some worker isn't past.
    fn behind(&self) -> u64 {
        self.at.iter().map(|at| at.load(Ordering::SeqCst)).min().unwrap_or(u64::MAX)
    }

    /// Lets the others catch up before another slab is opened, if the open ones take much memory. The
    /// worker that is furthest behind never waits, and closes slabs when it moves on.
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

    /// Takes what can be decoded in pieces out of what was fetched for a tile.
    fn pieces(&self, reader: &TileReader, ready: &mut ReadyTile) -> Option<Pieces> {
        let (true, None, Some(fetched)) = (self.streams, &ready.rows, &mut ready.fetched) else {
            return None;
        };
        let work = reader.work();
        let position = |column| work.columns.binary_search(column).ok();
        let columns: Vec<usize> = self.plan.streamed.iter().map(position).collect::<Option<_>>()?;
        work.scan.take_pieces(fetched, &columns, ready.tile.block())
    }

    /// Adds a tile to the worker's state of the slab of this number.
    fn reduce(
        &self,
        Worker { index, reader, scratch }: &mut Worker,
        number: u64,
        ready: &ReadyTile,
        pieces: Option<Pieces>,
    ) -> Result<Decoded> {
        let open = self.open(number);
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
            tile: &ready.tile,
            rows: ready.rows.as_ref(),
            pieces,
            position: &|column| columns.binary_search(&column).ok(),
            batch_size: self.batch_size,
        };
        let decoded = reduce(&self.plan, &input, scratch, state)?;
        if !self.plan.accumulated.is_empty() {
            let size = state.size_of_accumulators();
            let more = size.saturating_sub(state.accumulator_bytes);
            state.accumulator_bytes += more;
            self.take(&open, more)?;
        }
        Ok(decoded)
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
                bytes: AtomicUsize::new(0),
            })
        });
        Arc::clone(slab)
    }

    /// Gives out the slabs whose tiles all workers have behind them.
    async fn close(&self, rows: &Sender<Result<RecordBatch>>) -> Result<()> {
        let at = self.behind();
        loop {
            let done = {
                let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                let done = open.iter().find(|(_, open)| open.slab.last < at).map(|(n, _)| *n);
                done.and_then(|number| open.remove(&number))
            };
            let Some(done) = done else { return Ok(()) };
            self.give(&done, rows).await?;
        }
    }

    /// What is left when all workers are at their end.
    async fn end(&self, rows: &Sender<Result<RecordBatch>>) -> Result<()> {
        // Without keys there is a row even if there was no cell.
        if self.plan.keys.exprs.is_empty() && !self.given.load(Ordering::Acquire) {
            let slab = self.slabs.slab(0);
            let state = SlabState::new(&self.plan, slab.groups)?;
            self.send(output::rows(&self.plan, &self.groups, &slab, state)?, rows).await;
        }
        Ok(())
    }

    async fn give(&self, open: &OpenSlab, rows: &Sender<Result<RecordBatch>>) -> Result<()> {
        let mut whole: Option<SlabState> = None;
        for copy in &open.copies {
            let state = copy.lock().unwrap_or_else(PoisonError::into_inner).take();
            match (&mut whole, state) {
                (Some(whole), Some(state)) => whole.merge(state)?,
                (None, state) => whole = state,
                (Some(_), None) => {}
            }
        }
        if let Some(state) = whole {
            let batch = output::rows(&self.plan, &self.groups, &open.slab, state)?;
            let bytes = open.bytes.load(Ordering::Relaxed);
            self.memory.give_back(bytes);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.moved.notify_waiters();
            self.given.store(true, Ordering::Release);
            self.send(batch, rows).await;
        }
        Ok(())
    }

    async fn send(&self, batch: RecordBatch, rows: &Sender<Result<RecordBatch>>) {
        let mut start = 0;
        while start < batch.num_rows() {
            let len = self.batch_size.min(batch.num_rows() - start);
            // Nobody wants it any more if the other end is closed.
            if rows.send(Ok(batch.slice(start, len))).await.is_err() {
                return;
            }
            start += len;
        }
    }
}
