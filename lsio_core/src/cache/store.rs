//! The object store that looks at the copies first.

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result, path::Path,
};

use super::disk::{CopyEntry, CopyKey, CopySource, DiskCache};

/// The ranges of one call that are read at once.
const PARALLEL: usize = 16;

/// A store whose objects and ranges are kept in `cache` when they are read. `name` is what the store
/// is known by there, such as `s3://bucket` with its endpoint: two stores of one name are the same
/// store. It is shown to the user, so it must hold no secrets.
pub fn cached(
    store: Arc<dyn ObjectStore>,
    cache: Arc<DiskCache>,
    name: &str,
) -> Arc<dyn ObjectStore> {
    Arc::new(CachedStore { inner: store, cache, name: name.into() })
}

/// Another store, of which copies are kept on the local disk: see [`cached`].
///
/// Each read is a request to the other store. Where there is a copy, the request has `If-None-Match`
/// with the copy's ETag, and no bytes are sent if the object is still the same. Without ETags, or with
/// weak ones, nothing is kept. What comes from a copy has no [`Attributes`] and no version.
///
/// Ranges are kept as they are asked for. [`get_ranges`](ObjectStore::get_ranges) merges none: each is
/// a request, but for those with copies, for which one request is enough.
#[derive(Clone, Debug)]
pub struct CachedStore {
    inner: Arc<dyn ObjectStore>,
    cache: Arc<DiskCache>,
    name: Arc<str>,
}

/// The bytes of a range, and the ETag of the version that they are of.
type TaggedBytes = (Bytes, Option<String>);

impl CachedStore {
    fn key(&self, location: &Path, range: Option<&GetRange>) -> CopyKey {
        let range = range.map(GetRange::to_string).unwrap_or_default();
        CopyKey::new(&self.name, location.as_ref(), &range)
    }

    /// Reads without a copy, and keeps one.
    async fn fetch(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let key = self.key(location, options.range.as_ref());
        Ok(self.keep(key, self.inner.get_opts(location, options).await?, None))
    }

    /// Reads unless the store says that the copy is right, which `None` means.
    async fn validate(
        &self,
        location: &Path,
        entry: &CopyEntry,
        options: GetOptions,
    ) -> Result<Option<GetResult>> {
        let e_tag = &entry.stored.e_tag;
        let options = GetOptions { if_none_match: Some(e_tag.clone()), ..options };
        match self.inner.get_opts(location, options).await {
            Ok(result) => Ok(Some(self.keep(entry.key.clone(), result, Some(e_tag)))),
            Err(Error::NotModified { .. }) => Ok(None),
            Err(error) => {
                if matches!(error, Error::NotFound { .. }) {
                    self.cache.remove(vec![entry.key.clone()]).await;
                }
                Err(error)
            }
        }
    }

    /// Writes to the cache what comes from the store, when all of it has come, unless there is a copy of
    /// that version.
    fn keep(&self, key: CopyKey, result: GetResult, have: Option<&str>) -> GetResult {
        let GetResult { payload, meta, range, attributes } = result;
        let e_tag = meta.e_tag.as_deref().filter(|e_tag| is_strong(e_tag) && have != Some(e_tag));
        let stored = e_tag.map(|e_tag| CopySource {
            e_tag: e_tag.to_owned(),
            size: meta.size,
            last_modified: meta.last_modified.into(),
            range: range.clone(),
        });
        let payload = match (payload, stored) {
            (GetResultPayload::Stream(body), Some(stored))
                if stored.len() <= self.cache.largest() =>
            {
                let copy = Copy { parts: Vec::new(), missing: stored.len(), key, stored };
                GetResultPayload::Stream(copying(body, Arc::clone(&self.cache), copy))
            }
            (payload, _) => payload,
        };
        GetResult { payload, meta, range, attributes }
    }

    /// Those of the ranges of which there are copies of the version that is now in the store; and that
    /// version, if one was asked for.
    async fn parts(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> Result<(Vec<Option<TaggedBytes>>, Option<String>)> {
        let mut parts = vec![None; ranges.len()];
        let keys = ranges.iter().map(|range| self.key(location, Some(&range.clone().into())));
        let entries = self.cache.find(keys.collect()).await;
        let newest = entries.iter().flatten().max_by_key(|entry| entry.time);
        let Some(e_tag) = newest.map(|entry| entry.stored.e_tag.clone()) else {
            return Ok((parts, None));
        };
        let of_it = |(_, entry): &(usize, CopyEntry)| entry.stored.e_tag == e_tag;
        let entries = entries.into_iter().enumerate();
        let mut entries: Vec<_> =
            entries.filter_map(|(i, entry)| Some((i, entry?))).filter(of_it).collect();
        entries.sort_by_key(|(_, entry)| entry.stored.len());
        let mut version = Some(e_tag);
        if let Some((i, entry)) = entries.first() {
            let i = *i;
            let options = GetOptions::new().with_range(Some(ranges[i].clone()));
            if let Some(result) = self.validate(location, entry, options).await? {
                let found = result.meta.e_tag.clone();
                parts[i] = Some((result.bytes().await?, found.clone()));
                if found != version {
                    return Ok((parts, found));
                }
                version = found;
                entries.remove(0);
            }
        }
        let read = entries.into_iter().map(|(i, entry)| async move {
            let e_tag = entry.stored.e_tag.clone();
            (i, self.cache.read(entry).await.map(|bytes| (bytes, Some(e_tag))))
        });
        let read: Vec<_> = stream::iter(read).buffer_unordered(PARALLEL).collect().await;
        for (i, part) in read {
            parts[i] = part;
        }
        Ok((parts, version))
    }

    /// Reads the ranges that are missing. `None` if not all are of one version.
    async fn complete(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
        parts: Vec<Option<TaggedBytes>>,
        version: Option<String>,
    ) -> Result<Option<Vec<Bytes>>> {
        let if_match = version.filter(|e_tag| is_strong(e_tag));
        let all = ranges.iter().cloned().zip(parts).map(|(range, part)| {
            let options = GetOptions { if_match: if_match.clone(), ..GetOptions::default() };
            let options = options.with_range(Some(range));
            async move {
                if let Some(part) = part {
                    return Ok(part);
                }
                let result = self.fetch(location, options).await?;
                let e_tag = result.meta.e_tag.clone();
                Ok((result.bytes().await?, e_tag))
            }
        });
        let all: Result<Vec<TaggedBytes>> =
            stream::iter(all).buffered(PARALLEL).try_collect().await;
        match all {
            Ok(parts) if parts.windows(2).any(|two| two[0].1 != two[1].1) => Ok(None),
            Ok(parts) => Ok(Some(parts.into_iter().map(|(bytes, _)| bytes).collect())),
            Err(Error::Precondition { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for CachedStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if !is_plain(&options) {
            return self.inner.get_opts(location, options).await;
        }
        let key = self.key(location, options.range.as_ref());
        let entry = self.cache.find(vec![key]).await.pop().flatten();
        let wanted = |entry: &CopyEntry| match options.if_match.as_deref() {
            None | Some("*") => true,
            Some(e_tag) => e_tag == entry.stored.e_tag,
        };
        let Some(entry) = entry.filter(wanted) else { return self.fetch(location, options).await };
        if let Some(result) = self.validate(location, &entry, options.clone()).await? {
            return Ok(result);
        }
        let stored = entry.stored.clone();
        match self.cache.read(entry).await {
            Some(bytes) => Ok(copied(location, stored, bytes)),
            None => self.fetch(location, options).await,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        // What stores do with these differs.
        if ranges.is_empty() || ranges.iter().any(Range::is_empty) {
            return self.inner.get_ranges(location, ranges).await;
        }
        let (parts, version) = self.parts(location, ranges).await?;
        if let Some(bytes) = self.complete(location, ranges, parts, version).await? {
            return Ok(bytes);
        }
        // The object was written meanwhile.
        let none = vec![None; ranges.len()];
        if let Some(bytes) = self.complete(location, ranges, none, None).await? {
            return Ok(bytes);
        }
        // Or its ETags mean nothing: as it would be without a cache.
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

impl fmt::Display for CachedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cached({})", self.inner)
    }
}

/// A copy that is being made.
struct Copy {
    key: CopyKey,
    stored: CopySource,
    parts: Vec<Bytes>,
    /// The bytes that haven't come yet.
    missing: u64,
}

/// The same bytes as they come, of which a copy is written if all have come.
fn copying(
    body: BoxStream<'static, Result<Bytes>>,
    cache: Arc<DiskCache>,
    copy: Copy,
) -> BoxStream<'static, Result<Bytes>> {
    let next = |(mut body, cache, mut copy): (
        BoxStream<'static, _>,
        Arc<DiskCache>,
        Option<Copy>,
    )| async move {
        let item: Option<Result<Bytes>> = body.next().await;
        copy = match (&item, copy) {
            (Some(Ok(bytes)), Some(mut copy)) => {
                copy.parts.push(bytes.clone());
                let missing = copy.missing.checked_sub(bytes.len() as u64);
                missing.map(|missing| Copy { missing, ..copy })
            }
            (None, Some(Copy { key, stored, parts, missing: 0 })) => {
                cache.write(key, stored, parts).await;
                None
            }
            _ => None,
        };
        item.map(|item| (item, (body, cache, copy)))
    };
    stream::unfold((body, cache, Some(copy)), next).fuse().boxed()
}

/// The answer that a copy is.
fn copied(location: &Path, stored: CopySource, bytes: Bytes) -> GetResult {
    GetResult {
        payload: GetResultPayload::Stream(stream::once(async { Ok(bytes) }).boxed()),
        meta: ObjectMeta {
            location: location.clone(),
            last_modified: stored.last_modified.into(),
            size: stored.size,
            e_tag: Some(stored.e_tag),
            version: None,
        },
        range: stored.range,
        attributes: Attributes::default(),
    }
}

/// Whether options ask for bytes and nothing that only the store can judge.
fn is_plain(options: &GetOptions) -> bool {
    let range = options.range.as_ref().is_none_or(|range| range.is_valid().is_ok());
    range
        && !options.head
        && options.version.is_none()
        && options.if_none_match.is_none()
        && options.if_modified_since.is_none()
        && options.if_unmodified_since.is_none()
}

/// Whether an ETag stands for the very bytes, and means itself in a condition: there, commas separate
/// several and `*` is any.
fn is_strong(e_tag: &str) -> bool {
    !e_tag.is_empty() && e_tag != "*" && !e_tag.starts_with("W/") && !e_tag.contains(',')
}
