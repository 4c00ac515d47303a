//! Which cells of an array are wanted.

use std::num::NonZero;

use crate::{dataset::gather::CellRun, grid::ChunkGrid};

/// Indices along one dimension, in the order of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Indices {
    /// Ascending indices at equal distances.
    Range {
        /// The first index.
        start: u64,
        /// The distance of neighbours.
        step: NonZero<u64>,
        /// The number of indices.
        len: u64,
    },
    /// Any indices, possibly several times.
    List(Vec<u64>),
}

/// Cells of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cells {
    /// The cells where indices of all dimensions meet. The result has the dimensions of the array.
    Outer(Vec<Indices>),
    /// Points, and for each of them the cells where indices of the other dimensions meet. The result has a dimension of
    /// points, and then the other dimensions in the array's order.
    Points(Vec<Along>),
}

/// What is read along one dimension of points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Along {
    /// The index of each point.
    Points(Vec<u64>),
    /// The same indices for all points.
    Each(Indices),
}

/// Indices along one dimension that are in one chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InChunk {
    pub(super) chunk: u64,
    /// The first index in the chunk, from which the runs count.
    pub(super) first: usize,
    /// The distance of neighbours in the chunk.
    pub(super) step: usize,
    /// Runs in steps, and in positions of the result.
    pub(super) runs: Vec<CellRun>,
}

impl Indices {
    /// All indices of a dimension of `size` indices.
    #[must_use]
    pub fn all(size: u64) -> Self {
        Self::Range { start: 0, step: NonZero::<u64>::MIN, len: size }
    }

    /// The number of indices.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Range { len, .. } => *len,
            Self::List(list) => list.len() as u64,
        }
    }

    /// Whether there is no index.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The largest index, or `None` if there is none. Saturates.
    fn last(&self) -> Option<u64> {
        match self {
            Self::Range { len: 0, .. } => None,
            Self::Range { start, step, len } => {
                Some(start.saturating_add(step.get().saturating_mul(len - 1)))
            }
            Self::List(list) => list.iter().max().copied(),
        }
    }

    /// The indices of each chunk along dimension `dim` of a grid, which must have all of them.
    pub(super) fn by_chunk(&self, grid: &ChunkGrid, dim: usize) -> Vec<InChunk> {
        match self {
            Self::Range { start, step, len } => {
                let mut found = Vec::new();
                let mut at = 0;
                while at < *len {
                    let index = start + at * step.get();
                    let chunk = grid.chunk_at(dim, index);
                    let own = grid.chunk_range(dim, chunk);
                    let behind = (own.end - start).div_ceil(step.get()).clamp(at + 1, *len);
                    found.push(InChunk {
                        chunk,
                        first: to_usize(index - own.start),
                        step: to_usize(step.get()),
                        runs: vec![CellRun {
                            source: 0,
                            target: to_usize(at),
                            len: to_usize(behind - at),
                        }],
                    });
                    at = behind;
                }
                found
            }
            Self::List(list) => {
                let mut order: Vec<usize> = (0..list.len()).collect();
                order.sort_by_key(|&position| grid.chunk_at(dim, list[position]));
                let mut found: Vec<InChunk> = Vec::new();
                for position in order {
                    let chunk = grid.chunk_at(dim, list[position]);
                    let source = to_usize(list[position] - grid.chunk_range(dim, chunk).start);
                    let run = CellRun { source, target: position, len: 1 };
                    match found.last_mut().filter(|last| last.chunk == chunk) {
                        Some(InChunk { runs, .. }) => match runs.last_mut() {
                            Some(last)
                                if (last.source + last.len, last.target + last.len)
                                    == (source, position) =>
                            {
                                last.len += 1;
                            }
                            _ => runs.push(run),
                        },
                        None => found.push(InChunk { chunk, first: 0, step: 1, runs: vec![run] }),
                    }
                }
                found
            }
        }
    }
}

impl Along {
    /// The index of each point.
    pub(super) fn points(&self) -> Option<&[u64]> {
        match self {
            Self::Points(points) => Some(points),
            Self::Each(_) => None,
        }
    }

    /// The indices for all points.
    pub(super) fn each(&self) -> Option<&Indices> {
        match self {
            Self::Points(_) => None,
            Self::Each(indices) => Some(indices),
        }
    }

    fn last(&self) -> Option<u64> {
        match self {
            Self::Points(points) => points.iter().max().copied(),
            Self::Each(indices) => indices.last(),
        }
    }
}

impl Cells {
    /// The whole of an array of this shape.
    #[must_use]
    pub fn all(shape: &[u64]) -> Self {
        Self::Outer(shape.iter().map(|size| Indices::all(*size)).collect())
    }

    /// Single cells: for each dimension of the array, the index of each point.
    #[must_use]
    pub fn points(points: Vec<Vec<u64>>) -> Self {
        Self::Points(points.into_iter().map(Along::Points).collect())
    }

    /// The shape of the result.
    #[must_use]
    pub fn shape(&self) -> Vec<u64> {
        match self {
            Self::Outer(indices) => indices.iter().map(Indices::len).collect(),
            Self::Points(along) => {
                let points = along.iter().find_map(Along::points);
                let each = along.iter().filter_map(Along::each).map(Indices::len);
                std::iter::once(points.map_or(1, |own| own.len() as u64)).chain(each).collect()
            }
        }
    }

    /// What is outside of an array of this shape, as text; `None` if nothing is.
    pub(super) fn outside(&self, shape: &[u64]) -> Option<String> {
        let rank = match self {
            Self::Outer(indices) => indices.len(),
            Self::Points(along) => along.len(),
        };
        if rank != shape.len() {
            return Some(format!("cells with {rank} indices each"));
        }
        let last: Vec<Option<u64>> = match self {
            Self::Outer(indices) => indices.iter().map(Indices::last).collect(),
            Self::Points(along) => {
                let mut lens = along.iter().filter_map(Along::points).map(<[u64]>::len);
                let len = lens.next().unwrap_or(0);
                if lens.any(|own| own != len) {
                    return Some("points with different numbers of indices".to_owned());
                }
                along.iter().map(Along::last).collect()
            }
        };
        let mut dims = last.into_iter().zip(shape).enumerate();
        let (dim, (last, _)) =
            dims.find(|(_, (last, size))| last.is_some_and(|last| last >= **size))?;
        Some(format!("index {} in dimension {dim}", last.unwrap_or_default()))
    }
}

/// A number of cells in memory.
pub(super) fn to_usize(cells: u64) -> usize {
    usize::try_from(cells).unwrap_or(usize::MAX)
}
