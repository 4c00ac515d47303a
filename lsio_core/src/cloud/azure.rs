//! Azure's blobs.

use std::sync::Arc;

use object_store::{
    ObjectStore, RetryConfig,
    azure::{AzureConfigKey as Key, MicrosoftAzureBuilder},
};
use url::Url;

use super::{
    aws::is_true,
    explain::{Signing, StoreDescription},
    http::{Connector, client_options},
};
use crate::{
    environment::Environment,
    store_options::{StoreOptions, azure, sorted},
    urls::redact,
};

/// What Azure's virtual machines have as their asset tag.
const ASSET_TAG: &str = "7783-7084-3265-9085-8269-3286-77";

/// Configuration keys that select a credential.
const CREDENTIALS: [Key; 14] = [
    Key::Token,
    Key::AccessKey,
    Key::ClientId,
    Key::ClientSecret,
    Key::FederatedTokenFile,
    Key::SasKey,
    Key::UseAzureCli,
    Key::MsiEndpoint,
    Key::ObjectId,
    Key::MsiResourceId,
    Key::FabricTokenServiceUrl,
    Key::FabricWorkloadHost,
    Key::FabricSessionToken,
    Key::FabricClusterIdentifier,
];

/// A container, and all that decides how it is read.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct AzureSettings {
    root: Url,
    container: String,
    config: Vec<(Key, String)>,
    found: Option<String>,
    unsigned: bool,
}

/// Reads options, environment and files. A query is a shared access signature.
///
/// # Errors
/// If nothing names the account.
pub(super) fn setup(
    root: &Url,
    container: &str,
    query: Option<&str>,
    options: &StoreOptions,
    environment: &Environment,
) -> Result<AzureSettings, String> {
    let mut given = options.given("azure", azure, Key::Client);
    if let Some(signature) = query {
        given.insert(Key::SasKey, signature.to_owned());
    }
    let variable = |name: &str| match name {
        // The names that Azure's own tools have for these.
        "AZURE_STORAGE_ACCOUNT" => Some(Key::AccountName),
        "AZURE_STORAGE_KEY" => Some(Key::AccessKey),
        "IDENTITY_ENDPOINT" => Some(Key::MsiEndpoint),
        name if name.starts_with("AZURE_") => azure(&name.to_ascii_lowercase()),
        _ => None,
    };
    let mut config = environment.config(variable);
    if CREDENTIALS.iter().any(|key| given.contains_key(key)) {
        config.retain(|key, _| !CREDENTIALS.contains(key));
    }
    config.extend(given);

    let says = |key: Key| config.get(&key).is_some_and(|value| is_true(value));
    let has = |keys: &[Key]| keys.iter().all(|key| config.contains_key(key));
    let unsigned = says(Key::SkipSignature);
    let sources = [
        (has(&[Key::Token]), "a token"),
        (has(&[Key::AccessKey]), "the account's key"),
        (has(&[Key::ClientId, Key::AuthorityId, Key::FederatedTokenFile]), "a workload identity"),
        (has(&[Key::ClientId, Key::AuthorityId, Key::ClientSecret]), "a service principal"),
        (has(&[Key::SasKey]), "a shared access signature"),
        (says(Key::UseAzureCli), "the login of `az`"),
        (has(&[Key::MsiEndpoint]), "a managed identity"),
        (has(&[Key::FabricSessionToken, Key::FabricTokenServiceUrl]), "a Fabric session"),
        (says(Key::UseEmulator), "the emulator"),
        (
            // The service of the virtual machine is asked only where there is one.
            environment.machine(&["chassis_asset_tag"], |text| text == ASSET_TAG),
            "the virtual machine's managed identity",
        ),
    ];
    let found = sources.iter().find(|(there, _)| *there && !unsigned);
    let found = found.map(|(_, name)| (*name).to_owned());
    let account = root.host_str().filter(|_| !root.username().is_empty());
    if account.is_none() && !config.contains_key(&Key::AccountName) && !says(Key::UseEmulator) {
        return Err(format!(
            "the storage account isn't known: write abfss://{container}@ACCOUNT.dfs.core.windows.net/…, or \
             give it with the option azure.account_name or AZURE_STORAGE_ACCOUNT_NAME"
        ));
    }
    config.remove(&Key::SkipSignature);
    let (root, container) = (root.clone(), container.to_owned());
    Ok(AzureSettings { root, container, config: sorted(config), found, unsigned })
}

impl AzureSettings {
    /// Makes the store.
    ///
    /// # Errors
    /// If an option or the URL is invalid.
    pub(super) fn build(
        self,
        connector: Connector,
        retry: RetryConfig,
    ) -> Result<(Arc<dyn ObjectStore>, StoreDescription), String> {
        let mut builder = MicrosoftAzureBuilder::new()
            .with_client_options(client_options())
            .with_url(self.root)
            .with_retry(retry)
            .with_http_connector(connector)
            .with_skip_signature(self.found.is_none());
        let mut at = "Azure".to_owned();
        for (key, value) in self.config {
            if key == Key::Endpoint {
                builder = builder.with_allow_http(value.starts_with("http://"));
                at = redact(&value).into_owned();
            }
            builder = builder.with_config(key, value);
        }
        let access = match (self.found, self.unsigned) {
            (Some(from), _) => Signing::With(from),
            (None, true) => Signing::Unsigned,
            (None, false) => Signing::Nothing {
                looked: "the URL (a shared access signature), the options azure.account_key, \
                         azure.sas_token and azure.use_azure_cli, the environment \
                         (AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN, AZURE_CLIENT_ID), the \
                         virtual machine's managed identity"
                    .to_owned(),
                give: "set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or run `az login` and give \
                       the option azure.use_azure_cli=true",
            },
        };
        let store = builder.build().map_err(|e| e.to_string())?;
        let what = format!("the container '{}' at {at}", self.container);
        Ok((Arc::new(store), StoreDescription { what, at, access, region_option: None }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_and_credentials_are_found() {
        let root = |text| Url::parse(text).unwrap();
        let (hadoop, short) = (root("abfss://c@a.dfs.core.windows.net/"), root("az://c/"));
        let mut environment = Environment::default();
        let mut options = StoreOptions::default();
        let error = setup(&short, "c", None, &options, &environment).err().unwrap();
        assert!(error.contains("azure.account_name"), "{error}");
        assert_eq!(setup(&hadoop, "c", None, &options, &environment).unwrap().found, None);

        environment.vars.insert("AZURE_STORAGE_ACCOUNT".to_owned(), "a".to_owned());
        environment.vars.insert("AZURE_STORAGE_KEY".to_owned(), "hidden".to_owned());
        let by_key = setup(&short, "c", None, &options, &environment).unwrap();
        assert_eq!(by_key.found.as_deref(), Some("the account's key"));
        // A signature in the URL counts more than a key in the environment.
        let by_url = setup(&short, "c", Some("sig=x"), &options, &environment).unwrap();
        assert_eq!(by_url.found.as_deref(), Some("a shared access signature"));
        assert!(by_url.config.iter().all(|(key, _)| *key != Key::AccessKey));
        options.set("azure.use_azure_cli", "true").unwrap();
        let by_login = setup(&short, "c", None, &options, &environment).unwrap();
        assert_eq!(by_login.found.as_deref(), Some("the login of `az`"));
        options.set("azure.skip_signature", "true").unwrap();
        let unsigned = setup(&short, "c", None, &options, &environment).unwrap();
        assert!(unsigned.unsigned && unsigned.found.is_none());
    }
}
