//! Errors, whose messages name the file, array or chunk, and say what to do.

use std::{
    collections::HashSet,
    fmt::{self, Write as _},
    sync::{LazyLock, Mutex, PoisonError},
};

use crate::{similar::closest, urls::redact};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error from opening or reading a Zarr dataset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing exists at the path.
    #[error("'{location}' does not exist{}", meant(similar.as_deref()))]
    NotFound {
        /// The path or URL as the user wrote it.
        location: String,
        /// A similar path that exists, if any.
        similar: Option<String>,
    },

    /// The path exists, but holds no Zarr metadata.
    #[error(
        "'{location}' is not a Zarr group or array: it holds none of zarr.json, .zgroup, .zarray and .zmetadata{}",
        hint_stores(location, stores)
    )]
    NotZarr {
        /// The path or URL as the user wrote it.
        location: String,
        /// The names of groups and arrays in the path, if the path is a directory.
        stores: Vec<String>,
    },

    /// A zip archive without entries.
    #[error("'{location}' is an empty zip archive: it holds no Zarr group or array")]
    EmptyArchive {
        /// The path or URL as the user wrote it.
        location: String,
    },

    /// The location is malformed or isn't supported.
    #[error("'{location}' can't be opened: {}", short(reason))]
    Location {
        /// The path or URL as the user wrote it.
        location: String,
        /// The cause, and what to do.
        reason: String,
    },

    /// A metadata document is broken.
    #[error("the metadata in '{}' can't be used: {}", short(key), short(reason))]
    Metadata {
        /// The key of the document.
        key: String,
        /// The fault.
        reason: String,
    },

    /// A group holds no variable that can be a column.
    #[error("the group '{location}' holds no arrays{}", hint_children(location, children))]
    NoVariables {
        /// The group.
        location: String,
        /// The names of the child groups.
        children: Vec<String>,
    },

    /// A group holds variables on several grids, and no grid contains all others.
    #[error("{}", several_grids(location, grids))]
    SeveralGrids {
        /// The group.
        location: String,
        /// The maximal grids: each a list of dimensions, and the data variables that span them.
        grids: Vec<(Vec<String>, Vec<String>)>,
    },

    /// A group holds an image at several resolutions, and each resolution is a table.
    #[error(
        "'{location}' holds an image at several resolutions: choose one of {}",
        quoted(location, levels)
    )]
    SeveralLevels {
        /// The group.
        location: String,
        /// The names of the arrays, from the finest resolution to the coarsest.
        levels: Vec<String>,
    },

    /// A requested dimension, variable or group doesn't exist.
    #[error(
        "'{location}' has no {what} '{}'{} ({})",
        short(name),
        meant(closest(name, known).map(String::as_str).filter(|other| other != name)),
        known_names(known)
    )]
    NoSuch {
        /// The group.
        location: String,
        /// The kind of the name: "dimension", "variable", …
        what: &'static str,
        /// The requested name.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },

    /// An unknown option.
    #[error(
        "unknown option '{key}'{}; the options are: {}",
        meant(closest(key, known.iter().copied())),
        known.join(", ")
    )]
    UnknownOption {
        /// The key as given.
        key: String,
        /// The keys that exist.
        known: Vec<&'static str>,
    },

    /// An invalid value of an option.
    #[error("option '{key}' can't be '{value}': use {expected}")]
    InvalidOption {
        /// The key.
        key: &'static str,
        /// The value as given.
        value: String,
        /// The values that are valid.
        expected: &'static str,
    },

    /// Requested indices are outside of an array.
    #[error("the array '{}' has no {asked}: it is {has}", short(array))]
    OutOfBounds {
        /// The array, by the path that the user gave.
        array: String,
        /// The requested region, selection or chunk.
        asked: String,
        /// The shape of the array or of its chunk grid.
        has: String,
    },

    /// Values can't be written into the memory that was given for them.
    #[error(
        "values of '{}' can't be written into the given memory: {}",
        short(array),
        short(reason)
    )]
    Place {
        /// The array, by the path that the user gave.
        array: String,
        /// What doesn't fit: the shape, the size of an element, or the type.
        reason: String,
    },

    /// A variable whose metadata suffice to list it, but not to read it.
    #[error("the array '{}' can't be read: {}", short(array), short(reason))]
    Unreadable {
        /// The array, by the path that the user gave.
        array: String,
        /// The codec, data type or size that isn't supported.
        reason: String,
    },

    /// A chunk can't be decoded.
    #[error(
        "chunk {chunk:?} of the array '{}' (key '{}') can't be decoded: {}",
        short(array),
        short(key),
        short(reason)
    )]
    Chunk {
        /// The array, by the path that the user gave.
        array: String,
        /// The chunk's indices in the array's chunk grid.
        chunk: Vec<u64>,
        /// The chunk's key within the array.
        key: String,
        /// The fault.
        reason: String,
    },

    /// A chunk can't be encoded.
    #[error("a chunk of the array '{}' can't be encoded: {}", short(array), short(reason))]
    Encode {
        /// The array, by the path that the user gave.
        array: String,
        /// The fault: values that don't fit, or a codec that can't encode.
        reason: String,
    },

    /// A text that names no compressor.
    #[error("the compressor '{}' isn't known: {reason}", short(text))]
    Compression {
        /// The text.
        text: String,
        /// What is wrong, and what there is.
        reason: String,
    },

    /// The memory that may be used doesn't suffice.
    #[error(
        "{what} takes {:.1} MB of memory, which the limit doesn't leave: raise it, or choose smaller chunks",
        *bytes as f64 / 1e6
    )]
    Memory {
        /// What was to be held.
        what: String,
        /// The bytes that it takes.
        bytes: u64,
        /// The error of whoever keeps the account.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A cell of an array is written twice.
    #[error("two values for the cell {cell:?} of the array '{}'", short(array))]
    WrittenTwice {
        /// The array.
        array: String,
        /// The indices of the cell.
        cell: Vec<u64>,
    },

    /// A store can't be written.
    #[error("'{}' can't be written: {}", short(location), short(reason))]
    Write {
        /// The path or URL as the user wrote it.
        location: String,
        /// The cause, and what to do.
        reason: String,
    },

    /// Values can't be decoded by the CF conventions.
    #[error("the values of '{}' can't be decoded: {}", short(array), short(reason))]
    Decode {
        /// The array, by the path that the user gave.
        array: String,
        /// The fault, and the option that avoids it.
        reason: String,
    },

    /// The cache on the local disk can't be used as configured.
    #[error("the cache in '{}' can't be used: {}", short(directory), short(reason))]
    Cache {
        /// The directory of the cache.
        directory: String,
        /// The cause, and what to do.
        reason: String,
    },

    /// The object store failed.
    #[error("reading '{}' failed: {}", short(key), redact(&source.to_string()))]
    Store {
        /// The key of the object.
        key: String,
        /// The error of the store.
        source: object_store::Error,
    },

    /// A read in the background ended before it was done.
    #[error("the read of {what} ended early: {source}")]
    Interrupted {
        /// What was read.
        what: String,
        /// Why: a panic, or the end of the runtime.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Logs a warning once per process, since each query opens its stores anew.
pub(crate) fn warn_once(text: &str) {
    /// The most warnings that a process remembers and logs.
    const MOST: usize = 10_000;
    static TOLD: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.len() < MOST && told.insert(text.to_owned()) {
        drop(told);
        log::warn!("{text}");
    }
}

/// Shortens and escapes text for messages: text from a store may be a megabyte long, or change the terminal's colours.
pub(crate) fn short(text: &str) -> impl fmt::Display {
    /// The most characters that are shown.
    const MOST: usize = 400;
    /// The shown characters at the end of longer text.
    const END: usize = 100;

    fmt::from_fn(move |f| {
        // The start, the omitted middle, and the end.
        let at = |n: usize| text.char_indices().nth(n).map(|(at, _)| at);
        let parts = at(MOST).and_then(|_| {
            let (start, rest) = text.split_at_checked(at(MOST - END)?)?;
            let (middle, end) = rest.split_at_checked(rest.char_indices().nth_back(END - 1)?.0)?;
            Some((start, middle, end))
        });
        let mut show = |part: &str| {
            part.chars().try_for_each(|c| match c {
                c if c.is_control() => write!(f, "{}", c.escape_debug()),
                c => f.write_char(c),
            })
        };
        let Some((start, middle, end)) = parts else { return show(text) };
        show(start)?;
        show(&format!(" … ({} bytes are left out) … ", middle.len()))?;
        show(end)
    })
}

/// Lists names for messages, up to a number that a person can look through.
pub(crate) fn names<T: AsRef<str>>(names: &[T]) -> impl fmt::Display {
    const MOST: usize = 100;

    fmt::from_fn(move |f| {
        for (i, name) in names.iter().take(MOST).enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{}", short(name.as_ref()))?;
        }
        match names.len().checked_sub(MOST) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, " and {more} more"),
        }
    })
}

fn meant(similar: Option<&str>) -> String {
    similar.map_or_else(String::new, |similar| format!("; did you mean '{}'?", short(similar)))
}

fn known_names(known: &[String]) -> String {
    match known {
        [] => "it has none at all".to_owned(),
        known => format!("it has: {}", names(known)),
    }
}

fn hint_children(location: &str, children: &[String]) -> String {
    if children.is_empty() {
        return String::new();
    }
    format!("; choose one of the groups inside it: {}", quoted(location, children))
}

fn hint_stores(location: &str, stores: &[String]) -> String {
    if stores.is_empty() {
        return String::new();
    }
    format!("; inside it are: {}", quoted(location, stores))
}

/// The quoted paths of a group's children.
fn quoted(location: &str, children: &[String]) -> String {
    let location = location.trim_end_matches('/');
    let paths: Vec<_> = children.iter().map(|name| format!("'{location}/{name}'")).collect();
    names(&paths).to_string()
}

fn several_grids(location: &str, grids: &[(Vec<String>, Vec<String>)]) -> String {
    /// The most grids that are listed.
    const GRIDS: usize = 50;

    let mut text = format!("'{location}' holds variables on several grids:");
    for (dims, variables) in grids.iter().take(GRIDS) {
        let _ = write!(text, " ({}) with {};", names(dims), names(variables));
    }
    if let Some(more @ 1..) = grids.len().checked_sub(GRIDS) {
        let _ = write!(text, " and {more} more;");
    }
    let (dims, variables) = grids.first().map_or((String::new(), ""), |(dims, variables)| {
        (dims.join(","), variables.first().map_or("", String::as_str))
    });
    let _ = write!(
        text,
        " choose a grid with '{location}?dims={}' (option dims), or a variable with '{}/{}'",
        short(&dims),
        location.trim_end_matches('/'),
        short(variables)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_stay_readable() {
        assert_eq!(short("plain é").to_string(), "plain é");
        assert_eq!(short("a\n\u{1b}[31mb\0").to_string(), "a\\n\\u{1b}[31mb\\0");
        let whole = "é".repeat(400);
        assert_eq!(short(&whole).to_string(), whole);
        let long = format!("start{}end", "é".repeat(1 << 20));
        let text = short(&long).to_string();
        assert!(text.starts_with("starté") && text.ends_with("éend"), "{text}");
        assert!(text.contains("bytes are left out") && text.chars().count() < 450);
        let many: Vec<String> = (0..103).map(|i| i.to_string()).collect();
        assert!(names(&many).to_string().ends_with("98, 99 and 3 more"));
        assert_eq!(names(&["a", "b"]).to_string(), "a, b");
    }
}
