//! What went wrong at a store, and what to do about it; without what may be secret.

use std::error::Error as StdError;

use object_store::{
    Error,
    client::{HttpError, HttpErrorKind},
};

use crate::{error::short, urls::redact};

/// What object_store puts before a status.
const STATUS: &str = "non-2xx status code: ";

/// What messages say of a store.
#[derive(Debug)]
pub(super) struct StoreDescription {
    /// "the bucket 'b' at http://localhost:9000"
    pub(super) what: String,
    /// Where it is: an endpoint, or the cloud's name.
    pub(super) at: String,
    pub(super) access: Signing,
    /// The option that sets the region.
    pub(super) region_option: Option<&'static str>,
}

/// How requests are signed.
#[derive(Debug)]
pub(super) enum Signing {
    /// With credentials from there.
    With(String),
    /// Not at all, as was asked for.
    Unsigned,
    /// Not at all, as web servers don't ask for it.
    Open,
    /// Not at all, as no credentials were found.
    Nothing { looked: String, give: &'static str },
}

/// An explanation in place of the client's own error, which may hold signatures.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Explained(String);

impl StoreDescription {
    /// An error of the store in the user's terms. Its kind stays, unless there is no such bucket: what is
    /// missing then isn't an object.
    pub(super) fn explain(&self, error: Error) -> Error {
        let text = error.to_string();
        let code = tag(&text, "Code").unwrap_or_default();
        let source = match &error {
            Error::NotFound { .. } | Error::Generic { .. } if is_no_bucket(&text) => {
                let text = format!("there is no such place as {}: check its name", self.what);
                return generic(text);
            }
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                self.refused(code, &text)
            }
            Error::Generic { source, .. } => match self.other(code, &text, source.as_ref()) {
                Some(text) => text,
                None => detail(&text),
            },
            _ => detail(&text),
        };
        let source = Explained(source).into();
        match error {
            Error::Generic { store, .. } => Error::Generic { store, source },
            Error::NotFound { path, .. } => Error::NotFound { path, source },
            Error::PermissionDenied { path, .. } => Error::PermissionDenied { path, source },
            Error::Unauthenticated { path, .. } => Error::Unauthenticated { path, source },
            Error::Precondition { path, .. } => Error::Precondition { path, source },
            Error::NotModified { path, .. } => Error::NotModified { path, source },
            Error::AlreadyExists { path, .. } => Error::AlreadyExists { path, source },
            Error::NotSupported { .. } => Error::NotSupported { source },
            error @ Error::NotImplemented { .. } => error,
            _ => Error::Generic { store: "network", source },
        }
    }

    /// What to do where the server says no.
    fn refused(&self, code: &str, text: &str) -> String {
        let (what, detail) = (&self.what, detail(text));
        match &self.access {
            Signing::Nothing { looked, give } => format!(
                "{what} refused a request without credentials, and none were found in {looked}. It may be \
                 private: {give} ({detail})"
            ),
            Signing::Unsigned => format!(
                "{what} refused a request without credentials, as the option skip_signature asks for \
                 ({detail})"
            ),
            Signing::Open => format!(
                "{what} refused the request: the URL may lack a signature (?…), or user and password \
                 (https://user:password@…) ({detail})"
            ),
            Signing::With(from) => {
                let why = match code {
                    "SignatureDoesNotMatch" => "the secret key is wrong",
                    "InvalidAccessKeyId" | "NotSignedUp" => "it doesn't know the access key",
                    "RequestTimeTooSkewed" => "this machine's clock is wrong",
                    _ => "they may not read this, or there is nothing and they may not list",
                };
                format!("{what} refused the credentials from {from}: {why} ({detail})")
            }
        }
    }

    fn other(
        &self,
        code: &str,
        text: &str,
        source: &(dyn StdError + Send + Sync + 'static),
    ) -> Option<String> {
        let (what, at) = (&self.what, &self.at);
        match code {
            "ExpiredToken" | "InvalidToken" => return Some(self.refused(code, text)),
            // Of lists, object_store doesn't say what kind of error it is.
            _ if ["401", "403"].iter().any(|no| text.contains(&format!("{STATUS}{no}"))) => {
                return Some(self.refused(code, text));
            }
            "PermanentRedirect" | "AuthorizationHeaderMalformed" => {
                return Some(self.wrong_region(&detail(text)));
            }
            _ if text.contains("redirect without LOCATION") => {
                return Some(self.wrong_region("a redirect to nowhere"));
            }
            _ => {}
        }
        // The innermost is the client's own.
        let kind =
            chain(source).filter_map(|e| Some(e.downcast_ref::<HttpError>()?.kind())).last()?;
        let cause = deepest(source);
        Some(match kind {
            HttpErrorKind::Connect => format!(
                "{at} can't be reached: check the address, the network and the proxy ({cause})"
            ),
            HttpErrorKind::Timeout => format!("{what} doesn't answer: {cause}"),
            _ => format!("the connection to {at} failed: {cause}"),
        })
    }

    fn wrong_region(&self, detail: &str) -> String {
        let what = &self.what;
        match self.region_option {
            Some(option) => {
                format!("{what} is in another region: give it with the option {option} ({detail})")
            }
            None => format!("{what} has moved ({detail})"),
        }
    }
}

fn generic(text: String) -> Error {
    Error::Generic { store: "network", source: Explained(text).into() }
}

fn is_no_bucket(text: &str) -> bool {
    matches!(tag(text, "Code"), Some("NoSuchBucket" | "ContainerNotFound"))
        || text.contains("The specified bucket does not exist")
}

/// An error and those behind it.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

/// An error with the innermost of those behind it, which tells most.
pub(super) fn cause(error: &(dyn StdError + 'static)) -> String {
    let (outer, inner) = (redact(&error.to_string()).into_owned(), deepest(error));
    if outer.contains(&inner) { outer } else { format!("{outer}: {inner}") }
}

fn deepest(error: &(dyn StdError + 'static)) -> String {
    let last = chain(error).last().unwrap_or(error);
    short(&redact(&last.to_string())).to_string()
}

/// What a server answered, in a line.
fn detail(text: &str) -> String {
    let Some((_, answer)) = text.rsplit_once(STATUS) else {
        return short(&redact(text)).to_string();
    };
    let (status, body) = answer.split_once(": ").unwrap_or((answer, ""));
    match (tag(body, "Code"), tag(body, "Message")) {
        (Some(code), message) => {
            let message = message.map(|text| format!(": {text}")).unwrap_or_default();
            short(&redact(&format!("{status}, {code}{message}"))).to_string()
        }
        // What else a server says may hold what it was asked, secrets among it.
        _ => short(&redact(status.trim())).to_string(),
    }
}

/// The text between the tags of an XML document.
fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_to_do() {
        let error = |body: &str| {
            Error::PermissionDenied {
            path: "k".to_owned(),
            source: format!(
                "Error performing GET https://h/b/k?X-Amz-Signature=hidden in 3ms - Server returned \
                 non-2xx status code: 403 Forbidden: {body}"
            )
            .into(),
        }
        };
        let way = |access| StoreDescription {
            what: "the bucket 'b' at AWS".to_owned(),
            at: "AWS".to_owned(),
            access,
            region_option: Some("aws.region"),
        };
        let body = |code: &str| {
            format!(
                "<Error><Code>{code}</Code><Message>No</Message><StringToSign>hidden</StringToSign></Error>"
            )
        };
        let nothing = Signing::Nothing { looked: "the places".to_owned(), give: "set AWS_PROFILE" };
        let with = |from: &str| way(Signing::With(from.to_owned()));
        for (way, code, expected) in [
            (way(nothing), "AccessDenied", ["none were found in the places", "set AWS_PROFILE"]),
            (way(Signing::Unsigned), "AccessDenied", ["skip_signature", "403 Forbidden"]),
            (
                with("the profile 'x'"),
                "SignatureDoesNotMatch",
                ["profile 'x'", "secret key is wrong"],
            ),
            (with("there"), "InvalidAccessKeyId", ["from there", "doesn't know the access key"]),
        ] {
            let text = way.explain(error(&body(code)));
            assert!(matches!(text, Error::PermissionDenied { .. }));
            let text = format!("{text} {text:?}");
            for part in expected.into_iter().chain([code, "No"]) {
                assert!(text.contains(part), "{text}");
            }
            assert!(!text.contains("hidden"), "{text}");
        }
        let missing = |code: &str| Error::NotFound {
            path: "k".to_owned(),
            source: format!("Server returned non-2xx status code: 404 Not Found: {}", body(code))
                .into(),
        };
        assert!(matches!(with("there").explain(missing("NoSuchKey")), Error::NotFound { .. }));
        let text = with("there").explain(missing("NoSuchBucket"));
        assert!(
            matches!(text, Error::Generic { .. }) && text.to_string().contains("check its name")
        );
        let moved = Error::Generic {
            store: "S3",
            source: "Received redirect without LOCATION, this normally".into(),
        };
        assert!(with("there").explain(moved).to_string().contains("aws.region"));
    }
}
