//! A store of the cloud as readers see it: reads end by the deadline, and errors say what to do.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{
    StreamExt as _, TryStreamExt as _,
    future::{self, Either},
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};
use tokio::time::{Sleep, sleep};

use super::explain::Way;

/// A store, and what messages say of it.
pub(super) struct CloudStore {
    inner: Arc<dyn ObjectStore>,
    way: Arc<Way>,
    /// The time that the read of an object may take.
    deadline: Duration,
}

impl CloudStore {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, way: Way, deadline: Duration) -> Self {
        Self { inner, way: Arc::new(way), deadline }
    }

    fn explained<T: Send + 'static>(
        &self,
        stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let way = Arc::clone(&self.way);
        stream.map_err(move |error| way.explain(error)).boxed()
    }

    /// The rest of an object, which must come before the clock rings.
    fn timed<T: Send + 'static>(
        &self,
        stream: BoxStream<'static, Result<T>>,
        clock: Pin<Box<Sleep>>,
    ) -> BoxStream<'static, Result<T>> {
        let (way, deadline) = (Arc::clone(&self.way), self.deadline);
        let rest = Some((self.explained(stream), clock));
        stream::unfold(rest, move |rest| {
            let way = Arc::clone(&way);
            async move {
                let (mut stream, mut clock) = rest?;
                match future::select(stream.next(), &mut clock).await {
                    Either::Left((item, _)) => Some((item?, Some((stream, clock)))),
                    Either::Right(_) => Some((Err(way.late(deadline)), None)),
                }
            }
        })
        .boxed()
    }
}

impl fmt::Debug for CloudStore {
    /// The name alone: the client's own text has URLs with their queries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloudStore({})", self.inner)
    }
}

impl fmt::Display for CloudStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for CloudStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut clock = Box::pin(sleep(self.deadline));
        let get = self.inner.get_opts(location, options);
        let mut result = match future::select(get, &mut clock).await {
            Either::Left((result, _)) => result.map_err(|error| self.way.explain(error))?,
            Either::Right(_) => return Err(self.way.late(self.deadline)),
        };
        if let GetResultPayload::Stream(stream) = result.payload {
            result.payload = GetResultPayload::Stream(self.timed(stream, clock));
        }
        Ok(result)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.explained(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.explained(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await.map_err(|error| self.way.explain(error))
    }

    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let put = self.inner.put_opts(location, payload, options);
        put.await.map_err(|error| self.way.explain(error))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let put = self.inner.put_multipart_opts(location, options);
        put.await.map_err(|error| self.way.explain(error))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.explained(self.inner.delete_stream(locations))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await.map_err(|error| self.way.explain(error))
    }
}
