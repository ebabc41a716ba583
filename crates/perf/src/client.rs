//! A blocking connection for everything that is not hot: login, declarations, round trips and
//! pipelined runs of methods. `load` hands its socket on to `producer` and `consumer` once the cold
//! part is over; `grow` works with it directly.

use std::io::Write;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use leveret_codec::frame::{self, PROTOCOL_HEADER};
use leveret_codec::method::{Method, MethodId, basic, channel, confirm, connection, exchange, queue};
use leveret_codec::table::FieldTable;

use crate::error::Error;
use crate::uri::Uri;
use crate::wire::{FrameReader, METHOD, RawFrame, is_not_yet};

/// How long the broker may take for one answer.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// How long it may take to accept a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A blocked read or write looks up this often to see whether it should stop.
pub(crate) const SOCKET_TICK: Duration = Duration::from_millis(200);
/// `frame_max` when the broker has no limit of its own.
const FRAME_MAX_DEFAULT: u32 = 131_072;

/// What an exchange is declared with; it is neither durable nor deleted by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// Its name.
    pub(crate) name: String,
    /// Its type.
    pub(crate) kind: String,
    /// Arguments of exchange.declare.
    pub(crate) arguments: FieldTable,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    reader: FrameReader,
    out: Vec<u8>,
    /// As negotiated.
    pub(crate) frame_max: u32,
    /// As negotiated; zero is no limit.
    pub(crate) channel_max: u16,
}

impl Client {
    /// Connects and logs in.
    pub(crate) fn connect(uri: &Uri, reader: FrameReader) -> Result<Self, Error> {
        let stream = open_socket(uri)?;
        let mut client =
            Self { stream, reader, out: Vec::new(), frame_max: FRAME_MAX_DEFAULT, channel_max: 0 };
        client.out.extend_from_slice(&PROTOCOL_HEADER);
        client.call_raw(0, MethodId::CONNECTION_START, "waiting for connection.start")?;
        let response = format!("\0{}\0{}", uri.user, uri.password);
        client.push(
            0,
            &Method::ConnectionStartOk(connection::StartOk {
                client_properties: client_properties(),
                mechanism: "PLAIN",
                response: response.as_bytes(),
                locale: "en_US",
            }),
        );
        client.negotiate()?;
        client.call(
            0,
            &Method::ConnectionOpen(connection::Open { virtual_host: &uri.vhost }),
            MethodId::CONNECTION_OPEN_OK,
            "opening the virtual host",
        )?;
        Ok(client)
    }

    fn negotiate(&mut self) -> Result<(), Error> {
        self.flush("logging in")?;
        let deadline = Instant::now() + ANSWER_DEADLINE;
        let tuned = self.wait_for(deadline, "logging in", |frame| {
            (frame.kind == METHOD).then(|| match Method::decode(frame.payload) {
                Ok(Method::ConnectionTune(tune)) => Ok(tune),
                other => Err(unexpected(&other)),
            })
        });
        let tune = match tuned {
            Err(Error::Io { .. }) => return Err(Error::LoginRefused),
            other => other??,
        };
        if tune.frame_max != 0 {
            self.frame_max = tune.frame_max.min(FRAME_MAX_DEFAULT);
        }
        self.channel_max = tune.channel_max;
        let answer =
            connection::TuneOk { channel_max: tune.channel_max, frame_max: self.frame_max, heartbeat: 0 };
        self.push(0, &Method::ConnectionTuneOk(answer));
        Ok(())
    }

    /// Appends a method to what the next [`flush`](Self::flush) writes.
    pub(crate) fn push(&mut self, channel: u16, method: &Method<'_>) {
        frame::encode_method(&mut self.out, channel, method);
    }

    /// Appends whole frames to what the next [`flush`](Self::flush) writes.
    pub(crate) fn push_octets(&mut self, octets: &[u8]) {
        self.out.extend_from_slice(octets);
    }

    /// Writes what was pushed.
    pub(crate) fn flush(&mut self, doing: &'static str) -> Result<(), Error> {
        let deadline = Instant::now() + ANSWER_DEADLINE;
        let mut written = 0;
        while let Some(rest) = self.out.get(written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(Error::Io { doing, source: std::io::ErrorKind::WriteZero.into() }),
                Ok(count) => written += count,
                Err(error) if is_not_yet(&error) => check(deadline, doing)?,
                // A broker that closes says why before it hangs up: look at that first.
                Err(source) => return Err(self.last_words().unwrap_or(Error::Io { doing, source })),
            }
        }
        self.out.clear();
        Ok(())
    }

    fn last_words(&mut self) -> Option<Error> {
        let deadline = Instant::now() + SOCKET_TICK;
        self.wait_for(deadline, "closing", |_| None::<()>).err().filter(Error::is_from_broker)
    }

    /// Sends a method and waits for its answer.
    pub(crate) fn call(
        &mut self,
        channel: u16,
        method: &Method<'_>,
        answer: MethodId,
        doing: &'static str,
    ) -> Result<(), Error> {
        self.push(channel, method);
        self.call_raw(channel, answer, doing)
    }

    fn call_raw(&mut self, channel: u16, answer: MethodId, doing: &'static str) -> Result<(), Error> {
        self.flush(doing)?;
        self.expect(answer, 1, doing, |answered| answered == channel)
    }

    /// Waits for `count` answers of one kind on whichever channels; those of different channels may
    /// come in any order.
    pub(crate) fn expect_all(
        &mut self,
        answer: MethodId,
        count: usize,
        doing: &'static str,
    ) -> Result<(), Error> {
        self.expect(answer, count, doing, |_| true)
    }

    fn expect(
        &mut self,
        answer: MethodId,
        count: usize,
        doing: &'static str,
        on: impl Fn(u16) -> bool,
    ) -> Result<(), Error> {
        let wanted = u32::from(answer.class_id) << 16 | u32::from(answer.method_id);
        let mut missing = count;
        while missing > 0 {
            // Progress moves the deadline: ten thousand answers may take longer than one.
            let deadline = Instant::now() + ANSWER_DEADLINE;
            self.wait_for(deadline, doing, |frame| {
                (on(frame.channel) && frame.method() == wanted).then_some(())
            })?;
            missing -= 1;
        }
        Ok(())
    }

    /// Looks at each frame as it comes until `pick` takes one. A close from the broker is an error
    /// here whatever was waited for.
    pub(crate) fn wait_for<T>(
        &mut self,
        deadline: Instant,
        doing: &'static str,
        mut pick: impl FnMut(&RawFrame<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        loop {
            while let Some(frame) = self.reader.next()? {
                if let Some(picked) = pick(&frame) {
                    return Ok(picked);
                }
                refuse_close(&frame)?;
            }
            match self.reader.fill(&mut self.stream) {
                Ok(_) => {}
                Err(error) if is_not_yet(&error) => check(deadline, doing)?,
                Err(source) => return Err(Error::Io { doing, source }),
            }
        }
    }

    /// Opens a channel.
    pub(crate) fn open_channel(&mut self, channel: u16) -> Result<(), Error> {
        self.call(
            channel,
            &Method::ChannelOpen(channel::Open {}),
            MethodId::CHANNEL_OPEN_OK,
            "opening a channel",
        )
    }

    /// Switches channel 1 to confirms.
    pub(crate) fn select_confirms(&mut self) -> Result<(), Error> {
        let select = Method::ConfirmSelect(confirm::Select { no_wait: false });
        self.call(1, &select, MethodId::CONFIRM_SELECT_OK, "selecting confirms")
    }

    /// Declares a queue on channel 1.
    pub(crate) fn declare_queue(&mut self, declare: queue::Declare<'_>) -> Result<(), Error> {
        self.call(1, &Method::QueueDeclare(declare), MethodId::QUEUE_DECLARE_OK, "declaring a queue")
    }

    /// Deletes a queue on channel 1.
    pub(crate) fn delete_queue(&mut self, queue: &str) -> Result<(), Error> {
        self.call(1, &delete_queue(queue, false), MethodId::QUEUE_DELETE_OK, "deleting a queue")
    }

    /// How many messages are ready in a queue, asked for on channel 1.
    pub(crate) fn message_count(&mut self, queue: &str) -> Result<u64, Error> {
        let doing = "asking for a queue's length";
        let passive = queue::Declare {
            queue,
            passive: true,
            durable: false,
            exclusive: false,
            auto_delete: false,
            no_wait: false,
            arguments: FieldTable::new(),
        };
        self.push(1, &Method::QueueDeclare(passive));
        self.flush(doing)?;
        self.wait_for(Instant::now() + ANSWER_DEADLINE, doing, |frame| match Method::decode(frame.payload) {
            Ok(Method::QueueDeclareOk(answer)) if frame.kind == METHOD => {
                Some(u64::from(answer.message_count))
            }
            _ => None,
        })
    }

    /// Declares an exchange on channel 1.
    pub(crate) fn declare_exchange(&mut self, exchange: &Exchange) -> Result<(), Error> {
        let declare = exchange::Declare {
            exchange: &exchange.name,
            exchange_type: &exchange.kind,
            passive: false,
            durable: false,
            auto_delete: false,
            internal: false,
            no_wait: false,
            arguments: exchange.arguments.clone(),
        };
        self.call(
            1,
            &Method::ExchangeDeclare(declare),
            MethodId::EXCHANGE_DECLARE_OK,
            "declaring an exchange",
        )
    }

    /// Deletes an exchange on channel 1.
    pub(crate) fn delete_exchange(&mut self, exchange: &str) -> Result<(), Error> {
        let delete = exchange::Delete { exchange, if_unused: false, no_wait: false };
        let doing = "deleting an exchange";
        self.call(1, &Method::ExchangeDelete(delete), MethodId::EXCHANGE_DELETE_OK, doing)
    }

    /// Binds a queue on channel 1.
    pub(crate) fn bind(&mut self, queue: &str, exchange: &str, routing_key: &str) -> Result<(), Error> {
        let bind = bind(queue, exchange, routing_key, false);
        self.call(1, &bind, MethodId::QUEUE_BIND_OK, "binding a queue")
    }

    /// Sets the prefetch of the consumers to come on channel 1, then consumes.
    pub(crate) fn consume(
        &mut self,
        queue: &str,
        consumer_tag: &str,
        no_ack: bool,
        prefetch_count: u16,
        arguments: FieldTable,
    ) -> Result<(), Error> {
        if prefetch_count > 0 {
            let qos = Method::BasicQos(basic::Qos { prefetch_size: 0, prefetch_count, global: false });
            self.call(1, &qos, MethodId::BASIC_QOS_OK, "setting the prefetch")?;
        }
        let consume = basic::Consume {
            queue,
            consumer_tag,
            no_local: false,
            no_ack,
            exclusive: false,
            no_wait: false,
            arguments,
        };
        self.call(1, &Method::BasicConsume(consume), MethodId::BASIC_CONSUME_OK, "consuming")
    }

    /// Gives the socket away, with what was read from it and not yet looked at.
    pub(crate) fn into_parts(self) -> (TcpStream, FrameReader) {
        (self.stream, self.reader)
    }

    /// Closes in order: asks, and waits until the broker has agreed.
    pub(crate) fn close(mut self) -> Result<(), Error> {
        self.push(0, &close_connection());
        self.call_raw(0, MethodId::CONNECTION_CLOSE_OK, "closing the connection")
    }
}

/// queue.bind without arguments.
pub(crate) fn bind<'a>(queue: &'a str, exchange: &'a str, routing_key: &'a str, no_wait: bool) -> Method<'a> {
    Method::QueueBind(queue::Bind { queue, exchange, routing_key, no_wait, arguments: FieldTable::new() })
}

/// queue.delete whatever is in it.
pub(crate) fn delete_queue(queue: &str, no_wait: bool) -> Method<'_> {
    Method::QueueDelete(queue::Delete { queue, if_unused: false, if_empty: false, no_wait })
}

/// connection.close with "all went well".
pub(crate) fn close_connection() -> Method<'static> {
    Method::ConnectionClose(connection::Close {
        reply_code: 200,
        reply_text: "OK",
        class_id: 0,
        method_id: 0,
    })
}

/// Ends a connection whose socket was given away: asks, reads past whatever is still on its way, and
/// gives up at the deadline. The load is over by then, so how it ended is of no interest.
pub(crate) fn close_parts(stream: &mut TcpStream, reader: &mut FrameReader, patience: Duration) {
    let mut out = Vec::new();
    frame::encode_method(&mut out, 0, &close_connection());
    let deadline = Instant::now() + patience;
    if stream.write_all(&out).is_err() {
        return;
    }
    loop {
        loop {
            match reader.next() {
                Ok(Some(frame)) if frame.kind == METHOD && frame.channel == 0 => return,
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        match reader.fill(stream) {
            Err(error) if !is_not_yet(&error) => return,
            _ if Instant::now() > deadline => return,
            _ => {}
        }
    }
}

/// Turns a close or a cancel from the broker into the error it is; anything else passes.
pub(crate) fn refuse_close(frame: &RawFrame<'_>) -> Result<(), Error> {
    if frame.kind != METHOD {
        return Ok(());
    }
    match Method::decode(frame.payload) {
        Ok(Method::ConnectionClose(close)) => {
            Err(Error::ConnectionClosed { code: close.reply_code, text: close.reply_text.to_owned() })
        }
        Ok(Method::ChannelClose(close)) => Err(Error::ChannelClosed {
            channel: frame.channel,
            code: close.reply_code,
            text: close.reply_text.to_owned(),
        }),
        Ok(Method::BasicCancel(cancel)) => {
            Err(Error::ConsumerCancelled { tag: cancel.consumer_tag.to_owned() })
        }
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Protocol(error.to_string())),
    }
}

fn unexpected<E: std::fmt::Display>(decoded: &Result<Method<'_>, E>) -> Error {
    match decoded {
        Ok(Method::ConnectionClose(close)) => {
            Error::ConnectionClosed { code: close.reply_code, text: close.reply_text.to_owned() }
        }
        Ok(method) => Error::Protocol(method.name().to_owned()),
        Err(error) => Error::Protocol(error.to_string()),
    }
}

fn check(deadline: Instant, doing: &'static str) -> Result<(), Error> {
    if Instant::now() > deadline { Err(Error::Timeout { doing, after: ANSWER_DEADLINE }) } else { Ok(()) }
}

/// What this client can take: without it RabbitMQ hangs up on a wrong password without a word.
fn client_properties() -> FieldTable {
    let mut capabilities = FieldTable::new();
    for name in [
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "publisher_confirms",
    ] {
        capabilities.insert(name, true);
    }
    let mut properties = FieldTable::new();
    properties.insert("product", "leveret-perf");
    properties.insert("version", env!("CARGO_PKG_VERSION"));
    properties.insert("capabilities", capabilities);
    properties
}

fn open_socket(uri: &Uri) -> Result<TcpStream, Error> {
    let address = uri.address();
    let failed = |source| Error::Connect { address: uri.address(), source };
    let mut refused = None;
    for candidate in address.to_socket_addrs().map_err(failed)? {
        match TcpStream::connect_timeout(&candidate, CONNECT_DEADLINE) {
            Ok(stream) => {
                let ready = stream
                    .set_nodelay(true)
                    .and_then(|()| stream.set_read_timeout(Some(SOCKET_TICK)))
                    .and_then(|()| stream.set_write_timeout(Some(SOCKET_TICK)));
                return ready.map(|()| stream).map_err(failed);
            }
            Err(error) => refused = Some(error),
        }
    }
    Err(failed(refused.unwrap_or_else(|| std::io::ErrorKind::AddrNotAvailable.into())))
}
