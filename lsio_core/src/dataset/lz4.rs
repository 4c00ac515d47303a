//! Blocks of LZ4, by the C library.

use std::ffi::{c_char, c_int};

/// Decompresses a block, and returns the bytes that were written; `None` if the input is corrupt.
pub(super) fn decompress(encoded: &[u8], out: &mut [u8]) -> Option<usize> {
    let (from, to) = (c_int::try_from(encoded.len()).ok()?, c_int::try_from(out.len()).ok()?);
    // SAFETY: the pointers and lengths are those of two slices, which can't overlap; the library reads
    // and writes no further, whatever the input is.
    let written = unsafe {
        lz4_sys::LZ4_decompress_safe(
            encoded.as_ptr().cast::<c_char>(),
            out.as_mut_ptr().cast::<c_char>(),
            from,
            to,
        )
    };
    usize::try_from(written).ok()
}

/// Compresses to a block of LZ4; `None` if there are more bytes than a block takes.
pub(super) fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    /// `LZ4_MAX_INPUT_SIZE`
    const MOST_BYTES: usize = 0x7e00_0000;

    if bytes.len() > MOST_BYTES {
        return None;
    }
    // What doesn't compress takes a byte more for each 255, and a few (`LZ4_compressBound`).
    let mut out = vec![0; bytes.len() + bytes.len() / 255 + 16];
    let (from, to) = (c_int::try_from(bytes.len()).ok()?, c_int::try_from(out.len()).ok()?);
    // SAFETY: the pointers and lengths are those of two slices, which can't overlap; the library reads
    // and writes no further.
    let written = unsafe {
        lz4_sys::LZ4_compress_default(
            bytes.as_ptr().cast::<c_char>(),
            out.as_mut_ptr().cast::<c_char>(),
            from,
            to,
        )
    };
    out.truncate(usize::try_from(written).ok().filter(|written| *written > 0)?);
    Some(out)
}
