//! The link's own time: a loop that gets objects with object_store's client at its defaults, and drops them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use datafusion::object_store::{
    ClientOptions, GetOptions, ObjectStore, aws::AmazonS3Builder, http::HttpBuilder,
};
use lsio_test_servers::{ACCESS_KEY, BUCKET, SECRET_KEY};
use tokio::{runtime::Runtime, task::JoinSet};

use super::{Protocol, needed::Piece};
use crate::{Error, measure::Figures, process::cpu_seconds};

/// Objects to get, and their server.
pub(crate) struct Loop {
    protocol: Protocol,
    server: String,
    pieces: Arc<[Piece]>,
    runtime: Runtime,
}

impl Loop {
    pub(crate) fn new(protocol: Protocol, server: &str, pieces: &[Piece]) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(Self { protocol, server: server.to_owned(), pieces: pieces.into(), runtime })
    }

    /// Gets all objects, `concurrency` at a time, over new connections. Doesn't measure the peak of the memory.
    pub(crate) fn run(&self, concurrency: usize) -> Result<Figures, Error> {
        let cpu = cpu_seconds().unwrap_or(f64::NAN);
        let start = Instant::now();
        self.runtime.block_on(self.get_all(concurrency))?;
        let seconds = start.elapsed().as_secs_f64();
        Ok(Figures { seconds, cpu: cpu_seconds().unwrap_or(f64::NAN) - cpu, peak: 0 })
    }

    async fn get_all(&self, concurrency: usize) -> Result<(), Error> {
        let store = self.client()?;
        let next = Arc::new(AtomicUsize::new(0));
        let mut workers = JoinSet::new();
        for _ in 0..concurrency.min(self.pieces.len()) {
            let (store, next) = (Arc::clone(&store), Arc::clone(&next));
            let pieces = Arc::clone(&self.pieces);
            workers.spawn(async move {
                while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                    get(store.as_ref(), piece).await?;
                }
                Ok::<(), Error>(())
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker??;
        }
        Ok(())
    }

    fn client(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        Ok(match self.protocol {
            Protocol::S3 => Arc::new(
                AmazonS3Builder::new()
                    .with_endpoint(&self.server)
                    .with_allow_http(true)
                    .with_bucket_name(BUCKET)
                    .with_access_key_id(ACCESS_KEY)
                    .with_secret_access_key(SECRET_KEY)
                    .build()?,
            ),
            Protocol::Http => Arc::new(
                HttpBuilder::new()
                    .with_url(&self.server)
                    .with_client_options(ClientOptions::new().with_allow_http(true))
                    .build()?,
            ),
        })
    }
}

async fn get(store: &dyn ObjectStore, piece: &Piece) -> Result<(), Error> {
    let range = piece.range.clone().map(Into::into);
    let options = GetOptions { range, ..GetOptions::default() };
    let body = store.get_opts(&piece.key, options).await?.bytes().await?;
    if body.len() as u64 != piece.len {
        let (got, expected) = (body.len(), piece.len);
        return Err(format!("{} has {got} bytes instead of {expected}", piece.key).into());
    }
    Ok(())
}
