//! Texts, bytes and arrays of any length, as numcodecs stores them in one chunk.

use std::ops::Range;

use serde_json::Value;

use crate::json;

/// The bytes of a count or a length.
const WORD: usize = 4;

/// What an item in JSON takes, beside its text.
const ITEM_BYTES: u64 = 256;

/// What else there may be in JSON.
const OTHER_BYTES: u64 = 1 << 20;

/// Where the items of a chunk of `vlen-utf8`, `vlen-bytes` or `vlen-array` are: their count, then for
/// each its length in bytes and its bytes.
///
/// # Errors
/// A text, if there are more or fewer than `cells` items, or they end before or after the bytes do.
pub(super) fn vlen_items(encoded: &[u8], cells: usize) -> Result<Vec<Range<usize>>, String> {
    let truncated = || "the items end before they are complete".to_owned();
    let word = |at: usize| {
        let bytes = encoded.get(at..)?.first_chunk::<WORD>()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    let count = word(0).ok_or_else(truncated)?;
    if count != cells {
        return Err(format!("it holds {count} items instead of {cells}"));
    }
    // Each has a length at least.
    if encoded.len() / WORD <= cells {
        return Err(truncated());
    }
    let mut items = Vec::with_capacity(cells);
    let mut at = WORD;
    for _ in 0..cells {
        let len = word(at).ok_or_else(truncated)?;
        let start = at + WORD;
        at = start.checked_add(len).filter(|end| *end <= encoded.len()).ok_or_else(truncated)?;
        items.push(start..at);
    }
    if at != encoded.len() {
        return Err(format!("{} bytes are left behind the items", encoded.len() - at));
    }
    Ok(items)
}

/// The inverse of [`vlen_items`].
///
/// # Errors
/// A text, if there are more items, or bytes in one, than 32 bits count.
pub(super) fn vlen_bytes<'a>(
    items: impl ExactSizeIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, String> {
    let word = |len: usize| {
        let word = u32::try_from(len).map(u32::to_le_bytes);
        word.map_err(|_| format!("{len} items or bytes are more than a chunk can hold"))
    };
    let mut encoded = word(items.len())?.to_vec();
    for item in items {
        encoded.extend(word(item.len())?);
        encoded.extend(item);
    }
    Ok(encoded)
}

/// The items of a chunk of `json2`, in C order whatever the order of the array is: texts as they are,
/// `None` for null and what is not a number (pandas' missing text), anything else as its JSON text.
///
/// # Errors
/// A text, if it isn't such JSON or there are more or fewer than `cells` items.
pub(super) fn json2_items(encoded: &[u8], cells: usize) -> Result<Vec<Option<String>>, String> {
    let mut list = json_list(encoded, cells)?;
    // The items are followed by their type and shape.
    let shape = list.pop().ok_or("its JSON list lacks a shape")?;
    list.pop().ok_or("its JSON list lacks a type")?;
    let shape = shape.as_array().and_then(|shape| shape.iter().map(size).collect());
    let mut shape: Vec<usize> = shape.ok_or("the shape in its JSON list isn't one")?;
    if shape.is_empty() {
        shape.push(1);
    }
    let count = shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size));
    if count != Some(cells) {
        return Err(format!("it holds items of the shape {shape:?} instead of {cells}"));
    }
    // Nothing is reserved: the shape may claim more than there is.
    let mut items = Vec::new();
    flatten(list, &shape, &mut items)?;
    Ok(items)
}

/// The same for `json`, numcodecs' first codec of the kind: the items are followed by their type alone.
/// They are those of a chunk of this shape, as lists in lists or one after the other.
///
/// # Errors
/// Those of [`json2_items`].
pub(super) fn json_items(
    encoded: &[u8],
    shape: &[u64],
    cells: usize,
) -> Result<Vec<Option<String>>, String> {
    let mut list = json_list(encoded, cells)?;
    list.pop().filter(Value::is_string).ok_or("its JSON list lacks a type")?;
    let mut shape: Vec<usize> =
        shape.iter().map(|size| usize::try_from(*size).unwrap_or(usize::MAX)).collect();
    let is_flat = shape.len() < 2 || !list.iter().all(Value::is_array);
    if is_flat {
        shape = vec![cells];
    }
    let mut items = Vec::new();
    flatten(list, &shape, &mut items)?;
    Ok(items)
}

fn json_list(encoded: &[u8], cells: usize) -> Result<Vec<Value>, String> {
    let text = str::from_utf8(encoded).map_err(|e| format!("it isn't JSON: {e}"))?;
    let plain = without_odd_numbers(text);
    let text = plain.as_deref().unwrap_or(text);
    // The texts themselves, and what each takes as a value.
    let memory = (cells as u64).saturating_mul(ITEM_BYTES).saturating_add(text.len() as u64);
    let value = json::parse(text.as_bytes(), memory.saturating_add(OTHER_BYTES));
    match value.map_err(|e| format!("it isn't a list in JSON: {e}"))? {
        Value::Array(list) => Ok(list),
        _ => Err("it isn't a list in JSON".to_owned()),
    }
}

fn size(size: &Value) -> Option<usize> {
    usize::try_from(size.as_u64()?).ok()
}

/// Takes the items out of lists of lists.
fn flatten(
    list: Vec<Value>,
    shape: &[usize],
    items: &mut Vec<Option<String>>,
) -> Result<(), String> {
    let (size, inner) = shape.split_first().ok_or("its JSON list lacks a shape")?;
    if list.len() != *size {
        return Err(format!("one of its JSON lists has {} items instead of {size}", list.len()));
    }
    for item in list {
        match item {
            Value::Array(list) if !inner.is_empty() => flatten(list, inner, items)?,
            _ if !inner.is_empty() => return Err("an item stands in place of a list".to_owned()),
            Value::Null => items.push(None),
            Value::String(text) => items.push(Some(text)),
            other => items.push(Some(other.to_string())),
        }
    }
    Ok(())
}

/// Replaces the numbers that Python writes although JSON doesn't have them, or few readers do: what is not a
/// number becomes null, the infinite ones texts, and so do integers of more than 64 bits, which would lose
/// their last digits. `None` if there are none.
fn without_odd_numbers(text: &str) -> Option<String> {
    const NUMBERS: [(&str, &str); 3] =
        [("NaN", "null"), ("-Infinity", "\"-Infinity\""), ("Infinity", "\"Infinity\"")];
    let mut replaced = String::new();
    let (mut copied, mut at) = (0, 0);
    let (mut quoted, mut escaped) = (false, false);
    while let Some(rest) = text.get(at..) {
        let Some(character) = rest.chars().next() else { break };
        let number = NUMBERS.iter().find(|(number, _)| !quoted && rest.starts_with(number));
        if let Some((number, replacement)) = number {
            replaced.push_str(text.get(copied..at)?);
            replaced.push_str(replacement);
            at += number.len();
            copied = at;
            continue;
        }
        if !quoted && (character == '-' || character.is_ascii_digit()) {
            let is_part = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
            let number = rest.split_once(|c| !is_part(c)).map_or(rest, |(number, _)| number);
            if is_wide_integer(number) {
                replaced.push_str(text.get(copied..at)?);
                replaced.extend(["\"", number, "\""]);
                copied = at + number.len();
            }
            at += number.len();
            continue;
        }
        quoted ^= character == '"' && !escaped;
        escaped = quoted && character == '\\' && !escaped;
        at += character.len_utf8();
    }
    replaced.push_str(text.get(copied..)?);
    (copied > 0).then_some(replaced)
}

/// Whether it is an integer of more than 64 bits.
fn is_wide_integer(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    // What JSON doesn't allow stays an error.
    !digits.starts_with('0')
        && !digits.is_empty()
        && digits.bytes().all(|digit| digit.is_ascii_digit())
        && number.parse::<i64>().is_err()
        && number.parse::<u64>().is_err()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::codec_cases, *};

    const VLEN: [&str; 3] = ["vlen-utf8", "vlen-bytes", "vlen-array"];

    #[test]
    fn items_are_those_of_numcodecs() {
        for case in codec_cases::of(&VLEN) {
            let cells = case.items().len();
            let items = vlen_items(&case.encoded, cells).unwrap();
            let items: Vec<&[u8]> = items.into_iter().map(|item| &case.encoded[item]).collect();
            assert_eq!(vlen_bytes(items.iter().copied()).as_ref(), Ok(&case.encoded), "{case}");
            let hex = |item: &Value| codec_cases::from_hex(item.as_str().unwrap());
            assert_eq!(items, case.items().iter().map(hex).collect::<Vec<_>>(), "{case}");

            assert!(vlen_items(&case.encoded, cells + 1).is_err());
            assert!(cells == 0 || vlen_items(&case.encoded, cells - 1).is_err());
            for len in 0..case.encoded.len() {
                assert!(vlen_items(&case.encoded[..len], cells).is_err(), "{case}");
            }
            let longer = [&case.encoded[..], &[0]].concat();
            assert!(vlen_items(&longer, cells).is_err());
        }
    }

    #[test]
    fn json_is_that_of_numcodecs() {
        for case in codec_cases::of(&["json2"]) {
            let expected: Vec<Option<String>> =
                case.items().iter().map(|item| item.as_str().map(str::to_owned)).collect();
            assert_eq!(json2_items(&case.encoded, expected.len()), Ok(expected.clone()), "{case}");
            assert!(json2_items(&case.encoded, expected.len() + 1).is_err());
            for len in 0..case.encoded.len() {
                assert!(json2_items(&case.encoded[..len], expected.len()).is_err(), "{case}");
            }
        }
    }

    #[test]
    fn integers_keep_their_digits() {
        let items = |json: &str| {
            let items = json2_items(json.as_bytes(), 6).unwrap().into_iter();
            items.map(Option::unwrap).collect::<Vec<_>>()
        };
        assert_eq!(
            items(
                r#"[9223372036854775808,-9223372036854775809,18446744073709551616,-1180591620717411303424,
                    [1000000000000000000000000000001],"12345678901234567890123\"4","|O",[6]]"#
            ),
            [
                "9223372036854775808",
                "-9223372036854775809",
                "18446744073709551616",
                "-1180591620717411303424",
                r#"["1000000000000000000000000000001"]"#,
                "12345678901234567890123\"4",
            ]
        );
        assert_eq!(
            items(r#"[-9223372036854775808,18446744073709551615,1e30,-0.5,1,"a","|O",[6]]"#),
            ["-9223372036854775808", "18446744073709551615", "1e+30", "-0.5", "1", "a"]
        );
        for json in ["[00000000000000000000001,\"|O\",[1]]", "[-,\"|O\",[1]]", "[1-2,\"|O\",[1]]"] {
            assert!(json2_items(json.as_bytes(), 1).is_err(), "{json}");
        }
    }

    #[test]
    fn the_first_json_has_no_shape() {
        let items = |json: &str, shape: &[u64]| {
            let cells = shape.iter().product::<u64>() as usize;
            json_items(json.as_bytes(), shape, cells).map(|items| {
                let items: Vec<String> = items
                    .into_iter()
                    .map(|item| item.unwrap_or_else(|| "NULL".to_owned()))
                    .collect();
                items.join(",")
            })
        };
        assert_eq!(items(r#"["a",1,null,NaN,"|O"]"#, &[4]).unwrap(), "a,1,NULL,NULL");
        assert_eq!(items(r#"[["a","b"],["c","d"],"|O"]"#, &[2, 2]).unwrap(), "a,b,c,d");
        assert_eq!(items(r#"["a","b","c","d","|O"]"#, &[2, 2]).unwrap(), "a,b,c,d");
        assert_eq!(items(r#"[[1,2],[3],"|O"]"#, &[2]).unwrap(), "[1,2],[3]");
        assert_eq!(items(r#"["|O"]"#, &[0]).unwrap(), "");
        for (json, shape) in [
            (r#"["a","|O"]"#, &[2][..]),
            (r#"["a","b"]"#, &[2]),
            (r#"["a",3]"#, &[1]),
            (r#"[["a"],"|O"]"#, &[2, 2]),
            ("[]", &[1]),
        ] {
            assert!(items(json, shape).is_err(), "{json}");
        }
    }

    #[test]
    fn claims_are_checked_before_anything_is_allocated() {
        assert!(vlen_items(&[255; 4], 0xffff_ffff).is_err());
        assert!(vlen_items(&[255; 8], 0xffff_ffff).is_err());
        for json in [
            "",
            "1",
            "[]",
            "[[1]]",
            r#"["|O"]"#,
            r#"["|O",1]"#,
            r#"["|O",[-1]]"#,
            r#"["a","|O",[99999999999999,99999999999999]]"#,
            r#"["a","|O",[1,99999999999999]]"#,
            r#"["a","|O",[0,1]]"#,
            r#"["a","|O",[1,1]]"#,
            r#"[["a","b"],["c"],"|O",[2,2]]"#,
            r#"["a",NaN,"#,
            r#"[NaNNaN,"|O",[1]]"#,
            "[\"\\ud800\",\"|O\",[1]]",
        ] {
            for cells in [0, 1, 4, 99_999_999_999_999] {
                assert!(json2_items(json.as_bytes(), cells).is_err(), "{json}");
            }
        }
        let nested = "[".repeat(100_000);
        assert!(json2_items(nested.as_bytes(), 1).is_err());
    }

    proptest! {
        #[test]
        fn changed_bytes_are_errors_at_most(
            which in 0..100_usize,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let cases = codec_cases::of(&[VLEN[0], VLEN[1], VLEN[2], "json2"]);
            let case = &cases[which % cases.len()];
            let cells = case.items().len();
            let mut encoded = case.encoded.clone();
            for (at, byte) in changes {
                let at = at.index(encoded.len());
                encoded[at] ^= byte;
            }
            if let Ok(items) = vlen_items(&encoded, cells) {
                prop_assert_eq!(items.len(), cells);
                prop_assert!(items.iter().all(|item| encoded.get(item.clone()).is_some()));
            }
            if let Ok(items) = json2_items(&encoded, cells) {
                prop_assert_eq!(items.len(), cells);
            }
        }
    }
}
