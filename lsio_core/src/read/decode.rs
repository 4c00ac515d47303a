//! Decoding the fetched chunks of a tile.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use arrow::array::ArrayRef;

use super::{
    carry::CarriedStrip,
    fetched::{EncodedChunk, Fetched, FetchedColumn},
    part::{Assembly, Part},
    scan::Scan,
    source::{Chunked, ColumnSource, ScanColumn, needs},
    tile::{Tile, TileArray},
    tiles::Block,
};
use crate::{
    Error, Result, Selection,
    dataset::{Continues, Inputs, StoredValues, Values},
    reduce::Unpacking,
};

/// Decoded bytes, and chunks, after which other tasks have their turn.
pub(super) const TURN_BYTES: usize = 256 << 10;
pub(super) const TURN_CHUNKS: usize = 64;

/// Cost of decoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the chunks after their codecs.
    pub bytes: usize,
    /// Time spent decoding, without the time of other tasks in between.
    pub time: Duration,
}

impl Scan {
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
            match column.input_of {
                Some(_) => {
                    let values = self.decode_column(wanted, chunks, None, &mut decoded).await?;
                    let (values, nan_is_null) = values;
                    inputs.insert(position, (values.whole()?, nan_is_null));
                }
                None => {
                    let rank = self.tiles.shape().len();
                    let later = chunked.unpacks_later(&column.dims, rank);
                    let (values, nan_is_null) =
                        self.decode_column(wanted, chunks, later, &mut decoded).await?;
                    tile.set(position, values, nan_is_null);
                }
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

    /// Computes a column for the cells of `wanted`, a strip of a tile, from values of its inputs.
    pub(super) async fn derive(
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

    /// Decodes a chunk, unless another tile has decoded it. `None` if it isn't stored.
    pub(super) fn decode_chunk(
        &self,
        (chunked, part): (&Chunked, &Part<'_>),
        chunk: &[u64],
        encoded: EncodedChunk,
        decoded: &mut Decoded,
    ) -> Result<Option<StoredValues>> {
        let bytes = chunked.variable.reader()?.codec.decoded_bytes_at(chunk);
        match encoded {
            EncodedChunk::Own(stored) => {
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

    /// Decodes the chunks of a column, for the cells of a selection: up to its packed numbers, if they are unpacked
    /// `later`. Returns values with whether NaN is NULL.
    async fn decode_column(
        &self,
        (column, chunked, needs): (&ScanColumn, &Chunked, &[Selection]),
        chunks: FetchedColumn,
        later: Option<Unpacking>,
        decoded: &mut Decoded,
    ) -> Result<(TileArray, bool)> {
        let part = chunked.part(&column.dims, needs);
        let chunks = chunks.encoded();
        if chunks.is_empty() {
            let start = Instant::now();
            let values = chunked.fill(&part, &self.recycler)?;
            let values = chunked.placed(values, &column.dims, needs, &self.recycler)?;
            decoded.time += start.elapsed();
            return Ok((values.into(), false));
        }
        let mut chunks = chunks.into_iter().peekable();
        let mut assembly = Assembly::new(&part, &self.recycler)?;
        if chunks.len() < part.count_chunks() {
            assembly.fill();
        }
        let (mut start, mut bytes) = (Instant::now(), decoded.bytes);
        for number in 1_usize.. {
            let Some((chunk, encoded)) = chunks.next() else { break };
            let stored = self.decode_chunk((chunked, &part), &chunk, encoded, decoded)?;
            assembly.add(&chunk, stored);
            let is_turn = decoded.bytes - bytes >= TURN_BYTES || number % TURN_CHUNKS == 0;
            if is_turn && chunks.peek().is_some() {
                decoded.time += start.elapsed();
                tokio::task::yield_now().await;
                (start, bytes) = (Instant::now(), decoded.bytes);
            }
        }
        let values = match later {
            Some(unpacking) => match assembly.finish_stored()? {
                StoredValues::Fixed(numbers) => (TileArray::packed(numbers, unpacking), false),
                StoredValues::Items(items) => (items.into(), false),
            },
            None => {
                let (values, nan_is_null) = chunked.finish(assembly, &column.dims, needs)?;
                (values.into(), nan_is_null)
            }
        };
        decoded.time += start.elapsed();
        Ok(values)
    }
}
