//! Accumulators over a [`Collector`]: of one group, of each group, of a window's frame.

use std::{
    collections::VecDeque,
    fmt::Debug,
    mem::{size_of, size_of_val, take},
    slice::from_mut,
};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BooleanArray, LargeListArray},
    compute::concat,
};
use datafusion::{
    common::exec_err,
    error::Result,
    logical_expr::{Accumulator, EmitTo, GroupsAccumulator},
    scalar::ScalarValue,
};

/// State of groups, and its result.
pub(super) trait Collector: Debug + Send + Sync + 'static {
    /// State of one group.
    type GroupState: Debug + Default + Clone + Send + Sync;

    /// Adds rows to their groups. Returns the bytes that this takes.
    fn update(&self, groups: &mut [Self::GroupState], rows: &GroupedRows<'_>) -> Result<usize>;

    /// Merges states into their groups. Returns the bytes that this takes.
    fn merge(&self, groups: &mut [Self::GroupState], states: &GroupedRows<'_>) -> Result<usize>;

    fn state(&self, groups: &[Self::GroupState]) -> Result<Vec<ArrayRef>>;

    /// Result of each group. May reorder the state, and be called again.
    fn evaluate(&self, groups: &mut [Self::GroupState]) -> Result<ArrayRef>;

    /// Bytes of a group's state on the heap.
    fn bytes(group: &Self::GroupState) -> usize;
}

/// Rows of arguments or states.
pub(super) struct GroupedRows<'a> {
    pub(super) columns: &'a [ArrayRef],
    filter: Option<&'a BooleanArray>,
    /// Group of each row; `None` is a single group.
    groups: Option<&'a [usize]>,
}

impl<'a> GroupedRows<'a> {
    pub(super) fn all(columns: &'a [ArrayRef]) -> Self {
        Self { columns, filter: None, groups: None }
    }

    pub(super) fn filter(&self) -> Option<&'a BooleanArray> {
        self.filter
    }

    pub(super) fn group(&self, row: usize) -> usize {
        self.groups.and_then(|groups| groups.get(row)).copied().unwrap_or(0)
    }

    /// Rows that the filter keeps, each with its group.
    pub(super) fn kept(&self) -> impl Iterator<Item = (usize, usize)> {
        let count = self.columns.first().map_or(0, |column| column.len());
        let kept = |row: &usize| {
            self.filter.is_none_or(|filter| filter.is_valid(*row) && filter.value(*row))
        };
        (0..count).filter(kept).map(|row| (row, self.group(row)))
    }
}

/// Merges each list of a column of states into its group. Returns the bytes that this takes.
pub(super) fn merge_lists<G>(
    groups: &mut [G],
    states: &GroupedRows<'_>,
    mut add: impl FnMut(&mut G, &ArrayRef) -> Result<usize>,
) -> Result<usize> {
    let Some(column) = states.columns.first() else { return Ok(0) };
    let lists = as_lists(column)?;
    let mut bytes = 0;
    for (row, group) in states.kept().filter(|(row, _)| lists.is_valid(*row)) {
        bytes += add(&mut groups[group], &lists.value(row))?;
    }
    Ok(bytes)
}

/// Column of states as lists.
pub(super) fn as_lists(states: &ArrayRef) -> Result<&LargeListArray> {
    match states.as_list_opt::<i64>() {
        Some(lists) => Ok(lists),
        None => exec_err!("the state of an aggregate is no list but {}", states.data_type()),
    }
}

#[derive(Debug)]
pub(super) struct One<C: Collector> {
    collector: C,
    group: C::GroupState,
    bytes: usize,
}

/// Accumulator of each group.
#[derive(Debug)]
pub(super) struct Each<C: Collector> {
    collector: C,
    groups: Vec<C::GroupState>,
    bytes: usize,
}

/// Accumulator of a window's frame: keeps its rows, and collects them anew for each result.
#[derive(Debug)]
pub(super) struct Frame<C> {
    collector: C,
    batches: VecDeque<Vec<ArrayRef>>,
}

/// Batches of a frame before they are concatenated.
const FRAME_BATCHES: usize = 32;

impl<C: Collector> One<C> {
    pub(super) fn new(collector: C) -> Self {
        Self { collector, group: C::GroupState::default(), bytes: 0 }
    }
}

impl<C: Collector> Accumulator for One<C> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.bytes +=
            self.collector.update(from_mut(&mut self.group), &GroupedRows::all(values))?;
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let result = self.collector.evaluate(from_mut(&mut self.group))?;
        ScalarValue::try_from_array(&result, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.bytes
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let group = take(&mut self.group);
        self.bytes = 0;
        let columns = self.collector.state(&[group])?;
        columns.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.bytes += self.collector.merge(from_mut(&mut self.group), &GroupedRows::all(states))?;
        Ok(())
    }
}

impl<C: Collector> Each<C> {
    pub(super) fn new(collector: C) -> Self {
        Self { collector, groups: Vec::new(), bytes: 0 }
    }

    fn emitted(&mut self, emit_to: EmitTo) -> Vec<C::GroupState> {
        let groups = emit_to.take_needed(&mut self.groups);
        let bytes = groups.iter().map(C::bytes).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        groups
    }
}

impl<C: Collector> GroupsAccumulator for Each<C> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups.resize(total_num_groups, C::GroupState::default());
        let rows = GroupedRows { columns: values, filter: opt_filter, groups: Some(group_indices) };
        self.bytes += self.collector.update(&mut self.groups, &rows)?;
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let mut groups = self.emitted(emit_to);
        self.collector.evaluate(&mut groups)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = self.emitted(emit_to);
        self.collector.state(&groups)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups.resize(total_num_groups, C::GroupState::default());
        let rows = GroupedRows { columns: values, filter: None, groups: Some(group_indices) };
        self.bytes += self.collector.merge(&mut self.groups, &rows)?;
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let count = values.first().map_or(0, |column| column.len());
        let mut groups = vec![C::GroupState::default(); count];
        let own: Vec<usize> = (0..count).collect();
        let rows = GroupedRows { columns: values, filter: opt_filter, groups: Some(&own) };
        self.collector.update(&mut groups, &rows)?;
        self.collector.state(&groups)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.groups.capacity() * size_of::<C::GroupState>() + self.bytes
    }
}

impl<C: Collector> Frame<C> {
    pub(super) fn new(collector: C) -> Self {
        Self { collector, batches: VecDeque::new() }
    }

    fn collected(&self) -> Result<C::GroupState> {
        let mut group = C::GroupState::default();
        for batch in &self.batches {
            self.collector.update(from_mut(&mut group), &GroupedRows::all(batch))?;
        }
        Ok(group)
    }
}

impl<C: Collector> Accumulator for Frame<C> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.batches.push_back(values.to_vec());
        if self.batches.len() > FRAME_BATCHES {
            let column = |index: usize| {
                let parts = self.batches.iter().filter_map(|batch| batch.get(index));
                concat(&parts.map(|part| part.as_ref()).collect::<Vec<_>>())
            };
            let whole = (0..values.len()).map(column).collect::<Result<Vec<_>, _>>()?;
            self.batches = VecDeque::from([whole]);
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut leaving = values.first().map_or(0, |column| column.len());
        while leaving > 0 {
            let Some(oldest) = self.batches.front_mut() else { break };
            let rows = oldest.first().map_or(0, |column| column.len());
            if rows > leaving {
                for column in oldest {
                    *column = column.slice(leaving, rows - leaving);
                }
                break;
            }
            leaving -= rows;
            self.batches.pop_front();
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut group = self.collected()?;
        let result = self.collector.evaluate(from_mut(&mut group))?;
        ScalarValue::try_from_array(&result, 0)
    }

    fn size(&self) -> usize {
        let columns = self.batches.iter().flatten();
        size_of_val(self) + columns.map(|column| column.get_array_memory_size()).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let columns = self.collector.state(&[self.collected()?])?;
        columns.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> Result<()> {
        exec_err!("frames of windows aren't merged")
    }
}
