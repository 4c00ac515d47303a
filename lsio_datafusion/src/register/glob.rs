//! Patterns that match several Zarr stores, which aren't read as one table.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lsio_core::scheme;

/// Upper bound on the matches searched for.
const MOST: usize = 1_000;

/// Matches that a message names.
const NAMED: usize = 3;

/// Message for a pattern of stores: what to write instead. `None` if the name is no pattern, or one of files
/// that other formats read.
pub(super) fn pattern_of_stores(name: &str, is_named_zarr: bool) -> Option<String> {
    let (path, options) = match name.split_once("?") {
        Some((path, options)) if options.contains('=') => (path, format!("?{options}")),
        Some((path, "")) if Path::new(path).exists() => (path, String::new()),
        _ => (name, String::new()),
    };
    let is_remote = scheme(path).is_some();
    if !path.contains(['*', '[', '?']) || Path::new(path).exists() {
        return None;
    }
    if is_remote {
        return is_named_zarr.then(|| {
            format!("'{name}' is a pattern, and several Zarr stores are no table: name them, with UNION ALL between them: SELECT * FROM 'a.zarr' UNION ALL SELECT * FROM 'b.zarr'")
        });
    }
    let found = matches(path);
    let mut stores: Vec<&str> =
        found.iter().filter(|path| is_store(path)).filter_map(|path| path.to_str()).collect();
    stores.sort_unstable();
    if stores.is_empty() {
        // Files that exist may be of another format.
        return (is_named_zarr && found.is_empty())
            .then(|| format!("'{name}' matches nothing that exists"));
    }
    let tables: Vec<String> = stores
        .iter()
        .take(NAMED)
        .map(|store| format!("SELECT * FROM '{}{options}'", store.replace('\'', "''")))
        .collect();
    let more = if stores.len() > NAMED { " …" } else { "" };
    Some(match tables.as_slice() {
        [only] => format!("'{name}' is a pattern, which Zarr stores aren't found by: write {only}"),
        several => format!(
            "'{name}' matches {} Zarr stores, and several stores are no table: write {}{more}",
            stores.len(),
            several.join(" UNION ALL ")
        ),
    })
}

/// Whether a path is a store.
pub(super) fn is_store(path: &Path) -> bool {
    let holds = |name: &str| path.join(name).is_file();
    let named = path.to_str().is_some_and(|path| path.to_ascii_lowercase().ends_with(".zarr.zip"));
    named || ["zarr.json", ".zgroup", ".zarray", ".zmetadata"].iter().any(|name| holds(name))
}

/// Paths that a pattern matches, name by name: `*` doesn't match a slash.
fn matches(pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from(if pattern.starts_with('/') { "/" } else { "" })];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for directory in found {
            if !part.contains(['*', '[', '?']) {
                let path = directory.join(part);
                if path.exists() {
                    next.push(path);
                }
                continue;
            }
            let place = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
            for entry in fs::read_dir(place).into_iter().flatten().flatten() {
                let name = entry.file_name();
                if next.len() < MOST && name.to_str().is_some_and(|name| matches_name(part, name)) {
                    next.push(directory.join(name));
                }
            }
        }
        found = next;
    }
    found
}

/// Whether a name matches a pattern: `*` is any characters, `?` is one, `[…]` one of a set.
fn matches_name(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    // Positions in the pattern that the characters so far reach.
    let mut places = vec![false; pattern.len() + 1];
    places[0] = true;
    let skip_stars = |places: &mut Vec<bool>| {
        for (at, c) in pattern.iter().enumerate() {
            if places[at] && *c == '*' {
                places[at + 1] = true;
            }
        }
    };
    skip_stars(&mut places);
    for c in name {
        let mut next = vec![false; pattern.len() + 1];
        for at in (0..pattern.len()).filter(|at| places[*at]) {
            match pattern[at] {
                '*' => next[at] = true,
                '?' => next[at + 1] = true,
                '[' => {
                    if let Some(length) = pattern[at..].iter().position(|c| *c == ']')
                        && in_set(&pattern[at + 1..at + length], c)
                    {
                        next[at + length + 1] = true;
                    }
                }
                expected => next[at + 1] |= expected == c,
            }
        }
        places = next;
        skip_stars(&mut places);
    }
    places[pattern.len()]
}

/// Whether a set, such as `abc`, `0-9` or `!abc`, contains a character.
fn in_set(set: &[char], c: char) -> bool {
    let (set, negated) = match set {
        ['!' | '^', rest @ ..] => (rest, true),
        set => (set, false),
    };
    let single = set.contains(&c);
    let range = set.windows(3).any(|w| w[1] == '-' && (w[0]..=w[2]).contains(&c));
    (single || range) != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*.zarr", "a.zarr", true),
            ("*.zarr", "a.zarr.zip", false),
            ("*", "", true),
            ("a*b*c", "a--b--c", true),
            ("a*b*c", "a--c--b", false),
            ("era5_20[12]?.zarr", "era5_2019.zarr", true),
            ("[0-9]*", "7.zarr", true),
            ("[!0-9]*", "7.zarr", false),
            ("[", "[", false),
        ] {
            assert_eq!(matches_name(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn stores_are_told_from_files() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path();
        for store in ["a.zarr", "b.zarr"] {
            fs::create_dir(base.join(store)).unwrap();
            fs::write(base.join(store).join(".zgroup"), "{}").unwrap();
        }
        fs::write(base.join("c.csv"), "x\n").unwrap();
        let said = |pattern: &str| {
            pattern_of_stores(&format!("{}/{pattern}", base.display()), pattern.contains(".zarr"))
        };
        let text = said("*.zarr").unwrap();
        assert!(text.contains("2 Zarr stores") && text.contains("b.zarr'"), "{text}");
        assert!(text.contains(" UNION ALL SELECT * FROM '"), "{text}");
        let text = said("[a]*.zarr?dims=x").unwrap();
        assert!(text.contains("a.zarr?dims=x'"), "{text}");
        assert!(said("c*.zarr").unwrap().contains("matches nothing"));
        assert_eq!(said("*.csv"), None);
        assert_eq!(said("a.zarr"), None);
    }
}
