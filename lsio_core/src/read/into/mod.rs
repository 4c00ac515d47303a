//! Reads cells of a variable, in parallel, into memory that the caller owns.
//!
//! ```text
//! Wanted    which cells, and the place of each in the caller's memory; any number of them
//!   │ plan  the chunks that hold wanted cells, each once
//!   │ fetch chunk by chunk, several at a time, on as many threads as the machine has to spare
//!   ▼
//! Place     each chunk's cells, copied once: from what is stored, or a piece that was decoded, to where they belong
//! ```

mod cells;
mod items;
mod memory;
mod plan;
mod stop;
mod streamed;
mod threads;
mod values;

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use arrow::array::ArrayRef;
use futures::{
    StreamExt as _,
    future::{Either, select},
    stream,
};
use tokio::runtime::Handle;

pub use self::{
    cells::{Along, Cells, Indices},
    memory::Place,
    stop::Stop,
    values::ValuesAs,
};
use self::{
    items::{Collector, REFERENCE},
    plan::Plan,
    streamed::Scratch,
    threads::{Spare, Stretches},
    values::Writer,
};
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
    /// Ends the read before it is done.
    pub stop: Stop,
}

/// What takes chunks.
trait ChunkSink: Sync {
    /// Takes a chunk, once; `None` is one that isn't stored, whose cells have the fill value.
    ///
    /// # Errors
    /// [`Error::Chunk`](crate::Error::Chunk) and [`Error::Decode`](crate::Error::Decode).
    fn put(
        &self,
        chunk: &[u64],
        stored: Option<&Stored>,
        plan: &Plan<'_>,
        scratch: &mut Scratch,
        recycler: &Arc<Recycler>,
    ) -> Result<()>;
}

impl Variable {
    /// Reads cells into memory of the caller, as values of one type. Each chunk is fetched and decoded once, however many
    /// of `wanted` have cells of it. Blocks the calling thread, which decodes too, beside as many threads as the
    /// processor has to spare: all reads of a process share them.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`](crate::Error::OutOfBounds) for cells outside of the array,
    /// [`Error::Place`](crate::Error::Place) for memory that doesn't fit the cells or their type, and those of
    /// [`Variable::read`].
    pub fn read_into(
        &self,
        wanted: Vec<Wanted<'_>>,
        values: ValuesAs,
        how: &ReadInto,
    ) -> Result<Counts> {
        let writer = Writer::new(self, values)?;
        let plan = Plan::new(self, wanted, writer.width())?;
        Reading::new(self, plan, &writer, how)?.run(&how.runtime)
    }

    /// Reads cells as an array of Arrow with the decoded values in C order, whatever their type. Else like
    /// [`Variable::read_into`].
    ///
    /// # Errors
    /// Those of [`Variable::read_into`].
    pub fn read_cells(&self, cells: Cells, how: &ReadInto) -> Result<ArrayRef> {
        self.check_readable()?;
        let shape = cells.shape();
        let refused = |reason| crate::Error::Place { array: self.path(), reason };
        let len = shape.iter().try_fold(REFERENCE as u64, |len, size| len.checked_mul(*size));
        let len = len.and_then(|len| usize::try_from(len).ok());
        let len =
            len.ok_or_else(|| refused(format!("{shape:?} cells are more than memory holds")))?;
        let mut references = Vec::new();
        let room = references.try_reserve_exact(len);
        room.map_err(|_| refused(format!("there is no memory for {shape:?} cells")))?;
        references.resize(len, u8::MAX);
        let place = Place::contiguous(&mut references, &shape, REFERENCE).map_err(refused)?;
        let collector = Collector::new(self);
        let plan = Plan::new(self, vec![Wanted { cells, place }], REFERENCE)?;
        Reading::new(self, plan, &collector, how)?.run(&how.runtime)?;
        collector.finish(&references)
    }
}

/// One read, shared by its threads.
struct Reading<'a, S> {
    fetcher: Fetcher,
    sink: &'a S,
    plan: Plan<'a>,
    groups: Vec<Vec<ChunkIndex>>,
    failed: AtomicBool,
    /// The array's name, for the error of a read that is stopped.
    name: String,
    stop: Stop,
    outcome: Mutex<Result<Counts>>,
}

/// What one thread of a read does.
#[derive(Clone, Copy)]
struct Share<'a> {
    thread: usize,
    taken: &'a Stretches,
    /// Groups that it fetches ahead.
    ahead: usize,
}

impl<'a, S: ChunkSink> Reading<'a, S> {
    fn new(variable: &Variable, plan: Plan<'a>, sink: &'a S, how: &ReadInto) -> Result<Self> {
        let fetcher = Fetcher::new(variable)?.with_page_cache(how.page_cache.clone());
        // What is beside each other in one object is fetched together only where requests are slow.
        let is_local = variable.location().local_path().is_some();
        let groups = fetcher.shares(plan.chunks(), TAKEN_BYTES, is_local);
        let outcome = Mutex::new(Ok(Counts::default()));
        let (failed, name) = (AtomicBool::new(false), variable.path());
        Ok(Self { fetcher, sink, plan, groups, failed, name, stop: how.stop.clone(), outcome })
    }

    fn run(self, runtime: &Handle) -> Result<Counts> {
        let spare = Spare::take(self.groups.len().saturating_sub(1));
        let threads = spare.count() + 1;
        let ahead = (self.fetcher.at_once() / threads).clamp(2, MOST_AHEAD);
        let taken = &Stretches::new(self.groups.len(), threads);
        let this = &self;
        thread::scope(|scope| {
            for thread in 1..threads {
                let share = Share { thread, taken, ahead };
                let work = move || runtime.block_on(this.work(share));
                if thread::Builder::new()
                    .name("lsio-read".to_owned())
                    .spawn_scoped(scope, work)
                    .is_err()
                {
                    // The threads that there are do all of it.
                    break;
                }
            }
            runtime.block_on(this.work(Share { thread: 0, taken, ahead }));
        });
        drop(spare);
        self.outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes groups until there are no more. The first error of any thread is the outcome.
    async fn work(&self, share: Share<'_>) {
        let done = self.take_groups(share).await;
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

    async fn take_groups(&self, share: Share<'_>) -> Result<Counts> {
        let taken = std::iter::from_fn(|| {
            let number = share.taken.take(share.thread)?;
            self.groups.get(number).filter(|_| !self.failed.load(Ordering::Relaxed))
        });
        let mut fetched = stream::iter(taken)
            .map(|chunks| async move { (chunks, self.fetcher.fetch(chunks.clone()).await) })
            .buffer_unordered(share.ahead);
        let recycler: Arc<Recycler> = Arc::default();
        let mut scratch = Scratch::default();
        let mut counts = Counts::default();
        let mut stopped = pin!(self.stop.stopped());
        loop {
            let (chunks, group) = match select(fetched.next(), stopped.as_mut()).await {
                Either::Left((Some(next), _)) => next,
                Either::Left((None, _)) => break,
                Either::Right(_) => return Err(Stop::error(&self.name)),
            };
            let (stored, own) = group?;
            counts += own;
            let mut stored: HashMap<ChunkIndex, Stored> = stored.into_iter().collect();
            for chunk in chunks {
                if self.failed.load(Ordering::Relaxed) {
                    return Ok(counts);
                }
                if self.stop.is_stopped() {
                    return Err(Stop::error(&self.name));
                }
                let own = stored.remove(chunk);
                self.sink.put(chunk, own.as_ref(), &self.plan, &mut scratch, &recycler)?;
            }
        }
        Ok(counts)
    }
}
