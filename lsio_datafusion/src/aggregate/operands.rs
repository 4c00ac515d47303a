//! Operands of expressions that kernels evaluate: columns of floats, without a copy.

use arrow::{compute::cast, datatypes::DataType};
use datafusion::{common::exec_err, error::Result};
use lsio_core::reduce::{Arithmetic, FloatColumn, PairSide, StoredNumbers};

use super::full_rank::{TileRows, values};
use crate::expression::{Evaluation, StoredColumn};

/// The type of a column that is decoded in pieces.
pub(super) struct StreamedColumn {
    pub(super) data_type: DataType,
    pub(super) nan_is_null: bool,
}

/// Consecutive rows of a tile, whose streamed columns are bytes as they are stored.
#[derive(Clone, Copy)]
pub(super) struct StoredPiece<'a> {
    pub(super) first: usize,
    pub(super) slices: &'a [StoredNumbers<'a>],
    pub(super) streamed: &'a [StreamedColumn],
}

impl StoredPiece<'_> {
    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        let width = self.streamed.first().and_then(|own| own.data_type.primitive_width());
        self.slices.first().map_or(0, |numbers| numbers.len(width.unwrap_or(1)))
    }

    /// Copies of the columns, for functions that take arrays.
    pub(super) fn arrays(&self) -> Result<Vec<StoredColumn>> {
        let columns = self.slices.iter().zip(self.streamed);
        let array = |(numbers, own): (&StoredNumbers<'_>, &StreamedColumn)| {
            Some((numbers.array(&own.data_type)?, own.nan_is_null))
        };
        match columns.map(array).collect() {
            Some(columns) => Ok(columns),
            None => exec_err!("a piece of a chunk isn't made of whole numbers"),
        }
    }
}

/// Operands of an expression on a piece.
pub(super) struct Operands<'a> {
    expr: &'a Arithmetic,
    slots: &'a [Option<usize>],
    piece: StoredPiece<'a>,
    others: Vec<StoredColumn>,
    nan_is_null: bool,
}

impl<'a> Operands<'a> {
    /// `None` for an expression that kernels don't evaluate.
    pub(super) fn new(
        evaluation: &'a Evaluation<'_>,
        piece: StoredPiece<'a>,
    ) -> Result<Option<Self>> {
        let Some(expr) = evaluation.arithmetic() else { return Ok(None) };
        let others = evaluation.others(piece.first, piece.len())?;
        let (slots, nan_is_null) = (evaluation.slots(), evaluation.nan_is_null());
        Ok(Some(Self { expr, slots, piece, others, nan_is_null }))
    }

    /// `None` if a column isn't of floats.
    pub(super) fn columns(&self) -> Option<Vec<FloatColumn<'_>>> {
        let mut others = self.others.iter();
        let columns = self.slots.iter().map(|slot| match slot {
            Some(number) => {
                let own = self.piece.streamed.get(*number)?;
                let numbers = self.piece.slices.get(*number)?;
                FloatColumn::of_stored(*numbers, &own.data_type, own.nan_is_null)
            }
            None => of_stored(others.next()?),
        });
        columns.collect()
    }

    /// One side of pairs, over these columns.
    pub(super) fn side<'b>(&'b self, columns: &'b [FloatColumn<'b>]) -> PairSide<'b> {
        PairSide { expr: self.expr, columns, nan_is_null: self.nan_is_null }
    }

    pub(super) fn expr(&self) -> &Arithmetic {
        self.expr
    }
}

/// An expression on rows, over arrays of floats.
pub(super) struct FloatArrays<'a> {
    pub(super) expr: &'a Arithmetic,
    columns: Vec<StoredColumn>,
    nan_is_null: bool,
}

impl<'a> FloatArrays<'a> {
    /// What kernels don't evaluate is evaluated here, into one column.
    pub(super) fn new(side: &'a Evaluation<'_>, rows: &TileRows<'_>) -> Result<Self> {
        let nan_is_null = side.nan_is_null();
        if let Some(expr) = side.arithmetic() {
            let columns = side.stored(rows.first, rows.len, rows.columns)?;
            return Ok(Self { expr, columns, nan_is_null });
        }
        let values = cast(&values(side, rows)?, &DataType::Float64)?;
        let columns = vec![(values, nan_is_null)];
        Ok(Self { expr: &Arithmetic::Column(0), columns, nan_is_null })
    }

    /// `None` if a column isn't of floats.
    pub(super) fn columns(&self) -> Option<Vec<FloatColumn<'_>>> {
        float_columns(&self.columns)
    }

    pub(super) fn side<'b>(&'b self, columns: &'b [FloatColumn<'b>]) -> PairSide<'b> {
        PairSide { expr: self.expr, columns, nan_is_null: self.nan_is_null }
    }
}

/// Arrays as columns of floats; `None` if one has another type.
pub(super) fn float_columns(columns: &[StoredColumn]) -> Option<Vec<FloatColumn<'_>>> {
    columns.iter().map(of_stored).collect()
}

fn of_stored((array, nan_is_null): &StoredColumn) -> Option<FloatColumn<'_>> {
    FloatColumn::of_array(array, *nan_is_null)
}
