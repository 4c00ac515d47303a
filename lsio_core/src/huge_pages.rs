//! Memory on huge pages: less time for page faults, and for finding pages in many places.

use bytes::BytesMut;

/// Alignment of memory, in bytes: that of a cache line.
const LINE: usize = 64;

/// Size of a huge page in bytes.
#[cfg(any(target_os = "linux", test))]
const HUGE_PAGE: usize = 2 << 20;

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
fn advise(memory: &mut [u8]) {
    give(memory, libc::MADV_HUGEPAGE);
}

#[cfg(not(target_os = "linux"))]
fn advise(_memory: &mut [u8]) {}

/// Asks for huge pages for memory of a caller, if the system has plenty of them free; else for small ones. To make a huge
/// page the system moves others, which takes many times as long as the small pages that it saves.
#[cfg(target_os = "linux")]
pub(crate) fn advise_free(memory: &mut [u8]) {
    let Ok(free) = std::fs::read_to_string("/proc/buddyinfo") else { return };
    let is_plenty = free_bytes(&free) / 2 >= memory.len() as u64;
    give(memory, if is_plenty { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE });
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn advise_free(_memory: &mut [u8]) {}

/// Bytes of free blocks that hold huge pages, by Linux's list of free blocks: of each zone the numbers of blocks of one
/// page, two, four, ….
#[cfg(any(target_os = "linux", test))]
fn free_bytes(list: &str) -> u64 {
    /// Size of the smallest pages in bytes. Where they are larger, fewer bytes are counted.
    const PAGE: u64 = 4096;

    let blocks = list.lines().flat_map(|zone| zone.split_whitespace().skip(4).enumerate());
    let bytes = blocks.filter_map(|(order, count)| {
        let block = PAGE.checked_shl(u32::try_from(order).ok()?)?;
        (block >= HUGE_PAGE as u64).then_some(count.parse::<u64>().ok()?.saturating_mul(block))
    });
    bytes.fold(0, u64::saturating_add)
}

/// Gives advice on the huge pages that lie in the memory as a whole.
#[cfg(target_os = "linux")]
fn give(memory: &mut [u8], advice: libc::c_int) {
    let skipped = memory.as_ptr().align_offset(HUGE_PAGE);
    let Some(rest) = memory.get_mut(skipped..) else { return };
    let len = rest.len() / HUGE_PAGE * HUGE_PAGE;
    if len > 0 {
        // A hint: without it, memory is only slower.
        // SAFETY: the range is ours alone, and the advice doesn't change what it holds.
        unsafe {
            libc::madvise(rest.as_mut_ptr().cast(), len, advice);
        }
    }
}

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

    #[test]
    fn free_huge_pages_are_counted() {
        let list = "Node 0, zone      DMA      0      0      0      0      0      0      0      0      1      1      3 \n\
                    Node 0, zone   Normal   6063   4047    865    298     43     21      3      3      0      2      1 \n";
        // Blocks of 2 and of 4 MiB.
        assert_eq!(free_bytes(list), (3 * 2 + 4 * 4) << 20);
        assert_eq!(free_bytes("nothing of the kind"), 0);
        let mut memory = vec![7; 5 << 20];
        advise_free(&mut memory);
        assert!(memory.iter().all(|byte| *byte == 7));
    }
}
