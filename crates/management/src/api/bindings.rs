//! Bindings: as listed, making and removing them. One is named by its ends and its *properties key*, made of its
//! routing key and its arguments.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use leveret_broker::Vhost;
use leveret_broker::access::permissions::Permission;
use leveret_broker::exchange::BindingTarget;
use leveret_broker::exchange::destination::{BindingArguments, Destination, canonical, table_of};
use leveret_broker::vhost::Binding;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::answer::{Answer, Answered, Refusal, of_channel};
use super::call::{Call, NO_CONNECTION, text};
use super::{exchanges, listing};
use crate::json as fields;

/// COMPAT: what is written as it is in a properties key.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-').remove(b' ');

/// What is written as it is in a path.
const IN_PATHS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'~').remove(b'_').remove(b'.').remove(b'-');

/// A binding as listed; those of the default exchange are made up.
struct Shown {
    source: String,
    vhost: Arc<Vhost>,
    destination: String,
    is_queue: bool,
    routing_key: String,
    arguments: BindingArguments,
}

impl Shown {
    fn of(vhost: &Arc<Vhost>, binding: Binding) -> Self {
        let is_queue = matches!(binding.destination, Destination::Queue(_));
        Self {
            source: binding.source.to_string(),
            vhost: Arc::clone(vhost),
            destination: binding.destination.name().to_owned(),
            is_queue,
            routing_key: binding.routing_key,
            arguments: binding.arguments,
        }
    }

    /// COMPAT: each queue is bound to the default exchange.
    fn default_of(vhost: &Arc<Vhost>, queue: &str) -> Self {
        Self {
            source: String::new(),
            vhost: Arc::clone(vhost),
            destination: queue.to_owned(),
            is_queue: true,
            routing_key: queue.to_owned(),
            arguments: None,
        }
    }

    fn properties_key(&self) -> String {
        properties_key(&self.routing_key, &self.arguments)
    }

    fn shown(&self) -> Value {
        json!({
            "source": self.source,
            "vhost": self.vhost.name.as_str(),
            "destination": self.destination,
            "destination_type": if self.is_queue { "queue" } else { "exchange" },
            "routing_key": self.routing_key,
            "arguments": fields::object(&table_of(&self.arguments)),
            "properties_key": self.properties_key(),
        })
    }
}

/// COMPAT: `~` for no key and no arguments; else the key quoted, and behind a `~` a hash of the arguments. Which hash
/// is nobody's business.
fn properties_key(routing_key: &str, arguments: &BindingArguments) -> String {
    let quoted = utf8_percent_encode(routing_key, QUOTED).to_string().replace(' ', "+");
    match arguments.as_deref() {
        None if quoted.is_empty() => "~".to_owned(),
        None => quoted,
        Some(arguments) => format!("{quoted}~{}", URL_SAFE_NO_PAD.encode(hash(arguments).to_be_bytes())),
    }
}

/// FNV-1a: the same in every version, since keys may be kept.
fn hash(octets: &[u8]) -> u32 {
    octets.iter().fold(0x811C_9DC5, |hash, &octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193))
}

fn listed(call: &Call, mut shown: Vec<Shown>) -> Answered {
    shown.sort_by(|one, other| {
        let key = |of: &Shown| (of.source.clone(), of.destination.clone(), of.routing_key.clone());
        one.vhost.name.cmp(&other.vhost.name).then_with(|| key(one).cmp(&key(other)))
    });
    let values = shown.iter().map(Shown::shown).collect();
    listing::list_values(call, values)
}

fn of_vhost(vhost: &Arc<Vhost>) -> Vec<Shown> {
    vhost.bindings().into_iter().map(|binding| Shown::of(vhost, binding)).collect()
}

fn defaults_of(vhost: &Arc<Vhost>) -> Vec<Shown> {
    let mut shown = Vec::new();
    vhost.for_each_queue(|queue| shown.push(Shown::default_of(vhost, queue.spec.name.as_str())));
    shown
}

/// GET bindings, GET bindings/:vhost.
pub(crate) fn list(call: &Call) -> Answered {
    let mut shown = Vec::new();
    for vhost in call.vhosts()? {
        shown.extend(of_vhost(&vhost));
        shown.extend(defaults_of(&vhost));
    }
    listed(call, shown)
}

/// GET exchanges/:vhost/:name/bindings/source.
pub(crate) fn from_exchange(call: &Call) -> Answered {
    let (vhost, exchange) = (call.vhost()?, exchanges::name(call, "exchange"));
    if exchange.is_empty() {
        return listed(call, defaults_of(&vhost));
    }
    vhost.find_exchange(exchange).map_err(|_| Refusal::no_object())?;
    listed(call, of_vhost(&vhost).into_iter().filter(|one| one.source == exchange).collect())
}

/// GET exchanges/:vhost/:name/bindings/destination.
pub(crate) fn to_exchange(call: &Call) -> Answered {
    let (vhost, exchange) = (call.vhost()?, exchanges::name(call, "exchange"));
    if exchange.is_empty() {
        return listed(call, Vec::new());
    }
    vhost.find_exchange(exchange).map_err(|_| Refusal::no_object())?;
    let is_it = |one: &Shown| !one.is_queue && one.destination == exchange;
    listed(call, of_vhost(&vhost).into_iter().filter(is_it).collect())
}

/// GET queues/:vhost/:name/bindings.
pub(crate) fn to_queue(call: &Call) -> Answered {
    let (vhost, queue) = call.queue()?;
    let name = queue.spec.name.as_str();
    let is_it = |one: &Shown| one.is_queue && one.destination == name;
    let bound = of_vhost(&vhost).into_iter().filter(is_it);
    listed(call, bound.chain([Shown::default_of(&vhost, name)]).collect())
}

/// The bindings between the two ends in the path.
fn between_ends(call: &Call, vhost: &Arc<Vhost>) -> Result<Vec<Shown>, Refusal> {
    let (source, destination) = (exchanges::name(call, "source"), call.param("destination"));
    let is_queue = is_queue(call)?;
    if source.is_empty() {
        let found = is_queue.then(|| vhost.find_queue(destination)).flatten();
        return Ok(found.into_iter().map(|_| Shown::default_of(vhost, destination)).collect());
    }
    let is_it =
        |one: &Shown| one.source == source && one.destination == destination && one.is_queue == is_queue;
    Ok(of_vhost(vhost).into_iter().filter(is_it).collect())
}

fn is_queue(call: &Call) -> Result<bool, Refusal> {
    match call.param("kind") {
        "q" => Ok(true),
        "e" => Ok(false),
        _ => Err(Refusal::no_object()),
    }
}

/// GET bindings/:vhost/e/:source/:kind/:destination.
pub(crate) fn between(call: &Call) -> Answered {
    let vhost = call.vhost()?;
    listed(call, between_ends(call, &vhost)?)
}

fn find(call: &Call, vhost: &Arc<Vhost>) -> Result<Shown, Refusal> {
    let wanted = call.param("properties");
    let mut between = between_ends(call, vhost)?.into_iter();
    between.find(|one| one.properties_key() == wanted).ok_or_else(Refusal::no_object)
}

/// GET bindings/:vhost/e/:source/:kind/:destination/:properties.
pub(crate) fn show(call: &Call) -> Answered {
    let found = find(call, &call.vhost()?)?;
    Ok(Answer::Json(found.shown()))
}

/// What a user needs to bind or unbind. COMPAT: to write to the destination and to read the source.
fn check(call: &Call, vhost: &Vhost, source: &str, routing_key: &str) -> Result<BindingTarget, Refusal> {
    let destination = call.param("destination");
    let target = if is_queue(call)? {
        call.check_queue(vhost, Permission::Write, destination)?;
        BindingTarget::Queue(destination.into())
    } else {
        call.check_exchange(vhost, Permission::Write, destination)?;
        BindingTarget::Exchange(destination.into())
    };
    call.check_exchange(vhost, Permission::Read, source)?;
    if let Ok(spec) = vhost.find_exchange(source) {
        call.grants(vhost).check_topics(Permission::Read, (source, spec.exchange_type), &[routing_key])?;
    }
    Ok(target)
}

/// POST bindings/:vhost/e/:source/:kind/:destination.
pub(crate) fn bind(call: &Call) -> Answered {
    let (vhost, source) = (call.vhost()?, exchanges::name(call, "source"));
    let object = call.object()?;
    let routing_key = text(&object, "routing_key")?.unwrap_or_default();
    let target = check(call, &vhost, source, routing_key)?;
    let arguments = exchanges::arguments(&object)?;
    let position = vhost.bind(source, &target, routing_key, &arguments, NO_CONNECTION).map_err(refusal)?;
    call.wait_until_safe(position)?;
    let key = properties_key(routing_key, &canonical(&arguments));
    let kept = |text: &str| utf8_percent_encode(text, IN_PATHS).to_string();
    // COMPAT: relative to where the request went; clients take it apart.
    Ok(Answer::Created(Some(format!("{}/{}", kept(call.param("destination")), kept(&key)))))
}

/// COMPAT: what is missing is 404 here, anything else is told as to a channel.
fn refusal(error: leveret_broker::BrokerError) -> Refusal {
    match error {
        leveret_broker::BrokerError::QueueNotFound { .. }
        | leveret_broker::BrokerError::ExchangeNotFound { .. } => Refusal::not_found(error.to_string()),
        other => of_channel(&other),
    }
}

/// DELETE bindings/:vhost/e/:source/:kind/:destination/:properties.
pub(crate) fn unbind(call: &Call) -> Answered {
    let (vhost, source) = (call.vhost()?, exchanges::name(call, "source"));
    let found = find(call, &vhost)?;
    let target = check(call, &vhost, source, &found.routing_key)?;
    let arguments = table_of(&found.arguments);
    let position =
        vhost.unbind(source, &target, &found.routing_key, &arguments, NO_CONNECTION).map_err(refusal)?;
    call.wait_until_safe(position)?;
    Ok(Answer::NoContent)
}

#[cfg(test)]
mod tests {
    use leveret_codec::table::FieldTable;

    use super::*;

    #[test]
    fn a_properties_key_is_quoted_as_in_rabbitmq() {
        let key = |text| properties_key(text, &None);
        assert_eq!(key(""), "~");
        assert_eq!(key("a b/c~%é"), "a+b%2Fc%7E%25%C3%A9");
        assert_eq!(key("a.b-c_#"), "a.b-c_%23");
        let with = properties_key("x", &canonical(&FieldTable::new().with("a", 1_i64)));
        assert!(with.starts_with("x~") && with.len() == 8, "{with}");
        let other = properties_key("x", &canonical(&FieldTable::new().with("a", 2_i64)));
        assert_ne!(with, other);
    }
}
