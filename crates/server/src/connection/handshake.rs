//! From the first octet to connection.open-ok, each step awaiting exactly one thing:
//!
//! ```text
//!   protocol header ─▶ start ─▶ start-ok ─▶ tune ─▶ tune-ok ─▶ open ─▶ open-ok
//! ```
//!
//! What it finds out it hands to the connection as one [`Opened`].

use std::sync::Arc;
use std::time::Duration;

use leveret_broker::Vhost;
use leveret_broker::access::user::User;
use leveret_codec::frame::{self, FrameType};
use leveret_codec::method::{Method, MethodId, connection};
use leveret_codec::proxy;
use leveret_codec::table::{FieldTable, FieldValue};

use super::Ends;
use super::frames::{FrameReader, ReadEnd};
use super::outbound::Outbound;
use crate::admission::{ConnectionPlace, Full};
use crate::auth::{self, LoginRefusal};
use crate::config::LoginFrom;
use crate::error::{AmqpError, ReplyCode};
use crate::events::Login;
use crate::limits::FRAME_MAX_MIN;
use crate::server::Server;

/// What SASL and tuning agreed on.
pub(crate) struct Opened {
    pub(crate) user: String,
    pub(crate) place: ConnectionPlace,
    pub(crate) vhost: Arc<Vhost>,
    /// Largest frame, overhead included; `u32::MAX` for no limit.
    pub(crate) frame_max: u32,
    /// Highest channel number.
    pub(crate) channel_max: u16,
    /// Zero for none.
    pub(crate) heartbeat: Duration,
    pub(crate) capabilities: Capabilities,
    pub(crate) mechanism: String,
    pub(crate) client_properties: FieldTable,
}

/// Who logged in, how, and what the client said of itself.
struct LoggedIn {
    user: Arc<User>,
    mechanism: String,
    capabilities: Capabilities,
    client_properties: FieldTable,
}

/// What the client announced that changes what it is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Capabilities {
    pub(crate) consumer_cancel_notify: bool,
    pub(crate) connection_blocked: bool,
    pub(crate) authentication_failure_close: bool,
}

/// Why a connection was not opened.
#[derive(Debug)]
pub(crate) enum HandshakeEnd {
    /// Tell the client, and wait for its close-ok.
    Refused(AmqpError),
    /// Drop the socket after the silent close delay: no frame helps this peer.
    Silent(String),
    /// Drop it now: it was answered with the protocol header we speak, or it left.
    Gone(String),
    /// Nothing can be read any more.
    Read(ReadEnd),
    /// The client closed what it was opening.
    PeerClosed,
}

impl From<ReadEnd> for HandshakeEnd {
    fn from(end: ReadEnd) -> Self {
        Self::Read(end)
    }
}

/// One side of the conversation.
pub(crate) struct Handshake<'a> {
    pub(crate) server: &'a Server,
    pub(crate) reader: &'a mut FrameReader,
    pub(crate) outbound: &'a Arc<Outbound>,
    pub(crate) ends: &'a Ends,
}

/// A refused handshake and what is known of the client by then.
type Step<T> = Result<T, HandshakeEnd>;

impl Handshake<'_> {
    /// Runs all steps but the last word: open-ok is sent when the connection stands.
    pub(crate) async fn run(mut self) -> Step<Opened> {
        self.recv_protocol_header().await?;
        self.send_start();
        let login = self.recv_start_ok().await?;
        self.send_tune();
        let (frame_max, channel_max, heartbeat) = self.recv_tune_ok().await?;
        let (vhost, place) = self.recv_open(frame_max, &login.user).await?;
        let LoggedIn { user, mechanism, capabilities, client_properties } = login;
        Ok(Opened {
            user: user.name.to_string(),
            place,
            vhost,
            frame_max,
            channel_max,
            heartbeat,
            capabilities,
            mechanism,
            client_properties,
        })
    }

    async fn recv_protocol_header(&mut self) -> Step<()> {
        while self.reader.received().len() < frame::PROTOCOL_HEADER.len() {
            self.reader.receive().await.map_err(ReadEnd::Io)?;
        }
        let header: Vec<u8> = self.reader.received().iter().take(8).copied().collect();
        // COMPAT: 0-9 is answered like 0-9-1, as RabbitMQ does.
        if header == frame::PROTOCOL_HEADER || header == *b"AMQP\x01\x01\x00\x09" {
            self.reader.skip(header.len());
            return Ok(());
        }
        // SPEC: 4.2.2, answer with a version that is spoken here, then close.
        self.outbound.lock().pending.octets.extend_from_slice(&frame::PROTOCOL_HEADER);
        Err(HandshakeEnd::Gone(format!("{}{:?}", said_by(&header), String::from_utf8_lossy(&header))))
    }

    /// The user that the peer's certificate stands for, if it showed one: EXTERNAL is offered then.
    fn external_user(&self) -> Option<String> {
        let identity = self.ends.tls.as_ref()?.identity.as_ref()?;
        match self.server.config.tls_login_from {
            LoginFrom::DistinguishedName => Some(identity.subject.clone()),
            LoginFrom::CommonName => identity.common_name.clone(),
        }
    }

    fn send_start(&self) {
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: server_properties(self.server.broker.cluster_name()),
            mechanisms: auth::mechanisms(self.external_user().as_deref()).as_bytes(),
            locales: b"en_US",
        };
        self.send(&Method::ConnectionStart(start));
    }

    async fn recv_start_ok(&mut self) -> Step<LoggedIn> {
        let config = &self.server.config;
        let external_user = self.external_user();
        let received = self.recv(FRAME_MAX_MIN, |method| match method {
            Method::ConnectionStartOk(start_ok) => {
                let capabilities = capabilities(&start_ok.client_properties);
                let claim = auth::claim(start_ok.mechanism, start_ok.response, external_user.as_deref());
                let said = start_ok.client_properties;
                Ok((claim, capabilities, start_ok.mechanism.to_owned(), said))
            }
            other => Err(unexpected(&other)),
        });
        // COMPAT: before the login is known to be good, RabbitMQ answers mistakes with silence.
        let (claim, capabilities, mechanism, client_properties) = match received.await {
            Err(HandshakeEnd::Refused(error)) => return Err(HandshakeEnd::Silent(error.reply_text())),
            other => other?,
        };
        let login = match &claim {
            Ok(claim) => {
                let (access, bound) = (self.server.broker.access(), &config.loopback_users);
                let login = self.server.authenticator.log_in(access, claim, self.ends.peer, bound).await;
                self.tell_login(claim.user(), &mechanism, login.as_ref().err());
                login
            }
            Err(refusal) => Err(*refusal),
        };
        let refusal = match login {
            Ok(user) => return Ok(LoggedIn { user, mechanism, capabilities, client_properties }),
            Err(refusal) => refusal,
        };
        let reason = format!("login by {mechanism} refused: {refusal:?}");
        match refusal {
            LoginRefusal::WrongCredentials | LoginRefusal::NotFromHere
                if capabilities.authentication_failure_close =>
            {
                let text = format!(
                    "Login was refused using authentication mechanism {mechanism}. For details see the \
                     broker logfile."
                );
                Err(HandshakeEnd::Refused(
                    AmqpError::new(ReplyCode::AccessRefused, text, MethodId::NONE).on_connection(),
                ))
            }
            _ => Err(HandshakeEnd::Silent(reason)),
        }
    }

    /// Tells how a login came out. A response that says no user is none.
    fn tell_login(&self, user: &str, mechanism: &str, refusal: Option<&LoginRefusal>) {
        self.server.counters.login(refusal.is_none());
        let error = refusal.map(|_| format!("user '{user}' - invalid credentials"));
        if !user.is_empty() {
            Login { user, mechanism, ends: self.ends, error }.tell(self.server);
        }
    }

    fn send_tune(&self) {
        let config = &self.server.config;
        let tune = connection::Tune {
            channel_max: config.channel_max,
            frame_max: config.frame_max,
            heartbeat: config.heartbeat_s,
        };
        self.send(&Method::ConnectionTune(tune));
    }

    async fn recv_tune_ok(&mut self) -> Step<(u32, u16, Duration)> {
        let tune_ok = self
            .recv(FRAME_MAX_MIN, |method| match method {
                Method::ConnectionTuneOk(tune_ok) => Ok(tune_ok),
                other => Err(unexpected(&other)),
            })
            .await?;
        let config = &self.server.config;
        let offered_channels = u32::from(config.channel_max);
        check_tuned("frame_max", tune_ok.frame_max, FRAME_MAX_MIN, config.frame_max)?;
        check_tuned("channel_max", u32::from(tune_ok.channel_max), 0, offered_channels)?;
        let channel_max = if tune_ok.channel_max == 0 { u16::MAX } else { tune_ok.channel_max };
        let frame_max = if tune_ok.frame_max == 0 { u32::MAX } else { tune_ok.frame_max };
        Ok((frame_max, channel_max, Duration::from_secs(tune_ok.heartbeat.into())))
    }

    async fn recv_open(&mut self, frame_max: u32, user: &User) -> Step<(Arc<Vhost>, ConnectionPlace)> {
        let server = self.server;
        self.recv(frame_max, |method| match method {
            Method::ConnectionOpen(open) => admit(server, user, open.virtual_host)
                .map_err(|text| AmqpError::new(ReplyCode::NotAllowed, text, MethodId::CONNECTION_OPEN)),
            other => Err(unexpected(&other)),
        })
        .await
    }

    fn send(&self, method: &Method<'_>) {
        frame::encode_method(&mut self.outbound.lock().pending.octets, 0, method);
    }

    /// Waits for a method on channel 0.
    async fn recv<R>(
        &mut self,
        frame_max: u32,
        use_method: impl FnOnce(Method<'_>) -> Result<R, AmqpError>,
    ) -> Step<R> {
        let mut use_method = Some(use_method);
        loop {
            let outcome = self.reader.next_frame(frame_max, |frame| {
                if frame.frame_type == FrameType::Heartbeat {
                    return None;
                }
                if frame.frame_type != FrameType::Method || frame.channel != 0 {
                    let text = "expected a method of connection set-up";
                    let error = AmqpError::new(ReplyCode::UnexpectedFrame, text, MethodId::NONE);
                    return Some(Err(HandshakeEnd::Refused(error)));
                }
                let use_method = use_method.take()?;
                Some(match Method::decode(frame.payload) {
                    Ok(Method::ConnectionClose(_)) => Err(HandshakeEnd::PeerClosed),
                    Ok(method) => use_method(method).map_err(HandshakeEnd::Refused),
                    Err(error) => Err(HandshakeEnd::Refused(
                        AmqpError::undecodable(&error, MethodId::NONE).on_connection(),
                    )),
                })
            });
            if let Some(result) = outcome.await? {
                return result;
            }
        }
    }
}

/// What a first word means that is no protocol header.
fn said_by(first: &[u8]) -> &'static str {
    if first.starts_with(b"\x16\x03") {
        "the client speaks TLS, and this port does not: "
    } else if first.starts_with(b"PROXY ") || proxy::SIGNATURE.starts_with(first) {
        "a PROXY protocol header, and proxy_protocol is not set: "
    } else {
        "bad protocol header "
    }
}

/// Opens a vhost to a user, or says why not. COMPAT: in this order and these words.
fn admit(server: &Server, user: &User, vhost: &str) -> Result<(Arc<Vhost>, ConnectionPlace), String> {
    if let Some(limit) = server.connection_limit_reached() {
        return Err(format!("connection refused: node connection limit ({limit}) is reached"));
    }
    let broker = &server.broker;
    let found = broker.vhost(vhost).map_err(|error| error.to_string())?;
    let refused = || format!("access to vhost '{vhost}' refused for user '{}'", user.name);
    // As it is now: limits may have changed since the login.
    let now = broker.access().user(user.name.as_str()).ok_or_else(refused)?;
    let place = server.admission.connection(&now, &found).map_err(|full| match full {
        Full::Vhost(limit) => format!("{}: connection limit ({limit}) is reached", refused()),
        Full::User(limit) => {
            format!("connection refused for user '{}': user connection limit ({limit}) is reached", user.name)
        }
    })?;
    if !broker.access().grants(user.name.as_str(), vhost).is_admitted() {
        return Err(refused());
    }
    Ok((found, place))
}

/// COMPAT: what does not fit is refused, never clamped; a client that asks for no limit where the server
/// has one asks for too much.
fn check_tuned(name: &str, asked: u32, min: u32, max: u32) -> Result<(), HandshakeEnd> {
    let refuse = |text: String| {
        Err(HandshakeEnd::Refused(AmqpError::new(ReplyCode::NotAllowed, text, MethodId::CONNECTION_TUNE)))
    };
    if asked != 0 && asked < min {
        return refuse(format!(
            "negotiated {name} = {asked} is lower than the minimum allowed value ({min})"
        ));
    }
    // 65535 channels are all there are: no limit asks for no more.
    let unlimited = name == "channel_max" && max == u32::from(u16::MAX);
    if !unlimited && (asked == 0 || asked > max) {
        let asked = if asked == 0 { "0 (no limit)".to_owned() } else { asked.to_string() };
        return refuse(format!(
            "negotiated {name} = {asked} is higher than the maximum allowed value ({max})"
        ));
    }
    Ok(())
}

fn unexpected(method: &Method<'_>) -> AmqpError {
    let text = format!("unexpected method {} in connection set-up", method.name());
    AmqpError::new(ReplyCode::CommandInvalid, text, method.id())
}

fn capabilities(client_properties: &FieldTable) -> Capabilities {
    let Some(FieldValue::Table(announced)) = client_properties.get("capabilities") else {
        return Capabilities::default();
    };
    let has = |name| announced.get(name) == Some(&FieldValue::Boolean(true));
    Capabilities {
        consumer_cancel_notify: has("consumer_cancel_notify"),
        connection_blocked: has("connection.blocked"),
        authentication_failure_close: has("authentication_failure_close"),
    }
}

/// What clients look at before they use an extension. COMPAT: some go by the product's name and version.
fn server_properties(given_name: Option<String>) -> FieldTable {
    let capabilities = [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ];
    let announced = capabilities.iter().fold(FieldTable::new(), |table, name| table.with(name, true));
    FieldTable::new()
        .with("capabilities", announced)
        // The name of the machine is nothing for those who have not logged in.
        .with("cluster_name", given_name.as_deref().unwrap_or("leveret"))
        .with("copyright", "The Leveret authors; Apache-2.0")
        .with("information", concat!("Leveret ", env!("CARGO_PKG_VERSION")))
        .with("platform", "Rust")
        .with("product", "RabbitMQ")
        .with("version", crate::COMPATIBLE_VERSION)
}
