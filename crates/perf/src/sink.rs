//! The built-in sink: answers like a broker, then throws published messages away and replays one
//! message to consumers for ever. What is measured against it is the generator and the kernel.
//! `ceiling` starts it as a child process, tests as a thread. It routes and keeps nothing; with a
//! rate it relays each body to the consumers, so that there is a latency to look at.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use leveret_codec::frame::{self, PROTOCOL_HEADER};
use leveret_codec::method::{Method, basic, channel, confirm, connection, exchange, queue, tx};
use leveret_codec::table::FieldTable;

use crate::error::Error;
use crate::message::{MessageBatch, MessageShape, RoutingKeys};
use crate::wire::{
    BASIC_ACK, BASIC_PUBLISH, BODY, FrameReader, METHOD, READ_BUFFER_BYTES, RawFrame, push_ack,
};

const FRAME_MAX: u32 = 131_072;

/// What the sink does with messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SinkOptions {
    /// Body size of the replayed message.
    pub(crate) size: usize,
    /// Relay what is published instead of replaying.
    pub(crate) relay: bool,
}

/// Starts to accept connections on a free port of the loopback interface.
pub(crate) fn start(options: SinkOptions) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let hub = Arc::new(Hub::default());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let hub = Arc::clone(&hub);
            thread::spawn(move || {
                // A client that hangs up ends its session and nothing else.
                let _ = Session::new(stream, options, hub).and_then(Session::serve);
            });
        }
    });
    Ok(address)
}

/// One side writes replies, the other deliveries: whole frames under this lock. Nobody awaits.
type SharedWriter = Arc<Mutex<TcpStream>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who consumes, for the relay.
#[derive(Debug, Default)]
struct Hub {
    consumers: Mutex<Vec<RelayTarget>>,
}

#[derive(Debug, Clone)]
struct RelayTarget {
    queue: String,
    consumer_tag: String,
    writer: SharedWriter,
    delivered: u64,
}

impl Hub {
    /// Hands a body to the next consumer of the queue, or to each consumer if an exchange is named.
    fn relay(&self, publish: &Published, body: &[u8]) -> io::Result<()> {
        let mut consumers = lock(&self.consumers);
        let to_all = !publish.exchange.is_empty();
        consumers.sort_by_key(|target| target.delivered);
        let matching = consumers.iter_mut().filter(|target| to_all || target.queue == publish.routing_key);
        for target in matching.take(if to_all { usize::MAX } else { 1 }) {
            target.delivered += 1;
            let mut out = Vec::with_capacity(body.len() + 128);
            let deliver = basic::Deliver {
                consumer_tag: &target.consumer_tag,
                delivery_tag: target.delivered,
                redelivered: false,
                exchange: &publish.exchange,
                routing_key: &publish.routing_key,
            };
            frame::encode_method(&mut out, 1, &Method::BasicDeliver(deliver));
            let properties = leveret_codec::properties::Properties::default();
            let body_size = body.len() as u64;
            let header = leveret_codec::properties::ContentHeader { class_id: 60, body_size, properties };
            frame::encode_content_header(&mut out, 1, &header);
            frame::encode_body(&mut out, 1, body, FRAME_MAX);
            lock(&target.writer).write_all(&out)?;
        }
        Ok(())
    }
}

/// Where a message was published to.
#[derive(Debug, Default)]
struct Published {
    exchange: String,
    routing_key: String,
}

/// How far a consumer has acknowledged; the replay waits for it at its prefetch.
#[derive(Debug, Default)]
struct Progress {
    state: Mutex<ProgressState>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct ProgressState {
    acked: u64,
    closed: bool,
}

/// One connection.
struct Session {
    stream: TcpStream,
    reader: FrameReader,
    writer: SharedWriter,
    options: SinkOptions,
    hub: Arc<Hub>,
    out: Vec<u8>,
    confirming: bool,
    published: u64,
    confirmed: u64,
    prefetch: u16,
    progress: Arc<Progress>,
    publishing: Published,
    closing: bool,
}

impl Session {
    fn new(stream: TcpStream, options: SinkOptions, hub: Arc<Hub>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let reader = if options.relay {
            FrameReader::with_whole_bodies(READ_BUFFER_BYTES)
        } else {
            FrameReader::new(READ_BUFFER_BYTES)
        };
        Ok(Self {
            writer: Arc::new(Mutex::new(stream.try_clone()?)),
            stream,
            reader,
            options,
            hub,
            out: Vec::new(),
            confirming: false,
            published: 0,
            confirmed: 0,
            prefetch: 0,
            progress: Arc::default(),
            publishing: Published::default(),
            closing: false,
        })
    }

    fn serve(mut self) -> io::Result<()> {
        let served = self.serve_frames();
        lock(&self.progress.state).closed = true;
        self.progress.moved.notify_all();
        lock(&self.hub.consumers).retain(|target| !Arc::ptr_eq(&target.writer, &self.writer));
        served
    }

    fn serve_frames(&mut self) -> io::Result<()> {
        let mut header = [0; PROTOCOL_HEADER.len()];
        self.stream.read_exact(&mut header)?;
        self.reply(
            0,
            &Method::ConnectionStart(connection::Start {
                version_major: 0,
                version_minor: 9,
                server_properties: FieldTable::new(),
                mechanisms: b"PLAIN",
                locales: b"en_US",
            }),
        );
        self.flush()?;
        while !self.closing {
            self.reader.fill(&mut self.stream)?;
            let mut reader = std::mem::replace(&mut self.reader, FrameReader::new(0));
            let taken = self.take_frames(&mut reader);
            self.reader = reader;
            taken.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            if self.confirming && self.confirmed < self.published {
                push_ack(&mut self.out, 1, self.published, true);
                self.confirmed = self.published;
            }
            self.flush()?;
        }
        Ok(())
    }

    fn take_frames(&mut self, reader: &mut FrameReader) -> Result<(), Error> {
        while let Some(frame) = reader.next()? {
            match frame.method() {
                BASIC_PUBLISH => {
                    self.published += 1;
                    if self.options.relay {
                        self.note_publish(&frame);
                    }
                }
                BASIC_ACK => self.acknowledge(&frame),
                0 if frame.kind == BODY && self.options.relay => {
                    let relayed = self.hub.relay(&self.publishing, frame.payload);
                    relayed.map_err(|source| Error::Io { doing: "relaying", source })?;
                }
                _ if frame.kind == METHOD => self.answer(&frame)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn note_publish(&mut self, frame: &RawFrame<'_>) {
        if let Ok(Method::BasicPublish(publish)) = Method::decode(frame.payload) {
            self.publishing.exchange.clear();
            self.publishing.exchange.push_str(publish.exchange);
            self.publishing.routing_key.clear();
            self.publishing.routing_key.push_str(publish.routing_key);
        }
    }

    fn acknowledge(&mut self, frame: &RawFrame<'_>) {
        let (tag, _) = frame.settlement().unwrap_or_default();
        let mut state = lock(&self.progress.state);
        state.acked = state.acked.max(tag);
        self.progress.moved.notify_all();
    }

    /// The cold methods: each is granted.
    fn answer(&mut self, frame: &RawFrame<'_>) -> Result<(), Error> {
        let method = Method::decode(frame.payload).map_err(|error| Error::Protocol(error.to_string()))?;
        let answer = match method {
            Method::ConnectionStartOk(_) => Method::ConnectionTune(connection::Tune {
                channel_max: 2047,
                frame_max: FRAME_MAX,
                heartbeat: 0,
            }),
            Method::ConnectionOpen(_) => Method::ConnectionOpenOk(connection::OpenOk {}),
            Method::ConnectionClose(_) => {
                self.closing = true;
                Method::ConnectionCloseOk(connection::CloseOk {})
            }
            Method::ChannelOpen(_) => Method::ChannelOpenOk(channel::OpenOk {}),
            Method::ExchangeDeclare(_) => Method::ExchangeDeclareOk(exchange::DeclareOk {}),
            Method::ExchangeDelete(_) => Method::ExchangeDeleteOk(exchange::DeleteOk {}),
            Method::QueueDeclare(declare) => {
                let answer = queue::DeclareOk { queue: declare.queue, message_count: 0, consumer_count: 0 };
                self.reply(frame.channel, &Method::QueueDeclareOk(answer));
                return Ok(());
            }
            Method::QueueBind(_) => Method::QueueBindOk(queue::BindOk {}),
            Method::QueueDelete(_) => Method::QueueDeleteOk(queue::DeleteOk { message_count: 0 }),
            Method::ConfirmSelect(_) => {
                self.confirming = true;
                Method::ConfirmSelectOk(confirm::SelectOk {})
            }
            Method::TxSelect(_) => Method::TxSelectOk(tx::SelectOk {}),
            Method::TxCommit(_) => Method::TxCommitOk(tx::CommitOk {}),
            Method::BasicQos(qos) => {
                self.prefetch = qos.prefetch_count;
                Method::BasicQosOk(basic::QosOk {})
            }
            Method::BasicConsume(consume) => return self.consume(&consume),
            _ => return Ok(()),
        };
        self.reply(frame.channel, &answer);
        Ok(())
    }

    /// Answers first: a delivery before consume-ok would be out of order.
    fn consume(&mut self, consume: &basic::Consume<'_>) -> Result<(), Error> {
        let failed = |source| Error::Io { doing: "starting to deliver", source };
        self.reply(1, &Method::BasicConsumeOk(basic::ConsumeOk { consumer_tag: consume.consumer_tag }));
        self.flush().map_err(failed)?;
        if self.options.relay {
            lock(&self.hub.consumers).push(RelayTarget {
                queue: consume.queue.to_owned(),
                consumer_tag: consume.consumer_tag.to_owned(),
                writer: Arc::clone(&self.writer),
                delivered: 0,
            });
            return Ok(());
        }
        let shape = MessageShape {
            routing_keys: RoutingKeys::one(consume.queue),
            size: self.options.size,
            frame_max: FRAME_MAX,
            ..MessageShape::default()
        };
        let replay = Replay {
            batch: MessageBatch::delivering(&shape, consume.consumer_tag),
            writer: Arc::clone(&self.writer),
            progress: Arc::clone(&self.progress),
            window: (!consume.no_ack && self.prefetch > 0).then_some(u64::from(self.prefetch)),
            numbered: !consume.no_ack,
            delivered: 0,
        };
        thread::spawn(move || replay.run());
        Ok(())
    }

    fn reply(&mut self, channel: u16, method: &Method<'_>) {
        frame::encode_method(&mut self.out, channel, method);
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            lock(&self.writer).write_all(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}

/// Delivers one message for ever, as fast as the consumer reads or acknowledges.
struct Replay {
    batch: MessageBatch,
    writer: SharedWriter,
    progress: Arc<Progress>,
    window: Option<u64>,
    numbered: bool,
    delivered: u64,
}

impl Replay {
    fn run(mut self) {
        while let Some(count) = self.wait_for_room() {
            if self.numbered {
                self.batch.number(self.delivered + 1);
            }
            let octets = self.batch.octets(self.batch.range(0..count));
            if lock(&self.writer).write_all(octets).is_err() {
                return;
            }
            self.delivered += count as u64;
        }
    }

    /// How many messages may go out now; `None` once the connection is over.
    fn wait_for_room(&self) -> Option<usize> {
        let mut state = lock(&self.progress.state);
        loop {
            if state.closed {
                return None;
            }
            let Some(window) = self.window else { return Some(self.batch.count) };
            let room = window.saturating_sub(self.delivered - state.acked);
            if room > 0 {
                return Some(self.batch.count.min(usize::try_from(room).unwrap_or(usize::MAX)));
            }
            state = self.progress.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
