//! Reads a zip archive from its object store, and checks that the archive hasn't changed.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use object_store::{
    Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _, Result, path::Path,
};
use tokio::sync::{Mutex, OnceCell};

use super::{
    directory::Directory,
    end::{End, TAIL},
    entry::{Entry, HEADER, Method},
    inflate::{check_crc, check_sizes, inflate},
};

/// Store name in errors.
const STORE: &str = "zip";

/// Upper bound in bytes of an inflated entry that is kept for further ranges.
const MAX_KEPT: u64 = 64 << 20;

/// An archive. Its directory is read once, on first use.
#[derive(Debug)]
pub(super) struct Archive {
    store: Arc<dyn ObjectStore>,
    path: Path,
    opened: OnceCell<Arc<OpenedArchive>>,
}

/// An archive with its directory.
#[derive(Debug)]
pub(super) struct OpenedArchive {
    store: Arc<dyn ObjectStore>,
    /// Metadata of the archive's object when the directory was read.
    pub meta: ObjectMeta,
    pub directory: Directory,
    /// The last entry that was inflated for a range, with its offset in the archive.
    inflated: Mutex<Option<(u64, Bytes)>>,
}

impl Archive {
    pub(super) fn new(store: Arc<dyn ObjectStore>, path: Path) -> Self {
        Self { store, path, opened: OnceCell::new() }
    }

    /// The same archive, with nothing read yet.
    pub(super) fn renewed(&self) -> Self {
        Self::new(Arc::clone(&self.store), self.path.clone())
    }

    /// Reads the directory on first use.
    ///
    /// # Errors
    /// Those of the store, and a corrupt directory.
    pub(super) async fn open(&self) -> Result<&Arc<OpenedArchive>> {
        self.opened.get_or_try_init(|| self.read()).await
    }

    async fn read(&self) -> Result<Arc<OpenedArchive>> {
        let meta = self.store.head(&self.path).await?;
        let corrupt = |reason: String| failed(&meta, reason);
        let read = |range| read_same(&*self.store, &meta, range);
        let tail_start = meta.size.saturating_sub(TAIL);
        let tail = if meta.size == 0 { Bytes::new() } else { read(tail_start..meta.size).await? };
        let end = End::parse(&tail, meta.size).map_err(corrupt)?;
        // `End` has checked that the directory is in front of the end records.
        let range = end.start..end.start + end.size;
        let in_tail = range.start.checked_sub(tail_start).and_then(|s| usize::try_from(s).ok());
        let bytes = match in_tail.map(|start| start..start + as_usize(end.size)) {
            // A copy, because the directory is kept and the rest of the tail is not.
            Some(inside) if inside.end <= tail.len() => {
                Bytes::copy_from_slice(tail.get(inside).unwrap_or_default())
            }
            _ => read(range).await?,
        };
        let directory = Directory::parse(bytes, &end).map_err(corrupt)?;
        let (store, inflated) = (Arc::clone(&self.store), Mutex::default());
        Ok(Arc::new(OpenedArchive { store, meta, directory, inflated }))
    }
}

impl fmt::Display for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zip({} in {})", self.path, self.store)
    }
}

impl OpenedArchive {
    /// Compression of an entry.
    ///
    /// # Errors
    /// [`Error::NotSupported`] with the entry's name, if the entry can't be read.
    pub(super) fn method(&self, entry: &Entry) -> Result<Method> {
        entry
            .method()
            .map_err(|reason| Error::NotSupported { source: self.text(entry, &reason).into() })
    }

    /// Reads a range of an entry's uncompressed bytes.
    ///
    /// # Errors
    /// Those of the store, a changed archive, and a corrupt entry.
    pub(super) async fn range(&self, entry: &Entry, range: Range<u64>) -> Result<Bytes> {
        if range == (0..entry.size) {
            return self.whole(entry).await;
        }
        match self.method(entry)? {
            Method::Stored => {
                let data = self.data(entry).await?;
                self.read(data + range.start..data + range.end).await
            }
            Method::Deflated => {
                let bytes = self.inflated(entry).await?;
                Ok(bytes.slice(as_usize(range.start)..as_usize(range.end)))
            }
        }
    }

    /// Reads ranges of an entry's uncompressed bytes. No range may be empty.
    ///
    /// # Errors
    /// Those of [`OpenedArchive::range`].
    pub(super) async fn ranges(&self, entry: &Entry, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        match self.method(entry)? {
            Method::Stored => {
                let data = self.data(entry).await?;
                let shifted: Vec<_> =
                    ranges.iter().map(|range| data + range.start..data + range.end).collect();
                let path = &self.meta.location;
                let read = self.store.get_ranges(path, &shifted).await;
                let read = read.map_err(|error| vanished(&self.meta, error))?;
                // `get_ranges` returns no metadata of the file.
                let now = self.store.head(path).await;
                check_same(&self.meta, &now.map_err(|error| vanished(&self.meta, error))?)?;
                let fits = |(bytes, range): (&Bytes, &Range<u64>)| {
                    bytes.len() as u64 == range.end - range.start
                };
                match read.len() == ranges.len() && read.iter().zip(ranges).all(fits) {
                    true => Ok(read),
                    false => Err(changed(&self.meta)),
                }
            }
            Method::Deflated => {
                let bytes = self.inflated(entry).await?;
                let slice =
                    |range: &Range<u64>| bytes.slice(as_usize(range.start)..as_usize(range.end));
                Ok(ranges.iter().map(slice).collect())
            }
        }
    }

    /// Reads a whole entry with its header, in one request.
    async fn whole(&self, entry: &Entry) -> Result<Bytes> {
        let method = self.method(entry)?;
        let corrupt = |reason: String| failed(&self.meta, self.text(entry, &reason));
        if method == Method::Deflated {
            check_sizes(entry.stored, entry.size).map_err(corrupt)?;
        }
        // Most entries are adjacent; any gap behind this one isn't read.
        let most = entry.least_end().and_then(|least| least.checked_add(u16::MAX.into()));
        let bytes = self.read(entry.offset..most.unwrap_or(entry.end).min(entry.end)).await?;
        let name = self.directory.name(entry).as_bytes();
        let header = entry.read_header(&bytes, name).map_err(corrupt)?;
        let data = as_usize(header)..as_usize(header + entry.stored);
        if data.end > bytes.len() {
            return Err(corrupt("its header is longer than those of zip archives".to_owned()));
        }
        let data = bytes.slice(data);
        match method {
            Method::Stored => {
                check_crc(&data, entry.crc).map_err(corrupt)?;
                Ok(data)
            }
            Method::Deflated => inflate(data, entry.size, entry.crc).await.map_err(corrupt),
        }
    }

    /// Inflates a whole entry, and keeps it for further ranges.
    async fn inflated(&self, entry: &Entry) -> Result<Bytes> {
        // One at a time: waiting callers may want the same entry, and each inflation takes memory.
        let mut kept = self.inflated.lock().await;
        if let Some((offset, bytes)) = kept.as_ref()
            && *offset == entry.offset
        {
            return Ok(bytes.clone());
        }
        let bytes = self.whole(entry).await?;
        if entry.size <= MAX_KEPT {
            *kept = Some((entry.offset, bytes.clone()));
        }
        Ok(bytes)
    }

    /// Offset of an entry's bytes in the archive. The header is read once.
    async fn data(&self, entry: &Entry) -> Result<u64> {
        if let Some(data) = entry.known_data() {
            return Ok(data);
        }
        let header = HEADER + u64::from(entry.name.1);
        let bytes = self.read(entry.offset..entry.offset + header).await?;
        let header = entry.read_header(&bytes, self.directory.name(entry).as_bytes());
        let header = header.map_err(|reason| failed(&self.meta, self.text(entry, &reason)))?;
        Ok(entry.offset + header)
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        read_same(&*self.store, &self.meta, range).await
    }

    fn text(&self, entry: &Entry, reason: &str) -> String {
        format!("the entry '{}': {reason}", self.directory.name(entry))
    }
}

/// Reads a range of the archive, if the archive hasn't changed. The range may not be empty.
async fn read_same(store: &dyn ObjectStore, meta: &ObjectMeta, range: Range<u64>) -> Result<Bytes> {
    let options =
        GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
    let result = store.get_opts(&meta.location, options).await;
    let result = result.map_err(|error| vanished(meta, error))?;
    check_same(meta, &result.meta)?;
    let bytes = result.bytes().await.map_err(|error| vanished(meta, error))?;
    match bytes.len() as u64 == range.end - range.start {
        true => Ok(bytes),
        false => Err(changed(meta)),
    }
}

/// Fails if the archive isn't the one whose directory was read.
fn check_same(then: &ObjectMeta, now: &ObjectMeta) -> Result<()> {
    let same =
        then.size == now.size && then.last_modified == now.last_modified && then.e_tag == now.e_tag;
    if same { Ok(()) } else { Err(changed(then)) }
}

/// A missing archive must not look like a missing entry.
fn vanished(meta: &ObjectMeta, error: Error) -> Error {
    match crate::store_error::is_missing(&error) {
        true => failed(meta, "it is no longer there".to_owned()),
        false => error,
    }
}

fn changed(meta: &ObjectMeta) -> Error {
    let reason = "it has changed since its directory was read; open it anew".to_owned();
    failed(meta, reason)
}

fn failed(meta: &ObjectMeta, reason: String) -> Error {
    let source = format!("the archive '{}': {reason}", meta.location).into();
    Error::Generic { store: STORE, source }
}

/// A size in bytes that was read or bounded before.
fn as_usize(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
