//! Headers that both protocols share: ranges and conditions.

use std::ops::Range;

use http::{
    HeaderMap, HeaderName,
    header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE},
};
use s3s::dto::{Range as Asked, Timestamp, TimestampFormat};

use crate::files::About;

/// Answer to a request for an object, by its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The whole object.
    Whole,
    /// These bytes of the object, at least one.
    Part(Range<u64>),
    /// The client has the object already.
    NotModified,
    /// The object isn't the version that the client wants.
    PreconditionFailed,
    /// The object has no byte in the range.
    NotSatisfiable,
}

impl Verdict {
    /// Judges a request for an object. Ignores headers that it doesn't understand, and several ranges.
    pub(crate) fn new(headers: &HeaderMap, about: &About) -> Self {
        // Dates are whole seconds, and count only without an ETag.
        let since = |name| {
            let date = Timestamp::parse(TimestampFormat::HttpDate, text(headers, name)?).ok()?;
            let modified = text_of_date(about);
            let modified = Timestamp::parse(TimestampFormat::HttpDate, &modified?).ok()?;
            Some(modified > date)
        };
        let failed = match text(headers, &IF_MATCH) {
            Some(tags) => !names(tags, about),
            None => since(&IF_UNMODIFIED_SINCE) == Some(true),
        };
        if failed {
            return Self::PreconditionFailed;
        }
        let same = match text(headers, &IF_NONE_MATCH) {
            Some(tags) => names(tags, about),
            None => since(&IF_MODIFIED_SINCE) == Some(false),
        };
        if same {
            return Self::NotModified;
        }
        match text(headers, &RANGE).and_then(|range| Asked::parse(range).ok()) {
            None => Self::Whole,
            Some(range) => match range.check(about.size) {
                Ok(range) if !range.is_empty() => Self::Part(range),
                _ => Self::NotSatisfiable,
            },
        }
    }
}

/// Text of a header.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Modification time of an object, in the form of headers.
pub(crate) fn text_of_date(about: &About) -> Option<String> {
    let mut text = Vec::new();
    Timestamp::from(about.modified).format(TimestampFormat::HttpDate, &mut text).ok()?;
    String::from_utf8(text).ok()
}

/// Header `Content-Range` of an answer with a part of an object.
pub(crate) fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end - 1)
}

/// Decodes `%XX`; `None` if the result isn't UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let coded = match (first, tail) {
            (b'%', &[high, low, ..]) => digit(high).zip(digit(low)),
            _ => None,
        };
        let coded = coded.and_then(|(high, low)| u8::try_from(16 * high + low).ok());
        bytes.push(coded.unwrap_or(first));
        rest = if coded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).ok()
}

/// Whether a list of ETags contains the object's.
fn names(tags: &str, about: &About) -> bool {
    tags.split(',').map(str::trim).any(|tag| {
        let strong = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
        tag == "*" || strong == about.etag
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn verdict(size: u64, headers: &[(HeaderName, &str)]) -> Verdict {
        let modified = UNIX_EPOCH + Duration::from_millis(1_000_000_000_500);
        let about = About { size, modified, etag: "tag".to_owned() };
        let headers = headers.iter().map(|(name, text)| (name.clone(), text.parse().unwrap()));
        Verdict::new(&headers.collect(), &about)
    }

    #[test]
    fn ranges() {
        for (size, range, expected) in [
            (10, "bytes=0-3", Verdict::Part(0..4)),
            (10, "bytes=9-9", Verdict::Part(9..10)),
            (10, "bytes=8-100", Verdict::Part(8..10)),
            (10, "bytes=4-", Verdict::Part(4..10)),
            (10, "bytes=-3", Verdict::Part(7..10)),
            (10, "bytes=-30", Verdict::Part(0..10)),
            (10, "bytes=10-", Verdict::NotSatisfiable),
            (10, "bytes=10-12", Verdict::NotSatisfiable),
            (10, "bytes=-0", Verdict::NotSatisfiable),
            (0, "bytes=0-", Verdict::NotSatisfiable),
            (0, "bytes=-5", Verdict::NotSatisfiable),
            (10, "bytes=5-3", Verdict::Whole),
            (10, "bytes=0-1,4-5", Verdict::Whole),
            (10, "lines=0-1", Verdict::Whole),
        ] {
            assert_eq!(verdict(size, &[(RANGE, range)]), expected, "{range} of {size}");
        }
    }

    #[test]
    fn conditions() {
        let (before, then, after) = (
            "Sun, 09 Sep 2001 01:46:39 GMT",
            "Sun, 09 Sep 2001 01:46:40 GMT",
            "Sun, 09 Sep 2001 01:46:41 GMT",
        );
        let (whole, same, other) =
            (Verdict::Whole, Verdict::NotModified, Verdict::PreconditionFailed);
        for (header, text, expected) in [
            (IF_MATCH, r#""tag""#, &whole),
            (IF_MATCH, r#""x", "tag""#, &whole),
            (IF_MATCH, "*", &whole),
            (IF_MATCH, r#""x""#, &other),
            (IF_NONE_MATCH, r#""x""#, &whole),
            (IF_NONE_MATCH, r#""tag""#, &same),
            (IF_NONE_MATCH, "*", &same),
            (IF_UNMODIFIED_SINCE, before, &other),
            (IF_UNMODIFIED_SINCE, then, &whole),
            (IF_MODIFIED_SINCE, before, &whole),
            (IF_MODIFIED_SINCE, then, &same),
            (IF_MODIFIED_SINCE, after, &same),
            (IF_MODIFIED_SINCE, "yesterday", &whole),
        ] {
            assert_eq!(&verdict(10, &[(header.clone(), text)]), expected, "{header}: {text}");
        }
        // A condition takes precedence over a range, and an ETag over a date.
        let range = (RANGE, "bytes=20-");
        assert_eq!(verdict(10, &[range, (IF_MATCH, r#""x""#)]), other);
        assert_eq!(verdict(10, &[(IF_UNMODIFIED_SINCE, before), (IF_MATCH, r#""tag""#)]), whole);
    }

    #[test]
    fn names_are_decoded() {
        for (text, expected) in [
            ("a%20b+c%25%3D", Some("a b+c%=")),
            ("%C3%A9", Some("é")),
            ("%C3", None),
            ("100%", Some("100%")),
            ("%zz%2", Some("%zz%2")),
            ("%+1", Some("%+1")),
        ] {
            assert_eq!(percent_decode(text).as_deref(), expected, "{text}");
        }
    }
}
