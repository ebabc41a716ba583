//! Publishing and fetching single messages: for tests and for people, who have no channel.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leveret_broker::access::permissions::{Permission, Resource};
use leveret_broker::queue::{Got, Settlement};
use leveret_broker::vhost::QueueDeclaration;
use leveret_broker::{BrokerError, Delivery, MessageRef, Queue, Vhost};
use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Answered, Refusal, of_channel};
use super::call::{Call, NO_CONNECTION, integer, text};
use super::exchanges;
use crate::json as fields;
use crate::node::SingleMessage;

/// Messages fetched at a time, at most: their bodies are all in memory then.
const COUNT_MAX: usize = 5000;

/// Octets of bodies fetched at a time after which no more are.
const BYTES_MAX: usize = 128 * 1024 * 1024;

/// How long a message may take to come from the disk.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The queue of the aliveness test. COMPAT: its name.
const ALIVENESS: &str = "aliveness-test";

/// POST exchanges/:vhost/:name/publish.
pub(crate) fn publish(call: &Call) -> Answered {
    let (vhost, exchange) = (call.vhost()?, exchanges::name(call, "exchange"));
    let object = call.object_with(&["routing_key", "properties", "payload", "payload_encoding"])?;
    let Some(Value::String(payload)) = object.get("payload") else {
        return Err(Refusal::bad_request("payload_not_string"));
    };
    let body = match text(&object, "payload_encoding")? {
        Some("string") => payload.clone().into_bytes(),
        Some("base64") => {
            STANDARD.decode(payload).map_err(|_| Refusal::bad_request("payload is not valid base64"))?
        }
        other => {
            let other = other.unwrap_or_default();
            return Err(Refusal::bad_request(json!(["unsupported_encoding", other])));
        }
    };
    let routing_key = text(&object, "routing_key")?.unwrap_or_default();
    let properties = properties(&object)?;
    let routed = send(call, &vhost, exchange, routing_key, &properties, &body)?;
    Ok(Answer::Json(json!({ "routed": routed })))
}

/// Publishes, and waits until it is safe; whether it went anywhere.
fn send(
    call: &Call,
    vhost: &Vhost,
    exchange: &str,
    routing_key: &str,
    properties: &[u8],
    body: &[u8],
) -> Result<bool, Refusal> {
    let message = SingleMessage { user: &call.user.name, exchange, routing_key, properties, body };
    let published = call.api.node.publish(vhost, &message);
    // COMPAT: 400 whatever the reason, missing permissions too.
    let published = published.map_err(|(code, text)| Refusal::bad_request(format!("{code} {text}")))?;
    if published.is_refused {
        // COMPAT: the word where else is a reply code.
        return Err(Refusal::bad_request("rejected Unable to publish message. Check queue limits."));
    }
    call.wait_until_safe(published.safe_at)
        .map_err(|_| Refusal::bad_request("confirm_timeout Timed out waiting for a confirm."))?;
    Ok(published.is_routed)
}

/// Properties as on the wire. COMPAT: names that are unknown are passed over, an empty list is none.
fn properties(object: &Map<String, Value>) -> Result<Vec<u8>, Refusal> {
    let empty = Map::new();
    let given = match object.get("properties") {
        Some(Value::Object(given)) => given,
        Some(Value::Array(list)) if list.is_empty() => &empty,
        None | Some(Value::Null) => &empty,
        Some(_) => return Err(Refusal::bad_request("properties must be an object")),
    };
    let short = |key: &str| match given.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= u8::MAX.into() => Ok(Some(text.as_bytes())),
        Some(Value::String(_)) => Err(Refusal::bad_request(json!(["string_too_long", key]))),
        Some(_) => Err(Refusal::bad_request(json!(["not_string", key]))),
    };
    let number = |key: &str| match given.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
            number.map(Some).ok_or_else(|| Refusal::bad_request(json!(["not_int", key])))
        }
    };
    let octet = |key: &'static str| {
        number(key)?
            .map(|number| u8::try_from(number).map_err(|_| Refusal::bad_request(json!(["not_int", key]))))
            .transpose()
    };
    let headers = match given.get("headers") {
        None | Some(Value::Null) => None,
        Some(Value::Object(headers)) => {
            let headers = fields::table(headers).ok_or_else(|| Refusal::too_deep("headers"))?;
            Some(headers.encoded())
        }
        Some(Value::Array(list)) if list.is_empty() => None,
        Some(_) => return Err(Refusal::bad_request(json!(["not_object", "headers"]))),
    };
    let headers = headers.as_deref().map(FieldTableRef::parse).transpose();
    let headers = headers.map_err(|error| Refusal::bad_request(format!("headers: {error}")))?;
    let properties = Properties {
        content_type: short("content_type")?,
        content_encoding: short("content_encoding")?,
        headers,
        delivery_mode: octet("delivery_mode")?,
        priority: octet("priority")?,
        correlation_id: short("correlation_id")?,
        reply_to: short("reply_to")?,
        expiration: short("expiration")?,
        message_id: short("message_id")?,
        timestamp: number("timestamp")?,
        message_type: short("type")?,
        user_id: short("user_id")?,
        app_id: short("app_id")?,
        cluster_id: short("cluster_id")?,
    };
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    Ok(encoded)
}

/// How messages are shown, and how many.
struct Fetch {
    count: usize,
    is_base64: bool,
    truncate: Option<usize>,
    settlement: Settlement,
    /// COMPAT: what is fetched is settled one by one, so that the same may come again, or all at the end.
    at_once: bool,
}

impl Fetch {
    fn of(object: &Map<String, Value>) -> Result<Self, Refusal> {
        let count = integer(object, "count")?.unwrap_or_default();
        let truncate = integer(object, "truncate")?.map(|octets| usize::try_from(octets).unwrap_or_default());
        let is_base64 = match text(object, "encoding")? {
            Some("auto") => false,
            Some("base64") => true,
            _ => return Err(Refusal::bad_request("Unsupported encoding. Please use auto or base64.")),
        };
        let (settlement, at_once) = match text(object, "ackmode")?.unwrap_or_default() {
            "ack_requeue_true" => (Settlement::Requeued, false),
            "reject_requeue_true" => (Settlement::Requeued, true),
            "ack_requeue_false" => (Settlement::Settled, true),
            "reject_requeue_false" => (Settlement::Rejected, true),
            other => return Err(Refusal::bad_request(format!("Invalid ackmode value: {other}"))),
        };
        // COMPAT: a negative number is all there are.
        let count = usize::try_from(count).unwrap_or(COUNT_MAX).min(COUNT_MAX);
        Ok(Self { count, is_base64, truncate, settlement, at_once })
    }

    fn shown(&self, delivery: &Delivery<'_>, left: usize) -> Value {
        let message = &delivery.message;
        let mut body = message.body.to_vec();
        let bytes = body.len();
        if let Some(truncate) = self.truncate {
            body.truncate(truncate);
        }
        let text =
            if self.is_base64 { Err(body) } else { String::from_utf8(body).map_err(|bad| bad.into_bytes()) };
        let (payload, encoding) = match text {
            Ok(text) => (text, "string"),
            Err(octets) => (STANDARD.encode(octets), "base64"),
        };
        json!({
            "payload_bytes": bytes,
            "redelivered": delivery.redelivered,
            "exchange": fields::lossy(message.exchange()),
            "routing_key": fields::lossy(message.routing_key()),
            "message_count": left,
            "properties": shown_properties(message.properties),
            "payload": payload,
            "payload_encoding": encoding,
        })
    }
}

/// COMPAT: no properties are an empty list.
fn shown_properties(octets: &[u8]) -> Value {
    let properties = Properties::decode(octets).unwrap_or_default();
    let texts = [
        ("content_type", properties.content_type),
        ("content_encoding", properties.content_encoding),
        ("correlation_id", properties.correlation_id),
        ("reply_to", properties.reply_to),
        ("expiration", properties.expiration),
        ("message_id", properties.message_id),
        ("type", properties.message_type),
        ("user_id", properties.user_id),
        ("app_id", properties.app_id),
        ("cluster_id", properties.cluster_id),
    ];
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name, fields::lossy(text?).into())));
    let numbers = [
        ("delivery_mode", properties.delivery_mode.map(u64::from)),
        ("priority", properties.priority.map(u64::from)),
        ("timestamp", properties.timestamp),
    ];
    let numbers = numbers.into_iter().filter_map(|(name, number)| Some((name, Value::from(number?))));
    let headers = properties.headers.map(|headers| ("headers", fields::object(&headers.to_owned())));
    let shown: Map<_, _> =
        texts.chain(numbers).chain(headers).map(|(name, value)| (name.to_owned(), value)).collect();
    if shown.is_empty() { json!([]) } else { Value::Object(shown) }
}

/// POST queues/:vhost/:name/get.
pub(crate) fn get(call: &Call) -> Answered {
    let vhost = call.vhost()?;
    let object = call.object_with(&["ackmode", "count", "encoding"])?;
    let fetch = Fetch::of(&object)?;
    let name = call.param("queue");
    let grants = call.grants(&vhost);
    let permitted = grants.check(Permission::Read, Resource::Queue, name);
    // COMPAT: here alone, what is missing is said.
    permitted.map_err(|error| Refusal::not_authorised(&format!("ACCESS_REFUSED - {error}")))?;
    let queue = vhost.queue(name, NO_CONNECTION).map_err(|error| refusal(&error))?;
    let mut taken = Taken { queue: &queue, settlement: fetch.settlement, messages: Vec::new() };
    let (mut shown, mut bytes) = (Vec::new(), 0);
    while shown.len() < fetch.count && bytes < BYTES_MAX {
        let found = next(&queue, |delivery, left| {
            (delivery.reference, delivery.message.body.len(), fetch.shown(delivery, left))
        })?;
        let Some((reference, body_bytes, message)) = found else { break };
        taken.messages.push(reference);
        shown.push(message);
        bytes += body_bytes;
        if fetch.at_once && fetch.settlement != Settlement::Requeued {
            taken.settle();
        }
    }
    drop(taken);
    Ok(Answer::Json(Value::Array(shown)))
}

/// Messages that were fetched; settled when this goes, whatever happens.
struct Taken<'a> {
    queue: &'a Queue,
    settlement: Settlement,
    messages: Vec<MessageRef>,
}

impl Taken<'_> {
    fn settle(&mut self) {
        let messages = std::mem::take(&mut self.messages);
        self.queue.settle(None, self.settlement, &messages);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.messages.is_empty() {
            self.settle();
        }
    }
}

/// Fetches a message, waiting for one that is on disk.
fn next<R>(queue: &Queue, mut show: impl FnMut(&Delivery<'_>, usize) -> R) -> Result<Option<R>, Refusal> {
    let deadline = Instant::now() + LOAD_TIMEOUT;
    loop {
        let got =
            queue.get(false, |delivery, left| show(&delivery, left)).map_err(|error| refusal(&error))?;
        match got {
            Got::Message(message) => return Ok(Some(message)),
            Got::Empty => return Ok(None),
            Got::Absent => {
                let (loaded, waits) = mpsc::channel();
                queue.when_loaded(Box::new(move || _ = loaded.send(())));
                let left = deadline.saturating_duration_since(Instant::now());
                waits.recv_timeout(left).map_err(|_| Refusal::unavailable("the disk does not answer"))?;
            }
        }
    }
}

/// COMPAT: a queue that is not there is 404 here, with the name of the code before it.
fn refusal(error: &BrokerError) -> Refusal {
    match error {
        BrokerError::QueueNotFound { .. } | BrokerError::QueueStopped { .. } => {
            Refusal::not_found(format!("NOT_FOUND - {error}"))
        }
        other => of_channel(other),
    }
}

/// Declares a queue, publishes to it and fetches that.
pub(crate) fn aliveness(call: &Call) -> Result<(), Refusal> {
    let vhost = call.vhost()?;
    for operation in [Permission::Configure, Permission::Write, Permission::Read] {
        call.check_queue(&vhost, operation, ALIVENESS)?;
    }
    let declaration = QueueDeclaration {
        name: ALIVENESS,
        durable: false,
        exclusive: false,
        auto_delete: false,
        arguments: FieldTable::new(),
    };
    let (queue, _) = vhost.declare_queue(declaration, NO_CONNECTION)?;
    send(call, &vhost, "", ALIVENESS, &[0, 0], b"test_message")?;
    match next(&queue, |delivery, _| delivery.reference)? {
        Some(reference) => {
            queue.settle(None, Settlement::Settled, &[reference]);
            Ok(())
        }
        None => Err(Refusal::unavailable("the message that was published did not come")),
    }
}
