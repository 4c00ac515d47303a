//! Small arrays encoded and decoded by numcodecs, for tests: see `tests/fixtures/make_codecs.py`.

use std::sync::LazyLock;

use serde_json::{Map, Value};

/// An array that numcodecs encoded and decoded.
pub(super) struct Case {
    pub(super) codec: &'static str,
    pub(super) configuration: &'static Map<String, Value>,
    pub(super) encoded: Vec<u8>,
    /// The decoded bytes as hexadecimal text, or the decoded items.
    decoded: &'static Value,
}

impl Case {
    /// The decoded bytes.
    pub(super) fn decoded(&self) -> Vec<u8> {
        from_hex(self.decoded.as_str().unwrap())
    }

    /// The decoded items of a codec that decodes to a list.
    pub(super) fn items(&self) -> &'static [Value] {
        self.decoded.as_array().unwrap()
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}: {:02x?}", self.codec, self.configuration, self.encoded)
    }
}

/// The fixture `codecs.json`, parsed.
pub(super) fn all() -> &'static Value {
    static ALL: LazyLock<Value> = LazyLock::new(|| {
        serde_json::from_str(include_str!("../../tests/fixtures/codecs.json")).unwrap()
    });
    &ALL
}

/// The cases of these codecs. Fails if a codec has no case.
pub(super) fn of(codecs: &[&str]) -> Vec<Case> {
    let cases: Vec<Case> = all()["cases"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|case| codecs.contains(&case["codec"].as_str().unwrap()))
        .map(|case| Case {
            codec: case["codec"].as_str().unwrap(),
            configuration: case["configuration"].as_object().unwrap(),
            encoded: from_hex(case["encoded"].as_str().unwrap()),
            decoded: &case["decoded"],
        })
        .collect();
    for codec in codecs {
        assert!(cases.iter().any(|case| case.codec == *codec), "no case of {codec}");
    }
    cases
}

/// Decodes hexadecimal text, two digits per byte.
pub(super) fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
