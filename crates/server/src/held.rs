//! A store in which nothing becomes safe before a test says so, and a client of a broker that has it. The broker
//! runs in the test's own process, so that a test knows what the store was told.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use leveret_broker::definition::Definition;
use leveret_broker::queue::quorum::Returns;
use leveret_broker::store::{Block, BlockError, BlockLocation, JournalPosition, Journaled, Store};
use leveret_broker::{MessageBatch, Queue, QueueId};
use leveret_codec::frame::{self, PROTOCOL_HEADER};
use leveret_codec::method::{Method, MethodId, basic, channel, connection, queue};
use leveret_codec::properties::{ContentHeader, Properties};
use leveret_codec::table::FieldTable;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config;
use crate::defaults;
use crate::events;
use crate::server::Server;

/// How long anything may take that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

type Listener = (JournalPosition, Box<dyn FnOnce() + Send>);

#[derive(Default)]
struct State {
    told: u64,
    safe: JournalPosition,
    listeners: Vec<Listener>,
}

/// Each thing it is told takes one position.
#[derive(Default)]
pub(crate) struct HeldStore {
    state: Mutex<State>,
    was_told: Notify,
}

impl HeldStore {
    fn tell(&self) -> JournalPosition {
        let mut state = self.state.lock();
        state.told += 1;
        self.was_told.notify_waiters();
        JournalPosition(state.told)
    }

    pub(crate) fn told(&self) -> u64 {
        self.state.lock().told
    }

    /// Waits until it was told so many things in all.
    pub(crate) async fn await_told(&self, count: u64) {
        let told = async {
            loop {
                let was_told = self.was_told.notified();
                if self.told() >= count {
                    return;
                }
                was_told.await;
            }
        };
        let in_time = timeout(PATIENCE, told).await;
        assert!(in_time.is_ok(), "the store was told {} of {count} things", self.told());
    }

    /// Makes everything up to a position safe.
    pub(crate) fn release(&self, position: u64) {
        let mut state = self.state.lock();
        state.safe = JournalPosition(position);
        let (due, waiting) =
            std::mem::take(&mut state.listeners).into_iter().partition(|(at, _)| *at <= state.safe);
        state.listeners = waiting;
        drop(state);
        let due: Vec<Listener> = due;
        due.into_iter().for_each(|(_, listener)| listener());
    }
}

impl Store for HeldStore {
    fn define(&self, _changes: Vec<Definition>) -> JournalPosition {
        self.tell()
    }

    fn share(&self, _messages: &MessageBatch) -> JournalPosition {
        self.tell()
    }

    fn publish(&self, _queue: QueueId, _first_position: u64, _batch: &MessageBatch) -> Journaled {
        let at = self.tell();
        Journaled { begins_at: at, safe_at: at }
    }

    fn settle(&self, _queue: QueueId, _positions: &[Range<u64>]) -> JournalPosition {
        JournalPosition::SAFE
    }

    fn returned(&self, _queue: QueueId, _returns: &[(u64, Returns)]) {}

    fn delivering(&self, _queue: QueueId, _position: u64) {}

    fn safe(&self) -> JournalPosition {
        self.state.lock().safe
    }

    fn when_safe(&self, position: JournalPosition, listener: Box<dyn FnOnce() + Send>) {
        let mut state = self.state.lock();
        if position > state.safe {
            return state.listeners.push((position, listener));
        }
        drop(state);
        listener();
    }

    fn write_block(&self, _block: &Block<'_>) -> io::Result<BlockLocation> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_block(
        &self,
        _location: BlockLocation,
        _queue: QueueId,
        _first_position: u64,
    ) -> Result<Bytes, BlockError> {
        Err(io::Error::from(io::ErrorKind::Unsupported).into())
    }

    fn free_block(&self, _location: BlockLocation) {}

    fn forget_block(&self, _queue: QueueId, _first_position: u64) {}

    fn forget_queue(&self, _queue: QueueId) {}

    fn request_load(&self, _queue: Arc<Queue>) {}

    fn request_page_out(&self) {}
}

/// A client with channel 1 open, and all behind it.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
    pub(crate) store: Arc<HeldStore>,
    pub(crate) server: Arc<Server>,
    /// Ends with the connection.
    pub(crate) served: JoinHandle<()>,
}

impl Client {
    pub(crate) async fn open() -> Self {
        Self::open_with(&[]).await
    }

    /// One of a broker that was started with these flags.
    pub(crate) async fn open_with(flags: &[&str]) -> Self {
        let store = Arc::<HeldStore>::default();
        let config = config::load(["leveret"].iter().chain(flags).map(Into::into), [])
            .expect("the defaults are good")
            .config;
        let told: Arc<dyn Store> = Arc::<HeldStore>::clone(&store);
        let server = Arc::new(Server::new(config, told));
        events::prepare(&server);
        defaults::make(&server).expect("the defaults are good");
        events::start(&server);
        // The default vhost and user are nothing that anybody here waits for.
        store.state.lock().told = 0;
        Self::connect(server, store).await
    }

    /// A second one of the same broker.
    pub(crate) async fn open_another(&self) -> Self {
        Self::connect(Arc::clone(&self.server), Arc::clone(&self.store)).await
    }

    async fn connect(server: Arc<Server>, store: Arc<HeldStore>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let stream = TcpStream::connect(listener.local_addr().expect("it has one")).await;
        let (socket, peer) = listener.accept().await.expect("the client connects");
        let served = tokio::spawn(crate::connection::serve(Arc::clone(&server), socket, peer, None));
        let stream = stream.expect("it listens");
        let mut client = Self { stream, received: Vec::new(), store, server, served };
        client.shake_hands().await;
        client
    }

    async fn shake_hands(&mut self) {
        self.stream.write_all(&PROTOCOL_HEADER).await.expect("it reads");
        self.expect(MethodId::CONNECTION_START).await;
        let capabilities = FieldTable::new().with("connection.blocked", true);
        self.send(
            0,
            &Method::ConnectionStartOk(connection::StartOk {
                client_properties: FieldTable::new().with("capabilities", capabilities),
                mechanism: "PLAIN",
                response: b"\0guest\0guest",
                locale: "en_US",
            }),
        )
        .await;
        self.expect(MethodId::CONNECTION_TUNE).await;
        let tune_ok = connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 };
        self.send(0, &Method::ConnectionTuneOk(tune_ok)).await;
        self.send(0, &Method::ConnectionOpen(connection::Open { virtual_host: "/" })).await;
        self.expect(MethodId::CONNECTION_OPEN_OK).await;
        self.send(1, &Method::ChannelOpen(channel::Open)).await;
        self.expect(MethodId::CHANNEL_OPEN_OK).await;
    }

    pub(crate) async fn send(&mut self, channel: u16, method: &Method<'_>) {
        let mut octets = Vec::new();
        frame::encode_method(&mut octets, channel, method);
        self.stream.write_all(&octets).await.expect("it reads");
    }

    pub(crate) async fn declare(&mut self, queue: &str) {
        self.send(
            1,
            &Method::QueueDeclare(queue::Declare {
                queue,
                passive: false,
                durable: true,
                exclusive: false,
                auto_delete: false,
                no_wait: false,
                arguments: FieldTable::new(),
            }),
        )
        .await;
    }

    /// Publishes an empty persistent message to a queue.
    pub(crate) async fn publish(&mut self, queue: &str, mandatory: bool) {
        let publish = basic::Publish { exchange: "", routing_key: queue, mandatory, immediate: false };
        let properties = Properties { delivery_mode: Some(2), ..Properties::default() };
        let header = ContentHeader { class_id: 60, body_size: 0, properties };
        let mut octets = Vec::new();
        frame::encode_method(&mut octets, 1, &Method::BasicPublish(publish));
        frame::encode_content_header(&mut octets, 1, &header);
        self.stream.write_all(&octets).await.expect("it reads");
    }

    /// The payload of the next method; content is passed over.
    pub(crate) async fn next(&mut self) -> Vec<u8> {
        loop {
            if let Ok(Some((frame, size))) = frame::decode_frame(&self.received, u32::MAX) {
                let method = (frame.frame_type == frame::FrameType::Method).then(|| frame.payload.to_vec());
                self.received.drain(..size);
                match method {
                    Some(payload) => return payload,
                    None => continue,
                }
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await;
            let read = read.expect("an answer comes in time").expect("the socket works");
            assert!(read > 0, "the connection was closed");
        }
    }

    /// The next method, which is this one.
    #[track_caller]
    pub(crate) fn expect(&mut self, id: MethodId) -> impl Future<Output = Vec<u8>> {
        let caller = std::panic::Location::caller();
        async move {
            let payload = self.next().await;
            let method = Method::decode(&payload).expect("it is well formed");
            assert_eq!(method.id(), id, "at {caller}: {method:?}");
            payload
        }
    }

    /// Name of the queue in the declare-ok that is next.
    pub(crate) async fn declared(&mut self) -> String {
        let payload = self.expect(MethodId::QUEUE_DECLARE_OK).await;
        match Method::decode(&payload) {
            Ok(Method::QueueDeclareOk(declare_ok)) => declare_ok.queue.to_owned(),
            other => panic!("{other:?}"),
        }
    }

    /// Whether nothing has come that was not read.
    pub(crate) fn is_silent(&self) -> bool {
        let mut octet = [0];
        self.received.is_empty()
            && matches!(self.stream.try_read(&mut octet), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}
