//! The end records of a zip archive, which locate its directory.

use super::fields::{u16_at, u32_at, u64_at};

/// Bytes to read at the end of an archive: the longest comment, and the end records.
pub(super) const TAIL: u64 = 68 << 10;

/// Upper bound on the size of a directory, in bytes.
const MAX_DIRECTORY: u64 = 128 << 20;

/// Size in bytes of the end record, without its comment.
const END: usize = 22;
/// Size in bytes of the record that locates the zip64 end record.
const LOCATOR: usize = 20;
/// Size in bytes of the zip64 end record.
const END64: usize = 56;

/// Contents of the end records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Offset of the directory in the file.
    pub start: u64,
    /// Size of the directory in bytes.
    pub size: u64,
    /// Bytes in front of the archive, to add to the offsets in the directory.
    pub shift: u64,
    /// Number of entries; modulo 2¹⁶ without zip64.
    pub entries: u64,
    pub is_zip64: bool,
}

impl End {
    /// Finds the end records in `tail`, the last bytes of a file of `size` bytes.
    ///
    /// # Errors
    /// A text, if end records are missing or contradict the size.
    pub(super) fn parse(tail: &[u8], size: u64) -> Result<Self, String> {
        if size == 0 {
            return Err("it has 0 bytes: its writer hasn't closed it, or never began".to_owned());
        }
        let at = find(tail).ok_or(
            "it has no end-of-central-directory record: it is not a zip archive, or is cut off",
        )?;
        let tail_start = size.checked_sub(tail.len() as u64).ok_or("it is shorter than its end")?;
        let cut = || "its end-of-central-directory record is cut off".to_owned();
        let end = tail.get(at..).unwrap_or_default();
        let short = |offset| u16_at(end, offset).map(u64::from).ok_or_else(cut);
        let long = |offset| u32_at(end, offset).map(u64::from).ok_or_else(cut);
        let mut disks = [short(4)?, short(6)?];
        let [mut here, mut entries] = [short(8)?, short(10)?];
        let (mut directory, mut offset) = (long(12)?, long(16)?);
        let mut records = at;

        let locator = at.checked_sub(LOCATOR).filter(|&at| starts_with(tail, at, b"PK\x06\x07"));
        if let Some(locator) = locator {
            let claimed = u64_at(tail, locator + 8).ok_or_else(cut)?;
            // As in Python: first directly in front of the locator, because the locator's offset ignores bytes in front
            // of the archive; then at that offset.
            let claimed = claimed.checked_sub(tail_start).and_then(|at| usize::try_from(at).ok());
            records = [locator.checked_sub(END64), claimed]
                .into_iter()
                .flatten()
                .find(|&at| is_end64(tail, at, locator))
                .ok_or("its zip64 end record is not where its locator says")?;
            let end = tail.get(records..).unwrap_or_default();
            let wide = |offset| u64_at(end, offset).ok_or_else(cut);
            let disk = |offset| u32_at(end, offset).map(u64::from).ok_or_else(cut);
            disks = [disk(16)?, disk(20)?];
            [here, entries, directory, offset] = [wide(24)?, wide(32)?, wide(40)?, wide(48)?];
        }

        if disks != [0, 0] || here != entries {
            return Err("it is one part of an archive of several; join them first".to_owned());
        }
        if directory > MAX_DIRECTORY {
            return Err(format!(
                "its directory has {directory} bytes, more than the {MAX_DIRECTORY} that are read"
            ));
        }
        let start = (tail_start + records as u64)
            .checked_sub(directory)
            .ok_or_else(|| format!("its directory of {directory} bytes is larger than the file"))?;
        let shift = start.checked_sub(offset).ok_or_else(|| {
            format!("its directory lies at {start}, but its end record says {offset}: it is cut off or corrupt")
        })?;
        Ok(Self { start, size: directory, shift, entries, is_zip64: locator.is_some() })
    }
}

/// Offset in `tail` of the last end record whose comment ends with the file.
fn find(tail: &[u8]) -> Option<usize> {
    (0..=tail.len().checked_sub(END)?).rev().find(|&at| {
        let comment = u16_at(tail, at + 20).map(usize::from);
        starts_with(tail, at, b"PK\x05\x06") && comment == Some(tail.len() - at - END)
    })
}

/// Whether a zip64 end record starts at `at` and reaches to the locator.
fn is_end64(tail: &[u8], at: usize, locator: usize) -> bool {
    let room = locator.checked_sub(at).filter(|room| *room >= END64);
    let size = u64_at(tail, at.saturating_add(4)).and_then(|size| size.checked_add(12));
    starts_with(tail, at, b"PK\x06\x06") && room.is_some_and(|room| size == Some(room as u64))
}

fn starts_with(bytes: &[u8], at: usize, signature: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|bytes| bytes.starts_with(signature))
}
