//! The description of an array that is to be written.

use arrow::datatypes::DataType;

use super::{
    attributes::{Attribute, Attributes},
    compression_choice::Compression,
    dtype::ElementType,
};
use crate::{Error, Result, grid::ChunkGrid};

/// An array that is to be written: its dimensions, chunks and stored type.
///
/// ```
/// use arrow::datatypes::DataType;
/// use lsio_core::write::NewArray;
///
/// # fn main() -> lsio_core::Result<()> {
/// let t2m = NewArray::new("t2m", &DataType::Float32, &[("time", 24), ("latitude", 181)])?
///     .with_chunks(vec![6, 181])?
///     .with_compression("blosc-zstd:3".parse()?);
/// assert_eq!(t2m.chunk_shape(), [6, 181]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct NewArray {
    pub(crate) name: String,
    pub(crate) dims: Vec<String>,
    pub(crate) shape: Vec<u64>,
    /// The shape of the chunks that are compressed one by one, in elements.
    pub(crate) chunks: Vec<u64>,
    /// The shape of the objects, in elements. `None` if each chunk is an object.
    pub(crate) shards: Option<Vec<u64>>,
    pub(crate) element: ElementType,
    /// The value of cells that aren't written. `Null` for none.
    pub(crate) fill_value: Attribute,
    pub(crate) compression: Compression,
    pub(crate) attributes: Attributes,
}

impl NewArray {
    /// An array of one chunk, whose elements are stored as Arrow's type has them: booleans, integers, floats, texts or
    /// bytes. Cells that aren't written are NaN, 0, false or empty.
    ///
    /// # Errors
    /// [`Error::Write`] if the type isn't one of those.
    pub fn new(name: &str, data_type: &DataType, dims: &[(&str, u64)]) -> Result<Self> {
        let element = ElementType::of_arrow(data_type).ok_or_else(|| Error::Write {
            location: name.to_owned(),
            reason: format!("values of the type {data_type} have no type in Zarr"),
        })?;
        let shape: Vec<u64> = dims.iter().map(|(_, size)| *size).collect();
        let fill_value = match &element {
            element if element.is_float() => Attribute::Text("NaN".to_owned()),
            ElementType::Bool => Attribute::Bool(false),
            ElementType::Utf8 | ElementType::Binary => Attribute::Text(String::new()),
            _ => Attribute::Int(0),
        };
        Ok(Self {
            name: name.to_owned(),
            dims: dims.iter().map(|(name, _)| (*name).to_owned()).collect(),
            chunks: shape.iter().map(|size| (*size).max(1)).collect(),
            shape,
            shards: None,
            element,
            fill_value,
            compression: Compression::default(),
            attributes: Attributes::default(),
        })
    }

    /// The same array with chunks of this shape, in elements.
    ///
    /// # Errors
    /// [`Error::Write`] if the shape has another number of dimensions or a size of 0.
    pub fn with_chunks(self, chunks: Vec<u64>) -> Result<Self> {
        if ChunkGrid::new(self.shape.clone(), chunks.clone()).is_none() {
            let reason =
                format!("an array of the shape {:?} can't have chunks of {chunks:?}", self.shape);
            return Err(self.unfit(reason));
        }
        Ok(Self { chunks, ..self })
    }

    /// The same array with chunks in shards of this shape, in elements: each dimension of a shard is a multiple of a
    /// chunk's. Only Zarr v3 has shards.
    ///
    /// # Errors
    /// [`Error::Write`] if chunks don't divide the shards.
    pub fn with_shards(self, shards: Vec<u64>) -> Result<Self> {
        let mut sizes = shards.iter().zip(&self.chunks);
        let divides = sizes.all(|(shard, chunk)| *shard > 0 && shard.is_multiple_of(*chunk));
        if shards.len() != self.chunks.len() || !divides {
            let reason = format!(
                "chunks of the shape {:?} don't divide shards of {shards:?}: each size of a shard must be a multiple of the chunk's",
                self.chunks
            );
            return Err(self.unfit(reason));
        }
        Ok(Self { shards: Some(shards), ..self })
    }

    /// The same array with another value in cells that aren't written. It marks no missing values: the attribute
    /// `_FillValue` does.
    #[must_use]
    pub fn with_fill_value(self, fill_value: Attribute) -> Self {
        Self { fill_value, ..self }
    }

    /// The same array, compressed in this way.
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// The same array with these attributes.
    #[must_use]
    pub fn with_attributes(self, attributes: Attributes) -> Self {
        Self { attributes, ..self }
    }

    /// The array's name in its group.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of the dimensions, slowest first.
    #[must_use]
    pub fn dims(&self) -> &[String] {
        &self.dims
    }

    /// The size of each dimension, in elements.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The shape of the chunks that are compressed one by one, in elements.
    #[must_use]
    pub fn chunk_shape(&self) -> &[u64] {
        &self.chunks
    }

    /// The shape of the objects in the store, in elements: of shards if there are any, otherwise of chunks.
    #[must_use]
    pub fn object_shape(&self) -> &[u64] {
        self.shards.as_deref().unwrap_or(&self.chunks)
    }

    fn unfit(&self, reason: String) -> Error {
        Error::Write { location: self.name.clone(), reason }
    }
}

impl ElementType {
    /// The type that stores Arrow's values as they are.
    fn of_arrow(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Bool,
            DataType::Int8 => Self::Int8,
            DataType::Int16 => Self::Int16,
            DataType::Int32 => Self::Int32,
            DataType::Int64 => Self::Int64,
            DataType::UInt8 => Self::UInt8,
            DataType::UInt16 => Self::UInt16,
            DataType::UInt32 => Self::UInt32,
            DataType::UInt64 => Self::UInt64,
            DataType::Float16 => Self::Float16,
            DataType::Float32 => Self::Float32,
            DataType::Float64 => Self::Float64,
            DataType::Utf8View => Self::Utf8,
            DataType::BinaryView => Self::Binary,
            _ => return None,
        })
    }
}
