//! The scan of a Zarr table: a `DataSource` in DataFusion's own `DataSourceExec`.
//!
//! ```text
//! ScanSpec        what to read, as plain data: columns, selections, order, limit, tiles
//!   │
//! ZarrSource      the same with a session's filters; planned, printed, changed by rules
//!   │ TileQueues  one queue for an execution: its partitions take the next tile from it
//!   │ Shares      or shares of tiles, of which each worker of an aggregate opens its own
//!   ▼
//! TileReader      one for a partition: restrict → fetch → filter → fetch the rest
//!   │ decode
//! TileRanges      rows of the tiles, range by range; an aggregate takes the tiles as they are
//!   │ RowStream     record batches of a partition
//!   │ TilesInOrder  the same from several readers, where one partition gives all rows in order: GridOrderExec
//! ```

mod ahead;
mod collected;
mod grid_order;
mod in_order;
mod masks;
mod memory;
mod metrics;
mod order;
mod queue;
mod reader;
mod shares;
mod source;
mod spec;
mod stream;
mod tile_rows;

pub use self::{
    source::ZarrSource,
    spec::{DatasetRef, ScanSpec},
};
pub(crate) use {
    grid_order::GridOrder,
    memory::PartitionMemory,
    queue::{Execution, Partition, TileNumbers},
    reader::{ReadyTile, TileReader},
    shares::Shares,
};
