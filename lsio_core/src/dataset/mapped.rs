//! Columns of one table as columns of another, through index maps.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray, Int64Array, UInt64Array},
    compute::take,
};

use super::{
    Column, Dimension, Role,
    column::{ColumnValues, StoredColumn},
};
use crate::{Error, IndexMap, Result};

/// A column of another table, seen through index maps.
#[derive(Clone, Debug)]
pub(crate) struct Mapped {
    /// An index, a variable, or values in memory.
    pub(crate) column: Column,
    /// Sizes of the column's dimensions.
    pub(crate) shape: Vec<u64>,
    /// Rank of the column's table.
    pub(crate) rank: usize,
    /// For each dimension of the column, the map to its indices.
    pub(crate) maps: Vec<IndexMap>,
    /// Further maps without which there is no value.
    pub(crate) presence: Vec<IndexMap>,
}

/// Index maps from the grid of one table to that of another, the partner.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    /// The dimensions of the partner's grid.
    pub dims: &'a [Dimension],
    /// For each of them, the map to its indices.
    pub maps: &'a [IndexMap],
}

impl Lookup<'_> {
    /// A column of the partner as a column of the table. It has no value for a cell without a partner: where any of the
    /// maps has no index.
    ///
    /// # Errors
    /// A text, if the column can't be looked up: it would vary along more dimensions than index maps have.
    pub fn column(&self, column: &Column, name: String) -> Result<Column, String> {
        let absent: Vec<IndexMap> = self.absent();
        let own = |maps: &[IndexMap]| -> Result<Vec<IndexMap>, String> {
            let composed = maps.iter().map(|map| IndexMap::composed(map, self.maps));
            let composed: Option<_> = composed.collect();
            composed.ok_or_else(|| {
                format!("{} would be looked up along more than two dimensions", column.name)
            })
        };
        let (source, maps, mut presence) = match column.values() {
            ColumnValues::Index | ColumnValues::Stored(_) | ColumnValues::Memory(_) => {
                let maps = column.dims.iter().map(|&dim| self.maps[dim].clone()).collect();
                let source = Source {
                    column: column.clone(),
                    shape: column.dims.iter().map(|&dim| self.dims[dim].size).collect(),
                    rank: self.dims.len(),
                };
                (source, maps, Vec::new())
            }
            ColumnValues::Mapped(mapped) => {
                let Mapped { column, shape, rank, maps, presence } = mapped.as_ref();
                let source = Source { column: column.clone(), shape: shape.clone(), rank: *rank };
                (source, own(maps)?, own(presence)?)
            }
            ColumnValues::Present(maps) => {
                let mut maps = own(maps)?;
                maps.extend(absent);
                return Ok(Column::present(name, maps));
            }
            ColumnValues::Pending(_) => {
                return Err(format!("{} is known only when the query runs", column.name));
            }
            ColumnValues::Derived(_) => {
                return Err(format!("{} is computed from other cells", column.name));
            }
        };
        presence.extend(absent);
        let mut distinct: Vec<IndexMap> = Vec::new();
        for map in presence {
            if !maps.contains(&map) && !distinct.contains(&map) {
                distinct.push(map);
            }
        }
        source.through(name, maps, distinct)
    }

    /// Whether a cell of the table has a partner.
    #[must_use]
    pub fn present(&self, name: String) -> Column {
        Column::present(name, self.absent())
    }

    /// The maps that don't have a partner for each index.
    fn absent(&self) -> Vec<IndexMap> {
        let absent = self.maps.iter().filter(|map| map.misses_some());
        absent.cloned().collect()
    }
}

/// What is looked up.
struct Source {
    column: Column,
    shape: Vec<u64>,
    rank: usize,
}

impl Source {
    fn through(
        self,
        name: String,
        maps: Vec<IndexMap>,
        presence: Vec<IndexMap>,
    ) -> Result<Column, String> {
        let Self { column, shape, rank } = self;
        let mut dims: Vec<usize> =
            maps.iter().chain(&presence).flat_map(IndexMap::dims).copied().collect();
        dims.sort_unstable();
        dims.dedup();
        let role = column.role;
        let all_same = maps.iter().all(IndexMap::is_same);
        let distinct = dims.len() == maps.len();
        if presence.is_empty() && all_same && distinct {
            // As good as a column of the table itself.
            match column.values() {
                ColumnValues::Index => {
                    return Ok(Column::new(name, role, dims, ColumnValues::Index));
                }
                ColumnValues::Stored(stored) => {
                    let mut axes: Vec<(usize, usize)> = maps
                        .iter()
                        .zip(&stored.axes)
                        .flat_map(|(map, &axis)| map.dims().iter().map(move |&dim| (dim, axis)))
                        .collect();
                    axes.sort_unstable();
                    let axes = axes.into_iter().map(|(_, axis)| axis).collect();
                    let stored = StoredColumn { axes, ..stored.clone() };
                    let mut own = Column::new(name, role, dims, ColumnValues::Stored(stored));
                    if maps.windows(2).all(|pair| pair[0].dims() < pair[1].dims()) {
                        // What was read is in the same order.
                        own.held = Arc::clone(&column.held);
                    }
                    return Ok(own);
                }
                _ => {}
            }
        }
        if let ([dim], true) = (dims.as_slice(), column.is_known()) {
            // Values in memory along one dimension serve selections, orders and statistics.
            let values = along(&column, &shape, &maps, &presence, *dim);
            let values = values.map_err(|error| error.to_string())?;
            if let Some(values) = values {
                return Ok(Column::memory(name, role, dims, values));
            }
        }
        let mapped = Mapped { column, shape, rank, maps, presence };
        Ok(Column::new(name, role, dims, ColumnValues::Mapped(Arc::new(mapped))))
    }
}

/// Values of a column in memory, looked up along one dimension.
fn along(
    column: &Column,
    shape: &[u64],
    maps: &[IndexMap],
    presence: &[IndexMap],
    dim: usize,
) -> Result<Option<ArrayRef>> {
    let sizes = maps.iter().chain(presence).find_map(|map| map.size_along(dim));
    let Some(size) = sizes else { return Ok(None) };
    let strides = crate::grid::strides(shape);
    let index = |index: u64| {
        if presence.iter().any(|map| map.get(&[index]).is_none()) {
            return None;
        }
        let partners = maps.iter().zip(&strides).map(|(map, stride)| {
            let own: &[u64] = if map.dims().is_empty() { &[] } else { &[index] };
            map.get(own).map(|partner| partner * stride)
        });
        partners.sum::<Option<u64>>()
    };
    let indices: UInt64Array = (0..size).map(index).collect();
    if column.is_index() {
        let values: Int64Array = indices.iter().map(|i| i.map(u64::cast_signed)).collect();
        return Ok(Some(Arc::new(values)));
    }
    let Some(values) = column.loaded() else { return Ok(None) };
    let failed = |error: arrow::error::ArrowError| Error::Decode {
        array: column.name.clone(),
        reason: error.to_string(),
    };
    take(values, &indices, None).map(Some).map_err(failed)
}

impl Column {
    /// Values in memory of an array of `shape`, in C order, seen through one map for each of its axes. A cell has no
    /// value where one of the maps, or of `presence`, has no index.
    #[must_use]
    pub fn mapped_memory(
        name: String,
        values: ArrayRef,
        shape: Vec<u64>,
        maps: Vec<IndexMap>,
        presence: Vec<IndexMap>,
    ) -> Self {
        let rank = shape.len();
        let column = Self::memory(name.clone(), Role::Data, (0..rank).collect(), values);
        let mut dims: Vec<usize> =
            maps.iter().chain(&presence).flat_map(IndexMap::dims).copied().collect();
        dims.sort_unstable();
        dims.dedup();
        let mapped = Mapped { column, shape, rank, maps, presence };
        Self::new(name, Role::Data, dims, ColumnValues::Mapped(Arc::new(mapped)))
    }

    /// A boolean column that is true where all of these maps have a partner.
    #[must_use]
    pub fn present(name: String, maps: Vec<IndexMap>) -> Self {
        let mut dims: Vec<usize> = maps.iter().flat_map(IndexMap::dims).copied().collect();
        dims.sort_unstable();
        dims.dedup();
        let all = |index: &[u64]| {
            maps.iter()
                .all(|map| map.get(if map.dims().is_empty() { &[] } else { index }).is_some())
        };
        // Along one dimension it serves selections.
        let mask: BooleanArray = match dims.as_slice() {
            [] => BooleanArray::from(vec![all(&[])]),
            [dim] => {
                let size = maps.iter().find_map(|map| map.size_along(*dim)).unwrap_or(0);
                (0..size).map(|index| Some(all(&[index]))).collect()
            }
            _ => return Self::new(name, Role::Data, dims, ColumnValues::Present(maps.into())),
        };
        Self::memory(name, Role::Data, dims, Arc::new(mask))
    }
}
