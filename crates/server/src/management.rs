//! What HTTP, be it of the API or of metrics, has to know of the server and asks it for: who may use it, and TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use leveret_management::access::{Authenticate, LoggingIn, LoginRefusal, User};
use leveret_management::http::{HttpApi, HttpSettings};
use leveret_management::listener::{Listener, Secure, Securing, Socket};
use leveret_management::node::Node;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::auth::{Claim, Credentials, LoginRefusal as Refusal, shown};
use crate::server::Server;
use crate::tls::{Tls, TlsFailure, TlsOctets};

/// A listener as HTTP takes it.
pub(crate) fn listener(server: &Server, socket: TcpListener, tls: Option<Arc<Tls>>) -> Listener {
    let limit = Duration::from_millis(server.config.handshake_timeout_ms);
    let secure = tls.map(|tls| Arc::new(SecuredHttp { tls, limit }) as Arc<dyn Secure>);
    Listener::new(socket, secure)
}

/// Begins to serve the API.
///
/// # Errors
/// A thread cannot be started.
pub(crate) fn start(
    server: &Arc<Server>,
    node: Arc<dyn Node>,
    listeners: Vec<Listener>,
) -> io::Result<Option<HttpApi>> {
    if listeners.is_empty() {
        return Ok(None);
    }
    let settings = HttpSettings {
        timeout: Duration::from_millis(server.config.management_timeout_ms),
        connections_max: server.config.management_connections_max,
        path_prefix: server.config.management_path_prefix.clone(),
        cors_origins: server.config.management_cors_allow_origins.clone(),
    };
    HttpApi::start(node, Arc::new(Logins(Arc::clone(server))), listeners, settings).map(Some)
}

/// TLS as AMQP has it, with the same certificates and the same time for a handshake.
struct SecuredHttp {
    tls: Arc<Tls>,
    limit: Duration,
}

impl Secure for SecuredHttp {
    fn secure(&self, socket: TcpStream, peer: SocketAddr) -> Securing<'_> {
        Box::pin(async move {
            match timeout(self.limit, self.tls.accept(socket, BytesMut::new())).await {
                Ok(Ok((stream, plaintext, _))) => {
                    return Some(Box::new(TlsOctets::new(stream, plaintext)) as Socket);
                }
                Ok(Err(TlsFailure::Refused(reason))) => {
                    warn!(%peer, "TLS handshake for HTTP failed: {}", shown(&reason))
                }
                Ok(Err(TlsFailure::Io(error))) => debug!(%peer, "closed before it was open: {error}"),
                Err(_) => warn!(%peer, "TLS handshake for HTTP not completed in {:?}", self.limit),
            }
            None
        })
    }
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
