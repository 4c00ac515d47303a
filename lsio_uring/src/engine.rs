//! Engines: rings, or threads that read, and the memory that both read into.

use std::{
    fmt, io,
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;

use super::{
    admission::Admission,
    buffers::Pool,
    counters::{Counters, Counts},
    error::ReadError,
    fair::FairQueue,
    files::{Here, OpenFile},
    mailbox::Mailbox,
    options::{Engine, Options},
    ways::ReadWay,
    workers::Workers,
};

/// A running engine. Dropping the last handle ends the engine, after the reads in flight.
pub(crate) struct Running {
    kind: Backend,
    workers: Workers,
    pool: Pool,
    counters: Arc<Counters>,
    admission: Arc<Admission>,
    callers: AtomicU64,
    /// Moving average of the time to open a file, in nanoseconds.
    opening_time: AtomicU64,
}

enum Backend {
    #[cfg(target_os = "linux")]
    Uring(Vec<Arc<super::driver::Inbox>>),
    Pread(Arc<Mutex<FairQueue<Read>>>),
}

/// A span of a file to read, and its caller.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) file: Arc<OpenFile>,
    /// Requested bytes, all within the file when it was opened.
    pub(crate) span: Range<u64>,
    /// Whether to read past the page cache.
    pub(crate) direct: bool,
    /// Caller, for fair queueing.
    pub(crate) caller: u64,
    pub(crate) mailbox: Arc<Mailbox>,
    /// Number of the span at the caller.
    pub(crate) number: usize,
}

impl Running {
    /// Starts an engine.
    ///
    /// # Errors
    /// If io_uring is required and doesn't work, or if the engine is [`Engine::ObjectStore`].
    pub(crate) fn start(options: Options) -> io::Result<Self> {
        let pool = Pool::new(options.pool_bytes);
        let counters = Arc::new(Counters::default());
        let kind = match options.engine {
            Engine::Auto => start_rings(&options, &pool, &counters).unwrap_or_else(|error| {
                log::info!("io_uring doesn't work here ({error}): local files are read by threads");
                Backend::pread()
            }),
            Engine::Uring => start_rings(&options, &pool, &counters).map_err(|error| {
                io::Error::new(error.kind(), format!("io_uring doesn't work here: {error}"))
            })?,
            Engine::Pread => Backend::pread(),
            Engine::ObjectStore => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "object_store's engine is its own LocalFileSystem",
                ));
            }
        };
        let workers = Workers::new(options.threads);
        let callers = AtomicU64::new(0);
        let opening_time = AtomicU64::new(0);
        let admission = Admission::new(options.runtime_directory.clone(), options.page_cache_bytes);
        let admission = Arc::new(admission);
        let running = Self { kind, workers, pool, counters, admission, callers, opening_time };
        log::info!("the engine for local files is {}", running.engine());
        Ok(running)
    }

    /// The running engine: never [`Engine::Auto`].
    pub(crate) fn engine(&self) -> Engine {
        match &self.kind {
            #[cfg(target_os = "linux")]
            Backend::Uring(_) => Engine::Uring,
            Backend::Pread(_) => Engine::Pread,
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            pool_bytes: self.pool.size(),
            used_bytes: self.pool.used(),
            ..self.counters.counts()
        }
    }

    /// Which reads fill the page cache.
    pub(crate) fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    pub(crate) fn workers(&self) -> &Workers {
        &self.workers
    }

    /// Opens a file on another thread. While opening is fast, that is a ring's own thread: passing the file to a worker
    /// and then to the ring would take longer. Where opening waits for a disk or a server, several workers wait
    /// concurrently.
    pub(crate) fn open(self: &Arc<Self>, opening: impl FnOnce(Here) + Send + 'static) {
        /// In nanoseconds.
        const FAST: u64 = 100_000;

        let engine = Arc::downgrade(self);
        let timed = move |here| {
            let start = Instant::now();
            opening(here);
            let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            if let Some(engine) = engine.upgrade() {
                // A single outlier shouldn't outweigh several openings.
                let now = nanoseconds.min(10 * FAST);
                let before = engine.opening_time.load(Ordering::Relaxed);
                engine.opening_time.store(before - before / 8 + now / 8, Ordering::Relaxed);
            }
        };
        match &self.kind {
            #[cfg(target_os = "linux")]
            Backend::Uring(inboxes) if self.opening_time.load(Ordering::Relaxed) < FAST => {
                let number = self.callers.load(Ordering::Relaxed) as usize % inboxes.len();
                inboxes[number].open(Box::new(move || timed(Here::Ring)));
            }
            _ => self.workers.spawn(move || timed(Here::Worker)),
        }
    }

    /// Number for a new caller.
    pub(crate) fn caller(&self) -> u64 {
        self.callers.fetch_add(1, Ordering::Relaxed)
    }

    /// Starts reads of one caller. Their mailboxes receive the bytes.
    pub(crate) fn read(self: &Arc<Self>, reads: Vec<Read>) {
        let Some(first) = reads.first() else { return };
        match &self.kind {
            #[cfg(target_os = "linux")]
            Backend::Uring(inboxes) => {
                if let Some(inbox) = inboxes.get(first.caller as usize % inboxes.len()) {
                    inbox.send(reads);
                }
            }
            Backend::Pread(queue) => {
                let count = reads.len();
                let mut waiting = queue.lock().unwrap_or_else(PoisonError::into_inner);
                for read in reads {
                    waiting.push(read.caller, read.span.end - read.span.start, read);
                }
                drop(waiting);
                for _ in 0..count {
                    let (queue, pool) = (Arc::clone(queue), self.pool.clone());
                    let counters = Arc::clone(&self.counters);
                    self.workers.spawn(move || {
                        // The read that is next in turn, not the one that this job was spawned for.
                        let read = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
                        if let Some(read) = read.filter(|read| !read.mailbox.is_closed()) {
                            pread(read, &pool, &counters);
                        }
                    });
                }
            }
        }
    }

    /// Copies bytes from the page cache. Bytes that are missing are read from the drive into it, and waited for: some that
    /// were there a moment ago, or all if this way is to fill it.
    ///
    /// # Errors
    /// If the file ends early or can't be read.
    pub(crate) fn copy(
        &self,
        file: &OpenFile,
        span: &Range<u64>,
        way: ReadWay,
    ) -> Result<Bytes, ReadError> {
        let failed = |error| ReadError::read(file.path(), error);
        let from = file.buffered().map_err(failed)?;
        let read = |bytes: &mut [u8]| {
            let mut filled = 0;
            while filled < bytes.len() {
                match from.read_at(&mut bytes[filled..], span.start + filled as u64) {
                    Ok(0) => return Err(ended(file, span)),
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(failed(error)),
                }
            }
            Ok(())
        };
        let bytes = self.fill(file, span, read)?;
        match way {
            ReadWay::Filling => self.counters.read(bytes.len(), false),
            _ => self.counters.copied(bytes.len()),
        }
        Ok(bytes)
    }

    /// Copies bytes from the page cache; `None` unless all of them are there.
    #[cfg(target_os = "linux")]
    pub(crate) fn copy_now(&self, file: &OpenFile, span: &Range<u64>) -> Option<Bytes> {
        use rustix::io::{ReadWriteFlags, preadv2};
        use std::io::IoSliceMut;

        let from = file.buffered().ok()?;
        let read = |bytes: &mut [u8]| {
            let wanted = bytes.len();
            let buffers = &mut [IoSliceMut::new(bytes)];
            match preadv2(from, buffers, span.start, ReadWriteFlags::NOWAIT) {
                Ok(count) if count == wanted => Ok(()),
                _ => Err(ended(file, span)),
            }
        };
        let bytes = self.fill(file, span, read).ok()?;
        self.counters.copied(bytes.len());
        Some(bytes)
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn copy_now(&self, _: &OpenFile, _: &Range<u64>) -> Option<Bytes> {
        None
    }

    /// Fills memory for a span: from the pool, or from the heap for small spans.
    fn fill(
        &self,
        file: &OpenFile,
        span: &Range<u64>,
        read: impl FnOnce(&mut [u8]) -> Result<(), ReadError>,
    ) -> Result<Bytes, ReadError> {
        /// Size in bytes up to which the heap is used: it has reused memory too, and tasks that fill small spans have
        /// no time for the pool to grow.
        const FROM_HEAP: usize = 64 << 10;

        let len = length(span).map_err(|error| ReadError::read(file.path(), error))?;
        let buffer =
            if len > FROM_HEAP && self.pool.may_lend(len) { self.pool.take(len) } else { None };
        let bytes = match buffer {
            Some(mut buffer) => {
                read(&mut buffer.as_mut()[..len])?;
                self.pool.lend(buffer, 0..len)
            }
            None => {
                let mut bytes = vec![0; len];
                read(&mut bytes)?;
                bytes.into()
            }
        };
        Ok(bytes)
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("engine", &self.engine()).finish_non_exhaustive()
    }
}

impl Backend {
    fn pread() -> Self {
        Self::Pread(Arc::new(Mutex::new(FairQueue::new())))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        match &self.kind {
            #[cfg(target_os = "linux")]
            Backend::Uring(inboxes) => inboxes.iter().for_each(|inbox| inbox.stop()),
            Backend::Pread(_) => {}
        }
    }
}

#[cfg(target_os = "linux")]
fn start_rings(options: &Options, pool: &Pool, counters: &Arc<Counters>) -> io::Result<Backend> {
    use super::{
        driver::{Driver, InFlightLimits, Inbox},
        ring::KernelRing,
    };
    use std::{sync::mpsc, thread};

    /// Upper bound on operations in flight per ring.
    const OPERATIONS: usize = 127;
    /// Upper bound on the bytes of an operation.
    const OPERATION_BYTES: usize = 1 << 20;

    let start_ring = || -> io::Result<Arc<Inbox>> {
        let inbox = Arc::new(Inbox::new()?);
        let limits = InFlightLimits {
            in_flight: options.in_flight_bytes.max(1),
            operation: OPERATION_BYTES,
        };
        let (pool, counters) = (pool.clone(), Arc::clone(counters));
        let (report, started) = mpsc::channel();
        let theirs = Arc::clone(&inbox);
        // A ring belongs to the thread that created it.
        thread::Builder::new().name("lsio-ring".to_owned()).spawn(
            move || match KernelRing::new(OPERATIONS, Arc::clone(theirs.event()), pool.clone()) {
                Ok(ring) => {
                    let driver = Driver::new(ring, theirs, pool, counters, limits);
                    let _ = report.send(Ok(()));
                    driver.run();
                }
                Err(error) => {
                    let _ = report.send(Err(error));
                }
            },
        )?;
        started.recv().map_err(io::Error::other)??;
        Ok(inbox)
    };
    let mut inboxes: Vec<Arc<Inbox>> = Vec::new();
    for _ in 0..options.rings.max(1) {
        match start_ring() {
            Ok(inbox) => inboxes.push(inbox),
            Err(error) => {
                inboxes.iter().for_each(|inbox| inbox.stop());
                return Err(error);
            }
        }
    }
    Ok(Backend::Uring(inboxes))
}

#[cfg(not(target_os = "linux"))]
fn start_rings(_: &Options, _: &Pool, _: &Arc<Counters>) -> io::Result<Backend> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "it is a part of Linux"))
}

/// Reads a span on this thread.
fn pread(read: Read, pool: &Pool, counters: &Counters) {
    match pread_bytes(&read, pool, counters) {
        Ok(bytes) => read.succeed(bytes),
        Err(error) => read.fail(error),
    }
}

fn pread_bytes(read: &Read, pool: &Pool, counters: &Counters) -> Result<Bytes, ReadError> {
    let failed = |error| ReadError::read(read.file.path(), error);
    let window = read.window();
    let len = length(&window).map_err(failed)?;
    let mut buffer = match pool.take(len) {
        Some(buffer) => buffer,
        None => pool.map(len).map_err(failed)?,
    };
    let mut direct = if read.direct { read.file.direct() } else { None };
    let mut at = 0;
    while window.start + (at as u64) < read.span.end {
        let file = direct.map_or_else(|| read.file.buffered(), Ok).map_err(failed)?;
        match file.read_at(&mut buffer.as_mut()[at..len], window.start + at as u64) {
            Ok(0) => return Err(read.ended()),
            Ok(count) => {
                counters.read(count, direct.is_some());
                at += count;
                // After a short read with an unaligned end, a direct read can't go on.
                direct =
                    direct.filter(|_| (at as u64).is_multiple_of(read.file.system().alignment()));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if direct.is_some() && is_refusal(&error) => {
                read.file.system().refuse_direct();
                direct = None;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    let start = (read.span.start - window.start) as usize;
    let end = (read.span.end - window.start) as usize;
    Ok(pool.lend(buffer, start..end))
}

/// Whether an error means that direct reads don't work on the file.
fn is_refusal(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    [Errno::INVAL, Errno::OPNOTSUPP].iter().any(|refusal| code == Some(refusal.raw_os_error()))
}

fn length(range: &Range<u64>) -> io::Result<usize> {
    usize::try_from(range.end - range.start)
        .map_err(|_| io::Error::new(io::ErrorKind::OutOfMemory, "more bytes than an address space"))
}

/// Error for a file that has become shorter than a span.
fn ended(file: &OpenFile, span: &Range<u64>) -> ReadError {
    let path = file.path().to_owned();
    let length = file.any().metadata().map_or(0, |now| now.len());
    ReadError::Ended { path, length, wanted: span.end }
}

impl Read {
    /// Bytes of the file to read: whole blocks for a direct read.
    pub(crate) fn window(&self) -> Range<u64> {
        if !self.direct {
            return self.span.clone();
        }
        let alignment = self.file.system().alignment();
        let start = self.span.start / alignment * alignment;
        let end = self.span.end.checked_next_multiple_of(alignment).unwrap_or(self.span.end);
        start..end
    }

    pub(crate) fn ended(&self) -> ReadError {
        ended(&self.file, &self.span)
    }

    pub(crate) fn stopped(&self) -> ReadError {
        ReadError::Stopped { path: self.file.path().to_owned() }
    }

    /// Fails the read, because no thread will do it.
    pub(crate) fn stop(self) {
        let stopped = self.stopped();
        self.fail(stopped);
    }

    pub(crate) fn succeed(self, bytes: Bytes) {
        self.mailbox.deliver(self.number, Ok(bytes));
    }

    pub(crate) fn fail(self, error: ReadError) {
        self.mailbox.deliver(self.number, Err(error));
    }
}
