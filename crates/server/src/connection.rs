//! A connection: one task that reads and hands runs of frames to the channels' tasks, one that writes.
//! Only this loop sends connection.close, and it always knows who ended the connection.

mod arrival;
pub(crate) mod frames;
pub(crate) mod handshake;
pub(crate) mod outbound;
pub(crate) mod pending;
mod reader;
mod socket;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hashbrown::HashSet;
use leveret_broker::time::Timestamp;
use leveret_broker::{ConnectionId, QueueName, Vhost};
use leveret_codec::frame;
use leveret_codec::method::{Method, MethodId, connection};
use leveret_codec::table::FieldTable;
use leveret_management::node::Traffic;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{Instrument, debug, info, info_span, warn};

use crate::admission::ConnectionPlace;
use crate::channel::Deliveries;
use crate::counters::ReceiveCounters;
use crate::error::{AmqpError, ReplyCode};
use crate::limits::{SILENT_CLOSE_DELAY_MS, UNCOMMITTED_BYTES_MAX, UNFINISHED_BYTES_MAX};
use crate::server::Server;
use crate::tls::{Tls, TlsFacts};
use arrival::Arrival;
use frames::{FrameReader, ReadEnd};
use handshake::{Capabilities, Handshake, HandshakeEnd, Opened};
use outbound::Outbound;
use pending::PendingTotal;
use reader::Reader;

/// What the tasks of one open connection share.
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    /// For the log: spans of connections are not entered by the channels' tasks.
    pub(crate) peer: SocketAddr,
    /// COMPAT: both ends, as RabbitMQ names connections.
    pub(crate) name: String,
    pub(crate) local: Option<SocketAddr>,
    /// What was agreed upon by TLS, and who the peer is by its certificate.
    pub(crate) tls: Option<Arc<TlsFacts>>,
    /// How the user logged in.
    pub(crate) mechanism: String,
    /// What the client said of itself.
    pub(crate) client_properties: FieldTable,
    pub(crate) server: Arc<Server>,
    pub(crate) user: String,
    /// What it takes of the limits of user and vhost.
    pub(crate) place: ConnectionPlace,
    pub(crate) vhost: Arc<Vhost>,
    pub(crate) frame_max: u32,
    pub(crate) channel_max: u16,
    pub(crate) capabilities: Capabilities,
    pub(crate) outbound: Arc<Outbound>,
    /// Messages of which a part is still to come.
    pub(crate) unfinished: Arc<PendingTotal>,
    /// Messages that wait for a commit.
    pub(crate) uncommitted: Arc<PendingTotal>,
    pub(crate) received: ReceiveCounters,
    /// When it was opened.
    pub(crate) opened_at: Timestamp,
    /// The negotiated interval; zero for none.
    pub(crate) heartbeat: Duration,
    /// Its open channels. Locked alone.
    channels: Mutex<BTreeMap<u16, Weak<Deliveries>>>,
    /// Exclusive queues to delete when it ends. Locked alone.
    exclusive_queues: Mutex<HashSet<QueueName>>,
    /// The first error that ends it. Locked alone.
    failure: Mutex<Option<AmqpError>>,
    /// Tells the reader that `failure` is set.
    failed: Notify,
    /// connection.blocked was sent and not taken back.
    blocked: Mutex<bool>,
}

/// What is known of both ends before anybody has logged in. Behind a proxy, they are those of the client's connection.
pub(crate) struct Ends {
    pub(crate) peer: SocketAddr,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) tls: Option<Arc<TlsFacts>>,
}

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum ConnectionEnd {
    /// The client sent connection.close.
    PeerClosed,
    /// We did, for this reason.
    ClosedByUs(AmqpError),
    /// Frames cannot be told apart any more.
    Malformed(AmqpError),
    /// Nothing came for two heartbeat intervals.
    HeartbeatMissed,
    /// The socket was closed or failed.
    Io(io::Error),
}

impl Connection {
    /// Ends the connection with an error; the first one counts.
    pub(crate) fn fail(&self, error: AmqpError) {
        self.failure.lock().get_or_insert(error);
        self.failed.notify_one();
    }

    /// Waits for [`Self::fail`].
    async fn failure(&self) -> AmqpError {
        loop {
            let failed = self.failed.notified();
            if let Some(error) = self.failure.lock().clone() {
                return error;
            }
            failed.await;
        }
    }

    /// Notes a channel that was opened.
    pub(crate) fn add_channel(&self, channel: &Arc<Deliveries>) {
        self.server.counters.channels_opened.fetch_add(1, Ordering::Relaxed);
        self.channels.lock().insert(channel.channel, Arc::downgrade(channel));
    }

    /// Forgets a channel that was closed.
    pub(crate) fn remove_channel(&self, number: u16) {
        self.server.counters.channels_closed.fetch_add(1, Ordering::Relaxed);
        self.channels.lock().remove(&number);
    }

    /// Its open channels, by number.
    pub(crate) fn channels(&self) -> Vec<Arc<Deliveries>> {
        self.channels.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// What it received and sent so far.
    pub(crate) fn traffic(&self) -> Traffic {
        let ((received_bytes, reads), (sent_bytes, writes, _)) =
            (self.received.totals(), self.outbound.sent());
        Traffic { received_bytes, reads, sent_bytes, writes }
    }

    /// Notes a queue that goes with the connection.
    pub(crate) fn own_queue(&self, name: QueueName) {
        self.exclusive_queues.lock().insert(name);
    }

    /// Forgets a queue that was deleted.
    pub(crate) fn disown_queue(&self, name: &str) {
        self.exclusive_queues.lock().remove(name);
    }

    /// Tells a publisher that is held up by an alarm, once. COMPAT: only one that announced it understands.
    pub(crate) fn block(&self, reason: &str) {
        if !self.capabilities.connection_blocked || std::mem::replace(&mut *self.blocked.lock(), true) {
            return;
        }
        let blocked = Method::ConnectionBlocked(connection::Blocked { reason });
        frame::encode_method(&mut self.outbound.lock().pending.octets, 0, &blocked);
    }

    /// Whether it was told that publishing has to wait.
    pub(crate) fn is_blocked(&self) -> bool {
        *self.blocked.lock()
    }

    /// Takes [`Self::block`] back.
    pub(crate) fn unblock(&self) {
        if std::mem::replace(&mut *self.blocked.lock(), false) {
            let unblocked = Method::ConnectionUnblocked(connection::Unblocked);
            frame::encode_method(&mut self.outbound.lock().pending.octets, 0, &unblocked);
        }
    }
}

/// The task that writes, while the connection is served.
struct Writer {
    task: JoinHandle<io::Result<()>>,
    outbound: Arc<Outbound>,
    heartbeat: watch::Sender<Duration>,
}

impl Writer {
    /// Waits until everything is written and the socket's outgoing side is closed, but not for ever.
    async fn finish(mut self, limit: Duration) {
        self.outbound.finish();
        if timeout(limit, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// Serves one client from its first octet to its last; with `tls` if that is what its listener speaks.
pub(crate) async fn serve(server: Arc<Server>, socket: TcpStream, peer: SocketAddr, tls: Option<Arc<Tls>>) {
    // PERF: frames are gathered before they are written, so waiting for more only adds latency.
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let limit = Duration::from_millis(server.config.handshake_timeout_ms);
    let deadline = Instant::now() + limit;
    let Some(arrival) = Arrival::receive(&server, socket, peer, tls, deadline).await else { return };
    let Arrival { stream, received, peer, local, tls } = arrival;
    let span = info_span!("connection", %peer);
    async move {
        debug!("accepted");
        let outbound = Arc::new(Outbound::new(server.config.outbound_bytes_max));
        let (read, write) = stream.into_halves(&outbound);
        let (heartbeat, heartbeat_changes) = watch::channel(Duration::ZERO);
        let task = tokio::spawn(writer::run(write, Arc::clone(&outbound), heartbeat_changes));
        let writer = Writer { task, outbound: Arc::clone(&outbound), heartbeat };
        let mut reader = FrameReader::new(read, received);
        let ends = Ends { peer, local, tls };
        let handshake = Handshake { server: &server, reader: &mut reader, outbound: &outbound, ends: &ends };
        let handshake = Box::pin(async {
            tokio::select! {
                outcome = timeout_at(deadline, handshake.run()) => outcome.ok(),
                () = server.shutting_down() => None,
            }
        });
        match handshake.await {
            None => {
                warn!("handshake not completed in {} ms, or the broker is shutting down", limit.as_millis());
                writer.finish(Duration::ZERO).await;
            }
            Some(Err(end)) => Box::pin(refuse(&server, reader, writer, end)).await,
            Some(Ok(opened)) => run_open(server, reader, writer, opened, ends).await,
        }
    }
    .instrument(span)
    .await;
}

/// Ends a connection that was not opened.
async fn refuse(server: &Server, mut reader: FrameReader, writer: Writer, end: HandshakeEnd) {
    let closing = Duration::from_millis(server.config.closing_timeout_ms);
    let delay = Duration::from_millis(SILENT_CLOSE_DELAY_MS);
    match end {
        HandshakeEnd::Refused(error) => {
            warn!(code = error.code as u16, "closing: {}", error.reply_text());
            send_close(&writer.outbound, &error);
            await_close_ok(&mut reader, server.config.frame_max, closing).await;
        }
        HandshakeEnd::Silent(reason) => {
            warn!("closing without a word: {reason}");
            linger(&mut reader, delay).await;
        }
        HandshakeEnd::Gone(reason) => {
            warn!("closing: {reason}");
            writer.finish(closing).await;
            return linger(&mut reader, delay).await;
        }
        HandshakeEnd::Read(ReadEnd::Malformed(error)) => {
            warn!("closing: {error}");
            linger(&mut reader, delay).await;
        }
        HandshakeEnd::Read(ReadEnd::Io(error)) => debug!("closed before it was open: {error}"),
        HandshakeEnd::PeerClosed => {
            send_close_ok(&writer.outbound);
        }
    }
    writer.finish(closing).await;
}

async fn run_open(
    server: Arc<Server>,
    frames: FrameReader,
    writer: Writer,
    opened: Opened,
    Ends { peer, local, tls }: Ends,
) {
    let heartbeat = opened.heartbeat;
    let connection = Arc::new(Connection {
        id: ConnectionId::next(),
        peer,
        name: name_of(peer, local),
        local,
        tls,
        mechanism: opened.mechanism,
        client_properties: opened.client_properties,
        user: opened.user,
        place: opened.place,
        vhost: opened.vhost,
        frame_max: opened.frame_max,
        channel_max: opened.channel_max,
        capabilities: opened.capabilities,
        outbound: Arc::clone(&writer.outbound),
        unfinished: PendingTotal::new(unfinished_bytes_max(server.config.message_bytes_max)),
        uncommitted: PendingTotal::new(UNCOMMITTED_BYTES_MAX),
        received: ReceiveCounters::default(),
        opened_at: server.broker.clock().now(),
        heartbeat,
        channels: Mutex::default(),
        exclusive_queues: Mutex::default(),
        failure: Mutex::default(),
        failed: Notify::new(),
        blocked: Mutex::default(),
        server: Arc::clone(&server),
    });
    server.register(&connection);
    connection.tell_created(heartbeat.as_secs());
    info!(user = %connection.user, vhost = %connection.vhost.name, "connection opened");
    let open_ok = Method::ConnectionOpenOk(connection::OpenOk);
    frame::encode_method(&mut connection.outbound.lock().pending.octets, 0, &open_ok);
    writer.heartbeat.send_replace(heartbeat);
    let mut reader = Reader::new(frames, Arc::clone(&connection), heartbeat);
    let end = reader.run().await;
    end_connection(&connection, reader, writer, end, heartbeat).await;
}

/// Octets that messages may take of which a part is still to come.
fn unfinished_bytes_max(message_bytes_max: u64) -> usize {
    let largest = usize::try_from(message_bytes_max).unwrap_or(usize::MAX);
    UNFINISHED_BYTES_MAX.max(largest.saturating_mul(2))
}

/// COMPAT: an address is written without brackets, and one that could not be told is missing.
pub(crate) fn name_of(peer: SocketAddr, local: Option<SocketAddr>) -> String {
    let written = |address: SocketAddr| format!("{}:{}", address.ip().to_canonical(), address.port());
    format!("{} -> {}", written(peer), local.map(written).unwrap_or_default())
}

/// Stops the channels, deletes what goes with the connection, and says goodbye as the end asks for.
async fn end_connection(
    connection: &Arc<Connection>,
    mut reader: Reader,
    writer: Writer,
    end: ConnectionEnd,
    heartbeat: Duration,
) {
    let (config, peer) = (&connection.server.config, connection.peer);
    let closing = Duration::from_millis(config.closing_timeout_ms);
    match &end {
        ConnectionEnd::PeerClosed => info!(%peer, "connection closed by the client"),
        ConnectionEnd::ClosedByUs(error) | ConnectionEnd::Malformed(error) => {
            warn!(%peer, code = error.code as u16, "closing the connection: {}", error.reply_text());
            send_close(&writer.outbound, error);
        }
        ConnectionEnd::HeartbeatMissed => {
            warn!(%peer, "connection closed: missed heartbeats from the client, interval {heartbeat:?}");
        }
        ConnectionEnd::Io(error) => warn!(%peer, "connection lost: {error}"),
    }
    if matches!(end, ConnectionEnd::Io(_) | ConnectionEnd::HeartbeatMissed) {
        // Nobody reads any more: what waits to be written must not hold a channel up.
        writer.outbound.finish();
    }
    // Whoever closes in an orderly way was promised nothing, but gets what it published before it taken.
    let abandon = !matches!(end, ConnectionEnd::PeerClosed);
    if timeout(closing, reader.end_channels(abandon)).await.is_err() {
        // Channels wait for memory, or for a peer that does not read: it has had its time.
        writer.outbound.finish();
        reader.end_channels(true).await;
    }
    let queues = std::mem::take(&mut *connection.exclusive_queues.lock());
    let queues: Vec<_> = queues.into_iter().collect();
    connection.vhost.delete_exclusive_queues(&queues, connection.id);
    connection.tell_closed();
    // Before the goodbye: a client that has seen it may count on its place being free.
    connection.server.unregister(connection);
    let mut frames = reader.into_frames();
    match end {
        ConnectionEnd::PeerClosed => {
            send_close_ok(&writer.outbound);
            writer.finish(closing).await;
        }
        ConnectionEnd::ClosedByUs(_) => {
            let limit = if heartbeat.is_zero() { closing } else { closing.min(heartbeat) };
            await_close_ok(&mut frames, connection.frame_max, limit).await;
            writer.finish(limit).await;
        }
        ConnectionEnd::Malformed(_) => {
            writer.finish(closing).await;
            // Dropping a socket with octets unread resets it, and the peer would not see why.
            linger(&mut frames, Duration::from_millis(SILENT_CLOSE_DELAY_MS)).await;
        }
        ConnectionEnd::HeartbeatMissed | ConnectionEnd::Io(_) => writer.finish(Duration::ZERO).await,
    }
}

fn send_close(outbound: &Arc<Outbound>, error: &AmqpError) {
    let text = error.reply_text();
    let close = Method::ConnectionClose(connection::Close {
        reply_code: error.code as u16,
        reply_text: &text,
        class_id: error.method.class_id,
        method_id: error.method.method_id,
    });
    frame::encode_method(&mut outbound.lock().pending.octets, 0, &close);
}

fn send_close_ok(outbound: &Arc<Outbound>) {
    let close_ok = Method::ConnectionCloseOk(connection::CloseOk);
    frame::encode_method(&mut outbound.lock().pending.octets, 0, &close_ok);
}

/// SPEC: after connection.close everything but close-ok (and the peer's own close) is ignored.
async fn await_close_ok(frames: &mut FrameReader, frame_max: u32, limit: Duration) {
    let closed = async {
        loop {
            let is_last = frames.next_frame(frame_max, |frame| {
                matches!(
                    Method::decode(frame.payload),
                    Ok(Method::ConnectionCloseOk(_) | Method::ConnectionClose(_))
                ) && frame.channel == 0
            });
            match is_last.await {
                Ok(true) | Err(_) => return,
                Ok(false) => {}
            }
        }
    };
    if timeout(limit, closed).await.is_err() {
        debug!("no close-ok in {limit:?}");
    }
}

/// Reads and forgets until the peer leaves or `limit` is over.
async fn linger(frames: &mut FrameReader, limit: Duration) {
    let drain = async {
        while frames.receive().await.is_ok() {
            let received = frames.received().len();
            frames.skip(received);
        }
    };
    let _ = timeout(limit, drain).await;
}

/// The operator's reason for closing, as clients see it.
pub(crate) fn forced(reason: &str) -> AmqpError {
    AmqpError::new(ReplyCode::ConnectionForced, reason, MethodId::NONE)
}
