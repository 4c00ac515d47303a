//! Google Cloud Storage.

use std::sync::Arc;

use object_store::{
    ObjectStore, RetryConfig, StaticCredentialProvider,
    gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey as Key},
};

use super::{
    address::server,
    aws::is_true,
    explain::{Signing, StoreDescription},
    http::{Connector, client_options},
};
use crate::{
    environment::Environment,
    store_options::{StoreOptions, gcp, sorted},
    urls::redact,
};

/// Where `gcloud auth application-default login` leaves credentials.
const LOGIN: &str = if cfg!(windows) {
    "~/AppData/Roaming/gcloud/application_default_credentials.json"
} else {
    "~/.config/gcloud/application_default_credentials.json"
};

/// A bucket, and all that decides how it is read.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct GcpSettings {
    bucket: String,
    config: Vec<(Key, String)>,
    /// Where credentials were found.
    found: Option<String>,
    unsigned: bool,
}

/// Reads options, environment and files.
pub(super) fn setup(
    bucket: &str,
    options: &StoreOptions,
    environment: &Environment,
) -> GcpSettings {
    let given = options.given("gcp", gcp, Key::Client);
    let is_own = |name: &&str| name.starts_with("GOOGLE_");
    let mut config = environment
        .config(|name| Some(name).filter(is_own).and_then(|name| gcp(&name.to_ascii_lowercase())));
    if let Some(path) = environment.var("SERVICE_ACCOUNT") {
        config.entry(Key::ServiceAccount).or_insert_with(|| path.to_owned());
    }
    let credentials = [Key::ServiceAccount, Key::ServiceAccountKey, Key::ApplicationCredentials];
    if credentials.iter().any(|key| given.contains_key(key)) {
        config.retain(|key, _| !credentials.contains(key));
    }
    config.extend(given);

    let unsigned = config.remove(&Key::SkipSignature).is_some_and(|value| is_true(&value));
    let mut found = credentials
        .iter()
        .find(|key| config.contains_key(key))
        .map(|key| format!("{} or its option", key.as_ref().to_ascii_uppercase()));
    if found.is_none()
        && let Some(login) = environment.path(LOGIN).filter(|path| path.is_file())
        && let Some(path) = login.to_str()
    {
        config.insert(Key::ApplicationCredentials, path.to_owned());
        found = Some("the login of gcloud".to_owned());
    }
    // The service of the virtual machine is asked only where there is one.
    if found.is_none()
        && (environment.var("GCE_METADATA_HOST").is_some()
            || environment.machine(&["product_name"], |text| text.starts_with("Google")))
    {
        found = Some("the virtual machine's service account".to_owned());
    }
    if unsigned {
        found = None;
    }
    if found.is_none() {
        config.retain(|key, _| !credentials.contains(key));
    }
    GcpSettings { bucket: bucket.to_owned(), config: sorted(config), found, unsigned }
}

impl GcpSettings {
    /// Makes the store.
    ///
    /// # Errors
    /// If an option is invalid, and if a file with credentials can't be used.
    pub(super) fn build(
        self,
        connector: Connector,
        retry: RetryConfig,
    ) -> Result<(Arc<dyn ObjectStore>, StoreDescription), String> {
        // An emulator may do without TLS; Google itself is never asked without.
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_client_options(client_options().with_allow_http(true))
            .with_bucket_name(&self.bucket)
            .with_retry(retry)
            .with_http_connector(connector);
        let mut at = "Google Cloud Storage".to_owned();
        for (key, value) in self.config {
            let value = match key {
                Key::BaseUrl => {
                    let server = server("gcp.base_url", &value)?;
                    at = redact(&server).into_owned();
                    server
                }
                _ => value,
            };
            builder = builder.with_config(key, value);
        }
        let access = match self.found {
            Some(from) => Signing::With(from),
            None => {
                // Without any, the builder would look for some of its own.
                let none = GcpCredential { bearer: String::new() };
                builder = builder
                    .with_skip_signature(true)
                    .with_credentials(Arc::new(StaticCredentialProvider::new(none)));
                match self.unsigned {
                    true => Signing::Unsigned,
                    false => Signing::Nothing {
                        looked: format!(
                            "the options gcp.service_account_path and gcp.application_credentials_path, the \
                             environment (GOOGLE_APPLICATION_CREDENTIALS, GOOGLE_SERVICE_ACCOUNT), {LOGIN}, \
                             the virtual machine's service account"
                        ),
                        give: "set GOOGLE_APPLICATION_CREDENTIALS, or run \
                               `gcloud auth application-default login`",
                    },
                }
            }
        };
        let store = builder.build().map_err(|e| e.to_string())?;
        let what = format!("the bucket '{}' at {at}", self.bucket);
        Ok((Arc::new(store), StoreDescription { what, at, access, region_option: None }))
    }

    #[cfg(test)]
    fn value(&self, key: Key) -> Option<&str> {
        self.config.iter().find(|(other, _)| *other == key).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_chosen_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let mut environment = Environment {
            home: Some(directory.path().join("home")),
            firmware: Some(directory.path().to_path_buf()),
            ..Environment::default()
        };
        let mut options = StoreOptions::default();
        let found = |options: &StoreOptions, environment: &Environment| {
            setup("b", options, environment).found.unwrap_or_default()
        };
        assert_eq!(found(&options, &environment), "");

        std::fs::write(directory.path().join("product_name"), "Google Compute Engine\n").unwrap();
        assert!(found(&options, &environment).contains("virtual machine"));
        let login = environment.path(LOGIN).unwrap();
        std::fs::create_dir_all(login.parent().unwrap()).unwrap();
        std::fs::write(&login, "{}").unwrap();
        assert!(found(&options, &environment).contains("gcloud"));
        environment.vars.insert("GOOGLE_SERVICE_ACCOUNT_KEY".to_owned(), "{}".to_owned());
        assert!(found(&options, &environment).contains("GOOGLE_SERVICE_ACCOUNT_KEY"));
        options.set("gcp.application_credentials_path", "/x.json").unwrap();
        let setup_ = setup("b", &options, &environment);
        assert_eq!(setup_.value(Key::ApplicationCredentials), Some("/x.json"));
        assert_eq!(setup_.value(Key::ServiceAccountKey), None);
        options.set("gcp.skip_signature", "true").unwrap();
        let setup_ = setup("b", &options, &environment);
        assert!(setup_.unsigned && setup_.value(Key::ApplicationCredentials).is_none());
    }
}
