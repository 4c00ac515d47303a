//! Choice of the cache, and its environment variables.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use crate::{Error, Result, cache::DiskCache, environment::Environment};

/// How many bytes the cache may take. Without it, or with 0, there is none.
const BYTES: &str = "LSIO_CACHE_BYTES";

/// Where the cache is, if not in the default place.
const DIRECTORY: &str = "LSIO_CACHE_DIR";

/// Choice of the cache.
#[derive(Debug)]
pub(crate) enum CacheChoice {
    /// This cache, or none.
    Given(Option<Arc<DiskCache>>),
    /// The cache of the environment variables, opened at its first use: invalid variables are errors only
    /// where a cache is needed.
    Environment(OnceLock<Option<Arc<DiskCache>>>),
}

impl CacheChoice {
    /// Choice by environment variables.
    pub(crate) fn of_environment() -> Self {
        Self::Environment(OnceLock::new())
    }

    /// The cache.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for an invalid size, and [`Error::Cache`] without a directory.
    pub(crate) fn get(&self, environment: &Environment) -> Result<Option<Arc<DiskCache>>> {
        let opened = match self {
            Self::Given(cache) => return Ok(cache.clone()),
            Self::Environment(opened) => opened,
        };
        if let Some(cache) = opened.get() {
            return Ok(cache.clone());
        }
        let cache = match limit(environment.var_os(BYTES))? {
            Some(max_bytes) => Some(DiskCache::open(directory(environment)?, max_bytes)?),
            None => None,
        };
        // Somebody else may have been faster: all share one.
        Ok(opened.get_or_init(|| cache).clone())
    }

    /// Directory of the cache, whether or not there is one.
    ///
    /// # Errors
    /// [`Error::Cache`] without a home directory and `LSIO_CACHE_DIR`.
    pub(crate) fn directory(&self, environment: &Environment) -> Result<PathBuf> {
        match self {
            Self::Given(Some(cache)) => Ok(cache.directory().to_owned()),
            _ => directory(environment),
        }
    }
}

fn directory(environment: &Environment) -> Result<PathBuf> {
    let named = environment.var_os(DIRECTORY).map(PathBuf::from);
    let default =
        || default_directory(environment.var_os("XDG_CACHE_HOME"), environment.home.as_deref());
    named.or_else(default).ok_or_else(|| Error::Cache {
        directory: "~/.cache/lsio".to_owned(),
        reason: format!("there is no home directory; set {DIRECTORY}"),
    })
}

/// A number of bytes with an optional unit of powers of 1024: `2g`, `500 MiB`, `1048576`. `None` if the
/// text is none, or the number doesn't fit.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let (digits, unit) =
        lower.split_at(lower.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(lower.len()));
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn limit(bytes: Option<OsString>) -> Result<Option<u64>> {
    let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
    let text = bytes.to_string_lossy();
    let expected = "a number of bytes such as 20g or 500m, or 0 for no cache";
    let invalid = || Error::InvalidOption { key: BYTES, value: text.to_string(), expected };
    Ok(Some(parse_size(&text).ok_or_else(invalid)?).filter(|&bytes| bytes > 0))
}

/// `$XDG_CACHE_HOME/lsio` or `~/.cache/lsio`; `None` if there is no home directory.
fn default_directory(xdg: Option<OsString>, home: Option<&Path>) -> Option<PathBuf> {
    // The XDG specification has relative paths ignored.
    let xdg = xdg.map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || Some(home.filter(|home| home.is_absolute())?.join(".cache"));
    Some(xdg.or_else(home)?.join("lsio"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("2g"), Some(2 << 30));
        assert_eq!(parse_size(" 500 MiB"), Some(500 << 20));
        assert_eq!(parse_size("1048576"), Some(1 << 20));
        assert_eq!(parse_size("0"), Some(0));
        for text in ["", "g", "-1g", "1.5g", "9999999999t", "2 gg", "2g4", "2é"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn the_environment_says_how_large_and_where() {
        let said = |text: &str| limit(Some(text.into()));
        assert_eq!(limit(None).unwrap(), None);
        assert_eq!(said("").unwrap(), None);
        assert_eq!(said("0").unwrap(), None);
        assert_eq!(said("20g").unwrap(), Some(20 << 30));
        let error = said("much").unwrap_err().to_string();
        assert!(error.contains("LSIO_CACHE_BYTES") && error.contains("'much'"), "{error}");

        let directory = |xdg: Option<&str>, home: Option<&str>| {
            default_directory(xdg.map(OsString::from), home.map(Path::new))
        };
        assert_eq!(directory(Some("/x"), Some("/h")), Some("/x/lsio".into()));
        assert_eq!(directory(Some("x"), Some("/h")), Some("/h/.cache/lsio".into()));
        assert_eq!(directory(None, Some("/h")), Some("/h/.cache/lsio".into()));
        assert_eq!(directory(Some(""), None), None);
    }
}
