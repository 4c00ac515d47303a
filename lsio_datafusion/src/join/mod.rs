//! Joins inside the scan: a join on coordinates is a set of index maps, and its columns are columns of the scan.
//!
//! ```text
//! rule.rs      finds joins over Zarr scans; says why one stays where it is
//! sides.rs     which side keeps its rows, and which one is looked up
//! keys.rs      keys that fix a dimension of what is looked up: index maps, found on the coordinates
//! fold.rs      the table with the columns of both, and the scan of it
//! ```
//!
//! Of the two scans one is the *anchor*, whose grid the rows have; the other is the *partner*. Each cell of the anchor
//! meets at most one cell of the partner if the keys fix all of the partner's dimensions.

mod fold;
mod keys;
mod rule;
mod sides;

pub use self::rule::JoinPushdown;
