//! Rows of a plan as an array over their keys, looked up by a scan.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, BooleanArray, UInt64Array},
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
    ordinals::{NONE, Ordinals},
    slot::{HeldRows, Slot},
};

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
        let rows = rows.get().await?;
        let reservation = MemoryConsumer::new("ZarrLookup").register(context.memory_pool());
        let placed = Placed::new(&self.keys, &rows, &reservation)?;
        for &(position, column) in &self.columns {
            let Some(target) = table.columns.get_mut(position) else { continue };
            let name = target.name.clone();
            *target = match column {
                PreparedColumn::Value(index) => {
                    let values = placed.values(rows.batch.column(index), &reservation)?;
                    let (shape, maps) = (placed.shape.clone(), placed.maps.clone());
                    Column::mapped_memory(name, values, shape, maps, Vec::new())
                }
                PreparedColumn::Present => placed.present(name),
            };
        }
        Ok(reservation)
    }
}

/// Places of rows in an array with one axis for each key.
struct Placed {
    shape: Vec<u64>,
    maps: Vec<IndexMap>,
    /// The row of each place, in C order, or [`NONE`]; `None` if each place has the row of its number.
    rows: Option<Vec<u64>>,
    has_holes: bool,
}

impl Placed {
    fn new(keys: &[PreparedKey], rows: &HeldRows, reservation: &MemoryReservation) -> Result<Self> {
        let count = rows.batch.num_rows();
        let (mut shape, mut maps, mut ordinals) = (Vec::new(), Vec::new(), Vec::new());
        reservation.try_grow(count.saturating_mul(keys.len() + 1).saturating_mul(8))?;
        for key in keys {
            let axis = Axis::new(key, rows)?;
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
            return Ok(Self { shape, maps, rows: None, has_holes: false });
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
        Ok(Self { shape, maps, rows: Some(at), has_holes: filled < places })
    }

    /// Values of the rows at their places.
    fn values(&self, values: &ArrayRef, reservation: &MemoryReservation) -> Result<ArrayRef> {
        let Some(rows) = &self.rows else { return Ok(Arc::clone(values)) };
        let row = |row: &u64| (*row != NONE).then_some(*row);
        let placed = take(values, &UInt64Array::from_iter(rows.iter().map(row)), None)?;
        reservation.try_grow(placed.get_array_memory_size())?;
        Ok(placed)
    }

    fn present(&self, name: String) -> Column {
        let (Some(rows), true) = (&self.rows, self.has_holes) else {
            let misses = self.maps.iter().filter(|map| map.misses_some());
            return Column::present(name, misses.cloned().collect());
        };
        let present: BooleanArray = rows.iter().map(|row| Some(*row != NONE)).collect();
        let (shape, maps) = (self.shape.clone(), self.maps.clone());
        Column::mapped_memory(name, Arc::new(present), shape, maps, Vec::new())
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
    fn new(key: &PreparedKey, rows: &HeldRows) -> Result<Self> {
        let count = rows.batch.num_rows();
        let of_rows = normalize_float_zero(&key.of_row.evaluate(&rows.batch)?.into_array(count)?);
        let of_cells = normalize_float_zero(&key.values);
        let mut known = Ordinals::new(&of_rows, key.null_equals)?;
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
