//! One array of a dataset: its dimensions, attributes and values.

use std::sync::{Arc, atomic::AtomicBool};

use arrow::datatypes::DataType;

use super::{
    attributes::Attributes,
    calendar::Calendar,
    codec::ChunkCodec,
    decoding::Decoding,
    dtype::ElementType,
    layout::{Layout, ZarrFormat},
    names::Dimensions,
    spec::ArraySpec,
};
use crate::{
    Error, Location, OpenOptions, Result,
    chunks::Chunks,
    error::{short, warn_once},
    grid::ChunkGrid,
};

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

/// An array whose dimensions have names, of which a variable is made.
#[derive(Debug)]
pub(crate) struct NamedArray<'a> {
    pub(crate) name: String,
    pub(crate) location: Location,
    pub(crate) spec: ArraySpec,
    pub(crate) dimensions: Dimensions,
    /// The attributes that say what values mean, where they aren't the array's own.
    pub(crate) decoded_by: Option<&'a Attributes>,
}

/// How the chunks of a variable become values.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) chunks: Chunks,
    pub(crate) codec: ChunkCodec,
    pub(crate) decoding: Decoding,
    /// Whether values were out of range, and that has been told.
    pub(crate) has_lost: Arc<AtomicBool>,
}

impl Variable {
    pub(crate) fn new(array: NamedArray<'_>, options: &OpenOptions) -> Self {
        let NamedArray { name, location, spec, dimensions, decoded_by } = array;
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
            let chunks = Arc::clone(&encoding.chunks);
            let codec = ChunkCodec::new(&layout, element, encoding, options.limits.chunk_bytes)?;
            Ok(Reader { chunks, codec, decoding, has_lost: Arc::default() })
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

    /// The name of the place of a chunk in its store, relative to the array where it lies below that: its key, or
    /// that of its shard.
    #[must_use]
    pub fn chunk_name(&self, chunk: &[u64]) -> String {
        self.reader().map(|reader| reader.chunks.name(chunk)).unwrap_or_default()
    }

    /// An error that names a chunk, and where it is.
    pub(crate) fn broken_chunk(&self, chunk: &[u64], reason: String) -> Error {
        let (chunk, key) = (chunk.to_vec(), self.chunk_name(chunk));
        Error::Chunk { array: self.path(), chunk, key, reason }
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
