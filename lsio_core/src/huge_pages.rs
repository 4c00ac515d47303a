//! Memory on huge pages: less time for page faults, and for finding pages in many places.

use bytes::BytesMut;

/// Alignment of memory, in bytes: that of a cache line.
const LINE: usize = 64;

/// Zeros, aligned to cache lines, and on huge pages where the system has them.
pub(crate) fn zeroed(len: usize) -> BytesMut {
    let mut memory = BytesMut::zeroed(len.saturating_add(LINE));
    let skipped = memory.as_ptr().align_offset(LINE).min(LINE);
    drop(memory.split_to(skipped));
    memory.truncate(len);
    advise(&mut memory);
    memory
}

/// Asks for huge pages where whole ones lie in the memory.
#[cfg(target_os = "linux")]
pub(crate) fn advise(memory: &mut [u8]) {
    /// Size of a huge page in bytes.
    const HUGE_PAGE: usize = 2 << 20;

    let skipped = memory.as_ptr().align_offset(HUGE_PAGE);
    let Some(rest) = memory.get_mut(skipped..) else { return };
    let len = rest.len() / HUGE_PAGE * HUGE_PAGE;
    if len > 0 {
        // A hint: without it, memory is only slower.
        // SAFETY: the range is ours alone, and the advice doesn't change what it holds.
        unsafe {
            libc::madvise(rest.as_mut_ptr().cast(), len, libc::MADV_HUGEPAGE);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn advise(_memory: &mut [u8]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_holds_aligned_zeros() {
        for len in [0, 1, 1000, 5 << 20] {
            let mut memory = zeroed(len);
            assert_eq!((memory.len(), memory.as_ptr().align_offset(LINE)), (len, 0));
            assert!(memory.iter().all(|byte| *byte == 0));
            memory.fill(1);
        }
    }
}
