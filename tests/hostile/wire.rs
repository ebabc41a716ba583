//! A client that says what it is told to, right or wrong: octets over a socket, frames with the codec.
//!
//! The tests write with `send`, `publish` or, for what no client would ever write, `write`; they read with
//! `expect`, which waits for one method and fails on anything else, or with `end`, which waits for the
//! broker's last word. Every wait has a deadline.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use leveret_codec::frame::{self, FrameType};
use leveret_codec::method::{Method, MethodId, basic, channel, connection, queue};
use leveret_codec::{ContentHeader, FieldTable, Properties};

/// How long anything that is waited for may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A frame as it was received.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) frame_type: FrameType,
    pub(crate) channel: u16,
    pub(crate) payload: Vec<u8>,
}

impl Received {
    pub(crate) fn method(&self) -> Method<'_> {
        assert_eq!(self.frame_type, FrameType::Method, "not a method");
        Method::decode(&self.payload).expect("the broker's methods can be decoded")
    }

    fn is(&self, method: MethodId) -> bool {
        self.frame_type == FrameType::Method
            && MethodId::split(&self.payload).is_ok_and(|(id, _)| id == method)
    }
}

/// How the broker ended a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// connection.close with this code and text; it was answered, and the socket closed after that.
    Close(u16, String),
    /// The client's own connection.close was answered, and the socket closed after that.
    CloseOk,
    /// Without a word.
    Silent,
}

/// What a delivery or a basic.get brought.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) delivery_tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) body: Vec<u8>,
}

/// A socket and what came over it.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
    /// Octets of `received` that were taken.
    taken: usize,
}

impl Wire {
    /// Connects and says nothing.
    pub(crate) fn dial(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
        Self { stream, received: Vec::new(), taken: 0 }
    }

    /// Connects and opens the vhost `/`, with channel 1 open.
    pub(crate) fn open(port: u16) -> Self {
        let mut wire = Self::open_with(port, &opening(&FieldTable::new()));
        wire.open_channel(1);
        wire
    }

    /// Connects, sends a whole handshake and waits for its end.
    pub(crate) fn open_with(port: u16, opening: &[u8]) -> Self {
        let mut wire = Self::dial(port);
        wire.write(opening);
        wire.expect(0, MethodId::CONNECTION_START);
        wire.expect(0, MethodId::CONNECTION_TUNE);
        wire.expect(0, MethodId::CONNECTION_OPEN_OK);
        wire
    }

    /// This side's address, which is the broker's `peer`.
    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("the socket has an address")
    }

    /// Writes octets; the broker has to take them.
    pub(crate) fn write(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).expect("the broker takes what is written");
    }

    /// Writes octets, which the broker may refuse by closing the socket.
    pub(crate) fn try_write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.write_all(octets)
    }

    /// Writes the same octets again and again until the broker has taken none for a while: how many it took
    /// in all, at most `limit`.
    pub(crate) fn write_until_stuck(&mut self, octets: &[u8], limit: usize) -> usize {
        self.stream.set_write_timeout(Some(Duration::from_millis(700))).expect("a timeout can be set");
        let (mut written, mut at) = (0, 0);
        while written < limit {
            match self.stream.write(&octets[at..]) {
                Ok(count) => {
                    written += count;
                    at = (at + count) % octets.len();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("after {written} octets: {error}"),
            }
        }
        self.stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
        written
    }

    /// Says that nothing more will be written.
    pub(crate) fn shut_down_writing(&self) {
        // An error is a broker that closed the socket before.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    pub(crate) fn send(&mut self, channel: u16, method: &Method<'_>) {
        let octets = method_frame(channel, method);
        self.write(&octets);
    }

    pub(crate) fn open_channel(&mut self, channel: u16) {
        self.send(channel, &Method::ChannelOpen(channel::Open));
        self.expect(channel, MethodId::CHANNEL_OPEN_OK);
    }

    /// Declares a queue: how many messages it has.
    pub(crate) fn declare(&mut self, queue: &str) -> u32 {
        self.send(1, &Method::QueueDeclare(declaration(queue)));
        self.declared()
    }

    /// Asks for a queue that is there: how many messages it has.
    pub(crate) fn count(&mut self, queue: &str) -> u32 {
        self.send(1, &Method::QueueDeclare(queue::Declare { passive: true, ..declaration(queue) }));
        self.declared()
    }

    fn declared(&mut self) -> u32 {
        let declare_ok = self.expect(1, MethodId::QUEUE_DECLARE_OK);
        let Method::QueueDeclareOk(declare_ok) = declare_ok.method() else { unreachable!() };
        declare_ok.message_count
    }

    pub(crate) fn delete(&mut self, queue: &str) {
        let delete = queue::Delete { queue, if_unused: false, if_empty: false, no_wait: false };
        self.send(1, &Method::QueueDelete(delete));
        self.expect(1, MethodId::QUEUE_DELETE_OK);
    }

    /// Waits until a queue has `count` messages.
    pub(crate) fn await_count(&mut self, queue: &str, count: u32) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.count(queue);
            if found == count {
                return;
            }
            assert!(Instant::now() < deadline, "{queue} has {found} messages, not {count}");
        }
    }

    pub(crate) fn publish(&mut self, queue: &str, body: &[u8]) {
        let octets = publish_frames(1, "", queue, body);
        self.write(&octets);
    }

    /// Starts a consumer whose tag is the queue's name.
    pub(crate) fn consume(&mut self, queue: &str, no_ack: bool) {
        self.send(1, &Method::BasicConsume(consumption(queue, no_ack)));
        self.expect(1, MethodId::BASIC_CONSUME_OK);
    }

    /// Waits for the next delivery.
    pub(crate) fn delivery(&mut self) -> Message {
        let deliver = self.expect(1, MethodId::BASIC_DELIVER);
        let Method::BasicDeliver(deliver) = deliver.method() else { unreachable!() };
        let (delivery_tag, redelivered) = (deliver.delivery_tag, deliver.redelivered);
        Message { delivery_tag, redelivered, body: self.body() }
    }

    /// Takes a message by basic.get with an ack.
    pub(crate) fn get(&mut self, queue: &str) -> Option<Message> {
        self.send(1, &Method::BasicGet(basic::Get { queue, no_ack: false }));
        let answer = self.next().expect("an answer to basic.get");
        let (delivery_tag, redelivered) = match answer.method() {
            Method::BasicGetOk(get_ok) => (get_ok.delivery_tag, get_ok.redelivered),
            Method::BasicGetEmpty(_) => return None,
            other => panic!("basic.get was answered with {other:?}"),
        };
        let body = self.body();
        self.ack(delivery_tag, false);
        Some(Message { delivery_tag, redelivered, body })
    }

    pub(crate) fn ack(&mut self, delivery_tag: u64, multiple: bool) {
        self.send(1, &Method::BasicAck(basic::Ack { delivery_tag, multiple }));
    }

    fn body(&mut self) -> Vec<u8> {
        let header = self.next().expect("a content header");
        assert_eq!(header.frame_type, FrameType::Header);
        let header = ContentHeader::decode(&header.payload).expect("a content header can be decoded");
        let mut body = Vec::new();
        while (body.len() as u64) < header.body_size {
            let frame = self.next().expect("a body frame");
            assert_eq!(frame.frame_type, FrameType::Body);
            body.extend_from_slice(&frame.payload);
        }
        body
    }

    /// Waits for a method on a channel; heartbeats may come before it, nothing else.
    pub(crate) fn expect(&mut self, channel: u16, method: MethodId) -> Received {
        let frame = self.next().unwrap_or_else(|error| panic!("instead of {method:?}: {error}"));
        if frame.is(method) && frame.channel == channel {
            return frame;
        }
        if frame.frame_type == FrameType::Method {
            panic!("instead of {method:?} on channel {channel}: {:?}, {:?}", frame.channel, frame.method());
        }
        panic!("instead of {method:?} on channel {channel}: {frame:?}");
    }

    /// Waits for channel.close on channel 1 and answers it: its code.
    pub(crate) fn channel_closed(&mut self) -> u16 {
        let close = self.expect(1, MethodId::CHANNEL_CLOSE);
        let Method::ChannelClose(close) = close.method() else { unreachable!() };
        let code = close.reply_code;
        self.send(1, &Method::ChannelCloseOk(channel::CloseOk));
        code
    }

    /// Closes the connection in an orderly way.
    pub(crate) fn close(mut self) {
        self.send(0, &Method::ConnectionClose(closing()));
        assert_eq!(self.end(), End::CloseOk);
    }

    /// Reads until the broker closes the socket; whatever else comes before is skipped.
    pub(crate) fn end(&mut self) -> End {
        let mut end = End::Silent;
        while let Ok(frame) = self.next() {
            if frame.is(MethodId::CONNECTION_CLOSE) {
                let Method::ConnectionClose(close) = frame.method() else { unreachable!() };
                end = End::Close(close.reply_code, close.reply_text.to_owned());
                let close_ok = method_frame(0, &Method::ConnectionCloseOk(connection::CloseOk));
                // After a framing error nobody waits for it.
                let _ = self.try_write(&close_ok);
                self.shut_down_writing();
            } else if frame.is(MethodId::CONNECTION_CLOSE_OK) {
                end = End::CloseOk;
            }
        }
        end
    }

    /// Waits for the next frame that is no heartbeat.
    ///
    /// # Errors
    /// The socket was closed.
    pub(crate) fn next(&mut self) -> io::Result<Received> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let unread = self.received.get(self.taken..).unwrap_or_default();
            if unread == frame::PROTOCOL_HEADER {
                // The answer to a protocol that is not spoken; the socket is closed after it.
                self.taken = self.received.len();
                continue;
            }
            match frame::decode_frame(unread, u32::MAX).expect("the broker writes frames") {
                Some((found, size)) => {
                    let (frame_type, channel) = (found.frame_type, found.channel);
                    let received = Received { frame_type, channel, payload: found.payload.to_vec() };
                    self.taken += size;
                    if frame_type != FrameType::Heartbeat {
                        return Ok(received);
                    }
                }
                None => self.read_more(deadline)?,
            }
        }
    }

    fn read_more(&mut self, deadline: Instant) -> io::Result<()> {
        self.received.drain(..self.taken);
        self.taken = 0;
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left)).expect("a timeout can be set");
        let before = self.received.len();
        self.received.resize(before + 64 * 1024, 0);
        let result = self.stream.read(&mut self.received[before..]);
        self.received.truncate(before + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("the broker said nothing for {PATIENCE:?}")
            }
            Err(error) => Err(error),
        }
    }

    /// Closes the socket so that the broker gets a reset: the kernel sends one where octets were not read.
    pub(crate) fn reset(self) {
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let unread = self.stream.peek(&mut [0]);
        assert_eq!(unread.expect("something comes"), 1, "there is something not read");
    }
}

/// The client's side of a handshake up to connection.open, all at once.
pub(crate) fn opening(capabilities: &FieldTable) -> Vec<u8> {
    opening_with(capabilities, 0, 60)
}

/// The same with a limit of channels and a heartbeat interval in seconds.
pub(crate) fn opening_with(capabilities: &FieldTable, channel_max: u16, heartbeat: u16) -> Vec<u8> {
    let mut octets = frame::PROTOCOL_HEADER.to_vec();
    let start_ok = connection::StartOk {
        client_properties: FieldTable::new().with("capabilities", capabilities.clone()),
        mechanism: "PLAIN",
        response: b"\0guest\0guest",
        locale: "en_US",
    };
    let channel_max = if channel_max == 0 { 2047 } else { channel_max };
    let tune_ok = connection::TuneOk { channel_max, frame_max: 131_072, heartbeat };
    frame::encode_method(&mut octets, 0, &Method::ConnectionStartOk(start_ok));
    frame::encode_method(&mut octets, 0, &Method::ConnectionTuneOk(tune_ok));
    frame::encode_method(&mut octets, 0, &Method::ConnectionOpen(connection::Open { virtual_host: "/" }));
    octets
}

pub(crate) fn method_frame(channel: u16, method: &Method<'_>) -> Vec<u8> {
    let mut octets = Vec::new();
    frame::encode_method(&mut octets, channel, method);
    octets
}

/// A frame around any payload.
pub(crate) fn raw_frame(frame_type: FrameType, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    frame::encode_frame(&mut octets, frame_type, channel, payload);
    octets
}

/// basic.publish alone.
pub(crate) fn publish_method(channel: u16, exchange: &str, routing_key: &str) -> Vec<u8> {
    let publish = basic::Publish { exchange, routing_key, mandatory: false, immediate: false };
    method_frame(channel, &Method::BasicPublish(publish))
}

/// A content header without properties.
pub(crate) fn header_frame(channel: u16, body_size: u64) -> Vec<u8> {
    header_frame_with(channel, body_size, &Properties::default())
}

pub(crate) fn header_frame_with(channel: u16, body_size: u64, properties: &Properties<'_>) -> Vec<u8> {
    let mut octets = Vec::new();
    let header = ContentHeader { class_id: 60, body_size, properties: *properties };
    frame::encode_content_header(&mut octets, channel, &header);
    octets
}

/// A whole message.
pub(crate) fn publish_frames(channel: u16, exchange: &str, routing_key: &str, body: &[u8]) -> Vec<u8> {
    let mut octets = publish_method(channel, exchange, routing_key);
    octets.extend(header_frame(channel, body.len() as u64));
    frame::encode_body(&mut octets, channel, body, 131_072);
    octets
}

pub(crate) fn declaration(queue: &str) -> queue::Declare<'_> {
    queue::Declare {
        queue,
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: FieldTable::new(),
    }
}

pub(crate) fn consumption(queue: &str, no_ack: bool) -> basic::Consume<'_> {
    basic::Consume {
        queue,
        consumer_tag: queue,
        no_local: false,
        no_ack,
        exclusive: false,
        no_wait: false,
        arguments: FieldTable::new(),
    }
}

fn closing() -> connection::Close<'static> {
    connection::Close { reply_code: 200, reply_text: "bye", class_id: 0, method_id: 0 }
}
