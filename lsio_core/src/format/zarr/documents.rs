//! Zarr's metadata documents, parsed: arrays, groups, and consolidated metadata.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::attributes::attributes as attributes_of;
use crate::{
    Error, Limits, Location, Result,
    dataset::{Attributes, ZarrFormat},
    error::{names, short, warn_once},
    json,
    location::check_node_path,
};

/// Upper bound on the memory of a document's values, as a multiple of the upper bound on its bytes. Values of real
/// documents take seven times their bytes, and thirteen times without blanks, but few documents are that large.
const MEMORY: u64 = 6;

/// Names of the files with metadata.
pub(crate) const DOCUMENTS: [&str; 5] =
    ["zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata"];

/// Names of the files that make a directory a group or an array.
pub(crate) const GROUPS_AND_ARRAYS: [&str; 4] = ["zarr.json", ".zgroup", ".zarray", ".zmetadata"];

/// Metadata of one array or group.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Array(ArrayDocument),
    Group(GroupDocument),
}

#[derive(Clone, Debug)]
pub(crate) struct ArrayDocument {
    pub format: ZarrFormat,
    /// Members of `zarr.json` or `.zarray`.
    pub metadata: Map<String, Value>,
    pub attributes: Attributes,
    /// Key of the document, for messages.
    pub key: String,
}

impl ArrayDocument {
    /// Number of dimensions, if the document has a shape.
    pub(crate) fn rank(&self) -> Option<usize> {
        self.metadata.get("shape").and_then(Value::as_array).map(Vec::len)
    }

    /// Whether netCDF's library wrote the array, by the library's own members in the metadata.
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
    /// Metadata of all nodes below, by their paths relative to this group.
    pub consolidated: Option<BTreeMap<String, Node>>,
    /// Reasons why nodes are left out of the consolidated metadata, by their paths.
    pub left_out: BTreeMap<String, String>,
    pub format: ZarrFormat,
}

impl GroupDocument {
    /// A group without metadata of its own: a directory that holds nodes.
    pub(crate) fn implicit(format: ZarrFormat) -> Self {
        let (attributes, consolidated, left_out) = (Attributes::default(), None, BTreeMap::new());
        Self { attributes, consolidated, left_out, format }
    }
}

/// Node that a document of version 3 describes.
pub(super) fn parsed_node(document: &[u8], key: &str) -> Result<Node> {
    v3_node(parse_within(&Limits::default(), key, document)?, key, false)
}

pub(super) fn parse(location: &Location, key: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
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

pub(super) fn v3_node(
    mut document: Map<String, Value>,
    key: &str,
    consolidated: bool,
) -> Result<Node> {
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

/// Nodes of consolidated metadata, and reasons why others are left out, both by path.
type Consolidated = (BTreeMap<String, Node>, BTreeMap<String, String>);

/// Parses `.zmetadata`: the documents of all nodes, by key.
pub(super) fn v2_consolidated(mut document: Map<String, Value>, key: &str) -> Result<Consolidated> {
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
            // The group itself has the empty path.
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

/// Items whose names are paths of nodes. A warning lists the others.
pub(super) fn checked<T>(items: Vec<T>, name: impl Fn(&T) -> &String, holder: &str) -> Vec<T> {
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

#[cfg(test)]
mod tests {
    use object_store::path::Path;

    use super::*;

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
