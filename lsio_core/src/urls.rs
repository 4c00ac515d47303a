//! URLs in texts: finds the scheme, and removes secrets for messages.

use std::borrow::Cow;

/// Scheme of a URL; `None` for a plain path. A single letter is a Windows drive, not a scheme.
pub fn scheme(location: &str) -> Option<&str> {
    let (scheme, _) = location.split_once("://")?;
    let mut chars = scheme.chars();
    let valid = chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    (valid && scheme.len() > 1).then_some(scheme)
}

/// Removes queries, users and passwords from the URLs in a text: they may be secret.
pub(crate) fn redact(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let end = |c: char| c.is_whitespace() || "\"'`<>".contains(c);
        let (url, behind) = after.split_at(after.find(end).unwrap_or(after.len()));
        let (place, query) = match url.find(['?', '#']) {
            // A period or bracket that closes the sentence isn't part of the query, but can't be told apart.
            Some(at) => (url.get(..at).unwrap_or_default(), "?…"),
            None => (url, ""),
        };
        let (host, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        let host = match host.rsplit_once('@') {
            // Azure's URLs have the container there.
            Some((user, _)) if before.ends_with("abfs") || before.ends_with("abfss") => {
                if user.contains(':') { bare(host) } else { host }
            }
            _ => bare(host),
        };
        out.extend([before, "://", host, path, query]);
        rest = behind;
    }
    if out.is_empty() {
        return Cow::Borrowed(text);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// A host without user and password.
fn bare(host: &str) -> &str {
    host.rsplit_once('@').map_or(host, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_urls_are_left_out() {
        for (text, expected) in [
            ("what? no URL", "what? no URL"),
            ("GET https://h:1/a/b?sig=x%2F&y=z in 3ms", "GET https://h:1/a/b?… in 3ms"),
            ("'http://u:p@h/x' and \"s3://b/k?a=b\".", "'http://h/x' and \"s3://b/k?…\"."),
            ("https://token@h/x#part", "https://h/x?…"),
            ("abfss://c@a.net/x?sig=1", "abfss://c@a.net/x?…"),
            ("abfss://c:p@a.net/x", "abfss://a.net/x"),
            ("https://h/x@y é", "https://h/x@y é"),
            ("://", "://"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }
}
