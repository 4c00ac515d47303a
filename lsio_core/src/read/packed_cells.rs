//! Packed numbers of a tile's cells, which become values when they are asked for.

use std::sync::{Arc, OnceLock};

use arrow::{array::ArrayRef, buffer::Buffer};

use crate::{
    Error, Result,
    reduce::{StoredNumbers, Unpacking},
};

/// Packed numbers, and their values once all were asked for.
#[derive(Debug)]
pub(super) struct PackedCells {
    numbers: Buffer,
    unpacking: Unpacking,
    whole: OnceLock<ArrayRef>,
}

impl PackedCells {
    pub(super) fn new(numbers: Buffer, unpacking: Unpacking) -> Self {
        Self { numbers, unpacking, whole: OnceLock::new() }
    }

    /// The numbers as they are stored.
    pub(super) fn numbers(&self) -> StoredNumbers<'_> {
        StoredNumbers::new(&self.numbers, Some(&self.unpacking))
    }

    /// Values of the `len` cells from `first` on.
    ///
    /// # Errors
    /// [`Error::Decode`] if there are fewer cells.
    pub(super) fn slice(&self, first: usize, len: usize) -> Result<ArrayRef> {
        if let Some(whole) = self.whole.get() {
            return Ok(whole.slice(first, len));
        }
        let width = self.unpacking.stored_width();
        let numbers = self.numbers.get(first * width..(first + len) * width);
        numbers.and_then(|numbers| self.unpacking.array(numbers)).ok_or_else(too_few)
    }

    /// The values of all cells.
    ///
    /// # Errors
    /// [`Error::Decode`] if the bytes aren't whole numbers.
    pub(super) fn whole(&self) -> Result<ArrayRef> {
        if let Some(whole) = self.whole.get() {
            return Ok(Arc::clone(whole));
        }
        let array = self.unpacking.array(&self.numbers).ok_or_else(too_few)?;
        Ok(Arc::clone(self.whole.get_or_init(|| array)))
    }
}

fn too_few() -> Error {
    Error::Decode {
        array: "a column".to_owned(),
        reason: "a chunk has fewer numbers than cells".to_owned(),
    }
}
