//! The tiles of a scan, computed from their numbers.

use std::ops::Range;

use arrow::array::BooleanArray;
use serde::{Deserialize, Serialize};

use crate::{
    Selection,
    dataset::Continues,
    grid::{checked_product, unravel},
};

/// Boxes of one shape that cover the selected cells of a grid.
///
/// Tiles are numbered in the order of visits and never enumerated: only the selection of each dimension is stored.
#[derive(Clone, Debug)]
pub struct Tiles {
    shape: Vec<u64>,
    selection: Vec<Selection>,
    /// Of each dimension, the tiles with selected indices.
    touched: Vec<Selection>,
    /// All dimensions, slowest first.
    order: Vec<DimOrder>,
    len: u64,
}

/// Direction of visits to the tiles along one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DimOrder {
    /// Position of the dimension in the grid.
    pub dim: usize,
    /// Whether the last tile comes first.
    pub reversed: bool,
}

impl DimOrder {
    /// From the first tile along a dimension to the last.
    #[must_use]
    pub fn forward(dim: usize) -> Self {
        Self { dim, reversed: false }
    }

    /// From the last tile along a dimension to the first.
    #[must_use]
    pub fn backward(dim: usize) -> Self {
        Self { dim, reversed: true }
    }
}

impl From<Continues> for DimOrder {
    fn from(Continues { dim, reversed }: Continues) -> Self {
        Self { dim, reversed }
    }
}

impl Tiles {
    /// Tiles of this shape over the selected cells; `None` if their number exceeds 64 bits.
    #[must_use]
    pub fn new(shape: Vec<u64>, selection: Vec<Selection>) -> Option<Self> {
        let touched: Vec<Selection> =
            selection.iter().zip(&shape).map(|(s, size)| s.chunks(*size)).collect();
        let counts: Vec<u64> = touched.iter().map(Selection::len).collect();
        let len = checked_product(&counts)?;
        let order = (0..shape.len()).map(DimOrder::forward).collect();
        Some(Self { shape, selection, touched, order, len })
    }

    /// The same tiles, visited in the order `first`, slowest dimension first. The other dimensions follow, forward.
    #[must_use]
    pub fn with_order(&self, first: &[DimOrder]) -> Self {
        let is_first = |dim: &usize| first.iter().any(|other| other.dim == *dim);
        let rest = (0..self.shape.len()).filter(|dim| !is_first(dim)).map(DimOrder::forward);
        Self { order: first.iter().copied().chain(rest).collect(), ..self.clone() }
    }

    /// Number of tiles.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no cell is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Shape of a tile that no edge cuts off, in cells.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// All dimensions, slowest first.
    pub(super) fn order(&self) -> &[DimOrder] {
        &self.order
    }

    /// Selected indices of each dimension.
    #[must_use]
    pub fn selection(&self) -> &[Selection] {
        &self.selection
    }

    /// Of each dimension, the tiles that hold selected indices.
    #[must_use]
    pub fn touched(&self) -> &[Selection] {
        &self.touched
    }

    /// Selected cells of a tile.
    #[must_use]
    pub fn block(&self, number: u64) -> Block {
        let counts: Vec<u64> =
            self.order.iter().map(|order| self.touched[order.dim].len()).collect();
        let mut selections = vec![Selection::default(); self.shape.len()];
        for (&DimOrder { dim, reversed }, position) in
            self.order.iter().zip(unravel(number, &counts))
        {
            let touched = &self.touched[dim];
            let position = if reversed { touched.len() - 1 - position } else { position };
            let start = touched.nth(position).unwrap_or(0) * self.shape[dim];
            let range = start..start.saturating_add(self.shape[dim]);
            selections[dim] = self.selection[dim].within(&range);
        }
        Block { selections }
    }

    /// All selected cells.
    #[must_use]
    pub fn whole(&self) -> Block {
        Block { selections: self.selection.clone() }
    }

    /// First index along each dimension of the tile that holds a block, selected or not.
    pub(super) fn start(&self, block: &Block) -> Vec<u64> {
        self.numbers(block).iter().zip(&self.shape).map(|(number, size)| number * size).collect()
    }

    /// Number along each dimension of the tile that holds a block.
    pub(super) fn numbers(&self, block: &Block) -> Vec<u64> {
        (0..self.shape.len()).map(|dim| self.number_along(block, dim)).collect()
    }

    /// Number along a dimension of the tile that holds a block.
    pub(super) fn number_along(&self, block: &Block, dim: usize) -> u64 {
        block.selections()[dim].bounds().start / self.shape[dim].max(1)
    }

    /// Number along a dimension of the tile that is visited before the tile `number`.
    pub(super) fn before_along(&self, dim: usize, number: u64) -> Option<u64> {
        self.beside(dim, number, !self.is_reversed(dim))
    }

    /// Number along a dimension of the tile that is visited after the tile `number`.
    pub(super) fn after_along(&self, dim: usize, number: u64) -> Option<u64> {
        self.beside(dim, number, self.is_reversed(dim))
    }

    fn is_reversed(&self, dim: usize) -> bool {
        self.order.iter().any(|order| order.dim == dim && order.reversed)
    }

    fn beside(&self, dim: usize, number: u64, lower: bool) -> Option<u64> {
        let touched = &self.touched[dim];
        let position = touched.rank(number);
        let beside = if lower { position.checked_sub(1)? } else { position.checked_add(1)? };
        touched.nth(beside)
    }

    /// Number of the first later tile, in the order of visits, whose indices along `dim` may differ from this tile's.
    #[must_use]
    pub fn after(&self, number: u64, dim: usize) -> u64 {
        let faster = self.order.iter().skip_while(|order| order.dim != dim).skip(1);
        let stride: u64 = faster.map(|order| self.touched[order.dim].len()).product::<u64>().max(1);
        (number / stride + 1).saturating_mul(stride)
    }
}

/// Selected cells of a tile, in C order: the cells where the selections of all dimensions meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    selections: Vec<Selection>,
}

impl Block {
    /// Selected indices of each dimension.
    #[must_use]
    pub fn selections(&self) -> &[Selection] {
        &self.selections
    }

    /// Number of indices along each dimension.
    #[must_use]
    pub fn shape(&self) -> Vec<u64> {
        self.selections.iter().map(Selection::len).collect()
    }

    /// Number of cells. A tile fits into memory, so the number fits `usize`.
    #[must_use]
    pub fn rows(&self) -> usize {
        let rows = self.selections.iter().map(Selection::len).fold(1, u64::saturating_mul);
        usize::try_from(rows).unwrap_or(usize::MAX)
    }

    /// Cuts off cells behind the first `rows` in C order, as far as the rest is a box.
    pub fn keep_first(&mut self, rows: usize) {
        let mut rows = rows as u64;
        let inner: Vec<u64> = self.shape();
        for (dim, selection) in self.selections.iter_mut().enumerate() {
            let stride = inner[dim + 1..].iter().copied().fold(1, u64::saturating_mul);
            let wanted = rows.div_ceil(stride.max(1)).max(1);
            if wanted < selection.len() {
                let end = selection.nth(wanted).unwrap_or(u64::MAX);
                *selection = selection.within(&(0..end));
            }
            // Behind several indices, all of the next dimensions are needed.
            if wanted > 1 {
                break;
            }
            rows = rows.min(stride);
        }
    }

    /// The same cells, cut along each dimension into parts of up to so many indices from `start` on. In C order.
    pub(super) fn cut(&self, start: &[u64], shape: &[u64]) -> Vec<Self> {
        let mut blocks = vec![Self { selections: Vec::new() }];
        for ((selection, start), size) in self.selections.iter().zip(start).zip(shape) {
            let size = (*size).max(1);
            let end = selection.bounds().end;
            let parts = (0..end.saturating_sub(*start).div_ceil(size)).map(|part| {
                let first = start + part * size;
                selection.within(&(first..first.saturating_add(size)))
            });
            let parts: Vec<Selection> = parts.filter(|part| !part.is_empty()).collect();
            blocks = blocks
                .iter()
                .flat_map(|block| {
                    parts.iter().map(|part| {
                        let selections = block.selections.iter().chain([part]).cloned().collect();
                        Self { selections }
                    })
                })
                .collect();
        }
        blocks
    }

    /// Of each dimension, the positions of the indices among those of a block that holds them.
    pub(super) fn positions_in(&self, whole: &Self) -> Vec<Selection> {
        let pairs = self.selections.iter().zip(&whole.selections);
        pairs
            .map(|(own, whole)| {
                let position = |range: Range<u64>| {
                    let start = whole.rank(range.start);
                    start..start + (range.end - range.start)
                };
                own.ranges().map(position).collect()
            })
            .collect()
    }

    /// Keeps the indices of a dimension where the mask is true.
    pub fn restrict(&mut self, dim: usize, mask: &BooleanArray) {
        self.selections[dim] = self.selections[dim].masked(mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_hold_the_selection_and_nothing_else() {
        let selection: Vec<Selection> =
            vec![[1..3, 9..10].into_iter().collect(), Selection::all(5)];
        let tiles = Tiles::new(vec![4, 2], selection).unwrap();
        assert_eq!(tiles.len(), 6);
        let starts = |tiles: &Tiles| -> Vec<(u64, u64)> {
            (0..tiles.len())
                .map(|number| {
                    let block = tiles.block(number);
                    let [rows, columns] = block.selections() else { panic!() };
                    (rows.bounds().start, columns.bounds().start)
                })
                .collect()
        };
        assert_eq!(starts(&tiles), [(1, 0), (1, 2), (1, 4), (9, 0), (9, 2), (9, 4)]);
        assert_eq!(tiles.block(2).shape(), [2, 1]);
        assert_eq!((tiles.after(1, 0), tiles.after(1, 1)), (3, 2));
        let other = tiles.with_order(&[DimOrder::backward(1)]);
        assert_eq!(starts(&other), [(1, 4), (9, 4), (1, 2), (9, 2), (1, 0), (9, 0)]);
        assert_eq!((other.after(1, 0), other.after(0, 1)), (2, 2));
        let mut block = Tiles::new(vec![4, 5, 6], [4, 5, 6].map(Selection::all).to_vec());
        let block = block.take().unwrap().block(0);
        let first = |rows| {
            let mut block = block.clone();
            block.keep_first(rows);
            block.shape()
        };
        assert_eq!((first(1), first(6), first(7)), (vec![1, 1, 1], vec![1, 1, 6], vec![1, 2, 6]));
        assert_eq!((first(20), first(30)), (vec![1, 4, 6], vec![1, 5, 6]));
        assert_eq!((first(31), first(1000)), (vec![2, 5, 6], vec![4, 5, 6]));
        let none = Tiles::new(vec![4], vec![Selection::default()]).unwrap();
        assert!(none.is_empty());
        assert_eq!(Tiles::new(vec![], vec![]).unwrap().block(0).rows(), 1);
    }
}
