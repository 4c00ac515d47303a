//! Reading a table: plan → fetch → decode.
//!
//! ```text
//! Scan          which columns and indices, cut into tiles that are computed from their numbers
//!   │ block     the selected cells of a tile
//!   │ fetch     the chunks that hold them: whole objects, or ranges of shards, in a task of its own
//!   │ decode    a chunk at a time, inline: codecs → one pass that picks the selected cells → CF
//!   ▼
//! Tile          values at each column's own rank; or Pieces, for callers that need a piece at a time; or Strips, where
//!   │           columns are computed
//!   │ rows      broadcast, a batch at a time
//! ```
//!
//! The caller decides the order of fetches: some columns first, to find the wanted rows, and then only those chunks of
//! other columns that hold a wanted row.

mod broadcast;
mod carry;
mod column;
mod columns;
mod decode;
mod fetch;
mod fetched;
pub mod into;
mod lookup;
mod objects;
mod packed_cells;
mod part;
mod pieces;
mod runs;
mod scan;
mod shared;
mod source;
mod stored;
mod strips;
mod tile;
mod tile_shape;
mod tiles;
mod variable;
mod visits;
mod whole;

pub use crate::dataset::nan_to_null;

pub use self::{
    decode::Decoded,
    fetched::{FetchTask, Fetched},
    pieces::{Pieces, Scratch},
    scan::{Scan, ScanOptions},
    strips::Strips,
    tile::{Rows, Tile},
    tiles::{Block, DimOrder, Tiles},
};
