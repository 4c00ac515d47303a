//! The account of the memory that a writer holds.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::Result;

/// Where a writer reserves the memory of chunks that aren't complete, and of shards that aren't written.
pub trait WriteMemory: fmt::Debug + Send + Sync {
    /// Reserves more bytes.
    ///
    /// # Errors
    /// If there aren't so many.
    fn grow(&self, bytes: usize) -> Result<()>;

    /// Gives bytes back.
    fn shrink(&self, bytes: usize);
}

/// The account of one store's writer.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    memory: Option<Arc<dyn WriteMemory>>,
    held: Arc<Held>,
}

#[derive(Debug, Default)]
struct Held {
    now: AtomicU64,
    most: AtomicU64,
}

/// Bytes of an account, given back when dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    account: Account,
    bytes: usize,
}

impl Account {
    pub(super) fn new(memory: Option<Arc<dyn WriteMemory>>) -> Self {
        Self { memory, held: Arc::default() }
    }

    /// Reserves bytes.
    ///
    /// # Errors
    /// Those of [`WriteMemory::grow`].
    pub(super) fn take(&self, bytes: usize) -> Result<Reserved> {
        if let Some(memory) = &self.memory {
            memory.grow(bytes)?;
        }
        let now = self.held.now.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        self.held.most.fetch_max(now, Ordering::Relaxed);
        Ok(Reserved { account: self.clone(), bytes })
    }

    /// The most bytes that were held at once.
    pub(super) fn most(&self) -> u64 {
        self.held.most.load(Ordering::Relaxed)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(memory) = &self.account.memory {
            memory.shrink(self.bytes);
        }
        self.account.held.now.fetch_sub(self.bytes as u64, Ordering::Relaxed);
    }
}
