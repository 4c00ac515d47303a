//! object_store's own tests of a store, those that a store of files can pass, and those of
//! `LocalFileSystem` in spirit.

use std::{ops::Range, sync::Arc};

use futures::{TryStreamExt as _, executor::block_on};
use lsio_uring::UringFileSystem;
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutMode, integration, path::Path,
};

use super::{directories, modes, store};

async fn conforms(make: impl Fn() -> (UringFileSystem, tempfile::TempDir)) {
    // Each in a directory of its own: some expect an empty one.
    let (store, _directory) = make();
    integration::put_get_delete_list(&store).await;
    integration::list_with_offset_exclusivity(&store).await;
    integration::get_opts(&store).await;
    integration::list_uses_directories_correctly(&store).await;
    integration::list_with_delimiter(&store).await;
    integration::rename_and_copy(&store).await;
    integration::copy_if_not_exists(&store).await;
    integration::copy_rename_nonexistent_object(&store).await;
    integration::put_opts(&store, false).await;
    let (store, _directory) = make();
    let missing = integration::get_nonexistent_object(&store, None).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
}

fn stores() -> Vec<impl Fn() -> (UringFileSystem, tempfile::TempDir)> {
    let mut stores = Vec::new();
    for place in directories() {
        let place = Arc::new(place);
        for options in modes() {
            let place = Arc::clone(&place);
            stores.push(move || {
                let directory = tempfile::tempdir_in(place.path()).unwrap();
                (store(directory.path(), &options).unwrap(), directory)
            });
        }
    }
    stores
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_tests_of_object_store() {
    for make in stores() {
        // Its writer needs tokio.
        integration::stream_get(&make().0).await;
        conforms(make).await;
    }
}

/// Nothing needs tokio: neither a reactor nor its threads.
#[test]
fn passes_without_tokio() {
    for make in stores() {
        block_on(conforms(make));
    }
}

#[tokio::test]
async fn ranges_and_preconditions() {
    for make in stores() {
        let (store, directory) = make();
        let path = Path::from("a/b");
        let put = store.put(&path, vec![1, 2, 3].into()).await.unwrap();
        let meta = store.head(&path).await.unwrap();
        assert_eq!(meta.e_tag, put.e_tag);

        let get = async |options: GetOptions| store.get_opts(&path, options).await?.bytes().await;
        let range = |range: GetRange| GetOptions { range: Some(range), ..GetOptions::default() };
        assert_eq!(&get(range((1..100).into())).await.unwrap()[..], [2, 3]);
        assert_eq!(&get(range(GetRange::Suffix(2))).await.unwrap()[..], [2, 3]);
        assert_eq!(&get(range(GetRange::Suffix(5))).await.unwrap()[..], [1, 2, 3]);
        assert_eq!(&get(range((2..).into())).await.unwrap()[..], [3]);
        let backwards = Range { start: 5, end: 3 };
        for beyond in [GetRange::from(3..4), (3..).into(), backwards.into(), (1..1).into()] {
            let error = get(range(beyond)).await.unwrap_err();
            assert!(matches!(error, Error::Generic { .. }), "{error}");
        }
        let matched = GetOptions { if_match: meta.e_tag.clone(), ..GetOptions::default() };
        assert_eq!(get(matched.clone()).await.unwrap().len(), 3);
        let unchanged = GetOptions { if_none_match: meta.e_tag, ..GetOptions::default() };
        let error = get(unchanged).await.unwrap_err();
        assert!(matches!(error, Error::NotModified { .. }), "{error}");
        // Also for a file that is kept open.
        store.get_range(&path, 0..1).await.unwrap();
        store.put(&path, vec![4; 10].into()).await.unwrap();
        let error = get(matched).await.unwrap_err();
        assert!(matches!(error, Error::Precondition { .. }), "{error}");
        assert_eq!(&store.get_range(&path, 0..2).await.unwrap()[..], [4, 4]);

        let error = store.get(&Path::from("a")).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        let error = store.get(&Path::from("a/b/c")).await.unwrap_err();
        assert!(matches!(error, Error::Generic { .. }), "{error}");
        let error = store.get(&Path::parse("a/b#1").unwrap()).await.unwrap_err();
        assert!(matches!(error, Error::Generic { .. }), "{error}");
        let create = store.put_opts(&path, "x".into(), PutMode::Create.into()).await.unwrap_err();
        assert!(matches!(create, Error::AlreadyExists { .. }), "{create}");

        std::os::unix::fs::symlink(directory.path().join("a/b"), directory.path().join("link"))
            .unwrap();
        assert_eq!(store.get(&Path::from("link")).await.unwrap().bytes().await.unwrap().len(), 10);
        store.delete(&path).await.unwrap();
        assert!(matches!(store.get_range(&path, 0..1).await, Err(Error::NotFound { .. })));
        assert!(matches!(store.delete(&path).await, Err(Error::NotFound { .. })));
        assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 0);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_is_no_file_is_an_error_that_says_so() {
    for make in stores() {
        let (store, directory) = make();
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let error = store.get(&Path::from("pipe")).await.unwrap_err().to_string();
        assert!(error.contains("pipe") && error.contains("not a regular file"), "{error}");
    }
}
