//! What carries requests: object_store's HTTP client, on the network's own threads, with a timeout for
//! the time without any byte instead of one for the whole response.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header::ETAG};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
        HttpResponseBody, HttpService, ReqwestConnector,
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::threads::{NetworkThreads, Task};
use crate::{
    Network,
    transport::{self, Link},
};

/// The bytes of a list or an error that are waited for: those of a list of some thousand keys.
const WHOLE_BYTES: usize = 4 << 20;

/// The options that all clients start from.
pub(super) fn client_options() -> ClientOptions {
    ClientOptions::new()
        .with_user_agent(HeaderValue::from_static(concat!("lsio/", env!("CARGO_PKG_VERSION"))))
        // A large chunk on a slow line is no error; the service's own timeout is for silence.
        .with_timeout_disabled()
        .with_connect_timeout(Duration::from_secs(5))
}

/// Makes the clients of one store.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    network: Network,
    link: Arc<Link>,
    threads: Arc<NetworkThreads>,
}

impl Connector {
    pub(super) fn new(network: Network, link: Arc<Link>, threads: Arc<NetworkThreads>) -> Self {
        Self { network, link, threads }
    }

    /// The same, with requests that are given up at the latest after so long a silence.
    pub(super) fn with_silence(self, most: Duration) -> Self {
        let request_timeout = self.network.request_timeout.min(most);
        Self { network: Network { request_timeout, ..self.network }, ..self }
    }

    /// What its clients carry requests with.
    pub(super) fn threads(&self) -> &Arc<NetworkThreads> {
        &self.threads
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        let Self { network, link, threads } = self.clone();
        let (silence, answered) = (network.request_timeout, AtomicBool::new(false));
        Ok(HttpClient::new(Service { client, silence, link, threads, answered }))
    }
}

#[derive(Debug)]
struct Service {
    client: HttpClient,
    /// The longest time without a byte.
    silence: Duration,
    link: Arc<Link>,
    threads: Arc<NetworkThreads>,
    /// Whether there ever was an answer.
    answered: AtomicBool,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (client, silence) = (self.client.clone(), self.silence);
        let (send_head, head) = oneshot::channel();
        // It holds no more than the response, whose size the request has bounded; a bound would make
        // the connection wait for who decodes.
        let (send_frame, frames) = mpsc::unbounded_channel();
        let send = async move {
            let response = match timeout(silence, client.execute(request)).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return drop(send_head.send(Err(error))),
                Err(_) => return drop(send_head.send(Err(silent(silence)))),
            };
            let (mut head, mut body) = response.into_parts();
            if head.status == StatusCode::NOT_IMPLEMENTED {
                // Web servers say so of methods they don't know, such as those that list. Of what is the
                // server's fault it alone never passes, and must not be tried again.
                head.status = StatusCode::METHOD_NOT_ALLOWED;
            }
            // Of an object, what is missing is asked for again. What has no tag, a list or what went wrong,
            // comes whole before the client hears of it: it tries again only what didn't begin.
            let mut held = if head.headers.contains_key(ETAG) { 0 } else { WHOLE_BYTES };
            while held > 0 {
                match next_frame(&mut body, silence).await {
                    Ok(Some(frame)) => {
                        let bytes = frame.data_ref().map_or(0, Bytes::len);
                        held = held.saturating_sub(bytes);
                        drop(send_frame.send(Some(Ok(frame))));
                    }
                    Ok(None) => {
                        drop(send_frame.send(None));
                        return drop(send_head.send(Ok(head)));
                    }
                    Err(error) => {
                        let error = HttpError::new(HttpErrorKind::Interrupted, error);
                        return drop(send_head.send(Err(error)));
                    }
                }
            }
            if send_head.send(Ok(head)).is_err() {
                return;
            }
            loop {
                let frame = next_frame(&mut body, silence).await.transpose();
                let last = !matches!(frame, Some(Ok(_)));
                if send_frame.send(frame).is_err() || last {
                    return;
                }
            }
        };
        let task = self.threads.spawn(send);
        let task = task.map_err(|e| HttpError::new(HttpErrorKind::Unknown, e))?;
        let head = match head.await.map_err(|_| stopped())? {
            Ok(head) => head,
            // Where nobody ever answered, the address is wrong sooner than the network shaky: it would
            // be tried for long, and for nothing.
            Err(error)
                if error.kind() == HttpErrorKind::Connect
                    && !self.answered.load(Ordering::Relaxed) =>
            {
                return Err(HttpError::new(HttpErrorKind::Unknown, error));
            }
            Err(error) => return Err(error),
        };
        self.answered.store(true, Ordering::Relaxed);
        if matches!(head.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            // S3's "SlowDown" is a 503.
            self.link.throttled();
        }
        let body = Received { frames, complete: false, _task: task };
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

/// What comes next of a body, if that isn't too long.
async fn next_frame(
    body: &mut HttpResponseBody,
    silence: Duration,
) -> Result<Option<Frame<Bytes>>, HttpError> {
    timeout(silence, body.frame()).await.map_err(|_| silent(silence))?.transpose()
}

/// The body of a response as it arrives. Dropped, it ends the request.
struct Received {
    /// `None` behind the last.
    frames: mpsc::UnboundedReceiver<Option<Result<Frame<Bytes>, HttpError>>>,
    complete: bool,
    _task: Task<()>,
}

impl Body for Received {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if self.complete {
            return Poll::Ready(None);
        }
        let frame = match ready!(self.frames.poll_recv(context)) {
            Some(frame) => frame,
            // Whoever sends has gone without saying that this was all.
            None => Some(Err(stopped())),
        };
        self.complete = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }
}

fn silent(time: Duration) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, transport::silent(time))
}

fn stopped() -> HttpError {
    HttpError::new(HttpErrorKind::Interrupted, io::Error::other("the request was stopped"))
}
