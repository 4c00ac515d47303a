//! Reads objects in the way that suits their storage: merged or split, limited in concurrency, retried.
//!
//! Returned bytes are exactly the requested ones, of one version of the object; anything else is an error.

use std::{mem, ops::Range, sync::Arc, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{StreamExt as _, future::try_join_all, stream};
use object_store::{
    GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, path::Path,
};

use super::{
    counts::Counts,
    gate::Turn,
    link::{Link, What},
};

/// Number of tries for a body that breaks off. The store's client retries failures before the body itself.
const TRIES: u32 = 4;

/// Time before the second try. It doubles for each further one.
const BACKOFF: Duration = Duration::from_millis(100);

/// Upper bound on unwanted bytes in a merged range: one part in `WASTE`.
const WASTE: u64 = 16;

/// Store name in errors that are not the store's own.
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
    /// Microseconds since 1970.
    modified: i64,
}

/// Bounds on an object's size, known before the read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// Rough size in bytes.
    pub(crate) likely: u64,
    /// Upper bound in bytes; a larger object is an error.
    pub(crate) most: u64,
}

/// One request, with its retries.
struct Ask<'a> {
    /// `None` for the whole object.
    range: Option<GetRange>,
    /// Version that the answer must have.
    version: Option<&'a Version>,
    expected: Expected,
    room: Room,
}

/// Destination of an answer's bytes.
enum Room {
    /// None: a body of one piece stays where it is.
    None,
    /// A buffer with the capacity.
    Part(BytesMut),
    /// The beginning of a new buffer for the whole object, if the object has more than the wanted bytes and at most
    /// `most` bytes.
    Whole { most: u64, buffer: BytesMut },
}

/// Body of an answer, with the object's version.
struct Answer {
    body: Body,
    version: Version,
}

/// The bytes of an answer.
enum Body {
    Own(Bytes),
    /// Placed into the given buffer.
    Placed(BytesMut),
}

/// Why an object wasn't read.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The object has too many bytes: this many.
    TooLarge(u64),
    /// The object isn't the version that was read before.
    Changed,
    Store(object_store::Error),
}

/// Outcome of one failed try.
enum Try {
    /// A retry may succeed.
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

    /// Reads a whole object; a large one in concurrent parts.
    pub(crate) async fn object(
        &self,
        path: &Path,
        expected: Expected,
        counts: &mut Counts,
    ) -> Result<Object, Failure> {
        let part = self.link.profile().part_bytes;
        if expected.likely <= part {
            return self.get(path, Ask::whole(expected), counts).await;
        }
        let head = Ask {
            range: Some(GetRange::Bounded(0..part)),
            expected: Expected { likely: part, most: part },
            version: None,
            room: Room::Whole { most: expected.most, buffer: BytesMut::new() },
        };
        let first = match self.get_into(path, head, counts).await {
            Ok(first) => first,
            // The object is empty, or the server doesn't support ranges.
            Err(Failure::Store(object_store::Error::Generic { .. })) => {
                return self.get(path, Ask::whole(expected), counts).await;
            }
            Err(failure) => return Err(failure),
        };
        let version = first.version;
        if version.size > expected.most {
            return Err(Failure::TooLarge(version.size));
        }
        let Body::Placed(mut head) = first.body else {
            return Ok(Object { bytes: first.body.into_bytes(), version });
        };
        let start = head.len();
        let parts = split(start as u64..version.size, part);
        let rest = head.split_off(start);
        for part in self.parts(path, &parts, rest, Some(&version), counts).await? {
            head.unsplit(part.body.into_placed());
        }
        Ok(Object { bytes: head.freeze(), version })
    }

    /// Reads one range, with the version of its object.
    pub(crate) async fn range(
        &self,
        path: &Path,
        range: GetRange,
        expected: Expected,
        counts: &mut Counts,
    ) -> Result<Object, Failure> {
        let ask = Ask { range: Some(range), version: None, expected, room: Room::None };
        match self.get(path, ask, counts).await {
            // An empty object satisfies no range, but a missing object must still be reported.
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

    /// Reads sorted, disjoint ranges of an object, all of this version. Near ranges are merged into one request, and
    /// large ones split into several.
    pub(crate) async fn ranges(
        &self,
        path: &Path,
        ranges: &[Range<u64>],
        version: Option<&Version>,
        counts: &mut Counts,
    ) -> Result<Vec<Bytes>, Failure> {
        if !self.link.is_remote() {
            // The local engine splits and merges by itself.
            let _turn = self.link.turn(self.what, 0).await;
            let parts = self.store.get_ranges(path, ranges).await?;
            counts.requests += ranges.len();
            counts.bytes += parts.iter().map(Bytes::len).sum::<usize>();
            return Ok(parts);
        }
        let profile = self.link.profile();
        let requests = merged(ranges, profile.gap_bytes);
        let read = requests.iter().map(|request| async move {
            let mut own = Counts::default();
            let parts = split(request.clone(), profile.part_bytes);
            let room = match parts.len() {
                1 => BytesMut::new(),
                _ => BytesMut::with_capacity(as_usize(request.end - request.start)),
            };
            let parts = self.parts(path, &parts, room, version, &mut own).await?;
            Ok::<_, Failure>((parts, own))
        });
        let mut read_of: Vec<Vec<Answer>> = Vec::with_capacity(requests.len());
        for (parts, own) in try_join_all(read).await? {
            *counts += own;
            read_of.push(parts);
        }
        let mut versions = read_of.iter().flatten().map(|part| &part.version);
        if let Some(first) = versions.next()
            && versions.any(|other| !other.is(first))
        {
            return Err(Failure::Changed);
        }
        let read: Vec<Bytes> = read_of.into_iter().map(joined).collect();
        Ok(ranges.iter().map(|range| cut(range, &requests, &read)).collect())
    }

    /// Reads adjacent ranges concurrently. `room` has the capacity for all of them, or is empty if there is only one
    /// range.
    async fn parts(
        &self,
        path: &Path,
        ranges: &[Range<u64>],
        mut room: BytesMut,
        version: Option<&Version>,
        counts: &mut Counts,
    ) -> Result<Vec<Answer>, Failure> {
        let has_room = room.capacity() > 0;
        let parts = ranges.iter().map(|range| {
            let bytes = range.end - range.start;
            let room = if has_room {
                let rest = room.split_off(as_usize(bytes));
                Room::Part(mem::replace(&mut room, rest))
            } else {
                Room::None
            };
            let expected = Expected { likely: bytes, most: bytes };
            let range = Some(GetRange::Bounded(range.clone()));
            let ask = Ask { range, version, expected, room };
            async move {
                let mut own = Counts::default();
                let answer = self.get_into(path, ask, &mut own).await?;
                Ok::<_, Failure>((answer, own))
            }
        });
        let answers = try_join_all(parts).await?.into_iter().map(|(answer, own)| {
            *counts += own;
            answer
        });
        Ok(answers.collect())
    }

    /// One request, retried if its body breaks off.
    async fn get(&self, path: &Path, ask: Ask<'_>, counts: &mut Counts) -> Result<Object, Failure> {
        let Answer { body, version } = self.get_into(path, ask, counts).await?;
        Ok(Object { bytes: body.into_bytes(), version })
    }

    /// Like [`Transfer::get`], into the buffer of `ask`.
    async fn get_into(
        &self,
        path: &Path,
        ask: Ask<'_>,
        counts: &mut Counts,
    ) -> Result<Answer, Failure> {
        let likely = ask.expected.likely;
        // The deadline starts with the permit: requests ahead in the queue have deadlines of their own.
        let turn = self.link.turn(self.what, likely).await;
        let tries = self.tries(&turn, path, ask, counts);
        let Some(deadline) = self.link.deadline(likely) else { return tries.await };
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
        mut ask: Ask<'_>,
        counts: &mut Counts,
    ) -> Result<Answer, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            counts.requests += 1;
            match self.try_once(path, &mut ask).await {
                Ok(answer) => {
                    counts.bytes += answer.body.len();
                    turn.brought(answer.body.len() as u64);
                    return Ok(answer);
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

    async fn try_once(&self, path: &Path, ask: &mut Ask<'_>) -> Result<Answer, Try> {
        let options = GetOptions {
            range: ask.range.clone(),
            if_match: ask.version.and_then(Version::strong_tag).map(str::to_owned),
            ..GetOptions::default()
        };
        let (result, skipped) = match self.store.get_opts(path, options.clone()).await {
            Err(error) if options.range.is_some() && knows_no_ranges(&error) => {
                self.whole(path, options).await?
            }
            result => (result?, None),
        };
        let version = Version::of(&result.meta);
        if ask.version.is_some_and(|known| !version.is(known)) {
            return Err(Try::Failed(Failure::Changed));
        }
        let wanted = result.range.end.saturating_sub(result.range.start);
        if wanted > ask.expected.most {
            return Err(Try::Failed(Failure::TooLarge(wanted)));
        }
        let room = ask.room.of(wanted, version.size);
        let (bytes, came) = body(result, skipped, as_usize(wanted), room).await?;
        if came as u64 != wanted {
            let source = format!("{came} bytes came instead of {wanted}");
            let source = object_store::Error::Generic { store: STORE, source: source.into() };
            return Err(Try::Broken(source));
        }
        let room = mem::replace(&mut ask.room, Room::None);
        let body = room.taken().map_or(Body::Own(bytes), Body::Placed);
        Ok(Answer { body, version })
    }

    /// Requests the whole object where a range fails; the second value is the number of bytes to skip in front of the
    /// range.
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

impl Ask<'_> {
    fn whole(expected: Expected) -> Self {
        Self { range: None, version: None, expected, room: Room::None }
    }
}

impl Room {
    /// An empty buffer for `wanted` bytes of an object of `size` bytes; `None` if the answer needs none.
    fn of(&mut self, wanted: u64, size: u64) -> Option<&mut BytesMut> {
        match self {
            Self::None => None,
            Self::Part(part) => {
                part.clear();
                Some(part)
            }
            Self::Whole { most, buffer } => {
                // A retry may find an object of another size.
                *buffer = BytesMut::new();
                (wanted < size && size <= *most).then(|| {
                    *buffer = BytesMut::with_capacity(as_usize(size));
                    buffer
                })
            }
        }
    }

    /// The buffer, if bytes were placed in one.
    fn taken(self) -> Option<BytesMut> {
        match self {
            Self::None => None,
            Self::Part(buffer) | Self::Whole { buffer, .. } => {
                (buffer.capacity() > 0).then_some(buffer)
            }
        }
    }
}

impl Body {
    fn len(&self) -> usize {
        match self {
            Self::Own(bytes) => bytes.len(),
            Self::Placed(bytes) => bytes.len(),
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Own(bytes) => bytes,
            Self::Placed(bytes) => bytes.freeze(),
        }
    }

    fn into_placed(self) -> BytesMut {
        match self {
            Self::Own(bytes) => bytes.into(),
            Self::Placed(bytes) => bytes,
        }
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

    /// Whether both versions are the same, as far as the server tells.
    fn is(&self, other: &Self) -> bool {
        let same_tag = match (&self.tag, &other.tag) {
            (Some(tag), Some(other)) => tag == other,
            _ => self.modified == other.modified,
        };
        same_tag && self.size == other.size
    }

    /// ETag to use as a request's condition: weak ones never match (RFC 9110, 13.1.1).
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

/// Whether a server answers a range request with the whole object, as simple servers do.
fn knows_no_ranges(error: &object_store::Error) -> bool {
    use object_store::Error::{Generic, NotSupported};
    let says = |text| error.to_string().contains(text);
    match error {
        NotSupported { .. } => says("Range request not supported"),
        Generic { .. } => says("non-partial response"),
        _ => false,
    }
}

/// Whether a server says that an object has no byte of the range.
fn is_unsatisfiable(error: &object_store::Error) -> bool {
    // object_store has no error kind for it.
    matches!(error, object_store::Error::Generic { .. })
        && error.to_string().contains("416 Range Not Satisfiable")
}

/// Reads a body: the bytes, empty if they went into `room`, and the number of bytes received. Stops as soon as more
/// than `wanted` bytes were received. With `skipped`, the body is the whole object in place of a range: the first
/// `skipped` bytes are dropped, and the rest is cut off after `wanted` bytes.
async fn body(
    result: GetResult,
    skipped: Option<u64>,
    wanted: usize,
    room: Option<&mut BytesMut>,
) -> Result<(Bytes, usize), Try> {
    let mut pieces = match result.payload {
        GetResultPayload::Stream(pieces) => pieces,
        GetResultPayload::File(..) => stream::once(result.bytes()).boxed(),
    };
    let mut skipped_bytes = as_usize(skipped.unwrap_or(0));
    // A single piece is not copied, unless it has a destination.
    let mut first = Bytes::new();
    let mut own = BytesMut::new();
    let stays = room.is_none();
    let all = room.unwrap_or(&mut own);
    let mut came = 0;
    while let Some(mut piece) = pieces.next().await.transpose().map_err(Try::Broken)? {
        let start = skipped_bytes.min(piece.len());
        skipped_bytes -= start;
        piece.advance(start);
        if skipped.is_some() {
            piece.truncate(wanted - came);
        }
        came += piece.len();
        if came > wanted {
            break;
        }
        if stays && first.is_empty() && all.is_empty() {
            first = piece;
        } else {
            if !first.is_empty() {
                all.reserve(wanted);
                all.extend_from_slice(&mem::take(&mut first));
            }
            all.extend_from_slice(&piece);
        }
        if skipped.is_some() && came == wanted {
            break;
        }
    }
    let bytes = if stays && !all.is_empty() { mem::take(all).freeze() } else { first };
    Ok((bytes, came))
}

/// Merges near ranges, as long as little is read in vain.
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

/// Splits a large range into parts of about the same size.
fn split(range: Range<u64>, part: u64) -> Vec<Range<u64>> {
    let bytes = range.end - range.start;
    let count = bytes.div_ceil(part).max(1);
    let size = bytes.div_ceil(count).max(1);
    let parts = (0..count).map(|i| {
        let start = range.start + i * size;
        start..range.end.min(start + size)
    });
    parts.collect()
}

/// Bytes of a range that lies within one of the requests.
fn cut(range: &Range<u64>, requests: &[Range<u64>], read: &[Bytes]) -> Bytes {
    let number = requests.partition_point(|request| request.end <= range.start);
    match requests.get(number).zip(read.get(number)) {
        Some((request, bytes)) => {
            bytes.slice(as_usize(range.start - request.start)..as_usize(range.end - request.start))
        }
        None => Bytes::new(),
    }
}

/// Joins the bytes of adjacent ranges. Placed parts of one buffer aren't copied.
fn joined(parts: Vec<Answer>) -> Bytes {
    let mut parts = parts.into_iter();
    let Some(first) = parts.next() else { return Bytes::new() };
    if parts.len() == 0 {
        return first.body.into_bytes();
    }
    let mut all = first.body.into_placed();
    for part in parts {
        all.unsplit(part.body.into_placed());
    }
    all.freeze()
}

/// A size in bytes of something in memory.
pub(crate) fn as_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use futures::future::{join, join_all};
    use object_store::memory::InMemory;
    use proptest::prelude::*;

    use super::*;
    use crate::{Network, transport::Storage};

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

    /// Sorted, disjoint ranges, made of gaps and lengths.
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
            let requests: Vec<_> = merged.iter().cloned().flat_map(|r| split(r, part)).collect();
            prop_assert!(requests.iter().all(|r| r.end - r.start <= part && r.start < r.end));
            prop_assert!(requests.is_sorted_by(|a, b| a.end <= b.start));

            let all = bytes(as_usize(wanted.last().unwrap().end));
            let slice = |r: &Range<u64>| all.slice(as_usize(r.start)..as_usize(r.end));
            let read: Vec<Bytes> = merged.iter().map(slice).collect();
            for range in &wanted {
                prop_assert_eq!(cut(range, &merged, &read), slice(range));
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
        let mut counts = Counts::default();
        let wanted = [5..34 << 20, (34 << 20) + 9..40 << 20];
        let ranges = transfer.ranges(&Path::from("large"), &wanted, None, &mut counts).await;
        for (range, read) in wanted.iter().zip(ranges.unwrap()) {
            assert!(read == large.slice(as_usize(range.start)..as_usize(range.end)), "{range:?}");
        }
        assert_eq!((counts.requests, counts.bytes), (3, (40 << 20) - 5));
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
            let read = async |range: Range<u64>, skipped, mut room: Option<&mut BytesMut>| {
                let wanted = as_usize(range.end - range.start);
                let read = body(result(range), skipped, wanted, room.as_deref_mut()).await;
                let Ok((bytes, came)) = read else { panic!("no piece is broken") };
                (room.map_or(bytes, |room| room.clone().freeze()), came)
            };
            assert_eq!(read(0..100, None, None).await, (all.clone(), 100));
            assert!(read(0..90, None, None).await.1 > 90);
            assert_eq!(read(0..200, None, None).await.1, 100);
            for range in [0..0, 0..7, 5..70, 99..100, 0..100] {
                let wanted = all.slice(as_usize(range.start)..as_usize(range.end));
                let mut room = BytesMut::with_capacity(wanted.len());
                let place = room.as_ptr();
                for given in [None, Some(&mut room)] {
                    let (cut, came) = read(range.clone(), Some(range.start), given).await;
                    assert_eq!((cut, came), (wanted.clone(), wanted.len()));
                }
                assert_eq!(room.as_ptr(), place);
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
