//! Where the stores are that tests ask: local files, or the same files behind a server.
//!
//! `remote` runs the tests once more, in a process whose environment says where the server is. In the
//! queries of that process paths become addresses at the server.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::Write as _,
    path::Path,
    sync::LazyLock,
    thread,
};

use serde_json::{Value, json};
use url::Url;

/// The variable that says which URL is that of the file system's root.
pub(crate) const ROOT: &str = "LSIO_TEST_ROOT";
/// The variable that names the file in which it is noted what was asked.
pub(crate) const NOTES: &str = "LSIO_TEST_NOTES";
/// The variable that says that behind a server as much is to be tried as locally.
pub(crate) const ALL: &str = "LSIO_REMOTE_ALL";

/// Of cases that are alike, one in so many is tried behind a server.
const ONE_IN: usize = 8;

static SERVER: LazyLock<Option<Url>> =
    LazyLock::new(|| Some(Url::parse(&env::var(ROOT).ok()?).unwrap()));

static NOTED: LazyLock<Option<File>> =
    LazyLock::new(|| Some(File::options().append(true).open(env::var_os(NOTES)?).unwrap()));

/// Whether the storage tells what it holds.
pub(crate) fn lists() -> bool {
    SERVER.as_ref().is_none_or(|server| server.scheme() != "http")
}

/// Of cases that are alike, one in so many is to be tried.
pub(crate) fn one_in() -> usize {
    if SERVER.is_some() && env::var_os(ALL).is_none() { ONE_IN } else { 1 }
}

/// As many of `cases` as are to be tried.
pub(crate) fn share(cases: u64) -> u64 {
    cases.div_ceil(one_in() as u64)
}

/// A store whose metadata isn't consolidated: where nothing is listed, its variables must be named.
pub(crate) fn naming(variables: &str, store: String) -> String {
    if lists() { store } else { format!("{store}?variables={variables}") }
}

/// A local path, which may have options behind a `?`, as it is to be asked for.
pub(crate) fn address(text: &str) -> String {
    let Some(server) = &*SERVER else { return text.to_owned() };
    let (path, options) = split(text);
    let mut names = Vec::new();
    for name in path.split('/').skip(1) {
        match name {
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    let mut url = server.clone();
    url.path_segments_mut().unwrap().extend(names);
    url.set_query(options);
    url.into()
}

/// A path and its options. As for readers, a path that exists to the letter has none.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('?') {
        Some((path, options)) if !Path::new(text).exists() => (path, Some(options)),
        _ => (text, None),
    }
}

/// A query of local stores, as it is to be asked. Files of other formats stay where they are.
pub(crate) fn addressed(sql: &str) -> String {
    let parts = sql.split('\'').enumerate().map(|(number, part)| match is_path(number, part) {
        true => address(part),
        false => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("'")
}

/// Whether a part of a query, which is cut at its quotes, is a path to a store.
fn is_path(number: usize, part: &str) -> bool {
    let is_quoted = number % 2 == 1;
    let others = [".parquet", ".csv", ".json"];
    is_quoted && part.starts_with('/') && !others.iter().any(|format| part.ends_with(format))
}

/// Whether a query failed because what it names must be listed, and can't be. A store whose metadata is
/// consolidated needs no listing.
pub(crate) fn needs_listing(sql: &str, error: &str) -> bool {
    let parts = sql.split('\'').enumerate();
    let mut paths = parts.filter(|(number, part)| is_path(*number, part)).map(|(_, part)| part);
    !lists() && error.contains("the server doesn't list what is there") && {
        paths.any(|path| !is_consolidated(path))
    }
}

/// Whether a node, or one above it, has consolidated metadata that may be used.
fn is_consolidated(path: &str) -> bool {
    let (path, options) = split(path);
    let group = |path: &Path| {
        path.join(".zmetadata").exists()
            || fs::read_to_string(path.join("zarr.json"))
                .is_ok_and(|text| text.contains("\"consolidated_metadata\""))
    };
    options.is_none_or(|options| !options.contains("consolidated=false"))
        && Path::new(path).ancestors().any(group)
}

/// Consolidates the metadata of a store that a test has written, if it couldn't be read otherwise.
pub(crate) fn consolidate_if_unlisted(store: &Path) {
    if lists() {
        return;
    }
    let mut nodes = BTreeMap::new();
    collect(store, "", &mut nodes);
    let mut root = nodes.remove("").unwrap();
    root["consolidated_metadata"] =
        json!({"kind": "inline", "must_understand": false, "metadata": nodes});
    fs::write(store.join("zarr.json"), root.to_string()).unwrap();
}

/// The metadata of a node and those below, by their paths.
fn collect(node: &Path, name: &str, nodes: &mut BTreeMap<String, Value>) {
    let Ok(text) = fs::read(node.join("zarr.json")) else { return };
    nodes.insert(name.to_owned(), serde_json::from_slice(&text).unwrap());
    for entry in fs::read_dir(node).unwrap() {
        let child = entry.unwrap().file_name().into_string().unwrap();
        let path = if name.is_empty() { child.clone() } else { format!("{name}/{child}") };
        collect(&node.join(child), &path, nodes);
    }
}

/// Where a query was answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answered {
    /// By the server.
    Remotely,
    /// By local files, since what it needs must be listed.
    Locally,
    /// Nowhere: the data that the test asks of aren't on this machine.
    Nowhere,
}

/// Notes that the test, whose name this thread has, has asked something.
pub(crate) fn note(answered: Answered) {
    if let Some(mut noted) = NOTED.as_ref() {
        let line = format!("{} {answered:?}\n", thread::current().name().unwrap_or_default());
        // At once: others write there too.
        noted.write_all(line.as_bytes()).unwrap();
    }
}
