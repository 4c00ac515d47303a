//! Reads of objects as their storage likes them: merged or in parts, so many at a time, tried again.
//!
//! What comes is what was asked for, of one version of the object, or it is an error.

use std::{mem, ops::Range, sync::Arc, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{StreamExt as _, future::try_join_all};
use object_store::{
    GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, path::Path,
};

use super::{
    fetch::Counts,
    gate::Turn,
    link::{Link, What},
};

/// How often a body that breaks off is asked for. The store's client has its own tries for what fails
/// before there is one.
const TRIES: u32 = 4;

/// The time before the second try, which doubles for each further one.
const BACKOFF: Duration = Duration::from_millis(100);

/// Of what is read, at most one part in so many is what nobody asked for.
const WASTE: u64 = 16;

/// The name in errors of what isn't the store's own fault.
const STORE: &str = "transfer";

/// Reads objects of one store.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    store: Arc<dyn ObjectStore>,
    link: Arc<Link>,
    what: What,
}

/// An object, or a range of one.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) bytes: Bytes,
    pub(crate) version: Version,
}

/// A version of an object.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    /// The bytes of the whole object.
    pub(crate) size: u64,
    tag: Option<String>,
    /// In microseconds since 1970.
    modified: i64,
}

/// What is known of an object's size beforehand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// Its bytes, roughly.
    pub(crate) likely: u64,
    /// More is an error.
    pub(crate) most: u64,
}

/// Why an object wasn't read.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It has so many bytes, which are too many.
    TooLarge(u64),
    /// It isn't the version that was read before.
    Changed,
    Store(object_store::Error),
}

/// One try.
enum Try {
    /// It may go better the next time.
    Broken(object_store::Error),
    Failed(Failure),
}

impl Transfer {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, link: Arc<Link>, what: What) -> Self {
        Self { store, link, what }
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// A whole object; a large one in parts at the same time.
    pub(crate) async fn object(
        &self,
        path: &Path,
        expected: Expected,
        counts: &mut Counts,
    ) -> Result<Object, Failure> {
        let part = self.link.profile().part_bytes;
        if expected.likely <= part {
            return self.get(path, None, None, expected, counts).await;
        }
        let head = Expected { likely: part, most: part };
        let range = Some(GetRange::Bounded(0..part));
        let Object { bytes, version } = match self.get(path, range, None, head, counts).await {
            Ok(first) => first,
            // The object has no bytes, or the server knows no ranges.
            Err(Failure::Store(object_store::Error::Generic { .. })) => {
                return self.get(path, None, None, expected, counts).await;
            }
            Err(failure) => return Err(failure),
        };
        if version.size > expected.most {
            return Err(Failure::TooLarge(version.size));
        }
        if version.size <= bytes.len() as u64 {
            return Ok(Object { bytes, version });
        }
        let rest = bytes.len() as u64..version.size;
        let rest = self.ranges(path, &[rest], Some(&version), counts).await?;
        let bytes = joined([bytes].into_iter().chain(rest));
        Ok(Object { bytes, version })
    }

    /// One range, with the version of the object that it is of.
    pub(crate) async fn range(
        &self,
        path: &Path,
        range: GetRange,
        expected: Expected,
        counts: &mut Counts,
    ) -> Result<Object, Failure> {
        match self.get(path, Some(range), None, expected, counts).await {
            // An object without bytes has no range: that is no reason to say nothing of what is missing.
            Err(Failure::Store(error)) if is_unsatisfiable(&error) => {
                counts.requests += 1;
                match self.store.head(path).await {
                    Ok(meta) if meta.size == 0 => {
                        Ok(Object { bytes: Bytes::new(), version: Version::of(&meta) })
                    }
                    _ => Err(Failure::Store(error)),
                }
            }
            result => result,
        }
    }

    /// Ranges of an object, sorted and apart from each other, which must be of this version. Near ones
    /// are one request, and large ones several.
    pub(crate) async fn ranges(
        &self,
        path: &Path,
        ranges: &[Range<u64>],
        version: Option<&Version>,
        counts: &mut Counts,
    ) -> Result<Vec<Bytes>, Failure> {
        if !self.link.is_remote() {
            // Splitting and merging are up to the engine.
            let _turn = self.link.turn(self.what, 0).await;
            let parts = self.store.get_ranges(path, ranges).await?;
            counts.requests += ranges.len();
            counts.bytes += parts.iter().map(Bytes::len).sum::<usize>();
            return Ok(parts);
        }
        let profile = self.link.profile();
        let requests = split(merged(ranges, profile.gap_bytes), profile.part_bytes);
        let parts = requests.iter().map(|range| async move {
            let mut own = Counts::default();
            let bytes = range.end - range.start;
            let expected = Expected { likely: bytes, most: bytes };
            let range = Some(GetRange::Bounded(range.clone()));
            let object = self.get(path, range, version, expected, &mut own).await?;
            Ok::<_, Failure>((object, own))
        });
        let parts: Vec<Object> = try_join_all(parts)
            .await?
            .into_iter()
            .map(|(object, more)| {
                *counts += more;
                object
            })
            .collect();
        if let Some((first, others)) = parts.split_first()
            && others.iter().any(|other| !other.version.is(&first.version))
        {
            return Err(Failure::Changed);
        }
        Ok(ranges.iter().map(|range| cut(range, &requests, &parts)).collect())
    }

    /// One request, and more if its body breaks off.
    async fn get(
        &self,
        path: &Path,
        range: Option<GetRange>,
        version: Option<&Version>,
        expected: Expected,
        counts: &mut Counts,
    ) -> Result<Object, Failure> {
        let options = GetOptions {
            range,
            if_match: version.and_then(Version::strong_tag).map(str::to_owned),
            ..GetOptions::default()
        };
        // Its time begins with its turn: those under way before have deadlines of their own.
        let turn = self.link.turn(self.what, expected.likely).await;
        let tries = self.tries(&turn, path, options, version, expected, counts);
        let Some(deadline) = self.link.deadline(expected.likely) else { return tries.await };
        tokio::time::timeout(deadline, tries).await.unwrap_or_else(|_| {
            let source = format!(
                "it wasn't read in {deadline:?}; is the link that slow, or the server? The option \
                 deadline allows more"
            );
            Err(Failure::Store(object_store::Error::Generic {
                store: STORE,
                source: source.into(),
            }))
        })
    }

    async fn tries(
        &self,
        turn: &Turn<'_>,
        path: &Path,
        options: GetOptions,
        version: Option<&Version>,
        expected: Expected,
        counts: &mut Counts,
    ) -> Result<Object, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            counts.requests += 1;
            match self.try_once(path, options.clone(), version, expected.most).await {
                Ok(object) => {
                    counts.bytes += object.bytes.len();
                    turn.brought(object.bytes.len() as u64);
                    return Ok(object);
                }
                Err(Try::Broken(source)) if tries < TRIES && self.link.is_remote() => {
                    log::info!("{path}: {source}; it is asked for again");
                    tokio::time::sleep(BACKOFF * 2_u32.pow(tries - 1)).await;
                }
                Err(Try::Broken(source)) => return Err(Failure::Store(source)),
                Err(Try::Failed(failure)) => return Err(failure),
            }
        }
    }

    async fn try_once(
        &self,
        path: &Path,
        options: GetOptions,
        known: Option<&Version>,
        most: u64,
    ) -> Result<Object, Try> {
        let (result, skipped) = match self.store.get_opts(path, options.clone()).await {
            Err(error) if options.range.is_some() && knows_no_ranges(&error) => {
                self.whole(path, options).await?
            }
            result => (result?, None),
        };
        let version = Version::of(&result.meta);
        if known.is_some_and(|known| !version.is(known)) {
            return Err(Try::Failed(Failure::Changed));
        }
        let wanted = result.range.end.saturating_sub(result.range.start);
        if wanted > most {
            return Err(Try::Failed(Failure::TooLarge(wanted)));
        }
        let bytes = body(result, skipped, as_usize(wanted)).await.map_err(Try::Broken)?;
        if bytes.len() as u64 != wanted {
            let source = format!("{} bytes came instead of {wanted}", bytes.len());
            let source = object_store::Error::Generic { store: STORE, source: source.into() };
            return Err(Try::Broken(source));
        }
        Ok(Object { bytes, version })
    }

    /// The whole object in place of a range of it, which so many bytes are in front of.
    async fn whole(
        &self,
        path: &Path,
        options: GetOptions,
    ) -> object_store::Result<(GetResult, Option<u64>)> {
        log::info!("{path}: the server knows no ranges: a part costs as much as the whole");
        let whole = GetOptions { range: None, ..options.clone() };
        let mut result = self.store.get_opts(path, whole).await?;
        if let Some(range) = options.range {
            result.range = range.as_range(result.meta.size).map_err(|error| {
                object_store::Error::Generic { store: STORE, source: error.to_string().into() }
            })?;
        }
        let skipped = result.range.start;
        Ok((result, Some(skipped)))
    }
}

impl Version {
    fn of(meta: &ObjectMeta) -> Self {
        Self {
            size: meta.size,
            tag: meta.e_tag.clone(),
            modified: meta.last_modified.timestamp_micros(),
        }
    }

    /// Whether both are the same, as far as the server tells.
    fn is(&self, other: &Self) -> bool {
        let same_tag = match (&self.tag, &other.tag) {
            (Some(tag), Some(other)) => tag == other,
            _ => self.modified == other.modified,
        };
        same_tag && self.size == other.size
    }

    /// A tag that a request may name as its condition: weak ones never match (RFC 9110, 13.1.1).
    fn strong_tag(&self) -> Option<&str> {
        self.tag.as_deref().filter(|tag| !tag.starts_with("W/"))
    }
}

impl From<object_store::Error> for Failure {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::Precondition { .. } => Self::Changed,
            error => Self::Store(error),
        }
    }
}

impl From<object_store::Error> for Try {
    fn from(error: object_store::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Whether a server answers with the whole object where a range was asked for, as simple ones do.
fn knows_no_ranges(error: &object_store::Error) -> bool {
    use object_store::Error::{Generic, NotSupported};
    let says = |text| error.to_string().contains(text);
    match error {
        NotSupported { .. } => says("Range request not supported"),
        Generic { .. } => says("non-partial response"),
        _ => false,
    }
}

/// Whether a server says that an object has no byte of a range.
fn is_unsatisfiable(error: &object_store::Error) -> bool {
    // object_store has no kind of error for it.
    matches!(error, object_store::Error::Generic { .. })
        && error.to_string().contains("416 Range Not Satisfiable")
}

/// The body of an answer, up to a few more bytes than are wanted. Of a whole object in place of a range,
/// the range: what is behind so many bytes that are skipped.
async fn body(
    result: GetResult,
    skipped: Option<u64>,
    wanted: usize,
) -> object_store::Result<Bytes> {
    let mut pieces = match result.payload {
        GetResultPayload::Stream(pieces) => pieces,
        GetResultPayload::File(..) => return result.bytes().await,
    };
    let is_part = skipped.is_some();
    let mut skipped = as_usize(skipped.unwrap_or(0));
    // A single piece stays where it is.
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(mut piece) = pieces.next().await.transpose()? {
        let start = skipped.min(piece.len());
        skipped -= start;
        piece.advance(start);
        let len = first.len() + all.len();
        if is_part {
            piece.truncate(wanted - len);
        }
        if len == 0 {
            first = piece;
        } else {
            if all.is_empty() {
                all.reserve(wanted);
                all.extend_from_slice(&mem::take(&mut first));
            }
            all.extend_from_slice(&piece);
        }
        let len = first.len() + all.len();
        if len > wanted || (is_part && len == wanted) {
            break;
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Near ranges made one, as long as little lies between them.
fn merged(ranges: &[Range<u64>], gap: u64) -> Vec<Range<u64>> {
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    let mut wasted = 0;
    for range in ranges {
        if let Some(last) = merged.last_mut() {
            let hole = range.start.saturating_sub(last.end);
            let all = range.end - last.start;
            if hole <= gap && (wasted + hole).saturating_mul(WASTE) <= all {
                wasted += hole;
                last.end = last.end.max(range.end);
                continue;
            }
        }
        wasted = 0;
        merged.push(range.clone());
    }
    merged
}

/// Large ranges in parts of about the same size.
fn split(ranges: Vec<Range<u64>>, part: u64) -> Vec<Range<u64>> {
    let parts = |range: Range<u64>| {
        let bytes = range.end - range.start;
        let count = bytes.div_ceil(part).max(1);
        let size = bytes.div_ceil(count).max(1);
        (0..count).map(move |i| {
            let start = range.start + i * size;
            start..range.end.min(start + size)
        })
    };
    ranges.into_iter().flat_map(parts).collect()
}

/// The bytes of a range that lie in one or more of the parts that were read.
fn cut(range: &Range<u64>, requests: &[Range<u64>], parts: &[Object]) -> Bytes {
    let first = requests.partition_point(|request| request.end <= range.start);
    let pieces = requests.iter().zip(parts).skip(first);
    let pieces = pieces.take_while(|(request, _)| request.start < range.end);
    let pieces = pieces.map(|(request, part)| {
        let start = range.start.max(request.start) - request.start;
        let end = range.end.min(request.end) - request.start;
        part.bytes.slice(as_usize(start)..as_usize(end))
    });
    joined(pieces)
}

/// Bytes behind each other; a single piece stays where it is.
fn joined(pieces: impl Iterator<Item = Bytes>) -> Bytes {
    let mut pieces: Vec<Bytes> = pieces.collect();
    match pieces.len() {
        0 => Bytes::new(),
        1 => pieces.swap_remove(0),
        _ => pieces.concat().into(),
    }
}

/// A number of bytes of something that is in memory.
pub(super) fn as_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use futures::future::{join, join_all};
    use object_store::memory::InMemory;
    use proptest::prelude::*;

    use super::*;
    use crate::{Network, read::Storage};

    fn bytes(len: usize) -> Bytes {
        (0..len).map(|i| (i * 7 % 251) as u8).collect()
    }

    async fn remote(objects: &[(&str, Bytes)]) -> (Arc<InMemory>, Transfer) {
        let store = Arc::new(InMemory::new());
        for (path, bytes) in objects {
            store.put(&Path::from(*path), bytes.clone().into()).await.unwrap();
        }
        let link = Link::new(Storage::ObjectStore, Network::default());
        (Arc::clone(&store), Transfer::new(store, link, What::Chunks))
    }

    /// Sorted ranges apart from each other, from gaps and lengths.
    fn ranges(steps: &[(u64, u64)]) -> Vec<Range<u64>> {
        let mut end = 0;
        let next = |&(gap, len): &(u64, u64)| {
            let start = end + gap;
            end = start + len;
            start..end
        };
        steps.iter().map(next).collect()
    }

    proptest! {
        #[test]
        fn requests_hold_what_is_wanted_and_little_else(
            steps in prop::collection::vec((1_u64..3_000, 1_u64..50_000), 1..40),
            gap in 0_u64..4_000,
            part in 1_000_u64..100_000,
        ) {
            let wanted = ranges(&steps);
            let merged = merged(&wanted, gap);
            let sum = |ranges: &[Range<u64>]| ranges.iter().map(|r| r.end - r.start).sum::<u64>();
            prop_assert!(sum(&merged) - sum(&wanted) <= sum(&merged) / WASTE);
            let requests = split(merged, part);
            prop_assert!(requests.iter().all(|r| r.end - r.start <= part && r.start < r.end));
            prop_assert!(requests.is_sorted_by(|a, b| a.end <= b.start));

            let all = bytes(as_usize(wanted.last().unwrap().end));
            let slice = |r: &Range<u64>| all.slice(as_usize(r.start)..as_usize(r.end));
            let version = Version { size: all.len() as u64, tag: None, modified: 0 };
            let parts: Vec<Object> = requests
                .iter()
                .map(|r| Object { bytes: slice(r), version: version.clone() })
                .collect();
            for range in &wanted {
                prop_assert_eq!(cut(range, &requests, &parts), slice(range));
            }
        }
    }

    #[tokio::test]
    async fn the_deadline_begins_with_the_turn() {
        let (store, _) = remote(&[("object", bytes(10))]).await;
        let deadline = Duration::from_millis(500);
        let link = Link::new(Storage::ObjectStore, Network { deadline, ..Network::default() });
        let transfer = Transfer::new(store, Arc::clone(&link), What::Chunks);
        let turns = join_all((0..link.requests()).map(|_| link.turn(What::Chunks, 0))).await;
        let path = Path::from("object");
        let mut counts = Counts::default();
        let read = transfer.object(&path, Expected { likely: 10, most: 10 }, &mut counts);
        let end_others = async {
            tokio::time::sleep(deadline * 3 / 2).await;
            drop(turns);
        };
        let (object, ()) = join(read, end_others).await;
        assert_eq!(object.unwrap().bytes, bytes(10));
    }

    #[tokio::test]
    async fn large_objects_come_in_parts() {
        let (large, small) = (bytes(40 << 20), bytes(1 << 20));
        let objects = [("large", large.clone()), ("small", small.clone()), ("none", Bytes::new())];
        let (_store, transfer) = remote(&objects).await;
        let expected = Expected { likely: 64 << 20, most: 64 << 20 };
        for (path, bytes, requests) in
            [("large", large.clone(), 3), ("small", small, 1), ("none", Bytes::new(), 2)]
        {
            let mut counts = Counts::default();
            let object = transfer.object(&Path::from(path), expected, &mut counts).await.unwrap();
            assert!(object.bytes == bytes, "{path}");
            assert_eq!((counts.requests, counts.bytes), (requests, bytes.len()), "{path}");
        }
        let small = Expected { likely: 64 << 20, most: 39 << 20 };
        let failure = transfer.object(&Path::from("large"), small, &mut Counts::default()).await;
        assert!(matches!(failure, Err(Failure::TooLarge(bytes)) if bytes == 40 << 20));
        let small = Expected { likely: 1, most: 39 << 20 };
        let failure = transfer.object(&Path::from("large"), small, &mut Counts::default()).await;
        assert!(matches!(failure, Err(Failure::TooLarge(bytes)) if bytes == 40 << 20));
        let failure =
            transfer.object(&Path::from("absent"), expected, &mut Counts::default()).await;
        assert!(matches!(failure, Err(Failure::Store(object_store::Error::NotFound { .. }))));
    }

    #[tokio::test]
    async fn bodies_are_cut_and_joined() {
        let all = bytes(100);
        for sizes in [vec![100], vec![10, 90], vec![1; 100], vec![33, 33, 34]] {
            let mut start = 0;
            let pieces: Vec<object_store::Result<Bytes>> = sizes
                .iter()
                .map(|size| {
                    start += size;
                    Ok(all.slice(start - size..start))
                })
                .collect();
            let result = |range: Range<u64>| {
                let pieces = pieces.iter().map(|piece| Ok(piece.as_ref().unwrap().clone()));
                let meta = ObjectMeta {
                    location: Path::default(),
                    last_modified: Default::default(),
                    size: 100,
                    e_tag: None,
                    version: None,
                };
                let payload = futures::stream::iter(pieces.collect::<Vec<_>>()).boxed();
                let payload = GetResultPayload::Stream(payload);
                GetResult { payload, meta, range, attributes: Default::default() }
            };
            assert_eq!(body(result(0..100), None, 100).await.unwrap(), all);
            assert!(body(result(0..90), None, 90).await.unwrap().len() > 90);
            assert_eq!(body(result(0..200), None, 200).await.unwrap().len(), 100);
            for range in [0..0, 0..7, 5..70, 99..100, 0..100] {
                let wanted = range.end - range.start;
                let cut = body(result(range.clone()), Some(range.start), as_usize(wanted)).await;
                assert_eq!(cut.unwrap(), all.slice(as_usize(range.start)..as_usize(range.end)));
            }
        }
    }

    #[tokio::test]
    async fn ranges_are_of_one_version() {
        let path = Path::from("a");
        let (store, transfer) = remote(&[("a", bytes(1_000))]).await;
        let mut counts = Counts::default();
        let expected = Expected { likely: 10, most: 10 };
        let index = transfer.range(&path, GetRange::Suffix(10), expected, &mut counts).await;
        let version = index.unwrap().version;
        let wanted = [10..20, 500..600];
        let read = transfer.ranges(&path, &wanted, Some(&version), &mut counts).await.unwrap();
        assert_eq!(read, [bytes(1_000).slice(10..20), bytes(1_000).slice(500..600)]);
        assert_eq!((counts.requests, counts.bytes), (3, 120));

        store.put(&path, bytes(1_000).into()).await.unwrap();
        let read = transfer.ranges(&path, &wanted, Some(&version), &mut counts).await;
        assert!(matches!(read, Err(Failure::Changed)));
    }
}
