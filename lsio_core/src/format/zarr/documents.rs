//! Zarr's metadata documents: which files they are in v2 and v3, consolidated or not.

use std::{collections::BTreeMap, io::ErrorKind};

use bytes::Bytes;
use futures::{
    StreamExt as _, TryStreamExt as _,
    future::{join, join_all},
    stream,
};
use object_store::{ObjectStoreExt as _, path::Path};
use serde_json::{Map, Value};

use super::attributes::attributes as attributes_of;
use crate::{
    Error, Limits, Location, Result,
    dataset::{Attribute, Attributes, ZarrFormat},
    error::{names, short, warn_once},
    json,
    location::{check_node_path, join as join_path},
    store_error::{io_error, is_directory, is_missing},
    transport::{Counts, Expected, Failure, Storage, What},
};

/// The memory that the values of a document may take, as a multiple of the bytes that it may have. Of
/// real ones they take seven times the bytes that those have, and thirteen times where they have no blanks,
/// but few are that large.
const MEMORY: u64 = 6;

/// The directories inside a group that are looked into while it is listed. That takes a second.
const MOST_LISTED: usize = if cfg!(test) { 64 } else { 16_384 };

/// The directories without metadata inside a group that may be groups all the same: a plate has 32 rows.
const MOST_IMPLICIT: usize = 64;

/// Of each of these the directories that are looked into.
const MOST_LOOKED_INTO: usize = 4;

/// The levels of such directories above what has metadata: rows, wells, and images.
const MOST_LEVELS: usize = 3;

/// The objects that are listed to find them: those of one answer of S3.
const MOST_SEEN: usize = 1_000;

/// Arrays and groups read at the same time while a group without consolidated metadata is listed.
const CONCURRENT_READS: usize = 32;

/// The same where every answer takes its time.
const REMOTE_READS: usize = 1_024;

/// The bytes of a document as most have them.
const USUAL_BYTES: u64 = 64 << 10;

/// The names of the files that metadata are in.
pub(crate) const DOCUMENTS: [&str; 5] =
    ["zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata"];

/// Those of them that make a directory a group or an array.
pub(crate) const GROUPS_AND_ARRAYS: [&str; 4] = ["zarr.json", ".zgroup", ".zarray", ".zmetadata"];

/// The metadata of one array or group.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Array(ArrayDocument),
    Group(GroupDocument),
}

#[derive(Clone, Debug)]
pub(crate) struct ArrayDocument {
    pub format: ZarrFormat,
    /// `zarr.json` or `.zarray`.
    pub metadata: Map<String, Value>,
    pub attributes: Attributes,
    /// The document's key, for messages.
    pub key: String,
}

impl ArrayDocument {
    /// The number of dimensions, if the document says a shape.
    pub(crate) fn rank(&self) -> Option<usize> {
        self.metadata.get("shape").and_then(Value::as_array).map(Vec::len)
    }

    /// Whether netCDF's library wrote the array, as members of its own in the metadata say.
    pub(crate) fn is_nczarr(&self) -> bool {
        let is_own = |key: &str| {
            let key = key.to_ascii_lowercase();
            key.starts_with("_nczarr_") || key == "_netcdf4dimid" || key == "_netcdf4coordinates"
        };
        self.metadata.keys().map(String::as_str).chain(self.attributes.names()).any(is_own)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct GroupDocument {
    pub attributes: Attributes,
    /// The metadata of all nodes below, by their path relative to this group.
    pub consolidated: Option<BTreeMap<String, Node>>,
    /// Why consolidated metadata of nodes are left out, by their paths.
    pub left_out: BTreeMap<String, String>,
    pub format: ZarrFormat,
}

impl GroupDocument {
    /// A group without metadata of its own: a directory with nodes in it.
    pub(crate) fn implicit(format: ZarrFormat) -> Self {
        let (attributes, consolidated, left_out) = (Attributes::default(), None, BTreeMap::new());
        Self { attributes, consolidated, left_out, format }
    }
}

/// Reads the metadata of the node at `location`; `None` if there is none. `consolidated` says
/// whether consolidated metadata may be used.
pub(crate) async fn read_node(location: &Location, consolidated: bool) -> Result<Option<Node>> {
    let v2 = || read_v2(location, true, consolidated);
    read_either(location, read_v3(location, consolidated), v2).await
}

/// The same for a group that may be at `location`, with no more requests than that takes.
pub(crate) async fn read_group(
    location: &Location,
    consolidated: bool,
) -> Result<Option<GroupDocument>> {
    let v2 = || read_v2(location, false, consolidated);
    let node = read_either(location, read_v3(location, consolidated), v2).await?;
    Ok(match node {
        Some(Node::Group(document)) => Some(document),
        Some(Node::Array(_)) | None => None,
    })
}

/// Version 3, or else version 2. Where an answer takes its time both are asked for at once.
async fn read_either<V2: Future<Output = Result<Option<Node>>>>(
    location: &Location,
    v3: impl Future<Output = Result<Option<Node>>>,
    v2: impl FnOnce() -> V2,
) -> Result<Option<Node>> {
    if !location.link().is_remote() {
        return match v3.await? {
            Some(node) => Ok(Some(node)),
            None => v2().await,
        };
    }
    match join(v3, v2()).await {
        (Ok(None), v2) => v2,
        // Who may not list a bucket is denied what isn't there.
        (Err(error), Ok(Some(node))) if is_denied(&error) => Ok(Some(node)),
        (v3, _) => v3,
    }
}

async fn read_v3(location: &Location, consolidated: bool) -> Result<Option<Node>> {
    let Some((key, bytes)) = read(location, "zarr.json").await? else { return Ok(None) };
    let document = parse(location, &key, &bytes)?;
    let has_inline = consolidated && document.contains_key("consolidated_metadata");
    let node = v3_node(document, &key, consolidated);
    node.map(Some).map_err(|error| if has_inline { without_consolidated(error) } else { error })
}

/// Says how else a store may be read whose consolidated metadata are broken.
fn without_consolidated(error: Error) -> Error {
    match error {
        Error::Metadata { key, reason } => {
            let hint =
                "the option consolidated=false reads the store without its consolidated metadata";
            Error::Metadata { key, reason: format!("{reason}; {hint}") }
        }
        other => other,
    }
}

/// `any` says whether it may be an array, and whether a group's own attributes are of interest.
async fn read_v2(location: &Location, any: bool, consolidated: bool) -> Result<Option<Node>> {
    let files =
        [(".zarray", any), (".zgroup", true), (".zattrs", any), (".zmetadata", consolidated)];
    let reads = files.into_iter().map(|(file, wanted)| async move {
        if wanted { read(location, file).await } else { Ok(None) }
    });
    let reads = join_all(reads).await;
    let is_found = reads.iter().any(|read| matches!(read, Ok(Some(_))));
    let mut documents = Vec::with_capacity(4);
    for read in reads {
        documents.push(match read {
            Ok(Some((key, bytes))) => {
                let document = parse(location, &key, &bytes).map_err(|error| {
                    if key.ends_with(".zmetadata") { without_consolidated(error) } else { error }
                })?;
                Some((document, key))
            }
            Ok(None) => None,
            Err(error) if is_found && is_denied(&error) => None,
            Err(error) => return Err(error),
        });
    }
    let [array, group, attributes, zmetadata] = {
        let mut documents = documents.into_iter();
        [(); 4].map(|()| documents.next().flatten())
    };
    let attributes = attributes.map(|(members, _)| attributes_of(members)).unwrap_or_default();
    if let Some((metadata, key)) = array {
        let format = ZarrFormat::V2;
        return Ok(Some(Node::Array(ArrayDocument { format, metadata, attributes, key })));
    }
    if group.is_none() && zmetadata.is_none() {
        return Ok(None);
    }
    let (consolidated, left_out) = match zmetadata {
        Some((document, key)) => {
            let (nodes, left_out) =
                v2_consolidated(document, &key).map_err(without_consolidated)?;
            (Some(nodes), left_out)
        }
        None => (None, BTreeMap::new()),
    };
    // A store may hold nothing but its consolidated metadata.
    let attributes = match consolidated.as_ref().and_then(|nodes| nodes.get("")) {
        Some(Node::Group(root)) if attributes.is_empty() => root.attributes.clone(),
        _ => attributes,
    };
    let format = ZarrFormat::V2;
    Ok(Some(Node::Group(GroupDocument { attributes, consolidated, left_out, format })))
}

/// Whether the store says that this isn't for us to read, or that it doesn't know what is asked.
pub(crate) fn is_denied(error: &Error) -> bool {
    use object_store::Error::{Generic, PermissionDenied, Unauthenticated};
    match error {
        Error::Store { source: PermissionDenied { .. } | Unauthenticated { .. }, .. } => true,
        // Other client errors are told by their status (RFC 9110, 15.5).
        Error::Store { source: Generic { source, .. }, .. } => {
            let text = source.to_string();
            let status = text.split_whitespace().next().unwrap_or_default();
            status.len() == 3 && status.starts_with('4') && !["408", "429"].contains(&status)
        }
        _ => false,
    }
}

/// Reads the metadata of the nodes directly inside a group of this format by listing it. Nodes with
/// broken metadata are left out, with a warning if they were `asked` for.
pub(crate) async fn list_nodes(
    location: &Location,
    format: ZarrFormat,
    asked: Asked<'_>,
) -> Result<BTreeMap<String, Node>> {
    let children = list_children(location).await?;
    let mut nodes = read_children(location, children.clone(), format, asked).await?;
    // Where a few are asked for by their names, groups are of no interest.
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

/// Which of a group's nodes are asked for: of the others nobody wants to hear.
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

/// Whether something without metadata is a group all the same, since it holds arrays or groups: the rows of
/// a plate (OME-Zarr) are such groups, and so may be the wells in them.
pub(crate) async fn holds_nodes(location: &Location, format: ZarrFormat) -> Result<bool> {
    let mut place = location.clone();
    for _ in 0..MOST_LEVELS {
        if !lists(&place) {
            return Ok(false);
        }
        // What can't be listed is no group that could be read.
        let Ok(names) = first_children(&place).await else { return Ok(false) };
        let Some(first) = names.first().cloned() else { return Ok(false) };
        let reads = names.into_iter().take(MOST_LOOKED_INTO);
        let reads = reads.map(|name| read_child(&place, name, format, Asked::None));
        // Where an answer takes its time all are asked for at once.
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

/// The names of what may be nodes inside a location, as far as one request lists them: a prefix of a bucket may
/// hold a million objects.
async fn first_children(location: &Location) -> Result<Vec<String>> {
    if location.local_path().is_some() {
        return list_children(location).await;
    }
    let mut names: Vec<String> = Vec::new();
    let mut objects = location.store().list(Some(location.path())).take(MOST_SEEN);
    while let Some(object) = objects.next().await {
        let object =
            object.map_err(|source| Error::Store { key: location.name().to_owned(), source })?;
        // What lies there itself is no child.
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

/// Reads the metadata of these arrays inside a group of this format, and of those that they name: their
/// coordinates. What isn't there is left out.
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

/// The names of an array's dimensions and auxiliary coordinates.
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

/// The names of what may be nodes inside a group.
async fn list_children(location: &Location) -> Result<Vec<String>> {
    let failed = |source| Error::Store { key: location.name().to_owned(), source };
    let names = match location.local_path() {
        // A directory may hold a million of other things, and names that are no UTF-8.
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
    // v2's dot files are no nodes.
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

/// Whether the storage is of a kind that tells what it holds. Of HTTP servers, only those do that know
/// WebDAV.
pub(crate) fn lists(location: &Location) -> bool {
    location.link().storage() != Storage::Http
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

/// The names of the directories in a directory, and of links to some. A few more than
/// [`MOST_LISTED`] at most.
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
        // Of those that count, and of others.
        if names.len() > 2 * MOST_LISTED {
            break;
        }
    }
    Ok(names)
}

/// Those items whose names are paths of nodes; a warning names the others.
fn checked<T>(items: Vec<T>, name: impl Fn(&T) -> &String, holder: &str) -> Vec<T> {
    let (good, bad): (Vec<T>, Vec<T>) =
        items.into_iter().partition(|item| check_node_path(name(item)).is_ok());
    if let Some(first) = bad.first() {
        let bad: Vec<&String> = bad.iter().map(&name).collect();
        warn_once(&format!(
            "{}: what is called '{}' is left out: '{}' can't be the path of an array or group, since {}",
            short(holder),
            names(&bad),
            short(name(first)),
            check_node_path(name(first)).err().unwrap_or_default()
        ));
    }
    good
}

async fn read_child(
    location: &Location,
    name: String,
    format: ZarrFormat,
    asked: Asked<'_>,
) -> Result<(String, Option<Node>)> {
    let child = location.child(&name)?;
    // Those of the other version are rare.
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

/// Says once that a node is left out, and why.
pub(crate) fn warn_left_out(name: &str, reason: &str) {
    warn_once(&format!("'{}' is left out: {reason}", short(name)));
}

async fn read(location: &Location, file: &str) -> Result<Option<(String, Bytes)>> {
    let path = join_path(location.path(), file)
        .map_err(|reason| Error::Location { location: location.name().to_owned(), reason })?;
    let key = format!("{}/{file}", location.name().trim_end_matches('/'));
    read_object(location, &path, &key).await.map(|bytes| Some((key, bytes?)))
}

async fn read_object(location: &Location, path: &Path, key: &str) -> Result<Option<Bytes>> {
    let most = location.limits().metadata_bytes;
    let expected = Expected { likely: USUAL_BYTES.min(most), most };
    let bad = |reason| Err(Error::Metadata { key: key.to_owned(), reason });
    match location.transfer(What::Documents).object(path, expected, &mut Counts::default()).await {
        Ok(object) if is_web_page(location, &object.bytes) => Ok(None),
        Ok(object) => Ok(Some(object.bytes)),
        Err(Failure::Store(e)) if is_missing(&e) || is_directory(&e) => Ok(None),
        Err(Failure::Store(source)) => Err(failed(key.to_owned(), source)),
        Err(Failure::Changed) => bad("it changes while it is read".to_owned()),
        Err(Failure::TooLarge(bytes)) => bad(format!(
            "it has {bytes} bytes, more than {most}; the option max_metadata_bytes allows more"
        )),
    }
}

/// Whether a web server answers with a page: some do where nothing is.
fn is_web_page(location: &Location, bytes: &[u8]) -> bool {
    location.link().storage() == Storage::Http && bytes.trim_ascii_start().starts_with(b"<")
}

/// What can't be a document isn't one that can't be read for now.
fn failed(key: String, source: object_store::Error) -> Error {
    match io_error(&source) {
        Some(io) if io.kind() == ErrorKind::InvalidInput => {
            Error::Metadata { key, reason: io.to_string() }
        }
        _ => Error::Store { key, source },
    }
}

/// Whether anything exists at a location: an object, or a directory with something in it.
pub(crate) async fn exists(location: &Location) -> Result<bool> {
    if let Some(path) = location.local_path() {
        return Ok(path.exists());
    }
    if location.store().head(location.path()).await.is_ok() {
        return Ok(true);
    }
    let mut listing = location.store().list(Some(location.path()));
    Ok(matches!(listing.next().await, Some(Ok(_))))
}

/// The node that a document of version 3 describes.
pub(super) fn parsed_node(document: &[u8], key: &str) -> Result<Node> {
    v3_node(parse_within(&Limits::default(), key, document)?, key, false)
}

fn parse(location: &Location, key: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    parse_within(location.limits(), key, bytes)
}

fn parse_within(limits: &Limits, key: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    let error = |reason: String| Error::Metadata { key: key.to_owned(), reason };
    let memory = limits.metadata_bytes.saturating_mul(MEMORY);
    match json::parse(bytes, memory).map_err(error)? {
        Value::Object(object) => Ok(object),
        _ => Err(error("it is not a JSON object".to_owned())),
    }
}

fn v3_node(mut document: Map<String, Value>, key: &str, consolidated: bool) -> Result<Node> {
    let error = |reason: String| Error::Metadata { key: key.to_owned(), reason };
    if document.get("zarr_format").and_then(Value::as_u64) != Some(3) {
        return Err(error("zarr_format is not 3".to_owned()));
    }
    let attributes = match document.remove("attributes") {
        Some(Value::Object(members)) => attributes_of(members),
        None | Some(Value::Null) => Attributes::default(),
        Some(other) => return Err(error(format!("attributes are not an object but {other}"))),
    };
    match document.get("node_type").and_then(Value::as_str) {
        Some("array") => Ok(Node::Array(ArrayDocument {
            format: ZarrFormat::V3,
            metadata: document,
            attributes,
            key: key.to_owned(),
        })),
        Some("group") => {
            let inline = document.remove("consolidated_metadata");
            let nodes = match inline {
                Some(Value::Object(mut inline)) if consolidated => {
                    match inline.remove("metadata") {
                        Some(Value::Object(nodes)) => Some(nodes),
                        _ => {
                            return Err(error(
                                "consolidated_metadata has no object 'metadata'".to_owned(),
                            ));
                        }
                    }
                }
                _ => None,
            };
            let mut left_out = BTreeMap::new();
            let consolidated = nodes.map(|nodes| {
                let mut good = BTreeMap::new();
                for (path, node) in checked(nodes.into_iter().collect(), |(path, _)| path, key) {
                    let key = format!("{key} ({path})");
                    let node = match node {
                        Value::Object(node) => v3_node(node, &key, false),
                        _ => Err(not_an_object(key)),
                    };
                    match node {
                        Ok(node) => drop(good.insert(path, node)),
                        Err(error) => drop(left_out.insert(path, error.to_string())),
                    }
                }
                good
            });
            let format = ZarrFormat::V3;
            Ok(Node::Group(GroupDocument { attributes, consolidated, left_out, format }))
        }
        _ => Err(error("node_type is neither \"array\" nor \"group\"".to_owned())),
    }
}

/// The nodes of consolidated metadata, and why others are left out, both by their paths.
type Consolidated = (BTreeMap<String, Node>, BTreeMap<String, String>);

/// `.zmetadata`: the documents of all nodes by their keys.
fn v2_consolidated(mut document: Map<String, Value>, key: &str) -> Result<Consolidated> {
    let error = |reason: String| Error::Metadata { key: key.to_owned(), reason };
    let Some(Value::Object(mut documents)) = document.remove("metadata") else {
        return Err(error("it has no object 'metadata'".to_owned()));
    };
    let split = |path: &str| match path.rsplit_once('/') {
        Some((node, file)) => (node.to_owned(), file.to_owned()),
        None => (String::new(), path.to_owned()),
    };
    let (mut nodes, mut left_out) = (BTreeMap::new(), BTreeMap::new());
    let mut paths = Vec::new();
    for path in documents.keys() {
        let (node, file) = split(path);
        if [".zarray", ".zgroup"].contains(&file.as_str()) {
            // The group itself has no path.
            let is_root = node.is_empty() && !path.starts_with('/');
            paths.push((path.clone(), node, file, is_root));
        }
    }
    let (roots, paths): (Vec<_>, Vec<_>) = paths.into_iter().partition(|(.., is_root)| *is_root);
    let paths = checked(paths, |(_, node, ..)| node, key);
    for (path, node, file, is_root) in roots.into_iter().chain(paths) {
        let attributes_path =
            if is_root { ".zattrs".to_owned() } else { format!("{node}/.zattrs") };
        let attributes = match documents.remove(&attributes_path) {
            Some(Value::Object(members)) => attributes_of(members),
            _ => Attributes::default(),
        };
        let Some(Value::Object(metadata)) = documents.remove(&path) else {
            let error = not_an_object(format!("{key} ({path})"));
            left_out.insert(node, error.to_string());
            continue;
        };
        let format = ZarrFormat::V2;
        let document = if file == ".zarray" {
            let key = format!("{key} ({path})");
            Node::Array(ArrayDocument { format, metadata, attributes, key })
        } else {
            Node::Group(GroupDocument { attributes, ..GroupDocument::implicit(format) })
        };
        nodes.insert(node, document);
    }
    Ok((nodes, left_out))
}

fn not_an_object(key: String) -> Error {
    Error::Metadata { key, reason: "it is not a JSON object".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A local directory with these files.
    fn directory(files: &[(&str, &str)]) -> (tempfile::TempDir, Location) {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = directory.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let location = Location::parse(&directory.path().to_string_lossy()).unwrap();
        (directory, location)
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        futures::executor::block_on(future)
    }

    fn consolidated(node: Node) -> Vec<String> {
        match node {
            Node::Group(group) => group.consolidated.unwrap().into_keys().collect(),
            Node::Array(_) => panic!("an array"),
        }
    }

    const ARRAY: &str = r#"{"zarr_format": 3, "node_type": "array", "shape": [1]}"#;

    #[test]
    fn entries_with_names_that_lead_elsewhere_are_left_out() {
        let names = ["a", "..", "../a", "a/../b", "/a", "a/", "", ".", "a\\\\b", "a\\u0000", "a/b"];
        let entries: Vec<String> =
            names.iter().map(|name| format!("\"{name}\": {ARRAY}")).collect();
        let v3 = format!(
            r#"{{"zarr_format": 3, "node_type": "group", "consolidated_metadata":
                {{"metadata": {{{}, "broken": 3, "format": {{"zarr_format": 2}}}}}}}}"#,
            entries.join(",")
        );
        let (_directory, location) = directory(&[("zarr.json", &v3)]);
        let node = run(read_node(&location, true)).unwrap().unwrap();
        assert_eq!(consolidated(node), ["a", "a/b"]);

        let entries: Vec<String> = names
            .iter()
            .map(|name| format!("\"{name}/.zarray\": {{}}, \"{name}/.zattrs\": {{\"x\": 1}}"))
            .collect();
        let v2 = format!(
            r#"{{"metadata": {{".zgroup": {{}}, ".zattrs": {{"y": 2}}, {}, "broken/.zarray": 3}}}}"#,
            entries.join(",")
        );
        let (_directory, location) = directory(&[(".zmetadata", &v2)]);
        let node = run(read_node(&location, true)).unwrap().unwrap();
        let Node::Group(group) = &node else { panic!("an array") };
        assert_eq!(group.attributes.get("y"), Some(&Attribute::Int(2)));
        assert_eq!(consolidated(node), ["", "a", "a/b"]);
    }

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

        // Who names what is broken is told.
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

    #[test]
    fn documents_are_limited() {
        let large =
            format!("{{\"zarr_format\": 3, \"node_type\": \"group\" {} }}", " ".repeat(1_000));
        let (_directory, location) = directory(&[("zarr.json", &large)]);
        let read = |metadata_bytes| {
            let limits = crate::Limits { metadata_bytes, ..crate::Limits::default() };
            run(read_node(&location.clone().with_limits(limits), true))
        };
        assert!(read(2_000).is_ok());
        let error = read(900).unwrap_err().to_string();
        assert!(error.contains("max_metadata_bytes"), "{error}");
    }

    #[test]
    fn broken_documents_name_their_key() {
        for text in ["", "{", "[]", "3", "{\"a\": nope}"] {
            let store = std::sync::Arc::new(object_store::memory::InMemory::new());
            let location = Location::new(store, Path::default(), "store");
            let error = parse(&location, "store/zarr.json", text.as_bytes()).err();
            assert!(error.is_some_and(|e| e.to_string().contains("store/zarr.json")), "{text}");
        }
    }
}
