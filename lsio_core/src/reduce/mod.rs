//! Dense reductions: the values of a tile into the states of groups, without rows and without hashing.
//!
//! ```text
//! Layout      which group each cell of a tile belongs to: one for long runs, ascending along the
//!    │        innermost dimension, or scattered
//!    │ segments
//! Reduction   count, sum, minimum, maximum and moments of each group, for one type of values
//!    │ blocks that fit the first-level cache
//! Arithmetic  what is computed of several columns before, in blocks of the same size
//! kernels     the inner loops, compiled for several widths of vectors and chosen at run time
//! ```
//!
//! Groups are numbered from 0 on, and every state is an array with one element for each. Sums of
//! floating values are sums of doubles.

mod arithmetic;
mod comparison;
mod integer_sums;
mod kernels;
mod layout;
mod moments;
mod native;
mod reduction;

pub use self::{
    arithmetic::{Arithmetic, Function, Operation},
    comparison::{Comparison, Number, compare},
    layout::{Keys, Layout},
    moments::Moments,
    reduction::{Counts, Misfit, Reduction, States, Wanted},
};
pub use crate::simd::Simd;
