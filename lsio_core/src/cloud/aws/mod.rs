//! S3: which endpoint, region and credentials.

mod credentials;
mod profile;
mod source;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use object_store::{
    CredentialProvider as _, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey as Key, resolve_bucket_region},
    client::HttpConnector as _,
};

use self::{
    credentials::Renewed,
    profile::Profiles,
    source::{Choice, CredentialSource, Found},
};
use super::{
    address::server,
    explain::{Signing, StoreDescription},
    http::{Connector, client_options},
    threads::NetworkThreads,
};
use crate::{
    environment::Environment,
    error::short,
    store_options::{PROFILE, StoreOptions, aws, sorted},
    urls::redact,
};

/// What names a profile in messages, if the option does.
const PROFILE_OPTION: &str = "option aws.profile";

/// How long is waited for the service of the virtual machine, which is a hop away.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

/// A bucket, and all that decides how it is read.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct AwsSettings {
    bucket: String,
    /// For object_store's builder; without credentials.
    config: Vec<(Key, String)>,
    endpoint: Option<String>,
    region: Option<String>,
    /// That requests aren't signed was asked for.
    unsigned: bool,
    found: Option<Found>,
    /// Where credentials were looked for.
    looked: String,
}

/// Reads options, environment and files.
///
/// # Errors
/// If they contradict each other, or name what isn't there.
pub(super) fn setup(
    bucket: &str,
    options: &StoreOptions,
    environment: &Environment,
) -> Result<AwsSettings, String> {
    let given = options.given("aws", aws, Key::Client);
    let is_own = |name: &&str| name.starts_with("AWS_");
    let mut config = environment
        .config(|name| Some(name).filter(is_own).and_then(|name| aws(&name.to_ascii_lowercase())));
    // Who gives a part of these means the whole.
    for together in [
        &[Key::AccessKeyId, Key::SecretAccessKey, Key::Token][..],
        &[Key::Endpoint, Key::S3Endpoint],
        &[Key::Region, Key::DefaultRegion],
    ] {
        if together.iter().any(|key| given.contains_key(key)) {
            config.retain(|key, _| !together.contains(key));
        }
    }
    config.extend(given.clone());

    let profiles = Profiles::read(environment);
    let profile = options
        .of("aws")
        .find(|(name, _)| *name == PROFILE)
        .map(|(_, value)| (value, PROFILE_OPTION))
        .or_else(|| environment.var("AWS_PROFILE").map(|name| (name, "AWS_PROFILE")));
    let profile_name = profile.map_or("default", |(name, _)| name);
    let settings = profiles.profile(profile_name).unwrap_or_default();
    let first = |keys: [Key; 2], setting: &str| {
        keys.iter()
            .find_map(|key| config.get(key))
            .or_else(|| settings.get(setting))
            .filter(|value| !value.is_empty())
            .cloned()
    };
    let endpoint = first([Key::S3Endpoint, Key::Endpoint], "endpoint_url");
    let endpoint = endpoint.map(|endpoint| server("aws.endpoint", &endpoint)).transpose()?;
    let region = first([Key::Region, Key::DefaultRegion], "region");
    if let Some(region) = &region
        && !region.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    {
        return Err(format!("'{}' is no region: they are called eu-west-1", short(region)));
    }

    let unsigned = config.get(&Key::SkipSignature).is_some_and(|value| is_true(value));
    let found = if unsigned {
        None
    } else {
        Choice {
            given: &given,
            config: &config,
            environment,
            profiles: &profiles,
            profile,
            region: region.as_deref(),
        }
        .make()?
    };
    let looked = format!(
        "the options aws.access_key_id and aws.profile, the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, \
         AWS_WEB_IDENTITY_TOKEN_FILE, AWS_CONTAINER_CREDENTIALS_RELATIVE_URI), the profile '{profile_name}' \
         in {}, the role of the virtual machine",
        profiles.files
    );
    let separate = [Key::AccessKeyId, Key::SecretAccessKey, Key::Token, Key::SkipSignature];
    let places = [Key::Endpoint, Key::S3Endpoint, Key::Region, Key::DefaultRegion];
    config.retain(|key, _| !separate.contains(key) && !places.contains(key));
    let config = sorted(config);
    Ok(AwsSettings { bucket: bucket.to_owned(), config, endpoint, region, unsigned, found, looked })
}

impl AwsSettings {
    /// Makes the store.
    ///
    /// # Errors
    /// If there are no credentials where they were found, and if an option is invalid.
    pub(super) async fn build(
        self,
        environment: &Environment,
        connector: Connector,
        retry: RetryConfig,
    ) -> Result<(Arc<dyn ObjectStore>, StoreDescription), String> {
        let mut builder = AmazonS3Builder::new()
            .with_client_options(client_options())
            .with_bucket_name(&self.bucket)
            .with_retry(retry);
        let mut access = match self.unsigned {
            true => Signing::Unsigned,
            false => Signing::Nothing {
                looked: self.looked,
                give: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or run `aws configure`",
            },
        };
        if let Some(Found { source, from }) = self.found {
            let is_instance = matches!(source, CredentialSource::Instance { .. });
            let options =
                client_options().with_allow_http(true).with_connect_timeout(if is_instance {
                    METADATA_TIMEOUT
                } else {
                    Duration::from_secs(5)
                });
            let own = match is_instance {
                true => connector.clone().with_silence(METADATA_TIMEOUT),
                false => connector.clone(),
            };
            let client = own.connect(&options).map_err(|e| e.to_string())?;
            let renewed = Renewed::new(&source, environment, &client, own.threads());
            match renewed.get_credential().await {
                Ok(_) => {
                    builder = builder.with_credentials(Arc::new(renewed));
                    access = Signing::With(from);
                }
                // A machine needs no role.
                Err(error) if is_instance => log::info!("no AWS credentials from {from}: {error}"),
                Err(error) => {
                    let login = match source {
                        CredentialSource::Sso { .. } => "; log in with `aws sso login`",
                        _ => "",
                    };
                    return Err(format!("no AWS credentials from {from}: {error}{login}"));
                }
            }
        }
        builder = builder.with_skip_signature(!matches!(access, Signing::With(_)));
        let at = match &self.endpoint {
            Some(endpoint) => {
                builder = builder
                    .with_endpoint(endpoint)
                    // Who names an endpoint without TLS wants none.
                    .with_allow_http(endpoint.starts_with("http://"));
                redact(endpoint).into_owned()
            }
            None => "AWS".to_owned(),
        };
        let region = match (self.region, self.endpoint) {
            (Some(region), _) => Some(region),
            (None, Some(_)) => None,
            (None, None) => region_of(&self.bucket, connector.threads()).await,
        };
        builder = builder.with_region(region.unwrap_or_else(|| "us-east-1".to_owned()));
        for (key, value) in self.config {
            builder = builder.with_config(key, value);
        }
        let store = builder.with_http_connector(connector).build().map_err(|e| e.to_string())?;
        let what = format!("the bucket '{}' at {at}", self.bucket);
        Ok((
            Arc::new(store),
            StoreDescription { what, at, access, region_option: Some("aws.region") },
        ))
    }
}

/// The region of a bucket at AWS, which tells it to anybody.
async fn region_of(bucket: &str, threads: &Arc<NetworkThreads>) -> Option<String> {
    let options = client_options().with_timeout(Duration::from_secs(10));
    let name = bucket.to_owned();
    let resolve = async move { resolve_bucket_region(&name, &options).await };
    match threads.spawn(resolve).ok()?.join().await.ok()? {
        Ok(region) => Some(region),
        // What is the matter will be told by the first read.
        Err(error) => {
            log::debug!("the region of the bucket '{bucket}' isn't known: {error}");
            None
        }
    }
}

pub(super) fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes" | "y")
}
