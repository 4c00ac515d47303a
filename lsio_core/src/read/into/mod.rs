//! Reads cells of a variable, in parallel, into memory that the caller owns.
//!
//! ```text
//! Wanted    which cells, and the place of each in the caller's memory; any number of them
//!   │ plan  the chunks that hold wanted cells, each once
//!   │ fetch chunk by chunk, several at a time, on as many threads as the machine has to spare
//!   ▼
//! Place     each chunk's cells, copied once: from the decoded chunk to where they belong
//! ```

mod cells;
mod memory;
mod plan;
mod threads;
mod values;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use futures::{StreamExt as _, stream};
use tokio::runtime::Handle;

pub use self::{
    cells::{Cells, Indices},
    memory::Place,
    values::ValuesAs,
};
use self::{plan::Plan, threads::Spare, values::Writer};
use super::{fetch::Fetcher, stored::Stored};
use crate::{Recycler, Result, Variable, chunks::ChunkIndex, transport::Counts, uring::PageCache};

/// Decoded bytes of the chunks that one thread takes at a time.
const TAKEN_BYTES: u64 = 1 << 20;

/// Upper bound on the groups of chunks that a thread fetches ahead of the one that it decodes.
const MOST_AHEAD: usize = 16;

/// Cells to read, and where to.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Which cells of the variable.
    pub cells: Cells,
    /// The memory, whose shape is [`Cells::shape`].
    pub place: Place<'a>,
}

/// How a read is done.
#[derive(Clone, Debug)]
pub struct ReadInto {
    /// The runtime that drives reads from stores. It must not be the one that the caller runs on.
    pub runtime: Handle,
    /// The page cache, from which local files are read where they are in it.
    pub page_cache: Option<PageCache>,
    /// What is written for each cell.
    pub values: ValuesAs,
}

impl Variable {
    /// Reads cells into memory of the caller. Each chunk is fetched and decoded once, however many of `wanted` have cells
    /// of it. Blocks the calling thread, which decodes too, beside as many threads as the processor has to spare: all
    /// reads of a process share one number of threads.
    ///
    /// After an error the memory has arbitrary content.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`](crate::Error::OutOfBounds) for cells outside of the array,
    /// [`Error::Place`](crate::Error::Place) for memory that doesn't fit the cells or their type, and those of
    /// [`Variable::read`].
    pub fn read_into(&self, wanted: Vec<Wanted<'_>>, how: &ReadInto) -> Result<Counts> {
        let fetcher = Fetcher::new(self)?.with_page_cache(how.page_cache.clone());
        // What is beside each other in one object is fetched together only where requests are slow.
        let is_local = self.location().local_path().is_some();
        let writer = Writer::new(self, how.values)?;
        let plan = Plan::new(self, wanted, &writer)?;
        let groups = fetcher.shares(plan.chunks(), TAKEN_BYTES, is_local);
        let read = Reading {
            variable: self,
            fetcher,
            writer,
            plan,
            groups,
            next: AtomicUsize::new(0),
            ahead: AtomicUsize::new(1),
            failed: AtomicBool::new(false),
            outcome: Mutex::new(Ok(Counts::default())),
        };
        read.run(&how.runtime)
    }
}

/// One call of [`Variable::read_into`], shared by its threads.
struct Reading<'a> {
    variable: &'a Variable,
    fetcher: Fetcher,
    writer: Writer<'a>,
    plan: Plan<'a>,
    groups: Vec<Vec<ChunkIndex>>,
    /// The next group that nobody has taken.
    next: AtomicUsize,
    /// Groups that each thread fetches ahead.
    ahead: AtomicUsize,
    failed: AtomicBool,
    outcome: Mutex<Result<Counts>>,
}

impl Reading<'_> {
    fn run(self, runtime: &Handle) -> Result<Counts> {
        let spare = Spare::take(self.groups.len().saturating_sub(1));
        let threads = spare.count() + 1;
        let ahead = (self.fetcher.at_once() / threads).clamp(2, MOST_AHEAD);
        self.ahead.store(ahead, Ordering::Relaxed);
        thread::scope(|scope| {
            for _ in 1..threads {
                let work = || runtime.block_on(self.work());
                if thread::Builder::new()
                    .name("lsio-read".to_owned())
                    .spawn_scoped(scope, work)
                    .is_err()
                {
                    // The threads that there are do all of it.
                    break;
                }
            }
            runtime.block_on(self.work());
        });
        drop(spare);
        self.outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes groups until there are no more. The first error of any thread is the outcome.
    async fn work(&self) {
        let done = self.take_groups().await;
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match (done, &mut *outcome) {
            (Ok(own), Ok(all)) => *all += own,
            (Err(error), Ok(_)) => *outcome = Err(error),
            (_, Err(_)) => {}
        }
        if outcome.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
    }

    async fn take_groups(&self) -> Result<Counts> {
        let taken = std::iter::from_fn(|| {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            self.groups.get(number).filter(|_| !self.failed.load(Ordering::Relaxed))
        });
        let mut fetched = stream::iter(taken)
            .map(|chunks| async move { (chunks, self.fetcher.fetch(chunks.clone()).await) })
            .buffer_unordered(self.ahead.load(Ordering::Relaxed));
        let recycler: Arc<Recycler> = Arc::default();
        let mut counts = Counts::default();
        while let Some((chunks, group)) = fetched.next().await {
            let (stored, own) = group?;
            counts += own;
            let mut stored: HashMap<ChunkIndex, Stored> = stored.into_iter().collect();
            for chunk in chunks {
                if self.failed.load(Ordering::Relaxed) {
                    return Ok(counts);
                }
                // A chunk that isn't stored has the fill value.
                let own = stored.remove(chunk);
                let decoded = self.writer.decode(self.variable, chunk, own, &recycler)?;
                self.plan.write(chunk, &decoded);
            }
        }
        Ok(counts)
    }
}
