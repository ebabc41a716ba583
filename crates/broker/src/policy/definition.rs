//! What policies can ask for: the keys that RabbitMQ knows, the values they may have, and what a policy and an operator
//! policy mean together. Keys whose feature is not here are known all the same, and without effect, as they are on a
//! RabbitMQ that has nothing to which they apply.

use std::fmt;

use leveret_codec::table::{FieldTable, FieldValue, ShortString};

use super::PolicyKind;
use crate::names::ExchangeName;
use crate::queue::arguments::name_fault;
use crate::queue::settings::RequestedSettings;

/// What a value is, and what it is called where it is not.
enum Values {
    /// A whole number of at least this.
    From(i64, &'static str),
    /// Any whole number.
    Integer(&'static str),
    /// A whole number in a range.
    Within(i64, i64, &'static str),
    /// Any text.
    Text(&'static str),
    /// A text that messages can be published with.
    Name(&'static str),
    /// One of these, and all of what is said otherwise.
    OneOf(&'static [&'static str], &'static str),
    /// Digits and a unit.
    Age,
    /// Whatever it likes: of features that are not here.
    Anything,
}

use Values::{Age, Anything, From, Integer, Name, OneOf, Text, Within};

/// How an operator policy narrows a policy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Merge {
    /// Not for operator policies.
    Never,
    /// The lower number.
    Lower,
    /// The lower number, unless one is negative, which is no limit.
    LowerLimit,
    /// The higher number.
    Higher,
    /// The operator's.
    Operator,
}

struct Key {
    name: &'static str,
    values: Values,
    merge: Merge,
}

const fn user(name: &'static str, values: Values) -> Key {
    Key { name, values, merge: Merge::Never }
}

const fn operator(name: &'static str, values: Values, merge: Merge) -> Key {
    Key { name, values, merge }
}

const OVERFLOW: &[&str] = &["drop-head", "reject-publish", "reject-publish-dlx"];
const STRATEGIES: &[&str] = &["at-most-once", "at-least-once"];
const MODES: &[&str] = &["default", "lazy"];
const LEADERS: &[&str] = &["client-local", "balanced", "random", "least-leaders"];
const MASTERS: &[&str] = &["client-local", "min-masters", "random"];
const RETRIES: &[&str] = &["disabled", "all", "failed", "returned"];

/// COMPAT: the keys of 4.x. `ha-*` went with 4.0.
const KEYS: &[Key] = &[
    user("alternate-exchange", Name("alternate exchange name")),
    user("dead-letter-exchange", Name("dead letter exchange name")),
    user("dead-letter-routing-key", Name("dead letter routing key")),
    user("dead-letter-strategy", OneOf(STRATEGIES, "is not a valid dead letter strategy")),
    operator("message-ttl", From(0, "message TTL"), Merge::Lower),
    operator("expires", From(1, "queue expiry"), Merge::Lower),
    operator("max-length", From(0, "maximum length"), Merge::Lower),
    operator("max-length-bytes", From(0, "maximum length in bytes"), Merge::Lower),
    operator("overflow", OneOf(OVERFLOW, "is not a valid overflow value"), Merge::Operator),
    operator("delivery-limit", Integer("delivery limit"), Merge::LowerLimit),
    user("consumer-timeout", From(0, "consumer timeout")),
    operator("delayed-retry-type", OneOf(RETRIES, "is not a valid delayed retry type"), Merge::Operator),
    operator("delayed-retry-min", From(0, "delayed retry minimum"), Merge::Higher),
    operator("delayed-retry-max", From(0, "delayed retry maximum"), Merge::Lower),
    // Without effect from here on: of features that RabbitMQ has given up, ...
    operator("max-in-memory-length", From(0, "maximum memory in bytes"), Merge::Lower),
    operator("max-in-memory-bytes", From(0, "maximum memory in bytes"), Merge::Lower),
    user("queue-mode", OneOf(MODES, "is not a valid queue-mode value")),
    operator("queue-version", Within(1, 2, "queue-version value"), Merge::Operator),
    // ... of clusters, ...
    user("queue-leader-locator", OneOf(LEADERS, "is not a valid queue leader locator value")),
    user("queue-master-locator", OneOf(MASTERS, "invalid queue-master-locator value")),
    user("consumer-disconnected-timeout", From(0, "consumer disconnected timeout")),
    operator("target-group-size", From(1, "target group size"), Merge::Higher),
    operator("member-placement-tag", Text("member placement tag"), Merge::Operator),
    // ... of streams, ...
    user("max-age", Age),
    user("stream-max-segment-size-bytes", Within(0, 3_000_000_000, "segment size")),
    user("stream-filter-size-bytes", Within(16, 255, "filter size")),
    user("initial-cluster-size", From(0, "cluster size")),
    // ... of federation, ...
    user("federation-upstream", Anything),
    user("federation-upstream-set", Anything),
    user("federation-upstream-pattern", Anything),
    // ... and of sharding.
    user("shards-per-node", Anything),
    user("routing-key", Anything),
];

fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

impl Values {
    /// The refusal of a value that is not possible.
    fn refusal(&self, value: &FieldValue) -> Option<String> {
        let integer = value.as_integer();
        let text = match value {
            FieldValue::LongString(octets) => Some(octets.as_slice()),
            _ => None,
        };
        let (is_possible, what) = match *self {
            Anything => return None,
            From(least, what) => (integer.is_some_and(|number| number >= least), what),
            Integer(what) => (integer.is_some(), what),
            Within(least, most, what) => {
                (integer.is_some_and(|number| (least..=most).contains(&number)), what)
            }
            Text(what) => (text.is_some(), what),
            Name(what) => (text.is_some_and(|text| name_fault(text).is_none()), what),
            OneOf(names, otherwise) => {
                let is_one = text.is_some_and(|text| names.iter().any(|name| name.as_bytes() == text));
                return (!is_one).then(|| format!("{} {otherwise}", Term(value)));
            }
            Age => (text.is_some_and(is_age), "max age"),
        };
        (!is_possible).then(|| format!("{} is not a valid {what}", Term(value)))
    }
}

/// Digits, not all of them zero, then a unit of time.
pub(crate) fn is_age(text: &[u8]) -> bool {
    text.split_last().is_some_and(|(unit, digits)| {
        b"YMDhms".contains(unit)
            && digits.iter().all(u8::is_ascii_digit)
            && digits.iter().any(|&digit| digit != b'0')
    })
}

/// Why a definition is refused. COMPAT: values that are not possible are told of before keys that are unknown.
pub(super) fn check(kind: PolicyKind, definition: &FieldTable) -> Result<(), String> {
    if definition.is_empty() {
        return Err("no policy provided".to_owned());
    }
    let mut seen = Vec::new();
    let mut unknown = Vec::new();
    for (name, value) in definition {
        if seen.contains(&name) {
            return Err(format!("[{}] duplicate keys not allowed", binary(name.as_bytes())));
        }
        seen.push(name);
        match name.as_str().and_then(key) {
            Some(key) if kind == PolicyKind::Policy || key.merge != Merge::Never => {
                if let Some(refusal) = key.values.refusal(value) {
                    return Err(refusal);
                }
            }
            _ => unknown.push(entry(name, value)),
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    Err(format!("[{}] are not recognised policy settings", unknown.join(",")))
}

/// What a policy and an operator policy ask for together.
pub(super) fn merged(policy: &FieldTable, operator: &FieldTable) -> FieldTable {
    let mut merged = policy.clone();
    for (name, of_operator) in operator {
        // INVARIANT: a checked definition has keys that are known.
        let Some(name) = name.as_str() else { continue };
        let value = match policy.get(name) {
            None => of_operator.clone(),
            Some(of_user) => narrowed(name, of_user, of_operator),
        };
        merged.set(name, value);
    }
    merged
}

fn narrowed(name: &str, of_user: &FieldValue, of_operator: &FieldValue) -> FieldValue {
    let (Some(user), Some(operator)) = (of_user.as_integer(), of_operator.as_integer()) else {
        return of_operator.clone();
    };
    let number = match key(name).map_or(Merge::Operator, |key| key.merge) {
        Merge::Lower => user.min(operator),
        Merge::LowerLimit if user < 0 || operator < 0 => user.max(operator),
        Merge::LowerLimit => user.min(operator),
        Merge::Higher => user.max(operator),
        Merge::Operator | Merge::Never => operator,
    };
    number.into()
}

/// What a checked definition asks of queues.
pub(super) fn requested(definition: &FieldTable) -> RequestedSettings {
    RequestedSettings::read(|argument| definition.get(argument.strip_prefix("x-").unwrap_or(argument)))
}

/// The alternate exchange that a checked definition asks for.
pub(super) fn alternate(definition: &FieldTable) -> Option<ExchangeName> {
    match definition.get("alternate-exchange")? {
        FieldValue::LongString(name) => Some(ExchangeName::from(&*String::from_utf8_lossy(name))),
        _ => None,
    }
}

/// A value as Erlang prints it.
struct Term<'a>(&'a FieldValue);

impl fmt::Display for Term<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            FieldValue::LongString(octets) => f.write_str(&binary(octets)),
            FieldValue::F32(number) => write!(f, "{number:?}"),
            FieldValue::F64(number) => write!(f, "{number:?}"),
            FieldValue::Void => f.write_str("null"),
            FieldValue::Array(values) => {
                let values: Vec<_> = values.iter().map(|value| Term(value).to_string()).collect();
                write!(f, "[{}]", values.join(","))
            }
            FieldValue::Table(table) => {
                let entries: Vec<_> = table.iter().map(|(key, value)| entry(key, value)).collect();
                write!(f, "[{}]", entries.join(","))
            }
            other => f.write_str(&crate::queue::arguments::value_text(other)),
        }
    }
}

fn binary(octets: &[u8]) -> String {
    format!("<<{:?}>>", String::from_utf8_lossy(octets))
}

fn entry(key: &ShortString, value: &FieldValue) -> String {
    format!("{{{},{}}}", binary(key.as_bytes()), Term(value))
}
