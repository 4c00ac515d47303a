//! Timeouts for stores that a program registers: their own clients don't know lsio's options.

use std::{fmt, future::Future, io, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result, path::Path,
};
use tokio::time::timeout;

use super::link::Link;

/// Attempts at a request that isn't answered: as many as for stores that are opened here, so that a client's own
/// retries, which are cut off, aren't the fewer.
const TRIES: u32 = 11;

/// Store on the network with the timeouts of its link. A read that brings no byte for `request_timeout` is given
/// up, and tried again if it wasn't answered yet. Calls that return their whole answer at once may take `deadline`.
#[derive(Clone, Debug)]
pub(crate) struct TimedStore {
    inner: Arc<dyn ObjectStore>,
    link: Arc<Link>,
}

impl TimedStore {
    /// Wraps a store.
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, link: Arc<Link>) -> Self {
        Self { inner, link }
    }

    /// Waits for an answer of this many bytes that comes at once.
    async fn whole<T>(&self, bytes: u64, call: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(deadline) = self.link.deadline(bytes) else { return call.await };
        timeout(deadline, call).await.unwrap_or_else(|_| {
            Err(generic(timed_out(format!(
                "there was no answer within {deadline:?} (option deadline)"
            ))))
        })
    }

    /// Stream that ends with an error where an item takes too long.
    fn watched<T: Send + 'static>(
        &self,
        items: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let silence = self.link.request_timeout();
        let next = move |items: Option<BoxStream<'static, Result<T>>>| async move {
            let mut items = items?;
            match timeout(silence, items.next()).await {
                Ok(item) => Some((item?, Some(items))),
                // The rest of the stream is dropped.
                Err(_) => Some((Err(generic(silent(silence))), None)),
            }
        };
        stream::unfold(Some(items), next).boxed()
    }
}

/// Error of a request that brought no byte for this long.
pub(crate) fn silent(time: Duration) -> io::Error {
    timed_out(format!("no byte arrived within {time:?} (option request_timeout)"))
}

fn timed_out(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, text)
}

fn generic(source: io::Error) -> Error {
    Error::Generic { store: "network", source: source.into() }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for TimedStore {
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
        let silence = self.link.request_timeout();
        for tries in 1.. {
            let answer = self.inner.get_opts(location, options.clone());
            match timeout(silence, answer).await {
                Ok(answer) => {
                    let mut answer = answer?;
                    if let GetResultPayload::Stream(body) = answer.payload {
                        answer.payload = GetResultPayload::Stream(self.watched(body));
                    }
                    return Ok(answer);
                }
                Err(_) if tries < TRIES => {
                    log::info!("{location}: {}; it is asked for again", silent(silence));
                }
                Err(_) => break,
            }
        }
        Err(generic(silent(silence)))
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let lens = ranges.iter().map(|range| range.end.saturating_sub(range.start));
        let bytes = lens.fold(0, u64::saturating_add);
        self.whole(bytes, self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.watched(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.watched(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.whole(0, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

impl fmt::Display for TimedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::pending;
    use object_store::{ObjectStoreExt as _, memory::InMemory};

    use super::*;
    use crate::{
        Network,
        transport::{Counts, Expected, Failure, Storage, Transfer, What},
    };

    /// A store in memory whose first requests hang: before the answer, or in the middle of the body.
    #[derive(Debug, Default)]
    struct Hanging {
        memory: InMemory,
        before: AtomicU32,
        within: AtomicU32,
        requests: AtomicU32,
    }

    impl Hanging {
        fn hangs(left: &AtomicU32) -> bool {
            let less = |left: u32| left.checked_sub(1);
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
        }
    }

    impl fmt::Display for Hanging {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Hanging")
        }
    }

    #[async_trait]
    impl ObjectStore for Hanging {
        async fn put_opts(
            &self,
            location: &Path,
            payload: PutPayload,
            options: PutOptions,
        ) -> Result<PutResult> {
            self.memory.put_opts(location, payload, options).await
        }

        async fn put_multipart_opts(
            &self,
            location: &Path,
            options: PutMultipartOptions,
        ) -> Result<Box<dyn MultipartUpload>> {
            self.memory.put_multipart_opts(location, options).await
        }

        async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
            self.requests.fetch_add(1, Ordering::SeqCst);
            if Self::hangs(&self.before) {
                return pending().await;
            }
            let mut answer = self.memory.get_opts(location, options).await?;
            if let GetResultPayload::Stream(body) = answer.payload {
                let body = body.map(|piece| piece.map(|piece| piece.slice(..piece.len() / 2)));
                let body = match Self::hangs(&self.within) {
                    true => body.chain(stream::pending()).boxed(),
                    false => self.memory.get(location).await?.into_stream(),
                };
                answer.payload = GetResultPayload::Stream(body);
            }
            Ok(answer)
        }

        fn delete_stream(
            &self,
            locations: BoxStream<'static, Result<Path>>,
        ) -> BoxStream<'static, Result<Path>> {
            self.memory.delete_stream(locations)
        }

        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            match Self::hangs(&self.before) {
                true => stream::pending().boxed(),
                false => self.memory.list(prefix),
            }
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
            match Self::hangs(&self.before) {
                true => pending().await,
                false => self.memory.list_with_delimiter(prefix).await,
            }
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.memory.copy_opts(from, to, options).await
        }
    }

    /// The store, with a [`TimedStore`] and a [`Transfer`] on it with short timeouts.
    async fn hanging(before: u32, within: u32) -> (Arc<Hanging>, TimedStore, Transfer) {
        let store = Arc::new(Hanging {
            before: before.into(),
            within: within.into(),
            ..Hanging::default()
        });
        store.memory.put(&Path::from("a"), "content".into()).await.unwrap();
        let (request_timeout, deadline) = (Duration::from_millis(50), Duration::from_secs(2));
        let link = Link::new(Storage::ObjectStore, Network { request_timeout, deadline });
        let timed = TimedStore::new(Arc::clone(&store) as _, Arc::clone(&link));
        let transfer = Transfer::new(Arc::new(timed.clone()), link, What::Chunks);
        (store, timed, transfer)
    }

    async fn read(transfer: &Transfer) -> std::result::Result<Bytes, String> {
        let expected = Expected { likely: 7, most: 7 };
        match transfer.object(&Path::from("a"), expected, &mut Counts::default()).await {
            Ok(object) => Ok(object.bytes),
            Err(Failure::Store(error)) => Err(error.to_string()),
            Err(failure) => Err(format!("{failure:?}")),
        }
    }

    #[tokio::test]
    async fn requests_without_an_answer_are_made_again() {
        for (before, within) in [(0, 0), (1, 0), (0, 1), (2, 2)] {
            let (store, _, transfer) = hanging(before, within).await;
            assert_eq!(read(&transfer).await.unwrap(), "content", "{before} {within}");
            let requests = store.requests.load(Ordering::SeqCst);
            assert_eq!(requests, 1 + before + within, "{before} {within}");
        }
    }

    #[tokio::test]
    async fn silence_is_an_error_in_the_end() {
        // Bodies that break off are the reader's to ask for again.
        for (before, within, requests) in [(u32::MAX, 0, TRIES), (0, u32::MAX, 4)] {
            let (store, _, transfer) = hanging(before, within).await;
            let error = read(&transfer).await.unwrap_err();
            assert!(error.contains("50ms (option request_timeout)"), "{error}");
            assert_eq!(store.requests.load(Ordering::SeqCst), requests);
        }
    }

    #[tokio::test]
    async fn lists_end() {
        let (_, timed, _) = hanging(2, 0).await;
        let listed: Vec<_> = timed.list(None).collect().await;
        let [Err(error)] = listed.as_slice() else { panic!("{listed:?}") };
        assert!(error.to_string().contains("option request_timeout"), "{error}");
        let error = timed.list_with_delimiter(None).await.unwrap_err().to_string();
        assert!(error.contains("2s (option deadline)"), "{error}");
        assert_eq!(timed.list(None).count().await, 1);
        assert_eq!(timed.list_with_delimiter(None).await.unwrap().objects.len(), 1);
    }
}
