//! Stores behind URLs, from servers on loopback.

use std::{fs, sync::Arc, time::Duration};

use lsio_core::{
    Dataset, Environment, Error, Location, OpenOptions, Resources,
    cloud::Opened,
    object_store::{self, ObjectStore, ObjectStoreExt as _, path::Path},
    uring::Engine,
};
use lsio_synthetic::{
    reanalysis::{self, Specification},
    write::Compression,
};
use lsio_test_servers::{ACCESS_KEY, BUCKET, Builder, Fault, Protocol, SECRET_KEY, Server};
use tempfile::TempDir;
use url::Url;

/// A directory with an object, `a/b c/é`, and a store, `store.zarr`.
fn files() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("a/b c")).unwrap();
    fs::write(directory.path().join("a/b c/é"), "content").unwrap();
    let specification = Specification {
        times: 4,
        latitudes: 3,
        longitudes: 2,
        chunks: [2, 3, 2],
        shards: None,
        compression: Compression::None,
        packed: false,
        one_chunk: false,
    };
    reanalysis::write(&directory.path().join("store.zarr"), &specification).unwrap();
    directory
}

fn start(directory: &TempDir, change: impl FnOnce(Builder) -> Builder) -> Server {
    change(Server::builder(directory.path())).start().unwrap()
}

fn web(builder: Builder) -> Builder {
    builder.protocol(Protocol::Http)
}

/// Options for the server, with keys if they are to be in them.
fn options(server: &Server, keys: Option<(&str, &str)>) -> OpenOptions {
    let mut options = OpenOptions::default();
    options.set("aws.endpoint", &server.url()).unwrap();
    if let Some((id, secret)) = keys {
        options.set("aws.access_key_id", id).unwrap();
        options.set("aws.secret_access_key", secret).unwrap();
    }
    options
}

/// Resources under an invented environment.
fn under(environment: Environment) -> Resources {
    Resources::builder().with_environment(environment).build()
}

async fn open(path: &str, options: &OpenOptions, resources: &Resources) -> Opened {
    let url = Url::parse(&format!("s3://{BUCKET}/{path}")).unwrap();
    resources.open_store(&url, options).await.unwrap()
}

fn object() -> Path {
    Path::parse("a/b c/é").unwrap()
}

async fn read(opened: &Opened) -> object_store::Result<bytes::Bytes> {
    opened.store.get(&opened.path).await?.bytes().await
}

/// Waits until a server has no request in flight.
async fn idle(server: &Server) {
    while server.in_flight() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn buckets_are_read_with_keys_from_options_and_profiles() {
    let directory = files();
    let server = start(&directory, |builder| builder);
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".aws")).unwrap();
    let text = |name: &str| {
        format!(
            "[{name}]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n\
             endpoint_url = {}",
            server.url()
        )
    };
    fs::write(home.path().join(".aws/credentials"), text("lab")).unwrap();
    let mut environment =
        Environment { home: Some(home.path().to_path_buf()), ..Environment::default() };
    environment.vars.insert("AWS_PROFILE".to_owned(), "lab".to_owned());

    let keys = options(&server, Some((ACCESS_KEY, SECRET_KEY)));
    let at_home = under(environment);
    let by_keys = open("a/b%20c/%C3%A9", &keys, &at_home).await;
    let by_profile = open("a/b%20c/%C3%A9", &OpenOptions::default(), &at_home).await;
    for opened in [&by_keys, &by_profile] {
        assert_eq!(opened.name, format!("s3://{BUCKET}/a/b%20c/%C3%A9"));
        assert_eq!(opened.path, object());
        assert_eq!(read(opened).await.unwrap(), "content");
        let listed = opened.store.list_with_delimiter(Some(&Path::from("a"))).await.unwrap();
        assert_eq!(listed.common_prefixes, [Path::from("a/b c")]);
    }
    // Connections, credentials and links are shared, and not with others.
    let again = open("elsewhere", &keys, &at_home).await;
    assert!(Arc::ptr_eq(&again.store, &by_keys.store) && Arc::ptr_eq(&again.link, &by_keys.link));
    assert!(!Arc::ptr_eq(&by_profile.store, &by_keys.store));
}

#[tokio::test]
async fn a_url_with_its_options_is_a_dataset() {
    let directory = files();
    let server = start(&directory, |builder| builder);
    let text = format!(
        "s3://{BUCKET}/store.zarr?variables=t2m&aws.endpoint={}&aws.access_key_id={ACCESS_KEY}\
         &aws.secret_access_key={SECRET_KEY}&deadline=1m",
        server.url()
    );
    let (location, options) =
        Location::open(&text, OpenOptions::default(), Engine::ObjectStore).await.unwrap();
    assert_eq!(location.name(), format!("s3://{BUCKET}/store.zarr"));
    assert_eq!(options.network.deadline, Duration::from_secs(60));
    let dataset = Dataset::open(&location, &options).await.unwrap();
    let table = dataset.table().unwrap();
    let t2m = table.columns.iter().find(|column| column.name == "t2m").unwrap();
    assert_eq!(t2m.variable().unwrap().read_all().await.unwrap().len(), 24);
    assert!(table.columns.iter().all(|column| column.name != "u10"));
}

#[tokio::test]
async fn refusals_name_the_credentials() {
    let directory = files();
    let (private, public) = (
        start(&directory, |builder| builder),
        start(&directory, |builder| builder.anonymous(true)),
    );
    let nowhere = under(Environment::default());

    let anonymous = open("a/b%20c/%C3%A9", &options(&public, None), &nowhere).await;
    assert_eq!(read(&anonymous).await.unwrap(), "content");

    let wrong = options(&private, Some((ACCESS_KEY, "wrong-secret")));
    for (options, expected) in [
        (options(&private, None), ["none were found", "AWS_PROFILE", "private"]),
        (wrong, ["aws.access_key_id", "secret key is wrong", "403"]),
        (
            options(&private, Some(("strange", SECRET_KEY))),
            ["aws.access_key_id", "doesn't know the access key", "403"],
        ),
    ] {
        let opened = open("a/b%20c/%C3%A9", &options, &nowhere).await;
        let error = read(&opened).await.unwrap_err();
        assert!(matches!(error, object_store::Error::PermissionDenied { .. }), "{error}");
        for part in expected {
            assert!(error.to_string().contains(part), "{error}");
        }
        let listing = opened.store.list_with_delimiter(None).await.unwrap_err();
        assert!(listing.to_string().contains(expected[0]), "{listing}");
    }

    let url = Url::parse("s3://no-such-bucket/x").unwrap();
    let keys = options(&private, Some((ACCESS_KEY, SECRET_KEY)));
    let opened = nowhere.open_store(&url, &keys).await.unwrap();
    let error = read(&opened).await.unwrap_err().to_string();
    assert!(error.contains("'no-such-bucket'") && error.contains("check its name"), "{error}");
    let missing = open("missing", &keys, &nowhere).await;
    let error = read(&missing).await.unwrap_err();
    assert!(matches!(error, object_store::Error::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn what_servers_want_behind_urls_stays_in_requests_and_out_of_messages() {
    let directory = files();
    let server = start(&directory, web);
    let text = format!("{}/store.zarr?token=hid%2Fden&variables=t2m", server.url());
    let (location, options) =
        Location::open(&text, OpenOptions::default(), Engine::ObjectStore).await.unwrap();
    assert_eq!(location.name(), format!("{}/store.zarr", server.url()));
    let dataset = Dataset::open(&location, &options).await.unwrap();
    let table = dataset.table().unwrap();
    let t2m = table.columns.iter().find(|column| column.name == "t2m").unwrap();
    t2m.variable().unwrap().read_all().await.unwrap();
    let requests = server.take_requests();
    assert!(requests.len() > 2);
    assert!(requests.iter().all(|request| request.query == "token=hid/den"), "{requests:?}");

    server.set_faults(|_| Some(Fault::Status(403)));
    let error = location.store().get(&Path::from("x")).await.unwrap_err();
    let ours = Error::Store { key: "x".to_owned(), source: error };
    let text = format!("{ours} {ours:?}");
    assert!(text.contains("refused") && text.contains("signature"), "{text}");
    assert!(!text.contains("hid"), "{text}");
    assert!(!format!("{location:?} {location} {options:?}").contains("hid"));
}

#[tokio::test]
async fn silence_and_slowness_end() {
    let directory = files();
    let server = start(&directory, web);
    let url = Url::parse(&format!("{}/a/b%20c/%C3%A9", server.url())).unwrap();
    let mut options = OpenOptions::default();
    options.set("request_timeout", "200ms").unwrap();
    let patient = Resources::of_process().open_store(&url, &options).await.unwrap();
    options.set("request_timeout", "20ms").unwrap();
    options.set("deadline", "200ms").unwrap();
    let impatient = Resources::of_process().open_store(&url, &options).await.unwrap();

    // A try that hears nothing is given up, and the next may succeed.
    for fault in [Fault::Hang, Fault::HangInBody(0.5)] {
        server.set_faults(move |request| (request.number == 0).then_some(fault));
        assert_eq!(read(&patient).await.unwrap(), "content");
    }
    let _ = server.take_requests();

    for fault in [Fault::Hang, Fault::HangInBody(0.5)] {
        server.set_faults(move |_| Some(fault));
        let error = read(&impatient).await.unwrap_err().to_string();
        assert!(error.contains("option deadline") || error.contains("request_timeout"), "{error}");
        idle(&server).await;
    }
    let _ = server.take_requests();

    // Methods that a server doesn't know aren't tried again and again.
    server.set_faults(|_| Some(Fault::Status(501)));
    assert!(patient.store.list_with_delimiter(None).await.is_err());
    assert_eq!(server.take_requests().len(), 1);
}

#[tokio::test]
async fn a_read_that_is_dropped_ends_its_request() {
    let directory = files();
    let server = start(&directory, web);
    let url = Url::parse(&format!("{}/a/b%20c/%C3%A9", server.url())).unwrap();
    let opened = Resources::of_process().open_store(&url, &OpenOptions::default()).await.unwrap();
    for fault in [Fault::Hang, Fault::HangInBody(0.5)] {
        server.set_faults(move |_| Some(fault));
        let opened = opened.clone();
        let task = tokio::spawn(async move { read(&opened).await });
        while server.in_flight() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        task.abort();
        idle(&server).await;
        assert!(server.take_requests().iter().all(|request| request.aborted));
    }
}

#[tokio::test]
async fn servers_that_are_not_there_are_named() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut options = OpenOptions::default();
    let url = Url::parse(&format!("http://127.0.0.1:{port}/x?token=hidden")).unwrap();
    let opened = Resources::of_process().open_store(&url, &options).await.unwrap();
    let error = read(&opened).await.unwrap_err().to_string();
    assert!(error.contains(&port.to_string()) && !error.contains("hidden"), "{error}");
    assert!(error.contains("can't be reached") && error.contains("refused"), "{error}");
    assert!(!format!("{opened:?}").contains("hidden"), "{opened:?}");

    let login = Url::parse(&format!("http://user:hidden@127.0.0.1:{port}/x")).unwrap();
    let opened = Resources::of_process().open_store(&login, &options).await.unwrap();
    assert_eq!(opened.name, format!("http://127.0.0.1:{port}/x"));
    assert!(!format!("{opened:?}").contains("hidden"), "{opened:?}");

    options.set("aws.region", "x").unwrap();
    let error = Resources::of_process().open_store(&url, &options).await.unwrap_err().to_string();
    assert!(error.contains("aws.region") && !error.contains("hidden"), "{error}");
}
