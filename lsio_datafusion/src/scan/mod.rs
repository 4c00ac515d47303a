//! The scan of a Zarr table: a `DataSource` in DataFusion's own `DataSourceExec`.
//!
//! ```text
//! ScanSpec        what to read, as plain data: columns, selections, order, limit, tiles
//!   │
//! ZarrSource      the same with a session's filters; planned, printed, changed by rules
//!   │ TileQueues  one queue for an execution: its partitions take the next tile from it
//!   ▼
//! TileReader      one for a partition: restrict → fetch → filter → fetch the rest
//!   │ decode
//! RowStream       record batches of the tiles' rows; an aggregate takes the tiles as they are
//!   │ TilesInOrder  the same from several readers, where one partition has to give all rows in order
//! ```

mod ahead;
mod in_order;
mod masks;
mod memory;
mod metrics;
mod order;
mod queue;
mod reader;
mod source;
mod spec;
mod stream;

pub use self::{
    source::ZarrSource,
    spec::{DatasetRef, ScanSpec},
};
pub(crate) use {
    memory::PartitionMemory,
    queue::{Execution, Partition, TileNumbers},
    reader::{ReadyTile, TileReader},
};
