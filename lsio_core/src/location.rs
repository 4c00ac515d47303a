//! Where a dataset lies: the one place that turns a path or URL into an object store and a path in it.

use std::{
    fmt,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use futures::StreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path};
use url::Url;

use crate::{
    Error, Limits, Network, OpenOptions, Resources, Result,
    cloud::{self, Opened},
    similar::closest,
    transport::{Link, Storage, TimedStore, Transfer, What},
    uring::{Access, Engine, PageCache},
    urls::{redact, scheme},
    zip::{ZipStore, is_zip_name},
};

/// A place in an object store, with the name by which the user knows it.
#[derive(Clone)]
pub struct Location {
    store: Arc<dyn ObjectStore>,
    path: Path,
    name: String,
    /// The archive that the store reads, if it reads one.
    archive: Option<ZipStore>,
    /// The root of the local file system that the store reads, if it reads one.
    root: Option<PathBuf>,
    /// The page cache of these local files, if the store's engine asks for it.
    page_cache: Option<PageCache>,
    /// What the store there may take.
    limits: Limits,
    /// The way to it.
    link: Arc<Link>,
}

impl Location {
    /// A place in `store`, called `name` in messages. The store is read as an object store on the network;
    /// [`Location::with_link`] says that it is another kind of storage.
    pub fn new(store: Arc<dyn ObjectStore>, path: Path, name: impl Into<String>) -> Self {
        let link = Link::new(Storage::ObjectStore, Network::default());
        let (name, limits) = (name.into(), Limits::default());
        Self { store, path, name, archive: None, root: None, page_cache: None, limits, link }
    }

    /// A place in an archive.
    fn inside(archive: ZipStore, path: Path, name: impl Into<String>) -> Self {
        let store = Arc::new(archive.clone());
        Self { archive: Some(archive), ..Self::new(store, path, name) }
    }

    /// Whether the place is in an archive.
    #[must_use]
    pub fn is_in_archive(&self) -> bool {
        self.archive.is_some()
    }

    /// The same place, of which nothing is known any more that may have changed.
    pub(crate) fn renewed(&self) -> Self {
        let Some(archive) = &self.archive else { return self.clone() };
        let archive = archive.renewed();
        Self { store: Arc::new(archive.clone()), archive: Some(archive), ..self.clone() }
    }

    /// Whether the place is in an archive that can be read and has no entries.
    pub(crate) async fn is_empty_archive(&self) -> bool {
        let Some(archive) = &self.archive else { return false };
        let first = archive.list(None).next().await;
        first.is_none()
    }

    /// The same place, read over this link.
    #[must_use]
    pub fn with_link(self, link: Arc<Link>) -> Self {
        Self { link, ..self }
    }

    /// The way to the store.
    #[must_use]
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// What reads objects there.
    pub(crate) fn transfer(&self, what: What) -> Transfer {
        Transfer::new(Arc::clone(&self.store), Arc::clone(&self.link), what)
    }

    /// The same place, where a store may take so much.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// What a store there may take.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A place in `store`, or inside a zip archive there, if a part of the path is one: a name that
    /// ends in `.zip` and is an object.
    pub async fn find(store: Arc<dyn ObjectStore>, path: Path, name: impl Into<String>) -> Self {
        for (archive, inside) in zip_names(&path) {
            // A folder of that name is none; and whatever keeps the store from telling will be told
            // by who reads.
            if store.head(&archive).await.is_ok() {
                return Self::inside(ZipStore::new(store, archive), inside, name);
            }
        }
        Self::new(store, path, name)
    }

    /// Resolves what a user writes with the resources of the process: see [`Location::open_in`]. Local files are
    /// read with `engine`.
    ///
    /// # Errors
    /// Those of [`Location::open_in`].
    pub async fn open(
        text: &str,
        options: OpenOptions,
        engine: Engine,
    ) -> Result<(Self, OpenOptions)> {
        Self::open_in(text, options, &Resources::of_process().with_engine(engine)).await
    }

    /// Resolves what a user writes: a local path, or a URL of a file or of a store in the cloud. Options behind
    /// a `?` are added to `options`; the place has their limits. A path may lead into a zip archive.
    ///
    /// # Errors
    /// Unknown options, and those of [`Location::parse_in`] and [`Resources::open_store`].
    pub async fn open_in(
        text: &str,
        mut options: OpenOptions,
        resources: &Resources,
    ) -> Result<(Self, OpenOptions)> {
        if matches!(scheme(text), None | Some("file")) {
            let (base, query) = split_options(text);
            for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
                options.set(&key, &value)?;
            }
            if !options.store.is_empty() {
                return Err(Error::Location {
                    location: base.to_owned(),
                    reason: format!("the options {:?} are for stores in the cloud", options.store),
                });
            }
            let location = Self::parse_in(base, resources)?;
            return Ok((location.with_limits(options.limits), options));
        }
        let url = Self::url(text, &mut options)?;
        let location = Self::open_url(&url, &options, resources).await?;
        Ok((location, options))
    }

    /// The URL in a text. The options that are ours are moved from its end to `options`.
    ///
    /// # Errors
    /// If it is none, and for unknown options.
    pub fn url(text: &str, options: &mut OpenOptions) -> Result<Url> {
        let mut url = Url::parse(text).map_err(|e| Error::Location {
            location: redact(text).into_owned(),
            reason: e.to_string(),
        })?;
        cloud::take_options(&mut url, options)?;
        Ok(url)
    }

    /// The place that a URL names in a store that a program has registered for such URLs. Its scheme tells the
    /// kind of storage; the times that are waited for it are those of the options.
    ///
    /// # Errors
    /// [`Error::Location`] if the URL's path is none of an object.
    pub async fn open_registered(
        store: Arc<dyn ObjectStore>,
        url: &Url,
        options: &OpenOptions,
    ) -> Result<Self> {
        let name = cloud::public_name(url);
        let path = Path::from_url_path(url.path())
            .map_err(|e| Error::Location { location: name.clone(), reason: e.to_string() })?;
        let link = Link::new(Storage::of_scheme(url.scheme()), options.network);
        let store = match link.is_remote() {
            true => Arc::new(TimedStore::new(store, Arc::clone(&link))),
            false => store,
        };
        let location = Self::find(store, path, name).await;
        Ok(location.with_link(link).with_limits(options.limits))
    }

    /// Resolves the URL of a store in the cloud, at whose end are no options of ours.
    ///
    /// # Errors
    /// Those of [`Resources::open_store`].
    pub async fn open_url(url: &Url, options: &OpenOptions, resources: &Resources) -> Result<Self> {
        let Opened { store, path, name, link } = resources.open_store(url, options).await?;
        let location = Self::find(store, path, name).await;
        Ok(location.with_link(link).with_limits(options.limits))
    }

    /// Resolves a local path or a `file://` URL with the resources of the process
    /// ([`Resources::of_process`]).
    ///
    /// # Errors
    /// Those of [`Location::parse_in`].
    pub fn parse(location: &str) -> Result<Self> {
        Self::parse_in(location, &Resources::of_process())
    }

    /// Resolves a local path or a `file://` URL, which is read with `engine`, with the resources of the process.
    ///
    /// # Errors
    /// Those of [`Location::parse_in`].
    pub fn parse_with(location: &str, engine: Engine) -> Result<Self> {
        Self::parse_in(location, &Resources::of_process().with_engine(engine))
    }

    /// Resolves a local path or a `file://` URL, which is read with the engine of `resources`. The path may
    /// lead into a zip archive, a file whose name ends in `.zip`: `store.zarr.zip/group`.
    ///
    /// # Errors
    /// [`Error::Location`] for any other URL, which is [`Location::open_in`]'s, and if the engine doesn't exist
    /// or doesn't work here.
    pub fn parse_in(location: &str, resources: &Resources) -> Result<Self> {
        let invalid = |reason: String| Error::Location { location: location.to_owned(), reason };
        let file = match scheme(location) {
            None => PathBuf::from(location),
            Some("file") => Url::parse(location)
                .map_err(|e| invalid(e.to_string()))?
                .to_file_path()
                .map_err(|()| invalid("the URL names no local file".to_owned()))?,
            Some(scheme) => {
                return Err(Error::Location {
                    location: redact(location).into_owned(),
                    reason: format!("it is no local file, but a {scheme}:// URL"),
                });
            }
        };
        let absolute = std::path::absolute(&file).map_err(|e| invalid(e.to_string()))?;
        let mut normal = PathBuf::new();
        for part in absolute.components() {
            match part {
                std::path::Component::ParentDir => {
                    normal.pop();
                }
                std::path::Component::CurDir => {}
                part => normal.push(part),
            }
        }
        let text = normal.to_str().ok_or_else(|| invalid("the path is not UTF-8".to_owned()))?;
        let path = Path::parse(text).map_err(|e| invalid(e.to_string()))?;
        let engine = resources.engine().map_err(|e| invalid(e.to_string()))?;
        let store =
            resources.engines().store(engine, Access::Auto).map_err(|e| invalid(e.to_string()))?;
        let link = Link::new(Storage::Local, Network::default());
        let is_file = |archive: &Path| FilePath::new("/").join(archive.as_ref()).is_file();
        if let Some((archive, inside)) = zip_names(&path).find(|(archive, _)| is_file(archive)) {
            // It has no place in the local file system: what is there is the archive.
            let location = Self::inside(ZipStore::new(store, archive), inside, location);
            return Ok(location.with_link(link));
        }
        let page_cache =
            resources.engines().page_cache(engine).map_err(|e| invalid(e.to_string()))?;
        let location = Self::new(store, path, location).with_link(link);
        Ok(Self { root: Some(PathBuf::from("/")), page_cache, ..location })
    }

    /// The object store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The path within the object store.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name by which the user knows the place.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the place is in a zip archive.
    #[must_use]
    pub fn is_archived(&self) -> bool {
        self.archive.is_some()
    }

    /// The path in the local file system, if the place is there.
    #[must_use]
    pub fn local_path(&self) -> Option<PathBuf> {
        Some(self.root.as_ref()?.join(self.path.as_ref()))
    }

    /// The root of the local file system that the store reads, if it reads one.
    pub(crate) fn root(&self) -> Option<&FilePath> {
        self.root.as_deref()
    }

    /// The page cache of the store's local files.
    pub(crate) fn page_cache(&self) -> Option<&PageCache> {
        self.page_cache.as_ref()
    }

    /// The path of something that exists and that is like this place, which doesn't. Only the local file
    /// system is looked at.
    #[must_use]
    pub fn similar(&self) -> Option<String> {
        /// The entries of a directory that are compared.
        const ENTRIES: usize = 10_000;

        self.root.as_ref()?;
        // As the user wrote it, up to the first name that isn't there.
        let mut there = PathBuf::new();
        let mut parts = FilePath::new(&self.name).components();
        let missing = parts.find(|part| {
            let next = there.join(part);
            let exists = next.exists();
            if exists {
                there = next;
            }
            !exists
        })?;
        let directory = if there.as_os_str().is_empty() { FilePath::new(".") } else { &there };
        let entries = directory.read_dir().ok()?.take(ENTRIES);
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let close = closest(missing.as_os_str().to_str()?, names)?;
        let path = there.join(close).join(parts.as_path());
        Some(path.to_str()?.trim_end_matches('/').to_owned())
    }

    /// A place below this one. Names are taken as they are, without percent-encoding.
    ///
    /// # Errors
    /// [`Error::Location`] if `relative` has empty parts or parts such as `..`.
    pub fn child(&self, relative: &str) -> Result<Self> {
        let path = join(&self.path, relative).map_err(|reason| Error::Location {
            location: format!("{}/{relative}", self.name),
            reason,
        })?;
        let name = format!("{}/{relative}", self.name.trim_end_matches('/'));
        Ok(Self { path, name, ..self.clone() })
    }

    /// The directory above, or `None` at the root of the object store.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let path = self.path.parent()?;
        let name = match self.name.trim_end_matches('/').rsplit_once('/') {
            Some((parent, _)) => parent.to_owned(),
            None => format!("{}/..", self.name),
        };
        Some(Self { path, name, ..self.clone() })
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({} in {})", self.path, self.store)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Splits a local path from its options. A path that exists to the letter has none.
fn split_options(text: &str) -> (&str, &str) {
    if scheme(text).is_none() && FilePath::new(text).exists() {
        return (text, "");
    }
    text.split_once('?').unwrap_or((text, ""))
}

/// Appends `relative` to `path` without percent-encoding it, so that names such as `100%` or
/// `température` are found as they are spelled.
pub(crate) fn join(path: &Path, relative: &str) -> Result<Path, String> {
    if relative.is_empty() {
        return Ok(path.clone());
    }
    Path::parse(format!("{path}/{relative}")).map_err(|e| e.to_string())
}

/// The parts of a path that have the name of a zip archive, each with the path below it; the highest
/// first.
fn zip_names(path: &Path) -> impl Iterator<Item = (Path, Path)> {
    let text = path.as_ref();
    let ends = text.match_indices('/').map(|(at, _)| at).chain([text.len()]);
    ends.filter_map(move |end| {
        let (archive, inside) = text.split_at_checked(end)?;
        if !is_zip_name(archive) {
            return None;
        }
        let inside = inside.trim_start_matches('/');
        Some((Path::parse(archive).ok()?, Path::parse(inside).ok()?))
    })
}

/// Checks the path of an array or group inside a store, which somebody else has written: it must lead
/// down, by names that can be files'.
pub(crate) fn check_node_path(path: &str) -> Result<(), &'static str> {
    path.split('/').try_for_each(|name| match name {
        "" => Err("a part of it is empty"),
        "." | ".." => Err("it leads elsewhere"),
        name if name.contains('\\') => {
            Err("it has a backslash, which some systems take for a slash")
        }
        name if name.contains(|c: char| c.is_ascii_control()) => Err("it has a control character"),
        _ => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::memory::InMemory;

    use super::*;

    fn inside(location: &Location) -> bool {
        let inside = location.store().to_string().starts_with("Zip(");
        assert_eq!(location.is_archived(), inside);
        inside
    }

    #[test]
    fn files_named_zip_are_archives() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        std::fs::create_dir_all(directory.path().join("folder.zip/below")).unwrap();
        std::fs::write(directory.path().join("folder.zip/s.zarr.ZIP"), b"").unwrap();
        std::fs::write(directory.path().join("zip"), b"").unwrap();
        std::fs::write(directory.path().join("s.zip.zarr"), b"").unwrap();

        for (below, expected) in [
            ("folder.zip/s.zarr.ZIP", Some("")),
            ("folder.zip/s.zarr.ZIP/", Some("")),
            ("folder.zip/s.zarr.ZIP/sub/t2m", Some("sub/t2m")),
            ("folder.zip/s.zarr.ZIP/b.zip/x/../y", Some("b.zip/y")),
            ("folder.zip", None),
            ("folder.zip/below", None),
            ("folder.zip/none.zip/t2m", None),
            ("zip", None),
            ("s.zip.zarr", None),
        ] {
            for name in [format!("{root}/{below}"), format!("file://{root}/{below}")] {
                let location = Location::parse_with(&name, Engine::ObjectStore).unwrap();
                assert_eq!(location.name(), name);
                assert_eq!(inside(&location), expected.is_some(), "{name}");
                // What looks for files must not find the archive's entries.
                assert_eq!(location.local_path().is_some(), expected.is_none(), "{name}");
                if let Some(path) = expected {
                    assert_eq!(location.path().as_ref(), path);
                    let child = location.child("c").unwrap();
                    assert!(inside(&child) && child.parent().is_some_and(|l| inside(&l)));
                    assert_eq!(location.parent().is_none(), path.is_empty());
                }
            }
        }
    }

    #[tokio::test]
    async fn options_follow_local_paths() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("what?dims=x").to_str().unwrap().to_owned();
        std::fs::write(&path, b"").unwrap();
        let open = |text: String| async move {
            Location::open(&text, OpenOptions::default(), Engine::ObjectStore).await
        };
        let (location, options) = open(path.clone()).await.unwrap();
        assert_eq!((location.name(), options.dims), (path.as_str(), None));
        let (location, options) =
            open(format!("{path}&max_chunk_bytes=5&max_metadata_bytes=7")).await.unwrap();
        assert!(location.name().ends_with("what") && options.dims.is_some());
        assert_eq!(location.limits().metadata_bytes, 7);
        for (query, expected) in [("dimms=x", "dimms"), ("aws.region=hidden", "aws.region")] {
            let error = open(format!("file:///what?{query}")).await.unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("hidden"), "{error}");
        }
    }

    #[tokio::test]
    async fn kinds_of_storage_are_told_by_where_a_store_is() {
        let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        memory.put(&Path::from("a.zip"), "".into()).await.unwrap();
        let network = Network { deadline: Duration::from_secs(7), ..Network::default() };
        let options = OpenOptions { network, ..OpenOptions::default() };
        for (url, expected) in [
            ("memory://b/x", Storage::Local),
            ("https://h/x", Storage::Http),
            ("http://h/a.zip/x", Storage::Http),
            ("s3://b/x", Storage::ObjectStore),
            ("mine://b/a.zip", Storage::ObjectStore),
        ] {
            let (store, url) = (Arc::clone(&memory), Url::parse(url).unwrap());
            let location = Location::open_registered(store, &url, &options).await.unwrap();
            assert_eq!(location.link().storage(), expected, "{url}");
            assert_eq!(location.name(), url.as_str());
            let deadline = (expected != Storage::Local).then_some(network.deadline);
            assert_eq!(location.link().deadline(0), deadline, "{url}");
        }
        let local = Location::parse_with("/a/b.zarr", Engine::Pread).unwrap();
        assert_eq!(local.link().storage(), Storage::Local);
    }

    #[tokio::test]
    async fn objects_named_zip_are_archives() {
        let memory = Arc::new(InMemory::new());
        memory.put(&Path::from("a/s.zip"), "".into()).await.unwrap();
        memory.put(&Path::from("a/folder.zip/zarr.json"), "".into()).await.unwrap();
        for (path, expected) in [
            ("a/s.zip", Some("")),
            ("a/s.zip/t2m", Some("t2m")),
            ("a/folder.zip", None),
            ("a/none.zip/x", None),
        ] {
            let store = Arc::clone(&memory) as Arc<dyn ObjectStore>;
            let location = Location::find(store, Path::from(path), "name").await;
            assert_eq!(inside(&location), expected.is_some(), "{path}");
            assert_eq!(location.path().as_ref(), expected.unwrap_or(path));
        }
    }

    #[test]
    fn paths_of_nodes_lead_down() {
        for good in ["v", "a/b c/é", "...", "..a", "a%2F", "C:", "~", "*"] {
            assert_eq!(check_node_path(good), Ok(()), "{good}");
        }
        let bad =
            ["", ".", "..", "a/../b", "/a", "a/", "a//b", "./a", "a\\b", "a\0", "a\nb", "\x7f"];
        for bad in bad {
            assert!(check_node_path(bad).is_err(), "{bad}");
        }
    }
}
