//! TLS: what a listener needs to accept it, and the handshake. Certificates are read at the start and again on SIGHUP;
//! a handshake uses those of its beginning, a connection that is open none.
//!
//! Versions 1.2 and 1.3 by rustls. Sessions are resumed by tickets, and in 1.2 by session ids as well. After a reload
//! they are not, since a ticket would let a client in whose authority is not trusted any more.

mod certificates;
mod development;
mod failure;
mod identity;
mod session;
mod stream;

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use leveret_management::node::Certificates as Served;
use parking_lot::RwLock;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{
    ServerConfig, ServerSessionMemoryCache, UnbufferedServerConnection, WebPkiClientVerifier,
};
use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::signal::unix::Signal;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::config::{ClientAuth, Config};
use crate::limits::{SILENT_CLOSE_DELAY_MS, TLS_HANDSHAKE_BYTES_MAX, TLS_SESSIONS_MAX};
pub(crate) use certificates::TlsError;
use certificates::{Certificates, authorities};
pub(crate) use failure::{TlsFailure, plain_reason};
pub(crate) use identity::PeerIdentity;
pub(crate) use session::{Outgoing, Session, Stage};
pub(crate) use stream::TlsOctets;

/// What the TLS listeners share.
pub(crate) struct Tls {
    config: Config,
    /// Replaced as a whole. Locked to copy the reference.
    in_force: RwLock<InForce>,
    /// Computations of handshakes at a time. Each takes up to milliseconds: so many that all threads may work on them,
    /// and so few that the connections that are open get their turn between them.
    computing: Semaphore,
}

/// What was read from the files.
struct InForce {
    server: Arc<ServerConfig>,
    certificates: Served,
}

/// What was agreed upon, and who the peer is.
#[derive(Clone, Debug)]
pub(crate) struct TlsFacts {
    /// COMPAT: as RabbitMQ names versions, `tlsv1.3`.
    pub(crate) version: &'static str,
    /// COMPAT: how keys are exchanged, `any` with version 1.3.
    pub(crate) key_exchange: String,
    /// The cipher, `aes_256_gcm`.
    pub(crate) cipher: String,
    /// Of the certificate that the client has shown.
    pub(crate) identity: Option<PeerIdentity>,
}

/// A socket whose handshake is completed.
pub(crate) struct TlsStream {
    pub(crate) socket: TcpStream,
    pub(crate) session: Box<Session>,
    /// Octets received behind the handshake that make no whole record.
    pub(crate) rest: Vec<u8>,
}

impl Tls {
    /// What the configuration asks for; none if it has no certificate.
    ///
    /// # Errors
    /// The files that it names cannot be used.
    pub(crate) fn load(config: &Config) -> Result<Option<Arc<Self>>, TlsError> {
        let Some(in_force) = load(config)? else { return Ok(None) };
        // A turn of a task computes once and then waits for the peer: as many turns as there are threads.
        let threads = tokio::runtime::Handle::current().metrics().num_workers();
        Ok(Some(Arc::new(Self {
            config: config.clone(),
            in_force: RwLock::new(in_force),
            computing: Semaphore::new(threads),
        })))
    }

    /// The certificates in force.
    pub(crate) fn certificates(&self) -> Served {
        self.in_force.read().certificates.clone()
    }

    /// Reads all files again; those that were in force stay so if there is a mistake in any.
    fn reload(&self) {
        match load(&self.config) {
            Ok(Some(loaded)) => {
                *self.in_force.write() = loaded;
                info!("certificates read again: new connections use them");
            }
            // INVARIANT: the configuration stays the same, and it had one.
            Ok(None) => {}
            Err(error) => warn!("certificates not read again, those in force stay so: {error}"),
        }
    }

    /// Shakes hands over `socket`, of which `received` was read already. Besides the stream: plaintext that the client
    /// has sent right behind its handshake.
    ///
    /// # Errors
    /// There is no session. The peer has been told so in the words of TLS.
    pub(crate) async fn accept(
        &self,
        mut socket: TcpStream,
        received: BytesMut,
    ) -> Result<(TlsStream, BytesMut, TlsFacts), TlsFailure> {
        let in_force = Arc::clone(&self.in_force.read().server);
        let tls = UnbufferedServerConnection::new(in_force)
            .map_err(|error| TlsFailure::Refused(error.to_string()))?;
        let mut session = Box::new(Session::new(tls));
        let shaken = self.shake_hands(&mut socket, &mut session, received).await;
        match shaken {
            Ok((rest, plaintext)) => {
                let facts = facts(&session);
                Ok((TlsStream { socket, session, rest }, plaintext, facts))
            }
            Err(failure) => {
                if let TlsFailure::Refused(_) = failure {
                    linger(socket).await;
                }
                Err(failure)
            }
        }
    }

    async fn shake_hands(
        &self,
        socket: &mut TcpStream,
        session: &mut Session,
        mut incoming: BytesMut,
    ) -> Result<(Vec<u8>, BytesMut), TlsFailure> {
        let (mut plaintext, mut outgoing) = (BytesMut::new(), Outgoing::default());
        let first: Vec<u8> = loop {
            if !incoming.is_empty() {
                break incoming.iter().take(8).copied().collect();
            }
            receive(socket, &mut incoming).await?;
        };
        loop {
            // The wait for a turn is bounded as the whole handshake is.
            let turn = self.computing.acquire().await;
            let (taken, stage) = session.receive(&mut incoming, &mut plaintext);
            drop(turn);
            incoming.advance(taken);
            outgoing.clear();
            session.take_outgoing(&mut outgoing);
            socket.write_all(outgoing.as_slice()).await.map_err(TlsFailure::Io)?;
            match stage {
                Err(error) => return Err(TlsFailure::Refused(plain_reason(&error, &first))),
                Ok(Stage::PeerClosed) => return Err(TlsFailure::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(Stage::Open) => return Ok((incoming.to_vec(), plaintext)),
                Ok(Stage::Handshaking) if incoming.len() >= TLS_HANDSHAKE_BYTES_MAX => {
                    return Err(TlsFailure::Refused("its handshake does not come to an end".to_owned()));
                }
                Ok(Stage::Handshaking) => receive(socket, &mut incoming).await?,
            }
        }
    }
}

/// Waits for more octets.
async fn receive(socket: &TcpStream, incoming: &mut BytesMut) -> Result<(), TlsFailure> {
    loop {
        socket.readable().await.map_err(TlsFailure::Io)?;
        incoming.reserve(4096);
        match socket.try_read_buf(incoming) {
            Ok(0) => return Err(TlsFailure::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(TlsFailure::Io(error)),
        }
    }
}

/// Reads and forgets what a client that was refused still sends, so that the reason reaches it: dropping a socket with
/// octets unread resets it.
async fn linger(mut socket: TcpStream) {
    let drained = async {
        socket.shutdown().await?;
        let mut scratch = BytesMut::new();
        while receive(&socket, &mut scratch).await.is_ok() {
            scratch.clear();
        }
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(std::time::Duration::from_millis(SILENT_CLOSE_DELAY_MS), drained).await;
}

/// COMPAT: the suite `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256` is told as `ecdhe_rsa` and `aes_128_gcm`.
fn facts(session: &Session) -> TlsFacts {
    let connection = session.connection();
    let suite = connection.negotiated_cipher_suite();
    let suite = suite.and_then(|suite| suite.suite().as_str()).unwrap_or_default().to_ascii_lowercase();
    let (key_exchange, cipher) = match suite.strip_prefix("tls_").and_then(|suite| suite.split_once("_with_"))
    {
        Some((exchange, cipher)) => (exchange, cipher),
        None => ("any", suite.strip_prefix("tls13_").unwrap_or(&suite)),
    };
    let cipher = cipher.rsplit_once("_sha").map_or(cipher, |(cipher, _)| cipher);
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "tlsv1.2",
        _ => "tlsv1.3",
    };
    let certificate = connection.peer_certificates().and_then(|chain| chain.first());
    let identity = certificate.and_then(|der| PeerIdentity::of_certificate(der));
    TlsFacts { version, key_exchange: key_exchange.to_owned(), cipher: cipher.to_owned(), identity }
}

/// Reads all files again each time the process is told to by SIGHUP.
pub(crate) async fn reload_on(mut hangup: Signal, tls: Option<Arc<Tls>>) {
    while hangup.recv().await.is_some() {
        let Some(tls) = tls.clone() else {
            info!("SIGHUP received: there are no certificates to read again");
            continue;
        };
        info!("SIGHUP received: reading the certificates again");
        let reloaded = tokio::task::spawn_blocking(move || tls.reload()).await;
        if let Err(error) = reloaded {
            warn!(%error, "certificates not read again");
        }
    }
}

fn load(config: &Config) -> Result<Option<InForce>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    if config.tls_dev_certificate {
        let files =
            development::prepare(&config.data_dir).map_err(|error| TlsError::Unusable(error.to_string()))?;
        let authority = config.tls_ca_file.as_deref().unwrap_or(&files.authority);
        return server_config(config, &provider, (&files.certificate, &files.key), Some(authority)).map(Some);
    }
    let (Some(certificate), Some(key)) = (&config.tls_certificate, &config.tls_key) else { return Ok(None) };
    server_config(config, &provider, (certificate, key), config.tls_ca_file.as_deref()).map(Some)
}

fn server_config(
    config: &Config,
    provider: &Arc<CryptoProvider>,
    files: (&Path, &Path),
    authority: Option<&Path>,
) -> Result<InForce, TlsError> {
    let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable(error.to_string());
    let certificates = Certificates::load(provider, files, config.tls_sni_dir.as_deref())?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| unusable(&error))?;
    let mut served = Served { served: certificates.files().to_vec(), authorities: None };
    let builder = match authorities(config, authority)? {
        None => builder.with_no_client_auth(),
        Some((authorities, file)) => {
            served.authorities = Some(file);
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(provider));
            let verifier = match config.tls_client_auth {
                ClientAuth::Optional => verifier.allow_unauthenticated(),
                ClientAuth::None | ClientAuth::Required => verifier,
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| unusable(&error))?)
        }
    };
    let mut server = builder.with_cert_resolver(Arc::new(certificates));
    server.session_storage = ServerSessionMemoryCache::new(TLS_SESSIONS_MAX);
    server.ticketer = ring::Ticketer::new().map_err(|error| unusable(&error))?;
    // Each resumption gives a new one: a client needs no more than one per connection.
    server.send_tls13_tickets = 1;
    Ok(InForce { server: Arc::new(server), certificates: served })
}
