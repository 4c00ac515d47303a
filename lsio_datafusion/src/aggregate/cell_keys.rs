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
    recent: RecentNumbers,
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
        Ok(Self {
            values: keys.group_values()?,
            numbers: Vec::new(),
            batch: Vec::new(),
            recent: RecentNumbers::default(),
        })
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
        let len = keys.first().map_or(0, |key| key.len());
        let numbers = match self.recent.numbers(keys) {
            Some(numbers) => self.of_recent(dictionary, keys, rows, numbers)?,
            None => self.of_rows(dictionary, keys, rows, len)?,
        };
        let groups = u32::try_from(groups).unwrap_or(u32::MAX);
        let combinations = numbers.iter().max().map_or(0, |most| *most as usize + 1);
        let mut cells: Vec<u32> = Vec::with_capacity(len);
        layout.groups(first..first + len, |group| {
            // The number of groups fits 32 bits.
            let number = numbers[cells.len()].wrapping_mul(groups);
            cells.push(number.wrapping_add(group as u32));
        });
        Ok(CellGroupNumbers { layout: GroupLayout::of_cells(cells), combinations })
    }

    /// Numbers of rows by hashing; 0 for rows that aren't wanted.
    fn of_rows(
        &mut self,
        dictionary: &Dictionary,
        keys: &[ArrayRef],
        rows: Option<&BooleanBuffer>,
        len: usize,
    ) -> Result<Vec<u32>> {
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
        let found = self.batch.iter().map(|own| self.numbers[*own]);
        let Some(rows) = rows else { return Ok(found.collect()) };
        let mut numbers = vec![0; len];
        rows.set_indices().zip(found).for_each(|(row, number)| numbers[row] = number);
        Ok(numbers)
    }

    /// Numbers of rows, of which most values were met lately; the others are hashed.
    fn of_recent(
        &mut self,
        dictionary: &Dictionary,
        keys: &[ArrayRef],
        rows: Option<&BooleanBuffer>,
        mut numbers: Vec<u32>,
    ) -> Result<Vec<u32>> {
        let mut unknown: Vec<u32> = Vec::new();
        for (row, number) in (0_u32..).zip(&mut numbers) {
            if *number == UNKNOWN {
                *number = 0;
                if rows.is_none_or(|rows| rows.value(row as usize)) {
                    unknown.push(row);
                }
            }
        }
        if unknown.is_empty() {
            return Ok(numbers);
        }
        let at = UInt32Array::from(unknown);
        let own = keys.iter().map(|key| take(key, &at, None)).collect::<Result<Vec<_>, _>>()?;
        let found = self.of_rows(dictionary, &own, None, at.len())?;
        self.recent.learn(&own, &found);
        for (row, number) in at.values().iter().zip(found) {
            numbers[*row as usize] = number;
        }
        Ok(numbers)
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

/// Numbers of combinations of one or two keys of fixed width that were met lately, looked up by a few of their bits.
#[derive(Default)]
struct RecentNumbers {
    places: Vec<(KeyBits, u32)>,
}

/// Bits of the values of a row's keys; 0 of NULL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct KeyBits {
    values: [u64; 2],
    nulls: u8,
}

/// Number of places of recent combinations.
const PLACES: usize = 1 << 12;

/// The number of a combination that wasn't met lately.
const UNKNOWN: u32 = u32::MAX;

impl RecentNumbers {
    /// Numbers of rows; `None` unless there are one or two keys of fixed width.
    fn numbers(&self, keys: &[ArrayRef]) -> Option<Vec<u32>> {
        let bits = bits(keys)?;
        if self.places.is_empty() {
            return Some(vec![UNKNOWN; bits.len()]);
        }
        let number = |bits: KeyBits| {
            let (known, number) = self.places[bits.place()];
            if known == bits { number } else { UNKNOWN }
        };
        Some(bits.into_iter().map(number).collect())
    }

    /// Keeps the numbers of rows.
    fn learn(&mut self, keys: &[ArrayRef], numbers: &[u32]) {
        let Some(bits) = bits(keys) else { return };
        self.places.resize(PLACES, (KeyBits::default(), UNKNOWN));
        for (bits, number) in bits.into_iter().zip(numbers) {
            self.places[bits.place()] = (bits, *number);
        }
    }
}

impl KeyBits {
    /// Place of a combination: Fibonacci hashing.
    fn place(self) -> usize {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let [one, other] = self.values;
        let mixed = one.wrapping_mul(GOLDEN).rotate_left(29) ^ other ^ u64::from(self.nulls);
        (mixed.wrapping_mul(GOLDEN) >> 52) as usize % PLACES
    }
}

/// Bits of the rows of one or two columns of fixed width.
fn bits(keys: &[ArrayRef]) -> Option<Vec<KeyBits>> {
    if !(1..=2).contains(&keys.len()) {
        return None;
    }
    let mut rows = vec![KeyBits::default(); keys.first()?.len()];
    for (position, key) in keys.iter().enumerate() {
        let data = key.to_data();
        macro_rules! copy {
            ($t:ty) => {{
                let values = data.buffers().first()?.typed_data::<$t>();
                let values = values.get(data.offset()..data.offset() + data.len())?;
                for (row, value) in rows.iter_mut().zip(values) {
                    row.values[position] = u64::from(*value);
                }
            }};
        }
        match key.data_type().primitive_width()? {
            1 => copy!(u8),
            2 => copy!(u16),
            4 => copy!(u32),
            8 => copy!(u64),
            _ => return None,
        }
        if let Some(nulls) = key.nulls().filter(|nulls| nulls.null_count() > 0) {
            for (row, is_valid) in rows.iter_mut().zip(nulls.iter()) {
                if !is_valid {
                    row.values[position] = 0;
                    row.nulls |= 1 << position;
                }
            }
        }
    }
    Some(rows)
}

/// Groups of consecutive cells.
pub(super) struct CellGroupNumbers {
    pub(super) layout: GroupLayout,
    /// Upper bound on the combinations among them.
    pub(super) combinations: usize,
}
