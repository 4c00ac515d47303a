//! Lists objects below a prefix, in the order of their keys and page by page.

use std::{fs, io};

use crate::files::{About, Files, is_none};

/// A request for a list.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Prefix of the keys; it may end within a name.
    pub(crate) prefix: String,
    /// Keys must be greater than this.
    pub(crate) after: String,
    /// Whether keys with a slash after the prefix are listed as their shared prefix up to the slash.
    pub(crate) shallow: bool,
    /// Upper bound on keys and shared prefixes per page.
    pub(crate) most: usize,
}

/// A page of a list.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) objects: Vec<(String, About)>,
    /// Each ends with a slash. Every directory is assumed to contain objects.
    pub(crate) prefixes: Vec<String>,
    /// Last key or prefix of the page, if there are more pages.
    pub(crate) next: Option<String>,
    last: String,
}

/// Lists a page. Reads only the directories on the page, but each of them whole, for every page.
pub(crate) fn list(files: &Files, wanted: &Wanted) -> io::Result<Page> {
    let mut page = Page::default();
    let directory = wanted.prefix.rfind('/').map_or("", |slash| &wanted.prefix[..=slash]);
    if wanted.most > 0 {
        visit(files, wanted, directory, &mut page)?;
    }
    Ok(page)
}

/// Adds the contents of a directory, whose key is empty or ends with a slash; `false` if the page is full.
fn visit(files: &Files, wanted: &Wanted, directory: &str, page: &mut Page) -> io::Result<bool> {
    let path = match directory.strip_suffix('/') {
        None => Some(files.root().to_owned()),
        Some(key) => files.path(key),
    };
    let entries = match path.map(fs::read_dir) {
        Some(Ok(entries)) => entries,
        Some(Err(e)) if !is_none(&e) => return Err(e),
        _ => return Ok(true),
    };
    let mut keys = Vec::new();
    for entry in entries {
        let entry = entry?;
        let mut kind = entry.file_type()?;
        if kind.is_symlink() {
            let Ok(target) = fs::metadata(entry.path()) else { continue };
            kind = target.file_type();
        }
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        // The slash sorts a directory like the keys inside it.
        let slash = if kind.is_dir() { "/" } else { "" };
        let key = format!("{directory}{name}{slash}");
        let inside = kind.is_dir()
            && wanted.after.starts_with(&key)
            && !(wanted.shallow && wanted.after == key);
        if key.starts_with(&wanted.prefix) && (key > wanted.after || inside) {
            keys.push(key);
        }
    }
    keys.sort_unstable();
    for key in keys {
        let is_directory = key.ends_with('/');
        if is_directory && !wanted.shallow {
            if !visit(files, wanted, &key, page)? {
                return Ok(false);
            }
            continue;
        }
        if page.objects.len() + page.prefixes.len() == wanted.most {
            page.next = Some(std::mem::take(&mut page.last));
            return Ok(false);
        }
        page.last.clone_from(&key);
        if is_directory {
            page.prefixes.push(key);
        } else if let Some(Ok(metadata)) = files.path(&key).map(fs::metadata) {
            page.objects.push((key, About::new(&metadata)?));
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All pages of a list, each of up to `most` entries.
    fn pages(files: &Files, prefix: &str, shallow: bool, most: usize) -> Vec<Vec<String>> {
        let mut wanted = Wanted { prefix: prefix.to_owned(), after: String::new(), shallow, most };
        let mut pages = Vec::new();
        loop {
            let page = list(files, &wanted).unwrap();
            let keys = page.objects.into_iter().map(|(key, _)| key);
            let mut all: Vec<_> = keys.chain(page.prefixes).collect();
            all.sort();
            pages.push(all);
            match page.next {
                Some(next) => wanted.after = next,
                None => return pages,
            }
        }
    }

    #[test]
    fn keys_are_listed_in_order_and_by_page() {
        let directory = tempfile::tempdir().unwrap();
        // `a.x` sorts before the contents of `a`, `a0` after them.
        let keys = ["a.x", "a/b/1", "a/b/2", "a/c", "a0", "é/x", "é/y z"];
        for key in keys {
            let path = directory.path().join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, key).unwrap();
        }
        let files = Files::new(directory.path().to_owned());

        for most in 1..9 {
            let deep = pages(&files, "", false, most);
            assert_eq!(deep.concat(), keys, "{most}");
            assert_eq!(deep.len(), keys.len().div_ceil(most));
            let shallow = pages(&files, "", true, most);
            assert_eq!(shallow.concat(), ["a.x", "a/", "a0", "é/"], "{most}");
            assert_eq!(shallow.len(), 4_usize.div_ceil(most));
        }
        for (prefix, shallow, expected) in [
            ("a", true, &["a.x", "a/", "a0"][..]),
            ("a", false, &["a.x", "a/b/1", "a/b/2", "a/c", "a0"]),
            ("a/", true, &["a/b/", "a/c"]),
            ("a/b", true, &["a/b/"]),
            ("a/b", false, &["a/b/1", "a/b/2"]),
            ("a/b/1", true, &["a/b/1"]),
            ("é/", true, &["é/x", "é/y z"]),
            ("a/c/", true, &[]),
            ("none/", false, &[]),
            ("a/../", true, &[]),
            ("/", true, &[]),
        ] {
            assert_eq!(pages(&files, prefix, shallow, 1000).concat(), expected, "{prefix}");
        }
    }

    #[test]
    fn lists_start_after_any_key() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("a")).unwrap();
        for key in ["a/1", "a/2", "b"] {
            fs::write(directory.path().join(key), key).unwrap();
        }
        let files = Files::new(directory.path().to_owned());
        for (after, deep, shallow) in
            [("a", 3, 1), ("a/", 3, 0), ("a/1", 2, 1), ("a/15", 2, 1), ("a/9", 1, 1), ("b", 0, 0)]
        {
            let list = |shallow| {
                let (prefix, after) = (String::new(), after.to_owned());
                list(&files, &Wanted { prefix, after, shallow, most: 9 }).unwrap()
            };
            assert_eq!(list(false).objects.len(), deep, "{after}");
            assert_eq!(list(true).prefixes.len(), shallow, "{after}");
        }
    }
}
