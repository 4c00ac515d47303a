//! Stores that few programs write, from their bytes to what the binary shows and says of them.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{failed, stderr, succeeded};

/// A directory for stores.
struct Stores(TempDir);

impl Stores {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn put(&self, file: &str, bytes: &[u8]) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn document(&self, file: &str, document: &Value) {
        self.put(file, document.to_string().as_bytes());
    }

    fn group(&self, path: &str, attributes: &Value) {
        let document = json!({"zarr_format": 3, "node_type": "group", "attributes": attributes});
        self.document(&format!("{path}/zarr.json"), &document);
    }

    /// An array of version 2 of one chunk, with further members. Without bytes its values are the fill value.
    fn v2(&self, path: &str, dtype: &Value, shape: &[u64], more: &Value, chunk: Option<&[u8]>) {
        let mut document = json!({
            "zarr_format": 2, "shape": shape, "chunks": shape, "dtype": dtype, "fill_value": null,
            "compressor": null, "filters": null, "order": "C",
        });
        let members = document.as_object_mut().unwrap();
        members.extend(more.as_object().unwrap().clone());
        self.document(&format!("{path}/.zarray"), &document);
        if let Some(chunk) = chunk {
            let key: Vec<&str> = shape.iter().map(|_| "0").collect();
            self.put(&format!("{path}/{}", key.join(".")), chunk);
        }
    }

    /// The same of version 3.
    fn v3(&self, path: &str, data_type: &str, shape: &[u64], more: &Value, chunk: Option<&[u8]>) {
        let mut document = json!({
            "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": data_type,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0, "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        });
        let members = document.as_object_mut().unwrap();
        members.extend(more.as_object().unwrap().clone());
        self.document(&format!("{path}/zarr.json"), &document);
        if let Some(chunk) = chunk {
            self.put(&format!("{path}/c{}", "/0".repeat(shape.len())), chunk);
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lsio"));
        command.current_dir(self.0.path()).env_remove("RUST_LOG").env_remove("LSIO_IO_ENGINE");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command().args(args).output().unwrap()
    }

    /// The values of a column, as JSON, in the order of the first dimension.
    fn values(&self, column: &str, path: &str) -> Value {
        let sql = format!("SELECT {column} AS v FROM '{path}' ORDER BY dim_0");
        let rows = succeeded(&self.run(&["--quiet", "--format", "json", "-c", &sql]));
        let rows: Vec<Value> = serde_json::from_str(&rows).unwrap();
        rows.into_iter().map(|row| row.get("v").cloned().unwrap_or(Value::Null)).collect()
    }

    /// What is said of a table that can't be read.
    fn error(&self, path: &str) -> String {
        failed(&self.run(&["-c", &format!("SELECT * FROM '{path}'")]))
    }

    fn info(&self, path: &str) -> String {
        succeeded(&self.run(&["info", path]))
    }
}

fn bytes<const N: usize, const W: usize>(numbers: [[u8; W]; N]) -> Vec<u8> {
    numbers.concat()
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "'{word}' isn't in: {text}");
    }
    assert!(!text.contains("Internal error") && !text.contains("panicked"), "{text}");
}

#[test]
fn texts_in_structures_that_are_not_utf8() {
    let stores = Stores::new();
    let dtype = json!([["a", "<i2"], ["s", "|S2"], ["n", [["t", "|S3"], ["b", "|u1"]]]]);
    let chunk = b"\x01\0\xff\xfexyz\x01\x02\0ab\xff\xff\xff\x02";
    stores.v2("s", &dtype, &[2], &json!({}), Some(chunk));
    says(&stores.error("s"), &["'s'", "not UTF-8", "decode_cf=false"]);
    assert_eq!(
        stores.values("value", "s?decode_cf=false"),
        json!([
            {"a": 1, "s": "fffe", "n": {"t": "78797a", "b": 1}},
            {"a": 2, "s": "6162", "n": {"t": "ffffff", "b": 2}},
        ])
    );
    // Where all are text, they are text.
    stores.v2("t", &dtype, &[1], &json!({}), Some(b"\x01\0abxyz\x01"));
    assert_eq!(
        stores.values("value", "t"),
        json!([{"a": 1, "s": "ab", "n": {"t": "xyz", "b": 1}}])
    );
}

#[test]
fn a_directory_is_no_chunk() {
    let stores = Stores::new();
    stores.v2("two", &json!("<i4"), &[2], &json!({"fill_value": 7}), None);
    fs::create_dir(stores.path("two/0")).unwrap();
    stores.v3("three", "int32", &[2], &json!({"fill_value": 7}), None);
    stores.put("three/c/0/file", b"x");
    let index = json!({"name": "bytes", "configuration": {"endian": "little"}});
    let sharding = json!({"codecs": [{"name": "sharding_indexed", "configuration": {
        "chunk_shape": [1], "codecs": [index], "index_codecs": [index], "index_location": "end",
    }}]});
    stores.v3("shard", "int32", &[2], &sharding, None);
    fs::create_dir_all(stores.path("shard/c/0")).unwrap();
    for engine in ["auto", "pread", "object_store"] {
        for (path, key) in [("two", "two/0"), ("three", "three/c/0"), ("shard", "shard/c/0")] {
            let sql = format!("SELECT sum(value) FROM '{path}'");
            let output =
                stores.command().env("LSIO_IO_ENGINE", engine).args(["-c", &sql]).output().unwrap();
            says(&failed(&output), &[key, "directory"]);
        }
    }
}

#[test]
fn broken_consolidated_metadata_can_be_left_out() {
    let stores = Stores::new();
    let broken: [&[u8]; 7] = [b"", b"{", b"[]", b"{}", b"3", br#"{"metadata": []}"#, b"\xff"];
    for (number, text) in broken.into_iter().enumerate() {
        let path = format!("s{number}");
        stores.put(&format!("{path}/.zgroup"), br#"{"zarr_format": 2}"#);
        stores.put(&format!("{path}/.zmetadata"), text);
        let one = 1_i32.to_le_bytes();
        stores.v2(&format!("{path}/v"), &json!("<i4"), &[1], &json!({}), Some(&one));
        says(&stores.error(&path), &[".zmetadata", "consolidated=false"]);
        says(&failed(&stores.run(&["info", &path])), &[".zmetadata", "consolidated=false"]);
        assert_eq!(stores.values("v", &format!("{path}?consolidated=false")), json!([1]));
    }
    // The same in version 3.
    stores.v3("three/v", "int32", &[1], &json!({}), Some(&1_i32.to_le_bytes()));
    for inline in [json!({"metadata": 3}), json!({})] {
        let document =
            json!({"zarr_format": 3, "node_type": "group", "consolidated_metadata": inline});
        stores.document("three/zarr.json", &document);
        says(&stores.error("three"), &["three/zarr.json", "consolidated=false"]);
        assert_eq!(stores.values("v", "three?consolidated=false"), json!([1]));
    }
}

#[test]
fn archives_without_stores() {
    let stores = Stores::new();
    let end =
        |entries: u8| [&b"PK\x05\x06\0\0\0\0"[..], &[entries, 0, entries, 0], &[0; 10]].concat();
    for (file, archive, found) in [
        ("nothing.zarr.zip", Vec::new(), "0 bytes"),
        ("none.zip", end(0), "empty zip archive"),
        ("text.zip", b"hello".to_vec(), "not a zip archive"),
        ("cut.zip", end(3), "entries"),
    ] {
        stores.put(file, &archive);
        for path in [file.to_owned(), format!("{file}/group")] {
            for text in [stores.error(&path), failed(&stores.run(&["info", &path]))] {
                says(&text, &[file, found]);
                assert!(!text.contains("does not exist"), "{text}");
            }
        }
    }
}

#[test]
fn warnings_are_told_once_and_of_what_was_asked_for() {
    let stores = Stores::new();
    stores.group("g", &json!({}));
    let named = json!({"dimension_names": ["x"]});
    stores.v3("g/v", "int32", &[1], &named, Some(&1_i32.to_le_bytes()));
    stores.v3("g/broken", "int32", &[1], &json!({"shape": 3}), None);
    stores.put("g/worse/zarr.json", b"{");
    let odd = json!({"dimension_names": ["x"], "attributes": {"scale_factor": "half"}});
    stores.v3("g/odd", "int32", &[1], &odd, Some(&2_i32.to_le_bytes()));
    let warnings = |sql: &str| {
        let mut command = stores.command();
        command.args(["--quiet", "-c", sql, "-c", sql, "-c", sql]);
        let output = command.output().unwrap();
        succeeded(&output);
        stderr(&output).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let about = |lines: &[String], name: &str| {
        lines.iter().filter(|line| line.starts_with("WARN") && line.contains(name)).count()
    };
    let all = warnings("SELECT v, odd FROM 'g'");
    assert_eq!(all.len(), 3, "{all:?}");
    for name in ["'broken'", "'worse'", "scale_factor"] {
        assert_eq!(about(&all, name), 1, "{name}: {all:?}");
    }
    for sql in ["SELECT v FROM 'g?variables=v'", "SELECT v FROM 'g/v'"] {
        assert_eq!(warnings(sql), [""; 0], "{sql}");
    }
    let one = warnings("SELECT v FROM 'g?variables=v,odd'");
    assert!(about(&one, "broken") == 0 && about(&one, "worse") == 0, "{one:?}");
}

#[test]
fn plates_without_metadata_in_between() {
    for version in [2, 3] {
        let stores = Stores::new();
        let wells = json!([{"path": "A/1"}, {"path": "A/2"}, {"path": "B/1"}]);
        let plate = json!({"plate": {"wells": wells}});
        match version {
            2 => {
                stores.put("p/.zgroup", br#"{"zarr_format": 2}"#);
                stores.document("p/.zattrs", &plate);
            }
            _ => stores.group("p", &json!({"ome": plate})),
        }
        // Neither rows nor wells nor images have metadata.
        for (well, cell) in [("A/1", 1_i32), ("A/2", 2), ("B/1", 3)] {
            let (path, chunk) = (format!("p/{well}/0/img"), cell.to_le_bytes());
            match version {
                2 => stores.v2(&path, &json!("<i4"), &[1], &json!({}), Some(&chunk)),
                _ => stores.v3(&path, "int32", &[1], &json!({}), Some(&chunk)),
            }
        }
        let info = stores.info("p");
        says(&info, &["A/1", "A/2", "B/1"]);
        assert!(!info.contains("Tables:"), "{info}");
        says(&stores.info("p/A/2/0"), &["img", "1 rows"]);
        assert_eq!(stores.values("img", "p/A/2/0"), json!([2]));
        assert_eq!(stores.values("value", "p/B/1/0/img"), json!([3]));
        says(&stores.error("p"), &["'p/A/1'", "'p/B/1'"]);
        says(&stores.error("p/A"), &["'p/A/1'", "'p/A/2'"]);
        says(&stores.error("p/A/1"), &["'p/A/1/0'"]);
        for path in ["p/C", "p/A/3"] {
            says(&stores.error(path), &[path.rsplit('/').next().unwrap(), "it has: "]);
        }
    }
}

#[test]
fn invented_names_of_a_lone_array() {
    let stores = Stores::new();
    let chunk = [0; 6 * 4];
    let wide = [0; 6 * 4 * 4];
    stores.group("obsm", &json!({}));
    stores.v3("obsm/X_pca", "int32", &[2, 3], &json!({}), Some(&chunk));
    let columns = |path: &str| {
        let sql = format!("SELECT * FROM '{path}'");
        let csv = succeeded(&stores.run(&["--quiet", "--format", "csv", "-c", &sql]));
        csv.lines().next().unwrap().to_owned()
    };
    assert_eq!(columns("obsm/X_pca"), "dim_0,dim_1,X_pca");
    stores.v3("obsm/X_umap", "int32", &[2, 12], &json!({}), Some(&wide));
    stores.v3("obsm/names", "int32", &[24], &json!({}), Some(&wide));
    for path in ["obsm/X_pca", "obsm?variables=X_pca"] {
        assert_eq!(columns(path), "dim_0,dim_1,X_pca", "{path}");
        says(&stores.info(path), &["(dim_0: 2, dim_1: 3)"]);
    }
    says(&stores.info("obsm"), &["dim_1_3", "dim_1_12"]);
}

#[test]
fn codecs_that_are_rare() {
    let stores = Stores::new();
    // Raw bytes through a codec that isn't known here.
    let reshape = json!({"name": "reshape", "configuration": {"shape": [[0]]}});
    let raw = json!({"fill_value": [0, 0, 0], "codecs": [reshape, {"name": "bytes"}]});
    stores.v3("r24", "r24", &[2], &raw, Some(&[0, 1, 2, 3, 4, 255]));
    assert_eq!(stores.values("value", "r24"), json!(["000102", "0304ff"]));
    // The draft's names.
    let transposed = |order: &str, endian: &str| {
        json!({"codecs": [
            {"name": "transpose", "configuration": {"order": order}},
            {"name": "endian", "configuration": {"endian": endian}},
        ]})
    };
    let fortran = bytes([0_i32, 2, 1, 3].map(i32::to_be_bytes));
    stores.v3("f", "int32", &[2, 2], &transposed("F", "big"), Some(&fortran));
    let c = bytes([0_i32, 1, 2, 3].map(i32::to_le_bytes));
    stores.v3("c", "int32", &[2, 2], &transposed("C", "little"), Some(&c));
    for path in ["f", "c"] {
        assert_eq!(stores.values("dim_0 * 2 + dim_1 - value", path), json!([0, 0, 0, 0]));
    }
    let json_codec = |id: &str| json!({"filters": [{"id": id}]});
    let mixed = br#"["a",1,null,NaN,18446744073709551617,[1],"|O",[6]]"#;
    stores.v2("json2", &json!("|O"), &[6], &json_codec("json2"), Some(mixed));
    let expected = json!(["a", "1", null, null, "18446744073709551617", "[1]"]);
    assert_eq!(stores.values("value", "json2"), expected);
    stores.v2("json", &json!("|O"), &[2], &json_codec("json"), Some(br#"["a","b","|O"]"#));
    assert_eq!(stores.values("value", "json"), json!(["a", "b"]));
    // Elements of no bytes: not shuffled by numcodecs, shuffled by netCDF's library.
    let shuffled = json!({"filters": [{"id": "shuffle", "elementsize": 0}]});
    let chunk = [1, 2, 0, 0, 0, 0, 0, 0];
    stores.v2("shuffle", &json!("<i4"), &[2], &shuffled, Some(&chunk));
    says(&stores.error("shuffle"), &["elementsize of 0", "netCDF", "numcodecs"]);
    stores.put("shuffle/.zattrs", br#"{"_nczarr_array": {"storage": "chunked"}}"#);
    assert_eq!(stores.values("value", "shuffle"), json!([1, 2]));
}

#[test]
fn times_finer_than_nanoseconds() {
    let stores = Stores::new();
    for (unit, per_nano) in [("ps", 1_000_i64), ("fs", 1_000_000), ("as", 1_000_000_000)] {
        for (kind, expected) in [
            ("M", json!([null, "1970-01-01T00:00:00.000000003", "1969-12-31T23:59:59.999999998"])),
            ("m", json!([null, "00:00:00.000000003", "-00:00:00.000000002"])),
        ] {
            let dtype = json!(format!("<{kind}8[{unit}]"));
            let path = format!("{kind}_{unit}");
            let whole = [i64::MIN, 3 * per_nano, -2 * per_nano];
            stores.v2(&path, &dtype, &[3], &json!({}), Some(&bytes(whole.map(i64::to_le_bytes))));
            assert_eq!(stores.values("value", &path), expected, "{path}");
            let cut = [0, 3 * per_nano + 1, 1];
            stores.v2(&path, &dtype, &[3], &json!({}), Some(&bytes(cut.map(i64::to_le_bytes))));
            says(&stores.error(&path), &[&path, "nanosecond", "decode_cf=false"]);
            let raw = format!("{path}?decode_cf=false");
            assert_eq!(stores.values("value", &raw), json!(cut));
        }
    }
}

#[test]
fn times_without_a_sign() {
    let stores = Stores::new();
    let chunk = bytes([1, u64::MAX].map(u64::to_le_bytes));
    for (units, expected) in [
        (json!({"units": "seconds since 1970-01-01"}), json!(["1970-01-01T00:00:01", null])),
        (json!({"units": "seconds", "dtype": "timedelta64[s]"}), json!(["00:00:01", null])),
    ] {
        stores.v3("t", "uint64", &[2], &json!({"attributes": units}), Some(&chunk));
        assert_eq!(stores.values("value", "t"), expected);
        let said = stderr(&stores.run(&["--quiet", "-c", "SELECT value FROM 't'"]));
        says(&said, &["WARN", "1 of 2 values are NULL", "18446744073709551615"]);
    }
}

#[test]
fn bounds_of_times_are_times() {
    let stores = Stores::new();
    stores.group("g", &json!({}));
    let units = json!({"units": "days since 2000-02-28", "calendar": "noleap", "bounds": "tb"});
    let time = json!({"dimension_names": ["t"], "attributes": units});
    stores.v3("g/t", "int32", &[1], &time, Some(&1_i32.to_le_bytes()));
    let bounds = bytes([0_i32, 1].map(i32::to_le_bytes));
    stores.v3("g/tb", "int32", &[1, 2], &json!({"dimension_names": ["t", "nv"]}), Some(&bounds));
    let csv = |path: &str| {
        let sql = format!("SELECT t, tb FROM '{path}' ORDER BY nv");
        succeeded(&stores.run(&["--quiet", "--format", "csv", "-c", &sql]))
    };
    let expected =
        "t,tb\n2000-03-01T00:00:00,2000-02-28T00:00:00\n2000-03-01T00:00:00,2000-03-01T00:00:00\n";
    assert_eq!(csv("g/tb"), expected);
    assert_eq!(csv("g/tb?decode_times=false"), "t,tb\n1,0\n1,1\n");
    // What isn't stored isn't shown as an attribute.
    let sql = "SELECT count(*) AS n FROM zarr_attributes('g/tb') WHERE variable = 'tb'";
    let n = succeeded(&stores.run(&["--quiet", "--format", "csv", "-c", sql]));
    assert_eq!(n, "n\n0\n");
}

#[test]
fn fill_values_of_other_types() {
    let stores = Stores::new();
    let objects = json!({"filters": [{"id": "vlen-utf8"}], "fill_value": 0});
    for (path, dtype, more, expected) in [
        ("u", "<U3", json!({"fill_value": 0}), json!(["0"])),
        ("big", ">U3", json!({"fill_value": -1}), json!(["-1"])),
        ("s", "|S3", json!({"fill_value": 0}), json!(["0"])),
        ("o", "|O", objects, json!(["0"])),
        ("u1", "|u1", json!({"fill_value": -1}), json!([255])),
        ("u2", ">u2", json!({"fill_value": -1}), json!([65_535])),
        ("u4", "<u4", json!({"fill_value": -1}), json!([u32::MAX])),
        ("u8", "<u8", json!({"fill_value": -1}), json!([u64::MAX])),
    ] {
        stores.v2(path, &json!(dtype), &[1], &more, None);
        assert_eq!(stores.values("value", path), expected, "{path}");
    }
    stores.v3("v3", "string", &[1], &json!({"codecs": [{"name": "vlen-utf8"}]}), None);
    assert_eq!(stores.values("value", "v3"), json!(["0"]));
    stores.v3("v3u", "uint16", &[1], &json!({"fill_value": -1}), None);
    assert_eq!(stores.values("value", "v3u"), json!([65_535]));
}

/// What is no number, or no name, leaves the numbers as they are, and that is told.
#[test]
fn attributes_of_other_types() {
    let stores = Stores::new();
    let chunk = bytes([2_i32, 4].map(i32::to_le_bytes));
    let since = "days since 2000-01-01";
    for (number, (attributes, expected, warning)) in [
        (json!({"scale_factor": 0.5}), json!([1.0, 2.0]), ""),
        (json!({"scale_factor": [0.5], "add_offset": "1"}), json!([2.0, 3.0]), ""),
        (json!({"scale_factor": "NaN"}), json!([null, null]), ""),
        (json!({"scale_factor": null}), json!([2, 4]), ""),
        (json!({"scale_factor": "half"}), json!([2, 4]), "scale_factor is ignored: \"half\""),
        (json!({"add_offset": [1, 2]}), json!([2, 4]), "add_offset is ignored: [1,2]"),
        (json!({"scale_factor": {}}), json!([2, 4]), "scale_factor is ignored: {}"),
        (json!({"scale_factor": true}), json!([2, 4]), "scale_factor is ignored: true"),
        (json!({"units": since, "calendar": 5}), json!([2, 4]), "the calendar 5 isn't a name"),
        (json!({"units": since, "calendar": "x"}), json!([2, 4]), "the calendar 'x' isn't known"),
        (json!({"units": 3, "calendar": 5}), json!([2, 4]), ""),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("a{number}");
        stores.v3(&path, "int32", &[2], &json!({"attributes": attributes}), Some(&chunk));
        assert_eq!(stores.values("value", &path), expected, "{attributes}");
        let sql = format!("SELECT value FROM '{path}'");
        let said = stderr(&stores.run(&["--quiet", "-c", &sql]));
        match warning {
            "" => assert_eq!(said, "", "{attributes}"),
            _ => says(&said, &["WARN", warning, &path]),
        }
    }
}

/// A path is a file's name before it is anything else.
#[test]
fn names_with_every_character() {
    let stores = Stores::new();
    for name in
        ["a.b", "1", "it's", "q\"q", "ünï 日本", "a;b", "x%20y", "#h", "back`tick", "select"]
    {
        stores.group(&format!("g {name}"), &json!({}));
        let path = format!("g {name}/{name}");
        let dims = json!({"dimension_names": [format!("d.{name}")]});
        stores.v3(&path, "int32", &[1], &dims, Some(&7_i32.to_le_bytes()));
        let (column, group) = (name.replace('"', "\"\""), format!("g {name}").replace('\'', "''"));
        let sql = format!("SELECT \"{column}\" AS v, \"d.{column}\" AS d FROM '{group}'");
        let csv = succeeded(&stores.run(&["--quiet", "--format", "csv", "-c", &sql]));
        assert_eq!(csv, "v,d\n7,0\n", "{name}");
        says(&stores.info(&format!("g {name}")), &[name]);
    }
}

/// An array or a group may have the name of another format.
#[test]
fn names_like_those_of_formats() {
    let stores = Stores::new();
    stores.group("s.zarr", &json!({}));
    for name in ["csv", "json", "a.parquet", "b.CSV.gz"] {
        stores.v3(&format!("s.zarr/{name}"), "int32", &[1], &json!({}), Some(&[7, 0, 0, 0]));
        stores.v3(name, "int32", &[1], &json!({}), Some(&[8, 0, 0, 0]));
        let inside = format!("s.zarr/{name}");
        assert_eq!(stores.values(&format!("\"{name}\""), &inside), json!([7]));
        assert_eq!(stores.values("value", name), json!([8]));
        assert_eq!(stores.values("value", &format!("{name}?decode_cf=false")), json!([8]));
    }
    // What has no metadata is what it is called.
    stores.put("t.csv", b"dim_0,v\n0,9\n");
    assert_eq!(stores.values("v", "t.csv"), json!([9]));
}

#[test]
fn what_is_like_a_name_that_is_not_there() {
    let stores = Stores::new();
    stores.group("era5.zarr", &json!({}));
    stores.v3("era5.zarr/t2m", "int32", &[1], &json!({}), Some(&[0; 4]));
    stores.group("era5.zarr/inner", &json!({}));
    stores.v3("era5.zarr/inner/v", "int32", &[1], &json!({}), Some(&[0; 4]));
    for (path, meant) in [
        ("era5.zar", "era5.zarr"),
        ("ERA5.zarr", "era5.zarr"),
        ("era5", "era5.zarr"),
        ("era5.zarr/t2n", "t2m"),
        ("era5.zarr/iner", "inner"),
        ("era5.zarr/inner/w", "v"),
        ("era5.zar/t2m", "era5.zarr"),
        ("era5.zarr/t2m/c", "inside the array 'era5.zarr/t2m': write that path"),
        ("era5.zarr/t2m/c/0", "inside the array 'era5.zarr/t2m': write that path"),
        ("era5.zarr/t2m/zarr.json", "the metadata of the array 'era5.zarr/t2m'"),
        ("era5.zarr/zarr.json", "the metadata of the group 'era5.zarr'"),
        ("era5*", "write SELECT * FROM 'era5.zarr'"),
    ] {
        for text in [stores.error(path), failed(&stores.run(&["info", path]))] {
            says(&text, &[meant]);
            assert!(!text.contains("datafusion"), "{text}");
        }
    }
    // A directory of stores is none itself.
    stores.put("data/x.zarr/.zgroup", br#"{"zarr_format": 2}"#);
    stores.group("data/y", &json!({}));
    for path in ["data", "./data", "data/"] {
        for text in [stores.error(path), failed(&stores.run(&["info", path]))] {
            says(&text, &["data/x.zarr'", "data/y'"]);
        }
    }
    stores.put("data/t.csv", b"dim_0,v\n0,9\n");
    says(&failed(&stores.run(&["info", "data"])), &["'data/x.zarr'"]);
    says(&stores.error("."), &["'.' is a directory", "name a store"]);
    says(&stores.error("era5.zarr?dim=x"), &["did you mean 'dims'?"]);
    let twice = stores.error("era5.zarr?dims=dim_0,dim_0");
    assert!(twice.contains("no second dimension") && !twice.contains("did you mean"), "{twice}");
    // No option is no option.
    assert_eq!(stores.values("t2m", "era5.zarr?"), json!([0]));
    says(&stores.info("era5.zarr?"), &["1 rows"]);
}
