//! Group keys that are evaluated on each cell: functions of data variables, such as `floor(t2m)`.
//!
//! Their values are few, or the aggregate isn't for the scan: each combination of them gets a number, and the group of a
//! cell is that number times the number of the groups of all other keys, plus the cell's group among those.

use std::{
    mem::size_of,
    sync::{Mutex, PoisonError},
};

use arrow::{
    array::{Array as _, ArrayRef, BooleanArray, UInt32Array, new_empty_array},
    buffer::BooleanBuffer,
    compute::{filter as filter_rows, take},
    datatypes::{Field, Schema, SchemaRef},
};
use datafusion::{
    common::resources_datafusion_err,
    error::Result,
    logical_expr::EmitTo,
    physical_plan::aggregates::{
        group_values::{GroupValues, new_group_values},
        order::GroupOrdering,
    },
};
use lsio_core::reduce::GroupLayout;

use crate::expression::Ranked;

/// Keys that are evaluated on each cell.
#[derive(Clone, Debug)]
pub(super) struct CellKeys {
    pub(super) exprs: Vec<Ranked>,
    /// Positions among all keys.
    pub(super) positions: Vec<usize>,
    schema: SchemaRef,
}

/// Combinations of values that any worker has met.
pub(super) struct Dictionary {
    values: Mutex<Box<dyn GroupValues>>,
    /// Upper bound on the combinations.
    most: usize,
}

/// Combinations that one worker has met.
pub(super) struct Numbering {
    values: Box<dyn GroupValues>,
    /// Number of each in the dictionary.
    numbers: Vec<u32>,
    batch: Vec<usize>,
}

impl CellKeys {
    /// Keys, each with its position and name.
    pub(super) fn new(keys: Vec<(usize, Ranked, String)>) -> Result<Self> {
        let mut own =
            Self { exprs: Vec::new(), positions: Vec::new(), schema: Schema::empty().into() };
        let mut fields = Vec::new();
        for (position, expr, name) in keys {
            fields.push(Field::new(name, expr.whole().data_type()?, true));
            own.exprs.push(expr);
            own.positions.push(position);
        }
        own.schema = Schema::new(fields).into();
        Ok(own)
    }

    /// Names of the keys, as in the query.
    pub(super) fn names(&self) -> String {
        let names: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        names.join(", ")
    }

    fn group_values(&self) -> Result<Box<dyn GroupValues>> {
        new_group_values(SchemaRef::clone(&self.schema), &GroupOrdering::None)
    }
}

impl Dictionary {
    pub(super) fn new(keys: &CellKeys, most: usize) -> Result<Self> {
        Ok(Self { values: Mutex::new(keys.group_values()?), most })
    }

    /// Numbers of combinations, which are new to a worker.
    fn numbers(&self, keys: &[ArrayRef], batch: &mut Vec<usize>) -> Result<Vec<u32>> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.intern(keys, batch)?;
        if values.len() > self.most {
            return Err(resources_datafusion_err!(
                "more than {} values of GROUP BY don't fit the memory of the scan",
                self.most
            ));
        }
        Ok(batch.iter().map(|number| u32::try_from(*number).unwrap_or(u32::MAX)).collect())
    }

    /// Values of each key, by number. The dictionary is empty afterwards.
    pub(super) fn emit(&self, keys: &CellKeys) -> Result<Vec<ArrayRef>> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if values.is_empty() {
            let types = keys.schema.fields().iter().map(|field| field.data_type());
            return Ok(types.map(new_empty_array).collect());
        }
        values.emit(EmitTo::All)
    }
}

impl Numbering {
    pub(super) fn new(keys: &CellKeys) -> Result<Self> {
        Ok(Self { values: keys.group_values()?, numbers: Vec::new(), batch: Vec::new() })
    }

    /// Bytes of the values and their numbers.
    pub(super) fn size(&self) -> usize {
        self.values.size() + self.numbers.capacity() * size_of::<u32>()
    }

    /// Groups of a tile's cells from `first` on, whose keys have these values; cells where the mask `rows` is false have
    /// any. `groups` is the number of groups of the other keys, `layout` has those of the cells. Returns the greatest
    /// number too.
    pub(super) fn groups(
        &mut self,
        dictionary: &Dictionary,
        keys: &[ArrayRef],
        rows: Option<&BooleanBuffer>,
        (layout, first, groups): (&GroupLayout, usize, usize),
    ) -> Result<CellGroupNumbers> {
        let kept;
        let mut own = keys;
        if let Some(rows) = rows {
            let rows = BooleanArray::new(rows.clone(), None);
            kept = keys.iter().map(|k| filter_rows(k, &rows)).collect::<Result<Vec<_>, _>>()?;
            own = &kept;
        }
        self.values.intern(own, &mut self.batch)?;
        if self.values.len() > self.numbers.len() {
            self.learn(dictionary, own)?;
        }
        let len = keys.first().map_or(0, |key| key.len());
        let groups = u32::try_from(groups).unwrap_or(u32::MAX);
        let mut cells: Vec<u32> = Vec::with_capacity(len);
        let mut numbers = self.batch.iter().map(|own| self.numbers[*own]);
        let mut most = 0;
        layout.groups(first..first + len, |group| {
            let is_wanted = rows.is_none_or(|rows| rows.value(cells.len()));
            let number = if is_wanted { numbers.next().unwrap_or(0) } else { 0 };
            most = most.max(number);
            // The number of groups fits 32 bits.
            cells.push(number.wrapping_mul(groups).wrapping_add(group as u32));
        });
        Ok(CellGroupNumbers {
            layout: GroupLayout::of_cells(cells),
            combinations: most as usize + 1,
        })
    }

    /// Looks up the combinations that the last batch had first.
    fn learn(&mut self, dictionary: &Dictionary, keys: &[ArrayRef]) -> Result<()> {
        // New ones are numbered in the order of their first rows.
        let mut next = self.numbers.len();
        let mut rows: Vec<u32> = Vec::new();
        for (row, number) in (0_u32..).zip(&self.batch) {
            if *number == next {
                rows.push(row);
                next += 1;
            }
        }
        let rows = UInt32Array::from(rows);
        let new = keys.iter().map(|key| take(key, &rows, None)).collect::<Result<Vec<_>, _>>()?;
        self.numbers.extend(dictionary.numbers(&new, &mut Vec::new())?);
        Ok(())
    }
}

/// Groups of consecutive cells.
pub(super) struct CellGroupNumbers {
    pub(super) layout: GroupLayout,
    /// Upper bound on the combinations among them.
    pub(super) combinations: usize,
}
