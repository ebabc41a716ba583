//! A small AMQP client over any stream, for tests in which the stream is what matters; and TLS clients that say
//! precisely what they will take. Every read has a deadline.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use leveret_codec::frame::{
    FrameType, PROTOCOL_HEADER, decode_frame, encode_body, encode_content_header, encode_method,
};
use leveret_codec::method::{Method, basic, channel, confirm, connection, queue};
use leveret_codec::properties::{ContentHeader, Properties};
use leveret_codec::table::FieldTable;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// How long any answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A stream under TLS.
pub(crate) type TlsClient = StreamOwned<ClientConnection, TcpStream>;

/// A socket with deadlines.
pub(crate) fn socket(port: u16) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a deadline can be set");
    socket.set_nodelay(true).expect("an option can be set");
    socket
}

/// Shakes hands with the broker, which is `host` to this client.
pub(crate) fn tls(port: u16, config: &Arc<ClientConfig>, host: &str) -> io::Result<TlsClient> {
    tls_over(socket(port), config, host)
}

/// As above, over a socket on which something else came first.
pub(crate) fn tls_over(
    mut socket: TcpStream,
    config: &Arc<ClientConfig>,
    host: &str,
) -> io::Result<TlsClient> {
    let name = ServerName::try_from(host.to_owned()).expect("a host name");
    let mut session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(session, socket))
}

/// An open connection with channel 1 open and confirming.
pub(crate) struct Client<S> {
    pub(crate) stream: S,
    received: Vec<u8>,
}

impl<S: Read + Write> Client<S> {
    /// From the protocol header to a channel.
    pub(crate) fn open(stream: S) -> io::Result<Self> {
        let mut client = Self { stream, received: Vec::new() };
        client.stream.write_all(&PROTOCOL_HEADER)?;
        client.await_method("connection.start")?;
        let start_ok = connection::StartOk {
            client_properties: FieldTable::new(),
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
        };
        client.say(0, &Method::ConnectionStartOk(start_ok))?;
        client.await_method("connection.tune")?;
        let tune_ok = connection::TuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 0 };
        client.say(0, &Method::ConnectionTuneOk(tune_ok))?;
        client.say(0, &Method::ConnectionOpen(connection::Open { virtual_host: "/" }))?;
        client.await_method("connection.open-ok")?;
        client.say(1, &Method::ChannelOpen(channel::Open))?;
        client.await_method("channel.open-ok")?;
        client.say(1, &Method::ConfirmSelect(confirm::Select { no_wait: false }))?;
        client.await_method("confirm.select-ok")?;
        Ok(client)
    }

    /// Declares a queue that goes with the connection.
    pub(crate) fn declare(&mut self, name: &str) -> io::Result<()> {
        let declare = queue::Declare {
            queue: name,
            passive: false,
            durable: false,
            exclusive: true,
            auto_delete: false,
            no_wait: false,
            arguments: FieldTable::new(),
        };
        self.say(1, &Method::QueueDeclare(declare))?;
        self.await_method("queue.declare-ok")
    }

    /// Publishes a message to a queue, without waiting for its confirm.
    pub(crate) fn publish(&mut self, queue: &str, body: &[u8]) -> io::Result<()> {
        let mut octets = Vec::new();
        let publish = basic::Publish { exchange: "", routing_key: queue, mandatory: true, immediate: false };
        encode_method(&mut octets, 1, &Method::BasicPublish(publish));
        let body_size = body.len() as u64;
        let header = ContentHeader { class_id: 60, body_size, properties: Properties::default() };
        encode_content_header(&mut octets, 1, &header);
        encode_body(&mut octets, 1, body, 131_072);
        self.stream.write_all(&octets)?;
        self.stream.flush()
    }

    /// Waits for a confirm.
    pub(crate) fn await_confirm(&mut self) -> io::Result<()> {
        self.await_method("basic.ack")
    }

    /// Waits until everything up to the publish of this number is confirmed.
    pub(crate) fn await_confirms_up_to(&mut self, number: u64) -> io::Result<()> {
        while self.frame(|_, payload| match Method::decode(payload).expect("a method") {
            Method::BasicAck(ack) => ack.delivery_tag < number,
            other => panic!("a confirm was expected, not {other:?}"),
        })? {}
        Ok(())
    }

    /// Gets a message that is there.
    pub(crate) fn get(&mut self, queue: &str) -> io::Result<Vec<u8>> {
        self.say(1, &Method::BasicGet(basic::Get { queue, no_ack: true }))?;
        self.await_method("basic.get-ok")?;
        let mut expected = None;
        let mut body = Vec::new();
        while expected.is_none_or(|size| body.len() < size) {
            self.frame(|frame_type, payload| match frame_type {
                FrameType::Header => {
                    let header = ContentHeader::decode(payload).expect("a content header");
                    expected = Some(usize::try_from(header.body_size).expect("a size that fits"));
                }
                FrameType::Body => body.extend_from_slice(payload),
                FrameType::Method | FrameType::Heartbeat => panic!("content was expected"),
            })?;
        }
        Ok(body)
    }

    fn say(&mut self, channel: u16, method: &Method<'_>) -> io::Result<()> {
        let mut octets = Vec::new();
        encode_method(&mut octets, channel, method);
        self.stream.write_all(&octets)?;
        self.stream.flush()
    }

    fn await_method(&mut self, name: &str) -> io::Result<()> {
        self.frame(|frame_type, payload| {
            assert_eq!(frame_type, FrameType::Method, "{name} was expected");
            let method = Method::decode(payload).expect("a method");
            assert_eq!(method.name(), name, "{method:?}");
        })
    }

    fn frame<R>(&mut self, use_frame: impl FnOnce(FrameType, &[u8]) -> R) -> io::Result<R> {
        loop {
            if let Some((frame, size)) = decode_frame(&self.received, u32::MAX).expect("a frame") {
                let result = use_frame(frame.frame_type, frame.payload);
                self.received.drain(..size);
                return Ok(result);
            }
            let mut buffer = [0; 65536];
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(&buffer[..count]);
        }
    }
}
