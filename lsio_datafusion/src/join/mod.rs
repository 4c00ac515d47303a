//! Joins inside the scan: a join on coordinates is a set of index maps, and its columns are columns of the scan.
//!
//! ```text
//! rule.rs      finds joins over Zarr scans; says why one stays where it is
//! sides.rs     which side keeps its rows, and which one is looked up
//! keys.rs      keys that fix a dimension of what is looked up: index maps, found on the coordinates
//! columns.rs   columns of what is looked up, as columns of the scan
//! fold.rs      the table with the columns of both, and the scan of it
//! ```
//!
//! One side is the *anchor*: a scan, whose grid the rows have. The other is the *partner*: a scan too, or a plan that no
//! two rows of which have the same keys, such as an aggregate; it runs first (`prepared/`). Each cell of the anchor meets
//! at most one cell of the partner if the keys fix all of the partner's dimensions.

mod columns;
mod fold;
mod keys;
mod rule;
mod sides;

pub use self::rule::JoinPushdown;
pub(crate) use self::{fold::Folded, rule::pushed};
