//! What is known of the way to a storage.

use std::sync::Arc;

use crate::Network;

/// How a storage is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Files, or memory.
    Local,
    /// An object store.
    ObjectStore,
    /// A web server.
    Http,
}

/// What is known of the way to a storage.
#[derive(Debug)]
pub struct Link {
    storage: Storage,
}

impl Link {
    /// The way to a storage of which nothing is known yet.
    #[must_use]
    pub fn new(storage: Storage, _network: Network) -> Arc<Self> {
        Arc::new(Self { storage })
    }

    /// How the storage is reached.
    #[must_use]
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// The server has asked for fewer requests.
    pub(crate) fn throttled(&self) {}
}
