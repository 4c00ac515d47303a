//! A scan of some columns of a table, tile by tile.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::{array::ArrayRef, buffer::BooleanBuffer};
use futures::future::try_join_all;
use object_store::ObjectStore;
use tokio::task::JoinHandle;

use super::{
    carry::{CarriedStrip, Carries},
    fetch::{FetchedChunks, Fetcher, Stored},
    part::{Assembly, Part, holds_wanted_row},
    pieces::{self, Pieces},
    shared::{ChunkKey, SharedChunk, SharedChunks},
    source::{Chunked, ColumnSource, ScanColumn, needs},
    strips::{DecodedChunks, Strips, strip_shape},
    tile::Tile,
    tile_shape::tile_shape,
    tiles::{Block, DimOrder, Tiles},
};
use crate::{
    Column, Error, Recycler, Result, Selection, Table, Variable,
    dataset::{ColumnValues, Continues, Derive, Inputs, StoredColumn, StoredValues, Values},
    transport::Counts,
    uring::PageCache,
};

/// Limits and sources of a scan.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// Upper bound in bytes for reading a column as a whole: a coordinate, or a variable that lacks a dimension.
    pub held_bytes: u64,
    /// Upper bound in decoded bytes per column for a tile made of several small chunks, and in bytes for the part of a
    /// tile for which columns are computed at a time.
    pub tile_bytes: u64,
    /// Object store to read local files from, in place of the variables' own.
    pub store: Option<Arc<dyn ObjectStore>>,
    /// Page cache to look for chunks first. It must belong to `store`.
    pub page_cache: Option<PageCache>,
}

/// Upper bound on the lines of cells of which states are kept for the tiles behind.
const MOST_LINES_BESIDE: u64 = 2 << 20;

/// Bytes of the state of a line: a count and up to four doubles.
const STATE_BYTES: u64 = 40;

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
    /// The columns of the scan, followed by the inputs of those that are computed.
    columns: Vec<ScanColumn>,
    tiles: Tiles,
    /// Shape of a tile's strips.
    strip: Vec<u64>,
    recycler: Arc<Recycler>,
    shared: SharedChunks,
    carries: Carries,
}

/// Stored bytes of some columns of a tile.
#[derive(Debug)]
pub struct Fetched {
    columns: Vec<(usize, FetchedColumn)>,
    /// Columns that are computed from fetched ones.
    derived: Vec<usize>,
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

impl FetchedColumn {
    /// Chunks with their indices.
    fn encoded(self) -> Vec<(Vec<u64>, EncodedChunk)> {
        match self {
            Self::Exclusive(chunks) => chunks
                .into_iter()
                .map(|(chunk, encoded)| (chunk, EncodedChunk::Own(encoded)))
                .collect(),
            Self::Shared(chunks) => chunks
                .into_iter()
                .map(|(chunk, shared)| (chunk, EncodedChunk::Shared(shared)))
                .collect(),
        }
    }
}

impl Fetched {
    /// Chunks, requests and bytes of this fetch.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether columns are computed from what was fetched.
    #[must_use]
    pub fn has_derived(&self) -> bool {
        !self.derived.is_empty()
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
        let tile = tile_shape(&columns, &shape, options);
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
        let mut columns: Vec<ScanColumn> = Vec::with_capacity(positions.len());
        let mut inputs: Vec<(usize, Arc<dyn Derive>)> = Vec::new();
        for (position, &column) in positions.iter().enumerate() {
            let column = &table.columns[column];
            let source = source(column, &shape, options)?;
            if let ColumnSource::Derived { derive, .. } = &source {
                inputs.push((position, Arc::clone(derive)));
            }
            columns.push(ScanColumn { dims: column.dims.clone(), source, input_of: None });
        }
        for (position, derive) in inputs {
            let mut own = Vec::new();
            for column in derive.inputs() {
                let source = source(column, &shape, options)?;
                if matches!(source, ColumnSource::Derived { .. }) {
                    return Err(Error::Decode {
                        array: column.name.clone(),
                        reason: "it is computed, and can't be an input of another computation"
                            .to_owned(),
                    });
                }
                own.push(columns.len());
                let input_of = Some(Arc::clone(&derive));
                columns.push(ScanColumn { dims: column.dims.clone(), source, input_of });
            }
            if let ColumnSource::Derived { inputs, .. } = &mut columns[position].source {
                *inputs = own;
            }
        }
        share(&mut columns, &tiles);
        let strip = strip_shape(&columns, tiles.shape(), options.tile_bytes);
        let (recycler, shared, carries) = Default::default();
        Ok(Self { columns, tiles, strip, recycler, shared, carries })
    }

    /// Visits the tiles in another order: see [`Tiles::with_order`]. Tiles that continue each other come in their
    /// direction. Unless the order says otherwise, tiles that need the same cells come one after the other, and tiles
    /// that continue each other as far apart as there is memory for the states between them.
    #[must_use]
    pub fn with_order(mut self, first: &[DimOrder]) -> Self {
        let continued: Vec<DimOrder> =
            self.columns.iter().filter_map(ScanColumn::continues).map(DimOrder::from).collect();
        let derived = || self.columns.iter().filter_map(ScanColumn::derived);
        let runs_along = |dim: usize| derived().any(|(derive, _)| derive.runs_along(dim));
        let is = |order: &[DimOrder], dim: usize| order.iter().any(|other| other.dim == dim);
        let rest = (0..self.tiles.shape().len()).filter(|dim| !is(first, *dim));
        let (along, mut others): (Vec<usize>, Vec<usize>) = rest.partition(|dim| runs_along(*dim));
        let beside = match continued.is_empty() {
            true => Vec::new(),
            false => others.split_off(others.len() - self.count_beside(&others, runs_along)),
        };
        let mut order = first.to_vec();
        order.extend(others.into_iter().chain(along).map(DimOrder::forward));
        for own in continued {
            if let Some(other) = order.iter_mut().find(|other| other.dim == own.dim) {
                other.reversed = own.reversed;
            }
        }
        order.extend(beside.into_iter().map(DimOrder::forward));
        self.tiles = self.tiles.with_order(&order);
        self
    }

    /// Number of the last ones of some dimensions whose tiles may all have a state at the same time.
    fn count_beside(&self, others: &[usize], runs_along: impl Fn(usize) -> bool) -> usize {
        let all = (0..self.tiles.shape().len()).filter(|dim| !runs_along(*dim));
        let mut lines = all.map(|dim| self.most_along(dim)).fold(1, u64::saturating_mul);
        let fit = others.iter().rev().take_while(|&&dim| {
            lines = lines.saturating_mul(self.tiles.touched()[dim].len());
            lines <= MOST_LINES_BESIDE
        });
        fit.count()
    }

    /// Upper bound on a tile's indices along a dimension.
    fn most_along(&self, dim: usize) -> u64 {
        self.tiles.shape()[dim].min(self.tiles.selection()[dim].len()).max(1)
    }

    /// Estimated memory in bytes for the states that tiles hand on to the tiles behind them.
    #[must_use]
    pub fn carried_bytes(&self) -> usize {
        let order = self.tiles.order();
        let of = |own: Continues| {
            let place = order.iter().position(|other| other.dim == own.dim).unwrap_or(0);
            let tiles = order[place..].iter().filter(|other| other.dim != own.dim);
            let tiles = tiles.map(|other| self.tiles.touched()[other.dim].len());
            let others = (0..order.len()).filter(|dim| *dim != own.dim);
            others
                .map(|dim| self.most_along(dim))
                .chain(tiles)
                .fold(STATE_BYTES, u64::saturating_mul)
        };
        let all = self.columns.iter().filter_map(ScanColumn::continues).map(of);
        usize::try_from(all.fold(0, u64::saturating_add)).unwrap_or(usize::MAX)
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
                _ => Ok(()),
            }
        }))
        .await
        .map(|_| ())
    }

    /// Whether a column's values are in memory, so that it needs no fetch.
    #[must_use]
    pub fn is_local(&self, column: usize) -> bool {
        let source = &self.columns[column].source;
        !matches!(source, ColumnSource::Chunked(_) | ColumnSource::Derived { .. })
    }

    /// Whether values of a tile continue those of the tile before, so that no tile may be left out.
    #[must_use]
    pub fn continues(&self) -> bool {
        self.columns.iter().any(|column| column.continues().is_some())
    }

    /// Whether the last tile along a dimension comes first, as tiles continue each other from there.
    #[must_use]
    pub fn continues_backward(&self) -> bool {
        let mut continued = self.columns.iter().filter_map(ScanColumn::continues);
        continued.any(|continued| continued.reversed)
    }

    /// Whether chunks come over a network, so that more requests should be concurrent.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.chunked().any(|(_, _, chunked)| chunked.variable.location().link().is_remote())
    }

    /// Number of chunks with selected cells, over the columns that are read chunk by chunk.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        let chunks = self.selected_chunks().into_iter().map(|(_, chunks)| chunks);
        chunks.fold(0, u64::saturating_add)
    }

    /// Number of all chunks of the columns that are read chunk by chunk, with selected cells or without.
    #[must_use]
    pub fn all_chunks(&self) -> u64 {
        let distinct = self.chunked().filter(|(position, _, own)| own.shares == *position);
        let all = distinct.map(|(_, _, chunked)| chunked.variable.chunk_grid().len());
        all.fold(0, u64::saturating_add)
    }

    /// Decoded bytes of the chunks with selected cells.
    #[must_use]
    pub fn decoded_bytes(&self) -> u64 {
        let bytes = self.selected_chunks().into_iter().map(|(chunked, chunks)| {
            let chunk = chunked.variable.reader().map_or(0, |reader| reader.codec.decoded_bytes());
            chunks.saturating_mul(chunk as u64)
        });
        bytes.fold(0, u64::saturating_add)
    }

    /// Columns that are read chunk by chunk, with their positions.
    fn chunked(&self) -> impl Iterator<Item = (usize, &ScanColumn, &Chunked)> {
        self.columns.iter().enumerate().filter_map(|(position, column)| match &column.source {
            ColumnSource::Chunked(chunked) => Some((position, column, chunked.as_ref())),
            _ => None,
        })
    }

    /// Variables that are read chunk by chunk, each with the number of its chunks that hold selected cells.
    fn selected_chunks(&self) -> Vec<(&Chunked, u64)> {
        if self.tiles.is_empty() {
            // A selection without cells in any other dimension touches no chunk.
            return Vec::new();
        }
        let mut along: HashMap<usize, (&Chunked, Vec<Selection>)> = HashMap::new();
        for (_, column, chunked) in self.chunked() {
            let needs = column.needs(self.tiles.selection());
            let mut own = chunked.part(&column.dims, &needs).chunks_by_axis();
            if let Some((_, others)) = along.get(&chunked.shares) {
                for (own, other) in own.iter_mut().zip(others) {
                    *own = Selection::from(own.ranges().chain(other.ranges()).collect::<Vec<_>>());
                }
            }
            along.insert(chunked.shares, (chunked, own));
        }
        let count =
            |along: &[Selection]| along.iter().map(Selection::len).fold(1, u64::saturating_mul);
        along.into_values().map(|(chunked, along)| (chunked, count(&along))).collect()
    }

    /// Estimated memory in bytes for reading these columns of a tile: the stored bytes, one decoded chunk, and the
    /// values.
    #[must_use]
    pub fn cost(&self, columns: &[usize], block: &Block) -> usize {
        let cost = |&position: &usize| {
            let column = &self.columns[position];
            match &column.source {
                ColumnSource::Chunked(chunked) => {
                    chunked.cost(&column.dims, &column.needs(block.selections()))
                }
                ColumnSource::Derived { inputs, .. } => {
                    let own = block.rows().saturating_mul(8);
                    self.cost(inputs, block).saturating_add(own)
                }
                _ => 0,
            }
        };
        columns.iter().map(cost).fold(0, usize::saturating_add)
    }

    /// Estimated stored bytes of these columns of a tile: what takes memory between its fetch and its decoding.
    #[must_use]
    pub fn stored(&self, columns: &[usize], block: &Block) -> usize {
        let stored = |&position: &usize| {
            let column = &self.columns[position];
            match &column.source {
                ColumnSource::Chunked(chunked) => {
                    chunked.stored(&column.dims, &column.needs(block.selections()))
                }
                ColumnSource::Derived { inputs, .. } => self.stored(inputs, block),
                _ => 0,
            }
        };
        columns.iter().map(stored).fold(0, usize::saturating_add)
    }

    /// Whether chunks of some column are kept for other tiles. They are kept in the memory of [`Scan::share_memory`].
    #[must_use]
    pub fn shares_chunks(&self) -> bool {
        self.chunked().any(|(_, _, chunked)| !chunked.exclusive)
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
        let is_derived = |&position: &usize| self.columns[position].derived().is_some();
        let derived: Vec<usize> = columns.iter().copied().filter(is_derived).collect();
        let inputs = derived.iter().filter_map(|&position| self.columns[position].derived());
        let inputs = inputs.flat_map(|(_, inputs)| inputs.iter().copied());
        let wanted: Vec<(usize, Vec<Vec<u64>>)> = columns
            .iter()
            .copied()
            .chain(inputs)
            .filter_map(|position| {
                let column = &self.columns[position];
                let ColumnSource::Chunked(chunked) = &column.source else { return None };
                let needs = column.needs(block.selections());
                let mut chunks = chunked.part(&column.dims, &needs).chunks();
                let own = chunked.mapped.is_none() && column.input_of.is_none();
                if let Some(rows) = rows.filter(|_| own && chunks.len() > 1) {
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
        let task = tokio::spawn(async move {
            let fetched = scan.fetch_chunks(wanted).await;
            fetched.map(|fetched| Fetched { derived, ..fetched })
        });
        FetchTask { task, variable }
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
                let shared = self.shared_chunk(chunked, &(chunked.shares, chunk.clone()));
                let counted = &mut counts;
                let wanted = vec![chunk.clone()];
                shared
                    .fetch(async {
                        let (mut fetched, counts) = chunked.fetcher.fetch(wanted).await?;
                        *counted += counts;
                        Ok(fetched.pop().and_then(|(_, stored)| stored))
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
        let mut fetched =
            Fetched { columns: Vec::new(), derived: Vec::new(), counts: Counts::default() };
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
        let mut inputs: HashMap<usize, (ArrayRef, bool)> = HashMap::new();
        for (position, chunks) in fetched.columns {
            let column = &self.columns[position];
            let ColumnSource::Chunked(chunked) = &column.source else { continue };
            let needs = column.needs(tile.block().selections());
            let wanted = (column, chunked.as_ref(), needs.as_slice());
            let (values, nan_is_null) = self.decode_column(wanted, chunks, &mut decoded).await?;
            match column.input_of {
                Some(_) => {
                    inputs.insert(position, (values, nan_is_null));
                }
                None => tile.set(position, values, nan_is_null),
            }
            tokio::task::yield_now().await;
        }
        for position in fetched.derived {
            let wanted = tile.block().selections();
            let derived = self.derive(position, &inputs, (tile.block(), 0, wanted)).await?;
            tile.set(position, derived.values, derived.nan_is_null);
            tokio::task::yield_now().await;
        }
        Ok(decoded)
    }

    /// Decodes the chunks of a column, for the cells of a selection. Returns values with whether NaN is NULL.
    async fn decode_column(
        &self,
        (column, chunked, needs): (&ScanColumn, &Chunked, &[Selection]),
        chunks: FetchedColumn,
        decoded: &mut Decoded,
    ) -> Result<(ArrayRef, bool)> {
        let part = chunked.part(&column.dims, needs);
        let chunks = chunks.encoded();
        if chunks.iter().all(|(_, encoded)| matches!(encoded, EncodedChunk::Own(None))) {
            let start = Instant::now();
            let values = chunked.fill(&part, &self.recycler)?;
            let values = chunked.placed(values, &column.dims, needs, &self.recycler)?;
            decoded.time += start.elapsed();
            return Ok((values, false));
        }
        let mut chunks = chunks.into_iter().peekable();
        let mut assembly = Assembly::new(&part, &self.recycler)?;
        if chunks.len() < part.count_chunks() {
            assembly.fill();
        }
        while let Some((chunk, encoded)) = chunks.next() {
            let start = Instant::now();
            let stored = self.decode_chunk((chunked, &part), &chunk, encoded, decoded)?;
            assembly.add(&chunk, stored);
            decoded.time += start.elapsed();
            if chunks.peek().is_some() {
                tokio::task::yield_now().await;
            }
        }
        let start = Instant::now();
        let values = chunked.finish(assembly, &column.dims, needs)?;
        decoded.time += start.elapsed();
        Ok(values)
    }

    /// Decodes a chunk, unless another tile has decoded it. `None` if it isn't stored.
    fn decode_chunk(
        &self,
        (chunked, part): (&Chunked, &Part<'_>),
        chunk: &[u64],
        encoded: EncodedChunk,
        decoded: &mut Decoded,
    ) -> Result<Option<StoredValues>> {
        let bytes = chunked.variable.reader()?.codec.decoded_bytes_at(chunk);
        match encoded {
            EncodedChunk::Own(None) => Ok(None),
            EncodedChunk::Own(Some(stored)) => {
                decoded.bytes += bytes;
                part.decode_stored(chunk, &stored, &self.recycler).map(Some)
            }
            EncodedChunk::Shared(shared) => {
                let key = (chunked.shares, chunk.to_vec());
                self.shared.decoded(&key, &shared, |stored| {
                    decoded.bytes += bytes;
                    part.decode_stored(chunk, stored, &self.recycler)
                })
            }
        }
    }

    /// Decodes fetched chunks, but computes no column: [`Scan::next_strip`] does that for a part of the tile at a time.
    /// Yields to other tasks between two chunks.
    ///
    /// # Errors
    /// [`Error::Chunk`] if the bytes are corrupt.
    pub async fn strips(&self, fetched: Fetched, tile: &Tile) -> Result<(Strips, Decoded)> {
        let mut decoded = Decoded::default();
        let mut columns = Vec::with_capacity(fetched.columns.len());
        for (position, chunks) in fetched.columns {
            let column = &self.columns[position];
            let ColumnSource::Chunked(chunked) = &column.source else { continue };
            let needs = column.needs(tile.block().selections());
            let part = chunked.part(&column.dims, &needs);
            let mut own = HashMap::new();
            for (chunk, encoded) in chunks.encoded() {
                let start = Instant::now();
                let stored = self.decode_chunk((chunked, &part), &chunk, encoded, &mut decoded)?;
                own.insert(chunk, stored);
                decoded.time += start.elapsed();
                tokio::task::yield_now().await;
            }
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
    /// [`Error::Decode`] if a value has no meaning, or can't be computed.
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
        let wanted = part.chunks();
        let stored = |chunk: &Vec<u64>| chunks.get(chunk).and_then(Option::as_ref);
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

    /// Computes a column for the cells of `wanted`, a strip of a tile, from values of its inputs.
    async fn derive(
        &self,
        position: usize,
        inputs: &HashMap<usize, (ArrayRef, bool)>,
        (tile, strip, wanted): (&Block, usize, &[Selection]),
    ) -> Result<Values> {
        let column = &self.columns[position];
        let Some((derive, positions)) = column.derived() else {
            return Err(Error::Decode {
                array: "a column".to_owned(),
                reason: "it isn't computed".to_owned(),
            });
        };
        let needs = needs(derive.as_ref(), wanted);
        let values = positions.iter().map(|input| match inputs.get(input) {
            Some(values) => Ok(values.clone()),
            None => Ok((self.columns[*input].local_values(&needs)?.whole()?, false)),
        });
        let values: Vec<(ArrayRef, bool)> = values.collect::<Result<_>>()?;
        let recycler = &self.recycler;
        let of = |carried| Inputs { values: &values, needs: &needs, wanted, carried, recycler };
        match derive.continues() {
            None => derive.derive(of(None)),
            Some(Continues { dim, .. }) => {
                let own = CarriedStrip { column: position, block: tile, strip, dim };
                let carried = self.carries.wait(own, &self.tiles).await;
                let mut derived = derive.derive(of(carried))?;
                // The tile behind becomes the state's only owner.
                let state = derived.carried.take();
                self.carries.hand_on(own, &self.tiles, state);
                Ok(derived)
            }
        }
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
        let unpacking = reader.decoding.unpacking();
        let nan_is_null = unpacking.is_some() || reader.decoding.only_finds_nan();
        let plain = reader.decoding.is_plain();
        let is_full = self.columns[column].dims.len() == self.tiles.shape().len();
        if (!nan_is_null && !plain) || !is_full || chunked.mapped.is_some() {
            return None;
        }
        let (_, chunks) = fetched.columns.iter().find(|(own, _)| *own == column)?;
        let FetchedColumn::Exclusive(chunks) = chunks else { return None };
        let part = chunked.part(&self.columns[column].dims, block.selections());
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
        Some(pieces::EncodedColumn { variable, chunks, nan_is_null, unpacking, recycler })
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
            let values = self.columns[position].local_values(tile.block().selections())?;
            tile.set(position, values, false);
        }
        Ok(())
    }

    fn shared_chunk(&self, chunked: &Chunked, key: &ChunkKey) -> Arc<SharedChunk> {
        let uses = self
            .chunked()
            .filter(|(_, _, other)| other.shares == chunked.shares)
            .map(|(_, column, other)| other.uses(column, &self.tiles, &key.1))
            .fold(0, u64::saturating_add);
        let bytes = chunked.variable.reader().map_or(0, |reader| reader.codec.decoded_bytes());
        self.shared.get(key, usize::try_from(uses).unwrap_or(usize::MAX), bytes)
    }
}

/// Source of a column of a grid of this shape.
fn source(column: &Column, shape: &[u64], options: &ScanOptions) -> Result<ColumnSource> {
    column.check_readable()?;
    let is_local = column.is_local(shape.len(), options.held_bytes);
    let chunked = |stored: &StoredColumn, mapped| -> Result<ColumnSource> {
        let variable = &stored.variable;
        let mut fetcher = Fetcher::new(variable)?;
        if variable.location().local_path().is_some() {
            if let Some(store) = &options.store {
                fetcher = fetcher.with_store(Arc::clone(store));
            }
            fetcher = fetcher.with_page_cache(options.page_cache.clone());
        }
        let (variable, axes) = (Arc::clone(variable), stored.axes.clone());
        Ok(ColumnSource::Chunked(Box::new(Chunked::new(variable, axes, mapped, fetcher))))
    };
    match column.values() {
        ColumnValues::Index => return Ok(ColumnSource::Index),
        ColumnValues::Present(maps) => return Ok(ColumnSource::Present(Arc::clone(maps))),
        ColumnValues::Derived(derive) => {
            let derive = Arc::clone(derive);
            return Ok(ColumnSource::Derived { derive, inputs: Vec::new() });
        }
        ColumnValues::Stored(stored) if !is_local => return chunked(stored, None),
        ColumnValues::Mapped(mapped) if !is_local => {
            if let ColumnValues::Stored(stored) = mapped.column.values() {
                return chunked(stored, Some(Arc::clone(mapped)));
            }
        }
        _ => {}
    }
    let shape = column.dims.iter().map(|&d| shape[d]).collect();
    Ok(ColumnSource::Held { column: column.clone(), shape })
}

/// Finds the columns that read the same chunks, and those whose chunks are needed once only.
fn share(columns: &mut [ScanColumn], tiles: &Tiles) {
    let mut variables: Vec<Option<Arc<Variable>>> = Vec::with_capacity(columns.len());
    for column in columns.iter() {
        variables.push(match &column.source {
            ColumnSource::Chunked(chunked) => Some(Arc::clone(&chunked.variable)),
            _ => None,
        });
    }
    let same = |one: &Option<Arc<Variable>>, other: &Option<Arc<Variable>>| match (one, other) {
        (Some(one), Some(other)) => one.is_same_array(other),
        _ => false,
    };
    for (position, column) in columns.iter_mut().enumerate() {
        let own = &variables[position];
        let first = variables.iter().position(|other| same(own, other)).unwrap_or(position);
        let alone = variables.iter().filter(|other| same(own, other)).count() == 1;
        let is_input = column.input_of.is_some();
        if let ColumnSource::Chunked(chunked) = &mut column.source {
            chunked.shares = first;
            chunked.exclusive = alone && !is_input && chunked.is_of_one_tile(&column.dims, tiles);
        }
    }
}
