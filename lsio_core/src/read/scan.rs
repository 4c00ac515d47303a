//! A scan of some columns of a table, tile by tile.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use arrow::{
    array::{Array as _, ArrayRef, Int64Array},
    buffer::BooleanBuffer,
};
use bytes::Bytes;
use futures::future::try_join_all;
use object_store::ObjectStore;
use tokio::task::JoinHandle;

use super::{
    fetch::{FetchedChunks, Fetcher, Stored},
    part::{Assembly, Part, holds_wanted_row},
    pieces::{self, Pieces},
    shared::{ChunkKey, SharedChunk, SharedChunks},
    tile::{Tile, gather_error},
    tiles::{Block, DimOrder, Tiles},
};
use crate::{
    Column, Error, Recycler, Result, Selection, Table, Variable,
    grid::{checked_product, select},
    transport::Counts,
    uring::PageCache,
};

/// Upper bound in bytes per column for a tile that is enlarged to whole chunks of several columns.
const TILE_BYTES: u64 = 32 << 20;

/// Rows of a tile where no chunk determines its shape.
const ROWS_WITHOUT_CHUNKS: u64 = 1 << 20;

/// Limits and sources of a scan.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// Upper bound in bytes for reading a column as a whole: a coordinate, or a variable that lacks a dimension.
    pub held_bytes: u64,
    /// Upper bound in decoded bytes per column for a tile made of several small chunks.
    pub tile_bytes: u64,
    /// Object store to read chunks from, in place of the table's own.
    pub store: Option<Arc<dyn ObjectStore>>,
    /// Page cache to look for chunks first. It must belong to `store`.
    pub page_cache: Option<PageCache>,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self { held_bytes: 64 << 20, tile_bytes: 2 << 20, store: None, page_cache: None }
    }
}

/// Reads columns of a table, tile after tile.
///
/// A tile is a box of cells. It covers whole chunks of the variables that have all dimensions of the grid: several
/// chunks where they are small, and whole chunks of all variables where their chunks differ in shape, up to an upper
/// bound. Only selected cells are materialised.
#[derive(Debug)]
pub struct Scan {
    columns: Vec<ScanColumn>,
    tiles: Tiles,
    recycler: Arc<Recycler>,
    shared: SharedChunks,
}

#[derive(Debug)]
struct ScanColumn {
    dims: Vec<usize>,
    source: ColumnSource,
}

#[derive(Debug)]
enum ColumnSource {
    /// Indices of the dimension itself.
    Index,
    /// Values read as a whole before the first tile, and kept in memory.
    Held { column: Column, shape: Vec<u64> },
    /// Values read chunk by chunk.
    Chunked(Box<Chunked>),
}

#[derive(Debug)]
struct Chunked {
    variable: Arc<Variable>,
    axes: Vec<usize>,
    fetcher: Fetcher,
    /// Whether no chunk of the variable belongs to two tiles.
    exclusive: bool,
    /// Fill values for the largest part so far without stored chunks.
    fill: OnceLock<ArrayRef>,
}

/// Stored bytes of some columns of a tile.
#[derive(Debug)]
pub struct Fetched {
    columns: Vec<(usize, FetchedColumn)>,
    counts: Counts,
}

#[derive(Debug)]
enum FetchedColumn {
    Exclusive(FetchedChunks),
    Shared(Vec<(Vec<u64>, Arc<SharedChunk>)>),
}

/// Cost of decoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the chunks after their codecs.
    pub bytes: usize,
    /// Time spent decoding, without the time of other tasks in between.
    pub time: Duration,
}

enum EncodedChunk {
    Own(Option<Stored>),
    Shared(Arc<SharedChunk>),
}

impl Fetched {
    /// Chunks, requests and bytes of this fetch.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

/// A running fetch. Dropping the handle cancels it.
#[derive(Debug)]
pub struct FetchTask {
    task: JoinHandle<Result<Fetched>>,
    /// The first variable that is fetched, for messages.
    variable: Option<Arc<Variable>>,
}

impl FetchTask {
    /// Waits for the fetch.
    ///
    /// # Errors
    /// [`Error::Store`] and [`Error::Chunk`], which name the object.
    pub async fn join(mut self) -> Result<Fetched> {
        let joined = (&mut self.task).await;
        joined.map_err(|error| Error::Interrupted {
            what: self.variable.as_ref().map_or_else(String::new, |v| format!("'{}'", v.path())),
            source: error.into(),
        })?
    }
}

impl Drop for FetchTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scan {
    /// Tiles of a scan of the columns at these positions, over the cells where the selections of all dimensions meet.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if one of the columns can't be read.
    pub fn plan(
        table: &Table,
        positions: &[usize],
        selection: Vec<Selection>,
        options: &ScanOptions,
    ) -> Result<Tiles> {
        let shape: Vec<u64> = table.dims.iter().map(|d| d.size).collect();
        let columns: Vec<&Column> = positions.iter().map(|&p| &table.columns[p]).collect();
        for column in &columns {
            column.check_readable()?;
        }
        let chunked = columns.iter().copied().filter(|c| is_chunked(c, shape.len(), options));
        let tile = tile_shape(&chunked.collect::<Vec<_>>(), &shape, options.tile_bytes);
        Tiles::new(tile, selection).ok_or_else(|| Error::Decode {
            array: columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", "),
            reason: format!("the grid {shape:?} has too many cells"),
        })
    }

    /// Scan of the columns at these positions, over the tiles of [`Scan::plan`]. Reads nothing.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if one of the columns can't be read.
    pub fn new(
        table: &Table,
        positions: &[usize],
        selection: Vec<Selection>,
        options: &ScanOptions,
    ) -> Result<Self> {
        let tiles = Self::plan(table, positions, selection, options)?;
        let shape: Vec<u64> = table.dims.iter().map(|d| d.size).collect();
        let is_chunked = |column: &Column| is_chunked(column, shape.len(), options);
        let columns = positions.iter().map(|&p| &table.columns[p]);
        let columns = columns
            .map(|column| {
                let source = match &column.variable {
                    None => ColumnSource::Index,
                    Some(variable) if is_chunked(column) => {
                        let fetcher = Fetcher::new(variable)?;
                        let fetcher = match &options.store {
                            Some(store) => fetcher.with_store(Arc::clone(store)),
                            None => fetcher,
                        };
                        let fetcher = fetcher.with_page_cache(options.page_cache.clone());
                        ColumnSource::Chunked(Box::new(Chunked {
                            variable: Arc::clone(variable),
                            axes: column.axes.clone(),
                            fetcher,
                            exclusive: is_exclusive(column, variable, &tiles),
                            fill: OnceLock::new(),
                        }))
                    }
                    Some(_) => ColumnSource::Held {
                        column: column.clone(),
                        shape: column.dims.iter().map(|&d| shape[d]).collect(),
                    },
                };
                Ok(ScanColumn { dims: column.dims.clone(), source })
            })
            .collect::<Result<_>>()?;
        Ok(Self { columns, tiles, recycler: Arc::default(), shared: SharedChunks::default() })
    }

    /// Visits the tiles in another order: see [`Tiles::with_order`].
    #[must_use]
    pub fn with_order(mut self, first: &[DimOrder]) -> Self {
        self.tiles = self.tiles.with_order(first);
        self
    }

    /// The tiles.
    #[must_use]
    pub fn tiles(&self) -> &Tiles {
        &self.tiles
    }

    /// Reads the columns that are held in memory. Required before [`Scan::local`] and [`Scan::decode`].
    ///
    /// # Errors
    /// Those of [`Column::load`].
    pub async fn load(&self) -> Result<()> {
        try_join_all(self.columns.iter().map(|column| async move {
            match &column.source {
                ColumnSource::Held { column, .. } => column.load().await.map(|_| ()),
                ColumnSource::Index | ColumnSource::Chunked(_) => Ok(()),
            }
        }))
        .await
        .map(|_| ())
    }

    /// Whether a column's values are in memory, so that it needs no fetch.
    #[must_use]
    pub fn is_local(&self, column: usize) -> bool {
        !matches!(self.columns[column].source, ColumnSource::Chunked(_))
    }

    /// Whether chunks come over a network, so that more requests should be concurrent.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.chunked().any(|(_, chunked)| chunked.variable.location().link().is_remote())
    }

    /// Number of chunks with selected cells, over the columns that are read chunk by chunk.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.selected_chunks().map(|(_, chunks)| chunks).fold(0, u64::saturating_add)
    }

    /// Number of all chunks of the columns that are read chunk by chunk, with selected cells or without.
    #[must_use]
    pub fn all_chunks(&self) -> u64 {
        let all = self.chunked().map(|(_, chunked)| chunked.variable.chunk_grid().len());
        all.fold(0, u64::saturating_add)
    }

    /// Decoded bytes of the chunks with selected cells.
    #[must_use]
    pub fn decoded_bytes(&self) -> u64 {
        let bytes = self.selected_chunks().map(|(chunked, chunks)| {
            let chunk = chunked.variable.reader().map_or(0, |reader| reader.codec.decoded_bytes());
            chunks.saturating_mul(chunk as u64)
        });
        bytes.fold(0, u64::saturating_add)
    }

    /// Columns that are read chunk by chunk.
    fn chunked(&self) -> impl Iterator<Item = (&ScanColumn, &Chunked)> {
        self.columns.iter().filter_map(|column| match &column.source {
            ColumnSource::Chunked(chunked) => Some((column, chunked.as_ref())),
            ColumnSource::Index | ColumnSource::Held { .. } => None,
        })
    }

    /// Columns that are read chunk by chunk, each with the number of its chunks that hold selected cells.
    fn selected_chunks(&self) -> impl Iterator<Item = (&Chunked, u64)> {
        self.chunked().map(|(column, chunked)| {
            // A selection without cells in any other dimension touches no chunk.
            let chunks = if self.tiles.is_empty() {
                0
            } else {
                chunked.part(column, self.tiles.selection()).count_chunks() as u64
            };
            (chunked, chunks)
        })
    }

    /// Estimated memory in bytes for reading these columns of a tile: the stored bytes, one decoded chunk, and the
    /// values.
    #[must_use]
    pub fn cost(&self, columns: &[usize], block: &Block) -> usize {
        let cost = |&position: &usize| {
            let column = &self.columns[position];
            let ColumnSource::Chunked(chunked) = &column.source else { return 0 };
            let Ok(reader) = chunked.variable.reader() else { return 0 };
            let chunk = reader.codec.decoded_bytes();
            let part = chunked.part(column, block.selections());
            let chunks = part.count_chunks();
            let width = usize::try_from(chunked.variable.value_bytes()).unwrap_or(usize::MAX);
            let values = part.cells().saturating_mul(width);
            let mut stored = chunk.saturating_mul(chunks);
            if !chunked.variable.chunk_grid().is_regular() {
                // Not every chunk is as large as the largest.
                stored = stored.min(part.chunk_bytes());
            }
            if reader.codec.is_raw() {
                // Decoding writes directly into the values, unless cells are picked or converted.
                stored.max(values)
            } else {
                (stored / 2).saturating_add(chunk).saturating_add(values)
            }
        };
        columns.iter().map(cost).fold(0, usize::saturating_add)
    }

    /// Whether chunks of some column are kept for other tiles. They are kept in the memory of [`Scan::share_memory`].
    #[must_use]
    pub fn shares_chunks(&self) -> bool {
        self.chunked().any(|(_, chunked)| !chunked.exclusive)
    }

    /// Adds `bytes` of memory for decoded chunks that several tiles need. Without memory, such a chunk is read once per
    /// tile.
    pub fn share_memory(&self, bytes: usize) {
        self.shared.grow(bytes);
    }

    /// Takes back memory that [`Scan::share_memory`] gave.
    pub fn unshare_memory(&self, bytes: usize) {
        self.shared.shrink(bytes);
    }

    /// Peak size of all decoded values, in bytes.
    #[must_use]
    pub fn peak_memory(&self) -> usize {
        self.recycler.peak()
    }

    /// Starts fetching the chunks that the columns at these positions need for a tile. Skips local columns, and chunks
    /// without a wanted row. Must be called inside a tokio runtime.
    #[must_use]
    pub fn fetch(
        self: &Arc<Self>,
        columns: &[usize],
        block: &Block,
        rows: Option<&BooleanBuffer>,
    ) -> FetchTask {
        let wanted: Vec<(usize, Vec<Vec<u64>>)> = columns
            .iter()
            .filter_map(|&position| {
                let column = &self.columns[position];
                let ColumnSource::Chunked(chunked) = &column.source else { return None };
                let mut chunks = chunked.part(column, block.selections()).chunks();
                if let Some(rows) = rows.filter(|_| chunks.len() > 1) {
                    let dims = (column.dims.as_slice(), chunked.axes.as_slice());
                    let variable = &chunked.variable;
                    let all = block.selections();
                    chunks.retain(|chunk| holds_wanted_row(variable, chunk, dims, all, rows));
                }
                Some((position, chunks))
            })
            .collect();
        let first = wanted.first().map(|(position, _)| &self.columns[*position].source);
        let variable = match first {
            Some(ColumnSource::Chunked(chunked)) => Some(Arc::clone(&chunked.variable)),
            _ => None,
        };
        let scan = Arc::clone(self);
        // A task of its own: fetching goes on while other tiles are decoded and used.
        FetchTask { task: tokio::spawn(async move { scan.fetch_chunks(wanted).await }), variable }
    }

    async fn fetch_chunks(&self, wanted: Vec<(usize, Vec<Vec<u64>>)>) -> Result<Fetched> {
        let columns = wanted.into_iter().map(|(position, chunks)| async move {
            let column = &self.columns[position];
            let ColumnSource::Chunked(chunked) = &column.source else {
                let none = FetchedColumn::Exclusive(Vec::new());
                return Ok::<_, Error>((position, none, Counts::default()));
            };
            if chunked.exclusive {
                let (fetched, counts) = chunked.fetcher.fetch(chunks).await?;
                return Ok((position, FetchedColumn::Exclusive(fetched), counts));
            }
            let chunks = chunks.into_iter().map(|chunk| async move {
                let mut counts = Counts::default();
                let shared = self.shared_chunk(column, chunked, &(position, chunk.clone()));
                let counted = &mut counts;
                let wanted = vec![chunk.clone()];
                shared
                    .fetch(async {
                        let (mut fetched, counts) = chunked.fetcher.fetch(wanted).await?;
                        *counted += counts;
                        let Some((chunk, Some(stored))) = fetched.pop() else { return Ok(None) };
                        let failed = |reason| chunked.variable.broken_chunk(&chunk, reason);
                        stored.bytes(&self.recycler).map(Some).map_err(failed)
                    })
                    .await?;
                Ok::<_, Error>((chunk, shared, counts))
            });
            let mut counts = Counts::default();
            let mut shared = Vec::new();
            for (chunk, content, more) in try_join_all(chunks).await? {
                counts += more;
                shared.push((chunk, content));
            }
            Ok((position, FetchedColumn::Shared(shared), counts))
        });
        let mut fetched = Fetched { columns: Vec::new(), counts: Counts::default() };
        for (position, column, counts) in try_join_all(columns).await? {
            fetched.columns.push((position, column));
            fetched.counts += counts;
        }
        Ok(fetched)
    }

    /// Decodes fetched chunks into a tile, one chunk at a time. Yields to other tasks between two chunks.
    ///
    /// # Errors
    /// [`Error::Chunk`] if the bytes are corrupt, [`Error::Decode`] if a value has no meaning.
    pub async fn decode(&self, fetched: Fetched, tile: &mut Tile) -> Result<Decoded> {
        let mut decoded = Decoded::default();
        for (position, chunks) in fetched.columns {
            let column = &self.columns[position];
            let ColumnSource::Chunked(chunked) = &column.source else { continue };
            let part = chunked.part(column, tile.block().selections());
            let codec = &chunked.variable.reader()?.codec;
            let mut chunks = match chunks {
                FetchedColumn::Exclusive(chunks) if chunks.iter().all(|(_, b)| b.is_none()) => {
                    let start = Instant::now();
                    tile.set(position, chunked.fill(&part, &self.recycler)?, false);
                    decoded.time += start.elapsed();
                    continue;
                }
                FetchedColumn::Exclusive(chunks) => chunks
                    .into_iter()
                    .map(|(chunk, encoded)| (chunk, EncodedChunk::Own(encoded)))
                    .collect::<Vec<_>>(),
                FetchedColumn::Shared(chunks) => chunks
                    .into_iter()
                    .map(|(chunk, shared)| (chunk, EncodedChunk::Shared(shared)))
                    .collect(),
            }
            .into_iter()
            .peekable();
            let mut assembly = Assembly::new(&part, &self.recycler)?;
            if chunks.len() < part.count_chunks() {
                assembly.fill();
            }
            while let Some((chunk, encoded)) = chunks.next() {
                let start = Instant::now();
                let stored = match encoded {
                    EncodedChunk::Own(None) => None,
                    EncodedChunk::Own(Some(stored)) => {
                        decoded.bytes += codec.decoded_bytes_at(&chunk);
                        Some(part.decode_stored(&chunk, &stored, &self.recycler)?)
                    }
                    EncodedChunk::Shared(shared) => {
                        let key = (position, chunk.clone());
                        self.shared.decoded(&key, &shared, &mut |encoded: &Bytes| {
                            decoded.bytes += codec.decoded_bytes_at(&chunk);
                            part.decode(&chunk, encoded, &self.recycler)
                        })?
                    }
                };
                assembly.add(&chunk, stored);
                decoded.time += start.elapsed();
                if chunks.peek().is_some() {
                    tokio::task::yield_now().await;
                }
            }
            let start = Instant::now();
            // A value that is repeated over several rows is checked for NaN once, here.
            let later = column.dims.len() == tile.block().selections().len()
                && chunked.variable.reader()?.decoding.only_finds_nan();
            let values = if later { assembly.finish_but_nan()? } else { assembly.finish()? };
            tile.set(position, values, later);
            decoded.time += start.elapsed();
            tokio::task::yield_now().await;
        }
        Ok(decoded)
    }

    /// Takes columns out of `fetched`, to be decoded in pieces. `None`, with nothing taken, if pieces can't be made: a
    /// chunk isn't stored, values need conversion, values come in another order than the grid's, or the columns' chunks
    /// differ in shape.
    pub fn take_pieces(
        &self,
        fetched: &mut Fetched,
        columns: &[usize],
        block: &Block,
    ) -> Option<Pieces> {
        let all = columns.iter().map(|&column| self.encoded(fetched, column, block));
        let pieces = Pieces::new(all.collect::<Option<_>>()?)?;
        fetched.columns.retain(|(own, _)| !columns.contains(own));
        Some(pieces)
    }

    fn encoded(
        &self,
        fetched: &Fetched,
        column: usize,
        block: &Block,
    ) -> Option<pieces::EncodedColumn> {
        let ColumnSource::Chunked(chunked) = &self.columns[column].source else { return None };
        let reader = chunked.variable.reader().ok()?;
        let (nan_is_null, plain) = (reader.decoding.only_finds_nan(), reader.decoding.is_plain());
        if (!nan_is_null && !plain) || self.columns[column].dims.len() < self.tiles.shape().len() {
            return None;
        }
        let (_, chunks) = fetched.columns.iter().find(|(own, _)| *own == column)?;
        let FetchedColumn::Exclusive(chunks) = chunks else { return None };
        let part = chunked.part(&self.columns[column], block.selections());
        if chunks.len() != part.count_chunks() {
            return None;
        }
        if reader.codec.has_items() {
            return None;
        }
        let storage = reader.codec.storage();
        let chunks = chunks
            .iter()
            .map(|(chunk, stored)| {
                let gather = part.gather_from(chunk, &storage);
                pieces::Chunk::new(chunk.clone(), stored.clone()?, &gather)
            })
            .collect::<Option<_>>()?;
        let (variable, recycler) = (Arc::clone(&chunked.variable), Arc::clone(&self.recycler));
        Some(pieces::EncodedColumn { variable, chunks, nan_is_null, recycler })
    }

    /// Tile with the values of these columns, all of them local.
    ///
    /// # Errors
    /// [`Error::Decode`] if the columns were not loaded.
    pub fn local(&self, columns: &[usize], block: Block) -> Result<Tile> {
        let dims = self.columns.iter().map(|column| column.dims.clone()).collect();
        let mut tile = Tile::new(block, dims);
        self.add_local(columns, &mut tile)?;
        Ok(tile)
    }

    /// Adds the values of the local ones among these columns.
    ///
    /// # Errors
    /// Those of [`Scan::local`].
    pub fn add_local(&self, columns: &[usize], tile: &mut Tile) -> Result<()> {
        for &position in columns {
            if tile.has(position) || !self.is_local(position) {
                continue;
            }
            let values = self.columns[position].local_values(tile.block())?;
            tile.set(position, values, false);
        }
        Ok(())
    }

    fn shared_chunk(
        &self,
        column: &ScanColumn,
        chunked: &Chunked,
        key: &ChunkKey,
    ) -> Arc<SharedChunk> {
        let grid = chunked.variable.chunk_grid();
        let uses: u64 = self
            .tiles
            .touched()
            .iter()
            .enumerate()
            .map(|(dim, touched)| {
                let own = column.dims.iter().position(|&d| d == dim);
                let Some(axis) = own.map(|own| chunked.axes[own]) else { return touched.len() };
                let own = grid.chunk_range(axis, key.1[axis]);
                let selected = self.tiles.selection()[dim].within(&own);
                selected.chunks(self.tiles.shape()[dim]).len()
            })
            .fold(1, u64::saturating_mul);
        let bytes = chunked.variable.reader().map_or(0, |reader| reader.codec.decoded_bytes());
        self.shared.get(key, usize::try_from(uses).unwrap_or(usize::MAX), bytes)
    }
}

impl Chunked {
    fn part(&self, column: &ScanColumn, selections: &[Selection]) -> Part<'_> {
        let wanted = column.dims.iter().map(|&d| selections[d].clone()).collect();
        Part::new(&self.variable, &self.axes, wanted)
    }

    /// Cells of a part without stored chunks. All are equal, so they are made once.
    fn fill(&self, part: &Part<'_>, recycler: &Arc<Recycler>) -> Result<ArrayRef> {
        let cells = part.cells();
        if let Some(fill) = self.fill.get().filter(|fill| fill.len() >= cells) {
            return Ok(fill.slice(0, cells));
        }
        let mut assembly = Assembly::new(part, recycler)?;
        for chunk in part.chunks() {
            assembly.add(&chunk, None);
        }
        let values = assembly.finish()?;
        Ok(Arc::clone(self.fill.get_or_init(|| Arc::clone(&values))))
            .map(|fill| if fill.len() == cells { fill } else { values })
    }
}

impl ScanColumn {
    /// Values of the cells of a tile, at the column's own rank and in the grid's order of dimensions.
    fn local_values(&self, block: &Block) -> Result<ArrayRef> {
        match &self.source {
            ColumnSource::Index => {
                let dim = self.dims.first().copied().unwrap_or(0);
                // The table's rows are counted with signed 64-bit numbers, so its indices fit.
                let indices = block.selections()[dim].iter().map(u64::cast_signed);
                Ok(Arc::new(Int64Array::from_iter_values(indices)))
            }
            ColumnSource::Held { column, shape } => {
                let values = column.loaded().ok_or_else(|| Error::Decode {
                    array: column.name.clone(),
                    reason: "its values were not loaded before the first tile".to_owned(),
                })?;
                let own: Vec<&Selection> =
                    self.dims.iter().map(|&d| &block.selections()[d]).collect();
                select(values, shape, &own).map_err(gather_error)
            }
            ColumnSource::Chunked(_) => Err(Error::Decode {
                array: "a column".to_owned(),
                reason: "its chunks were not fetched".to_owned(),
            }),
        }
    }
}

/// Whether each chunk of a column belongs to one tile only.
fn is_exclusive(column: &Column, variable: &Variable, tiles: &Tiles) -> bool {
    let grid = variable.chunk_grid();
    (0..tiles.shape().len()).all(|dim| match column.dims.iter().position(|&d| d == dim) {
        Some(own) => {
            grid.divides(column.axes[own], tiles.shape()[dim]) || tiles.touched()[dim].len() <= 1
        }
        None => tiles.touched()[dim].len() <= 1,
    })
}

/// Whether a column of a grid of `rank` dimensions is read chunk by chunk.
fn is_chunked(column: &Column, rank: usize, options: &ScanOptions) -> bool {
    column.variable.is_some() && !column.is_held(rank, options.held_bytes)
}

/// Shape of the tiles: whole chunks of the columns that have all dimensions.
fn tile_shape(columns: &[&Column], shape: &[u64], tile_bytes: u64) -> Vec<u64> {
    let rank = shape.len();
    let full: Vec<(&Column, &Variable)> = columns
        .iter()
        .filter(|column| column.dims.len() == rank)
        .filter_map(|column| Some((*column, column.variable.as_deref()?)))
        .collect();
    let in_grid_order = |column: &Column, own: &[u64]| -> Vec<u64> {
        column.axes.iter().map(|&axis| own[axis]).collect()
    };
    let chunks = full.iter().map(|(c, v)| in_grid_order(c, &v.chunk_grid().piece_shape()));
    let Some(mut tile) = chunks.reduce(tile_over_chunks) else {
        return tile_without_chunks(shape);
    };
    // Small chunks are combined, as long as they are in one object.
    let width = full.iter().map(|(_, v)| v.value_bytes());
    let width = width.max().unwrap_or(1);
    let objects = full.iter().map(|(column, variable)| {
        let is_sharded = variable.grid() != variable.chunk_grid();
        let object = if is_sharded { variable.grid().chunk_shape() } else { variable.shape() };
        in_grid_order(column, object)
    });
    let objects: Vec<Vec<u64>> = objects.collect();
    for dim in (0..rank).rev() {
        let bytes = checked_product(&tile).and_then(|cells| cells.checked_mul(width));
        let more = tile_bytes / bytes.unwrap_or(u64::MAX).max(1);
        let whole = objects.iter().map(|o| o[dim].div_ceil(tile[dim])).min().unwrap_or(1);
        let times = more.min(whole).max(1);
        tile[dim] = tile[dim].saturating_mul(times);
        if times < whole {
            break;
        }
    }
    tile
}

/// Tile that covers whole chunks of both shapes, so that each chunk is read once. If that is too large, the larger
/// chunk: chunks of the other shape are kept for the tiles that they overlap.
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
