//! Sums of 64-bit integers.

use std::{
    collections::HashSet,
    mem::{size_of, size_of_val},
    slice::{from_mut, from_ref},
    sync::Arc,
};

use arrow::{
    array::{
        Array as _, ArrayRef, ArrowPrimitiveType, AsArray as _, Decimal128Array, Int64Array,
        PrimitiveArray, UInt64Array,
    },
    compute::cast,
    datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Int64Type, UInt64Type},
};
use datafusion::{
    common::{exec_datafusion_err, exec_err},
    error::Result,
    logical_expr::Accumulator,
    scalar::ScalarValue,
};

use super::{
    collector::{Collector, GroupedRows, merge_lists},
    quantiles::lists,
};

/// Type of states.
pub(super) const STATE: DataType = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);

/// Sums 64-bit integers or durations in 128 bits. A sum out of the range of its type is an error.
///
/// DataFusion 55.2 returns such a sum modulo 2⁶⁴.
#[derive(Debug)]
pub(super) struct IntegerSum {
    name: String,
    data_type: DataType,
}

/// Sums distinct integers or durations, whose states have their type.
#[derive(Debug)]
pub(super) struct DistinctSum {
    own: IntegerSum,
    values: DataType,
}

/// Sum of a window's frame. Rows that leave are subtracted, which is exact for integers.
#[derive(Debug)]
pub(super) struct SlidingSum {
    own: IntegerSum,
    sum: Sum,
}

/// Sum and number of values.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    sum: i128,
    count: u64,
}

/// Casts sums to a type; `name` is that of the function in an error.
pub(crate) fn integer_sums(
    name: &str,
    data_type: &DataType,
    sums: impl Iterator<Item = Option<i128>>,
) -> Result<ArrayRef> {
    let beyond = |_| match data_type {
        DataType::Duration(_) => exec_datafusion_err!("{name} is longer than durations are"),
        _ => exec_datafusion_err!(
            "{name} is beyond what {data_type} holds: sum CAST(… AS DOUBLE), or CAST(… AS DECIMAL(38, \
             0)) for all digits"
        ),
    };
    let array: ArrayRef = match data_type {
        DataType::Decimal128(..) => return integer_sum_states(sums),
        DataType::UInt64 => {
            let sums = sums.map(|sum| sum.map(u64::try_from).transpose());
            Arc::new(sums.collect::<Result<UInt64Array, _>>().map_err(beyond)?)
        }
        _ => {
            let sums = sums.map(|sum| sum.map(i64::try_from).transpose());
            Arc::new(sums.collect::<Result<Int64Array, _>>().map_err(beyond)?)
        }
    };
    Ok(if array.data_type() == data_type { array } else { cast(&array, data_type)? })
}

/// States of sums.
pub(crate) fn integer_sum_states(sums: impl Iterator<Item = Option<i128>>) -> Result<ArrayRef> {
    let states = sums.collect::<Decimal128Array>();
    Ok(Arc::new(states.with_data_type(STATE)))
}

impl Sum {
    fn add(&mut self, value: impl Into<i128>) {
        // The sum of 2⁶³ values of 64 bits fits 128 bits.
        self.sum = self.sum.wrapping_add(value.into());
        self.count = self.count.saturating_add(1);
    }

    fn get(self) -> Option<i128> {
        (self.count > 0).then_some(self.sum)
    }
}

/// Calls `f` with each integer and its group.
fn for_each(rows: &GroupedRows<'_>, mut f: impl FnMut(usize, i128)) -> Result<()> {
    fn of<T: ArrowPrimitiveType<Native: Into<i128>>>(
        values: &PrimitiveArray<T>,
        rows: &GroupedRows<'_>,
        f: &mut impl FnMut(usize, i128),
    ) {
        for (row, group) in rows.kept() {
            if values.is_valid(row) {
                f(group, values.value(row).into());
            }
        }
    }
    let Some(column) = rows.columns.first() else { return Ok(()) };
    match column.data_type() {
        DataType::UInt64 => of(column.as_primitive::<UInt64Type>(), rows, &mut f),
        DataType::Decimal128(..) => of(column.as_primitive::<Decimal128Type>(), rows, &mut f),
        _ => of(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>(), rows, &mut f),
    }
    Ok(())
}

impl IntegerSum {
    pub(super) fn new(name: &str, data_type: &DataType) -> Self {
        Self { name: name.to_owned(), data_type: data_type.clone() }
    }

    fn sums(&self, sums: impl Iterator<Item = Option<i128>>) -> Result<ArrayRef> {
        integer_sums(&self.name, &self.data_type, sums)
    }
}

impl Collector for IntegerSum {
    type GroupState = Sum;

    fn update(&self, groups: &mut [Sum], rows: &GroupedRows<'_>) -> Result<usize> {
        for_each(rows, |group, value| groups[group].add(value))?;
        Ok(0)
    }

    fn merge(&self, groups: &mut [Sum], states: &GroupedRows<'_>) -> Result<usize> {
        self.update(groups, states)
    }

    fn state(&self, groups: &[Sum]) -> Result<Vec<ArrayRef>> {
        Ok(vec![integer_sum_states(groups.iter().map(|sum| sum.get()))?])
    }

    fn evaluate(&self, groups: &mut [Sum]) -> Result<ArrayRef> {
        self.sums(groups.iter().map(|sum| sum.get()))
    }

    fn bytes(_group: &Sum) -> usize {
        0
    }
}

impl DistinctSum {
    pub(super) fn new(name: &str, values: &DataType, result: &DataType) -> Self {
        Self { own: IntegerSum::new(name, result), values: values.clone() }
    }
}

impl Collector for DistinctSum {
    type GroupState = HashSet<i128>;

    fn update(&self, groups: &mut [Self::GroupState], rows: &GroupedRows<'_>) -> Result<usize> {
        let mut bytes = 0;
        for_each(rows, |group, value| {
            bytes += usize::from(groups[group].insert(value)) * 2 * size_of::<i128>();
        })?;
        Ok(bytes)
    }

    fn merge(&self, groups: &mut [Self::GroupState], states: &GroupedRows<'_>) -> Result<usize> {
        merge_lists(groups, states, |group, list| {
            self.update(from_mut(group), &GroupedRows::all(from_ref(list)))
        })
    }

    fn state(&self, groups: &[Self::GroupState]) -> Result<Vec<ArrayRef>> {
        let values = groups.iter().flatten().map(|value| Some(*value));
        let values = integer_sums(&self.own.name, &self.values, values)?;
        Ok(vec![lists(values, groups.iter().map(HashSet::len))?])
    }

    fn evaluate(&self, groups: &mut [Self::GroupState]) -> Result<ArrayRef> {
        self.own.sums(groups.iter().map(|group| (!group.is_empty()).then(|| group.iter().sum())))
    }

    fn bytes(group: &Self::GroupState) -> usize {
        group.len() * 2 * size_of::<i128>()
    }
}

impl SlidingSum {
    pub(super) fn new(name: &str, data_type: &DataType) -> Self {
        Self { own: IntegerSum::new(name, data_type), sum: Sum::default() }
    }
}

impl Accumulator for SlidingSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for_each(&GroupedRows::all(values), |_, value| self.sum.add(value))
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for_each(&GroupedRows::all(values), |_, value| {
            self.sum.sum = self.sum.sum.wrapping_sub(value);
            self.sum.count = self.sum.count.saturating_sub(1);
        })
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.own.evaluate(from_mut(&mut self.sum))?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let columns = self.own.state(&[self.sum])?;
        columns.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> Result<()> {
        exec_err!("frames of windows aren't merged")
    }
}
