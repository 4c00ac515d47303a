//! Accumulators that keep a [`Summary`] of one group, or of each.

use std::{mem::size_of, sync::Arc};

use arrow::array::{ArrayRef, BooleanArray, Float64Array};
use datafusion::{
    error::Result,
    logical_expr::{Accumulator, EmitTo, GroupsAccumulator},
    scalar::ScalarValue,
};

use super::{
    rows::{doubles, for_each},
    summary::Summary,
};

/// From what is kept of a group to its result.
pub(super) type Finish<S> = fn(&S) -> Option<f64>;

/// Of one group.
#[derive(Debug)]
pub(super) struct One<S, const K: usize, const W: usize> {
    summary: S,
    finish: Finish<S>,
}

/// Of each group.
#[derive(Debug)]
pub(super) struct Each<S, const K: usize, const W: usize> {
    summaries: Vec<S>,
    finish: Finish<S>,
}

impl<S: Summary<K, W>, const K: usize, const W: usize> One<S, K, W> {
    pub(super) fn new(finish: Finish<S>) -> Self {
        Self { summary: S::default(), finish }
    }
}

impl<S: Summary<K, W>, const K: usize, const W: usize> Accumulator for One<S, K, W> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for_each(values, None, |_, row| self.summary.add(row))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64((self.finish)(&self.summary)))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(self.summary.to_doubles().map(ScalarValue::from).to_vec())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let states = doubles::<W>(states)?;
        for row in 0..states.first().map_or(0, |state| state.values().len()) {
            self.summary.merge(&S::from_doubles(states.map(|state| state.value(row))));
        }
        Ok(())
    }
}

impl<S: Summary<K, W>, const K: usize, const W: usize> Each<S, K, W> {
    pub(super) fn new(finish: Finish<S>) -> Self {
        Self { summaries: Vec::new(), finish }
    }
}

/// Summaries as the columns of a state.
fn columns<S: Summary<K, W>, const K: usize, const W: usize>(summaries: &[S]) -> Vec<ArrayRef> {
    let mut columns: [Vec<f64>; W] = std::array::from_fn(|_| Vec::with_capacity(summaries.len()));
    for summary in summaries {
        for (column, double) in columns.iter_mut().zip(summary.to_doubles()) {
            column.push(double);
        }
    }
    columns.map(|column| Arc::new(Float64Array::from(column)) as ArrayRef).to_vec()
}

impl<S: Summary<K, W>, const K: usize, const W: usize> GroupsAccumulator for Each<S, K, W> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.summaries.resize(total_num_groups, S::default());
        for_each(values, opt_filter, |row, values| {
            self.summaries[group_indices[row]].add(values);
        })
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let summaries = emit_to.take_needed(&mut self.summaries);
        Ok(Arc::new(summaries.iter().map(self.finish).collect::<Float64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(columns(&emit_to.take_needed(&mut self.summaries)))
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.summaries.resize(total_num_groups, S::default());
        let states = doubles::<W>(values)?;
        for (row, &group) in group_indices.iter().enumerate() {
            let other = S::from_doubles(states.map(|state| state.value(row)));
            self.summaries[group].merge(&other);
        }
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |values| values.len());
        let mut summaries = vec![S::default(); rows];
        for_each(values, opt_filter, |row, values| summaries[row].add(values))?;
        Ok(columns(&summaries))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.summaries.capacity() * size_of::<S>()
    }
}
