//! Decoding a chunk, codec by codec, as a ratio to zarrs' own chain on the same bytes in the same run.
//!
//! `cargo bench -p lsio_core --bench decode`. Integers, so that no mask is looked for: the work is
//! that of the codecs and of putting the values where they belong.
#![allow(clippy::unwrap_used, reason = "a benchmark that can't be set up should stop")]

use std::{borrow::Cow, fs, num::NonZeroU64, path::Path, sync::Arc, thread, time::Instant};

use lsio_core::{Dataset, Location, OpenOptions, Recycler, Variable};
use serde_json::{Value, json};
use zarrs::array::{Array, ArrayBytes, ArrayMetadata, ArrayToBytesCodecTraits as _, CodecOptions};

/// Of each size and codec, so often by each side in turn.
const RUNS: usize = 15;

fn main() {
    let little = json!({"name": "bytes", "configuration": {"endian": "little"}});
    let big = json!({"name": "bytes", "configuration": {"endian": "big"}});
    let zstd = json!({"name": "zstd", "configuration": {"level": 3, "checksum": false}});
    let level = |name: &str| json!({"name": name, "configuration": {"level": 3}});
    let blosc = |compressor: &str, shuffle: &str| {
        json!({"name": "blosc", "configuration": {
            "cname": compressor, "clevel": 5, "shuffle": shuffle, "typesize": 4, "blocksize": 0,
        }})
    };
    let transpose = json!({"name": "transpose", "configuration": {"order": [2, 1, 0]}});
    let crc32c = json!({"name": "crc32c"});
    let cases: Vec<(String, Value)> = [
        ("bytes, big-endian".to_owned(), json!([big])),
        ("crc32c".to_owned(), json!([little, crc32c])),
        ("transpose".to_owned(), json!([transpose, little])),
        ("zstd".to_owned(), json!([little, zstd])),
        ("zstd, big-endian".to_owned(), json!([big, zstd])),
        ("zstd, transpose".to_owned(), json!([transpose, little, zstd])),
        ("gzip".to_owned(), json!([little, level("gzip")])),
        ("zlib".to_owned(), json!([little, level("numcodecs.zlib")])),
    ]
    .into_iter()
    .chain(["lz4", "lz4hc", "zstd", "zlib", "blosclz"].into_iter().flat_map(|compressor| {
        ["shuffle", "bitshuffle", "noshuffle"].map(|shuffle| {
            let codecs = json!([little, blosc(compressor, shuffle)]);
            (format!("blosc, {compressor}, {shuffle}"), codecs)
        })
    }))
    .collect();

    println!("{:<30} {:>5} {:>9} {:>9} {:>6}", "codecs", "MB", "lsio ms", "zarrs ms", "ratio");
    for chunk in [[16_u64, 181, 360], [24, 361, 720]] {
        for (name, codecs) in &cases {
            let directory = tempfile::tempdir().unwrap();
            let (encoded, array) = write(directory.path(), codecs, chunk);
            let variable = open(directory.path());
            // As in a query, on a thread that isn't the main one: allocators treat that differently.
            let (ours, theirs) = thread::scope(|scope| {
                scope.spawn(|| measure(&variable, &array, &encoded, chunk)).join().unwrap()
            });
            let megabytes = chunk.iter().product::<u64>() as f64 * 4.0 / 1e6;
            println!(
                "{name:<30} {megabytes:>5.1} {:>9.2} {:>9.2} {:>6.2}",
                ours * 1e3,
                theirs * 1e3,
                theirs / ours
            );
        }
    }
}

/// Writes an array of one chunk, and gives its stored bytes.
fn write(directory: &Path, codecs: &Value, chunk: [u64; 3]) -> (Vec<u8>, Array<()>) {
    let metadata = json!({
        "zarr_format": 3, "node_type": "array", "shape": chunk, "data_type": "int32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "codecs": codecs, "dimension_names": ["t", "y", "x"], "attributes": {},
    });
    fs::create_dir_all(directory.join("v/c/0/0")).unwrap();
    let group = json!({"zarr_format": 3, "node_type": "group", "attributes": {}});
    fs::write(directory.join("zarr.json"), group.to_string()).unwrap();
    fs::write(directory.join("v/zarr.json"), metadata.to_string()).unwrap();
    let metadata = ArrayMetadata::V3(serde_json::from_value(metadata).unwrap());
    let array = Array::new_with_metadata(Arc::new(()), "/", metadata).unwrap();

    // Waves with some noise in the lowest bits, like measurements.
    let mut random = 1_u64;
    let values = (0..chunk.iter().product::<u64>()).map(|i| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (20_000.0 * (i as f64 * 0.003).sin()) as i32 + (random >> 60) as i32
    });
    let bytes: Vec<u8> = values.flat_map(i32::to_ne_bytes).collect();
    let shape = chunk.map(|size| NonZeroU64::new(size).unwrap());
    let encoded = array
        .codecs()
        .encode(
            ArrayBytes::new_flen(Cow::Owned(bytes)),
            &shape,
            array.data_type(),
            array.fill_value(),
            &CodecOptions::default(),
        )
        .unwrap()
        .into_owned();
    fs::write(directory.join("v/c/0/0/0"), &encoded).unwrap();
    (encoded, array)
}

fn open(directory: &Path) -> Arc<Variable> {
    let location = Location::parse(directory.to_str().unwrap()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dataset = runtime.block_on(Dataset::open(&location, &OpenOptions::default())).unwrap();
    Arc::clone(&dataset.variables()[0].0)
}

/// The median seconds of either side.
fn measure(variable: &Variable, array: &Array<()>, encoded: &[u8], chunk: [u64; 3]) -> (f64, f64) {
    let shape = chunk.map(|size| NonZeroU64::new(size).unwrap());
    let options = CodecOptions::default().with_concurrent_target(1);
    let recycler = Arc::new(Recycler::default());
    let bytes = bytes::Bytes::copy_from_slice(encoded);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let start = Instant::now();
        let values = variable.decode_chunk(&[0, 0, 0], Some(&bytes), &recycler).unwrap();
        ours.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let decoded = array
            .codecs()
            .decode(Cow::Borrowed(encoded), &shape, array.data_type(), array.fill_value(), &options)
            .unwrap();
        theirs.push(start.elapsed().as_secs_f64());
        let decoded = decoded.into_fixed().unwrap();
        assert_eq!(values.to_data().buffers()[0].as_slice(), decoded.as_ref());
    }
    let median = |seconds: &mut Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    };
    (median(&mut ours), median(&mut theirs))
}
