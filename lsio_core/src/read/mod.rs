//! Reading a table: plan → fetch → decode.
//!
//! ```text
//! Scan          which columns, and the grid of tiles (the chunks of the first full-rank variable)
//!   │ fetch     the bytes of the chunks under a tile, some tiles ahead
//!   │ decode    one tile at a time, inline: chunks → values at each column's own rank
//!   ▼
//! Tile          a box of cells; broadcast to rows a batch at a time
//! ```

mod broadcast;
mod scan;

pub use scan::{Counts, Scan, Tile};
