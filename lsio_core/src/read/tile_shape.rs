//! The shape of a scan's tiles.

use super::scan::ScanOptions;
use crate::{
    Column, Variable,
    dataset::{ColumnValues, Derive, Mapped, StoredColumn},
    grid::checked_product,
};

/// Upper bound in bytes per column for a tile that is enlarged to whole chunks of several columns.
const TILE_BYTES: u64 = 32 << 20;

/// Upper bound on the chunks of a variable in a tile. More of them than requests can be under way would only take memory.
const TILE_CHUNKS: u64 = 4096;

/// Rows of a tile where no chunk determines its shape.
const ROWS_WITHOUT_CHUNKS: u64 = 1 << 20;

/// Shape of the tiles of some columns over a grid of this shape: whole chunks of the variables that have all dimensions.
pub(super) fn tile_shape(columns: &[&Column], shape: &[u64], options: &ScanOptions) -> Vec<u64> {
    let mut full: Vec<FullRank<'_>> = Vec::new();
    let mut looked_up: Vec<Vec<u64>> = Vec::new();
    let mut derived: Vec<&dyn Derive> = Vec::new();
    let mut rest: Vec<&Column> = columns.to_vec();
    while let Some(column) = rest.pop() {
        if column.is_local(shape.len(), options.held_bytes) {
            continue;
        }
        match column.values() {
            ColumnValues::Stored(stored) if column.dims.len() == shape.len() => {
                full.push(FullRank::new(stored));
            }
            ColumnValues::Mapped(mapped) => looked_up.extend(over_chunks(mapped, shape)),
            ColumnValues::Derived(derive) => {
                derived.push(derive.as_ref());
                rest.extend(derive.inputs());
            }
            _ => {}
        }
    }
    let mut tile = over_full_rank(&full, shape.len(), options.tile_bytes)
        .or_else(|| looked_up.into_iter().reduce(tile_over_chunks))
        .unwrap_or_else(|| tile_without_chunks(shape));
    for derive in derived {
        lengthen(&mut tile, shape, derive);
    }
    tile
}

/// A variable that has all dimensions of the grid.
struct FullRank<'a> {
    variable: &'a Variable,
    axes: &'a [usize],
}

impl<'a> FullRank<'a> {
    fn new(stored: &'a StoredColumn) -> Self {
        Self { variable: &stored.variable, axes: &stored.axes }
    }

    fn in_grid_order(&self, own: &[u64]) -> Vec<u64> {
        self.axes.iter().map(|&axis| own[axis]).collect()
    }
}

fn over_full_rank(full: &[FullRank<'_>], rank: usize, tile_bytes: u64) -> Option<Vec<u64>> {
    let chunks = full.iter().map(|own| own.in_grid_order(&own.variable.chunk_grid().piece_shape()));
    let chunks: Vec<Vec<u64>> = chunks.collect();
    let mut tile = chunks.iter().cloned().reduce(tile_over_chunks)?;
    // Small chunks are combined, as long as they are in one object.
    let width = full.iter().map(|own| own.variable.value_bytes());
    let width = width.max().unwrap_or(1);
    let objects = full.iter().map(|own| {
        let variable = own.variable;
        let is_sharded = variable.grid() != variable.chunk_grid();
        let object = if is_sharded { variable.grid().chunk_shape() } else { variable.shape() };
        own.in_grid_order(object)
    });
    let objects: Vec<Vec<u64>> = objects.collect();
    for dim in (0..rank).rev() {
        let bytes = checked_product(&tile).and_then(|cells| cells.checked_mul(width));
        let most = chunks.iter().map(|chunk| chunks_in(&tile, chunk)).max().unwrap_or(1);
        let more = (tile_bytes / bytes.unwrap_or(u64::MAX).max(1)).min(TILE_CHUNKS / most);
        let whole = objects.iter().map(|o| o[dim].div_ceil(tile[dim])).min().unwrap_or(1);
        let times = more.min(whole).max(1);
        tile[dim] = tile[dim].saturating_mul(times);
        if times < whole {
            break;
        }
    }
    Some(tile)
}

/// As many indices along each dimension as a chunk of what is looked up has; one where nothing varies, so that the
/// tiles one after the other look up the same chunks.
fn over_chunks(mapped: &Mapped, shape: &[u64]) -> Option<Vec<u64>> {
    let ColumnValues::Stored(stored) = mapped.column.values() else { return None };
    let own = FullRank::new(stored);
    let chunk = own.in_grid_order(&own.variable.chunk_grid().piece_shape());
    let mut tile = vec![1; shape.len()];
    for (map, size) in mapped.maps.iter().zip(chunk) {
        // Of two dimensions the inner one.
        if let Some(&dim) = map.dims().last() {
            tile[dim] = size.clamp(1, shape[dim].max(1));
        }
    }
    Some(tile)
}

/// Lengthens a tile along dimensions along which a derived column needs more than its own cells.
fn lengthen(tile: &mut [u64], shape: &[u64], derive: &dyn Derive) {
    for dim in 0..tile.len() {
        let wanted = derive.tile_len(dim).min(shape[dim]);
        let cells = checked_product(tile).unwrap_or(u64::MAX).max(1);
        let times = wanted.div_ceil(tile[dim].max(1)).min((TILE_BYTES / 4) / cells);
        tile[dim] = tile[dim].saturating_mul(times.max(1));
    }
}

/// Tile that covers whole chunks of both shapes, so that each chunk is read once. If that is too large, the larger
/// chunk: chunks of the other shape are kept for the tiles that they overlap.
fn tile_over_chunks(one: Vec<u64>, other: Vec<u64>) -> Vec<u64> {
    let both: Vec<u64> = one.iter().zip(&other).map(|(a, b)| *a.max(b)).collect();
    let cells = |shape: &[u64]| checked_product(shape).unwrap_or(u64::MAX);
    let few = |tile: &[u64], chunk: &[u64]| chunks_in(tile, chunk) <= TILE_CHUNKS;
    if cells(&both) <= TILE_BYTES / 8 && few(&both, &one) && few(&both, &other) {
        return both;
    }
    let (large, small) = if cells(&one) >= cells(&other) { (one, other) } else { (other, one) };
    if few(&large, &small) { large } else { some_of(&large, small) }
}

/// As many small chunks as a tile may have, in the shape of a part of a large chunk.
fn some_of(large: &[u64], small: Vec<u64>) -> Vec<u64> {
    let mut tile = small.clone();
    for dim in (0..tile.len()).rev() {
        let most = TILE_CHUNKS / chunks_in(&tile, &small);
        let times = large[dim].div_ceil(small[dim]).min(most).max(1);
        tile[dim] = small[dim].saturating_mul(times);
    }
    tile
}

/// Number of the chunks that cover a tile.
fn chunks_in(tile: &[u64], chunk: &[u64]) -> u64 {
    let along = tile.iter().zip(chunk).map(|(tile, chunk)| tile.div_ceil((*chunk).max(1)).max(1));
    along.fold(1, u64::saturating_mul)
}

/// Whole inner dimensions, up to [`ROWS_WITHOUT_CHUNKS`] rows.
fn tile_without_chunks(shape: &[u64]) -> Vec<u64> {
    let mut rows = ROWS_WITHOUT_CHUNKS;
    let mut tile: Vec<u64> = shape
        .iter()
        .rev()
        .map(|&size| {
            let part = size.clamp(1, rows.max(1));
            rows /= part;
            part
        })
        .collect();
    tile.reverse();
    tile
}
