//! Slabs: lines of cells along the window's dimension that are visited together, so that their rows stay in the cache.

use super::{
    function::BlockShape,
    state::RunningState,
    validity::Validity,
    walk::{Progress, Row, RowValidity, Summary, Walk},
};
use crate::reduce::{Native, Simd};

/// Bytes of the second-level cache that a slab may use.
const SLAB_BYTES: usize = 384 << 10;

/// Lines of a slab at most.
const MOST_LINES: usize = 512;

/// Lines that are visited together where they lie side by side; fewer are transposed first.
const FEW_LINES: usize = 16;

/// Input of a window over a block.
#[derive(Debug)]
pub(super) struct Input<'a, T> {
    pub(super) values: &'a [T],
    pub(super) validity: &'a Validity,
    pub(super) shape: BlockShape,
}

/// Results of a window over a block.
#[derive(Debug)]
pub(super) struct Results<'a, O> {
    pub(super) values: &'a mut [O],
    /// 1 for each result that isn't NULL; `None` if none can be.
    pub(super) valid: Option<&'a mut [u8]>,
}

/// Rows of a slab: for each input index the values of its lines.
#[derive(Debug)]
pub(super) struct Rows<'a, T> {
    values: &'a [T],
    validity: RowValidity<'a>,
    place: Place,
}

/// Rows of a slab's output.
#[derive(Debug)]
pub(super) struct Output<'a, O> {
    values: &'a mut [O],
    place: Place,
}

/// Where rows lie.
#[derive(Clone, Copy, Debug)]
struct Place {
    first: usize,
    stride: usize,
    width: usize,
}

impl Place {
    fn row(self, index: usize) -> std::ops::Range<usize> {
        let start = self.first + index * self.stride;
        start..start + self.width
    }
}

impl<T: Native> Rows<'_, T> {
    /// The row of an index.
    pub(super) fn row(&self, index: usize) -> Row<'_, T> {
        let range = self.place.row(index);
        let valid = match self.validity {
            RowValidity::Bytes(bytes) => RowValidity::Bytes(&bytes[range.clone()]),
            other => other,
        };
        Row { values: &self.values[range], valid }
    }

    /// All rows from the first one's first lane on, the distance of two, and the number of lanes.
    pub(super) fn all(&self) -> (&[T], RowValidity<'_>, usize, usize) {
        let Place { first, stride, width } = self.place;
        (&self.values[first..], self.validity, stride, width)
    }
}

impl<O> Output<'_, O> {
    /// The row of an output.
    pub(super) fn row(&mut self, output: usize) -> &mut [O] {
        &mut self.values[self.place.row(output)]
    }

    /// All rows from the first one's first lane on.
    pub(super) fn all(&mut self) -> &mut [O] {
        &mut self.values[self.place.first..]
    }
}

/// Computes all outputs of a block, slab by slab.
pub(super) fn visit<S: Summary>(
    mut summary: impl FnMut(usize) -> S,
    input: &Input<'_, S::Stored>,
    walk: &Walk<'_>,
    results: Results<'_, S::Out>,
    state: Option<&mut RunningState>,
) {
    let BlockShape { outer, length, inner } = input.shape;
    let (lines, outputs) = (outer * inner, walk.outputs());
    if lines == 0 {
        return;
    }
    let stack = if S::EXACT { 0 } else { walk.depth() * S::PLANES * size_of::<S::Lane>() };
    let Results { values, mut valid } = results;
    let mut visitor = Visitor { walk, state };
    if inner >= FEW_LINES {
        let width = even(inner, lines_of(stack));
        for from in (0..outer).flat_map(|o| (0..inner).step_by(width).map(move |i| (o, i))) {
            let (block, i) = from;
            let width = width.min(inner - i);
            let validity = match input.validity {
                Validity::All => RowValidity::All,
                Validity::NotNan => RowValidity::NotNan,
                Validity::Bytes(bytes) => RowValidity::Bytes(bytes),
            };
            let place =
                |rows: usize| Place { first: block * rows * inner + i, stride: inner, width };
            let rows = Rows { values: input.values, validity, place: place(length) };
            let mut to = Output { values: &mut *values, place: place(outputs) };
            let mut valid =
                valid.as_deref_mut().map(|v| Output { values: v, place: place(outputs) });
            visitor.slab(&mut summary(width), &rows, &mut to, valid.as_mut(), block * inner + i);
        }
        return;
    }
    let line = stack + length * size_of::<S::Stored>() + outputs * size_of::<S::Out>();
    let width = even(lines, lines_of(line));
    let mut values_in = vec![S::Stored::default(); length * width];
    let mut valid_in = vec![0; length * width];
    let mut values_out = vec![S::Out::default(); outputs * width];
    let mut valid_out = vec![0; outputs * width];
    for first in (0..lines).step_by(width) {
        let width = width.min(lines - first);
        let slab = Slab { first, width, inner };
        slab.gather(input.values, length, &mut values_in);
        let validity = match input.validity {
            Validity::All => RowValidity::All,
            Validity::NotNan => RowValidity::NotNan,
            Validity::Bytes(bytes) => {
                slab.gather(bytes, length, &mut valid_in);
                RowValidity::Bytes(&valid_in)
            }
        };
        let place = Place { first: 0, stride: width, width };
        let rows = Rows { values: &values_in, validity, place };
        let mut to = Output { values: &mut values_out, place };
        let mut own = valid.is_some().then_some(Output { values: &mut valid_out, place });
        visitor.slab(&mut summary(width), &rows, &mut to, own.as_mut(), first);
        slab.scatter(&values_out, outputs, values);
        if let Some(valid) = valid.as_deref_mut() {
            slab.scatter(&valid_out, outputs, valid);
        }
    }
}

/// Lines of a slab, each of which takes so many bytes.
fn lines_of(bytes: usize) -> usize {
    (SLAB_BYTES / bytes.max(1)).clamp(FEW_LINES, MOST_LINES) / FEW_LINES * FEW_LINES
}

/// Cuts lines into slabs of about equal width, at most `most`.
fn even(lines: usize, most: usize) -> usize {
    lines.div_ceil(lines.div_ceil(most).max(1)).max(1)
}

struct Visitor<'a> {
    walk: &'a Walk<'a>,
    state: Option<&'a mut RunningState>,
}

impl Visitor<'_> {
    fn slab<S: Summary>(
        &mut self,
        summary: &mut S,
        rows: &Rows<'_, S::Stored>,
        to: &mut Output<'_, S::Out>,
        mut valid: Option<&mut Output<'_, u8>>,
        first: usize,
    ) {
        if self.state.is_none() && summary.slide(self.walk, rows, to, valid.as_deref_mut()) {
            return;
        }
        let mut progress = Progress::new(Simd::detect(), summary, rows.place.width);
        if let Some(state) = self.state.as_deref() {
            let (counts, lanes) = progress.seen();
            state.load(first, counts, lanes);
        }
        progress.run(self.walk, rows, to, valid);
        if let Some(state) = self.state.as_deref_mut() {
            let (counts, lanes) = progress.seen();
            state.store(first, counts, lanes);
        }
    }
}

/// Neighbouring lines, to be transposed.
#[derive(Clone, Copy, Debug)]
struct Slab {
    first: usize,
    width: usize,
    inner: usize,
}

impl Slab {
    /// Copies the lines of a block of `rows` rows so that they lie side by side.
    fn gather<T: Copy>(self, from: &[T], rows: usize, to: &mut [T]) {
        for run in self.runs(rows) {
            for row in 0..rows {
                let to = &mut to[row * self.width + run.lane..][..run.len];
                let place = run.place + row * self.inner;
                if self.inner == 1 {
                    for (i, to) in to.iter_mut().enumerate() {
                        *to = from[place + i * rows];
                    }
                } else {
                    to.copy_from_slice(&from[place..place + run.len]);
                }
            }
        }
    }

    /// The inverse of [`Slab::gather`].
    fn scatter<T: Copy>(self, from: &[T], rows: usize, to: &mut [T]) {
        for run in self.runs(rows) {
            for row in 0..rows {
                let from = &from[row * self.width + run.lane..][..run.len];
                let place = run.place + row * self.inner;
                if self.inner == 1 {
                    for (i, from) in from.iter().enumerate() {
                        to[place + i * rows] = *from;
                    }
                } else {
                    to[place..place + run.len].copy_from_slice(from);
                }
            }
        }
    }

    /// Runs of lines that lie side by side in a block of `rows` rows; up to 8 lines one behind the other where no two do.
    fn runs(self, rows: usize) -> impl Iterator<Item = Run> {
        let mut lane = 0;
        std::iter::from_fn(move || {
            let left = self.width.checked_sub(lane).filter(|left| *left > 0)?;
            let line = self.first + lane;
            let (block, i) = (line / self.inner, line % self.inner);
            let len = if self.inner == 1 { left.min(8) } else { left.min(self.inner - i) };
            let run = Run { lane, place: block * rows * self.inner + i, len };
            lane += len;
            Some(run)
        })
    }
}

/// Lines of a slab, and the place of their first cell in the block.
struct Run {
    lane: usize,
    place: usize,
    len: usize,
}
