//! Blosc, by the C library: straight into the caller's buffer.

use std::ffi::{c_int, c_void};

use blosc_src::{blosc_cbuffer_validate, blosc_decompress_ctx};

/// The bytes of the header.
const HEADER: usize = 16;

/// The flag of the header that says that the data are stored as they are.
const MEMCPYED: u8 = 0x2;

/// The largest block of the compressor blosclz that is decoded. Its C code counts in 32 bits without
/// checks (c-blosc issue 405); blocks that it writes itself are far smaller.
const LARGEST_BLOSCLZ_BLOCK: u32 = 8 << 20;

/// Decompresses a Blosc buffer that holds exactly `out.len()` bytes.
///
/// # Errors
/// A text, if the bytes are corrupt or there are more or fewer of them.
pub(super) fn decompress(encoded: &[u8], out: &mut [u8]) -> Result<(), String> {
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

#[cfg(test)]
mod tests {
    use blosc_src::blosc_compress_ctx;
    use proptest::prelude::*;

    use super::*;

    const COMPRESSORS: [&std::ffi::CStr; 6] =
        [c"lz4", c"lz4hc", c"zstd", c"zlib", c"blosclz", c"snappy"];

    fn compress(data: &[u8], compressor: &std::ffi::CStr, shuffle: c_int, width: usize) -> Vec<u8> {
        let mut out = vec![0; data.len() + HEADER];
        // SAFETY: the library reads `data`, and writes at most the size of `out`, which is enough for
        // data that don't compress.
        let written = unsafe {
            blosc_compress_ctx(
                5,
                shuffle,
                width,
                data.len(),
                data.as_ptr().cast::<c_void>(),
                out.as_mut_ptr().cast::<c_void>(),
                out.len(),
                compressor.as_ptr(),
                0,
                1,
            )
        };
        out.truncate(usize::try_from(written).unwrap());
        assert!(!out.is_empty());
        out
    }

    #[test]
    fn all_compressors_and_shuffles() {
        let data: Vec<u8> = (0..100_000_u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for compressor in COMPRESSORS {
            for shuffle in 0..3 {
                let encoded = compress(&data, compressor, shuffle, 4);
                let mut out = vec![1; data.len()];
                assert_eq!(decompress(&encoded, &mut out), Ok(()), "{compressor:?}");
                assert_eq!(out, data);
                assert!(decompress(&encoded, &mut out[1..]).is_err());
                assert!(decompress(&encoded[..encoded.len() - 1], &mut out).is_err());
                assert!(decompress(&encoded[..10], &mut out).is_err());
            }
        }
    }

    #[test]
    fn blocks_too_large_for_blosclz() {
        let mut encoded = compress(&[1; 10_000], c"blosclz", 1, 4);
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
            let mut encoded = compress(&data, COMPRESSORS[which], 1, 4);
            for (place, byte) in at {
                let place = (place * encoded.len() as f64) as usize;
                encoded[place] = byte;
            }
            let mut out = vec![0; data.len()];
            let _ = decompress(&encoded, &mut out);
        }
    }
}
