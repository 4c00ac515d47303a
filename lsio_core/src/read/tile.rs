//! A tile: values at their columns' own ranks, broadcast to rows a batch at a time.

use std::sync::{Arc, OnceLock};

use arrow::{
    array::{ArrayRef, AsArray as _, BooleanArray},
    buffer::{BooleanBuffer, Buffer},
    error::ArrowError,
};

use super::{
    broadcast::{Pattern, broadcast},
    packed_cells::PackedCells,
    runs::Runs,
    tiles::Block,
};
use crate::{
    Error, Result, Selection,
    dataset::nan_to_null,
    grid::select,
    reduce::{StoredNumbers, Unpacking},
};

/// Selected cells of a tile, with the values of some columns at their own ranks.
#[derive(Debug)]
pub struct Tile {
    block: Block,
    /// Dimensions of each column.
    dims: Vec<Vec<usize>>,
    values: Vec<Option<TileValues>>,
}

/// The values of a column.
#[derive(Clone, Debug)]
struct TileValues {
    array: TileArray,
    /// Whether NaN is NULL. The check is left until rows are made: the next operation then finds the values in the
    /// CPU's cache.
    nan_is_null: bool,
}

/// Values of a tile's cells.
#[derive(Clone, Debug)]
pub(super) enum TileArray {
    Whole(ArrayRef),
    /// Values in a larger array, and those of all cells, once they were copied.
    Placed(Arc<Runs>, Arc<OnceLock<ArrayRef>>),
    /// Values that are unpacked when rows are made: they are then in the CPU's cache for what comes next.
    Packed(Arc<PackedCells>),
}

impl From<ArrayRef> for TileArray {
    fn from(array: ArrayRef) -> Self {
        Self::Whole(array)
    }
}

impl TileArray {
    /// Values in a larger array: they are copied a batch at a time.
    ///
    /// # Errors
    /// [`Error::Decode`] if arrow can't slice the array.
    pub(super) fn placed(runs: Runs) -> Result<Self> {
        if runs.is_one() {
            return runs.whole().map(Self::Whole).map_err(gather_error);
        }
        Ok(Self::Placed(Arc::new(runs), Arc::default()))
    }

    /// Packed numbers of all cells.
    pub(super) fn packed(numbers: Buffer, unpacking: Unpacking) -> Self {
        Self::Packed(Arc::new(PackedCells::new(numbers, unpacking)))
    }

    /// The values of all cells.
    ///
    /// # Errors
    /// [`Error::Decode`] if arrow can't gather them.
    pub(super) fn whole(&self) -> Result<ArrayRef> {
        match self {
            Self::Whole(array) => Ok(Arc::clone(array)),
            Self::Packed(cells) => cells.whole(),
            Self::Placed(runs, whole) => match whole.get() {
                Some(array) => Ok(Arc::clone(array)),
                None => {
                    let array = runs.whole().map_err(gather_error)?;
                    Ok(Arc::clone(whole.get_or_init(|| array)))
                }
            },
        }
    }

    /// Values of the rows `start..start + len`.
    fn rows(&self, pattern: &Pattern, start: usize, len: usize) -> Result<ArrayRef> {
        if let Self::Placed(runs, whole) = self
            && whole.get().is_none()
            && let Some(first) = pattern.side_by_side(start, len)
        {
            return runs.slice(first, len).map_err(gather_error);
        }
        if let Self::Packed(cells) = self
            && let Some(first) = pattern.side_by_side(start, len)
        {
            return cells.slice(first, len);
        }
        broadcast(&self.whole()?, pattern, start, len).map_err(gather_error)
    }
}

impl Tile {
    pub(super) fn new(block: Block, dims: Vec<Vec<usize>>) -> Self {
        let values = vec![None; dims.len()];
        Self { block, dims, values }
    }

    /// Selected cells.
    #[must_use]
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Whether the tile has the values of a column.
    #[must_use]
    pub fn has(&self, column: usize) -> bool {
        self.values[column].is_some()
    }

    pub(super) fn set(&mut self, column: usize, array: impl Into<TileArray>, nan_is_null: bool) {
        self.values[column] = Some(TileValues { array: array.into(), nan_is_null });
    }

    /// Values of a column at its own rank, with whether NaN is NULL; `None` if the tile doesn't have them, only places of
    /// them in a larger array, or packed numbers.
    #[must_use]
    pub fn values(&self, column: usize) -> Option<(&ArrayRef, bool)> {
        let values = self.values[column].as_ref()?;
        match &values.array {
            TileArray::Whole(array) => Some((array, values.nan_is_null)),
            TileArray::Placed(..) | TileArray::Packed(_) => None,
        }
    }

    /// The values of all cells of a column, with whether NaN is NULL; `None` if the tile doesn't have them.
    ///
    /// # Errors
    /// [`Error::Decode`] if arrow can't gather them.
    pub fn whole(&self, column: usize) -> Result<Option<(ArrayRef, bool)>> {
        let values = self.values[column].as_ref();
        values.map(|own| Ok((own.array.whole()?, own.nan_is_null))).transpose()
    }

    /// The packed numbers of a column; `None` if the tile has none of it.
    #[must_use]
    pub fn packed(&self, column: usize) -> Option<StoredNumbers<'_>> {
        match &self.values[column].as_ref()?.array {
            TileArray::Packed(cells) => Some(cells.numbers()),
            TileArray::Whole(_) | TileArray::Placed(..) => None,
        }
    }

    /// The part of the tile in a block of its cells, without columns that are places in a larger array.
    ///
    /// # Errors
    /// [`Error::Decode`] if arrow can't gather the values.
    pub(super) fn part(&self, block: Block) -> Result<Self> {
        let (shape, positions) = (self.block.shape(), block.positions_in(&self.block));
        let mut part = Self::new(block, self.dims.clone());
        for ((to, from), dims) in part.values.iter_mut().zip(&self.values).zip(&self.dims) {
            let Some(TileValues { array, nan_is_null }) = from else { continue };
            if matches!(array, TileArray::Placed(..)) {
                continue;
            }
            let from = &array.whole()?;
            let own: Vec<u64> = dims.iter().map(|&dim| shape[dim]).collect();
            let wanted: Vec<&Selection> = dims.iter().map(|&dim| &positions[dim]).collect();
            let array = select(from, &own, &wanted).map_err(gather_error)?.into();
            *to = Some(TileValues { array, nan_is_null: *nan_is_null });
        }
        Ok(part)
    }

    /// Of a mask over the tile's cells, the part in a block of them.
    ///
    /// # Errors
    /// [`Error::Decode`] if arrow can't gather it.
    pub fn rows_of(&self, block: &Block, rows: &BooleanBuffer) -> Result<BooleanBuffer> {
        let positions = block.positions_in(&self.block);
        let mask: ArrayRef = Arc::new(BooleanArray::new(rows.clone(), None));
        let wanted: Vec<&Selection> = positions.iter().collect();
        let part = select(&mask, &self.block.shape(), &wanted).map_err(gather_error)?;
        Ok(part.as_boolean().values().clone())
    }

    /// Rows of these columns over the dimensions `dims`. The columns have no other dimensions.
    ///
    /// # Errors
    /// [`Error::Decode`] if the tile lacks the values of a column.
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

    /// Values along `dims`, broadcast to one value per cell of the tile.
    ///
    /// # Errors
    /// [`Error::Decode`] if arrow can't gather them.
    pub fn broadcast(&self, values: &ArrayRef, dims: &[usize]) -> Result<ArrayRef> {
        let pattern = Pattern::new(&self.block.shape(), dims);
        broadcast(values, &pattern, 0, self.block.rows()).map_err(gather_error)
    }
}

/// Rows, broadcast from values of lower rank a batch at a time.
#[derive(Debug)]
pub struct Rows {
    rows: usize,
    dims: Vec<usize>,
    shape: Vec<u64>,
    columns: Vec<(TileValues, Pattern)>,
}

impl Rows {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds a column of values along some of the dimensions.
    pub fn push(&mut self, array: ArrayRef, dims: &[usize]) {
        let own = dims.iter().map(|dim| self.dims.iter().position(|d| d == dim));
        let own: Vec<usize> = own.flatten().collect();
        let pattern = Pattern::new(&self.shape, &own);
        self.columns.push((TileValues { array: array.into(), nan_is_null: false }, pattern));
    }

    /// Whether rows are slices of all columns: no value is repeated.
    #[must_use]
    pub fn are_slices(&self) -> bool {
        let whole = Pattern::Regular { repeat: 1, period: self.rows };
        self.columns.iter().all(|(_, pattern)| *pattern == whole)
    }

    /// Columns of the `len` rows from `start` on, each with whether NaN in it is still to become NULL.
    ///
    /// # Errors
    /// Those of [`Rows::slice`].
    pub fn stored(&self, start: usize, len: usize) -> Result<Vec<(ArrayRef, bool)>> {
        self.columns
            .iter()
            .map(|(values, pattern)| {
                Ok((values.array.rows(pattern, start, len)?, values.nan_is_null))
            })
            .collect()
    }

    /// Columns of the `len` rows from `start` on, in C order. A column that has all dimensions is a slice, not a copy.
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
