//! Reading a table: plan → fetch → decode.
//!
//! ```text
//! Scan          which columns and indices, cut into tiles that are computed from their numbers
//!   │ block     the selected cells of a tile
//!   │ fetch     the chunks that hold them: whole objects, or ranges of shards, in a task of its own
//!   │ decode    a chunk at a time, inline: codecs → one pass that picks the selected cells → CF
//!   ▼
//! Tile          values at each column's own rank; or Pieces, for who needs no more at a time
//!   │ rows      broadcast, a batch at a time
//! ```
//!
//! Who drives it decides what is fetched when: some columns first, to see which rows are wanted, and
//! the chunks of other columns only where one is.

mod broadcast;
mod column;
mod fetch;
mod part;
mod pieces;
mod scan;
mod shared;
mod tile;
mod tiles;
mod variable;

pub use crate::dataset::nan_to_null;

pub use self::{
    pieces::{Pieces, Scratch},
    scan::{Decoded, FetchTask, Fetched, Scan, ScanOptions},
    tile::{Rows, Tile},
    tiles::{Block, DimOrder, Tiles},
};
