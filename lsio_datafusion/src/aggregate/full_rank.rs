//! The arguments of a tile that are reduced cell by cell, a few rows at a time.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BooleanArray, UInt32Array},
    buffer::BooleanBuffer,
    compute::{cast, filter as filter_rows, kernels::numeric::mul_wrapping, take},
    datatypes::{DataType, Float64Type},
};
use datafusion::{
    common::exec_err,
    error::{DataFusionError, Result},
};
use lsio_core::reduce::{GroupLayout, Misfit};

use super::{
    operands::{FloatArrays, Operands, StoredPiece, float_columns},
    reduce::TileReduction,
    state::{ArgumentState, SlabState},
    weighted::WeightedSum,
};
use crate::{
    expression::{Evaluation, StoredColumn},
    nan_as_null,
    predicate::{ColumnPredicate, Predicate, as_mask, holds},
};

/// Way in which an argument's values reach its state.
pub(super) enum ArgumentSource<'a> {
    /// Rows without values.
    Rows,
    /// The streamed column at this position.
    Piece(usize),
    /// Sums of a streamed column for each value of a factor of lower rank.
    Weighted(Box<WeightedSum>),
    Evaluated(Evaluation<'a>),
    ValuesAndWeights(Box<[Evaluation<'a>; 2]>),
    /// Both sides of pairs.
    Pairs(Box<[Evaluation<'a>; 2]>),
}

impl ArgumentSource<'_> {
    /// Whether kernels take the values as they are stored, without an array for each piece.
    pub(super) fn is_stored(&self) -> bool {
        let is_stored = |own: &Evaluation<'_>| own.arithmetic().is_some() && own.has_slices();
        match self {
            Self::Rows | Self::Piece(_) | Self::Weighted(_) => true,
            Self::Evaluated(own) => is_stored(own),
            Self::Pairs(sides) => sides.iter().all(is_stored),
            Self::ValuesAndWeights(_) => false,
        }
    }
}

/// Consecutive rows of a tile.
pub(super) struct TileRows<'a> {
    pub(super) first: usize,
    pub(super) len: usize,
    /// Number of the first one in the layout of the groups.
    pub(super) place: usize,
    /// The streamed columns.
    pub(super) columns: &'a [StoredColumn],
    /// The wanted rows, if not all.
    pub(super) rows: Option<BooleanBuffer>,
}

/// Reduction of the arguments that have all dimensions.
pub(super) struct FullRank<'a> {
    pub(super) work: &'a TileReduction<'a>,
    pub(super) layout: Arc<GroupLayout>,
    /// Positions of the arguments.
    pub(super) arguments: &'a [usize],
    pub(super) sources: Vec<ArgumentSource<'a>>,
    /// Conditions of the FILTER clauses that are used.
    pub(super) filters: Vec<Option<Evaluation<'a>>>,
    /// Keys that vary along data.
    pub(super) keys: Vec<Evaluation<'a>>,
    pub(super) is_masked: bool,
}

impl FullRank<'_> {
    /// Adds rows; `columns` are the streamed ones.
    pub(super) fn add(
        &mut self,
        first: usize,
        len: usize,
        columns: &[StoredColumn],
        state: &mut SlabState,
    ) -> Result<()> {
        let rows = self.rows(first, len, |column, predicate| {
            let (values, nan_is_null) = columns.get(column)?;
            predicate.compare(values, *nan_is_null)
        })?;
        self.add_rows(first, len, columns, rows, state)
    }

    /// Adds rows of a piece, some of which may be left out: predicates see the numbers as they are stored.
    pub(super) fn add_some(&mut self, piece: StoredPiece<'_>, state: &mut SlabState) -> Result<()> {
        let (first, len) = (piece.first, piece.len());
        let rows = self.rows(first, len, |column, predicate| {
            let nan_is_null = piece.streamed.get(column)?.nan_is_null;
            predicate.compare_stored(*piece.slices.get(column)?, nan_is_null)
        })?;
        let count = rows.as_ref().map_or(len, BooleanBuffer::count_set_bits);
        if count == 0 {
            return Ok(());
        }
        if !self.takes_stored() {
            return self.add_rows(first, len, &piece.arrays()?, rows, state);
        }
        let rows = rows.filter(|_| count < len);
        if self.is_masked {
            state.count_rows(&self.layout, first..first + len, rows.as_ref());
        }
        for (&number, source) in self.arguments.iter().zip(&mut self.sources) {
            let own = &mut state.arguments[number];
            let weight = self.work.plan.weight;
            if !add_stored(&self.layout, source, piece, rows.as_ref(), weight, own)? {
                return Err(misfit(Misfit));
            }
        }
        Ok(())
    }

    /// Whether kernels take all arguments of the wanted rows as they are stored.
    pub(super) fn takes_stored(&self) -> bool {
        let is_stored = |own: &ArgumentSource<'_>| {
            matches!(
                own,
                ArgumentSource::Rows | ArgumentSource::Piece(_) | ArgumentSource::Weighted(_)
            )
        };
        self.keys.is_empty()
            && self.filters.iter().all(Option::is_none)
            && self.sources.iter().all(is_stored)
    }

    fn add_rows(
        &mut self,
        first: usize,
        len: usize,
        columns: &[StoredColumn],
        rows: Option<BooleanBuffer>,
        state: &mut SlabState,
    ) -> Result<()> {
        let plan = self.work.plan;
        let count = rows.as_ref().map_or(len, BooleanBuffer::count_set_bits);
        if count == 0 {
            return Ok(());
        }
        let rows = rows.filter(|_| count < len);
        let mut piece = TileRows { first, len, place: first, columns, rows: rows.clone() };
        let mut layout = Arc::clone(&self.layout);
        if let Some(dictionary) = self.work.input.dictionary {
            let keys = self.keys.iter().map(|key| present(key, &piece));
            let keys = keys.collect::<Result<Vec<_>>>()?;
            let others = (self.layout.as_ref(), first, self.work.input.slab.groups);
            if let Some(cells) = state.number(dictionary, &keys, rows.as_ref(), others)? {
                (layout, piece.place) = (Arc::new(cells), 0);
            }
        }
        if self.is_masked {
            state.count_rows(&layout, piece.place..piece.place + len, rows.as_ref());
        }
        for (&number, source) in self.arguments.iter().zip(&mut self.sources) {
            let filter = plan.arguments[number].filter;
            piece.rows.clone_from(&rows);
            if let Some(filter) = filter.and_then(|filter| self.filters[filter].as_ref()) {
                piece.rows = Some(filter_mask(filter, &piece)?);
            }
            update(&layout, source, &piece, plan.weight, &mut state.arguments[number])?;
        }
        Ok(())
    }

    /// Adds all values as they are stored, where no row is left out.
    pub(super) fn add_stored(
        &mut self,
        piece: StoredPiece<'_>,
        state: &mut SlabState,
    ) -> Result<()> {
        let first = piece.first;
        let cells = first..first + piece.len();
        let (layout, weight) = (&self.layout, self.work.plan.weight);
        for (&number, source) in self.arguments.iter().zip(&mut self.sources) {
            let own = &mut state.arguments[number];
            if add_stored(layout, source, piece, None, weight, own)? {
                continue;
            }
            match (&mut *source, &mut *own) {
                (ArgumentSource::Evaluated(evaluation), ArgumentState::Numbers(reduction)) => {
                    let operands = Operands::new(evaluation, piece)?;
                    let columns = operands.as_ref().and_then(Operands::columns);
                    if let (Some(operands), Some(columns)) = (&operands, columns) {
                        let with = (first, operands.expr(), columns.as_slice());
                        let nan_is_null = evaluation.nan_is_null();
                        if reduction.update_with(layout, with, nan_is_null, None, weight) {
                            continue;
                        }
                    }
                }
                (ArgumentSource::Pairs(sides), ArgumentState::Pairs(pairs)) => {
                    let [y, x] = sides.as_ref();
                    let (y, x) = (Operands::new(y, piece)?, Operands::new(x, piece)?);
                    if let Some((y, x)) = y.as_ref().zip(x.as_ref())
                        && let Some((ys, xs)) = y.columns().zip(x.columns())
                    {
                        let sides = [y.side(&ys), x.side(&xs)];
                        pairs.update(layout, cells.clone(), sides, None, weight).map_err(misfit)?;
                        continue;
                    }
                }
                _ => {}
            }
            let columns = piece.arrays()?;
            let rows =
                TileRows { first, len: piece.len(), place: first, columns: &columns, rows: None };
            update(layout, source, &rows, weight, own)?;
        }
        Ok(())
    }

    /// Adds weighted sums to their groups.
    pub(super) fn finish(self, state: &mut SlabState) {
        for (&number, source) in self.arguments.iter().zip(self.sources) {
            if let (ArgumentSource::Weighted(sum), ArgumentState::Numbers(reduction)) =
                (source, &mut state.arguments[number])
            {
                sum.finish(reduction);
            }
        }
    }

    /// Wanted rows of a piece, if not all. `compare` evaluates a predicate on the streamed column at a position.
    fn rows(
        &self,
        first: usize,
        len: usize,
        compare: impl Fn(usize, &Predicate) -> Option<BooleanBuffer>,
    ) -> Result<Option<BooleanBuffer>> {
        let plan = self.work.plan;
        let mut rows = self.work.input.rows.map(|rows| rows.slice(first, len));
        for ColumnPredicate { predicate, column } in &plan.compared {
            let piece = plan.streamed.iter().position(|streamed| streamed == column);
            let Some(holds) = piece.and_then(|piece| compare(piece, predicate)) else {
                return exec_err!("the predicate {} can't be evaluated", predicate.expr());
            };
            rows = Some(match rows {
                Some(rows) => &rows & &holds,
                None => holds,
            });
        }
        Ok(rows)
    }
}

/// Adds the wanted rows of a piece to the state of an argument, as they are stored. Returns `false`, with nothing added,
/// where kernels don't take the argument.
fn add_stored(
    layout: &GroupLayout,
    source: &mut ArgumentSource<'_>,
    StoredPiece { first, slices, streamed }: StoredPiece<'_>,
    rows: Option<&BooleanBuffer>,
    weight: u64,
    state: &mut ArgumentState,
) -> Result<bool> {
    match (source, state) {
        (ArgumentSource::Piece(piece), ArgumentState::Numbers(reduction)) => {
            let (numbers, nan_is_null) = (slices[*piece], streamed[*piece].nan_is_null);
            reduction
                .update_stored(layout, first, numbers, nan_is_null, rows, weight)
                .map_err(misfit)?;
        }
        (ArgumentSource::Weighted(sum), _) => {
            let (numbers, nan_is_null) = (slices[sum.column], streamed[sum.column].nan_is_null);
            sum.sums
                .update_stored(&sum.layout, first, numbers, nan_is_null, rows, 1)
                .map_err(misfit)?;
        }
        (ArgumentSource::Rows | ArgumentSource::Piece(_), ArgumentState::Counts(counts)) => {
            let width = streamed.first().and_then(|own| own.data_type.primitive_width());
            let len = slices.first().map_or(0, |numbers| numbers.len(width.unwrap_or(1)));
            counts.update(layout, first..first + len, rows, weight);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Adds the wanted rows of a piece to the state of an argument.
pub(super) fn update(
    layout: &GroupLayout,
    source: &mut ArgumentSource<'_>,
    piece: &TileRows<'_>,
    weight: u64,
    state: &mut ArgumentState,
) -> Result<()> {
    let cells = piece.place..piece.place + piece.len;
    let rows = piece.rows.as_ref();
    match (source, state) {
        (ArgumentSource::Rows, ArgumentState::Counts(counts)) => {
            counts.update(layout, cells, rows, weight);
        }
        (ArgumentSource::Piece(position), ArgumentState::Numbers(reduction)) => {
            if let Some((values, nan_is_null)) = piece.columns.get(*position) {
                reduction
                    .update(layout, piece.place, values, *nan_is_null, rows, weight)
                    .map_err(misfit)?;
            }
        }
        (ArgumentSource::Weighted(sum), _) => {
            if let Some((values, nan_is_null)) = piece.columns.get(sum.column) {
                sum.sums
                    .update(&sum.layout, piece.first, values, *nan_is_null, rows, 1)
                    .map_err(misfit)?;
            }
        }
        (ArgumentSource::Pairs(sides), ArgumentState::Pairs(pairs)) => {
            let [y, x] = sides.as_ref();
            let (y, x) = (FloatArrays::new(y, piece)?, FloatArrays::new(x, piece)?);
            let Some((ys, xs)) = y.columns().zip(x.columns()) else { return Err(misfit(Misfit)) };
            let sides = [y.side(&ys), x.side(&xs)];
            pairs.update(layout, cells, sides, rows, weight).map_err(misfit)?;
        }
        (ArgumentSource::Evaluated(evaluation), ArgumentState::Histograms(histograms)) => {
            let arrays = FloatArrays::new(evaluation, piece)?;
            let Some(columns) = arrays.columns() else { return Err(misfit(Misfit)) };
            let with = (arrays.expr, columns.as_slice());
            histograms.update(layout, cells, with, rows, weight).map_err(misfit)?;
        }
        (ArgumentSource::ValuesAndWeights(pair), ArgumentState::Numbers(reduction)) => {
            let [value, weight_of] = pair.as_ref();
            let values = cast(&present(value, piece)?, &DataType::Float64)?;
            let weights = cast(&present(weight_of, piece)?, &DataType::Float64)?;
            let products = mul_wrapping(&values, &weights)?;
            reduction
                .update(layout, piece.place, &products, false, rows, weight)
                .map_err(misfit)?;
            let valid = products.nulls().map(|nulls| nulls.inner().clone());
            let mask = match (valid, rows) {
                (Some(valid), Some(rows)) => Some(&valid & rows),
                (valid, rows) => valid.or(rows.cloned()),
            };
            let weights = weights.as_primitive::<Float64Type>().values();
            reduction.add_weights(layout, piece.place, weights, mask.as_ref(), weight);
        }
        (ArgumentSource::Evaluated(evaluation), ArgumentState::Counts(counts)) => {
            let values = present(evaluation, piece)?;
            let valid = values.logical_nulls().map(|nulls| nulls.inner().clone());
            let mask = match (valid, rows) {
                (Some(valid), Some(rows)) => Some(&valid & rows),
                (valid, rows) => valid.or(rows.cloned()),
            };
            counts.update(layout, cells, mask.as_ref(), weight);
        }
        (ArgumentSource::Evaluated(evaluation), ArgumentState::Numbers(reduction)) => {
            let nan_is_null = evaluation.nan_is_null();
            if let Some(arithmetic) = evaluation.arithmetic() {
                let columns = evaluation.stored(piece.first, piece.len, piece.columns)?;
                if let Some(columns) = float_columns(&columns) {
                    let with = (piece.place, arithmetic, columns.as_slice());
                    if reduction.update_with(layout, with, nan_is_null, rows, weight) {
                        return Ok(());
                    }
                }
            }
            let values = values(evaluation, piece)?;
            reduction
                .update(layout, piece.place, &values, nan_is_null, rows, weight)
                .map_err(misfit)?;
        }
        _ => return Err(misfit(Misfit)),
    }
    Ok(())
}

/// Wanted rows that a FILTER keeps.
pub(super) fn filter_mask(filter: &Evaluation<'_>, piece: &TileRows<'_>) -> Result<BooleanBuffer> {
    let mask = holds(&as_mask(&values(filter, piece)?)?);
    Ok(match &piece.rows {
        Some(rows) => &mask & rows,
        None => mask,
    })
}

/// Values of an expression on a piece.
pub(super) fn values(evaluation: &Evaluation<'_>, piece: &TileRows<'_>) -> Result<ArrayRef> {
    let columns = evaluation.columns(piece.first, piece.len, piece.columns)?;
    match (evaluation.evaluate(columns.clone(), piece.len), &piece.rows) {
        // The error may come from a row that isn't wanted.
        (Err(_), Some(wanted)) => evaluate_wanted(evaluation, &columns, wanted),
        (values, _) => values,
    }
}

/// Values of an expression, with NULL in place of NaN where NaN is missing.
pub(super) fn present(evaluation: &Evaluation<'_>, piece: &TileRows<'_>) -> Result<ArrayRef> {
    let values = values(evaluation, piece)?;
    Ok(if evaluation.nan_is_null() { nan_as_null::without_nan(&values) } else { values })
}

/// Evaluates an expression on the wanted rows; NULL on the others.
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

/// The error of values that don't fit the state of their argument.
pub(super) fn misfit(error: Misfit) -> DataFusionError {
    DataFusionError::Execution(format!(
        "an aggregate can't be computed: {error}; this is a fault of lsio"
    ))
}
