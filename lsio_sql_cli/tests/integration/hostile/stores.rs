//! Good little stores, made here byte by byte, and what is asked of them.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

use super::frames::{Encode, identity, zstd};

/// The files of a store by their paths.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// The query whose answer is compared: it reads every chunk of `v`.
pub(super) const SUMS: &str = "count(v) AS n, min(v) AS least, sum(v) AS total";

/// Writes a store.
pub(super) fn write(store: &Path, files: &Files) {
    fs::create_dir_all(store).unwrap();
    for (path, bytes) in files {
        let file = store.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
}

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn bytes<const N: usize>(values: impl IntoIterator<Item = [u8; N]>) -> Vec<u8> {
    values.into_iter().flatten().collect()
}

/// The values of `v`: no fill value, no extreme, nothing that a mutation would put in.
fn v(row: i16, column: i16) -> i16 {
    100 + 6 * row + column
}

/// One array of the stores.
struct Array {
    name: &'static str,
    /// As NumPy spells it, and as Zarr v3 does.
    types: [&'static str; 2],
    dims: &'static [&'static str],
    shape: Vec<u64>,
    chunks: Vec<u64>,
    fill: Value,
    attributes: Value,
    /// By the indices of the chunk.
    stored: Vec<(Vec<u64>, Vec<u8>)>,
    compressed: bool,
}

/// Scale and offset, fill values, times, flags, bounds, and coordinates that attributes name.
fn arrays() -> Vec<Array> {
    let whole = |name, types, dims, shape: &[u64], attributes, stored| Array {
        name,
        types,
        dims,
        shape: shape.to_vec(),
        chunks: shape.to_vec(),
        fill: json!(0),
        attributes,
        stored: vec![(vec![0; shape.len()], stored)],
        compressed: false,
    };
    let mut chunks = Vec::new();
    for (i, rows) in [0..2, 2..4_i16].into_iter().enumerate() {
        for (j, columns) in [0..3, 3..6_i16].into_iter().enumerate() {
            let cells = rows.clone().flat_map(|r| columns.clone().map(move |c| v(r, c)));
            chunks.push((vec![i as u64, j as u64], zstd(&bytes(cells.map(i16::to_le_bytes)))));
        }
    }
    vec![
        Array {
            name: "v",
            types: ["<i2", "int16"],
            dims: &["t", "x"],
            shape: vec![4, 6],
            chunks: vec![2, 3],
            fill: json!(-9),
            attributes: json!({
                "scale_factor": 0.5, "add_offset": 10.0, "_FillValue": -99, "missing_value": -98,
                "units": "K", "long_name": "a name", "coordinates": "area label",
                "valid_range": [0, 1000], "grid_mapping": "crs", "history": ["made", {"by": "us"}],
            }),
            stored: chunks,
            compressed: true,
        },
        whole(
            "t",
            ["<i8", "int64"],
            &["t"],
            &[4],
            json!({"units": "hours since 2000-01-01", "calendar": "noleap", "bounds": "t_bnds"}),
            bytes((0..4_i64).map(i64::to_le_bytes)),
        ),
        whole(
            "t_bnds",
            ["<i8", "int64"],
            &["t", "nv"],
            &[4, 2],
            json!({}),
            bytes((0..8_i64).map(i64::to_le_bytes)),
        ),
        whole(
            "x",
            ["<f8", "float64"],
            &["x"],
            &[6],
            json!({"units": "m", "axis": "X"}),
            bytes((0..6_u8).map(|x| f64::from(x).to_le_bytes())),
        ),
        whole(
            "area",
            ["<f4", "float32"],
            &["x"],
            &[6],
            json!({"_FillValue": "AAAAAAAAWUA="}),
            bytes((1..7_u8).map(|x| f32::from(x).to_le_bytes())),
        ),
        whole(
            "flag",
            ["|u1", "uint8"],
            &["t", "x"],
            &[4, 6],
            json!({
                "flag_values": [0, 1, 2], "flag_masks": [1, 2], "flag_meanings": "none one two",
                "_Unsigned": "true", "valid_min": 0,
            }),
            (0..24).map(|i| i % 3).collect(),
        ),
    ]
}

fn group_attributes() -> Value {
    json!({"Conventions": "CF-1.8", "title": "tiny", "coordinates": "area"})
}

fn key(chunk: &[u64], separator: &str) -> String {
    chunk.iter().map(u64::to_string).collect::<Vec<_>>().join(separator)
}

/// A group in Zarr v2.
pub(super) fn v2(consolidated: bool) -> Files {
    let mut files = Files::new();
    let mut all = serde_json::Map::new();
    let mut put = |files: &mut Files, path: String, document: Value| {
        files.insert(path.clone(), text(&document));
        all.insert(path, document);
    };
    put(&mut files, ".zgroup".to_owned(), json!({"zarr_format": 2}));
    put(&mut files, ".zattrs".to_owned(), group_attributes());
    for array in arrays() {
        let compressor =
            if array.compressed { json!({"id": "zstd", "level": 1}) } else { Value::Null };
        let document = json!({
            "zarr_format": 2, "shape": array.shape, "chunks": array.chunks, "dtype": array.types[0],
            "compressor": compressor, "fill_value": array.fill, "order": "C", "filters": null,
            "dimension_separator": ".",
        });
        let name = array.name;
        put(&mut files, format!("{name}/.zarray"), document);
        let mut attributes = array.attributes;
        attributes["_ARRAY_DIMENSIONS"] = json!(array.dims);
        put(&mut files, format!("{name}/.zattrs"), attributes);
        for (chunk, stored) in array.stored {
            files.insert(format!("{name}/{}", key(&chunk, ".")), stored);
        }
    }
    if consolidated {
        let document = json!({"zarr_consolidated_format": 1, "metadata": all});
        files.insert(".zmetadata".to_owned(), text(&document));
    }
    files
}

/// A group in Zarr v3.
pub(super) fn v3(consolidated: bool) -> Files {
    let mut files = Files::new();
    let mut all = serde_json::Map::new();
    for array in arrays() {
        let mut codecs = vec![json!({"name": "bytes", "configuration": {"endian": "little"}})];
        if array.compressed {
            codecs.push(json!({"name": "zstd", "configuration": {"level": 1, "checksum": false}}));
        }
        let document = json!({
            "zarr_format": 3, "node_type": "array", "shape": array.shape,
            "data_type": array.types[1],
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": array.chunks}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": array.fill, "codecs": codecs, "dimension_names": array.dims,
            "attributes": array.attributes, "storage_transformers": [],
        });
        files.insert(format!("{}/zarr.json", array.name), text(&document));
        all.insert(array.name.to_owned(), document);
        for (chunk, stored) in array.stored {
            files.insert(format!("{}/c/{}", array.name, key(&chunk, "/")), stored);
        }
    }
    let mut root = json!({
        "zarr_format": 3, "node_type": "group", "attributes": group_attributes(),
    });
    if consolidated {
        root["consolidated_metadata"] =
            json!({"kind": "inline", "must_understand": false, "metadata": all});
    }
    files.insert("zarr.json".to_owned(), text(&root));
    files
}

/// The cells of [`lone`]'s only chunk.
pub(super) const CELLS: i32 = 4_096;

/// The bytes of [`lone`]'s only chunk.
pub(super) fn cells() -> Vec<u8> {
    bytes((0..CELLS).map(|i| (i * 7 % 1_000).to_le_bytes()))
}

/// A lone array of one chunk, `v`, in Zarr v2.
pub(super) fn lone_v2(compressor: &Value, encode: Encode) -> Files {
    let document = json!({
        "zarr_format": 2, "shape": [CELLS], "chunks": [CELLS], "dtype": "<i4",
        "compressor": compressor, "fill_value": null, "order": "C", "filters": null,
    });
    Files::from([
        (".zgroup".to_owned(), text(&json!({"zarr_format": 2}))),
        ("v/.zarray".to_owned(), text(&document)),
        ("v/0".to_owned(), encode(&cells())),
    ])
}

/// A lone array of one chunk, `v`, in Zarr v3, with any chain of codecs that zarrs has.
pub(super) fn lone_v3(codecs: &Value) -> Files {
    let document = json!({
        "zarr_format": 3, "node_type": "array", "shape": [CELLS], "data_type": "int32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [CELLS]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "codecs": codecs, "attributes": {},
    });
    let root = json!({"zarr_format": 3, "node_type": "group"});
    Files::from([
        ("zarr.json".to_owned(), text(&root)),
        ("v/zarr.json".to_owned(), text(&document)),
        ("v/c/0".to_owned(), super::frames::with_zarrs(&document, &cells())),
    ])
}

/// [`v2`] with one more array, `other`, on `x`, of one chunk; `changes` are to its metadata.
pub(super) fn with_other(changes: &Value, chunk: Vec<u8>) -> Files {
    let mut document = json!({
        "zarr_format": 2, "shape": [6], "chunks": [6], "dtype": "<i4", "compressor": null,
        "fill_value": null, "order": "C", "filters": null,
    });
    for (key, value) in changes.as_object().unwrap() {
        document[key] = value.clone();
    }
    let mut files = v2(false);
    files.insert("other/.zarray".to_owned(), text(&document));
    files.insert("other/.zattrs".to_owned(), text(&json!({"_ARRAY_DIMENSIONS": ["x"]})));
    files.insert("other/0".to_owned(), chunk);
    files
}

/// [`v3`] whose times have other attributes and values.
pub(super) fn with_times(attributes: &Value, dtype: &str, values: &[[u8; 8]; 4]) -> Files {
    let mut files = v3(false);
    let mut document: Value = serde_json::from_slice(&files["t/zarr.json"]).unwrap();
    document["attributes"] = attributes.clone();
    document["data_type"] = json!(dtype);
    files.insert("t/zarr.json".to_owned(), text(&document));
    files.insert("t/c/0".to_owned(), values.concat());
    files
}

/// A lone array whose chunk is stored as it is.
pub(super) fn raw() -> Files {
    lone_v2(&Value::Null, identity)
}
