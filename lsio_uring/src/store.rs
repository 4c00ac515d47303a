//! The object store: names, writes and errors of `LocalFileSystem`, with reads of its own.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    fs::Metadata,
    future::poll_fn,
    io,
    ops::Range,
    path::{Path as FilePath, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::UNIX_EPOCH,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream::BoxStream};
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result, local::LocalFileSystem, path::Path,
};
use std::os::unix::fs::MetadataExt as _;

use super::{
    admission::FileVersion,
    counters::Counts,
    engine::Running,
    engines::Engines,
    error::{ReadError, STORE},
    files::{Files, Here},
    handover::handover,
    mailbox::Mailbox,
    options::{Access, Engine, Options},
    plan::{Plan, split},
    reads::FileReads,
    ways::Chooser,
};

/// Local files as an object store, read at the speed of the drive.
///
/// Names, listings, writes, ETags and kinds of errors are those of [`LocalFileSystem`]. Each store can read the other's
/// objects, and preconditions hold across both. Reads differ:
///
/// - Bytes outside the page cache are read past it (`O_DIRECT`) through io_uring, into reused memory on huge pages. Bytes
///   in the page cache are copied. The kernel is asked each time. Bytes that are read again soon fill the page cache
///   ([`Access`]).
/// - An object of up to 32 MiB is returned in one piece, without a copy in between. Dropping the bytes returns the
///   memory; a consumer that holds much of it gets copies.
/// - [`get_ranges`](ObjectStore::get_ranges) reads many ranges concurrently and merges near ones.
/// - Where io_uring doesn't work, a few threads with `pread(2)` do the same.
/// - Pipes, sockets and devices are refused.
///
/// Clones share the engine. It needs no asynchronous runtime.
#[derive(Clone, Debug)]
pub struct UringFileSystem {
    local: LocalFileSystem,
    /// Directory that all names are below.
    root: Option<PathBuf>,
    files: Arc<Files>,
    engine: Arc<Running>,
    access: Access,
}

impl UringFileSystem {
    /// All local files, with the engine of [`UringFileSystem::shared`].
    ///
    /// # Errors
    /// Those of [`UringFileSystem::shared`].
    pub fn new() -> Result<Self> {
        Self::shared(Engine::Auto)
    }

    /// All local files, with an engine of [`Engines::shared`].
    ///
    /// # Errors
    /// [`Error::Generic`] if [`Engine::Uring`] is requested and doesn't work here, and for [`Engine::ObjectStore`].
    pub fn shared(engine: Engine) -> Result<Self> {
        Engines::shared().files(engine)
    }

    /// The files of `local`, with a new engine.
    ///
    /// ```
    /// use lsio_uring::{Options, UringFileSystem};
    /// use object_store::local::LocalFileSystem;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// let local = LocalFileSystem::new_with_prefix(directory.path())?;
    /// let store = UringFileSystem::with_options(local, Options::default())?;
    /// println!("{store} is read with {}", store.engine());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`UringFileSystem::shared`].
    pub fn with_options(local: LocalFileSystem, options: Options) -> Result<Self> {
        let files = Arc::new(Files::new(options.open_files));
        let access = options.access;
        let engine = Arc::new(Running::start(options).map_err(generic)?);
        Ok(Self { root: root(&local), local, files, engine, access })
    }

    /// The files of `local`, with this store's engine.
    #[must_use]
    pub fn with_root(&self, local: LocalFileSystem) -> Self {
        Self { root: root(&local), local, ..self.clone() }
    }

    /// The same files with another choice of ways to read them.
    #[must_use]
    pub fn with_access(&self, access: Access) -> Self {
        Self { access, ..self.clone() }
    }

    /// The running engine: [`Engine::Uring`] or [`Engine::Pread`].
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine.engine()
    }

    pub(super) fn access(&self) -> Access {
        self.access
    }

    fn chooser(&self, metadata: &Metadata) -> Chooser {
        let version = FileVersion::of(metadata);
        Chooser { access: self.access, version, admission: Arc::clone(self.engine.admission()) }
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// Counts of the engine's reads and memory.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.engine.counts()
    }

    /// Reads ranges of an object, and yields each as soon as it has landed: with its number, in any order. Up to 32 MiB
    /// are read ahead of the consumer; dropping the stream gives up the rest. An error ends the stream.
    ///
    /// # Errors
    /// Those of [`ObjectStore::get_ranges`].
    pub async fn stream_ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> Result<impl Stream<Item = Result<(usize, Bytes)>> + Send + use<>> {
        self.read_ranges(location, ranges).await
    }

    async fn read_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Ranges> {
        /// Number of ranges above which planning takes longer than a handover to another thread.
        const FEW: usize = 64;

        let path = self.file_path(location)?;
        let ranges = ranges.to_vec();
        let first = if ranges.len() <= FEW { Here::Task } else { Here::Worker };
        let start = move |store: &Self, path: &FilePath, here| {
            let (file, metadata) = store.files.open(path, here)?;
            let chooser = store.chooser(&metadata);
            let plan = Plan::new(&file, &ranges, metadata.len(), &chooser)?;
            let spans = plan.spans();
            let file = file.ready(spans.are_direct())?;
            store.files.keep(&file);
            Ok(Ranges {
                ready: plan.empty().map(|number| (number, Bytes::new())).collect(),
                reads: FileReads::start(Arc::clone(&store.engine), file, spans, chooser, here),
                plan,
            })
        };
        self.at(path, first, start, |_| None).await
    }

    /// Opens an object and starts to read it.
    async fn begin(&self, location: &Path, options: GetOptions) -> Result<Begun> {
        let path = self.file_path(location)?;
        let location = location.clone();
        let start = move |store: &Self, path: &FilePath, here| {
            let (file, metadata) = store.files.open(path, here)?;
            let meta = object_meta(&metadata, location.clone());
            options.check_preconditions(&meta)?;
            let range = match &options.range {
                Some(range) => range.as_range(meta.size).map_err(generic)?,
                None => 0..meta.size,
            };
            if options.head || range.is_empty() {
                return Ok(Begun { meta, range, reads: None });
            }
            let chooser = store.chooser(&metadata);
            let spans = split(&file, range.clone(), &chooser);
            let file = file.ready(spans.are_direct())?;
            // A reader of one range will read another.
            if range != (0..meta.size) {
                store.files.keep(&file);
            }
            let reads = FileReads::start(Arc::clone(&store.engine), file, spans, chooser, here);
            Ok(Begun { meta, range, reads: Some(reads) })
        };
        // The task can't use a begun read before its bytes arrive.
        self.at(path, Here::Task, start, |begun| begun.reads.as_ref().map(FileReads::mailbox)).await
    }

    /// Path of an object's file: [`LocalFileSystem::path_to_filesystem`], or a shortcut for plain names that need no
    /// encoding as a URL.
    pub(super) fn file_path(&self, location: &Path) -> Result<PathBuf> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
        let name = location.as_ref();
        match &self.root {
            Some(root) if !name.is_empty() && name.bytes().all(plain) => Ok(root.join(name)),
            _ => self.local.path_to_filesystem(location),
        }
    }

    /// Closes a file that its name no longer refers to: open, it would keep its space on the drive.
    fn forget(&self, location: &Path) {
        if let Ok(path) = self.file_path(location) {
            self.files.forget(&path);
        }
    }

    /// Works with a file: in this task, if `first` says so and no waiting is needed, else on another thread. If
    /// `awaits` names a mailbox, deliveries there wake this task.
    async fn at<T: Send + 'static>(
        &self,
        path: PathBuf,
        first: Here,
        work: impl Fn(&Self, &FilePath, Here) -> std::result::Result<T, FileFailure> + Send + 'static,
        awaits: fn(&T) -> Option<&Arc<Mailbox>>,
    ) -> Result<T> {
        if first == Here::Task {
            match work(self, &path, Here::Task) {
                Err(FileFailure::Open(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result.map_err(|failure| failure.into_error(&path)),
            }
        }
        let (giver, taker) = handover();
        let store = self.clone();
        let elsewhere = move |here| {
            if giver.is_alone() {
                return;
            }
            let result = work(&store, &path, here).map_err(|failure| failure.into_error(&path));
            let mailbox = result.as_ref().ok().and_then(awaits).cloned();
            giver.give(result, |waker| match mailbox {
                Some(mailbox) => mailbox.wake_later(waker),
                None => waker.wake(),
            });
        };
        if first == Here::Task && !self.files.may_be_remote() {
            self.engine.open(elsewhere);
        } else {
            self.engine.workers().spawn(move || elsewhere(Here::Worker));
        }
        let given = poll_fn(|context| taker.poll(context)).await;
        given.unwrap_or_else(|| Err(generic(io::Error::other("the engine has stopped"))))
    }
}

/// Reason why work with a file failed.
enum FileFailure {
    /// The file was not opened.
    Open(io::Error),
    Other(Error),
}

impl FileFailure {
    fn into_error(self, path: &FilePath) -> Error {
        match self {
            Self::Open(error) => ReadError::open(path, error).into(),
            Self::Other(error) => error,
        }
    }
}

impl From<io::Error> for FileFailure {
    fn from(error: io::Error) -> Self {
        Self::Open(error)
    }
}

impl From<Error> for FileFailure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<ReadError> for FileFailure {
    fn from(error: ReadError) -> Self {
        Self::Other(error.into())
    }
}

/// An opened object.
struct Begun {
    meta: ObjectMeta,
    range: Range<u64>,
    reads: Option<FileReads>,
}

/// Bytes of one range, in order.
struct InOrder {
    reads: FileReads,
    next: usize,
    early: BTreeMap<usize, Bytes>,
}

impl Stream for InOrder {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let next = self.next;
            if let Some(bytes) = self.early.remove(&next) {
                self.next += 1;
                self.reads.consumed(next);
                return Poll::Ready(Some(Ok(bytes)));
            }
            match ready!(self.reads.poll(context, 1)) {
                Some(Ok((number, bytes))) => {
                    self.early.insert(number, bytes);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// Ranges in the order they land.
struct Ranges {
    reads: FileReads,
    plan: Plan,
    ready: VecDeque<(usize, Bytes)>,
}

impl Ranges {
    /// Next range. The task is woken when about `wanted` spans have landed.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<Option<Result<(usize, Bytes)>>> {
        loop {
            if let Some(landed) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(landed)));
            }
            match ready!(self.reads.poll(context, wanted)) {
                Some(Ok((span, bytes))) => {
                    self.reads.consumed(span);
                    let ready = &mut self.ready;
                    self.plan.land(span, bytes, |number, bytes| ready.push_back((number, bytes)));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Stream for Ranges {
    type Item = Result<(usize, Bytes)>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context, 1)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for UringFileSystem {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let result = self.local.put_opts(location, payload, options).await;
        self.forget(location);
        result
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.local.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let Begun { meta, range, reads } = self.begin(location, options).await?;
        let stream = match reads {
            Some(reads) => InOrder { reads, next: 0, early: BTreeMap::new() }.boxed(),
            None => futures::stream::empty().boxed(),
        };
        let payload = GetResultPayload::Stream(stream);
        Ok(GetResult { payload, meta, range, attributes: Attributes::default() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let mut reading = self.read_ranges(location, ranges).await?;
        let mut all = vec![Bytes::new(); reading.plan.len()];
        while let Some(landed) = poll_fn(|context| reading.poll(context, usize::MAX)).await {
            let (number, bytes) = landed?;
            all[number] = bytes;
        }
        Ok(all)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let deleted = self.local.delete_stream(locations);
        deleted.inspect_ok(move |deleted| store.forget(deleted)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.local.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.local.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.local.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let result = self.local.copy_opts(from, to, options).await;
        self.forget(to);
        result
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let result = self.local.rename_opts(from, to, options).await;
        self.forget(from);
        self.forget(to);
        result
    }
}

impl fmt::Display for UringFileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}({}, {})", self.engine(), self.local)
    }
}

/// Directory that a store's names are below.
fn root(local: &LocalFileSystem) -> Option<PathBuf> {
    let file = local.path_to_filesystem(&Path::from("file")).ok()?;
    file.parent().map(FilePath::to_owned)
}

/// Metadata of an object as [`LocalFileSystem`] has them, with the same ETag.
fn object_meta(metadata: &Metadata, location: Path) -> ObjectMeta {
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    let microseconds = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let (inode, size) = (metadata.ino(), metadata.len());
    ObjectMeta {
        location,
        last_modified: modified.into(),
        size,
        e_tag: Some(format!("{inode:x}-{microseconds:x}-{size:x}")),
        version: None,
    }
}

fn generic(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: STORE, source: Box::new(source) }
}
