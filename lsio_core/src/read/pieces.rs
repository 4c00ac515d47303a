//! The values of a column of a tile, decoded a piece at a time into memory that stays in the cache.
//!
//! Who reduces values needn't have all of them at once. What comes in pieces by itself, bytes from the
//! page cache and the blocks of Blosc, is never written out to memory as a whole.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    fetch::{CachedChunk, Stored},
    gather::Gather,
    scan::Decoded,
};
use crate::{
    Recycler, Result, Variable,
    dataset::{BloscBlocks, StoredValues, Stream, unshuffle},
};

/// The bytes that are read at a time.
const READ: usize = 256 << 10;

/// The bytes of elements that are put together at a time.
const ELEMENTS: usize = 16 << 10;

/// Memory for pieces, which is used again.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Words, so that every type is aligned.
    piece: Vec<u64>,
    block: Vec<u64>,
}

/// The values of a column of a tile, still encoded.
#[derive(Debug)]
pub struct Pieces {
    pub(super) variable: Arc<Variable>,
    pub(super) chunks: Vec<Chunk>,
    pub(super) nan_is_null: bool,
    pub(super) recycler: Arc<Recycler>,
}

/// A chunk, and which of its cells go where.
#[derive(Debug)]
pub(super) struct Chunk {
    indices: Vec<u64>,
    stored: Stored,
    /// Cells side by side: the first in the chunk and in the tile, and how many; in the chunk's order.
    runs: Vec<(usize, usize, usize)>,
}

impl Chunk {
    /// `None` if its cells don't come in the order in which the tile has them.
    pub(super) fn new(indices: Vec<u64>, stored: Stored, gather: &Gather) -> Option<Self> {
        let runs = gather.runs()?;
        let in_order = runs.windows(2).all(|pair| pair[0].0 + pair[0].2 <= pair[1].0);
        in_order.then_some(Self { indices, stored, runs })
    }
}

impl Pieces {
    /// Whether NaN is NULL.
    #[must_use]
    pub fn nan_is_null(&self) -> bool {
        self.nan_is_null
    }

    /// Decodes, and calls `f` with cells that lie side by side in the tile: the first, and their bytes,
    /// aligned and in the machine's order.
    ///
    /// # Errors
    /// [`crate::Error::Chunk`] if the bytes are corrupt.
    pub fn for_each(
        &self,
        scratch: &mut Scratch,
        mut f: impl FnMut(usize, &[u8]),
    ) -> Result<Decoded> {
        let codec = &self.variable.reader()?.codec;
        let Some(width) = codec.storage().map(|storage| storage.width) else {
            return Ok(Decoded::default());
        };
        let start = Instant::now();
        let mut used = Duration::ZERO;
        let mut timed = |first: usize, bytes: &[u8]| {
            let start = Instant::now();
            f(first, bytes);
            used += start.elapsed();
        };
        let mut bytes = 0;
        for chunk in &self.chunks {
            let len = codec.decoded_bytes();
            bytes += len;
            let mut feed = Feed { runs: &chunk.runs, width, f: &mut timed };
            let failed = |reason| self.variable.chunk_error(&chunk.indices, reason);
            let given = match (codec.stream(), &chunk.stored) {
                (Stream::Plain, Stored::Cached(stored)) => {
                    feed.file(stored, len, scratch).map_err(failed)?;
                    true
                }
                (Stream::Plain, Stored::Bytes(stored)) => feed.memory(stored, len),
                (Stream::Blosc, stored) => {
                    let encoded = stored.bytes(&self.recycler).map_err(failed)?;
                    match BloscBlocks::new(&encoded, len) {
                        Some(blocks) => feed.blocks(&blocks, scratch).map_err(failed)?,
                        None => false,
                    }
                }
                (Stream::Whole, _) => false,
            };
            if !given {
                let encoded = chunk.stored.bytes(&self.recycler).map_err(failed)?;
                let decoded = codec.decode(&encoded, &self.recycler).map_err(failed)?;
                if let StoredValues::Fixed(buffer) = decoded {
                    feed.aligned(&buffer, scratch);
                }
            }
        }
        Ok(Decoded { bytes, time: start.elapsed().saturating_sub(used) })
    }
}

/// Hands on what is wanted of a chunk's cells, which come in order.
struct Feed<'a, F> {
    /// The runs that aren't behind yet.
    runs: &'a [(usize, usize, usize)],
    width: usize,
    f: &'a mut F,
}

impl<F: FnMut(usize, &[u8])> Feed<'_, F> {
    /// The cells from `first` on.
    fn give(&mut self, first: usize, bytes: &[u8]) {
        let end = first + bytes.len() / self.width;
        while let Some(&(source, target, len)) = self.runs.first() {
            if source >= end {
                return;
            }
            let (from, to) = (source.max(first), (source + len).min(end));
            if from < to {
                let part = (from - first) * self.width..(to - first) * self.width;
                (self.f)(target + from - source, &bytes[part]);
            }
            if source + len > end {
                return;
            }
            self.runs = &self.runs[1..];
        }
    }

    /// The next cell that is wanted.
    fn next(&self) -> Option<usize> {
        self.runs.first().map(|run| run.0)
    }

    /// A file that holds the cells as they are.
    fn file(
        &mut self,
        file: &CachedChunk,
        len: usize,
        scratch: &mut Scratch,
    ) -> Result<(), String> {
        if file.len() != len {
            return Err(format!("it holds {} bytes instead of {len}", file.len()));
        }
        let piece = bytes_of(&mut scratch.piece, READ);
        let mut at = 0;
        while let Some(next) = self.next() {
            // What isn't wanted isn't read.
            at = at.max(next * self.width);
            let part = &mut piece[..READ.min(len - at) / self.width * self.width];
            if part.is_empty() {
                return Ok(());
            }
            file.read_at(at, part)?;
            self.give(at / self.width, part);
            at += part.len();
        }
        Ok(())
    }

    /// Bytes that are the cells as they are, if they are aligned and as many as they must be.
    fn memory(&mut self, bytes: &[u8], len: usize) -> bool {
        let fits = bytes.len() == len && is_aligned(bytes, self.width);
        if fits {
            self.give(0, bytes);
        }
        fits
    }

    /// Decoded bytes of all cells.
    fn aligned(&mut self, bytes: &[u8], scratch: &mut Scratch) {
        if is_aligned(bytes, self.width) {
            return self.give(0, bytes);
        }
        let piece = bytes_of(&mut scratch.piece, READ);
        let size = READ / self.width * self.width;
        for (number, bytes) in bytes.chunks(size.max(self.width)).enumerate() {
            piece[..bytes.len()].copy_from_slice(bytes);
            self.give(number * size / self.width, &piece[..bytes.len()]);
        }
    }

    /// Blocks of Blosc; `false` if an element may lie in two of them.
    fn blocks(&mut self, blocks: &BloscBlocks<'_>, scratch: &mut Scratch) -> Result<bool, String> {
        let width = self.width;
        let shuffled = blocks.shuffled_width();
        let first_len = blocks.block_len(0);
        let is_whole = first_len.is_multiple_of(width) || blocks.count() == 1;
        if !is_whole || shuffled.is_some_and(|own| own != width) {
            return Ok(false);
        }
        for number in 0..blocks.count() {
            let first = number * first_len / width;
            let len = blocks.block_len(number);
            let Some(next) = self.next() else { break };
            if next >= first + len / width {
                continue;
            }
            let block = bytes_of(&mut scratch.block, len);
            blocks.decompress(number, block)?;
            if shuffled.is_none() {
                self.give(first, block);
                continue;
            }
            let piece = bytes_of(&mut scratch.piece, ELEMENTS);
            let cells = len / width;
            for start in (0..cells).step_by(ELEMENTS / width) {
                let some = (ELEMENTS / width).min(cells - start);
                let out = &mut piece[..some * width];
                unshuffle(block, width, start, out);
                self.give(first + start, out);
            }
        }
        Ok(true)
    }
}

fn is_aligned(bytes: &[u8], width: usize) -> bool {
    bytes.as_ptr().align_offset(width.next_power_of_two().min(8)) == 0
}

/// So many bytes, at least, of some words.
fn bytes_of(words: &mut Vec<u64>, len: usize) -> &mut [u8] {
    if words.len() * 8 < len {
        words.resize(len.div_ceil(8), 0);
    }
    // SAFETY: every pattern of bits is a byte as well as a word, and the bytes are those of the words.
    let (_, bytes, _) = unsafe { words.align_to_mut::<u8>() };
    &mut bytes[..len]
}
