//! Reduces one tile into the states of its slab.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, BooleanArray, UInt32Array},
    buffer::BooleanBuffer,
    compute::{filter as filter_rows, take},
};
use datafusion::error::Result;
use lsio_core::{
    read::{Block, Decoded, Pieces, Scratch, Tile},
    reduce::{Keys, Layout},
};

use super::{
    keys::Groups,
    plan::{Aggregation, Argument, Values},
    slabs::Slab,
    state::{ArgumentState, Batch, State},
};
use crate::{
    error::external,
    expression::{Evaluation, Ranked},
    predicate::as_mask,
};

/// The rows on which an expression is evaluated at a time: a few arrays of them fit the second-level
/// cache.
const ROWS: usize = 8192;

/// A tile, and what is the same for all arguments.
struct Work<'a> {
    plan: &'a Aggregation,
    tile: &'a Tile,
    /// The positions in the tile of the table's columns.
    position: &'a dyn Fn(usize) -> Option<usize>,
    /// All dimensions.
    dims: Vec<usize>,
    shape: Vec<usize>,
    keys: Vec<Keys>,
    /// The wanted rows, if not all.
    rows: Option<&'a BooleanBuffer>,
    /// Layouts along some of the dimensions.
    layouts: Vec<(Vec<usize>, Arc<Layout>)>,
}

/// Adds the wanted rows of a tile to the states. Some of its columns come in pieces, each with the
/// arguments that it is.
pub(super) fn reduce(
    plan: &Aggregation,
    (groups, slab): (&Groups, &Slab),
    (tile, rows): (&Tile, Option<&BooleanBuffer>),
    (pieces, scratch): (&[(&[usize], Pieces)], &mut Scratch),
    position: &dyn Fn(usize) -> Option<usize>,
    batch_size: usize,
    state: &mut State,
) -> Result<Decoded> {
    let shape = shape_of(tile.block());
    let mut work = Work {
        plan,
        tile,
        position,
        dims: (0..shape.len()).collect(),
        shape,
        keys: groups.of_block(tile.block(), &slab.sets),
        rows,
        layouts: Vec::new(),
    };
    let dims = if rows.is_some() { work.dims.clone() } else { plan.keys.dims() };
    let layout = work.layout(&dims);
    state.count_rows(&layout, rows);
    let mut decoded = Decoded::default();
    for (arguments, pieces) in pieces {
        let all = work.dims.clone();
        let layout = work.layout(&all);
        let nan_is_null = pieces.nan_is_null();
        let part = pieces.for_each(scratch, |first, bytes| {
            for &argument in *arguments {
                if let ArgumentState::Numbers(reduction) = &mut state.arguments[argument] {
                    reduction.update_bytes(&layout, first, bytes, nan_is_null);
                }
            }
        });
        let part = part.map_err(external)?;
        decoded.bytes += part.bytes;
        decoded.time += part.time;
    }
    let mut masks: Vec<Option<BooleanBuffer>> = vec![None; plan.filters.len()];
    for (number, (argument, own)) in plan.arguments.iter().zip(&mut state.arguments).enumerate() {
        if pieces.iter().any(|(arguments, _)| arguments.contains(&number)) {
            continue;
        }
        if let Some(filter) = argument.filter
            && masks[filter].is_none()
        {
            masks[filter] = Some(work.mask(&plan.filters[filter])?);
        }
        let rows = match argument.filter {
            Some(filter) => masks[filter].as_ref(),
            None => rows,
        };
        work.argument(argument, rows, own)?;
    }
    if !plan.accumulated.is_empty() {
        work.accumulate(batch_size, state)?;
    }
    Ok(decoded)
}

/// The number of indices along each dimension of a block.
pub(super) fn shape_of(block: &Block) -> Vec<usize> {
    block.shape().iter().map(|&size| usize::try_from(size).unwrap_or(usize::MAX)).collect()
}

impl Work<'_> {
    /// The groups of the cells along some dimensions, all that a key varies along among them.
    fn layout(&mut self, dims: &[usize]) -> Arc<Layout> {
        if let Some((_, layout)) = self.layouts.iter().find(|(own, _)| own == dims) {
            return Arc::clone(layout);
        }
        let layout = Arc::new(layout_along(&self.shape, &self.keys, dims));
        self.layouts.push((dims.to_vec(), Arc::clone(&layout)));
        layout
    }

    /// How many cells of the tile stand behind one along these dimensions.
    fn weight(&self, dims: &[usize]) -> u64 {
        let others = self.dims.iter().filter(|dim| !dims.contains(dim));
        others.map(|&dim| self.shape[dim] as u64).fold(self.plan.weight, u64::saturating_mul)
    }

    /// The rows that a FILTER keeps, of those that are wanted.
    fn mask(&self, filter: &Ranked) -> Result<BooleanBuffer> {
        let evaluation = filter.on(self.tile, &self.dims, self.position)?;
        let mut mask = arrow::array::BooleanBufferBuilder::new(evaluation.len());
        self.each_batch(&evaluation, self.rows, |values, _, rows| {
            let kept = as_mask(&values)?;
            let kept = match kept.nulls() {
                // NULL is not true.
                Some(nulls) => kept.values() & nulls.inner(),
                None => kept.values().clone(),
            };
            mask.append_buffer(&match rows {
                Some(rows) => &kept & rows,
                None => kept,
            });
            Ok(())
        })?;
        Ok(mask.finish())
    }

    /// Reduces an argument; `rows` are those that it wants, if not all.
    fn argument(
        &mut self,
        argument: &Argument,
        rows: Option<&BooleanBuffer>,
        state: &mut ArgumentState,
    ) -> Result<()> {
        let dims = if rows.is_some() { self.dims.clone() } else { self.plan.dims_of(argument) };
        let layout = self.layout(&dims);
        let weight = self.weight(&dims);
        match (&argument.values, state) {
            (Values::Rows, ArgumentState::Counts(counts)) => {
                counts.update(&layout, 0..layout.cells(), rows, weight);
            }
            (Values::Valid(expr), ArgumentState::Counts(counts)) => {
                let evaluation = expr.on(self.tile, &dims, self.position)?;
                self.each_batch(&evaluation, rows, |values, start, rows| {
                    let valid = values.logical_nulls().map(|nulls| nulls.inner().clone());
                    let mask = match (valid, rows) {
                        (Some(valid), Some(rows)) => Some(&valid & rows),
                        (valid, rows) => valid.or(rows.cloned()),
                    };
                    counts.update(&layout, start..start + values.len(), mask.as_ref(), weight);
                    Ok(())
                })?;
            }
            (Values::Numbers { expr, .. }, ArgumentState::Numbers(reduction)) => {
                let column = expr.whole().as_column().and_then(self.position);
                if let Some((values, nan_is_null)) = column.and_then(|c| self.tile.values(c))
                    && expr.whole().dims() == dims
                {
                    reduction.update(&layout, 0, values, nan_is_null, rows, weight);
                    return Ok(());
                }
                let evaluation = expr.on(self.tile, &dims, self.position)?;
                if let Some(arithmetic) = evaluation.arithmetic() {
                    let mut start = 0;
                    while start < evaluation.len() {
                        let len = ROWS.min(evaluation.len() - start);
                        let rows = rows.map(|rows| rows.slice(start, len));
                        let columns = evaluation.stored(start, len)?;
                        let update = (start, arithmetic, columns.as_slice());
                        if !reduction.update_with(&layout, update, rows.as_ref(), weight) {
                            break;
                        }
                        start += len;
                    }
                    if start >= evaluation.len() {
                        return Ok(());
                    }
                }
                self.each_batch(&evaluation, rows, |values, start, rows| {
                    reduction.update(&layout, start, &values, false, rows, weight);
                    Ok(())
                })?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Calls `f` with the values of an expression, a batch at a time, with the first row and which of
    /// the rows are wanted, if not all.
    fn each_batch(
        &self,
        evaluation: &Evaluation<'_>,
        rows: Option<&BooleanBuffer>,
        mut f: impl FnMut(ArrayRef, usize, Option<&BooleanBuffer>) -> Result<()>,
    ) -> Result<()> {
        for start in (0..evaluation.len()).step_by(ROWS) {
            let len = ROWS.min(evaluation.len() - start);
            let wanted = rows.map(|rows| rows.slice(start, len));
            let columns = evaluation.columns(start, len)?;
            let values = match (evaluation.evaluate(columns.clone(), len), &wanted) {
                // A row that isn't wanted may be to blame.
                (Err(_), Some(wanted)) => evaluate_wanted(evaluation, &columns, wanted)?,
                (values, _) => values?,
            };
            f(values, start, wanted.as_ref())?;
        }
        Ok(())
    }

    /// Gives the wanted rows to the accumulators.
    fn accumulate(&mut self, batch_size: usize, state: &mut State) -> Result<()> {
        let dims = self.dims.clone();
        let layout = self.layout(&dims);
        let on = |expr: &Ranked| -> Result<Evaluations> {
            // Values are gone through once only, so parts of lower rank are worth their while here too.
            let rows = self.tile.rows(&dims, &positions(expr, self.position)).map_err(external)?;
            Ok(Evaluations { expr: expr.clone(), rows })
        };
        let functions = self
            .plan
            .accumulated
            .iter()
            .map(|own| own.arguments.iter().map(on).collect::<Result<Vec<_>>>())
            .collect::<Result<Vec<_>>>()?;
        let filters = self.plan.filters.iter().map(on).collect::<Result<Vec<_>>>()?;
        let cells = layout.cells();
        for start in (0..cells).step_by(batch_size) {
            let len = batch_size.min(cells - start);
            let rows = self.rows.map(|rows| rows.slice(start, len));
            let count = rows.as_ref().map_or(len, BooleanBuffer::count_set_bits);
            if count == 0 {
                continue;
            }
            let kept = rows.clone().filter(|_| count < len).map(|r| BooleanArray::new(r, None));
            let batch = Batch { layout: &layout, cells: start..start + len, rows };
            let groups = state.meet(&batch);
            for (number, (own, arguments)) in
                self.plan.accumulated.iter().zip(&functions).enumerate()
            {
                let values = arguments
                    .iter()
                    .map(|argument| argument.values(start, len, kept.as_ref()))
                    .collect::<Result<Vec<_>>>()?;
                let filter = match own.filter {
                    Some(filter) => {
                        Some(as_mask(&filters[filter].values(start, len, kept.as_ref())?)?)
                    }
                    None => None,
                };
                state.accumulate(number, &values, &groups, filter.as_ref())?;
            }
        }
        Ok(())
    }
}

/// An expression on the rows of a tile, for a function that sees wanted rows only.
struct Evaluations {
    expr: Ranked,
    rows: lsio_core::read::Rows,
}

impl Evaluations {
    fn values(&self, start: usize, len: usize, kept: Option<&BooleanArray>) -> Result<ArrayRef> {
        let mut columns = self.rows.slice(start, len).map_err(external)?;
        let mut rows = len;
        if let Some(kept) = kept {
            for column in &mut columns {
                *column = filter_rows(column, kept)?;
            }
            rows = kept.true_count();
        }
        self.expr.whole().evaluate(columns, rows)
    }
}

/// The groups of the cells along some of a tile's dimensions.
pub(super) fn layout_along(shape: &[usize], keys: &[Keys], dims: &[usize]) -> Layout {
    let own: Vec<usize> = dims.iter().map(|&dim| shape[dim]).collect();
    let keys: Vec<Keys> = keys
        .iter()
        .filter(|keys| !keys.dims.is_empty())
        .map(|keys| {
            let along = keys.dims.iter().filter_map(|dim| dims.iter().position(|d| d == dim));
            Keys { dims: along.collect(), offsets: keys.offsets.clone() }
        })
        .collect();
    Layout::new(&own, &keys)
}

fn positions(expr: &Ranked, position: &dyn Fn(usize) -> Option<usize>) -> Vec<usize> {
    expr.whole().columns().iter().filter_map(|&column| position(column)).collect()
}

/// Evaluates an expression on the wanted rows only; for the others it is NULL.
fn evaluate_wanted(
    evaluation: &Evaluation<'_>,
    columns: &[ArrayRef],
    wanted: &BooleanBuffer,
) -> Result<ArrayRef> {
    let kept = BooleanArray::new(wanted.clone(), None);
    let columns =
        columns.iter().map(|column| filter_rows(column, &kept)).collect::<Result<Vec<_>, _>>()?;
    let values = evaluation.evaluate(columns, wanted.count_set_bits())?;
    let mut next = 0_u32;
    let indices: UInt32Array = wanted
        .iter()
        .map(|wanted| {
            wanted.then(|| {
                next += 1;
                next - 1
            })
        })
        .collect();
    Ok(take(&values, &indices, None)?)
}
