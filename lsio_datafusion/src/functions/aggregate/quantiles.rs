//! Quantiles: interpolated, by numpy's default method, and among the values.

use std::{cmp::Ordering, fmt::Debug, marker::PhantomData, mem::size_of, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray as _, LargeListArray,
        ListArray, PrimitiveArray,
    },
    buffer::{NullBuffer, OffsetBuffer},
    compute::cast,
    datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type},
};
use datafusion::{common::exec_err, error::Result};
use lsio_core::reduce::Ranked;

use super::{
    collector::{Collector, GroupedRows, merge_lists},
    encoded::OrderedEncoding,
};

/// Fractions of quantiles, and how they are computed.
#[derive(Clone, Debug)]
pub(super) struct Fractions {
    /// From 0 to 1.
    pub(super) fractions: Vec<f64>,
    /// Whether the result is a list with one quantile for each fraction.
    pub(super) listed: bool,
    /// Whether they count from the largest value.
    pub(super) descending: bool,
    /// Whether equal values count once.
    pub(super) distinct: bool,
}

/// Interpolated quantiles of doubles or times.
///
/// DataFusion 55.2 cuts the position between two values to millionths, and rounds the result to Float32 for
/// Float32 values.
#[derive(Debug)]
pub(super) struct Between<T> {
    fractions: Fractions,
    /// Whether the result is the quantile of the distances from the quantile.
    of_distances: bool,
    data_type: DataType,
    values: PhantomData<T>,
}

/// Quantiles that are values, of any type.
#[derive(Debug)]
pub(super) struct Among {
    fractions: Fractions,
    encoding: OrderedEncoding,
}

/// Types in which values are kept.
pub(super) trait QuantileType:
    ArrowPrimitiveType<Native: Ranked> + Debug + Send + Sync + 'static
{
    /// Type of interpolated values.
    type Interpolated: QuantileType<Interpolated = Self::Interpolated>;

    fn is_nan(value: Self::Native) -> bool;

    /// Converts a value to the type of interpolated values.
    fn widened(value: Self::Native) -> NativeOf<Self::Interpolated>;

    /// Interpolates from `a` to `b`.
    fn between(
        a: NativeOf<Self::Interpolated>,
        b: NativeOf<Self::Interpolated>,
        t: f64,
    ) -> NativeOf<Self::Interpolated>;

    fn distance(a: Self::Native, b: NativeOf<Self::Interpolated>) -> NativeOf<Self::Interpolated>;
}

type NativeOf<T> = <T as ArrowPrimitiveType>::Native;

macro_rules! float {
    ($($t:ty),*) => {$(
        impl QuantileType for $t {
            type Interpolated = Float64Type;

            fn is_nan(value: Self::Native) -> bool {
                value.is_nan()
            }

            fn widened(value: Self::Native) -> f64 {
                value.into()
            }

            fn between(a: f64, b: f64, t: f64) -> f64 {
                // Between a number and an infinity the result is infinite; rounding must not make it inf -
                // inf.
                if a.is_infinite() != b.is_infinite() {
                    a + b
                } else if t < 0.5 {
                    // At the ends the result is exactly `a` or `b`.
                    a + (b - a) * t
                } else {
                    b - (b - a) * (1.0 - t)
                }
            }

            fn distance(a: Self::Native, b: f64) -> f64 {
                (f64::from(a) - b).abs()
            }
        }
    )*};
}

float!(Float32Type, Float64Type);

/// Times and durations as integers.
impl QuantileType for Int64Type {
    type Interpolated = Self;

    fn is_nan(_value: i64) -> bool {
        false
    }

    fn widened(value: i64) -> i64 {
        value
    }

    fn between(a: i64, b: i64, t: f64) -> i64 {
        let distance = i128::from(b) - i128::from(a);
        // Halves are exact even where doubles are too coarse for the distance.
        let part = if t == 0.5 { distance / 2 } else { (distance as f64 * t).round() as i128 };
        let (least, most) = (a.min(b), a.max(b));
        i64::try_from(i128::from(a) + part).map_or(b, |between| between.clamp(least, most))
    }

    fn distance(a: i64, b: i64) -> i64 {
        i64::try_from(a.abs_diff(b)).unwrap_or(i64::MAX)
    }
}

impl Fractions {
    /// A single quantile.
    pub(super) fn one(fraction: f64, descending: bool, distinct: bool) -> Self {
        Self { fractions: vec![fraction], listed: false, descending, distinct }
    }

    /// The first value at or below which this fraction of values lies.
    pub(super) fn among<V: Clone>(
        &self,
        values: &mut [V],
        fraction: f64,
        compare: impl Fn(&V, &V) -> Ordering,
    ) -> Option<V> {
        let order = |a: &V, b: &V| self.order(compare(a, b));
        let mut distinct = Vec::new();
        let values = if self.distinct {
            distinct.extend_from_slice(values);
            distinct.sort_unstable_by(order);
            distinct.dedup_by(|a, b| compare(a, b).is_eq());
            &mut distinct
        } else {
            values
        };
        let last = values.len().checked_sub(1)?;
        let count = values.len() as f64;
        let above = (count - count * fraction).floor() as usize;
        let place = values.len().saturating_sub(above).saturating_sub(1).min(last);
        let (_, value, _) = values.select_nth_unstable_by(place, order);
        Some(value.clone())
    }

    fn order(&self, ordering: Ordering) -> Ordering {
        if self.descending { ordering.reverse() } else { ordering }
    }

    /// Quantiles of groups, one or a list each; NULL for a group without values.
    pub(super) fn results<'a, V: 'a, R>(
        &self,
        groups: impl Iterator<Item = &'a mut [V]>,
        of: impl Fn(&mut [V], f64) -> Option<R>,
        array: impl Fn(Vec<Option<R>>) -> Result<ArrayRef>,
    ) -> Result<ArrayRef> {
        let mut has_values = Vec::new();
        let mut results = Vec::new();
        for group in groups {
            has_values.push(!group.is_empty());
            results.extend(self.fractions.iter().map(|fraction| of(group, *fraction)));
        }
        let values = array(results)?;
        if !self.listed {
            return Ok(values);
        }
        if i32::try_from(values.len()).is_err() {
            return exec_err!("{} quantiles are more than lists hold", values.len());
        }
        let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        let lengths = has_values.iter().map(|_| self.fractions.len());
        let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
        let nulls = NullBuffer::from(has_values);
        Ok(Arc::new(ListArray::try_new(field, offsets, values, Some(nulls))?))
    }
}

impl<T> Between<T> {
    /// Quantiles with results of this type.
    pub(super) fn new(fractions: Fractions, data_type: DataType) -> Self {
        Self { fractions, of_distances: false, data_type, values: PhantomData }
    }

    /// Median of the distances from the median.
    pub(super) fn deviation(distinct: bool, data_type: DataType) -> Self {
        let fractions = Fractions::one(0.5, false, distinct);
        Self { fractions, of_distances: true, data_type, values: PhantomData }
    }
}

impl<T: QuantileType> Between<T> {
    /// Quantiles of groups.
    pub(super) fn of_groups<'a>(
        &self,
        groups: impl Iterator<Item = &'a mut [T::Native]>,
    ) -> Result<ArrayRef> {
        let array = |results: Vec<_>| {
            let values: ArrayRef = Arc::new(PrimitiveArray::<T::Interpolated>::from_iter(results));
            Ok(cast(&values, &self.data_type)?)
        };
        self.fractions.results(groups, |group, fraction| self.of(group, fraction), array)
    }

    fn of(&self, values: &mut [T::Native], fraction: f64) -> Option<NativeOf<T::Interpolated>> {
        let middle = quantile::<T>(values, fraction, &self.fractions)?;
        if !self.of_distances {
            return Some(middle);
        }
        let distances = values.iter().map(|value| T::distance(*value, middle));
        let mut distances: Vec<_> = distances.collect();
        let is_nan = distances.iter().any(|distance| T::Interpolated::is_nan(*distance));
        if is_nan { None } else { quantile::<T::Interpolated>(&mut distances, fraction, &ALL) }
    }
}

/// Equal distances count each.
const ALL: Fractions =
    Fractions { fractions: Vec::new(), listed: false, descending: false, distinct: false };

/// Quantile by numpy's default method.
fn quantile<T: QuantileType>(
    values: &mut [T::Native],
    fraction: f64,
    fractions: &Fractions,
) -> Option<NativeOf<T::Interpolated>> {
    let order = |a: &T::Native, b: &T::Native| fractions.order(a.compare(*b));
    // Another statistic may need the values that are there twice.
    let mut distinct = Vec::new();
    let values = if fractions.distinct {
        distinct.extend_from_slice(values);
        distinct.sort_unstable_by(order);
        distinct.dedup_by(|a, b| *a == *b);
        &mut distinct
    } else {
        values
    };
    let last = values.len().checked_sub(1)?;
    let place = last as f64 * fraction;
    let below = (place.floor() as usize).min(last);
    let t = place - below as f64;
    let (a, b) = if fractions.descending {
        let rank = last - below;
        match rank.checked_sub(1).and_then(|before| T::Native::ranked(values, before)) {
            Some((b, Some(a))) => (a, Some(b)),
            _ => (T::Native::ranked(values, rank)?.0, None),
        }
    } else {
        T::Native::ranked(values, below)?
    };
    let b = b.filter(|b| t > 0.0 && *b != a);
    let a = T::widened(a);
    let result = b.map_or(a, |b| T::between(a, T::widened(b), t));
    (!T::Interpolated::is_nan(result)).then_some(result)
}

/// Adds a value. Returns the bytes that this takes.
fn push<N>(values: &mut Vec<N>, value: N) -> usize {
    let before = values.capacity();
    values.push(value);
    (values.capacity() - before) * size_of::<N>()
}

/// One list for each group.
pub(super) fn lists(values: ArrayRef, lengths: impl Iterator<Item = usize>) -> Result<ArrayRef> {
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let offsets = OffsetBuffer::<i64>::from_lengths(lengths);
    Ok(Arc::new(LargeListArray::try_new(field, offsets, values, None)?))
}

/// Lists of the values of each group.
pub(super) fn lists_of<'a, G>(
    encoding: &OrderedEncoding,
    groups: &'a [G],
    values: impl Fn(&'a G) -> Vec<&'a [u8]>,
) -> Result<ArrayRef> {
    let values: Vec<Vec<&[u8]>> = groups.iter().map(values).collect();
    let flat = encoding.decode(values.iter().flatten().map(|value| Some(*value)))?;
    lists(flat, values.iter().map(Vec::len))
}

/// Lists of the numbers of each group.
pub(super) fn lists_of_numbers<T: ArrowPrimitiveType>(
    groups: &[Vec<T::Native>],
) -> Result<ArrayRef> {
    let values = PrimitiveArray::<T>::from_iter_values(groups.iter().flatten().copied());
    lists(Arc::new(values), groups.iter().map(Vec::len))
}

impl<T: QuantileType> Collector for Between<T> {
    type GroupState = Vec<T::Native>;

    fn update(&self, groups: &mut [Self::GroupState], rows: &GroupedRows<'_>) -> Result<usize> {
        let Some(column) = rows.columns.first() else { return Ok(0) };
        // Float16 is kept as Float32, times as integers.
        let column = cast(column, &T::DATA_TYPE)?;
        let values = column.as_primitive::<T>();
        let mut bytes = 0;
        for (row, group) in rows.kept() {
            let value = values.value(row);
            if values.is_valid(row) && !T::is_nan(value) {
                bytes += push(&mut groups[group], value);
            }
        }
        Ok(bytes)
    }

    fn merge(&self, groups: &mut [Self::GroupState], states: &GroupedRows<'_>) -> Result<usize> {
        merge_lists(groups, states, |group, values| {
            let values = values.as_primitive_opt::<T>().into_iter().flatten().flatten();
            Ok(values.map(|value| push(group, value)).sum())
        })
    }

    fn state(&self, groups: &[Self::GroupState]) -> Result<Vec<ArrayRef>> {
        Ok(vec![lists_of_numbers::<T>(groups)?])
    }

    fn evaluate(&self, groups: &mut [Self::GroupState]) -> Result<ArrayRef> {
        self.of_groups(groups.iter_mut().map(Vec::as_mut_slice))
    }

    fn bytes(group: &Self::GroupState) -> usize {
        group.capacity() * size_of::<T::Native>()
    }
}

impl Among {
    pub(super) fn new(fractions: Fractions, encoding: OrderedEncoding) -> Self {
        Self { fractions, encoding }
    }

    fn of(&self, values: &mut [Box<[u8]>], fraction: f64) -> Option<Box<[u8]>> {
        self.fractions.among(values, fraction, Ord::cmp)
    }

    fn add(&self, group: &mut Vec<Box<[u8]>>, value: &[u8]) -> usize {
        push(group, value.into()) + value.len()
    }
}

impl Collector for Among {
    type GroupState = Vec<Box<[u8]>>;

    fn update(&self, groups: &mut [Self::GroupState], rows: &GroupedRows<'_>) -> Result<usize> {
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

    fn merge(&self, groups: &mut [Self::GroupState], states: &GroupedRows<'_>) -> Result<usize> {
        merge_lists(groups, states, |group, list| {
            let values = self.encoding.encode(list)?;
            let values = (0..list.len()).filter_map(|value| values.get(value));
            Ok(values.map(|value| self.add(group, value)).sum())
        })
    }

    fn state(&self, groups: &[Self::GroupState]) -> Result<Vec<ArrayRef>> {
        Ok(vec![lists_of(&self.encoding, groups, |group| {
            group.iter().map(AsRef::as_ref).collect()
        })?])
    }

    fn evaluate(&self, groups: &mut [Self::GroupState]) -> Result<ArrayRef> {
        let array = |results: Vec<Option<Box<[u8]>>>| {
            self.encoding.decode(results.iter().map(Option::as_deref))
        };
        let groups = groups.iter_mut().map(Vec::as_mut_slice);
        self.fractions.results(groups, |group, fraction| self.of(group, fraction), array)
    }

    fn bytes(group: &Self::GroupState) -> usize {
        let values: usize = group.iter().map(|value| value.len()).sum();
        values + group.capacity() * size_of::<Box<[u8]>>()
    }
}
