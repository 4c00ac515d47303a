//! The scan of a Zarr table: a `DataSource` in DataFusion's own `DataSourceExec`.
//!
//! ```text
//! ZarrSource      what to read: columns, selections, filters, order, limit; planned, printed, changed by rules
//!   │ TileQueues  one queue for an execution: its partitions take the next tile from it
//!   ▼
//! Reader          one for a partition: restrict → fetch → filter → fetch the rest → record batches
//! ```

mod metrics;
mod order;
mod queue;
mod source;
mod stream;

pub use source::ZarrSource;
