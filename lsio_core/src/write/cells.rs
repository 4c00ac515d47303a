//! Copies between boxes of cells: which runs of a box lie where in a chunk.

use crate::grid::{Region, strides, unravel};

/// The cells that two boxes share. `None` if there are none.
pub(super) fn shared(one: &Region, other: &Region) -> Option<Region> {
    let mut start = Vec::with_capacity(one.start.len());
    let mut shape = Vec::with_capacity(one.start.len());
    for dim in 0..one.start.len() {
        let first = one.start[dim].max(other.start[dim]);
        let end = |own: &Region| own.start[dim].saturating_add(own.shape[dim]);
        let end = end(one).min(end(other));
        start.push(first);
        shape.push(end.checked_sub(first).filter(|size| *size > 0)?);
    }
    Some(Region { start, shape })
}

/// Calls `f` for runs of cells that lie side by side in both boxes: with the run's first cell in `from`, in `to`, and its
/// length. All cells of `part` are in both.
pub(super) fn for_each_run(
    part: &Region,
    from: &Region,
    to: &Region,
    mut f: impl FnMut(usize, usize, usize),
) {
    let rank = part.shape.len();
    // Inner dimensions that both boxes have as a whole, and the one outside of them, lie side by side.
    let whole = (0..rank)
        .rev()
        .take_while(|&dim| part.shape[dim] == from.shape[dim] && part.shape[dim] == to.shape[dim]);
    let outer = rank.saturating_sub(whole.count() + 1);
    let len = part.shape[outer..].iter().product::<u64>();
    let place = |own: &Region, strides: &[u64]| {
        let along = part.start.iter().zip(&own.start).zip(strides);
        along.map(|((start, first), stride)| (start - first) * stride).sum::<u64>()
    };
    let (from_strides, to_strides) = (strides(&from.shape), strides(&to.shape));
    let (from_start, to_start) = (place(from, &from_strides), place(to, &to_strides));
    let outer = &part.shape[..outer];
    for run in 0..outer.iter().product() {
        let (mut at, mut there) = (from_start, to_start);
        for (dim, index) in unravel(run, outer).into_iter().enumerate() {
            at += index * from_strides[dim];
            there += index * to_strides[dim];
        }
        // Both boxes are in memory.
        f(at as usize, there as usize, len as usize);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn region() -> impl Strategy<Value = Region> {
        (prop::collection::vec(0..6_u64, 3), prop::collection::vec(1..5_u64, 3))
            .prop_map(|(start, shape)| Region { start, shape })
    }

    proptest! {
        #[test]
        fn each_shared_cell_is_copied_once(from in region(), to in region()) {
            let inside = |own: &Region, at: &[u64]| {
                let mut all = at.iter().zip(&own.start).zip(&own.shape);
                all.all(|((at, start), size)| at >= start && at - start < *size)
            };
            let place = |own: &Region, at: &[u64]| -> u64 {
                let strides = strides(&own.shape);
                at.iter().zip(&own.start).zip(strides).map(|((at, start), s)| (at - start) * s).sum()
            };
            let mut expected = Vec::new();
            for cell in 0..11 * 11 * 11 {
                let at = unravel(cell, &[11, 11, 11]);
                if inside(&from, &at) && inside(&to, &at) {
                    expected.push((place(&from, &at) as usize, place(&to, &at) as usize));
                }
            }
            let mut found = Vec::new();
            if let Some(part) = shared(&from, &to) {
                for_each_run(&part, &from, &to, |one, other, len| {
                    found.extend((0..len).map(|step| (one + step, other + step)));
                });
            }
            prop_assert_eq!(found, expected);
        }
    }
}
