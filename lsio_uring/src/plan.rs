//! Maps a caller's ranges to the spans that are read, and spans back to ranges. Near ranges are merged, and large ones
//! split.

use std::{collections::BTreeMap, ops::Range};

use bytes::{Bytes, BytesMut};

use super::{
    error::ReadError,
    files::OpenFile,
    reads::{Span, Spans},
    ways::{Chooser, ReadWay},
};

/// Upper bound in bytes of a range that is returned in one piece of memory.
const CONTIGUOUS: u64 = 32 << 20;

/// Size in bytes of the spans of a longer range.
const PIECE: u64 = 4 << 20;

/// Largest gap in bytes between ranges to read rather than skip: another read of a drive takes about as long as reading
/// this many bytes, and more of the processor's time.
const DRIVE_GAP: u64 = 64 << 10;

/// Largest gap in bytes for copies from the page cache.
const CACHE_GAP: u64 = 4 << 10;

/// Upper bound in bytes on merged ranges.
const MERGED: u64 = 4 << 20;

/// Spans to read for some ranges, with the bytes of each range in them.
#[derive(Debug)]
pub(crate) struct Plan {
    ranges: Vec<Range<u64>>,
    /// Numbers of the nonempty ranges, by their start.
    order: Vec<usize>,
    spans: Vec<PlannedSpan>,
    /// Landed parts of ranges that have several spans, by span.
    landed: BTreeMap<usize, Bytes>,
}

#[derive(Debug)]
struct PlannedSpan {
    span: Span,
    /// Ranges that the span serves, as indices into `order`.
    users: Range<usize>,
    /// Sum of the bytes that the ranges use; overlapping bytes count several times.
    wanted: u64,
    /// All spans of the range, where a range has several.
    siblings: Option<Range<usize>>,
}

/// Spans of one range: one if it is small enough, else several in order. Each of several chooses its way when it is
/// started.
pub(crate) fn split(file: &OpenFile, range: Range<u64>, chooser: &Chooser) -> Spans {
    if range.end - range.start <= CONTIGUOUS {
        let way = Some(chooser.choose(file, &range));
        Spans::Listed(vec![Span { range, way }])
    } else {
        Spans::Pieces { range, size: PIECE }
    }
}

fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let spans = if range.end - range.start <= CONTIGUOUS {
        Spans::Listed(vec![Span { range, way: None }])
    } else {
        Spans::Pieces { range, size: PIECE }
    };
    (0..spans.len()).map(move |number| spans.get(number).range)
}

impl Plan {
    /// Plans the reads of ranges of a file of `length` bytes.
    ///
    /// # Errors
    /// That of [`LocalFileSystem`](object_store::local::LocalFileSystem) for a nonempty range beyond the file's end,
    /// and an error for a range that ends before it starts.
    pub(crate) fn new(
        file: &OpenFile,
        ranges: &[Range<u64>],
        length: u64,
        chooser: &Chooser,
    ) -> Result<Self, ReadError> {
        for &Range { start, end } in ranges {
            if start > end || (start < end && end > length) {
                let path = file.path().to_owned();
                return Err(ReadError::OutOfRange { path, start, end, length });
            }
            // A sparse file may have more bytes than there is memory for.
            let room =
                usize::try_from(end - start).map(|len| Vec::<u8>::new().try_reserve_exact(len));
            if !matches!(room, Ok(Ok(()))) {
                let error = std::io::ErrorKind::OutOfMemory.into();
                return Err(ReadError::read(file.path(), error));
            }
        }
        Ok(Self::with(ranges, |range| chooser.choose(file, range)))
    }

    fn with(ranges: &[Range<u64>], way: impl Fn(&Range<u64>) -> ReadWay) -> Self {
        let mut order: Vec<usize> = (0..ranges.len()).filter(|&n| !ranges[n].is_empty()).collect();
        order.sort_unstable_by_key(|&n| ranges[n].start);
        let mut spans: Vec<PlannedSpan> = Vec::new();
        for (position, &number) in order.iter().enumerate() {
            let range = &ranges[number];
            let len = range.end - range.start;
            let last = spans.last_mut().filter(|last| last.siblings.is_none());
            let own = if len <= CONTIGUOUS { way(range) } else { ReadWay::Direct };
            if let Some(last) = last
                && last.takes(range, own)
            {
                last.users.end = position + 1;
                last.wanted += len;
                last.span.range.end = last.span.range.end.max(range.end);
                continue;
            }
            let first = spans.len();
            for piece in pieces(range.clone()) {
                let whole = piece == *range;
                spans.push(PlannedSpan {
                    users: position..position + 1,
                    wanted: piece.end - piece.start,
                    siblings: None,
                    span: Span { way: whole.then_some(own), range: piece },
                });
            }
            let siblings = first..spans.len();
            if siblings.len() > 1 {
                spans[first..].iter_mut().for_each(|span| span.siblings = Some(siblings.clone()));
            }
        }
        for planned in spans.iter_mut().filter(|planned| planned.users.len() > 1) {
            // The ranges are small alone, but not together.
            planned.span.way = Some(way(&planned.span.range));
        }
        Self { ranges: ranges.to_vec(), order, spans, landed: BTreeMap::new() }
    }

    pub(crate) fn spans(&self) -> Spans {
        Spans::Listed(self.spans.iter().map(|planned| planned.span.clone()).collect())
    }

    /// Number of ranges.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Numbers of the empty ranges, which need no spans.
    pub(crate) fn empty(&self) -> impl Iterator<Item = usize> {
        (0..self.ranges.len()).filter(|&number| self.ranges[number].is_empty())
    }

    /// Takes a landed span, and gives out the ranges that it completes.
    pub(crate) fn land(&mut self, number: usize, bytes: Bytes, mut give: impl FnMut(usize, Bytes)) {
        let planned = &self.spans[number];
        let Some(siblings) = planned.siblings.clone() else {
            let span = &planned.span.range;
            // A slice keeps the whole span in memory, which pays off if most of the span is wanted.
            let copies = planned.wanted < (span.end - span.start) / 2;
            for &user in &self.order[planned.users.clone()] {
                let range = &self.ranges[user];
                let own = (range.start - span.start) as usize..(range.end - span.start) as usize;
                let own =
                    if copies { Bytes::copy_from_slice(&bytes[own]) } else { bytes.slice(own) };
                give(user, own);
            }
            return;
        };
        let user = self.order[planned.users.start];
        self.landed.insert(number, bytes);
        if self.landed.range(siblings.clone()).count() == siblings.len() {
            let range = &self.ranges[user];
            let mut whole = BytesMut::with_capacity((range.end - range.start) as usize);
            for part in siblings.filter_map(|sibling| self.landed.remove(&sibling)) {
                whole.extend_from_slice(&part);
            }
            give(user, whole.freeze());
        }
    }
}

impl PlannedSpan {
    /// Whether this span is extended to a range that doesn't start before it.
    fn takes(&self, range: &Range<u64>, way: ReadWay) -> bool {
        let span = &self.span.range;
        if range.end <= span.end {
            return true;
        }
        let gap = range.start.saturating_sub(span.end);
        let most = if way == ReadWay::Cached { CACHE_GAP } else { DRIVE_GAP };
        Some(way) == self.span.way && gap <= most && range.end - span.start <= MERGED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spans(ranges: &[Range<u64>], way: ReadWay) -> Vec<Range<u64>> {
        let spans = Plan::with(ranges, |_| way).spans();
        (0..spans.len()).map(|number| spans.get(number).range).collect()
    }

    #[test]
    fn near_ranges_are_read_together() {
        let ranges = [70_000..80_000, 0..10_000, 5..10, 200_000..200_001];
        assert_eq!(spans(&ranges, ReadWay::Direct), [0..80_000, 200_000..200_001]);
        assert_eq!(spans(&ranges, ReadWay::Cached), [0..10_000, 70_000..80_000, 200_000..200_001]);
    }

    #[test]
    fn large_ranges_are_split_and_near_ones_not_without_end() {
        let ranges = std::array::from_fn::<_, 10, _>(|n| (n as u64) << 20..(n as u64 + 1) << 20);
        assert_eq!(
            spans(&ranges, ReadWay::Direct),
            [0..4 << 20, 4 << 20..8 << 20, 8 << 20..10 << 20]
        );
        let large = 100..(100 << 20);
        let spans = spans(std::slice::from_ref(&large), ReadWay::Direct);
        assert_eq!((spans[0].clone(), spans[1].start), (100..4 << 20, 4 << 20));
        assert_eq!(spans.len(), 25);
        assert_eq!(pieces(5..CONTIGUOUS + 5).count(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_range_gets_its_bytes(
            ranges in prop::collection::vec((0..200_000_u64, 0..100_000_u64), 0..40),
            large in prop::option::of((0..1000_u64, CONTIGUOUS - 5..CONTIGUOUS + PIECE)),
            ways in prop::collection::vec(0..3, 8),
        ) {
            let mut ranges: Vec<_> = ranges.into_iter().map(|(start, len)| start..start + len).collect();
            ranges.extend(large.map(|(start, len)| start..start + len));
            let period: Vec<u8> = (0..=250).cycle().take(251 * 997).collect();
            let file = period.repeat((CONTIGUOUS + PIECE) as usize / period.len() + 1);
            let bytes = |range: Range<u64>| &file[range.start as usize..range.end as usize];
            let way = |range: &Range<u64>| match ways[(range.start % 8) as usize] {
                0 => ReadWay::Direct,
                1 => ReadWay::Cached,
                _ => ReadWay::Small,
            };
            let mut plan = Plan::with(&ranges, way);
            let mut given: Vec<Option<Bytes>> = vec![None; ranges.len()];
            plan.empty().for_each(|number| given[number] = Some(Bytes::new()));
            // Spans land in any order, here backwards.
            let spans = plan.spans();
            for number in (0..spans.len()).rev() {
                let landed = Bytes::copy_from_slice(bytes(spans.get(number).range));
                plan.land(number, landed, |range, bytes| {
                    assert!(given[range].replace(bytes).is_none());
                });
            }
            for (range, given) in ranges.iter().zip(given) {
                prop_assert!(given.unwrap() == bytes(range.clone()));
            }
        }
    }
}
