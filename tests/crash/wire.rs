//! A client that says exactly what it is told to and lives on when its broker dies: every call gives back the
//! socket's error. One channel per connection; what is written in one call leaves in one piece.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use leveret_codec::frame::{self, FrameType};
use leveret_codec::method::{Method, MethodId, basic, channel, confirm, connection, exchange, queue};
use leveret_codec::{ContentHeader, FieldTable, Properties};

use crate::message::Content;

/// How long anything that is waited for may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Frames are no larger than this.
const FRAME_MAX: u32 = 131_072;

/// The channel of everything but the connection's own methods.
pub(crate) const CHANNEL: u16 = 1;

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) message_id: String,
    pub(crate) delivery_mode: Option<u8>,
    pub(crate) body: Vec<u8>,
}

/// What comes from a broker.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// basic.deliver or basic.get-ok with its content.
    Delivery(Delivery),
    /// basic.return with its content.
    Returned,
    /// basic.ack (true) or basic.nack for publishes.
    Confirm { tag: u64, multiple: bool, taken: bool },
    /// connection.blocked with its reason.
    Blocked(String),
    /// connection.unblocked.
    Unblocked,
    /// Any other method, as its payload.
    Method(Vec<u8>),
}

impl Incoming {
    fn is(&self, method: MethodId) -> bool {
        matches!(self, Self::Method(payload) if MethodId::split(payload).is_ok_and(|(id, _)| id == method))
    }
}

/// A connection.
pub(crate) struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
    /// Octets of `received` that were taken.
    taken: usize,
    /// What the next [`Wire::flush`] writes.
    out: Vec<u8>,
    /// Publishes so far.
    published: u64,
}

impl Wire {
    /// Connects as guest to the vhost `/`, asks to be told of alarms, and opens the channel.
    pub(crate) fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let out = frame::PROTOCOL_HEADER.to_vec();
        let mut wire = Self { stream, received: Vec::new(), taken: 0, out, published: 0 };
        let capabilities = FieldTable::new().with("connection.blocked", true);
        wire.push_on(
            0,
            &Method::ConnectionStartOk(connection::StartOk {
                client_properties: FieldTable::new().with("capabilities", capabilities),
                mechanism: "PLAIN",
                response: b"\0guest\0guest",
                locale: "en_US",
            }),
        );
        let tune_ok = connection::TuneOk { channel_max: 10, frame_max: FRAME_MAX, heartbeat: 0 };
        wire.push_on(0, &Method::ConnectionTuneOk(tune_ok));
        wire.push_on(0, &Method::ConnectionOpen(connection::Open { virtual_host: "/" }));
        wire.push(&Method::ChannelOpen(channel::Open));
        wire.flush()?;
        let answers = [
            MethodId::CONNECTION_START,
            MethodId::CONNECTION_TUNE,
            MethodId::CONNECTION_OPEN_OK,
            MethodId::CHANNEL_OPEN_OK,
        ];
        for answer in answers {
            wire.expect(answer)?;
        }
        Ok(wire)
    }

    /// The same with confirms.
    pub(crate) fn open_confirming(port: u16) -> io::Result<Self> {
        let mut wire = Self::open(port)?;
        wire.call(&Method::ConfirmSelect(confirm::Select { no_wait: false }), MethodId::CONFIRM_SELECT_OK)?;
        Ok(wire)
    }

    fn push_on(&mut self, channel: u16, method: &Method<'_>) {
        frame::encode_method(&mut self.out, channel, method);
    }

    /// Appends a method to what is written next.
    pub(crate) fn push(&mut self, method: &Method<'_>) {
        self.push_on(CHANNEL, method);
    }

    /// Appends a message.
    pub(crate) fn push_message(&mut self, exchange: &str, routing_key: &str, content: &Content) {
        self.push_publish(exchange, routing_key, false, content);
    }

    /// Appends a message that comes back if nothing is bound for it.
    pub(crate) fn push_mandatory(&mut self, exchange: &str, routing_key: &str, content: &Content) {
        self.push_publish(exchange, routing_key, true, content);
    }

    fn push_publish(&mut self, exchange: &str, routing_key: &str, mandatory: bool, content: &Content) {
        let id = content.id();
        let properties = Properties {
            message_id: Some(id.as_bytes()),
            delivery_mode: Some(content.delivery_mode()),
            priority: Some(content.priority()),
            ..Properties::default()
        };
        self.push_octets(exchange, routing_key, mandatory, &properties, content.body());
    }

    /// Appends a message of any kind.
    pub(crate) fn push_octets(
        &mut self,
        exchange: &str,
        routing_key: &str,
        mandatory: bool,
        properties: &Properties<'_>,
        body: &[u8],
    ) {
        self.published += 1;
        self.push(&Method::BasicPublish(basic::Publish {
            exchange,
            routing_key,
            mandatory,
            immediate: false,
        }));
        let header = ContentHeader { class_id: 60, body_size: body.len() as u64, properties: *properties };
        frame::encode_content_header(&mut self.out, CHANNEL, &header);
        frame::encode_body(&mut self.out, CHANNEL, body, FRAME_MAX);
    }

    /// Writes what was appended.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let written = self.stream.write_all(&self.out);
        self.out.clear();
        written
    }

    /// Publishes appended so far: the tag of the last one, if the channel has confirms since it was opened.
    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    /// Sends a method and waits for its answer, which has to be the next thing that comes.
    pub(crate) fn call(&mut self, method: &Method<'_>, answer: MethodId) -> io::Result<Vec<u8>> {
        self.push(method);
        self.flush()?;
        self.expect(answer)
    }

    fn expect(&mut self, answer: MethodId) -> io::Result<Vec<u8>> {
        match self.next()? {
            Incoming::Method(payload) if Incoming::Method(payload.clone()).is(answer) => Ok(payload),
            other => Err(refused(&format!("{answer:?} was awaited"), &other)),
        }
    }

    /// Waits until these publishes of the channel are confirmed: whether the broker took all of them, and whether
    /// one came back.
    pub(crate) fn await_confirms(&mut self, tags: RangeInclusive<u64>) -> io::Result<(bool, bool)> {
        let mut awaited: BTreeSet<u64> = tags.collect();
        let (mut all_taken, mut returned) = (true, false);
        while !awaited.is_empty() {
            match self.next()? {
                Incoming::Confirm { tag, multiple, taken } => {
                    all_taken &= taken;
                    awaited.retain(|&one| if multiple { one > tag } else { one != tag });
                }
                Incoming::Returned => returned = true,
                other => return Err(refused("a confirm was awaited", &other)),
            }
        }
        Ok((all_taken, returned))
    }

    /// Declares a queue: how many messages are ready in it.
    pub(crate) fn declare(&mut self, declare: queue::Declare<'_>) -> io::Result<u32> {
        let answer = self.call(&Method::QueueDeclare(declare), MethodId::QUEUE_DECLARE_OK)?;
        Ok(message_count(&answer))
    }

    /// Asks for a queue: how many messages are ready in it, or none if it does not exist.
    pub(crate) fn count(&mut self, queue: &str) -> io::Result<Option<u32>> {
        let declare = queue::Declare { passive: true, ..durable_queue(queue) };
        let answer = self.ask(&Method::QueueDeclare(declare), MethodId::QUEUE_DECLARE_OK)?;
        Ok(answer.map(|answer| message_count(&answer)))
    }

    /// Whether an exchange exists.
    pub(crate) fn has_exchange(&mut self, exchange: &str) -> io::Result<bool> {
        let declare = exchange::Declare { passive: true, ..durable_exchange(exchange, "") };
        Ok(self.ask(&Method::ExchangeDeclare(declare), MethodId::EXCHANGE_DECLARE_OK)?.is_some())
    }

    /// Sends a method: its answer, or nothing if the channel was closed with 404; then it is opened again.
    fn ask(&mut self, method: &Method<'_>, answer: MethodId) -> io::Result<Option<Vec<u8>>> {
        self.push(method);
        self.flush()?;
        let incoming = self.next()?;
        if incoming.is(answer) {
            let Incoming::Method(payload) = incoming else { unreachable!("only methods have ids") };
            return Ok(Some(payload));
        }
        if let Incoming::Method(payload) = &incoming
            && let Ok(Method::ChannelClose(close)) = Method::decode(payload)
            && close.reply_code == 404
        {
            self.push(&Method::ChannelCloseOk(channel::CloseOk));
            self.call(&Method::ChannelOpen(channel::Open), MethodId::CHANNEL_OPEN_OK)?;
            return Ok(None);
        }
        Err(refused(&format!("{answer:?} was awaited"), &incoming))
    }

    /// Starts a consumer that acknowledges.
    pub(crate) fn consume(&mut self, queue: &str, prefetch_count: u16) -> io::Result<()> {
        let qos = basic::Qos { prefetch_size: 0, prefetch_count, global: false };
        self.call(&Method::BasicQos(qos), MethodId::BASIC_QOS_OK)?;
        let consume = basic::Consume {
            queue,
            consumer_tag: "c",
            no_local: false,
            no_ack: false,
            exclusive: false,
            no_wait: false,
            arguments: FieldTable::new(),
        };
        self.call(&Method::BasicConsume(consume), MethodId::BASIC_CONSUME_OK).map(|_| ())
    }

    /// Appends an ack.
    pub(crate) fn push_ack(&mut self, delivery_tag: u64, multiple: bool) {
        self.push(&Method::BasicAck(basic::Ack { delivery_tag, multiple }));
    }

    /// Closes in an orderly way: everything said before has been done then.
    pub(crate) fn close(mut self) -> io::Result<()> {
        let close = connection::Close { reply_code: 200, reply_text: "bye", class_id: 0, method_id: 0 };
        self.push_on(0, &Method::ConnectionClose(close));
        self.flush()?;
        while !self.next()?.is(MethodId::CONNECTION_CLOSE_OK) {}
        Ok(())
    }

    /// Waits for what comes next.
    ///
    /// # Errors
    /// The socket ended; or, of kind `TimedOut`, nothing came.
    pub(crate) fn next(&mut self) -> io::Result<Incoming> {
        self.next_before(Instant::now() + PATIENCE)
    }

    /// The same with a time of one's own.
    pub(crate) fn next_before(&mut self, deadline: Instant) -> io::Result<Incoming> {
        let payload = self.frame(FrameType::Method, deadline)?;
        let method = Method::decode(&payload).map_err(io::Error::other)?;
        let incoming = match method {
            Method::BasicDeliver(deliver) => {
                let (tag, redelivered) = (deliver.delivery_tag, deliver.redelivered);
                Incoming::Delivery(Delivery { tag, redelivered, ..self.content(deadline)? })
            }
            Method::BasicGetOk(get_ok) => {
                let (tag, redelivered) = (get_ok.delivery_tag, get_ok.redelivered);
                Incoming::Delivery(Delivery { tag, redelivered, ..self.content(deadline)? })
            }
            Method::BasicReturn(_) => {
                self.content(deadline)?;
                Incoming::Returned
            }
            Method::BasicAck(ack) => {
                Incoming::Confirm { tag: ack.delivery_tag, multiple: ack.multiple, taken: true }
            }
            Method::BasicNack(nack) => {
                Incoming::Confirm { tag: nack.delivery_tag, multiple: nack.multiple, taken: false }
            }
            Method::ConnectionBlocked(blocked) => Incoming::Blocked(blocked.reason.to_owned()),
            Method::ConnectionUnblocked(_) => Incoming::Unblocked,
            _ => Incoming::Method(payload),
        };
        Ok(incoming)
    }

    /// Whether something came that was not looked at yet.
    pub(crate) fn has_received(&self) -> bool {
        self.taken < self.received.len()
    }

    fn content(&mut self, deadline: Instant) -> io::Result<Delivery> {
        let payload = self.frame(FrameType::Header, deadline)?;
        let header = ContentHeader::decode(&payload).map_err(io::Error::other)?;
        let id = header.properties.message_id.unwrap_or_default();
        let (message_id, delivery_mode) =
            (String::from_utf8_lossy(id).into_owned(), header.properties.delivery_mode);
        let mut body = Vec::new();
        while (body.len() as u64) < header.body_size {
            body.extend_from_slice(&self.frame(FrameType::Body, deadline)?);
        }
        Ok(Delivery { tag: 0, redelivered: false, message_id, delivery_mode, body })
    }

    /// The payload of the next frame, which must be of this type.
    fn frame(&mut self, frame_type: FrameType, deadline: Instant) -> io::Result<Vec<u8>> {
        loop {
            let unread = self.received.get(self.taken..).unwrap_or_default();
            match frame::decode_frame(unread, u32::MAX).map_err(io::Error::other)? {
                Some((found, size)) => {
                    if found.frame_type != frame_type {
                        let text = format!("a {:?} frame instead of {frame_type:?}", found.frame_type);
                        return Err(io::Error::other(text));
                    }
                    let payload = found.payload.to_vec();
                    self.taken += size;
                    return Ok(payload);
                }
                None => self.read_more(deadline)?,
            }
        }
    }

    fn read_more(&mut self, deadline: Instant) -> io::Result<()> {
        self.received.drain(..self.taken);
        self.taken = 0;
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left))?;
        let before = self.received.len();
        self.received.resize(before + 64 * 1024, 0);
        let result = self.stream.read(&mut self.received[before..]);
        self.received.truncate(before + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(io::Error::new(ErrorKind::TimedOut, "the broker said nothing"))
            }
            Err(error) => Err(error),
        }
    }
}

/// An error for what should not have come; of a kind that no socket has.
fn refused(awaited: &str, incoming: &Incoming) -> io::Error {
    let came = match incoming {
        Incoming::Method(payload) => format!("{:?}", Method::decode(payload)),
        other => format!("{other:?}"),
    };
    io::Error::other(format!("{awaited}, and this came: {came}"))
}

fn message_count(declare_ok: &[u8]) -> u32 {
    match Method::decode(declare_ok) {
        Ok(Method::QueueDeclareOk(declare_ok)) => declare_ok.message_count,
        other => panic!("queue.declare was answered with {other:?}"),
    }
}

/// queue.declare for a queue that is meant to last.
pub(crate) fn durable_queue(queue: &str) -> queue::Declare<'_> {
    queue::Declare {
        queue,
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: FieldTable::new(),
    }
}

/// exchange.declare for an exchange that is meant to last.
pub(crate) fn durable_exchange<'a>(exchange: &'a str, exchange_type: &'a str) -> exchange::Declare<'a> {
    exchange::Declare {
        exchange,
        exchange_type,
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments: FieldTable::new(),
    }
}

/// queue.bind without arguments.
pub(crate) fn binding<'a>(queue: &'a str, exchange: &'a str, routing_key: &'a str) -> Method<'a> {
    Method::QueueBind(queue::Bind {
        queue,
        exchange,
        routing_key,
        no_wait: false,
        arguments: FieldTable::new(),
    })
}

/// queue.delete whatever is in it.
pub(crate) fn deletion(queue: &str) -> Method<'_> {
    Method::QueueDelete(queue::Delete { queue, if_unused: false, if_empty: false, no_wait: false })
}
