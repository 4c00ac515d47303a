//! What a process's environment says of credentials.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    hash::Hash,
    path::{Path, PathBuf},
};

/// Where credentials are looked for: variables, a home directory, and what the machine says it is.
#[derive(Clone, Default)]
pub struct Environment {
    /// The environment's variables.
    pub vars: BTreeMap<String, String>,
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// The directory in which the firmware's texts are found: on Linux `/sys/class/dmi/id`.
    pub firmware: Option<PathBuf>,
}

impl Environment {
    /// That of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let vars = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        Self {
            vars: vars.collect(),
            home: std::env::home_dir().filter(|home| !home.as_os_str().is_empty()),
            firmware: Some(PathBuf::from("/sys/class/dmi/id")),
        }
    }

    /// A variable that is set, and not to nothing.
    pub(super) fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// What the variables say that are set, and not to nothing, of those that are a client's keys.
    pub(super) fn config<K: Eq + Hash>(
        &self,
        key: impl Fn(&str) -> Option<K>,
    ) -> HashMap<K, String> {
        let set = self.vars.iter().filter(|(_, value)| !value.is_empty());
        set.filter_map(|(name, value)| Some((key(name)?, value.clone()))).collect()
    }

    /// A path, in which `~` is the home directory.
    pub(super) fn path(&self, path: &str) -> Option<PathBuf> {
        match path.strip_prefix("~/") {
            Some(below) => Some(self.home.as_ref()?.join(below)),
            None => Some(PathBuf::from(path)),
        }
    }

    /// Whether one of the firmware's texts is such that the machine is a cloud's.
    pub(super) fn machine(&self, texts: &[&str], is_cloud: impl Fn(&str) -> bool) -> bool {
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
