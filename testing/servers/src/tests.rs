//! Servers as clients see them.

use std::{
    fs,
    net::Shutdown,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, future::join_all};
use object_store::{
    ClientOptions, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    http::{HttpBuilder, HttpStore},
    path::Path,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::*;

/// Size in bytes of the file `large`.
const LARGE: usize = 3_000_000;
const ODD: [&str; 5] = ["a b.txt", "100%.txt", "a%20b", "a+b=c&d", "x=1/température?#.txt"];

fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for key in ["file", "folder/one", "folder/two", "folder/below/three"].into_iter().chain(ODD) {
        let path = directory.path().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("this is {key}")).unwrap();
    }
    fs::write(directory.path().join("empty"), "").unwrap();
    fs::write(directory.path().join("large"), large()).unwrap();
    directory
}

fn large() -> Vec<u8> {
    (0..LARGE).map(|i| (i * 7 / 256) as u8).collect()
}

fn start(protocol: Protocol) -> (TempDir, Server) {
    let directory = directory();
    let server = Server::builder(directory.path()).protocol(protocol).start().unwrap();
    (directory, server)
}

fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn s3_builder(server: &Server) -> AmazonS3Builder {
    AmazonS3Builder::new()
        .with_endpoint(server.url())
        .with_bucket_name(BUCKET)
        .with_region("us-east-1")
        .with_access_key_id(ACCESS_KEY)
        .with_secret_access_key(SECRET_KEY)
        .with_allow_http(true)
        .with_retry(once())
}

fn s3(server: &Server) -> AmazonS3 {
    s3_builder(server).build().unwrap()
}

fn http(server: &Server) -> HttpStore {
    HttpBuilder::new()
        .with_url(server.url())
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(once())
        .build()
        .unwrap()
}

/// A server of each protocol, with a client.
fn both() -> [(TempDir, Server, Arc<dyn ObjectStore>); 2] {
    let (s3_directory, s3_server) = start(Protocol::S3);
    let (http_directory, http_server) = start(Protocol::Http);
    let (s3, http) = (s3(&s3_server), http(&http_server));
    [(s3_directory, s3_server, Arc::new(s3)), (http_directory, http_server, Arc::new(http))]
}

fn path(key: &str) -> Path {
    Path::parse(key).unwrap()
}

/// Bytes that a server sends until it closes the connection or pauses for a while, with the error at the end, if any.
async fn raw(server: &Server, request: &str) -> (String, Option<std::io::ErrorKind>) {
    let address = server.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let error = stream.read_to_end(&mut bytes).await.err().map(|e| e.kind());
    (String::from_utf8_lossy(&bytes).into_owned(), error)
}

/// Head and body of the answer to a request with these headers.
async fn ask(server: &Server, line: &str, headers: &str) -> (String, String) {
    let request = format!("{line} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n");
    let (answer, error) = raw(server, &request).await;
    assert_eq!(error, None);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn objects_are_read() {
    for (_directory, server, store) in both() {
        for key in ["file", "folder/one", "folder/below/three"].into_iter().chain(ODD) {
            let text = format!("this is {key}");
            let meta = store.head(&path(key)).await.unwrap();
            assert_eq!(meta.size, text.len() as u64);
            let got = store.get(&path(key)).await.unwrap();
            assert_eq!(got.meta, meta, "{key}");
            assert_eq!(got.bytes().await.unwrap(), text);
            assert!(meta.e_tag.unwrap().starts_with('"'));
            let requests = server.take_requests();
            let seen: Vec<_> = requests.iter().map(|r| (r.method.as_str(), &*r.key)).collect();
            assert_eq!(seen, [("HEAD", key), ("GET", key)]);
        }
        assert_eq!(store.get(&path("large")).await.unwrap().bytes().await.unwrap(), large());
        assert_eq!(store.get(&path("empty")).await.unwrap().bytes().await.unwrap(), "");
        for (range, expected) in [
            (GetRange::Bounded(5..1_000_000), 5..1_000_000),
            (GetRange::Bounded(2_999_990..4_000_000), 2_999_990..LARGE),
            (GetRange::Offset(2_000_000), 2_000_000..LARGE),
            (GetRange::Suffix(10), 2_999_990..LARGE),
            (GetRange::Suffix(4_000_000), 0..LARGE),
        ] {
            let options = GetOptions { range: Some(range.clone()), ..GetOptions::default() };
            let got = store.get_opts(&path("large"), options).await.unwrap();
            assert_eq!(got.range, expected.start as u64..expected.end as u64, "{range}");
            assert!(got.bytes().await.unwrap() == large()[expected]);
        }
        for key in ["none", "folder", "file/below", "folder/none", &"x".repeat(500)] {
            let error = store.get(&path(key)).await.unwrap_err();
            assert!(matches!(error, Error::NotFound { .. }), "{key}: {error}");
            let error = store.head(&path(key)).await.unwrap_err();
            assert!(matches!(error, Error::NotFound { .. }), "{key}: {error}");
        }
    }
}

#[tokio::test]
async fn nothing_outside_is_served() {
    let (directory, server) = start(Protocol::Http);
    let root = directory.path().join("folder");
    let inside = Server::builder(root).protocol(Protocol::Http).start().unwrap();
    for target in ["/../file", "/%2e%2e/file", "/below/../one", "/./one", "//one", "/one/", "/"] {
        let (head, _) = ask(&inside, &format!("GET {target}"), "").await;
        assert!(head.starts_with("HTTP/1.1 404"), "{target}: {head}");
    }
    let (head, body) = ask(&server, "PROPFIND /", "Depth: 1\r\n").await;
    assert!(head.starts_with("HTTP/1.1 405") && head.contains("allow: GET, HEAD"), "{head}");
    assert!(!body.contains("file"));

    assert!(Server::builder(directory.path().join("file")).start().is_err());
    assert!(Server::builder(directory.path().join("none")).start().is_err());
}

#[tokio::test]
async fn lists() {
    let (_directory, server) = start(Protocol::S3);
    let store = s3(&server);
    let keys = |objects: Vec<object_store::ObjectMeta>| -> Vec<String> {
        objects.into_iter().map(|meta| meta.location.to_string()).collect()
    };
    let all: Vec<_> = store.list(None).try_collect().await.unwrap();
    for meta in &all {
        let head = store.head(&meta.location).await.unwrap();
        assert_eq!((head.size, &head.e_tag), (meta.size, &meta.e_tag));
    }
    let mut expected: Vec<_> =
        ["empty", "file", "folder/below/three", "folder/one", "folder/two", "large"].to_vec();
    expected.extend(ODD);
    expected.sort_unstable();
    assert_eq!(keys(all), expected);

    let list = store.list_with_delimiter(Some(&path("folder"))).await.unwrap();
    assert_eq!(list.common_prefixes, [path("folder/below")]);
    assert_eq!(keys(list.objects), ["folder/one", "folder/two"]);
    let list = store.list_with_delimiter(Some(&path("none"))).await.unwrap();
    assert!(list.common_prefixes.is_empty() && list.objects.is_empty());
    let after = store.list_with_offset(None, &path("folder/one")).try_collect().await.unwrap();
    assert_eq!(keys(after), ["folder/two", "large", ODD[4]]);

    let lists = server.take_requests().into_iter().filter(Request::is_list).collect::<Vec<_>>();
    assert_eq!(lists.len(), 4);
    assert_eq!(lists[1].key, "");
    assert!(lists[1].query.contains("prefix=folder/"), "{}", lists[1].query);

    let other = s3_builder(&server).with_bucket_name("other").build().unwrap();
    let error = other.list_with_delimiter(None).await.unwrap_err().to_string();
    assert!(error.contains("NoSuchBucket"), "{error}");
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..2500 {
        fs::write(directory.path().join(format!("{number:04} +%")), "").unwrap();
    }
    let server = Server::builder(directory.path()).anonymous(true).start().unwrap();
    let store = s3(&server);
    let list = store.list_with_delimiter(None).await.unwrap();
    assert_eq!(list.objects.len(), 2500);
    assert!(
        list.objects
            .iter()
            .enumerate()
            .all(|(number, meta)| { meta.location.as_ref() == format!("{number:04} +%") })
    );
    assert_eq!(round_trips(&server.take_requests()), 3);
    let (_, body) = ask(&server, "GET /data?list-type=2&max-keys=2&prefix=24", "").await;
    assert!(body.contains("<KeyCount>2</KeyCount>"), "{body}");
    assert!(body.contains("<IsTruncated>true</IsTruncated>"), "{body}");
}

#[tokio::test]
async fn requests_are_signed() {
    let (directory, closed) = start(Protocol::S3);
    let open = Server::builder(directory.path()).anonymous(true).start().unwrap();
    for (server, is_open) in [(&closed, false), (&open, true)] {
        let get = async |builder: AmazonS3Builder| {
            builder.build().unwrap().get(&path("a b.txt")).await.map(|_| ())
        };
        get(s3_builder(server)).await.unwrap();
        let unsigned = get(s3_builder(server).with_skip_signature(true)).await;
        match is_open {
            true => unsigned.unwrap(),
            false => assert!(matches!(unsigned, Err(Error::PermissionDenied { .. }))),
        }
        for wrong in [
            s3_builder(server).with_secret_access_key("wrong"),
            s3_builder(server).with_access_key_id("nobody"),
        ] {
            let error = get(wrong).await.unwrap_err();
            assert!(matches!(error, Error::PermissionDenied { .. }), "{error}");
        }
    }
    let (head, body) = ask(&closed, "GET /data/file", "").await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(body.contains("<Code>AccessDenied</Code>"), "{body}");
    let (head, _) = ask(&open, "HEAD /data", "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let (_, body) = ask(&open, "GET /data?location", "").await;
    assert!(body.contains("LocationConstraint"), "{body}");
}

#[tokio::test]
async fn conditions_are_kept() {
    for (directory, server, store) in both() {
        let etag = store.head(&path("file")).await.unwrap().e_tag.unwrap();
        let matching = GetOptions { if_match: Some(etag.clone()), ..GetOptions::default() };
        let other = GetOptions { if_none_match: Some(etag), ..GetOptions::default() };
        store.get_opts(&path("file"), matching.clone()).await.unwrap();
        let error = store.get_opts(&path("file"), other.clone()).await.unwrap_err();
        assert!(matches!(error, Error::NotModified { .. }), "{error}");

        // The same size, in another file.
        fs::write(directory.path().join("new"), "THIS IS file").unwrap();
        fs::rename(directory.path().join("new"), directory.path().join("file")).unwrap();
        let error = store.get_opts(&path("file"), matching).await.unwrap_err();
        assert!(matches!(error, Error::Precondition { .. }), "{error}");
        let got = store.get_opts(&path("file"), other).await.unwrap();
        assert_eq!(got.bytes().await.unwrap(), "THIS IS file");

        let seen: Vec<_> = server
            .take_requests()
            .iter()
            .map(|r| (r.status.unwrap(), r.if_match, r.if_none_match, r.aborted))
            .collect();
        assert_eq!(
            seen,
            [
                (200, false, false, false),
                (200, true, false, false),
                (304, false, true, false),
                (412, true, false, false),
                (200, false, true, false)
            ]
        );
    }
}

#[tokio::test]
async fn ranges_that_cannot_be_had() {
    let (directory, http) = start(Protocol::Http);
    let s3 = Server::builder(directory.path()).anonymous(true).start().unwrap();
    for (server, target) in [(&http, "/file"), (&s3, "/data/file")] {
        for range in ["bytes=12-", "bytes=12-20", "bytes=-0"] {
            let header = format!("Range: {range}\r\n");
            let (head, _) = ask(server, &format!("GET {target}"), &header).await;
            assert!(head.starts_with("HTTP/1.1 416"), "{range}: {head}");
        }
        let (head, body) = ask(server, &format!("GET {target}"), "Range: bytes=-4\r\n").await;
        assert!(head.starts_with("HTTP/1.1 206"), "{head}");
        assert!(head.contains("content-range: bytes 8-11/12"), "{head}");
        assert!(head.contains("content-length: 4"), "{head}");
        assert!(head.contains("last-modified: "), "{head}");
        assert_eq!(body, "file");
        let (head, body) = ask(server, &format!("HEAD {target}"), "Range: bytes=1-3\r\n").await;
        assert!(head.contains("content-length: 3"), "{head}");
        assert_eq!(body, "");
    }
    let (head, _) = ask(&http, "GET /file", "Range: bytes=12-\r\n").await;
    assert!(head.contains("content-range: bytes */12"), "{head}");
}

#[tokio::test]
async fn faults_of_an_answer() {
    for (_directory, server, store) in both() {
        let is_s3 = store.to_string().starts_with("AmazonS3");
        server.set_faults(|incoming| {
            assert_eq!((incoming.method.as_str(), &*incoming.key), ("GET", "file"));
            [
                Fault::Status(500),
                Fault::Throttle,
                Fault::Status(403),
                Fault::Status(404),
                Fault::Drop,
                Fault::ChangedEtag,
                Fault::WrongRange,
            ]
            .get(incoming.number)
            .copied()
        });
        let file = path("file");
        let error = async || store.get(&file).await.unwrap_err();
        let text = error().await.to_string();
        assert!(text.contains("500") && text.contains("InternalError") == is_s3, "{text}");
        let text = error().await.to_string();
        assert!(text.contains("503") && text.contains("SlowDown") == is_s3, "{text}");
        assert!(matches!(error().await, Error::PermissionDenied { .. }));
        assert!(matches!(error().await, Error::NotFound { .. }));
        assert!(matches!(error().await, Error::Generic { .. }), "the connection is closed");
        let etag = store.get(&file).await.unwrap().meta.e_tag.unwrap();
        assert_eq!(etag, "\"changed\"");
        let text = store.get_range(&file, 1..4).await.unwrap_err().to_string();
        assert!(text.contains("2-4") || text.contains("2..5"), "{text}");
        // No requests are left.
        assert_ne!(store.get(&file).await.unwrap().meta.e_tag.unwrap(), etag);
        let requests = server.take_requests();
        let statuses: Vec<_> = requests.iter().map(|r| r.status.unwrap_or(0)).collect();
        assert_eq!(statuses, [500, 503, 403, 404, 0, 200, 206, 200]);
        assert!(requests[4].aborted && requests.iter().filter(|r| r.aborted).count() == 1);

        // Numbers start again, and no faults are left when cleared.
        server.set_faults(|incoming| (incoming.number == 0).then_some(Fault::Throttle));
        error().await;
        store.get(&file).await.unwrap();
        server.set_faults(|_| Some(Fault::Throttle));
        server.clear_faults();
        store.get(&file).await.unwrap();
    }
}

#[tokio::test]
async fn faults_in_a_body() {
    let (_directory, server) = start(Protocol::Http);
    let file = async |fault| {
        server.set_faults(move |_| Some(fault));
        raw(&server, "GET /file HTTP/1.1\r\nHost: test\r\n\r\n").await
    };
    let (answer, error) = file(Fault::ShortBody).await;
    assert!(
        answer.contains("content-length: 12") && answer.ends_with("\r\n\r\nthis i"),
        "{answer}"
    );
    assert_eq!(error, None);

    let (answer, error) = file(Fault::ResetInBody).await;
    assert!(
        answer.contains("content-length: 12") && answer.ends_with("\r\n\r\nthis i"),
        "{answer}"
    );
    assert_eq!(error, Some(std::io::ErrorKind::ConnectionReset));

    server.set_faults(|_| Some(Fault::ShortChunked));
    let (head, body) = ask(&server, "GET /file", "Range: bytes=0-9\r\n").await;
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    assert_eq!(body, "5\r\nthis \r\n0\r\n\r\n");

    let requests = server.take_requests();
    let seen: Vec<_> = requests.iter().map(|r| (r.bytes, r.aborted)).collect();
    assert_eq!(seen, [(6, true), (6, true), (5, false)]);
}

#[tokio::test]
async fn hanging() {
    for (fault, status, bytes) in [
        (Fault::Hang, None, 0),
        (Fault::HangInBody(0.25), Some(200), LARGE / 4),
        (Fault::HangInBody(1.), Some(200), LARGE - 1),
    ] {
        let (_directory, server) = start(Protocol::Http);
        server.set_faults(move |_| Some(fault));
        let address = server.url().strip_prefix("http://").unwrap().to_owned();
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
        let mut got = Vec::new();
        let body = |got: &[u8]| {
            let head = got.windows(4).position(|window| window == b"\r\n\r\n");
            head.map(|head| got.len() - head - 4)
        };
        while body(&got).unwrap_or(0) < bytes {
            assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0, "{fault:?}");
        }
        while server.in_flight() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let more = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
        assert!(more.is_err(), "{fault:?}: {more:?}");
        assert_eq!(body(&got), status.map(|_| bytes), "{fault:?}");
        assert_eq!((server.in_flight(), server.most_in_flight()), (1, 1));
        let requests = server.take_requests();
        assert_eq!((requests[0].status, requests[0].end), (status, None));
        assert_eq!(requests[0].bytes, bytes as u64);

        // The server notices that the client is gone, and ends while another client waits.
        let second = TcpStream::connect(&address).await.unwrap();
        drop(stream);
        while server.in_flight() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut second = second;
        second.write_all(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
        while server.in_flight() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(server);
        let mut rest = Vec::new();
        let _ = second.read_to_end(&mut rest).await;
        assert!(TcpStream::connect(&address).await.is_err());
    }
}

#[tokio::test]
async fn clients_that_go_are_seen() {
    let (_directory, server) = start(Protocol::Http);
    server.set_link(Link { bytes_per_second: Some(1_000_000), ..Link::default() });
    let address = server.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    stream.read_u8().await.unwrap();
    let stream = stream.into_std().unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    drop(stream);
    while server.in_flight() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let requests = server.take_requests();
    assert!(requests[0].aborted && requests[0].end.is_some());
    assert!(requests[0].bytes < LARGE as u64);
}

#[tokio::test]
async fn requests_wait_for_the_link_together() {
    let latency = Duration::from_millis(100);
    for (_directory, server, store) in both() {
        server.set_link(Link { latency, ..Link::default() });
        let start = Instant::now();
        let file = path("file");
        for result in join_all((0..8).map(|_| store.get(&file))).await {
            result.unwrap();
        }
        assert!(start.elapsed() >= latency);
        // On a busy machine, not all requests need to overlap.
        assert!(server.most_in_flight() > 1);
        let requests = server.take_requests();
        assert_eq!(requests.len(), 8);
        assert!(requests.iter().all(|r| r.end.unwrap() - r.start >= latency));
        assert!(round_trips(&requests) < 8);

        for _ in 0..3 {
            store.get(&file).await.unwrap();
        }
        assert_eq!(round_trips(&server.take_requests()), 3);
        assert_eq!(server.in_flight(), 0);
    }
}

#[tokio::test]
async fn bodies_share_the_link() {
    let (_directory, server) = start(Protocol::S3);
    server.set_link(Link { bytes_per_second: Some(20_000_000), ..Link::default() });
    let store = s3(&server);
    let start = Instant::now();
    let reads = (0..2).map(async |_| {
        let mut stream = store.get(&path("large")).await.unwrap().into_stream();
        while let Some(bytes) = stream.next().await {
            bytes.unwrap();
        }
    });
    join_all(reads).await;
    // 6 MB at 20 MB/s; the clock may lag a little.
    assert!(start.elapsed() >= Duration::from_millis(280));
    let requests = server.take_requests();
    assert!(requests.iter().all(|r| r.bytes == LARGE as u64 && !r.aborted));
}

/// Servers work in tests without a runtime, too.
#[test]
fn no_runtime_is_needed() {
    use std::io::{Read as _, Write as _};
    let (_directory, server) = start(Protocol::Http);
    let address = server.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET /file HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("this is file"), "{answer}");
    drop(server);
    assert!(std::net::TcpStream::connect(&address).is_err());
}
