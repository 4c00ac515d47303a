//! The way to a storage: what suits it, and what has been learned of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::gate::{Gate, Turn};
use crate::Network;

/// A request that has begun brings at least so many bytes per second, or it fails at its deadline: as
/// many as 32 requests get of a line of 2 MB/s.
const SLOWEST: u64 = 64 << 10;

/// The kinds of storage, which want to be read in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// A drive, or memory: an answer takes microseconds, and the engine that reads it splits and merges.
    Local,
    /// S3, Google Cloud Storage, Azure and their kin: an answer takes 10 to 100 ms, one request brings
    /// 50 to 90 MB/s, and hundreds at a time are welcome.
    ObjectStore,
    /// Any HTTP server: as far away, but often with fewer connections to give.
    Http,
}

impl Storage {
    /// The kind behind URLs of this scheme. One that isn't known is taken for an object store on the network.
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

/// What suits a kind of storage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile {
    /// The requests that are under way at first. They hide an answer's latency: chunks of 1 MB in 50 ms
    /// each are 1.2 GB/s with 64.
    first_requests: usize,
    /// As many as there may ever be: of small chunks, of which even 256 don't fill a link. More cost
    /// memory and connections, which a server may refuse.
    most_requests: usize,
    /// The metadata documents that are asked for at the same time: they are small, and those of 300
    /// variables of version 2 are 900, which are to be two waves.
    documents: usize,
    /// The bytes that were asked for and haven't come yet: what a link of 10 Gbit/s brings in half a
    /// second.
    most_bytes: u64,
    /// What is larger is read in parts of this size at the same time: one request brings a part in a
    /// quarter of a second, and its latency is a fifth of that.
    pub(crate) part_bytes: u64,
    /// Ranges of an object with no more between them become one, as long as little is read for
    /// nothing: bytes that one request brings in 3 ms, a tenth of what another one takes to answer.
    pub(crate) gap_bytes: u64,
    /// The objects of one variable that are read at the same time for one tile.
    objects: usize,
}

/// The way to a storage: how it is read, and how many requests it takes at a time, which is learned.
/// Whoever reads from the same place should share one.
#[derive(Debug)]
pub struct Link {
    storage: Storage,
    profile: Profile,
    network: Network,
    gate: Gate,
    documents: Gate,
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Chunks,
    Documents,
}

impl Link {
    /// A way to a storage of this kind, of which nothing is known yet.
    #[must_use]
    pub fn new(storage: Storage, network: Network) -> Arc<Self> {
        let profile = storage.profile();
        let Profile { first_requests, most_requests, documents, most_bytes, .. } = profile;
        let gate = Gate::new(first_requests, most_requests, most_bytes);
        let documents = Gate::new(documents, documents, most_bytes);
        Arc::new(Self { storage, profile, network, gate, documents })
    }

    /// The kind of storage.
    #[must_use]
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Whether every request takes so long that more should be made at once, to make fewer one after
    /// the other.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.storage != Storage::Local
    }

    /// The requests that may be under way at the same time, as far as has been learned.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.gate.limit()
    }

    /// The objects of one variable that are to be read at the same time for one tile.
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

    /// Waits until a request of about so many bytes may start.
    pub(super) async fn turn(&self, what: What, bytes: u64) -> Turn<'_> {
        match what {
            What::Chunks => self.gate.turn(bytes).await,
            What::Documents => self.documents.turn(bytes).await,
        }
    }

    /// The time without a byte after which a request is given up.
    pub(super) fn request_timeout(&self) -> Duration {
        self.network.request_timeout
    }

    /// How long a request of so many bytes may take, tries included, if there is a limit.
    pub(crate) fn deadline(&self, bytes: u64) -> Option<Duration> {
        self.is_remote().then(|| self.network.deadline + Duration::from_secs(bytes / SLOWEST))
    }
}
