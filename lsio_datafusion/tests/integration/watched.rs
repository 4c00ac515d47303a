//! A store that counts what is read, and the counts of scans.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::physical_plan::ExecutionPlan;
use futures::stream::BoxStream;
use lsio_core::object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, local::LocalFileSystem,
    path::Path as ObjectPath,
};

/// A store that writes down what chunks are read, and fails when it is told to.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: LocalFileSystem,
    /// The objects, and the bytes of each read.
    reads: Mutex<Vec<(String, u64)>>,
    /// The read of a chunk that fails, counted from the first.
    pub(crate) fails: AtomicUsize,
    /// The time that a chunk takes.
    delay: Duration,
    /// The chunks that are being read, and the most of them so far.
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl Watched {
    pub(crate) fn new(inner: LocalFileSystem) -> Self {
        Self {
            inner,
            reads: Mutex::default(),
            fails: AtomicUsize::new(usize::MAX / 2),
            delay: Duration::ZERO,
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        }
    }

    /// A store whose chunks take so long.
    pub(crate) fn slow(inner: LocalFileSystem, delay: Duration) -> Self {
        Self { delay, ..Self::new(inner) }
    }

    /// The most chunks that were read at the same time.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.most_in_flight.load(Ordering::Relaxed)
    }

    async fn fly(&self, path: &ObjectPath) {
        if self.delay.is_zero() || !path.as_ref().contains("/c/") {
            return;
        }
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_in_flight.fetch_max(now, Ordering::Relaxed);
        tokio::time::sleep(self.delay).await;
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    fn record(&self, path: &ObjectPath, bytes: u64) -> Result<()> {
        if !path.as_ref().contains("/c/") {
            return Ok(());
        }
        if self.fails.fetch_sub(1, Ordering::Relaxed) == 0 {
            let source = "the plug was pulled".into();
            return Err(lsio_core::object_store::Error::Generic { store: "Watched", source });
        }
        self.reads.lock().unwrap().push((path.to_string(), bytes));
        Ok(())
    }

    /// What was read of a variable since the last time: requests, and bytes by object.
    pub(crate) fn take(&self, variable: &str) -> (usize, BTreeMap<String, u64>) {
        let part = format!("{variable}/c/");
        let mut requests = 0;
        let mut bytes = BTreeMap::new();
        self.reads.lock().unwrap().retain(|(path, read)| {
            let Some((_, key)) = path.split_once(&part) else { return true };
            requests += 1;
            *bytes.entry(key.to_owned()).or_default() += read;
            false
        });
        (requests, bytes)
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watched")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Watched {
    async fn put_opts(
        &self,
        path: &ObjectPath,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &ObjectPath,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        self.fly(path).await;
        let result = self.inner.get_opts(path, options).await?;
        self.record(path, result.range.end - result.range.start)?;
        Ok(result)
    }

    async fn get_ranges(&self, path: &ObjectPath, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        for range in ranges {
            self.record(path, range.end - range.start)?;
        }
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&ObjectPath>,
        offset: &ObjectPath,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: CopyOptions,
    ) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: lsio_core::object_store::RenameOptions,
    ) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

/// What the scans of a plan say of themselves.
#[derive(Debug, Default)]
pub(crate) struct Metrics(BTreeMap<String, usize>);

impl Metrics {
    pub(crate) fn of(plan: &Arc<dyn ExecutionPlan>) -> Self {
        let mut sums = Self::default();
        sums.add(plan);
        sums
    }

    fn add(&mut self, plan: &Arc<dyn ExecutionPlan>) {
        if plan.name() == "DataSourceExec" {
            for metric in plan.metrics().unwrap().iter() {
                *self.0.entry(metric.value().name().to_owned()).or_default() +=
                    metric.value().as_usize();
            }
        }
        plan.children().into_iter().for_each(|child| self.add(child));
    }

    pub(crate) fn get(&self, name: &str) -> usize {
        self.0.get(name).copied().unwrap_or_default()
    }
}
