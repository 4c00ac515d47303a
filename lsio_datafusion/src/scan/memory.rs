//! Memory from the session's pool.

use std::sync::Arc;

use datafusion::{
    error::Result,
    execution::{
        TaskContext,
        memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation},
    },
};

/// Memory that one partition has reserved.
pub(crate) struct PartitionMemory {
    reservation: MemoryReservation,
    pool: Arc<dyn MemoryPool>,
    limit: usize,
}

impl PartitionMemory {
    /// An empty reservation under a name.
    pub(crate) fn new(name: &str, context: &TaskContext) -> Self {
        let pool = context.memory_pool();
        let reservation = MemoryConsumer::new(name).register(pool);
        let limit = match pool.memory_limit() {
            MemoryLimit::Finite(limit) => limit,
            MemoryLimit::Infinite | MemoryLimit::Unknown => usize::MAX,
        };
        Self { reservation, pool: Arc::clone(pool), limit }
    }

    /// Size of the session's pool in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Reserves bytes; `what` names them in an error.
    pub(crate) fn take(&self, bytes: usize, what: &str) -> Result<()> {
        self.reservation.try_grow(bytes).map_err(|error| {
            error.context(format!(
                "{what} takes {:.1} MB of memory, which the limit doesn't leave: raise it (-m), or \
                 lower datafusion.execution.target_partitions",
                bytes as f64 / 1e6
            ))
        })
    }

    /// Reserves bytes as long as half of the pool stays free. Returns whether it did.
    pub(crate) fn take_spare(&self, bytes: usize) -> bool {
        let half = self.limit / 2;
        self.pool.reserved().saturating_add(bytes) <= half
            && self.reservation.try_grow(bytes).is_ok()
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.reservation.shrink(bytes.min(self.reservation.size()));
    }

    pub(crate) fn give_back_all(&self) {
        self.reservation.free();
    }
}
