//! The way of frames over a slab's rows.

use std::ops::Range;

use arrow::datatypes::ArrowNativeType;

use super::{
    frames::Frames,
    slabs::{Output, Rows},
};
use crate::reduce::{Native, Simd};

/// Summary of a frame's rows for each lane of a slab: planes of lanes, one after the other.
pub(super) trait Summary {
    type Stored: Native;
    type Lane: ArrowNativeType;
    type Out: ArrowNativeType;

    const PLANES: usize;

    /// Whether rows that leave can be subtracted, which is exact for integers only.
    const EXACT: bool;

    /// The values without which a frame has no result.
    fn least_count(&self) -> i32 {
        1
    }

    /// Makes lanes those of no row.
    fn clear(&self, lanes: &mut [Self::Lane]) {
        lanes.fill(Self::Lane::default());
    }

    fn add(&mut self, lanes: &mut [Self::Lane], row: Row<'_, Self::Stored>);

    /// Subtracts a row, if that is exact.
    fn subtract(&mut self, _lanes: &mut [Self::Lane], _row: Row<'_, Self::Stored>) {}

    /// Adds newer rows to older ones.
    fn merge(&self, older: &mut [Self::Lane], newer: &[Self::Lane]);

    fn finish(&mut self, lanes: &[Self::Lane], counts: &[i32], to: &mut [Self::Out]);

    /// Computes all outputs of a slab, if there is a faster way than row by row. Returns whether it has.
    fn slide(
        &self,
        _walk: &Walk<'_>,
        _rows: &Rows<'_, Self::Stored>,
        _to: &mut Output<'_, Self::Out>,
        _valid: Option<&mut Output<'_, u8>>,
    ) -> bool {
        false
    }
}

/// Values of one index of the window's dimension, and which are valid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a, T> {
    pub(super) values: &'a [T],
    pub(super) valid: RowValidity<'a>,
}

/// Which values of a row are missing.
#[derive(Clone, Copy, Debug)]
pub(super) enum RowValidity<'a> {
    All,
    NotNan,
    /// Those with a 0.
    Bytes(&'a [u8]),
}

/// Directions in which frames are visited, so that both of their ends rise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<'a> {
    frames: &'a Frames,
    /// The number of inputs.
    length: usize,
    /// Whether outputs are visited from the last to the first.
    backwards: bool,
    /// Whether inputs are counted from the last.
    mirrored: bool,
    /// Whether each frame continues what was seen before the block.
    continued: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(frames: &'a Frames, length: usize) -> Self {
        let mirrored = frames.only_starts_move();
        // Frames of which only the starts move grow towards the first input.
        let backwards = frames.is_falling() != mirrored;
        Self { frames, length, backwards, mirrored, continued: false }
    }

    /// The way of frames that continue a state; `None` unless all begin where the block does, or all end where it does.
    pub(super) fn continuing(frames: &'a Frames, length: usize) -> Option<Self> {
        let walk = |mirrored: bool| {
            let backwards = frames.is_falling() != mirrored;
            Self { frames, length, backwards, mirrored, continued: true }
        };
        if frames.begin_at_the_start() {
            return Some(walk(false));
        }
        frames.end_at_the_end(length).then(|| walk(true))
    }

    /// The number of outputs.
    pub(super) fn outputs(&self) -> usize {
        self.frames.len()
    }

    /// Rows that the older of two stacks may hold.
    pub(super) fn depth(&self) -> usize {
        let grows = self.continued || self.mirrored || self.frames.only_ends_move();
        if grows { 1 } else { self.frames.longest().min(self.length) }
    }

    /// Whether a frame may have fewer than `least` inputs.
    pub(super) fn may_lack(&self, least: i32) -> bool {
        i32::try_from(self.frames.shortest()).is_ok_and(|shortest| shortest < least)
    }

    pub(super) fn output(&self, step: usize) -> usize {
        if self.backwards { self.frames.len() - 1 - step } else { step }
    }

    pub(super) fn frame(&self, output: usize) -> Range<usize> {
        let frame = self.frames.get(output).unwrap_or_default();
        let frame = frame.start.min(self.length)..frame.end.min(self.length);
        if self.mirrored { self.length - frame.end..self.length - frame.start } else { frame }
    }

    fn input(&self, at: usize) -> usize {
        if self.mirrored { self.length - 1 - at } else { at }
    }
}

/// State of a slab while its frames are visited.
#[derive(Debug)]
pub(super) struct Progress<'a, S: Summary> {
    simd: Simd,
    summary: &'a mut S,
    /// Rows before `split` that are in the frame: for each, the summary from it to the last of them. The first is that
    /// of row `first`.
    older: Vec<S::Lane>,
    first: usize,
    split: usize,
    /// Rows from `split` to `end`.
    newer: Vec<S::Lane>,
    end: usize,
    /// Where the counts begin.
    start: usize,
    pub(super) counts: Vec<i32>,
    merged: Vec<S::Lane>,
}

impl<'a, S: Summary> Progress<'a, S> {
    pub(super) fn new(simd: Simd, summary: &'a mut S, width: usize) -> Self {
        let mut newer = vec![S::Lane::default(); S::PLANES * width];
        summary.clear(&mut newer);
        let merged = newer.clone();
        Self {
            simd,
            summary,
            older: Vec::new(),
            first: 0,
            split: 0,
            newer,
            end: 0,
            start: 0,
            counts: vec![0; width],
            merged,
        }
    }

    /// Counts and summary of what was seen so far.
    pub(super) fn seen(&mut self) -> (&mut [i32], &mut [S::Lane]) {
        (&mut self.counts, &mut self.newer)
    }

    /// Computes all outputs of a slab.
    pub(super) fn run(
        &mut self,
        walk: &Walk<'_>,
        rows: &Rows<'_, S::Stored>,
        to: &mut Output<'_, S::Out>,
        mut valid: Option<&mut Output<'_, u8>>,
    ) {
        let least = self.summary.least_count();
        for step in 0..walk.frames.len() {
            let output = walk.output(step);
            let frame = walk.frame(output);
            if frame.is_empty() && !walk.continued {
                // Counts of nothing are 0, and all else is NULL.
                to.row(output).fill(S::Out::default());
                if let Some(valid) = &mut valid {
                    valid.row(output).fill(u8::from(least == 0));
                }
                continue;
            }
            if !walk.continued {
                self.leave(walk, rows, frame.start);
            }
            self.enter(walk, rows, frame.end);
            let lanes = if self.split > frame.start {
                let size = self.newer.len();
                let place = (frame.start - self.first) * size;
                self.merged.copy_from_slice(&self.older[place..place + size]);
                self.summary.merge(&mut self.merged, &self.newer);
                &self.merged
            } else {
                &self.newer
            };
            self.summary.finish(lanes, &self.counts, to.row(output));
            if let Some(valid) = &mut valid {
                self.simd.enough(valid.row(output), &self.counts, least);
            }
        }
        if walk.continued {
            self.enter(walk, rows, walk.length);
        }
    }

    /// Removes the rows before `start` from the frame.
    fn leave(&mut self, walk: &Walk<'_>, rows: &Rows<'_, S::Stored>, start: usize) {
        for at in self.start..start.min(self.end) {
            let row = rows.row(walk.input(at));
            if S::EXACT {
                self.summary.subtract(&mut self.newer, row);
            }
            count(self.simd, &mut self.counts, row, -1);
        }
        self.start = self.start.max(start);
        if start >= self.end {
            self.summary.clear(&mut self.newer);
            self.counts.fill(0);
            (self.split, self.end) = (start, start);
        } else if start > self.split && !S::EXACT {
            let size = self.newer.len();
            self.older.clear();
            self.older.resize((self.end - start) * size, S::Lane::default());
            self.summary.clear(&mut self.newer);
            for at in (start..self.end).rev() {
                let row = rows.row(walk.input(at));
                self.summary.add(&mut self.newer, row);
                self.older[(at - start) * size..][..size].copy_from_slice(&self.newer);
            }
            self.summary.clear(&mut self.newer);
            (self.first, self.split) = (start, self.end);
        } else if S::EXACT {
            self.split = start;
        }
    }

    /// Adds the rows up to `end` to the frame.
    fn enter(&mut self, walk: &Walk<'_>, rows: &Rows<'_, S::Stored>, end: usize) {
        for at in self.end..end {
            let row = rows.row(walk.input(at));
            self.summary.add(&mut self.newer, row);
            count(self.simd, &mut self.counts, row, 1);
        }
        self.end = self.end.max(end);
    }
}

/// Adds the valid values of a row to the counts, or subtracts them.
fn count<T: Native>(simd: Simd, counts: &mut [i32], row: Row<'_, T>, sign: i32) {
    match row.valid {
        RowValidity::All => counts.iter_mut().for_each(|count| *count += sign),
        RowValidity::NotNan => simd.count_each_but_nan(counts, row.values, sign),
        RowValidity::Bytes(valid) => simd.count_each(counts, valid, sign),
    }
}
