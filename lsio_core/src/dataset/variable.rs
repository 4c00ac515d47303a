//! One array of a dataset: its dimensions, attributes and values.

use std::{
    collections::BTreeMap,
    iter,
    sync::{Arc, atomic::AtomicBool},
};

use arrow::{
    array::{ArrayRef, new_empty_array},
    datatypes::DataType,
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path as ObjectPath;

use super::{
    attributes::Attributes, calendar::Calendar, codec::ChunkCodec, decoding::Decoding,
    dtype::ElementType, layout::Layout, names::Dimensions, spec::ArraySpec,
};
use crate::{
    Error, Location, OpenOptions, Result, Selection,
    error::{short, warn_once},
    format::zarr::documents::ZarrFormat,
    grid::{ChunkGrid, Region},
    location::join,
    read::{Assembly, Fetcher, Part},
    recycle::Recycler,
};

/// The objects of one variable that are read at the same time by [`Variable::read`].
const CONCURRENT_READS: usize = 16;

/// One array of a dataset.
///
/// A variable is there even if it can't be read: [`Variable::unreadable`] then says why, and so does
/// every attempt.
#[derive(Debug)]
pub struct Variable {
    name: String,
    location: Location,
    dims: Vec<String>,
    attributes: Attributes,
    layout: Layout,
    chunk_grid: ChunkGrid,
    element: Option<ElementType>,
    data_type: DataType,
    reader: Result<Reader, String>,
    /// What was ignored of the metadata.
    warnings: Vec<String>,
    /// What was taken though it isn't as the specification has it.
    deviations: Vec<String>,
}

/// How the chunks of a variable become values.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) codec: ChunkCodec,
    pub(crate) decoding: Decoding,
    /// Whether values were out of range, and that has been told.
    pub(crate) has_lost: Arc<AtomicBool>,
}

impl Variable {
    /// `decoded_by` are the attributes that say what values mean, where they aren't the array's own.
    pub(crate) fn new(
        name: String,
        location: Location,
        spec: ArraySpec,
        dimensions: Dimensions,
        decoded_by: Option<&Attributes>,
        options: &OpenOptions,
    ) -> Self {
        let ArraySpec { layout, attributes, element, encoding, fill_attribute, .. } = spec;
        // xarray masks Zarr v2's fill value, and opens only arrays with named dimensions.
        let fill_is_mask = options
            .use_zarr_fill_value_as_mask
            .unwrap_or(layout.format == ZarrFormat::V2 && dimensions.named);
        let fill = fill_attribute.as_ref().filter(|_| fill_is_mask);
        let mut warnings = Vec::new();
        let mut warn = |text: String| warnings.push(text);
        let decoding = element.as_ref().map(|element| {
            let attributes = decoded_by.unwrap_or(&attributes);
            Decoding::new(element.clone(), attributes, fill, options, &mut warn)
        });
        // What has no known type can't be read: every use of it will be an error that says why. Until
        // then it is taken for a number, so that no planner finds fault with something else first.
        let data_type = decoding.as_ref().map_or(DataType::Float64, Decoding::data_type);
        let reader = encoding.and_then(|encoding| {
            let (Some(element), Some(decoding)) = (&element, decoding) else {
                return Err("its data type isn't supported".to_owned());
            };
            let codec = ChunkCodec::new(&layout, element, encoding, options.limits.chunk_bytes)?;
            Ok(Reader { codec, decoding, has_lost: Arc::default() })
        });
        let chunk_grid = match &reader {
            Ok(Reader { codec, .. }) => codec.grid().clone(),
            Err(_) => layout.grid.clone(),
        };
        Self {
            name,
            location,
            dims: dimensions.names,
            attributes,
            layout,
            chunk_grid,
            element,
            data_type,
            reader,
            warnings,
            deviations: spec.deviations,
        }
    }

    /// The name in its group.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the array is stored.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The names of the dimensions, slowest first.
    #[must_use]
    pub fn dims(&self) -> &[String] {
        &self.dims
    }

    /// The sizes of the dimensions.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.layout.shape
    }

    /// The attributes, as stored.
    #[must_use]
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// An attribute that is a text.
    #[must_use]
    pub fn text_attribute(&self, key: &str) -> Option<&str> {
        self.attributes.text(key)
    }

    /// Chunks, codecs and stored type.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The grid of the objects in the store: of the shards, where there are shards.
    #[must_use]
    pub fn grid(&self) -> &ChunkGrid {
        &self.layout.grid
    }

    /// The grid of the chunks, which are decoded one by one. They are inside the objects where those
    /// are shards, and the same otherwise.
    #[must_use]
    pub fn chunk_grid(&self) -> &ChunkGrid {
        &self.chunk_grid
    }

    /// The type of the decoded values; Float64 if the stored type is unknown, and the variable
    /// unreadable.
    #[must_use]
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// The calendar, if the variable is a time that is decoded as text.
    #[must_use]
    pub fn text_calendar(&self) -> Option<Calendar> {
        self.reader.as_ref().ok().and_then(|reader| reader.decoding.text_calendar())
    }

    /// Why the variable can't be read.
    #[must_use]
    pub fn unreadable(&self) -> Option<&str> {
        self.reader.as_ref().err().map(String::as_str)
    }

    /// Logs what was ignored of the metadata, once a process: whoever reads or shows the variable is to
    /// know, and nobody else.
    pub fn log_warnings(&self) {
        for warning in &self.warnings {
            warn_once(&format!("{}: {}", self.location.name(), short(warning)));
        }
        for deviation in &self.deviations {
            log::info!("{}: {deviation}", self.location.name());
        }
    }

    /// Fails if the variable can't be read.
    ///
    /// # Errors
    /// [`Error::Unreadable`] with the codec or data type that is the matter.
    pub fn check_readable(&self) -> Result<()> {
        self.reader().map(|_| ())
    }

    /// The bytes of a value, decoded: strings, and what else is of any length, count as 16.
    #[must_use]
    pub fn value_bytes(&self) -> u64 {
        let stored = || self.element.as_ref().and_then(ElementType::size).unwrap_or(0).max(16);
        self.data_type.primitive_width().unwrap_or_else(stored) as u64
    }

    /// The bytes of all values, decoded.
    #[must_use]
    pub fn decoded_bytes(&self) -> u64 {
        let width = self.value_bytes();
        self.layout.shape.iter().fold(width, |bytes, &size| bytes.saturating_mul(size))
    }

    /// The bytes of a stored element, if they are always as many and its type is supported.
    #[must_use]
    pub fn stored_width(&self) -> Option<u64> {
        self.element.as_ref().and_then(ElementType::size).map(|size| size as u64)
    }

    /// Fetches the stored bytes of a chunk; `None` if it isn't stored.
    ///
    /// # Errors
    /// [`Error::Unreadable`], [`Error::Store`], and [`Error::OutOfBounds`] if the grid has no such chunk.
    pub async fn fetch_chunk(&self, chunk: &[u64]) -> Result<Option<Bytes>> {
        self.check_chunk(chunk)?;
        let (mut fetched, _) = Fetcher::new(self)?.fetch(self, vec![chunk.to_vec()]).await?;
        let Some((_, Some(stored))) = fetched.pop() else { return Ok(None) };
        stored.bytes(&Arc::default()).map(Some).map_err(|reason| self.broken_chunk(chunk, reason))
    }

    /// Decodes a chunk to its values in C order, cells beyond the array's edges left out. `None`
    /// stands for a chunk that isn't stored: all its cells have the fill value. The values may lie in
    /// memory of the recycler.
    ///
    /// # Errors
    /// [`Error::Chunk`] if the bytes are corrupt, [`Error::Decode`] if a value has no meaning,
    /// [`Error::OutOfBounds`] if the grid has no such chunk.
    pub fn decode_chunk(
        &self,
        chunk: &[u64],
        encoded: Option<&Bytes>,
        recycler: &Arc<Recycler>,
    ) -> Result<ArrayRef> {
        self.check_chunk(chunk)?;
        let region = self.chunk_grid.region_at(chunk);
        let part = Part::of(self, &region);
        let stored = encoded.map(|encoded| part.decode(chunk, encoded, recycler)).transpose()?;
        let mut assembly = Assembly::new(&part, recycler)?;
        assembly.add(chunk, stored);
        assembly.finish()
    }

    /// Reads a region, in C order. Chunks that lie in it are fetched at the same time, each once.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] if the region has other dimensions than the array, or reaches beyond it;
    /// else those of [`Variable::fetch_chunk`] and [`Variable::decode_chunk`].
    pub async fn read(&self, region: &Region) -> Result<ArrayRef> {
        let fits = region.start.len() == region.shape.len()
            && region.shape.len() == self.dims.len()
            && region.start.iter().zip(&region.shape).zip(self.shape()).all(
                |((start, size), whole)| start.checked_add(*size).is_some_and(|end| end <= *whole),
            );
        if !fits {
            let asked = format!("region of shape {:?} at {:?}", region.shape, region.start);
            return Err(self.out_of_bounds(asked));
        }
        self.read_part(&Part::of(self, region)).await
    }

    /// Reads the cells at which selections of all dimensions meet, in C order: the shape of the result is
    /// the lengths of the selections. Chunks without such a cell aren't fetched.
    ///
    /// # Errors
    /// Those of [`Variable::read`].
    pub async fn read_selected(&self, wanted: &[Selection]) -> Result<ArrayRef> {
        let fits = wanted.len() == self.dims.len()
            && wanted.iter().zip(self.shape()).all(|(own, size)| own.bounds().end <= *size);
        if !fits {
            let bounds: Vec<_> = wanted.iter().map(Selection::bounds).collect();
            return Err(self.out_of_bounds(format!("selection of indices in {bounds:?}")));
        }
        let axes: Vec<usize> = (0..wanted.len()).collect();
        self.read_part(&Part::new(self, &axes, wanted.to_vec())).await
    }

    /// Reads some of the values, all of them within the array.
    ///
    /// # Errors
    /// Those of [`Variable::read`].
    pub(crate) async fn read_part(&self, part: &Part<'_>) -> Result<ArrayRef> {
        let fetcher = Fetcher::new(self)?;
        if part.is_empty() {
            return Ok(new_empty_array(&self.data_type));
        }
        // The chunks of an object in one go, and some objects at a time.
        let mut objects: BTreeMap<Vec<u64>, Vec<Vec<u64>>> = BTreeMap::new();
        for chunk in part.chunks() {
            objects.entry(self.object(&chunk)).or_default().push(chunk);
        }
        let mut fetched = stream::iter(objects.into_values())
            .map(|chunks| fetcher.fetch(self, chunks))
            .buffered(CONCURRENT_READS);
        let recycler = Arc::default();
        let mut assembly = Assembly::new(part, &recycler)?;
        while let Some((chunks, _)) = fetched.try_next().await? {
            // One at a time, so that there is no more than one in memory.
            for (chunk, encoded) in chunks {
                let stored =
                    encoded.map(|e| part.decode_stored(&chunk, &e, &recycler)).transpose()?;
                assembly.add(&chunk, stored);
            }
        }
        assembly.finish()
    }

    /// Reads all values, in C order.
    ///
    /// # Errors
    /// Those of [`Variable::read`].
    pub async fn read_all(&self) -> Result<ArrayRef> {
        let shape = self.layout.shape.clone();
        self.read(&Region { start: vec![0; shape.len()], shape }).await
    }

    /// The indices of the object that holds a chunk.
    pub(crate) fn object(&self, chunk: &[u64]) -> Vec<u64> {
        let objects = self.grid();
        let first = |dim: usize, index: u64| self.chunk_grid.chunk_range(dim, index).start;
        let of = |(dim, index): (usize, &u64)| objects.chunk_at(dim, first(dim, *index));
        chunk.iter().enumerate().map(of).collect()
    }

    /// The path of an object in its store.
    ///
    /// # Errors
    /// [`Error::Chunk`] if the key is no path.
    pub(crate) fn object_path(&self, object: &[u64]) -> Result<ObjectPath> {
        let key = self.reader()?.codec.key(object);
        join(self.location.path(), &key).map_err(|reason| self.chunk_error(object, reason))
    }

    /// # Errors
    /// [`Error::OutOfBounds`] if the grid has no chunk at these indices.
    fn check_chunk(&self, chunk: &[u64]) -> Result<()> {
        let counts = self.chunk_grid.counts();
        if chunk.len() == counts.len() && chunk.iter().zip(counts).all(|(at, count)| at < count) {
            return Ok(());
        }
        Err(Error::OutOfBounds {
            array: self.path(),
            asked: format!("chunk {chunk:?}"),
            has: format!("a grid of {counts:?} chunks"),
        })
    }

    fn out_of_bounds(&self, asked: String) -> Error {
        Error::OutOfBounds {
            array: self.path(),
            asked,
            has: format!("of shape {:?}", self.shape()),
        }
    }

    /// An error that names an object.
    pub(crate) fn chunk_error(&self, object: &[u64], reason: String) -> Error {
        let key = self.reader().map(|reader| reader.codec.key(object)).unwrap_or_default();
        Error::Chunk { array: self.path(), chunk: object.to_vec(), key, reason }
    }

    /// An error that names a chunk, and the object that it is in: that may be a shard.
    pub(crate) fn broken_chunk(&self, chunk: &[u64], reason: String) -> Error {
        let key = self.reader().map(|reader| {
            let counts = reader.codec.shards().map_or(&[][..], |shards| shards.counts());
            let counts = counts.iter().chain(iter::repeat(&1));
            let object: Vec<u64> =
                chunk.iter().zip(counts).map(|(at, count)| at / count.max(&1)).collect();
            reader.codec.key(&object)
        });
        let key = key.unwrap_or_default();
        Error::Chunk { array: self.path(), chunk: chunk.to_vec(), key, reason }
    }

    /// An error of the store that names an object.
    pub(crate) fn store_error(&self, object: &[u64], source: object_store::Error) -> Error {
        let key = self.reader().map(|reader| reader.codec.key(object)).unwrap_or_default();
        Error::Store { key: format!("{}/{key}", self.path()), source }
    }

    /// The path of the array, for messages.
    pub(crate) fn path(&self) -> String {
        self.location.name().to_owned()
    }

    /// How chunks become values.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub(crate) fn reader(&self) -> Result<&Reader> {
        self.reader
            .as_ref()
            .map_err(|reason| Error::Unreadable { array: self.path(), reason: reason.clone() })
    }
}
