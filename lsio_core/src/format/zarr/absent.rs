//! Errors for a path without a group or array: what is there, and the path that was probably meant.

use std::{iter, path::Path};

use super::{
    children::Asked,
    documents::{DOCUMENTS, GROUPS_AND_ARRAYS, GroupDocument, Node},
    hierarchy::{expand, implicit_group, path_below},
    nodes::{exists, read_node},
};
use crate::{Error, Location, Result, dataset::plates::with_fields};

/// Error for a path without a Zarr node.
pub(super) async fn nothing_at(
    location: &Location,
    ancestors: &[(Location, GroupDocument)],
    consolidated: bool,
) -> Result<Error> {
    // The node may be broken in the consolidated metadata.
    for (holder, document) in ancestors {
        if let Some(reason) = document.left_out.get(path_below(location, holder)) {
            let (key, reason) = (location.name().to_owned(), reason.clone());
            return Ok(Error::Metadata { key, reason });
        }
    }
    if let Some(error) = inside_a_node(location, consolidated).await? {
        return Ok(error);
    }
    // A wrong name inside a store: list the right ones.
    if let (Some(parent), Some(name)) = (location.parent(), location.path().filename()) {
        let document = match read_node(&parent, consolidated).await? {
            Some(Node::Group(document)) => Some(document),
            Some(Node::Array(_)) => None,
            None => {
                implicit_group(&parent, ancestors, consolidated).await?.map(GroupDocument::implicit)
            }
        };
        if let Some(document) = document {
            let group = expand(&parent, document, ancestors, Asked::All).await?;
            let known = group.nodes.into_keys().collect();
            return Ok(Error::NoSuch {
                location: parent.name().to_owned(),
                what: "variable or group",
                name: name.to_owned(),
                known: with_fields(known, &group.document.attributes),
            });
        }
    }
    let location_name = location.name().to_owned();
    if location.is_empty_archive().await {
        return Ok(Error::EmptyArchive { location: location_name });
    }
    Ok(if exists(location).await? {
        Error::NotZarr { location: location_name, stores: stores_inside(location) }
    } else {
        let similar = location.similar();
        Error::NotFound { location: location_name, similar }
    })
}

/// Error for the path of a part of a node: its metadata, or a chunk of an array.
async fn inside_a_node(location: &Location, consolidated: bool) -> Result<Option<Error>> {
    /// Number of levels above a chunk to look for its array.
    const LEVELS: usize = 6;

    let error = |what: String| {
        Some(Error::Location {
            location: location.name().to_owned(),
            reason: format!("it is {what}: write that path"),
        })
    };
    let is_document = location.path().filename().is_some_and(|name| DOCUMENTS.contains(&name));
    for parent in iter::successors(location.parent(), Location::parent).take(LEVELS) {
        let name = parent.name().trim_end_matches('/');
        match read_node(&parent, consolidated).await {
            Ok(Some(Node::Array(_))) if is_document => {
                return Ok(error(format!("the metadata of the array '{name}'")));
            }
            Ok(Some(Node::Array(_))) => return Ok(error(format!("inside the array '{name}'"))),
            Ok(Some(Node::Group(_))) if is_document => {
                return Ok(error(format!("the metadata of the group '{name}'")));
            }
            // Over a network, a better message isn't worth the latency.
            Ok(None) if !is_document && !location.link().is_remote() => {}
            _ => break,
        }
    }
    Ok(None)
}

/// Names of some Zarr groups, arrays and zipped stores in a directory. Only the local file system is searched.
fn stores_inside(location: &Location) -> Vec<String> {
    /// Upper bounds on the entries that are examined, and on the names that are listed.
    const ENTRIES: usize = 1_000;
    const NAMED: usize = 5;

    let Some(directory) = location.local_path() else { return Vec::new() };
    let Ok(entries) = directory.read_dir() else { return Vec::new() };
    let is_store = |path: &Path| {
        let is_zip = || {
            let name = path.to_string_lossy().to_ascii_lowercase();
            name.ends_with(".zarr.zip") && path.is_file()
        };
        GROUPS_AND_ARRAYS.iter().any(|name| path.join(name).is_file()) || is_zip()
    };
    let stores = entries.take(ENTRIES).filter_map(|entry| {
        let entry = entry.ok()?;
        is_store(&entry.path()).then(|| entry.file_name().into_string().ok())?
    });
    let mut stores: Vec<String> = stores.collect();
    stores.sort_unstable();
    stores.truncate(NAMED);
    stores
}
