//! Dense reductions: the values of a tile into the states of groups, without rows and without hashing.
//!
//! ```text
//! Layout      the group of each cell of a tile: the same over long runs, ascending along the
//!    │        innermost dimension, or scattered
//!    │ segments
//! Reduction   count, sum, minimum, maximum and moments of each group, for one type of values
//!    │ blocks that fit the first-level cache
//! Pairs       means, spreads and the co-moment of two numbers, of each group
//! Buckets     histograms of each group
//! Pencils     all values of each group, for statistics that need them all
//! Ranked      the values of a rank, among those of a group
//! Arithmetic  expressions on several columns, computed first, in blocks of the same size
//! Unpacking   stored integers into doubles, where their sums and comparisons aren't taken as they are
//! kernels     the inner loops, compiled for several vector widths and chosen at run time
//! ```
//!
//! Groups are numbered from 0 on. A state is an array with one element per group. Sums of floating-point values are
//! float64.

mod arithmetic;
mod buckets;
mod comparison;
mod counts;
mod float_column;
mod integer_sums;
mod kernels;
mod layout;
mod moments;
mod native;
mod packed;
#[cfg(test)]
mod packed_cases;
mod packed_comparison;
mod pair_moments;
mod pair_rows;
mod pairs;
mod pencil_part;
mod pencils;
mod ranked;
mod reduction;
mod unpacking;

pub(crate) use self::native::Native;
pub use self::{
    arithmetic::{Arithmetic, Function, Operation},
    buckets::{Buckets, Histograms, NoBuckets},
    comparison::{Comparison, Number, compare, compare_stored},
    counts::{Counts, GroupCounts},
    float_column::FloatColumn,
    layout::{GroupKeys, GroupLayout},
    moments::Moments,
    pair_moments::PairMoments,
    pairs::{PairReduction, PairSide, PairStates, PairsWanted},
    pencil_part::TypedPart,
    pencils::{PencilKind, PencilPart, Pencils},
    ranked::Ranked,
    reduction::{Misfit, Reduction, States, Wanted},
    unpacking::{StoredNumbers, Unpacking},
};
pub use crate::simd::Simd;
