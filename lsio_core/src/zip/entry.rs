//! One entry of a zip archive: its directory record, and the local header in front of its bytes.

use std::sync::atomic::{AtomicU32, Ordering};

use super::fields::{u16_at, u32_at, u64_at};

/// Size in bytes of a directory record without its name.
const LINE: usize = 46;
/// Size in bytes of a local header without its name.
pub(super) const HEADER: u64 = 30;

/// A directory record.
#[derive(Debug)]
pub(super) struct Entry {
    /// Offset in the directory and length of the name, in bytes.
    pub name: (u32, u16),
    pub flags: u16,
    pub method: u16,
    pub crc: u32,
    /// Offset of the local header in the file.
    pub offset: u64,
    /// Offset of the next entry, or of the directory.
    pub end: u64,
    /// Compressed size in bytes.
    pub stored: u64,
    /// Uncompressed size in bytes.
    pub size: u64,
    /// Size in bytes of the local header; 0 until it is read.
    header: AtomicU32,
}

/// Compression of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Stored,
    Deflated,
}

impl Entry {
    /// Parses the record at `at`. Returns the offset of the next record too.
    ///
    /// # Errors
    /// A text, for a corrupt record.
    pub(super) fn parse(directory: &[u8], at: usize, shift: u64) -> Result<(Self, usize), String> {
        let line = directory.get(at..).unwrap_or_default();
        let cut = || format!("its directory is corrupt at byte {at}");
        if !line.starts_with(b"PK\x01\x02") {
            return Err(cut());
        }
        let short = |offset| u16_at(line, offset).ok_or_else(cut);
        let long = |offset| u32_at(line, offset).ok_or_else(cut);
        let [name, extra, comment] = [short(28)?, short(30)?, short(32)?];
        let extra_at = LINE + usize::from(name);
        let extra_end = extra_at + usize::from(extra);
        let len = extra_end + usize::from(comment);
        if line.len() < len {
            return Err(cut());
        }
        let mut wide = Zip64Field::find(line.get(extra_at..extra_end).unwrap_or_default());
        // The order of the fields of zip64.
        let size = wide.or(long(24)?).ok_or_else(cut)?;
        let stored = wide.or(long(20)?).ok_or_else(cut)?;
        let offset = wide.or(long(42)?).ok_or_else(cut)?;
        let entry = Self {
            name: (u32::try_from(at + LINE).map_err(|_| cut())?, name),
            flags: short(8)?,
            method: short(10)?,
            crc: long(16)?,
            offset: offset.checked_add(shift).ok_or_else(cut)?,
            end: 0,
            stored,
            size,
            header: AtomicU32::new(0),
        };
        Ok((entry, at + len))
    }

    /// Least offset of the entry's end; `None` if that exceeds 64 bits.
    pub(super) fn least_end(&self) -> Option<u64> {
        let header = HEADER + u64::from(self.name.1);
        self.offset.checked_add(header)?.checked_add(self.stored)
    }

    /// Compression of the entry.
    ///
    /// # Errors
    /// A text, if the entry can't be read.
    pub(super) fn method(&self) -> Result<Method, String> {
        const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
        if self.flags & ENCRYPTED != 0 {
            return Err("it is encrypted".to_owned());
        }
        match self.method {
            0 if self.stored != self.size => Err(format!(
                "it is stored as it is, but has {} bytes in the archive and {} outside",
                self.stored, self.size
            )),
            0 => Ok(Method::Stored),
            8 => Ok(Method::Deflated),
            method => Err(format!(
                "it is compressed with method {method}{}; only stored and deflated entries are read",
                method_name(method)
            )),
        }
    }

    /// Offset of the entry's bytes, if the local header was read before.
    pub(super) fn known_data(&self) -> Option<u64> {
        match self.header.load(Ordering::Relaxed) {
            0 => None,
            header => self.offset.checked_add(header.into()),
        }
    }

    /// Parses the local header at the start of `bytes`. Returns the header's length in bytes.
    ///
    /// # Errors
    /// A text, for a corrupt header, or the header of another entry.
    pub(super) fn read_header(&self, bytes: &[u8], name: &[u8]) -> Result<u64, String> {
        let other = || "what lies at its place in the archive is not this entry".to_owned();
        let [flags, method] = [u16_at(bytes, 6), u16_at(bytes, 8)];
        let lengths = u16_at(bytes, 26).zip(u16_at(bytes, 28)).ok_or_else(other)?;
        let own_name = bytes.get(HEADER as usize..).and_then(|b| b.get(..usize::from(lengths.0)));
        let is_encrypted = flags.is_none_or(|flags| flags & 1 != self.flags & 1);
        if !bytes.starts_with(b"PK\x03\x04")
            || method != Some(self.method)
            || is_encrypted
            || own_name != Some(name)
        {
            return Err(other());
        }
        let header = HEADER + u64::from(lengths.0) + u64::from(lengths.1);
        let end = self.offset.checked_add(header).and_then(|data| data.checked_add(self.stored));
        if end.is_none_or(|end| end > self.end) {
            return Err("its bytes reach into what follows in the archive".to_owned());
        }
        // At most 30 + 2 · 65535 bytes.
        self.header.store(u32::try_from(header).unwrap_or(0), Ordering::Relaxed);
        Ok(header)
    }
}

/// 64-bit numbers of the zip64 field, for record fields that are too small.
struct Zip64Field<'a>(&'a [u8]);

impl<'a> Zip64Field<'a> {
    fn find(mut extra: &'a [u8]) -> Self {
        while let (Some(kind), Some(len)) = (u16_at(extra, 0), u16_at(extra, 2)) {
            let (start, end) = (4, 4 + usize::from(len));
            if kind == 1 {
                return Self(extra.get(start..end).unwrap_or_default());
            }
            extra = extra.get(end..).unwrap_or_default();
        }
        Self(&[])
    }

    /// The record's number, or the next 64-bit number if the record refers to it.
    fn or(&mut self, number: u32) -> Option<u64> {
        if number != u32::MAX {
            return Some(number.into());
        }
        let wide = u64_at(self.0, 0)?;
        self.0 = self.0.get(8..)?;
        Some(wide)
    }
}

fn method_name(method: u16) -> &'static str {
    match method {
        1 => " (shrink)",
        6 => " (implode)",
        9 => " (deflate64)",
        12 => " (bzip2)",
        14 => " (LZMA)",
        20 | 93 => " (Zstandard)",
        95 => " (xz)",
        98 => " (PPMd)",
        99 => " (AES encryption)",
        _ => "",
    }
}
