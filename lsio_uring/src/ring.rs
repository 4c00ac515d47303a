//! The kernel's queue pair, and the interface by which a test can stand in for it.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
    ptr::NonNull,
    sync::Arc,
};

use io_uring::{IoUring, opcode, types::Fd};

use super::buffers::{ARENA, Pool};

/// What reads into memory, in any order.
pub(super) trait Ring {
    /// The most operations that may be under way.
    fn capacity(&self) -> usize;

    /// Queues an operation; [`Ring::submit`] starts it.
    ///
    /// # Safety
    /// The memory and the file must stay as they are until the completion of `token` was returned,
    /// and nothing else may use the memory meanwhile.
    unsafe fn queue(&mut self, token: u64, operation: Operation);

    /// Starts what is queued, and waits if it is to.
    ///
    /// # Errors
    /// What is queued stays queued, and its memory stays the kernel's.
    fn submit(&mut self, wait: Wait) -> io::Result<()>;

    /// The next completion: its token, and the number of bytes or a negative error code.
    fn completion(&mut self) -> Option<(u64, i32)>;

    /// The bytes of memory that the kernel has registered.
    fn registered(&self) -> usize;
}

/// Whether to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Only for a look at what has completed.
    Not,
    /// Until something completes, or the event that wakes the ring is signalled.
    ForCompletion,
}

/// One read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) file: RawFd,
    pub(super) memory: NonNull<u8>,
    /// The arena that the memory is in, and the offset there.
    pub(super) place: Option<(usize, usize)>,
    pub(super) len: u32,
    pub(super) offset: u64,
}

/// The kernel's ring. Made and used by one thread.
pub(super) struct KernelRing {
    ring: IoUring,
    capacity: usize,
    /// The event that wakes the ring.
    wake: Arc<OwnedFd>,
    /// Whether the ring watches for the event.
    watches: bool,
    pool: Pool,
    /// For each arena the bytes from its start that are registered.
    registered: Vec<usize>,
    /// Whether more memory may be registered.
    may_register: bool,
}

/// The token of the event that wakes the ring.
const WAKE: u64 = u64::MAX;

/// The most arenas that are registered.
const REGISTERED_ARENAS: u32 = 1024;

impl KernelRing {
    /// Makes a ring for `capacity` reads and shows that it works.
    ///
    /// # Errors
    /// Where io_uring is missing, forbidden or out of locked memory.
    pub(super) fn new(capacity: usize, wake: Arc<OwnedFd>, pool: Pool) -> io::Result<Self> {
        let entries = u32::try_from(capacity + 1).map_err(io::Error::other)?.next_power_of_two();
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(entries)
            // Older kernels know neither; nothing depends on them.
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

    /// Reads something: that a ring can be made doesn't say that it may be used.
    fn probe(&mut self) -> io::Result<()> {
        let file = std::fs::File::open("/dev/zero")?;
        // Not freed unless its read has completed.
        let buffer = NonNull::from(Box::leak(Box::new([1_u8; 8])));
        let operation = Operation {
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

    /// The index of a registered buffer that contains the memory, if there is one.
    fn registered_buffer(&mut self, operation: &Operation) -> Option<u16> {
        let (arena, offset) = operation.place?;
        while self.may_register && self.registered.len() <= arena {
            self.register(self.registered.len());
        }
        let end = offset + operation.len as usize;
        self.registered.get(arena).filter(|&&bytes| end <= bytes)?;
        u16::try_from(arena).ok()
    }

    /// Registers as much of an arena as the limit of locked memory allows.
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
            // The queue is larger than what may be under way: it is full only of what a submission
            // that failed has left.
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

    unsafe fn queue(&mut self, token: u64, operation: Operation) {
        let Operation { file, memory, len, offset, .. } = operation;
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
            /// `IORING_ENTER_GETEVENTS`: has the kernel bring completions, even without waiting.
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
            // Resets the event; if it was reset already, there is nothing to do.
            let _ = rustix::io::read(self.wake.as_fd(), &mut [0; 8]);
        }
    }

    fn registered(&self) -> usize {
        self.registered.iter().sum()
    }
}
