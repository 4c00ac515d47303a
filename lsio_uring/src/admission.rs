//! Which reads of bytes outside the page cache fill it: a policy on facts, and what it remembers.
//!
//! A first read goes past the page cache, so that a scan of more than the memory costs others nothing. A second read
//! of the same bytes fills it, if it comes soon: within an hour, and after fewer other bytes than the free memory
//! holds. The bytes read in between are the *reuse distance*: a cache of that many bytes would have had a hit. Bytes
//! that were filled in and are gone again show that the memory holds less, and are read past the cache from then on.

use std::{
    fs::Metadata,
    ops::Range,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Mutex, OnceLock, PoisonError},
};

use super::{free_memory, ghosts::Ghosts};

/// Bytes of a block, the unit of what is remembered. A range has the blocks that it covers by half.
const BLOCK: u64 = 64 << 10;

/// Number of blocks of one [`Ghost`].
const BLOCKS: u64 = u64::BITS as u64;

/// Seconds after which a read is a first one again.
const SOON: u64 = 3600;

/// Bytes read since a fill below which it may still be under way.
const UNDER_WAY: u64 = 256 << 20;

/// Bytes read, and seconds passed, before the free memory is looked up again.
const STALE: Moment = Moment { bytes: 256 << 20, seconds: 10 };

/// A point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Bytes read from drives so far, past the page cache or into it.
    pub(crate) bytes: u64,
    /// Seconds since 1970.
    pub(crate) seconds: u64,
}

/// What is remembered of the 64 blocks of a part of a file: bit by bit, how they were read from the drive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ghost {
    /// Blocks read past the page cache.
    pub(crate) past: u64,
    /// Blocks that a read filled in.
    pub(crate) filled: u64,
    /// Blocks that were filled in, and didn't stay.
    pub(crate) lost: u64,
    /// The last of these reads.
    pub(crate) at: Moment,
}

/// A version of a file: another one has never been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileVersion(u64);

/// The policy of an engine, with its memory.
#[derive(Debug)]
pub(crate) struct Admission {
    directory: Option<PathBuf>,
    /// Bytes that the page cache may be filled with, if they are given.
    limit: Option<u64>,
    ghosts: OnceLock<Ghosts>,
    free: Mutex<Option<(Moment, u64)>>,
}

impl FileVersion {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let parts = [
            metadata.dev(),
            metadata.ino(),
            metadata.len(),
            metadata.mtime().cast_unsigned(),
            metadata.mtime_nsec().cast_unsigned(),
        ];
        Self(parts.into_iter().fold(0, mixed))
    }
}

impl Ghost {
    /// The same, unless the last read is too long ago.
    fn fresh(self, now: Moment) -> Option<Self> {
        (now.seconds.saturating_sub(self.at.seconds) <= SOON).then_some(self)
    }

    /// Bytes read since the last read.
    pub(crate) fn distance(&self, now: Moment) -> u64 {
        now.bytes.wrapping_sub(self.at.bytes)
    }

    /// Blocks for which another read is the second one.
    fn again(&self, now: Moment) -> u64 {
        let under_way = self.distance(now) < UNDER_WAY;
        (self.past | if under_way { self.filled } else { 0 }) & !self.lost
    }

    /// What is to be remembered after a read of `blocks`.
    fn after(self, blocks: u64, fills: bool, now: Moment) -> Self {
        let lost = if fills { 0 } else { blocks & self.filled & !self.again(now) };
        let lost = self.lost | lost;
        // What doesn't stay is given another chance after an hour, however often it is read until then.
        let at = if blocks & !self.lost == 0 { self.at } else { now };
        let filled = (if fills { self.filled | blocks } else { self.filled }) & !lost;
        Self { past: (self.past | blocks) & !filled & !lost, filled, lost, at }
    }
}

/// Whether a read fills the page cache. `parts` are the blocks of each part that it wants, with what is remembered of
/// them; `holds` is the number of bytes that the page cache may be filled with.
fn fills(parts: &[(u64, Option<Ghost>)], now: Moment, holds: impl FnOnce() -> u64) -> bool {
    let (mut wanted, mut again, mut distance) = (0, 0, 0);
    for (blocks, ghost) in parts {
        wanted += blocks.count_ones();
        if let Some(ghost) = ghost.and_then(|ghost| ghost.fresh(now)) {
            again += (blocks & ghost.again(now)).count_ones();
            distance = distance.max(ghost.distance(now));
        }
    }
    // Most of them: a query that wants a little more is no other query.
    again > 0 && again * 4 >= wanted * 3 && distance <= holds()
}

/// Parts of a range: their numbers in the file, with the blocks wanted of them.
fn parts(range: &Range<u64>) -> impl Iterator<Item = (u64, u64)> {
    let nearest = |at: u64| (at / BLOCK).saturating_add(u64::from(at % BLOCK >= BLOCK / 2));
    let (mut first, mut end) = (nearest(range.start), nearest(range.end));
    if first >= end {
        // Little more than half of a block: the one with its middle.
        first = (range.start / 2 + range.end / 2) / BLOCK;
        end = first + 1;
    }
    (first / BLOCKS..end.div_ceil(BLOCKS)).map(move |part| {
        let (from, to) = (first.max(part * BLOCKS), end.min((part + 1) * BLOCKS));
        let mask = (u64::MAX >> (BLOCKS - (to - from))) << (from % BLOCKS);
        (part, mask)
    })
}

impl Admission {
    /// Remembers in a directory of the user's own below `directory`, or only in memory. `limit` replaces the size of the
    /// free memory.
    pub(crate) fn new(directory: Option<PathBuf>, limit: Option<u64>) -> Self {
        Self { directory, limit, ghosts: OnceLock::new(), free: Mutex::default() }
    }

    /// Whether a read of a range, which isn't in the page cache, fills it.
    pub(crate) fn fills(&self, version: FileVersion, range: &Range<u64>) -> bool {
        let ghosts = self.ghosts();
        let now = ghosts.now();
        let parts: Vec<_> = parts(range)
            .map(|(part, blocks)| (blocks, ghosts.get(mixed(version.0, part))))
            .collect();
        fills(&parts, now, || self.holds(now))
    }

    /// Remembers a read of a range from the drive.
    pub(crate) fn note(&self, version: FileVersion, range: &Range<u64>, fills: bool) {
        let ghosts = self.ghosts();
        let now = ghosts.now();
        for (part, blocks) in parts(range) {
            let key = mixed(version.0, part);
            ghosts.update(key, now, |ghost| {
                let ghost = ghost.and_then(|ghost| ghost.fresh(now)).unwrap_or_default();
                ghost.after(blocks, fills, now)
            });
        }
        ghosts.advance(range.end - range.start);
    }

    fn ghosts(&self) -> &Ghosts {
        self.ghosts.get_or_init(|| Ghosts::below(self.directory.as_deref()))
    }

    /// Bytes that the page cache may be filled with.
    fn holds(&self, now: Moment) -> u64 {
        if let Some(limit) = self.limit {
            return limit;
        }
        let mut known = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, bytes)) = *known
            && now.bytes.wrapping_sub(then.bytes) < STALE.bytes
            && now.seconds.saturating_sub(then.seconds) < STALE.seconds
        {
            return bytes;
        }
        // Unknown is none: then reads go past the cache.
        let bytes = free_memory::bytes("/".as_ref()).unwrap_or(0);
        *known = Some((now, bytes));
        bytes
    }
}

/// A number that depends on two others: the finalizer of SplitMix64.
pub(super) fn mixed(seed: u64, value: u64) -> u64 {
    let mut mixed = (seed ^ value).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).wrapping_add(seed.rotate_left(32))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(bytes: u64) -> Moment {
        Moment { bytes, seconds: 1000 }
    }

    fn admission(limit: u64) -> Admission {
        Admission::new(None, Some(limit))
    }

    /// Whether each of the pieces of a file of `bytes` bytes fills the cache, in a scan.
    fn scan(admission: &Admission, version: u64, bytes: u64) -> Vec<bool> {
        let piece = 8 * MIB;
        let pieces = (0..bytes / piece).map(|n| n * piece..(n + 1) * piece);
        let scanned = pieces.map(|range| {
            let fills = admission.fills(FileVersion(version), &range);
            admission.note(FileVersion(version), &range, fills);
            fills
        });
        scanned.collect()
    }

    #[test]
    fn the_second_look_fills() {
        let admission = admission(1024 * MIB);
        assert!(!scan(&admission, 1, 512 * MIB).contains(&true));
        assert!(!scan(&admission, 2, 512 * MIB).contains(&true), "another version");
        assert!(!scan(&admission, 1, 512 * MIB)[1..].contains(&false));
        // What was filled in and is read from the drive again didn't stay.
        assert!(!scan(&admission, 1, 512 * MIB).contains(&true));
        assert!(!scan(&admission, 1, 512 * MIB).contains(&true));
        assert!(!scan(&admission, 2, 512 * MIB).contains(&true), "1.5 GiB ago");
        assert!(!scan(&admission, 2, 512 * MIB).contains(&false));
    }

    #[test]
    fn more_than_the_memory_holds_never_fills() {
        let admission = admission(1024 * MIB);
        for _ in 0..4 {
            assert!(!scan(&admission, 1, 3072 * MIB).contains(&true));
        }
    }

    #[test]
    fn an_hour_later_is_a_first_look() {
        let ghost = Ghost::default().after(0b11, false, at(0));
        let later = |seconds| Moment { bytes: 5, seconds: 1000 + seconds };
        for (seconds, expected) in [(0, true), (SOON, true), (SOON + 1, false)] {
            assert_eq!(fills(&[(0b11, Some(ghost))], later(seconds), || 10), expected);
        }
        assert!(!fills(&[(0b11, Some(ghost))], later(0), || 4), "too many bytes in between");
        assert!(fills(
            &[(0b0111_1110_u64, Some(Ghost { past: 0b11_1110, ..ghost }))],
            later(0),
            || 5
        ));
        assert!(!fills(
            &[(0b0111_1110_u64, Some(Ghost { past: 0b1110, ..ghost }))],
            later(0),
            || 5
        ));
        assert!(!fills(&[(1, None)], later(0), || 10) && !fills(&[], later(0), || 10));
    }

    #[test]
    fn a_fill_under_way_is_joined() {
        let filled = Ghost::default().after(1, false, at(0)).after(1, true, at(10));
        assert_eq!((filled.past, filled.filled), (0, 1));
        assert!(fills(&[(1, Some(filled))], at(20), || MIB));
        let later = at(10 + UNDER_WAY);
        assert!(!fills(&[(1, Some(filled))], later, || 2 * UNDER_WAY));
        let lost = filled.after(1, false, later);
        assert_eq!((lost.past, lost.filled, lost.lost), (0, 0, 1));
        assert!(!fills(&[(1, Some(lost))], later, || MIB));
    }

    proptest! {
        #[test]
        fn neighbours_share_no_block(cuts in prop::collection::btree_set(0..u64::MAX / 2, 2..20)) {
            let cuts: Vec<u64> = cuts.into_iter().map(|cut| cut % (40 * MIB)).collect();
            let mut cuts: Vec<u64> = cuts.into_iter().map(|cut| cut / (BLOCK / 2) * (BLOCK / 2)).collect();
            cuts.sort_unstable();
            cuts.dedup();
            let mut seen = std::collections::BTreeMap::<u64, u64>::new();
            for range in cuts.windows(2).map(|pair| pair[0]..pair[1]) {
                for (part, blocks) in parts(&range) {
                    prop_assert!(blocks != 0 && part * BLOCK * BLOCKS < range.end);
                    if range.end - range.start >= 2 * BLOCK {
                        prop_assert_eq!(*seen.entry(part).or_default() & blocks, 0);
                        *seen.entry(part).or_default() |= blocks;
                    }
                }
            }
        }
    }
}
