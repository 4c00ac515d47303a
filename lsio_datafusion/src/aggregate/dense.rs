//! Results as arrays over the keys, for a scan that looks them up: no rows are made, and no key is hashed.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::{
    array::{
        Array as _, ArrayData, ArrayRef, BooleanArray, BooleanBufferBuilder, RecordBatch,
        RecordBatchOptions, UInt32Array, make_array,
    },
    buffer::{BooleanBuffer, MutableBuffer, NullBuffer},
    compute::{filter, nullif, take},
    datatypes::{DataType, SchemaRef},
};
use datafusion::{
    common::internal_err,
    error::Result,
    execution::{
        TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
};
use lsio_core::{
    grid::{strides, unravel},
    reduce::Misfit,
};

use super::{
    full_rank::misfit,
    keys::CellGroups,
    output::{SlabResults, as_output},
    plan::Aggregation,
    slabs::Slab,
};

/// Bytes of results up to which groups without rows have a place too.
const SPARSE_BYTES: usize = 256 << 20;

/// Results of an aggregate: arrays with an axis for each set of keys, in C order.
#[derive(Debug)]
pub(crate) struct DenseResults {
    schema: SchemaRef,
    shape: Vec<usize>,
    columns: Vec<DenseColumn>,
    /// Groups that have rows, if not all have.
    present: Option<BooleanBuffer>,
    reservation: MemoryReservation,
}

/// A column of the results.
#[derive(Clone, Debug)]
pub(crate) enum DenseColumn {
    /// A key, which varies along one axis.
    Key { axis: usize, values: ArrayRef },
    /// A value of each group.
    Result(ArrayRef),
}

impl DenseResults {
    /// Other columns of the same groups.
    ///
    /// # Errors
    /// If memory is short.
    pub(crate) fn with_columns(self, schema: SchemaRef, columns: Vec<DenseColumn>) -> Result<Self> {
        for column in &columns {
            if let DenseColumn::Result(values) = column
                && !self.columns.iter().any(|own| own.holds(values))
            {
                self.reservation.try_grow(values.get_array_memory_size())?;
            }
        }
        let columns = match &self.present {
            Some(present) => without_absent(columns, present)?,
            None => columns,
        };
        Ok(Self { schema, columns, ..self })
    }

    /// The results of those groups for which the mask is true. The others are like groups without rows.
    pub(crate) fn kept(self, mask: &BooleanBuffer) -> Result<Self> {
        let present = match &self.present {
            Some(present) => present & mask,
            None => mask.clone(),
        };
        let columns = without_absent(self.columns, &present)?;
        Ok(Self { columns, present: Some(present), ..self })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Number of groups along each axis.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(crate) fn columns(&self) -> &[DenseColumn] {
        &self.columns
    }

    /// Number of groups that have rows.
    pub(crate) fn count(&self) -> usize {
        match &self.present {
            Some(present) => present.count_set_bits(),
            None => self.shape.iter().product(),
        }
    }

    /// Groups that have rows, in C order, if not all have.
    pub(crate) fn present(&self) -> Option<&BooleanBuffer> {
        self.present.as_ref()
    }

    /// Values of a column for each group in C order, NULL for those without rows.
    pub(crate) fn values(&self, column: usize) -> Result<ArrayRef> {
        match self.columns.get(column) {
            Some(DenseColumn::Result(values)) => Ok(Arc::clone(values)),
            Some(DenseColumn::Key { axis, values }) => {
                let groups: usize = self.shape.iter().product();
                let inner = self.shape[axis + 1..].iter().product::<usize>().max(1);
                let along = |group: usize| u32::try_from(group / inner % self.shape[*axis]).ok();
                let indices: UInt32Array = match &self.present {
                    None => (0..groups).map(along).collect(),
                    Some(present) => {
                        let groups = present.iter().enumerate();
                        groups.map(|(group, is)| if is { along(group) } else { None }).collect()
                    }
                };
                Ok(take(values, &indices, None)?)
            }
            None => internal_err!("the results of an aggregate lack a column"),
        }
    }

    /// The rows of the groups.
    pub(crate) fn rows(&self) -> Result<RecordBatch> {
        let kept = self.present.clone().map(|present| BooleanArray::new(present, None));
        let mut columns = Vec::with_capacity(self.columns.len());
        for position in 0..self.columns.len() {
            let values = self.values(position)?;
            columns.push(match &kept {
                Some(kept) => filter(&values, kept)?,
                None => values,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.count()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

impl DenseColumn {
    /// Whether these are its values.
    fn holds(&self, values: &ArrayRef) -> bool {
        matches!(self, Self::Result(own) if Arc::ptr_eq(own, values))
    }
}

/// Columns with NULL in place of the values of groups without rows.
fn without_absent(columns: Vec<DenseColumn>, present: &BooleanBuffer) -> Result<Vec<DenseColumn>> {
    let absent = BooleanArray::new(!present, None);
    let columns = columns.into_iter().map(|column| match column {
        DenseColumn::Result(values) => Ok(DenseColumn::Result(nullif(&values, &absent)?)),
        key => Ok(key),
    });
    columns.collect()
}

/// Arrays to which slabs are added.
pub(super) struct DenseTarget {
    shape: Vec<usize>,
    filled: Mutex<Filled>,
}

struct Filled {
    results: Vec<ResultArray>,
    /// Groups that have rows, if some may have none.
    present: Option<BooleanBufferBuilder>,
    /// Number of groups that have values.
    groups: usize,
    reservation: MemoryReservation,
}

/// Values of fixed width.
struct ResultArray {
    data_type: DataType,
    width: usize,
    values: MutableBuffer,
    /// Values that aren't NULL, once there is one.
    valid: Option<BooleanBufferBuilder>,
}

impl DenseTarget {
    /// Place for the results of all groups; `None` if values have no fixed width, groups are too many, or memory is
    /// short.
    pub(super) fn new(
        plan: &Aggregation,
        groups: &CellGroups,
        context: &TaskContext,
    ) -> Option<Self> {
        let fields = plan.schema.fields().iter().skip(plan.key_positions.len());
        let widths: Option<Vec<(DataType, usize)>> = fields
            .map(|field| Some((field.data_type().clone(), field.data_type().primitive_width()?)))
            .collect();
        let widths = widths?;
        let count = groups.len()?;
        // Without cells, the groups of other dimensions have no rows.
        if groups.cells() == 0 {
            return None;
        }
        let of_group = widths.iter().map(|(_, width)| width + 1).sum::<usize>();
        let bytes = count.checked_mul(of_group)?;
        let may_lack = plan.counts_rows() || !plan.accumulated.is_empty();
        if may_lack && bytes > SPARSE_BYTES {
            return None;
        }
        let reservation = MemoryConsumer::new("ZarrPrepare").register(context.memory_pool());
        reservation.try_grow(bytes).ok()?;
        let results = widths.into_iter().map(|(data_type, width)| ResultArray {
            data_type,
            width,
            values: MutableBuffer::from_len_zeroed(count * width),
            valid: None,
        });
        let present = may_lack.then(|| bits(count, false));
        let filled = Filled { results: results.collect(), present, groups: 0, reservation };
        let shape = groups.sets.iter().map(|set| set.count).collect();
        Some(Self { shape, filled: Mutex::new(filled) })
    }

    /// Adds the results of a slab, which have a value for each of its groups.
    pub(super) fn add(&self, slab: &Slab, results: &SlabResults) -> Result<()> {
        let SlabResults { met, columns } = results;
        let all: usize = self.shape.iter().product();
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        let Filled { results, present, groups, .. } = &mut *filled;
        for (own, values) in results.iter_mut().zip(columns) {
            if values.len() != slab.groups || *values.data_type() != own.data_type {
                return Err(misfit(Misfit));
            }
            let data = values.to_data();
            let (width, offset) = (own.width, data.offset());
            let bytes = data.buffers().first().map_or(&[][..], |buffer| buffer.as_slice());
            let target = own.values.as_slice_mut();
            let mut fits = true;
            self.for_each_run(slab, |place, first, len| {
                let to = target.get_mut(place * width..(place + len) * width);
                let from = bytes.get((offset + first) * width..(offset + first + len) * width);
                match (to, from) {
                    (Some(to), Some(from)) => to.copy_from_slice(from),
                    _ => fits = false,
                }
            });
            if !fits {
                return Err(misfit(Misfit));
            }
            if let Some(nulls) = data.nulls().filter(|nulls| nulls.null_count() > 0) {
                let valid = own.valid.get_or_insert_with(|| bits(all, true));
                self.for_each_run(slab, |place, first, len| {
                    for group in (0..len).filter(|group| nulls.is_null(first + group)) {
                        valid.set_bit(place + group, false);
                    }
                });
            }
        }
        match (present, met) {
            (Some(present), Some(met)) => {
                let mut own = bits(slab.groups, false);
                met.values().iter().for_each(|group| own.set_bit(*group as usize, true));
                let own = own.finish();
                self.for_each_run(slab, |place, first, len| {
                    let run = own.slice(first, len);
                    run.set_indices().for_each(|group| present.set_bit(place + group, true));
                });
            }
            (None, None) => *groups += slab.groups,
            _ => return Err(misfit(Misfit)),
        }
        Ok(())
    }

    /// The results of all slabs.
    pub(super) fn finish(&self, plan: &Aggregation, groups: &CellGroups) -> Result<DenseResults> {
        let all: usize = self.shape.iter().product();
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        let present = filled.present.take().map(|mut present| present.finish());
        if present.is_none() && filled.groups != all {
            return internal_err!("{} of {all} groups have results", filled.groups);
        }
        let present = present.filter(|present| present.count_set_bits() < all);
        let mut columns: Vec<(usize, DenseColumn)> = Vec::new();
        for (axis, set) in groups.sets.iter().enumerate() {
            for (expr, values) in set.exprs.iter().zip(&set.values) {
                let position = plan.key_positions[*expr];
                let values = as_output(plan, position, Arc::clone(values))?;
                columns.push((position, DenseColumn::Key { axis, values }));
            }
        }
        columns.sort_by_key(|(position, _)| *position);
        let mut columns: Vec<DenseColumn> = columns.into_iter().map(|(_, own)| own).collect();
        for own in std::mem::take(&mut filled.results) {
            let valid = own.valid.map(|mut valid| valid.finish());
            let valid = match (valid, &present) {
                (Some(valid), Some(present)) => Some(&valid & present),
                (valid, present) => valid.or_else(|| present.clone()),
            };
            let data = ArrayData::builder(own.data_type)
                .len(all)
                .nulls(valid.map(NullBuffer::new))
                .add_buffer(own.values.into());
            columns.push(DenseColumn::Result(make_array(data.build()?)));
        }
        Ok(DenseResults {
            schema: Arc::clone(&plan.schema),
            shape: self.shape.clone(),
            columns,
            present,
            reservation: filled.reservation.take(),
        })
    }

    /// Calls `f` for groups of a slab that follow each other in the arrays too: with the first one's place there, its
    /// number in the slab, and how many they are.
    fn for_each_run(&self, slab: &Slab, mut f: impl FnMut(usize, usize, usize)) {
        let counts: Vec<usize> = slab.counts.iter().map(|count| *count as usize).collect();
        let whole =
            counts.iter().zip(&self.shape).rev().take_while(|(own, all)| own == all).count();
        // Inner sets that the slab has as a whole, and the one outside of them, lie side by side.
        let outer = counts.len().saturating_sub(whole + 1);
        let len: usize = counts[outer..].iter().product();
        if len == 0 {
            return;
        }
        let shape: Vec<u64> = self.shape.iter().map(|size| *size as u64).collect();
        let strides = strides(&shape);
        let firsts = slab.sets.iter().zip(&strides);
        let start: u64 = firsts.map(|(set, stride)| u64::from(set.first) * stride).sum();
        let outer: Vec<u64> = slab.counts[..outer].iter().copied().map(u64::from).collect();
        for run in 0..outer.iter().product() {
            let along = unravel(run, &outer).into_iter().zip(&strides);
            let place = start + along.map(|(index, stride)| index * stride).sum::<u64>();
            // All groups are in memory.
            f(place as usize, run as usize * len, len);
        }
    }
}

fn bits(count: usize, value: bool) -> BooleanBufferBuilder {
    let mut bits = BooleanBufferBuilder::new(count);
    bits.append_n(count, value);
    bits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::aggregate::slabs::SetStride;

    fn target(shape: &[usize]) -> DenseTarget {
        let reservation = MemoryConsumer::new("test").register(
            &(Arc::new(datafusion::execution::memory_pool::UnboundedMemoryPool::default()) as _),
        );
        let filled = Filled { results: Vec::new(), present: None, groups: 0, reservation };
        DenseTarget { shape: shape.to_vec(), filled: Mutex::new(filled) }
    }

    proptest! {
        #[test]
        fn groups_of_a_slab_have_their_places(
            sets in prop::collection::vec((1_usize..5, 0.0_f64..1.0, 0.0_f64..1.0), 1..4),
        ) {
            let shape: Vec<usize> = sets.iter().map(|(size, ..)| *size).collect();
            let parts: Vec<(usize, usize)> = sets
                .iter()
                .map(|(size, first, len)| {
                    let first = (first * *size as f64) as usize;
                    (first, 1 + (len * (size - first) as f64 * 0.99) as usize)
                })
                .collect();
            let slab = Slab {
                sets: parts.iter().map(|(first, _)| SetStride { first: *first as u32, stride: 0 }).collect(),
                counts: parts.iter().map(|(_, len)| *len as u32).collect(),
                groups: parts.iter().map(|(_, len)| len).product(),
            };
            let mut places = Vec::new();
            target(&shape).for_each_run(&slab, |place, first, len| {
                assert_eq!(first, places.len());
                places.extend(place..place + len);
            });
            let mut expected = vec![0];
            for ((first, len), size) in parts.iter().zip(&shape) {
                expected = expected
                    .iter()
                    .flat_map(|place| (*first..first + len).map(move |own| place * size + own))
                    .collect();
            }
            prop_assert_eq!(places, expected);
        }
    }
}
