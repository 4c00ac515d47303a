//! Values of a tile that are looked up through index maps.

use arrow::{
    array::{Array as _, ArrayRef, BooleanArray, MutableArrayData, UInt64Array, make_array},
    compute::take,
    error::ArrowError,
};

use crate::{
    IndexMap, Selection,
    dataset::Mapped,
    grid::{checked_product, strides},
    index_map::Partners,
};

/// Mean number of neighbouring values from which on copying runs of them beats gathering each.
const LONG_RUN: usize = 8;

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
    pub(super) fn gather(&self, values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let shape: Vec<u64> = self.wanted().map(Selection::len).collect();
        self.pick(values, &shape, |axis, position| {
            let positions = self.axes[axis].positions.as_ref();
            positions
                .map_or(Some(position), |own| Some(own[position]).filter(|p| *p != Partners::NONE))
        })
    }

    /// Values of the tile's cells, of all values that may be looked up.
    ///
    /// # Errors
    /// Those of arrow.
    pub(super) fn gather_all(&self, values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
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

    /// Picks the values of the cells; `along` gives the index along an axis for each position of its map.
    fn pick(
        &self,
        values: &ArrayRef,
        shape: &[u64],
        along: impl Fn(usize, usize) -> Option<usize>,
    ) -> Result<ArrayRef, ArrowError> {
        let cells: usize = self.sizes.iter().product();
        let mut places = Places::new(cells);
        let strides = strides(shape);
        for (number, (map, stride)) in self.mapped.maps.iter().zip(&strides).enumerate() {
            let stride = usize::try_from(*stride).unwrap_or(usize::MAX);
            let offset = |position| along(number, position).map(|index| index * stride);
            places.add(&self.places_of(map), offset);
        }
        for map in &self.mapped.presence {
            let mut present = Vec::new();
            map.for_each(self.selection, |partner| present.push(partner.is_some()));
            places.add(&self.places_of(map), |position| present[position].then_some(0));
        }
        places.take(values)
    }

    fn places_of(&self, map: &IndexMap) -> Odometer {
        Odometer::new(map.dims(), self.dims, &self.sizes)
    }
}

/// Whether all maps have a partner, for the selected cells of the dimensions `dims`.
pub(super) fn presence(maps: &[IndexMap], dims: &[usize], selection: &[Selection]) -> BooleanArray {
    let sizes = sizes(dims, selection);
    let mut places = Places::new(sizes.iter().product());
    for map in maps {
        let mut present = Vec::new();
        map.for_each(selection, |partner| present.push(partner.is_some()));
        let along = Odometer::new(map.dims(), dims, &sizes);
        places.add(&along, |position| present[position].then_some(0));
    }
    places.0.iter().map(|place| Some(*place != Partners::NONE)).collect()
}

fn sizes(dims: &[usize], selection: &[Selection]) -> Vec<usize> {
    dims.iter().map(|&d| usize::try_from(selection[d].len()).unwrap_or(usize::MAX)).collect()
}

/// For each cell in C order, the position of its value, or [`Partners::NONE`].
struct Places(Vec<usize>);

impl Places {
    fn new(cells: usize) -> Self {
        Self(vec![0; cells])
    }

    /// Moves each place by the offset of its position along an axis.
    fn add(&mut self, axis: &Odometer, offset: impl Fn(usize) -> Option<usize>) {
        let offsets: Vec<usize> = (0..axis.positions)
            .map(|position| offset(position).unwrap_or(Partners::NONE))
            .collect();
        if offsets.iter().all(|offset| *offset == 0) {
            return;
        }
        let mut rows = self.0.chunks_exact_mut(axis.repeat.max(1));
        axis.for_each(|position| {
            let Some(row) = rows.next() else { return };
            match offsets[position] {
                Partners::NONE => row.fill(Partners::NONE),
                offset => {
                    row.iter_mut().filter(|p| **p != Partners::NONE).for_each(|p| *p += offset)
                }
            }
        });
    }

    /// Takes the values at these places.
    fn take(&self, values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let places = &self.0;
        let breaks = |pair: &[usize]| match (pair[0], pair[1]) {
            (Partners::NONE, Partners::NONE) => false,
            (one, next) => one == Partners::NONE || next != one + 1,
        };
        let runs = 1 + places.windows(2).filter(|pair| breaks(pair)).count();
        if runs == 1 && places.first().is_some_and(|first| *first != Partners::NONE) {
            return Ok(values.slice(places[0], places.len()));
        }
        if places.len() < LONG_RUN * runs {
            let places: UInt64Array = places
                .iter()
                .map(|&place| (place != Partners::NONE).then_some(place as u64))
                .collect();
            return take(values, &places, None);
        }
        let data = values.to_data();
        let mut out = MutableArrayData::new(vec![&data], true, places.len());
        let mut start = 0;
        for at in 1..=places.len() {
            if at == places.len() || breaks(&places[at - 1..=at]) {
                match places[start] {
                    Partners::NONE => out.try_extend_nulls(at - start)?,
                    first => out.try_extend(0, first, first + (at - start))?,
                }
                start = at;
            }
        }
        Ok(make_array(out.freeze()))
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
        let mut at = vec![0; self.dims.len()];
        let mut position = 0;
        for _ in 0..groups {
            f(position);
            for d in (0..self.dims.len()).rev() {
                let (size, step) = self.dims[d];
                at[d] += 1;
                position += step;
                if at[d] < size {
                    break;
                }
                position -= size * step;
                at[d] = 0;
            }
        }
    }
}

/// Number of values of a tile's cells.
pub(super) fn cells(dims: &[usize], selection: &[Selection]) -> usize {
    let sizes: Vec<u64> = dims.iter().map(|&d| selection[d].len()).collect();
    checked_product(&sizes).and_then(|cells| usize::try_from(cells).ok()).unwrap_or(usize::MAX)
}
