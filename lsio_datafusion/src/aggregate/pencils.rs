//! Arguments of which all values are kept, each group's side by side.

use std::sync::Arc;

use arrow::{array::ArrayRef, compute::concat, datatypes::DataType};
use datafusion::{
    common::runtime::JoinSet,
    error::{DataFusionError, Result},
    physical_expr::aggregate::AggregateFunctionExpr,
};
use lsio_core::reduce::{Misfit, PencilKind, PencilPart, Pencils};

use super::{
    full_rank::misfit,
    keys::{CellGroups, GroupKeys},
    plan::Aggregation,
    slabs::Slab,
};
use crate::{
    ZarrSource,
    expression::{Expression, Ranked},
    functions::aggregate::OrderStatistic,
};

/// Mean number of cells of a group up to which values are kept where an accumulator would keep less.
const SMALL: u64 = 1 << 15;

/// Argument of which all values are kept.
#[derive(Clone, Debug)]
pub(super) struct PencilArgument {
    pub(super) expr: Ranked,
    /// Type in which they are kept.
    pub(super) data_type: DataType,
    /// Whether NaN that isn't NULL is kept.
    pub(super) keeps_nan: bool,
    /// Position of its FILTER.
    pub(super) filter: Option<usize>,
}

/// Statistic of an argument's values.
#[derive(Clone, Debug)]
pub(super) struct PencilStatistic {
    /// Position of the argument.
    pub(super) pencil: usize,
    pub(super) statistic: OrderStatistic,
}

/// Argument and statistic of a function that needs all values; `None` if its accumulator is used. `is_worth` tells
/// whether values are kept, where the accumulator is compact or isn't.
pub(super) fn kept(
    function: &AggregateFunctionExpr,
    arguments: &[Ranked],
    filter: Option<usize>,
    is_worth: &mut dyn FnMut(bool) -> Result<bool>,
) -> Result<Option<(PencilArgument, OrderStatistic)>> {
    let Some(expr) = arguments.first() else { return Ok(None) };
    let value = expr.whole().data_type()?;
    let Some(statistic) = OrderStatistic::new(function, &value) else { return Ok(None) };
    let Some(data_type) = statistic.kept_type(&value) else { return Ok(None) };
    if !is_worth(statistic.is_compact())? {
        return Ok(None);
    }
    let keeps_nan = statistic.keeps_nan();
    let argument = PencilArgument { expr: expr.clone(), data_type, keeps_nan, filter };
    Ok(Some((argument, statistic)))
}

/// Whether groups have few cells on average, as far as planning knows.
pub(super) fn small_groups(keys: &[(Expression, String)], source: &ZarrSource) -> Result<bool> {
    let selection = source.selection();
    let Ok(own) = GroupKeys::new(keys.to_vec(), selection) else {
        return Ok(false);
    };
    let Ok(Some(groups)) = own.known(source.table(), selection) else { return Ok(false) };
    let cells = selection.iter().map(|own| own.len()).fold(1, u64::saturating_mul);
    let groups = groups.len().map_or(u64::MAX, |groups| groups as u64);
    Ok(cells / groups.max(1) <= SMALL)
}

/// Finds or adds an argument. Returns its position.
pub(super) fn with_pencil(pencils: &mut Vec<PencilArgument>, argument: PencilArgument) -> usize {
    let same = |other: &PencilArgument| {
        other.filter == argument.filter
            && other.data_type == argument.data_type
            && other.keeps_nan == argument.keeps_nan
            && other.expr.same(&argument.expr)
    };
    if let Some(position) = pencils.iter().position(same) {
        return position;
    }
    pencils.push(argument);
    pencils.len() - 1
}

/// Numbers of cells of the groups.
#[derive(Clone, Debug)]
pub(super) struct GroupSizes {
    /// For each set of keys, the number of cells of each of its groups.
    sets: Vec<Vec<usize>>,
    /// Number of cells along the dimensions without a key.
    rest: usize,
}

impl GroupSizes {
    pub(super) fn new(groups: &CellGroups) -> Self {
        let sets = groups.sets.iter().map(|set| {
            let mut cells = vec![0; set.count];
            set.ids.iter().for_each(|id| cells[*id as usize] += 1);
            cells
        });
        Self { sets: sets.collect(), rest: groups.cells_without_key() }
    }

    /// Number of cells of each group of a slab.
    fn of_slab(&self, slab: &Slab) -> Vec<usize> {
        let mut cells = vec![self.rest];
        for (set, (own, count)) in self.sets.iter().zip(slab.sets.iter().zip(&slab.counts)) {
            let first = own.first as usize;
            let own = &set[first..first + *count as usize];
            cells = cells
                .iter()
                .flat_map(|cells| own.iter().map(move |own| cells.saturating_mul(*own)))
                .collect();
        }
        cells
    }
}

/// Kept values of a slab's groups.
pub(super) struct SlabPencils {
    pencils: Vec<Pencils>,
}

impl SlabPencils {
    /// Bytes of the values of these groups.
    pub(super) fn bytes(plan: &Aggregation, sizes: &GroupSizes, slab: &Slab) -> usize {
        let cells = sizes.of_slab(slab);
        let all = cells.iter().fold(0_usize, |all, cells| all.saturating_add(*cells));
        let bytes = |argument: &PencilArgument| {
            let width = argument.data_type.primitive_width().unwrap_or(8);
            Pencils::bytes(cells.len(), all, width)
        };
        plan.pencils.iter().map(bytes).fold(0, usize::saturating_add)
    }

    pub(super) fn new(plan: &Aggregation, sizes: &GroupSizes, slab: &Slab) -> Result<Self> {
        Self::with_cells(plan, &sizes.of_slab(slab))
    }

    /// One group without values.
    pub(super) fn empty(plan: &Aggregation) -> Result<Self> {
        Self::with_cells(plan, &[0])
    }

    fn with_cells(plan: &Aggregation, cells: &[usize]) -> Result<Self> {
        let innermost = plan.source.table().dims.len().checked_sub(1);
        let across = innermost.is_some_and(|dim| plan.keys.dims().contains(&dim));
        let pencils = plan.pencils.iter().map(|argument| {
            let kind = PencilKind { keeps_nan: argument.keeps_nan, across };
            Pencils::new(&argument.data_type, cells, kind).ok_or_else(|| misfit(Misfit))
        });
        Ok(Self { pencils: pencils.collect::<Result<_>>()? })
    }

    pub(super) fn pencils(&self) -> &[Pencils] {
        &self.pencils
    }

    /// Evaluates the statistics, in tasks that run at the same time.
    pub(super) async fn evaluate(self, plan: &Arc<Aggregation>) -> Result<Vec<ArrayRef>> {
        let mut tasks = JoinSet::new();
        let mut results: Vec<Vec<Option<ArrayRef>>> = vec![Vec::new(); plan.statistics.len()];
        for (pencil, own) in self.pencils.into_iter().enumerate() {
            let parts = own.into_parts();
            for (own, results) in plan.statistics.iter().zip(&mut results) {
                if own.pencil == pencil {
                    results.resize(parts.len(), None);
                }
            }
            for (number, part) in parts.into_iter().enumerate() {
                let plan = Arc::clone(plan);
                tasks.spawn(async move { (number, statistics(&plan, pencil, part)) });
            }
        }
        while let Some(done) = tasks.join_next().await {
            let (number, done) =
                done.map_err(|error| DataFusionError::External(Box::new(error)))?;
            for (statistic, array) in done? {
                results[statistic][number] = Some(array);
            }
        }
        let whole = results.into_iter().map(|parts| {
            let parts: Vec<ArrayRef> = parts.into_iter().flatten().collect();
            Ok(concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?)
        });
        whole.collect()
    }
}

/// Statistics of a part of an argument's values, by position.
fn statistics(
    plan: &Aggregation,
    pencil: usize,
    mut part: PencilPart,
) -> Result<Vec<(usize, ArrayRef)>> {
    let own = plan.statistics.iter().enumerate().filter(|(_, own)| own.pencil == pencil);
    own.map(|(position, own)| Ok((position, own.statistic.evaluate(&mut part)?))).collect()
}
