//! Copies the wanted cells of a chunk straight from what is stored to their places: decoded into them where they are the
//! whole chunk, else by way of pieces that stay in the processor's cache.

use std::sync::Arc;

use super::{super::stored::Stored, memory::OwnCells, plan::Plan};
use crate::{
    Recycler, Variable,
    dataset::{BloscBlocks, EncodedFrame, Stream, ZstdBlocks, unshuffle},
    read::{
        pieces::{in_blocks, zstd_blocks},
        stored::CachedChunk,
    },
};

/// Bytes that are read from a file at a time where several runs are copied of them: half of a second-level cache.
const PIECE: usize = 256 << 10;

/// Bytes of a run from which on it is read from a file into its place.
const LONG: usize = 32 << 10;

/// Bytes between two runs that are read rather than left out: about what a call of the system takes.
const GAP: usize = 4 << 10;

/// Mean number of cells in a run below which runs cost more than they save, unless there are few.
const SHORT_RUN: usize = 64;

/// Memory of one thread, used again for each chunk.
#[derive(Default)]
pub(super) struct Scratch {
    runs: Vec<Run>,
    piece: Vec<u8>,
}

/// Cells side by side both in the chunk and in their place.
#[derive(Clone, Copy)]
struct Run {
    /// The first cell in the chunk, and in the place.
    source: usize,
    target: usize,
    len: usize,
    /// Which of the wanted reads.
    wanted: usize,
}

/// A chunk to copy from.
pub(super) struct StoredChunk<'a> {
    pub(super) variable: &'a Variable,
    pub(super) chunk: &'a [u64],
    pub(super) stored: &'a Stored,
}

/// How parts of a chunk can be had.
enum Parts<'a> {
    File(&'a CachedChunk),
    Blosc(BloscBlocks<'a>),
    Zstd(ZstdBlocks),
}

/// Copies the wanted cells of a chunk, as they are stored, unless it is better decoded as a whole: then `false`, and
/// nothing was copied.
///
/// # Errors
/// A text, if the bytes are corrupt or can't be read.
pub(super) fn copy(
    from: &StoredChunk<'_>,
    plan: &Plan<'_>,
    scratch: &mut Scratch,
    recycler: &Arc<Recycler>,
) -> Result<bool, String> {
    let StoredChunk { variable, chunk, stored } = *from;
    let codec = &variable.reader().map_err(|e| e.to_string())?.codec;
    let layout = codec.storage();
    let (width, len) = (layout.width, codec.decoded_bytes_at(chunk));
    if layout.swap > 1 || width == 0 {
        return Ok(false);
    }
    let shape = variable.chunk_grid().shape_at(chunk);
    let (mut runs, mut cells) = (0_usize, 0_usize);
    plan.gathers(chunk, (&layout, &shape), |_, gather| {
        let (own, all) = gather.count_runs();
        runs = runs.saturating_add(own);
        cells = cells.saturating_add(all);
    });
    let is_worth = cells / SHORT_RUN >= runs || runs <= len / width / SHORT_RUN;
    if runs > 1 && !is_worth {
        return Ok(false);
    }
    let is_whole = runs == 1 && cells == len / width;
    let stream = codec.stream();
    let encoded = match (stream, stored) {
        (Stream::Plain, Stored::Cached(_)) => None,
        // Large frames are read as they are decoded.
        (Stream::Zstd, Stored::Cached(_)) if !is_whole => None,
        (Stream::Zstd | Stream::Blosc, _) => Some(stored.bytes(recycler)?),
        _ if is_whole => Some(stored.bytes(recycler)?),
        _ => return Ok(false),
    };
    // SAFETY: a chunk is given to one thread, once.
    let mut targets = Targets { cells: unsafe { plan.own_cells() }, width };
    if let Some(encoded) = encoded.as_ref().filter(|_| is_whole) {
        scratch.list(from, plan, usize::MAX)?;
        let [run] = scratch.runs.as_slice() else { return Ok(false) };
        return codec.decode_into(encoded, targets.of(run)?);
    }
    let parts = match (stream, stored, &encoded) {
        (Stream::Plain, Stored::Cached(file), _) if file.len() != len => {
            return Err(format!("it holds {} bytes instead of {len}", file.len()));
        }
        (Stream::Plain, Stored::Cached(file), _) => Some(Parts::File(file)),
        (Stream::Zstd, ..) => zstd_blocks(stored, len, width)?.map(Parts::Zstd),
        (Stream::Blosc, _, Some(encoded)) => blosc_blocks(encoded, len, width).map(Parts::Blosc),
        _ => None,
    };
    let Some(parts) = parts else { return Ok(false) };
    let most = match &parts {
        Parts::File(_) => usize::MAX,
        Parts::Blosc(blocks) => blocks.block_len(0) / width,
        Parts::Zstd(blocks) => blocks.block_len() / width,
    };
    scratch.list(from, plan, most)?;
    match parts {
        Parts::File(file) => scratch.copy_file(file, &mut targets)?,
        Parts::Blosc(blocks) => scratch.copy_blosc(&blocks, &mut targets)?,
        Parts::Zstd(blocks) => scratch.copy_zstd(blocks, stored, &mut targets)?,
    }
    Ok(true)
}

/// Places of the wanted reads.
struct Targets<'m> {
    cells: Vec<OwnCells<'m>>,
    width: usize,
}

impl Targets<'_> {
    /// The place of a run.
    fn of(&mut self, run: &Run) -> Result<&mut [u8], String> {
        let bytes = run.target * self.width..(run.target + run.len) * self.width;
        let place = self.cells.get_mut(run.wanted).and_then(|own| own.bytes(bytes));
        place.ok_or_else(|| "its cells have no place".to_owned())
    }
}

impl Scratch {
    /// Lists the runs of a chunk in the chunk's order; none goes beyond a multiple of `most` cells.
    fn list(&mut self, from: &StoredChunk<'_>, plan: &Plan<'_>, most: usize) -> Result<(), String> {
        let StoredChunk { variable, chunk, .. } = *from;
        let layout = variable.reader().map_err(|e| e.to_string())?.codec.storage();
        let shape = variable.chunk_grid().shape_at(chunk);
        let runs = &mut self.runs;
        runs.clear();
        plan.gathers(chunk, (&layout, &shape), |wanted, gather| {
            gather.each_run(|mut source, mut target, mut len| {
                while len > 0 {
                    let own = len.min(most - source % most);
                    runs.push(Run { source, target, len: own, wanted });
                    (source, target, len) = (source + own, target + own, len - own);
                }
            });
        });
        if !runs.is_sorted_by_key(|run| run.source) {
            runs.sort_unstable_by_key(|run| run.source);
        }
        Ok(())
    }

    /// Copies runs of cells that a file holds as they are.
    fn copy_file(&mut self, file: &CachedChunk, targets: &mut Targets<'_>) -> Result<(), String> {
        let width = targets.width;
        let bytes = |run: &Run| run.source * width..(run.source + run.len) * width;
        let mut rest = self.runs.as_slice();
        while let Some(first) = rest.first() {
            let start = bytes(first).start;
            if first.len * width >= LONG {
                file.read_at(start, targets.of(first)?)?;
                rest = &rest[1..];
                continue;
            }
            let mut end = start;
            let near = rest.iter().take_while(|run| {
                let own = bytes(run);
                let is_near = own.start <= end + GAP && own.end - start <= PIECE;
                end = if is_near { end.max(own.end) } else { end };
                is_near && own.len() < LONG
            });
            let (near, others) = rest.split_at(near.count().max(1));
            let end = near.iter().map(|run| bytes(run).end).max().unwrap_or(start);
            let piece = sized(&mut self.piece, end - start);
            file.read_at(start, piece)?;
            for run in near {
                let own = bytes(run);
                targets.of(run)?.copy_from_slice(&piece[own.start - start..own.end - start]);
            }
            rest = others;
        }
        Ok(())
    }

    /// Copies runs, each within a block.
    fn copy_blosc(
        &mut self,
        blocks: &BloscBlocks<'_>,
        targets: &mut Targets<'_>,
    ) -> Result<(), String> {
        let width = targets.width;
        let in_block = blocks.block_len(0) / width;
        for runs in self.runs.chunk_by(|a, b| a.source / in_block == b.source / in_block) {
            let number = runs[0].source / in_block;
            let block = sized(&mut self.piece, blocks.block_len(number));
            blocks.decompress(number, block)?;
            for run in runs {
                let (first, place) = (run.source % in_block, targets.of(run)?);
                match blocks.shuffled_width() {
                    Some(_) => unshuffle(block, width, first, place),
                    None => place.copy_from_slice(part(block, first * width, place.len())?),
                }
            }
        }
        Ok(())
    }

    /// Copies runs, each within a block.
    fn copy_zstd(
        &mut self,
        mut blocks: ZstdBlocks,
        stored: &Stored,
        targets: &mut Targets<'_>,
    ) -> Result<(), String> {
        let read = |at: usize, out: &mut [u8]| match stored {
            Stored::Cached(file) => file.read_at(at, out),
            Stored::Bytes(_) => Err("it is in memory".to_owned()),
        };
        let encoded = match stored {
            Stored::Bytes(bytes) => EncodedFrame::Memory(bytes),
            Stored::Cached(_) => EncodedFrame::File(&read),
        };
        let block = sized(&mut self.piece, blocks.block_len());
        for run in &self.runs {
            let first = run.source * targets.width;
            blocks.open(first, block, encoded)?;
            let place = targets.of(run)?;
            place.copy_from_slice(part(block, blocks.within(first), place.len())?);
        }
        Ok(())
    }
}

fn part(block: &[u8], start: usize, len: usize) -> Result<&[u8], String> {
    block.get(start..start + len).ok_or_else(|| "its block is too short".to_owned())
}

/// The first `len` bytes of memory that grows as needed.
fn sized(memory: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if memory.len() < len {
        memory.resize(len, 0);
    }
    &mut memory[..len]
}

/// Blocks of whole elements, if it has such.
fn blosc_blocks(encoded: &[u8], len: usize, width: usize) -> Option<BloscBlocks<'_>> {
    BloscBlocks::new(encoded, len).filter(|blocks| in_blocks(blocks, width))
}
