//! The scan of a Zarr table: a `DataSource` in DataFusion's own `DataSourceExec`.
//!
//! ```text
//! ZarrSource      what to read: columns, selections, filters, order, limit; planned, printed, changed by rules
//!   │ TileQueues  one queue for an execution: its partitions take the next tile from it
//!   ▼
//! TileReader      one for a partition: restrict → fetch → filter → fetch the rest
//!   │ decode
//! RowStream       record batches of the tiles' rows; an aggregate takes the tiles as they are
//! ```

mod masks;
mod memory;
mod metrics;
mod order;
mod queue;
mod reader;
mod source;
mod stream;

pub use source::ZarrSource;
pub(crate) use {
    memory::Memory,
    queue::{Execution, TileNumbers},
    reader::{Ready, TileReader},
};
