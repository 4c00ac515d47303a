//! Connections of a server, and the path of a request through it.

use std::{
    future::{pending, poll_fn},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, RANGE},
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use s3s::{Body, service::S3Service};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, sleep_until},
};

use crate::{
    BUCKET, Fault, Incoming, Request as Logged,
    body::{Sent, Then},
    headers::{percent_decode, text},
    http_objects::{HttpObjects, says},
    server::Shared,
};

/// Objects of a server.
pub(crate) enum Objects {
    S3(S3Service),
    Http(HttpObjects),
}

/// Serves all incoming connections.
pub(crate) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, Arc::clone(&shared)));
            }
            // Too many files may be open just now.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Serves a connection until it is closed.
async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Answers to small requests aren't delayed to fill a packet.
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let service =
        service_fn(|request| Box::pin(answer(Arc::clone(&shared), request, Arc::clone(&reset))));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // An error means that the client is gone, or is a requested fault.
    let _ = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    if reset.load(Ordering::Relaxed) {
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

/// Answers a request. An error closes the connection.
async fn answer(
    shared: Arc<Shared>,
    request: Request<hyper::body::Incoming>,
    reset: Arc<AtomicBool>,
) -> io::Result<Response<Sent>> {
    let start = Instant::now();
    let is_s3 = matches!(shared.objects, Objects::S3(_));
    let incoming = Incoming {
        method: request.method().clone(),
        key: key(request.uri().path(), is_s3),
        query: query(request.uri().query().unwrap_or_default()),
        range: text(request.headers(), &RANGE).map(str::to_owned),
        number: 0,
    };
    let mut record = shared.log.begin(Logged {
        method: incoming.method.clone(),
        key: incoming.key.clone(),
        query: incoming.query.clone(),
        range: incoming.range.clone(),
        if_match: request.headers().contains_key(IF_MATCH),
        if_none_match: request.headers().contains_key(IF_NONE_MATCH),
        status: None,
        bytes: 0,
        start,
        end: None,
        aborted: false,
    });
    let method = incoming.method.clone();
    let key = incoming.key.clone();
    let latency = shared.pace.latency();
    let fault = shared.faults.decide(incoming);

    let response = match (fault, &shared.objects) {
        (Some(Fault::Hang), _) => pending().await,
        (Some(Fault::Status(status)), _) => failure(status, is_s3, &key)?,
        (Some(Fault::Throttle), _) => failure(503, is_s3, &key)?,
        (_, Objects::S3(service)) => {
            service.call(request.map(Body::from)).await.map_err(io::Error::other)?
        }
        (_, Objects::Http(objects)) => objects.answer(&method, &key, request.headers())?,
    };
    // The latency includes the time to make the answer.
    if !latency.is_zero() {
        sleep_until((start + latency).into()).await;
    }
    if fault == Some(Fault::Drop) {
        return Err(io::Error::other("the connection is to be dropped"));
    }

    record.answered(response.status().as_u16());
    let (mut head, mut body) = response.into_parts();
    let has_body = method != Method::HEAD && head.status != StatusCode::NOT_MODIFIED;
    if !has_body {
        body = Body::empty();
    }
    let body = Sent::whole(body, Arc::clone(&shared.pace), record);
    let length = body.length().unwrap_or_default();
    let body = match fault {
        Some(Fault::ChangedEtag) if head.headers.contains_key(ETAG) => {
            head.headers.insert(ETAG, HeaderValue::from_static("\"changed\""));
            body
        }
        _ if length == 0 => body,
        Some(Fault::WrongRange) if head.status.is_success() => {
            let range = wrong_range(text(&head.headers, &CONTENT_RANGE), length);
            head.headers.insert(CONTENT_RANGE, range.parse().map_err(io::Error::other)?);
            head.status = StatusCode::PARTIAL_CONTENT;
            body
        }
        Some(Fault::HangInBody(fraction)) => {
            body.cut(((length as f64 * fraction) as u64).min(length - 1), Then::Hang)
        }
        Some(Fault::ResetInBody) => body.cut(length / 2, Then::Reset(reset)),
        Some(Fault::ShortBody) => body.cut(length / 2, Then::Close),
        Some(Fault::ShortChunked) => {
            head.headers.remove(CONTENT_LENGTH);
            body.cut(length / 2, Then::EndOfChunks)
        }
        _ => body,
    };
    Ok(Response::from_parts(head, body))
}

/// Key in a URL's path; the path itself if it has no key.
fn key(path: &str, is_s3: bool) -> String {
    let path = percent_decode(path).unwrap_or_else(|| path.to_owned());
    let key = path.strip_prefix('/').unwrap_or(&path);
    match key.strip_prefix(BUCKET).filter(|_| is_s3) {
        Some("") => String::new(),
        Some(inside) if inside.starts_with('/') => inside[1..].to_owned(),
        _ if is_s3 => path,
        _ => key.to_owned(),
    }
}

/// Decodes a URL's query.
fn query(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_decode(&text).unwrap_or(text)
}

/// Header `Content-Range` for a body of `length` bytes, shifted by one byte.
fn wrong_range(right: Option<&str>, length: u64) -> String {
    let right =
        right.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok());
    let start = right.unwrap_or(0_u64) + 1;
    format!("bytes {start}-{}/{}", start + length - 1, start + length)
}

/// Answer of a failing server.
fn failure(status: u16, is_s3: bool, key: &str) -> io::Result<Response<Body>> {
    let status = StatusCode::from_u16(status).map_err(io::Error::other)?;
    if !is_s3 {
        return Ok(says(status));
    }
    let code = match status.as_u16() {
        400 => "InvalidRequest",
        403 => "AccessDenied",
        404 => "NoSuchKey",
        409 => "OperationAborted",
        412 => "PreconditionFailed",
        416 => "InvalidRange",
        429 => "TooManyRequests",
        503 => "SlowDown",
        _ => "InternalError",
    };
    let key = key.replace('&', "&amp;").replace('<', "&lt;");
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>The test asks \
         for this.</Message><Key>{key}</Key><RequestId>0</RequestId></Error>"
    );
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/xml")
        .body(Body::from(Bytes::from(text)))
        .map_err(io::Error::other)
}
