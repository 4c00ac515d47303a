//! Reads of one caller from one file: started as far as a window allows, taken in the order they land.

use std::{
    ops::Range,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use super::{
    engine::{Read, Running},
    error::ReadError,
    files::{Here, OpenFile},
    mailbox::Mailbox,
    ways::{Chooser, ReadWay},
};

/// Upper bound in bytes on a copy that a task makes itself: passing it to a worker would take longer.
const COPIED_AT_ONCE: u64 = 64 << 10;

/// Upper bound on the copies that a task makes before it leaves them to workers.
const AT_ONCE: usize = 64;

/// Upper bounds on one caller's reads in flight, in bytes and in spans.
const WINDOW_BYTES: u64 = 32 << 20;
const WINDOW_SPANS: usize = 512;

/// Bytes that a worker copies before another worker may take over.
const COPY_BATCH: u64 = 1 << 20;

/// Spans of a file being read. Dropping it gives up all spans that have not landed.
#[derive(Debug)]
pub(crate) struct FileReads {
    engine: Arc<Running>,
    file: Arc<OpenFile>,
    spans: Spans,
    chooser: Chooser,
    caller: u64,
    mailbox: Arc<Mailbox>,
    /// Number of started spans: all before this index.
    started: usize,
    /// Number of spans in flight.
    open: usize,
    /// Bytes of the spans that were started and are not consumed.
    open_bytes: u64,
}

/// Spans in the order of their start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spans {
    Listed(Vec<Span>),
    /// Parts of a range, cut at multiples of a size. A file may have too many parts for a list.
    Pieces {
        range: Range<u64>,
        size: u64,
    },
}

impl Spans {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Listed(spans) => spans.len(),
            Self::Pieces { range, size } => {
                usize::try_from(range.end.div_ceil(*size) - range.start / size)
                    .unwrap_or(usize::MAX)
            }
        }
    }

    pub(crate) fn get(&self, number: usize) -> Span {
        match self {
            Self::Listed(spans) => spans[number].clone(),
            Self::Pieces { range, size } => {
                let first = (range.start / size + number as u64) * size;
                let end = first.saturating_add(*size).min(range.end);
                Span { range: first.max(range.start)..end, way: None }
            }
        }
    }

    /// Whether to open the file for direct reads at once.
    pub(crate) fn are_direct(&self) -> bool {
        match self {
            Self::Listed(spans) => spans.iter().all(|span| span.way == Some(ReadWay::Direct)),
            Self::Pieces { .. } => false,
        }
    }
}

/// A span of a file, with the way to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) range: Range<u64>,
    /// `None` to choose at the start.
    pub(crate) way: Option<ReadWay>,
}

impl FileReads {
    /// Starts to read spans.
    pub(crate) fn start(
        engine: Arc<Running>,
        file: Arc<OpenFile>,
        spans: Spans,
        chooser: Chooser,
        here: Here,
    ) -> Self {
        let mut reads = Self {
            caller: engine.caller(),
            engine,
            file,
            spans,
            chooser,
            mailbox: Arc::default(),
            started: 0,
            open: 0,
            open_bytes: 0,
        };
        reads.advance(here);
        reads
    }

    /// Mailbox that the spans land in.
    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Next span that has landed, in any order, with its number. The caller reports the span as consumed later. The
    /// task is woken when about `wanted` spans have landed. An error is the last item.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<Option<Result<(usize, Bytes), ReadError>>> {
        if self.open == 0 {
            return Poll::Ready(None);
        }
        // At most half of the spans in flight: the other half keeps the drive busy until this task runs.
        let wanted = wanted.min(self.open.div_ceil(2)).max(1);
        let (number, result) = ready!(self.mailbox.poll(context, wanted));
        self.open -= 1;
        match result {
            Ok(bytes) => Poll::Ready(Some(Ok((number, bytes)))),
            Err(error) => {
                // The remaining spans are useless.
                self.mailbox.close();
                self.started = self.spans.len();
                self.open = 0;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    /// Reports that the caller has passed a span on, so that the next one may be started.
    pub(crate) fn consumed(&mut self, number: usize) {
        let range = self.spans.get(number).range;
        self.open_bytes -= range.end - range.start;
        self.advance(Here::Task);
    }

    /// Starts spans as far as the window allows.
    fn advance(&mut self, here: Here) {
        let waits = self.open_bytes > WINDOW_BYTES / 2 || self.open > WINDOW_SPANS / 2;
        if self.started == self.spans.len() || (waits && self.started > 0) {
            return;
        }
        let mut reads = Vec::new();
        let mut copies = Vec::new();
        let (mut copied, mut quick) = (0, 0);
        let alone = self.spans.len() == 1;
        while self.started < self.spans.len()
            && self.open < WINDOW_SPANS
            && (self.open == 0 || self.open_bytes < WINDOW_BYTES)
        {
            let number = self.started;
            let Span { range, way } = self.spans.get(number);
            let way = way.unwrap_or_else(|| self.chooser.choose(&self.file, &range));
            self.chooser.note(&range, way);
            let len = range.end - range.start;
            self.started += 1;
            self.open += 1;
            self.open_bytes += len;
            let at_once = match way {
                ReadWay::Small => true,
                ReadWay::Cached => alone && len <= COPIED_AT_ONCE,
                ReadWay::MostlyCached | ReadWay::Filling | ReadWay::Direct | ReadWay::Buffered => {
                    false
                }
            };
            let cached = matches!(
                way,
                ReadWay::Small | ReadWay::Cached | ReadWay::MostlyCached | ReadWay::Filling
            );
            if cached && alone && here == Here::Worker {
                self.mailbox.deliver(number, self.engine.copy(&self.file, &range, way));
            } else if at_once
                && quick < AT_ONCE
                && let Some(bytes) = self.engine.copy_now(&self.file, &range)
            {
                quick += 1;
                self.mailbox.deliver(number, Ok(bytes));
            } else if cached && (way != ReadWay::Small || quick == AT_ONCE) {
                copies.push((number, range, way));
                copied += len;
                if copied >= COPY_BATCH {
                    self.copy(std::mem::take(&mut copies));
                    copied = 0;
                }
            } else {
                reads.push(Read {
                    file: Arc::clone(&self.file),
                    span: range,
                    direct: way == ReadWay::Direct,
                    caller: self.caller,
                    mailbox: Arc::clone(&self.mailbox),
                    number,
                });
            }
        }
        if !copies.is_empty() {
            self.copy(copies);
        }
        self.engine.read(reads);
    }

    /// Copies spans from the page cache, which may have to be filled first, on a worker.
    fn copy(&self, spans: Vec<(usize, Range<u64>, ReadWay)>) {
        let engine = Arc::clone(&self.engine);
        let (file, mailbox) = (Arc::clone(&self.file), Arc::clone(&self.mailbox));
        self.engine.workers().spawn(move || {
            for (number, range, way) in spans {
                if mailbox.is_closed() {
                    return;
                }
                mailbox.deliver(number, engine.copy(&file, &range, way));
            }
        });
    }
}

impl Drop for FileReads {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}
