//! The session's memory as that of a writer.

use std::sync::Arc;

use datafusion::execution::{
    TaskContext,
    memory_pool::{MemoryConsumer, MemoryReservation},
};
use lsio_core::{Error, Result, write::WriteMemory};

/// Memory of chunks and shards that aren't written yet.
#[derive(Debug)]
pub(super) struct PoolMemory(MemoryReservation);

impl PoolMemory {
    pub(super) fn new(context: &TaskContext) -> Arc<Self> {
        Arc::new(Self(MemoryConsumer::new("ZarrWrite").register(context.memory_pool())))
    }
}

impl WriteMemory for PoolMemory {
    fn grow(&self, bytes: usize) -> Result<()> {
        self.0.try_grow(bytes).map_err(|error| Error::Memory {
            what: "a chunk that is being written".to_owned(),
            bytes: bytes as u64,
            source: Box::new(error),
        })
    }

    fn shrink(&self, bytes: usize) {
        self.0.shrink(bytes.min(self.0.size()));
    }
}
