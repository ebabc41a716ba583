//! Consuming: qos, consume, cancel, get, and the consumers of direct replies.

use std::sync::Arc;

use leveret_broker::access::permissions::{Permission, Resource};
use leveret_broker::names::generated;
use leveret_broker::queue::arguments::ConsumerArguments;
use leveret_broker::queue::{ConsumerHolder, ConsumerSpec, Got, Settlement};
use leveret_broker::reply_to::{REPLY_TO, REPLY_TO_PREFIX};
use leveret_broker::unacked::DeliveryOrigin;
use leveret_broker::{BrokerError, ConsumerId, Queue};
use leveret_codec::method::{Method, MethodId, basic};

use super::deliveries::{Consumer, ConsumerSink};
use super::{Channel, Outcome};
use crate::connection::outbound::GatherWakes;
use crate::error::{AmqpError, ReplyCode};
use crate::events::ConsumerFields;

/// The consumer of a channel's direct replies.
pub(crate) struct ReplyConsumer {
    tag: String,
    pub(super) queue: Arc<Queue>,
}

impl Channel {
    pub(super) fn recv_qos(&mut self, qos: basic::Qos) -> Outcome {
        if qos.prefetch_size != 0 {
            let text = format!("prefetch_size!=0 ({})", qos.prefetch_size);
            return Err(AmqpError::new(ReplyCode::NotImplemented, text, MethodId::BASIC_QOS));
        }
        if qos.global {
            self.deliveries.state.lock().prefetch = qos.prefetch_count;
        } else {
            // COMPAT: a limit for each consumer to come takes a channel-wide one off.
            self.consumer_prefetch = qos.prefetch_count;
            self.deliveries.state.lock().prefetch = 0;
        }
        // COMPAT: quorum queues know limits of consumers alone (4.3).
        self.quorum_prefetch = qos.prefetch_count;
        self.resume_parked();
        self.send(&Method::BasicQosOk(basic::QosOk));
        Ok(())
    }

    pub(super) fn recv_consume(&mut self, consume: &basic::Consume<'_>) -> Outcome {
        let method = MethodId::BASIC_CONSUME;
        let tag = match consume.consumer_tag {
            "" => generated("amq.ctag-"),
            tag => tag.to_owned(),
        };
        if self.deliveries.state.lock().consumers.contains_key(tag.as_str()) {
            let text = format!("attempt to reuse consumer tag '{tag}'");
            return Err(AmqpError::new(ReplyCode::NotAllowed, text, method));
        }
        if consume.queue == REPLY_TO {
            return self.consume_replies(tag, consume);
        }
        let name = self.queue_name(consume.queue, method)?;
        self.check(Permission::Read, Resource::Queue, &name, method)?;
        let vhost = Arc::clone(&self.connection.vhost);
        let refuse = |error: BrokerError| AmqpError::refused(&error, method);
        let queue = vhost.queue(&name, self.connection.id).map_err(refuse)?;
        let queue_type = queue.spec.arguments.queue_type();
        let arguments = ConsumerArguments::parse(&consume.arguments, queue_type, &name, vhost.name.as_str());
        self.add_consumer(&tag, &queue, consume, arguments.map_err(refuse)?).map_err(refuse)?;
        let made = ConsumerFields {
            exclusive: consume.exclusive,
            ack_required: !consume.no_ack,
            prefetch: self.prefetch_of(&queue),
            arguments: &consume.arguments,
        };
        self.connection.tell_consumer(self.number, &tag, &name, Some(&made));
        Ok(())
    }

    /// Most unsettled deliveries of a consumer of this queue that starts now.
    fn prefetch_of(&self, queue: &Queue) -> u16 {
        if queue.spec.is_quorum() { self.quorum_prefetch } else { self.consumer_prefetch }
    }

    /// Adds a consumer; its consume-ok leaves before its first delivery.
    fn add_consumer(
        &mut self,
        tag: &str,
        queue: &Arc<Queue>,
        consume: &basic::Consume<'_>,
        asked: ConsumerArguments,
    ) -> Result<(), BrokerError> {
        let (id, timeout_ms) = (ConsumerId::next(), asked.timeout_ms);
        let (connection, channel) = (self.connection.id, self.number);
        let holder = ConsumerHolder { connection, channel, tag: tag.into() };
        let origin = {
            let mut state = self.deliveries.state.lock();
            let origin = DeliveryOrigin { queue: Arc::clone(queue), consumer: Some(id), timeout_ms };
            let origin = state.unacked.add_origin(origin);
            state.consumers.insert(tag.into(), Consumer { id, queue: Arc::clone(queue), origin });
            origin
        };
        let shown = Arc::clone(&holder.tag);
        let sink = ConsumerSink::new(Arc::clone(&self.deliveries), queue, id, shown, origin, consume.no_ack);
        let spec = ConsumerSpec {
            id,
            holder,
            sink: Arc::new(sink),
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            prefetch: self.prefetch_of(queue),
            priority: asked.priority,
            arguments: consume.arguments.encoded().into(),
        };
        if let Err(error) = queue.consume(spec) {
            let mut state = self.deliveries.state.lock();
            state.consumers.remove(tag);
            state.unacked.release_origin(origin);
            return Err(error);
        }
        if !consume.no_wait {
            self.send(&Method::BasicConsumeOk(basic::ConsumeOk { consumer_tag: tag }));
        }
        queue.resume(id);
        Ok(())
    }

    /// COMPAT: direct replies are for one consumer of a channel, which does not acknowledge.
    fn consume_replies(&mut self, tag: String, consume: &basic::Consume<'_>) -> Outcome {
        let refuse =
            |text: &str| Err(AmqpError::new(ReplyCode::PreconditionFailed, text, MethodId::BASIC_CONSUME));
        if !consume.no_ack {
            return refuse("reply consumer cannot acknowledge");
        }
        if self.reply_consumer.is_some() {
            return refuse("reply consumer already set");
        }
        let queue = self.connection.vhost.open_reply_queue(self.connection.id);
        self.add_consumer(&tag, &queue, consume, ConsumerArguments::default())
            .map_err(|error| AmqpError::refused(&error, MethodId::BASIC_CONSUME))?;
        self.reply_consumer = Some(ReplyConsumer { tag, queue });
        Ok(())
    }

    pub(super) fn recv_cancel(&mut self, cancel: &basic::Cancel<'_>) -> Outcome {
        let consumer = self.deliveries.state.lock().consumers.remove(cancel.consumer_tag);
        // COMPAT: an unknown tag is cancelled as well.
        if let Some(consumer) = consumer {
            self.cancel_consumer(cancel.consumer_tag, &consumer);
        }
        if self.reply_consumer.as_ref().is_some_and(|reply| reply.tag == cancel.consumer_tag) {
            self.close_reply_consumer();
        }
        if !cancel.no_wait {
            self.send(&Method::BasicCancelOk(basic::CancelOk { consumer_tag: cancel.consumer_tag }));
        }
        Ok(())
    }

    fn cancel_consumer(&self, tag: &str, consumer: &Consumer) {
        self.deliveries.tell_consumer_deleted(tag, &consumer.queue);
        self.connection.vhost.cancel_consumer(&consumer.queue, consumer.id);
        self.forget_consumer(consumer);
    }

    /// Cancels the consumers of queues that the user may not read any more. COMPAT: as 4.x does after an update-secret;
    /// what they have may still be settled.
    pub(super) fn cancel_forbidden(&mut self) {
        let _wakes = GatherWakes::begin();
        let _acting = self.connection.act();
        let grants = self.grants();
        let is_forbidden = |queue: &str| {
            !queue.starts_with(REPLY_TO_PREFIX)
                && grants.check(Permission::Read, Resource::Queue, queue).is_err()
        };
        let forbidden: Vec<_> = {
            let mut state = self.deliveries.state.lock();
            state.consumers.extract_if(|_, known| is_forbidden(known.queue.spec.name.as_str())).collect()
        };
        for (tag, consumer) in forbidden {
            self.cancel_consumer(&tag, &consumer);
            if self.connection.capabilities.consumer_cancel_notify {
                self.send(&Method::BasicCancel(basic::Cancel { consumer_tag: &tag, no_wait: true }));
            }
        }
    }

    /// Forgets what the channel knows of a consumer that its queue does not know any more.
    pub(super) fn forget_consumer(&self, consumer: &Consumer) {
        let mut state = self.deliveries.state.lock();
        state.unacked.release_origin(consumer.origin);
        state.parked.retain(|parked| parked.consumer != consumer.id);
        self.deliveries.outbound.lock().forget_parked(consumer.id);
    }

    fn close_reply_consumer(&mut self) {
        if let Some(reply) = self.reply_consumer.take() {
            self.connection.vhost.close_reply_queue(reply.queue.spec.name.as_str());
        }
    }

    /// Ends all deliveries to a channel that ends, and its consumers. What they have not settled is back in its place
    /// before another consumer becomes the single active one, so that that one gets it in order.
    pub(super) fn end_consumers(&mut self) {
        {
            let mut state = self.deliveries.state.lock();
            state.closed = true;
            state.parked = Vec::new();
        }
        self.requeue_unacked(Settlement::Failed);
        self.flush_settlements();
        let consumers = std::mem::take(&mut self.deliveries.state.lock().consumers);
        for (tag, consumer) in &consumers {
            self.cancel_consumer(tag, consumer);
        }
        self.close_reply_consumer();
    }

    pub(super) fn recv_get(&mut self, get: &basic::Get<'_>) -> Outcome {
        let refuse = |error: BrokerError| AmqpError::refused(&error, MethodId::BASIC_GET);
        let name = self.queue_name(get.queue, MethodId::BASIC_GET)?;
        self.check(Permission::Read, Resource::Queue, &name, MethodId::BASIC_GET)?;
        let queue = self.connection.vhost.queue(&name, self.connection.id).map_err(refuse)?;
        let deliveries = Arc::clone(&self.deliveries);
        let got = queue
            .get(get.no_ack, |delivery, left| deliveries.get_ok(get.no_ack, &queue, &delivery, left))
            .map_err(refuse)?;
        self.has_sent = true;
        match got {
            Got::Message(()) => {}
            Got::Empty => {
                self.deliveries.state.lock().counters.got_empty += 1;
                self.send(&Method::BasicGetEmpty(basic::GetEmpty));
            }
            Got::Absent => self.awaits_load = Some(queue),
        }
        Ok(())
    }
}
