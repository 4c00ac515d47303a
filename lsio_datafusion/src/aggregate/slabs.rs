//! Slabs: parts of the groups that have tiles of their own.
//!
//! Where all cells of a group lie in a few tiles along a dimension, as those of a latitude do, the tiles fall
//! into slabs without common groups. Tiles are visited slab by slab: few groups are in memory at a time, no
//! states have to be merged, and a slab is sent when its last tile is done.

use std::ops::Range;

use lsio_core::read::{Block, DimOrder, Tiles};

use super::keys::{CellGroups, GroupSet};

/// Cuts of tiles and groups into slabs.
#[derive(Clone, Debug)]
pub(super) struct Slabs {
    cuts: Vec<Cut>,
    /// Number of tiles along the dimensions that aren't cut.
    inner_tiles: u64,
    /// Number of groups of each set.
    counts: Vec<u32>,
}

/// A cut dimension and its parts.
#[derive(Clone, Debug)]
struct Cut {
    set: usize,
    dim: usize,
    /// Number of tiles along it.
    tiles: u64,
    parts: Vec<SlabPart>,
}

/// Tiles along a dimension, by position among the visited ones, and their groups.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SlabPart {
    tiles: Range<u64>,
    ids: Range<u32>,
}

/// The share of one set of keys in the number of a slab's group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SetStride {
    /// The set's first group in the slab.
    pub(super) first: u32,
    /// The factor of the set's group, counted from the first.
    pub(super) stride: u32,
}

/// Part of the groups, with tiles of its own.
#[derive(Clone, Debug)]
pub(super) struct Slab {
    pub(super) sets: Vec<SetStride>,
    /// Number of groups of each set.
    pub(super) counts: Vec<u32>,
    /// Number of all groups.
    pub(super) groups: usize,
}

impl Cut {
    /// Number of parts.
    fn len(&self) -> u64 {
        self.parts.len() as u64
    }

    /// Whether each part has one tile.
    fn is_of_tiles(&self) -> bool {
        self.len() == self.tiles
    }
}

impl Slabs {
    /// Cuts until a slab has at most `most` groups, as far as that goes.
    pub(super) fn new(groups: &CellGroups, tiles: &Tiles, most: usize) -> Self {
        let counts: Vec<u32> =
            groups.sets.iter().map(|s| u32::try_from(s.count).unwrap_or(u32::MAX)).collect();
        let mut possible: Vec<Cut> = groups
            .sets
            .iter()
            .enumerate()
            .filter_map(|(position, set)| {
                let &[dim] = set.dims.as_slice() else { return None };
                let parts = parts(set, dim, tiles);
                let tiles = tiles.touched()[dim].len();
                (parts.len() > 1).then_some(Cut { set: position, dim, tiles, parts })
            })
            .collect();
        // Makes as few cuts as possible, those into many parts first.
        possible.sort_by_key(|cut| cut.parts.len());
        let mut sizes: Vec<usize> = groups.sets.iter().map(|set| set.count).collect();
        let mut cuts: Vec<Cut> = Vec::new();
        let product = |sizes: &[usize]| sizes.iter().copied().fold(1, usize::saturating_mul);
        while product(&sizes) > most {
            let Some(cut) = possible.pop() else { break };
            let largest = cut.parts.iter().map(|p| p.ids.len()).max();
            sizes[cut.set] = largest.unwrap_or(0);
            cuts.push(cut);
        }
        cuts.sort_by_key(|cut| cut.dim);
        let is_cut = |dim: &usize| cuts.iter().any(|cut| cut.dim == *dim);
        let rest = (0..tiles.shape().len()).filter(|dim| !is_cut(dim));
        let inner_tiles = rest.map(|dim| tiles.touched()[dim].len()).fold(1, u64::saturating_mul);
        Self { cuts, inner_tiles, counts }
    }

    /// Order of tiles in which slabs follow one another.
    pub(super) fn order(&self) -> Vec<DimOrder> {
        self.cuts.iter().map(|cut| DimOrder::forward(cut.dim)).collect()
    }

    /// Number of slabs.
    pub(super) fn len(&self) -> u64 {
        self.cuts.iter().map(|cut| cut.parts.len() as u64).fold(1, u64::saturating_mul)
    }

    /// Number of parts of consecutive tiles into which the slabs fall: of one slab each, unless several tiles along a
    /// dimension belong to a slab and other dimensions are cut too.
    pub(super) fn shares(&self) -> u64 {
        self.cuts[..self.outer()].iter().map(Cut::len).fold(1, u64::saturating_mul)
    }

    /// Numbers of the slabs of a share.
    pub(super) fn of_share(&self, share: u64) -> Range<u64> {
        let slabs = self.in_share();
        share.saturating_mul(slabs)..(share + 1).saturating_mul(slabs)
    }

    /// The share of a slab.
    pub(super) fn share_of(&self, slab: u64) -> u64 {
        slab / self.in_share()
    }

    /// Numbers of the tiles of a share.
    pub(super) fn tiles_of(&self, share: u64) -> Range<u64> {
        let (outer, inner) = self.cuts.split_at(self.outer());
        let size = inner.iter().map(|cut| cut.tiles).fold(self.inner_tiles, u64::saturating_mul);
        let Some((last, outer)) = outer.split_last() else { return 0..size };
        let part = usize::try_from(share % last.len()).unwrap_or(0);
        // Outside of the last one a part is a tile.
        let before = (share / last.len()).saturating_mul(last.tiles);
        debug_assert!(outer.iter().all(Cut::is_of_tiles));
        let tiles = &last.parts[part].tiles;
        let at = |tile: u64| before.saturating_add(tile).saturating_mul(size);
        at(tiles.start)..at(tiles.end)
    }

    /// Number of the outermost cuts that make shares: up to the first one with several tiles in a part.
    fn outer(&self) -> usize {
        let single = self.cuts.iter().take_while(|cut| cut.is_of_tiles()).count();
        self.cuts.len().min(single + 1)
    }

    /// Number of slabs of a share.
    fn in_share(&self) -> u64 {
        self.cuts[self.outer()..].iter().map(Cut::len).fold(1, u64::saturating_mul)
    }

    /// Number of groups of the largest slab; `None` if it doesn't fit 32 bits.
    pub(super) fn most_groups(&self) -> Option<usize> {
        let mut sizes: Vec<u32> = self.counts.clone();
        for cut in &self.cuts {
            let largest = cut.parts.iter().map(|p| p.ids.end - p.ids.start).max();
            sizes[cut.set] = largest.unwrap_or(0);
        }
        let groups = sizes.iter().try_fold(1_u32, |groups, size| groups.checked_mul(*size))?;
        usize::try_from(groups).ok()
    }

    /// Number of a block's slab.
    pub(super) fn number(&self, block: &Block, tiles: &Tiles) -> u64 {
        self.cuts.iter().fold(0, |number, cut| {
            let start = block.selections()[cut.dim].bounds().start;
            let tile = tiles.touched()[cut.dim].rank(start / tiles.shape()[cut.dim]);
            let part = cut.parts.partition_point(|part| part.tiles.end <= tile) as u64;
            number * cut.parts.len() as u64 + part
        })
    }

    /// The slab of this number.
    pub(super) fn slab(&self, number: u64) -> Slab {
        let mut firsts = vec![0_u32; self.counts.len()];
        let mut counts = self.counts.clone();
        let mut rest = number;
        for cut in self.cuts.iter().rev() {
            let part = &cut.parts[usize::try_from(rest % cut.len()).unwrap_or(0)];
            rest /= cut.len();
            firsts[cut.set] = part.ids.start;
            counts[cut.set] = part.ids.end - part.ids.start;
        }
        let mut stride = 1_u32;
        let mut sets = vec![SetStride::default(); counts.len()];
        for (position, count) in counts.iter().enumerate().rev() {
            sets[position] = SetStride { first: firsts[position], stride };
            stride = stride.saturating_mul(*count);
        }
        Slab { sets, counts, groups: stride as usize }
    }
}

/// Parts of the tiles along a dimension, no two with a common group.
fn parts(set: &GroupSet, dim: usize, tiles: &Tiles) -> Vec<SlabPart> {
    let (selection, size) = (&tiles.selection()[dim], tiles.shape()[dim]);
    // Least and greatest group of each tile.
    let bounds: Vec<(u32, u32)> = tiles.touched()[dim]
        .iter()
        .map(|tile| {
            let index = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
            let start = index(selection.rank(tile.saturating_mul(size)));
            let end = index(selection.rank((tile + 1).saturating_mul(size)));
            let ids = set.ids.get(start..end).unwrap_or_default();
            let least = ids.iter().copied().min().unwrap_or(u32::MAX);
            (least, ids.iter().copied().max().unwrap_or(0))
        })
        .collect();
    let mut later = u32::MAX;
    let mut least_after: Vec<u32> = bounds
        .iter()
        .rev()
        .map(|(least, _)| {
            let after = later;
            later = later.min(*least);
            after
        })
        .collect();
    least_after.reverse();
    let mut parts: Vec<SlabPart> = Vec::new();
    let (mut tile, mut id, mut most) = (0, 0, 0);
    for (position, ((_, greatest), after)) in bounds.iter().zip(&least_after).enumerate() {
        most = most.max(greatest + 1);
        if *after >= most {
            let end = position as u64 + 1;
            parts.push(SlabPart { tiles: tile..end, ids: id..most });
            (tile, id) = (end, most);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(dim: usize, tiles: &[u64]) -> Cut {
        let mut parts = Vec::new();
        let (mut tile, mut id) = (0, 0);
        for (number, &count) in (0_u32..).zip(tiles) {
            parts.push(SlabPart { tiles: tile..tile + count, ids: id..id + number + 1 });
            (tile, id) = (tile + count, id + number + 1);
        }
        Cut { set: dim, dim, tiles: tile, parts }
    }

    /// Each tile is in the share of its slab, wherever several tiles make a part.
    #[test]
    fn shares_are_consecutive_tiles() {
        for sizes in [
            [vec![1, 1, 1], vec![1, 1], vec![1, 1, 1, 1]],
            [vec![1, 1, 1], vec![2, 1, 3], vec![1, 1]],
            [vec![2, 2], vec![1, 1, 1], vec![3, 1]],
            [vec![1, 1], vec![1, 1, 1], vec![1, 2]],
        ] {
            for cuts in 0..=3 {
                let cuts: Vec<Cut> = (0..cuts).map(|dim| cut(dim, &sizes[dim])).collect();
                let slabs = Slabs { cuts, inner_tiles: 5, counts: vec![9; 3] };
                let all: u64 = slabs.cuts.iter().map(|cut| cut.tiles).product::<u64>() * 5;
                for tile in 0..all {
                    let mut rest = tile / 5;
                    let mut indices = Vec::new();
                    for cut in slabs.cuts.iter().rev() {
                        indices.push(rest % cut.tiles);
                        rest /= cut.tiles;
                    }
                    let parts = slabs.cuts.iter().zip(indices.iter().rev());
                    let slab = parts.fold(0, |slab, (cut, tile)| {
                        let part = cut.parts.iter().position(|part| part.tiles.contains(tile));
                        slab * cut.len() + part.unwrap() as u64
                    });
                    let share = slabs.share_of(slab);
                    assert!(slabs.tiles_of(share).contains(&tile), "{sizes:?} {tile}");
                    assert!(slabs.of_share(share).contains(&slab), "{sizes:?} {tile}");
                }
                let sum: u64 = (0..slabs.shares())
                    .map(|s| {
                        let t = slabs.tiles_of(s);
                        t.end - t.start
                    })
                    .sum();
                assert_eq!(sum, all);
                assert_eq!(slabs.of_share(slabs.shares() - 1).end, slabs.len());
            }
        }
    }
}
