//! Publishing: checks a message when its last octet is there and puts it into the batches of its queues.

use bytes::Bytes;
use leveret_broker::limits::LARGE_BODY_BYTES;
use leveret_broker::{MessageView, message};
use leveret_codec::method::{ARGUMENTS_OFFSET, Method, MethodId, basic};
use leveret_codec::properties::ContentHeader;

use super::confirm::Confirms;
use super::content::{Received, Stage};
use super::properties::Publisher;
use super::routes::Publish;
use super::{Channel, Outcome};
use crate::connection::pending::TooMuchPending;
use crate::error::{AmqpError, ReplyCode};
use crate::limits::COUNTED_HEADER_BYTES;

/// Octets of the arguments of basic.publish before exchange and routing key: the legacy ticket.
const TICKET_BYTES: usize = 2;

/// The flags of basic.publish when mandatory is the only one set.
const MANDATORY: u8 = 1;

impl Channel {
    /// basic.publish: the message's header is next.
    pub(super) fn recv_publish(&mut self, payload: &[u8]) -> Outcome {
        let arguments = payload.get(ARGUMENTS_OFFSET..).unwrap_or_default();
        // PERF: most channels publish to one place; names that were checked for the last message are not
        // decoded again (11 to 20 ns).
        if let Some(&[flags @ (0 | MANDATORY)]) = arguments
            .get(TICKET_BYTES..)
            .and_then(|rest| rest.strip_prefix(self.content.names.as_slice()))
            .filter(|_| !self.content.names.is_empty())
            .and_then(|rest| rest.first_chunk::<1>().filter(|_| rest.len() == 1))
        {
            self.content.begin_again(flags == MANDATORY);
            return Ok(());
        }
        let publish = basic::Publish::decode(arguments)
            .map_err(|error| AmqpError::undecodable(&error, MethodId::BASIC_PUBLISH))?;
        if publish.immediate {
            return Err(refused(ReplyCode::NotImplemented, "immediate=true"));
        }
        let names_length = 2 + publish.exchange.len() + publish.routing_key.len();
        let names = arguments.get(TICKET_BYTES..TICKET_BYTES + names_length).unwrap_or_default();
        self.content.begin(names, publish.mandatory);
        Ok(())
    }

    /// The content header of a publish.
    pub(super) fn recv_content_header(&mut self, payload: &[u8]) -> Outcome {
        let undecodable = |error| AmqpError::undecodable(&error, MethodId::BASIC_PUBLISH);
        let (class_id, body_size, octets) = ContentHeader::split(payload).map_err(undecodable)?;
        if class_id != MethodId::BASIC_PUBLISH.class_id {
            let text = format!("expected content header for class 60, got one for class {class_id} instead");
            return Err(AmqpError::new(ReplyCode::UnexpectedFrame, text, MethodId::BASIC_PUBLISH));
        }
        let publisher = Publisher {
            access: self.connection.server.broker.access(),
            user: &self.connection.user,
            message_bytes_max: self.connection.server.config.message_bytes_max,
            reply_queue: self.reply_consumer.as_ref().map(|reply| reply.queue.spec.name.as_str()),
        };
        publisher.check_size(body_size)?;
        publisher.take(octets, &mut self.content)?;
        if body_size == 0 {
            self.content.stage = Stage::Idle;
            return self.publish(&Received::Frame(&[]));
        }
        self.content.stage = Stage::Body(body_size);
        if body_size >= LARGE_BODY_BYTES as u64 {
            self.check_before_body()?;
        }
        if payload.len() > COUNTED_HEADER_BYTES {
            return self.hold_unfinished(payload.len());
        }
        Ok(())
    }

    /// Checks before a large body is taken what the user may not do with it in any case.
    fn check_before_body(&mut self) -> Outcome {
        let (exchange, routing_key) = message::names_in(&self.content.names);
        let text = |octets| std::str::from_utf8(octets).unwrap_or_default();
        let (vhost, exchange, routing_key) = (&self.connection.vhost, text(exchange), text(routing_key));
        let checked = if self.content.copies.is_empty() {
            self.access.check_publish(vhost, exchange, &[routing_key])
        } else {
            let copies = self.content.copies.iter().map(String::as_str);
            let keys: Vec<_> = [routing_key].into_iter().chain(copies).collect();
            self.access.check_publish(vhost, exchange, &keys)
        };
        checked.map_err(|error| AmqpError::refused(&error, MethodId::BASIC_PUBLISH))
    }

    /// Counts octets of a message of which a part is still to come.
    fn hold_unfinished(&mut self, bytes: usize) -> Outcome {
        self.unfinished.add(bytes).map_err(|TooMuchPending(max)| {
            let text = format!("messages that are still being received take more than {max} octets");
            AmqpError::new(ReplyCode::ResourceError, text, MethodId::BASIC_PUBLISH)
        })
    }

    /// A body frame of a publish.
    pub(super) fn recv_content_body(
        &mut self,
        missing: u64,
        frame: &[u8],
        run: &Bytes,
        pinned_bytes: usize,
    ) -> Outcome {
        if frame.len() as u64 > missing {
            let text = "content body frame exceeds remaining content size";
            return Err(AmqpError::new(ReplyCode::FrameError, text, MethodId::BASIC_PUBLISH));
        }
        match self.content.body_frame(missing, frame, run, pinned_bytes) {
            Some(received) => {
                // Only then, so that there is no moment at which it counts nowhere, and an alarm seems over.
                let published = self.publish(&received);
                self.unfinished.clear();
                published
            }
            None => self.hold_unfinished(frame.len()),
        }
    }

    /// The message is whole.
    fn publish(&mut self, received: &Received<'_>) -> Outcome {
        let body = received.body(&self.content);
        let content = &self.content;
        let properties = content.properties.as_slice();
        let message = MessageView {
            names: &content.names,
            properties,
            body,
            persistent: content.persistent,
            extras: &[],
        };
        let publish = Publish {
            message,
            copies: &content.copies,
            same_names: content.same_names,
            expiration_ms: content.expiration_ms,
            sequence: self.confirms.as_ref().map_or(0, Confirms::next_sequence),
            in_transaction: self.transaction.is_some(),
        };
        let vhost = &self.connection.vhost;
        let routed = self
            .routes
            .add(vhost, Some(&mut self.access), &publish)
            .map_err(|error| AmqpError::refused(&error, MethodId::BASIC_PUBLISH))?;
        if let Some(queues) = self.routes.take_traced() {
            Self::trace_publish(&self.connection, self.number, &publish.message, &content.copies, queues);
        }
        if !routed.somewhere && !content.mandatory {
            self.counted.dropped += 1;
        }
        if !routed.somewhere && content.mandatory {
            self.counted.returned += 1;
            // SPEC: basic.return for a mandatory message that no queue took.
            if let Some(transaction) = &mut self.transaction {
                transaction.returns.push(&publish.message);
            } else {
                self.has_sent = true;
                send_return(&self.deliveries, &publish.message);
            }
        }
        let body_bytes = publish.message.body.len();
        self.content.reset();
        self.counted.published += 1;
        self.counted.routed += u64::from(routed.copies);
        self.sizes.add(body_bytes);
        if let Some(confirms) = &mut self.confirms {
            self.counted.to_confirm += 1;
            confirms.published();
            if routed.refused {
                confirms.refused();
            }
        }
        if self.transaction.is_none() {
            if self.has_freed_ids() {
                // It is the first message to such a queue, and what was settled came before it.
                self.flush_settlements();
            }
            self.flush_routes_if_large();
            return Ok(());
        }
        self.count_in_transaction(received.large_bytes())
    }

    /// Whether settlements wait that may set ids free, so that queues that drop duplicates have to be told of them
    /// before they get another message. Otherwise messages are handed over first.
    pub(super) fn has_freed_ids(&self) -> bool {
        self.routes.reach_unique() && !self.settlements.pending.is_empty()
    }
}

/// Sends a message back to its publisher.
pub(super) fn send_return(deliveries: &std::sync::Arc<super::Deliveries>, message: &MessageView<'_>) {
    let exchange = String::from_utf8_lossy(message.exchange());
    let routing_key = String::from_utf8_lossy(message.routing_key());
    let basic_return = Method::BasicReturn(basic::Return {
        reply_code: 312,
        reply_text: "NO_ROUTE",
        exchange: &exchange,
        routing_key: &routing_key,
    });
    deliveries.send_message(&basic_return, message);
}

fn refused(code: ReplyCode, text: impl Into<String>) -> AmqpError {
    AmqpError::new(code, text, MethodId::BASIC_PUBLISH)
}
