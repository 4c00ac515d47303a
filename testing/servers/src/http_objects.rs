//! Objects over plain HTTP.

use std::io;

use bytes::Bytes;
use http::{
    HeaderMap, Method, Response, StatusCode,
    header::{
        ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED,
    },
};
use s3s::{Body, stream::DynByteStream};

use crate::{
    files::Files,
    headers::{Verdict, content_range, text_of_date},
};

/// Answers GET and HEAD.
#[derive(Debug)]
pub(crate) struct HttpObjects {
    files: Files,
}

impl HttpObjects {
    pub(crate) fn new(files: Files) -> Self {
        Self { files }
    }

    /// Answers a request for an object.
    pub(crate) fn answer(
        &self,
        method: &Method,
        key: &str,
        headers: &HeaderMap,
    ) -> io::Result<Response<Body>> {
        if method != Method::GET && method != Method::HEAD {
            let mut response = says(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(ALLOW, http::HeaderValue::from_static("GET, HEAD"));
            return Ok(response);
        }
        let object = match self.files.open(key) {
            Ok(Some(object)) => object,
            Ok(None) => return Ok(says(StatusCode::NOT_FOUND)),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(says(StatusCode::FORBIDDEN));
            }
            Err(e) => return Err(e),
        };
        let about = object.about.clone();
        let tagged = Response::builder().header(ETAG, format!("\"{}\"", about.etag));
        let (range, response) = match Verdict::new(headers, &about) {
            Verdict::Whole => (0..about.size, tagged),
            Verdict::Part(range) => {
                let part = content_range(&range, about.size);
                (range, tagged.status(StatusCode::PARTIAL_CONTENT).header(CONTENT_RANGE, part))
            }
            Verdict::NotModified => {
                let response = tagged.status(StatusCode::NOT_MODIFIED);
                return response.body(Body::empty()).map_err(io::Error::other);
            }
            Verdict::PreconditionFailed => return Ok(says(StatusCode::PRECONDITION_FAILED)),
            Verdict::NotSatisfiable => {
                let mut response = says(StatusCode::RANGE_NOT_SATISFIABLE);
                let size = format!("bytes */{}", about.size).parse().map_err(io::Error::other)?;
                response.headers_mut().insert(CONTENT_RANGE, size);
                return Ok(response);
            }
        };
        let mut response = response
            .header(ACCEPT_RANGES, "bytes")
            .header(CONTENT_LENGTH, range.end - range.start)
            .header(CONTENT_TYPE, "application/octet-stream");
        if let Some(date) = text_of_date(&about) {
            response = response.header(LAST_MODIFIED, date);
        }
        let body: DynByteStream = Box::pin(object.read(range)?);
        response.body(Body::from(body)).map_err(io::Error::other)
    }
}

/// An answer with a status and nothing else.
pub(crate) fn says(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from(format!("{status}\n"))));
    *response.status_mut() = status;
    response
}
