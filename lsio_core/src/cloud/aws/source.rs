//! Which credentials are used: decided from options, environment and files alone, without a request.

use std::{collections::HashMap, fmt};

use object_store::aws::AmazonS3ConfigKey as Key;

use super::profile::{Profiles, Section};
use crate::environment::Environment;

/// Where credentials come from.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum CredentialSource {
    /// They are known.
    Keys { id: String, secret: String, token: Option<String> },
    /// A login at AWS's portal, made with `aws sso login`.
    Sso {
        account: String,
        role: String,
        region: String,
        /// The name under which `aws` keeps the login.
        login: String,
    },
    /// A program prints them.
    Process { command: String },
    /// A role, taken with other credentials.
    Role {
        arn: String,
        session: Option<String>,
        external_id: Option<String>,
        region: String,
        base: Box<Self>,
    },
    /// A role, taken with a token that a file holds.
    WebIdentity { arn: String, session: Option<String>, token_file: String, region: String },
    /// What a container's host serves.
    Container { relative: Option<String>, full: Option<String>, token_file: Option<String> },
    /// The role of the virtual machine.
    Instance { endpoint: Option<String> },
}

impl fmt::Debug for CredentialSource {
    /// The kind alone: the rest may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys { .. } => "Keys",
            Self::Sso { .. } => "Sso",
            Self::Process { .. } => "Process",
            Self::Role { .. } => "Role",
            Self::WebIdentity { .. } => "WebIdentity",
            Self::Container { .. } => "Container",
            Self::Instance { .. } => "Instance",
        })
    }
}

/// A source, and where it was found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Found {
    pub(super) source: CredentialSource,
    pub(super) from: String,
}

/// What the choice is made from.
pub(super) struct Choice<'a> {
    /// The options, which count more than the environment.
    pub(super) given: &'a HashMap<Key, String>,
    /// The options, and the environment where no option speaks of the same.
    pub(super) config: &'a HashMap<Key, String>,
    pub(super) environment: &'a Environment,
    pub(super) profiles: &'a Profiles,
    /// The profile, if one is named, and by what.
    pub(super) profile: Option<(&'a str, &'static str)>,
    pub(super) region: Option<&'a str>,
}

impl Choice<'_> {
    /// The first source that there is.
    ///
    /// # Errors
    /// If what was named isn't there, or is incomplete.
    pub(super) fn make(&self) -> Result<Option<Found>, String> {
        let found = |source, from: &str| Some(Found { source, from: from.to_owned() });
        if let Some(keys) =
            keys(self.given, "the options aws.access_key_id and aws.secret_access_key")?
        {
            return Ok(found(keys, "the option aws.access_key_id"));
        }
        let named_by_option = self.profile.is_some_and(|(_, by)| by == super::PROFILE_OPTION);
        if !named_by_option
            && let Some(keys) = keys(self.config, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")?
        {
            return Ok(found(keys, "the environment (AWS_ACCESS_KEY_ID)"));
        }
        let (name, by) = self.profile.unwrap_or(("default", ""));
        match self.profiles.profile(name) {
            Some(profile) => match self.of_profile(name, &profile, &mut Vec::new())? {
                Some(source) => return Ok(found(source, &format!("the profile '{name}'"))),
                None if named_by_option => {
                    return Err(format!("the profile '{name}' ({by}) holds no credentials"));
                }
                None => {}
            },
            None if self.profile.is_some() => return Err(self.no_profile(name, by)),
            None => {}
        }
        let get = |key| self.config.get(&key).cloned();
        if let (Some(token_file), Some(arn)) = (get(Key::WebIdentityTokenFile), get(Key::RoleArn)) {
            let (session, region) = (get(Key::RoleSessionName), self.region());
            let source = CredentialSource::WebIdentity { arn, session, token_file, region };
            return Ok(found(source, "the role AWS_ROLE_ARN, with AWS_WEB_IDENTITY_TOKEN_FILE"));
        }
        if let Some(container) = self.container() {
            return Ok(found(container, "the container's host"));
        }
        Ok(self.instance().and_then(|source| found(source, "the virtual machine's role")))
    }

    fn region(&self) -> String {
        self.region.unwrap_or("us-east-1").to_owned()
    }

    fn no_profile(&self, name: &str, by: &str) -> String {
        let names = self.profiles.names();
        let there = if names.is_empty() { "no profile".to_owned() } else { names.join(", ") };
        let files = &self.profiles.files;
        format!("there is no profile '{name}' ({by}): {files} hold {there}")
    }

    fn container(&self) -> Option<CredentialSource> {
        let get = |key| self.config.get(&key).cloned();
        let relative = get(Key::ContainerCredentialsRelativeUri);
        let full = get(Key::ContainerCredentialsFullUri);
        let token_file = get(Key::ContainerAuthorizationTokenFile);
        (relative.is_some() || full.is_some()).then_some(CredentialSource::Container {
            relative,
            full,
            token_file,
        })
    }

    /// The virtual machine's service is asked only where there is one: elsewhere nobody answers, and
    /// who waits for that waits for seconds.
    fn instance(&self) -> Option<CredentialSource> {
        let environment = self.environment;
        let disabled = environment.var("AWS_EC2_METADATA_DISABLED");
        if disabled.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return None;
        }
        let endpoint =
            self.config.get(&Key::MetadataEndpoint).cloned().or_else(|| {
                environment.var("AWS_EC2_METADATA_SERVICE_ENDPOINT").map(str::to_owned)
            });
        let vendors = ["sys_vendor", "board_vendor", "bios_vendor"];
        let is_ec2 = environment.machine(&vendors, |text| text == "Amazon EC2")
            || environment.machine(&["product_uuid"], |text| {
                text.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("ec2"))
            });
        (endpoint.is_some() || is_ec2).then_some(CredentialSource::Instance { endpoint })
    }

    /// What a profile says of credentials. `above` are the profiles that take a role with it.
    fn of_profile(
        &self,
        name: &str,
        profile: &Section,
        above: &mut Vec<String>,
    ) -> Result<Option<CredentialSource>, String> {
        let get = |key: &str| profile.get(key).filter(|value| !value.is_empty()).cloned();
        let need = |key: &str, of: &Section| {
            of.get(key).filter(|value| !value.is_empty()).cloned().ok_or_else(|| {
                format!("the profile '{name}' lacks the setting {key} in {}", self.profiles.files)
            })
        };
        let region = get("region").unwrap_or_else(|| self.region());
        // A profile that is its own source means its own keys.
        let again = above.iter().any(|other| other == name);
        if !again && let Some(arn) = get("role_arn") {
            if get("mfa_serial").is_some() {
                return Err(format!(
                    "the profile '{name}' asks for a code (mfa_serial), which lsio can't ask for: take the \
                     role with another program, for example `aws configure export-credentials --profile {name}`"
                ));
            }
            let (session, external_id) = (get("role_session_name"), get("external_id"));
            if let Some(token_file) = get("web_identity_token_file") {
                return Ok(Some(CredentialSource::WebIdentity {
                    arn,
                    session,
                    token_file,
                    region,
                }));
            }
            let base = if let Some(source) = get("source_profile") {
                let other = self
                    .profiles
                    .profile(&source)
                    .ok_or_else(|| self.no_profile(&source, "source_profile"))?;
                if above.contains(&source) {
                    return Err(format!(
                        "the profile '{name}' is, by source_profile, its own source"
                    ));
                }
                above.push(name.to_owned());
                self.of_profile(&source, &other, above)?
            } else {
                match get("credential_source").as_deref() {
                    Some("Environment") => {
                        keys(self.config, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")?
                    }
                    Some("EcsContainer") => self.container(),
                    Some("Ec2InstanceMetadata") => self.instance(),
                    _ => {
                        return Err(format!(
                            "the profile '{name}' has a role_arn, but none of source_profile, \
                             credential_source and web_identity_token_file"
                        ));
                    }
                }
            };
            let base = base.ok_or_else(|| {
                format!(
                    "there are no credentials with which to take the role of the profile '{name}'"
                )
            })?;
            return Ok(Some(CredentialSource::Role {
                arn,
                session,
                external_id,
                region,
                base: base.into(),
            }));
        }
        if let (Some(id), Some(secret)) = (get("aws_access_key_id"), get("aws_secret_access_key")) {
            return Ok(Some(CredentialSource::Keys {
                id,
                secret,
                token: get("aws_session_token"),
            }));
        }
        if get("sso_account_id").is_some() {
            // Logins of sessions are kept under the session's name, others under the portal's URL.
            let (login, region) = match get("sso_session") {
                Some(session) => {
                    let settings = self.profiles.sso_session(&session).ok_or_else(|| {
                        format!("the profile '{name}' names the sso-session '{session}', which isn't there")
                    })?;
                    (session, need("sso_region", settings)?)
                }
                None => (need("sso_start_url", profile)?, need("sso_region", profile)?),
            };
            let account = need("sso_account_id", profile)?;
            let role = need("sso_role_name", profile)?;
            return Ok(Some(CredentialSource::Sso { account, role, region, login }));
        }
        Ok(get("credential_process").map(|command| CredentialSource::Process { command }))
    }
}

/// Keys, if there are any.
fn keys(config: &HashMap<Key, String>, names: &str) -> Result<Option<CredentialSource>, String> {
    let token = config.get(&Key::Token).cloned();
    match (config.get(&Key::AccessKeyId), config.get(&Key::SecretAccessKey)) {
        (Some(id), Some(secret)) => {
            Ok(Some(CredentialSource::Keys { id: id.clone(), secret: secret.clone(), token }))
        }
        (None, None) => Ok(None),
        _ => Err(format!("{names} belong together: give both or neither")),
    }
}
