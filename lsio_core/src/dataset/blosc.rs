//! Blosc: block by block where its format is the usual one, else by the C library; straight into the
//! caller's buffer.

use std::{
    cell::RefCell,
    ffi::{CStr, c_int, c_void},
};

use blosc_src::{blosc_cbuffer_validate, blosc_compress_ctx, blosc_decompress_ctx};

use super::{compression::Compressor, lz4, shuffle::unshuffle};

/// The bytes of the header.
const HEADER: usize = 16;

/// The bytes that a buffer takes at most: lengths have 31 bits.
const MOST_BYTES: usize = i32::MAX as usize - HEADER;

/// The flag of the header that says that the data are stored as they are.
const MEMCPYED: u8 = 0x2;

/// The flag that says that the bytes of elements stand apart.
const SHUFFLED: u8 = 0x1;

/// The flag that says that their bits do.
const BITSHUFFLED: u8 = 0x4;

/// The flag that says that blocks aren't split into streams.
const NOT_SPLIT: u8 = 0x10;

/// The largest block that is decoded for itself: beyond that it wouldn't fit a cache.
const LARGEST_BLOCK: usize = 4 << 20;

/// The largest block of the compressor blosclz that is decoded. Its C code counts in 32 bits without
/// checks (c-blosc issue 405); blocks that it writes itself are far smaller.
const LARGEST_BLOSCLZ_BLOCK: u32 = 8 << 20;

/// Decompresses a Blosc buffer that holds exactly `out.len()` bytes.
///
/// # Errors
/// A text, if the bytes are corrupt or there are more or fewer of them.
pub(super) fn decompress(encoded: &[u8], out: &mut [u8]) -> Result<(), String> {
    thread_local! {
        /// A block whose bytes stand apart.
        static SHUFFLED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    match Blocks::new(encoded, out.len()) {
        Some(blocks) => SHUFFLED.with_borrow_mut(|block| blocks.decompress_all(block, out)),
        None => decompress_by_library(encoded, out),
    }
}

/// How a Blosc buffer is compressed. What isn't set is as numcodecs writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BloscSettings {
    pub(crate) compressor: Option<BloscCompressor>,
    /// From 0 to 9.
    pub(crate) level: Option<i32>,
    pub(crate) shuffle: Option<Shuffle>,
    /// The bytes of an element, from 1 to 255.
    pub(crate) width: Option<usize>,
}

/// The compressor inside of Blosc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BloscCompressor {
    BloscLz,
    Lz4,
    Lz4Hc,
    Snappy,
    Zlib,
    Zstd,
}

/// What is done with the bytes of elements before they are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Shuffle {
    None = 0,
    Bytes = 1,
    Bits = 2,
}

impl BloscCompressor {
    /// The compressor of this name in Zarr's metadata.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "blosclz" => Self::BloscLz,
            "lz4" => Self::Lz4,
            "lz4hc" => Self::Lz4Hc,
            "snappy" => Self::Snappy,
            "zlib" => Self::Zlib,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }

    /// The name in Zarr's metadata.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::BloscLz => "blosclz",
            Self::Lz4 => "lz4",
            Self::Lz4Hc => "lz4hc",
            Self::Snappy => "snappy",
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }

    fn name(self) -> &'static CStr {
        match self {
            Self::BloscLz => c"blosclz",
            Self::Lz4 => c"lz4",
            Self::Lz4Hc => c"lz4hc",
            Self::Snappy => c"snappy",
            Self::Zlib => c"zlib",
            Self::Zstd => c"zstd",
        }
    }
}

/// Compresses elements of `width` bytes to a Blosc buffer.
///
/// # Errors
/// A text, if there are more bytes than a Blosc buffer takes.
pub(super) fn compress(
    bytes: &[u8],
    settings: &BloscSettings,
    width: usize,
) -> Result<Vec<u8>, String> {
    /// That of numcodecs.
    const LEVEL: c_int = 5;

    let width = settings.width.unwrap_or(width);
    let width = if (1..=255).contains(&width) { width } else { 1 };
    let plain = if width > 1 { Shuffle::Bytes } else { Shuffle::None };
    let shuffle = settings.shuffle.unwrap_or(plain);
    let level = settings.level.unwrap_or(LEVEL).clamp(0, 9);
    let compressor = settings.compressor.unwrap_or(BloscCompressor::Lz4).name();

    if bytes.len() > MOST_BYTES {
        return Err(format!("Blosc takes {MOST_BYTES} bytes at most, not {}", bytes.len()));
    }
    let mut out = vec![0; bytes.len() + HEADER];
    // SAFETY: the library reads `bytes`, and writes at most the size of `out`, which is enough for data
    // that don't compress.
    let written = unsafe {
        blosc_compress_ctx(
            level,
            shuffle as c_int,
            width,
            bytes.len(),
            bytes.as_ptr().cast::<c_void>(),
            out.as_mut_ptr().cast::<c_void>(),
            out.len(),
            compressor.as_ptr(),
            0,
            1,
        )
    };
    match usize::try_from(written) {
        Ok(written @ HEADER..) => out.truncate(written),
        _ => return Err(format!("Blosc can't compress its {} bytes", bytes.len())),
    }
    Ok(out)
}

fn decompress_by_library(encoded: &[u8], out: &mut [u8]) -> Result<(), String> {
    let header: &[u8; HEADER] =
        encoded.first_chunk().ok_or("it is too short for a header of Blosc")?;
    let block = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    let is_blosclz = header[2] >> 5 == 0 && header[2] & MEMCPYED == 0;
    if is_blosclz && block > LARGEST_BLOSCLZ_BLOCK {
        return Err(format!("its blocks of {block} bytes are too large for blosclz"));
    }
    let mut size = 0_usize;
    // SAFETY: the pointer and the length are those of one slice, and `size` is a place to write to.
    let validated = unsafe {
        blosc_cbuffer_validate(encoded.as_ptr().cast::<c_void>(), encoded.len(), &raw mut size)
    };
    if validated != 0 {
        return Err("its Blosc header is corrupt".to_owned());
    }
    if size != out.len() {
        return Err(format!("its Blosc header says {size} bytes instead of {}", out.len()));
    }
    if size == 0 {
        return Ok(());
    }
    // SAFETY: the header was validated against the length of the input just before, the library
    // writes at most the given size of the output, and the slices can't overlap.
    let written: c_int = unsafe {
        blosc_decompress_ctx(
            encoded.as_ptr().cast::<c_void>(),
            out.as_mut_ptr().cast::<c_void>(),
            out.len(),
            1,
        )
    };
    if usize::try_from(written) == Ok(out.len()) {
        Ok(())
    } else {
        Err("Blosc can't decompress it".to_owned())
    }
}

/// A Blosc buffer whose blocks are decoded one by one, by the compressors' own libraries: what
/// numcodecs writes if it isn't told otherwise, and zstd.
///
/// The format is that of [c-blosc](https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst).
#[derive(Debug)]
pub(crate) struct Blocks<'a> {
    encoded: &'a [u8],
    compressor: InnerCodec,
    /// The bytes of an element, by which blocks are split and shuffled.
    width: usize,
    shuffled: bool,
    split: bool,
    /// The bytes of a block; the last one may have fewer.
    block: usize,
    len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InnerCodec {
    Lz4,
    Zstd,
}

/// The streams into which a block is split, at most.
const MOST_STREAMS: usize = 16;

/// The elements of a block from which on it is split.
const LEAST_SPLIT: usize = 128;

impl<'a> Blocks<'a> {
    /// `None` if it is encoded in a way that isn't known here, or doesn't hold `len` bytes: then
    /// [`decompress`] says what is wrong, if anything.
    pub(crate) fn new(encoded: &'a [u8], len: usize) -> Option<Self> {
        let header: &[u8; HEADER] = encoded.first_chunk()?;
        let number = |at: usize| {
            let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
            usize::try_from(u32::from_le_bytes(bytes)).ok()
        };
        let (bytes, block, stored) = (number(4)?, number(8)?, number(12)?);
        let (flags, width) = (header[2], usize::from(header[3]));
        let compressor = match flags >> 5 {
            1 => InnerCodec::Lz4,
            4 => InnerCodec::Zstd,
            _ => return None,
        };
        let known = header[0] == 2 && flags & (MEMCPYED | BITSHUFFLED) == 0;
        let sizes = bytes == len && stored == encoded.len() && block > 0 && block <= len;
        if !known || !sizes || width == 0 || block > LARGEST_BLOCK {
            return None;
        }
        Some(Self {
            encoded,
            compressor,
            width,
            shuffled: flags & SHUFFLED != 0 && width > 1,
            split: flags & NOT_SPLIT == 0,
            block,
            len,
        })
    }

    /// The bytes of a block.
    pub(crate) fn block_len(&self, number: usize) -> usize {
        self.block.min(self.len.saturating_sub(number * self.block))
    }

    /// Whether the bytes of elements stand apart in a block: all first bytes, then all second ones.
    /// What doesn't fill an element stands behind them.
    pub(crate) fn shuffled_width(&self) -> Option<usize> {
        self.shuffled.then_some(self.width)
    }

    /// Decompresses all blocks, with room for one.
    fn decompress_all(&self, room: &mut Vec<u8>, out: &mut [u8]) -> Result<(), String> {
        for (number, out) in out.chunks_mut(self.block).enumerate() {
            let Some(width) = self.shuffled_width() else {
                self.decompress(number, out)?;
                continue;
            };
            room.resize(self.block, 0);
            let block = &mut room[..out.len()];
            self.decompress(number, block)?;
            let elements = out.len() / width * width;
            unshuffle(&block[..elements], width, 0, &mut out[..elements]);
            out[elements..].copy_from_slice(&block[elements..]);
        }
        Ok(())
    }

    /// Decompresses a block to `out`, which has its length.
    ///
    /// # Errors
    /// A text, if the bytes are corrupt.
    pub(crate) fn decompress(&self, number: usize, out: &mut [u8]) -> Result<(), String> {
        let corrupt = || format!("Blosc can't decompress its block {number}");
        let word = |at: usize| {
            let bytes = self.encoded.get(at..at.checked_add(4)?)?;
            let bytes: [u8; 4] = bytes.try_into().ok()?;
            usize::try_from(i32::from_le_bytes(bytes)).ok()
        };
        let mut at = word(HEADER + 4 * number).ok_or_else(corrupt)?;
        let is_whole = out.len() == self.block;
        let splits = self.split
            && is_whole
            && self.width <= MOST_STREAMS
            && self.block / self.width >= LEAST_SPLIT;
        let streams = if splits { self.width } else { 1 };
        let len = out.len() / streams;
        if len * streams != out.len() {
            return Err(corrupt());
        }
        for stream in out.chunks_exact_mut(len) {
            let stored = word(at).ok_or_else(corrupt)?;
            at += 4;
            let end = at.checked_add(stored).ok_or_else(corrupt)?;
            let encoded = self.encoded.get(at..end).ok_or_else(corrupt)?;
            at = end;
            if stored == len {
                stream.copy_from_slice(encoded);
                continue;
            }
            let written = match self.compressor {
                InnerCodec::Lz4 => lz4::decompress(encoded, stream),
                InnerCodec::Zstd => {
                    Compressor::Zstd.decompress_into(encoded, stream).ok().map(|()| len)
                }
            };
            if written != Some(len) {
                return Err(corrupt());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COMPRESSORS: [&str; 6] = ["lz4", "lz4hc", "zstd", "zlib", "blosclz", "snappy"];

    fn compress(data: &[u8], compressor: &str, shuffle: Shuffle, width: usize) -> Vec<u8> {
        let compressor = BloscCompressor::of(compressor);
        let settings =
            BloscSettings { compressor, shuffle: Some(shuffle), ..BloscSettings::default() };
        super::compress(data, &settings, width).unwrap()
    }

    #[test]
    fn all_compressors_and_shuffles() {
        let data: Vec<u8> = (0..100_000_u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for compressor in COMPRESSORS {
            for shuffle in [Shuffle::None, Shuffle::Bytes, Shuffle::Bits] {
                let encoded = compress(&data, compressor, shuffle, 4);
                for decompress in [decompress, decompress_by_library] {
                    let mut out = vec![1; data.len()];
                    assert_eq!(decompress(&encoded, &mut out), Ok(()), "{compressor:?}");
                    assert_eq!(out, data);
                }
                let mut out = vec![1; data.len()];
                assert!(decompress(&encoded, &mut out[1..]).is_err());
                assert!(decompress(&encoded[..encoded.len() - 1], &mut out).is_err());
                assert!(decompress(&encoded[..10], &mut out).is_err());
            }
        }
    }

    /// The bytes that the blocks hold, each put together plainly.
    fn of_blocks(blocks: &Blocks<'_>) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        for number in 0..blocks.len.div_ceil(blocks.block) {
            let mut block = vec![0; blocks.block_len(number)];
            blocks.decompress(number, &mut block)?;
            let Some(width) = blocks.shuffled_width() else {
                all.extend(block);
                continue;
            };
            let elements = block.len() / width;
            all.extend((0..elements * width).map(|i| block[i % width * elements + i / width]));
            all.extend(&block[elements * width..]);
        }
        Ok(all)
    }

    #[test]
    fn blocks_are_those_of_the_library() {
        for len in [4, 129, 1000, 262_144, 1_000_003] {
            let data: Vec<u8> = (0..len).map(|i: usize| (i / 5 * 7 % 251) as u8).collect();
            for compressor in ["lz4", "lz4hc", "zstd"] {
                let shuffled = [1, 2, 4, 8, 20].map(|width| (Shuffle::Bytes, width));
                let plain = [4, 3].map(|width| (Shuffle::None, width));
                for (shuffle, width) in shuffled.into_iter().chain(plain) {
                    let encoded = compress(&data, compressor, shuffle, width);
                    let Some(blocks) = Blocks::new(&encoded, len) else {
                        // What doesn't get smaller is stored as it is.
                        assert!(encoded[2] & MEMCPYED != 0, "{len} {compressor:?} {width}");
                        continue;
                    };
                    assert_eq!(of_blocks(&blocks).as_ref(), Ok(&data), "{len} {compressor:?}");
                    let mut out = vec![1; len];
                    assert_eq!(decompress(&encoded, &mut out), Ok(()));
                    assert_eq!(out, data, "{len} {compressor:?} {width}");
                }
            }
        }
        let data = vec![3; 10_000];
        for (compressor, shuffle) in
            [("zlib", Shuffle::Bytes), ("blosclz", Shuffle::Bytes), ("lz4", Shuffle::Bits)]
        {
            assert!(Blocks::new(&compress(&data, compressor, shuffle, 4), 10_000).is_none());
        }
        let encoded = compress(&data, "lz4", Shuffle::Bytes, 4);
        assert!(Blocks::new(&encoded, 9_999).is_none());
        assert!(Blocks::new(&encoded[..encoded.len() - 1], 10_000).is_none());
        assert!(Blocks::new(&[], 10_000).is_none());
    }

    #[test]
    fn blocks_too_large_for_blosclz() {
        let mut encoded = compress(&[1; 10_000], "blosclz", Shuffle::Bytes, 4);
        encoded[8..12].copy_from_slice(&(9_u32 << 20).to_le_bytes());
        assert!(decompress(&encoded, &mut [0; 10_000]).unwrap_err().contains("blosclz"));
    }

    proptest! {
        #[test]
        fn corrupt_bytes_are_errors_at_most(
            which in 0..COMPRESSORS.len(),
            at in prop::collection::vec((0.0_f64..1.0, any::<u8>()), 1..4),
        ) {
            let data: Vec<u8> = (0..5_000_u32).flat_map(|i| (i / 3).to_le_bytes()).collect();
            let mut encoded = compress(&data, COMPRESSORS[which], Shuffle::Bytes, 4);
            for (place, byte) in at {
                let place = (place * encoded.len() as f64) as usize;
                encoded[place] = byte;
            }
            let mut out = vec![0; data.len()];
            let _ = decompress(&encoded, &mut out);
            if let Some(blocks) = Blocks::new(&encoded, data.len()) {
                let _ = of_blocks(&blocks);
            }
        }
    }
}
