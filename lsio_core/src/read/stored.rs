//! Stored bytes of a chunk, before its codecs.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use crate::{Recycler, transport::as_usize, uring::CachedFile};

/// Stored bytes of a chunk, or their range in the page cache.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    Bytes(Bytes),
    Cached(CachedChunk),
}

/// A range of a file that is in the page cache.
#[derive(Clone, Debug)]
pub(crate) struct CachedChunk {
    pub(super) file: CachedFile,
    pub(super) range: Range<u64>,
}

impl Stored {
    /// Reads the bytes.
    ///
    /// # Errors
    /// A text, if the bytes can't be read any more.
    pub(crate) fn bytes(&self, recycler: &Arc<Recycler>) -> Result<Bytes, String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::Cached(chunk) => {
                let mut bytes = recycler.take(chunk.len());
                chunk.read_at(0, &mut bytes)?;
                Ok(Bytes::from_owner(bytes))
            }
        }
    }
}

impl CachedChunk {
    /// Length in bytes.
    pub(super) fn len(&self) -> usize {
        as_usize(self.range.end - self.range.start)
    }

    /// Fills `buffer` with bytes from `offset` in the chunk on.
    ///
    /// # Errors
    /// A text with the operating system's reason.
    pub(super) fn read_at(&self, offset: usize, buffer: &mut [u8]) -> Result<(), String> {
        let read = self.file.read_at(self.range.start + offset as u64, buffer);
        read.map_err(|error| format!("it can't be read: {error}"))
    }
}
