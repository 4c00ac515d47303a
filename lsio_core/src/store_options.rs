//! The options of stores: `aws.…`, `gcp.…`, `azure.…` and `http.…`.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
};

use object_store::{
    ClientConfigKey, aws::AmazonS3ConfigKey, azure::AzureConfigKey, gcp::GoogleConfigKey,
};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Options of object stores, as they were given: what they say of credentials, regions and endpoints.
///
/// The wire form leaves out what may be secret: whoever reads it has credentials of their own.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "BTreeMap<String, String>", try_from = "BTreeMap<String, String>")]
pub struct StoreOptions(BTreeMap<String, String>);

/// Those that messages list: what readers need. What else object_store's clients know is taken too.
const AWS: &[&str] = &[
    "aws.access_key_id",
    "aws.secret_access_key",
    "aws.session_token",
    "aws.profile",
    "aws.region",
    "aws.endpoint",
    "aws.allow_http",
    "aws.skip_signature",
    "aws.request_payer",
    "aws.virtual_hosted_style_request",
    "aws.s3_express",
    "aws.role_arn",
    "aws.web_identity_token_file",
];
const GCP: &[&str] = &[
    "gcp.service_account_path",
    "gcp.service_account_key",
    "gcp.application_credentials_path",
    "gcp.base_url",
    "gcp.skip_signature",
];
const AZURE: &[&str] = &[
    "azure.account_name",
    "azure.account_key",
    "azure.sas_token",
    "azure.bearer_token",
    "azure.client_id",
    "azure.client_secret",
    "azure.tenant_id",
    "azure.federated_token_file",
    "azure.use_azure_cli",
    "azure.use_emulator",
    "azure.endpoint",
    "azure.allow_http",
    "azure.skip_signature",
];
const HTTP: &[&str] = &[
    "http.allow_http",
    "http.allow_invalid_certificates",
    "http.connect_timeout",
    "http.http2_only",
    "http.pool_idle_timeout",
    "http.proxy_url",
    "http.proxy_ca_certificate",
    "http.proxy_excludes",
    "http.user_agent",
];

impl StoreOptions {
    /// Whether no option was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key is one of a store's, known or not.
    pub(crate) fn has_prefix(key: &str) -> bool {
        known(key).is_some()
    }

    /// Sets an option.
    ///
    /// # Errors
    /// [`Error::UnknownOption`].
    pub(crate) fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let key = key.to_ascii_lowercase();
        let valid = match key.split_once('.') {
            Some(("aws", name)) => {
                name == PROFILE || aws(name).is_some_and(|key| key != AmazonS3ConfigKey::Bucket)
            }
            Some(("gcp", name)) => gcp(name).is_some_and(|key| key != GoogleConfigKey::Bucket),
            Some(("azure", name)) => {
                azure(name).is_some_and(|key| key != AzureConfigKey::ContainerName)
            }
            Some(("http", name)) => http(name).is_some(),
            _ => false,
        };
        if !valid {
            let known = known(&key).unwrap_or_default().to_vec();
            return Err(Error::UnknownOption { key, known });
        }
        self.0.insert(key, value.to_owned());
        Ok(())
    }

    /// The options with a prefix, without it.
    pub(crate) fn of<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(key, value)| {
            Some((key.strip_prefix(prefix)?.strip_prefix('.')?, value.as_str()))
        })
    }

    /// What was given to a client: the options with its prefix, and those of HTTP.
    pub(crate) fn given<K: Eq + Hash>(
        &self,
        prefix: &str,
        own: fn(&str) -> Option<K>,
        client: fn(ClientConfigKey) -> K,
    ) -> HashMap<K, String> {
        let common = self.of("http").filter_map(|(name, value)| Some((client(http(name)?), value)));
        let own = self.of(prefix).filter_map(|(name, value)| Some((own(name)?, value)));
        common.chain(own).map(|(key, value)| (key, value.to_owned())).collect()
    }

    /// The first key that is none of the prefix's, nor one of the HTTP client's.
    pub(crate) fn stranger(&self, prefix: &str) -> Option<&str> {
        let own = |key: &str| {
            key.split_once('.').is_some_and(|(start, _)| start == prefix || start == "http")
        };
        self.0.keys().map(String::as_str).find(|key| !own(key))
    }
}

impl From<StoreOptions> for BTreeMap<String, String> {
    fn from(StoreOptions(mut options): StoreOptions) -> Self {
        options.retain(|key, value| !may_be_secret(key, value));
        options
    }
}

impl TryFrom<BTreeMap<String, String>> for StoreOptions {
    type Error = Error;

    fn try_from(options: BTreeMap<String, String>) -> Result<Self> {
        let mut checked = Self::default();
        options.iter().try_for_each(|(key, value)| checked.set(key, value))?;
        Ok(checked)
    }
}

impl fmt::Debug for StoreOptions {
    /// Keys, never values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Whether an option isn't to be passed on: keys and tokens, and addresses with a user's name in them. Paths
/// of files are no secret.
fn may_be_secret(key: &str, value: &str) -> bool {
    let is_path = key.ends_with("_path") || key.ends_with("_file");
    let names_secret =
        ["key", "secret", "token", "sas", "credential", "password"].iter().any(|w| key.contains(w));
    (names_secret && !is_path) || value.contains('@')
}

/// The one AWS option that object_store doesn't know.
pub(crate) const PROFILE: &str = "profile";

/// What a client is told, in an order that is always the same.
pub(crate) fn sorted<K: AsRef<str>>(config: HashMap<K, String>) -> Vec<(K, String)> {
    let mut config: Vec<_> = config.into_iter().collect();
    config.sort_unstable_by(|(a, _), (b, _)| a.as_ref().cmp(b.as_ref()));
    config
}

/// The keys that begin as `key` does.
fn known(key: &str) -> Option<&'static [&'static str]> {
    match key.split_once('.')?.0.to_ascii_lowercase().as_str() {
        "aws" => Some(AWS),
        "gcp" => Some(GCP),
        "azure" => Some(AZURE),
        "http" => Some(HTTP),
        _ => None,
    }
}

pub(crate) fn aws(name: &str) -> Option<AmazonS3ConfigKey> {
    name.parse().ok()
}

pub(crate) fn gcp(name: &str) -> Option<GoogleConfigKey> {
    match name {
        "application_credentials_path" => Some(GoogleConfigKey::ApplicationCredentials),
        name => name.parse().ok(),
    }
}

pub(crate) fn azure(name: &str) -> Option<AzureConfigKey> {
    name.parse().ok()
}

pub(crate) fn http(name: &str) -> Option<ClientConfigKey> {
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_messages_list_is_taken() {
        let mut options = StoreOptions::default();
        for key in [AWS, GCP, AZURE, HTTP].concat() {
            options.set(key, "value").unwrap();
        }
        assert!(options.of("aws").any(|pair| pair == ("region", "value")));
    }

    #[test]
    fn strange_keys_are_errors_and_values_are_hidden() {
        let mut options = StoreOptions::default();
        for (key, listed) in [
            ("aws.acces_key_id", "aws.access_key_id"),
            ("aws.bucket", "aws.region"),
            ("gcp.zone", "gcp.service_account_path"),
            ("azure.container_name", "azure.account_name"),
            ("http.cookie", "http.proxy_url"),
        ] {
            let message = options.set(key, "hidden").unwrap_err().to_string();
            assert!(message.contains(key) && message.contains(listed), "{message}");
            assert!(!message.contains("hidden"), "{message}");
        }
        options.set("AWS.Secret_Access_Key", "hidden").unwrap();
        assert_eq!(format!("{options:?}"), r#"{"aws.secret_access_key"}"#);
        assert_eq!(options.stranger("aws"), None);
        assert_eq!(options.stranger("gcp"), Some("aws.secret_access_key"));
    }
}
