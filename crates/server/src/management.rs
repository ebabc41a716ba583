//! What the HTTP API has to know of the server and asks it for: who may use it, and where it listens.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use leveret_management::access::{Authenticate, LoggingIn, LoginRefusal, User};
use leveret_management::http::HttpApi;
use leveret_management::node::{ListenerInfo, Node};
use tracing::info;

use crate::auth::{Claim, Credentials, LoginRefusal as Refusal};
use crate::server::{Server, StartError};

/// What listeners speak of a plain HTTP API.
pub(crate) const PROTOCOL: &str = "http";

/// Binds the ports of the HTTP API.
///
/// # Errors
/// One is taken, not ours, or not permitted.
pub(crate) fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, StartError> {
    let bound = addresses
        .iter()
        .map(|&address| TcpListener::bind(address).map_err(|error| StartError::Listen { address, error }));
    bound.collect()
}

/// Where they listen, as listed.
pub(crate) fn infos(listeners: &[TcpListener]) -> Vec<ListenerInfo> {
    let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok());
    addresses.map(|address| ListenerInfo { protocol: PROTOCOL, address }).collect()
}

/// Begins to serve the API.
///
/// # Errors
/// A thread cannot be started.
pub(crate) fn start(
    server: &Arc<Server>,
    node: Arc<dyn Node>,
    listeners: Vec<TcpListener>,
) -> io::Result<Option<HttpApi>> {
    if listeners.is_empty() {
        return Ok(None);
    }
    for ListenerInfo { address, .. } in infos(&listeners) {
        info!(%address, "listening for the HTTP API");
    }
    HttpApi::start(node, Arc::new(Logins(Arc::clone(server))), listeners).map(Some)
}

/// Logs in as connections do.
struct Logins(Arc<Server>);

impl Authenticate for Logins {
    fn log_in(&self, user: String, password: Vec<u8>, peer: SocketAddr) -> LoggingIn<'_> {
        Box::pin(async move {
            let claim = Claim::Password(Credentials { user, password });
            let Server { broker, config, authenticator, .. } = &*self.0;
            match authenticator.log_in(broker.access(), &claim, peer, &config.loopback_users).await {
                Ok(user) => Ok(User { name: user.name.to_string(), tags: user.tags.clone() }),
                Err(Refusal::NotFromHere) => Err(LoginRefusal::NotFromHere),
                Err(_) => Err(LoginRefusal::WrongCredentials),
            }
        })
    }
}
