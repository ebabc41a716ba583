//! Publishing: checks a message when its last octet is there and puts it into the batches of its queues.

use bytes::Bytes;
use leveret_broker::MessageView;
use leveret_broker::queue::arguments::type_name;
use leveret_broker::reply_to::REPLY_TO;
use leveret_codec::method::{ARGUMENTS_OFFSET, Method, MethodId, basic};
use leveret_codec::properties::{ContentHeader, Properties};
use leveret_codec::table::{FieldTableRef, FieldValueRef};

use super::confirm::Confirms;
use super::content::{Received, Stage};
use super::routes::Publish;
use super::{Channel, Outcome};
use crate::error::{AmqpError, ReplyCode};

/// Octets of the arguments of basic.publish before exchange and routing key: the legacy ticket.
const TICKET_BYTES: usize = 2;

/// The flags of basic.publish when mandatory is the only one set.
const MANDATORY: u8 = 1;

/// Properties of a message that has none: an empty flag word.
const NO_PROPERTIES: [u8; 2] = [0, 0];

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
        let limit = self.connection.server.config.message_bytes_max;
        if body_size > limit {
            let text = format!("message size {body_size} is larger than configured max size {limit}");
            return Err(refused(ReplyCode::PreconditionFailed, text));
        }
        self.content.properties.clear();
        self.content.expiration_ms = None;
        if octets == NO_PROPERTIES {
            self.content.persistent = false;
            self.content.properties.extend_from_slice(&NO_PROPERTIES);
        } else {
            let properties = Properties::decode(octets).map_err(undecodable)?;
            self.content.persistent = properties.delivery_mode == Some(2);
            self.take_properties(octets, &properties)?;
        }
        if body_size == 0 {
            self.content.stage = Stage::Idle;
            return self.publish(&Received::Frame(&[]));
        }
        self.content.stage = Stage::Body(body_size);
        Ok(())
    }

    /// Keeps the properties as they came, except where the broker has to change them.
    fn take_properties(&mut self, octets: &[u8], properties: &Properties<'_>) -> Outcome {
        self.check_properties(properties)?;
        let asks_for_reply = properties.reply_to == Some(REPLY_TO.as_bytes());
        let strips_bcc = properties.headers.is_some_and(|headers| headers.get("BCC").is_some());
        if let Some(headers) = properties.headers {
            for header in ["CC", "BCC"] {
                copies(&headers, header, &mut self.content.copies)?;
            }
        }
        if !asks_for_reply && !strips_bcc {
            self.content.properties.extend_from_slice(octets);
            return Ok(());
        }
        let mut changed = *properties;
        let stripped;
        if let (true, Some(headers)) = (strips_bcc, properties.headers) {
            let mut table = headers.to_owned();
            table.remove("BCC");
            stripped = table.encoded();
            changed.headers = FieldTableRef::parse(&stripped).ok();
        }
        if asks_for_reply {
            let Some(reply) = &self.reply_consumer else {
                return Err(refused(ReplyCode::PreconditionFailed, "fast reply consumer does not exist"));
            };
            changed.reply_to = Some(reply.queue.spec.name.as_str().as_bytes());
        }
        changed.encode(&mut self.content.properties);
        Ok(())
    }

    fn check_properties(&mut self, properties: &Properties<'_>) -> Outcome {
        if let Some(user) = properties.user_id
            && user != self.connection.user.as_bytes()
            && !self.may_impersonate()
        {
            let text = format!(
                "user_id property set to '{}' but authenticated user was '{}'",
                String::from_utf8_lossy(user),
                self.connection.user
            );
            return Err(refused(ReplyCode::PreconditionFailed, text));
        }
        self.content.expiration_ms = properties.expiration.map(expiration_ms).transpose()?;
        Ok(())
    }

    /// COMPAT: with this tag a user may publish in the name of others.
    fn may_impersonate(&self) -> bool {
        let user = self.connection.server.broker.access().user(&self.connection.user);
        user.is_some_and(|user| user.has_tag("impersonator"))
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
            Some(received) => self.publish(&received),
            None => Ok(()),
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
        self.count_in_transaction(body_bytes)
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

/// COMPAT: CC and BCC are arrays; each long string in them is a routing key, the rest is passed over.
pub(crate) fn copies(headers: &FieldTableRef<'_>, header: &str, keys: &mut Vec<String>) -> Outcome {
    match headers.get(header) {
        None => Ok(()),
        Some(FieldValueRef::Array(array)) => {
            keys.extend(array.iter().filter_map(|value| match value {
                FieldValueRef::LongString(key) => Some(String::from_utf8_lossy(key).into_owned()),
                _ => None,
            }));
            Ok(())
        }
        Some(value) => {
            let value_type = type_name(&value.to_owned());
            let text = format!("invalid message: {{unacceptable_type_in_header,\"{header}\",{value_type}}}");
            Err(refused(ReplyCode::PreconditionFailed, text))
        }
    }
}

/// COMPAT: a string of milliseconds, at most ten years.
pub(crate) fn expiration_ms(expiration: &[u8]) -> Result<u64, AmqpError> {
    const EXPIRATION_MS_MAX: u64 = 315_360_000_000;
    let text = String::from_utf8_lossy(expiration);
    let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let number = digits.len() - digits.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let term = if number == 0 {
        "no_integer".to_owned()
    } else if number < digits.len() {
        format!("{{leftover_string,\"{}\"}}", &digits[number..])
    } else if text.starts_with('-') && digits.bytes().any(|digit| digit != b'0') {
        format!("{{value_negative,{text}}}")
    } else {
        match digits.parse::<u64>() {
            Ok(value) if value <= EXPIRATION_MS_MAX => return Ok(value),
            _ => format!("{{value_too_large,{digits}}}"),
        }
    };
    Err(refused(ReplyCode::PreconditionFailed, format!("invalid expiration '{text}': {term}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiration_is_a_number_of_milliseconds() {
        let term = |text: &str| expiration_ms(text.as_bytes()).err().map(|error| error.explanation);
        assert_eq!(term("0"), None);
        assert_eq!(term("60000"), None);
        assert_eq!(term("x").unwrap(), "invalid expiration 'x': no_integer");
        assert_eq!(term("").unwrap(), "invalid expiration '': no_integer");
        assert_eq!(term("10s").unwrap(), "invalid expiration '10s': {leftover_string,\"s\"}");
        assert_eq!(term("-1").unwrap(), "invalid expiration '-1': {value_negative,-1}");
        assert!(term("999999999999999999999").unwrap().contains("value_too_large"));
    }
}
