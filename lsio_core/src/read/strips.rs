//! Strips: parts of a tile whose computed columns stay in the CPU's cache until they are used.
//!
//! A tile is cut along the dimensions along which no column runs. Its chunks are decoded once, and each strip takes what
//! it needs of them.

use std::{collections::HashMap, vec::IntoIter};

use super::{
    source::{ColumnSource, ScanColumn},
    tiles::Block,
};
use crate::{dataset::StoredValues, grid::checked_product};

/// Upper bound on the bytes of a strip, inputs included: the second-level cache holds them.
const STRIP_BYTES: u64 = 768 << 10;

/// Neighbouring cells of the innermost dimension that no cut takes apart: a few cache lines.
const LEAST_RUN: u64 = 64;

/// Decoded chunks by their indices; `None` if a chunk isn't stored.
pub(super) type DecodedChunks = HashMap<Vec<u64>, Option<StoredValues>>;

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
    pub(super) fn new(
        columns: Vec<(usize, DecodedChunks)>,
        derived: Vec<usize>,
        blocks: Vec<Block>,
    ) -> Self {
        Self { columns, derived, blocks: blocks.into_iter().enumerate() }
    }

    /// The cells of the next strip, and its number.
    pub(super) fn next_block(&mut self) -> Option<(usize, Block)> {
        self.blocks.next()
    }

    pub(super) fn chunks(&self) -> &[(usize, DecodedChunks)] {
        &self.columns
    }

    pub(super) fn derived(&self) -> &[usize] {
        &self.derived
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
