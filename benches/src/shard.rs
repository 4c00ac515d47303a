//! A shard of make-data: chunks, followed by an index of their ranges.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    ops::Range,
    path::Path,
};

/// Bytes per index entry: the offset of a chunk, and its length.
const ENTRY: usize = 16;

/// Bytes of the checksum after the index.
const CHECKSUM: usize = 4;

/// An open shard.
pub(crate) struct Shard {
    file: File,
    /// Offset and length of each chunk in bytes; `None` for a chunk that isn't stored.
    chunks: Vec<Option<(u64, usize)>>,
}

impl Shard {
    /// Opens a shard of `chunks` chunks, and reads its index.
    pub(crate) fn open(path: &Path, chunks: usize) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut index = vec![0; chunks * ENTRY + CHECKSUM];
        let start = size.checked_sub(index.len() as u64).ok_or_else(|| invalid("no index"))?;
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut index)?;
        let entries = index[..chunks * ENTRY].chunks_exact(ENTRY);
        let chunks = entries.map(|entry| place(entry, start)).collect::<io::Result<_>>()?;
        Ok(Self { file, chunks })
    }

    /// Stored bytes of a chunk; `None` if the chunk isn't stored.
    pub(crate) fn stored(&self, chunk: usize) -> Option<usize> {
        self.chunks.get(chunk).copied().flatten().map(|(_, len)| len)
    }

    /// Range of a chunk's stored bytes; `None` if the chunk isn't stored.
    pub(crate) fn range(&self, chunk: usize) -> Option<Range<u64>> {
        let (offset, len) = self.chunks.get(chunk).copied().flatten()?;
        Some(offset..offset + len as u64)
    }

    /// Reads the stored bytes of a chunk to the start of a buffer. Returns their number.
    pub(crate) fn read(&self, chunk: usize, buffer: &mut [u8]) -> io::Result<usize> {
        let stored = self.chunks.get(chunk).copied().flatten();
        let (offset, len) = stored.ok_or_else(|| invalid("a chunk isn't there any more"))?;
        let buffer = buffer.get_mut(..len).ok_or_else(|| invalid("a chunk has grown"))?;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buffer)?;
        Ok(len)
    }
}

/// Offset and length of a chunk, from its index entry. The chunk must end before the index starts.
fn place(entry: &[u8], index_start: u64) -> io::Result<Option<(u64, usize)>> {
    let (offset, len) = entry.split_at(ENTRY / 2);
    let (offset, len) = (number(offset)?, number(len)?);
    if offset == u64::MAX && len == u64::MAX {
        return Ok(None);
    }
    if offset.checked_add(len).is_none_or(|end| end > index_start) {
        return Err(invalid("a chunk lies outside of its shard"));
    }
    let len = usize::try_from(len).map_err(|_| invalid("a chunk doesn't fit into memory"))?;
    Ok(Some((offset, len)))
}

fn number(bytes: &[u8]) -> io::Result<u64> {
    let bytes: [u8; 8] =
        bytes.try_into().map_err(|_| invalid("an entry of the index is cut off"))?;
    Ok(u64::from_le_bytes(bytes))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a shard can't be read: {what}"))
}
