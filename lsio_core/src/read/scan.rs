//! A scan of some columns of a table, tile by tile.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, MutableArrayData, make_array},
    error::ArrowError,
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, future::try_join_all, stream};

use super::broadcast::{Pattern, broadcast};
use crate::{
    Column, Error, Result, Table, Variable,
    dataset::transpose,
    grid::{Region, RegularGrid, strides, unravel},
};

/// The stored bytes that are fetched ahead of decoding, as far as they can be guessed.
const FETCH_AHEAD_BYTES: u64 = 16 << 20;

/// The most tiles that are fetched ahead of decoding.
const FETCH_AHEAD_TILES: u64 = 32;

/// The rows of a tile where no chunk decides its shape.
const ROWS_WITHOUT_CHUNKS: u64 = 1 << 20;

/// Reads columns of a table, one tile after the other.
///
/// A tile is what the cells of one chunk cover: that of the first variable with all dimensions of
/// the grid. Other variables are cut to it, whatever their own chunks. Tiles are numbered, and
/// computed from their numbers, so that nothing is enumerated ahead.
#[derive(Debug)]
pub struct Scan {
    columns: Vec<ScanColumn>,
    tiles: RegularGrid,
}

#[derive(Debug)]
struct ScanColumn {
    dims: Vec<usize>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// The dimension's own indices.
    Index,
    /// Values that are read as a whole before the first tile, and stay in memory.
    Held { column: Column, shape: Vec<u64> },
    /// Values that are read chunk by chunk.
    Chunked {
        variable: Arc<Variable>,
        axes: Vec<usize>,
        /// Whether each tile needs exactly one chunk of it, and no other tile needs that chunk.
        aligned: bool,
    },
}

/// The chunks that a tile needs of one column; `None` for bytes that an earlier tile brought.
type Chunks = Vec<(Vec<u64>, Option<Encoded>)>;
/// The stored bytes of a chunk, `None` if it isn't stored.
type Encoded = Option<Bytes>;

struct Fetched {
    region: Region,
    chunks: Vec<Chunks>,
}

impl Scan {
    /// Plans a scan of the columns at these positions; reads nothing. Columns that
    /// [`Column::is_held`] allows with `held_bytes` are read as a whole.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if one of the columns can't be read.
    pub fn new(table: &Table, positions: &[usize], held_bytes: u64) -> Result<Self> {
        let shape: Vec<u64> = table.dims.iter().map(|d| d.size).collect();
        let rank = shape.len();
        let columns: Vec<&Column> = positions.iter().map(|&p| &table.columns[p]).collect();
        for column in &columns {
            column.check_readable()?;
        }
        let is_chunked =
            |column: &Column| column.variable.is_some() && !column.is_held(rank, held_bytes);
        let chunks =
            columns.iter().filter(|c| is_chunked(c)).find_map(|column| own_chunks(column, rank));
        let tile = chunks.unwrap_or_else(|| tile_without_chunks(&shape));
        let tiles = RegularGrid::new(shape.clone(), tile).ok_or_else(|| Error::Decode {
            array: columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", "),
            reason: format!("the grid {shape:?} has too many cells"),
        })?;
        let columns = columns
            .into_iter()
            .map(|column| {
                let source = match &column.variable {
                    None => Source::Index,
                    Some(variable) if is_chunked(column) => Source::Chunked {
                        variable: Arc::clone(variable),
                        axes: column.axes.clone(),
                        aligned: own_chunks(column, rank).as_deref() == Some(tiles.chunk_shape()),
                    },
                    Some(_) => Source::Held {
                        column: column.clone(),
                        shape: column.dims.iter().map(|&d| shape[d]).collect(),
                    },
                };
                ScanColumn { dims: column.dims.clone(), source }
            })
            .collect();
        Ok(Self { columns, tiles })
    }

    /// Reads the columns that are held in memory. [`Scan::read`] needs them.
    ///
    /// # Errors
    /// Those of [`Column::load`].
    pub async fn load(&self) -> Result<()> {
        try_join_all(self.columns.iter().map(|column| async move {
            match &column.source {
                Source::Held { column, .. } => column.load().await.map(|_| ()),
                Source::Index | Source::Chunked { .. } => Ok(()),
            }
        }))
        .await
        .map(|_| ())
    }

    /// The tiles, in the order of the grid.
    #[must_use]
    pub fn tiles(&self) -> &RegularGrid {
        &self.tiles
    }

    /// The number of chunks that the scan reads, if it reads all tiles and each chunk once. Those of
    /// columns that are in memory already don't count.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.columns
            .iter()
            .map(|column| match &column.source {
                Source::Chunked { variable, .. } => variable.grid().len(),
                Source::Held { column, .. } if column.loaded().is_none() => {
                    column.variable.as_ref().map_or(0, |variable| variable.grid().len())
                }
                Source::Index | Source::Held { .. } => 0,
            })
            .fold(0, u64::saturating_add)
    }

    /// How many tiles to fetch ahead.
    #[must_use]
    pub fn fetch_ahead(&self) -> usize {
        let bytes: u64 = self
            .columns
            .iter()
            .filter_map(|column| match &column.source {
                Source::Chunked { variable, .. } => {
                    let width = variable.data_type().primitive_width().unwrap_or(16) as u64;
                    let cells: u64 = variable.grid().chunk_shape().iter().product();
                    Some(cells.saturating_mul(width))
                }
                Source::Index | Source::Held { .. } => None,
            })
            .fold(0, u64::saturating_add);
        let tiles = (FETCH_AHEAD_BYTES / bytes.max(1)).clamp(2, FETCH_AHEAD_TILES);
        usize::try_from(tiles).unwrap_or(1)
    }

    /// Reads the tiles of these numbers, in their order. `ahead` of them are fetched while one is
    /// decoded; decoding happens in the task that polls.
    pub fn read(
        self: Arc<Self>,
        numbers: impl Iterator<Item = u64> + Send + 'static,
        ahead: usize,
    ) -> impl Stream<Item = Result<Tile>> + Send + 'static {
        let mut asked: Vec<HashSet<Vec<u64>>> = vec![HashSet::new(); self.columns.len()];
        let mut decoded: Vec<Vec<(Vec<u64>, ArrayRef)>> = vec![Vec::new(); self.columns.len()];
        let fetching = Arc::clone(&self);
        stream::iter(numbers)
            .map(move |number| {
                let scan = Arc::clone(&fetching);
                let region = scan.tiles.region(number);
                // A chunk that the tile before has asked for is still there when this one is
                // decoded.
                let wanted: Vec<Vec<(Vec<u64>, bool)>> = scan
                    .columns
                    .iter()
                    .zip(&mut asked)
                    .map(|(column, asked)| {
                        let chunks = column.chunks(&region);
                        let wanted = chunks
                            .iter()
                            .map(|chunk| (chunk.clone(), !asked.contains(chunk)))
                            .collect();
                        *asked = chunks.into_iter().collect();
                        wanted
                    })
                    .collect();
                async move { scan.fetch(region, wanted).await }
            })
            .buffered(ahead.max(1))
            .and_then(move |fetched| {
                let tile = self.decode(fetched, &mut decoded);
                async move { tile }
            })
    }

    async fn fetch(&self, region: Region, wanted: Vec<Vec<(Vec<u64>, bool)>>) -> Result<Fetched> {
        let columns = self.columns.iter().zip(wanted).map(|(column, wanted)| async move {
            let Source::Chunked { variable, .. } = &column.source else {
                return Ok::<_, Error>(Vec::new());
            };
            try_join_all(wanted.into_iter().map(|(chunk, new)| async move {
                let bytes = if new { Some(variable.fetch_chunk(&chunk).await?) } else { None };
                Ok((chunk, bytes))
            }))
            .await
        });
        Ok(Fetched { region, chunks: try_join_all(columns).await? })
    }

    /// Decodes the chunks of a tile. `decoded` holds those of the tile before, for the columns that
    /// may need them again.
    fn decode(&self, fetched: Fetched, decoded: &mut [Vec<(Vec<u64>, ArrayRef)>]) -> Result<Tile> {
        let Fetched { region, chunks } = fetched;
        let mut counts = Counts::default();
        for (_, encoded) in chunks.iter().flatten() {
            match encoded {
                Some(Some(bytes)) => {
                    counts.chunks += 1;
                    counts.bytes += bytes.len();
                }
                Some(None) => counts.absent += 1,
                None => {}
            }
        }
        let mut columns = Vec::with_capacity(self.columns.len());
        for ((column, chunks), decoded) in self.columns.iter().zip(chunks).zip(decoded) {
            let values = column.values(&region, chunks, decoded)?;
            columns.push((values, Pattern::new(&region.shape, &column.dims)));
        }
        Ok(Tile { rows: region.cells(), columns, counts })
    }
}

impl ScanColumn {
    /// The column's own part of a region of the grid, in the variable's order of dimensions.
    fn variable_region(&self, region: &Region, axes: &[usize]) -> Region {
        let mut start = vec![0; axes.len()];
        let mut shape = vec![0; axes.len()];
        for (&dim, &axis) in self.dims.iter().zip(axes) {
            start[axis] = region.start[dim];
            shape[axis] = region.shape[dim];
        }
        Region { start, shape }
    }

    fn chunks(&self, region: &Region) -> Vec<Vec<u64>> {
        match &self.source {
            Source::Chunked { variable, axes, .. } => {
                variable.grid().touching(&self.variable_region(region, axes)).collect()
            }
            Source::Index | Source::Held { .. } => Vec::new(),
        }
    }

    /// The values in a region of the grid, at the column's own rank and in the grid's order.
    fn values(
        &self,
        region: &Region,
        chunks: Chunks,
        decoded: &mut Vec<(Vec<u64>, ArrayRef)>,
    ) -> Result<ArrayRef> {
        match &self.source {
            Source::Index => {
                let dim = self.dims.first().copied().unwrap_or(0);
                let first = region.start[dim];
                // The table's rows are counted with signed numbers, so its indices fit too.
                let indices = first.cast_signed()..(first + region.shape[dim]).cast_signed();
                Ok(Arc::new(Int64Array::from_iter_values(indices)))
            }
            Source::Held { column, shape } => {
                let values = column.loaded().ok_or_else(|| Error::Decode {
                    array: column.name.clone(),
                    reason: "its values were not loaded before the first tile".to_owned(),
                })?;
                let start: Vec<u64> = self.dims.iter().map(|&d| region.start[d]).collect();
                let own: Vec<u64> = self.dims.iter().map(|&d| region.shape[d]).collect();
                crop(values, shape, &Region { start, shape: own }).map_err(gather_error)
            }
            Source::Chunked { variable, axes, aligned } => {
                let mut now = Vec::with_capacity(chunks.len());
                for (chunk, encoded) in chunks {
                    let array = match encoded {
                        Some(encoded) => variable.decode_chunk(&chunk, encoded.as_ref())?,
                        None => match decoded.iter().find(|(other, _)| *other == chunk) {
                            Some((_, array)) => Arc::clone(array),
                            None => variable.decode_chunk(&chunk, None)?,
                        },
                    };
                    now.push((chunk, array));
                }
                let own = self.variable_region(region, axes);
                let array = variable.assemble(&own, &now)?;
                *decoded = if *aligned { Vec::new() } else { now };
                transpose(&array, &own.shape, axes)
            }
        }
    }
}

/// A box of cells, with the values of each column at its own rank.
#[derive(Debug)]
pub struct Tile {
    rows: u64,
    columns: Vec<(ArrayRef, Pattern)>,
    counts: Counts,
}

/// What was read from the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stored chunks.
    pub chunks: usize,
    /// Chunks that aren't stored, and so hold the fill value.
    pub absent: usize,
    /// The stored bytes.
    pub bytes: usize,
}

impl Tile {
    /// The number of cells.
    #[must_use]
    pub fn rows(&self) -> usize {
        usize::try_from(self.rows).unwrap_or(usize::MAX)
    }

    /// What was read for this tile.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The columns of `len` rows from `start` on, in C order. Full-rank columns are slices: nothing
    /// is copied.
    ///
    /// # Errors
    /// [`Error::Decode`] if arrow can't gather the values.
    pub fn slice(&self, start: usize, len: usize) -> Result<Vec<ArrayRef>> {
        self.columns
            .iter()
            .map(|(values, pattern)| broadcast(values, pattern, start, len).map_err(gather_error))
            .collect()
    }
}

/// The chunk shape of a column in the grid's order of dimensions, if it has all of them.
fn own_chunks(column: &Column, rank: usize) -> Option<Vec<u64>> {
    let variable = column.variable.as_ref().filter(|_| column.dims.len() == rank)?;
    Some(column.axes.iter().map(|&axis| variable.grid().chunk_shape()[axis]).collect())
}

/// Whole inner dimensions, as long as they are not too many rows.
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

/// The part of a C-ordered array inside a region.
fn crop(values: &ArrayRef, shape: &[u64], region: &Region) -> Result<ArrayRef, ArrowError> {
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    match (shape, region.start.as_slice(), region.shape.as_slice()) {
        ([], ..) => Ok(Arc::clone(values)),
        (_, [start], [len]) => Ok(values.slice(at(*start), at(*len))),
        _ if region.shape == shape => Ok(Arc::clone(values)),
        _ => {
            let data = values.to_data();
            let mut out = MutableArrayData::new(vec![&data], false, at(region.cells()));
            let strides = strides(shape);
            let inner = shape.len() - 1;
            let rows = region.shape[..inner].iter().product();
            for row in 0..rows {
                let offset: u64 = unravel(row, &region.shape[..inner])
                    .iter()
                    .zip(&region.start)
                    .zip(&strides)
                    .map(|((i, start), stride)| (i + start) * stride)
                    .sum::<u64>()
                    + region.start[inner];
                out.try_extend(0, at(offset), at(offset + region.shape[inner]))?;
            }
            Ok(make_array(out.freeze()))
        }
    }
}

fn gather_error(error: ArrowError) -> Error {
    Error::Decode { array: "a column".to_owned(), reason: error.to_string() }
}
