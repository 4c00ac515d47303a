//! Aggregates over frames that move along one dimension of a block: rolling means, cumulative sums.
//!
//! ```text
//! Frames        the indices that each output sees
//! running       one function over a block: a slab of neighbouring cells at a time, which stays in the cache
//!   │ slabs     rows of lanes, as they lie in the block or transposed
//!   │ walk      the rows that come into a frame and leave it: a queue of two stacks
//!   │ slide     the same where rows leave exactly: a few lanes at a time through all rows
//! kernels       counts and integer sums, sums and means, moments, extremes: one summary a lane
//! loops         the inner loops, compiled for several vector widths and chosen at run time
//! ```
//!
//! A row that leaves a frame is subtracted only where sums are exact, from integers and from floats of similar magnitude:
//! after 10¹⁷ or an infinity, every later frame would be wrong. Where each frame contains the one before it, a
//! [`RunningState`] continues from block to block.

mod exact;
mod exact_floats;
mod extremes;
mod frames;
mod function;
mod loops;
mod moments;
mod slabs;
mod slide;
mod state;
mod sums;
mod validity;
mod walk;

#[cfg(test)]
mod tests;

pub use self::{
    frames::{Frames, FramesError},
    function::{BlockShape, Running, RunningError, RunningFunction},
    state::RunningState,
};
