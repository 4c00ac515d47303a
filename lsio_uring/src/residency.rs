//! Residency of a file in the page cache, as the kernel reports it.

use std::{fs::File, ops::Range};

/// Share of a file's range in the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residency {
    /// All of it: a read is a copy.
    All,
    /// Enough for a read through the page cache to be faster than a read from the drive.
    Most,
    /// None or too little, or unknown.
    Little,
}

/// Asks the kernel how much of `range` is in the page cache. Never waits for a drive.
///
/// Calls [`cachestat(2)`](https://man7.org/linux/man-pages/man2/cachestat.2.html) where the kernel has it and allows
/// it; it doesn't for other users' files that can't be written. Else reads single bytes with the flag not to wait.
///
/// `buffered` returns the file for reads through the page cache.
#[cfg(target_os = "linux")]
pub(crate) fn residency<'f>(
    file: &'f File,
    buffered: impl FnOnce() -> Option<&'f File>,
    range: &Range<u64>,
) -> Residency {
    match cachestat(file, range) {
        Some(cached) => {
            let page = rustix::param::page_size() as u64;
            let pages = range.end.div_ceil(page) - range.start / page;
            if cached >= pages {
                Residency::All
            } else if cached >= pages / 4 * 3 && cached > 0 {
                Residency::Most
            } else {
                Residency::Little
            }
        }
        None => buffered().map_or(Residency::Little, |file| probe(file, range)),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn residency<'f>(
    _: &'f File,
    _: impl FnOnce() -> Option<&'f File>,
    _: &Range<u64>,
) -> Residency {
    Residency::Little
}

/// Number of pages of `range` in the page cache; `None` if the kernel doesn't tell.
#[cfg(target_os = "linux")]
fn cachestat(file: &File, range: &Range<u64>) -> Option<u64> {
    use std::{
        os::fd::AsRawFd as _,
        sync::atomic::{AtomicBool, Ordering},
    };

    /// Number of the system call on all architectures but MIPS, where 451 doesn't exist.
    const CACHESTAT: libc::c_long = 451;
    static MISSING: AtomicBool = AtomicBool::new(false);

    #[repr(C)]
    struct Asked {
        offset: u64,
        length: u64,
    }
    #[repr(C)]
    #[derive(Default)]
    struct Told {
        cached: u64,
        dirty: u64,
        writeback: u64,
        evicted: u64,
        recently_evicted: u64,
    }

    if MISSING.load(Ordering::Relaxed) {
        return None;
    }
    let asked = Asked { offset: range.start, length: range.end - range.start };
    let mut told = Told::default();
    // SAFETY: both structures are laid out as the call defines them and outlive it; it writes to the
    // second only.
    let failed = unsafe {
        libc::syscall(CACHESTAT, file.as_raw_fd(), &raw const asked, &raw mut told, 0_u32)
    } != 0;
    if failed {
        if std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
            MISSING.store(true, Ordering::Relaxed);
        }
        return None;
    }
    Some(told.cached)
}

/// Reads some bytes of `range`, unless they would come from the drive.
#[cfg(target_os = "linux")]
fn probe(file: &File, range: &Range<u64>) -> Residency {
    use rustix::{
        fs::{Advice, fadvise},
        io::{ReadWriteFlags, preadv2},
    };
    use std::io::IoSliceMut;

    const PROBES: u64 = 5;
    // A read that misses makes the kernel read ahead; this advice keeps that small.
    let _ = fadvise(file, 0, None, Advice::Random);
    let last = (range.end - range.start).saturating_sub(1);
    for number in 0..PROBES {
        let offset = range.start + (u128::from(last) * u128::from(number) / 4) as u64;
        let mut byte = [0];
        let read = preadv2(file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT);
        if read != Ok(1) {
            return Residency::Little;
        }
    }
    // The pages between the bytes are unknown.
    Residency::Most
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked() {
        let directory = crate::simulated::directory();
        let path = directory.path().join("f");
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        let file = File::open(&path).unwrap();
        let whole = 0..1 << 20;
        // Just written: all of it is in the page cache.
        if let Some(cached) = cachestat(&file, &whole) {
            assert_eq!(cached, 256);
            assert_eq!(cachestat(&file, &(4095..4097)), Some(2));
            assert_eq!(residency(&file, || Some(&file), &(5..70_000)), Residency::All);
        }
        assert_eq!(probe(&file, &whole), Residency::Most);

        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        if cachestat(&file, &whole) == Some(0) {
            assert_eq!(residency(&file, || Some(&file), &whole), Residency::Little);
            assert_eq!(probe(&file, &whole), Residency::Little);
        }
    }
}
