//! Which chunks are needed, and what is copied of each.

use std::collections::BTreeMap;

use super::{
    Wanted,
    cells::{Cells, InChunk, to_usize},
    memory::Place,
    values::{DecodedChunk, Writer},
};
use crate::{
    Error, Result, Variable,
    chunks::ChunkIndex,
    dataset::{
        ElementLayout,
        gather::{CellSource, Gather, StridedAxis, repeat_at},
    },
};

/// What is wanted, by chunk.
pub(super) struct Plan<'a> {
    wanted: Vec<Planned<'a>>,
    chunks: BTreeMap<ChunkIndex, Vec<Copying>>,
}

/// One of the wanted reads.
struct Planned<'a> {
    place: Place<'a>,
    /// Distances of neighbours in the place, in elements.
    strides: Vec<usize>,
    /// Of each dimension, the indices in each chunk. Empty for points.
    along: Vec<Vec<InChunk>>,
    /// Of each point, its indices in its chunk.
    points: Vec<usize>,
    /// Bytes of an element.
    width: usize,
}

/// What is copied of a chunk for one of the wanted reads.
struct Copying {
    wanted: usize,
    what: Copied,
}

enum Copied {
    /// Along each dimension, which of [`Planned::along`].
    Outer(Vec<usize>),
    /// Which of [`Planned::points`].
    Points(Vec<usize>),
}

impl<'a> Plan<'a> {
    /// # Errors
    /// [`Error::OutOfBounds`] and [`Error::Place`].
    pub(super) fn new(
        variable: &Variable,
        wanted: Vec<Wanted<'a>>,
        writer: &Writer<'_>,
    ) -> Result<Self> {
        let mut plan = Self { wanted: Vec::with_capacity(wanted.len()), chunks: BTreeMap::new() };
        for Wanted { cells, place } in wanted {
            if let Some(asked) = cells.outside(variable.shape()) {
                let (array, has) = (variable.path(), format!("of shape {:?}", variable.shape()));
                return Err(Error::OutOfBounds { array, asked, has });
            }
            let refused = |reason| Error::Place { array: variable.path(), reason };
            let shape = cells.shape();
            if place.shape() != shape {
                let own = place.shape();
                return Err(refused(format!("its shape is {own:?}, that of the cells {shape:?}")));
            }
            let strides = place.strides(writer.width()).ok_or_else(|| {
                refused(format!("its elements don't take {} bytes, as the values", writer.width()))
            })?;
            let planned = Planned {
                place,
                strides,
                along: Vec::new(),
                points: Vec::new(),
                width: writer.width(),
            };
            match cells {
                Cells::Outer(_) if shape.contains(&0) => plan.wanted.push(planned),
                Cells::Outer(indices) => {
                    let grid = variable.chunk_grid();
                    let along =
                        indices.iter().enumerate().map(|(dim, own)| own.by_chunk(grid, dim));
                    plan.add_outer(Planned { along: along.collect(), ..planned });
                }
                Cells::Points(points) => plan.add_points(variable, planned, &points),
            }
        }
        Ok(plan)
    }

    fn add_outer(&mut self, planned: Planned<'a>) {
        let number = self.wanted.len();
        let mut at = vec![0; planned.along.len()];
        loop {
            let chunk = at.iter().zip(&planned.along).map(|(&at, own)| own[at].chunk).collect();
            let copying = Copying { wanted: number, what: Copied::Outer(at.clone()) };
            self.chunks.entry(chunk).or_default().push(copying);
            // The next combination, the last dimension fastest.
            let Some(dim) = (0..at.len()).rev().find(|&dim| at[dim] + 1 < planned.along[dim].len())
            else {
                break;
            };
            at[dim] += 1;
            at[dim + 1..].fill(0);
        }
        self.wanted.push(planned);
    }

    fn add_points(&mut self, variable: &Variable, mut planned: Planned<'a>, points: &[Vec<u64>]) {
        let grid = variable.chunk_grid();
        let number = self.wanted.len();
        let count = points.first().map_or(1, Vec::len);
        for point in 0..count {
            let mut chunk = Vec::with_capacity(points.len());
            for (dim, own) in points.iter().enumerate() {
                let at = grid.chunk_at(dim, own[point]);
                chunk.push(at);
                planned.points.push(to_usize(own[point] - grid.chunk_range(dim, at).start));
            }
            let copied = self.chunks.entry(chunk).or_default();
            match copied.last_mut() {
                Some(Copying { wanted, what: Copied::Points(own) }) if *wanted == number => {
                    own.push(point);
                }
                _ => copied.push(Copying { wanted: number, what: Copied::Points(vec![point]) }),
            }
        }
        self.wanted.push(planned);
    }

    /// The chunks that hold wanted cells.
    pub(super) fn chunks(&self) -> Vec<ChunkIndex> {
        self.chunks.keys().cloned().collect()
    }

    /// Copies the wanted cells of a chunk to their places. Each chunk must be written once.
    pub(super) fn write(&self, chunk: &[u64], decoded: &DecodedChunk) {
        for Copying { wanted, what } in self.chunks.get(chunk).into_iter().flatten() {
            let planned = &self.wanted[*wanted];
            match what {
                Copied::Outer(at) => planned.write_outer(at, decoded),
                Copied::Points(points) => planned.write_points(points, decoded),
            }
        }
    }
}

impl Planned<'_> {
    fn write_outer(&self, at: &[usize], decoded: &DecodedChunk) {
        let axes = at.iter().zip(&self.along).zip(&self.strides).enumerate();
        let axes = axes.map(|(axis, ((&at, along), &stride))| {
            let InChunk { first, step, runs, .. } = &along[at];
            StridedAxis { axis, first: *first, step: *step, stride, runs: runs.clone() }
        });
        // SAFETY: a cell of the place is that of one cell of the array, which is in one chunk, and each chunk is written
        // once.
        let mut cells = unsafe { self.place.own_cells() };
        match decoded {
            DecodedChunk::Cells { bytes, layout, shape } => {
                Gather::strided(shape, layout, axes).copy_to(bytes, &mut cells);
            }
            DecodedChunk::Fill(fill) => {
                let layout = ElementLayout::native(at.len(), self.width);
                let shape = vec![0; at.len()];
                Gather::strided(&shape, &layout, axes).fill_in(fill, &mut cells);
            }
        }
    }

    fn write_points(&self, points: &[usize], decoded: &DecodedChunk) {
        let stride = self.strides.first().copied().unwrap_or(0);
        // SAFETY: as for `write_outer`.
        let mut cells = unsafe { self.place.own_cells() };
        match decoded {
            DecodedChunk::Cells { bytes, layout, shape } => {
                let source = CellSource::new(bytes, shape, layout);
                let rank = shape.len();
                for &point in points {
                    let inside = &self.points[point * rank..(point + 1) * rank];
                    source.copy(inside, point * stride, &mut cells);
                }
            }
            DecodedChunk::Fill(fill) => {
                for &point in points {
                    repeat_at(fill, point * stride, &mut cells);
                }
            }
        }
    }
}
