//! Metadata documents with one value changed, and documents that are no JSON.

use serde_json::{Map, Value, json};

use super::{
    Case, Expect,
    stores::{self, Files, lone_v3},
};

/// The way to a value in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// The ways to all values of a document, itself included.
fn paths(value: &Value) -> Vec<Vec<Step>> {
    fn walk(value: &Value, path: &mut Vec<Step>, out: &mut Vec<Vec<Step>>) {
        out.push(path.clone());
        let children: Vec<(Step, &Value)> = match value {
            Value::Object(map) => map.iter().map(|(k, v)| (Step::Key(k.clone()), v)).collect(),
            Value::Array(list) => {
                list.iter().enumerate().map(|(i, v)| (Step::Index(i), v)).collect()
            }
            _ => Vec::new(),
        };
        for (step, child) in children {
            path.push(step);
            walk(child, path, out);
            path.pop();
        }
    }
    let mut out = Vec::new();
    walk(value, &mut Vec::new(), &mut out);
    out
}

fn name(path: &[Step]) -> String {
    let steps = path.iter().map(|step| match step {
        Step::Key(key) => key.clone(),
        Step::Index(index) => index.to_string(),
    });
    steps.collect::<Vec<_>>().join(".")
}

fn at<'a>(value: &'a mut Value, path: &[Step]) -> &'a mut Value {
    path.iter().fold(value, |value, step| match step {
        Step::Key(key) => &mut value[key.as_str()],
        Step::Index(index) => &mut value[*index],
    })
}

/// Stands for JSON that a [`Value`] can't be, or shouldn't be for its size.
const RAW: &str = "@RAW@";

/// What a value may be replaced by: a name and JSON.
fn replacements(old: &Value) -> Vec<(&'static str, String)> {
    let mut out: Vec<(&'static str, String)> = [
        ("null", "null"),
        ("true", "true"),
        ("minus_one", "-1"),
        ("zero", "0"),
        ("one_and_a_half", "1.5"),
        ("2_31", "2147483648"),
        ("2_53", "9007199254740992"),
        ("minus_2_63", "-9223372036854775808"),
        ("2_63", "9223372036854775808"),
        ("2_64_minus_1", "18446744073709551615"),
        ("2_70", "1180591620717411303424"),
        ("1e308", "1e308"),
        ("1e400", "1e400"),
        ("nan", "NaN"),
        ("infinity", "-Infinity"),
        ("empty", "\"\""),
        ("x", "\"x\""),
        ("up", "\"../../x\""),
        ("odd_text", "\"\\u0000\\\\/\\ud83d\\ude00'\\\"\""),
        ("empty_list", "[]"),
        ("empty_object", "{}"),
        ("nulls", "[null, null]"),
        ("huge_sizes", "[4294967296, 4294967296]"),
        ("sizes_of_0", "[0, 0]"),
        ("many_sizes", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]"),
    ]
    .map(|(name, json)| (name, json.to_owned()))
    .to_vec();
    out.push(("in_a_list", json!([old]).to_string()));
    out.push(("as_text", json!(old.to_string()).to_string()));
    out.push(("deep", "[".repeat(200) + &"]".repeat(200)));
    match old {
        Value::Array(list) => {
            out.push(("longer", json!([&list[..], &list[..]].concat()).to_string()));
            out.push(("shorter", json!(list.get(1..).unwrap_or_default()).to_string()));
            out.push(("reversed", json!(list.iter().rev().collect::<Vec<_>>()).to_string()));
        }
        Value::Object(map) => {
            let mut more = map.clone();
            more.insert("unknown".to_owned(), json!({"must_understand": true}));
            out.push(("with_unknown", Value::Object(more).to_string()));
        }
        Value::String(text) => {
            out.push(("upper", json!(text.to_uppercase()).to_string()));
            out.push(("with_nul", json!(format!("{text}\0")).to_string()));
        }
        Value::Number(_) => out.push(("halves", "0.1e1".to_owned())),
        _ => {}
    }
    out
}

/// What is large enough to be put in few places alone.
fn large() -> Vec<(&'static str, String)> {
    vec![
        ("long_text", format!("\"{}\"", "x".repeat(1 << 20))),
        ("long_list", format!("[{}0]", "0,".repeat(100_000))),
        ("long_nulls", format!("[{}null]", "null,".repeat(100_000))),
        ("deepest", "[".repeat(100_000) + &"]".repeat(100_000)),
        ("deep_objects", "{\"a\":".repeat(100_000) + "1" + &"}".repeat(100_000)),
        ("wide_object", {
            let members: Vec<String> = (0..30_000).map(|i| format!("\"k{i}\":{i}")).collect();
            format!("{{{}}}", members.join(","))
        }),
    ]
}

/// All documents with one value changed or missing: the name, the way to the value, the document.
fn changed(
    document: &Value,
    with_large: impl Fn(&[Step]) -> bool,
) -> Vec<(String, String, Vec<u8>)> {
    let mut out = Vec::new();
    for path in paths(document) {
        let place = name(&path);
        let mut old = document.clone();
        let old = at(&mut old, &path).take();
        let mut put = |what: &str, text: &[u8]| {
            out.push((format!("{place}_{what}"), place.clone(), text.to_vec()));
        };
        let mut all = replacements(&old);
        if with_large(&path) {
            all.extend(large());
        }
        for (what, json) in all {
            let mut changed = document.clone();
            *at(&mut changed, &path) = Value::String(RAW.to_owned());
            let text = changed.to_string().replace(&format!("\"{RAW}\""), &json);
            put(what, text.as_bytes());
        }
        let Some((last, above)) = path.split_last() else { continue };
        let mut missing = document.clone();
        match (last, at(&mut missing, above)) {
            (Step::Key(key), Value::Object(map)) => drop(map.shift_remove(key)),
            (Step::Index(index), Value::Array(list)) => drop(list.remove(*index)),
            _ => continue,
        }
        put("missing", missing.to_string().as_bytes());
        if let Step::Key(key) = last {
            // Once more, with another value, before and behind.
            let mut with = document.clone();
            if let Value::Object(map) = at(&mut with, above) {
                map.insert(RAW.to_owned(), json!(1));
            }
            let again = with.to_string().replace(RAW, key);
            put("twice", again.as_bytes());
        }
    }
    out
}

/// Texts that are no good document whatever they were.
fn no_documents(document: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    for cut in (0..document.len()).step_by(7) {
        out.push((format!("cut_{cut}"), document[..cut].to_vec()));
    }
    let text = String::from_utf8(document.to_vec()).unwrap();
    let mut put = |name: &str, bytes: Vec<u8>| out.push((name.to_owned(), bytes));
    put("not_utf8", [&b"{\"\xff\xfe\": 1,"[..], &document[1..]].concat());
    put("utf16", text.encode_utf16().flat_map(u16::to_le_bytes).collect());
    put("zeros", vec![0; document.len()]);
    put("binary", (0..=255).collect());
    put("open", b"[".repeat(100_000));
    put("open_objects", b"{\"a\":".repeat(100_000));
    put("trailing", [document, b"garbage"].concat());
    put("two", [document, document].concat());
    put("single_quotes", text.replace('"', "'").into_bytes());
    put("lone_surrogate", text.replacen('{', "{\"\\ud800\": 1,", 1).into_bytes());
    put("leading_comma", text.replacen('{', "{,", 1).into_bytes());
    put("quotes", b"\"".repeat(1_001));
    put("backslashes", [&b"{\""[..], &b"\\".repeat(100_001)[..]].concat());
    put("minus", b"-".to_vec());
    put("digits", b"9".repeat(1_000_000));
    put("exponent", [&b"{\"a\": 1e"[..], &b"9".repeat(100_000)[..], b"}"].concat());
    out
}

/// Documents that would take much memory.
fn enormous(document: &[u8]) -> Vec<(String, Vec<u8>)> {
    let inner = &document[1..];
    let filled = |unit: &str, len: usize| {
        let list = unit.repeat(len / unit.len());
        [b"{\"a\": [", list.as_bytes(), b"0], ", inner].concat()
    };
    vec![
        ("100_mb_of_spaces".to_owned(), [&b" ".repeat(100 << 20)[..], document].concat()),
        ("12_mb_of_lists".to_owned(), filled("[],", 12 << 20)),
        ("12_mb_of_numbers".to_owned(), filled("0,", 12 << 20)),
        ("12_mb_of_objects".to_owned(), filled("{\"a\":0},", 12 << 20)),
        ("12_mb_of_bad_constants".to_owned(), filled("NaN,", 12 << 20)),
        ("12_mb_of_text".to_owned(), {
            [b"{\"a\": \"", &b"x".repeat(12 << 20)[..], b"\", ", inner].concat()
        }),
        ("60_mb_of_numbers".to_owned(), filled("0,", 60 << 20)),
    ]
}

/// What changes of a value may do, by the name of its place.
fn expectation(place: &str) -> Expect {
    // What isn't looked at for an answer about `v`, or doesn't change it.
    let ignored = [
        "long_name",
        "history",
        "valid_range",
        "grid_mapping",
        "units",
        "Conventions",
        "title",
        "axis",
        "calendar",
        "flag_",
        "valid_m",
        "_Unsigned",
        "missing_value",
        "kind",
        "must_understand",
        "bounds",
    ];
    let free = ["shape", "chunk", "dtype", "data_type", "scale_factor", "add_offset", "separator"];
    let last = place.rsplit('.').find(|step| !step.is_empty() && step.parse::<u32>().is_err());
    let last = last.unwrap_or_default();
    // Another object with all that is in it, or a text about the whole.
    if place.is_empty() || ["attributes", "metadata", "consolidated_metadata"].contains(&last) {
        return Expect::Anything;
    }
    if place.starts_with("chunk_grid") || place.starts_with("chunk_key_encoding") {
        Expect::Anything
    } else if ignored.iter().any(|key| place.contains(key)) {
        Expect::GoodOrError
    } else if free.iter().any(|key| last.contains(key)) {
        Expect::Anything
    } else {
        Expect::GoodOrError
    }
}

/// The cases of one document of a store.
fn of(file: &str, files: &Files) -> Vec<Case> {
    let document: Value = serde_json::from_slice(&files[file]).unwrap();
    let short = file.replace("zarr.json", "").replace(['/', '.'], "");
    let with = |bytes: Vec<u8>| {
        let mut files = files.clone();
        files.insert(file.to_owned(), bytes);
        files
    };
    let of_v = file.starts_with("v/");
    let mut cases = Vec::new();
    for (name, place, bytes) in changed(&document, |path| of_v && path.len() <= 1) {
        // Of other arrays and of the group only what makes rows can change what is said of v.
        let expect = match of_v {
            true => expectation(&place),
            false => Expect::Anything,
        };
        cases.push(Case::new(format!("{short}_{name}"), with(bytes), expect));
    }
    for (name, bytes) in no_documents(&files[file]) {
        // Without the metadata of its arrays a group may be one of other arrays; not with half of v's.
        let expect = if of_v { Expect::GoodOrError } else { Expect::Anything };
        cases.push(Case::new(format!("{short}_text_{name}"), with(bytes), expect));
    }
    cases
}

/// Every `n`th case, from a place that depends on the file, for documents like others.
fn some(cases: Vec<Case>, n: usize) -> Vec<Case> {
    cases.into_iter().step_by(n).collect()
}

pub(super) fn v2() -> Vec<Case> {
    let files = stores::v2(false);
    let mut cases = vec![Case::new("good".to_owned(), files.clone(), Expect::Good)];
    cases.extend(of("v/.zarray", &files));
    cases.extend(some(of("v/.zattrs", &files), 2));
    cases.extend(some(of(".zgroup", &files), 2));
    cases.extend(some(of(".zattrs", &files), 5));
    cases.extend(some(of("t/.zarray", &files), 3));
    cases.extend(some(of("t/.zattrs", &files), 3));
    cases.extend(some(of("area/.zattrs", &files), 3));
    for (name, bytes) in enormous(&files["v/.zarray"]) {
        let mut files = files.clone();
        files.insert("v/.zarray".to_owned(), bytes);
        cases.push(Case::new(format!("vzarray_{name}"), files, Expect::GoodOrError));
    }
    let consolidated = stores::v2(true);
    cases.push(Case::new("zmetadata_good".to_owned(), consolidated.clone(), Expect::Good));
    cases.extend(some(of(".zmetadata", &consolidated), 17));
    cases.extend(odd_names(&consolidated, ".zmetadata"));
    cases
}

pub(super) fn v3() -> Vec<Case> {
    let files = stores::v3(false);
    let mut cases = vec![Case::new("good".to_owned(), files.clone(), Expect::Good)];
    cases.extend(of("v/zarr.json", &files));
    cases.extend(some(of("t/zarr.json", &files), 7));
    cases.extend(some(of("zarr.json", &files), 3));
    for (name, bytes) in enormous(&files["v/zarr.json"]) {
        let mut files = files.clone();
        files.insert("v/zarr.json".to_owned(), bytes);
        cases.push(Case::new(format!("v_{name}"), files, Expect::GoodOrError));
    }
    cases
}

pub(super) fn consolidated() -> Vec<Case> {
    let files = stores::v3(true);
    let mut cases = vec![Case::new("good".to_owned(), files.clone(), Expect::Good)];
    cases.extend(some(of("zarr.json", &files), 11));
    cases.extend(odd_names(&files, "zarr.json"));
    // Groups within groups, and a group that has itself.
    let root: Value = serde_json::from_slice(&files["zarr.json"]).unwrap();
    let mut itself = root.clone();
    itself["consolidated_metadata"]["metadata"]["self"] = root.clone();
    itself["consolidated_metadata"]["metadata"][""] = root.clone();
    itself["consolidated_metadata"]["metadata"]["self/self"] = root.clone();
    let mut nested = root.clone();
    for _ in 0..40 {
        let mut outer = root.clone();
        outer["consolidated_metadata"]["metadata"]["inner"] = nested;
        nested = outer;
    }
    for (name, document) in [("itself", itself), ("nested", nested)] {
        let mut files = files.clone();
        files.insert("zarr.json".to_owned(), document.to_string().into_bytes());
        cases.push(Case::new(name.to_owned(), files, Expect::GoodOrError));
    }
    cases
}

/// Consolidated entries, and references to arrays, with names that lead elsewhere.
fn odd_names(files: &Files, file: &str) -> Vec<Case> {
    let names = [
        "..",
        "../v",
        "../../../etc/passwd",
        ".",
        "./v",
        "/v",
        "//",
        "v/",
        "v//",
        "v/../v",
        "",
        " ",
        "/etc/passwd",
        "v\0",
        "\0",
        "a\\b",
        "..\\v",
        "%2e%2e/v",
        "%2e%2e",
        "%2F",
        "~",
        "$HOME",
        "*",
        "v?consolidated=false",
        "\u{202e}",
        "a\nb",
        "\x1b[31m",
        "'",
        "\"",
        "''; DROP TABLE v; --",
        "c",
        "zarr.json",
        ".zarray",
        ".zgroup",
        "con",
        "v\u{0301}",
    ];
    let mut cases = Vec::new();
    let document: Value = serde_json::from_slice(&files[file]).unwrap();
    let is_v3 = file == "zarr.json";
    let long = "n".repeat(5_000);
    let longer = "n/".repeat(20_000);
    for (i, name) in names.into_iter().chain([long.as_str(), longer.as_str()]).enumerate() {
        let mut odd = document.clone();
        let metadata = match is_v3 {
            true => &mut odd["consolidated_metadata"]["metadata"],
            false => &mut odd["metadata"],
        };
        let entries: Map<String, Value> = match is_v3 {
            true => Map::from_iter([(name.to_owned(), metadata["v"].clone())]),
            false => [".zarray", ".zattrs"]
                .into_iter()
                .map(|file| (format!("{name}/{file}"), metadata[format!("v/{file}")].clone()))
                .collect(),
        };
        if let Value::Object(metadata) = metadata {
            metadata.extend(entries);
        }
        let mut changed = files.clone();
        changed.insert(file.to_owned(), odd.to_string().into_bytes());
        cases.push(Case::new(format!("name_{i}"), changed, Expect::GoodOrError));

        // As a coordinate, as bounds, as a dimension.
        for attribute in ["coordinates", "bounds", "_ARRAY_DIMENSIONS", "grid_mapping"] {
            if i % 3 != 0 {
                continue;
            }
            let mut odd = document.clone();
            let attributes = match is_v3 {
                true => &mut odd["consolidated_metadata"]["metadata"]["v"]["attributes"],
                false => &mut odd["metadata"]["v/.zattrs"],
            };
            attributes[attribute] = match attribute {
                "_ARRAY_DIMENSIONS" => json!([name, "x"]),
                _ => json!(name),
            };
            if attribute == "_ARRAY_DIMENSIONS" {
                attributes["_NCZARR_ARRAY"] = json!({"dimrefs": [name, "/x"]});
                if is_v3 {
                    odd["consolidated_metadata"]["metadata"]["v"]["dimension_names"] =
                        json!([name, "x"]);
                }
            }
            let mut changed = files.clone();
            changed.insert(file.to_owned(), odd.to_string().into_bytes());
            let name = format!("reference_{attribute}_{i}");
            let expect = match attribute {
                "_ARRAY_DIMENSIONS" => Expect::GoodOrError,
                _ => Expect::Good,
            };
            cases.push(Case::new(name, changed, expect));
        }
    }
    cases
}

/// The configurations of codecs.
pub(super) fn codecs() -> Vec<Case> {
    let bytes = json!({"name": "bytes", "configuration": {"endian": "little"}});
    let zstd = json!({"name": "zstd", "configuration": {"level": 1, "checksum": false}});
    let chains = [
        (
            "blosc",
            json!([bytes, {"name": "blosc", "configuration": {
                "cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0,
            }}]),
        ),
        (
            "gzip",
            json!([bytes, {"name": "gzip", "configuration": {"level": 1}}, {"name": "crc32c"}]),
        ),
        ("transpose", json!([{"name": "transpose", "configuration": {"order": [0]}}, bytes])),
        (
            "shard",
            json!([{"name": "sharding_indexed", "configuration": {
                "chunk_shape": [512], "codecs": [bytes, zstd],
                "index_codecs": [bytes, {"name": "crc32c"}], "index_location": "end",
            }}]),
        ),
        (
            "nested",
            json!([{"name": "sharding_indexed", "configuration": {
                "chunk_shape": [512], "index_codecs": [bytes], "index_location": "start",
                "codecs": [{"name": "sharding_indexed", "configuration": {
                    "chunk_shape": [64], "codecs": [bytes], "index_codecs": [bytes, {"name": "crc32c"}],
                    "index_location": "end",
                }}],
            }}]),
        ),
    ];
    let mut cases = Vec::new();
    for (chain, codecs) in chains {
        let files = lone_v3(&codecs);
        let document: Value = serde_json::from_slice(&files["v/zarr.json"]).unwrap();
        cases.push(Case::new(format!("{chain}_good"), files.clone(), Expect::Good));
        let n = if chain == "nested" { 3 } else { 1 };
        for (name, _, bytes) in changed(&codecs, |path| path.len() <= 3).into_iter().step_by(n) {
            let mut text = document.clone();
            text["codecs"] = json!(RAW);
            let text = text.to_string().into_bytes();
            let raw = format!("\"{RAW}\"").into_bytes();
            let at = text.windows(raw.len()).position(|window| window == raw).unwrap();
            let text = [&text[..at], &bytes, &text[at + raw.len()..]].concat();
            let mut files = files.clone();
            files.insert("v/zarr.json".to_owned(), text);
            let place = name.contains("chunk_shape") || name.contains("endian");
            let expect = if place { Expect::Anything } else { Expect::GoodOrError };
            cases.push(Case::new(format!("{chain}_{name}"), files, expect));
        }
    }
    cases.extend(contradictions());
    cases
}

/// Documents whose parts are fine, but not together.
fn contradictions() -> Vec<Case> {
    let bytes = json!({"name": "bytes", "configuration": {"endian": "little"}});
    let files = lone_v3(&json!([bytes]));
    let document: Value = serde_json::from_slice(&files["v/zarr.json"]).unwrap();
    let shard = |chunk: Value, codecs: Value| {
        json!([{"name": "sharding_indexed", "configuration": {
            "chunk_shape": chunk, "codecs": codecs, "index_codecs": [bytes],
            "index_location": "end",
        }}])
    };
    let mut deep = json!([bytes]);
    for _ in 0..30 {
        deep = shard(json!([512]), deep);
    }
    let blosc = |typesize: u64| {
        json!([bytes, {"name": "blosc", "configuration": {
            "cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": typesize, "blocksize": 0,
        }}])
    };
    let rank = |n: usize| json!(vec![1; n]);
    let grid = |chunk: Value| json!({"name": "regular", "configuration": {"chunk_shape": chunk}});
    let changes: Vec<(&str, Vec<(&str, Value)>)> = vec![
        ("rank_of_shape", vec![("shape", json!([64, 64]))]),
        ("rank_of_chunks", vec![("chunk_grid", grid(json!([64, 64])))]),
        ("rank_of_names", vec![("dimension_names", json!(["a", "b"]))]),
        (
            "same_names",
            vec![
                ("shape", json!([64, 64])),
                ("chunk_grid", grid(json!([64, 64]))),
                ("dimension_names", json!(["a", "a"])),
            ],
        ),
        ("typesize", vec![("codecs", blosc(8))]),
        ("typesize_0", vec![("codecs", blosc(0))]),
        ("typesize_255", vec![("codecs", blosc(255))]),
        ("fill_of_text", vec![("fill_value", json!("text"))]),
        ("fill_beyond", vec![("fill_value", json!(1_u64 << 40))]),
        ("fill_float", vec![("fill_value", json!(0.5))]),
        ("shard_not_divided", vec![("codecs", shard(json!([500]), json!([bytes])))]),
        ("shard_larger", vec![("codecs", shard(json!([8192]), json!([bytes])))]),
        ("shard_rank", vec![("codecs", shard(json!([64, 64]), json!([bytes])))]),
        ("shard_of_1", vec![("codecs", shard(json!([1]), json!([bytes])))]),
        ("shards_in_shards", vec![("codecs", deep)]),
        ("two_bytes", vec![("codecs", json!([bytes, bytes]))]),
        ("no_bytes", vec![("codecs", json!([]))]),
        (
            "many_codecs",
            vec![("codecs", {
                let mut codecs = vec![bytes.clone()];
                codecs.extend(vec![json!({"name": "crc32c"}); 20_000]);
                json!(codecs)
            })],
        ),
        ("rank_64", vec![("shape", rank(64)), ("chunk_grid", grid(rank(64)))]),
        ("rank_65", vec![("shape", rank(65)), ("chunk_grid", grid(rank(65)))]),
        ("rank_10000", vec![("shape", rank(10_000)), ("chunk_grid", grid(rank(10_000)))]),
        (
            "product_wraps",
            vec![("shape", json!([1_u64 << 40, 1_u64 << 40])), ("chunk_grid", grid(json!([1, 1])))],
        ),
        (
            "product_wraps_to_0",
            vec![
                ("shape", json!([1_u64 << 32, 1_u64 << 32])),
                ("chunk_grid", grid(json!([1_u64 << 32, 1_u64 << 32]))),
            ],
        ),
        (
            "chunk_product_wraps",
            vec![
                ("shape", json!([64, 64])),
                ("chunk_grid", grid(json!([1_u64 << 32, 1_u64 << 32]))),
            ],
        ),
        ("shape_of_0", vec![("shape", json!([0]))]),
        ("chunk_of_0", vec![("chunk_grid", grid(json!([0])))]),
        ("chunk_huge", vec![("chunk_grid", grid(json!([1_u64 << 40])))]),
        ("chunk_2_63", vec![("chunk_grid", grid(json!([1_u64 << 63])))]),
        ("chunk_most", vec![("chunk_grid", grid(json!([(1_u64 << 29) - 1])))]),
        (
            "rectilinear_bomb",
            vec![(
                "chunk_grid",
                json!({"name": "rectilinear", "configuration": {
                    "kind": "inline", "chunk_shapes": [[[1, 1_u64 << 40]]],
                }}),
            )],
        ),
        (
            "rectilinear_wraps",
            vec![(
                "chunk_grid",
                json!({"name": "rectilinear", "configuration": {
                    "kind": "inline", "chunk_shapes": [[[1_u64 << 40, 1_u64 << 40]]],
                }}),
            )],
        ),
        (
            "rectangular",
            vec![(
                "chunk_grid",
                json!({"name": "rectangular", "configuration": {
                    "chunk_shape": [[1, 2, 4_093]],
                }}),
            )],
        ),
        (
            "fixed_text_huge",
            vec![
                (
                    "data_type",
                    json!({
                        "name": "fixed_length_utf32", "configuration": {"length_bytes": 1_u64 << 62},
                    }),
                ),
                ("fill_value", json!("")),
            ],
        ),
        ("raw_bits_huge", vec![("data_type", json!("r18446744073709551608"))]),
        (
            "struct_deep",
            vec![("data_type", {
                let mut deep = json!("int32");
                for _ in 0..50 {
                    deep = json!({"name": "struct", "configuration": {"fields": [["a", deep]]}});
                }
                deep
            })],
        ),
        (
            "suffix",
            vec![(
                "chunk_key_encoding",
                json!({
                    "name": "zarrs.default_suffix", "configuration": {"separator": "/", "suffix": "/../../x"},
                }),
            )],
        ),
        (
            "fanout",
            vec![(
                "chunk_key_encoding",
                json!({
                    "name": "fanout", "configuration": {"max_children": 0},
                }),
            )],
        ),
        (
            "separator_up",
            vec![(
                "chunk_key_encoding",
                json!({
                    "name": "default", "configuration": {"separator": "/../"},
                }),
            )],
        ),
        ("storage_transformer", vec![("storage_transformers", json!([{"name": "x"}]))]),
        ("must_understand", vec![("extension", json!({"must_understand": true}))]),
        ("need_not_understand", vec![("extension", json!({"must_understand": false}))]),
    ];
    let unread = ["shape_of_0", "rectangular"];
    changes
        .into_iter()
        .map(|(name, changes)| {
            let mut changed = document.clone();
            for (key, value) in changes {
                changed[key] = value;
            }
            let mut files = files.clone();
            files.insert("v/zarr.json".to_owned(), changed.to_string().into_bytes());
            let expect = match name {
                "need_not_understand" => Expect::Good,
                name if unread.contains(&name)
                    || name.starts_with("rank")
                    || name == "same_names" =>
                {
                    Expect::Anything
                }
                _ => Expect::GoodOrError,
            };
            Case::new(format!("contradiction_{name}"), files, expect)
        })
        .collect()
}

/// Arrays beside `v` whose types, filters and values are odd. `v` doesn't suffer.
pub(super) fn neighbours() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, files: Files| cases.push(Case::new(name, files, Expect::Good));
    let deep = (0..60).fold(json!("<i4"), |inner, _| json!([["a", inner]]));
    let wide: Vec<Value> = (0..5_000).map(|i| json!([format!("f{i}"), "<i4"])).collect();
    let types = [
        json!("<U4611686018427387904"),
        json!("<U1073741824"),
        json!("<U99999999999999999999"),
        json!("|S9223372036854775807"),
        json!("|S18446744073709551615"),
        json!("|S2147483648"),
        json!("|V9223372036854775807"),
        json!("|V4294967296"),
        json!("<U0"),
        json!("|S0"),
        json!("|V0"),
        json!("<U-1"),
        json!("|S+5"),
        json!("<i3"),
        json!("<i16"),
        json!("<f16"),
        json!("<c256"),
        json!("<M8[D]"),
        json!("<M8[99999999999999999999D]"),
        json!("<M8[0s]"),
        json!("<M8[x]"),
        json!("<M8"),
        json!("<m8[generic]"),
        json!("|O"),
        json!("O"),
        json!("\u{e9}i4"),
        json!("<"),
        json!(""),
        deep,
        json!(wide),
        json!([["a", "<i4"], ["a", "<i4"]]),
        json!([["", "<i4"]]),
        json!([["a", "<i4", [1_u64 << 40]]]),
        json!([["a", "<i4", [1_u64 << 40, 1_u64 << 40]]]),
        json!([["a", "<i4", [-1]]]),
        json!([["a", "<i4", []]]),
        json!([["a"]]),
        json!([[]]),
        json!([[["t", "n"], "<i4"]]),
        json!([["a", "|S4611686018427387904"], ["b", "|S4611686018427387904"]]),
    ];
    for (i, dtype) in types.iter().enumerate() {
        for (chunk, bytes) in [("none", vec![]), ("some", vec![0xff; 24]), ("more", vec![1; 4096])]
        {
            let changes = json!({"dtype": dtype});
            add(format!("type_{i}_{chunk}"), stores::with_other(&changes, bytes));
        }
    }
    let number = u64::MAX;
    let filters = [
        json!({"id": "vlen-utf8"}),
        json!({"id": "vlen-bytes"}),
        json!({"id": "vlen-array", "dtype": "<i4"}),
        json!({"id": "json2"}),
        json!({"id": "pickle"}),
        json!({"id": "delta", "dtype": "<i4"}),
        json!({"id": "delta", "dtype": "<i8", "astype": "<i1"}),
        json!({"id": "delta"}),
        json!({"id": "fixedscaleoffset", "scale": 0, "offset": 1e308, "dtype": "<f8", "astype": "<i1"}),
        json!({"id": "quantize", "digits": 400, "dtype": "<f4"}),
        json!({"id": "packbits"}),
        json!({"id": "categorize", "labels": [], "dtype": "<U10", "astype": "|u1"}),
        json!({"id": "astype", "encode_dtype": "<i8", "decode_dtype": "<i4"}),
        json!({"id": "shuffle", "elementsize": 0}),
        json!({"id": "shuffle", "elementsize": number}),
        json!({"id": "bitround", "keepbits": 400}),
        json!({"id": "crc32"}),
        json!({"id": "crc32c"}),
        json!({"id": "adler32"}),
        json!({"id": "fletcher32"}),
        json!({"id": "lz4"}),
        json!({"id": "lzma"}),
        json!({"id": "zfpy"}),
        json!({"id": "n5_wrapper"}),
        json!({"id": "../x"}),
        json!({}),
        json!(3),
        Value::Null,
        json!([]),
        json!("lz4"),
    ];
    let claims = |count: u32, len: u32| [count.to_le_bytes(), len.to_le_bytes(), *b"abcd"].concat();
    let chunks = [
        ("empty", vec![]),
        ("short", vec![1, 2, 3]),
        ("ones", vec![0xff; 24]),
        ("zeros", vec![0; 24]),
        ("counts", claims(u32::MAX, 1)),
        ("lengths", claims(6, u32::MAX)),
        ("half", claims(6, 1 << 31)),
        ("many", vec![0; 1 << 20]),
    ];
    for (i, filter) in filters.iter().enumerate() {
        for (name, chunk) in &chunks {
            for (dtype, kind) in [("|O", "object"), ("<i4", "int"), ("<f8", "float")] {
                let changes = json!({"dtype": dtype, "filters": [filter]});
                add(
                    format!("filter_{i}_{kind}_{name}"),
                    stores::with_other(&changes, chunk.clone()),
                );
            }
            let changes = json!({"compressor": filter});
            add(format!("compressor_{i}_{name}"), stores::with_other(&changes, chunk.clone()));
        }
    }
    cases
}

/// Times that are no times. They are none of `v`'s business.
pub(super) fn times() -> Vec<Case> {
    let units = [
        "days since 0000-00-00",
        "hours since 99999999999-01-01",
        "seconds since 2000-13-45 25:61:61",
        "days since",
        " since ",
        "since",
        "days since -5-1-1",
        "nanoseconds since 1970-01-01",
        "",
        "microseconds since 1970-01-01 00:00:00+99:99",
        "months since 2000-01-31",
        "years since 1-1-1",
        "days since 2000-01-01T00:00:00.99999999999999999999999999",
        "1e308 days since 2000-01-01",
        "days since 2000-02-30",
        "days since 1582-10-10",
        "days since 9223372036854775807-01-01",
        "days since \0",
        "days since 2000-01-01 \u{202e}",
        "days",
        "hours",
    ];
    let calendars =
        ["standard", "proleptic_gregorian", "noleap", "all_leap", "360_day", "julian", "none", "x"];
    let whole = |values: [i64; 4]| ("int64", values.map(i64::to_le_bytes));
    let float = |values: [f64; 4]| ("float64", values.map(f64::to_le_bytes));
    let values = [
        whole([i64::MIN, -1, 0, i64::MAX]),
        whole([1 << 53, -(1 << 53), i64::MAX - 1, 1 << 62]),
        whole([0, 1, 2, 3]),
        float([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e308]),
        float([-1e300, 0.1, 1e19, -9.3e18]),
        ("numpy.datetime64", [i64::MIN, i64::MAX, i64::MIN + 1, 0].map(i64::to_le_bytes)),
    ];
    let mut cases = Vec::new();
    for (i, unit) in units.iter().enumerate() {
        for calendar in calendars {
            for (j, (dtype, values)) in values.iter().enumerate() {
                let attributes = json!({"units": unit, "calendar": calendar});
                let attributes = match j % 2 {
                    0 => attributes,
                    _ => json!({
                        "units": unit, "calendar": calendar, "scale_factor": 1e300, "add_offset": -1e308,
                        "_FillValue": i64::MAX, "dtype": "timedelta64[ns]",
                    }),
                };
                let files = stores::with_times(&attributes, dtype, values);
                cases.push(Case::new(format!("{calendar}_{i}_{j}"), files, Expect::Good));
            }
        }
    }
    cases
}
