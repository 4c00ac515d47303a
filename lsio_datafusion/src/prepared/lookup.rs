//! Rows of a plan as an array over their keys, looked up by a scan.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, BooleanArray, RecordBatch, UInt64Array},
    compute::take,
};
use datafusion::{
    common::{exec_err, utils::normalize_float_zero},
    error::Result,
    execution::{
        TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    physical_expr::PhysicalExpr,
};
use lsio_core::{Column, IndexMap, Table};

use super::{
    axes::axes,
    ordinals::{NONE, Ordinals},
    slot::{PlanResults, Slot},
};
use crate::aggregate::{DenseColumn, DenseResults};

/// Columns of a table that are looked up in the rows of a plan.
#[derive(Clone, Debug)]
pub(crate) struct PreparedLookup {
    pub(crate) slot: Arc<Slot>,
    pub(crate) keys: Vec<PreparedKey>,
    /// Positions in the table, with what is looked up.
    pub(crate) columns: Vec<(usize, PreparedColumn)>,
}

/// A key by which rows are looked up.
#[derive(Clone, Debug)]
pub(crate) struct PreparedKey {
    /// Dimensions of the table along which the key varies, ascending: two at most, and their sizes.
    pub(crate) dims: Vec<usize>,
    pub(crate) sizes: Vec<u64>,
    /// The key of each cell of these dimensions.
    pub(crate) values: ArrayRef,
    /// The key of a row.
    pub(crate) of_row: Arc<dyn PhysicalExpr>,
    /// Whether NULL equals NULL.
    pub(crate) null_equals: bool,
}

/// What is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PreparedColumn {
    /// A column of the rows.
    Value(usize),
    /// Whether there is a row.
    Present,
}

impl PreparedLookup {
    /// Waits for the rows, and replaces the columns of the table. Returns the memory that they take.
    pub(crate) async fn bind(
        &self,
        table: &mut Table,
        context: &Arc<TaskContext>,
    ) -> Result<MemoryReservation> {
        let Some(rows) = self.slot.of(context) else {
            return exec_err!(
                "the rows that a scan looks up are those of another plan: execute the whole plan"
            );
        };
        let results = rows.get().await?;
        let reservation = MemoryConsumer::new("ZarrLookup").register(context.memory_pool());
        let batch;
        let placed = match &*results {
            PlanResults::Rows(rows) => Placed::new(&self.keys, &rows.batch, &reservation)?,
            PlanResults::Dense(dense) => match axes(&self.keys, dense)? {
                Some(maps) => Placed::of_dense(dense, maps),
                None => {
                    batch = dense.rows()?;
                    reservation.try_grow(batch.get_array_memory_size())?;
                    Placed::new(&self.keys, &batch, &reservation)?
                }
            },
        };
        for &(position, column) in &self.columns {
            let Some(target) = table.columns.get_mut(position) else { continue };
            let name = target.name.clone();
            *target = match column {
                PreparedColumn::Value(index) => placed.value(name, index, &reservation)?,
                PreparedColumn::Present => placed.present(name),
            };
        }
        Ok(reservation)
    }
}

/// Results in an array with one axis for each key, or for keys that share dimensions.
struct Placed<'a> {
    shape: Vec<u64>,
    maps: Vec<IndexMap>,
    source: Source<'a>,
}

/// Where the values of the array come from.
enum Source<'a> {
    /// Rows.
    Rows {
        batch: &'a RecordBatch,
        /// The row of each place, in C order, or [`NONE`]; `None` if each place has the row of its number.
        at: Option<Vec<u64>>,
        has_holes: bool,
    },
    /// Arrays of that shape.
    Dense(&'a DenseResults),
}

impl<'a> Placed<'a> {
    fn new(
        keys: &[PreparedKey],
        batch: &'a RecordBatch,
        reservation: &MemoryReservation,
    ) -> Result<Self> {
        let count = batch.num_rows();
        let (mut shape, mut maps, mut ordinals) = (Vec::new(), Vec::new(), Vec::new());
        reservation.try_grow(count.saturating_mul(keys.len() + 1).saturating_mul(8))?;
        for key in keys {
            let axis = Axis::new(key, batch)?;
            shape.push(axis.size);
            maps.push(axis.map);
            ordinals.push(axis.of_rows);
        }
        let places = lsio_core::grid::checked_product(&shape);
        let Some(places) = places.and_then(|places| usize::try_from(places).ok()) else {
            return exec_err!("the keys {shape:?} of rows that a scan looks up are too many");
        };
        reservation.try_grow(places.saturating_mul(8)).map_err(|error| {
            error.context(format!(
                "{count} rows that a scan looks up take {places} places: raise the memory limit (-m), or SET \
                 lsio.join_pushdown = false"
            ))
        })?;
        let strides = lsio_core::grid::strides(&shape);
        let place = |row: usize| -> Option<u64> {
            let along = ordinals.iter().zip(&strides).map(|(own, stride)| match own[row] {
                NONE => None,
                ordinal => Some(ordinal * stride),
            });
            along.sum()
        };
        if places == count && (0..count).all(|row| place(row) == Some(row as u64)) {
            return Ok(Self {
                shape,
                maps,
                source: Source::Rows { batch, at: None, has_holes: false },
            });
        }
        let mut at = vec![NONE; places];
        let mut filled = 0;
        for row in 0..count {
            let Some(place) = place(row).and_then(|place| usize::try_from(place).ok()) else {
                continue;
            };
            if at[place] != NONE {
                return exec_err!(
                    "two rows that a scan looks up have the same keys: SET lsio.join_pushdown = false"
                );
            }
            at[place] = row as u64;
            filled += 1;
        }
        let source = Source::Rows { batch, at: Some(at), has_holes: filled < places };
        Ok(Self { shape, maps, source })
    }

    /// `maps` lead to the axes of the results.
    fn of_dense(dense: &'a DenseResults, maps: Vec<IndexMap>) -> Self {
        let shape = dense.shape().iter().map(|size| *size as u64).collect();
        Self { shape, maps, source: Source::Dense(dense) }
    }

    /// A column of the results.
    fn value(&self, name: String, index: usize, memory: &MemoryReservation) -> Result<Column> {
        let placed = match &self.source {
            Source::Rows { batch, at: None, .. } => {
                return Ok(self.column(name, Arc::clone(batch.column(index))));
            }
            Source::Rows { batch, at: Some(rows), .. } => {
                let row = |row: &u64| (*row != NONE).then_some(*row);
                let rows = UInt64Array::from_iter(rows.iter().map(row));
                take(batch.column(index), &rows, None)?
            }
            Source::Dense(dense) => match (dense.columns().get(index), dense.present()) {
                (Some(DenseColumn::Result(values)), _) => {
                    return Ok(self.column(name, Arc::clone(values)));
                }
                (Some(DenseColumn::Key { axis, values }), None) => {
                    return Ok(self.key(name, *axis, Arc::clone(values)));
                }
                _ => dense.values(index)?,
            },
        };
        memory.try_grow(placed.get_array_memory_size())?;
        Ok(self.column(name, placed))
    }

    /// A key that varies along one axis, where each place has a value.
    fn key(&self, name: String, axis: usize, values: ArrayRef) -> Column {
        let (shape, map) = (vec![self.shape[axis]], self.maps[axis].clone());
        let others = self.maps.iter().enumerate().filter(|(other, _)| *other != axis);
        let missing = others.filter(|(_, map)| map.misses_some()).map(|(_, map)| map.clone());
        Column::mapped_memory(name, values, shape, vec![map], missing.collect())
    }

    fn column(&self, name: String, values: ArrayRef) -> Column {
        Column::mapped_memory(name, values, self.shape.clone(), self.maps.clone(), Vec::new())
    }

    fn present(&self, name: String) -> Column {
        let present: Option<BooleanArray> = match &self.source {
            Source::Rows { at: Some(rows), has_holes: true, .. } => {
                Some(rows.iter().map(|row| Some(*row != NONE)).collect())
            }
            Source::Rows { .. } => None,
            Source::Dense(dense) => dense.present().cloned().map(BooleanArray::from),
        };
        match present {
            Some(present) => self.column(name, Arc::new(present)),
            None => {
                let misses = self.maps.iter().filter(|map| map.misses_some());
                Column::present(name, misses.cloned().collect())
            }
        }
    }
}

/// Ordinals of one key.
struct Axis {
    /// Number of distinct keys.
    size: u64,
    /// From the table's indices to ordinals.
    map: IndexMap,
    /// The ordinal of each row's key, or [`NONE`].
    of_rows: Vec<u64>,
}

impl Axis {
    fn new(key: &PreparedKey, batch: &RecordBatch) -> Result<Self> {
        let of_rows = key.of_row.evaluate(batch)?.into_array(batch.num_rows())?;
        let of_rows = [normalize_float_zero(&of_rows)];
        let of_cells = [normalize_float_zero(&key.values)];
        let mut known = Ordinals::new(&of_rows, vec![key.null_equals])?;
        let of_rows = known.of(&of_rows)?;
        let size = known.len();
        let of_cells = known.of(&of_cells)?;
        let size = size as u64;
        let index = |ordinal: u64| Some(ordinal).filter(|ordinal| *ordinal < size);
        let indices = of_cells.into_iter().map(index).collect();
        let map = IndexMap::new(key.dims.clone(), key.sizes.clone(), indices);
        Ok(Self { size, map, of_rows })
    }
}
