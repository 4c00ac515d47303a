//! [`RunningState`]: what a window whose frames only grow has seen so far.

use arrow::{buffer::MutableBuffer, datatypes::ArrowNativeType};

use super::walk::Summary;

/// The summaries of all inputs that a window has seen, one for each line of cells along its dimension.
///
/// Frames that begin before a block and grow continue from there: `start state → values of the next indices → end
/// state`. A state fits blocks of the same function, type and number of lines.
#[derive(Debug, Default)]
pub struct RunningState {
    /// The numbers of values.
    counts: Vec<i32>,
    /// The planes of the summaries, one after the other; empty before the first block.
    planes: MutableBuffer,
    /// The number of indices seen.
    seen: usize,
}

impl RunningState {
    /// The state before the first index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.counts.capacity() * size_of::<i32>() + self.planes.capacity()
    }

    /// Prepares the state for a block of so many lines and indices. Returns whether it fits.
    pub(super) fn prepare<S: Summary>(&mut self, summary: &S, lines: usize, length: usize) -> bool {
        self.seen = self.seen.saturating_add(length);
        if self.counts.is_empty() && self.planes.is_empty() {
            self.counts.resize(lines, 0);
            let mut empty = vec![S::Lane::default(); S::PLANES * lines];
            summary.clear(&mut empty);
            self.planes.extend_from_slice(&empty);
        }
        self.counts.len() == lines && self.planes.len() == S::PLANES * lines * size_of::<S::Lane>()
    }

    /// Copies the state of some lines into a slab's.
    pub(super) fn load<L: ArrowNativeType>(
        &self,
        first: usize,
        counts: &mut [i32],
        lanes: &mut [L],
    ) {
        let width = counts.len();
        counts.copy_from_slice(&self.counts[first..first + width]);
        let planes = self.planes.typed_data::<L>();
        for (lanes, plane) in
            lanes.chunks_exact_mut(width.max(1)).zip(planes.chunks_exact(self.counts.len().max(1)))
        {
            lanes.copy_from_slice(&plane[first..first + width]);
        }
    }

    /// Copies a slab's state to that of its lines.
    pub(super) fn store<L: ArrowNativeType>(&mut self, first: usize, counts: &[i32], lanes: &[L]) {
        let (width, lines) = (counts.len(), self.counts.len());
        self.counts[first..first + width].copy_from_slice(counts);
        let planes = self.planes.typed_data_mut::<L>();
        for (lanes, plane) in
            lanes.chunks_exact(width.max(1)).zip(planes.chunks_exact_mut(lines.max(1)))
        {
            plane[first..first + width].copy_from_slice(lanes);
        }
    }
}
