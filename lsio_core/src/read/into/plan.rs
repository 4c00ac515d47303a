//! Which chunks are needed, and what is copied of each.

use std::{collections::BTreeMap, ops::Range};

use super::{
    Wanted,
    cells::{Along, Cells, InChunk, Indices, to_usize},
    memory::{OwnCells, Place},
};
use crate::{
    Error, Result, Variable,
    chunks::ChunkIndex,
    dataset::{
        ElementLayout,
        gather::{Gather, StridedAxis, chunk_strides},
    },
    grid::ChunkGrid,
};

/// What is wanted, by chunk.
pub(super) struct Plan<'a> {
    grid: &'a ChunkGrid,
    wanted: Vec<Planned<'a>>,
    chunks: BTreeMap<ChunkIndex, Vec<Copying>>,
}

/// One of the wanted reads.
struct Planned<'a> {
    place: Place<'a>,
    /// Distances of neighbours in the place, in elements.
    strides: Vec<usize>,
    axes: Vec<PlannedAxis>,
    /// The points in the order of their chunks.
    order: Vec<usize>,
}

/// One dimension of the array.
enum PlannedAxis {
    /// Indices in each chunk; the number of the result's dimension.
    Each { along: Vec<InChunk>, dim: usize },
    /// The index of each point.
    Points(Vec<u64>),
}

/// What is copied of a chunk for one of the wanted reads.
struct Copying {
    wanted: usize,
    /// Of each dimension that isn't the points', which of the indices in chunks.
    along: Vec<usize>,
    /// Points: which of [`Planned::order`]. `None` if nothing is wanted by points.
    points: Option<Range<usize>>,
}

impl<'a> Plan<'a> {
    /// The values take `width` bytes each.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] and [`Error::Place`].
    pub(super) fn new(
        variable: &'a Variable,
        wanted: Vec<Wanted<'a>>,
        width: usize,
    ) -> Result<Self> {
        let count = wanted.len();
        let grid = variable.chunk_grid();
        let mut plan = Self { grid, wanted: Vec::with_capacity(count), chunks: BTreeMap::new() };
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
            let strides = place.strides(width).ok_or_else(|| {
                refused(format!("its elements don't take {width} bytes, as the values"))
            })?;
            if !shape.contains(&0) {
                plan.add(cells, place, strides);
            }
        }
        Ok(plan)
    }

    fn add(&mut self, cells: Cells, place: Place<'a>, strides: Vec<usize>) {
        let grid = self.grid;
        let each = |indices: Indices, axis, dim| PlannedAxis::Each {
            along: indices.by_chunk(grid, axis),
            dim,
        };
        let (axes, is_by_points): (Vec<PlannedAxis>, bool) = match cells {
            Cells::Outer(indices) => {
                let axes = indices.into_iter().enumerate();
                (axes.map(|(axis, indices)| each(indices, axis, axis)).collect(), false)
            }
            Cells::Points(along) => {
                let mut dim = 0;
                let axes = along.into_iter().enumerate().map(|(axis, own)| match own {
                    Along::Points(points) => PlannedAxis::Points(points),
                    Along::Each(indices) => {
                        dim += 1;
                        each(indices, axis, dim)
                    }
                });
                (axes.collect(), true)
            }
        };
        let mut planned = Planned { place, strides, axes, order: Vec::new() };
        let groups = if is_by_points { planned.sort_points(grid) } else { Vec::new() };
        let mut add = |points: Option<Range<usize>>| {
            let first = points.as_ref().and_then(|own| planned.order.get(own.start));
            self.add_chunks(&planned, points.clone(), first.copied());
        };
        if is_by_points {
            groups.into_iter().for_each(|points| add(Some(points)));
        } else {
            add(None);
        }
        self.wanted.push(planned);
    }

    /// Adds the chunks that hold some points, or all wanted cells. `first` is the first of the points.
    fn add_chunks(
        &mut self,
        planned: &Planned<'_>,
        points: Option<Range<usize>>,
        first: Option<usize>,
    ) {
        let each: Vec<&Vec<InChunk>> = planned.each().map(|(_, along, _)| along).collect();
        let mut at = vec![0; each.len()];
        loop {
            let mut own = at.iter().zip(&each).map(|(&at, along)| along[at].chunk);
            let chunk = planned.axes.iter().enumerate().map(|(axis, along)| match along {
                PlannedAxis::Each { .. } => own.next().unwrap_or(0),
                PlannedAxis::Points(points) => {
                    let index = first.and_then(|first| points.get(first)).copied();
                    self.grid.chunk_at(axis, index.unwrap_or(0))
                }
            });
            let chunk = chunk.collect();
            let copying =
                Copying { wanted: self.wanted.len(), along: at.clone(), points: points.clone() };
            self.chunks.entry(chunk).or_default().push(copying);
            // The next combination, the last dimension fastest.
            let Some(dim) = (0..at.len()).rev().find(|&dim| at[dim] + 1 < each[dim].len()) else {
                return;
            };
            at[dim] += 1;
            at[dim + 1..].fill(0);
        }
    }

    /// The chunks that hold wanted cells.
    pub(super) fn chunks(&self) -> Vec<ChunkIndex> {
        self.chunks.keys().cloned().collect()
    }

    /// Calls `f` for each of the wanted reads that want cells of a chunk, with its number and what it copies of the chunk.
    /// The chunk's cells lie in this layout, in a box of this shape.
    pub(super) fn gathers(
        &self,
        chunk: &[u64],
        (layout, shape): (&ElementLayout, &[u64]),
        mut f: impl FnMut(usize, &Gather),
    ) {
        for copying in self.chunks.get(chunk).into_iter().flatten() {
            let planned = &self.wanted[copying.wanted];
            planned.gathers(copying, (chunk, self.grid), (layout, shape), |gather| {
                f(copying.wanted, gather);
            });
        }
    }

    /// Of each of the wanted reads, its cells of a chunk, to be written by one thread.
    ///
    /// # Safety
    /// Only one thread writes the cells of a chunk, and only those that [`Plan::gathers`] gives.
    pub(super) unsafe fn own_cells(&self) -> Vec<OwnCells<'_>> {
        // SAFETY: a cell of a place is that of one cell of the array, which is in one chunk.
        self.wanted.iter().map(|planned| unsafe { planned.place.own_cells() }).collect()
    }
}

impl Planned<'_> {
    /// Axes that aren't the points': the number, the indices in chunks, and the dimension of the result.
    fn each(&self) -> impl Iterator<Item = (usize, &Vec<InChunk>, usize)> {
        self.axes.iter().enumerate().filter_map(|(axis, own)| match own {
            PlannedAxis::Each { along, dim } => Some((axis, along, *dim)),
            PlannedAxis::Points(_) => None,
        })
    }

    /// Axes of points: the number, and the index of each point.
    fn points(&self) -> impl Iterator<Item = (usize, &Vec<u64>)> {
        self.axes.iter().enumerate().filter_map(|(axis, own)| match own {
            PlannedAxis::Points(points) => Some((axis, points)),
            PlannedAxis::Each { .. } => None,
        })
    }

    /// Puts the points in the order of their chunks. Returns those of each chunk.
    fn sort_points(&mut self, grid: &ChunkGrid) -> Vec<Range<usize>> {
        let count = self.points().next().map_or(1, |(_, points)| points.len());
        // Numbers of chunks can't overflow: an array has as many cells at least.
        let mut chunk_of = vec![0_u64; count];
        for (axis, points) in self.points() {
            let chunks = grid.counts()[axis];
            for (chunk, point) in chunk_of.iter_mut().zip(points) {
                *chunk = chunk.wrapping_mul(chunks).wrapping_add(grid.chunk_at(axis, *point));
            }
        }
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|&point| chunk_of[point]);
        let mut start = 0;
        let groups = order.chunk_by(|a, b| chunk_of[*a] == chunk_of[*b]).map(|group| {
            start += group.len();
            start - group.len()..start
        });
        let groups = groups.collect();
        self.order = order;
        groups
    }

    fn gathers(
        &self,
        copying: &Copying,
        (chunk, grid): (&[u64], &ChunkGrid),
        (layout, shape): (&ElementLayout, &[u64]),
        mut f: impl FnMut(&Gather),
    ) {
        let each = self.each().zip(&copying.along).map(|((axis, along, dim), &at)| {
            let InChunk { first, step, runs, .. } = &along[at];
            let stride = self.strides[dim];
            StridedAxis { axis, first: *first, step: *step, stride, runs: runs.clone() }
        });
        let each: Vec<StridedAxis> = each.collect();
        let gather = Gather::strided(shape, layout, each.into_iter());
        let Some(points) = &copying.points else { return f(&gather) };
        let strides = chunk_strides(shape, layout);
        let axes: Vec<(&Vec<u64>, u64, usize)> = self
            .points()
            .map(|(axis, own)| (own, grid.chunk_range(axis, chunk[axis]).start, strides[axis]))
            .collect();
        for &point in self.order.get(points.clone()).unwrap_or_default() {
            let source = axes.iter().fold(0, |cell: usize, (own, start, stride)| {
                cell.wrapping_add(to_usize(own[point] - start).wrapping_mul(*stride))
            });
            f(&gather.moved(source, point * self.strides[0]));
        }
    }
}
