//! Zip archives as object stores: a Zarr store in an archive is read in place.
//!
//! ```text
//! ZipStore      the object store: keys, ranges, listings
//!   │ archive   reads the file, and checks that it hasn't changed
//!   │ end       the records at the end of the file, which locate the directory
//!   │ directory the entries by name
//!   │ entry     one entry, and the local header in front of its bytes
//!   ▼ inflate   deflated entries
//! ```
//!
//! Every number in the archive is compared with the archive's size before use. Nothing is unpacked to disk.

mod archive;
mod directory;
mod end;
mod entry;
mod fields;
mod inflate;
#[cfg(test)]
mod tests;

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result, path::Path,
};

use self::archive::{Archive, OpenedArchive};

/// Whether a segment of a path has the name of a zip archive.
pub(crate) fn is_zip_name(part: &str) -> bool {
    part.len()
        .checked_sub(4)
        .and_then(|at| part.get(at..))
        .is_some_and(|extension| extension.eq_ignore_ascii_case(".zip"))
}

/// The entries of a zip archive in another object store, read in place.
///
/// A stored entry is a range of the archive; a deflated entry is inflated as a whole. If the archive holds a Zarr store
/// in its only folder, keys may omit that folder's name.
///
/// ```
/// use std::sync::Arc;
///
/// use lsio_core::{
///     Dataset, Location, OpenOptions,
///     object_store::{local::LocalFileSystem, path::Path},
///     zip::ZipStore,
/// };
///
/// # async fn open() -> Result<(), Box<dyn std::error::Error>> {
/// let files = Arc::new(LocalFileSystem::new());
/// let archive = ZipStore::new(files, Path::from("data/store.zarr.zip"));
/// let location = Location::new(Arc::new(archive), Path::from("t2m"), "store.zarr.zip/t2m");
/// let dataset = Dataset::open(&location, &OpenOptions::default()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ZipStore {
    archive: Arc<Archive>,
}

impl ZipStore {
    /// Archive at a path of an object store. Nothing is read before the first request.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, archive: Path) -> Self {
        Self { archive: Arc::new(Archive::new(store, archive)) }
    }

    /// The same archive, whose directory will be read again.
    pub(crate) fn renewed(&self) -> Self {
        Self { archive: Arc::new(self.archive.renewed()) }
    }
}

impl fmt::Display for ZipStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.archive.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for ZipStore {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(read_only())
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only())
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let opened = Arc::clone(self.archive.open().await?);
        if let Some(version) = &options.version {
            let source = format!("a zip archive has no version '{version}' of an entry").into();
            return Err(Error::NotSupported { source });
        }
        let entry = opened.directory.get(location.as_ref()).ok_or_else(|| missing(location))?;
        let meta = object_meta(&opened, location.clone(), entry.size);
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => resolve(range, entry.size)?,
            None => 0..entry.size,
        };
        // An empty entry is read too: its size could be wrong.
        let payload = if options.head || (range.is_empty() && entry.size > 0) {
            stream::empty().boxed()
        } else {
            opened.method(entry)?;
            // The entry is read when the caller polls the body: the caller decides whether it is too large.
            let (key, range, opened) = (location.clone(), range.clone(), Arc::clone(&opened));
            let read = async move {
                let entry = opened.directory.get(key.as_ref()).ok_or_else(|| missing(&key))?;
                opened.range(entry, range).await
            };
            stream::once(read).boxed()
        };
        let payload = GetResultPayload::Stream(payload);
        Ok(GetResult { payload, meta, range, attributes: Attributes::default() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let opened = self.archive.open().await?;
        let entry = opened.directory.get(location.as_ref()).ok_or_else(|| missing(location))?;
        let mut wanted = Vec::with_capacity(ranges.len());
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            wanted.push(resolve(&GetRange::Bounded(range.clone()), entry.size)?);
        }
        let read = match wanted.is_empty() {
            true => Vec::new(),
            false => opened.ranges(entry, &wanted).await?,
        };
        let mut read = read.into_iter();
        let bytes = |range: &Range<u64>| match range.is_empty() {
            true => Bytes::new(),
            false => read.next().unwrap_or_default(),
        };
        Ok(ranges.iter().map(bytes).collect())
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        locations.map(|location| location.and_then(|_| Err(read_only()))).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (archive, prefix) = (Arc::clone(&self.archive), prefix.cloned().unwrap_or_default());
        let listing = async move {
            let opened = Arc::clone(archive.open().await?);
            let (entries, cut) = opened.directory.below(prefix.as_ref());
            let listed = entries.filter_map(move |number| listed(&opened, number, cut));
            Ok::<_, Error>(stream::iter(listed))
        };
        listing.into_stream().try_flatten().boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let offset = offset.clone();
        let is_behind = move |meta: &ObjectMeta| std::future::ready(meta.location > offset);
        self.list(prefix).try_filter(is_behind).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let opened = self.archive.open().await?;
        let prefix = prefix.map_or("", Path::as_ref);
        let (entries, cut) = opened.directory.below(prefix);
        let below = if prefix.is_empty() { 0 } else { prefix.len() + 1 };
        let mut result = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
        let mut at = entries.start;
        while at < entries.end {
            let Some(entry) = opened.directory.entry(at) else { break };
            let name = opened.directory.name(entry);
            let folder = name.get(cut + below..).and_then(|rest| rest.find('/'));
            match folder.and_then(|len| name.get(..cut + below + len + 1)) {
                Some(folder) => {
                    let path = folder.get(cut..).unwrap_or_default();
                    result.common_prefixes.push(Path::parse(path)?);
                    at = opened.directory.behind(folder, at);
                }
                None => {
                    if let Some(object) = listed(opened, at, cut) {
                        result.objects.push(object?);
                    }
                    at += 1;
                }
            }
        }
        Ok(result)
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(read_only())
    }

    async fn rename_opts(&self, _: &Path, _: &Path, _: RenameOptions) -> Result<()> {
        Err(read_only())
    }
}

/// A listed entry, with the first `cut` bytes of its name removed.
fn listed(opened: &OpenedArchive, number: usize, cut: usize) -> Option<Result<ObjectMeta>> {
    let entry = opened.directory.entry(number)?;
    let path = Path::parse(opened.directory.name(entry).get(cut..)?);
    Some(path.map(|path| object_meta(opened, path, entry.size)).map_err(Error::from))
}

/// The archive's own metadata, with the entry's path and size.
fn object_meta(opened: &OpenedArchive, location: Path, size: u64) -> ObjectMeta {
    ObjectMeta { location, size, version: None, ..opened.meta.clone() }
}

fn resolve(range: &GetRange, size: u64) -> Result<Range<u64>> {
    let resolved = range.as_range(size);
    resolved.map_err(|e| Error::Generic { store: "zip", source: e.to_string().into() })
}

fn missing(location: &Path) -> Error {
    let source = "the archive has no such entry".into();
    Error::NotFound { path: location.to_string(), source }
}

fn read_only() -> Error {
    Error::NotSupported { source: "zip archives are only read".into() }
}
