//! What a URL says: which store, which path in it, and what of it may be shown.

use object_store::path::Path;
use url::{Position, Url, form_urlencoded};

use crate::{
    Error, OpenOptions, Result, StoreOptions,
    error::short,
    urls::{redact, scheme},
};

/// The kinds of stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreKind {
    S3,
    Gcs,
    Azure,
    Http,
}

impl StoreKind {
    /// The prefix of its options.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::S3 => "aws",
            Self::Gcs => "gcp",
            Self::Azure => "azure",
            Self::Http => "http",
        }
    }

    fn of(scheme: &str) -> Option<Self> {
        Some(match scheme {
            "s3" | "s3a" => Self::S3,
            "gs" => Self::Gcs,
            "az" | "adl" | "azure" | "abfs" | "abfss" => Self::Azure,
            "http" | "https" => Self::Http,
            _ => return None,
        })
    }
}

/// A place in a store, from a URL without the options that are ours.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) kind: StoreKind,
    /// The URL up to the path, without what may be secret.
    pub(super) root: Url,
    /// The bucket, container or host.
    pub(super) bucket: String,
    pub(super) path: Path,
    /// The URL without what may be secret.
    pub(super) name: String,
    /// User and password, for web servers.
    pub(super) login: Option<(String, String)>,
    /// What the server wants to have behind each URL.
    pub(super) query: Option<String>,
}

impl Address {
    pub(super) fn parse(url: &Url) -> Result<Self> {
        let name = public_name(url);
        let invalid = |reason: String| Error::Location { location: name.clone(), reason };
        let Some(kind) = StoreKind::of(url.scheme()) else {
            return Err(invalid(format!(
                "{}:// is no address of a store that lsio knows: use a local path, s3://, gs://, az://, \
                 abfs://, https:// or http://, or register an object store with the session",
                url.scheme()
            )));
        };
        let Some(host) = url.host_str() else {
            return Err(invalid("the URL names no bucket or host".to_owned()));
        };
        let path = Path::from_url_path(url.path()).map_err(|e| invalid(e.to_string()))?;
        let mut root = url.clone();
        strip(&mut root);
        root.set_path("/");
        let decoded = |text: &str| {
            form_urlencoded::parse(text.replace('+', "%2B").as_bytes())
                .next()
                .map_or_else(String::new, |(text, _)| text.into_owned())
        };
        let login = (kind == StoreKind::Http && !url.username().is_empty())
            .then(|| (decoded(url.username()), decoded(url.password().unwrap_or_default())));
        let bucket = match (kind, url.username()) {
            (StoreKind::Azure, container) if !container.is_empty() => container,
            (StoreKind::Http, _) => &url[Position::BeforeHost..Position::AfterPort],
            _ => host,
        };
        Ok(Self {
            kind,
            bucket: bucket.to_owned(),
            root,
            path,
            login,
            query: url.query().filter(|query| !query.is_empty()).map(str::to_owned),
            name,
        })
    }
}

/// Takes the options that are ours from the end of a URL. What else is there belongs to the server; to S3
/// and Google Cloud Storage nothing does.
pub(crate) fn take_options(url: &mut Url, options: &mut OpenOptions) -> Result<()> {
    let Some(query) = url.query().map(str::to_owned) else { return Ok(()) };
    let strict = matches!(StoreKind::of(url.scheme()), Some(StoreKind::S3 | StoreKind::Gcs));
    let mut theirs = Vec::new();
    // What isn't ours stays as it is spelled: it may be part of a signature.
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        for (key, value) in form_urlencoded::parse(pair.as_bytes()) {
            let ours = OpenOptions::KEYS.contains(&key.as_ref()) || StoreOptions::has_prefix(&key);
            if ours || strict {
                options.set(&key, &value)?;
            } else {
                theirs.push(pair);
            }
        }
    }
    let theirs = theirs.join("&");
    url.set_query((!theirs.is_empty()).then_some(theirs.as_str()));
    Ok(())
}

/// A URL as messages may show it: without a password or a query, which may be a signature.
#[must_use]
pub fn public_name(url: &Url) -> String {
    let mut url = url.clone();
    strip(&mut url);
    url.into()
}

/// What a user wrote, as messages may show it: a path as it is, a URL with those of its options that say
/// how to read, not as whom.
#[must_use]
pub fn public_text(text: &str) -> String {
    if matches!(scheme(text), None | Some("file")) {
        return text.to_owned();
    }
    let Ok(url) = Url::parse(text) else { return redact(text).into_owned() };
    let pairs = url.query().unwrap_or_default().split('&');
    let ours = |pair: &&str| {
        let mut keys = form_urlencoded::parse(pair.as_bytes()).map(|(key, _)| key);
        keys.any(|key| OpenOptions::KEYS.contains(&key.as_ref()))
    };
    let pairs = pairs.filter(ours).collect::<Vec<_>>().join("&");
    let question = if pairs.is_empty() { "" } else { "?" };
    format!("{}{question}{pairs}", public_name(&url))
}

fn strip(url: &mut Url) {
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_password(None);
    // What stands there is a container in Azure's URLs.
    if StoreKind::of(url.scheme()) != Some(StoreKind::Azure) {
        let _ = url.set_username("");
    }
}

/// The address of a server, with a scheme and a host; the clients panic at others.
///
/// # Errors
/// If it is none, with the name of the option that gives it.
pub(super) fn server(option: &str, text: &str) -> Result<String, String> {
    let url = Url::parse(text).ok().filter(|url| {
        ["http", "https"].contains(&url.scheme()) && url.host_str().is_some_and(|h| !h.is_empty())
    });
    match url {
        Some(url) => Ok(url.as_str().trim_end_matches('/').to_owned()),
        None => Err(format!(
            "'{}' is no address of a server ({option}): it needs a scheme and a host, as in \
             http://localhost:9000",
            short(&redact(text))
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_schemes_and_hosts() {
        for (text, expected) in [
            ("http://localhost:9000/", "http://localhost:9000"),
            ("HTTPS://h/base", "https://h/base"),
        ] {
            assert_eq!(server("aws.endpoint", text).as_deref(), Ok(expected));
        }
        for text in [
            "localhost:9202",
            "127.0.0.1:9202",
            "",
            "http://",
            "http://a b",
            "http://[::1",
            "http://h:99999",
        ] {
            let error = server("aws.endpoint", text).unwrap_err();
            assert!(error.contains("aws.endpoint") && error.contains(text), "{error}");
        }
    }

    fn address(text: &str) -> Result<(Address, OpenOptions)> {
        let (mut url, mut options) = (Url::parse(text).unwrap(), OpenOptions::default());
        take_options(&mut url, &mut options)?;
        Ok((Address::parse(&url)?, options))
    }

    #[test]
    fn urls_name_stores_and_paths() {
        use StoreKind::{Azure, Gcs, Http, S3};
        for (text, kind, bucket, path, name) in [
            ("s3://b/x/s.zarr", S3, "b", "x/s.zarr", "s3://b/x/s.zarr"),
            ("s3a://b", S3, "b", "", "s3a://b"),
            ("s3://b/x/?dims=time&aws.region=eu-west-1", S3, "b", "x", "s3://b/x/"),
            ("s3://u:p@b/x%20y/%C3%A9", S3, "b", "x y/é", "s3://b/x%20y/%C3%A9"),
            ("gs://b/x", Gcs, "b", "x", "gs://b/x"),
            ("az://c/x?sig=a%2Fb%3D", Azure, "c", "x", "az://c/x"),
            ("adl://c/x", Azure, "c", "x", "adl://c/x"),
            (
                "abfss://c@a.dfs.core.windows.net/x",
                Azure,
                "c",
                "x",
                "abfss://c@a.dfs.core.windows.net/x",
            ),
            ("https://h/x/s.zarr?token=1", Http, "h", "x/s.zarr", "https://h/x/s.zarr"),
            ("http://u:p%40@h:8000/x", Http, "h:8000", "x", "http://h:8000/x"),
        ] {
            let (address, _) = address(text).unwrap();
            assert_eq!((address.kind, address.bucket.as_str()), (kind, bucket), "{text}");
            assert_eq!((address.path.as_ref(), address.name.as_str()), (path, name), "{text}");
            assert!(
                !address.root.as_str().contains(['?', 'p']) || kind == Http,
                "{}",
                address.root
            );
        }
        let login = address("http://u:p%40@h:8000/x").unwrap().0.login;
        assert_eq!(login, Some(("u".to_owned(), "p@".to_owned())));
        for bad in ["ftp://h/x?token=hidden", "s3:///x", "s3://b/a//b"] {
            let error = address(bad).unwrap_err().to_string();
            assert!(error.contains("can't be opened") && !error.contains("hidden"), "{error}");
        }
    }

    #[test]
    fn pairs_are_ours_or_the_servers() {
        let (ours, options) =
            address("https://h/x?a=1%2F2&dims=time&http.proxy_url=http://p&b&c=").unwrap();
        assert_eq!(ours.query.as_deref(), Some("a=1%2F2&b&c="));
        assert_eq!(options.dims, Some(vec!["time".to_owned()]));
        assert!(options.store.of("http").any(|pair| pair == ("proxy_url", "http://p")));

        let sas = "sv=2022&sig=a%2Fb%3D&se=2030-01-01T00%3A00%3A00Z";
        let (theirs, _) = address(&format!("az://c/x?{sas}&group=g")).unwrap();
        assert_eq!(theirs.query.as_deref(), Some(sas));
        assert_eq!(address("https://h/x?dims=time").unwrap().0.query, None);

        for (text, shown) in [
            ("store.zarr?dims=x", "store.zarr?dims=x"),
            ("https://u:p@h/x?sig=1&dims=x,y&a", "https://h/x?dims=x,y"),
            ("s3://b/x?aws.access_key_id=k&group=g&dims=x", "s3://b/x?group=g&dims=x"),
            ("az://c/x?sig=1", "az://c/x"),
            ("https://h:x/y?sig=1", "https://h:x/y?…"),
        ] {
            assert_eq!(public_text(text), shown);
        }

        for strict in ["s3://b/x?versionId=hidden", "gs://b/x?dimms=time", "s3://b?aws.regio=x"] {
            let error = address(strict).unwrap_err().to_string();
            assert!(error.contains("unknown option"), "{error}");
            assert!(!error.contains("hidden"), "{error}");
        }
    }
}
