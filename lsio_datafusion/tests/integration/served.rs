//! Small stores behind servers of the test's own process.

use std::{fs, path::Path};

use lsio_synthetic::write::{Compression, GroupWriter, SyntheticArray};
use lsio_test_servers::{ACCESS_KEY, BUCKET, Protocol, SECRET_KEY, Server};
use serde_json::{Map, Value, json};

pub(crate) const PROTOCOLS: [Protocol; 2] = [Protocol::S3, Protocol::Http];

/// Starts a server of a directory.
pub(crate) fn serve(directory: &Path, protocol: Protocol) -> Server {
    Server::builder(directory).protocol(protocol).start().unwrap()
}

/// The URL of what is at a path below the server's directory, with options: `a=b&c=d`.
pub(crate) fn url(server: &Server, protocol: Protocol, path: &str, options: &str) -> String {
    let at = server.url();
    let (base, keys) = match protocol {
        Protocol::Http => (at, String::new()),
        Protocol::S3 => (
            format!("s3://{BUCKET}"),
            format!(
                "&aws.endpoint={at}&aws.region=us-east-1&aws.access_key_id={ACCESS_KEY}\
                 &aws.secret_access_key={SECRET_KEY}"
            ),
        ),
    };
    let options = format!("{options}{keys}");
    match options.trim_start_matches('&') {
        "" => format!("{base}/{path}"),
        options => format!("{base}/{path}?{options}"),
    }
}

/// A store with the variable `t2m` along `time`, `y` and `x`, whose values are [`value`]'s, and their
/// coordinates: hours, 0.5, 1.5, … and 0, 10, ….
#[derive(Clone, Debug)]
pub(crate) struct Cube {
    pub shape: [u64; 3],
    pub chunks: [u64; 3],
    pub shards: Option<[u64; 3]>,
    pub compression: Compression,
    /// Chunks, or shards, that aren't stored.
    pub missing: &'static [[u64; 3]],
    /// Whether there is `mask` too, along `y` and `x`.
    pub has_mask: bool,
    pub is_consolidated: bool,
}

impl Default for Cube {
    fn default() -> Self {
        Self {
            shape: [6, 4, 6],
            chunks: [2, 4, 6],
            shards: None,
            compression: Compression::None,
            missing: &[],
            has_mask: false,
            is_consolidated: true,
        }
    }
}

/// What `t2m` holds in a cell.
pub(crate) fn value(cell: [u64; 3]) -> f32 {
    (1 + cell[0] * 100 + cell[1] * 10 + cell[2]) as f32
}

impl Cube {
    pub(crate) fn write(&self, path: &Path) {
        let group = GroupWriter::create(path, json!({})).unwrap();
        let [times, ys, xs] = self.shape;
        let spec = SyntheticArray {
            name: "t2m",
            data_type: "float32",
            dims: &[("time", times), ("y", ys), ("x", xs)],
            chunks: &self.chunks,
            shards: self.shards.as_ref().map(<[u64; 3]>::as_slice),
            compression: self.compression.clone(),
            fill_value: json!(0),
            attributes: json!({}),
        };
        let array = group.array(&spec).unwrap();
        let outer = self.shards.unwrap_or(self.chunks);
        for chunk in cells([0, 1, 2].map(|axis| self.shape[axis] / outer[axis])) {
            if !self.missing.contains(&chunk) {
                let inside = cells(outer).into_iter();
                let values: Vec<f32> = inside
                    .map(|cell| value([0, 1, 2].map(|axis| chunk[axis] * outer[axis] + cell[axis])))
                    .collect();
                array.write(&chunk, &values).unwrap();
            }
        }
        let along = |name, data_type, dims, attributes| SyntheticArray {
            name,
            data_type,
            dims,
            chunks: &[],
            shards: None,
            compression: Compression::None,
            fill_value: json!(0),
            attributes,
        };
        let hours = json!({"units": "hours since 2020-01-01"});
        let time = [("time", times)];
        let values: Vec<i64> = (0..times as i64).collect();
        group.whole_array(&along("time", "int64", &time, hours), &values).unwrap();
        let y = [("y", ys)];
        let values: Vec<f64> = (0..ys).map(|y| y as f64 + 0.5).collect();
        group.whole_array(&along("y", "float64", &y, json!({})), &values).unwrap();
        let x = [("x", xs)];
        let values: Vec<i64> = (0..xs as i64).map(|x| x * 10).collect();
        group.whole_array(&along("x", "int64", &x, json!({})), &values).unwrap();
        if self.has_mask {
            let both = [("y", ys), ("x", xs)];
            let values: Vec<i16> = (0..(ys * xs) as i16).map(|cell| cell % 3).collect();
            group.whole_array(&along("mask", "int16", &both, json!({})), &values).unwrap();
        }
        if self.is_consolidated {
            group.consolidate().unwrap();
        }
    }
}

/// All indices of a grid in C order.
pub(crate) fn cells(shape: [u64; 3]) -> Vec<[u64; 3]> {
    let [a, b, c] = shape;
    (0..a).flat_map(|i| (0..b).flat_map(move |j| (0..c).map(move |k| [i, j, k]))).collect()
}

/// A store of version 2 with the same variable in chunks of one time, and the same coordinates.
pub(crate) fn write_v2(path: &Path, shape: [u64; 3], is_consolidated: bool) {
    let [times, ys, xs] = shape;
    let mut metadata = Map::new();
    metadata.insert(".zgroup".to_owned(), json!({"zarr_format": 2}));
    let mut array = |name: &str, dims: Value, shape: Value, chunks: Value, dtype: &str| {
        metadata.insert(
            format!("{name}/.zarray"),
            json!({
                "zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": dtype,
                "compressor": null, "filters": null, "fill_value": null, "order": "C",
            }),
        );
        let mut attributes = json!({"_ARRAY_DIMENSIONS": dims});
        if name == "time" {
            attributes["units"] = json!("hours since 2020-01-01");
        }
        metadata.insert(format!("{name}/.zattrs"), attributes);
    };
    array("t2m", json!(["time", "y", "x"]), json!(shape), json!([1, ys, xs]), "<f4");
    array("time", json!(["time"]), json!([times]), json!([times]), "<i8");
    array("y", json!(["y"]), json!([ys]), json!([ys]), "<f8");
    array("x", json!(["x"]), json!([xs]), json!([xs]), "<i8");
    for (file, document) in &metadata {
        put(path, file, document.to_string().as_bytes());
    }
    if is_consolidated {
        let all = json!({"zarr_consolidated_format": 1, "metadata": metadata});
        put(path, ".zmetadata", all.to_string().as_bytes());
    }
    for t in 0..times {
        let values = cells([1, ys, xs]).into_iter().map(|[_, y, x]| value([t, y, x]).to_le_bytes());
        put(path, &format!("t2m/{t}.0.0"), &values.flatten().collect::<Vec<u8>>());
    }
    let bytes: Vec<u8> = (0..times as i64).flat_map(i64::to_le_bytes).collect();
    put(path, "time/0", &bytes);
    let bytes: Vec<u8> = (0..ys).flat_map(|y| (y as f64 + 0.5).to_le_bytes()).collect();
    put(path, "y/0", &bytes);
    let bytes: Vec<u8> = (0..xs as i64).flat_map(|x| (x * 10).to_le_bytes()).collect();
    put(path, "x/0", &bytes);
}

fn put(store: &Path, file: &str, bytes: &[u8]) {
    let path = store.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}
