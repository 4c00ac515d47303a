//! The thread of a ring: takes reads from callers, keeps them in flight, and delivers their bytes.
//!
//! All memory and files that the kernel uses belong to the tables here until the completion. A caller that goes away
//! makes its reads useless, but frees nothing.

use std::{
    collections::VecDeque,
    io,
    mem::ManuallyDrop,
    ops::Range,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::event::{EventfdFlags, eventfd};
use slab::Slab;

use super::{
    buffers::{ARENA, Buffer, Pool},
    counters::Counters,
    engine::Read,
    error::ReadError,
    fair::FairQueue,
    ring::{Ring, RingRead, Wait},
    workers::{self, Job},
};

/// Messages from callers to a ring's thread.
pub(super) struct Inbox {
    messages: Mutex<Messages>,
    /// Whether the thread sleeps, or is about to.
    sleeping: AtomicBool,
    event: Arc<OwnedFd>,
}

#[derive(Default)]
struct Messages {
    reads: Vec<Read>,
    openings: Vec<Job>,
    stop: bool,
    /// Whether the thread has ended.
    ended: bool,
}

/// Limits on operations in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlightLimits {
    /// Bytes of all operations together.
    pub(super) in_flight: usize,
    /// Bytes of one operation.
    pub(super) operation: usize,
}

/// The thread's state.
pub(super) struct Driver<R> {
    ring: R,
    inbox: Arc<Inbox>,
    pool: Pool,
    counters: Arc<Counters>,
    limits: InFlightLimits,
    queue: FairQueue<Read>,
    openings: VecDeque<Job>,
    /// Next read in turn, while there is no memory for it.
    next: Option<Read>,
    transfers: Slab<PendingRead>,
    operations: Slab<TransferPart>,
    /// Parts to start again.
    again: VecDeque<TransferPart>,
    /// Transfer with parts that haven't been started.
    partial: Option<usize>,
    bytes_in_flight: usize,
}

/// A read with memory.
struct PendingRead {
    read: Read,
    buffer: Buffer,
    /// Bytes of the file that the buffer holds: the requested ones and, for direct reads, those around them up to the
    /// alignment.
    window: Range<u64>,
    /// Number of bytes in the window whose parts were started.
    started: usize,
    /// Number of incomplete parts.
    open: usize,
    failure: Option<ReadError>,
}

/// A part of a transfer, read by one operation at a time.
#[derive(Clone, Copy, Debug)]
struct TransferPart {
    transfer: usize,
    /// Offset in the window of the rest of the part, and length of that rest, in bytes.
    at: usize,
    len: usize,
    direct: bool,
    /// Number of times that the kernel has refused the part for now.
    refusals: u32,
}

/// Upper bounds between two looks at completions: on files to open, and on the bytes of their reads.
const OPENINGS: usize = 16;
const OPENED_BYTES: u64 = 1 << 20;

/// Upper bound on consecutive temporary refusals of an operation.
const MOST_REFUSALS: u32 = 1000;

impl Inbox {
    pub(super) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            messages: Mutex::default(),
            sleeping: AtomicBool::new(false),
            event: Arc::new(event),
        })
    }

    /// Event that wakes the ring.
    pub(super) fn event(&self) -> &Arc<OwnedFd> {
        &self.event
    }

    /// Passes reads to the thread.
    pub(super) fn send(&self, reads: Vec<Read>) {
        self.change(|messages| messages.reads.extend(reads));
    }

    /// Asks the thread to open a file.
    pub(super) fn open(&self, opening: Job) {
        self.change(|messages| messages.openings.push(opening));
    }

    /// Asks the thread to end once everything in flight has completed.
    pub(super) fn stop(&self) {
        self.change(|messages| messages.stop = true);
    }

    fn change(&self, change: impl FnOnce(&mut Messages)) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut messages);
        let lost =
            if messages.ended { std::mem::take(&mut *messages) } else { Messages::default() };
        messages.ended |= lost.ended;
        drop(messages);
        // Dropping an opening notifies its waiter.
        lost.reads.into_iter().for_each(Read::stop);
        if self.sleeping.swap(false, Ordering::SeqCst) {
            // Fails only if the event is signalled already.
            let _ = rustix::io::write(self.event.as_fd(), &1_u64.to_ne_bytes());
        }
    }

    /// Takes all messages; `false` once the thread must stop.
    fn receive(&self, reads: &mut Vec<Read>, openings: &mut VecDeque<Job>) -> bool {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        reads.append(&mut messages.reads);
        openings.extend(messages.openings.drain(..));
        !messages.stop
    }

    fn waiting_bytes(&self) -> u64 {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.reads.iter().map(|read| read.span.end - read.span.start).sum()
    }

    /// Announces that the thread will sleep; `false` if a message has arrived meanwhile.
    fn may_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.reads.is_empty() && messages.openings.is_empty() && !messages.stop
    }

    fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// Fails all further messages: no thread takes them any more.
    fn end(&self) {
        self.change(|messages| messages.ended = true);
    }
}

impl<R: Ring> Driver<R> {
    pub(super) fn new(
        ring: R,
        inbox: Arc<Inbox>,
        pool: Pool,
        counters: Arc<Counters>,
        limits: InFlightLimits,
    ) -> Self {
        Self {
            ring,
            inbox,
            pool,
            counters,
            limits,
            queue: FairQueue::new(),
            openings: VecDeque::new(),
            next: None,
            transfers: Slab::new(),
            operations: Slab::new(),
            again: VecDeque::new(),
            partial: None,
            bytes_in_flight: 0,
        }
    }

    /// Serves callers until the inbox says stop and everything in flight has completed.
    pub(super) fn run(self) {
        let inbox = Arc::clone(&self.inbox);
        let mut driver = ManuallyDrop::new(self);
        let ended = catch_unwind(AssertUnwindSafe(|| driver.serve()));
        inbox.end();
        match ended {
            Ok(()) => drop(ManuallyDrop::into_inner(driver)),
            // The kernel may still write to memory in flight: it is never freed.
            Err(_) => {
                log::error!("the thread of a ring ended in a panic: further reads will fail");
                driver.abandon();
                for (_, transfer) in &driver.transfers {
                    let read = &transfer.read;
                    read.mailbox.deliver(read.number, Err(read.stopped()));
                }
            }
        }
    }

    fn serve(&mut self) {
        let mut received = Vec::new();
        loop {
            let running = self.inbox.receive(&mut received, &mut self.openings);
            for read in received.drain(..) {
                self.queue.push(read.caller, read.span.end - read.span.start, read);
            }
            if !running {
                self.abandon();
                if self.transfers.is_empty() {
                    return;
                }
            }
            self.start();
            let sleeps = if !self.openings.is_empty() {
                false
            } else if running {
                self.inbox.may_sleep()
            } else {
                // Only a completion can end this sleep: `Inbox` fails messages without the thread.
                !self.operations.is_empty()
            };
            let wait = if sleeps { Wait::ForCompletion } else { Wait::Not };
            let submitted = self.ring.submit(wait);
            self.inbox.awake();
            if let Err(error) = submitted
                && error.kind() != io::ErrorKind::Interrupted
            {
                // The kernel is out of memory, or completions must be taken first. Queued operations stay in the ring,
                // so nothing is lost; an immediate retry may be too soon.
                log::debug!("io_uring takes no submissions for now: {error}");
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
            while let Some((token, result)) = self.ring.completion() {
                self.complete(token, result);
            }
            self.counters.set_registered(self.ring.registered());
            self.open_files();
        }
    }

    /// Opens some of the waiting files, while the drive is busy with others.
    fn open_files(&mut self) {
        for _ in 0..OPENINGS {
            let Some(opening) = self.openings.pop_front() else { return };
            // The reads of this opening arrive through the inbox.
            workers::run(opening);
            if self.inbox.waiting_bytes() >= OPENED_BYTES {
                return;
            }
        }
    }

    /// Starts operations up to the limits.
    fn start(&mut self) {
        while self.operations.len() < self.ring.capacity() {
            if let Some(part) = self.again.pop_front() {
                self.queue_part(part);
                continue;
            }
            if self.bytes_in_flight >= self.limits.in_flight {
                return;
            }
            if let Some(transfer) = self.partial {
                self.start_part(transfer);
            } else if !self.start_transfer() {
                return;
            }
        }
    }

    /// Gives memory to the next read; `false` if there is no read, or no memory for now.
    fn start_transfer(&mut self) -> bool {
        let read = loop {
            match self.next.take().or_else(|| self.queue.pop()) {
                None => return false,
                Some(read) if read.mailbox.is_closed() => {}
                Some(read) => break read,
            }
        };
        let window = read.window();
        let len = usize::try_from(window.end - window.start).unwrap_or(usize::MAX);
        let buffer = match self.pool.take(len) {
            Some(buffer) => buffer,
            // Reads in flight return their memory soon, whatever consumers do.
            None if len <= ARENA && !self.transfers.is_empty() => {
                self.next = Some(read);
                return false;
            }
            None => match self.pool.map(len) {
                Ok(buffer) => buffer,
                Err(error) => {
                    let error = ReadError::read(read.file.path(), error);
                    read.fail(error);
                    return true;
                }
            },
        };
        let transfer = PendingRead { read, buffer, window, started: 0, open: 0, failure: None };
        self.partial = Some(self.transfers.insert(transfer));
        true
    }

    /// Starts the next part of a transfer.
    fn start_part(&mut self, index: usize) {
        let transfer = &mut self.transfers[index];
        let total = (transfer.window.end - transfer.window.start) as usize;
        let given_up = transfer.failure.is_some() || transfer.read.mailbox.is_closed();
        let len = if given_up { 0 } else { (total - transfer.started).min(self.limits.operation) };
        if len > 0 {
            let part = TransferPart {
                transfer: index,
                at: transfer.started,
                len,
                direct: transfer.read.direct,
                refusals: 0,
            };
            transfer.started += len;
            transfer.open += 1;
            if transfer.started == total {
                self.partial = None;
            }
            self.queue_part(part);
        } else {
            self.partial = None;
            if transfer.open == 0 {
                self.finish(index);
            }
        }
    }

    fn queue_part(&mut self, mut part: TransferPart) {
        let transfer = &mut self.transfers[part.transfer];
        let direct = if part.direct { transfer.read.file.direct() } else { None };
        part.direct = direct.is_some();
        let file = direct.map_or_else(|| transfer.read.file.buffered(), Ok);
        let file = match file {
            Ok(file) => file.as_raw_fd(),
            Err(error) => {
                let error = ReadError::read(transfer.read.file.path(), error);
                transfer.failure.get_or_insert(error);
                self.close_part(part);
                return;
            }
        };
        let start = transfer.buffer.start();
        debug_assert!(part.at + part.len <= transfer.buffer.size(), "a part beyond its buffer");
        let operation = RingRead {
            file,
            // SAFETY: parts lie inside their transfer's window, and the buffer is as long.
            memory: unsafe { start.add(part.at) },
            place: transfer.buffer.place().map(|(arena, offset)| (arena, offset + part.at)),
            // An operation is a few megabytes at most.
            len: part.len as u32,
            offset: transfer.window.start + part.at as u64,
        };
        let token = self.operations.insert(part) as u64;
        self.bytes_in_flight += part.len;
        // SAFETY: buffer and file belong to the transfer, which stays in its table while it has open
        // parts, and this part is open until its completion. No two parts overlap, and the buffer is
        // not looked at before all parts are closed.
        unsafe { self.ring.queue(token, operation) };
    }

    /// Handles the result of an operation.
    fn complete(&mut self, token: u64, result: i32) {
        let Some(mut part) = self.operations.try_remove(token as usize) else {
            // Not an operation of this driver: nothing to free or to report.
            log::error!("io_uring completed an operation that was not started");
            return;
        };
        self.bytes_in_flight -= part.len;
        let transfer = &mut self.transfers[part.transfer];
        let path = transfer.read.file.path();
        let abandoned = transfer.failure.is_some() || transfer.read.mailbox.is_closed();
        if result > 0 {
            let bytes = (result as usize).min(part.len);
            self.counters.read(bytes, part.direct);
            part.at += bytes;
            part.len -= bytes;
            part.refusals = 0;
            let enough = transfer.window.start + part.at as u64 >= transfer.read.span.end;
            if part.len == 0 || enough || abandoned {
                self.close_part(part);
            } else {
                // A short read. After an unaligned end, a direct read can't go on.
                let aligned =
                    (part.at as u64).is_multiple_of(transfer.read.file.system().alignment());
                part.direct &= aligned;
                self.again.push_back(part);
            }
            return;
        }
        let failure = match -result {
            0 => {
                let enough = transfer.window.start + part.at as u64 >= transfer.read.span.end;
                (!enough).then(|| transfer.read.ended())
            }
            libc::EINTR | libc::EAGAIN if part.refusals < MOST_REFUSALS && !abandoned => {
                part.refusals += 1;
                self.again.push_back(part);
                return;
            }
            libc::EINVAL | libc::EOPNOTSUPP if part.direct && !abandoned => {
                transfer.read.file.system().refuse_direct();
                part.direct = false;
                self.again.push_back(part);
                return;
            }
            code => Some(ReadError::read(path, io::Error::from_raw_os_error(code))),
        };
        if let Some(failure) = failure {
            transfer.failure.get_or_insert(failure);
        }
        self.close_part(part);
    }

    /// Marks a part as complete, and its transfer if this was the last part.
    fn close_part(&mut self, part: TransferPart) {
        let transfer = &mut self.transfers[part.transfer];
        transfer.open -= 1;
        if transfer.open == 0 && self.partial != Some(part.transfer) {
            self.finish(part.transfer);
        }
    }

    /// Delivers a transfer to its caller. The kernel no longer uses its memory or file.
    fn finish(&mut self, index: usize) {
        let PendingRead { read, buffer, window, failure, .. } = self.transfers.remove(index);
        if read.mailbox.is_closed() {
            return;
        }
        match failure {
            Some(failure) => read.fail(failure),
            None => {
                let start = (read.span.start - window.start) as usize;
                let end = (read.span.end - window.start) as usize;
                read.succeed(self.pool.lend(buffer, start..end));
            }
        }
    }

    /// Fails everything that was not started.
    fn abandon(&mut self) {
        self.openings.clear();
        while let Some(read) = self.next.take().or_else(|| self.queue.pop()) {
            read.stop();
        }
    }
}
