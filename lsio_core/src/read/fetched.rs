//! Fetching the columns of a tile, in a task of its own.

use std::sync::Arc;

use arrow::buffer::BooleanBuffer;
use futures::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use tokio::task::JoinHandle;

use super::{
    fetch::FetchedChunks,
    part::holds_wanted_row,
    pieces::{self, Pieces},
    scan::Scan,
    shared::{ChunkKey, SharedChunk},
    source::{Chunked, ColumnSource},
    stored::Stored,
    tiles::Block,
};
use crate::{Error, Result, Variable, chunks::ChunkIndex, transport::Counts};

/// Decoded bytes of a chunk below which a block of several isn't visited in pieces.
const LEAST_PIECE: usize = 4 << 10;

/// Stored bytes of some columns of a tile.
#[derive(Debug)]
pub struct Fetched {
    pub(super) columns: Vec<(usize, FetchedColumn)>,
    /// Columns that are computed from fetched ones.
    pub(super) derived: Vec<usize>,
    counts: Counts,
}

#[derive(Debug)]
pub(super) enum FetchedColumn {
    Exclusive(FetchedChunks),
    Shared(Vec<(ChunkIndex, Arc<SharedChunk>)>),
}

/// A running fetch. Dropping the handle cancels it.
#[derive(Debug)]
pub struct FetchTask {
    task: JoinHandle<Result<Fetched>>,
    /// The first variable that is fetched, for messages.
    variable: Option<Arc<Variable>>,
}

pub(super) enum EncodedChunk {
    Own(Stored),
    Shared(Arc<SharedChunk>),
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

impl FetchedColumn {
    /// Chunks with their indices.
    pub(super) fn encoded(self) -> Vec<(ChunkIndex, EncodedChunk)> {
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

impl Scan {
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
        let wanted: Vec<(usize, Vec<ChunkIndex>)> = columns
            .iter()
            .copied()
            .chain(inputs)
            .filter_map(|position| {
                let column = &self.columns[position];
                let ColumnSource::Chunked(chunked) = &column.source else { return None };
                let needs = column.needs(block.selections());
                let mut chunks: Vec<ChunkIndex> =
                    chunked.part(&column.dims, &needs).chunks().collect();
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

    async fn fetch_chunks(&self, wanted: Vec<(usize, Vec<ChunkIndex>)>) -> Result<Fetched> {
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
            let chunks = stream::iter(chunks).map(|chunk| async move {
                let mut counts = Counts::default();
                let shared = self.shared_chunk(chunked, &(chunked.shares, chunk.clone()));
                let counted = &mut counts;
                let wanted = vec![chunk.clone()];
                shared
                    .fetch(async {
                        let (mut fetched, counts) = chunked.fetcher.fetch(wanted).await?;
                        *counted += counts;
                        Ok(fetched.pop().map(|(_, stored)| stored))
                    })
                    .await?;
                Ok::<_, Error>((chunk, shared, counts))
            });
            let mut counts = Counts::default();
            let mut shared = Vec::new();
            let mut chunks = chunks.buffered(chunked.fetcher.at_once());
            while let Some((chunk, content, more)) = chunks.try_next().await? {
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

    fn shared_chunk(&self, chunked: &Chunked, key: &ChunkKey) -> Arc<SharedChunk> {
        let uses = self
            .chunked()
            .filter(|(_, _, other)| other.shares == chunked.shares)
            .map(|(_, column, other)| other.uses(column, &self.tiles, &key.1))
            .fold(0, u64::saturating_add);
        let bytes = chunked.variable.reader().map_or(0, |reader| reader.codec.decoded_bytes());
        self.shared.get(key, usize::try_from(uses).unwrap_or(usize::MAX), bytes)
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
        // Many small chunks are decoded into one block: the fixed cost of a piece would be more than its own.
        let bytes = reader.codec.decoded_bytes();
        let are_small = chunks.len() > 1 && bytes < LEAST_PIECE;
        if chunks.len() != part.count_chunks() || are_small || reader.codec.has_items() {
            return None;
        }
        let storage = reader.codec.storage();
        let chunks = chunks
            .iter()
            .map(|(chunk, stored)| {
                let gather = part.gather_from(chunk, &storage);
                pieces::Chunk::new(chunk.clone(), stored.clone(), &gather)
            })
            .collect::<Option<_>>()?;
        let (variable, recycler) = (Arc::clone(&chunked.variable), Arc::clone(&self.recycler));
        Some(pieces::EncodedColumn { variable, chunks, nan_is_null, unpacking, recycler })
    }
}
