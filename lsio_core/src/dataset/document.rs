//! Zarr's metadata documents: which files they are in v2 and v3, consolidated or not.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use object_store::{GetOptions, ObjectStoreExt as _, path::Path};
use serde_json::{Map, Value};

use crate::{Error, Location, Result, location::join};

/// The largest metadata document that is read, in bytes.
const MAX_DOCUMENT: u64 = 64 << 20;

/// Arrays and groups read at the same time while a group without consolidated metadata is listed.
const CONCURRENT_READS: usize = 32;

/// The versions of the Zarr format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZarrFormat {
    /// Zarr v2: `.zgroup`, `.zarray`, `.zattrs`.
    V2,
    /// Zarr v3: `zarr.json`.
    V3,
}

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
    pub attributes: Map<String, Value>,
    /// The document's key, for messages.
    pub key: String,
}

#[derive(Clone, Debug)]
pub(crate) struct GroupDocument {
    pub attributes: Map<String, Value>,
    /// The metadata of all nodes below, by their path relative to this group.
    pub consolidated: Option<BTreeMap<String, Node>>,
    pub format: ZarrFormat,
}

/// Reads the metadata of the node at `location`; `None` if there is none. `consolidated` says
/// whether consolidated metadata may be used.
pub(crate) async fn read_node(location: &Location, consolidated: bool) -> Result<Option<Node>> {
    if let Some((key, bytes)) = read(location, "zarr.json").await? {
        let document = parse(&key, &bytes)?;
        return Ok(Some(v3_node(document, &key, consolidated)?));
    }
    let files = [".zarray", ".zgroup", ".zattrs", ".zmetadata"];
    let files = &files[..if consolidated { 4 } else { 3 }];
    let mut documents = Vec::with_capacity(4);
    for read in try_join_all(files.iter().map(|file| read(location, file))).await? {
        documents.push(match read {
            Some((key, bytes)) => Some((parse(&key, &bytes)?, key)),
            None => None,
        });
    }
    let [array, group, attributes, zmetadata] = {
        let mut documents = documents.into_iter();
        [(); 4].map(|()| documents.next().flatten())
    };
    let attributes = attributes.map(|(document, _)| document).unwrap_or_default();
    if let Some((metadata, key)) = array {
        let format = ZarrFormat::V2;
        return Ok(Some(Node::Array(ArrayDocument { format, metadata, attributes, key })));
    }
    if group.is_none() && zmetadata.is_none() {
        return Ok(None);
    }
    let consolidated =
        zmetadata.map(|(document, key)| v2_consolidated(document, &key)).transpose()?;
    // A store may hold nothing but its consolidated metadata.
    let attributes = match consolidated.as_ref().and_then(|nodes| nodes.get("")) {
        Some(Node::Group(root)) if attributes.is_empty() => root.attributes.clone(),
        _ => attributes,
    };
    let format = ZarrFormat::V2;
    Ok(Some(Node::Group(GroupDocument { attributes, consolidated, format })))
}

/// Reads the metadata of the nodes directly inside a group by listing it.
pub(crate) async fn list_nodes(location: &Location) -> Result<BTreeMap<String, Node>> {
    let listing = location
        .store()
        .list_with_delimiter(Some(location.path()))
        .await
        .map_err(|source| Error::Store { key: location.name().to_owned(), source })?;
    let names: Vec<String> = listing
        .common_prefixes
        .into_iter()
        // v2's dot files are no nodes.
        .filter_map(|prefix| prefix.filename().filter(|n| !n.starts_with('.')).map(str::to_owned))
        .collect();
    let mut nodes = BTreeMap::new();
    let mut reads = stream::iter(names.into_iter().map(|name| read_child(location, name)))
        .buffer_unordered(CONCURRENT_READS)
        .boxed();
    while let Some((name, node)) = reads.try_next().await? {
        if let Some(node) = node {
            nodes.insert(name, node);
        }
    }
    drop(reads);
    Ok(nodes)
}

async fn read_child(location: &Location, name: String) -> Result<(String, Option<Node>)> {
    let child = location.child(&name)?;
    let node = read_node(&child, false).await?;
    Ok((name, node))
}

async fn read(location: &Location, file: &str) -> Result<Option<(String, Bytes)>> {
    let path = join(location.path(), file)
        .map_err(|reason| Error::Location { location: location.name().to_owned(), reason })?;
    let key = format!("{}/{file}", location.name().trim_end_matches('/'));
    read_object(location, &path, &key).await.map(|bytes| Some((key, bytes?)))
}

async fn read_object(location: &Location, path: &Path, key: &str) -> Result<Option<Bytes>> {
    let key = || key.to_owned();
    let result = match location.store().get_opts(path, GetOptions::default()).await {
        Ok(result) => result,
        Err(e) if is_missing(&e) => return Ok(None),
        Err(source) => return Err(Error::Store { key: key(), source }),
    };
    if result.meta.size > MAX_DOCUMENT {
        return Err(Error::Metadata {
            key: key(),
            reason: format!("it has {} bytes, more than {MAX_DOCUMENT}", result.meta.size),
        });
    }
    match result.bytes().await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if is_missing(&e) => Ok(None),
        Err(source) => Err(Error::Store { key: key(), source }),
    }
}

/// Whether an object doesn't exist. A local path that leads through a file, or ends at a directory,
/// names no object either.
pub(crate) fn is_missing(error: &object_store::Error) -> bool {
    use std::{error::Error as _, io::ErrorKind};

    if matches!(error, object_store::Error::NotFound { .. }) {
        return true;
    }
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return matches!(
                io.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory
            );
        }
        source = error.source();
    }
    false
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

fn parse(key: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    let error = |reason: String| Error::Metadata { key: key.to_owned(), reason };
    let value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        // Python writes NaN and Infinity into JSON, which knows neither.
        Err(first) => serde_json::from_slice(&quote_constants(bytes))
            .map_err(|_| error(format!("it is not valid JSON: {first}")))?,
    };
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(error("it is not a JSON object".to_owned())),
    }
}

/// Puts quotes around the bare words `NaN`, `Infinity` and `-Infinity`.
fn quote_constants(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 16);
    let mut rest = bytes;
    let mut in_string = false;
    while let Some((&first, tail)) = rest.split_first() {
        if in_string && first == b'\\' {
            let length = rest.len().min(2);
            out.extend_from_slice(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        if first == b'"' {
            in_string = !in_string;
        }
        let words: [&[u8]; 3] = [b"NaN", b"-Infinity", b"Infinity"];
        match words.iter().find(|word| !in_string && rest.starts_with(word)) {
            Some(word) => {
                out.push(b'"');
                out.extend_from_slice(word);
                out.push(b'"');
                rest = &rest[word.len()..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

fn v3_node(mut document: Map<String, Value>, key: &str, consolidated: bool) -> Result<Node> {
    let error = |reason: String| Error::Metadata { key: key.to_owned(), reason };
    if document.get("zarr_format").and_then(Value::as_u64) != Some(3) {
        return Err(error("zarr_format is not 3".to_owned()));
    }
    let attributes = match document.remove("attributes") {
        Some(Value::Object(attributes)) => attributes,
        None | Some(Value::Null) => Map::new(),
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
            let consolidated = nodes
                .map(|nodes| {
                    nodes
                        .into_iter()
                        .map(|(path, node)| match node {
                            Value::Object(node) => {
                                let key = format!("{key} ({path})");
                                Ok((path, v3_node(node, &key, false)?))
                            }
                            _ => Err(error(format!("the metadata of '{path}' is not an object"))),
                        })
                        .collect()
                })
                .transpose()?;
            Ok(Node::Group(GroupDocument { attributes, consolidated, format: ZarrFormat::V3 }))
        }
        _ => Err(error("node_type is neither \"array\" nor \"group\"".to_owned())),
    }
}

/// `.zmetadata`: the documents of all nodes by their keys.
fn v2_consolidated(mut document: Map<String, Value>, key: &str) -> Result<BTreeMap<String, Node>> {
    let error = |reason: String| Error::Metadata { key: key.to_owned(), reason };
    let Some(Value::Object(mut documents)) = document.remove("metadata") else {
        return Err(error("it has no object 'metadata'".to_owned()));
    };
    let split = |path: &str| match path.rsplit_once('/') {
        Some((node, file)) => (node.to_owned(), file.to_owned()),
        None => (String::new(), path.to_owned()),
    };
    let mut nodes = BTreeMap::new();
    for path in documents.keys().cloned().collect::<Vec<_>>() {
        let (node, file) = split(&path);
        if file != ".zarray" && file != ".zgroup" {
            continue;
        }
        let attributes_path =
            if node.is_empty() { ".zattrs".to_owned() } else { format!("{node}/.zattrs") };
        let attributes = match documents.remove(&attributes_path) {
            Some(Value::Object(attributes)) => attributes,
            _ => Map::new(),
        };
        let Some(Value::Object(metadata)) = documents.remove(&path) else {
            return Err(error(format!("'{path}' is not an object")));
        };
        let format = ZarrFormat::V2;
        let document = if file == ".zarray" {
            let key = format!("{key} ({path})");
            Node::Array(ArrayDocument { format, metadata, attributes, key })
        } else {
            Node::Group(GroupDocument { attributes, consolidated: None, format })
        };
        nodes.insert(node, document);
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_constants_are_quoted() {
        let text = br#"{"a": NaN, "b": [-Infinity, Infinity], "c": "NaN \" NaN", "d\\": NaN}"#;
        let expected =
            br#"{"a": "NaN", "b": ["-Infinity", "Infinity"], "c": "NaN \" NaN", "d\\": "NaN"}"#;
        assert_eq!(quote_constants(text), expected);
    }

    #[test]
    fn broken_documents_name_their_key() {
        for text in ["", "{", "[]", "3", "{\"a\": nope}"] {
            let error = parse("store/zarr.json", text.as_bytes()).err();
            assert!(error.is_some_and(|e| e.to_string().contains("store/zarr.json")), "{text}");
        }
    }
}
