//! The scan of a Zarr table: a `DataSource` in DataFusion's own `DataSourceExec`.
//!
//! ```text
//! ZarrSource      what to read: columns, limit, partitions; planned, printed, swapped with projections
//!   │ TileQueue   one for an execution: its partitions take the next tile from it
//!   ▼
//! ZarrStream      one for a partition: tiles → record batches
//! ```

mod queue;
mod source;
mod stream;

pub(crate) use source::Reading;
pub use source::ZarrSource;
