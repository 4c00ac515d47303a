//! What can go wrong, told so that the reader knows which file, array or chunk it was and what to do.

use std::fmt::Write as _;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error from opening or reading a Zarr dataset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing exists at the path.
    #[error("'{location}' does not exist")]
    NotFound {
        /// The path or URL as the user wrote it.
        location: String,
    },

    /// The path exists, but holds no Zarr metadata.
    #[error(
        "'{location}' is not a Zarr group or array: it holds none of zarr.json, .zgroup, .zarray and .zmetadata"
    )]
    NotZarr {
        /// The path or URL as the user wrote it.
        location: String,
    },

    /// The location can't be understood or isn't supported.
    #[error("'{location}' can't be opened: {reason}")]
    Location {
        /// The path or URL as the user wrote it.
        location: String,
        /// Why, and what to do.
        reason: String,
    },

    /// A metadata document is broken.
    #[error("the metadata in '{key}' can't be used: {reason}")]
    Metadata {
        /// The document.
        key: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A group holds no variable that could be a column.
    #[error("the group '{location}' holds no arrays{}", hint_children(location, children))]
    NoVariables {
        /// The group.
        location: String,
        /// The names of the groups inside it.
        children: Vec<String>,
    },

    /// A group holds variables on several grids, of which none contains all others.
    #[error("{}", several_grids(location, grids))]
    SeveralGrids {
        /// The group.
        location: String,
        /// For each maximal grid its dimensions and the data variables that span it.
        grids: Vec<(Vec<String>, Vec<String>)>,
    },

    /// A dimension, variable or group was asked for that isn't there.
    #[error("'{location}' has no {what} '{name}'; it has: {}", known.join(", "))]
    NoSuch {
        /// The group.
        location: String,
        /// "dimension", "variable", …
        what: &'static str,
        /// The name asked for.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },

    /// An option that isn't known.
    #[error("unknown option '{key}'; the options are: {}", known.join(", "))]
    UnknownOption {
        /// The key as given.
        key: String,
        /// The keys that exist.
        known: Vec<&'static str>,
    },

    /// An option's value that isn't valid.
    #[error("option '{key}' can't be '{value}': use {expected}")]
    InvalidOption {
        /// The key.
        key: &'static str,
        /// The value as given.
        value: String,
        /// The values that are valid.
        expected: &'static str,
    },

    /// A variable whose metadata was understood well enough to list it, but not to read it.
    #[error("the array '{array}' can't be read: {reason}")]
    Unreadable {
        /// The array, by the path that the user gave.
        array: String,
        /// Which codec, data type or size is the matter.
        reason: String,
    },

    /// A chunk that can't be decoded.
    #[error("chunk {chunk:?} of the array '{array}' (key '{key}') can't be decoded: {reason}")]
    Chunk {
        /// The array, by the path that the user gave.
        array: String,
        /// The chunk's indices in the array's chunk grid.
        chunk: Vec<u64>,
        /// The chunk's key within the array.
        key: String,
        /// What is wrong with it.
        reason: String,
    },

    /// Values that can't be decoded after CF conventions.
    #[error("the values of '{array}' can't be decoded: {reason}")]
    Decode {
        /// The array, by the path that the user gave.
        array: String,
        /// What is wrong, and which option helps.
        reason: String,
    },

    /// The object store failed.
    #[error("reading '{key}' failed: {source}")]
    Store {
        /// The object.
        key: String,
        /// The store's own error.
        source: object_store::Error,
    },
}

fn hint_children(location: &str, children: &[String]) -> String {
    if children.is_empty() {
        return String::new();
    }
    let location = location.trim_end_matches('/');
    let paths: Vec<_> = children.iter().map(|c| format!("'{location}/{c}'")).collect();
    format!("; choose one of the groups inside it: {}", paths.join(", "))
}

fn several_grids(location: &str, grids: &[(Vec<String>, Vec<String>)]) -> String {
    let mut text = format!("'{location}' holds variables on several grids:");
    for (dims, variables) in grids {
        let _ = write!(text, " ({}) with {};", dims.join(", "), variables.join(", "));
    }
    let (dims, variables) = grids.first().map_or((String::new(), ""), |(dims, variables)| {
        (dims.join(","), variables.first().map_or("", String::as_str))
    });
    let _ = write!(
        text,
        " choose a grid with '{location}?dims={dims}' (option dims), or a variable with '{}/{variables}'",
        location.trim_end_matches('/')
    );
    text
}
