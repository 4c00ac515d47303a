//! Columns of the keys that vary along coordinates: each value of a key is repeated over the groups of the other keys.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array as _, ArrayData, ArrayRef, UInt32Array, make_array},
    buffer::ScalarBuffer,
    compute::take,
    datatypes::ArrowNativeType,
};
use datafusion::error::Result;
use lsio_core::Recycler;

use super::{
    keys::CellGroups,
    plan::Aggregation,
    slabs::{SetStride, Slab},
};

/// The groups of a slab whose keys are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct WantedGroups<'a> {
    pub(super) slab: &'a Slab,
    /// Those that have rows; `None` is all.
    pub(super) met: Option<&'a UInt32Array>,
    pub(super) count: usize,
}

/// Columns of the keys, with their positions in GROUP BY. They lie in memory that is used again.
pub(super) fn key_columns(
    plan: &Aggregation,
    groups: &CellGroups,
    WantedGroups { slab, met, count }: WantedGroups<'_>,
    memory: &Arc<Recycler>,
) -> Result<Vec<(usize, ArrayRef)>> {
    let mut columns: Vec<(usize, ArrayRef)> = Vec::new();
    for ((set, SetStride { first, stride }), own) in
        groups.sets.iter().zip(&slab.sets).zip(&slab.counts)
    {
        let (stride, own) = ((*stride).max(1), (*own).max(1));
        let met: Option<UInt32Array> = met.map(|met| {
            let index = |group: &u32| first + group / stride % own;
            met.values().iter().map(index).collect::<Vec<_>>().into()
        });
        let repeats = Repeats { indices: *first..first + own, times: stride as usize, len: count };
        for (expr, values) in set.exprs.iter().zip(&set.values) {
            let column = match &met {
                Some(indices) => take(values, indices, None)?,
                None => repeated(values, &repeats, memory)?,
            };
            columns.push((plan.key_positions[*expr], column));
        }
    }
    Ok(columns)
}

/// How the values of a key follow one another.
#[derive(Clone, Debug)]
struct Repeats {
    /// Values that follow one another, again and again.
    indices: Range<u32>,
    /// How often each comes before the next one.
    times: usize,
    /// Number of all.
    len: usize,
}

impl Repeats {
    fn indices(&self) -> UInt32Array {
        let cycle = self.indices.clone().cycle();
        let each = cycle.flat_map(|index| std::iter::repeat_n(index, self.times));
        each.take(self.len).collect::<Vec<_>>().into()
    }

    /// Copies values of a buffer; `None` if they aren't there.
    fn copy<T: ArrowNativeType>(&self, values: &[T], to: &mut [T]) -> Option<()> {
        let own = values.get(self.indices.start as usize..self.indices.end as usize)?;
        let cycle = own.len().checked_mul(self.times)?.min(to.len());
        let (first, rest) = to.split_at_mut(cycle);
        if self.times == 1 {
            first.copy_from_slice(own.get(..cycle)?);
        } else {
            let parts = first.chunks_mut(self.times.max(1));
            parts.zip(own).for_each(|(part, value)| part.fill(*value));
        }
        if cycle > 0 {
            rest.chunks_mut(cycle).for_each(|part| part.copy_from_slice(&first[..part.len()]));
        }
        rest.is_empty().then_some(()).or((cycle > 0).then_some(()))
    }
}

/// Values repeated. Numbers are copied into memory that is used again.
fn repeated(values: &ArrayRef, repeats: &Repeats, memory: &Arc<Recycler>) -> Result<ArrayRef> {
    let data = values.to_data();
    let mut copied = None;
    if let (Some(width), None, [buffer]) =
        (data.data_type().primitive_width(), data.nulls(), data.buffers())
        && let Some(bytes) = repeats.len.checked_mul(width)
    {
        macro_rules! copy {
            ($t:ty) => {{
                let own = ScalarBuffer::<$t>::new(buffer.clone(), data.offset(), data.len());
                let mut to = memory.take(bytes);
                let whole = repeats.copy(&own, to.typed_mut::<$t>());
                copied = whole.map(|()| to.freeze());
            }};
        }
        match width {
            1 => copy!(u8),
            2 => copy!(u16),
            4 => copy!(u32),
            8 => copy!(u64),
            _ => {}
        }
    }
    let Some(copied) = copied else { return Ok(take(values, &repeats.indices(), None)?) };
    let data = ArrayData::builder(values.data_type().clone()).len(repeats.len).add_buffer(copied);
    Ok(make_array(data.build()?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BooleanArray, Decimal128Array, Float64Array, Int8Array, Int16Array, StringArray,
        TimestampMicrosecondArray,
    };

    use super::*;

    #[test]
    fn copies_are_what_indices_take() {
        let numbers = || (0_i8..9).map(|n| n * 3);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int8Array::from_iter_values(numbers())),
            Arc::new(Int16Array::from_iter_values(numbers().map(i16::from))),
            Arc::new(Float64Array::from_iter_values(numbers().map(f64::from))),
            Arc::new(Float64Array::from_iter(numbers().map(|n| (n != 9).then_some(f64::from(n))))),
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(numbers().map(i64::from))
                    .with_timezone("UTC"),
            ),
            Arc::new(Decimal128Array::from_iter_values(numbers().map(i128::from))),
            Arc::new(BooleanArray::from_iter(numbers().map(|n| Some(n % 2 == 0)))),
            Arc::new(StringArray::from_iter_values(numbers().map(|n| n.to_string()))),
        ];
        let memory = Arc::new(Recycler::default());
        for values in columns.iter().chain(&columns).flat_map(|own| [own.clone(), own.slice(2, 6)])
        {
            for (indices, times, cycles) in [
                (0..1, 1, 1),
                (1..5, 1, 900),
                (2..6, 7, 1),
                (0..5, 3, 200),
                (3..4, 2000, 2),
                (0..6, 5, 0),
            ] {
                let len = indices.len() * times * cycles;
                let repeats = Repeats { indices, times, len };
                let expected = take(&values, &repeats.indices(), None).unwrap();
                let actual = repeated(&values, &repeats, &memory).unwrap();
                assert_eq!(&actual, &expected, "{repeats:?}");
            }
        }
    }
}
