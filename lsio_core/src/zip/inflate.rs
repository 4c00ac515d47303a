//! Deflated entries: inflated to the size that the directory says, no further.

use std::io::Read as _;

use bytes::Bytes;

/// The largest entry that is inflated, in bytes.
const MAX_INFLATED: u64 = 2 << 30;

/// What deflate makes of one byte, at most, rounded up.
const MOST_FROM_ONE: u64 = 1_040;

/// The sizes from which on inflating is left to a thread that may take its time.
const LONG: u64 = 1 << 20;

/// Whether an entry may be inflated, before anything of it is read.
///
/// # Errors
/// A text, if its sizes are too large or can't both be true.
pub(super) fn check_sizes(deflated: u64, size: u64) -> Result<(), String> {
    if size > MAX_INFLATED {
        return Err(format!("it has {size} bytes, more than the {MAX_INFLATED} that are inflated"));
    }
    // What can't be compressed grows by far less.
    if deflated > 2 * size + LONG {
        return Err(format!("it has {deflated} bytes in the archive, but only {size} outside"));
    }
    Ok(())
}

/// Inflates what comes to exactly `size` bytes, of which the checksum is known.
///
/// # Errors
/// A text, if it doesn't.
pub(super) async fn inflate(deflated: Bytes, size: u64, crc: u32) -> Result<Bytes, String> {
    let work = move || inflate_now(&deflated, size, crc);
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) if size >= LONG => {
            runtime.spawn_blocking(work).await.map_err(|e| e.to_string())?
        }
        _ => work(),
    }
}

/// Whether the bytes have the checksum that the directory says.
///
/// # Errors
/// A text, if not.
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
    // The directory's size is not believed further than the compressed bytes can reach.
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
