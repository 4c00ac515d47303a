//! Writes rows as a Zarr group: `COPY (…) TO 'x.zarr'`.
//!
//! ```text
//! options.rs  options of the statement
//! rule.rs     what the query says of its columns is noted before it is rewritten
//! format.rs   Zarr as a file format of COPY
//! exec.rs     ZarrWriteExec, which chooses how the rows of its input become arrays:
//!   slabs.rs    the result of an aggregate in the scan is arrays over its keys
//!   tiles.rs    tiles of a scan are boxes of its grid
//!   rows.rs     other rows are placed into the grid of their labels
//! grid.rs     the new arrays: dimensions, chunks, coordinates
//! fields.rs   how a column is stored: type, fill value, attributes
//! ```

mod exec;
mod fields;
mod format;
mod grid;
mod memory;
mod options;
mod rows;
mod rule;
mod slabs;
mod tiles;
mod whole;

pub(crate) use self::{
    format::{ZarrFormatFactory, is_zarr},
    rule::ZarrTargets,
};
