//! Objects over S3.

use async_trait::async_trait;
use http::HeaderMap;
use s3s::{
    S3, S3Request, S3Response, S3Result,
    access::{S3Access, S3AccessContext},
    auth::SimpleAuth,
    dto::{
        CommonPrefix, ETag, GetBucketLocationInput, GetBucketLocationOutput, GetObjectInput,
        GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput,
        ListObjectsV2Input, ListObjectsV2Output, Object as Listed, StreamingBlob, Timestamp,
    },
    s3_error,
    service::{S3Service, S3ServiceBuilder},
};

use crate::{
    ACCESS_KEY, BUCKET, SECRET_KEY,
    files::{About, Files, Object},
    headers::{Verdict, content_range},
    listing::{self, Wanted},
};

/// Upper bound on the keys of a page, as in S3.
const MOST_KEYS: usize = 1000;

/// Service of a bucket with these files.
pub(crate) fn service(files: Files, anonymous: bool) -> S3Service {
    let mut builder = S3ServiceBuilder::new(S3Objects { files });
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    if anonymous {
        builder.set_access(Anybody);
    }
    builder.build()
}

/// Allows unsigned requests; signatures were checked before.
struct Anybody;

#[async_trait]
impl S3Access for Anybody {
    async fn check(&self, _: &mut S3AccessContext<'_>) -> S3Result<()> {
        Ok(())
    }
}

struct S3Objects {
    files: Files,
}

impl S3Objects {
    /// Opens an object, with the wanted part of it.
    fn open(&self, bucket: &str, key: &str, headers: &HeaderMap) -> S3Result<(Object, Verdict)> {
        check_bucket(bucket)?;
        let object = match self.files.open(key) {
            Ok(Some(object)) => object,
            Ok(None) => return Err(s3_error!(NoSuchKey)),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(s3_error!(e, AccessDenied));
            }
            Err(e) => return Err(s3_error!(e, InternalError)),
        };
        match Verdict::new(headers, &object.about) {
            Verdict::NotModified => Err(s3_error!(NotModified)),
            Verdict::PreconditionFailed => Err(s3_error!(PreconditionFailed)),
            Verdict::NotSatisfiable => Err(s3_error!(InvalidRange)),
            verdict => Ok((object, verdict)),
        }
    }
}

#[async_trait]
impl S3 for S3Objects {
    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = &request.input;
        let (object, verdict) = self.open(&input.bucket, &input.key, &request.headers)?;
        let about = object.about.clone();
        let (range, part) = match verdict {
            Verdict::Part(range) => (range.clone(), Some(content_range(&range, about.size))),
            _ => (0..about.size, None),
        };
        let length = range.end - range.start;
        let pieces = object.read(range).map_err(|e| s3_error!(e, InternalError))?;
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(StreamingBlob::new(pieces)),
            content_length: Some(signed(length)),
            content_range: part,
            e_tag: Some(etag(&about)),
            last_modified: Some(Timestamp::from(about.modified)),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = &request.input;
        let (object, verdict) = self.open(&input.bucket, &input.key, &request.headers)?;
        let about = object.about;
        let (length, part) = match verdict {
            Verdict::Part(range) => {
                (range.end - range.start, Some(content_range(&range, about.size)))
            }
            _ => (about.size, None),
        };
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(signed(length)),
            content_range: part,
            e_tag: Some(etag(&about)),
            last_modified: Some(Timestamp::from(about.modified)),
            ..HeadObjectOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        check_bucket(&input.bucket)?;
        let shallow = match input.delimiter.as_deref() {
            None | Some("") => false,
            Some("/") => true,
            Some(_) => return Err(s3_error!(NotImplemented, "the only delimiter is a slash")),
        };
        let most = input.max_keys.and_then(|most| usize::try_from(most).ok()).unwrap_or(MOST_KEYS);
        let wanted = Wanted {
            prefix: input.prefix.clone().unwrap_or_default(),
            after: input
                .continuation_token
                .clone()
                .or_else(|| input.start_after.clone())
                .unwrap_or_default(),
            shallow,
            most: most.min(MOST_KEYS),
        };
        let files = self.files.clone();
        let page = tokio::task::spawn_blocking(move || listing::list(&files, &wanted))
            .await
            .map_err(|e| s3_error!(e, InternalError))?
            .map_err(|e| s3_error!(e, InternalError))?;
        let count = i32::try_from(page.objects.len() + page.prefixes.len()).unwrap_or(i32::MAX);
        let objects = page.objects.into_iter().map(|(key, about)| Listed {
            e_tag: Some(etag(&about)),
            key: Some(key),
            last_modified: Some(Timestamp::from(about.modified)),
            size: Some(signed(about.size)),
            ..Listed::default()
        });
        let prefixes =
            page.prefixes.into_iter().map(|prefix| CommonPrefix { prefix: Some(prefix) });
        Ok(S3Response::new(ListObjectsV2Output {
            common_prefixes: Some(prefixes.collect()),
            contents: Some(objects.collect()),
            continuation_token: input.continuation_token,
            delimiter: input.delimiter,
            is_truncated: Some(page.next.is_some()),
            key_count: Some(count),
            max_keys: Some(input.max_keys.unwrap_or(i32::try_from(MOST_KEYS).unwrap_or(i32::MAX))),
            name: Some(input.bucket),
            next_continuation_token: page.next,
            prefix: input.prefix,
            start_after: input.start_after,
            ..ListObjectsV2Output::default()
        }))
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        check_bucket(&request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        check_bucket(&request.input.bucket)?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }
}

fn check_bucket(bucket: &str) -> S3Result<()> {
    if bucket == BUCKET { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
}

fn etag(about: &About) -> ETag {
    ETag::Strong(about.etag.clone())
}

/// A size in the type of S3.
fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
