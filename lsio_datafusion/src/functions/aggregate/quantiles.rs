//! Quantiles: between values, as numpy's default method has them, and among values.

use std::{cmp::Ordering, fmt::Debug, marker::PhantomData, mem::size_of, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray as _, Float64Array,
        LargeListArray, PrimitiveArray,
    },
    buffer::OffsetBuffer,
    compute::cast,
    datatypes::{Field, Float32Type, Float64Type},
};
use datafusion::{common::exec_err, error::Result};

use super::{
    collector::{Collector, Rows},
    encoded::Encoding,
};

/// Which quantile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fraction {
    /// From 0 to 1.
    pub(super) fraction: f64,
    /// Whether it is counted from the largest value.
    pub(super) descending: bool,
    /// Whether equal values count once.
    pub(super) distinct: bool,
}

/// A quantile that may lie between two values, as a double.
///
/// DataFusion 55.2 cuts its place between both to millionths, and rounds the result to Float32 where the
/// values are.
#[derive(Debug)]
pub(super) struct Between<T> {
    fraction: Fraction,
    values: PhantomData<T>,
}

/// A quantile that is one of the values, of any type.
#[derive(Debug)]
pub(super) struct Among {
    fraction: Fraction,
    encoding: Encoding,
}

/// The types in which numbers are kept.
pub(super) trait Number:
    ArrowPrimitiveType<Native: Into<f64>> + Debug + Send + Sync + 'static
{
}

impl Number for Float32Type {}
impl Number for Float64Type {}

impl Fraction {
    fn order(self, ordering: Ordering) -> Ordering {
        if self.descending { ordering.reverse() } else { ordering }
    }
}

impl<T> Between<T> {
    pub(super) fn new(fraction: Fraction) -> Self {
        Self { fraction, values: PhantomData }
    }
}

impl<T: Number> Between<T> {
    fn of(&self, values: &mut Vec<T::Native>) -> Option<f64> {
        let order = |a: &T::Native, b: &T::Native| self.fraction.order(a.compare(*b));
        if self.fraction.distinct {
            values.sort_unstable_by(order);
            values.dedup_by(|a, b| *a == *b);
        }
        let last = values.len().checked_sub(1)?;
        let place = last as f64 * self.fraction.fraction;
        let below = (place.floor() as usize).min(last);
        let (_, a, above) = values.select_nth_unstable_by(below, order);
        let (a, t) = ((*a).into(), place - below as f64);
        let b = above.iter().copied().min_by(order).map(Into::into);
        let result = match b.filter(|b| t > 0.0 && *b != a) {
            None => a,
            // Between a number and an infinity all is infinite; rounding must not make it inf - inf.
            Some(b) if a.is_infinite() != b.is_infinite() => a + b,
            // Next to either value it is that value.
            Some(b) if t < 0.5 => a + (b - a) * t,
            Some(b) => b - (b - a) * (1.0 - t),
        };
        (!result.is_nan()).then_some(result)
    }
}

/// Adds a value, and gives the bytes that this takes.
fn push<N>(values: &mut Vec<N>, value: N) -> usize {
    let before = values.capacity();
    values.push(value);
    (values.capacity() - before) * size_of::<N>()
}

/// A list for each group.
fn lists(values: ArrayRef, lengths: impl Iterator<Item = usize>) -> Result<ArrayRef> {
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let offsets = OffsetBuffer::<i64>::from_lengths(lengths);
    Ok(Arc::new(LargeListArray::try_new(field, offsets, values, None)?))
}

/// The lists of states.
pub(super) fn as_lists(states: &ArrayRef) -> Result<&LargeListArray> {
    match states.as_list_opt::<i64>() {
        Some(lists) => Ok(lists),
        None => exec_err!("the state of an aggregate is no list but {}", states.data_type()),
    }
}

/// Lists of what was kept of each group.
pub(super) fn lists_of<'a, G>(
    encoding: &Encoding,
    groups: &'a [G],
    values: impl Fn(&'a G) -> Vec<&'a [u8]>,
) -> Result<ArrayRef> {
    let values: Vec<Vec<&[u8]>> = groups.iter().map(values).collect();
    let flat = encoding.decode(values.iter().flatten().map(|value| Some(*value)))?;
    lists(flat, values.iter().map(Vec::len))
}

/// A list of numbers for each group.
pub(super) fn lists_of_numbers<T: ArrowPrimitiveType>(
    groups: &[Vec<T::Native>],
) -> Result<ArrayRef> {
    let values = PrimitiveArray::<T>::from_iter_values(groups.iter().flatten().copied());
    lists(Arc::new(values), groups.iter().map(Vec::len))
}

impl<T: Number> Collector for Between<T> {
    type Group = Vec<T::Native>;

    fn update(&self, groups: &mut [Self::Group], rows: &Rows<'_>) -> Result<usize> {
        let Some(column) = rows.columns.first() else { return Ok(0) };
        // Float16 is kept as Float32.
        let column = cast(column, &T::DATA_TYPE)?;
        let values = column.as_primitive::<T>();
        let mut bytes = 0;
        for (row, group) in rows.kept() {
            let value = values.value(row);
            if values.is_valid(row) && !value.into().is_nan() {
                bytes += push(&mut groups[group], value);
            }
        }
        Ok(bytes)
    }

    fn merge(&self, groups: &mut [Self::Group], states: &Rows<'_>) -> Result<usize> {
        let Some(column) = states.columns.first() else { return Ok(0) };
        let lists = as_lists(column)?;
        let mut bytes = 0;
        for (row, group) in states.kept().filter(|(row, _)| lists.is_valid(*row)) {
            let values = lists.value(row);
            for value in values.as_primitive_opt::<T>().into_iter().flatten().flatten() {
                bytes += push(&mut groups[group], value);
            }
        }
        Ok(bytes)
    }

    fn state(&self, groups: &[Self::Group]) -> Result<Vec<ArrayRef>> {
        Ok(vec![lists_of_numbers::<T>(groups)?])
    }

    fn evaluate(&self, groups: &mut [Self::Group]) -> Result<ArrayRef> {
        let results = groups.iter_mut().map(|group| self.of(group));
        Ok(Arc::new(results.collect::<Float64Array>()))
    }

    fn bytes(group: &Self::Group) -> usize {
        group.capacity() * size_of::<T::Native>()
    }
}

impl Among {
    pub(super) fn new(fraction: Fraction, encoding: Encoding) -> Self {
        Self { fraction, encoding }
    }

    fn of<'a>(&self, values: &'a mut Vec<Box<[u8]>>) -> Option<&'a [u8]> {
        let order = |a: &[u8], b: &[u8]| self.fraction.order(a.cmp(b));
        if self.fraction.distinct {
            values.sort_unstable_by(|a, b| order(a, b));
            values.dedup();
        }
        let last = values.len().checked_sub(1)?;
        // The first value at or below which the fraction of them lies.
        let count = values.len() as f64;
        let above = (count - count * self.fraction.fraction).floor() as usize;
        let place = values.len().saturating_sub(above).saturating_sub(1).min(last);
        let (_, value, _) = values.select_nth_unstable_by(place, |a, b| order(a, b));
        Some(value)
    }

    fn add(&self, group: &mut Vec<Box<[u8]>>, value: &[u8]) -> usize {
        push(group, value.into()) + value.len()
    }
}

impl Collector for Among {
    type Group = Vec<Box<[u8]>>;

    fn update(&self, groups: &mut [Self::Group], rows: &Rows<'_>) -> Result<usize> {
        let Some(column) = rows.columns.first() else { return Ok(0) };
        let values = self.encoding.encode(column)?;
        let mut bytes = 0;
        for (row, group) in rows.kept() {
            if let Some(value) = values.get(row) {
                bytes += self.add(&mut groups[group], value);
            }
        }
        Ok(bytes)
    }

    fn merge(&self, groups: &mut [Self::Group], states: &Rows<'_>) -> Result<usize> {
        let Some(column) = states.columns.first() else { return Ok(0) };
        let lists = as_lists(column)?;
        let mut bytes = 0;
        for (row, group) in states.kept().filter(|(row, _)| lists.is_valid(*row)) {
            let list = lists.value(row);
            let values = self.encoding.encode(&list)?;
            for value in (0..list.len()).filter_map(|value| values.get(value)) {
                bytes += self.add(&mut groups[group], value);
            }
        }
        Ok(bytes)
    }

    fn state(&self, groups: &[Self::Group]) -> Result<Vec<ArrayRef>> {
        Ok(vec![lists_of(&self.encoding, groups, |group| {
            group.iter().map(AsRef::as_ref).collect()
        })?])
    }

    fn evaluate(&self, groups: &mut [Self::Group]) -> Result<ArrayRef> {
        self.encoding.decode(groups.iter_mut().map(|group| self.of(group)))
    }

    fn bytes(group: &Self::Group) -> usize {
        let values: usize = group.iter().map(|value| value.len()).sum();
        values + group.capacity() * size_of::<Box<[u8]>>()
    }
}
