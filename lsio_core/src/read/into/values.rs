//! What is written for a cell: its stored value, or a number decoded by the CF conventions.

use std::sync::{Arc, OnceLock};

use arrow::{
    array::{Array, ArrayRef, ArrowPrimitiveType, AsArray as _},
    buffer::Buffer,
    compute::cast,
    datatypes::{DataType, Float32Type, Float64Type},
};

use super::{
    super::{part::Part, stored::Stored},
    ChunkSink,
    plan::Plan,
    streamed::{self, Scratch, StoredChunk},
};
use crate::{
    Error, Recycler, Result, Variable,
    dataset::{ElementLayout, StoredValues},
};

/// What is written for each cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValuesAs {
    /// The element as stored, in the machine's order of bytes, before the CF conventions. A chunk that isn't stored has
    /// the array's fill value.
    Stored,
    /// The decoded number as a double.
    Float64 {
        /// What is written for a missing cell.
        missing: f64,
    },
    /// The decoded number as a float of 32 bits.
    Float32 {
        /// What is written for a missing cell.
        missing: f32,
    },
}

/// Writes cells to their places, as values of one type.
pub(super) struct Writer<'a> {
    variable: &'a Variable,
    values: ValuesAs,
    /// Bytes of a written element.
    width: usize,
    /// Layout of a stored chunk.
    storage: ElementLayout,
    /// The fill value as stored.
    fill: &'a [u8],
    /// The fill value as it is written.
    decoded_fill: OnceLock<Vec<u8>>,
}

/// A chunk whose cells can be copied to their places.
enum DecodedChunk {
    /// All cells in this layout, of a chunk of this shape.
    Cells { bytes: Buffer, layout: ElementLayout, shape: Vec<u64> },
    /// One value for all cells.
    Fill(Vec<u8>),
}

impl<'a> Writer<'a> {
    /// # Errors
    /// [`Error::Place`] if the variable's values aren't what is asked for, and [`Error::Unreadable`].
    pub(super) fn new(variable: &'a Variable, values: ValuesAs) -> Result<Self> {
        let codec = &variable.reader()?.codec;
        let refused =
            |reason: &str| Err(Error::Place { array: variable.path(), reason: reason.to_owned() });
        let width = match values {
            ValuesAs::Stored if codec.has_items() => {
                return refused(
                    "its values are of variable length, and have no place of fixed size",
                );
            }
            ValuesAs::Stored => codec.storage().width,
            _ if !variable.data_type().is_numeric() => {
                return refused(&format!(
                    "its values are {}, and no numbers",
                    variable.data_type()
                ));
            }
            ValuesAs::Float64 { .. } => 8,
            ValuesAs::Float32 { .. } => 4,
        };
        let storage = codec.storage();
        let fill = codec.fill();
        Ok(Self { variable, values, width, storage, fill, decoded_fill: OnceLock::new() })
    }

    /// Bytes of a written element.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Decodes a chunk; `None` is one that isn't stored.
    ///
    /// # Errors
    /// [`Error::Chunk`] and [`Error::Decode`].
    fn decode(
        &self,
        chunk: &[u64],
        stored: Option<&Stored>,
        recycler: &Arc<Recycler>,
    ) -> Result<DecodedChunk> {
        let variable = self.variable;
        let missing = match self.values {
            ValuesAs::Stored => return self.stored(chunk, stored, recycler),
            ValuesAs::Float64 { missing } => Missing::Double(missing),
            ValuesAs::Float32 { missing } => Missing::Single(missing),
        };
        let broken = |reason| variable.broken_chunk(chunk, reason);
        let encoded = stored.map(|stored| stored.bytes(recycler)).transpose().map_err(broken)?;
        if encoded.is_none()
            && let Some(fill) = self.decoded_fill.get()
        {
            return Ok(DecodedChunk::Fill(fill.clone()));
        }
        let shape = variable.chunk_grid().region_at(chunk).shape;
        let array = variable.decode_chunk(chunk, encoded.as_ref(), recycler)?;
        let bytes = missing.filled(&array).map_err(broken)?;
        if encoded.is_none() {
            let fill = bytes.get(..self.width).unwrap_or_default().to_vec();
            return Ok(DecodedChunk::Fill(self.decoded_fill.get_or_init(|| fill).clone()));
        }
        let layout = ElementLayout::native(shape.len(), self.width);
        Ok(DecodedChunk::Cells { bytes, layout, shape })
    }

    fn stored(
        &self,
        chunk: &[u64],
        stored: Option<&Stored>,
        recycler: &Arc<Recycler>,
    ) -> Result<DecodedChunk> {
        let variable = self.variable;
        let Some(stored) = stored else { return Ok(DecodedChunk::Fill(self.fill.to_vec())) };
        let part = Part::of(variable, &variable.chunk_grid().region_at(chunk));
        match part.decode_stored(chunk, stored, recycler)? {
            StoredValues::Fixed(bytes) => Ok(DecodedChunk::Cells {
                bytes,
                layout: self.storage.clone(),
                shape: variable.chunk_grid().shape_at(chunk),
            }),
            StoredValues::Items(_) => {
                Err(variable.broken_chunk(chunk, "it holds values of variable length".to_owned()))
            }
        }
    }
}

impl ChunkSink for Writer<'_> {
    fn put(
        &self,
        chunk: &[u64],
        stored: Option<&Stored>,
        plan: &Plan<'_>,
        scratch: &mut Scratch,
        recycler: &Arc<Recycler>,
    ) -> Result<()> {
        if let Some(stored) = stored.filter(|_| self.values == ValuesAs::Stored) {
            let from = StoredChunk { variable: self.variable, chunk, stored };
            let copied = streamed::copy(&from, plan, scratch, recycler);
            if copied.map_err(|reason| self.variable.broken_chunk(chunk, reason))? {
                return Ok(());
            }
        }
        let decoded = self.decode(chunk, stored, recycler)?;
        // SAFETY: a chunk is put once.
        let mut targets = unsafe { plan.own_cells() };
        match decoded {
            DecodedChunk::Cells { bytes, layout, shape } => {
                plan.gathers(chunk, (&layout, &shape), |wanted, gather| {
                    if let Some(target) = targets.get_mut(wanted) {
                        gather.copy_to(&bytes, target);
                    }
                });
            }
            DecodedChunk::Fill(fill) => {
                let shape = self.variable.chunk_grid().shape_at(chunk);
                let layout = ElementLayout::native(shape.len(), self.width);
                plan.gathers(chunk, (&layout, &shape), |wanted, gather| {
                    if let Some(target) = targets.get_mut(wanted) {
                        gather.fill_in(&fill, target);
                    }
                });
            }
        }
        Ok(())
    }
}

/// What is written for missing cells, with the type of all cells.
#[derive(Clone, Copy)]
enum Missing {
    Double(f64),
    Single(f32),
}

impl Missing {
    /// The values, with missing ones filled in.
    fn filled(self, array: &ArrayRef) -> Result<Buffer, String> {
        match self {
            Self::Double(missing) => filled::<Float64Type>(array, &DataType::Float64, missing),
            Self::Single(missing) => filled::<Float32Type>(array, &DataType::Float32, missing),
        }
    }
}

fn filled<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    to: &DataType,
    missing: T::Native,
) -> Result<Buffer, String> {
    let array = cast(array, to).map_err(|e| e.to_string())?;
    let values = array.as_primitive::<T>();
    if values.null_count() == 0 {
        return Ok(values.values().inner().clone());
    }
    Ok(values.iter().map(|value| value.unwrap_or(missing)).collect::<Vec<_>>().into())
}
