//! Imports go one way: the modules at the top of the crate, folders and files, import each other in no circle.
//!
//! The sources are read as text. What counts is each path that starts with `crate::`, or with as many
//! `super::` as lead to the root; names that `lib.rs` re-exports count for the module that has them.
//! Unit tests and comments don't count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, mem,
    path::{Path, PathBuf},
};

/// The modules that each module imports, with the first file that does so.
type Imports = BTreeMap<String, BTreeMap<String, String>>;

#[test]
fn imports_go_one_way() {
    let imports = imports();
    // A reader of sources that finds nothing is broken.
    assert!(imports["location"].contains_key("cloud"), "{imports:#?}");

    let mut done = BTreeSet::new();
    for module in imports.keys() {
        let circle = circle(module, &imports, &mut Vec::new(), &mut done).unwrap_or_default();
        assert!(circle.is_empty(), "modules import each other in a circle:\n{}", circle.join("\n"));
    }
}

/// The imports of the first circle that is met from a module on.
fn circle<'a>(
    module: &'a str,
    imports: &'a Imports,
    path: &mut Vec<(&'a str, String)>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<String>> {
    if let Some(start) = path.iter().position(|(seen, _)| *seen == module) {
        return Some(path.drain(start..).map(|(_, import)| import).collect());
    }
    if done.contains(module) {
        return None;
    }
    for (target, file) in &imports[module] {
        path.push((module, format!("{file} imports {target}")));
        if let Some(circle) = circle(target, imports, path, done) {
            return Some(circle);
        }
        path.pop();
    }
    done.insert(module);
    None
}

#[test]
fn paths_are_found_in_sources() {
    let text = "
        use crate::{
            Error, Result as R, // crate::comment
            read::{Link, Storage}, zip::{self, names::{a, b}},
        };
        use super::near; use super::super::far::Away;
        fn f() -> crate::grid::Region { crate::json::parse(my_crate::thing()) }
        #[cfg(test)]
        mod tests { use crate::hidden; }
    ";
    let found = paths(&source(text), 2);
    let expected = ["Error", "Result", "far", "grid", "json", "read", "zip"];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

fn imports() -> Imports {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let lib = source(&fs::read_to_string(root.join("lib.rs")).unwrap());
    let modules: BTreeSet<String> = declared(&lib).collect();
    let exported = exported(&lib);
    let mut imports = Imports::new();
    for module in &modules {
        let mut files = Vec::new();
        let folder = root.join(module);
        if folder.is_dir() {
            collect(&folder, 1, &mut files);
        } else {
            files.push((root.join(format!("{module}.rs")), 1));
        }
        let imported = imports.entry(module.clone()).or_default();
        for (file, depth) in files {
            let text = source(&fs::read_to_string(&file).unwrap());
            for name in paths(&text, depth) {
                let target = exported.get(&name).cloned().unwrap_or(name);
                if target != *module && modules.contains(&target) {
                    let name = file.strip_prefix(root).unwrap().display().to_string();
                    imported.entry(target).or_insert(name);
                }
            }
        }
    }
    imports
}

/// The sources in a folder, each with the number of `super::` that lead from it to the crate's root.
/// Modules that are compiled for tests only are left out.
fn collect(folder: &Path, depth: usize, files: &mut Vec<(PathBuf, usize)>) {
    let parent = fs::read_to_string(folder.join("mod.rs")).unwrap();
    let shipped: BTreeSet<String> = declared(&source(&parent)).collect();
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        match name.as_str() {
            "mod" => files.push((path, depth)),
            name if !shipped.contains(name) => {}
            _ if path.is_dir() => collect(&path, depth + 1, files),
            _ => files.push((path, depth + 1)),
        }
    }
}

/// The text without comments and without what is compiled for tests only.
fn source(text: &str) -> String {
    let mut out = String::new();
    let mut for_tests = false;
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or_default().trim();
        if mem::replace(&mut for_tests, code == "#[cfg(test)]") {
            if code.starts_with("mod ") && code.contains('{') {
                // The tests are a file's last module.
                break;
            }
            continue;
        }
        out.push_str(code);
        out.push('\n');
    }
    out
}

/// The modules that a source declares.
fn declared(source: &str) -> impl Iterator<Item = String> {
    source.lines().filter_map(|line| {
        let line = line.trim().strip_suffix(';')?;
        let name = line
            .rsplit_once("mod ")
            .filter(|(before, _)| before.is_empty() || before.starts_with("pub"))?;
        Some(name.1.to_owned())
    })
}

/// The names that `lib.rs` re-exports, with the modules that have them.
fn exported(lib: &str) -> BTreeMap<String, String> {
    let mut exported = BTreeMap::new();
    for (start, _) in lib.match_indices("pub use crate::") {
        let rest = &lib[start + "pub use crate::".len()..];
        for item in items(rest) {
            if let Some((module, names)) = item.split_once("::") {
                for name in items(names) {
                    exported.insert(first(name).to_owned(), module.trim().to_owned());
                }
            }
        }
    }
    exported
}

/// The first names behind `crate::`, and behind as many `super::` as lead to the root.
fn paths(source: &str, depth: usize) -> BTreeSet<String> {
    let supers = "super::".repeat(depth);
    let mut found = BTreeSet::new();
    for prefix in ["crate::", supers.as_str()] {
        for (start, _) in source.match_indices(prefix) {
            let before = source[..start].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || "_:$".contains(c)) {
                continue;
            }
            let names = items(&source[start + prefix.len()..]).into_iter().map(first);
            found.extend(
                names.filter(|name| !name.is_empty() && *name != "super").map(str::to_owned),
            );
        }
    }
    found
}

/// What stands in the braces at the start of a text, taken apart at its commas; or else the path there.
fn items(text: &str) -> Vec<&str> {
    let text = text.trim_start();
    let Some(text) = text.strip_prefix('{') else {
        return vec![text.split(';').next().unwrap_or_default()];
    };
    let (mut items, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                items.push(text[start..at].trim());
                start = at + 1;
            }
            '}' if depth == 0 => {
                items.push(text[start..at].trim());
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    items
}

/// The name at the start of a path.
fn first(path: &str) -> &str {
    let path = path.trim();
    &path[..path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len())]
}
