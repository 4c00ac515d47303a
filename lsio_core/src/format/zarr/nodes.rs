//! Reads the metadata of one node: its documents in v2 and v3, consolidated or not.

use std::{collections::BTreeMap, io::ErrorKind};

use bytes::Bytes;
use futures::{
    StreamExt as _,
    future::{join, join_all},
};
use object_store::{ObjectStoreExt as _, path::Path};

use super::{
    attributes::attributes as attributes_of,
    documents::{ArrayDocument, GroupDocument, Node, parse, v2_consolidated, v3_node},
};
use crate::{
    Error, Location, Result,
    dataset::ZarrFormat,
    location::join as join_path,
    store_error::{io_error, is_directory, is_missing},
    transport::{Counts, Expected, Failure, Storage, What},
};

/// Size in bytes of a usual document.
const USUAL_BYTES: u64 = 64 << 10;

/// Reads the metadata of the node at `location`; `None` if there is no node. `consolidated` allows consolidated
/// metadata.
pub(crate) async fn read_node(location: &Location, consolidated: bool) -> Result<Option<Node>> {
    let v2 = || read_v2(location, true, consolidated);
    read_either(location, read_v3(location, consolidated), v2).await
}

/// Like [`read_node`] for a possible group, with no more requests than a group needs.
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

/// Reads version 3, else version 2. Where latency is high, both are requested concurrently.
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
        // Without the permission to list a bucket, a missing object is reported as denied.
        (Err(error), Ok(Some(node))) if is_denied(&error) => Ok(Some(node)),
        (v3, _) => v3,
    }
}

pub(super) async fn read_v3(location: &Location, consolidated: bool) -> Result<Option<Node>> {
    let Some((key, bytes)) = read(location, "zarr.json").await? else { return Ok(None) };
    let document = parse(location, &key, &bytes)?;
    let has_inline = consolidated && document.contains_key("consolidated_metadata");
    let node = v3_node(document, &key, consolidated);
    node.map(Some).map_err(|error| if has_inline { without_consolidated(error) } else { error })
}

/// Adds to the error of broken consolidated metadata how to read the store without them.
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

/// `any` tells whether the node may be an array, and whether a group's own attributes are needed.
pub(super) async fn read_v2(
    location: &Location,
    any: bool,
    consolidated: bool,
) -> Result<Option<Node>> {
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
    // A store may hold only its consolidated metadata.
    let attributes = match consolidated.as_ref().and_then(|nodes| nodes.get("")) {
        Some(Node::Group(root)) if attributes.is_empty() => root.attributes.clone(),
        _ => attributes,
    };
    let format = ZarrFormat::V2;
    Ok(Some(Node::Group(GroupDocument { attributes, consolidated, left_out, format })))
}

/// Whether the store denies access to the object, or doesn't understand the request.
pub(crate) fn is_denied(error: &Error) -> bool {
    use object_store::Error::{Generic, PermissionDenied, Unauthenticated};
    match error {
        Error::Store { source: PermissionDenied { .. } | Unauthenticated { .. }, .. } => true,
        // Other client errors are recognised by their status (RFC 9110, 15.5).
        Error::Store { source: Generic { source, .. }, .. } => {
            let text = source.to_string();
            let status = text.split_whitespace().next().unwrap_or_default();
            status.len() == 3 && status.starts_with('4') && !["408", "429"].contains(&status)
        }
        _ => false,
    }
}

/// Whether a location exists: as an object, or a directory that isn't empty.
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

/// Whether a web server answers with a page: some do so for missing objects.
fn is_web_page(location: &Location, bytes: &[u8]) -> bool {
    location.link().storage() == Storage::Http && bytes.trim_ascii_start().starts_with(b"<")
}

/// Metadata error for a path that can't be a document; else an error of the store, which may be temporary.
fn failed(key: String, source: object_store::Error) -> Error {
    match io_error(&source) {
        Some(io) if io.kind() == ErrorKind::InvalidInput => {
            Error::Metadata { key, reason: io.to_string() }
        }
        _ => Error::Store { key, source },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::dataset::Attribute;

    /// A local directory with these files.
    pub(in super::super) fn directory(files: &[(&str, &str)]) -> (tempfile::TempDir, Location) {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = directory.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let location = Location::parse(&directory.path().to_string_lossy()).unwrap();
        (directory, location)
    }

    pub(in super::super) fn run<T>(future: impl Future<Output = T>) -> T {
        futures::executor::block_on(future)
    }

    fn consolidated(node: Node) -> Vec<String> {
        match node {
            Node::Group(group) => group.consolidated.unwrap().into_keys().collect(),
            Node::Array(_) => panic!("an array"),
        }
    }

    pub(in super::super) const ARRAY: &str =
        r#"{"zarr_format": 3, "node_type": "array", "shape": [1]}"#;

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
}
