//! General compressors, undone into buffers of a bounded size.

use std::{
    cell::RefCell,
    io::{self, Read, Write as _},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use flate2::Compression;
use liblzma::{bufread::XzDecoder, stream::Stream, write::XzEncoder};

use super::{
    blosc::{self, BloscSettings},
    lz4,
};

/// What undoing LZMA may take: a stream can ask for a dictionary of 4 GiB, whatever it holds. The
/// highest level of compression needs half of this.
const LZMA_MEMORY: u64 = 128 << 20;

/// The usual level of LZMA's own tool.
const LZMA_LEVEL: u32 = 6;

/// The usual level of zstd's own tool.
const ZSTD_LEVEL: i32 = 3;

/// A general compressor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compressor {
    Zstd,
    Gzip,
    Zlib,
    Bz2,
    Blosc,
    /// A block, behind its decompressed size.
    Lz4,
    /// A stream of xz, or of its predecessor.
    Lzma,
    Base64,
}

/// How a compressor works. What isn't set is usual. Decompression needs none of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CompressorSettings {
    /// The level of compressors other than Blosc.
    pub(crate) level: Option<i32>,
    /// Whether zstd adds a checksum.
    pub(crate) checksum: bool,
    pub(crate) blosc: BloscSettings,
}

impl Compressor {
    /// The compressor of this name in Zarr's metadata.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name.strip_prefix("numcodecs.").unwrap_or(name) {
            "zstd" => Self::Zstd,
            "gzip" => Self::Gzip,
            "zlib" => Self::Zlib,
            "bz2" => Self::Bz2,
            "blosc" => Self::Blosc,
            "lz4" => Self::Lz4,
            "lzma" => Self::Lzma,
            "base64" => Self::Base64,
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
            Self::Lz4 => decompress_lz4(encoded, out),
            Self::Lzma => lzma(encoded)
                .map_err(|e| e.to_string())
                .and_then(|reader| fill(reader, out).map_err(lzma_hint(encoded))),
            Self::Base64 => decode_base64(encoded, out),
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
            Self::Lz4 => {
                let size = lz4_parts(encoded)?.0;
                if size > most {
                    return Err(format!("its LZ4 header says {size} bytes, more than {most}"));
                }
                out.resize(size, 0);
                decompress_lz4(encoded, &mut out)?;
                return Ok(out.into());
            }
            Self::Lzma => &mut lzma(encoded).map_err(failed)?,
            Self::Base64 => {
                let size = base64_len(encoded);
                if size > most {
                    return Err(format!("its {size} bytes are more than {most}"));
                }
                out.resize(size, 0);
                decode_base64(encoded, &mut out)?;
                return Ok(out.into());
            }
        };
        reader.take(limit).read_to_end(&mut out).map_err(failed)?;
        if out.len() > most {
            return Err(format!("it decompresses to more than the {most} bytes that it may have"));
        }
        Ok(out.into())
    }

    /// Compresses the bytes of elements of `width` bytes.
    ///
    /// # Errors
    /// A text, if there are more bytes than the compressor takes.
    pub(super) fn compress(
        self,
        bytes: &[u8],
        width: usize,
        settings: &CompressorSettings,
    ) -> Result<Vec<u8>, String> {
        let failed = |e: io::Error| format!("{self:?} can't compress it: {e}");
        // Levels of deflate, bzip2 and LZMA go from 0 or 1 to 9.
        let level = |usual: u32| {
            let level = settings.level.and_then(|level| u32::try_from(level).ok());
            level.unwrap_or(usual).min(9)
        };
        match self {
            Self::Zstd => compress_zstd(bytes, settings),
            Self::Gzip => {
                let level = Compression::new(level(Compression::default().level()));
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Self::Zlib => {
                let level = Compression::new(level(Compression::default().level()));
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Self::Bz2 => {
                let usual = bzip2::Compression::default().level();
                let level = bzip2::Compression::new(level(usual).max(1));
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Self::Blosc => return blosc::compress(bytes, &settings.blosc, width),
            Self::Lz4 => return compress_lz4(bytes),
            Self::Lzma => {
                let mut encoder = XzEncoder::new(Vec::new(), level(LZMA_LEVEL));
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Self::Base64 => Ok(BASE64_STANDARD.encode(bytes).into_bytes()),
        }
        .map_err(failed)
    }
}

thread_local! {
    /// One context a thread: making one takes longer than decoding a small chunk.
    static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

fn compress_zstd(bytes: &[u8], settings: &CompressorSettings) -> io::Result<Vec<u8>> {
    let level = settings.level.unwrap_or(ZSTD_LEVEL);
    let known = zstd::compression_level_range();
    let mut compressor = zstd::bulk::Compressor::new(level.clamp(*known.start(), *known.end()))?;
    compressor.include_checksum(settings.checksum)?;
    compressor.compress(bytes)
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

fn decompress_lz4(encoded: &[u8], out: &mut [u8]) -> Result<(), String> {
    let (size, block) = lz4_parts(encoded)?;
    if size != out.len() {
        return Err(format!("its header says {size} bytes instead of {}", out.len()));
    }
    match lz4::decompress(block, out) {
        Some(written) if written == size => Ok(()),
        Some(written) => Err(format!("it holds {written} bytes instead of {size}")),
        None => Err(format!("it can't be decompressed to {size} bytes")),
    }
}

/// A block behind its decompressed size.
fn compress_lz4(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let too_large = || format!("LZ4 takes fewer than {} bytes", bytes.len());
    let size = u32::try_from(bytes.len()).map_err(|_| too_large())?;
    let mut encoded = size.to_le_bytes().to_vec();
    encoded.extend(lz4::compress(bytes).ok_or_else(too_large)?);
    Ok(encoded)
}

/// The decompressed size and the block.
fn lz4_parts(encoded: &[u8]) -> Result<(usize, &[u8]), String> {
    let (size, block) = encoded.split_first_chunk().ok_or("it is too short for a header of LZ4")?;
    let size = usize::try_from(u32::from_le_bytes(*size)).map_err(|e| e.to_string())?;
    // A byte of a block stands for 255 at most.
    if size / 255 > block.len() {
        return Err(format!("its LZ4 header says {size} bytes, more than a block can hold"));
    }
    Ok((size, block))
}

/// Reads streams of xz one after the other, or one of its predecessor's.
fn lzma(encoded: &[u8]) -> io::Result<XzDecoder<&[u8]>> {
    let stream = Stream::new_auto_decoder(LZMA_MEMORY, liblzma::stream::CONCATENATED)?;
    Ok(XzDecoder::new_stream(encoded, stream))
}

/// Says what else could be meant by bytes that aren't a stream of xz.
fn lzma_hint(encoded: &[u8]) -> impl Fn(String) -> String {
    let is_xz = encoded.starts_with(b"\xfd7zXZ\0");
    move |reason| {
        if is_xz { reason } else { format!("{reason}; without a header (raw) it isn't supported") }
    }
}

fn decode_base64(encoded: &[u8], out: &mut [u8]) -> Result<(), String> {
    let len = base64_len(encoded);
    if len != out.len() {
        return Err(format!("it holds {len} bytes instead of {}", out.len()));
    }
    match BASE64_STANDARD.decode_slice(encoded, out) {
        Ok(written) if written == len => Ok(()),
        Ok(written) => Err(format!("it holds {written} bytes instead of {len}")),
        Err(e) => Err(format!("it can't be decoded: {e}")),
    }
}

/// The bytes that a text in base 64 stands for, if it is one.
fn base64_len(encoded: &[u8]) -> usize {
    let padding = encoded.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
    (encoded.len() / 4 * 3).saturating_sub(padding)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::codec_cases, *};

    const ALL: [Compressor; 8] = [
        Compressor::Zstd,
        Compressor::Gzip,
        Compressor::Zlib,
        Compressor::Bz2,
        Compressor::Blosc,
        Compressor::Lz4,
        Compressor::Lzma,
        Compressor::Base64,
    ];

    fn samples(data: &[u8]) -> Vec<(Compressor, Vec<u8>)> {
        // Without the size in its header, as streaming writers make them.
        let stream = zstd::stream::encode_all(data, 1).unwrap();
        let part = data.len() / 3;
        // Of both kinds, with one between them that holds nothing, as pzstd writes.
        let frames = [
            &zstd::stream::encode_all(&data[..part], 1).unwrap()[..],
            &[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4],
            &zstd::bulk::compress(&data[part..], 1).unwrap(),
        ]
        .concat();
        let xz = |data: &[u8]| {
            Compressor::Lzma.compress(data, 1, &CompressorSettings::default()).unwrap()
        };
        let own = ALL.map(|compressor| {
            (compressor, compressor.compress(data, 1, &CompressorSettings::default()).unwrap())
        });
        let others = [
            (Compressor::Zstd, stream),
            (Compressor::Zstd, frames),
            (Compressor::Lzma, [xz(&data[..part]), xz(&data[part..])].concat()),
        ];
        own.into_iter().chain(others).collect()
    }

    #[test]
    fn sizes_are_bounded() {
        let data = vec![7; 100_000];
        for (compressor, encoded) in samples(&data) {
            assert_eq!(compressor.decompress(&encoded, 100_000).as_deref(), Ok(&data[..]));
            assert_eq!(compressor.decompress(&encoded, 200_000).as_deref(), Ok(&data[..]));
            assert!(compressor.decompress(&encoded, 99_999).is_err(), "{compressor:?}");
            if compressor != Compressor::Base64 {
                assert!(compressor.decompress(&encoded[..encoded.len() / 2], 100_000).is_err());
            }
            assert!(compressor.decompress(b"no sense", 100_000).is_err());

            let mut out = vec![1; 100_001];
            assert_eq!(compressor.decompress_into(&encoded, &mut out[..100_000]), Ok(()));
            assert_eq!(out[..100_000], data);
            assert!(compressor.decompress_into(&encoded, &mut out).is_err(), "{compressor:?}");
            assert!(compressor.decompress_into(&encoded, &mut out[..99_999]).is_err());
            assert!(compressor.decompress_into(b"no sense", &mut out).is_err());
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
        // A good block that claims 4 GiB.
        let encoded = [
            &[255; 4][..],
            &Compressor::Lz4.compress(&[7; 1_000], 1, &CompressorSettings::default()).unwrap()[4..],
        ]
        .concat();
        assert!(Compressor::Lz4.decompress(&encoded, 1_000).is_err());
        assert!(Compressor::Lz4.decompress(&encoded, usize::MAX - 1).is_err());
        assert!(Compressor::Lz4.decompress_into(&encoded, &mut [0; 1_000]).is_err());
    }

    #[test]
    fn bytes_are_those_of_numcodecs() {
        for case in codec_cases::of(&["lz4", "lzma", "base64", "zstd", "zlib", "bz2"]) {
            let decoded = case.decoded();
            let compressor = Compressor::of(&format!("numcodecs.{}", case.codec)).unwrap();
            assert_eq!(Compressor::of(case.codec), Some(compressor));
            assert!(compressor.settings(case.configuration).is_ok());
            let most = decoded.len();
            assert_eq!(compressor.decompress(&case.encoded, most).as_deref(), Ok(&decoded[..]));
            assert!(most == 0 || compressor.decompress(&case.encoded, most - 1).is_err(), "{case}");
            let mut out = vec![0; most + 1];
            assert_eq!(compressor.decompress_into(&case.encoded, &mut out[..most]), Ok(()));
            assert_eq!(out[..most], decoded, "{case}");
            assert!(compressor.decompress_into(&case.encoded, &mut out).is_err(), "{case}");
            for len in 0..case.encoded.len() {
                let truncated = &case.encoded[..len];
                assert!(
                    compressor.decompress_into(truncated, &mut out[..most]).is_err() || most == 0
                );
                if let Ok(decompressed) = compressor.decompress(truncated, most) {
                    assert!(len == 0 || decompressed.len() <= most, "{case} {len}");
                }
            }
            for at in 0..case.encoded.len() {
                let mut changed = case.encoded.clone();
                changed[at] ^= 1 << (at % 8);
                let _ = compressor.decompress_into(&changed, &mut out[..most]);
                if let Ok(decompressed) = compressor.decompress(&changed, most) {
                    assert!(decompressed.len() <= most, "{case} {at}");
                }
            }
        }
    }

    #[test]
    fn lzma_that_asks_for_much_memory_or_has_no_header() {
        for case in codec_cases::of(&["lzma-huge-dictionary", "lzma-raw"]) {
            let decoded = case.decoded();
            let mut out = vec![0; decoded.len()];
            let error = Compressor::Lzma.decompress_into(&case.encoded, &mut out).unwrap_err();
            assert!(Compressor::Lzma.decompress(&case.encoded, decoded.len()).is_err());
            let is_raw = case.codec == "lzma-raw";
            assert_eq!(Compressor::Lzma.settings(case.configuration).is_err(), is_raw);
            assert!(error.contains(if is_raw { "raw" } else { "emory" }), "{error}");
        }
    }

    proptest! {
        // LZMA and bzip2 take their time, however few the bytes are.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_is_compressed_comes_back(
            bytes in prop::collection::vec(0..5_u8, 0..20_000),
            noise in prop::collection::vec(any::<u8>(), 0..2_000),
            width in 1..20_usize,
        ) {
            for bytes in [&bytes, &noise] {
                for compressor in ALL {
                    let encoded = compressor.compress(bytes, width, &CompressorSettings::default()).unwrap();
                    let mut out = vec![0xa5; bytes.len()];
                    prop_assert_eq!(compressor.decompress_into(&encoded, &mut out), Ok(()));
                    prop_assert_eq!(&out, bytes);
                    let out = compressor.decompress(&encoded, bytes.len());
                    prop_assert_eq!(out.as_deref(), Ok(&bytes[..]), "{:?}", compressor);
                }
            }
        }
    }
}
