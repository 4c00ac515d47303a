//! The directory of a zip archive: entries by name.

use std::ops::Range;

use bytes::Bytes;

use super::{end::End, entry::Entry};

/// Metadata files: the root of a Zarr store has at least one of them.
const METADATA: [&str; 4] = ["zarr.json", ".zgroup", ".zarray", ".zmetadata"];

/// Folder that macOS adds beside a zipped one.
const MACOS: &str = "__MACOSX";

/// Size in bytes of the shortest directory record.
const LEAST_LINE: u64 = 46;

/// Entries of an archive.
#[derive(Debug)]
pub(super) struct Directory {
    /// The directory as stored, which holds the names.
    bytes: Bytes,
    /// Entries in the order of their names, each name once.
    entries: Vec<Entry>,
    /// Folder with a trailing slash that holds the store; empty if the store is at the archive's root.
    root: String,
}

impl Directory {
    /// Parses the directory.
    ///
    /// # Errors
    /// A text, for a corrupt directory, overlapping entries, or forbidden names.
    pub(super) fn parse(bytes: Bytes, end: &End) -> Result<Self, String> {
        let most = bytes.len() as u64 / LEAST_LINE;
        let mut entries = Vec::new();
        let capacity = usize::try_from(most.min(end.entries)).unwrap_or(0);
        entries.try_reserve_exact(capacity).map_err(|e| e.to_string())?;
        let mut at = 0;
        while at < bytes.len() {
            let (entry, next) = Entry::parse(&bytes, at, end.shift)?;
            check_name(name_in(&bytes, &entry))?;
            entries.push(entry);
            at = next;
        }
        let count = entries.len() as u64;
        // Some writers exceed 65535 entries without zip64.
        let counted = if end.is_zip64 { count } else { count & 0xffff };
        if counted != end.entries {
            return Err(format!("its end record says {} entries, it has {count}", end.entries));
        }
        check_places(&bytes, &mut entries, end.start)?;

        // Names of folders end with a slash. Of several entries with one name the last one counts: an update
        // appends the new entry.
        entries.retain(|entry| !name_in(&bytes, entry).ends_with(b"/"));
        entries.sort_by(|a, b| name_in(&bytes, a).cmp(name_in(&bytes, b)));
        entries.reverse();
        entries.dedup_by(|earlier, last| name_in(&bytes, earlier) == name_in(&bytes, last));
        entries.reverse();

        let mut directory = Self { bytes, entries, root: String::new() };
        directory.root = directory.find_root();
        Ok(directory)
    }

    /// Entry of an object.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        let inside = if self.root.is_empty() { None } else { self.find(&self.full(key)) };
        self.entries.get(inside.or_else(|| self.find(key))?)
    }

    /// Numbers of the entries below a folder, and the length in bytes of the prefix that their keys lack.
    pub(super) fn below(&self, folder: &str) -> (Range<usize>, usize) {
        let prefix = |path: &str| match path.is_empty() || path.ends_with('/') {
            true => path.to_owned(),
            false => format!("{path}/"),
        };
        if !self.root.is_empty() {
            let inside = self.starting_with(&prefix(&self.full(folder)));
            if !inside.is_empty() {
                return (inside, self.root.len());
            }
        }
        (self.starting_with(&prefix(folder)), 0)
    }

    /// Number of the first entry from `from` on outside the folder `folder`, which ends with a slash.
    pub(super) fn behind(&self, folder: &str, from: usize) -> usize {
        let rest = self.entries.get(from..).unwrap_or_default();
        from + rest.partition_point(|entry| self.name(entry).starts_with(folder))
    }

    /// Entry of a number.
    pub(super) fn entry(&self, number: usize) -> Option<&Entry> {
        self.entries.get(number)
    }

    /// Name of an entry.
    pub(super) fn name(&self, entry: &Entry) -> &str {
        std::str::from_utf8(name_in(&self.bytes, entry)).unwrap_or_default()
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.entries.binary_search_by(|entry| self.name(entry).cmp(name)).ok()
    }

    fn starting_with(&self, prefix: &str) -> Range<usize> {
        let start = self.entries.partition_point(|entry| self.name(entry) < prefix);
        start..self.behind(prefix, start)
    }

    /// The only folder at the root, if it holds the store.
    fn find_root(&self) -> String {
        let holds_store = |folder: &str| {
            METADATA.iter().any(|file| self.find(&format!("{folder}{file}")).is_some())
        };
        let mut folders = Vec::new();
        let mut at = 0;
        while let Some(entry) = self.entries.get(at) {
            match self.name(entry).split_once('/') {
                None => at += 1,
                Some((folder, _)) => {
                    let prefix = format!("{folder}/");
                    at = self.behind(&prefix, at);
                    if folder != MACOS {
                        folders.push(prefix);
                    }
                }
            }
            if folders.len() > 1 {
                break;
            }
        }
        match folders.as_slice() {
            [folder] if !holds_store("") && holds_store(folder) => folder.clone(),
            _ => String::new(),
        }
    }
}

/// Name of an entry. `Entry::parse` has checked that the name is inside the directory.
fn name_in<'a>(directory: &'a [u8], entry: &Entry) -> &'a [u8] {
    let start = entry.name.0 as usize;
    directory.get(start..start + usize::from(entry.name.1)).unwrap_or_default()
}

/// Nothing is unpacked, so a bad name can't overwrite a file. But an object with a bad name would look missing, and a
/// missing chunk holds the fill value.
fn check_name(name: &[u8]) -> Result<(), String> {
    let shown = || String::from_utf8_lossy(name).escape_debug().to_string();
    let bad = |what: &str| Err(format!("the name of its entry '{}' {what}", shown()));
    let Ok(text) = std::str::from_utf8(name) else { return bad("is not UTF-8") };
    if text.starts_with('/') {
        return bad("is absolute");
    }
    if text.contains('\\') {
        return bad("has a backslash; the names in a zip archive have slashes between their parts");
    }
    if text.chars().any(|c| c.is_ascii_control()) {
        return bad("has a control character");
    }
    let parts = text.strip_suffix('/').unwrap_or(text);
    match parts.split('/').find(|part| matches!(*part, "" | "." | "..")) {
        Some("") => bad("has an empty part"),
        Some(part) => bad(&format!("has the part '{part}'")),
        None => Ok(()),
    }
}

/// Finds the end of each entry. Fails if entries overlap or reach into the directory: such archives claim far more
/// bytes than they have.
fn check_places(directory: &[u8], entries: &mut [Entry], end: u64) -> Result<(), String> {
    let shown = |entry: &Entry| String::from_utf8_lossy(name_in(directory, entry)).into_owned();
    let mut order: Vec<u32> = Vec::new();
    order.try_reserve_exact(entries.len()).map_err(|e| e.to_string())?;
    order.extend((0_u32..).take(entries.len()));
    let offset = |entries: &[Entry], number: u32| entries.get(number as usize).map(|e| e.offset);
    order.sort_by_key(|&number| offset(entries, number));
    for (place, &number) in order.iter().enumerate() {
        let next = order.get(place + 1).copied();
        let limit = next.and_then(|next| offset(entries, next)).unwrap_or(end).min(end);
        let Some(entry) = entries.get_mut(number as usize) else { continue };
        entry.end = limit;
        if entry.least_end().is_some_and(|least| least <= limit) {
            continue;
        }
        let Some(entry) = entries.get(number as usize) else { continue };
        return Err(match next.and_then(|next| entries.get(next as usize)) {
            Some(next) if next.offset < end => {
                format!("its entries '{}' and '{}' overlap", shown(entry), shown(next))
            }
            _ => format!("its entry '{}' reaches beyond the archive's entries", shown(entry)),
        });
    }
    Ok(())
}
