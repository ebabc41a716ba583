//! One request, as the functions that answer it see it.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use leveret_broker::access::Actor;
use leveret_broker::access::permissions::{Grants, Permission, Resource};
use leveret_broker::names::ConnectionId;
use leveret_broker::store::JournalPosition;
use leveret_broker::{Broker, Queue, Vhost};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::Api;
use super::answer::Refusal;
use super::rates::RANGES;
use crate::access::{Tag, User};
use crate::audit;

/// Who declares and deletes in the place of a connection: nobody's exclusive queue is this one's.
pub(crate) const NO_CONNECTION: ConnectionId = ConnectionId(0);

/// How long the disk may take. COMPAT: as long as RabbitMQ waits for a confirm.
const SAFE_TIMEOUT: Duration = Duration::from_secs(30);

/// COMPAT: what is said of a text in place of an object.
const ENCODED_TWICE: &str =
    "invalid payload: the request body JSON-decoded to a string. Is the input doubly-JSON-encoded?";

/// COMPAT: values over time that an answer shows at most.
const SAMPLES_MAX: i64 = 500;

/// A request.
pub(crate) struct Call {
    pub(crate) api: Arc<Api>,
    pub(crate) user: User,
    /// Where from.
    peer: String,
    pub(crate) method: Method,
    params: HashMap<String, String>,
    query: HashMap<String, String>,
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    #[expect(clippy::too_many_arguments, reason = "the parts of a request, put together at one place")]
    pub(crate) fn new(
        api: Arc<Api>,
        user: User,
        peer: String,
        method: Method,
        mut params: HashMap<String, String>,
        query: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Self {
        // COMPAT: line breaks in names are dropped, as over AMQP.
        for named in ["queue", "exchange", "source", "destination"] {
            if let Some(name) = params.get_mut(named) {
                name.retain(|letter| !matches!(letter, '\r' | '\n'));
            }
        }
        Self { api, user, peer, method, params, query: parse_query(query), headers, body }
    }

    /// Who changes something by this request.
    pub(crate) fn actor(&self) -> Actor<'_> {
        Actor { user: &self.user.name, from: &self.peer }
    }

    /// Notes for the audit log that something in a vhost was deleted or emptied.
    pub(crate) fn tell(&self, what: &'static str, vhost: &Vhost, name: &str) {
        self.actor().note(what, &audit::named(vhost.name.as_str(), name));
    }

    fn may_enter(&self, vhost: &str) -> bool {
        self.broker().access().grants(&self.user.name, vhost).is_admitted()
    }

    pub(crate) fn broker(&self) -> &Arc<Broker> {
        self.api.node.broker()
    }

    /// A part of the path, decoded; empty if the path has none of that name.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }

    /// A value of the query.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Whether the query says yes.
    pub(crate) fn asks(&self, name: &str) -> bool {
        self.query(name) == Some("true")
    }

    /// Whether numbers are not wanted.
    pub(crate) fn is_plain(&self) -> bool {
        self.asks("disable_stats")
    }

    /// Refuses values over time that cannot be shown. COMPAT: what is no number is as if it were not said.
    pub(crate) fn check_ranges(&self) -> Result<(), Refusal> {
        for kind in RANGES {
            let seconds = |what: &str| self.query(&format!("{kind}_{what}"))?.parse::<i64>().ok();
            let (Some(age), Some(step)) = (seconds("age"), seconds("incr")) else { continue };
            if age <= 0 || step <= 0 || age / step > SAMPLES_MAX {
                let text = format!("Invalid range parameters: age {age}, incr {step}");
                return Err(Refusal::bad_request(text));
            }
        }
        Ok(())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The vhost of the path, where the user may go.
    pub(crate) fn vhost(&self) -> Result<Arc<Vhost>, Refusal> {
        self.vhost_named(self.param("vhost"))
    }

    pub(crate) fn vhost_named(&self, name: &str) -> Result<Arc<Vhost>, Refusal> {
        let vhost = match self.broker().vhost(name) {
            Ok(vhost) => vhost,
            // COMPAT: two forms of it.
            Err(_) if matches!(self.method, Method::PUT | Method::POST) => {
                return Err(Refusal::not_found("vhost_not_found"));
            }
            Err(_) => return Err(Refusal::no_object()),
        };
        // COMPAT: monitors know of all vhosts, and see what is in those they may enter.
        if self.opens_vhost(name) {
            return Ok(vhost);
        }
        Err(Refusal::not_authorised("User not authorised to access virtual host"))
    }

    /// The vhosts that a listing is about, by name: that of the path or of the header, or all the user may enter.
    pub(crate) fn vhosts(&self) -> Result<Vec<Arc<Vhost>>, Refusal> {
        match self.vhost_asked_for() {
            Some(name) => Ok(vec![self.vhost_named(name)?]),
            None => {
                let all = self.broker().vhosts().into_iter();
                Ok(all.filter(|vhost| self.opens_vhost(vhost.name.as_str())).collect())
            }
        }
    }

    /// The vhosts that a listing is about, for what monitors see everywhere and others of what is theirs alone.
    pub(crate) fn vhosts_by_name(&self) -> Result<Vec<Arc<Vhost>>, Refusal> {
        match self.vhost_asked_for() {
            Some(name) => Ok(vec![self.broker().vhost(name).map_err(|_| Refusal::no_object())?]),
            None => Ok(self.broker().vhosts()),
        }
    }

    /// The vhosts that a listing is about, for what may be known of without permissions in them.
    pub(crate) fn vhosts_in_sight(&self) -> Result<Vec<Arc<Vhost>>, Refusal> {
        match self.vhost_asked_for() {
            Some(_) if self.user.sees_all() => self.vhosts_by_name(),
            Some(name) => Ok(vec![self.vhost_named(name)?]),
            None => Ok(self.visible_vhosts()),
        }
    }

    /// The vhost that is named in the path, or else elsewhere. COMPAT: an empty header names none.
    fn vhost_asked_for(&self) -> Option<&str> {
        let elsewhere =
            || self.header("x-vhost").or_else(|| self.query("vhost")).filter(|name| !name.is_empty());
        self.params.get("vhost").map(String::as_str).or_else(elsewhere)
    }

    /// Whether the user sees what is in a vhost.
    fn opens_vhost(&self, name: &str) -> bool {
        self.user.has(Tag::Administrator) || self.may_enter(name)
    }

    /// The vhost of the path, which monitors may know of without permissions in it.
    pub(crate) fn visible_vhost(&self) -> Result<Arc<Vhost>, Refusal> {
        if self.user.sees_all() {
            let vhost = self.broker().vhost(self.param("vhost"));
            return vhost.map_err(|_| Refusal::no_object());
        }
        self.vhost()
    }

    /// All vhosts the user may know of, by name.
    pub(crate) fn visible_vhosts(&self) -> Vec<Arc<Vhost>> {
        let all = self.broker().vhosts().into_iter();
        all.filter(|vhost| self.sees_vhost(vhost.name.as_str())).collect()
    }

    pub(crate) fn sees_vhost(&self, name: &str) -> bool {
        self.user.sees_all() || self.may_enter(name)
    }

    /// Whether the user sees a connection and what is on it. COMPAT: its own, or all.
    pub(crate) fn sees_connection(&self, user: &str) -> bool {
        self.user.sees_all() || user == self.user.name
    }

    /// The queue of the path.
    pub(crate) fn queue(&self) -> Result<(Arc<Vhost>, Arc<Queue>), Refusal> {
        let vhost = self.vhost()?;
        let queue = vhost.find_queue(self.param("queue")).ok_or_else(Refusal::no_object)?;
        Ok((vhost, queue))
    }

    /// Refuses what the user has no permission for, on a queue.
    pub(crate) fn check_queue(
        &self,
        vhost: &Vhost,
        permission: Permission,
        name: &str,
    ) -> Result<(), Refusal> {
        self.check(vhost, permission, Resource::Queue, name)
    }

    /// Refuses what the user has no permission for, on an exchange.
    pub(crate) fn check_exchange(
        &self,
        vhost: &Vhost,
        permission: Permission,
        name: &str,
    ) -> Result<(), Refusal> {
        self.check(vhost, permission, Resource::Exchange, name)
    }

    pub(crate) fn check(
        &self,
        vhost: &Vhost,
        permission: Permission,
        resource: Resource,
        name: &str,
    ) -> Result<(), Refusal> {
        Ok(self.grants(vhost).check(permission, resource, name)?)
    }

    /// What the user may do in a vhost.
    pub(crate) fn grants(&self, vhost: &Vhost) -> Arc<Grants> {
        self.broker().access().grants(&self.user.name, vhost.name.as_str())
    }

    /// The body, which has to be an object. COMPAT: no body is an empty one.
    pub(crate) fn object(&self) -> Result<Map<String, Value>, Refusal> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(object)) => Ok(object),
            // COMPAT: what some clients send where there is nothing to say.
            Ok(Value::Null) => Ok(Map::new()),
            Ok(Value::String(_)) => Err(Refusal::bad_request(ENCODED_TWICE)),
            _ => Err(Refusal::bad_request("not_json")),
        }
    }

    /// The body, which has to have these keys.
    pub(crate) fn object_with(&self, keys: &[&str]) -> Result<Map<String, Value>, Refusal> {
        let object = self.object()?;
        let missing: Vec<_> = keys
            .iter()
            .filter(|key| !object.contains_key(**key))
            .map(|key| format!("{{key_missing,{}}}", atom(key)))
            .collect();
        if missing.is_empty() {
            return Ok(object);
        }
        // COMPAT: Erlang breaks a list that is longer than a line after each entry.
        let joined = missing.join(",");
        let listed = if joined.len() + 2 > 78 { missing.join(",\n ") } else { joined };
        Err(Refusal::bad_request(format!("[{listed}]")))
    }

    /// Waits until what was done is safe.
    pub(crate) fn wait_until_safe(&self, position: JournalPosition) -> Result<(), Refusal> {
        let store = self.broker().store();
        if position == JournalPosition::NEVER {
            return Err(Refusal::unavailable("a queue is stopped"));
        }
        if store.safe() >= position {
            return Ok(());
        }
        let (done, waits) = mpsc::channel();
        store.when_safe(position, Box::new(move || _ = done.send(())));
        waits.recv_timeout(SAFE_TIMEOUT).map_err(|_| Refusal::unavailable("the disk does not answer"))
    }
}

/// COMPAT: a name as Erlang prints an atom.
fn atom(name: &str) -> String {
    if name.contains('-') { format!("'{name}'") } else { name.to_owned() }
}

/// Values of a query, decoded; of values with the same name the last one.
fn parse_query(query: &str) -> HashMap<String, String> {
    let decoded = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

/// A flag. COMPAT: also as text, as `rabbitmqadmin` sends it.
pub(crate) fn flag(object: &Map<String, Value>, key: &str) -> Result<Option<bool>, Refusal> {
    match object.get(key) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(Value::String(text)) if text == "true" => Ok(Some(true)),
        Some(Value::String(text)) if text == "false" => Ok(Some(false)),
        Some(other) => Err(Refusal::bad_request(json!(["not_boolean", other]))),
    }
}

/// A whole number. COMPAT: also as text.
pub(crate) fn integer(object: &Map<String, Value>, key: &str) -> Result<Option<i64>, Refusal> {
    match object.get(key) {
        None => Ok(None),
        Some(value) => {
            let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
            number.map(Some).ok_or_else(|| Refusal::bad_request(json!(["not_integer", value])))
        }
    }
}

/// A text.
pub(crate) fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, Refusal> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Refusal::bad_request(json!(["not_a_string", other]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_after_it_is_split() {
        let query = parse_query("a=1%262&b=x+y&c&a=%2B");
        let value = |name: &str| query.get(name).map(String::as_str);
        assert_eq!((value("a"), value("b"), value("c")), (Some("+"), Some("x y"), Some("")));
    }
}
