//! A scan of some columns of a table, tile by tile.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array},
    error::ArrowError,
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use object_store::ObjectStore;
use tokio::{sync::Semaphore, task::JoinHandle};

use super::broadcast::{Pattern, broadcast};
use crate::{
    Column, Error, Result, Table, Variable,
    dataset::transpose,
    grid::{Region, RegularGrid, checked_product, crop},
};

/// The stored bytes that are fetched ahead of decoding, as far as they can be guessed.
const FETCH_AHEAD_BYTES: u64 = 16 << 20;

/// The most tiles that are fetched ahead of decoding.
const FETCH_AHEAD_TILES: u64 = 32;

/// The chunks of a scan that are read at the same time, by all partitions together.
const CONCURRENT_READS: usize = 64;

/// The bytes of a column up to which tiles are made larger than its chunks.
const TILE_BYTES: u64 = 32 << 20;

/// The rows of a tile where no chunk decides its shape.
const ROWS_WITHOUT_CHUNKS: u64 = 1 << 20;

/// Reads columns of a table, one tile after the other.
///
/// A tile is what the cells of one chunk cover: a chunk of the variables with all dimensions of the
/// grid. Where their chunks differ, it covers whole chunks of all, if that isn't too much; other
/// variables are cut to it. Tiles are numbered, and computed from their numbers, so that nothing is
/// enumerated ahead.
#[derive(Debug)]
pub struct Scan {
    columns: Vec<ScanColumn>,
    tiles: RegularGrid,
    /// What keeps the number of chunks that are read at the same time low.
    reads: Semaphore,
    /// Where chunks are read from, if not from where the table was opened.
    store: Option<Arc<dyn ObjectStore>>,
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
        /// Whether no two tiles need the same chunk of it.
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

/// A fetch under way, given up if nobody waits for it any more.
struct FetchTask(JoinHandle<Result<Fetched>>);

impl FetchTask {
    async fn join(mut self) -> Result<Fetched> {
        (&mut self.0).await.map_err(|e| Error::Decode {
            array: "a tile".to_owned(),
            reason: format!("its fetch ended early: {e}"),
        })?
    }
}

impl Drop for FetchTask {
    fn drop(&mut self) {
        self.0.abort();
    }
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
        let chunks = columns
            .iter()
            .filter(|column| is_chunked(column))
            .filter_map(|column| own_chunks(column, rank))
            .reduce(tile_over_chunks);
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
                        aligned: own_chunks(column, rank).is_some_and(|own| {
                            tiles.chunk_shape().iter().zip(&own).all(|(t, c)| t % c == 0)
                        }),
                    },
                    Some(_) => Source::Held {
                        column: column.clone(),
                        shape: column.dims.iter().map(|&d| shape[d]).collect(),
                    },
                };
                ScanColumn { dims: column.dims.clone(), source }
            })
            .collect();
        Ok(Self { columns, tiles, reads: Semaphore::new(CONCURRENT_READS), store: None })
    }

    /// Reads chunks from another object store that holds the same objects.
    #[must_use]
    pub fn with_store(self, store: Option<Arc<dyn ObjectStore>>) -> Self {
        Self { store, ..self }
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

    /// How many tiles to fetch ahead, where this many partitions share them.
    #[must_use]
    pub fn fetch_ahead(&self, partitions: usize) -> usize {
        let tile = self.tiles.chunk_shape();
        let bytes: u64 = self
            .columns
            .iter()
            .filter_map(|column| match &column.source {
                Source::Chunked { variable, .. } => {
                    let width = variable.data_type().primitive_width().unwrap_or(16) as u64;
                    let own: Vec<u64> = column.dims.iter().map(|&d| tile[d]).collect();
                    let cells = checked_product(variable.grid().chunk_shape()).unwrap_or(u64::MAX);
                    let cells = cells.max(checked_product(&own).unwrap_or(u64::MAX));
                    Some(cells.saturating_mul(width))
                }
                Source::Index | Source::Held { .. } => None,
            })
            .fold(0, u64::saturating_add);
        // What one partition has taken no other can take: leave enough for all.
        let share = self.tiles.len() / (2 * partitions.max(1) as u64);
        let tiles = (FETCH_AHEAD_BYTES / bytes.max(1)).clamp(2, FETCH_AHEAD_TILES);
        usize::try_from(tiles.min(share).max(1)).unwrap_or(1)
    }

    /// Reads the tiles of these numbers, in their order. `ahead` of them are fetched while one is
    /// decoded; decoding happens in the task that polls. Must be polled inside a tokio runtime.
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
                // A task of its own: it goes on while tiles are decoded and used.
                let fetch =
                    FetchTask(tokio::spawn(async move { scan.fetch(region, wanted).await }));
                fetch.join()
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
                if !new {
                    return Ok((chunk, None));
                }
                // The semaphore is never closed; without a permit there would just be no limit.
                let _permit = self.reads.acquire().await;
                let store = self.store.as_ref().unwrap_or(variable.location().store());
                let bytes = variable.fetch_chunk_from(store.as_ref(), &chunk).await?;
                Ok((chunk, Some(bytes)))
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
                            None => {
                                return Err(Error::Decode {
                                    array: variable.location().name().to_owned(),
                                    reason: format!("chunk {chunk:?} is lost: tiles were skipped"),
                                });
                            }
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

/// A tile that covers whole chunks of either shape, so that each is read once; as long as it is not
/// too large: then the larger chunk, and the other's chunks are read again where tiles cut them.
fn tile_over_chunks(one: Vec<u64>, other: Vec<u64>) -> Vec<u64> {
    let both: Vec<u64> = one.iter().zip(&other).map(|(a, b)| *a.max(b)).collect();
    let cells = |shape: &[u64]| checked_product(shape).unwrap_or(u64::MAX);
    if cells(&both) <= TILE_BYTES / 8 {
        both
    } else if cells(&one) >= cells(&other) {
        one
    } else {
        other
    }
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

fn gather_error(error: ArrowError) -> Error {
    Error::Decode { array: "a column".to_owned(), reason: error.to_string() }
}
