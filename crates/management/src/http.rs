//! The HTTP API on its listeners. It has threads of its own, so that a listing of a hundred thousand queues takes none
//! from the connections of clients, and each request is answered on a thread that may wait, since what changes the
//! broker waits for the disk.
//!
//! Times and sizes of what comes in are bounded here; what a request asks for is the business of `api`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::runtime::Runtime;
use tracing::debug;

use crate::access::Authenticate;
use crate::api::{Api, THREADS, router};
use crate::listener::{Listener, Places, Socket};
use crate::node::Node;
use crate::statistics::Sampler;

/// Octets of a request's line and headers.
const HEADERS_BYTES_MAX: usize = 64 * 1024;

/// Headers of a request.
const HEADERS_MAX: usize = 100;

/// What an operator may set of the API.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Time for the line and headers of a request, from the end of the one before; for each mebibyte of its body that
    /// is begun; and for the peer to take a part of the answer.
    pub timeout: Duration,
    /// Connections at a time; others wait to be accepted.
    pub connections_max: usize,
    /// What paths have before `/api`: nothing, or segments that begin with a slash and do not end with one.
    pub path_prefix: String,
    /// Origins of pages that may use the API; `*` for all.
    pub cors_origins: Vec<String>,
}

/// A running HTTP API; it ends when this is dropped.
pub struct HttpApi {
    runtime: Option<Runtime>,
    _sampler: Sampler,
}

impl HttpApi {
    /// Serves the API of a node on these listeners.
    ///
    /// # Errors
    /// A thread cannot be started, or a listener not be used.
    pub fn start(
        node: Arc<dyn Node>,
        logins: Arc<dyn Authenticate>,
        listeners: Vec<Listener>,
        settings: HttpSettings,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(THREADS)
            .thread_name("management")
            .enable_all()
            .build()?;
        let sampler = Sampler::start(Arc::clone(&node))?;
        let timeout = settings.timeout;
        let places = Places::new(settings.connections_max);
        let router = router(Arc::new(Api::new(node, logins, Arc::clone(sampler.statistics()), settings)));
        for listener in listeners {
            let _context = runtime.enter();
            let listener = listener.moved_here()?;
            let router = router.clone();
            let serve = move |socket, peer| serve(router.clone(), socket, peer, timeout);
            runtime.spawn(listener.accept(Arc::clone(&places), timeout, serve));
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

async fn serve(router: axum::Router, socket: Socket, peer: SocketAddr, timeout: Duration) {
    let service = TowerToHyperService::new(router.layer(Extension(ConnectInfo(peer))));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(HEADERS_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        debug!(%peer, %error, cause, "a connection to the HTTP API failed");
    }
}
