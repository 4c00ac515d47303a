//! Writes one array: boxes and cells go into chunks, and these into objects.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    buffer::Buffer,
    datatypes::DataType,
};
use bytes::Bytes;
use object_store::PutPayload;

use super::{
    cells::{for_each_run, shared},
    chunk::{CellValues, ChunkValues, OpenChunk},
    memory::{Account, Reserved},
    objects::OpenShard,
    store::Written,
    target::Target,
};
use crate::{
    Error, Result,
    dataset::{
        NewArray, ZarrFormat, chain::Chain, codec_spec::CodecRefusal, dtype::ElementType,
        shard::ShardLayout,
    },
    format::zarr::written::WrittenArray,
    grid::{ChunkGrid, Region, checked_product, unravel},
};

/// The memory of a text that waits for its chunk, beside its bytes.
const ITEM_BYTES: usize = 32;

/// The most chunks of an array: each has a bit.
const MOST_CHUNKS: u64 = 1 << 32;

/// Writes the chunks of an array, or its shards. Many tasks may write at once.
///
/// A chunk is encoded and written by the task that brings the last of its cells, or by [`ArrayWriter::finish`] where
/// cells are left. Chunks that hold only the fill value aren't stored.
#[derive(Debug)]
pub struct ArrayWriter {
    name: String,
    described: WrittenArray,
    element: ElementType,
    chain: Chain,
    /// The chunks that are encoded one by one.
    grid: ChunkGrid,
    /// The objects.
    objects: ChunkGrid,
    shards: Option<ShardLayout>,
    fill: Vec<u8>,
    /// Whether chunks of the fill value alone are stored too, since readers don't know what else they would be.
    stores_fill: bool,
    open: Mutex<OpenChunks>,
    open_shards: Mutex<HashMap<u64, OpenShard>>,
    target: Arc<Target>,
    account: Account,
    chunks: AtomicU64,
    written: AtomicU64,
    bytes: AtomicU64,
}

/// Values of a box as they are stored.
#[derive(Clone, Debug)]
pub struct StoredCells(Cells);

#[derive(Clone, Debug)]
enum Cells {
    Fixed(Buffer),
    Items(ArrayRef),
}

/// The chunks of which cells have come.
#[derive(Debug, Default)]
struct OpenChunks {
    slots: HashMap<u64, Arc<Mutex<Slot>>>,
    /// A bit for each chunk that was given to its codecs.
    done: Vec<u64>,
}

#[derive(Debug, Default)]
enum Slot {
    #[default]
    New,
    Open(OpenChunk),
    /// All cells have come.
    Done,
}

impl ArrayWriter {
    pub(super) fn new(
        array: &NewArray,
        format: ZarrFormat,
        target: &Arc<Target>,
        account: &Account,
    ) -> Result<Self> {
        let failed = |reason: String| Error::Write { location: array.name.clone(), reason };
        let described = WrittenArray::new(array, format)?;
        let encoding = described.spec.encoding.as_ref().map_err(|reason| failed(reason.clone()))?;
        let element = array.element.clone();
        let rank = array.shape.len();
        let chain = Chain::new(encoding.chunk_codecs(), &element, rank, &encoding.fill);
        let chain = chain.map_err(|refusal| match refusal {
            CodecRefusal::Invalid(reason) => failed(reason),
            CodecRefusal::Unknown(codec) => failed(format!("the codec '{codec}' can't be written")),
        })?;
        let grid = encoding.grid.clone();
        let most = chain.most_bytes(grid.chunk_shape()).map_err(failed)?;
        // Texts wait for their chunk in places of their own.
        let cells =
            checked_product(grid.chunk_shape()).and_then(|cells| usize::try_from(cells).ok());
        let places =
            cells.unwrap_or(usize::MAX).saturating_mul(element.size().unwrap_or(ITEM_BYTES));
        let most = most.max(places);
        if most > crate::Limits::default().chunk_bytes as usize {
            return Err(failed(format!(
                "chunks of the shape {:?} take {most} bytes, more than 2 GiB: choose smaller ones",
                grid.chunk_shape()
            )));
        }
        if grid.len() > MOST_CHUNKS {
            return Err(failed(format!(
                "it would have {} chunks, more than {MOST_CHUNKS}: choose larger ones",
                grid.len()
            )));
        }
        let layout = &described.spec.layout;
        let shards = ShardLayout::of_array(&encoding.codecs, layout).map(|(shards, _)| shards);
        let (objects, fill) = (layout.grid.clone(), encoding.fill.clone());
        Ok(Self {
            name: array.name.clone(),
            element,
            chain,
            grid,
            objects,
            shards,
            fill,
            stores_fill: format == ZarrFormat::V2 && array.fill_value.is_null(),
            described,
            open: Mutex::default(),
            open_shards: Mutex::default(),
            target: Arc::clone(target),
            account: account.clone(),
            chunks: AtomicU64::new(0),
            written: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// The array's name in its group.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The grid of the chunks that are encoded one by one.
    #[must_use]
    pub fn chunk_grid(&self) -> &ChunkGrid {
        &self.grid
    }

    /// The grid of the objects: of shards if the array has any, otherwise of chunks.
    #[must_use]
    #[expect(clippy::misnamed_getters, reason = "the grid that callers write by is the objects'")]
    pub fn grid(&self) -> &ChunkGrid {
        &self.objects
    }

    /// Writes the values of a box, in C order. No cell may be written twice. NULL is the fill value.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] for cells outside of the array, [`Error::Encode`] for values of another type or number,
    /// and those of the store and of [`WriteMemory`](super::WriteMemory).
    pub async fn write(&self, at: &Region, values: &ArrayRef) -> Result<()> {
        self.write_part(at, at, &self.stored(values)?).await
    }

    /// The values of a box as they are stored, for [`ArrayWriter::write_part`].
    ///
    /// # Errors
    /// [`Error::Encode`] for values of another type.
    pub fn stored(&self, values: &ArrayRef) -> Result<StoredCells> {
        Ok(StoredCells(match self.stored_elements(values)? {
            Some(bytes) => Cells::Fixed(bytes),
            None => Cells::Items(Arc::clone(values)),
        }))
    }

    /// Writes a part of a box, of whose values all are given, in C order: tasks may share the parts of a large box. No
    /// cell may be written twice.
    ///
    /// # Errors
    /// Those of [`ArrayWriter::write`], and [`Error::OutOfBounds`] for a part outside of the box.
    pub async fn write_part(&self, at: &Region, part: &Region, values: &StoredCells) -> Result<()> {
        match &values.0 {
            Cells::Fixed(bytes) => self.write_box(at, part, CellValues::Fixed(bytes)).await,
            Cells::Items(items) => self.write_box(at, part, CellValues::Items(items)).await,
        }
    }

    /// Writes the elements of a box as they are stored, in C order and native byte order. No cell may be written twice.
    ///
    /// # Errors
    /// Those of [`ArrayWriter::write`].
    pub async fn write_elements(&self, at: &Region, elements: &[u8]) -> Result<()> {
        if self.element.size().is_none() {
            return Err(self.unfit("its elements have no fixed size".to_owned()));
        }
        self.write_box(at, at, CellValues::Fixed(elements)).await
    }

    /// Writes values of single cells, given by their positions in C order. NULL is the fill value.
    ///
    /// # Errors
    /// [`Error::WrittenTwice`] for a cell that was written before, and those of [`ArrayWriter::write`].
    pub async fn write_cells(&self, cells: &[u64], values: &ArrayRef) -> Result<()> {
        let plain = self.stored_elements(values)?;
        let values = match &plain {
            Some(bytes) => CellValues::Fixed(bytes),
            None => CellValues::Items(values),
        };
        self.check_count(cells.len() as u64, &values)?;
        let shape = self.grid.shape().to_vec();
        let all = checked_product(&shape).unwrap_or(u64::MAX);
        let inner = shape.last().copied().unwrap_or(1).max(1);
        let mut first = 0;
        while let Some(&cell) = cells.get(first) {
            if cell >= all {
                return Err(self.out_of_bounds(format!("cell {cell}"), &shape));
            }
            let indices = unravel(cell, &shape);
            let dims = indices.iter().enumerate();
            let chunk: Vec<u64> = dims.map(|(dim, at)| self.grid.chunk_at(dim, *at)).collect();
            // Cells that follow each other in a row of the chunk.
            let row_end = match (indices.last(), chunk.last()) {
                (Some(_), Some(&last)) => {
                    self.grid.chunk_range(chunk.len() - 1, last).end.min(inner)
                }
                _ => 1,
            };
            let room = row_end - indices.last().copied().unwrap_or(0);
            let follow = cells[first..].iter().zip(cell..cell + room);
            let len = follow.take_while(|(own, next)| *own == next).count();
            let place = self.place_in_chunk(&indices, &chunk);
            let complete = self.add(&chunk, |open, size| {
                if let Some(again) = open.came_once(place, len, size) {
                    let mut indices = indices.clone();
                    if let Some(last) = indices.last_mut() {
                        *last += (again - place) as u64;
                    }
                    return Err(Error::WrittenTwice { array: self.name.clone(), cell: indices });
                }
                open.values.copy(values, first, place, len);
                Ok(())
            })?;
            if let Some(complete) = complete {
                self.complete(&chunk, complete).await?;
            }
            first += len;
        }
        Ok(())
    }

    /// Writes chunks of which cells are left: those have the fill value. Several tasks may share the work: each takes
    /// chunks until there are none.
    ///
    /// # Errors
    /// Those of [`ArrayWriter::write`].
    pub async fn finish(&self) -> Result<()> {
        loop {
            let next = {
                let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                let number = open.slots.keys().next().copied();
                number.and_then(|number| Some((number, open.end(number)?)))
            };
            let Some((number, slot)) = next else { break };
            let taken = {
                let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::replace(&mut *slot, Slot::Done)
            };
            if let Slot::Open(chunk) = taken {
                self.complete(&self.grid.indices(number), chunk).await?;
            }
        }
        Ok(())
    }

    /// Writes shards of which chunks are left, after all chunks were finished.
    pub(super) async fn finish_shards(&self) -> Result<()> {
        let Some(layout) = &self.shards else { return Ok(()) };
        let left: Vec<(u64, OpenShard)> = {
            let mut open = self.open_shards.lock().unwrap_or_else(PoisonError::into_inner);
            open.drain().collect()
        };
        for (number, shard) in left {
            self.put_shard(&self.objects.indices(number), &shard, layout).await?;
        }
        Ok(())
    }

    pub(super) fn described(&self) -> &WrittenArray {
        &self.described
    }

    pub(super) fn written(&self) -> Written {
        Written {
            chunks: self.chunks.load(Ordering::Relaxed),
            objects: self.written.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            peak_bytes: 0,
        }
    }

    /// The bytes of Arrow's values as elements, NULL as the fill value. `None` for texts and byte strings.
    fn stored_elements(&self, values: &ArrayRef) -> Result<Option<Buffer>> {
        let expected = self.element.data_type();
        if *values.data_type() != expected {
            let found = values.data_type();
            return Err(self.unfit(format!("values are {found}, and its elements {expected}")));
        }
        let Some(width) = self.element.size() else { return Ok(None) };
        let bytes = if expected == DataType::Boolean {
            values.as_boolean().values().iter().map(u8::from).collect::<Vec<u8>>().into()
        } else {
            let data = values.to_data();
            let (start, len) = (data.offset() * width, values.len() * width);
            let whole = data.buffers().first().filter(|own| own.len() >= start + len);
            let whole = whole.ok_or_else(|| self.unfit("values lack bytes".to_owned()))?;
            whole.slice_with_length(start, len)
        };
        let Some(nulls) = values.nulls().filter(|nulls| nulls.null_count() > 0) else {
            return Ok(Some(bytes));
        };
        let mut filled = bytes.to_vec();
        let elements = filled.chunks_exact_mut(width).zip(nulls.iter());
        for (element, _) in elements.filter(|(_, is_valid)| !is_valid) {
            element.copy_from_slice(&self.fill);
        }
        Ok(Some(filled.into()))
    }

    /// Writes the cells `part` of the box `at`.
    async fn write_box(&self, at: &Region, part: &Region, values: CellValues<'_>) -> Result<()> {
        let shape = self.grid.shape();
        let all = Region { start: vec![0; shape.len()], shape: shape.to_vec() };
        for (inner, outer) in [(at, &all), (part, at)] {
            if !is_inside(inner, outer) {
                let asked = format!("box {:?} + {:?}", inner.start, inner.shape);
                return Err(self.out_of_bounds(asked, &outer.shape));
            }
        }
        self.check_count(at.cells(), &values)?;
        if part.cells() == 0 {
            return Ok(());
        }
        let ranges: Vec<(u64, u64)> = (0..shape.len())
            .map(|dim| {
                let first = self.grid.chunk_at(dim, part.start[dim]);
                (first, self.grid.chunk_at(dim, part.start[dim] + part.shape[dim] - 1) - first + 1)
            })
            .collect();
        let counts: Vec<u64> = ranges.iter().map(|(_, count)| *count).collect();
        for number in 0..counts.iter().product() {
            let along = unravel(number, &counts).into_iter().zip(&ranges);
            let chunk: Vec<u64> = along.map(|(index, (first, _))| first + index).collect();
            let own = self.grid.region_at(&chunk);
            let Some(common) = shared(part, &own) else { continue };
            // The chunk as it lies in memory, with what is beyond the array's edges.
            let whole = Region { start: own.start.clone(), shape: self.grid.shape_at(&chunk) };
            let complete = self.add(&chunk, |open, _| {
                for_each_run(&common, at, &whole, |from, to, len| {
                    open.values.copy(values, from, to, len);
                });
                open.came(common.cells());
                Ok(())
            })?;
            if let Some(complete) = complete {
                self.complete(&chunk, complete).await?;
            }
        }
        Ok(())
    }

    /// Adds cells to a chunk. Returns the chunk if it is complete.
    fn add(
        &self,
        chunk: &[u64],
        add: impl FnOnce(&mut OpenChunk, usize) -> Result<()>,
    ) -> Result<Option<OpenChunk>> {
        let number = number(chunk, self.grid.counts());
        let shape = self.grid.shape_at(chunk);
        let cells = checked_product(&shape).and_then(|cells| usize::try_from(cells).ok());
        let cells = cells.ok_or_else(|| self.unfit("a chunk has too many cells".to_owned()))?;
        let again = || {
            let cell = self.grid.region_at(chunk).start;
            Error::WrittenTwice { array: self.name.clone(), cell }
        };
        let slot = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.slot(number).ok_or_else(again)?
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, Slot::New) {
            let width = self.element.size().unwrap_or(ITEM_BYTES);
            let memory = self.account.take(cells.saturating_mul(width))?;
            let values = ChunkValues::filled(&self.element, &self.fill, cells);
            let own = self.grid.region_at(chunk).cells();
            *slot = Slot::Open(OpenChunk::new(values, own, memory));
        }
        let Slot::Open(opened) = &mut *slot else { return Err(again()) };
        add(opened, cells)?;
        if !opened.is_complete() {
            return Ok(None);
        }
        let complete = std::mem::replace(&mut *slot, Slot::Done);
        drop(slot);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).end(number);
        Ok(match complete {
            Slot::Open(chunk) => Some(chunk),
            Slot::New | Slot::Done => None,
        })
    }

    /// Encodes a chunk and writes it, or adds it to its shard.
    async fn complete(&self, chunk: &[u64], open: OpenChunk) -> Result<()> {
        let encoded = self.encoded(chunk, open)?;
        if encoded.is_some() {
            self.chunks.fetch_add(1, Ordering::Relaxed);
        }
        let Some(layout) = &self.shards else {
            let Some((bytes, _memory)) = encoded else { return Ok(()) };
            return self.put(chunk, bytes.into()).await;
        };
        let object: Vec<u64> =
            chunk.iter().zip(layout.counts()).map(|(chunk, count)| chunk / count).collect();
        let number = number(&object, self.objects.counts());
        let complete = {
            let mut open = self.open_shards.lock().unwrap_or_else(PoisonError::into_inner);
            let shard = open
                .entry(number)
                .or_insert_with(|| OpenShard::new(layout, self.chunks_of(&object, layout)));
            shard.add(layout.number(chunk), encoded);
            if shard.is_complete() { open.remove(&number) } else { None }
        };
        match complete {
            Some(shard) => self.put_shard(&object, &shard, layout).await,
            None => Ok(()),
        }
    }

    /// The bytes of a chunk. `None` if it has only the fill value.
    fn encoded(&self, chunk: &[u64], open: OpenChunk) -> Result<Option<(Bytes, Reserved)>> {
        let OpenChunk { values, .. } = open;
        if !self.stores_fill && values.are_fill(&self.fill) {
            return Ok(None);
        }
        let shape = self.grid.shape_at(chunk);
        let stored = values.stored(&self.fill);
        let encoded = stored.and_then(|values| self.chain.encode(&values, &shape));
        let bytes = Bytes::from(encoded.map_err(|reason| self.unfit(reason))?);
        let memory = self.account.take(bytes.len())?;
        Ok(Some((bytes, memory)))
    }

    async fn put_shard(
        &self,
        object: &[u64],
        shard: &OpenShard,
        layout: &ShardLayout,
    ) -> Result<()> {
        match shard.payload(layout) {
            Some(payload) => self.put(object, payload).await,
            None => Ok(()),
        }
    }

    async fn put(&self, object: &[u64], payload: PutPayload) -> Result<()> {
        let len = payload.content_length() as u64;
        self.target.put(&self.described.key(object), payload).await?;
        self.written.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    /// The chunks of a shard that have cells of the array.
    fn chunks_of(&self, object: &[u64], layout: &ShardLayout) -> u64 {
        let dims = object.iter().zip(layout.counts()).zip(self.grid.counts());
        dims.map(|((object, count), all)| all.saturating_sub(object * count).min(*count)).product()
    }

    /// The place of a cell in its chunk.
    fn place_in_chunk(&self, indices: &[u64], chunk: &[u64]) -> usize {
        let shape = self.grid.shape_at(chunk);
        let dims = indices.iter().zip(chunk).zip(&shape).enumerate();
        let place = dims.fold(0, |place, (dim, ((index, chunk), size))| {
            place * size + (index - self.grid.chunk_range(dim, *chunk).start)
        });
        usize::try_from(place).unwrap_or(usize::MAX)
    }

    fn check_count(&self, cells: u64, values: &CellValues<'_>) -> Result<()> {
        let found = match values {
            CellValues::Fixed(bytes) => {
                (bytes.len() / self.element.size().unwrap_or(1).max(1)) as u64
            }
            CellValues::Items(items) => items.len() as u64,
        };
        if found == cells {
            return Ok(());
        }
        Err(self.unfit(format!("{found} values aren't those of {cells} cells")))
    }

    fn unfit(&self, reason: String) -> Error {
        Error::Encode { array: self.name.clone(), reason }
    }

    fn out_of_bounds(&self, asked: String, shape: &[u64]) -> Error {
        Error::OutOfBounds { array: self.name.clone(), asked, has: format!("{shape:?}") }
    }
}

impl OpenChunks {
    /// The chunk of this number. `None` if it is done.
    fn slot(&mut self, number: u64) -> Option<Arc<Mutex<Slot>>> {
        let (word, bit) = place(number);
        if self.done.get(word).is_some_and(|word| word & bit != 0) {
            return None;
        }
        Some(Arc::clone(self.slots.entry(number).or_default()))
    }

    /// Ends a chunk. Returns it if it was open.
    fn end(&mut self, number: u64) -> Option<Arc<Mutex<Slot>>> {
        let (word, bit) = place(number);
        if self.done.len() <= word {
            self.done.resize(word + 1, 0);
        }
        self.done[word] |= bit;
        self.slots.remove(&number)
    }
}

/// The number, in C order, of the chunk or object at these indices of a grid.
fn number(indices: &[u64], counts: &[u64]) -> u64 {
    indices.iter().zip(counts).fold(0, |number, (index, count)| number * count + index)
}

/// Whether all cells of a box are in another.
fn is_inside(inner: &Region, outer: &Region) -> bool {
    let rank = outer.shape.len();
    inner.start.len() == rank
        && inner.shape.len() == rank
        && (0..rank).all(|dim| {
            let end = |own: &Region| own.start[dim].checked_add(own.shape[dim]);
            inner.start[dim] >= outer.start[dim]
                && end(inner).is_some_and(|own| end(outer).is_some_and(|all| own <= all))
        })
}

/// The word and the bit of a chunk.
fn place(number: u64) -> (usize, u64) {
    // Bounded by `MOST_CHUNKS`.
    ((number / 64) as usize, 1 << (number % 64))
}
