//! [`Frames`]: the indices that each output sees.

use std::ops::Range;

/// For each output of a window, in the order of its dimension, the frame: a range of input indices, which may be
/// empty. Both ends only rise, or both only fall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frames {
    frames: Vec<Range<usize>>,
    falling: bool,
}

/// Frames that no window has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the frames of a window rise or fall, and frame {0} does neither")]
pub struct FramesError(usize);

impl Frames {
    /// Checks that the ends of the frames only rise, or only fall.
    ///
    /// # Errors
    /// The position of the first frame that does neither.
    pub fn new(frames: Vec<Range<usize>>) -> Result<Self, FramesError> {
        let rises =
            |pair: &[Range<usize>]| pair[0].start <= pair[1].start && pair[0].end <= pair[1].end;
        let falls =
            |pair: &[Range<usize>]| pair[0].start >= pair[1].start && pair[0].end >= pair[1].end;
        let Some(broken) = frames.windows(2).position(|pair| !rises(pair)) else {
            return Ok(Self { frames, falling: false });
        };
        match frames.windows(2).position(|pair| !falls(pair)) {
            None => Ok(Self { frames, falling: true }),
            Some(other) => Err(FramesError(broken.max(other) + 1)),
        }
    }

    /// The number of outputs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is no output.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The frame of an output.
    #[must_use]
    pub fn get(&self, output: usize) -> Option<Range<usize>> {
        self.frames.get(output).cloned()
    }

    /// The range from the first index that a frame holds to the last. `0..0` if all are empty.
    #[must_use]
    pub fn bounds(&self) -> Range<usize> {
        let held = || self.frames.iter().filter(|frame| !frame.is_empty());
        let start = held().map(|frame| frame.start).min().unwrap_or(0);
        start..held().map(|frame| frame.end).max().unwrap_or(start)
    }

    /// Whether both ends fall.
    #[must_use]
    pub fn is_falling(&self) -> bool {
        self.falling
    }

    /// The indices of the longest frame.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.frames.iter().map(ExactSizeIterator::len).max().unwrap_or(0)
    }

    /// The indices of the shortest frame.
    pub(super) fn shortest(&self) -> usize {
        self.frames.iter().map(ExactSizeIterator::len).min().unwrap_or(0)
    }

    /// Whether all frames that hold an index end at the same one, and not all begin at the same.
    pub(super) fn only_starts_move(&self) -> bool {
        let held = || self.frames.iter().filter(|frame| !frame.is_empty());
        let Some(first) = held().next() else { return false };
        held().all(|frame| frame.end == first.end) && held().any(|frame| frame.start != first.start)
    }

    /// Whether all frames that hold an index begin at the same one.
    pub(super) fn only_ends_move(&self) -> bool {
        let mut held = self.frames.iter().filter(|frame| !frame.is_empty());
        let Some(first) = held.next() else { return true };
        held.all(|frame| frame.start == first.start)
    }

    /// Whether all frames begin at the first input.
    #[must_use]
    pub fn begin_at_the_start(&self) -> bool {
        self.frames.iter().all(|frame| frame.start == 0)
    }

    /// Whether all frames end behind the last of so many inputs.
    #[must_use]
    pub fn end_at_the_end(&self, length: usize) -> bool {
        self.frames.iter().all(|frame| frame.end == length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rise_or_fall() {
        assert!(Frames::new(vec![]).is_ok_and(|frames| frames.is_empty()));
        assert!(
            Frames::new(vec![0..1, 0..2, Range { start: 3, end: 2 }, 3..4])
                .is_ok_and(|f| !f.is_falling())
        );
        assert!(Frames::new(vec![3..4, 0..4, 0..1]).is_ok_and(|f| f.is_falling()));
        assert_eq!(Frames::new(vec![0..1, 1..2, 0..3]), Err(FramesError(2)));
        let frames = Frames::new(vec![1..1, 2..4, 2..6]).unwrap();
        assert_eq!((frames.bounds(), frames.longest(), frames.shortest()), (2..6, 4, 0));
    }
}
