//! Broadcasts a column's values at their own rank to one value per row.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, BooleanBufferBuilder,
        MutableArrayData, PrimitiveArray, UInt64Array, downcast_primitive, make_array,
    },
    buffer::{BooleanBuffer, NullBuffer},
    compute::take,
    datatypes::DataType,
    error::ArrowError,
};

use crate::grid::{positions, strides};

/// How the values of a column lie under the rows of a tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// Row `r` has the value `r / repeat % period`: the column's dimensions are adjacent.
    Regular {
        /// Number of consecutive rows that hold one value.
        repeat: usize,
        /// Number of values before the pattern starts again.
        period: usize,
    },
    /// Other dimensions of the tile separate the column's. Each dimension of the tile as (size, stride in `values`),
    /// both in elements.
    Scattered(Vec<(usize, usize)>),
}

impl Pattern {
    /// Pattern of a column that varies along the dimensions `dims` of a tile of this shape.
    pub(super) fn new(shape: &[u64], dims: &[usize]) -> Self {
        let size = |d: usize| usize::try_from(shape[d]).unwrap_or(usize::MAX);
        // A dimension of size 1 doesn't change the pattern, wherever it is.
        let varying: Vec<usize> = dims.iter().copied().filter(|&d| shape[d] != 1).collect();
        let Some((&first, &last)) = varying.first().zip(varying.last()) else {
            // One value for all rows.
            return Self::Regular {
                repeat: (0..shape.len()).map(size).product::<usize>().max(1),
                period: 1,
            };
        };
        let side_by_side = (first..=last).all(|d| shape[d] == 1 || varying.contains(&d));
        if side_by_side {
            return Self::Regular {
                repeat: (last + 1..shape.len()).map(size).product(),
                period: varying.iter().map(|&d| size(d)).product(),
            };
        }
        let own_shape: Vec<u64> = dims.iter().map(|&d| shape[d]).collect();
        let own_strides = strides(&own_shape);
        let stride = |d: usize| {
            let own = dims.iter().position(|&own| own == d);
            own.map_or(0, |own| usize::try_from(own_strides[own]).unwrap_or(usize::MAX))
        };
        Self::Scattered((0..shape.len()).map(|d| (size(d), stride(d))).collect())
    }

    /// The first of the `len` values of the rows from `start` on, if they follow each other as the rows do.
    pub(super) fn side_by_side(&self, start: usize, len: usize) -> Option<usize> {
        match self {
            Self::Regular { repeat: 1, period } => {
                let first = start % period;
                (first + len <= *period).then_some(first)
            }
            _ => None,
        }
    }
}

/// Values of the rows `start..start + len`.
pub(super) fn broadcast(
    values: &ArrayRef,
    pattern: &Pattern,
    start: usize,
    len: usize,
) -> Result<ArrayRef, ArrowError> {
    if let Some(first) = pattern.side_by_side(start, len) {
        return Ok(values.slice(first, len));
    }
    match pattern {
        Pattern::Regular { repeat: 1, period } => cycle(values, start % period, len),
        Pattern::Regular { repeat, period } => repeat_each(values, *repeat, *period, start, len),
        Pattern::Scattered(dims) => {
            take(values, &UInt64Array::from(positions(dims, start, len)), None)
        }
    }
}

/// `len` values from the index `first` on, starting again at index 0 after the last.
fn cycle(values: &ArrayRef, first: usize, len: usize) -> Result<ArrayRef, ArrowError> {
    let data = values.to_data();
    let mut out = MutableArrayData::new(vec![&data], false, len);
    let (mut at, mut missing) = (first, len);
    while missing > 0 {
        let run = missing.min(values.len() - at);
        out.try_extend(0, at, at + run)?;
        missing -= run;
        at = 0;
    }
    Ok(make_array(out.freeze()))
}

fn repeat_each(
    values: &ArrayRef,
    repeat: usize,
    period: usize,
    start: usize,
    len: usize,
) -> Result<ArrayRef, ArrowError> {
    macro_rules! primitive {
        ($t:ty) => {
            Ok(Arc::new(repeat_primitive(values.as_primitive::<$t>(), repeat, period, start, len)))
        };
    }
    downcast_primitive! {
        values.data_type() => (primitive),
        DataType::Boolean => Ok(Arc::new(repeat_booleans(values.as_boolean(), repeat, period, start, len))),
        _ => {
            let mut indices = Vec::with_capacity(len);
            for_each_run(repeat, period, start, len, |value, run| {
                indices.extend(std::iter::repeat_n(value as u64, run));
            });
            take(values, &UInt64Array::from(indices), None)
        }
    }
}

fn repeat_primitive<T: ArrowPrimitiveType>(
    values: &PrimitiveArray<T>,
    repeat: usize,
    period: usize,
    start: usize,
    len: usize,
) -> PrimitiveArray<T> {
    let mut out: Vec<T::Native> = Vec::with_capacity(len);
    for_each_run(repeat, period, start, len, |value, run| {
        out.resize(out.len() + run, values.values()[value]);
    });
    let nulls = values.nulls().map(|n| repeat_bits(n.inner(), repeat, period, start, len));
    let nulls = nulls.map(NullBuffer::new);
    PrimitiveArray::<T>::new(out.into(), nulls).with_data_type(values.data_type().clone())
}

fn repeat_booleans(
    values: &BooleanArray,
    repeat: usize,
    period: usize,
    start: usize,
    len: usize,
) -> BooleanArray {
    let bits = repeat_bits(values.values(), repeat, period, start, len);
    let nulls = values.nulls().map(|n| repeat_bits(n.inner(), repeat, period, start, len));
    BooleanArray::new(bits, nulls.map(NullBuffer::new))
}

fn repeat_bits(
    bits: &BooleanBuffer,
    repeat: usize,
    period: usize,
    start: usize,
    len: usize,
) -> BooleanBuffer {
    let mut out = BooleanBufferBuilder::new(len);
    for_each_run(repeat, period, start, len, |value, run| out.append_n(run, bits.value(value)));
    out.finish()
}

/// Calls `f(value, length)` for each run of rows with the same value.
fn for_each_run(
    repeat: usize,
    period: usize,
    start: usize,
    len: usize,
    mut f: impl FnMut(usize, usize),
) {
    let (mut row, end) = (start, start + len);
    while row < end {
        let run = (repeat - row % repeat).min(end - row);
        f(row / repeat % period, run);
        row += run;
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Int64Array, StringViewArray},
        datatypes::Int64Type,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::grid::unravel;

    proptest! {
        #[test]
        fn every_row_gets_the_value_at_its_indices(
            shape in prop::collection::vec(1_u64..5, 1..5),
            mask in prop::collection::vec(any::<bool>(), 4),
            range in (0.0_f64..1.0, 0.0_f64..1.0),
            with_nulls: bool,
        ) {
            let dims: Vec<usize> = (0..shape.len()).filter(|&d| mask[d]).collect();
            let own: Vec<u64> = dims.iter().map(|&d| shape[d]).collect();
            let count = own.iter().product::<u64>();
            let numbers = Int64Array::from_iter(
                (0..count as i64).map(|v| (!with_nulls || v % 3 != 1).then_some(v)),
            );
            let strings = StringViewArray::from_iter(
                numbers.iter().map(|v| v.map(|v| format!("a string that is long enough {v}"))),
            );
            let rows = shape.iter().product::<u64>() as usize;
            let start = (range.0 * rows as f64) as usize;
            let len = (range.1 * (rows - start) as f64) as usize;
            let pattern = Pattern::new(&shape, &dims);
            let expected: Vec<usize> = (start..start + len)
                .map(|row| {
                    let at = unravel(row as u64, &shape);
                    dims.iter().zip(strides(&own)).map(|(&d, s)| at[d] * s).sum::<u64>() as usize
                })
                .collect();

            let numbers: ArrayRef = Arc::new(numbers);
            let booleans = numbers.as_primitive::<Int64Type>().iter().map(|v| v.map(|v| v % 3 == 0));
            let booleans: ArrayRef = Arc::new(BooleanArray::from_iter(booleans));
            let strings: ArrayRef = Arc::new(strings);
            for values in [&numbers, &booleans, &strings] {
                let indices = UInt64Array::from_iter_values(expected.iter().map(|&i| i as u64));
                let expected = take(values, &indices, None).unwrap();
                let actual = broadcast(values, &pattern, start, len).unwrap();
                prop_assert_eq!(&actual, &expected);
            }
        }
    }
}
