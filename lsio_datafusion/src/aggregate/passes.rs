//! Passes: parts of the cells that are read one after the other, where the values that are kept don't fit the memory.
//!
//! No two passes have cells of the same group, so each gives its own rows. Tiles are cut, and each of their chunks is
//! decoded once a pass.

use std::ops::Range;

use lsio_core::{Selection, read::Tiles};

use super::keys::{CellGroups, GroupSet};

/// Indices of a dimension in each of several parts.
struct CutDim {
    dim: usize,
    parts: Vec<Selection>,
    /// Share of the most indices of a tile that a part has.
    share: f64,
}

/// Selections of the passes in which a slab of `bytes` takes at most `most`, as far as groups can be cut.
pub(super) fn passes(
    groups: &CellGroups,
    tiles: &Tiles,
    bytes: usize,
    most: usize,
) -> Vec<Vec<Selection>> {
    let selection = tiles.selection();
    let mut passes = vec![selection.to_vec()];
    let mut left = bytes as f64 / most.max(1) as f64;
    // The dimension with the most indices that can be told apart comes first: one cut is enough then.
    let mut dims: Vec<(usize, Vec<Range<u64>>)> = groups
        .sets
        .iter()
        .filter_map(|set| {
            let &dim = set.dims.first()?;
            Some((dim, apart(set, selection)))
        })
        .collect();
    dims.sort_by_key(|(_, apart)| std::cmp::Reverse(apart.len()));
    for (dim, apart) in dims {
        if left <= 1.0 {
            break;
        }
        let count = (left.ceil() as usize).min(apart.len());
        let Some(cut) = cut(dim, &apart, tiles, count) else { continue };
        left *= cut.share;
        passes = passes
            .iter()
            .flat_map(|pass| {
                cut.parts.iter().map(|part| {
                    let mut pass = pass.clone();
                    pass[cut.dim] = part.clone();
                    pass
                })
            })
            .collect();
    }
    passes
}

/// Distributes positions of a dimension's selected indices: of each tile about the same number to each part.
fn cut(dim: usize, apart: &[Range<u64>], tiles: &Tiles, count: usize) -> Option<CutDim> {
    let (selection, size) = (&tiles.selection()[dim], tiles.shape()[dim]);
    let tile_of = |range: &Range<u64>| selection.nth(range.start).map(|index| index / size.max(1));
    let mut parts: Vec<Vec<Range<u64>>> = Vec::new();
    let (mut most_of_tile, mut most_of_part) = (0, 0);
    for own in apart.chunk_by(|one, other| tile_of(one) == tile_of(other)) {
        let (start, end) = (own.first()?.start, own.last()?.end);
        let len = end - start;
        most_of_tile = most_of_tile.max(len);
        let mut lens = vec![0; count.max(1)];
        for range in own {
            let at = u128::from(range.start - start) * count as u128 / u128::from(len.max(1));
            let part = usize::try_from(at).unwrap_or(usize::MAX);
            let part = part.min(lens.len() - 1);
            lens[part] += range.end - range.start;
            if parts.len() <= part {
                parts.resize(part + 1, Vec::new());
            }
            let indices = range.clone().filter_map(|position| selection.nth(position));
            parts[part].extend(indices.map(|index| index..index + 1));
        }
        most_of_part = most_of_part.max(lens.into_iter().max().unwrap_or(0));
    }
    parts.retain(|part| !part.is_empty());
    if parts.len() < 2 {
        return None;
    }
    let parts = parts.into_iter().map(|part| part.into_iter().collect()).collect();
    Some(CutDim { dim, parts, share: most_of_part as f64 / most_of_tile.max(1) as f64 })
}

/// Ranges of positions along the outermost dimension of a set of keys, no two with a common group.
fn apart(set: &GroupSet, selection: &[Selection]) -> Vec<Range<u64>> {
    let Some(&dim) = set.dims.first() else { return Vec::new() };
    let count = usize::try_from(selection[dim].len()).unwrap_or(usize::MAX);
    let cells = (set.ids.len() / count.max(1)).max(1);
    // Groups are numbered in the order of their first cells: those behind a cut have greater numbers.
    let mut later = u32::MAX;
    let mut least_after: Vec<u32> = set
        .ids
        .chunks(cells)
        .rev()
        .map(|ids| {
            let after = later;
            later = later.min(ids.iter().copied().min().unwrap_or(u32::MAX));
            after
        })
        .collect();
    least_after.reverse();
    let mut apart = Vec::new();
    let (mut start, mut most) = (0, 0);
    for (position, (ids, after)) in (1..).zip(set.ids.chunks(cells).zip(&least_after)) {
        most = ids.iter().copied().fold(most, u32::max);
        if *after > most {
            apart.push(start..position);
            start = position;
        }
    }
    apart
}
