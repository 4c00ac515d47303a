//! Where a scan's column takes its values from.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use arrow::array::{Array as _, ArrayRef, Int64Array};

use super::{
    fetch::Fetcher,
    lookup::{Partnered, cells, presence},
    part::{Assembly, Part},
    tile::{TileArray, gather_error},
    tiles::Tiles,
};
use crate::{
    Column, Error, IndexMap, Recycler, Result, Selection, Variable,
    dataset::{ColumnValues, Continues, Derive, Mapped, nan_to_null},
    grid::select,
    reduce::Unpacking,
};

/// Memory in bytes for a chunk on its way, beside its own bytes: its indices, its place, and its request.
const CHUNK_BYTES: usize = 256;

/// A column of a scan.
#[derive(Debug)]
pub(super) struct ScanColumn {
    pub(super) dims: Vec<usize>,
    pub(super) source: ColumnSource,
    /// The rule for which it is read, if it isn't a column of the scan itself.
    pub(super) input_of: Option<Arc<dyn Derive>>,
}

#[derive(Debug)]
pub(super) enum ColumnSource {
    /// Indices of the dimension itself.
    Index,
    /// Values that are in memory before the first tile.
    Held { column: Column, shape: Vec<u64> },
    /// Values read chunk by chunk.
    Chunked(Box<Chunked>),
    /// Whether maps have partners.
    Present(Arc<[IndexMap]>),
    /// Values computed from the columns of the scan at `inputs`.
    Derived { derive: Arc<dyn Derive>, inputs: Vec<usize> },
}

/// Values of a variable, read chunk by chunk.
#[derive(Debug)]
pub(super) struct Chunked {
    pub(super) variable: Arc<Variable>,
    pub(super) axes: Vec<usize>,
    /// The maps through which the values are seen, if they aren't the grid's.
    pub(super) mapped: Option<Arc<Mapped>>,
    pub(super) fetcher: Fetcher,
    /// Whether no chunk of the variable belongs to two tiles or columns.
    pub(super) exclusive: bool,
    /// Position of the first column of the scan that reads the same variable.
    pub(super) shares: usize,
    /// Fill values for the largest part so far without stored chunks.
    fill: OnceLock<ArrayRef>,
    uses: OnceLock<Uses>,
}

/// Of each axis of a variable, the number of tiles that need each chunk along it, and the number of tiles along the
/// dimensions on which no axis depends.
#[derive(Debug)]
struct Uses {
    axes: Vec<HashMap<u64, u64>>,
    others: u64,
}

impl ScanColumn {
    /// The rule that computes the column, and the positions of its inputs.
    pub(super) fn derived(&self) -> Option<(&Arc<dyn Derive>, &[usize])> {
        match &self.source {
            ColumnSource::Derived { derive, inputs } => Some((derive, inputs)),
            _ => None,
        }
    }

    /// How the values of a tile continue those of another.
    pub(super) fn continues(&self) -> Option<Continues> {
        self.derived().and_then(|(derive, _)| derive.continues())
    }

    /// Selected indices of each dimension that are read for the cells of `selections`.
    pub(super) fn needs(&self, selections: &[Selection]) -> Vec<Selection> {
        match &self.input_of {
            Some(derive) => needs(derive.as_ref(), selections),
            None => selections.to_vec(),
        }
    }

    /// Values of the cells of a tile, at the column's own rank and in the grid's order of dimensions.
    pub(super) fn local_values(&self, selections: &[Selection]) -> Result<TileArray> {
        match &self.source {
            ColumnSource::Index => {
                let dim = self.dims.first().copied().unwrap_or(0);
                Ok(indices(&selections[dim]).into())
            }
            ColumnSource::Held { column, shape } => {
                let not_loaded = || Error::Decode {
                    array: column.name.clone(),
                    reason: "its values were not loaded before the first tile".to_owned(),
                };
                if let ColumnValues::Mapped(mapped) = column.values() {
                    let partnered = Partnered::new(mapped, &self.dims, selections);
                    let all = match mapped.column.values() {
                        ColumnValues::Index => indices(&Selection::all(mapped.shape[0])),
                        _ => mapped.column.loaded().cloned().ok_or_else(not_loaded)?,
                    };
                    return TileArray::placed(partnered.of_all(&all));
                }
                let values = column.loaded().ok_or_else(not_loaded)?;
                let own: Vec<&Selection> = self.dims.iter().map(|&d| &selections[d]).collect();
                select(values, shape, &own).map(TileArray::from).map_err(gather_error)
            }
            ColumnSource::Present(maps) => {
                let present: ArrayRef = Arc::new(presence(maps, &self.dims, selections));
                Ok(present.into())
            }
            ColumnSource::Chunked(_) | ColumnSource::Derived { .. } => Err(Error::Decode {
                array: "a column".to_owned(),
                reason: "its chunks were not fetched".to_owned(),
            }),
        }
    }
}

/// Indices of the inputs of a derived column.
pub(super) fn needs(derive: &dyn Derive, selections: &[Selection]) -> Vec<Selection> {
    selections.iter().enumerate().map(|(dim, wanted)| derive.needs(dim, wanted)).collect()
}

/// The indices themselves as values. The table's rows are counted with signed 64-bit numbers, so they fit.
fn indices(selection: &Selection) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(selection.iter().map(u64::cast_signed)))
}

impl Chunked {
    pub(super) fn new(
        variable: Arc<Variable>,
        axes: Vec<usize>,
        mapped: Option<Arc<Mapped>>,
        fetcher: Fetcher,
    ) -> Self {
        let (fill, uses) = (OnceLock::new(), OnceLock::new());
        Self { variable, axes, mapped, fetcher, exclusive: false, shares: 0, fill, uses }
    }

    /// Part of the variable for the cells of `selections`, which are those of its input if it is one.
    pub(super) fn part(&self, dims: &[usize], selections: &[Selection]) -> Part<'_> {
        let wanted = match &self.mapped {
            Some(mapped) => mapped.maps.iter().map(|map| map.partners(selections).wanted).collect(),
            None => dims.iter().map(|&d| selections[d].clone()).collect(),
        };
        Part::new(&self.variable, &self.axes, wanted)
    }

    /// Values of a part as those of the cells.
    pub(super) fn placed(
        &self,
        values: ArrayRef,
        dims: &[usize],
        selections: &[Selection],
        recycler: &Arc<Recycler>,
    ) -> Result<ArrayRef> {
        let Some(mapped) = &self.mapped else { return Ok(values) };
        Partnered::new(mapped, dims, selections).gather(&values, recycler).map_err(gather_error)
    }

    /// How the values of a column are unpacked, where that is left until rows are made.
    pub(super) fn unpacks_later(&self, dims: &[usize], rank: usize) -> Option<Unpacking> {
        // A value that is repeated over several rows is unpacked once.
        if dims.len() != rank || self.mapped.is_some() {
            return None;
        }
        self.variable.reader().ok()?.decoding.unpacking()
    }

    /// Assembled values as those of the cells, with whether NaN is NULL.
    pub(super) fn finish(
        &self,
        assembly: Assembly<'_>,
        dims: &[usize],
        selections: &[Selection],
    ) -> Result<(ArrayRef, bool)> {
        // A value that is repeated over several rows is checked for NaN once, here.
        let later =
            dims.len() == selections.len() && self.variable.reader()?.decoding.only_finds_nan();
        let recycler = assembly.recycler();
        let values = if later { assembly.finish_but_nan()? } else { assembly.finish()? };
        let values = self.placed(values, dims, selections, recycler)?;
        // Values with a NULL are checked for NaN at once: none are expected where NaN is.
        if later && values.null_count() > 0 {
            return Ok((nan_to_null(values, true), false));
        }
        Ok((values, later))
    }

    /// Whether each chunk of a column belongs to one tile only.
    pub(super) fn is_of_one_tile(&self, dims: &[usize], tiles: &Tiles) -> bool {
        if self.mapped.is_some() {
            return false;
        }
        let grid = self.variable.chunk_grid();
        (0..tiles.shape().len()).all(|dim| match dims.iter().position(|&d| d == dim) {
            Some(own) => {
                grid.divides(self.axes[own], tiles.shape()[dim]) || tiles.touched()[dim].len() <= 1
            }
            None => tiles.touched()[dim].len() <= 1,
        })
    }

    /// Number of tiles that need a chunk, as an upper bound.
    pub(super) fn uses(&self, column: &ScanColumn, tiles: &Tiles, chunk: &[u64]) -> u64 {
        if self.mapped.is_none() && column.input_of.is_none() {
            return self.uses_of_grid(&column.dims, tiles, chunk);
        }
        let uses = self.uses.get_or_init(|| self.count_uses(column, tiles));
        let along = uses.axes.iter().zip(&self.axes).map(|(uses, &axis)| {
            chunk.get(axis).and_then(|chunk| uses.get(chunk)).copied().unwrap_or(0)
        });
        along.fold(uses.others, u64::saturating_mul)
    }

    /// Number of tiles that need a chunk whose indices are those of the grid, computed from its place alone.
    fn uses_of_grid(&self, dims: &[usize], tiles: &Tiles, chunk: &[u64]) -> u64 {
        let grid = self.variable.chunk_grid();
        let along = tiles.touched().iter().enumerate().map(|(dim, touched)| {
            let own = dims.iter().position(|&d| d == dim);
            let Some(axis) = own.map(|own| self.axes[own]) else { return touched.len() };
            let own = grid.chunk_range(axis, chunk[axis]);
            let selected = tiles.selection()[dim].within(&own);
            selected.chunks(tiles.shape()[dim]).len()
        });
        along.fold(1, u64::saturating_mul)
    }

    fn count_uses(&self, column: &ScanColumn, tiles: &Tiles) -> Uses {
        let grid = self.variable.chunk_grid();
        let maps: Vec<Vec<usize>> = match &self.mapped {
            Some(mapped) => mapped.maps.iter().map(|map| map.dims().to_vec()).collect(),
            None => column.dims.iter().map(|&dim| vec![dim]).collect(),
        };
        let mut axes = Vec::with_capacity(maps.len());
        for (own, dims) in maps.iter().enumerate() {
            let mut uses: HashMap<u64, u64> = HashMap::new();
            for_each_tile(dims, tiles, |selections| {
                let selections = column.needs(&selections);
                let wanted = match &self.mapped {
                    Some(mapped) => mapped.maps[own].partners(&selections).wanted,
                    None => selections[dims[0]].clone(),
                };
                for chunk in grid.chunks_of(self.axes[own], &wanted).iter() {
                    *uses.entry(chunk).or_default() += 1;
                }
            });
            axes.push(uses);
        }
        let others =
            (0..tiles.shape().len()).filter(|dim| !maps.iter().any(|own| own.contains(dim)));
        let others = others.map(|dim| tiles.touched()[dim].len()).fold(1, u64::saturating_mul);
        Uses { axes, others }
    }

    /// Cells of a part without stored chunks. All are equal, so they are made once.
    pub(super) fn fill(&self, part: &Part<'_>, recycler: &Arc<Recycler>) -> Result<ArrayRef> {
        let cells = part.cells();
        if let Some(fill) = self.fill.get().filter(|fill| fill.len() >= cells) {
            return Ok(fill.slice(0, cells));
        }
        let mut assembly = Assembly::new(part, recycler)?;
        assembly.fill();
        let values = assembly.finish()?;
        Ok(Arc::clone(self.fill.get_or_init(|| Arc::clone(&values))))
            .map(|fill| if fill.len() == cells { fill } else { values })
    }

    /// Estimated stored bytes of the chunks with the cells of `selections`.
    pub(super) fn stored(&self, dims: &[usize], selections: &[Selection]) -> usize {
        let Ok(reader) = self.variable.reader() else { return 0 };
        let part = self.part(dims, selections);
        let mut decoded = reader.codec.decoded_bytes().saturating_mul(part.count_chunks());
        if !self.variable.chunk_grid().is_regular() {
            // Not every chunk is as large as the largest.
            decoded = decoded.min(part.chunk_bytes());
        }
        // Compression typically halves the size.
        if reader.codec.is_raw() { decoded } else { decoded / 2 }
    }

    /// Estimated memory in bytes for reading the cells of `selections`: the stored bytes, one decoded chunk, and the
    /// values.
    pub(super) fn cost(&self, dims: &[usize], selections: &[Selection]) -> usize {
        let Ok(reader) = self.variable.reader() else { return 0 };
        let chunk = reader.codec.decoded_bytes();
        let part = self.part(dims, selections);
        let width = usize::try_from(self.variable.value_bytes()).unwrap_or(usize::MAX);
        let values = part.cells().saturating_mul(width);
        let each = part.count_chunks().saturating_mul(CHUNK_BYTES);
        let stored = self.stored(dims, selections);
        let read = each.saturating_add(if reader.codec.is_raw() {
            // Decoding writes directly into the values, unless cells are picked or converted.
            stored.max(values)
        } else {
            stored.saturating_add(chunk).saturating_add(values)
        });
        match &self.mapped {
            Some(_) => read.saturating_add(cells(dims, selections).saturating_mul(width)),
            None => read,
        }
    }
}

/// Calls `f` with the selection of each combination of the tiles along some dimensions.
fn for_each_tile(dims: &[usize], tiles: &Tiles, mut f: impl FnMut(Vec<Selection>)) {
    let along = |dim: usize, tile: u64| {
        let start = tile * tiles.shape()[dim];
        tiles.selection()[dim].within(&(start..start.saturating_add(tiles.shape()[dim])))
    };
    let mut selections = vec![Selection::default(); tiles.shape().len()];
    match *dims {
        [] => f(selections),
        [dim] => {
            for tile in tiles.touched()[dim].iter() {
                selections[dim] = along(dim, tile);
                f(selections.clone());
            }
        }
        [outer, inner, ..] => {
            for tile in tiles.touched()[outer].iter() {
                selections[outer] = along(outer, tile);
                for tile in tiles.touched()[inner].iter() {
                    selections[inner] = along(inner, tile);
                    f(selections.clone());
                }
            }
        }
    }
}
