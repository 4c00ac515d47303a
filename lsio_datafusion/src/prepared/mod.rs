//! Results that scans look up: plans that run before them, placed into dense arrays.
//!
//! ```text
//! exec.rs      ZarrPrepareExec: the main plan, and beside it the plans whose rows its scans look up
//! slot.rs      where such a plan's rows are, for each execution
//! lookup.rs    rows as an array over their keys: columns of a scan's table
//! axes.rs      results of an aggregate are such an array already: maps to its axes
//! operators.rs operators above the aggregate, on its results
//! ordinals.rs  numbers of distinct keys
//! unique.rs    columns that hold each combination of values once
//! ```

mod axes;
mod exec;
mod lookup;
mod operators;
mod ordinals;
mod slot;
mod unique;

pub use self::exec::ZarrPrepareExec;
pub(crate) use self::{
    exec::{Fallback, Prepared, with_prepared},
    lookup::{PreparedColumn, PreparedKey, PreparedLookup},
    operators::above_aggregate,
    ordinals::{NONE, Ordinals},
    slot::Slot,
    unique::unique_columns,
};
