//! A server, from its start to its end.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    thread,
};

use tokio::runtime::{self, Runtime};

use crate::{
    Fault, Incoming, Link, Protocol, Request, fault::Faults, files::Files,
    http_objects::HttpObjects, link::Pace, log::Log, s3_objects, serve, serve::Objects,
};

/// Number of threads that serve; they do little besides copying.
const THREADS: usize = 2;

/// Options of a new server.
#[derive(Debug, Clone)]
pub struct Builder {
    root: PathBuf,
    protocol: Protocol,
    anonymous: bool,
}

impl Builder {
    /// Protocol; [`Protocol::S3`] by default.
    #[must_use]
    pub fn protocol(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// Whether an S3 server answers unsigned requests; `false` by default. Signed requests need a correct signature in
    /// any case. An HTTP server needs no signatures.
    #[must_use]
    pub fn anonymous(self, anonymous: bool) -> Self {
        Self { anonymous, ..self }
    }

    /// Starts the server on its own threads.
    ///
    /// # Errors
    /// If the root isn't a directory, or no port or thread is available.
    pub fn start(self) -> io::Result<Server> {
        if !std::fs::metadata(&self.root)?.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                format!("{} is not a directory to serve", self.root.display()),
            ));
        }
        let files = Files::new(self.root);
        let objects = match self.protocol {
            Protocol::S3 => Objects::S3(s3_objects::service(files, self.anonymous)),
            Protocol::Http => Objects::Http(HttpObjects::new(files)),
        };
        let shared = Arc::new(Shared {
            objects,
            pace: Arc::default(),
            log: Arc::default(),
            faults: Faults::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("test-server")
            .enable_all()
            .build()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        runtime.spawn(serve::accept(listener, Arc::clone(&shared)));
        Ok(Server { shared, address, runtime: Some(runtime) })
    }
}

/// A server on loopback. Dropping it closes all connections and ends it.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Server {
    /// A server of the files below `root`.
    pub fn builder(root: impl Into<PathBuf>) -> Builder {
        Builder { root: root.into(), protocol: Protocol::S3, anonymous: false }
    }

    /// `http://127.0.0.1:PORT`. An object's URL appends the bucket (S3 only) and the object's path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes the server as slow as one behind `link`, from the next request on.
    pub fn set_link(&self, link: Link) {
        self.shared.pace.set(link);
    }

    /// Lets `fault` decide on each request from now on, in the order of arrival; [`Incoming::number`] starts at 0.
    pub fn set_faults(&self, fault: impl FnMut(&Incoming) -> Option<Fault> + Send + 'static) {
        self.shared.faults.set(Some(Box::new(fault)));
    }

    /// Answers all requests correctly from now on.
    pub fn clear_faults(&self) {
        self.shared.faults.set(None);
    }

    /// Requests since the start or the last call, in the order of arrival. Requests in flight are included, without an
    /// end.
    #[must_use]
    pub fn take_requests(&self) -> Vec<Request> {
        self.shared.log.take()
    }

    /// Number of requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.log.in_flight()
    }

    /// Peak number of requests in flight since the start or the last [`take_requests`](Self::take_requests).
    #[must_use]
    pub fn most_in_flight(&self) -> usize {
        self.shared.log.most_in_flight()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Dropping a runtime waits for its threads. tokio forbids that on threads that run futures, such as the test's
        // own.
        let runtime = self.runtime.take();
        let _ = thread::spawn(move || drop(runtime)).join();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.url())
    }
}

/// State that all connections of a server share.
pub(crate) struct Shared {
    pub(crate) objects: Objects,
    pub(crate) pace: Arc<Pace>,
    pub(crate) log: Arc<Log>,
    pub(crate) faults: Faults,
}
