//! Where a dataset lies: the one place that turns a path or URL into an object store and a path in it.

use std::{fmt, path::PathBuf, sync::Arc};

use object_store::{ObjectStore, path::Path};
use url::Url;

use crate::{
    Error, Limits, Result,
    uring::{self, Engine},
};

/// A place in an object store, with the name by which the user knows it.
#[derive(Clone)]
pub struct Location {
    store: Arc<dyn ObjectStore>,
    path: Path,
    name: String,
    /// The root of the local file system that the store reads, if it reads one.
    root: Option<PathBuf>,
    /// What the store there may take.
    limits: Limits,
}

impl Location {
    /// A place in `store`, called `name` in messages.
    pub fn new(store: Arc<dyn ObjectStore>, path: Path, name: impl Into<String>) -> Self {
        Self { store, path, name: name.into(), root: None, limits: Limits::default() }
    }

    /// The same place, where a store may take so much.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// What a store there may take.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Resolves a local path or a `file://` URL, which is read with the engine that the environment
    /// names ([`Engine::from_environment`]).
    ///
    /// # Errors
    /// Those of [`Location::parse_with`], and if the environment names no engine.
    pub fn parse(location: &str) -> Result<Self> {
        let engine = Engine::from_environment().map_err(|e| Error::Location {
            location: location.to_owned(),
            reason: e.to_string(),
        })?;
        Self::parse_with(location, engine)
    }

    /// Resolves a local path or a `file://` URL, which is read with `engine`.
    ///
    /// # Errors
    /// [`Error::Location`] for any other URL, whose object store has to be given to
    /// [`Location::new`], and if the engine doesn't work here.
    pub fn parse_with(location: &str, engine: Engine) -> Result<Self> {
        let invalid = |reason: String| Error::Location { location: location.to_owned(), reason };
        let file = match scheme(location) {
            None => PathBuf::from(location),
            Some("file") => Url::parse(location)
                .map_err(|e| invalid(e.to_string()))?
                .to_file_path()
                .map_err(|()| invalid("the URL names no local file".to_owned()))?,
            Some(scheme) => {
                return Err(invalid(format!(
                    "no object store is registered for {scheme}:// URLs; register one with the session, or use a local path"
                )));
            }
        };
        let absolute = std::path::absolute(&file).map_err(|e| invalid(e.to_string()))?;
        let mut normal = PathBuf::new();
        for part in absolute.components() {
            match part {
                std::path::Component::ParentDir => {
                    normal.pop();
                }
                std::path::Component::CurDir => {}
                part => normal.push(part),
            }
        }
        let text = normal.to_str().ok_or_else(|| invalid("the path is not UTF-8".to_owned()))?;
        let path = Path::parse(text).map_err(|e| invalid(e.to_string()))?;
        let store = uring::store(engine).map_err(|e| invalid(e.to_string()))?;
        Ok(Self { root: Some(PathBuf::from("/")), ..Self::new(store, path, location) })
    }

    /// The object store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The path within the object store.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name by which the user knows the place.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path in the local file system, if the place is there.
    #[must_use]
    pub fn local_path(&self) -> Option<PathBuf> {
        Some(self.root.as_ref()?.join(self.path.as_ref()))
    }

    /// A place below this one. Names are taken as they are, without percent-encoding.
    ///
    /// # Errors
    /// [`Error::Location`] if `relative` has empty parts or parts such as `..`.
    pub fn child(&self, relative: &str) -> Result<Self> {
        let path = join(&self.path, relative).map_err(|reason| Error::Location {
            location: format!("{}/{relative}", self.name),
            reason,
        })?;
        let name = format!("{}/{relative}", self.name.trim_end_matches('/'));
        Ok(Self { path, name, ..self.clone() })
    }

    /// The directory above, or `None` at the root of the object store.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let path = self.path.parent()?;
        let name = match self.name.trim_end_matches('/').rsplit_once('/') {
            Some((parent, _)) => parent.to_owned(),
            None => format!("{}/..", self.name),
        };
        Some(Self { path, name, ..self.clone() })
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({} in {})", self.path, self.store)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Appends `relative` to `path` without percent-encoding it, so that names such as `100%` or
/// `température` are found as they are spelled.
pub(crate) fn join(path: &Path, relative: &str) -> Result<Path, String> {
    if relative.is_empty() {
        return Ok(path.clone());
    }
    Path::parse(format!("{path}/{relative}")).map_err(|e| e.to_string())
}

/// Checks the path of an array or group inside a store, which somebody else has written: it must lead
/// down, by names that can be files'.
pub(crate) fn check_node_path(path: &str) -> Result<(), &'static str> {
    path.split('/').try_for_each(|name| match name {
        "" => Err("a part of it is empty"),
        "." | ".." => Err("it leads elsewhere"),
        name if name.contains('\\') => {
            Err("it has a backslash, which some systems take for a slash")
        }
        name if name.contains(|c: char| c.is_ascii_control()) => Err("it has a control character"),
        _ => Ok(()),
    })
}

/// The scheme of a URL, or `None` for a plain path. One letter is a Windows drive, not a scheme.
pub fn scheme(location: &str) -> Option<&str> {
    let (scheme, _) = location.split_once("://")?;
    let mut chars = scheme.chars();
    let valid = chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    (valid && scheme.len() > 1).then_some(scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_nodes_lead_down() {
        for good in ["v", "a/b c/é", "...", "..a", "a%2F", "C:", "~", "*"] {
            assert_eq!(check_node_path(good), Ok(()), "{good}");
        }
        let bad =
            ["", ".", "..", "a/../b", "/a", "a/", "a//b", "./a", "a\\b", "a\0", "a\nb", "\x7f"];
        for bad in bad {
            assert!(check_node_path(bad).is_err(), "{bad}");
        }
    }
}
