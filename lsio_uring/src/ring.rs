//! The kernel's queue pair, behind a trait that tests can implement.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
    ptr::NonNull,
    sync::Arc,
};

use io_uring::{IoUring, opcode, types::Fd};

use super::buffers::{ARENA, Pool};

/// A queue of reads into memory, which complete in any order.
pub(super) trait Ring {
    /// Upper bound on operations in flight.
    fn capacity(&self) -> usize;

    /// Queues an operation; [`Ring::submit`] starts it.
    ///
    /// # Safety
    /// The memory and the file must stay as they are until the completion of `token` was returned,
    /// and nothing else may use the memory meanwhile.
    unsafe fn queue(&mut self, token: u64, operation: RingRead);

    /// Starts the queued operations, and waits if `wait` says so.
    ///
    /// # Errors
    /// Queued operations stay queued, and their memory stays the kernel's.
    fn submit(&mut self, wait: Wait) -> io::Result<()>;

    /// Next completion: its token, and the number of bytes or a negative error code.
    fn completion(&mut self) -> Option<(u64, i32)>;

    /// Bytes of memory registered with the kernel.
    fn registered(&self) -> usize;
}

/// Whether a submission waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// No waiting: only a look at completions.
    Not,
    /// Waits for a completion, or for the event that wakes the ring.
    ForCompletion,
}

/// One read.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingRead {
    pub(super) file: RawFd,
    pub(super) memory: NonNull<u8>,
    /// Arena of the memory, and offset in it.
    pub(super) place: Option<(usize, usize)>,
    pub(super) len: u32,
    pub(super) offset: u64,
}

/// The kernel's ring. Created and used by one thread.
pub(super) struct KernelRing {
    ring: IoUring,
    capacity: usize,
    /// Event that wakes the ring.
    wake: Arc<OwnedFd>,
    /// Whether the ring polls the event.
    watches: bool,
    pool: Pool,
    /// For each arena, the number of registered bytes from its start.
    registered: Vec<usize>,
    /// Whether more memory may be registered.
    may_register: bool,
}

/// Token of the event that wakes the ring.
const WAKE: u64 = u64::MAX;

/// Upper bound on registered arenas.
const REGISTERED_ARENAS: u32 = 1024;

impl KernelRing {
    /// Creates a ring for `capacity` reads, and proves with a read that it works.
    ///
    /// # Errors
    /// If io_uring is missing, forbidden or out of locked memory.
    pub(super) fn new(capacity: usize, wake: Arc<OwnedFd>, pool: Pool) -> io::Result<Self> {
        let entries = u32::try_from(capacity + 1).map_err(io::Error::other)?.next_power_of_two();
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(entries)
            // Older kernels know neither flag; nothing depends on them.
            .or_else(|_| IoUring::new(entries))?;
        let may_register = ring.submitter().register_buffers_sparse(REGISTERED_ARENAS).is_ok();
        let mut ring = Self {
            ring,
            capacity,
            wake,
            watches: false,
            pool,
            registered: Vec::new(),
            may_register,
        };
        ring.probe()?;
        Ok(ring)
    }

    /// Reads a few bytes: a ring that can be created may still be forbidden to read.
    fn probe(&mut self) -> io::Result<()> {
        let file = std::fs::File::open("/dev/zero")?;
        // Leaked, unless its read completes.
        let buffer = NonNull::from(Box::leak(Box::new([1_u8; 8])));
        let operation = RingRead {
            file: file.as_raw_fd(),
            memory: buffer.cast(),
            place: None,
            len: 8,
            offset: 0,
        };
        // SAFETY: file and buffer are alive until the completion is there.
        unsafe { self.queue(0, operation) };
        loop {
            match self.submit(Wait::ForCompletion) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            let Some((_, result)) = self.completion() else { continue };
            // SAFETY: it came from a box, and the only operation that used it is complete.
            let bytes = unsafe { Box::from_raw(buffer.as_ptr()) };
            return match result {
                8 if *bytes == [0; 8] => Ok(()),
                ..0 => Err(io::Error::from_raw_os_error(-result)),
                _ => Err(io::Error::other(format!("a read of 8 bytes gave {result}"))),
            };
        }
    }

    /// Index of a registered buffer that contains the operation's memory, if there is one.
    fn registered_buffer(&mut self, operation: &RingRead) -> Option<u16> {
        let (arena, offset) = operation.place?;
        while self.may_register && self.registered.len() <= arena {
            self.register(self.registered.len());
        }
        let end = offset + operation.len as usize;
        self.registered.get(arena).filter(|&&bytes| end <= bytes)?;
        u16::try_from(arena).ok()
    }

    /// Registers as much of an arena as the limit on locked memory allows.
    fn register(&mut self, arena: usize) {
        let start = match (self.pool.arena(arena), u32::try_from(arena)) {
            (Some(start), Ok(index)) if index < REGISTERED_ARENAS => Some((start, index)),
            _ => None,
        };
        let Some((start, index)) = start else {
            self.may_register = false;
            return;
        };
        let mut len = ARENA;
        while len >= 1 << 20 {
            let part = libc::iovec { iov_base: start.as_ptr().cast(), iov_len: len };
            // SAFETY: arenas are unmapped with their pool, of which this ring holds a handle; the
            // kernel writes to them only in reads that are queued with memory of their own.
            let result =
                unsafe { self.ring.submitter().register_buffers_update(index, &[part], None) };
            if result.is_ok() {
                break;
            }
            self.may_register = false;
            len /= 2;
        }
        self.registered.push(if len >= 1 << 20 { len } else { 0 });
    }

    fn push(&mut self, entry: &io_uring::squeue::Entry) {
        loop {
            // SAFETY: the caller of `queue` keeps what the entry refers to; the event has no memory.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            // The queue is larger than the limit on operations: it is full only after failed submissions.
            if self.ring.submit().is_err() {
                std::thread::yield_now();
            }
        }
    }
}

impl Ring for KernelRing {
    fn capacity(&self) -> usize {
        self.capacity
    }

    unsafe fn queue(&mut self, token: u64, operation: RingRead) {
        let RingRead { file, memory, len, offset, .. } = operation;
        let entry = match self.registered_buffer(&operation) {
            Some(index) => {
                opcode::ReadFixed::new(Fd(file), memory.as_ptr(), len, index).offset(offset).build()
            }
            None => opcode::Read::new(Fd(file), memory.as_ptr(), len).offset(offset).build(),
        };
        self.push(&entry.user_data(token));
    }

    fn submit(&mut self, wait: Wait) -> io::Result<()> {
        if wait == Wait::Not {
            /// `IORING_ENTER_GETEVENTS`: makes the kernel post completions, even without waiting.
            const GET_EVENTS: u32 = 1;
            let queued = u32::try_from(self.ring.submission().len()).map_err(io::Error::other)?;
            // SAFETY: as many entries as are queued, whose memory their owner keeps, and no argument.
            let entered = unsafe {
                self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GET_EVENTS, None)
            };
            return entered.map(|_| ());
        }
        if !self.watches {
            const READABLE: u32 = libc::POLLIN as u32;
            let entry = opcode::PollAdd::new(Fd(self.wake.as_raw_fd()), READABLE).build();
            self.push(&entry.user_data(WAKE));
            self.watches = true;
        }
        self.ring.submit_and_wait(1).map(|_| ())
    }

    fn completion(&mut self) -> Option<(u64, i32)> {
        loop {
            let entry = self.ring.completion().next()?;
            if entry.user_data() != WAKE {
                return Some((entry.user_data(), entry.result()));
            }
            self.watches = false;
            // Resets the event; if it was reset already, this does nothing.
            let _ = rustix::io::read(self.wake.as_fd(), &mut [0; 8]);
        }
    }

    fn registered(&self) -> usize {
        self.registered.iter().sum()
    }
}
