//! A chunk of which cells are still to come.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BinaryViewBuilder, StringViewBuilder},
    buffer::Buffer,
    datatypes::DataType,
};

use super::memory::Reserved;
use crate::dataset::{StoredValues, dtype::ElementType};

/// Values of consecutive cells, as they are stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum CellValues<'a> {
    /// Elements of a fixed size.
    Fixed(&'a [u8]),
    /// Texts or byte strings, as Arrow's views; NULL is the fill value.
    Items(&'a ArrayRef),
}

/// The values of a chunk, in C order, those beyond the array's edges among them.
#[derive(Debug)]
pub(super) enum ChunkValues {
    Fixed { bytes: Vec<u8>, width: usize },
    Items { items: Vec<Option<Box<[u8]>>>, data_type: DataType },
}

/// A chunk that isn't complete.
#[derive(Debug)]
pub(super) struct OpenChunk {
    pub(super) values: ChunkValues,
    /// Cells of the array that are still to come.
    left: u64,
    /// A bit for each cell that has come, where cells may come twice.
    seen: Option<Vec<u64>>,
    _memory: Reserved,
}

impl ChunkValues {
    /// The fill value in so many cells.
    pub(super) fn filled(element: &ElementType, fill: &[u8], cells: usize) -> Self {
        match element.size() {
            Some(width) => {
                let bytes = if fill.iter().all(|byte| *byte == 0) {
                    vec![0; cells * width]
                } else {
                    fill.repeat(cells)
                };
                Self::Fixed { bytes, width }
            }
            None => Self::Items { items: vec![None; cells], data_type: element.data_type() },
        }
    }

    /// Copies a run of cells.
    pub(super) fn copy(&mut self, values: CellValues<'_>, from: usize, to: usize, len: usize) {
        match (self, values) {
            (Self::Fixed { bytes, width }, CellValues::Fixed(values)) => {
                let width = *width;
                let source = values.get(from * width..(from + len) * width);
                let target = bytes.get_mut(to * width..(to + len) * width);
                if let (Some(source), Some(target)) = (source, target) {
                    target.copy_from_slice(source);
                }
            }
            (Self::Items { items, .. }, CellValues::Items(values)) => {
                for (cell, item) in items.iter_mut().skip(to).take(len).enumerate() {
                    *item = item_of(values, from + cell);
                }
            }
            // The writer checks the type of what it is given.
            (Self::Fixed { .. }, CellValues::Items(_)) | (Self::Items { .. }, _) => {}
        }
    }

    /// Whether all cells have the fill value.
    pub(super) fn are_fill(&self, fill: &[u8]) -> bool {
        match self {
            Self::Fixed { bytes, width } => bytes.chunks_exact(*width).all(|own| own == fill),
            Self::Items { items, .. } => {
                items.iter().all(|item| item.as_deref().is_none_or(|item| item == fill))
            }
        }
    }

    /// The values for the codecs.
    ///
    /// # Errors
    /// A text, if the fill value is no text where texts are stored.
    pub(super) fn stored(self, fill: &[u8]) -> Result<StoredValues, String> {
        let (items, data_type) = match self {
            Self::Fixed { bytes, .. } => return Ok(StoredValues::Fixed(Buffer::from(bytes))),
            Self::Items { items, data_type } => (items, data_type),
        };
        let items = items.iter().map(|item| item.as_deref().unwrap_or(fill));
        Ok(StoredValues::Items(if data_type == DataType::Utf8View {
            let mut out = StringViewBuilder::new();
            for item in items {
                out.append_value(str::from_utf8(item).map_err(|error| error.to_string())?);
            }
            Arc::new(out.finish())
        } else {
            let mut out = BinaryViewBuilder::new();
            items.for_each(|item| out.append_value(item));
            Arc::new(out.finish())
        }))
    }
}

impl OpenChunk {
    /// A chunk without values, of which so many cells are in the array.
    pub(super) fn new(values: ChunkValues, cells: u64, memory: Reserved) -> Self {
        Self { values, left: cells, seen: None, _memory: memory }
    }

    /// Notes that so many cells came, none of which comes again.
    pub(super) fn came(&mut self, cells: u64) {
        self.left = self.left.saturating_sub(cells);
    }

    /// Notes that a run of cells came, of a chunk of so many. Returns the first that came before, if one did.
    pub(super) fn came_once(&mut self, first: usize, len: usize, cells: usize) -> Option<usize> {
        let seen = self.seen.get_or_insert_with(|| vec![0; cells.div_ceil(64)]);
        for cell in first..first + len {
            let word = seen.get_mut(cell / 64)?;
            let bit = 1 << (cell % 64);
            if *word & bit != 0 {
                return Some(cell);
            }
            *word |= bit;
        }
        self.left = self.left.saturating_sub(len as u64);
        None
    }

    pub(super) fn is_complete(&self) -> bool {
        self.left == 0
    }
}

fn item_of(values: &ArrayRef, at: usize) -> Option<Box<[u8]>> {
    if values.is_null(at) {
        return None;
    }
    match values.data_type() {
        DataType::Utf8View => Some(values.as_string_view().value(at).as_bytes().into()),
        DataType::BinaryView => Some(values.as_binary_view().value(at).into()),
        _ => None,
    }
}
