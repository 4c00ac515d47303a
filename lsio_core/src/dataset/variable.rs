//! One array of a dataset: its dimensions, attributes and values.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, atomic::AtomicBool},
};

use arrow::datatypes::DataType;

use super::{
    attributes::{Attribute, Attributes},
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
    chunks::SharedChunkSource,
    error::{short, warn_once},
    grid::ChunkGrid,
};

/// One array of a dataset.
///
/// A variable exists even if its values can't be read: [`Variable::unreadable`] and the error of every read give the
/// reason.
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
    fill_value: Option<Attribute>,
    /// Warnings about ignored metadata.
    warnings: Vec<String>,
    /// Accepted deviations of the metadata from the specification.
    deviations: Vec<String>,
    /// Digest of all that the variable is made of, but for its location and the options. `None` if that isn't known.
    digest: Option<u64>,
}

/// An array whose dimensions have names.
#[derive(Debug)]
pub(crate) struct NamedArray<'a> {
    pub(crate) name: String,
    pub(crate) location: Location,
    pub(crate) spec: ArraySpec,
    pub(crate) dimensions: Dimensions,
    /// Replaces the array's own attributes in decoding, as for the bounds of times.
    pub(crate) decoded_by: Option<&'a Attributes>,
}

/// Locates and decodes the chunks of a variable.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) chunks: SharedChunkSource,
    pub(crate) codec: ChunkCodec,
    pub(crate) decoding: Decoding,
    /// Whether a warning about values out of range was logged.
    pub(crate) has_lost: Arc<AtomicBool>,
}

impl Variable {
    pub(crate) fn new(array: NamedArray<'_>, options: &OpenOptions) -> Self {
        let NamedArray { name, location, spec, dimensions, decoded_by } = array;
        let ArraySpec { layout, attributes, element, encoding, fill_attribute, .. } = spec;
        let spec_digest = spec.digest;
        // As xarray does: it masks Zarr v2's fill value, and opens only arrays with named dimensions.
        let fill_is_mask = options
            .use_zarr_fill_value_as_mask
            .unwrap_or(layout.format == ZarrFormat::V2 && dimensions.named);
        let fill = fill_attribute.as_ref().filter(|_| fill_is_mask);
        let digest = spec_digest.map(|digest| {
            let mut hasher = DefaultHasher::new();
            // Spelled out: a document doesn't know its neighbours.
            let others = format!("{:?}{:?}{decoded_by:?}", dimensions.names, attributes);
            (digest, others, element.is_some()).hash(&mut hasher);
            hasher.finish()
        });
        let mut warnings = Vec::new();
        let mut warn = |text: String| warnings.push(text);
        let decoding = element.as_ref().map(|element| {
            let attributes = decoded_by.unwrap_or(&attributes);
            Decoding::new(element.clone(), attributes, fill, options, &mut warn)
        });
        // An array of unknown type can't be read: every read is an error with the reason. Until then its type is
        // Float64, so that a planner doesn't raise another error first.
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
            fill_value: fill_attribute,
            warnings,
            deviations: spec.deviations,
            digest,
        }
    }

    /// Whether both variables have the same metadata, so that what is read of one is what is read of the other at that time.
    pub(crate) fn is_described_as(&self, other: &Self) -> bool {
        let same_place = self.location.name() == other.location.name();
        let same_digest = self.digest.is_some() && self.digest == other.digest;
        same_place
            && same_digest
            && self.data_type == other.data_type
            && self.layout == other.layout
    }

    /// The variable's name in its group.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The location of the array in its store.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The names of the dimensions, slowest first.
    #[must_use]
    pub fn dims(&self) -> &[String] {
        &self.dims
    }

    /// The size of each dimension, in elements.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.layout.shape
    }

    /// The attributes, as stored.
    #[must_use]
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// The value of a text attribute. `None` if the attribute is missing or isn't text.
    #[must_use]
    pub fn text_attribute(&self, key: &str) -> Option<&str> {
        self.attributes.text(key)
    }

    /// The shape, chunks, codecs and stored data type.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The grid of the objects in the store: of shards if the array is sharded, otherwise of chunks.
    #[must_use]
    pub fn grid(&self) -> &ChunkGrid {
        &self.layout.grid
    }

    /// The grid of the chunks that are decoded one by one: the inner chunks if the array is sharded, otherwise the same
    /// as [`Variable::grid`].
    #[must_use]
    pub fn chunk_grid(&self) -> &ChunkGrid {
        &self.chunk_grid
    }

    /// The Arrow type of the decoded values. Float64 if the stored type isn't supported, which makes the variable
    /// unreadable.
    #[must_use]
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// The calendar of a time variable that is decoded as text; otherwise `None`.
    #[must_use]
    pub fn text_calendar(&self) -> Option<Calendar> {
        self.reader.as_ref().ok().and_then(|reader| reader.decoding.text_calendar())
    }

    /// The reason why the variable can't be read. `None` if it can.
    #[must_use]
    pub fn unreadable(&self) -> Option<&str> {
        self.reader.as_ref().err().map(String::as_str)
    }

    /// Logs warnings about ignored metadata, each once per process. Called only where the variable is read or shown, so
    /// that nobody is warned of variables that they don't use.
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
    /// [`Error::Unreadable`], which names the codec or data type that isn't supported.
    pub fn check_readable(&self) -> Result<()> {
        self.reader().map(|_| ())
    }

    /// The size of a decoded value in bytes. Strings and other values without a fixed width in Arrow count as their
    /// stored size, at least 16 bytes.
    #[must_use]
    pub fn value_bytes(&self) -> u64 {
        let stored = || self.element.as_ref().and_then(ElementType::size).unwrap_or(0).max(16);
        self.data_type.primitive_width().unwrap_or_else(stored) as u64
    }

    /// The size of all decoded values in bytes; an estimate for values of variable length.
    #[must_use]
    pub fn decoded_bytes(&self) -> u64 {
        let width = self.value_bytes();
        self.layout.shape.iter().fold(width, |bytes, &size| bytes.saturating_mul(size))
    }

    /// The fill value of cells that aren't stored, as the metadata state it. `None` if they don't.
    #[must_use]
    pub fn fill_value(&self) -> Option<&Attribute> {
        self.fill_value.as_ref()
    }

    /// numpy's name of the stored elements' type, in the machine's order of bytes. `None` if elements are of variable
    /// length, or numpy has no such type.
    #[must_use]
    pub fn numpy_dtype(&self) -> Option<String> {
        self.element.as_ref().and_then(ElementType::numpy_dtype)
    }

    /// The size of a stored element in bytes. `None` if the size varies or the data type isn't supported.
    #[must_use]
    pub fn stored_width(&self) -> Option<u64> {
        self.element.as_ref().and_then(ElementType::size).map(|size| size as u64)
    }

    /// The name of a chunk's place in the store, for messages: the key of the chunk or of its shard. Relative to the
    /// array, if the object is below the array. Empty if the variable can't be read.
    #[must_use]
    pub fn chunk_name(&self, chunk: &[u64]) -> String {
        self.reader().map(|reader| reader.chunks.name(chunk)).unwrap_or_default()
    }

    /// Whether both are the same array of the same store, opened once or twice, so that they have the same chunks.
    pub(crate) fn is_same_array(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        if Arc::ptr_eq(self, other) {
            return true;
        }
        // Told apart first by what costs nothing: a scan compares all of its columns. Fields of a structured array are
        // variables of other names at the same place.
        if self.name() != other.name() || self.data_type() != other.data_type() {
            return false;
        }
        let (own, other_location) = (self.location(), other.location());
        let same_place = match (own.local_path(), other_location.local_path()) {
            (Some(own), Some(other)) => own == other,
            (None, None) => {
                Arc::ptr_eq(own.store(), other_location.store())
                    && own.path() == other_location.path()
            }
            _ => false,
        };
        same_place && self.layout() == other.layout() && self.chunk_grid() == other.chunk_grid()
    }

    /// Makes an error that names a chunk and its key.
    pub(crate) fn broken_chunk(&self, chunk: &[u64], reason: String) -> Error {
        let (chunk, key) = (chunk.to_vec(), self.chunk_name(chunk));
        Error::Chunk { array: self.path(), chunk, key, reason }
    }

    /// The path of the array, for messages.
    pub(crate) fn path(&self) -> String {
        self.location.name().to_owned()
    }

    /// The reader of the variable's chunks.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if the variable can't be read.
    pub(crate) fn reader(&self) -> Result<&Reader> {
        self.reader
            .as_ref()
            .map_err(|reason| Error::Unreadable { array: self.path(), reason: reason.clone() })
    }
}
