//! Environment of a process: the one file that reads it.

use std::{
    collections::{BTreeMap, HashMap},
    env,
    ffi::OsString,
    fmt, fs,
    hash::Hash,
    path::{Path, PathBuf},
};

/// Environment variables, home directory and firmware texts, in which settings and credentials are found.
#[derive(Clone, Default)]
pub struct Environment {
    /// The variables.
    pub vars: BTreeMap<String, String>,
    /// The variables whose values aren't Unicode, such as paths in old encodings.
    pub other_vars: BTreeMap<String, OsString>,
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// The directory in which the firmware's texts are found: on Linux `/sys/class/dmi/id`.
    pub firmware: Option<PathBuf>,
    /// The directory for temporary files.
    pub temporary: Option<PathBuf>,
}

impl Environment {
    /// Environment of this process, as it is now.
    #[must_use]
    pub fn of_process() -> Self {
        let mut environment = Self {
            home: env::home_dir().filter(|home| !home.as_os_str().is_empty()),
            firmware: Some(PathBuf::from("/sys/class/dmi/id")),
            temporary: Some(env::temp_dir()),
            ..Self::default()
        };
        for (name, value) in env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(text) => drop(environment.vars.insert(name, text)),
                Err(value) => drop(environment.other_vars.insert(name, value)),
            }
        }
        environment
    }

    /// Value of a variable, unless it is unset or empty.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The same, whether or not the value is Unicode.
    #[must_use]
    pub fn var_os(&self, name: &str) -> Option<OsString> {
        let other = || self.other_vars.get(name).filter(|value| !value.is_empty()).cloned();
        self.var(name).map(OsString::from).or_else(other)
    }

    /// Directory for files that needn't outlive the user's login: `XDG_RUNTIME_DIR`, or that for temporary files.
    pub(crate) fn runtime_directory(&self) -> Option<PathBuf> {
        let named = self.var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        named.filter(|path| path.is_absolute()).or_else(|| self.temporary.clone())
    }

    /// Values of the variables that are a client's keys, but for empty ones.
    pub(crate) fn config<K: Eq + Hash>(
        &self,
        key: impl Fn(&str) -> Option<K>,
    ) -> HashMap<K, String> {
        let set = self.vars.iter().filter(|(_, value)| !value.is_empty());
        set.filter_map(|(name, value)| Some((key(name)?, value.clone()))).collect()
    }

    /// Path with the home directory for `~`.
    pub(crate) fn path(&self, path: &str) -> Option<PathBuf> {
        match path.strip_prefix("~/") {
            Some(below) => Some(self.home.as_ref()?.join(below)),
            None => Some(PathBuf::from(path)),
        }
    }

    /// Whether a firmware text tells that this is a cloud's machine.
    pub(crate) fn machine(&self, texts: &[&str], is_cloud: impl Fn(&str) -> bool) -> bool {
        let read = |name| fs::read_to_string(self.firmware.as_deref()?.join(Path::new(name))).ok();
        texts.iter().any(|name| read(name).is_some_and(|text| is_cloud(text.trim())))
    }
}

impl fmt::Debug for Environment {
    /// Without values: some are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("home", &self.home).finish_non_exhaustive()
    }
}
