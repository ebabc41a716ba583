//! A client that says exactly what a script tells it to and checks every frame that comes back.
//!
//! A script makes a [`Peer`], sends methods, raw frames or raw octets, and states what must come next. Every
//! read has a deadline. [`Peer::either`] marks the places where Leveret and the RabbitMQ 3.10 that the same
//! scripts run against are meant to differ; docs/COMPATIBILITY.md lists them.

use std::fmt::Debug;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use leveret_codec::frame::{self, FrameType, PROTOCOL_HEADER};
use leveret_codec::method::{Method, MethodId, basic, channel, connection, queue};
use leveret_codec::properties::{ContentHeader, Properties};
use leveret_codec::table::FieldTable;

use crate::say::{Say, declare, publish};
use crate::support::Broker;

/// How long any single answer may take.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Leveret,
    /// The referee, version 3.10.
    RabbitMq,
}

/// What a client asks for while it connects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wishes {
    pub(crate) channel_max: u16,
    pub(crate) frame_max: u32,
    pub(crate) heartbeat: u16,
    /// Announce the capabilities that change what the server sends.
    pub(crate) capable: bool,
}

/// What well-behaved clients ask for.
pub(crate) const USUAL: Wishes =
    Wishes { channel_max: 2047, frame_max: 131_072, heartbeat: 0, capable: true };

/// One side of a connection.
pub(crate) struct Peer {
    socket: TcpStream,
    octets: Vec<u8>,
    server: Server,
    /// Heartbeat frames that were read, and skipped, so far.
    pub(crate) heartbeats: u32,
}

/// One frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) frame_type: FrameType,
    pub(crate) channel: u16,
    pub(crate) payload: Vec<u8>,
}

/// A method with content that came: basic.deliver, basic.get-ok or basic.return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) consumer_tag: String,
    pub(crate) tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    /// Messages left, of a get-ok.
    pub(crate) left: u32,
    /// Property flags and values.
    pub(crate) properties: Vec<u8>,
    pub(crate) body: String,
}

impl Received {
    #[track_caller]
    pub(crate) fn method(&self) -> Method<'_> {
        assert_eq!(self.frame_type, FrameType::Method, "expected a method, got {self:?}");
        Method::decode(&self.payload).unwrap_or_else(|error| panic!("{error}: {:?}", self.payload))
    }
}

impl Message {
    pub(crate) fn properties(&self) -> Properties<'_> {
        Properties::decode(&self.properties).expect("the server's properties can be decoded")
    }
}

/// Connecting.
impl Peer {
    /// A TCP connection, nothing said yet.
    pub(crate) fn connect(broker: &Broker) -> Self {
        let socket = TcpStream::connect((broker.host.as_str(), broker.port)).expect("the broker listens");
        socket.set_nodelay(true).expect("TCP_NODELAY can be set");
        Self { socket, octets: Vec::new(), server: Server::Leveret, heartbeats: 0 }
    }

    /// As far as connection.start.
    pub(crate) fn start(broker: &Broker) -> Self {
        let mut peer = Self::connect(broker);
        peer.send_octets(&PROTOCOL_HEADER);
        peer.recv_start();
        peer
    }

    /// As far as connection.tune.
    pub(crate) fn log_in(broker: &Broker) -> Self {
        let mut peer = Self::start(broker);
        peer.send_start_ok("PLAIN", b"\0guest\0guest", true);
        peer.recv_tune();
        peer
    }

    /// An open connection to the vhost `/`.
    pub(crate) fn open(broker: &Broker) -> Self {
        Self::open_with(broker, USUAL)
    }

    pub(crate) fn open_with(broker: &Broker, wishes: Wishes) -> Self {
        let mut peer = Self::start(broker);
        peer.send_start_ok("PLAIN", b"\0guest\0guest", wishes.capable);
        peer.recv_tune();
        let Wishes { channel_max, frame_max, heartbeat, .. } = wishes;
        peer.send(0, connection::TuneOk { channel_max, frame_max, heartbeat });
        peer.ask(0, connection::Open { virtual_host: "/" }, connection::OpenOk);
        peer
    }

    /// An open connection with channel 1 open.
    pub(crate) fn with_channel(broker: &Broker) -> Self {
        let mut peer = Self::open(broker);
        peer.open_channel(1);
        peer
    }

    #[track_caller]
    pub(crate) fn recv_start(&mut self) -> FieldTable {
        let received = self.recv();
        let Method::ConnectionStart(start) = received.method() else { panic!("no start: {received:?}") };
        assert_eq!((start.version_major, start.version_minor), (0, 9));
        let information = start.server_properties.get("information").and_then(|text| text.as_str());
        let is_leveret = information.is_some_and(|text| text.starts_with("Leveret"));
        self.server = if is_leveret { Server::Leveret } else { Server::RabbitMq };
        start.server_properties
    }

    pub(crate) fn send_start_ok(&mut self, mechanism: &str, response: &[u8], capable: bool) {
        let capabilities = ["consumer_cancel_notify", "connection.blocked", "authentication_failure_close"];
        let capabilities: FieldTable = capabilities.into_iter().map(|name| (name, capable)).collect();
        let client_properties = FieldTable::new().with("capabilities", capabilities);
        self.send(0, connection::StartOk { client_properties, mechanism, response, locale: "en_US" });
    }

    #[track_caller]
    pub(crate) fn recv_tune(&mut self) -> connection::Tune {
        let received = self.recv();
        let Method::ConnectionTune(tune) = received.method() else { panic!("no tune: {received:?}") };
        tune
    }

    /// What this server is meant to do where the two differ, for the reason given.
    pub(crate) fn either<T>(&self, leveret: T, rabbitmq_3_10: T, reason: &str) -> T {
        assert!(!reason.is_empty());
        match self.server {
            Server::Leveret => leveret,
            Server::RabbitMq => rabbitmq_3_10,
        }
    }

    pub(crate) fn is_leveret(&self) -> bool {
        self.server == Server::Leveret
    }
}

/// Sending.
impl Peer {
    pub(crate) fn send_octets(&mut self, octets: &[u8]) {
        self.socket.write_all(octets).expect("the server takes what is sent");
    }

    /// Sends to a server that may have closed the connection already.
    pub(crate) fn send_octets_into_the_void(&mut self, octets: &[u8]) {
        let _ = self.socket.write_all(octets);
    }

    pub(crate) fn send_frame(&mut self, frame_type: FrameType, channel: u16, payload: &[u8]) {
        let mut octets = Vec::new();
        frame::encode_frame(&mut octets, frame_type, channel, payload);
        self.send_octets(&octets);
    }

    pub(crate) fn send<'a>(&mut self, channel: u16, method: impl Say<'a>) {
        self.send_octets(&encoded(channel, method));
    }

    /// Publishes with the given properties and the body in one frame, or none if it is empty.
    pub(crate) fn send_message<'a>(
        &mut self,
        channel: u16,
        publish: impl Say<'a>,
        properties: Properties<'_>,
        body: &str,
    ) {
        let mut octets = encoded(channel, publish);
        let header = ContentHeader { class_id: 60, body_size: body.len() as u64, properties };
        frame::encode_content_header(&mut octets, channel, &header);
        frame::encode_body(&mut octets, channel, body.as_bytes(), 131_072);
        self.send_octets(&octets);
    }

    /// Publishes without properties.
    pub(crate) fn publish(&mut self, channel: u16, exchange: &str, routing_key: &str, body: &str) {
        self.send_message(channel, publish(exchange, routing_key), Properties::default(), body);
    }

    pub(crate) fn send_header(&mut self, channel: u16, class_id: u16, body_size: u64) {
        let mut octets = Vec::new();
        frame::encode_raw_content_header(&mut octets, channel, class_id, body_size, &[]);
        self.send_octets(&octets);
    }

    /// Ends what this side sends; the server sees the end of the stream.
    pub(crate) fn shut_down(&mut self) {
        // An error means that the server was faster.
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

/// Receiving.
impl Peer {
    /// The next frame that is no heartbeat.
    #[track_caller]
    pub(crate) fn recv(&mut self) -> Received {
        loop {
            let Some(received) = self.recv_any() else { panic!("the server closed the connection") };
            if received.frame_type != FrameType::Heartbeat {
                return received;
            }
            assert_eq!((received.channel, received.payload.len()), (0, 0), "an empty heartbeat on channel 0");
        }
    }

    /// The next frame, `None` at the end of the stream.
    #[track_caller]
    fn recv_any(&mut self) -> Option<Received> {
        let deadline = Instant::now() + ANSWER_MAX;
        loop {
            let decoded = frame::decode_frame(&self.octets, 1 << 20).expect("the server sends frames");
            if let Some((found, size)) = decoded {
                let payload = found.payload.to_vec();
                let received = Received { frame_type: found.frame_type, channel: found.channel, payload };
                self.octets.drain(..size);
                self.heartbeats += u32::from(received.frame_type == FrameType::Heartbeat);
                return Some(received);
            }
            if !self.read(deadline) {
                assert!(self.octets.is_empty(), "half a frame before the end: {:?}", self.octets);
                return None;
            }
        }
    }

    /// Reads once, perhaps nothing; false at the end of the stream.
    #[track_caller]
    fn read(&mut self, deadline: Instant) -> bool {
        let mut piece = [0; 16 * 1024];
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(left)).expect("the time-out can be set");
        match self.socket.read(&mut piece) {
            Ok(0) => false,
            Ok(count) => {
                self.octets.extend_from_slice(&piece[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) => panic!("nothing came in {ANSWER_MAX:?}: {error}"),
        }
    }

    /// This many octets, whatever they mean.
    #[track_caller]
    pub(crate) fn recv_octets(&mut self, count: usize) -> Vec<u8> {
        let deadline = Instant::now() + ANSWER_MAX;
        while self.octets.len() < count {
            assert!(self.read(deadline), "the end after {:?}", self.octets);
        }
        self.octets.drain(..count).collect()
    }

    /// The next heartbeat, which must be the next frame.
    #[track_caller]
    pub(crate) fn expect_heartbeat(&mut self) {
        let received = self.recv_any();
        let heartbeat = Received { frame_type: FrameType::Heartbeat, channel: 0, payload: Vec::new() };
        assert_eq!(received, Some(heartbeat));
    }

    /// The end of the stream, with nothing before it but heartbeats.
    #[track_caller]
    pub(crate) fn expect_eof(&mut self) {
        while let Some(received) = self.recv_any() {
            let is_heartbeat = received.frame_type == FrameType::Heartbeat;
            assert!(is_heartbeat, "expected the end, got {received:?} {}", named(&received));
        }
    }

    /// Exactly this method, next.
    #[track_caller]
    pub(crate) fn expect<'a>(&mut self, channel: u16, method: impl Say<'a>) {
        let received = self.recv();
        assert_eq!((received.channel, received.method()), (channel, method.say()));
    }

    /// Sends a method and expects exactly this answer, next.
    #[track_caller]
    pub(crate) fn ask<'a, 'b>(&mut self, channel: u16, method: impl Say<'a>, answer: impl Say<'b>) {
        self.send(channel, method);
        self.expect(channel, answer);
    }

    /// A method with its content, next and with nothing between its frames.
    #[track_caller]
    pub(crate) fn recv_message(&mut self, channel: u16) -> (MethodId, Message) {
        let received = self.recv();
        assert_eq!(received.channel, channel, "{}", named(&received));
        let (id, mut message) = match received.method() {
            Method::BasicDeliver(deliver) => (MethodId::BASIC_DELIVER, Message::delivered(&deliver)),
            Method::BasicGetOk(get_ok) => (MethodId::BASIC_GET_OK, Message::got(&get_ok)),
            Method::BasicReturn(returned) => (MethodId::BASIC_RETURN, Message::returned(&returned)),
            other => panic!("expected a message, got {other:?}"),
        };
        let header = self.recv();
        assert_eq!((header.channel, header.frame_type), (channel, FrameType::Header));
        let decoded = ContentHeader::decode(&header.payload).expect("the header can be decoded");
        message.properties = ContentHeader::property_octets(&header.payload).to_vec();
        let mut body = Vec::new();
        while (body.len() as u64) < decoded.body_size {
            let frame = self.recv();
            assert_eq!((frame.channel, frame.frame_type), (channel, FrameType::Body));
            body.extend_from_slice(&frame.payload);
        }
        message.body = String::from_utf8(body).expect("scripts publish text");
        (id, message)
    }

    /// basic.deliver, next.
    #[track_caller]
    pub(crate) fn expect_delivery(&mut self, channel: u16, consumer_tag: &str, body: &str) -> Message {
        let (id, message) = self.recv_message(channel);
        assert_eq!(id, MethodId::BASIC_DELIVER);
        assert_eq!((message.consumer_tag.as_str(), message.body.as_str()), (consumer_tag, body));
        message
    }

    /// basic.return, next.
    #[track_caller]
    pub(crate) fn expect_return(&mut self, channel: u16, body: &str) -> Message {
        let (id, message) = self.recv_message(channel);
        assert_eq!((id, message.body.as_str()), (MethodId::BASIC_RETURN, body));
        message
    }

    /// basic.get with an answer that has this body.
    #[track_caller]
    pub(crate) fn get(&mut self, channel: u16, queue: &str, body: &str) -> Message {
        self.send(channel, basic::Get { queue, no_ack: false });
        let (id, message) = self.recv_message(channel);
        assert_eq!((id, message.body.as_str()), (MethodId::BASIC_GET_OK, body));
        message
    }

    #[track_caller]
    pub(crate) fn expect_empty(&mut self, channel: u16, queue: &str) {
        self.ask(channel, basic::Get { queue, no_ack: true }, basic::GetEmpty);
    }

    /// channel.close with exactly this, next; answered.
    #[track_caller]
    pub(crate) fn expect_channel_close(&mut self, channel: u16, code: u16, text: &str, method: MethodId) {
        let (class_id, method_id) = (method.class_id, method.method_id);
        let close = channel::Close { reply_code: code, reply_text: text, class_id, method_id };
        self.expect(channel, close);
        self.send(channel, channel::CloseOk);
    }

    /// connection.close with exactly this, next; answered. Then the end of the stream.
    #[track_caller]
    pub(crate) fn expect_close(&mut self, code: u16, text: &str, method: MethodId) {
        let (class_id, method_id) = (method.class_id, method.method_id);
        let close = connection::Close { reply_code: code, reply_text: text, class_id, method_id };
        self.expect(0, close);
        self.send_octets_into_the_void(&encoded(0, connection::CloseOk));
        self.expect_eof();
    }
}

/// What many scripts begin with.
impl Peer {
    #[track_caller]
    pub(crate) fn open_channel(&mut self, channel: u16) {
        self.ask(channel, channel::Open, channel::OpenOk);
    }

    /// A server-named exclusive queue; it goes with the connection.
    #[track_caller]
    pub(crate) fn queue(&mut self, channel: u16) -> String {
        self.send(channel, queue::Declare { exclusive: true, ..declare("") });
        let received = self.recv();
        let Method::QueueDeclareOk(declared) = received.method() else { panic!("{}", named(&received)) };
        assert_eq!((declared.message_count, declared.consumer_count), (0, 0));
        declared.queue.to_owned()
    }

    /// Waits until the server has done all it was told on this channel, and got from this queue what was on
    /// its way: the answer must be the next frame. Checks how many messages are ready in it.
    #[track_caller]
    pub(crate) fn expect_quiet(&mut self, channel: u16, queue: &str, ready: u32) {
        // RabbitMQ's answer overtakes messages that are on their way into the queue.
        let deadline = Instant::now() + if self.is_leveret() { Duration::ZERO } else { ANSWER_MAX };
        loop {
            self.send(channel, queue::Declare { passive: true, ..declare(queue) });
            let received = self.recv();
            let Method::QueueDeclareOk(declared) = received.method() else {
                panic!("expected nothing, got {}", named(&received))
            };
            let found = (received.channel, declared.queue, declared.message_count);
            if found != (channel, queue, ready) && Instant::now() < deadline {
                continue;
            }
            return assert_eq!(found, (channel, queue, ready));
        }
    }

    /// Waits until the server has done all it was told on this channel: the answer must be the next frame.
    #[track_caller]
    pub(crate) fn expect_nothing(&mut self, channel: u16) {
        self.ask(channel, channel::Flow { active: true }, channel::FlowOk { active: true });
    }

    /// A clean goodbye.
    #[track_caller]
    pub(crate) fn close(mut self) {
        let close = connection::Close { reply_code: 200, reply_text: "bye", class_id: 0, method_id: 0 };
        self.ask(0, close, connection::CloseOk);
        self.hang_up();
    }

    /// Ends the stream from this side, as a client does after the close handshake: some servers wait for it.
    #[track_caller]
    pub(crate) fn hang_up(&mut self) {
        self.shut_down();
        self.expect_eof();
    }
}

impl Message {
    fn new(exchange: &str, routing_key: &str) -> Self {
        Self {
            consumer_tag: String::new(),
            tag: 0,
            redelivered: false,
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            left: 0,
            properties: Vec::new(),
            body: String::new(),
        }
    }

    fn delivered(deliver: &basic::Deliver<'_>) -> Self {
        Self {
            consumer_tag: deliver.consumer_tag.to_owned(),
            tag: deliver.delivery_tag,
            redelivered: deliver.redelivered,
            ..Self::new(deliver.exchange, deliver.routing_key)
        }
    }

    fn got(get_ok: &basic::GetOk<'_>) -> Self {
        Self {
            tag: get_ok.delivery_tag,
            redelivered: get_ok.redelivered,
            left: get_ok.message_count,
            ..Self::new(get_ok.exchange, get_ok.routing_key)
        }
    }

    fn returned(returned: &basic::Return<'_>) -> Self {
        assert_eq!((returned.reply_code, returned.reply_text), (312, "NO_ROUTE"));
        Self::new(returned.exchange, returned.routing_key)
    }
}

/// A method's frame.
pub(crate) fn encoded<'a>(channel: u16, method: impl Say<'a>) -> Vec<u8> {
    let mut octets = Vec::new();
    frame::encode_method(&mut octets, channel, &method.say());
    octets
}

fn named(received: &Received) -> String {
    match Method::decode(&received.payload) {
        Ok(method) if received.frame_type == FrameType::Method => format!("{method:?}"),
        _ => format!("{received:?}"),
    }
}

/// A name that no other script, and no earlier run against the same server, uses.
pub(crate) fn unique(label: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{label}-{}-{number}", std::process::id())
}

/// Reads whatever `check` waits for, as long as a single answer may take.
#[track_caller]
pub(crate) fn eventually<T: Debug>(mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + ANSWER_MAX;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "did not happen in {ANSWER_MAX:?}");
    }
}
