//! Reduces one tile into the states of its slab.
//!
//! Arguments that lack a dimension are reduced at their own rank. All others go a piece at a time, as it is
//! decoded where that is possible: predicates, arguments and kernels see values that are still in the cache.

use std::{ops::ControlFlow, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BooleanArray},
    buffer::BooleanBuffer,
    compute::{cast, filter as filter_rows},
    datatypes::Float64Type,
};
use datafusion::{common::exec_err, error::Result};
use lsio_core::{
    read::{Block, Decoded, Pieces, Rows, Scratch, Tile},
    reduce::{GroupKeys, GroupLayout, Pencils, Wanted},
};

use super::{
    cell_keys::Dictionary,
    full_rank::{ArgumentSource, FullRank, TileRows, filter_mask, misfit, present, update},
    keys::CellGroups,
    operands::{StoredPiece, StreamedColumn},
    pencils::PencilArgument,
    plan::{Aggregation, Argument, ArgumentValues},
    slabs::Slab,
    state::{ArgumentState, Batch, SlabState},
    weighted::{Factor, WeightedSum},
};
use crate::{error::external, expression::Ranked, predicate::as_mask};

/// Rows on which an expression is evaluated at a time: a few arrays of them fit the second-level cache.
const ROWS: usize = 8192;

/// Rows of a piece of which kernels take some as they are stored: its bytes and masks fit the second-level cache.
const STORED_ROWS: usize = 64 << 10;

/// A tile and its wanted rows.
pub(super) struct TileInput<'a> {
    pub(super) groups: &'a CellGroups,
    pub(super) slab: &'a Slab,
    pub(super) tile: &'a Tile,
    /// The wanted rows, if not all.
    pub(super) rows: Option<&'a BooleanBuffer>,
    /// The plan's streamed columns, unless they are in the tile.
    pub(super) pieces: Option<Pieces>,
    /// Maps a column's position in the table to that in the tile.
    pub(super) position: &'a dyn Fn(usize) -> Option<usize>,
    pub(super) batch_size: usize,
    /// Combinations of the keys that vary along data.
    pub(super) dictionary: Option<&'a Dictionary>,
    /// Places of the values that are kept, one for each of the plan's arguments.
    pub(super) pencils: &'a [Pencils],
}

/// Adds the wanted rows of a tile to the states.
pub(super) fn reduce(
    plan: &Aggregation,
    input: &TileInput<'_>,
    scratch: &mut Scratch,
    state: &mut SlabState,
) -> Result<Decoded> {
    let shape = shape_of(input.tile.block());
    let mut work = TileReduction {
        plan,
        input,
        dims: (0..shape.len()).collect(),
        shape,
        keys: input.groups.of_block(input.tile.block(), &input.slab.sets),
        layouts: Vec::new(),
    };
    let is_masked = input.rows.is_some() || !plan.compared.is_empty() || plan.cell_keys.is_some();
    if !is_masked {
        let layout = work.layout(&plan.keys.dims());
        state.count_rows(&layout, 0..layout.cells(), None);
    }
    let mut full = Vec::new();
    for (number, argument) in plan.arguments.iter().enumerate() {
        let dims = plan.dims_of(argument);
        if is_masked || argument.filter.is_some() || dims.len() == work.dims.len() {
            full.push(number);
        } else {
            work.lower_rank(argument, &dims, &mut state.arguments[number])?;
        }
    }
    let decoded = if full.is_empty() && !is_masked {
        Decoded::default()
    } else {
        work.full_rank(&full, is_masked, scratch, state)?
    };
    if !plan.accumulated.is_empty() {
        work.accumulate(state)?;
    }
    if !plan.pencils.is_empty() {
        work.keep()?;
    }
    Ok(decoded)
}

/// Number of indices along each dimension of a block.
pub(super) fn shape_of(block: &Block) -> Vec<usize> {
    block.shape().iter().map(|&size| usize::try_from(size).unwrap_or(usize::MAX)).collect()
}

/// Groups of the cells along some of a tile's dimensions.
pub(super) fn layout_along(shape: &[usize], keys: &[GroupKeys], dims: &[usize]) -> GroupLayout {
    let own: Vec<usize> = dims.iter().map(|&dim| shape[dim]).collect();
    let keys: Vec<GroupKeys> = keys
        .iter()
        .filter(|keys| !keys.dims.is_empty())
        .map(|keys| {
            let along = keys.dims.iter().filter_map(|dim| dims.iter().position(|d| d == dim));
            GroupKeys { dims: along.collect(), offsets: keys.offsets.clone() }
        })
        .collect();
    GroupLayout::new(&own, &keys)
}

/// Reduction of one tile.
pub(super) struct TileReduction<'a> {
    pub(super) plan: &'a Aggregation,
    pub(super) input: &'a TileInput<'a>,
    /// All dimensions.
    dims: Vec<usize>,
    shape: Vec<usize>,
    keys: Vec<GroupKeys>,
    /// Layouts computed so far, each with its dimensions.
    layouts: Vec<(Vec<usize>, Arc<GroupLayout>)>,
}

impl<'a> TileReduction<'a> {
    /// Groups of the cells along some dimensions, which include those of the keys.
    fn layout(&mut self, dims: &[usize]) -> Arc<GroupLayout> {
        if let Some((_, layout)) = self.layouts.iter().find(|(own, _)| own == dims) {
            return Arc::clone(layout);
        }
        let layout = Arc::new(layout_along(&self.shape, &self.keys, dims));
        self.layouts.push((dims.to_vec(), Arc::clone(&layout)));
        layout
    }

    /// Reduces an argument that lacks dimensions: each value counts once for every cell behind it.
    fn lower_rank(
        &mut self,
        argument: &'a Argument,
        dims: &[usize],
        state: &mut ArgumentState,
    ) -> Result<()> {
        let layout = self.layout(dims);
        let others = self.dims.iter().filter(|dim| !dims.contains(dim));
        let weight =
            others.map(|&dim| self.shape[dim] as u64).fold(self.plan.weight, u64::saturating_mul);
        let mut source = match &argument.values {
            ArgumentValues::Rows => ArgumentSource::Rows,
            ArgumentValues::Valid(expr)
            | ArgumentValues::Numbers { expr, .. }
            | ArgumentValues::Buckets { expr, .. } => ArgumentSource::Evaluated(expr.on(
                self.input.tile,
                dims,
                self.input.position,
                &[],
            )?),
            ArgumentValues::Weighted { value, weight } => {
                let on =
                    |expr: &'a Ranked| expr.on(self.input.tile, dims, self.input.position, &[]);
                ArgumentSource::ValuesAndWeights(Box::new([on(value)?, on(weight)?]))
            }
            ArgumentValues::Pairs { y, x, .. } => {
                let on =
                    |expr: &'a Ranked| expr.on(self.input.tile, dims, self.input.position, &[]);
                ArgumentSource::Pairs(Box::new([on(y)?, on(x)?]))
            }
        };
        for first in (0..layout.cells()).step_by(ROWS) {
            let len = ROWS.min(layout.cells() - first);
            let piece = TileRows { first, len, place: first, columns: &[], rows: None };
            update(&layout, &mut source, &piece, weight, state)?;
        }
        Ok(())
    }

    /// Reduces the arguments at these positions cell by cell.
    fn full_rank(
        &mut self,
        arguments: &[usize],
        is_masked: bool,
        scratch: &mut Scratch,
        state: &mut SlabState,
    ) -> Result<Decoded> {
        let plan = self.plan;
        let layout = self.layout(&self.dims.clone());
        let on = |expr: &'a Ranked| {
            expr.on(self.input.tile, &self.dims, self.input.position, &plan.streamed)
        };
        let mut sources = Vec::new();
        for &number in arguments {
            sources.push(match &plan.arguments[number].values {
                ArgumentValues::Rows => ArgumentSource::Rows,
                ArgumentValues::Valid(expr) | ArgumentValues::Buckets { expr, .. } => {
                    ArgumentSource::Evaluated(on(expr)?)
                }
                ArgumentValues::Weighted { value, weight } => {
                    match self.weighted_values(value, weight) {
                        Some(weighted) => ArgumentSource::Weighted(Box::new(weighted)),
                        None => {
                            ArgumentSource::ValuesAndWeights(Box::new([on(value)?, on(weight)?]))
                        }
                    }
                }
                ArgumentValues::Pairs { y, x, .. } => {
                    ArgumentSource::Pairs(Box::new([on(y)?, on(x)?]))
                }
                ArgumentValues::Numbers { expr, wanted, .. } => {
                    let column = expr.whole().as_column();
                    match column.and_then(|c| plan.streamed.iter().position(|s| *s == c)) {
                        Some(piece) => ArgumentSource::Piece(piece),
                        None => match self.weighted_sum(expr, *wanted) {
                            Some(weighted) => ArgumentSource::Weighted(Box::new(weighted)),
                            None => ArgumentSource::Evaluated(on(expr)?),
                        },
                    }
                }
            });
        }
        let mut filters = Vec::new();
        for (position, filter) in plan.filters.iter().enumerate() {
            let is_used = |&number: &usize| plan.arguments[number].filter == Some(position);
            let used = arguments.iter().any(is_used);
            filters.push(if used { Some(on(filter)?) } else { None });
        }
        let takes_all = !is_masked && filters.iter().all(Option::is_none);
        let is_stored = takes_all && sources.iter().all(ArgumentSource::is_stored);
        let keys = plan.cell_keys.iter().flat_map(|keys| &keys.exprs).map(on);
        let keys = keys.collect::<Result<_>>()?;
        let mut full =
            FullRank { work: self, layout, arguments, sources, filters, keys, is_masked };

        let Some(pieces) = &self.input.pieces else {
            let cells = full.layout.cells();
            let positions = plan.streamed.iter().map(|&column| (self.input.position)(column));
            let Some(positions) = positions.collect::<Option<Vec<_>>>() else {
                return exec_err!("a column of the aggregate was not read");
            };
            let is_packed = positions.iter().any(|&own| self.input.tile.packed(own).is_some());
            let most = if is_stored && !is_packed { cells.max(1) } else { ROWS };
            let streamed = self.input.tile.rows(&self.dims, &positions).map_err(external)?;
            for first in (0..cells).step_by(most) {
                let len = most.min(cells - first);
                let columns = streamed.stored(first, len).map_err(external)?;
                full.add(first, len, &columns, state)?;
            }
            full.finish(state);
            return Ok(Decoded::default());
        };
        let streamed: Vec<StreamedColumn> = plan
            .streamed
            .iter()
            .zip(pieces.nan_is_null())
            .map(|(&column, nan_is_null)| StreamedColumn {
                data_type: plan.data_type(column),
                nan_is_null,
            })
            .collect();
        let mut result = Ok(());
        let most = match (is_stored, full.takes_stored()) {
            (true, _) => usize::MAX,
            (false, true) => STORED_ROWS,
            (false, false) => ROWS,
        };
        let decoded = pieces.for_each(scratch, most, |first, slices| {
            let piece = StoredPiece { first, slices, streamed: &streamed };
            result =
                if takes_all { full.add_stored(piece, state) } else { full.add_some(piece, state) };
            if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        result?;
        full.finish(state);
        decoded.map_err(external)
    }

    /// Sums for a product whose factor has few values, if only its sum is wanted.
    fn weighted_sum(&self, expr: &Ranked, wanted: Wanted) -> Option<WeightedSum> {
        if self.plan.cell_keys.is_some() {
            return None;
        }
        let (column, factor) = expr.product()?;
        let only_sum = wanted == Wanted { sum: true, ..Wanted::default() };
        let streamed = self.plan.streamed.iter().position(|streamed| *streamed == column);
        let streamed = streamed.filter(|_| only_sum)?;
        // An expression that fails here may succeed on the wanted rows.
        let values = factor.on(self.input.tile, self.input.position).ok()?;
        // Infinity times 0 is NaN, which the sum leaves out.
        if expr.nan_is_null() && has_zero(&values) {
            return None;
        }
        let factor = Factor { dims: factor.dims(), values: &values };
        let data_type = self.plan.data_type(column);
        WeightedSum::new(streamed, &data_type, &self.shape, &self.keys, factor)
    }

    /// Sums of a streamed column for each weight, if there are few.
    fn weighted_values(&self, value: &Ranked, weight: &Ranked) -> Option<WeightedSum> {
        let column = value.whole().as_column()?;
        let streamed = self.plan.streamed.iter().position(|streamed| *streamed == column)?;
        let weight = weight.whole();
        if weight.dims().len() == self.dims.len() || self.plan.cell_keys.is_some() {
            return None;
        }
        let weights = weight.on(self.input.tile, self.input.position).ok()?;
        let factor = Factor { dims: weight.dims(), values: &weights };
        let data_type = self.plan.data_type(column);
        WeightedSum::new(streamed, &data_type, &self.shape, &self.keys, factor)
    }

    /// Keeps the wanted values of arguments of which all are needed.
    fn keep(&mut self) -> Result<()> {
        let layout = self.layout(&self.dims.clone());
        let (cells, rows) = (layout.cells(), self.input.rows);
        let on = |expr: &'a Ranked| expr.on(self.input.tile, &self.dims, self.input.position, &[]);
        for (argument, pencils) in self.plan.pencils.iter().zip(self.input.pencils) {
            let PencilArgument { expr, data_type, filter, .. } = argument;
            let column = expr.whole().as_column().and_then(self.input.position);
            if let (Some(column), None) = (column, filter) {
                let is_packed = self.input.tile.packed(column).is_some();
                let values = if is_packed {
                    self.input.tile.whole(column).map_err(external)?
                } else {
                    self.input.tile.values(column).map(|(own, nan)| (Arc::clone(own), nan))
                };
                if let Some((values, nan_is_null)) = values.filter(|own| own.0.len() == cells) {
                    let values = cast(&values, data_type)?;
                    pencils.add(&layout, 0, &values, nan_is_null, rows).map_err(misfit)?;
                    continue;
                }
            }
            let evaluation = on(expr)?;
            let filter = filter.map(|filter| on(&self.plan.filters[filter])).transpose()?;
            for first in (0..cells).step_by(ROWS) {
                let len = ROWS.min(cells - first);
                let rows = rows.map(|rows| rows.slice(first, len));
                let mut piece = TileRows { first, len, place: first, columns: &[], rows };
                if let Some(filter) = &filter {
                    piece.rows = Some(filter_mask(filter, &piece)?);
                }
                if piece.rows.as_ref().is_some_and(|rows| rows.count_set_bits() == 0) {
                    continue;
                }
                let values = cast(&present(&evaluation, &piece)?, data_type)?;
                let rows = piece.rows.as_ref();
                pencils.add(&layout, first, &values, false, rows).map_err(misfit)?;
            }
        }
        Ok(())
    }

    /// Passes the wanted rows to the accumulators.
    fn accumulate(&mut self, state: &mut SlabState) -> Result<()> {
        let layout = self.layout(&self.dims.clone());
        let on = |expr: &'a Ranked| -> Result<Whole<'a>> {
            let own = expr.whole().columns().iter();
            let positions: Vec<usize> = own.filter_map(|&c| (self.input.position)(c)).collect();
            let rows = self.input.tile.rows(&self.dims, &positions).map_err(external)?;
            Ok(Whole { expr, rows })
        };
        let functions = self
            .plan
            .accumulated
            .iter()
            .map(|own| own.arguments.iter().map(on).collect::<Result<Vec<_>>>())
            .collect::<Result<Vec<_>>>()?;
        let filters = self.plan.filters.iter().map(on).collect::<Result<Vec<_>>>()?;
        let cells = layout.cells();
        for start in (0..cells).step_by(self.input.batch_size) {
            let len = self.input.batch_size.min(cells - start);
            let rows = self.input.rows.map(|rows| rows.slice(start, len));
            let count = rows.as_ref().map_or(len, BooleanBuffer::count_set_bits);
            if count == 0 {
                continue;
            }
            let kept = rows.clone().filter(|_| count < len).map(|r| BooleanArray::new(r, None));
            let groups = state.meet(&Batch { layout: &layout, cells: start..start + len, rows });
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

/// Expression on a tile's rows, for functions that see wanted rows only.
struct Whole<'a> {
    expr: &'a Ranked,
    rows: Rows,
}

impl Whole<'_> {
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

fn has_zero(factors: &ArrayRef) -> bool {
    let factors = factors.as_primitive_opt::<Float64Type>();
    factors.is_none_or(|factors| factors.values().contains(&0.0))
}
