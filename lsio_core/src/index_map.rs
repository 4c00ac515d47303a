//! Maps from the indices of a grid to those of an axis of another array.

use std::sync::Arc;

use crate::{
    Selection,
    grid::{checked_product, unravel},
};

/// Value in a table for an index without a partner.
const ABSENT: u64 = u64::MAX;

/// For each index along one or two dimensions of a grid, an index along an axis of another array, or none.
///
/// A join on coordinates is a set of such maps, one for each axis of the array that is looked up; a shift along a
/// dimension is one.
///
/// ```
/// use lsio_core::{IndexMap, Selection};
///
/// // Each of three days looks up the day before.
/// let map = IndexMap::new(vec![0], vec![3], vec![None, Some(0), Some(1)]);
/// assert_eq!(map.get(&[2]), Some(1));
/// assert_eq!(map.present(), Some(Selection::from(vec![1..3])));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexMap {
    /// Positions of the dimensions in the grid, ascending: one, two, or none.
    dims: Vec<usize>,
    /// Number of indices along each.
    sizes: Vec<u64>,
    indices: Indices,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Indices {
    /// Each index is its own partner.
    Same,
    /// In C order over the dimensions.
    Table(Arc<[u64]>),
}

/// Partners of some indices of a grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partners {
    /// Indices of the axis that are looked up.
    pub(crate) wanted: Selection,
    /// For each index of the grid, in C order, the position in `wanted` of its partner, or [`Partners::NONE`]. `None`
    /// where the positions are 0, 1, 2 and so on.
    pub(crate) positions: Option<Vec<usize>>,
}

impl Partners {
    /// Position for an index without a partner.
    pub(crate) const NONE: usize = usize::MAX;
}

impl IndexMap {
    /// The map that sends each of the `size` indices along a dimension to itself.
    #[must_use]
    pub fn same(dim: usize, size: u64) -> Self {
        Self { dims: vec![dim], sizes: vec![size], indices: Indices::Same }
    }

    /// A map along the dimensions `dims`, ascending, of these sizes: `indices` are in C order over them. Missing ones
    /// have no partner.
    #[must_use]
    pub fn new(dims: Vec<usize>, sizes: Vec<u64>, indices: Vec<Option<u64>>) -> Self {
        let cells = sizes.iter().copied().fold(1, u64::saturating_mul);
        let same = dims.len() == 1
            && indices.len() as u64 == cells
            && (0_u64..).zip(&indices).all(|(own, index)| *index == Some(own));
        if same {
            return Self { dims, sizes, indices: Indices::Same };
        }
        let table = indices.into_iter().map(|index| index.unwrap_or(ABSENT)).collect();
        Self { dims, sizes, indices: Indices::Table(table) }
    }

    /// The dimensions of the grid along which the partners vary, ascending.
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Whether each index is its own partner.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.indices == Indices::Same
    }

    /// The partner of these indices along [`IndexMap::dims`].
    #[must_use]
    pub fn get(&self, indices: &[u64]) -> Option<u64> {
        let mut cell = 0_u64;
        for (index, size) in indices.iter().zip(&self.sizes) {
            if index >= size {
                return None;
            }
            cell = cell.checked_mul(*size)?.checked_add(*index)?;
        }
        match &self.indices {
            Indices::Same => Some(cell),
            Indices::Table(table) => {
                table.get(usize::try_from(cell).ok()?).copied().filter(|index| *index != ABSENT)
            }
        }
    }

    /// Indices with a partner, of a map along one dimension; `None` for other maps.
    #[must_use]
    pub fn present(&self) -> Option<Selection> {
        let &[size] = self.sizes.as_slice() else { return None };
        Some(match &self.indices {
            Indices::Same => Selection::all(size),
            Indices::Table(table) => (0_u64..)
                .zip(table.iter())
                .filter(|(_, partner)| **partner != ABSENT)
                .map(|(index, _)| index..index + 1)
                .collect(),
        })
    }

    /// Number of indices along a dimension of the grid, if the partners vary along it.
    #[must_use]
    pub fn size_along(&self, dim: usize) -> Option<u64> {
        let own = self.dims.iter().position(|own| *own == dim)?;
        self.sizes.get(own).copied()
    }

    /// Whether some index has no partner.
    #[must_use]
    pub fn misses_some(&self) -> bool {
        match &self.indices {
            Indices::Same => false,
            Indices::Table(table) => table.contains(&ABSENT),
        }
    }

    /// Whether some of the selected indices have no partner. There is one selection for each dimension of the grid.
    #[must_use]
    pub fn has_absent(&self, selection: &[Selection]) -> bool {
        match &self.indices {
            Indices::Same => false,
            Indices::Table(_) => {
                let mut absent = false;
                self.for_each(selection, |partner| absent |= partner.is_none());
                absent
            }
        }
    }

    /// The map of first this and then `next`, whose grid is the axes of these `maps`; `None` if more than two dimensions
    /// are needed.
    #[must_use]
    pub fn composed(next: &Self, maps: &[Self]) -> Option<Self> {
        let own: Vec<&Self> =
            next.dims.iter().map(|&axis| maps.get(axis)).collect::<Option<_>>()?;
        if let ([map], Indices::Same) = (own.as_slice(), &next.indices) {
            return Some((*map).clone());
        }
        let mut dims: Vec<(usize, u64)> = own
            .iter()
            .flat_map(|map| map.dims.iter().copied().zip(map.sizes.iter().copied()))
            .collect();
        dims.sort_unstable();
        dims.dedup();
        if dims.len() > 2 {
            return None;
        }
        let (dims, sizes): (Vec<usize>, Vec<u64>) = dims.into_iter().unzip();
        let cells = checked_product(&sizes)?;
        let mut indices = Vec::with_capacity(usize::try_from(cells).ok()?);
        for cell in 0..cells {
            let at = unravel(cell, &sizes);
            let partners = own.iter().map(|map| {
                let own = map.dims.iter().filter_map(|dim| dims.iter().position(|d| d == dim));
                map.get(&own.map(|position| at[position]).collect::<Vec<_>>())
            });
            let partners: Option<Vec<u64>> = partners.collect();
            indices.push(partners.and_then(|partners| next.get(&partners)));
        }
        Some(Self::new(dims, sizes, indices))
    }

    /// Partners of the selected indices. There is one selection for each dimension of the grid.
    pub(crate) fn partners(&self, selection: &[Selection]) -> Partners {
        if let (Indices::Same, &[dim]) = (&self.indices, self.dims.as_slice()) {
            return Partners { wanted: selection[dim].clone(), positions: None };
        }
        let mut partners: Vec<u64> = Vec::new();
        self.for_each(selection, |partner| partners.push(partner.unwrap_or(ABSENT)));
        let ascends = partners.windows(2).all(|pair| pair[0] < pair[1]);
        if ascends && partners.last().is_none_or(|last| *last != ABSENT) {
            let wanted = partners.iter().map(|&index| index..index + 1).collect();
            return Partners { wanted, positions: None };
        }
        let mut distinct: Vec<u64> =
            partners.iter().copied().filter(|index| *index != ABSENT).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let wanted: Selection = distinct.iter().map(|&index| index..index + 1).collect();
        let position = |index: &u64| match *index {
            ABSENT => Partners::NONE,
            index => usize::try_from(wanted.rank(index)).unwrap_or(Partners::NONE),
        };
        let positions = partners.iter().map(position).collect();
        Partners { wanted, positions: Some(positions) }
    }

    /// Calls `f` with the partner of each selected cell of the map's dimensions, in C order.
    pub(crate) fn for_each(&self, selection: &[Selection], mut f: impl FnMut(Option<u64>)) {
        match *self.dims.as_slice() {
            [] => f(self.get(&[])),
            [dim] => selection[dim].iter().for_each(|index| f(self.get(&[index]))),
            [outer, inner] => {
                for first in selection[outer].iter() {
                    selection[inner].iter().for_each(|second| f(self.get(&[first, second])));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    fn one_range(range: Range<u64>) -> Selection {
        std::iter::once(range).collect()
    }

    #[test]
    fn partners_come_in_the_order_of_the_grid() {
        let map = IndexMap::new(vec![1], vec![4], vec![Some(7), None, Some(2), Some(7)]);
        let selection = vec![Selection::all(3), Selection::from(vec![0..1, 2..4])];
        let partners = map.partners(&selection);
        assert_eq!(partners.wanted, Selection::from(vec![2..3, 7..8]));
        assert_eq!(partners.positions, Some(vec![1, 0, 1]));
        assert!(!map.has_absent(&selection));
        assert!(map.has_absent(&[Selection::all(3), Selection::all(4)]));
        assert_eq!(map.present(), Some(Selection::from(vec![0..1, 2..4])));
        // Ascending partners need no positions.
        let shift = IndexMap::new(vec![0], vec![4], vec![None, Some(0), Some(1), Some(2)]);
        let partners = shift.partners(&[one_range(1..4)]);
        assert_eq!(partners, Partners { wanted: Selection::all(3), positions: None });
        let partners = shift.partners(&[Selection::all(2)]);
        assert_eq!(partners.positions, Some(vec![Partners::NONE, 0]));
    }

    #[test]
    fn maps_compose() {
        let shift = IndexMap::new(vec![0], vec![3], vec![None, Some(0), Some(1)]);
        let reverse = IndexMap::new(vec![2], vec![3], vec![Some(2), Some(1), Some(0)]);
        let both = IndexMap::composed(&shift, std::slice::from_ref(&reverse)).unwrap();
        assert_eq!(both, IndexMap::new(vec![2], vec![3], vec![Some(1), Some(0), None]));
        let same = IndexMap::same(0, 3);
        assert_eq!(IndexMap::composed(&same, std::slice::from_ref(&reverse)), Some(reverse));
        // Initial times and leads, both along other dimensions.
        let sum = IndexMap::new(vec![0, 1], vec![2, 2], vec![Some(0), Some(1), Some(1), None]);
        let maps = [IndexMap::same(3, 2), IndexMap::new(vec![1], vec![2], vec![Some(1), Some(0)])];
        let composed = IndexMap::composed(&sum, &maps).unwrap();
        assert_eq!(composed.dims(), [1, 3]);
        assert_eq!(composed.get(&[0, 0]), Some(1));
        assert_eq!(composed.get(&[0, 1]), None);
        assert_eq!(composed.get(&[1, 0]), Some(0));
    }

    #[test]
    fn identity_is_recognised() {
        let map = IndexMap::new(vec![0], vec![2], vec![Some(0), Some(1)]);
        assert!(map.is_same());
        assert_eq!(map.partners(&[one_range(1..2)]).wanted, one_range(1..2));
        assert_eq!(IndexMap::new(vec![], vec![], vec![Some(4)]).get(&[]), Some(4));
    }
}
