//! Ways to read a span of a file, and which one is chosen.

use std::{ops::Range, sync::Arc};

use super::{
    admission::{Admission, FileVersion},
    files::OpenFile,
    options::Access,
    residency::{Residency, residency},
};

/// Size in bytes below which a read goes through the page cache, so that the next reader finds the bytes there.
const SMALL: u64 = 16 << 10;

/// Way to read a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadWay {
    /// So small that it is tried at once.
    Small,
    /// Copied from the page cache.
    Cached,
    /// Like `Cached`, with some bytes missing.
    MostlyCached,
    /// Past the page cache.
    Direct,
    /// Through the page cache, by a worker that fills it first.
    Filling,
    /// Through the page cache, by the engine.
    Buffered,
}

/// Chooses the ways of the reads of a file.
#[derive(Clone, Debug)]
pub(crate) struct Chooser {
    pub(crate) access: Access,
    pub(crate) version: FileVersion,
    pub(crate) admission: Arc<Admission>,
}

impl Chooser {
    /// Best way for a range: from the page cache if the kernel reports the bytes there.
    pub(crate) fn choose(&self, file: &OpenFile, range: &Range<u64>) -> ReadWay {
        let past = if file.system().refuses_direct() { ReadWay::Buffered } else { ReadWay::Direct };
        match self.access {
            Access::Direct => return past,
            Access::Buffered => return ReadWay::Buffered,
            Access::Auto | Access::Fill | Access::Never => {}
        }
        if range.end - range.start < SMALL {
            return ReadWay::Small;
        }
        match residency(file.any(), || file.buffered().ok(), range) {
            Residency::All => ReadWay::Cached,
            Residency::Most => ReadWay::MostlyCached,
            Residency::Little if past == ReadWay::Buffered => past,
            Residency::Little => match self.access {
                Access::Fill => ReadWay::Filling,
                Access::Auto if self.admission.fills(self.version, range) => ReadWay::Filling,
                _ => past,
            },
        }
    }

    /// Remembers a read that is started.
    pub(crate) fn note(&self, range: &Range<u64>, way: ReadWay) {
        if self.access == Access::Auto && matches!(way, ReadWay::Direct | ReadWay::Filling) {
            self.admission.note(self.version, range, way == ReadWay::Filling);
        }
    }
}
