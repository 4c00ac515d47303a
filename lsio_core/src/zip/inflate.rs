//! Inflates deflated entries, up to the size in the directory.

use std::io::Read as _;

use bytes::Bytes;

/// Upper bound in bytes of an inflated entry.
const MAX_INFLATED: u64 = 2 << 30;

/// Upper bound on inflated bytes per deflated byte, rounded up.
const MOST_FROM_ONE: u64 = 1_040;

/// Size in bytes from which on inflating runs on a blocking thread.
const LONG: u64 = 1 << 20;

/// Checks the sizes of an entry, before any of it is read.
///
/// # Errors
/// A text, if the sizes are too large or contradict each other.
pub(super) fn check_sizes(deflated: u64, size: u64) -> Result<(), String> {
    if size > MAX_INFLATED {
        return Err(format!("it has {size} bytes, more than the {MAX_INFLATED} that are inflated"));
    }
    // Incompressible bytes grow by far less.
    if deflated > 2 * size + LONG {
        return Err(format!("it has {deflated} bytes in the archive, but only {size} outside"));
    }
    Ok(())
}

/// Inflates an entry to exactly `size` bytes with the checksum `crc`.
///
/// # Errors
/// A text, if the size or the checksum is wrong.
pub(super) async fn inflate(deflated: Bytes, size: u64, crc: u32) -> Result<Bytes, String> {
    let work = move || inflate_now(&deflated, size, crc);
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) if size >= LONG => {
            runtime.spawn_blocking(work).await.map_err(|e| e.to_string())?
        }
        _ => work(),
    }
}

/// Compares the CRC-32 of the bytes with the directory's.
///
/// # Errors
/// A text, if they differ.
pub(super) fn check_crc(bytes: &[u8], expected: u32) -> Result<(), String> {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    match crc.sum() == expected {
        true => Ok(()),
        false => Err(format!(
            "its checksum is {:08x}, the directory says {expected:08x}: it is corrupt",
            crc.sum()
        )),
    }
}

fn inflate_now(deflated: &[u8], size: u64, crc: u32) -> Result<Bytes, String> {
    // The capacity is bounded by the compressed bytes, whatever size the directory claims.
    let most = (deflated.len() as u64 + 1).saturating_mul(MOST_FROM_ONE);
    let capacity = usize::try_from(size.min(most)).map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    out.try_reserve_exact(capacity).map_err(|e| e.to_string())?;
    let mut reader = flate2::bufread::DeflateDecoder::new(deflated).take(size + 1);
    reader.read_to_end(&mut out).map_err(|e| format!("it can't be inflated: {e}"))?;
    match out.len() as u64 {
        len if len > size => {
            return Err(format!("it inflates to more than the {size} bytes of the directory"));
        }
        len if len < size => {
            return Err(format!("it inflates to {len} bytes, the directory says {size}"));
        }
        _ => {}
    }
    check_crc(&out, crc)?;
    Ok(out.into())
}
