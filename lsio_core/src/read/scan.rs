//! A scan of some columns of a table, tile by tile.

use std::{collections::HashMap, sync::Arc};

use futures::future::try_join_all;
use object_store::ObjectStore;

use super::{
    carry::Carries,
    columns::{share, source},
    shared::SharedChunks,
    source::{Chunked, ColumnSource, ScanColumn},
    strips::strip_shape,
    tile::Tile,
    tile_shape::tile_shape,
    tiles::{Block, Tiles},
};
use crate::{Column, Error, Recycler, Result, Selection, Table, dataset::Derive, uring::PageCache};

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
    pub(super) columns: Vec<ScanColumn>,
    pub(super) tiles: Tiles,
    /// Shape of a tile's strips.
    pub(super) strip: Vec<u64>,
    pub(super) recycler: Arc<Recycler>,
    pub(super) shared: SharedChunks,
    pub(super) carries: Carries,
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
    pub(super) fn chunked(&self) -> impl Iterator<Item = (usize, &ScanColumn, &Chunked)> {
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
}
