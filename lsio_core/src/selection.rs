//! Sets of wanted indices of a dimension.

use std::ops::Range;

use arrow::{
    array::{Array as _, BooleanArray},
    compute::prep_null_mask_filter,
};
use serde::{Deserialize, Serialize};

/// A set of indices of one dimension: sorted ranges with a gap between any two.
///
/// One selection per dimension of a grid selects the cells at which all of them meet. Operations take time in the
/// number of ranges, not of indices: a selection of all indices is one range.
///
/// ```
/// use lsio_core::Selection;
///
/// let selection: Selection = [2..5, 5..6, 9..12].into_iter().collect();
/// assert_eq!(selection.len(), 7);
/// assert_eq!(selection.ranges().count(), 2);
/// // The first three chunks of four indices hold selected indices.
/// assert_eq!(selection.chunks(4).len(), 3);
/// ```
/// The wire form is the list of ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Range<u64>>", into = "Vec<Range<u64>>")]
pub struct Selection {
    /// Each range, preceded by the number of selected indices before it.
    ranges: Vec<(u64, Range<u64>)>,
    len: u64,
}

impl Selection {
    /// All indices of a dimension of `size` indices.
    #[must_use]
    pub fn all(size: u64) -> Self {
        std::iter::once(0..size).collect()
    }

    /// The indices at which a mask is true. NULL counts as false.
    #[must_use]
    pub fn from_mask(mask: &BooleanArray) -> Self {
        true_runs(mask).collect()
    }

    /// The number of indices.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the selection has no index.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The ranges, in ascending order.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = Range<u64>> + '_ {
        self.ranges.iter().map(|(_, range)| range.clone())
    }

    /// The indices, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.ranges().flatten()
    }

    /// The range from the first index to the last. `0..0` if empty.
    #[must_use]
    pub fn bounds(&self) -> Range<u64> {
        match self.ranges.first().zip(self.ranges.last()) {
            Some(((_, first), (_, last))) => first.start..last.end,
            None => 0..0,
        }
    }

    /// The index at a position, counted from 0. `None` beyond the last.
    #[must_use]
    pub fn nth(&self, position: u64) -> Option<u64> {
        let next = self.ranges.partition_point(|(before, _)| *before <= position);
        let (before, range) = self.ranges.get(next.checked_sub(1)?)?;
        Some(range.start + (position - before)).filter(|index| *index < range.end)
    }

    /// The number of selected indices below `index`.
    #[must_use]
    pub fn rank(&self, index: u64) -> u64 {
        let next = self.ranges.partition_point(|(_, range)| range.start <= index);
        match next.checked_sub(1).and_then(|i| self.ranges.get(i)) {
            Some((before, range)) => before + index.min(range.end) - range.start,
            None => 0,
        }
    }

    /// The selected indices in a range.
    #[must_use]
    pub fn within(&self, range: &Range<u64>) -> Self {
        let first = self.ranges.partition_point(|(_, own)| own.end <= range.start);
        self.ranges[first..]
            .iter()
            .map_while(|(_, own)| {
                let part = own.start.max(range.start)..own.end.min(range.end);
                (part.start < part.end).then_some(part)
            })
            .collect()
    }

    /// The indices in both selections.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let (few, many) =
            if self.ranges.len() <= other.ranges.len() { (self, other) } else { (other, self) };
        few.ranges().flat_map(|range| many.within(&range).ranges().collect::<Vec<_>>()).collect()
    }

    /// The selected indices for which a mask is true. The mask has one value per selected index, in order.
    #[must_use]
    pub fn masked(&self, mask: &BooleanArray) -> Self {
        let mut own = self.ranges.iter().peekable();
        let mut kept = Vec::new();
        for run in true_runs(mask) {
            let mut position = run.start;
            while position < run.end {
                let Some((before, range)) = own.peek() else { break };
                let behind = before + (range.end - range.start);
                if position >= behind {
                    own.next();
                    continue;
                }
                let end = run.end.min(behind);
                kept.push(range.start + (position - before)..range.start + (end - before));
                position = end;
            }
        }
        kept.into_iter().collect()
    }

    /// The numbers of the chunks of `size` indices that hold any selected index.
    #[must_use]
    pub fn chunks(&self, size: u64) -> Self {
        self.ranges().map(|range| range.start / size..(range.end - 1) / size + 1).collect()
    }
}

/// Makes a selection of ranges with ascending starts. Ranges may touch or overlap.
impl FromIterator<Range<u64>> for Selection {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut selection = Self::default();
        for range in ranges {
            if range.start >= range.end {
                continue;
            }
            match selection.ranges.last_mut() {
                Some((_, last)) if range.start <= last.end => {
                    let end = last.end.max(range.end);
                    selection.len += end - last.end;
                    last.end = end;
                }
                _ => {
                    let before = selection.len;
                    selection.len += range.end - range.start;
                    selection.ranges.push((before, range));
                }
            }
        }
        selection
    }
}

/// Makes a selection of ranges in any order.
impl From<Vec<Range<u64>>> for Selection {
    fn from(mut ranges: Vec<Range<u64>>) -> Self {
        ranges.sort_unstable_by_key(|range| range.start);
        ranges.into_iter().collect()
    }
}

impl From<Selection> for Vec<Range<u64>> {
    fn from(selection: Selection) -> Self {
        selection.ranges().collect()
    }
}

/// The runs of positions at which a mask is true.
fn true_runs(mask: &BooleanArray) -> impl Iterator<Item = Range<u64>> + use<> {
    let mask = if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() };
    let runs: Vec<_> = mask.values().set_slices().collect();
    runs.into_iter().map(|(start, end)| start as u64..end as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn mask() -> impl Strategy<Value = Vec<Option<bool>>> {
        // Long runs and single indices.
        prop::collection::vec((prop::option::weighted(0.9, any::<bool>()), 1_usize..5), 0..20)
            .prop_map(|runs| runs.into_iter().flat_map(|(v, n)| vec![v; n]).collect())
    }

    fn set(selection: &Selection) -> BTreeSet<u64> {
        selection.iter().collect()
    }

    fn indices(mask: &[Option<bool>]) -> BTreeSet<u64> {
        (0..mask.len() as u64).filter(|&i| mask[i as usize] == Some(true)).collect()
    }

    proptest! {
        #[test]
        fn is_the_set_of_its_indices(one in mask(), other in mask(), size in 1_u64..6, at in 0_u64..60) {
            let selection = Selection::from_mask(&BooleanArray::from(one.clone()));
            let expected = indices(&one);
            prop_assert_eq!(set(&selection), expected.clone());
            prop_assert_eq!(selection.len(), expected.len() as u64);
            let ends: Vec<_> = selection.ranges().collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].end < pair[1].start));

            let sorted: Vec<u64> = expected.iter().copied().collect();
            for position in 0..=sorted.len() {
                prop_assert_eq!(selection.nth(position as u64), sorted.get(position).copied());
            }
            prop_assert_eq!(selection.rank(at), expected.range(..at).count() as u64);
            let range = at / 2..at;
            prop_assert_eq!(set(&selection.within(&range)), expected.range(range).copied().collect());
            let both = selection.intersect(&Selection::from_mask(&BooleanArray::from(other.clone())));
            prop_assert_eq!(set(&both), expected.intersection(&indices(&other)).copied().collect());
            let chunks: BTreeSet<u64> = expected.iter().map(|i| i / size).collect();
            prop_assert_eq!(set(&selection.chunks(size)), chunks);

            let picks: Vec<Option<bool>> =
                (0..sorted.len()).map(|i| other.get(i).copied().flatten()).collect();
            let masked = selection.masked(&BooleanArray::from(picks.clone()));
            let wanted = sorted.iter().zip(&picks).filter(|(_, p)| **p == Some(true)).map(|(i, _)| *i);
            prop_assert_eq!(set(&masked), wanted.collect());
        }
    }

    #[test]
    fn of_nothing() {
        assert!(Selection::all(0).is_empty());
        assert_eq!(Selection::default().bounds(), 0..0);
        assert_eq!(Selection::default().nth(0), None);
        assert_eq!(Selection::all(u64::MAX).nth(5), Some(5));
    }
}
