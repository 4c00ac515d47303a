//! Decodes columns of a tile a piece at a time, into memory that stays in the CPU's cache.
//!
//! A reduction doesn't need all values at once. Bytes in the page cache, the blocks of Blosc and those of Zstandard come in pieces anyway:
//! these are never written to memory as a whole.

use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::buffer::Buffer;
use bytes::Bytes;

use super::{
    decode::Decoded,
    stored::{CachedChunk, Stored},
};
use crate::{
    Error, Recycler, Result, Variable,
    dataset::{
        BloscBlocks, EncodedFrame, FRAME_HEADER, StoredValues, Stream, ZstdBlocks,
        gather::{Gather, is_aligned},
        unshuffle,
    },
    reduce::{StoredNumbers, Unpacking},
};

/// Reusable memory for pieces.
#[derive(Debug, Default)]
pub struct Scratch(Vec<PieceBuffer>);

/// Memory of one column, in 64-bit words so that every element type is aligned.
#[derive(Debug, Default)]
struct PieceBuffer {
    piece: Vec<u64>,
    block: Vec<u64>,
}

/// Columns of a tile, still encoded. Their chunks have the same shape.
#[derive(Debug)]
pub struct Pieces {
    columns: Vec<EncodedColumn>,
}

/// One column.
#[derive(Debug)]
pub(super) struct EncodedColumn {
    pub(super) variable: Arc<Variable>,
    pub(super) chunks: Vec<Chunk>,
    pub(super) nan_is_null: bool,
    /// How stored numbers become values, if they aren't values already.
    pub(super) unpacking: Option<Unpacking>,
    pub(super) recycler: Arc<Recycler>,
}

impl EncodedColumn {
    fn failed(&self, chunk: usize, reason: String) -> Error {
        self.variable.broken_chunk(&self.chunks[chunk].indices, reason)
    }
}

/// An encoded chunk, with the places of its cells in the tile.
#[derive(Debug)]
pub(super) struct Chunk {
    indices: Vec<u64>,
    stored: Stored,
    /// Runs of consecutive cells in the chunk's order: first cell in the chunk, first cell in the tile, number of
    /// cells.
    runs: Vec<(usize, usize, usize)>,
}

/// Bytes of a file that are read at a time: they fit the second-level cache.
const PIECE: usize = 256 << 10;

/// Mean run length in cells below which pieces are too small to pay off.
const SHORT_RUNS: usize = 512;

impl Chunk {
    /// `None` if the cells are scattered, or in another order than in the tile.
    pub(super) fn new(indices: Vec<u64>, stored: Stored, gather: &Gather) -> Option<Self> {
        let runs = gather.runs()?;
        let in_order = runs.windows(2).all(|pair| pair[0].0 + pair[0].2 <= pair[1].0);
        let cells: usize = runs.iter().map(|run| run.2).sum();
        let long = runs.len() == 1 || cells >= SHORT_RUNS * runs.len();
        (in_order && long).then_some(Self { indices, stored, runs })
    }
}

impl Pieces {
    /// `None` if the columns' chunks differ in shape.
    pub(super) fn new(columns: Vec<EncodedColumn>) -> Option<Self> {
        let (first, others) = columns.split_first()?;
        let alike = others.iter().all(|other| {
            let pairs = first.chunks.iter().zip(&other.chunks);
            first.chunks.len() == other.chunks.len() && pairs.clone().all(|(a, b)| a.runs == b.runs)
        });
        alike.then_some(Self { columns })
    }

    /// For each column, whether NaN is NULL.
    pub fn nan_is_null(&self) -> impl Iterator<Item = bool> {
        self.columns.iter().map(|column| column.nan_is_null)
    }

    /// Decodes the chunks. Calls `f` with up to `most` cells that are consecutive in the tile: the index of the first,
    /// and each column's numbers. Ends when `f` returns `Break`.
    ///
    /// # Errors
    /// [`crate::Error::Chunk`] if the bytes are corrupt.
    pub fn for_each(
        &self,
        scratch: &mut Scratch,
        most: usize,
        mut f: impl FnMut(usize, &[StoredNumbers<'_>]) -> ControlFlow<()>,
    ) -> Result<Decoded> {
        scratch.0.resize_with(self.columns.len().max(scratch.0.len()), PieceBuffer::default);
        let start = Instant::now();
        let mut used = Duration::ZERO;
        let mut bytes = 0;
        let chunks = self.columns.first().map_or(0, |column| column.chunks.len());
        'chunks: for number in 0..chunks {
            let mut readers = Vec::with_capacity(self.columns.len());
            for column in &self.columns {
                let reader = CellReader::new(column, &column.chunks[number]);
                readers.push(reader.map_err(|reason| column.failed(number, reason))?);
                let codec = &column.variable.reader()?.codec;
                bytes += codec.decoded_bytes_at(&column.chunks[number].indices);
            }
            let Some(runs) = self.columns.first().map(|column| &column.chunks[number].runs) else {
                break;
            };
            for &(source, target, len) in runs {
                let mut at = 0;
                while at < len {
                    let mut cells = most.min(len - at);
                    let all = readers.iter_mut().zip(&mut scratch.0).zip(&self.columns);
                    for ((reader, room), column) in all {
                        let available = reader.open(source + at, room);
                        let available =
                            available.map_err(|reason| column.failed(number, reason))?;
                        cells = cells.min(available.max(1));
                    }
                    let mut slices: Vec<StoredNumbers<'_>> = Vec::with_capacity(readers.len());
                    let all = readers.iter_mut().zip(&mut scratch.0).zip(&self.columns);
                    for ((reader, room), column) in all {
                        let PieceBuffer { piece, block } = room;
                        let slice = reader.get(source + at, cells, (piece, block));
                        let slice = slice.map_err(|reason| column.failed(number, reason))?;
                        slices.push(StoredNumbers::new(slice, column.unpacking.as_ref()));
                    }
                    let called = Instant::now();
                    let flow = f(target + at, &slices);
                    used += called.elapsed();
                    if flow.is_break() {
                        break 'chunks;
                    }
                    at += cells;
                }
            }
        }
        Ok(Decoded { bytes, time: start.elapsed().saturating_sub(used) })
    }
}

/// Reads any cells of a chunk; consecutive cells are fastest.
struct CellReader<'a> {
    width: usize,
    source: PieceSource<'a>,
}

enum PieceSource<'a> {
    /// Cells in their stored form, in a file that is in the page cache.
    File(&'a CachedChunk),
    /// Decoded cells.
    Memory(Buffer),
    /// Blocks of a frame of Zstandard.
    Zstd { blocks: ZstdBlocks, stored: &'a Stored },
    /// Blocks of Blosc, with the number of the one that is decoded.
    Blosc { encoded: Bytes, len: usize, current: Option<usize> },
}

impl<'a> CellReader<'a> {
    fn new(column: &EncodedColumn, chunk: &'a Chunk) -> Result<Self, String> {
        let codec = &column.variable.reader().map_err(|e| e.to_string())?.codec;
        let (width, len) = (codec.storage().width, codec.decoded_bytes_at(&chunk.indices));
        let source = match (codec.stream(), &chunk.stored) {
            (Stream::Plain, Stored::Cached(file)) => {
                if file.len() != len {
                    return Err(format!("it holds {} bytes instead of {len}", file.len()));
                }
                PieceSource::File(file)
            }
            (stream, stored) => {
                let frame = (stream == Stream::Zstd).then(|| zstd_blocks(stored, len, width));
                if let Some(blocks) = frame.transpose()?.flatten() {
                    return Ok(Self { width, source: PieceSource::Zstd { blocks, stored } });
                }
                let encoded = stored.bytes(&column.recycler)?;
                let blocks = (stream == Stream::Blosc)
                    .then(|| BloscBlocks::new(&encoded, len))
                    .flatten()
                    .filter(|blocks| in_blocks(blocks, width));
                if blocks.is_some() {
                    PieceSource::Blosc { encoded, len, current: None }
                } else {
                    match codec.decode(&chunk.indices, &encoded, &column.recycler)? {
                        StoredValues::Fixed(buffer) => PieceSource::Memory(buffer),
                        StoredValues::Items(_) => return Err("it holds strings".to_owned()),
                    }
                }
            }
        };
        Ok(Self { width, source })
    }

    /// Prepares cells from `at` on; returns the number of prepared cells.
    fn open(&mut self, at: usize, room: &mut PieceBuffer) -> Result<usize, String> {
        Ok(match &mut self.source {
            PieceSource::File(file) => (file.len() / self.width - at).min(PIECE / self.width),
            PieceSource::Memory(buffer) => (buffer.len() / self.width).saturating_sub(at),
            PieceSource::Zstd { blocks, stored } => {
                let block = bytes_of(&mut room.block, blocks.block_len());
                let read = |at: usize, out: &mut [u8]| match stored {
                    Stored::Cached(file) => file.read_at(at, out),
                    Stored::Bytes(_) => Ok(()),
                };
                let encoded = match stored {
                    Stored::Bytes(bytes) => EncodedFrame::Memory(bytes),
                    Stored::Cached(_) => EncodedFrame::File(&read),
                };
                blocks.open(at * self.width, block, encoded)? / self.width
            }
            PieceSource::Blosc { encoded, len, current } => {
                let Some(blocks) = BloscBlocks::new(encoded, *len) else { return Ok(0) };
                let in_block = blocks.block_len(0) / self.width;
                let number = at / in_block;
                let bytes = blocks.block_len(number);
                if *current != Some(number) {
                    *current = None;
                    blocks.decompress(number, bytes_of(&mut room.block, bytes))?;
                    *current = Some(number);
                }
                bytes / self.width - (at - number * in_block)
            }
        })
    }

    /// Bytes of `cells` cells that [`CellReader::open`] has prepared.
    fn get<'b>(
        &'b self,
        at: usize,
        cells: usize,
        (room, block): (&'b mut Vec<u64>, &'b mut Vec<u64>),
    ) -> Result<&'b [u8], String> {
        let (first, len) = (at * self.width, cells * self.width);
        match &self.source {
            PieceSource::File(file) => {
                let piece = bytes_of(room, len);
                file.read_at(first, piece)?;
                Ok(piece)
            }
            PieceSource::Memory(buffer) => {
                let bytes = buffer.get(first..first + len);
                let bytes = bytes.ok_or_else(|| "it has too few values".to_owned())?;
                if is_aligned(bytes, self.width) {
                    return Ok(bytes);
                }
                let piece = bytes_of(room, len);
                piece.copy_from_slice(bytes);
                Ok(piece)
            }
            PieceSource::Zstd { blocks, .. } => {
                let block = bytes_of(block, blocks.block_len()).get(blocks.within(first)..);
                let bytes = block.and_then(|block| block.get(..len));
                bytes.ok_or_else(|| "its block is too short".to_owned())
            }
            PieceSource::Blosc { encoded, len: all, .. } => {
                let blocks = BloscBlocks::new(encoded, *all);
                let blocks = blocks.ok_or_else(|| "its header is corrupt".to_owned())?;
                let in_block = blocks.block_len(0) / self.width;
                let (number, start) = (at / in_block, at % in_block);
                let block = bytes_of(block, blocks.block_len(number));
                if blocks.shuffled_width().is_none() {
                    return Ok(&block[start * self.width..][..len]);
                }
                let piece = bytes_of(room, len);
                unshuffle(block, self.width, start, piece);
                Ok(piece)
            }
        }
    }
}

/// Blocks of a stored chunk of `len` decoded bytes, if they pay off.
pub(super) fn zstd_blocks(
    stored: &Stored,
    len: usize,
    width: usize,
) -> Result<Option<ZstdBlocks>, String> {
    let mut head = [0; FRAME_HEADER];
    let (head, encoded) = match stored {
        Stored::Bytes(bytes) => (&bytes[..FRAME_HEADER.min(bytes.len())], bytes.len()),
        Stored::Cached(file) => {
            let head = &mut head[..FRAME_HEADER.min(file.len())];
            file.read_at(0, head)?;
            (&*head, file.len())
        }
    };
    Ok(ZstdBlocks::new(head, encoded, len, width))
}

/// Whether each block holds whole elements of this width in bytes.
pub(super) fn in_blocks(blocks: &BloscBlocks<'_>, width: usize) -> bool {
    let whole = blocks.block_len(0).is_multiple_of(width);
    whole && blocks.shuffled_width().is_none_or(|own| own == width)
}

/// The first `len` bytes of `words`, which grow as needed.
fn bytes_of(words: &mut Vec<u64>, len: usize) -> &mut [u8] {
    if words.len() * 8 < len {
        words.resize(len.div_ceil(8), 0);
    }
    // SAFETY: every pattern of bits is a byte as well as a word, and the bytes are those of the words.
    let (_, bytes, _) = unsafe { words.align_to_mut::<u8>() };
    &mut bytes[..len]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arrow::{
        array::{Array as _, AsArray as _},
        compute::{cast, concat},
        datatypes::{DataType, Float64Type},
    };

    use super::*;
    use crate::{
        Dataset, Location, OpenOptions, Selection,
        dataset::nan_to_null,
        read::{Scan, ScanOptions},
        uring::{Engine, PageCache, store},
    };
    use lsio_synthetic::{
        reanalysis::{self, Specification},
        write::Compression,
    };

    fn write(directory: &Path, compression: Compression, shards: Option<[u64; 3]>, packed: bool) {
        let spec = Specification {
            times: 5,
            latitudes: 170,
            longitudes: 512,
            chunks: [3, 100, 512],
            shards,
            compression,
            packed,
            one_chunk: false,
        };
        reanalysis::write(directory, &spec).unwrap();
    }

    /// All ways of making pieces give the values of whole tiles: in memory and in the page cache, chunks cut off at the
    /// edges, several blocks of Blosc per chunk.
    #[tokio::test]
    async fn pieces_are_the_values_of_tiles() {
        let codecs = [Compression::None, Compression::Zstd(1), Compression::BloscLz4(5)];
        for (number, compression) in codecs.into_iter().enumerate() {
            for (shards, packed) in [(None, false), (Some([3, 200, 512]), false), (None, true)] {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("store.zarr");
                write(&path, compression.clone(), shards, packed);
                let location = Location::parse(&path.to_string_lossy()).unwrap();
                let dataset = Dataset::open(&location, &OpenOptions::default()).await.unwrap();
                let table = dataset.table().unwrap();
                let columns: Vec<usize> = (0..table.columns.len())
                    .filter(|&c| table.columns[c].dims.len() == 3)
                    .collect();
                let all = table.dims.iter().map(|dim| Selection::all(dim.size)).collect();
                let some = vec![
                    [0..2, 4..5].into_iter().collect(),
                    std::iter::once(20..150).collect(),
                    Selection::all(512),
                ];
                for selection in [all, some] {
                    for page_cache in [None, PageCache::new(Engine::Auto).unwrap()] {
                        let options = ScanOptions {
                            store: Some(store(Engine::Auto).unwrap()),
                            page_cache,
                            ..ScanOptions::default()
                        };
                        let scan = Scan::new(&table, &columns, selection.clone(), &options);
                        let what = format!("{number} {shards:?} {packed}");
                        check(scan.unwrap(), columns.len(), packed, &what).await;
                    }
                }
            }
        }
    }

    async fn check(scan: Scan, columns: usize, packed: bool, what: &str) {
        let scan = Arc::new(scan);
        let all: Vec<usize> = (0..columns).collect();
        let mut scratch = Scratch::default();
        let data_type = if packed { DataType::Float64 } else { DataType::Float32 };
        for number in 0..scan.tiles().len() {
            let block = scan.tiles().block(number);
            let mut fetched = scan.fetch(&all, &block, None).join().await.unwrap();
            let pieces = scan.take_pieces(&mut fetched, &all, &block).unwrap();
            let mut given = vec![vec![f64::NAN; block.rows()]; columns];
            let most = 700;
            let decoded = pieces.for_each(&mut scratch, most, |first, slices| {
                for (given, numbers) in given.iter_mut().zip(slices) {
                    let values = numbers.array(&data_type).unwrap();
                    assert_eq!(values.len(), numbers.len(4), "{what}");
                    assert!((1..=most).contains(&values.len()), "{what}");
                    let values = cast(&values, &DataType::Float64).unwrap();
                    let values = values.as_primitive::<Float64Type>();
                    for (given, value) in given[first..].iter_mut().zip(values) {
                        *given = value.unwrap_or(f64::NAN);
                    }
                }
                ControlFlow::Continue(())
            });
            assert!(decoded.unwrap().bytes > 0);

            let fetched = scan.fetch(&all, &block, None).join().await.unwrap();
            let mut tile = scan.local(&[], block).unwrap();
            scan.decode(fetched, &mut tile).await.unwrap();
            for (column, given) in given.iter().enumerate() {
                assert_eq!(tile.packed(column).is_some(), packed, "{what}");
                let dims: Vec<usize> = (0..tile.block().shape().len()).collect();
                let rows = tile.rows(&dims, &[column]).unwrap();
                let halves = [0..rows.len() / 2, rows.len() / 2..rows.len()];
                let halves = halves.map(|own| rows.slice(own.start, own.len()).unwrap().remove(0));
                let (values, nan_is_null) = tile.whole(column).unwrap().unwrap();
                let own = nan_to_null(Arc::clone(&values), nan_is_null);
                let both = concat(&[halves[0].as_ref(), halves[1].as_ref()]).unwrap();
                assert_eq!(&both, &own, "{what}");
                assert_eq!(values.len(), given.len(), "{what}");
                let values = cast(&values, &DataType::Float64).unwrap();
                let values = values.as_primitive::<Float64Type>().iter();
                let alike = |(a, b): (Option<f64>, &f64)| a.map_or(b.is_nan(), |a| a == *b);
                assert!(values.zip(given).all(alike), "{what}");
            }
        }
    }
}
