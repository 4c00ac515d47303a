//! Numbers of cells per group.

use std::ops::Range;

use arrow::buffer::BooleanBuffer;

use super::layout::{GroupLayout, Segment};

/// Number of cells of each group.
#[derive(Clone, Debug)]
pub struct Counts {
    groups: usize,
    each: Vec<i64>,
    /// Differences between the counts of neighbouring groups, for cells with ascending groups: added at the first group
    /// of a row and subtracted after its last, so a row of cells costs two additions.
    steps: Steps,
}

/// Finished numbers, one per group.
#[derive(Clone, Debug)]
pub enum GroupCounts {
    /// Ranges of groups with the same number: the end of each, and the number.
    Runs(Vec<(usize, i64)>),
    /// The number of each group.
    Each(Vec<i64>),
}

impl Counts {
    /// Counts of no cells.
    #[must_use]
    pub fn new(groups: usize) -> Self {
        Self { groups, each: Vec::new(), steps: Steps::default() }
    }

    /// Adds cells of a tile, each `weight` times, where the mask `rows` is true.
    pub fn update(
        &mut self,
        layout: &GroupLayout,
        cells: Range<usize>,
        rows: Option<&BooleanBuffer>,
        weight: u64,
    ) {
        let weight = weight.cast_signed();
        layout.segments(cells, |segment, range| {
            let Some(rows) = rows else {
                return match segment {
                    Segment::Same(group) => self.add(group, range.len() as i64 * weight),
                    Segment::Ascending(first) => self.add_row(first, range.len(), weight),
                    Segment::Scattered(base, offsets) => {
                        offsets.iter().for_each(|offset| self.add(base + *offset as usize, weight));
                    }
                };
            };
            let rows = rows.slice(range.start, range.len());
            match segment {
                Segment::Same(group) => {
                    self.add(group, rows.count_set_bits() as i64 * weight);
                }
                Segment::Ascending(first) => rows.set_slices().for_each(|(start, end)| {
                    self.add_row(first + start, end - start, weight);
                }),
                Segment::Scattered(base, offsets) => rows
                    .set_indices()
                    .for_each(|cell| self.add(base + offsets[cell] as usize, weight)),
            }
        });
    }

    /// Number of cells of each group.
    #[must_use]
    pub fn finish(&self) -> GroupCounts {
        if self.each.is_empty()
            && let Steps::Few { changes, .. } = &self.steps
        {
            return GroupCounts::Runs(runs(changes, self.groups));
        }
        let mut counts =
            if self.each.is_empty() { vec![0; self.groups] } else { self.each.clone() };
        match &self.steps {
            Steps::Few { changes, .. } => {
                let mut start = 0;
                for (end, run) in runs(changes, self.groups) {
                    counts[start..end].iter_mut().for_each(|count| *count += run);
                    start = end;
                }
            }
            Steps::Many(changes) => {
                let mut sum = 0;
                for (count, change) in counts.iter_mut().zip(changes) {
                    sum += change;
                    *count += sum;
                }
            }
        }
        GroupCounts::Each(counts)
    }

    /// Makes place for more groups.
    pub fn grow(&mut self, groups: usize) {
        if groups <= self.groups {
            return;
        }
        self.groups = groups;
        if !self.each.is_empty() {
            self.each.resize(groups, 0);
        }
        if let Steps::Many(changes) = &mut self.steps {
            changes.resize(groups + 1, 0);
        }
    }

    /// Adds the counts of another state over the same groups.
    pub fn merge(&mut self, other: &Self) {
        if self.each.is_empty() {
            self.each.clone_from(&other.each);
        } else {
            self.each.iter_mut().zip(&other.each).for_each(|(own, other)| *own += other);
        }
        match &other.steps {
            Steps::Few { changes, .. } => {
                for (group, change) in changes {
                    self.steps.add(*group, *change, self.groups);
                }
            }
            Steps::Many(changes) => {
                let mut own = self.steps.take_many(self.groups);
                own.iter_mut().zip(changes).for_each(|(own, other)| *own += other);
                self.steps = Steps::Many(own);
            }
        }
    }

    /// Number of groups.
    pub(super) fn groups(&self) -> usize {
        self.groups
    }

    pub(super) fn add(&mut self, group: usize, count: i64) {
        if self.each.is_empty() {
            self.each.resize(self.groups, 0);
        }
        self.each[group] += count;
    }

    pub(super) fn add_row(&mut self, first: usize, len: usize, count: i64) {
        self.steps.add(first, count, self.groups);
        self.steps.add(first + len, -count, self.groups);
    }
}

impl GroupCounts {
    /// Number of groups.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Runs(runs) => runs.last().map_or(0, |run| run.0),
            Self::Each(counts) => counts.len(),
        }
    }

    /// Whether there is no group.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        let (runs, each): (&[_], &[_]) = match self {
            Self::Runs(runs) => (runs, &[]),
            Self::Each(counts) => (&[], counts),
        };
        let starts = std::iter::once(0).chain(runs.iter().map(|run| run.0));
        let runs =
            starts.zip(runs).flat_map(|(start, (end, n))| std::iter::repeat_n(*n, end - start));
        runs.chain(each.iter().copied())
    }

    /// Ranges of groups with the same number, and that number.
    pub fn runs(&self) -> impl Iterator<Item = (Range<usize>, i64)> + '_ {
        let (runs, each): (&[(usize, i64)], &[i64]) = match self {
            Self::Runs(runs) => (runs, &[]),
            Self::Each(counts) => (&[], counts),
        };
        let starts = std::iter::once(0).chain(runs.iter().map(|run| run.0));
        let runs = starts.zip(runs).map(|(start, (end, n))| (start..*end, *n));
        runs.chain(each.iter().enumerate().map(|(group, n)| (group..group + 1, *n)))
    }

    /// Whether each group has at least this number.
    #[must_use]
    pub fn are_at_least(&self, least: i64) -> bool {
        match self {
            Self::Runs(runs) => runs.iter().all(|run| run.1 >= least),
            Self::Each(counts) => counts.iter().all(|count| *count >= least),
        }
    }

    /// The numbers in memory.
    #[must_use]
    pub fn into_vec(self) -> Vec<i64> {
        match self {
            Self::Runs(_) => self.iter().collect(),
            Self::Each(counts) => counts,
        }
    }
}

impl Default for GroupCounts {
    fn default() -> Self {
        Self::Each(Vec::new())
    }
}

/// Changes of a number along groups.
#[derive(Clone, Debug)]
enum Steps {
    /// Groups from which on the number is another, ascending, with the change.
    Few { changes: Vec<(usize, i64)>, last: usize },
    /// The change at each group, and behind the last.
    Many(Vec<i64>),
}

/// Number of groups for each change of which a list keeps track: with more, an array takes less time.
const GROUPS_PER_CHANGE: usize = 32;

impl Steps {
    /// Adds to the change at a group.
    fn add(&mut self, group: usize, change: i64, groups: usize) {
        match self {
            Self::Few { changes, last } => {
                // Rows follow one another: the end of one is the start of the next.
                let is_at = |at: usize| changes.get(at).is_some_and(|own| own.0 == group);
                let at = [*last, *last + 1, 0].into_iter().find(|at| is_at(*at));
                let at =
                    at.ok_or(()).or_else(|()| changes.binary_search_by_key(&group, |own| own.0));
                match at {
                    Ok(at) => {
                        changes[at].1 += change;
                        *last = at;
                    }
                    Err(at) if changes.len() < 2 + groups / GROUPS_PER_CHANGE => {
                        changes.insert(at, (group, change));
                        *last = at;
                    }
                    Err(_) => {
                        let mut many = self.take_many(groups);
                        many[group] += change;
                        *self = Self::Many(many);
                    }
                }
            }
            Self::Many(changes) => changes[group] += change,
        }
    }

    /// Takes the change at each group out.
    fn take_many(&mut self, groups: usize) -> Vec<i64> {
        match std::mem::take(self) {
            Self::Many(changes) => changes,
            Self::Few { changes, .. } => {
                let mut many = vec![0; groups + 1];
                changes.iter().for_each(|(group, change)| many[*group] += change);
                many
            }
        }
    }
}

impl Default for Steps {
    fn default() -> Self {
        Self::Few { changes: Vec::new(), last: 0 }
    }
}

/// Ranges of the same number that changes make: the end of each, and the number.
fn runs(changes: &[(usize, i64)], groups: usize) -> Vec<(usize, i64)> {
    let (mut runs, mut start, mut number) = (Vec::new(), 0, 0);
    let behind = std::iter::once((groups, 0));
    for (group, change) in changes.iter().copied().filter(|own| own.1 != 0).chain(behind) {
        if group > start {
            runs.push((group, number));
            start = group;
        }
        number += change;
    }
    runs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_those_of_plain_loops(
            groups in 1_usize..200,
            rows in prop::collection::vec((0.0..1.0, 0.0..1.0, 1_i64..4, 0..8), 0..60),
            more in 0_usize..40,
        ) {
            let mut plain = vec![0_i64; groups];
            let mut parts = [Counts::new(groups), Counts::new(groups)];
            for (number, (start, len, count, kind)) in rows.iter().enumerate() {
                let first = (start * groups as f64) as usize;
                let len = (len * (groups - first) as f64) as usize;
                let own = &mut parts[number % 2];
                if *kind == 0 {
                    own.add(first, *count);
                    plain[first] += count;
                } else {
                    own.add_row(first, len, *count);
                    plain[first..first + len].iter_mut().for_each(|own| *own += count);
                }
            }
            let [mut one, other] = parts;
            one.merge(&other);
            one.grow(groups + more);
            plain.resize(groups + more, 0);
            let counts = one.finish();
            prop_assert_eq!(counts.len(), plain.len());
            prop_assert_eq!(counts.iter().collect::<Vec<_>>(), plain.clone());
            let mut of_runs = Vec::new();
            for (range, n) in counts.runs() {
                prop_assert!(range.start == of_runs.len() && !range.is_empty());
                of_runs.resize(range.end, n);
            }
            prop_assert_eq!(&of_runs, &plain);
            for least in 0..4 {
                prop_assert_eq!(counts.are_at_least(least), plain.iter().all(|n| *n >= least));
            }
            prop_assert_eq!(counts.into_vec(), plain);
        }
    }

    #[test]
    fn rows_that_come_again_are_few_runs() {
        let mut counts = Counts::new(6400);
        for _ in 0..3 {
            (0..6400).step_by(100).for_each(|first| counts.add_row(first, 100, 1));
        }
        assert!(matches!(counts.finish(), GroupCounts::Runs(runs) if runs == [(6400, 3)]));
        // A hole in every row.
        (0..6400).step_by(20).for_each(|cell| counts.add_row(cell, 1, -1));
        assert!(
            matches!(counts.finish(), GroupCounts::Each(each) if each[20] == 2 && each[21] == 3)
        );
    }
}
