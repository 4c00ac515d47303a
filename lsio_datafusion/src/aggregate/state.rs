//! The states of a slab's groups.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray},
    buffer::BooleanBuffer,
    compute::filter as filter_rows,
    datatypes::DataType,
};
use datafusion::{
    error::Result,
    logical_expr::{Accumulator, EmitTo, GroupsAccumulator},
    physical_expr::{GroupsAccumulatorAdapter, aggregate::AggregateFunctionExpr},
    scalar::ScalarValue,
};
use lsio_core::reduce::{
    Counts, GroupLayout, Histograms, Misfit, PairReduction, PairStates, Reduction, States,
};

use super::{
    cell_keys::{Dictionary, Numbering},
    full_rank::misfit,
    plan::{Aggregation, ArgumentValues, WEIGHTED},
};

/// State of a slab's groups.
pub(super) struct SlabState {
    /// Number of rows of each group, where a group may have none.
    rows: Option<Counts>,
    pub(super) arguments: Vec<ArgumentState>,
    accumulated: Vec<AccumulatorState>,
    met: Met,
    /// Combinations of the keys that vary along data.
    numbering: Option<Numbering>,
    /// Number of groups that the states have place for.
    pub(super) groups: usize,
    /// Bytes of the accumulators at the last look.
    pub(super) accumulator_bytes: usize,
}

/// Kernels' state of an argument.
pub(super) enum ArgumentState {
    Counts(Counts),
    Numbers(Box<Reduction>),
    Pairs(Box<PairReduction>),
    Histograms(Histograms),
}

enum AccumulatorState {
    /// State of all rows, without keys.
    One(Box<dyn Accumulator>),
    /// States of the groups that have rows.
    Groups(Box<dyn GroupsAccumulator>),
}

/// Groups that have rows, in the order of their first rows. Accumulators must not see others: a group that
/// never gets a row would count as one whose values are not all NULL.
#[derive(Default)]
struct Met {
    /// Number of each group among those that have rows.
    numbers: Vec<u32>,
    groups: Vec<u32>,
}

/// Number of a group without rows.
const NEVER: u32 = u32::MAX;

/// Rows for the accumulators.
pub(super) struct Batch<'a> {
    pub(super) layout: &'a GroupLayout,
    /// Range of the cells.
    pub(super) cells: Range<usize>,
    /// Wanted cells, if not all.
    pub(super) rows: Option<BooleanBuffer>,
}

impl SlabState {
    pub(super) fn new(plan: &Aggregation, groups: usize) -> Result<Self> {
        let is_grouped = plan.is_grouped();
        let arguments = plan.arguments.iter().map(|argument| match &argument.values {
            ArgumentValues::Numbers { data_type, wanted, .. } => {
                match Reduction::new(data_type, *wanted, groups) {
                    Some(reduction) => ArgumentState::Numbers(Box::new(reduction)),
                    None => ArgumentState::Counts(Counts::new(groups)),
                }
            }
            ArgumentValues::Weighted { .. } => {
                match Reduction::new(&DataType::Float64, WEIGHTED, groups) {
                    Some(reduction) => ArgumentState::Numbers(Box::new(reduction)),
                    None => ArgumentState::Counts(Counts::new(groups)),
                }
            }
            ArgumentValues::Pairs { wanted, .. } => {
                ArgumentState::Pairs(Box::new(PairReduction::new(*wanted, groups)))
            }
            ArgumentValues::Buckets { buckets, .. } => {
                ArgumentState::Histograms(Histograms::new(*buckets, groups))
            }
            ArgumentValues::Rows | ArgumentValues::Valid(_) => {
                ArgumentState::Counts(Counts::new(groups))
            }
        });
        let accumulated = plan
            .accumulated
            .iter()
            .map(|own| {
                Ok(if is_grouped {
                    AccumulatorState::Groups(groups_accumulator(&own.function)?)
                } else {
                    AccumulatorState::One(own.function.create_accumulator()?)
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let met = if is_grouped && !accumulated.is_empty() {
            Met { numbers: vec![NEVER; groups], groups: Vec::new() }
        } else {
            Met::default()
        };
        Ok(Self {
            rows: (plan.counts_rows() && is_grouped).then(|| Counts::new(groups)),
            arguments: arguments.collect(),
            accumulated,
            met,
            numbering: plan.cell_keys.as_ref().map(Numbering::new).transpose()?,
            groups,
            accumulator_bytes: 0,
        })
    }

    /// Groups of cells, of which some keys vary along data. Makes place for them.
    pub(super) fn number(
        &mut self,
        dictionary: &Dictionary,
        keys: &[ArrayRef],
        rows: Option<&BooleanBuffer>,
        (layout, first, groups): (&GroupLayout, usize, usize),
    ) -> Result<Option<GroupLayout>> {
        let Some(numbering) = &mut self.numbering else { return Ok(None) };
        let cells = numbering.groups(dictionary, keys, rows, (layout, first, groups))?;
        let needed = cells.combinations.saturating_mul(groups);
        if needed > self.groups {
            self.grow(needed.max(self.groups.saturating_mul(2)));
        }
        Ok(Some(cells.layout))
    }

    /// Bytes of the numbers of values, here and in the dictionary.
    pub(super) fn size_of_numbers(&self) -> usize {
        self.numbering.as_ref().map_or(0, |numbering| 2 * numbering.size())
    }

    /// Makes place for more groups.
    fn grow(&mut self, groups: usize) {
        self.groups = groups;
        if let Some(rows) = &mut self.rows {
            rows.grow(groups);
        }
        for argument in &mut self.arguments {
            match argument {
                ArgumentState::Counts(own) => own.grow(groups),
                ArgumentState::Numbers(own) => own.grow(groups),
                ArgumentState::Pairs(own) => own.grow(groups),
                ArgumentState::Histograms(own) => own.grow(groups),
            }
        }
    }

    /// Counts rows of groups where a group may have none.
    pub(super) fn count_rows(
        &mut self,
        layout: &GroupLayout,
        cells: Range<usize>,
        rows: Option<&BooleanBuffer>,
    ) {
        if let Some(counts) = &mut self.rows {
            counts.update(layout, cells, rows, 1);
        }
    }

    /// Numbers of the groups of a batch's wanted rows, for the accumulators.
    pub(super) fn meet(&mut self, batch: &Batch<'_>) -> Vec<usize> {
        let mut numbers = Vec::with_capacity(batch.cells.len());
        if self.met.numbers.is_empty() {
            return numbers;
        }
        let mut cell = 0;
        batch.layout.groups(batch.cells.clone(), |group| {
            if batch.rows.as_ref().is_none_or(|rows| rows.value(cell)) {
                let number = &mut self.met.numbers[group];
                if *number == NEVER {
                    // The number of groups fits 32 bits.
                    *number = u32::try_from(self.met.groups.len()).unwrap_or(NEVER);
                    self.met.groups.push(u32::try_from(group).unwrap_or(NEVER));
                }
                numbers.push(*number as usize);
            }
            cell += 1;
        });
        numbers
    }

    /// Passes rows to an accumulator: arguments, numbers of groups, and the mask of its FILTER.
    pub(super) fn accumulate(
        &mut self,
        position: usize,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        match &mut self.accumulated[position] {
            AccumulatorState::Groups(accumulator) => {
                accumulator.update_batch(values, groups, filter, self.met.groups.len())
            }
            AccumulatorState::One(accumulator) => match filter {
                None => accumulator.update_batch(values),
                Some(filter) => {
                    let values: Vec<ArrayRef> = values
                        .iter()
                        .map(|values| filter_rows(values, filter))
                        .collect::<Result<_, _>>()?;
                    accumulator.update_batch(&values)
                }
            },
        }
    }

    /// Bytes that the accumulators hold.
    pub(super) fn size_of_accumulators(&self) -> usize {
        self.accumulated
            .iter()
            .map(|state| match state {
                AccumulatorState::One(accumulator) => accumulator.size(),
                AccumulatorState::Groups(accumulator) => accumulator.size(),
            })
            .sum()
    }

    /// Merges another state of the same groups.
    pub(super) fn merge(&mut self, mut other: Self) -> Result<()> {
        let groups = self.groups.max(other.groups);
        for state in [&mut *self, &mut other] {
            if state.groups < groups {
                state.grow(groups);
            }
        }
        if let (Some(own), Some(other)) = (&mut self.rows, &other.rows) {
            own.merge(other);
        }
        for (own, other) in self.arguments.iter_mut().zip(&other.arguments) {
            match (own, other) {
                (ArgumentState::Counts(own), ArgumentState::Counts(other)) => own.merge(other),
                (ArgumentState::Numbers(own), ArgumentState::Numbers(other)) => {
                    own.merge(other).map_err(misfit)?;
                }
                (ArgumentState::Pairs(own), ArgumentState::Pairs(other)) => own.merge(other),
                (ArgumentState::Histograms(own), ArgumentState::Histograms(other)) => {
                    own.merge(other);
                }
                _ => return Err(misfit(Misfit)),
            }
        }
        let numbers: Vec<usize> = other
            .met
            .groups
            .iter()
            .map(|&group| {
                let number = &mut self.met.numbers[group as usize];
                if *number == NEVER {
                    *number = u32::try_from(self.met.groups.len()).unwrap_or(NEVER);
                    self.met.groups.push(group);
                }
                *number as usize
            })
            .collect();
        for (own, other) in self.accumulated.iter_mut().zip(&mut other.accumulated) {
            match (own, other) {
                (AccumulatorState::One(own), AccumulatorState::One(other)) => {
                    let state = arrays(other.state()?)?;
                    own.merge_batch(&state)?;
                }
                (AccumulatorState::Groups(own), AccumulatorState::Groups(other)) => {
                    if !numbers.is_empty() {
                        let state = other.state(EmitTo::All)?;
                        own.merge_batch(&state, &numbers, self.met.groups.len())?;
                    }
                }
                _ => return Err(misfit(Misfit)),
            }
        }
        Ok(())
    }

    /// Evaluates the state.
    pub(super) fn finish(self, plan: &Aggregation) -> Result<Finished> {
        let is_grouped = plan.is_grouped();
        let mut order = None;
        let groups = if !is_grouped {
            None
        } else if !self.accumulated.is_empty() {
            let mut by_group: Vec<u32> = (0..).take(self.met.groups.len()).collect();
            by_group.sort_unstable_by_key(|&number| self.met.groups[number as usize]);
            let groups = by_group.iter().map(|&number| self.met.groups[number as usize]).collect();
            order = Some(arrow::array::UInt32Array::from(by_group));
            Some(groups)
        } else {
            self.rows.map(|rows| {
                let counts = rows.finish();
                (0_u32..)
                    .zip(counts.iter())
                    .filter(|(_, count)| *count > 0)
                    .map(|(g, _)| g)
                    .collect()
            })
        };
        let states = self.arguments.into_iter().map(|state| match state {
            ArgumentState::Counts(counts) => {
                ArgumentResults::Numbers(States { counts: counts.finish(), ..States::default() })
            }
            ArgumentState::Numbers(reduction) => ArgumentResults::Numbers(reduction.finish()),
            ArgumentState::Pairs(pairs) => ArgumentResults::Pairs(pairs.finish()),
            ArgumentState::Histograms(own) => ArgumentResults::Histograms(own.finish()),
        });
        let states = states.collect();
        let mut accumulated = Vec::new();
        for state in self.accumulated {
            let arrays = match state {
                AccumulatorState::One(mut one) if plan.states => arrays(one.state()?)?,
                AccumulatorState::One(mut one) => arrays(vec![one.evaluate()?])?,
                AccumulatorState::Groups(mut groups) if plan.states => groups.state(EmitTo::All)?,
                AccumulatorState::Groups(mut groups) => vec![groups.evaluate(EmitTo::All)?],
            };
            accumulated.push(match &order {
                Some(order) if !order.is_empty() => arrays
                    .iter()
                    .map(|array| arrow::compute::take(array, order, None))
                    .collect::<Result<_, _>>()?,
                _ => arrays,
            });
        }
        Ok(Finished { groups, states, accumulated })
    }
}

/// Results of a slab.
pub(super) struct Finished {
    /// Groups with rows in ascending order; `None` is all.
    pub(super) groups: Option<Vec<u32>>,
    /// Reductions of each argument, by group.
    pub(super) states: Vec<ArgumentResults>,
    /// Columns of each accumulator's result, in the order of `groups`.
    pub(super) accumulated: Vec<Vec<ArrayRef>>,
}

/// Reduction of an argument, by group.
pub(super) enum ArgumentResults {
    Numbers(States),
    Pairs(PairStates),
    /// Numbers of values in the buckets of each group.
    Histograms(Vec<i64>),
}

fn groups_accumulator(function: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    if function.groups_accumulator_supported() {
        return function.create_groups_accumulator();
    }
    let function = Arc::clone(function);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
}

fn arrays(values: Vec<ScalarValue>) -> Result<Vec<ArrayRef>> {
    values.into_iter().map(|value| value.to_array_of_size(1)).collect()
}
