//! The profiles in `~/.aws/config` and `~/.aws/credentials`.

use std::{collections::BTreeMap, fs};

use crate::environment::Environment;

/// The settings of one section.
pub(super) type Section = BTreeMap<String, String>;

/// What the two files say.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    config: BTreeMap<String, Section>,
    credentials: BTreeMap<String, Section>,
    /// The files, as messages name them.
    pub(super) files: String,
}

impl Profiles {
    /// Reads the files that the environment names, or those that they usually are.
    pub(super) fn read(environment: &Environment) -> Self {
        let file = |variable, usual| environment.var(variable).unwrap_or(usual).to_owned();
        let config = file("AWS_CONFIG_FILE", "~/.aws/config");
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials");
        let sections = |file: &str| {
            let text = environment.path(file).and_then(|path| fs::read_to_string(path).ok());
            parse(&text.unwrap_or_default())
        };
        Self {
            config: sections(&config),
            credentials: sections(&credentials),
            files: format!("{credentials} and {config}"),
        }
    }

    /// A profile's settings. Where both files have one, that for credentials counts.
    pub(super) fn profile(&self, name: &str) -> Option<Section> {
        let in_config = match name {
            "default" => self.config.get("default").or_else(|| self.config.get("profile default")),
            name => self.config.get(&format!("profile {name}")),
        };
        let in_credentials = self.credentials.get(name);
        if in_config.is_none() && in_credentials.is_none() {
            return None;
        }
        let settings = [in_config, in_credentials].into_iter().flatten().flatten();
        Some(settings.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// The settings of a login that several profiles share.
    pub(super) fn sso_session(&self, name: &str) -> Option<&Section> {
        self.config.get(&format!("sso-session {name}"))
    }

    /// The names of all profiles.
    pub(super) fn names(&self) -> Vec<&str> {
        let config = self.config.keys().filter_map(|name| match name.strip_prefix("profile ") {
            None if name == "default" => Some("default"),
            name => name,
        });
        let mut names: Vec<_> = config.chain(self.credentials.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// The sections of a file of `key = value`. What is indented belongs to the settings of single services,
/// which have no say here.
fn parse(text: &str) -> BTreeMap<String, Section> {
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    let mut section = None;
    for line in text.lines() {
        if let Some(name) = line.trim().strip_prefix('[') {
            let name = name.split(']').next().unwrap_or_default();
            let words: Vec<_> = name.split_whitespace().collect();
            let name = words.join(" ").replace(['"', '\''], "");
            section = Some(sections.entry(name).or_default());
            continue;
        }
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        if let (Some(settings), Some((key, value))) = (&mut section, line.split_once('=')) {
            // A comment has a space before it: keys may hold the character.
            let value = [" #", " ;", "\t#", "\t;"]
                .iter()
                .fold(value, |value, start| value.split(start).next().unwrap_or_default());
            settings.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_aws_reads_them() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().to_path_buf();
        fs::create_dir(home.join(".aws")).unwrap();
        fs::write(
            home.join(".aws/config"),
            "# comment\nstray = 1\n[default]\nregion=eu-west-1\r\n[profile  dev]\nRegion = us-west-2 # here\n\
             s3 =\n  addressing_style = path\n  region = nested\n[sso-session corp]\nsso_region = x\n[profile \"q\"]\n\
             a = b = c\n[open\nregion = z",
        )
        .unwrap();
        fs::write(
            home.join(".aws/credentials"),
            "[dev]\naws_secret_access_key = a#b;c\nregion = ca-central-1\n[other]\n",
        )
        .unwrap();
        let environment = Environment { home: Some(home.clone()), ..Environment::default() };
        let profiles = Profiles::read(&environment);
        assert_eq!(profiles.profile("default").unwrap()["region"], "eu-west-1");
        let dev = profiles.profile("dev").unwrap();
        assert_eq!(dev["region"], "ca-central-1");
        assert_eq!(dev["aws_secret_access_key"], "a#b;c");
        assert_eq!(dev["s3"], "");
        assert_eq!(profiles.profile("q").unwrap()["a"], "b = c");
        assert!(
            profiles.profile("none").is_none() && profiles.profile("other").unwrap().is_empty()
        );
        assert_eq!(profiles.sso_session("corp").unwrap()["sso_region"], "x");
        assert_eq!(profiles.names(), ["default", "dev", "other", "q"]);

        let moved = home.join("moved");
        fs::write(&moved, "[default]\nregion = moved").unwrap();
        let vars = [("AWS_CONFIG_FILE".to_owned(), moved.to_str().unwrap().to_owned())].into();
        let profiles = Profiles::read(&Environment { vars, ..environment });
        assert_eq!(profiles.profile("default").unwrap()["region"], "moved");
        assert!(profiles.files.ends_with("moved"), "{}", profiles.files);
    }
}
