//! A tile: values at their columns' own ranks, and rows made of them a batch at a time.

use arrow::{array::ArrayRef, error::ArrowError};

use super::{
    broadcast::{Pattern, broadcast},
    tiles::Block,
};
use crate::{Error, Result, dataset::nan_to_null};

/// Selected cells of a tile, with the values of some columns, each at its own rank.
#[derive(Debug)]
pub struct Tile {
    block: Block,
    /// The dimensions of each column.
    dims: Vec<Vec<usize>>,
    values: Vec<Option<Values>>,
}

/// The values of a column.
#[derive(Clone, Debug)]
struct Values {
    array: ArrayRef,
    /// Whether NaN is NULL, which is found when rows are made: then the values are in the cache once
    /// for it and for what comes next.
    nan_is_null: bool,
}

impl Tile {
    pub(super) fn new(block: Block, dims: Vec<Vec<usize>>) -> Self {
        let values = vec![None; dims.len()];
        Self { block, dims, values }
    }

    /// The cells.
    #[must_use]
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Whether the values of a column are there.
    #[must_use]
    pub fn has(&self, column: usize) -> bool {
        self.values[column].is_some()
    }

    pub(super) fn set(&mut self, column: usize, array: ArrayRef, nan_is_null: bool) {
        self.values[column] = Some(Values { array, nan_is_null });
    }

    /// The values of a column at its own rank, if they are there, and whether NaN among them is NULL.
    #[must_use]
    pub fn values(&self, column: usize) -> Option<(&ArrayRef, bool)> {
        self.values[column].as_ref().map(|values| (&values.array, values.nan_is_null))
    }

    /// These columns as rows of a grid of these dimensions, which are all that they have.
    ///
    /// # Errors
    /// [`Error::Decode`] if the values of a column aren't there.
    pub fn rows(&self, dims: &[usize], columns: &[usize]) -> Result<Rows> {
        let all = self.block.shape();
        let shape: Vec<u64> = dims.iter().map(|&dim| all[dim]).collect();
        let columns = columns
            .iter()
            .map(|&column| {
                let values = self.values[column].clone().ok_or_else(|| Error::Decode {
                    array: "a column".to_owned(),
                    reason: "its values were not read".to_owned(),
                })?;
                let own = self.dims[column].iter().map(|dim| dims.iter().position(|d| d == dim));
                let own: Vec<usize> = own.flatten().collect();
                Ok((values, Pattern::new(&shape, &own)))
            })
            .collect::<Result<_>>()?;
        let rows = shape.iter().copied().fold(1, u64::saturating_mul);
        let dims = dims.to_vec();
        Ok(Rows { rows: usize::try_from(rows).unwrap_or(usize::MAX), dims, shape, columns })
    }

    /// Values along `dims` as one value for each cell of the tile.
    ///
    /// # Errors
    /// [`Error::Decode`] if arrow can't gather them.
    pub fn broadcast(&self, values: &ArrayRef, dims: &[usize]) -> Result<ArrayRef> {
        let pattern = Pattern::new(&self.block.shape(), dims);
        broadcast(values, &pattern, 0, self.block.rows()).map_err(gather_error)
    }
}

/// Rows that are made of values at lower ranks when they are asked for.
#[derive(Debug)]
pub struct Rows {
    rows: usize,
    dims: Vec<usize>,
    shape: Vec<u64>,
    columns: Vec<(Values, Pattern)>,
}

impl Rows {
    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds a column of values along some of the dimensions.
    pub fn push(&mut self, array: ArrayRef, dims: &[usize]) {
        let own = dims.iter().map(|dim| self.dims.iter().position(|d| d == dim));
        let own: Vec<usize> = own.flatten().collect();
        let pattern = Pattern::new(&self.shape, &own);
        self.columns.push((Values { array, nan_is_null: false }, pattern));
    }

    /// The columns of `len` rows from `start` on as they are stored, each with whether NaN in it is
    /// NULL.
    ///
    /// # Errors
    /// Those of [`Rows::slice`].
    pub fn stored(&self, start: usize, len: usize) -> Result<Vec<(ArrayRef, bool)>> {
        self.columns
            .iter()
            .map(|(values, pattern)| {
                let rows = broadcast(&values.array, pattern, start, len).map_err(gather_error)?;
                Ok((rows, values.nan_is_null))
            })
            .collect()
    }

    /// The columns of `len` rows from `start` on, in C order. Columns that have all dimensions are
    /// slices: nothing is copied.
    ///
    /// # Errors
    /// [`Error::Decode`] if arrow can't gather the values.
    pub fn slice(&self, start: usize, len: usize) -> Result<Vec<ArrayRef>> {
        let stored = self.stored(start, len)?.into_iter();
        Ok(stored.map(|(rows, nan_is_null)| nan_to_null(rows, nan_is_null)).collect())
    }
}

pub(super) fn gather_error(error: ArrowError) -> Error {
    Error::Decode { array: "a column".to_owned(), reason: error.to_string() }
}
