//! One array of a dataset: its dimensions, attributes and values.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, MutableArrayData, UInt64Array, make_array, new_empty_array},
    compute::take,
    datatypes::DataType,
    error::ArrowError,
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{ObjectStore, ObjectStoreExt as _};
use serde_json::{Map, Value};

use super::{
    calendar::Calendar,
    codec::{ChunkCodec, Layout},
    decoding::Decoding,
    document::{ArrayDocument, ZarrFormat, is_missing},
    dtype::ElementType,
    names::Dimensions,
};
use crate::{
    Error, Location, OpenOptions, Result,
    grid::{Region, RegularGrid, positions, strides},
    location::join,
};

/// The chunks of one variable that are read at the same time by [`Variable::read`].
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
    attributes: Map<String, Value>,
    layout: Layout,
    grid: RegularGrid,
    element: Option<ElementType>,
    data_type: DataType,
    reader: Result<Reader, String>,
}

#[derive(Debug)]
struct Reader {
    codec: ChunkCodec,
    decoding: Decoding,
}

impl Variable {
    /// # Errors
    /// [`Error::Metadata`] if the shape is too large.
    pub(crate) fn new(
        name: String,
        location: Location,
        document: &ArrayDocument,
        layout: Layout,
        dimensions: Dimensions,
        options: &OpenOptions,
    ) -> Result<Self> {
        let metadata_error = |reason| Error::Metadata { key: document.key.clone(), reason };
        let grid = RegularGrid::new(layout.shape.clone(), layout.chunks.clone())
            .ok_or_else(|| metadata_error(format!("the shape {:?} is too large", layout.shape)))?;

        let element = match document.format {
            ZarrFormat::V2 => ElementType::from_v2(
                document.metadata.get("dtype").unwrap_or(&Value::Null),
                document.metadata.get("filters").unwrap_or(&Value::Null),
            ),
            ZarrFormat::V3 => {
                ElementType::from_v3(document.metadata.get("data_type").unwrap_or(&Value::Null))
            }
        };
        // xarray masks Zarr v2's fill value, and opens only arrays with named dimensions.
        let fill_is_mask = options
            .use_zarr_fill_value_as_mask
            .unwrap_or(document.format == ZarrFormat::V2 && dimensions.named);
        let fill = document.metadata.get("fill_value").filter(|v| fill_is_mask && !v.is_null());
        let mut warn = |text: String| log::warn!("{}: {text}", location.name());
        let decoding = element.as_ref().ok().map(|element| {
            Decoding::new(element.clone(), &document.attributes, fill, options, &mut warn)
        });
        // What can't be read has no type of its own: every use of it will be an error.
        let data_type = decoding.as_ref().map_or(DataType::Null, Decoding::data_type);
        let known = element.as_ref().ok().cloned();
        let reader = element.and_then(|element| {
            let codec = ChunkCodec::new(document, &layout, &element)?;
            decoding
                .map(|decoding| Reader { codec, decoding })
                .ok_or_else(|| "its data type isn't supported".to_owned())
        });
        Ok(Self {
            name,
            location,
            dims: dimensions.names,
            attributes: document.attributes.clone(),
            layout,
            grid,
            element: known,
            data_type,
            reader,
        })
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
    pub fn attributes(&self) -> &Map<String, Value> {
        &self.attributes
    }

    /// An attribute that is a text.
    #[must_use]
    pub fn text_attribute(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).and_then(Value::as_str)
    }

    /// Chunks, codecs and stored type.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The grid of the chunks (of the shards, where there are shards).
    #[must_use]
    pub fn grid(&self) -> &RegularGrid {
        &self.grid
    }

    /// The type of the decoded values; `Null` if the variable is unreadable.
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

    /// Fails if the variable can't be read.
    ///
    /// # Errors
    /// [`Error::Unreadable`] with the codec or data type that is the matter.
    pub fn check_readable(&self) -> Result<()> {
        self.reader().map(|_| ())
    }

    /// The bytes of all values, decoded: strings count as 16.
    #[must_use]
    pub fn decoded_bytes(&self) -> u64 {
        let width = self.data_type.primitive_width().unwrap_or(16) as u64;
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
    /// [`Error::Unreadable`] and [`Error::Store`].
    pub async fn fetch_chunk(&self, chunk: &[u64]) -> Result<Option<Bytes>> {
        self.fetch_chunk_from(self.location.store().as_ref(), chunk).await
    }

    /// The same from another object store that holds the same objects.
    ///
    /// # Errors
    /// Those of [`Variable::fetch_chunk`].
    pub async fn fetch_chunk_from(
        &self,
        store: &dyn ObjectStore,
        chunk: &[u64],
    ) -> Result<Option<Bytes>> {
        let key = self.key(chunk)?;
        let path = join(self.location.path(), &key).map_err(|reason| Error::Chunk {
            array: self.path(),
            chunk: chunk.to_vec(),
            key: key.clone(),
            reason,
        })?;
        let result = match store.get(&path).await {
            Ok(result) => result.bytes().await,
            Err(e) => Err(e),
        };
        match result {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if is_missing(&e) => Ok(None),
            Err(source) => Err(Error::Store { key: format!("{}/{key}", self.path()), source }),
        }
    }

    /// Decodes a chunk to its values in C order, cells beyond the array's edges left out. `None`
    /// stands for a chunk that isn't stored: all its cells have the fill value.
    ///
    /// # Errors
    /// [`Error::Chunk`] if the bytes are corrupt, [`Error::Decode`] if a value has no meaning.
    pub fn decode_chunk(&self, chunk: &[u64], encoded: Option<&Bytes>) -> Result<ArrayRef> {
        let reader = self.reader()?;
        let region = self.grid.region_at(chunk);
        let stored = match encoded {
            None => reader.codec.fill(index(region.cells())),
            Some(encoded) => reader
                .codec
                .decode(encoded)
                // Beyond the edges lies what writers left there: it may mean nothing.
                .and_then(|stored| stored.crop(self.grid.chunk_shape(), &region.shape)),
        };
        let stored = stored.map_err(|reason| Error::Chunk {
            array: self.path(),
            chunk: chunk.to_vec(),
            key: reader.codec.key(chunk),
            reason,
        })?;
        reader.decoding.apply(stored).map_err(|reason| Error::Decode { array: self.path(), reason })
    }

    /// Fetches and decodes a chunk.
    ///
    /// # Errors
    /// Those of [`Variable::fetch_chunk`] and [`Variable::decode_chunk`].
    pub async fn read_chunk(&self, chunk: &[u64]) -> Result<ArrayRef> {
        let encoded = self.fetch_chunk(chunk).await?;
        self.decode_chunk(chunk, encoded.as_ref())
    }

    /// Reads a region, in C order.
    ///
    /// # Errors
    /// Those of [`Variable::read_chunk`].
    pub async fn read(&self, region: &Region) -> Result<ArrayRef> {
        self.reader()?;
        if region.cells() == 0 {
            return Ok(new_empty_array(&self.data_type));
        }
        let chunks: Vec<(Vec<u64>, ArrayRef)> = stream::iter(self.grid.touching(region))
            .map(|chunk| async move {
                let array = self.read_chunk(&chunk).await?;
                Ok::<_, Error>((chunk, array))
            })
            .buffered(CONCURRENT_READS)
            .try_collect()
            .await?;
        self.assemble(region, &chunks)
    }

    /// Reads all values, in C order.
    ///
    /// # Errors
    /// Those of [`Variable::read_chunk`].
    pub async fn read_all(&self) -> Result<ArrayRef> {
        let shape = self.layout.shape.clone();
        self.read(&Region { start: vec![0; shape.len()], shape }).await
    }

    /// Puts together a region from the decoded chunks that it touches, given in C order.
    ///
    /// # Errors
    /// [`Error::Decode`] if a chunk that the region touches isn't among `chunks`.
    pub fn assemble(&self, region: &Region, chunks: &[(Vec<u64>, ArrayRef)]) -> Result<ArrayRef> {
        if let [(chunk, array)] = chunks
            && self.grid.region_at(chunk) == *region
        {
            return Ok(Arc::clone(array));
        }
        let chunk_shape = self.grid.chunk_shape();
        let missing = || Error::Decode {
            array: self.path(),
            reason: format!("not all chunks of {region:?} were read"),
        };
        let failed = |e: ArrowError| Error::Decode { array: self.path(), reason: e.to_string() };
        let data: Vec<_> = chunks.iter().map(|(_, array)| array.to_data()).collect();
        let cells = index(region.cells());
        let mut out = MutableArrayData::new(data.iter().collect(), false, cells);
        let boxes: Vec<(Region, Vec<u64>)> = chunks
            .iter()
            .map(|(chunk, _)| {
                let region = self.grid.region_at(chunk);
                let strides = strides(&region.shape);
                (region, strides)
            })
            .collect();
        let Some(inner) = region.shape.len().checked_sub(1) else {
            // A scalar.
            out.try_extend(0, 0, 1).map_err(failed)?;
            return Ok(make_array(out.freeze()));
        };
        // Along the innermost dimension cells lie side by side: copied a run at a time.
        let rows = region.cells() / region.shape[inner].max(1);
        let row_shape = &region.shape[..inner];
        for row in 0..rows {
            let mut at = crate::grid::unravel(row, row_shape);
            for (at, start) in at.iter_mut().zip(&region.start) {
                *at += start;
            }
            at.push(region.start[inner]);
            let end = region.start[inner] + region.shape[inner];
            while at[inner] < end {
                let chunk: Vec<u64> = at.iter().zip(chunk_shape).map(|(i, c)| i / c).collect();
                let source = chunks
                    .binary_search_by(|(other, _)| other.cmp(&chunk))
                    .map_err(|_| missing())?;
                let (held, strides) = &boxes[source];
                let offset: u64 = at
                    .iter()
                    .zip(&held.start)
                    .zip(strides)
                    .map(|((i, start), stride)| (i - start) * stride)
                    .sum();
                let run = end.min(held.start[inner] + held.shape[inner]) - at[inner];
                out.try_extend(source, index(offset), index(offset + run)).map_err(failed)?;
                at[inner] += run;
            }
        }
        Ok(make_array(out.freeze()))
    }

    /// The path of the array, for messages.
    pub(crate) fn path(&self) -> String {
        self.location.name().to_owned()
    }

    fn key(&self, chunk: &[u64]) -> Result<String> {
        Ok(self.reader()?.codec.key(chunk))
    }

    fn reader(&self) -> Result<&Reader> {
        self.reader
            .as_ref()
            .map_err(|reason| Error::Unreadable { array: self.path(), reason: reason.clone() })
    }
}

/// Reorders the dimensions of a C-ordered array: dimension `i` of the result is `axes[i]` of the
/// array.
///
/// # Errors
/// [`Error::Decode`] if arrow can't gather the values.
pub fn transpose(array: &ArrayRef, shape: &[u64], axes: &[usize]) -> Result<ArrayRef> {
    if axes.iter().enumerate().all(|(i, &axis)| i == axis) {
        return Ok(Arc::clone(array));
    }
    let from = strides(shape);
    let dims: Vec<(usize, usize)> =
        axes.iter().map(|&axis| (index(shape[axis]), index(from[axis]))).collect();
    let indices = positions(&dims, 0, array.len());
    take(array, &UInt64Array::from(indices), None).map_err(|e| Error::Decode {
        array: "a transposed array".to_owned(),
        reason: e.to_string(),
    })
}

/// A number of cells of something that is in memory.
fn index(cells: u64) -> usize {
    usize::try_from(cells).unwrap_or(usize::MAX)
}
