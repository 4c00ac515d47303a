//! A dataset as a table: one row per cell of a grid.

use std::sync::Arc;

use super::{Column, ColumnValues, Dataset, Role, StoredColumn, Variable};
use crate::{Error, Result, grid::checked_product};

/// A dimension of a grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimension {
    /// The dimension's name.
    pub name: String,
    /// The number of indices.
    pub size: u64,
}

/// A dataset as a table: one row per cell of a grid of dimensions, in C order.
#[derive(Clone, Debug)]
pub struct Table {
    /// The dimensions, slowest first.
    pub dims: Vec<Dimension>,
    /// The dimension coordinates in the grid's order, then the auxiliary coordinates, then the data variables, each by
    /// name.
    pub columns: Vec<Column>,
    /// The number of rows: the cells of the grid.
    pub rows: u64,
}

impl Dataset {
    /// The grids on which this dataset can be a table: the maximal sets of dimensions, each with the names of its data
    /// variables. Without data variables, the grid of all coordinates.
    #[must_use]
    pub fn grids(&self) -> Vec<(Vec<String>, Vec<String>)> {
        self.distinct_grids()
            .into_iter()
            .filter(|(dims, _)| {
                !self.grid_variables().any(|v| {
                    v.dims().len() > dims.len() && dims.iter().all(|d| v.dims().contains(d))
                })
            })
            .collect()
    }

    /// Every distinct set of dimensions of data variables, each with the names of these variables.
    #[must_use]
    pub fn distinct_grids(&self) -> Vec<(Vec<String>, Vec<String>)> {
        let mut grids: Vec<(Vec<String>, Vec<String>)> = Vec::new();
        if !self.levels().is_empty() {
            // Levels share names of dimensions but differ in size, so they are on different grids.
            return grids;
        }
        for variable in self.grid_variables() {
            let same = |dims: &Vec<String>| {
                dims.len() == variable.dims().len()
                    && dims.iter().all(|d| variable.dims().contains(d))
            };
            match grids.iter_mut().find(|(dims, _)| same(dims)) {
                Some((_, names)) => names.push(variable.name().to_owned()),
                None => grids.push((variable.dims().to_vec(), vec![variable.name().to_owned()])),
            }
        }
        if grids.is_empty() && !self.variables().is_empty() {
            let mut dims: Vec<String> = Vec::new();
            for (variable, _) in self.variables().iter().filter(|(_, r)| r.is_coordinate()) {
                for dim in variable.dims() {
                    if !dims.contains(dim) {
                        dims.push(dim.clone());
                    }
                }
            }
            grids.push((dims, Vec::new()));
        }
        grids
    }

    /// The dataset as a table, on the grid that the option `dims` names, or else on the only grid.
    ///
    /// # Errors
    /// [`Error::SeveralGrids`], [`Error::SeveralLevels`], [`Error::NoVariables`], [`Error::NoSuch`] for unknown
    /// dimensions, and [`Error::Metadata`] if the grid has 2⁶³ cells or more.
    pub fn table(&self) -> Result<Table> {
        let location = self.location().name().to_owned();
        if !self.levels().is_empty() {
            return Err(Error::SeveralLevels { location, levels: self.levels().to_vec() });
        }
        let is_column = |role: &Role| *role == Role::Data || role.is_coordinate();
        if !self.variables().iter().any(|(_, role)| is_column(role)) {
            return Err(Error::NoVariables { location, children: self.children().to_vec() });
        }
        let names = match &self.options().dims {
            Some(dims) => dims.clone(),
            None => {
                let grids = self.grids();
                match <[_; 1]>::try_from(grids) {
                    Ok([(dims, _)]) => dims,
                    Err(grids) => return Err(Error::SeveralGrids { location, grids }),
                }
            }
        };
        self.table_on(&names)
    }

    /// The dataset as a table on these dimensions, slowest first.
    ///
    /// # Errors
    /// [`Error::NoSuch`] for unknown dimensions, and [`Error::Metadata`] if the grid has 2⁶³ cells or more.
    pub fn table_on(&self, dims: &[String]) -> Result<Table> {
        let dims: Vec<Dimension> = self
            .check_dims(dims)?
            .into_iter()
            .map(|name| Dimension { size: self.dimension_size(&name), name })
            .collect();
        let sizes: Vec<u64> = dims.iter().map(|d| d.size).collect();
        // Query engines count rows with signed 64-bit integers.
        let rows =
            checked_product(&sizes).filter(|&r| i64::try_from(r).is_ok()).ok_or_else(|| {
                Error::Metadata {
                    key: self.location().name().to_owned(),
                    reason: format!("the grid {sizes:?} has more cells than 63 bits count"),
                }
            })?;
        let columns = self.columns(&dims);
        Ok(Table { dims, columns, rows })
    }

    fn columns(&self, dims: &[Dimension]) -> Vec<Column> {
        let mut columns = Vec::new();
        for (position, dim) in dims.iter().enumerate() {
            let coordinate = self
                .variables()
                .iter()
                .find(|(v, role)| *role == Role::DimensionCoordinate && v.name() == dim.name);
            columns.push(match coordinate {
                Some((variable, role)) => self.column(variable, *role, dims),
                None => {
                    let mut name = dim.name.clone();
                    while self.variables().iter().any(|(v, _)| v.name() == name) {
                        name.push_str("_index");
                    }
                    Column::index(name, position)
                }
            });
        }
        for wanted in [Role::AuxiliaryCoordinate, Role::Data] {
            for (variable, role) in self.variables() {
                let fits = variable.dims().iter().all(|d| dims.iter().any(|dim| dim.name == *d));
                if *role == wanted && fits {
                    columns.push(self.column(variable, *role, dims));
                }
            }
        }
        columns
    }

    fn column(&self, variable: &Arc<Variable>, role: Role, dims: &[Dimension]) -> Column {
        let mut positions: Vec<(usize, usize)> = variable
            .dims()
            .iter()
            .enumerate()
            .filter_map(|(axis, name)| {
                let position = dims.iter().position(|d| d.name == *name)?;
                Some((position, axis))
            })
            .collect();
        positions.sort_unstable();
        let conflict = positions.iter().find_map(|&(position, axis)| {
            let (dim, size) = (&dims[position], variable.shape()[axis]);
            (dim.size != size).then(|| {
                format!(
                    "it has {size} indices along {}, where the dimension has {}; is the store being written to?",
                    dim.name, dim.size
                )
            })
        });
        let dims = positions.iter().map(|&(position, _)| position).collect();
        let values = ColumnValues::Stored(StoredColumn {
            variable: Arc::clone(variable),
            axes: positions.iter().map(|&(_, axis)| axis).collect(),
            conflict,
        });
        Column::new(variable.name().to_owned(), role, dims, values)
    }

    /// The variables whose dimensions define grids: the data variables, or only the variable that the path named.
    fn grid_variables(&self) -> impl Iterator<Item = &Variable> {
        self.variables()
            .iter()
            .filter(|(v, role)| match self.selected() {
                Some(selected) => v.name() == selected,
                None => *role == Role::Data,
            })
            .map(|(v, _)| v.as_ref())
    }

    fn check_dims(&self, dims: &[String]) -> Result<Vec<String>> {
        let mut known: Vec<String> =
            self.variables().iter().flat_map(|(v, _)| v.dims().iter().cloned()).collect();
        known.sort_unstable();
        known.dedup();
        for (i, dim) in dims.iter().enumerate() {
            if !known.contains(dim) || dims[..i].contains(dim) {
                let location = self.location().name().to_owned();
                return Err(Error::NoSuch {
                    location,
                    what: if known.contains(dim) { "second dimension" } else { "dimension" },
                    name: dim.clone(),
                    known,
                });
            }
        }
        Ok(dims.to_vec())
    }

    /// The size of a dimension: the length of its coordinate, or else the extent of the first variable along it.
    pub(super) fn dimension_size(&self, name: &str) -> u64 {
        let size_in = |v: &Variable| {
            let axis = v.dims().iter().position(|d| d == name)?;
            Some(v.shape()[axis])
        };
        let coordinate = self
            .variables()
            .iter()
            .find(|(v, role)| *role == Role::DimensionCoordinate && v.name() == name)
            .and_then(|(v, _)| size_in(v));
        coordinate
            .or_else(|| self.grid_variables().find_map(size_in))
            .or_else(|| self.variables().iter().find_map(|(v, _)| size_in(v)))
            .unwrap_or(0)
    }
}
