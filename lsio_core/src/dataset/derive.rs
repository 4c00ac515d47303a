//! Columns that are computed from others, tile by tile.

use std::{any::Any, fmt::Debug, sync::Arc};

use arrow::{array::ArrayRef, datatypes::DataType};

use super::Column;
use crate::{Recycler, Result, Selection};

/// A rule that computes a column of a table from other columns, for the cells of one tile at a time.
///
/// A running mean is one: the cells of a tile need those of a frame around each of them.
pub trait Derive: Debug + Send + Sync {
    /// The type of the values.
    fn data_type(&self) -> DataType;

    /// The columns from which values are computed. They are on the grid of the table.
    fn inputs(&self) -> &[Column];

    /// The indices of the inputs along a dimension of the grid that the values of `wanted` indices need.
    fn needs(&self, dim: usize, wanted: &Selection) -> Selection;

    /// Whether values along a dimension of the grid depend on each other: they need other indices than their own, or
    /// continue each other. Along all other dimensions parts of a tile are computed by themselves.
    fn runs_along(&self, dim: usize) -> bool;

    /// The number of indices along a dimension from which on a tile is worth its reads: the length of a frame, say.
    fn tile_len(&self, _dim: usize) -> u64 {
        1
    }

    /// How the values of a tile continue those of the tile before; `None` if each tile stands for itself. All tiles are
    /// then visited, in that order. The dimension is one that the values run along.
    fn continues(&self) -> Option<Continues> {
        None
    }

    /// The same values for a scan that visits all tiles of a selection, if they continue from tile to tile there.
    fn continued(&self, _selection: &[Selection]) -> Option<Arc<dyn Derive>> {
        None
    }

    /// Computes the values of the wanted cells, in C order over the column's dimensions.
    ///
    /// # Errors
    /// If a value can't be computed.
    fn derive(&self, inputs: Inputs<'_>) -> Result<Values>;
}

/// A direction along a dimension in which the values of tiles continue each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Continues {
    /// Position of the dimension in the grid.
    pub dim: usize,
    /// Whether the last tile along it comes first.
    pub reversed: bool,
}

/// What a [`Derive`] gets for one tile.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// The values of each input at its own rank, over `needs`, with whether NaN among them is NULL.
    pub values: &'a [(ArrayRef, bool)],
    /// The cells of the inputs.
    pub needs: &'a [Selection],
    /// The cells of the values.
    pub wanted: &'a [Selection],
    /// What the tile before has handed on.
    pub carried: Option<Carried>,
    /// Memory for the values.
    pub recycler: &'a Arc<Recycler>,
}

/// What a [`Derive`] computes for one tile.
#[derive(Clone, Debug)]
pub struct Values {
    /// The values.
    pub values: ArrayRef,
    /// Whether NaN among them is NULL.
    pub nan_is_null: bool,
    /// What is handed on to the tile behind, if the values continue there.
    pub carried: Option<Carried>,
}

/// The state between two tiles.
pub type Carried = Arc<dyn Any + Send + Sync>;
