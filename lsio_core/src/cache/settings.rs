//! What the environment says about the cache.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{Error, Result, cache::DiskCache};

/// How many bytes the cache may take. Without it, or with 0, there is none.
const BYTES: &str = "LSIO_CACHE_BYTES";

/// Where the cache is, if not in the default place.
const DIRECTORY: &str = "LSIO_CACHE_DIR";

impl DiskCache {
    /// The cache that the environment asks for: `LSIO_CACHE_BYTES` says how large it may get, such as
    /// `20g`, and `LSIO_CACHE_DIR` where it is, if not in [`DiskCache::default_directory`]. `None` if
    /// the size is not set or 0. All who ask in a process get the same.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if the size is none, and [`Error::Cache`] if there is no place for it.
    pub fn from_environment() -> Result<Option<Arc<Self>>> {
        static OPEN: Mutex<BTreeMap<PathBuf, Arc<DiskCache>>> = Mutex::new(BTreeMap::new());

        let Some(max_bytes) = limit(std::env::var_os(BYTES))? else { return Ok(None) };
        let directory = Self::directory_from_environment()?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cache) = open.get(&directory) {
            return Ok(Some(Arc::clone(cache)));
        }
        let cache = Self::open(&directory, max_bytes)?;
        open.insert(directory, Arc::clone(&cache));
        Ok(Some(cache))
    }

    /// Where the cache is, or would be if it were switched on: `LSIO_CACHE_DIR` or
    /// [`DiskCache::default_directory`].
    ///
    /// # Errors
    /// [`Error::Cache`] if there is neither.
    pub fn directory_from_environment() -> Result<PathBuf> {
        let named = std::env::var_os(DIRECTORY).filter(|name| !name.is_empty());
        named.map(PathBuf::from).or_else(Self::default_directory).ok_or_else(|| Error::Cache {
            directory: "~/.cache/lsio".to_owned(),
            reason: format!("there is no home directory; set {DIRECTORY}"),
        })
    }

    /// `$XDG_CACHE_HOME/lsio` or `~/.cache/lsio`; `None` if there is no home directory.
    #[must_use]
    pub fn default_directory() -> Option<PathBuf> {
        default_directory(std::env::var_os("XDG_CACHE_HOME"), std::env::home_dir())
    }
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

fn default_directory(xdg: Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
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
            default_directory(xdg.map(OsString::from), home.map(PathBuf::from))
        };
        assert_eq!(directory(Some("/x"), Some("/h")), Some("/x/lsio".into()));
        assert_eq!(directory(Some("x"), Some("/h")), Some("/h/.cache/lsio".into()));
        assert_eq!(directory(None, Some("/h")), Some("/h/.cache/lsio".into()));
        assert_eq!(directory(Some(""), None), None);
    }
}
