//! Encoded chunks, and what can be wrong with them.

use std::{borrow::Cow, io::Write as _, num::NonZeroU64, sync::Arc};

use serde_json::{Value, json};
use zarrs::array::{Array, ArrayBytes, ArrayMetadata, ArrayToBytesCodecTraits as _, CodecOptions};

use super::{
    Case, Expect,
    stores::{CELLS, Files, lone_v2, lone_v3},
};

/// From a chunk's bytes to what is stored. A codec that is added needs one of these and a line in
/// [`codecs`].
pub(super) type Encode = fn(&[u8]) -> Vec<u8>;

pub(super) fn identity(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(1));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bz2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::new(1));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn lzma(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// numcodecs' lz4: the size, and a block that is all literals.
fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(bytes.len()).unwrap().to_le_bytes().to_vec();
    out.push(0xf0);
    let mut rest = bytes.len().checked_sub(15).unwrap();
    while rest >= 255 {
        out.push(255);
        rest -= 255;
    }
    out.push(u8::try_from(rest).unwrap());
    out.extend_from_slice(bytes);
    out
}

/// Differences of 4-byte integers.
fn delta(bytes: &[u8]) -> Vec<u8> {
    let mut last = 0_i32;
    let (numbers, _) = bytes.as_chunks::<4>();
    let difference = |bytes: &[u8; 4]| {
        let number = i32::from_le_bytes(*bytes);
        let difference = number.wrapping_sub(last);
        last = number;
        difference.to_le_bytes()
    };
    numbers.iter().flat_map(difference).collect()
}

/// Encodes a chunk of 4-byte integers as the metadata say.
pub(super) fn with_zarrs(metadata: &Value, bytes: &[u8]) -> Vec<u8> {
    let metadata = ArrayMetadata::V3(serde_json::from_value(metadata.clone()).unwrap());
    let array = Array::new_with_metadata(Arc::new(()), "/", metadata).unwrap();
    let encoded = array.codecs().encode(
        ArrayBytes::new_flen(Cow::Borrowed(bytes)),
        &[NonZeroU64::new(CELLS.unsigned_abs().into()).unwrap()],
        array.data_type(),
        array.fill_value(),
        &CodecOptions::default(),
    );
    encoded.unwrap().into_owned()
}

/// How a chunk is stored, and what protects it.
struct Codec {
    name: String,
    files: Files,
    /// The chunk's file.
    chunk: &'static str,
    /// Whether a changed bit must not go unnoticed.
    checked: bool,
}

/// Every codec. Add new ones here.
fn codecs() -> Vec<Codec> {
    let v2 = |name: &str, compressor: Value, encode: Encode, checked| Codec {
        name: name.to_owned(),
        files: lone_v2(&compressor, encode),
        chunk: "v/0",
        checked,
    };
    let v3 = |name: &str, codecs: Value, checked| Codec {
        name: name.to_owned(),
        files: lone_v3(&codecs),
        chunk: "v/c/0",
        checked,
    };
    let mut all = vec![
        v2("raw", Value::Null, identity, false),
        v2("zstd", json!({"id": "zstd", "level": 1}), zstd, false),
        v2("gzip", json!({"id": "gzip", "level": 1}), gzip, true),
        v2("zlib", json!({"id": "zlib", "level": 1}), zlib, true),
        v2("bz2", json!({"id": "bz2", "level": 1}), bz2, true),
        v2("lzma", json!({"id": "lzma", "format": 1, "preset": 1}), lzma, true),
        v2("lz4", json!({"id": "lz4", "acceleration": 1}), lz4, false),
        v2("delta", json!({"id": "delta", "dtype": "<i4", "astype": "<i4"}), delta, false),
    ];
    let bytes = json!({"name": "bytes", "configuration": {"endian": "little"}});
    let crc = json!({"name": "crc32c"});
    let checked = json!({"name": "zstd", "configuration": {"level": 1, "checksum": true}});
    let unchecked = json!({"name": "zstd", "configuration": {"level": 1, "checksum": false}});
    all.push(v3("zstd_checksum", json!([bytes, checked]), true));
    all.push(v3("crc32c", json!([bytes, crc]), true));
    all.push(v3("zstd_crc32c", json!([bytes, unchecked, crc]), true));
    for (cname, shuffle) in [
        ("blosclz", "shuffle"),
        ("lz4", "shuffle"),
        ("lz4", "bitshuffle"),
        ("lz4", "noshuffle"),
        ("lz4hc", "shuffle"),
        ("snappy", "shuffle"),
        ("zlib", "shuffle"),
        ("zstd", "bitshuffle"),
    ] {
        let blosc = json!({"name": "blosc", "configuration": {
            "cname": cname, "clevel": 5, "shuffle": shuffle, "typesize": 4, "blocksize": 0,
        }});
        all.push(v3(&format!("blosc_{cname}_{shuffle}"), json!([bytes, blosc]), false));
    }
    for (name, place, index, outer) in [
        ("shard", "end", json!([bytes, crc]), json!([])),
        ("shard_start", "start", json!([bytes, crc]), json!([])),
        ("shard_unchecked", "end", json!([bytes]), json!([])),
        ("shard_compressed", "end", json!([bytes, crc]), json!([unchecked])),
    ] {
        let shard = json!({"name": "sharding_indexed", "configuration": {
            "chunk_shape": [512], "codecs": [bytes, unchecked], "index_codecs": index,
            "index_location": place,
        }});
        let codecs = [vec![shard], outer.as_array().unwrap().clone()].concat();
        all.push(v3(name, json!(codecs), false));
    }
    all
}

/// What a chunk of [`cells`] may be replaced by, whatever its codec.
fn any_frame(frame: &[u8]) -> Vec<(String, Vec<u8>, Expect)> {
    let mut out = Vec::new();
    let len = frame.len();
    let spread = |n: usize, most: usize| -> Vec<usize> {
        let mut at: Vec<usize> = (0..n).map(|i| i * most / n).collect();
        at.dedup();
        at
    };
    for at in spread(18, len).into_iter().chain([len - 1, len.saturating_sub(4)]) {
        out.push((format!("cut_{at}"), frame[..at].to_vec(), Expect::GoodOrError));
    }
    // Headers and trailers are where sizes are.
    let places = (0..24.min(len)).chain(spread(12, len)).chain(len.saturating_sub(12)..len);
    for (i, at) in places.enumerate() {
        let mut flipped = frame.to_vec();
        flipped[at] ^= 1 << (i * 3 % 8);
        out.push((format!("flip_{at}_{i}"), flipped, Expect::Anything));
    }
    for value in [0_u8, 0xff] {
        out.push((format!("all_{value}"), vec![value; len], Expect::Anything));
        let mut header = frame.to_vec();
        header.iter_mut().take(16).for_each(|byte| *byte = value);
        out.push((format!("header_{value}"), header, Expect::Anything));
    }
    let behind = |more: &[u8]| [frame, more].concat();
    out.push(("garbage".to_owned(), behind(b"garbage"), Expect::GoodOrError));
    out.push(("zeros_behind".to_owned(), behind(&[0; 4096]), Expect::GoodOrError));
    out.push(("twice".to_owned(), behind(frame), Expect::GoodOrError));
    out.push(("large".to_owned(), behind(&vec![7; 3 << 20]), Expect::GoodOrError));
    out
}

/// Sizes that a frame may claim.
const SIZES: [u64; 10] = [
    0,
    1,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 40,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX,
];

/// Frames that lie about their size, or hold far more than they should.
fn lies(codec: &str, frame: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    let mut patched = |name: String, at: usize, bytes: &[u8]| {
        let mut frame = frame.to_vec();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        out.push((name, frame));
    };
    match codec {
        "zstd" | "zstd_checksum" => {
            for size in SIZES {
                // Single segment, eight bytes of content size, one RLE block.
                let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
                frame.extend(size.to_le_bytes());
                frame.extend([0x03 | (1 << 3), 0, 0, 9]);
                out.push((format!("claims_{size}"), frame));
            }
            // Windows of up to 2 TiB.
            for window in [0x50, 0x98, 0xa0, 0xff] {
                let frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, window, 0x0b, 0, 0, 9];
                out.push((format!("window_{window}"), frame));
            }
            // A thousand RLE blocks of 1 MiB at most: a gigabyte in 4 kB, of known and unknown size.
            for known in [false, true] {
                out.push((format!("bomb_{known}"), zstd_zeros(8192, known)));
            }
        }
        "gzip" | "zlib" => {
            if codec == "gzip" {
                for size in SIZES {
                    let at = frame.len() - 4;
                    patched(format!("claims_{size}"), at, &size.to_le_bytes()[..4]);
                }
            }
            let mut bomb: Vec<u8> = match codec {
                "gzip" => vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255],
                _ => vec![0x78, 0x01],
            };
            bomb.extend(deflated_zeros(1 << 30));
            bomb.extend([0; 8]);
            out.push(("bomb".to_owned(), bomb));
        }
        "bz2" => {
            // What Python's bz2 makes of a gibibyte of zeros: a block of 45 MB after the other, all
            // alike but for their alignment; of 64 MiB here, often.
            let mut zeros = Vec::new();
            let mut encoder = bzip2::write::BzEncoder::new(&mut zeros, bzip2::Compression::new(9));
            for _ in 0..16 {
                encoder.write_all(&vec![0; 1 << 20]).unwrap();
            }
            encoder.finish().unwrap();
            out.push(("bomb".to_owned(), zeros.clone()));
            out.push(("bombs".to_owned(), zeros.repeat(64)));
        }
        name if name.starts_with("blosc") => {
            // Uncompressed size, block size, compressed size; four bytes each.
            for size in SIZES {
                for (field, at) in [("nbytes", 4), ("blocksize", 8), ("cbytes", 12)] {
                    patched(format!("{field}_{size}"), at, &size.to_le_bytes()[..4]);
                }
                // Where the first block begins, and how long its first stream is.
                patched(format!("start_{size}"), 16, &size.to_le_bytes()[..4]);
                let first = u32::from_le_bytes(frame[16..20].try_into().unwrap()) as usize;
                patched(format!("stream_{size}"), first, &size.to_le_bytes()[..4]);
            }
            for (field, at) in [("version", 0), ("lz_version", 1), ("flags", 2), ("typesize", 3)] {
                for value in [0, 1, 2, 3, 16, 0x20, 0x60, 0xa0, 0xe0, 255] {
                    patched(format!("{field}_{value}"), at, &[value]);
                }
            }
            // A frame that says it is stored as it is, with nothing behind it.
            let mut bare = vec![2, 1, 2, 4];
            for size in [1_u32 << 30, 1 << 30, 16] {
                bare.extend(size.to_le_bytes());
            }
            out.push(("bare".to_owned(), bare));
        }
        _ => {}
    }
    out
}

/// A frame of blocks of 128 KiB of zeros each, which says how much that is or doesn't.
fn zstd_zeros(blocks: u32, says: bool) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
    if says {
        frame.push(0xa0);
        frame.extend((blocks << 17).to_le_bytes());
    } else {
        frame.extend([0x00, 0x58]);
    }
    for block in 1..=blocks {
        let header = (128 << 10) << 3 | 1 << 1 | u32::from(block == blocks);
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// An array whose only chunk is as large as it says: half a gibibyte of zeros in 16 kB.
fn honest_bomb() -> Files {
    let mut files = lone_v2(&json!({"id": "zstd", "level": 1}), zstd);
    let mut document: Value = serde_json::from_slice(&files["v/.zarray"]).unwrap();
    document["shape"] = json!([1 << 27]);
    document["chunks"] = json!([1 << 27]);
    files.insert("v/.zarray".to_owned(), document.to_string().into_bytes());
    files.insert("v/0".to_owned(), zstd_zeros(4096, true));
    files
}

/// Zeros as deflate has them in one block of fixed codes: 258 in 13 bits. It is long, but takes no time
/// to make.
fn deflated_zeros(len: u64) -> Vec<u8> {
    let (mut out, mut word, mut bits) = (Vec::new(), 0_u32, 0);
    let mut put = |value: u32, count: u32| {
        word |= value << bits;
        bits += count;
        while bits >= 8 {
            out.push((word & 0xff) as u8);
            word >>= 8;
            bits -= 8;
        }
    };
    put(0b011, 3);
    // The literal 0 is 00110000, the length 258 is 11000101, both with their first bit lowest; the
    // distance 1 is 00000.
    put(0b0000_1100, 8);
    for _ in 0..len / 258 {
        put(0b1010_0011, 8);
        put(0, 5);
    }
    put(0, 7);
    put(0, 8);
    out
}

/// Indices of shards that point where they shouldn't. They are unchecked, or have the right checksum.
fn shard_indices(frame: &[u8]) -> Vec<(String, Vec<u8>, Expect)> {
    let chunks = 8;
    let start = frame.len() - 16 * chunks;
    let entry = |i: usize, half: usize| -> u64 {
        let at = start + 16 * i + 8 * half;
        u64::from_le_bytes(frame[at..at + 8].try_into().unwrap())
    };
    let mut out = Vec::new();
    let size = frame.len() as u64;
    let max = u64::MAX;
    let mut put = |name: &str, i: usize, offset: u64, len: u64, expect| {
        let mut frame = frame.to_vec();
        let at = start + 16 * i;
        frame[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        frame[at + 8..at + 16].copy_from_slice(&len.to_le_bytes());
        out.push((format!("{name}_{i}"), frame, expect));
    };
    for i in [0, 3, 7] {
        let (offset, len) = (entry(i, 0), entry(i, 1));
        put("wraps", i, max - 4, 8, Expect::Error);
        put("wraps_to_start", i, max - 8, 9, Expect::Error);
        put("wraps_signed", i, 1 << 63, 1 << 63, Expect::Error);
        put("half_sentinel_offset", i, max, len, Expect::Error);
        put("half_sentinel_length", i, offset, max, Expect::Error);
        put("past_the_end", i, size, 1, Expect::Error);
        put("to_past_the_end", i, offset, size, Expect::Error);
        put("terabyte", i, 1 << 40, 1 << 40, Expect::Error);
        put("empty", i, offset, 0, Expect::Error);
        put("empty_at_end", i, size, 0, Expect::Error);
        put("all_of_it", i, 0, size, Expect::GoodOrError);
        put("overlaps", i, offset.saturating_sub(3), len + 3, Expect::GoodOrError);
        put("another", i, entry(1, 0), entry(1, 1), Expect::Anything);
        put("index_itself", i, size - 128, 128, Expect::Error);
        put("missing", i, max, max, Expect::Anything);
    }
    out
}

/// All broken chunks of all codecs.
pub(super) fn cases() -> Vec<Case> {
    // That much memory it takes, unless less is allowed.
    let mut cases = vec![
        Case::new("honest_bomb_limited".to_owned(), honest_bomb(), Expect::Error)
            .with_options("?max_chunk_bytes=67108864"),
    ];
    for codec in codecs() {
        let frame = codec.files[codec.chunk].clone();
        let mut add = |name: String, bytes: Vec<u8>, expect| {
            let mut files = codec.files.clone();
            files.insert(codec.chunk.to_owned(), bytes);
            cases.push(Case::new(format!("{}_{name}", codec.name), files, expect));
        };
        add("good".to_owned(), frame.clone(), Expect::Good);
        for (name, bytes, expect) in any_frame(&frame) {
            let flipped = name.starts_with("flip");
            let expect = if codec.checked && flipped { Expect::GoodOrError } else { expect };
            add(name, bytes, expect);
        }
        for (name, bytes) in lies(&codec.name, &frame) {
            let bomb = name.starts_with("bomb");
            let meant =
                ["flags", "typesize", "version", "blocksize"].iter().any(|m| name.starts_with(m));
            let expect = match bomb {
                true => Expect::Error,
                false if meant => Expect::Anything,
                false => Expect::GoodOrError,
            };
            add(name, bytes, expect);
        }
        if codec.name == "shard_unchecked" {
            for (name, bytes, expect) in shard_indices(&frame) {
                add(name, bytes, expect);
            }
        }
    }
    cases
}
