//! From states to rows.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayData, ArrayRef, Float64Array, Int64Array, RecordBatch, RecordBatchOptions,
        UInt32Array, UInt64Array, make_array,
    },
    buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer},
    compute::{cast, take},
    datatypes::DataType,
};
use datafusion::error::Result;
use lsio_core::{
    Recycler,
    reduce::{GroupCounts, Misfit, PairMoments, PairStates, States},
};

use super::{
    cell_keys::Dictionary,
    full_rank::misfit,
    key_columns::{WantedGroups, key_columns},
    keys::CellGroups,
    plan::{Aggregation, ArgumentValues, Reduced, ResultSource},
    slabs::Slab,
    state::{ArgumentResults, Finished, SlabState},
};
use crate::{
    functions::aggregate::{Summary as _, histograms, integer_sum_states, integer_sums},
    nan_as_null::without_nan,
};

/// Results of a slab's groups.
pub(super) struct SlabResults {
    /// Groups with rows in ascending order; `None` is all.
    pub(super) met: Option<UInt32Array>,
    /// Columns of the functions.
    pub(super) columns: Vec<ArrayRef>,
}

/// Which groups have a place in the columns of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Places {
    /// Those that have rows.
    Met,
    /// All.
    All,
}

/// The rows of a slab; `ordered` are the statistics of its kept values. Numbers lie in memory that is used again.
pub(super) fn rows(
    plan: &Aggregation,
    groups: &CellGroups,
    slab: &Slab,
    state: SlabState,
    ordered: &[ArrayRef],
    dictionary: Option<&Dictionary>,
    memory: &Arc<Recycler>,
) -> Result<RecordBatch> {
    let SlabResults { met, columns } = results(plan, state, ordered, Places::Met, memory)?;
    let count = if !plan.is_grouped() {
        1
    } else {
        met.as_ref().map_or(slab.groups, |met| met.values().len())
    };
    let wanted = WantedGroups { slab, met: met.as_ref(), count };
    let mut keys = key_columns(plan, groups, wanted, memory)?;
    if let (Some(cell_keys), Some(dictionary), Some(met)) = (&plan.cell_keys, dictionary, &met) {
        let number = |group: &u32| group / u32::try_from(slab.groups.max(1)).unwrap_or(u32::MAX);
        let numbers = met.values().iter().map(number).collect::<Vec<_>>();
        let numbers = UInt32Array::from(numbers);
        for (position, values) in cell_keys.positions.iter().zip(dictionary.emit(cell_keys)?) {
            keys.push((*position, take(&values, &numbers, None)?));
        }
    }
    keys.sort_by_key(|(position, _)| *position);
    let keys = keys.into_iter().map(|(position, column)| as_output(plan, position, column));
    let columns = keys.chain(columns.into_iter().map(Ok)).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    Ok(RecordBatch::try_new_with_options(Arc::clone(&plan.schema), columns, &options)?)
}

/// The results of a slab; `ordered` are the statistics of its kept values.
pub(super) fn results(
    plan: &Aggregation,
    state: SlabState,
    ordered: &[ArrayRef],
    places: Places,
    memory: &Arc<Recycler>,
) -> Result<SlabResults> {
    let groups = state.groups;
    let Finished { groups: met, states, accumulated } = state.finish(plan)?;
    plan.weights.iter().for_each(|weights| weights.count(&states));
    let met: Option<UInt32Array> = met.map(UInt32Array::from);
    let of_groups = |array: ArrayRef| -> Result<ArrayRef> {
        match (&met, places) {
            (Some(met), Places::Met) => Ok(take(&array, met, None)?),
            _ => Ok(array),
        }
    };
    let of_met = |array: &ArrayRef| -> Result<ArrayRef> {
        let (Some(met), Places::All) = (&met, places) else { return Ok(Arc::clone(array)) };
        let mut numbers: Vec<Option<u32>> = vec![None; groups];
        for (number, group) in (0_u32..).zip(met.values()) {
            numbers[*group as usize] = Some(number);
        }
        Ok(take(array, &UInt32Array::from(numbers), None)?)
    };
    let keys = plan.key_count();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (function, name) in plan.functions.iter().zip(&plan.names) {
        match *function {
            ResultSource::Ordered(position) => {
                columns.push(of_groups(Arc::clone(&ordered[position]))?);
            }
            ResultSource::Accumulated(position) => {
                for array in &accumulated[position] {
                    columns.push(of_met(array)?);
                }
            }
            ResultSource::Reduced { argument, result } => {
                let states = match &states[argument] {
                    ArgumentResults::Numbers(states) => states,
                    own => {
                        let results = match own {
                            ArgumentResults::Pairs(pairs) => of_pairs(result, pairs, plan.states)?,
                            _ => vec![of_buckets(&plan.arguments[argument].values, own)?],
                        };
                        for array in results {
                            columns.push(of_groups(array)?);
                        }
                        continue;
                    }
                };
                let data_type = match &plan.arguments[argument].values {
                    ArgumentValues::Numbers { data_type, .. } => data_type.clone(),
                    ArgumentValues::Weighted { .. } => DataType::Float64,
                    _ => DataType::Null,
                };
                // Sums of narrow integers are 64-bit ones, signed or unsigned.
                let output = plan.schema.field(keys + columns.len()).data_type();
                let data_type = match result {
                    Reduced::IntegerSum => output.clone(),
                    _ => data_type,
                };
                let column = ResultColumn { name, data_type: &data_type, memory };
                let results = if plan.states {
                    partial(result, states, column)?
                } else {
                    vec![value(result, states, column)?]
                };
                for array in results {
                    columns.push(of_groups(array)?);
                }
            }
        }
    }
    let columns = (keys..).zip(columns).map(|(position, column)| as_output(plan, position, column));
    Ok(SlabResults { columns: columns.collect::<Result<_>>()?, met })
}

/// A column as the one at this position of the output.
pub(super) fn as_output(plan: &Aggregation, position: usize, column: ArrayRef) -> Result<ArrayRef> {
    let field = plan.schema.field(position);
    // Equal types may differ in names: of a time zone, of a list's field.
    let column = match column.data_type() == field.data_type() {
        true => column,
        false => cast(&column, field.data_type())?,
    };
    let keeps_nan = !plan.without_nan.contains(&position);
    Ok(if keeps_nan { column } else { without_nan(&column) })
}

/// A function's column of results.
#[derive(Clone, Copy)]
struct ResultColumn<'a> {
    name: &'a str,
    data_type: &'a DataType,
    memory: &'a Arc<Recycler>,
}

/// The final value of a function for each group.
fn value(result: Reduced, states: &States, column: ResultColumn<'_>) -> Result<ArrayRef> {
    let ResultColumn { name, data_type, memory } = column;
    let valid = |least: i64| {
        let bits = || BooleanBuffer::from_iter(states.counts.iter().map(|n| n >= least));
        (!states.counts.are_at_least(least)).then(|| NullBuffer::new(bits()))
    };
    let doubles = |values: Vec<f64>, least| -> ArrayRef {
        Arc::new(Float64Array::new(values.into(), valid(least)))
    };
    let groups = states.counts.len();
    Ok(match result {
        Reduced::Count => Arc::new(Int64Array::from(states.counts.clone().into_vec())),
        Reduced::Sum => doubles(states.sums.clone(), 1),
        Reduced::IntegerSum => integer_sums(name, data_type, integer_sums_of(states))?,
        Reduced::Avg => {
            let means = means(&states.sums, &states.counts, memory);
            Arc::new(Float64Array::new(means, valid(1)))
        }
        Reduced::Min => extreme(states.min.as_ref(), data_type, groups, valid(1))?,
        Reduced::Max => extreme(states.max.as_ref(), data_type, groups, valid(1))?,
        Reduced::WeightedAvg => {
            let means = states.sums.iter().zip(&states.weights);
            let means = means.map(|(sum, weight)| (*weight != 0.0).then(|| sum / weight));
            Arc::new(means.collect::<Float64Array>())
        }
        Reduced::Variance { sample, root, .. } => {
            let less = i64::from(sample);
            let values = states.squares.iter().zip(states.counts.iter()).map(|(squares, n)| {
                let variance = squares / (n - less) as f64;
                if root { variance.sqrt() } else { variance }
            });
            doubles(values.collect(), 1 + less)
        }
        Reduced::Pair(_) | Reduced::PairMean(_) | Reduced::PairCount | Reduced::Histogram => {
            return Err(misfit(Misfit));
        }
    })
}

/// Sums divided by the numbers of values, in memory that is used again.
fn means(sums: &[f64], counts: &GroupCounts, memory: &Arc<Recycler>) -> ScalarBuffer<f64> {
    let mut means = memory.take(size_of_val(sums));
    let to = means.typed_mut::<f64>();
    match counts {
        GroupCounts::Runs(runs) => {
            let mut start = 0;
            for &(end, count) in runs {
                let count = count as f64;
                let own = to[start..end].iter_mut().zip(&sums[start..end]);
                own.for_each(|(mean, sum)| *mean = sum / count);
                start = end;
            }
        }
        GroupCounts::Each(counts) => {
            let own = to.iter_mut().zip(sums).zip(counts);
            own.for_each(|((mean, sum), count)| *mean = sum / *count as f64);
        }
    }
    means.freeze().into()
}

/// Histogram of each group, which is its state too.
fn of_buckets(values: &ArgumentValues, counts: &ArgumentResults) -> Result<ArrayRef> {
    match (values, counts) {
        (ArgumentValues::Buckets { buckets, .. }, ArgumentResults::Histograms(counts)) => {
            histograms(counts.clone(), buckets)
        }
        _ => Err(misfit(Misfit)),
    }
}

/// Final values or states of a function of pairs for each group.
fn of_pairs(result: Reduced, pairs: &PairStates, states: bool) -> Result<Vec<ArrayRef>> {
    let double = |of: &dyn Fn(&PairMoments) -> f64| -> ArrayRef {
        Arc::new(pairs.moments.iter().map(|own| Some(of(own))).collect::<Float64Array>())
    };
    let counts = || -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(pairs.moments.iter().map(|own| own.count as u64)))
    };
    let mean = |own: &PairMoments, side: usize| own.start[side] + own.mean[side];
    Ok(match result {
        Reduced::Pair(_) if states => {
            (0..8).map(|position| double(&|own| own.to_doubles()[position])).collect()
        }
        Reduced::Pair(statistic) => {
            let finish = statistic.finish();
            vec![Arc::new(pairs.moments.iter().map(finish).collect::<Float64Array>())]
        }
        Reduced::PairMean(side) => {
            let sums = &pairs.sums[side];
            if states {
                let zeros = vec![0.0; sums.len()];
                let columns = [sums.clone(), zeros].map(Float64Array::from);
                let columns = columns.into_iter().map(|column| Arc::new(column) as ArrayRef);
                return Ok([double(&|own| own.count)].into_iter().chain(columns).collect());
            }
            let means = sums.iter().zip(&pairs.moments);
            let means = means.map(|(sum, own)| (own.count > 0.0).then(|| sum / own.count));
            vec![Arc::new(means.collect::<Float64Array>())]
        }
        Reduced::PairCount if states => vec![
            counts(),
            double(&|own| mean(own, 1)),
            double(&|own| mean(own, 0)),
            double(&|own| own.squares[1]),
            double(&|own| own.squares[0]),
            double(&|own| own.products),
        ],
        Reduced::PairCount => vec![counts()],
        _ => return Err(misfit(Misfit)),
    })
}

/// A function's states for each group, as DataFusion's partial aggregate has them.
fn partial(result: Reduced, states: &States, column: ResultColumn<'_>) -> Result<Vec<ArrayRef>> {
    let counts = |nulls| -> ArrayRef {
        let counts: Vec<u64> = states.counts.iter().map(i64::cast_unsigned).collect();
        Arc::new(UInt64Array::new(counts.into(), nulls))
    };
    let doubles = |values: &[f64]| -> ArrayRef { Arc::new(Float64Array::from(values.to_vec())) };
    Ok(match result {
        Reduced::Avg => {
            let sums = value(Reduced::Sum, states, column)?;
            // A count of 0 would make a value of a group that has none.
            vec![counts(sums.nulls().cloned()), sums]
        }
        Reduced::WeightedAvg => vec![doubles(&states.sums), doubles(&states.weights)],
        Reduced::Variance { own: true, .. } => {
            let counts: Vec<f64> = states.counts.iter().map(|n| n as f64).collect();
            vec![
                doubles(&counts),
                doubles(&states.starts),
                doubles(&states.means),
                doubles(&states.squares),
            ]
        }
        Reduced::Variance { own: false, .. } => {
            let means = states.starts.iter().zip(&states.means).map(|(start, mean)| start + mean);
            vec![counts(None), doubles(&means.collect::<Vec<_>>()), doubles(&states.squares)]
        }
        Reduced::IntegerSum => vec![integer_sum_states(integer_sums_of(states))?],
        other => vec![value(other, states, column)?],
    })
}

/// Sums of the groups that have values.
fn integer_sums_of(states: &States) -> impl Iterator<Item = Option<i128>> {
    let sums = states.integer_sums.iter().zip(states.counts.iter());
    sums.map(|(sum, count)| (count > 0).then_some(*sum))
}

fn extreme(
    values: Option<&Buffer>,
    data_type: &DataType,
    groups: usize,
    valid: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let data = ArrayData::builder(data_type.clone())
        .len(groups)
        .nulls(valid)
        .add_buffer(values.cloned().unwrap_or_default());
    Ok(make_array(data.build()?))
}
