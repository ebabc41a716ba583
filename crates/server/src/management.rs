//! What the HTTP API has to know of the server and asks it for: who may use it, and where it listens.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use leveret_management::access::{Access, LoginRefusal, Operation, User};
use leveret_management::http::HttpApi;
use leveret_management::node::{ListenerInfo, Node};
use tracing::info;

use crate::auth::{self, LoginRefusal as Refusal};
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
    HttpApi::start(node, Arc::new(DefaultUser(Arc::clone(server))), listeners).map(Some)
}

/// There is one user, who may do everything.
struct DefaultUser(Arc<Server>);

impl Access for DefaultUser {
    fn log_in(&self, user: &str, password: &[u8], peer: IpAddr) -> Result<User, LoginRefusal> {
        let response = [b"\0", user.as_bytes(), b"\0", password].concat();
        match auth::authenticate(&self.0.config, "PLAIN", &response, peer) {
            Ok(name) => Ok(User { name, tags: vec!["administrator".to_owned()] }),
            Err(Refusal::NotFromHere) => Err(LoginRefusal::NotFromHere),
            Err(_) => Err(LoginRefusal::WrongCredentials),
        }
    }

    fn may_enter(&self, _user: &str, _vhost: &str) -> bool {
        true
    }

    fn permits(&self, _user: &str, _vhost: &str, _operation: Operation, _name: &str) -> bool {
        true
    }
}
