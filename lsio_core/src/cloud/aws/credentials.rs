//! Credentials that are fetched, and fetched again before they expire.

use std::{
    fmt, io,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use object_store::{
    CredentialProvider,
    aws::{AwsAuthorizer, AwsCredential},
    client::{HttpClient, HttpRequestBody},
};
use reqsign_aws_core::{
    AssumeRoleCredentialProvider, AssumeRoleWithWebIdentityCredentialProvider, Credential,
    ECSCredentialProvider, IMDSv2CredentialProvider, ProcessCredentialProvider,
    SSOCredentialProvider, StaticCredentialProvider,
};
use reqsign_core::{
    CommandExecute, CommandOutput, Context, Error, FileRead, HttpSend, ProvideCredentialDyn,
    SignRequest, Signer, StaticEnv,
};
use tokio::sync::Mutex;

use super::{
    super::{explain::cause, threads::NetworkThreads},
    source::CredentialSource,
};
use crate::environment::Environment;

/// How long before their end credentials are renewed, if they last much longer: longer than requests are
/// tried, which are signed once.
const EARLY: Duration = Duration::from_secs(5 * 60);

/// The bytes of the longest answer with credentials.
const LONGEST: usize = 1 << 20;

type Provider = Arc<dyn ProvideCredentialDyn<Credential = Credential>>;

/// The credentials of a source.
pub(super) struct Renewed {
    provider: Provider,
    context: Context,
    threads: Arc<NetworkThreads>,
    /// Those fetched last. Who finds them too old fetches new ones while the others wait.
    last: Mutex<Option<FetchedCredential>>,
}

impl fmt::Debug for Renewed {
    /// Nothing of what is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed").finish_non_exhaustive()
    }
}

struct FetchedCredential {
    credential: Arc<AwsCredential>,
    /// When they are to be renewed, and when they end.
    ends: Option<(SystemTime, SystemTime)>,
}

impl Renewed {
    /// Those of `source`, fetched with `client` on these threads.
    pub(super) fn new(
        source: &CredentialSource,
        environment: &Environment,
        client: &HttpClient,
        threads: &Arc<NetworkThreads>,
    ) -> Self {
        let (provider, context) = provider(source, environment, client);
        Self { provider, context, threads: Arc::clone(threads), last: Mutex::new(None) }
    }

    async fn fetch(&self) -> Result<FetchedCredential, String> {
        let (provider, context) = (Arc::clone(&self.provider), self.context.clone());
        let fetch = async move { provider.provide_credential_dyn(&context).await };
        let fetched = self.threads.spawn(fetch).map_err(|e| e.to_string())?.join().await;
        let credential =
            fetched.map_err(|e| e.to_string())?.map_err(|e| cause(&e))?.ok_or("there are none")?;
        let ends = credential.expires_in.map(|time| {
            let end = time.as_system_time();
            let left = end.duration_since(SystemTime::now()).unwrap_or_default();
            (end - EARLY.min(left / 4), end)
        });
        Ok(FetchedCredential { credential: Arc::new(checked(credential)?), ends })
    }
}

#[async_trait]
impl CredentialProvider for Renewed {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut last = self.last.lock().await;
        let now = SystemTime::now();
        if let Some(fetched) = &*last
            && fetched.ends.is_none_or(|(renewal, _)| now < renewal)
        {
            return Ok(Arc::clone(&fetched.credential));
        }
        match (self.fetch().await, &*last) {
            (Ok(fetched), _) => Ok(Arc::clone(&last.insert(fetched).credential)),
            (Err(reason), Some(old)) if old.ends.is_some_and(|(_, end)| now < end) => {
                log::warn!("AWS credentials can't be renewed: {reason}");
                Ok(Arc::clone(&old.credential))
            }
            (Err(reason), _) => {
                Err(object_store::Error::Generic { store: "S3", source: reason.into() })
            }
        }
    }
}

/// Credentials that can stand in headers, into which object_store puts them unseen.
fn checked(credential: Credential) -> Result<AwsCredential, String> {
    let Credential { access_key_id, secret_access_key, session_token, .. } = credential;
    let visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if !visible(&access_key_id) || secret_access_key.is_empty() {
        return Err("the access key is empty, or has characters that no key has".to_owned());
    }
    if session_token.as_deref().is_some_and(|token| !visible(token)) {
        return Err("the session token is empty, or has characters that no token has".to_owned());
    }
    Ok(AwsCredential { key_id: access_key_id, secret_key: secret_access_key, token: session_token })
}

fn provider(
    source: &CredentialSource,
    environment: &Environment,
    client: &HttpClient,
) -> (Provider, Context) {
    let env = StaticEnv {
        home_dir: environment.home.clone(),
        envs: environment.vars.clone().into_iter().collect(),
    };
    let context = Context::new()
        .with_file_read(CredentialFiles)
        .with_http_send(Sender(client.clone()))
        .with_env(env);
    let provider: Provider = match source.clone() {
        CredentialSource::Keys { id, secret, token } => Arc::new(match token {
            Some(token) => StaticCredentialProvider::new(&id, &secret).with_session_token(&token),
            None => StaticCredentialProvider::new(&id, &secret),
        }),
        CredentialSource::Sso { account, role, region, login } => Arc::new(
            SSOCredentialProvider::new()
                .with_account_id(account)
                .with_role_name(role)
                .with_region(region)
                // It has no other use than to find the file of the login.
                .with_start_url(login),
        ),
        CredentialSource::Process { command } => {
            let provider = ProcessCredentialProvider::new().with_command(&command);
            return (Arc::new(provider), context.with_command_execute(ProfileCommand { command }));
        }
        CredentialSource::Role { arn, session, external_id, region, base } => {
            let (base, base_context) = self::provider(&base, environment, client);
            let signer = Signer::new(base_context, base, StsSigner { region: region.clone() });
            let mut provider = AssumeRoleCredentialProvider::new(arn, signer)
                .with_region(region)
                .with_regional_sts_endpoint()
                .with_role_session_name(session.unwrap_or_else(|| "lsio".to_owned()));
            if let Some(id) = external_id {
                provider = provider.with_external_id(id);
            }
            Arc::new(provider)
        }
        CredentialSource::WebIdentity { arn, session, token_file, region } => Arc::new(
            AssumeRoleWithWebIdentityCredentialProvider::with_config(
                arn,
                PathBuf::from(token_file),
            )
            .with_region(region)
            .with_regional_sts_endpoint()
            .with_role_session_name(session.unwrap_or_else(|| "lsio".to_owned())),
        ),
        CredentialSource::Container { relative, full, token_file } => {
            let mut provider = ECSCredentialProvider::new();
            if let Some(uri) = relative {
                provider = provider.with_relative_uri(uri);
            } else if let Some(uri) = full {
                provider = provider.with_endpoint(uri);
            }
            if let Some(file) = token_file {
                provider = provider.with_auth_token_file(file);
            }
            Arc::new(provider)
        }
        CredentialSource::Instance { endpoint } => Arc::new(match endpoint {
            Some(endpoint) => {
                IMDSv2CredentialProvider::new().with_endpoint(endpoint.trim_end_matches('/'))
            }
            None => IMDSv2CredentialProvider::new(),
        }),
    };
    (provider, context)
}

/// Signs requests to AWS's service for roles, as object_store signs those to S3.
#[derive(Debug)]
struct StsSigner {
    region: String,
}

impl SignRequest for StsSigner {
    type Credential = Credential;

    async fn sign_request(
        &self,
        _context: &Context,
        head: &mut http::request::Parts,
        credential: Option<&Credential>,
        _expires_in: Option<Duration>,
    ) -> reqsign_core::Result<()> {
        let credential =
            credential.ok_or_else(|| Error::credential_invalid("there are no credentials"))?;
        let credential = checked(credential.clone()).map_err(Error::credential_invalid)?;
        if head.method != http::Method::GET {
            // Only requests that are too long for a URL have bodies, and ours are short.
            return Err(Error::request_invalid("the role's name is too long"));
        }
        let mut request = http::Request::new(HttpRequestBody::empty());
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = head.uri.clone();
        *request.headers_mut() = head.headers.clone();
        AwsAuthorizer::new(&credential, "sts", &self.region).authorize(&mut request, None);
        head.headers = request.into_parts().0.headers;
        Ok(())
    }
}

/// Reads files on threads that may wait.
#[derive(Debug)]
struct CredentialFiles;

impl FileRead for CredentialFiles {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        let path = path.to_owned();
        let read = tokio::task::spawn_blocking(move || std::fs::read(path));
        read.await
            .unwrap_or_else(|e| Err(io::Error::other(e)))
            .map_err(|e| Error::unexpected("the file can't be read").with_source(e))
    }
}

/// Sends requests with the store's own client.
#[derive(Debug)]
struct Sender(HttpClient);

impl HttpSend for Sender {
    async fn http_send(
        &self,
        request: http::Request<Bytes>,
    ) -> reqsign_core::Result<http::Response<Bytes>> {
        let response = self
            .0
            .execute(request.map(HttpRequestBody::from))
            .await
            .map_err(|e| Error::unexpected(cause(&e)))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LONGEST)
            .collect()
            .await
            .map_err(|e| Error::unexpected(cause(e.as_ref())))?;
        Ok(http::Response::from_parts(head, body.to_bytes()))
    }
}

/// Runs the command of a profile.
#[derive(Debug)]
struct ProfileCommand {
    command: String,
}

impl CommandExecute for ProfileCommand {
    /// What is asked for has been cut at spaces, quoted or not: the command itself is run instead.
    async fn command_execute<'a>(
        &'a self,
        _program: &'a str,
        _arguments: &'a [&'a str],
    ) -> reqsign_core::Result<CommandOutput> {
        let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
        let output = tokio::process::Command::new(shell)
            .args([flag, &self.command])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|e| Error::unexpected("credential_process can't be run").with_source(e))?;
        let status = output.status.code().unwrap_or(-1);
        Ok(CommandOutput { status, stdout: output.stdout, stderr: output.stderr })
    }
}
