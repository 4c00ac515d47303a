//! JSON from untrusted stores. A document that two readers might understand differently is an error, and so is a
//! document that would take too much memory.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::error::short;

/// Bytes of a value's slot in a list. The value's own contents are counted separately.
const VALUE_BYTES: usize = size_of::<Value>();

/// Bytes of a text beside its characters: the allocator's overhead, and rounding.
const TEXT_BYTES: usize = 24;

/// Bytes of a member's slot in an object: the key, the value, its hash, and a share of the table.
const MEMBER_BYTES: usize = size_of::<String>() + VALUE_BYTES + 32;

/// Size in bytes above which a document leaves so many small holes behind that the allocator is asked to return them.
const LARGE: usize = 1 << 20;

/// Parses a document whose values may take `memory` bytes. The depth is limited to serde_json's 128.
///
/// # Errors
/// A text with the fault and its position.
pub(crate) fn parse(bytes: &[u8], memory: u64) -> Result<Value, String> {
    // The byte order mark of UTF-8, which editors on Windows write and Python skips.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let value = parse_values(bytes, memory);
    // The values of a refused document are freed before here.
    if value.is_err() && bytes.len() > LARGE {
        give_back();
    }
    value
}

/// Returns free memory to the system. glibc keeps it for the threads that allocated it: a broken document that several
/// threads parse would take its memory several times.
fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` takes a number, and locks the memory that it touches.
    let _ = unsafe { libc::malloc_trim(0) };
}

fn parse_values(bytes: &[u8], memory: u64) -> Result<Value, String> {
    let first = match strict(bytes, memory) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    // Python writes NaN and Infinity into JSON, which has neither.
    if first.is_data() || !has_constants(bytes) {
        return Err(text(&first));
    }
    strict(&quote_constants(bytes), memory)
        .map_err(|second| if second.is_data() { text(&second) } else { text(&first) })
}

fn text(error: &serde_json::Error) -> String {
    if error.is_data() { error.to_string() } else { format!("it is not valid JSON: {error}") }
}

fn strict(bytes: &[u8], memory: u64) -> serde_json::Result<Value> {
    let budget = Budget { left: Cell::new(memory), all: memory };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    budget.spend::<serde_json::Error>(VALUE_BYTES)?;
    let value = Strict(&budget).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Bytes of memory that a document may still take.
struct Budget {
    left: Cell<u64>,
    all: u64,
}

impl Budget {
    fn spend<E: Error>(&self, bytes: usize) -> Result<(), E> {
        let left = self.left.get().checked_sub(bytes as u64);
        self.left.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or_else(|| {
            E::custom(format_args!(
                "its values take more than {} bytes of memory; the option max_metadata_bytes allows \
                 more",
                self.all
            ))
        })
    }
}

/// Builds a [`Value`].
#[derive(Clone, Copy)]
struct Strict<'a>(&'a Budget);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.0.spend(TEXT_BYTES.saturating_add(value.len()))?;
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            if list.len() == list.capacity() {
                // Lists grow by doubling: the next growth is paid for before it happens.
                let more = list.capacity().max(4);
                self.0.spend(more.saturating_mul(VALUE_BYTES))?;
                list.reserve_exact(more);
            }
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        let mut places = 0_usize;
        while let Some(key) = members.next_key::<String>()? {
            if map.len() == places {
                // Hash tables grow from 3 members to 7, and then to twice as many.
                let more = if places == 0 { 3 } else { places.saturating_add(1) };
                self.0.spend(more.saturating_mul(MEMBER_BYTES))?;
                places = places.saturating_add(more);
            }
            self.0.spend(TEXT_BYTES.saturating_add(key.len()))?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!(
                    "it has two members '{}' in one object",
                    short(&key)
                )));
            }
            let value = members.next_value_seed(self)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

fn has_constants(bytes: &[u8]) -> bool {
    let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    has(b"NaN") || has(b"Infinity")
}

/// Quotes the bare words `NaN`, `Infinity` and `-Infinity`.
fn quote_constants(bytes: &[u8]) -> Vec<u8> {
    let count = |word: &[u8]| bytes.windows(word.len()).filter(|window| *window == word).count();
    // The full capacity at once: growing would take twice the memory.
    let constants = count(b"NaN") + count(b"Infinity");
    let mut out = Vec::with_capacity(bytes.len() + 2 * constants);
    let mut rest = bytes;
    let mut in_string = false;
    while let Some((&first, tail)) = rest.split_first() {
        if in_string && first == b'\\' {
            let length = rest.len().min(2);
            out.extend_from_slice(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        if first == b'"' {
            in_string = !in_string;
        }
        let words: [&[u8]; 3] = [b"NaN", b"-Infinity", b"Infinity"];
        match words.iter().find(|word| !in_string && rest.starts_with(word)) {
            Some(word) => {
                out.push(b'"');
                out.extend_from_slice(word);
                out.push(b'"');
                rest = &rest[word.len()..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(text: &str) -> Result<Value, String> {
        parse(text.as_bytes(), 20_000)
    }

    #[test]
    fn values_are_those_of_serde_json() {
        let text = r#"{"b": [1, -2, 1.5, 18446744073709551615, true, null, "a\u0001é"], "a": {}}"#;
        let expected: Value = serde_json::from_str(text).unwrap();
        let value = parsed(text).unwrap();
        assert_eq!(value, expected);
        // The order of members too.
        assert_eq!(value.to_string(), expected.to_string());
        assert_eq!(parsed("[NaN]").unwrap(), json!(["NaN"]));
        assert_eq!(parsed("\u{feff}[1]").unwrap(), json!([1]));
    }

    #[test]
    fn ambiguous_documents_are_refused() {
        for text in [r#"{"a": 1, "a": 1}"#, r#"[{"x": {"a": NaN, "b": 1, "\u0061": 2}}]"#] {
            assert!(parsed(text).unwrap_err().contains("two members 'a'"), "{text}");
        }
        assert!(parsed(r#"[{"a": 1}, {"a": 1}, {"b": {"a": 1}, "a": 2}]"#).is_ok());
    }

    #[test]
    fn broken_documents_are_refused() {
        for text in ["", "{", "nope", "[NaN, nope]", "[] x", "1e400", "\"\\ud800\"", "[,]"] {
            assert!(parsed(text).unwrap_err().contains("not valid JSON"), "{text}");
        }
        assert!(parse(b"[\"\xff\"]", 1_000).is_err());
    }

    #[test]
    fn depth_and_memory_are_limited() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = |n| open.repeat(n) + "1" + &close.repeat(n);
            assert!(parse(deep(127).as_bytes(), 100_000).is_ok());
            assert!(parse(deep(128).as_bytes(), 100_000).is_err());
            assert!(parse(deep(100_000).as_bytes(), 100_000).is_err());
            assert!(parse(open.repeat(100_000).as_bytes(), 100_000).is_err());
        }
        // Half the memory may be empty slots.
        for (text, least) in [("[]", 72), ("[0]", 5 * 72), ("{\"a\":0}", 72 + 3 * 128)] {
            assert!(parse(text.as_bytes(), least - 1).is_err(), "{text}");
            assert!(parse(text.as_bytes(), least + 25).is_ok(), "{text}");
        }
        let error = parsed(&format!("[{}0]", "0,".repeat(1_000))).unwrap_err();
        assert!(error.contains("max_metadata_bytes"), "{error}");
        assert!(parsed(&format!("\"{}\"", "x".repeat(20_000))).is_err());
        assert!(parsed(&format!("{{\"{}\": 1}}", "x".repeat(20_000))).is_err());
    }

    #[test]
    fn bare_constants_are_quoted() {
        let text = br#"{"a": NaN, "b": [-Infinity, Infinity], "c": "NaN \" NaN", "d\\": NaN}"#;
        let expected =
            br#"{"a": "NaN", "b": ["-Infinity", "Infinity"], "c": "NaN \" NaN", "d\\": "NaN"}"#;
        assert_eq!(quote_constants(text), expected);
    }
}
