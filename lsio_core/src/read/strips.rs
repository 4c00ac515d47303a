//! Strips: parts of a tile whose computed columns stay in the CPU's cache until they are used.
//!
//! A tile is cut along the dimensions along which no column runs. Its chunks are decoded once, and each strip takes what
//! it needs of them.

use std::{collections::HashMap, time::Instant, vec::IntoIter};

use arrow::array::ArrayRef;

use super::{
    decode::{Decoded, TURN_BYTES, TURN_CHUNKS},
    fetched::Fetched,
    part::Assembly,
    scan::Scan,
    source::{Chunked, ColumnSource, ScanColumn},
    tile::Tile,
    tiles::Block,
};
use crate::{Result, Selection, chunks::ChunkIndex, dataset::StoredValues, grid::checked_product};

/// Upper bound on the bytes of a strip, inputs included: the second-level cache holds them.
const STRIP_BYTES: u64 = 768 << 10;

/// Neighbouring cells of the innermost dimension that no cut takes apart: a few cache lines.
const LEAST_RUN: u64 = 64;

/// Decoded chunks by their indices; `None` if a chunk isn't stored.
type DecodedChunks = HashMap<ChunkIndex, Option<StoredValues>>;

/// Decoded chunks of a tile, and the strips whose columns aren't computed yet.
#[derive(Debug)]
pub struct Strips {
    /// Columns that are read chunk by chunk.
    columns: Vec<(usize, DecodedChunks)>,
    /// Columns that are computed.
    derived: Vec<usize>,
    blocks: std::iter::Enumerate<IntoIter<Block>>,
}

impl Strips {
    fn new(columns: Vec<(usize, DecodedChunks)>, derived: Vec<usize>, blocks: Vec<Block>) -> Self {
        Self { columns, derived, blocks: blocks.into_iter().enumerate() }
    }

    /// The cells of the next strip, and its number.
    fn next_block(&mut self) -> Option<(usize, Block)> {
        self.blocks.next()
    }

    fn chunks(&self) -> &[(usize, DecodedChunks)] {
        &self.columns
    }

    fn derived(&self) -> &[usize] {
        &self.derived
    }
}

impl Scan {
    /// Decodes fetched chunks, but computes no column: [`Scan::next_strip`] does that for a part of the tile at a time.
    /// Yields to other tasks between two chunks.
    ///
    /// # Errors
    /// [`Error::Chunk`](crate::Error::Chunk) if the bytes are corrupt.
    pub async fn strips(&self, fetched: Fetched, tile: &Tile) -> Result<(Strips, Decoded)> {
        let mut decoded = Decoded::default();
        let mut columns = Vec::with_capacity(fetched.columns.len());
        for (position, chunks) in fetched.columns {
            let column = &self.columns[position];
            let ColumnSource::Chunked(chunked) = &column.source else { continue };
            let needs = column.needs(tile.block().selections());
            let part = chunked.part(&column.dims, &needs);
            let mut own = HashMap::new();
            let (mut start, mut bytes) = (Instant::now(), decoded.bytes);
            for (number, (chunk, encoded)) in chunks.encoded().into_iter().enumerate() {
                let stored = self.decode_chunk((chunked, &part), &chunk, encoded, &mut decoded)?;
                own.insert(chunk, stored);
                if decoded.bytes - bytes >= TURN_BYTES || number % TURN_CHUNKS == 0 {
                    decoded.time += start.elapsed();
                    tokio::task::yield_now().await;
                    (start, bytes) = (Instant::now(), decoded.bytes);
                }
            }
            decoded.time += start.elapsed();
            columns.push((position, own));
        }
        let start = self.tiles.start(tile.block());
        let blocks = tile.block().cut(&start, &self.strip);
        Ok((Strips::new(columns, fetched.derived, blocks), decoded))
    }

    /// Computes the columns of the next strip of a tile. The result has the tile's own values, those of the local ones
    /// among `columns`, and all that was fetched.
    ///
    /// # Errors
    /// [`Error::Decode`](crate::Error::Decode) if a value has no meaning, or can't be computed.
    pub async fn next_strip(
        &self,
        strips: &mut Strips,
        tile: &Tile,
        columns: &[usize],
    ) -> Result<Option<Tile>> {
        let Some((number, block)) = strips.next_block() else { return Ok(None) };
        let mut strip = tile.part(block)?;
        self.add_local(columns, &mut strip)?;
        let mut inputs: HashMap<usize, (ArrayRef, bool)> = HashMap::new();
        for (position, chunks) in strips.chunks() {
            let column = &self.columns[*position];
            let ColumnSource::Chunked(chunked) = &column.source else { continue };
            let needs = column.needs(strip.block().selections());
            let (values, nan_is_null) = self.assemble(column, chunked, &needs, chunks)?;
            match column.input_of {
                Some(_) => {
                    inputs.insert(*position, (values, nan_is_null));
                }
                None => strip.set(*position, values, nan_is_null),
            }
        }
        for &position in strips.derived() {
            let wanted = strip.block().selections();
            let own = (tile.block(), number, wanted);
            let derived = self.derive(position, &inputs, own).await?;
            strip.set(position, derived.values, derived.nan_is_null);
        }
        Ok(Some(strip))
    }

    /// Values of a column for the cells of a selection from decoded chunks.
    fn assemble(
        &self,
        column: &ScanColumn,
        chunked: &Chunked,
        needs: &[Selection],
        chunks: &DecodedChunks,
    ) -> Result<(ArrayRef, bool)> {
        let part = chunked.part(&column.dims, needs);
        let wanted: Vec<ChunkIndex> = part.chunks().collect();
        let stored = |chunk: &ChunkIndex| chunks.get(chunk).and_then(Option::as_ref);
        if wanted.iter().all(|chunk| stored(chunk).is_none()) {
            let values = chunked.fill(&part, &self.recycler)?;
            return Ok((chunked.placed(values, &column.dims, needs, &self.recycler)?, false));
        }
        let mut assembly = Assembly::new(&part, &self.recycler)?;
        for chunk in &wanted {
            assembly.add(chunk, stored(chunk).cloned());
        }
        chunked.finish(assembly, &column.dims, needs)
    }
}

/// Shape of the strips of a tile of this shape, of up to `most` bytes as far as cuts go. It depends on no tile's own
/// selection: strips that continue each other have the same numbers.
pub(super) fn strip_shape(columns: &[ScanColumn], tile: &[u64], most: u64) -> Vec<u64> {
    let derived = || columns.iter().filter_map(ScanColumn::derived).map(|(derive, _)| derive);
    let mut strip = tile.to_vec();
    let most = most.clamp(1, STRIP_BYTES);
    if derived().next().is_none() {
        return strip;
    }
    let width = |column: &ScanColumn| {
        let own = match &column.source {
            ColumnSource::Chunked(chunked) => chunked.variable.value_bytes(),
            ColumnSource::Derived { .. } => 8,
            _ => 0,
        };
        // An input has as many indices more than a tile as the longest frame.
        let halo = column.input_of.iter().map(|derive| {
            let along = tile.iter().enumerate().filter(|(dim, _)| derive.runs_along(*dim));
            let more =
                along.map(|(dim, size)| 1.0 + derive.tile_len(dim) as f64 / 2.0 / *size as f64);
            more.product::<f64>()
        });
        own as f64 * halo.product::<f64>()
    };
    let width = columns.iter().map(width).sum::<f64>().max(1.0) as u64;
    for dim in 0..strip.len() {
        if derived().any(|derive| derive.runs_along(dim)) {
            continue;
        }
        let bytes = checked_product(&strip).and_then(|cells| cells.checked_mul(width));
        let parts = bytes.unwrap_or(u64::MAX).div_ceil(most).max(1);
        let least = if dim + 1 == strip.len() { LEAST_RUN } else { 1 };
        strip[dim] = tile[dim].div_ceil(parts).max(least).min(tile[dim]);
    }
    strip
}
