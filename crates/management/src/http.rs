//! The listener of the HTTP API. It has threads of its own, so that a listing of a hundred thousand queues takes none
//! from the connections of clients, and each request is answered on a thread that may wait, since what changes the
//! broker waits for the disk.
//!
//! Times and sizes of what comes in are bounded here; what a request asks for is the business of `api`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::access::Authenticate;
use crate::api::{Api, router};
use crate::node::Node;
use crate::statistics::Sampler;

/// Connections at a time; others wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;

/// Requests that are answered at a time; others wait.
const REQUESTS_MAX: usize = 8;

/// How long a request's headers may take, and a connection may idle between requests.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);

/// Octets of a request's line and headers.
const HEADERS_BYTES_MAX: usize = 64 * 1024;

/// Headers of a request.
const HEADERS_MAX: usize = 100;

/// How long to wait before accepting again when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running HTTP API; it ends when this is dropped.
pub struct HttpApi {
    runtime: Option<Runtime>,
    _sampler: Sampler,
}

impl HttpApi {
    /// Serves the API of a node on listeners that are bound already.
    ///
    /// # Errors
    /// A thread cannot be started, or a listener not be used.
    pub fn start(
        node: Arc<dyn Node>,
        logins: Arc<dyn Authenticate>,
        listeners: Vec<TcpListener>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(REQUESTS_MAX)
            .thread_name("management")
            .enable_all()
            .build()?;
        let sampler = Sampler::start(Arc::clone(&node))?;
        let api = Arc::new(Api::new(node, logins, Arc::clone(sampler.statistics())));
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        for listener in listeners {
            listener.set_nonblocking(true)?;
            let _context = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(listener)?;
            runtime.spawn(accept(listener, Arc::clone(&api), Arc::clone(&permits)));
        }
        Ok(Self { runtime: Some(runtime), _sampler: sampler })
    }
}

impl Drop for HttpApi {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, api: Arc<Api>, permits: Arc<Semaphore>) {
    let router = router(api);
    loop {
        // Not closed as long as this task has it.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, peer)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    serve(router, socket, peer).await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept connections to the HTTP API");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(router: axum::Router, socket: tokio::net::TcpStream, peer: SocketAddr) {
    // Refused only by a socket that is closed, which the next read tells.
    let _ = socket.set_nodelay(true);
    let service = TowerToHyperService::new(router.layer(Extension(ConnectInfo(peer))));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_buf_size(HEADERS_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        debug!(%peer, %error, "a connection to the HTTP API failed");
    }
}
