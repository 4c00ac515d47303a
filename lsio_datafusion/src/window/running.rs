//! [`RunningColumn`]: a column that kernels compute over frames along a dimension.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, UInt64Array},
    compute::take,
    datatypes::DataType,
};
use datafusion::physical_expr::expressions::CastExpr;
use lsio_core::{
    Column, Error, Result, Selection,
    dataset::{Carried, Continues, Derive, Inputs, Values},
    read::nan_to_null,
    running::{BlockShape, Frames, Running, RunningFunction, RunningState},
};

use super::lines::Lines;
use crate::{
    expression::{Expression, union},
    nan_as_null,
    refusal::Refusal,
    scan_rows::ScanRows,
};

/// An aggregate over frames along one dimension of the grid.
#[derive(Clone, Debug)]
pub(super) struct RunningColumn {
    function: RunningFunction,
    /// What is aggregated, over the inputs.
    argument: Expression,
    /// Whether NaN of the argument is NULL.
    nan_is_null: bool,
    data_type: DataType,
    inputs: Vec<Column>,
    /// The dimensions along which the values vary.
    dims: Vec<usize>,
    /// The dimension of the window.
    dim: usize,
    /// The indices of the dimension that the window sees.
    selection: Selection,
    /// The frame of each of them, as positions among them.
    frames: Arc<Frames>,
    /// Indices that a scan visits, tile after tile, if values continue from one to the next.
    visited: Option<Selection>,
}

impl RunningColumn {
    /// An aggregate of an expression over a table.
    ///
    /// # Errors
    /// [`Refusal::Unsupported`] if no kernel computes it.
    pub(super) fn new(
        function: RunningFunction,
        argument: &Expression,
        data_type: &DataType,
        rows: &ScanRows,
        lines: &Lines,
        frames: Frames,
    ) -> std::result::Result<Self, Refusal> {
        let (table, schema) = (rows.source.table(), rows.source.table_schema());
        let (argument, nan_is_null) = stripped(argument, function, rows)?;
        let own = argument.data_type()?;
        if function.result_type(&own).as_ref() != Some(data_type) {
            return Err(Refusal::Unsupported(format!("no kernel computes {data_type} of {own}")));
        }
        let inputs: Vec<Column> =
            argument.columns().iter().map(|&position| table.columns[position].clone()).collect();
        for input in &inputs {
            let reason = if input.is_computed() {
                "computed by a window itself"
            } else if input.is_pending() {
                "known only when the query runs"
            } else {
                continue;
            };
            return Err(Refusal::Unsupported(format!("{} is {reason}", input.name)));
        }
        // Positions in the table that the argument is over may change.
        let argument = Expression::new(Arc::clone(argument.expr()), table, schema)?;
        let dims = union([argument.dims(), &[lines.dim]].into_iter());
        Ok(Self {
            function,
            argument,
            nan_is_null,
            data_type: data_type.clone(),
            inputs,
            dims,
            dim: lines.dim,
            selection: lines.selection.clone(),
            frames: Arc::new(frames),
            visited: None,
        })
    }

    /// The dimensions along which the values vary.
    pub(super) fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Positions among the window's indices of the wanted ones.
    fn positions<'a>(&'a self, wanted: &'a Selection) -> impl Iterator<Item = usize> + 'a {
        wanted.iter().map(|index| usize::try_from(self.selection.rank(index)).unwrap_or(usize::MAX))
    }

    /// Positions of the inputs that wanted indices need: at least one.
    fn needed(&self, wanted: &Selection) -> Range<usize> {
        if let Some(new) = self.new_inputs(wanted) {
            return if new.is_empty() { 0..1 } else { new };
        }
        let mut needed: Option<Range<usize>> = None;
        for position in self.positions(wanted) {
            let frame = self.frames.get(position).unwrap_or_default();
            if !frame.is_empty() {
                let known = needed.unwrap_or_else(|| frame.clone());
                needed = Some(known.start.min(frame.start)..known.end.max(frame.end));
            }
        }
        let first = || self.positions(wanted).next().unwrap_or(0);
        needed.unwrap_or_else(|| first()..first() + 1)
    }
}

impl RunningColumn {
    /// Whether each frame holds the one before it, from the first index on, or the one behind it, up to the last: then
    /// tiles come in reverse order.
    fn grows(&self) -> Option<Continues> {
        let reversed = |reversed| Some(Continues { dim: self.dim, reversed });
        let len = usize::try_from(self.selection.len()).unwrap_or(usize::MAX);
        if self.frames.is_falling() {
            None
        } else if self.frames.begin_at_the_start() {
            reversed(false)
        } else if self.frames.end_at_the_end(len) {
            reversed(true)
        } else {
            None
        }
    }

    /// Positions of the inputs that come to the state of the tile before; `None` where tiles don't continue each other.
    fn new_inputs(&self, wanted: &Selection) -> Option<Range<usize>> {
        let visited = self.visited.as_ref()?;
        let frame = |index: u64| {
            let position = usize::try_from(self.selection.rank(index)).ok()?;
            self.frames.get(position)
        };
        let bounds = wanted.bounds();
        if self.grows()?.reversed {
            let next = visited.nth(visited.rank(bounds.end));
            let len = usize::try_from(self.selection.len()).unwrap_or(usize::MAX);
            let seen = next.and_then(frame).map_or(len, |frame| frame.start);
            let start = frame(bounds.start).map_or(seen, |frame| frame.start);
            return Some(start.min(seen)..seen);
        }
        let before = visited.rank(bounds.start).checked_sub(1).and_then(|rank| visited.nth(rank));
        let seen = before.and_then(frame).map_or(0, |frame| frame.end);
        let end = bounds.end.checked_sub(1).and_then(frame).map_or(seen, |frame| frame.end);
        Some(seen..end.max(seen))
    }
}

/// Without a cast that kernels need not have, and with whether NaN is NULL. They take numbers as they are stored.
fn stripped(
    argument: &Expression,
    function: RunningFunction,
    rows: &ScanRows,
) -> std::result::Result<(Expression, bool), Refusal> {
    let (table, schema) = (rows.source.table(), rows.source.table_schema());
    let mut expr = argument.expr();
    let mut nan_is_null = false;
    if let Some(inner) = nan_as_null::inside(expr) {
        (expr, nan_is_null) = (inner, true);
    }
    let of = |expr: &_| Expression::new(Arc::clone(expr), table, schema);
    let picks = matches!(function, RunningFunction::Min | RunningFunction::Max);
    if let (Some(cast), false) = (expr.downcast_ref::<CastExpr>(), picks) {
        let inner = of(cast.expr())?;
        let (from, to) = (inner.data_type()?, cast.cast_type());
        let widens = match to {
            // Integers that are summed as floats keep their cast.
            DataType::Float64 if from.is_integer() => function != RunningFunction::Sum,
            DataType::Float64 => from == DataType::Float32,
            DataType::Int64 => from.is_integer() && from != DataType::UInt64,
            DataType::UInt64 => from.is_unsigned_integer(),
            _ => false,
        };
        if widens {
            return Ok((inner, nan_is_null));
        }
    }
    Ok((of(expr)?, nan_is_null))
}

impl Derive for RunningColumn {
    fn data_type(&self) -> DataType {
        self.data_type.clone()
    }

    fn inputs(&self) -> &[Column] {
        &self.inputs
    }

    fn needs(&self, dim: usize, wanted: &Selection) -> Selection {
        if dim != self.dim || wanted.is_empty() {
            return wanted.clone();
        }
        let needed = self.needed(wanted);
        let index = |position: usize| self.selection.nth(position as u64);
        match (index(needed.start), index(needed.end.saturating_sub(1))) {
            (Some(first), Some(last)) => self.selection.within(&(first..last + 1)),
            _ => wanted.clone(),
        }
    }

    fn runs_along(&self, dim: usize) -> bool {
        dim == self.dim
    }

    fn continues(&self) -> Option<Continues> {
        self.visited.as_ref().and_then(|_| self.grows())
    }

    fn continued(&self, selection: &[Selection]) -> Option<Arc<dyn Derive>> {
        let visited = selection.get(self.dim).filter(|_| self.grows().is_some())?;
        Some(Arc::new(Self { visited: Some(visited.clone()), ..self.clone() }))
    }

    fn tile_len(&self, dim: usize) -> u64 {
        // Frames that grow continue from tile to tile, which needs no long tiles.
        if dim == self.dim && self.grows().is_none() { 2 * self.frames.longest() as u64 } else { 1 }
    }

    fn derive(&self, inputs: Inputs<'_>) -> Result<Values> {
        let needs = |dim: usize| usize::try_from(inputs.needs[dim].len()).unwrap_or(usize::MAX);
        let shape: Vec<usize> = self.dims.iter().map(|&dim| needs(dim)).collect();
        let own = self.dims.iter().position(|dim| *dim == self.dim).unwrap_or(0);
        let block = BlockShape {
            outer: shape[..own].iter().product(),
            length: shape[own],
            inner: shape[own + 1..].iter().product(),
        };
        let failed =
            |reason: String| Error::Decode { array: self.argument.expr().to_string(), reason };
        let (values, nan_is_null) =
            self.values(&inputs, &shape).map_err(|e| failed(e.to_string()))?;
        let nan_is_null = nan_is_null || self.nan_is_null;
        let new = self.new_inputs(&inputs.wanted[self.dim]);
        // One index is read at least, and none may be new.
        let none = new.as_ref().is_some_and(Range::is_empty);
        let (values, block) = match none {
            true => (values.slice(0, 0), BlockShape { length: 0, ..block }),
            false => (values, block),
        };
        let first = match &new {
            Some(new) => new.start,
            None => {
                let first = inputs.needs[self.dim].bounds().start;
                usize::try_from(self.selection.rank(first)).unwrap_or(usize::MAX)
            }
        };
        let frame = |position: usize| {
            let frame = self.frames.get(position).unwrap_or_default();
            let clipped = |end: usize| end.saturating_sub(first).min(block.length);
            clipped(frame.start)..clipped(frame.end)
        };
        let frames = self.positions(&inputs.wanted[self.dim]).map(frame).collect();
        let frames = Frames::new(frames).map_err(|error| failed(error.to_string()))?;
        let running = Running {
            function: self.function,
            nan_is_null,
            shape: block,
            frames: &frames,
            recycler: inputs.recycler,
        };
        if new.is_none() {
            let values = running.run(&values).map_err(|error| failed(error.to_string()))?;
            return Ok(Values { values, nan_is_null: false, carried: None });
        }
        // The tile before has handed on its state, and keeps it no longer.
        let mut state = match inputs.carried.map(Carried::downcast::<RunningState>) {
            None => RunningState::default(),
            Some(state) => state
                .ok()
                .and_then(Arc::into_inner)
                .ok_or_else(|| failed("the state of the tile before is in use".to_owned()))?,
        };
        let values =
            running.advance(&values, &mut state).map_err(|error| failed(error.to_string()))?;
        Ok(Values { values, nan_is_null: false, carried: Some(Arc::new(state)) })
    }
}

impl RunningColumn {
    /// Values of the argument over the cells that are needed, and whether NaN among them is NULL.
    fn values(
        &self,
        inputs: &Inputs<'_>,
        shape: &[usize],
    ) -> datafusion::error::Result<(ArrayRef, bool)> {
        let mut columns = Vec::with_capacity(self.inputs.len());
        for (column, (values, nan_is_null)) in self.inputs.iter().zip(inputs.values) {
            let values = if column.dims == self.dims {
                Arc::clone(values)
            } else {
                take(values, &places(&column.dims, &self.dims, shape), None)?
            };
            columns.push((values, *nan_is_null));
        }
        if self.argument.as_column().is_some()
            && let Some(column) = columns.pop()
        {
            return Ok(column);
        }
        let cells = shape.iter().product();
        let columns = columns.into_iter().map(|(values, nan)| nan_to_null(values, nan));
        Ok((self.argument.evaluate(columns.collect(), cells)?, false))
    }
}

/// For each cell of the dimensions `all`, of this shape, in C order, the place of its value in a column that varies
/// along `dims` of them.
fn places(dims: &[usize], all: &[usize], shape: &[usize]) -> UInt64Array {
    let mut strides = vec![0_u64; all.len()];
    let mut stride = 1;
    for (position, dim) in all.iter().enumerate().rev() {
        if dims.contains(dim) {
            strides[position] = stride;
            stride *= shape[position] as u64;
        }
    }
    let mut places = vec![0_u64];
    for (size, stride) in shape.iter().zip(&strides) {
        let steps = |place: u64| (0..*size as u64).map(move |index| place + index * stride);
        places = places.into_iter().flat_map(steps).collect();
    }
    UInt64Array::from(places)
}
