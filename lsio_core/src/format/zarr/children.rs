//! Nodes directly inside a group without consolidated metadata: listed, or read by their names.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use super::{
    documents::{GroupDocument, Node, checked},
    nodes::{read_v2, read_v3},
};
use crate::{
    Error, Location, Result,
    dataset::{Attribute, ZarrFormat},
    error::{short, warn_once},
    location::check_node_path,
    transport::Storage,
};

/// Upper bound on the directories of a group to read while listing it. That many take a second.
const MOST_LISTED: usize = if cfg!(test) { 64 } else { 16_384 };

/// Upper bound on the directories without metadata in a group to check for implicit groups: a plate has 32 rows.
const MOST_IMPLICIT: usize = 64;

/// Upper bound on the subdirectories to read in each of these.
const MOST_LOOKED_INTO: usize = 4;

/// Upper bound on the levels of implicit groups above metadata: rows, wells, and images.
const MOST_LEVELS: usize = 3;

/// Upper bound on the objects to list in the search: those of one answer of S3.
const MOST_SEEN: usize = 1_000;

/// Number of nodes to read concurrently while listing a group without consolidated metadata.
const CONCURRENT_READS: usize = 32;

/// Like [`CONCURRENT_READS`], where latency is high.
const REMOTE_READS: usize = 1_024;

/// Nodes of a group that the caller asks for. Broken other nodes cause no warnings.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked<'a> {
    All,
    These(&'a [String]),
    None,
}

impl Asked<'_> {
    pub(crate) fn names(self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.iter().any(|asked| asked == name),
            Self::None => false,
        }
    }
}

/// Lists a group of this format, and reads the metadata of the nodes directly inside it. Nodes with broken metadata are
/// left out, with a warning if they were `asked` for.
pub(crate) async fn list_nodes(
    location: &Location,
    format: ZarrFormat,
    asked: Asked<'_>,
) -> Result<BTreeMap<String, Node>> {
    let children = list_children(location).await?;
    let mut nodes = read_children(location, children.clone(), format, asked).await?;
    // If only some nodes are asked for by name, implicit groups don't matter.
    if let Asked::All = asked {
        let rest = children.into_iter().filter(|name| !nodes.contains_key(name));
        let rest: Vec<String> = rest.take(MOST_IMPLICIT).collect();
        let looks = rest.into_iter().map(|name| async move {
            let holds = holds_nodes(&location.child(&name)?, format).await?;
            Ok::<_, Error>((name, holds))
        });
        let mut looks = stream::iter(looks).buffer_unordered(CONCURRENT_READS).boxed();
        while let Some((name, holds)) = looks.try_next().await? {
            if holds {
                nodes.insert(name, Node::Group(GroupDocument::implicit(format)));
            }
        }
    }
    Ok(nodes)
}

/// Reads the metadata of these arrays inside a group of this format, and of their coordinates, which they name. Missing
/// arrays are left out.
pub(crate) async fn named_nodes(
    location: &Location,
    names: &[String],
    format: ZarrFormat,
) -> Result<BTreeMap<String, Node>> {
    let names = checked(names.to_vec(), |name| name, location.name());
    let asked = Asked::These(&names);
    let mut nodes = read_children(location, names.clone(), format, asked).await?;
    let mut coordinates: Vec<String> = nodes.values().flat_map(coordinate_names).collect();
    coordinates.retain(|name| !names.contains(name));
    coordinates.sort_unstable();
    coordinates.dedup();
    let coordinates = checked(coordinates, |name| name, location.name());
    nodes.extend(read_children(location, coordinates, format, Asked::All).await?);
    Ok(nodes)
}

/// Whether a location without metadata is an implicit group: it holds arrays or groups. The rows of a plate (OME-Zarr)
/// are implicit groups, and its wells may be too.
pub(crate) async fn holds_nodes(location: &Location, format: ZarrFormat) -> Result<bool> {
    let mut place = location.clone();
    for _ in 0..MOST_LEVELS {
        if !lists(&place) {
            return Ok(false);
        }
        // A location that can't be listed is not a readable group.
        let Ok(names) = first_children(&place).await else { return Ok(false) };
        let Some(first) = names.first().cloned() else { return Ok(false) };
        let reads = names.into_iter().take(MOST_LOOKED_INTO);
        let reads = reads.map(|name| read_child(&place, name, format, Asked::None));
        // Where latency is high, all of them are read concurrently.
        let at_once = if place.link().is_remote() { MOST_LOOKED_INTO } else { 1 };
        let mut reads = stream::iter(reads).buffered(at_once).boxed();
        while let Some((_, node)) = reads.try_next().await? {
            if node.is_some() {
                return Ok(true);
            }
        }
        drop(reads);
        place = place.child(&first)?;
    }
    Ok(false)
}

/// Whether this kind of storage can list objects. HTTP servers can't, except those with WebDAV.
pub(crate) fn lists(location: &Location) -> bool {
    location.link().storage() != Storage::Http
}

/// Warns once that a node is left out, with the reason.
pub(crate) fn warn_left_out(name: &str, reason: &str) {
    warn_once(&format!("'{}' is left out: {reason}", short(name)));
}

/// Names of possible nodes inside a location, as far as one request lists them: a prefix of a bucket may hold a million
/// objects.
async fn first_children(location: &Location) -> Result<Vec<String>> {
    if location.local_path().is_some() {
        return list_children(location).await;
    }
    let mut names: Vec<String> = Vec::new();
    let mut objects = location.store().list(Some(location.path())).take(MOST_SEEN);
    while let Some(object) = objects.next().await {
        let object =
            object.map_err(|source| Error::Store { key: location.name().to_owned(), source })?;
        // An object directly at the location is not a child.
        let mut parts = object.location.prefix_match(location.path()).into_iter().flatten();
        if let (Some(name), Some(_)) = (parts.next(), parts.next()) {
            names.push(name.as_ref().to_owned());
        }
    }
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !name.starts_with('.') && check_node_path(name).is_ok());
    Ok(names)
}

/// Names of an array's dimensions and auxiliary coordinates.
fn coordinate_names(node: &Node) -> Vec<String> {
    let Node::Array(document) = node else { return Vec::new() };
    let mut names: Vec<String> = match document.metadata.get("dimension_names") {
        Some(Value::Array(names)) => {
            names.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
        }
        _ => Vec::new(),
    };
    let of_attributes = document.attributes.get("_ARRAY_DIMENSIONS").and_then(Attribute::as_list);
    let of_attributes = of_attributes.into_iter().flatten().filter_map(Attribute::as_text);
    names.extend(of_attributes.map(str::to_owned));
    if let Some(text) = document.attributes.text("coordinates") {
        names.extend(text.split_whitespace().map(str::to_owned));
    }
    names
}

async fn read_children(
    location: &Location,
    names: Vec<String>,
    format: ZarrFormat,
    asked: Asked<'_>,
) -> Result<BTreeMap<String, Node>> {
    let at_once = if location.link().is_remote() { REMOTE_READS } else { CONCURRENT_READS };
    let mut nodes = BTreeMap::new();
    let reads = names.into_iter().map(|name| read_child(location, name, format, asked));
    let mut reads = stream::iter(reads).buffer_unordered(at_once).boxed();
    while let Some((name, node)) = reads.try_next().await? {
        if let Some(node) = node {
            nodes.insert(name, node);
        }
    }
    drop(reads);
    Ok(nodes)
}

/// Names of possible nodes inside a group.
async fn list_children(location: &Location) -> Result<Vec<String>> {
    let failed = |source| Error::Store { key: location.name().to_owned(), source };
    let names = match location.local_path() {
        // A directory may also hold a million other files, and names that aren't UTF-8.
        Some(directory) => {
            let list = move || list_directories(&directory);
            let listed = match tokio::runtime::Handle::try_current() {
                Ok(runtime) => {
                    let listing = runtime.spawn_blocking(list);
                    listing.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
                }
                Err(_) => list(),
            };
            listed.map_err(|source| {
                failed(object_store::Error::Generic { store: "directory", source: source.into() })
            })?
        }
        None => {
            let listing = location.store().list_with_delimiter(Some(location.path())).await;
            let listing = listing.map_err(|source| {
                if !lists(location) { no_listing(location) } else { failed(source) }
            });
            let prefixes = listing?.common_prefixes;
            prefixes.iter().filter_map(|prefix| prefix.filename().map(str::to_owned)).collect()
        }
    };
    // The dot files of v2 are not nodes.
    let mut names: Vec<String> = names.into_iter().filter(|name| !name.starts_with('.')).collect();
    if names.len() > MOST_LISTED {
        return Err(Error::Metadata {
            key: location.name().to_owned(),
            reason: format!(
                "it holds more than {MOST_LISTED} directories, too many to be looked into one by \
                 one: consolidate its metadata"
            ),
        });
    }
    names.sort_unstable();
    Ok(checked(names, |name| name, location.name()))
}

fn no_listing(location: &Location) -> Error {
    Error::Metadata {
        key: location.name().to_owned(),
        reason: "it has no consolidated metadata, and the server doesn't list what is there: name \
                 variables behind the address, as in ?variables=t2m,u10, or have the store's metadata \
                 consolidated (zarr.consolidate_metadata)"
            .to_owned(),
    }
}

/// Names of the directories in a directory, including links to directories. Stops after twice [`MOST_LISTED`].
fn list_directories(directory: &std::path::Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let may_be = kind.is_dir()
            || (kind.is_symlink() && std::fs::metadata(entry.path()).is_ok_and(|m| m.is_dir()));
        if !may_be {
            continue;
        }
        match entry.file_name().into_string() {
            Ok(name) => names.push(name),
            Err(name) => {
                warn_once(&format!(
                    "{}: {name:?} is left out: it is not UTF-8",
                    directory.display()
                ));
            }
        }
        // Counts both kinds of names, with and without a leading dot.
        if names.len() > 2 * MOST_LISTED {
            break;
        }
    }
    Ok(names)
}

async fn read_child(
    location: &Location,
    name: String,
    format: ZarrFormat,
    asked: Asked<'_>,
) -> Result<(String, Option<Node>)> {
    let child = location.child(&name)?;
    // Nodes of the other version are rare.
    let node = match format {
        ZarrFormat::V3 => match read_v3(&child, false).await {
            Ok(None) => read_v2(&child, true, false).await,
            node => node,
        },
        ZarrFormat::V2 => match read_v2(&child, true, false).await {
            Ok(None) => read_v3(&child, false).await,
            node => node,
        },
    };
    match node {
        Ok(node) => Ok((name, node)),
        Err(error @ Error::Metadata { .. }) => {
            if asked.names(&name) {
                warn_left_out(&name, &error.to_string());
            }
            Ok((name, None))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::nodes::{
            read_node,
            tests::{ARRAY, directory, run},
        },
        *,
    };

    #[cfg(unix)]
    #[test]
    fn listing_leaves_out_what_is_no_node() {
        use std::os::unix::{ffi::OsStrExt as _, fs::symlink};
        let (directory, location) = directory(&[
            ("a/zarr.json", ARRAY),
            ("broken/zarr.json", "{"),
            ("twice/zarr.json", r#"{"zarr_format": 3, "zarr_format": 3}"#),
            ("no node/file", ""),
            (".hidden/zarr.json", ARRAY),
            ("a\\b/zarr.json", ARRAY),
            ("a\nb/zarr.json", ARRAY),
            ("file", ""),
        ]);
        let at = |name: &str| directory.path().join(name);
        symlink(at("a"), at("link")).unwrap();
        symlink(at("loop"), at("loop")).unwrap();
        symlink(at("nothing"), at("to_nothing")).unwrap();
        symlink("/dev/zero", at("to_zeros")).unwrap();
        std::fs::create_dir_all(at("directory/zarr.json")).unwrap();
        std::fs::create_dir(at("device")).unwrap();
        symlink("/dev/zero", at("device/zarr.json")).unwrap();
        std::fs::create_dir(directory.path().join(std::ffi::OsStr::from_bytes(b"\xff"))).unwrap();
        let nodes = run(list_nodes(&location, ZarrFormat::V3, Asked::All)).unwrap();
        assert_eq!(nodes.into_keys().collect::<Vec<_>>(), ["a", "link"]);

        // A query that names a broken node gets the error.
        for (name, text) in [("device", "a device"), ("broken", "JSON"), ("twice", "two members")] {
            let error = run(read_node(&location.child(name).unwrap(), true)).unwrap_err();
            assert!(matches!(error, Error::Metadata { .. }), "{error}");
            assert!(error.to_string().contains(text), "{error}");
            assert!(error.to_string().contains(&format!("{name}/zarr.json")), "{error}");
        }
        for i in 0..=MOST_LISTED {
            std::fs::create_dir(at(&format!("d{i}"))).unwrap();
        }
        let error = run(list_nodes(&location, ZarrFormat::V3, Asked::All)).unwrap_err().to_string();
        assert!(error.contains("too many"), "{error}");
    }
}
