//! The link to a storage: its profile, and the limits learned from it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::gate::{Gate, Turn};
use crate::Network;

/// Least throughput of a request in bytes per second before its deadline passes: the share of each of 32 requests on a
/// link of 2 MB/s.
const SLOWEST: u64 = 64 << 10;

/// Kinds of storage, each with its own profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// A drive, or memory: latency is microseconds, and the engine that reads splits and merges requests.
    Local,
    /// S3, Google Cloud Storage, Azure and compatible services: latency is 10 to 100 ms, one request brings 50 to 90
    /// MB/s, and hundreds of concurrent requests are welcome.
    ObjectStore,
    /// Any HTTP server: the latency of an object store, but often fewer connections.
    Http,
}

impl Storage {
    /// Kind of storage behind URLs of this scheme. An unknown scheme is an object store on the network.
    #[must_use]
    pub fn of_scheme(scheme: &str) -> Self {
        match scheme {
            "file" | "memory" => Self::Local,
            "http" | "https" => Self::Http,
            _ => Self::ObjectStore,
        }
    }

    fn profile(self) -> Profile {
        match self {
            Self::Local => Profile {
                first_requests: 64,
                most_requests: 64,
                documents: 64,
                most_bytes: u64::MAX,
                part_bytes: u64::MAX,
                gap_bytes: 0,
                objects: 16,
            },
            Self::ObjectStore => Profile {
                first_requests: 64,
                most_requests: 256,
                documents: 512,
                most_bytes: 512 << 20,
                part_bytes: 16 << 20,
                gap_bytes: 256 << 10,
                objects: 256,
            },
            Self::Http => Profile {
                first_requests: 32,
                most_requests: 128,
                documents: 128,
                most_bytes: 256 << 20,
                part_bytes: 16 << 20,
                gap_bytes: 256 << 10,
                objects: 128,
            },
        }
    }
}

/// Limits and sizes that suit a kind of storage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile {
    /// Initial limit on concurrent requests. They hide the latency: 64 requests for chunks of 1 MB in 50 ms each are
    /// 1.2 GB/s.
    first_requests: usize,
    /// Upper bound on concurrent requests, for small chunks, of which even 256 don't fill a link. More would cost
    /// memory and connections, which a server may refuse.
    most_requests: usize,
    /// Limit on concurrent requests for metadata documents. Documents are small: the 900 documents of 300 variables of
    /// version 2 should take two waves.
    documents: usize,
    /// Upper bound on bytes in flight: half a second of a link of 10 Gbit/s.
    most_bytes: u64,
    /// Size in bytes of the concurrent parts of a larger read. One request brings a part in a quarter of a second, and
    /// the latency is a fifth of that.
    pub(crate) part_bytes: u64,
    /// Largest gap in bytes across which two ranges of an object are merged, as long as little is read in vain: one
    /// request brings the gap in 3 ms, a tenth of another request's latency.
    pub(crate) gap_bytes: u64,
    /// Number of objects of one variable to read concurrently for one tile.
    objects: usize,
}

/// The link to a storage: how to read from it, and the learned limit on concurrent requests. All readers of the same
/// storage should share one link.
#[derive(Debug)]
pub struct Link {
    storage: Storage,
    profile: Profile,
    network: Network,
    gate: Gate,
    documents: Gate,
}

/// Kind of object to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Chunks,
    Documents,
}

impl Link {
    /// A new link to a storage of this kind, without learned limits.
    #[must_use]
    pub fn new(storage: Storage, network: Network) -> Arc<Self> {
        let profile = storage.profile();
        let Profile { first_requests, most_requests, documents, most_bytes, .. } = profile;
        let gate = Gate::new(first_requests, most_requests, most_bytes);
        let documents = Gate::new(documents, documents, most_bytes);
        Arc::new(Self { storage, profile, network, gate, documents })
    }

    /// Kind of storage.
    #[must_use]
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Whether latency is so high that more concurrent requests are better than fewer in sequence.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.storage != Storage::Local
    }

    /// Limit on concurrent requests, as learned so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.gate.limit()
    }

    /// Number of objects of one variable to read concurrently for one tile.
    pub(crate) fn objects(&self) -> usize {
        self.profile.objects
    }

    /// The server asked for fewer requests.
    pub(crate) fn throttled(&self) {
        self.gate.throttled(Instant::now());
    }

    pub(super) fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Waits until a request of about `bytes` bytes may start.
    pub(super) async fn turn(&self, what: What, bytes: u64) -> Turn<'_> {
        match what {
            What::Chunks => self.gate.turn(bytes).await,
            What::Documents => self.documents.turn(bytes).await,
        }
    }

    /// Time without a byte after which a request is given up.
    pub(super) fn request_timeout(&self) -> Duration {
        self.network.request_timeout
    }

    /// Deadline for a request of `bytes` bytes, retries included; `None` for local storage.
    pub(crate) fn deadline(&self, bytes: u64) -> Option<Duration> {
        self.is_remote().then(|| self.network.deadline + Duration::from_secs(bytes / SLOWEST))
    }
}
