//! `histogram(value, low, high, count)`.

use std::{mem::size_of, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, Int64Array, ListArray, RecordBatch},
    buffer::OffsetBuffer,
    compute::cast,
    datatypes::{DataType, Field, Float64Type, Int64Type, Schema},
};
use datafusion::{
    common::{exec_err, plan_datafusion_err, plan_err},
    error::Result,
    logical_expr::ColumnarValue,
    physical_expr::PhysicalExpr,
    scalar::ScalarValue,
};
use lsio_core::reduce::Buckets;

use super::{
    collector::{Collector, GroupedRows, merge_lists},
    quantiles::lists_of_numbers,
};

/// Upper bound on the buckets of a histogram: each group has them all.
const MOST_BUCKETS: i64 = 1 << 20;

/// Counts values in buckets.
#[derive(Debug)]
pub(super) struct BucketCounts {
    buckets: Buckets,
}

impl BucketCounts {
    pub(super) fn new(buckets: Buckets) -> Self {
        Self { buckets }
    }

    /// Counts of a group. Returns the bytes that they take if they are new.
    fn counts<'a>(&self, group: &'a mut Vec<i64>) -> (&'a mut [i64], usize) {
        let before = group.capacity();
        group.resize(self.buckets.count() as usize, 0);
        let bytes = (group.capacity() - before) * size_of::<i64>();
        (group, bytes)
    }
}

/// The buckets of a call: its arguments after the value, which are constant.
pub(crate) fn constant_buckets(
    name: &str,
    arguments: &[Arc<dyn PhysicalExpr>],
    value: &DataType,
) -> Result<Buckets> {
    let none = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let constant = |place: usize| match arguments.get(place)?.evaluate(&none).ok()? {
        ColumnarValue::Scalar(scalar) => Some(scalar),
        ColumnarValue::Array(_) => None,
    };
    let bound = |place| match constant(place)?.cast_to(&DataType::Float64).ok()? {
        ScalarValue::Float64(bound) => bound,
        _ => None,
    };
    let count = match constant(3).and_then(|count| count.cast_to(&DataType::Int64).ok()) {
        Some(ScalarValue::Int64(count)) => count,
        _ => None,
    };
    let (Some(low), Some(high), Some(count)) = (bound(1), bound(2), count) else {
        return plan_err!(
            "{name} takes constant bounds and a constant number of buckets: {name}(t, 250, 320, 70)"
        );
    };
    if low > high || count > MOST_BUCKETS {
        return plan_err!(
            "{name} takes a lower bound, an upper one and at most {MOST_BUCKETS} buckets, not {low}, \
             {high} and {count}"
        );
    }
    let is_single = matches!(value, DataType::Float16 | DataType::Float32);
    Buckets::new(low, high, count, is_single)
        .map_err(|error| plan_datafusion_err!("{name}: {error}"))
}

/// Histograms from their counts, one after the other.
pub(crate) fn histograms(counts: Vec<i64>, buckets: &Buckets) -> Result<ArrayRef> {
    if i32::try_from(counts.len()).is_err() {
        return exec_err!("{} counts of histograms are more than lists hold", counts.len());
    }
    let width = buckets.count() as usize;
    let offsets = OffsetBuffer::<i32>::from_lengths((0..counts.len() / width).map(|_| width));
    let field = Arc::new(Field::new_list_field(DataType::Int64, true));
    let counts: ArrayRef = Arc::new(Int64Array::from(counts));
    Ok(Arc::new(ListArray::try_new(field, offsets, counts, None)?))
}

impl Collector for BucketCounts {
    type GroupState = Vec<i64>;

    fn update(&self, groups: &mut [Self::GroupState], rows: &GroupedRows<'_>) -> Result<usize> {
        let Some(column) = rows.columns.first() else { return Ok(0) };
        let column = cast(column, &DataType::Float64)?;
        let values = column.as_primitive::<Float64Type>();
        let mut bytes = 0;
        for (row, group) in rows.kept().filter(|(row, _)| values.is_valid(*row)) {
            if let Some(bucket) = self.buckets.closed(values.value(row)) {
                let (counts, more) = self.counts(&mut groups[group]);
                counts[bucket as usize] += 1;
                bytes += more;
            }
        }
        Ok(bytes)
    }

    fn merge(&self, groups: &mut [Self::GroupState], states: &GroupedRows<'_>) -> Result<usize> {
        merge_lists(groups, states, |group, list| {
            let own = list.as_primitive_opt::<Int64Type>().into_iter().flatten().flatten();
            let (counts, bytes) = self.counts(group);
            counts.iter_mut().zip(own).for_each(|(count, own)| *count += own);
            Ok(bytes)
        })
    }

    fn state(&self, groups: &[Self::GroupState]) -> Result<Vec<ArrayRef>> {
        Ok(vec![lists_of_numbers::<Int64Type>(groups)?])
    }

    fn evaluate(&self, groups: &mut [Self::GroupState]) -> Result<ArrayRef> {
        let width = self.buckets.count() as usize;
        let mut counts = Vec::with_capacity(groups.len().saturating_mul(width));
        for group in groups {
            counts.extend(group.iter().copied().chain(std::iter::repeat(0)).take(width));
        }
        histograms(counts, &self.buckets)
    }

    fn bytes(group: &Self::GroupState) -> usize {
        group.capacity() * size_of::<i64>()
    }
}
