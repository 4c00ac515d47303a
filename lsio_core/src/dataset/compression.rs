//! General compressors, undone into buffers of a bounded size.
//!
//! A compressed chunk may claim, or turn out, to be of any size. zarrs would allocate all of it; so
//! the outermost codecs of an array are taken off its chain, where they are of these kinds, and undone
//! here first.

use std::{
    cell::RefCell,
    io::{self, Read},
};

use bytes::Bytes;
use serde_json::{Map, Value};
use zarrs::metadata::v3::MetadataV3;

use super::blosc;

/// A general compressor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compressor {
    Zstd,
    Gzip,
    Zlib,
    Bz2,
    Blosc,
}

impl Compressor {
    /// The compressor of this name in Zarr's metadata.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name.strip_prefix("numcodecs.").unwrap_or(name) {
            "zstd" => Self::Zstd,
            "gzip" => Self::Gzip,
            "zlib" => Self::Zlib,
            "bz2" => Self::Bz2,
            "blosc" => Self::Blosc,
            _ => return None,
        })
    }

    /// Decompresses what comes to exactly `out.len()` bytes.
    ///
    /// # Errors
    /// A text, if the bytes are corrupt or there are more or fewer of them.
    pub(super) fn decompress_into(self, encoded: &[u8], out: &mut [u8]) -> Result<(), String> {
        match self {
            Self::Zstd => decompress_zstd(encoded, out),
            Self::Gzip => fill(flate2::bufread::MultiGzDecoder::new(encoded), out),
            Self::Zlib => fill(flate2::bufread::ZlibDecoder::new(encoded), out),
            Self::Bz2 => fill(bzip2::bufread::MultiBzDecoder::new(encoded), out),
            Self::Blosc => blosc::decompress(encoded, out),
        }
        .map_err(|reason| format!("{self:?}: {reason}"))
    }

    /// Decompresses to at most `most` bytes, where their number isn't known.
    ///
    /// # Errors
    /// A text, if the bytes are corrupt or there are more of them.
    pub(super) fn decompress(self, encoded: &[u8], most: usize) -> Result<Bytes, String> {
        let failed = |e: io::Error| format!("{self:?} can't decompress it: {e}");
        let limit = most as u64 + 1;
        let mut out = Vec::new();
        let reader: &mut dyn Read = match self {
            Self::Zstd => &mut zstd::Decoder::with_buffer(encoded).map_err(failed)?,
            Self::Gzip => &mut flate2::bufread::MultiGzDecoder::new(encoded),
            Self::Zlib => &mut flate2::bufread::ZlibDecoder::new(encoded),
            Self::Bz2 => &mut bzip2::bufread::MultiBzDecoder::new(encoded),
            Self::Blosc => {
                let size = encoded.get(4..8).and_then(|size| size.try_into().ok());
                let size = size.map_or(0, u32::from_le_bytes) as usize;
                if size > most {
                    return Err(format!("its Blosc header says {size} bytes, more than {most}"));
                }
                out.resize(size, 0);
                blosc::decompress(encoded, &mut out)?;
                return Ok(out.into());
            }
        };
        reader.take(limit).read_to_end(&mut out).map_err(failed)?;
        if out.len() > most {
            return Err(format!("it decompresses to more than the {most} bytes that it may have"));
        }
        Ok(out.into())
    }
}

thread_local! {
    /// One context a thread: making one takes longer than decoding a small chunk.
    static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

fn decompress_zstd(encoded: &[u8], out: &mut [u8]) -> Result<(), String> {
    let written = ZSTD.with_borrow_mut(|context| {
        let decompressor = match context {
            Some(decompressor) => decompressor,
            None => context.insert(zstd::bulk::Decompressor::new()?),
        };
        decompressor.decompress_to_buffer(encoded, out)
    });
    match written {
        Ok(written) if written == out.len() => Ok(()),
        Ok(written) => Err(format!("it holds {written} bytes instead of {}", out.len())),
        Err(e) => Err(format!("it can't be decompressed to {} bytes: {e}", out.len())),
    }
}

/// Fills a buffer from a reader that holds exactly as much.
fn fill(mut reader: impl Read, out: &mut [u8]) -> Result<(), String> {
    let len = out.len();
    reader.read_exact(out).map_err(|e| format!("it can't be decompressed to {len} bytes: {e}"))?;
    // What follows may be a checksum, but no further byte.
    match reader.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(format!("it holds more than {len} bytes")),
        Err(e) => Err(e.to_string()),
    }
}

/// Takes the compressor off Zarr v2 metadata, if it is one of these.
pub(super) fn peel_v2(metadata: &mut Map<String, Value>) -> Vec<Compressor> {
    let id = metadata.get("compressor").and_then(|c| c.get("id")).and_then(Value::as_str);
    let Some(compressor) = id.and_then(Compressor::of) else { return Vec::new() };
    metadata.insert("compressor".to_owned(), Value::Null);
    vec![compressor]
}

/// Takes the outermost compressors off Zarr v3 metadata, as far as they are of these; the outermost
/// comes first.
pub(super) fn peel_v3(metadata: &mut Map<String, Value>) -> Vec<Compressor> {
    let mut peeled = Vec::new();
    let Some(codecs) = metadata.get_mut("codecs").and_then(Value::as_array_mut) else {
        return peeled;
    };
    while let Some(compressor) = codecs
        .last()
        .and_then(|codec| codec.get("name"))
        .and_then(Value::as_str)
        .and_then(Compressor::of)
    {
        peeled.push(compressor);
        codecs.pop();
    }
    peeled
}

/// Takes the outermost compressors off a list of codecs.
pub(super) fn peel_codecs(mut codecs: Vec<MetadataV3>) -> (Vec<MetadataV3>, Vec<Compressor>) {
    let mut peeled = Vec::new();
    while let Some(compressor) = codecs.last().and_then(|codec| Compressor::of(codec.name())) {
        peeled.push(compressor);
        codecs.pop();
    }
    (codecs, peeled)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{
        Compression,
        write::{GzEncoder, ZlibEncoder},
    };

    use super::*;

    fn samples(data: &[u8]) -> Vec<(Compressor, Vec<u8>)> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(data).unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(data).unwrap();
        let mut bz2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bz2.write_all(data).unwrap();
        // Without the size in its header, as streaming writers make them.
        let stream = zstd::stream::encode_all(data, 1).unwrap();
        vec![
            (Compressor::Gzip, gzip.finish().unwrap()),
            (Compressor::Zlib, zlib.finish().unwrap()),
            (Compressor::Bz2, bz2.finish().unwrap()),
            (Compressor::Zstd, zstd::bulk::compress(data, 1).unwrap()),
            (Compressor::Zstd, stream),
        ]
    }

    #[test]
    fn sizes_are_bounded() {
        let data = vec![7; 100_000];
        for (compressor, encoded) in samples(&data) {
            assert_eq!(compressor.decompress(&encoded, 100_000).as_deref(), Ok(&data[..]));
            assert_eq!(compressor.decompress(&encoded, 200_000).as_deref(), Ok(&data[..]));
            assert!(compressor.decompress(&encoded, 99_999).is_err(), "{compressor:?}");
            assert!(compressor.decompress(&encoded[..encoded.len() / 2], 100_000).is_err());
            assert!(compressor.decompress(b"nonsense", 100_000).is_err());

            let mut out = vec![1; 100_001];
            assert_eq!(compressor.decompress_into(&encoded, &mut out[..100_000]), Ok(()));
            assert_eq!(out[..100_000], data);
            assert!(compressor.decompress_into(&encoded, &mut out).is_err(), "{compressor:?}");
            assert!(compressor.decompress_into(&encoded, &mut out[..99_999]).is_err());
            assert!(compressor.decompress_into(b"nonsense", &mut out).is_err());
        }
    }

    #[test]
    fn frames_that_claim_too_much() {
        // A good frame, and behind it one that claims 2⁴⁵ bytes.
        let mut encoded = zstd::bulk::compress(&[7; 10], 1).unwrap();
        encoded.extend([0x28, 0xb5, 0x2f, 0xfd, 0xe0]);
        encoded.extend((1_u64 << 45).to_le_bytes());
        encoded.extend([1, 0, 0]);
        assert!(Compressor::Zstd.decompress(&encoded, 1_000).is_err());
        assert!(Compressor::Zstd.decompress_into(&encoded, &mut [0; 10]).is_err());
    }
}
