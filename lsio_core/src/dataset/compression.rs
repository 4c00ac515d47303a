//! General compressors, undone into buffers of a bounded size.
//!
//! A compressed chunk may claim, or turn out, to be of any size. zarrs would allocate all of it; so
//! the outermost codecs of an array are taken off its chain, where they are of these kinds, and undone
//! here first.

use std::io::Read as _;

use bytes::Bytes;
use serde_json::{Map, Value};

/// A general compressor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compressor {
    Zstd,
    Gzip,
    Zlib,
    Bz2,
}

impl Compressor {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name.strip_prefix("numcodecs.").unwrap_or(name) {
            "zstd" => Self::Zstd,
            "gzip" => Self::Gzip,
            "zlib" => Self::Zlib,
            "bz2" => Self::Bz2,
            _ => return None,
        })
    }

    /// Decompresses to at most `most` bytes.
    ///
    /// # Errors
    /// A text, if the bytes are corrupt or there are more of them.
    pub(super) fn decompress(self, encoded: &[u8], most: usize) -> Result<Bytes, String> {
        let failed = |e: std::io::Error| format!("{self:?} can't decompress it: {e}");
        if self == Self::Zstd {
            return decompress_zstd(encoded, most);
        }
        let limit = most as u64 + 1;
        let mut out = Vec::new();
        match self {
            Self::Zstd => 0,
            Self::Gzip => flate2::read::MultiGzDecoder::new(encoded)
                .take(limit)
                .read_to_end(&mut out)
                .map_err(failed)?,
            Self::Zlib => flate2::read::ZlibDecoder::new(encoded)
                .take(limit)
                .read_to_end(&mut out)
                .map_err(failed)?,
            Self::Bz2 => bzip2::read::MultiBzDecoder::new(encoded)
                .take(limit)
                .read_to_end(&mut out)
                .map_err(failed)?,
        };
        if out.len() > most {
            return Err(format!("it decompresses to more than the {most} bytes that it may have"));
        }
        Ok(out.into())
    }
}

fn decompress_zstd(encoded: &[u8], most: usize) -> Result<Bytes, String> {
    // The sum over all frames of what they claim, or of what their blocks can come to.
    let bound = zstd::zstd_safe::decompress_bound(encoded)
        .map_err(|_| "it is no sequence of zstd frames".to_owned())?;
    let claimed = zstd::zstd_safe::get_frame_content_size(encoded);
    let capacity = match claimed {
        // One frame that says how large it is: exactly that.
        Ok(Some(size)) if size == bound => usize::try_from(size).unwrap_or(usize::MAX),
        _ => usize::try_from(bound).unwrap_or(usize::MAX).min(most),
    };
    if capacity > most {
        return Err(format!("its zstd frames claim {capacity} bytes, where it has at most {most}"));
    }
    let mut out = Vec::with_capacity(capacity);
    let mut decompressor =
        zstd::bulk::Decompressor::new().map_err(|e| format!("zstd doesn't start: {e}"))?;
    decompressor
        .decompress_to_buffer(encoded, &mut out)
        .map_err(|e| format!("zstd can't decompress it: {e}"))?;
    Ok(out.into())
}

/// Takes the compressor off Zarr v2 metadata, if it is one of these.
pub(super) fn peel_v2(metadata: &mut Map<String, Value>) -> Vec<Compressor> {
    let id = metadata.get("compressor").and_then(|c| c.get("id")).and_then(Value::as_str);
    let Some(compressor) = id.and_then(Compressor::from_name) else { return Vec::new() };
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
        .and_then(Compressor::from_name)
    {
        peeled.push(compressor);
        codecs.pop();
    }
    peeled
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
    }
}
