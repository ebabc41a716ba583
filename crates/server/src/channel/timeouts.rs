//! Deliveries that stay unsettled for too long. Channels that were handed something are looked at now and then by one
//! task of the server; the channel's own task then closes the channel, or cancels the consumer.
//!
//! PERF: deliveries are not timed. Looking at a channel notes which tags it has given so far, so a delivery is found
//! to be overdue at most two looks late; a channel with nothing unsettled is not looked at, and costs nothing.

use std::sync::{Arc, Weak};
use std::time::Duration;

use leveret_broker::queue::QueueType;
use leveret_broker::time::{Clock, Timestamp};
use leveret_broker::unacked::{DeliveryOrigin, OriginIndex};
use leveret_codec::method::{Method, MethodId, basic};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::deliveries::Deliveries;
use super::{Channel, Outcome};
use crate::connection::outbound::GatherWakes;
use crate::error::{AmqpError, ReplyCode};

/// Longest time between two looks. COMPAT: RabbitMQ's.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Shortest time between two looks, however short the timeouts are and however often channels come to be watched.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(250);

/// Looks within the time after which a delivery is overdue.
const LOOKS_PER_TIMEOUT: u32 = 4;

/// Channels with deliveries that may become overdue.
pub(crate) struct Timeouts {
    /// Where neither consumer nor queue says otherwise; none: never.
    pub(crate) default_ms: Option<u64>,
    clock: Arc<dyn Clock>,
    /// Locked alone, or with a channel's deliveries locked.
    watched: Mutex<Vec<Weak<Deliveries>>>,
    added: Notify,
}

impl Timeouts {
    pub(crate) fn new(default_ms: Option<u64>, clock: Arc<dyn Clock>) -> Self {
        Self { default_ms, clock, watched: Mutex::default(), added: Notify::new() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Looks at a channel from now on, until it has nothing unsettled.
    pub(super) fn watch(&self, deliveries: &Arc<Deliveries>) {
        self.watched.lock().push(Arc::downgrade(deliveries));
        self.added.notify_one();
    }

    /// Looks at the channels as long as it is polled.
    pub(crate) async fn run(&self) {
        loop {
            let looked = Instant::now();
            let next = self.look();
            // What comes to be watched meanwhile is looked at with the others.
            sleep_until(looked + LOOK_INTERVAL_MIN).await;
            match next {
                None => self.added.notified().await,
                Some(interval) => tokio::select! {
                    () = sleep_until(looked + interval) => {}
                    () = self.added.notified() => {}
                },
            }
        }
    }

    /// Looks at each channel once. When to look again; `None` if there is no channel to look at.
    fn look(&self) -> Option<Duration> {
        let now = self.now();
        let mut watched = std::mem::take(&mut *self.watched.lock());
        let mut interval = LOOK_INTERVAL_MAX;
        watched.retain(|deliveries| {
            let Some(deliveries) = deliveries.upgrade() else { return false };
            let Some(shortest_ms) = deliveries.look(now, self.default_ms) else { return false };
            let shortest = shortest_ms.map_or(LOOK_INTERVAL_MAX, Duration::from_millis);
            interval = interval.min(shortest / LOOKS_PER_TIMEOUT).max(LOOK_INTERVAL_MIN);
            true
        });
        let mut added = self.watched.lock();
        added.append(&mut watched);
        (!added.is_empty()).then_some(interval)
    }
}

impl Channel {
    /// Ends what has overdue deliveries: the consumer if it is one of a quorum queue, or else the channel.
    pub(super) async fn end_overdue(&mut self) {
        let ended = {
            let _wakes = GatherWakes::begin();
            self.cancel_overdue()
        };
        if let Err(error) = ended {
            self.wait_for_replies().await;
            let _wakes = GatherWakes::begin();
            self.fail(error);
        }
    }

    fn cancel_overdue(&mut self) -> Outcome {
        let timeouts = Arc::clone(&self.connection.server.timeouts);
        let overdue = self.deliveries.state.lock().unacked.overdue(timeouts.now(), timeouts.default_ms);
        for index in overdue {
            let origin = self.deliveries.state.lock().unacked.origin(index).cloned();
            let Some(origin) = origin else { continue };
            let Some(timeout_ms) = origin.timeout_ms(timeouts.default_ms) else { continue };
            let (queue, vhost) = (&origin.queue.spec.name, &origin.queue.spec.vhost);
            let (peer, channel) = (self.connection.peer, self.number);
            warn!(%peer, channel, %queue, %vhost, "a delivery was not acknowledged in {timeout_ms} ms");
            // COMPAT: a client that would not learn of it by a cancel learns it by the end of its channel.
            let is_told = self.connection.capabilities.consumer_cancel_notify;
            let is_quorum = origin.queue.spec.arguments.queue_type() == QueueType::Quorum;
            if !(is_quorum && is_told && origin.consumer.is_some()) {
                return Err(timed_out(channel, timeout_ms));
            }
            self.take_consumer_back(index, &origin);
        }
        Ok(())
    }

    /// Cancels a consumer, if it is still there, and gives its messages back.
    fn take_consumer_back(&mut self, index: OriginIndex, origin: &DeliveryOrigin) {
        let Some(id) = origin.consumer else { return };
        let deliveries = Arc::clone(&self.deliveries);
        let cancelled = {
            let mut state = deliveries.state.lock();
            state.consumers.extract_if(|_, known| known.id == id).next()
        };
        self.connection.vhost.cancel_consumer_returning(&origin.queue, id, || {
            let mut taken = Vec::new();
            let mut state = deliveries.state.lock();
            state.unacked.take_back(index, &mut taken);
            state.unacked.settle_origin(index, taken.len());
            taken.iter().map(|unacked| unacked.message).collect()
        });
        if let Some((tag, consumer)) = cancelled {
            self.forget_consumer(&consumer);
            self.send(&Method::BasicCancel(basic::Cancel { consumer_tag: &tag, no_wait: true }));
        }
    }
}

/// COMPAT: the text of RabbitMQ up to 4.2, which names no method.
fn timed_out(channel: u16, timeout_ms: u64) -> AmqpError {
    let text = format!(
        "delivery acknowledgement on channel {channel} timed out. Timeout value used: {timeout_ms} ms. This timeout \
         value can be configured, see consumers doc guide to learn more"
    );
    AmqpError::new(ReplyCode::PreconditionFailed, text, MethodId::NONE)
}
