//! A column of a table, and where its values come from.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef},
    datatypes::DataType,
};
use tokio::sync::OnceCell;

use super::{Continues, Derive, Role, Table, Variable, mapped::Mapped};
use crate::{Error, IndexMap, Result, Selection, grid::select};

/// A column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    /// The name of the variable, or of the dimension for an index.
    pub name: String,
    /// The role of the variable. An index counts as a dimension coordinate.
    pub role: Role,
    /// The dimensions along which the column varies, as ascending positions in [`Table::dims`].
    pub dims: Vec<usize>,
    values: ColumnValues,
    /// All values, once they were read as a whole.
    pub(crate) held: Arc<OnceCell<ArrayRef>>,
}

/// Where the values of a column come from.
#[derive(Clone, Debug)]
pub(crate) enum ColumnValues {
    /// The index of the dimension.
    Index,
    /// A variable.
    Stored(StoredColumn),
    /// Memory, in C order over the column's dimensions.
    Memory(ArrayRef),
    /// A column of another table, through index maps.
    Mapped(Arc<Mapped>),
    /// Whether all maps have a partner.
    Present(Arc<[IndexMap]>),
    /// A result that is there when the query runs.
    Pending(DataType),
    /// Other columns of the table.
    Derived(Arc<dyn Derive>),
}

/// A variable as a column.
#[derive(Clone, Debug)]
pub(crate) struct StoredColumn {
    pub(crate) variable: Arc<Variable>,
    /// The position of each of the column's dimensions among the variable's own.
    pub(crate) axes: Vec<usize>,
    /// The reason why the column can't be read, if its sizes contradict the grid's.
    pub(crate) conflict: Option<String>,
}

impl Column {
    pub(crate) fn new(name: String, role: Role, dims: Vec<usize>, values: ColumnValues) -> Self {
        Self { name, role, dims, values, held: Arc::default() }
    }

    /// The index of a dimension.
    #[must_use]
    pub fn index(name: String, dim: usize) -> Self {
        Self::new(name, Role::DimensionCoordinate, vec![dim], ColumnValues::Index)
    }

    /// A column of values in memory, in C order over the dimensions `dims`, ascending.
    #[must_use]
    pub fn memory(name: String, role: Role, dims: Vec<usize>, values: ArrayRef) -> Self {
        Self::new(name, role, dims, ColumnValues::Memory(values))
    }

    /// A column whose values are there only when the query runs: a place for one that takes its place then.
    #[must_use]
    pub fn pending(name: String, dims: Vec<usize>, data_type: DataType) -> Self {
        Self::new(name, Role::Data, dims, ColumnValues::Pending(data_type))
    }

    /// A column that is computed from other columns. It varies along the dimensions `dims`, ascending.
    #[must_use]
    pub fn derived(name: String, dims: Vec<usize>, derive: Arc<dyn Derive>) -> Self {
        Self::new(name, Role::Data, dims, ColumnValues::Derived(derive))
    }

    /// The same column under another name.
    #[must_use]
    pub fn named(&self, name: String) -> Self {
        Self { name, ..self.clone() }
    }

    /// The same column, of which nothing has been read.
    #[must_use]
    pub fn unread(&self) -> Self {
        Self { held: Arc::default(), ..self.clone() }
    }

    /// Takes over the values that another column has loaded, if both are of a variable with the same metadata. Of an
    /// archive, whose metadata say nothing of where its bytes are, none are taken.
    pub fn take_loaded(&self, other: &Self) {
        if let (ColumnValues::Stored(own), ColumnValues::Stored(theirs)) =
            (&self.values, &other.values)
            && !own.variable.location().is_in_archive()
            && own.variable.is_described_as(&theirs.variable)
            && (&own.axes, &own.conflict) == (&theirs.axes, &theirs.conflict)
            && let Some(values) = other.held.get()
        {
            // Fails if the values have been read here meanwhile.
            let _ = self.held.set(Arc::clone(values));
        }
    }

    pub(crate) fn values(&self) -> &ColumnValues {
        &self.values
    }

    /// The variable whose values these are, cell by cell.
    #[must_use]
    pub fn variable(&self) -> Option<&Arc<Variable>> {
        match &self.values {
            ColumnValues::Stored(stored) => Some(&stored.variable),
            _ => None,
        }
    }

    /// The variables that are read for the column.
    #[must_use]
    pub fn variables(&self) -> Vec<&Arc<Variable>> {
        match &self.values {
            ColumnValues::Stored(stored) => vec![&stored.variable],
            ColumnValues::Mapped(mapped) => mapped.column.variables(),
            ColumnValues::Derived(derive) => {
                derive.inputs().iter().flat_map(Self::variables).collect()
            }
            ColumnValues::Index
            | ColumnValues::Memory(_)
            | ColumnValues::Present(_)
            | ColumnValues::Pending(_) => vec![],
        }
    }

    /// Whether the values are the indices of the dimension.
    #[must_use]
    pub fn is_index(&self) -> bool {
        matches!(self.values, ColumnValues::Index)
    }

    /// Whether the values are there only when the query runs.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(self.values, ColumnValues::Pending(_))
    }

    /// Whether the values are computed from other columns.
    #[must_use]
    pub fn is_computed(&self) -> bool {
        matches!(self.values, ColumnValues::Derived(_))
    }

    /// The same column for a scan that visits all tiles of a selection in order, if it is computed otherwise there: see
    /// [`Derive::continued`].
    #[must_use]
    pub fn continued(&self, selection: &[Selection]) -> Option<Self> {
        let ColumnValues::Derived(derive) = &self.values else { return None };
        let values = ColumnValues::Derived(derive.continued(selection)?);
        Some(Self { values, ..self.clone() })
    }

    /// How values continue from tile to tile.
    #[must_use]
    pub fn continues(&self) -> Option<Continues> {
        match &self.values {
            ColumnValues::Derived(derive) => derive.continues(),
            _ => None,
        }
    }

    /// The type of the values.
    #[must_use]
    pub fn data_type(&self) -> DataType {
        match &self.values {
            ColumnValues::Index => DataType::Int64,
            ColumnValues::Stored(stored) => stored.variable.data_type().clone(),
            ColumnValues::Memory(values) => values.data_type().clone(),
            ColumnValues::Mapped(mapped) => mapped.column.data_type(),
            ColumnValues::Present(_) => DataType::Boolean,
            ColumnValues::Pending(data_type) => data_type.clone(),
            ColumnValues::Derived(derive) => derive.data_type(),
        }
    }

    /// The estimated size in bytes of one value in memory.
    #[must_use]
    pub fn value_bytes(&self) -> u64 {
        match &self.values {
            ColumnValues::Stored(stored) => stored.variable.value_bytes(),
            ColumnValues::Mapped(mapped) => mapped.column.value_bytes(),
            _ => self.data_type().primitive_width().map_or(8, |width| width as u64),
        }
    }

    /// Whether a scan of a table of this rank has the values in memory: they are none that are read, or it should read
    /// them all at once and keep them. It should if they are a one-dimensional coordinate's, or lack a dimension of the
    /// grid, and take `limit` decoded bytes at most.
    #[must_use]
    pub fn is_local(&self, rank: usize, limit: u64) -> bool {
        match &self.values {
            ColumnValues::Index
            | ColumnValues::Memory(_)
            | ColumnValues::Present(_)
            | ColumnValues::Pending(_) => true,
            ColumnValues::Stored(stored) => {
                let one_dimensional = self.role.is_coordinate() && self.dims.len() <= 1;
                (one_dimensional || self.dims.len() < rank)
                    && stored.variable.decoded_bytes() <= limit
                    && self.check_readable().is_ok()
            }
            ColumnValues::Mapped(mapped) => mapped.column.is_local(mapped.rank, limit),
            ColumnValues::Derived(_) => false,
        }
    }

    /// Whether [`Column::load`] should read the values of a variable at once, to be kept.
    #[must_use]
    pub fn is_held(&self, rank: usize, limit: u64) -> bool {
        self.variable().is_some() && self.is_local(rank, limit)
    }

    /// All values at the column's own rank, if they are in memory; `None` for an index.
    #[must_use]
    pub fn loaded(&self) -> Option<&ArrayRef> {
        match &self.values {
            ColumnValues::Memory(values) => Some(values),
            _ => self.held.get(),
        }
    }

    /// Whether the values are known without reading: those of an index, or in memory.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.is_index() || self.loaded().is_some()
    }

    /// Picks the values at which the selections of all the column's dimensions meet.
    ///
    /// `values` are all values of the column; `wanted` holds one selection per dimension of the column.
    ///
    /// # Errors
    /// [`Error::Decode`] if arrow can't gather the values.
    pub fn select(
        &self,
        values: &ArrayRef,
        table: &Table,
        wanted: &[&Selection],
    ) -> Result<ArrayRef> {
        let shape: Vec<u64> = self.dims.iter().map(|&d| table.dims[d].size).collect();
        select(values, &shape, wanted)
            .map_err(|e| Error::Decode { array: self.name.clone(), reason: e.to_string() })
    }

    /// Fails if the column can't be read.
    ///
    /// # Errors
    /// [`Error::Unreadable`] with the reason.
    pub fn check_readable(&self) -> Result<()> {
        match &self.values {
            ColumnValues::Stored(StoredColumn { variable, conflict, .. }) => {
                if let Some(reason) = conflict {
                    let (array, reason) = (variable.path(), reason.clone());
                    return Err(Error::Unreadable { array, reason });
                }
                variable.check_readable()
            }
            ColumnValues::Mapped(mapped) => mapped.column.check_readable(),
            ColumnValues::Derived(derive) => {
                derive.inputs().iter().try_for_each(Self::check_readable)
            }
            ColumnValues::Index
            | ColumnValues::Memory(_)
            | ColumnValues::Present(_)
            | ColumnValues::Pending(_) => Ok(()),
        }
    }
}
