//! Memory for reads: a bounded pool of arenas on huge pages, reused for every read.
//!
//! A drive writes into memory that the kernel has to pin, page by page: a page of 2 MiB is one entry where pages of 4
//! KiB are 512. Memory that was used before causes no page faults. So reads go to arenas that are aligned to huge
//! pages, faulted in once and never freed. A read's buffer leaves the pool as [`Bytes`] without a copy; dropping the
//! bytes returns the memory.
//!
//! No read ever waits for memory that a consumer holds. Consumers may hold only a part of the pool ([`Pool::lend`]);
//! beyond that they get copies. The rest always returns by itself.
//!
//! A forked process has none of this memory. It would share the pages, and whichever process writes to one first leaves
//! it to the other: the drive could then write into the wrong process (open(2), `O_DIRECT`).

use std::{
    collections::BTreeMap,
    ffi::c_void,
    ops::Range,
    ptr::NonNull,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Alignment of a buffer's start and size in bytes: enough for direct reads on common drives.
pub(crate) const BLOCK: usize = 4096;

/// Bytes by which the pool grows. A multiple of the size of a huge page.
pub(crate) const ARENA: usize = 32 << 20;

/// Size of a huge page in bytes.
const HUGE_PAGE: usize = 2 << 20;

/// Bytes that are never lent, so that reads always find memory.
const RESERVE: usize = 48 << 20;

/// Size in bytes below which buffers are at the end of an arena, and above which at its start. Small buffers that are
/// held for long thus leave large gaps.
const SMALL: usize = 256 << 10;

/// All memory of this kind in the process: addresses, and lengths in bytes.
static MAPPED: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

fn mapped_memory() -> MutexGuard<'static, BTreeMap<usize, usize>> {
    MAPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether bytes lie in memory for reads, which a forked process doesn't have.
#[must_use]
pub fn is_read_memory(bytes: &[u8]) -> bool {
    let address = bytes.as_ptr().addr();
    let mapped = mapped_memory();
    let below = mapped.range(..=address).next_back();
    below.is_some_and(|(start, len)| address - start < *len)
}

/// A bounded pool of memory.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<SharedPool>);

#[derive(Debug)]
struct SharedPool {
    arenas: Mutex<Vec<Arena>>,
    /// Upper bound on the number of arenas.
    limit: usize,
    /// Upper bound in bytes on the memory that consumers hold.
    lent_limit: usize,
    lent: AtomicUsize,
    /// Bytes of all existing buffers, including those outside the arenas.
    used: AtomicUsize,
}

#[derive(Debug)]
struct Arena {
    memory: Memory,
    /// Free extents: offset and length in bytes. No two are adjacent.
    free: BTreeMap<usize, usize>,
}

impl Pool {
    /// An empty pool that grows up to `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        let limit = bytes.div_ceil(ARENA);
        Self(Arc::new(SharedPool {
            arenas: Mutex::default(),
            limit,
            lent_limit: limit.saturating_mul(ARENA).saturating_sub(RESERVE),
            lent: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
        }))
    }

    /// Buffer of at least `len` bytes from the pool; `None` if the pool has no such gap now. The bytes are initialised,
    /// with arbitrary contents.
    pub(crate) fn take(&self, len: usize) -> Option<Buffer> {
        let size = len.max(1).checked_next_multiple_of(BLOCK).filter(|&size| size <= ARENA)?;
        let mut arenas = self.0.arenas();
        let mut found = arenas
            .iter_mut()
            .enumerate()
            .find_map(|(index, arena)| Some((index, arena.take(size)?)));
        if found.is_none() && arenas.len() < self.0.limit {
            let mut arena = Arena::new()?;
            found = arena.take(size).map(|offset| (arenas.len(), offset));
            arenas.push(arena);
        }
        let (arena, offset) = found?;
        let start = arenas[arena].memory.at(offset);
        drop(arenas);
        self.0.used.fetch_add(size, Ordering::Relaxed);
        let home = Home::Pool { pool: Arc::clone(&self.0), arena, offset };
        Some(Buffer { start, size, home })
    }

    /// Buffer with a mapping of its own, for when the pool has no memory.
    ///
    /// # Errors
    /// [`std::io::ErrorKind::OutOfMemory`].
    pub(crate) fn map(&self, len: usize) -> std::io::Result<Buffer> {
        let exhausted = || std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let size = len.max(1).checked_next_multiple_of(BLOCK).ok_or_else(exhausted)?;
        let memory = Memory::map(size, BLOCK).ok_or_else(exhausted)?;
        let start = memory.start;
        self.0.used.fetch_add(size, Ordering::Relaxed);
        Ok(Buffer { start, size, home: Home::Own { pool: Arc::clone(&self.0), _memory: memory } })
    }

    /// Hands a part of a buffer to a consumer: the buffer itself, unless it is much larger than the part or consumers
    /// hold too much memory already; else a copy.
    pub(crate) fn lend(&self, buffer: Buffer, part: Range<usize>) -> Bytes {
        let wasteful = buffer.size > 2 * part.len().next_multiple_of(BLOCK) + BLOCK;
        if wasteful {
            return Bytes::copy_from_slice(&buffer.as_ref()[part]);
        }
        if matches!(buffer.home, Home::Own { .. }) {
            return Bytes::from_owner(buffer).slice(part);
        }
        let lent = self.0.lent.fetch_add(buffer.size, Ordering::Relaxed);
        let loan = Loan(buffer);
        if lent + loan.0.size > self.0.lent_limit {
            return Bytes::copy_from_slice(&loan.0.as_ref()[part]);
        }
        Bytes::from_owner(loan).slice(part)
    }

    /// Whether a buffer of `len` bytes could be lent now.
    pub(crate) fn may_lend(&self, len: usize) -> bool {
        self.0.lent.load(Ordering::Relaxed).saturating_add(len) <= self.0.lent_limit
    }

    /// Memory of the arena `index`, if it exists.
    pub(crate) fn arena(&self, index: usize) -> Option<NonNull<u8>> {
        self.0.arenas().get(index).map(|arena| arena.memory.start)
    }

    /// Bytes of all arenas.
    pub(crate) fn size(&self) -> usize {
        self.0.arenas().len() * ARENA
    }

    /// Bytes of all existing buffers, including lent ones and those outside the arenas.
    pub(crate) fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }
}

impl SharedPool {
    fn arenas(&self) -> MutexGuard<'_, Vec<Arena>> {
        // No critical section can leave an arena in an inconsistent state.
        self.arenas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arena {
    fn new() -> Option<Self> {
        let memory = Memory::huge(ARENA)?;
        Some(Self { memory, free: BTreeMap::from([(0, ARENA)]) })
    }

    /// Takes `size` bytes from a free extent.
    fn take(&mut self, size: usize) -> Option<usize> {
        let fits = |(_, length): &(&usize, &usize)| **length >= size;
        if size < SMALL {
            let (&offset, &length) = self.free.iter().rev().find(fits)?;
            self.shrink(offset, length - size);
            Some(offset + length - size)
        } else {
            let (&offset, &length) = self.free.iter().find(fits)?;
            self.shrink(offset, 0);
            if length > size {
                self.free.insert(offset + size, length - size);
            }
            Some(offset)
        }
    }

    fn shrink(&mut self, offset: usize, length: usize) {
        if length == 0 {
            self.free.remove(&offset);
        } else {
            self.free.insert(offset, length);
        }
    }

    /// Returns an extent, and joins it with its neighbours.
    fn put(&mut self, offset: usize, size: usize) {
        let (mut start, mut end) = (offset, offset + size);
        if let Some((&before, &length)) = self.free.range(..offset).next_back()
            && before + length == start
        {
            start = before;
        }
        if let Some(length) = self.free.remove(&end) {
            end += length;
        }
        self.free.insert(start, end - start);
    }
}

/// Memory for one read, at a multiple of [`BLOCK`].
#[derive(Debug)]
pub(crate) struct Buffer {
    start: NonNull<u8>,
    size: usize,
    home: Home,
}

#[derive(Debug)]
enum Home {
    Pool { pool: Arc<SharedPool>, arena: usize, offset: usize },
    Own { pool: Arc<SharedPool>, _memory: Memory },
}

// SAFETY: a buffer is the only owner of its bytes, as a Box would be.
unsafe impl Send for Buffer {}
// SAFETY: sharing a buffer gives only shared access to its bytes.
unsafe impl Sync for Buffer {}

impl Buffer {
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// First byte, for the kernel to write to.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Arena of the buffer and offset in it; `None` for a buffer with its own mapping.
    pub(crate) fn place(&self) -> Option<(usize, usize)> {
        match &self.home {
            Home::Pool { arena, offset, .. } => Some((*arena, *offset)),
            Home::Own { .. } => None,
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the memory is initialised, `size` bytes long and owned by this buffer alone.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.size) }
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `as_ref`, and nothing else refers to it while `self` is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.size) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        match &self.home {
            Home::Pool { pool, arena, offset } => {
                pool.used.fetch_sub(self.size, Ordering::Relaxed);
                if let Some(arena) = pool.arenas().get_mut(*arena) {
                    arena.put(*offset, self.size);
                }
            }
            Home::Own { pool, .. } => {
                pool.used.fetch_sub(self.size, Ordering::Relaxed);
            }
        }
    }
}

/// A buffer of the pool that a consumer holds.
struct Loan(Buffer);

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Home::Pool { pool, .. } = &self.0.home {
            pool.lent.fetch_sub(self.0.size, Ordering::Relaxed);
        }
    }
}

/// Zeroed memory with its own mapping.
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    size: usize,
    /// The whole mapping. It may begin before `start`, for alignment.
    mapping: NonNull<c_void>,
    mapped: usize,
}

// SAFETY: it owns its memory, and gives out pointers only.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps memory aligned to `align` bytes, a multiple of the page size.
    fn map(size: usize, align: usize) -> Option<Self> {
        let mapped = if align > BLOCK { size.checked_add(align)? } else { size };
        // SAFETY: the kernel chooses the address, so nothing is overwritten.
        let mapping = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                mapped,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let mapping = NonNull::new(mapping.ok()?)?;
        let skipped = mapping.as_ptr().addr().next_multiple_of(align) - mapping.as_ptr().addr();
        // SAFETY: `align` more bytes were mapped than are used, if any have to be skipped.
        let start = unsafe { mapping.cast::<u8>().add(skipped) };
        let memory = Self { start, size, mapping, mapped };
        mapped_memory().insert(mapping.as_ptr().addr(), mapped);
        #[cfg(target_os = "linux")]
        // SAFETY: the range is ours alone, and the advice doesn't change what it holds.
        unsafe {
            use rustix::mm::{Advice, madvise};
            // A system that doesn't know the advice copies the memory at a fork.
            let _ = madvise(mapping.as_ptr(), mapped, Advice::LinuxDontFork);
        }
        Some(memory)
    }

    /// Maps memory on huge pages, where the system has them, and faults it in.
    fn huge(size: usize) -> Option<Self> {
        let memory = Self::map(size, HUGE_PAGE)?;
        #[cfg(target_os = "linux")]
        {
            use rustix::mm::{Advice, madvise};
            let start = memory.start.as_ptr().cast();
            // Both are hints: without them, memory is only slower.
            // SAFETY: the range is ours alone, and neither advice changes what it holds.
            unsafe {
                let _ = madvise(start, size, Advice::LinuxHugepage);
                let _ = madvise(start, size, Advice::LinuxPopulateWrite);
            }
        }
        Some(memory)
    }

    fn at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset < self.size, "an offset beyond the memory");
        // SAFETY: offsets come from the arena's free list and lie inside its memory.
        unsafe { self.start.add(offset) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        mapped_memory().remove(&self.mapping.as_ptr().addr());
        // SAFETY: mapped in `map` with this size; the last owner is gone.
        let _ = unsafe { munmap(self.mapping.as_ptr(), self.mapped) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back() {
        let pool = Pool::new(ARENA);
        let large = pool.take(ARENA / 2).unwrap();
        let small = pool.take(5).unwrap();
        assert_eq!(large.place(), Some((0, 0)));
        assert_eq!(small.place(), Some((0, ARENA - BLOCK)));
        assert_eq!(pool.used(), ARENA / 2 + BLOCK);
        assert!(pool.take(ARENA / 2).is_none());
        assert!(pool.take(ARENA / 2 - BLOCK).is_some());
        drop(large);
        drop(small);
        assert_eq!(pool.used(), 0);
        assert_eq!(pool.take(ARENA).unwrap().size(), ARENA);
        assert!(pool.take(ARENA + 1).is_none());
    }

    #[test]
    fn extents_join_in_any_order() {
        let pool = Pool::new(ARENA);
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut buffers: Vec<_> = (0..3).map(|_| pool.take(ARENA / 4)).collect();
            for index in order {
                buffers[index] = None;
            }
            assert!(pool.take(ARENA).is_some(), "{order:?}");
        }
    }

    #[test]
    fn buffers_hold_what_was_written() {
        let pool = Pool::new(ARENA);
        let mut buffers: Vec<_> = (1..200_u8)
            .map(|n| {
                let mut buffer = pool.take(usize::from(n) * 700).unwrap();
                buffer.as_mut().fill(n);
                buffer
            })
            .collect();
        buffers.push(pool.map(10).unwrap());
        for (n, buffer) in (1..200_u8).zip(&buffers) {
            assert!(buffer.as_ref().iter().all(|&byte| byte == n));
            assert_eq!(buffer.start().as_ptr().addr() % BLOCK, 0);
        }
    }

    #[test]
    fn what_consumers_hold_is_bounded() {
        let pool = Pool::new(2 * ARENA);
        let held: Vec<_> = (0..100)
            .map(|_| {
                let buffer = pool.take(1 << 20).unwrap();
                pool.lend(buffer, 0..1 << 20)
            })
            .collect();
        assert_eq!(held.len(), 100);
        assert!(pool.used() <= 2 * ARENA - RESERVE);
        assert!(!pool.may_lend(1 << 20));
        drop(held);
        assert_eq!(pool.used(), 0);
        assert!(pool.may_lend(1 << 20));
    }

    #[test]
    fn memory_for_reads_is_known() {
        let pool = Pool::new(ARENA);
        let own = pool.map(5000).unwrap();
        let buffer = pool.take(5000).unwrap();
        for bytes in [own.as_ref(), &buffer.as_ref()[4999..]] {
            assert!(is_read_memory(bytes));
        }
        assert!(!is_read_memory(&[0; 10]));
    }

    /// The child of a fork asks the system whether it has the memory, and touches nothing else.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_forked_process_does_not_have_the_memory() {
        let pool = Pool::new(ARENA);
        let buffer = pool.take(5000).unwrap();
        let own = pool.map(5000).unwrap();
        let common = vec![0_u8; 1 << 20];
        let page = |bytes: &[u8]| bytes.as_ptr().wrapping_sub(bytes.as_ptr().addr() % BLOCK);
        let pages = [page(buffer.as_ref()), page(own.as_ref()), page(&common)];
        let has = |page: *const u8| {
            let mut resident = [0_u8; 1];
            // SAFETY: the call only looks at a page's entry, and writes one byte of `resident`.
            unsafe { libc::mincore(page.cast_mut().cast(), BLOCK, resident.as_mut_ptr()) == 0 }
        };
        assert_eq!(pages.map(has), [true; 3]);
        // SAFETY: the child makes system calls alone, which are safe after a fork of a process with threads.
        let status = unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(pages.iter().fold(0, |bits, page| bits * 2 + i32::from(has(*page))));
            }
            assert!(child > 0, "{}", std::io::Error::last_os_error());
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            status
        };
        assert!(libc::WIFEXITED(status));
        // Only the last page is there.
        assert_eq!(libc::WEXITSTATUS(status), 0b001);
    }

    #[test]
    fn a_small_part_does_not_hold_a_large_buffer() {
        let pool = Pool::new(2 * ARENA);
        let mut buffer = pool.take(1 << 20).unwrap();
        buffer.as_mut()[7] = 42;
        let part = pool.lend(buffer, 7..8);
        assert_eq!(pool.used(), 0);
        assert_eq!(&part[..], &[42]);
        let kept = pool.lend(pool.take(20_000).unwrap(), 100..15_000);
        assert_eq!(kept.len(), 14_900);
        assert_eq!(pool.used(), 20_480);
    }
}
