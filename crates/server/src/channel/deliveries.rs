//! The receiving side of a channel: its consumers, the deliveries it has not settled, and the encoding of
//! deliveries. Shared with the queues, which deliver from whatever task published or settled.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use leveret_broker::message::Body;
use leveret_broker::queue::quorum::with_counts;
use leveret_broker::reply_to::REPLY_TO_PREFIX;
use leveret_broker::time::Timestamp;
use leveret_broker::unacked::{DeliveryOrigin, OriginIndex, UnackedList};
use leveret_broker::{
    ConsumerId, Delivery, DeliverySink, DeliverySource, MessageBatch, MessageView, Queue, SinkState,
};
use leveret_codec::frame::{self, FRAME_END, FrameType};
use leveret_codec::method::{Method, MethodId, basic};
use parking_lot::Mutex;

use super::inbox::Inbox;
use crate::connection::Connection;
use crate::connection::handshake::Capabilities;
use crate::connection::outbound::{Outbound, ParkedConsumer, State as OutboundState};
use crate::counters::{DeliveryCounters, PublishCounters, Sizes};

/// What a channel and its consumers' queues share.
pub(crate) struct Deliveries {
    pub(crate) channel: u16,
    pub(crate) outbound: Arc<Outbound>,
    frame_max: u32,
    capabilities: Capabilities,
    pub(crate) connection: Arc<Connection>,
    /// Poked when there is something to publish in `traced`, or in `errands`.
    pub(super) inbox: Arc<Inbox>,
    /// Copies of deliveries that are to be published. Locked last of all.
    pub(super) traced: Mutex<MessageBatch>,
    /// Whether there are any.
    pub(super) has_traced: AtomicBool,
    /// What the channel's task was called for, as bits of [`Errands`].
    errands: AtomicU8,
    /// What others see of the channel's task. Locked alone.
    pub(crate) shown: Mutex<Shown>,
    /// Not async: held to note deliveries and to take settlements. Locked after a queue's lock and before
    /// the outbound buffer's.
    pub(crate) state: Mutex<State>,
}

/// What a channel's task last said of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) publishes: PublishCounters,
    pub(crate) sizes: Sizes,
    pub(crate) is_confirming: bool,
    /// Publishes that are neither acked nor nacked.
    pub(crate) unconfirmed: u64,
    /// What waits for the commit, on a channel with transactions.
    pub(crate) transaction: Option<UncommittedCounts>,
    /// Prefetch of consumers to come.
    pub(crate) consumer_prefetch: u16,
}

/// What somebody else wants a channel's task to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Errands(u8);

impl Errands {
    const OVERDUE: u8 = 1;
    const PERMISSIONS: u8 = 2;

    /// A delivery is overdue.
    pub(super) fn has_overdue(self) -> bool {
        self.0 & Self::OVERDUE != 0
    }

    /// Consumers may have lost the permission to read.
    pub(super) fn asks_permissions(self) -> bool {
        self.0 & Self::PERMISSIONS != 0
    }
}

/// What waits for a commit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UncommittedCounts {
    pub(crate) messages: usize,
    pub(crate) settlements: usize,
}

/// The state behind the lock.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) counters: DeliveryCounters,
    pub(crate) unacked: UnackedList,
    pub(crate) consumers: HashMap<Box<str>, Consumer>,
    /// Most unsettled deliveries on the whole channel, those of quorum queues left out; 0 for no limit.
    pub(crate) prefetch: u16,
    /// Consumers passed over because of `prefetch`.
    pub(crate) parked: Vec<ParkedConsumer>,
    /// The channel is gone: nothing more is delivered to it.
    pub(crate) closed: bool,
    /// It is looked at whether deliveries are overdue.
    is_watched: bool,
}

/// A consumer of the channel.
#[derive(Clone)]
pub(crate) struct Consumer {
    pub(crate) id: ConsumerId,
    pub(crate) queue: Arc<Queue>,
    pub(crate) origin: OriginIndex,
}

impl State {
    fn is_at_limit(&self) -> bool {
        let limit = usize::from(self.prefetch);
        limit > 0 && self.unacked.counted() >= limit
    }

    /// Consumers that the channel's limit does not hold back any more.
    pub(crate) fn unparked(&mut self) -> Vec<ParkedConsumer> {
        if self.is_at_limit() { Vec::new() } else { std::mem::take(&mut self.parked) }
    }
}

impl Deliveries {
    pub(crate) fn new(channel: u16, connection: &Arc<Connection>, inbox: &Arc<Inbox>) -> Arc<Self> {
        Arc::new(Self {
            channel,
            outbound: Arc::clone(&connection.outbound),
            frame_max: connection.frame_max,
            capabilities: connection.capabilities,
            connection: Arc::clone(connection),
            inbox: Arc::clone(inbox),
            traced: Mutex::default(),
            has_traced: AtomicBool::new(false),
            errands: AtomicU8::new(0),
            shown: Mutex::default(),
            state: Mutex::default(),
        })
    }

    /// Has somebody look whether deliveries are overdue, before the first one is handed out.
    fn watch(self: &Arc<Self>, state: &mut State) {
        if !state.is_watched {
            state.is_watched = true;
            self.connection.server.timeouts.watch(self);
        }
    }

    /// Looks whether deliveries are overdue, and calls the channel's task if so. Returns the shortest time in
    /// milliseconds after which any can be, if there is one; `None` if nothing is handed out, and the channel need
    /// not be looked at until something is.
    pub(super) fn look(&self, now: Timestamp, default_ms: Option<u64>) -> Option<Option<u64>> {
        let mut state = self.state.lock();
        let shortest = state.unacked.note_time(now, default_ms);
        if state.unacked.is_empty() {
            state.is_watched = false;
            return None;
        }
        let is_overdue = shortest.is_some() && !state.unacked.overdue(now, default_ms).is_empty();
        drop(state);
        if is_overdue {
            self.call_for(Errands::OVERDUE);
        }
        Some(shortest)
    }

    /// Has the channel's task look whether its consumers may still read their queues.
    pub(crate) fn ask_permissions_again(&self) {
        self.call_for(Errands::PERMISSIONS);
    }

    fn call_for(&self, errand: u8) {
        self.errands.fetch_or(errand, Ordering::Release);
        self.inbox.poke();
    }

    /// What the channel's task was called for since it asked last.
    pub(super) fn take_errands(&self) -> Errands {
        // PERF: asked once per batch of runs; a load costs nothing where a swap would.
        let errands = match self.errands.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.errands.swap(0, Ordering::Acquire),
        };
        Errands(errands)
    }

    /// Sends a method on the channel.
    pub(crate) fn send(&self, method: &Method<'_>) {
        frame::encode_method(&mut self.outbound.lock().pending.octets, self.channel, method);
    }

    /// Sends a method that carries a message.
    pub(crate) fn send_message(&self, method: &Method<'_>, message: &MessageView<'_>) {
        let mut outbound = self.outbound.lock();
        frame::encode_method(&mut outbound.pending.octets, self.channel, method);
        encode_content(&mut outbound, self.channel, self.frame_max, message);
    }

    /// Tells that a consumer has gone. COMPAT: nothing is told of those of direct replies.
    pub(super) fn tell_consumer_deleted(&self, tag: &str, queue: &Queue) {
        let queue = queue.spec.name.as_str();
        if !queue.starts_with(REPLY_TO_PREFIX) {
            self.connection.tell_consumer(self.channel, tag, queue, None);
        }
    }

    /// Hands one message out for basic.get.
    pub(crate) fn get_ok(
        self: &Arc<Self>,
        no_ack: bool,
        queue: &Arc<Queue>,
        delivery: &Delivery<'_>,
        left: usize,
    ) {
        let mut state = self.state.lock();
        state.counters.redelivered += u64::from(delivery.redelivered);
        let delivery_tag = if no_ack {
            state.counters.got_no_ack += 1;
            state.unacked.next_tag()
        } else {
            state.counters.got += 1;
            self.watch(&mut state);
            let origin = DeliveryOrigin { queue: Arc::clone(queue), consumer: None, timeout_ms: None };
            let origin = state.unacked.add_origin(origin);
            let tag = state.unacked.push(origin, delivery.reference);
            state.unacked.release_origin(origin);
            tag
        };
        let exchange = String::from_utf8_lossy(delivery.message.exchange());
        let routing_key = String::from_utf8_lossy(delivery.message.routing_key());
        let get_ok = Method::BasicGetOk(basic::GetOk {
            delivery_tag,
            redelivered: delivery.redelivered,
            exchange: &exchange,
            routing_key: &routing_key,
            message_count: u32::try_from(left).unwrap_or(u32::MAX),
        });
        let counted = (queue.spec.is_quorum() && delivery.redelivered)
            .then(|| with_counts(delivery.message.properties, delivery.returns));
        let properties = counted.as_deref().unwrap_or(delivery.message.properties);
        self.send_message(&get_ok, &MessageView { properties, ..delivery.message });
        if self.connection.vhost.is_tracing() {
            self.trace_delivery(delivery, queue);
        }
    }
}

/// Where the deliveries of one consumer go.
pub(crate) struct ConsumerSink {
    deliveries: Arc<Deliveries>,
    queue: Weak<Queue>,
    id: ConsumerId,
    tag: Arc<str>,
    origin: OriginIndex,
    no_ack: bool,
    /// Its queue is a quorum queue: it counts how often a message came back, and has no part in the channel's limit.
    is_of_quorum: bool,
    /// Frame header (its size still zero) and basic.deliver up to and with the consumer tag.
    prefix: Box<[u8]>,
}

impl ConsumerSink {
    pub(crate) fn new(
        deliveries: Arc<Deliveries>,
        queue: &Arc<Queue>,
        id: ConsumerId,
        tag: Arc<str>,
        origin: OriginIndex,
        no_ack: bool,
    ) -> Self {
        let mut prefix = Vec::with_capacity(frame::FRAME_HEADER_SIZE + 5 + tag.len());
        prefix.extend_from_slice(&frame_header(FrameType::Method, deliveries.channel, 0));
        prefix.extend_from_slice(&MethodId::BASIC_DELIVER.class_id.to_be_bytes());
        prefix.extend_from_slice(&MethodId::BASIC_DELIVER.method_id.to_be_bytes());
        prefix.push(tag.len().min(255) as u8);
        prefix.extend(tag.bytes().take(255));
        let (is_of_quorum, prefix) = (queue.spec.is_quorum(), prefix.into());
        Self { deliveries, queue: Arc::downgrade(queue), id, tag, origin, no_ack, is_of_quorum, prefix }
    }

    fn parked(&self) -> ParkedConsumer {
        ParkedConsumer { queue: Weak::clone(&self.queue), consumer: self.id }
    }

    /// Appends a delivery. PERF: octets of fixed places are put together before they are appended, so that
    /// a small message takes eight short copies, half of them of a size the compiler knows.
    fn encode(&self, outbound: &mut OutboundState, tag: u64, delivery: &Delivery<'_>) {
        let names = delivery.message.names;
        let out = &mut outbound.pending.octets;
        let start = out.len();
        out.reserve(self.prefix.len() + names.len() + delivery.message.properties.len() + FIXED_BYTES);
        out.extend_from_slice(&self.prefix);
        // Tag and redelivered flag stand between prefix and names.
        let mut fixed = [0; 9];
        fixed[..8].copy_from_slice(&tag.to_be_bytes());
        fixed[8] = u8::from(delivery.redelivered);
        out.extend_from_slice(&fixed);
        out.extend_from_slice(names);
        let size = self.prefix.len() - frame::FRAME_HEADER_SIZE + fixed.len() + names.len();
        if let Some(place) = out.get_mut(start + 3..start + frame::FRAME_HEADER_SIZE) {
            place.copy_from_slice(&(size as u32).to_be_bytes());
        }
        out.push(FRAME_END);
        encode_content(outbound, self.deliveries.channel, self.deliveries.frame_max, &delivery.message);
    }

    fn deliver_to(&self, state: &mut State, source: &mut DeliverySource<'_>) -> SinkState {
        let is_tracing = self.deliveries.connection.vhost.is_tracing();
        let mut outbound = self.deliveries.outbound.lock();
        if !self.no_ack {
            self.deliveries.watch(state);
        }
        loop {
            if state.closed {
                return SinkState::Parked;
            }
            if outbound.is_full() {
                outbound.park(self.parked());
                return SinkState::Parked;
            }
            if !self.no_ack && !self.is_of_quorum && state.is_at_limit() {
                let parked = self.parked();
                state.parked.push(parked);
                return SinkState::Parked;
            }
            // PERF: one call of the encoder, so that it is put in its place.
            let counted;
            let Some(mut delivery) = source.next_delivery() else { return SinkState::Open };
            let tag = if self.no_ack {
                state.unacked.next_tag()
            } else {
                state.unacked.push(self.origin, delivery.reference)
            };
            if self.is_of_quorum && delivery.redelivered {
                counted = with_counts(delivery.message.properties, delivery.returns);
                delivery.message.properties = &counted;
            }
            self.encode(&mut outbound, tag, &delivery);
            if is_tracing && let Some(queue) = self.queue.upgrade() {
                self.deliveries.trace_delivery(&delivery, &queue);
            }
        }
    }
}

impl DeliverySink for ConsumerSink {
    fn deliver(&self, source: &mut DeliverySource<'_>) -> SinkState {
        let mut state = self.deliveries.state.lock();
        let before = state.unacked.last_tag();
        let sink_state = self.deliver_to(&mut state, source);
        // PERF: each delivery has a tag, so that none has to be counted by itself.
        let count = state.unacked.last_tag() - before;
        let counters = &mut state.counters;
        *if self.no_ack { &mut counters.delivered_no_ack } else { &mut counters.delivered } += count;
        counters.redelivered += source.redelivered();
        sink_state
    }

    fn cancel(&self) {
        let mut state = self.deliveries.state.lock();
        let is_mine = state.consumers.get(&*self.tag).is_some_and(|consumer| consumer.id == self.id);
        if !is_mine {
            return;
        }
        if let Some(consumer) = state.consumers.remove(&*self.tag) {
            self.deliveries.tell_consumer_deleted(&self.tag, &consumer.queue);
        }
        state.unacked.release_origin(self.origin);
        // COMPAT: only a client that announced it is told.
        if self.deliveries.capabilities.consumer_cancel_notify && !state.closed {
            let cancel = basic::Cancel { consumer_tag: &self.tag, no_wait: true };
            self.deliveries.send(&Method::BasicCancel(cancel));
        }
    }
}

/// Room for what a delivery has beside prefix, names, properties and body.
const FIXED_BYTES: usize = 64;

fn frame_header(frame_type: FrameType, channel: u16, size: usize) -> [u8; frame::FRAME_HEADER_SIZE] {
    let ([a, b], [c, d, e, f]) = (channel.to_be_bytes(), (size as u32).to_be_bytes());
    [frame_type as u8, a, b, c, d, e, f]
}

/// Appends content header and body frames of a message.
fn encode_content(outbound: &mut OutboundState, channel: u16, frame_max: u32, message: &MessageView<'_>) {
    let out = &mut outbound.pending.octets;
    // Frame header, class, weight and body size.
    let mut fixed = [0; frame::FRAME_HEADER_SIZE + 12];
    fixed[..7].copy_from_slice(&frame_header(FrameType::Header, channel, 12 + message.properties.len()));
    fixed[7..9].copy_from_slice(&MethodId::BASIC_PUBLISH.class_id.to_be_bytes());
    fixed[11..].copy_from_slice(&(message.body.len() as u64).to_be_bytes());
    out.extend_from_slice(&fixed);
    out.extend_from_slice(message.properties);
    let payload_max = (frame_max as usize).saturating_sub(frame::FRAME_OVERHEAD).max(1);
    match message.body {
        Body::Small(octets) => {
            for piece in octets.chunks(payload_max) {
                let [a, b, c, d, e, f, g] = frame_header(FrameType::Body, channel, piece.len());
                // The end of the frame before and the header of this one.
                out.extend_from_slice(&[FRAME_END, a, b, c, d, e, f, g]);
                out.extend_from_slice(piece);
            }
            out.push(FRAME_END);
        }
        Body::Large(body) => {
            let pending = &mut outbound.pending;
            pending.octets.push(FRAME_END);
            for slice in body.slices() {
                let mut rest = slice.clone();
                while !rest.is_empty() {
                    let piece = rest.split_to(rest.len().min(payload_max));
                    let header = frame_header(FrameType::Body, channel, piece.len());
                    pending.octets.extend_from_slice(&header);
                    pending.push_slice(piece);
                    pending.octets.push(FRAME_END);
                }
            }
        }
    }
}
