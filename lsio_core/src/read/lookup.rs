//! Values of a tile that are looked up through index maps.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray},
    error::ArrowError,
};

use super::runs::Runs;
use crate::{
    IndexMap, Recycler, Selection,
    dataset::Mapped,
    grid::{checked_product, positions, strides},
    index_map::Partners,
};

/// Partners of the cells of a tile, along each axis of what is looked up.
#[derive(Debug)]
pub(super) struct Partnered<'a> {
    mapped: &'a Mapped,
    /// Dimensions of the values, ascending, and the number of indices of the tile along each.
    dims: &'a [usize],
    sizes: Vec<usize>,
    selection: &'a [Selection],
    axes: Vec<Partners>,
}

impl<'a> Partnered<'a> {
    /// Finds the partners of the selected cells. There is one selection for each dimension of the grid, and `dims` are
    /// those along which the values vary.
    pub(super) fn new(mapped: &'a Mapped, dims: &'a [usize], selection: &'a [Selection]) -> Self {
        let axes = mapped.maps.iter().map(|map| map.partners(selection)).collect();
        let sizes = sizes(dims, selection);
        Self { mapped, dims, sizes, selection, axes }
    }

    /// Of each axis, the indices that are looked up.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &Selection> {
        self.axes.iter().map(|axis| &axis.wanted)
    }

    /// Values of the tile's cells, of the values at the [`wanted`](Self::wanted) indices in C order.
    ///
    /// # Errors
    /// Those of arrow.
    pub(super) fn gather(
        &self,
        values: &ArrayRef,
        recycler: &Arc<Recycler>,
    ) -> Result<ArrayRef, ArrowError> {
        let shape: Vec<u64> = self.wanted().map(Selection::len).collect();
        let runs = self.pick(values, &shape, |axis, position| {
            let positions = self.axes[axis].positions.as_ref();
            positions
                .map_or(Some(position), |own| Some(own[position]).filter(|p| *p != Partners::NONE))
        });
        runs.whole_in(recycler)
    }

    /// Places of the tile's cells among all values that may be looked up.
    pub(super) fn of_all(&self, values: &ArrayRef) -> Runs {
        let wanted: Vec<Vec<usize>> = self
            .wanted()
            .map(|wanted| wanted.iter().map(|i| usize::try_from(i).unwrap_or(usize::MAX)).collect())
            .collect();
        self.pick(values, &self.mapped.shape, |axis, position| {
            let positions = self.axes[axis].positions.as_ref();
            let position = positions.map_or(position, |own| own[position]);
            wanted[axis].get(position).copied()
        })
    }

    /// Finds the values of the cells; `along` gives the index along an axis for each position of its map.
    fn pick(
        &self,
        values: &ArrayRef,
        shape: &[u64],
        along: impl Fn(usize, usize) -> Option<usize>,
    ) -> Runs {
        let strides: Vec<usize> =
            strides(shape).iter().map(|s| usize::try_from(*s).unwrap_or(usize::MAX)).collect();
        let run = self.run(&strides, &along);
        let (dims, sizes) = (&self.dims[..run.dims], &self.sizes[..run.dims]);
        let mut places = Places::new(sizes.iter().product(), run.start);
        for (number, map) in self.mapped.maps[..run.axes].iter().enumerate() {
            let offset = |position| along(number, position).map(|index| index * strides[number]);
            places.add(&Odometer::new(map.dims(), dims, sizes), offset);
        }
        for map in &self.mapped.presence {
            let mut present = Vec::new();
            map.for_each(self.selection, |partner| present.push(partner.is_some()));
            let axis = Odometer::new(map.dims(), dims, sizes);
            places.add(&axis, |position| present[position].then_some(0));
        }
        Runs::new(Arc::clone(values), places.starts, run.len)
    }

    /// The inner dimensions along which values lie side by side, as the cells do.
    fn run(&self, strides: &[usize], along: &impl Fn(usize, usize) -> Option<usize>) -> Run {
        let Mapped { maps, presence, .. } = self.mapped;
        let mut run = Run { dims: self.dims.len(), axes: maps.len(), start: 0, len: 1 };
        while let Some((dim, axis)) = run.dims.checked_sub(1).zip(run.axes.checked_sub(1)) {
            let (own, size) = (self.dims[dim], self.sizes[dim]);
            let uses = |map: &&IndexMap| map.dims().contains(&own);
            let others = maps[..axis].iter().chain(presence).any(|map| uses(&map));
            if size == 0 || maps[axis].dims() != [own] || others || strides[axis] != run.len {
                break;
            }
            let Some(first) = along(axis, 0) else { break };
            if !(1..size).all(|position| along(axis, position) == Some(first + position)) {
                break;
            }
            run.start += first * strides[axis];
            run.len *= size;
            (run.dims, run.axes) = (dim, axis);
        }
        run
    }
}

/// Values that lie side by side: of the dimensions behind the first `dims` and the axes behind the first `axes`.
struct Run {
    dims: usize,
    axes: usize,
    /// Place of the first value.
    start: usize,
    /// Number of values.
    len: usize,
}

/// Whether all maps have a partner, for the selected cells of the dimensions `dims`.
pub(super) fn presence(maps: &[IndexMap], dims: &[usize], selection: &[Selection]) -> BooleanArray {
    let sizes = sizes(dims, selection);
    let mut places = Places::new(sizes.iter().product(), 0);
    for map in maps {
        let mut present = Vec::new();
        map.for_each(selection, |partner| present.push(partner.is_some()));
        let along = Odometer::new(map.dims(), dims, &sizes);
        places.add(&along, |position| present[position].then_some(0));
    }
    places.starts.iter().map(|place| Some(*place != Partners::NONE)).collect()
}

fn sizes(dims: &[usize], selection: &[Selection]) -> Vec<usize> {
    dims.iter().map(|&d| usize::try_from(selection[d].len()).unwrap_or(usize::MAX)).collect()
}

/// Places of the values of cells in C order.
struct Places {
    /// The place of each run's first value, or [`Partners::NONE`].
    starts: Vec<usize>,
}

impl Places {
    fn new(runs: usize, start: usize) -> Self {
        Self { starts: vec![start; runs] }
    }

    /// Moves each run by the offset of its position along an axis.
    fn add(&mut self, axis: &Odometer, offset: impl Fn(usize) -> Option<usize>) {
        let offsets: Vec<usize> = (0..axis.positions)
            .map(|position| offset(position).unwrap_or(Partners::NONE))
            .collect();
        if offsets.iter().all(|offset| *offset == 0) {
            return;
        }
        let mut rows = self.starts.chunks_exact_mut(axis.repeat.max(1));
        axis.for_each(|position| {
            let Some(row) = rows.next() else { return };
            match offsets[position] {
                Partners::NONE => row.fill(Partners::NONE),
                offset => {
                    row.iter_mut().filter(|p| **p != Partners::NONE).for_each(|p| *p += offset);
                }
            }
        });
    }
}

/// Positions of a map's cells under the cells of a tile, in C order.
struct Odometer {
    /// Number of the map's cells.
    positions: usize,
    /// Number of consecutive cells of the tile with one position.
    repeat: usize,
    /// The dimensions outside of those cells: their sizes, and the steps of the position along them.
    dims: Vec<(usize, usize)>,
}

impl Odometer {
    fn new(own: &[usize], dims: &[usize], sizes: &[usize]) -> Self {
        let own_sizes: Vec<usize> = dims
            .iter()
            .zip(sizes)
            .filter(|(dim, _)| own.contains(dim))
            .map(|(_, size)| *size)
            .collect();
        let innermost = dims.iter().rposition(|dim| own.contains(dim)).map_or(0, |last| last + 1);
        let mut step = own_sizes.iter().product::<usize>();
        let outer = dims[..innermost].iter().zip(sizes).map(|(dim, &size)| {
            if !own.contains(dim) {
                return (size, 0);
            }
            step /= size.max(1);
            (size, step)
        });
        Self {
            dims: outer.collect(),
            positions: own_sizes.iter().product(),
            repeat: sizes[innermost..].iter().product(),
        }
    }

    /// Calls `f` with the position of each group of [`repeat`](Self::repeat) cells.
    fn for_each(&self, mut f: impl FnMut(usize)) {
        let groups: usize = self.dims.iter().map(|(size, _)| size).product();
        if groups > 0 {
            positions(&self.dims, 0, groups)
                .into_iter()
                .for_each(|position| f(usize::try_from(position).unwrap_or(usize::MAX)));
        }
    }
}

/// Number of values of a tile's cells.
pub(super) fn cells(dims: &[usize], selection: &[Selection]) -> usize {
    let sizes: Vec<u64> = dims.iter().map(|&d| selection[d].len()).collect();
    checked_product(&sizes).and_then(|cells| usize::try_from(cells).ok()).unwrap_or(usize::MAX)
}
