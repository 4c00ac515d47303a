//! Stores in the cloud: `s3://`, `gs://`, `az://`, `abfs://`, `http://` and `https://`.
//!
//! ```text
//! URL ──▶ Address    which store, which path, what of it may be shown
//!           │
//!           ▼
//!         Setup      where it is and who asks: from options, environment and files, without a request
//!           │        (equal ones share a store: its connections, its credentials, its Link)
//!           ▼
//!         store      object_store's client ── Connector: the network's own threads, timeouts
//!           │
//!           ▼
//!         CloudStore errors that say what to do
//!           │
//!           ▼
//!         CachedStore if there is a cache on disk
//! ```
//!
//! `Resources::open_store` goes this way; what it opened stays open in its `Stores`.

mod address;
mod aws;
mod azure;
mod explain;
mod gcp;
mod http;
mod store;
mod stores;
mod threads;
mod web;

pub(crate) use self::{address::take_options, stores::Stores, threads::NetworkThreads};
pub use self::{
    address::{public_name, public_text},
    stores::Opened,
};
