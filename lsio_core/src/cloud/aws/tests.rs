//! Which credentials, regions and endpoints are chosen, under invented environments; and that each
//! kind of credentials is fetched as its server or program gives it.

use std::{fs, path::Path, sync::Mutex};

use async_trait::async_trait;
use object_store::client::{
    HttpClient, HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};

use super::*;

/// An environment with files: `config` and `credentials` in the home directory's `.aws`, the rest by name.
fn environment(home: &Path, vars: &[(&str, &str)], files: &[(&str, &str)]) -> Environment {
    fs::create_dir_all(home.join(".aws/sso/cache")).unwrap();
    for (name, text) in files {
        fs::write(home.join(name), text).unwrap();
    }
    Environment {
        vars: vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        home: Some(home.to_path_buf()),
        firmware: Some(home.to_path_buf()),
        ..Environment::default()
    }
}

fn options(pairs: &[(&str, &str)]) -> StoreOptions {
    let mut options = StoreOptions::default();
    for (key, value) in pairs {
        options.set(key, value).unwrap();
    }
    options
}

const KEYS: &str = "[default]\naws_access_key_id = FILE\naws_secret_access_key = s\n\
                    [other]\naws_access_key_id = OTHER\naws_secret_access_key = s\n";

/// Where credentials were found, with the key's name if it is known.
fn found(setup: &AwsSettings) -> String {
    match &setup.found {
        None => String::new(),
        Some(Found { source: CredentialSource::Keys { id, token, .. }, from }) => {
            format!("{id} {} from {from}", token.as_deref().unwrap_or("-"))
        }
        Some(Found { source, from }) => format!("{source:?} from {from}"),
    }
}

#[test]
fn credentials_are_chosen_in_order() {
    let env_keys = [("AWS_ACCESS_KEY_ID", "ENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let token = ("AWS_SESSION_TOKEN", "t");
    let given = [("aws.access_key_id", "GIVEN"), ("aws.secret_access_key", "s")];
    let web = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")];
    let container = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2");
    let service = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://localhost:1");
    let keys = (".aws/credentials", KEYS);
    let ec2 = ("sys_vendor", "Amazon EC2\n");
    let disabled = ("AWS_EC2_METADATA_DISABLED", "true");
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(Pairs<'_>, Pairs<'_>, Pairs<'_>, &str)] = &[
        (&[], &[], &[], ""),
        (&[], &[], &[("sys_vendor", "Other")], ""),
        // The session's token of other keys isn't mixed with those that are given.
        (&given, &[env_keys[0], env_keys[1], token], &[keys], "GIVEN - from the option"),
        (&[], &[env_keys[0], env_keys[1], token], &[keys], "ENV t from the environment"),
        (&[], &[("AWS_ACCESS_KEY_ID", "")], &[keys], "FILE - from the profile 'default'"),
        (&[], &[("AWS_PROFILE", "other")], &[keys], "OTHER - from the profile 'other'"),
        (&[("aws.profile", "other")], &env_keys, &[keys], "OTHER - from the profile 'other'"),
        (&[], &[env_keys[0], env_keys[1], ("AWS_PROFILE", "other")], &[keys], "ENV - from"),
        (&[], &[web[0], web[1], container], &[ec2], "WebIdentity from the role"),
        (&[], &[web[0], container], &[ec2], "Container from the container"),
        (&[], &[], &[ec2], "Instance from the virtual machine"),
        (&[], &[], &[("product_uuid", "EC2abc")], "Instance from the virtual machine"),
        (&[], &[service], &[], "Instance from the virtual machine"),
        (&[], &[service, disabled], &[ec2], ""),
        (&[("aws.skip_signature", "true")], &env_keys, &[keys], ""),
        (&[], &[("AWS_SKIP_SIGNATURE", "TRUE")], &[keys], ""),
    ];
    for (given, vars, files, expected) in cases {
        let home = tempfile::tempdir().unwrap();
        let environment = environment(home.path(), vars, files);
        let setup = setup("b", &options(given), &environment).unwrap();
        let found = found(&setup);
        assert!(found.starts_with(expected), "{vars:?}: {found}");
        assert_eq!(found.is_empty(), expected.is_empty(), "{vars:?}: {found}");
        assert!(setup.looked.contains(".aws/credentials"));
    }
}

#[test]
fn contradictions_are_errors() {
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let config = |text| [(".aws/config", text)];
    let cases: &[(Pairs<'_>, Pairs<'_>, Pairs<'_>, &str)] = &[
        (&[("aws.access_key_id", "k")], &[], &[], "aws.secret_access_key belong together"),
        (&[], &[("AWS_SECRET_ACCESS_KEY", "hidden")], &[], "AWS_ACCESS_KEY_ID"),
        (&[], &[("AWS_PROFILE", "none")], &[(".aws/credentials", KEYS)], "default, other"),
        (&[("aws.profile", "none")], &[], &[], "no profile 'none' (option aws.profile)"),
        (&[("aws.profile", "p")], &[], &config("[profile p]\nregion = x"), "holds no credentials"),
        (
            &[],
            &[],
            &config(
                "[default]\nrole_arn = arn\nsource_profile = a\n[profile a]\nrole_arn = arn\nsource_profile = default",
            ),
            "its own source",
        ),
        (&[], &[], &config("[default]\nrole_arn = arn\nsource_profile = x"), "no profile 'x'"),
        (&[], &[], &config("[default]\nrole_arn = arn"), "credential_source"),
        (&[], &[], &config("[default]\nrole_arn = arn\nmfa_serial = m"), "export-credentials"),
        (&[], &[], &config("[default]\nsso_account_id = 1\nsso_session = s"), "sso-session 's'"),
        (&[], &[], &config("[default]\nsso_account_id = 1\nsso_start_url = u"), "sso_region"),
    ];
    for (given, vars, files, expected) in cases {
        let home = tempfile::tempdir().unwrap();
        let environment = environment(home.path(), vars, files);
        let error = setup("b", &options(given), &environment).err().unwrap();
        assert!(error.contains(expected) && !error.contains("hidden"), "{error}");
    }
}

#[test]
fn regions_and_endpoints_come_from_options_environment_and_profiles() {
    let profile =
        "[default]\nregion = profile\nendpoint_url = http://profile\n[profile p]\nregion = p";
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(Pairs<'_>, Pairs<'_>, Option<&str>, Option<&str>)] = &[
        (&[], &[], Some("profile"), Some("http://profile")),
        (&[], &[("AWS_PROFILE", "p")], Some("p"), None),
        (&[], &[("AWS_DEFAULT_REGION", "default")], Some("default"), Some("http://profile")),
        (
            &[],
            &[("AWS_DEFAULT_REGION", "d"), ("AWS_REGION", "r"), ("AWS_ENDPOINT_URL", "http://all")],
            Some("r"),
            Some("http://all"),
        ),
        (
            &[],
            &[("AWS_ENDPOINT_URL", "http://all"), ("AWS_ENDPOINT_URL_S3", "http://s3")],
            Some("profile"),
            Some("http://s3"),
        ),
        (
            &[("aws.endpoint", "http://given"), ("aws.region", "given")],
            &[("AWS_ENDPOINT_URL_S3", "http://s3"), ("AWS_REGION", "r")],
            Some("given"),
            Some("http://given"),
        ),
    ];
    for (given, vars, region, endpoint) in cases {
        let home = tempfile::tempdir().unwrap();
        let environment = environment(home.path(), vars, &[(".aws/config", profile)]);
        let setup = setup("b", &options(given), &environment).unwrap();
        assert_eq!((setup.region.as_deref(), setup.endpoint.as_deref()), (*region, *endpoint));
    }
    let home = tempfile::tempdir().unwrap();
    let bare = setup("b", &StoreOptions::default(), &environment(home.path(), &[], &[])).unwrap();
    assert!(bare.region.is_none() && bare.endpoint.is_none() && bare.config.is_empty());
}

/// Answers every request with the same text, and keeps the requests.
#[derive(Debug)]
struct Canned {
    answer: &'static str,
    requests: Arc<Mutex<Vec<http::request::Parts>>>,
}

#[async_trait]
impl HttpService for Canned {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.requests.lock().unwrap().push(request.into_parts().0);
        Ok(HttpResponse::new(HttpResponseBody::from(self.answer.to_owned())))
    }
}

/// The key that a profile gives, if servers answer so, and what they were asked.
async fn fetched(
    config: &str,
    files: &[(&str, &str)],
    answer: &'static str,
) -> (Result<String, String>, Vec<http::request::Parts>) {
    let home = tempfile::tempdir().unwrap();
    let files = [files, &[(".aws/config", config)]].concat();
    let environment = environment(home.path(), &[], &files);
    let setup = setup("b", &StoreOptions::default(), &environment).unwrap();
    let requests = Arc::default();
    let client = HttpClient::new(Canned { answer, requests: Arc::clone(&requests) });
    let source = setup.found.unwrap().source;
    let renewed = Renewed::new(&source, &environment, &client, &NetworkThreads::shared());
    let key = renewed.get_credential().await;
    // The second is that of the first, unless it is about to expire.
    let again = renewed.get_credential().await;
    assert_eq!(key.is_ok(), again.is_ok());
    drop(renewed);
    let requests = requests.lock().unwrap().split_off(0);
    let text = |key: Arc<object_store::aws::AwsCredential>| {
        format!("{} {} {}", key.key_id, key.secret_key, key.token.as_deref().unwrap_or("-"))
    };
    (key.map(text).map_err(|e| e.to_string()), requests)
}

#[cfg(unix)]
#[tokio::test]
async fn programs_print_credentials() {
    // Quotes and spaces reach the shell as they are.
    let command = r#"[default]
credential_process = sh -c 'echo "{\"Version\": 1, \"AccessKeyId\": \"K\",  \"SecretAccessKey\": \"a  b\"}"'"#;
    assert_eq!(fetched(command, &[], "").await.0.as_deref(), Ok("K a  b -"));
    let failing = "[default]\ncredential_process = echo no login >&2; exit 3";
    let error = fetched(failing, &[], "").await.0.unwrap_err();
    assert!(error.contains("no login") && error.contains('3'), "{error}");
    let strange = r#"[default]
credential_process = printf '{"Version": 1, "AccessKeyId": "K\\n", "SecretAccessKey": "s"}'"#;
    let error = fetched(strange, &[], "").await.0.unwrap_err();
    assert!(error.contains("characters"), "{error}");
}

#[tokio::test]
async fn logins_are_exchanged_for_credentials() {
    const ANSWER: &str = r#"{"roleCredentials": {"accessKeyId": "K", "secretAccessKey": "s",
        "sessionToken": "t", "expiration": 4102444800000}}"#;
    const EXPIRED: &str = r#"{"roleCredentials": {"accessKeyId": "K", "secretAccessKey": "s",
        "sessionToken": "t", "expiration": 1000}}"#;
    const LOGIN: &str = r#"{"accessToken": "login", "expiresAt": "2100-01-01T00:00:00Z"}"#;
    const OLD: &str = r#"{"accessToken": "login", "expiresAt": "2000-01-01T00:00:00Z"}"#;
    // Named by SHA-1 of "corp" and of "https://corp/start".
    let session = ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json";
    let url = ".aws/sso/cache/717f6b50ccf65f10839b090b78b6ff0786091a96.json";
    let new = "[default]\nsso_session = corp\nsso_account_id = 1\nsso_role_name = r\n\
               [sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp/start";
    let old = "[default]\nsso_start_url = https://corp/start\nsso_region = eu-west-1\n\
               sso_account_id = 1\nsso_role_name = r";
    for (config, file) in [(new, session), (old, url)] {
        let (key, requests) = fetched(config, &[(file, LOGIN)], ANSWER).await;
        assert_eq!(key.as_deref(), Ok("K s t"));
        assert_eq!(requests.len(), 1);
        // Those that have expired are fetched anew each time.
        let (_, again) = fetched(config, &[(file, LOGIN)], EXPIRED).await;
        assert_eq!(again.len(), 2);
        assert_eq!(requests[0].uri.host(), Some("portal.sso.eu-west-1.amazonaws.com"));
        assert_eq!(requests[0].headers["x-amz-sso_bearer_token"], "login");
        let (error, requests) = fetched(config, &[(file, OLD)], ANSWER).await;
        assert!(error.unwrap_err().contains("aws sso login") && requests.is_empty());
    }
}

const ROLE: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials>\
    <AccessKeyId>ASIAROLEROLEROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
    <SessionToken>t</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration>\
    </Credentials></AssumeRoleResult></AssumeRoleResponse>";

#[tokio::test]
async fn roles_are_taken_with_signed_requests() {
    let config = "[default]\nrole_arn = arn:aws:iam::123456789012:role/reader\nsource_profile = base\n\
                  external_id = ext\nregion = eu-west-1\n\
                  [profile base]\naws_access_key_id = BASE\naws_secret_access_key = s";
    let (key, requests) = fetched(config, &[], ROLE).await;
    assert_eq!(key.as_deref(), Ok("ASIAROLEROLEROLE s t"));
    assert_eq!(requests.len(), 1);
    let uri = &requests[0].uri;
    assert_eq!(uri.host(), Some("sts.eu-west-1.amazonaws.com"));
    assert!(uri.query().unwrap().contains("ExternalId=ext"), "{uri}");
    let signed = requests[0].headers["authorization"].to_str().unwrap();
    assert!(signed.contains("Credential=BASE/") && signed.contains("/eu-west-1/sts/"), "{signed}");
}
