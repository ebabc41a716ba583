//! Definitions as catalog entries. The key names the thing, so that deleting it and putting it again meet the same
//! entry; the value holds the rest. `'i'` alone says that users are kept here.
//! ```text
//! 'u' user = tags, limits, algorithm, hash     'a' vhost user = configure, write, read
//! 'v' vhost = settings, if there are any       't' vhost user exchange = write, read
//! 'e' vhost exchange = type, flags, alternate (if there is one), arguments
//! 'g' global parameter = a table with its value
//! 'q' vhost queue = queue id u64, flags, arguments
//! 'b' vhost source target kind, target, routing key, arguments =
//! 'p' vhost policy, 'o' vhost operator policy = apply-to, priority i64, pattern, definition
//! ```
//! Names have their length in front; arguments and definitions are field tables as on the wire, a binding's sorted.

mod access;

use leveret_broker::access::permissions::TopicPermissions;
use leveret_broker::definition::{BindingSpec, Definition};
use leveret_broker::exchange::destination::canonical;
use leveret_broker::exchange::{BindingTarget, ExchangeSpec, ExchangeType};
use leveret_broker::names::{ExchangeName, QueueId, QueueName, VhostName};
use leveret_broker::policy::{ApplyTo, Policy, PolicyKind};
use leveret_broker::queue::QueueSpec;
use leveret_broker::queue::arguments::QueueArguments;
use leveret_codec::table::FieldTable;

use crate::entries::{
    Change, EntryError, KEY_ACCESS_BEGUN, KEY_BINDING, KEY_EXCHANGE, KEY_GLOBAL_PARAMETER,
    KEY_OPERATOR_POLICY, KEY_PERMISSIONS, KEY_POLICY, KEY_QUEUE, KEY_TOPIC_PERMISSIONS, KEY_USER, KEY_VHOST,
    VALUE_VERSION, versioned,
};
use crate::octets::{Reader, put_sized};

/// Flags of an exchange and of a queue.
const AUTO_DELETE: u8 = 1;
const INTERNAL: u8 = 2;
const HAS_ALTERNATE: u8 = 4;

const TARGET_QUEUE: u8 = b'q';
const TARGET_EXCHANGE: u8 = b'e';

/// The change of the catalog that a change of definitions is.
#[must_use]
pub fn change_of(definition: &Definition) -> Change {
    match definition {
        Definition::BeginAccess => Change::put(vec![KEY_ACCESS_BEGUN], vec![VALUE_VERSION]),
        Definition::PutUser(user) => {
            Change::put(key_of(KEY_USER, &[user.name.as_str()]), access::user_value(user))
        }
        Definition::DeleteUser(user) => Change::delete(key_of(KEY_USER, &[user.as_str()])),
        Definition::PutVhost(vhost, settings) => {
            Change::put(key_of(KEY_VHOST, &[vhost.as_str()]), access::vhost_value(settings))
        }
        Definition::DeleteVhost(vhost) => Change::delete(key_of(KEY_VHOST, &[vhost.as_str()])),
        Definition::PutGlobalParameter(name, value) => {
            Change::put(key_of(KEY_GLOBAL_PARAMETER, &[name]), access::parameter_value(value))
        }
        Definition::DeleteGlobalParameter(name) => Change::delete(key_of(KEY_GLOBAL_PARAMETER, &[name])),
        Definition::PutPermissions(permissions) => {
            let key = key_of(KEY_PERMISSIONS, &[permissions.vhost.as_str(), permissions.user.as_str()]);
            Change::put(
                key,
                access::patterns_value([&permissions.configure, &permissions.write, &permissions.read]),
            )
        }
        Definition::DeletePermissions(vhost, user) => {
            Change::delete(key_of(KEY_PERMISSIONS, &[vhost.as_str(), user.as_str()]))
        }
        Definition::PutTopicPermissions(TopicPermissions { user, vhost, exchange, write, read }) => {
            let key = key_of(KEY_TOPIC_PERMISSIONS, &[vhost.as_str(), user.as_str(), exchange.as_str()]);
            Change::put(key, access::patterns_value([write, read]))
        }
        Definition::DeleteTopicPermissions(vhost, user, exchange) => {
            Change::delete(key_of(KEY_TOPIC_PERMISSIONS, &[vhost.as_str(), user.as_str(), exchange.as_str()]))
        }
        Definition::PutExchange(vhost, spec) => {
            Change::put(key_of(KEY_EXCHANGE, &[vhost.as_str(), spec.name.as_str()]), exchange_value(spec))
        }
        Definition::DeleteExchange(vhost, name) => {
            Change::delete(key_of(KEY_EXCHANGE, &[vhost.as_str(), name.as_str()]))
        }
        Definition::PutQueue(id, spec) => {
            Change::put(key_of(KEY_QUEUE, &[spec.vhost.as_str(), spec.name.as_str()]), queue_value(*id, spec))
        }
        Definition::DeleteQueue(vhost, name) => {
            Change::delete(key_of(KEY_QUEUE, &[vhost.as_str(), name.as_str()]))
        }
        Definition::Bind(vhost, binding) => Change::put(binding_key(vhost, binding), vec![VALUE_VERSION]),
        Definition::Unbind(vhost, binding) => Change::delete(binding_key(vhost, binding)),
        Definition::PutPolicy(vhost, kind, policy) => {
            Change::put(key_of(policy_key(*kind), &[vhost.as_str(), &policy.name]), policy_value(policy))
        }
        Definition::DeletePolicy(vhost, kind, name) => {
            Change::delete(key_of(policy_key(*kind), &[vhost.as_str(), name]))
        }
    }
}

fn key_of(kind: u8, names: &[&str]) -> Vec<u8> {
    let mut key = vec![kind];
    names.iter().for_each(|name| put_sized(&mut key, name.as_bytes()));
    key
}

fn binding_key(vhost: &VhostName, binding: &BindingSpec) -> Vec<u8> {
    let mut key = key_of(KEY_BINDING, &[vhost.as_str(), binding.source.as_str()]);
    let (kind, target) = match &binding.target {
        BindingTarget::Queue(name) => (TARGET_QUEUE, name.as_str()),
        BindingTarget::Exchange(name) => (TARGET_EXCHANGE, name.as_str()),
    };
    key.push(kind);
    put_sized(&mut key, target.as_bytes());
    put_sized(&mut key, binding.routing_key.as_bytes());
    key.extend_from_slice(canonical(&binding.arguments).as_deref().unwrap_or_default());
    key
}

fn exchange_value(spec: &ExchangeSpec) -> Vec<u8> {
    let exchange_type = match spec.exchange_type {
        ExchangeType::Direct => b'd',
        ExchangeType::Fanout => b'f',
        ExchangeType::Topic => b't',
        ExchangeType::Headers => b'h',
        ExchangeType::ConsistentHash => b'c',
        ExchangeType::ModulusHash => b'm',
        ExchangeType::Random => b'r',
        ExchangeType::LocalRandom => b'l',
        ExchangeType::Delayed => b'w',
        ExchangeType::RecentHistory => b'y',
        ExchangeType::Deduplicating => b'u',
    };
    let flags = flag(AUTO_DELETE, spec.auto_delete)
        | flag(INTERNAL, spec.internal)
        | flag(HAS_ALTERNATE, spec.alternate.is_some());
    let mut value = vec![VALUE_VERSION, exchange_type, flags];
    if let Some(alternate) = &spec.alternate {
        put_sized(&mut value, alternate.as_str().as_bytes());
    }
    value.extend_from_slice(&spec.arguments.encoded());
    value
}

fn queue_value(id: QueueId, spec: &QueueSpec) -> Vec<u8> {
    let mut value = vec![VALUE_VERSION];
    value.extend_from_slice(&id.0.to_le_bytes());
    value.push(flag(AUTO_DELETE, spec.auto_delete));
    value.extend_from_slice(&spec.arguments.table().encoded());
    value
}

fn policy_key(kind: PolicyKind) -> u8 {
    match kind {
        PolicyKind::Policy => KEY_POLICY,
        PolicyKind::Operator => KEY_OPERATOR_POLICY,
    }
}

/// What policies are for, as one octet each.
const APPLY_TO: &[(u8, ApplyTo)] = &[
    (b'a', ApplyTo::All),
    (b'q', ApplyTo::Queues),
    (b'e', ApplyTo::Exchanges),
    (b'c', ApplyTo::ClassicQueues),
    (b'm', ApplyTo::QuorumQueues),
    (b's', ApplyTo::Streams),
];

fn policy_value(policy: &Policy) -> Vec<u8> {
    let apply_to = APPLY_TO.iter().find(|(_, apply_to)| *apply_to == policy.apply_to);
    // INVARIANT: the table has them all, as a test says.
    let apply_to = apply_to.map_or(b'a', |(octet, _)| *octet);
    let mut value = vec![VALUE_VERSION, apply_to];
    value.extend_from_slice(&policy.priority.to_le_bytes());
    put_sized(&mut value, policy.pattern.as_bytes());
    value.extend_from_slice(&policy.definition.encoded());
    value
}

fn flag(flag: u8, is_set: bool) -> u8 {
    if is_set { flag } else { 0 }
}

/// The definition that an entry holds: one that puts something.
///
/// # Errors
/// It is not the entry of a definition, or of a newer version, or of a queue whose arguments this version does
/// not accept; the error names what it can.
pub fn definition_of(key: &[u8], value: &[u8]) -> Result<Definition, EntryError> {
    let cut_off = || EntryError::of_key(key, "its key is damaged");
    let mut names = Reader::new(key);
    let kind = names.u8().ok_or_else(cut_off)?;
    let of_access =
        [KEY_ACCESS_BEGUN, KEY_USER, KEY_VHOST, KEY_GLOBAL_PARAMETER, KEY_PERMISSIONS, KEY_TOPIC_PERMISSIONS];
    if of_access.contains(&kind) {
        return access::definition_of(kind, names, versioned(key, value)?).ok_or_else(cut_off);
    }
    let kinds = [KEY_EXCHANGE, KEY_QUEUE, KEY_BINDING, KEY_POLICY, KEY_OPERATOR_POLICY];
    if !kinds.contains(&kind) {
        return Err(EntryError::of_key(key, "not known to this version of Leveret"));
    }
    let vhost = names.text().map(VhostName::from).ok_or_else(cut_off)?;
    let value = versioned(key, value)?;
    match kind {
        KEY_BINDING => {
            binding_of(names, value).map(|binding| Definition::Bind(vhost, binding)).ok_or_else(cut_off)
        }
        KEY_EXCHANGE | KEY_QUEUE | KEY_POLICY | KEY_OPERATOR_POLICY => {
            let name = names.text().filter(|_| names.is_empty()).ok_or_else(cut_off)?;
            match kind {
                KEY_QUEUE => queue_of(vhost, name, value),
                KEY_EXCHANGE => exchange_of(vhost, name, value),
                KEY_POLICY => policy_of(vhost, PolicyKind::Policy, name, value),
                _ => policy_of(vhost, PolicyKind::Operator, name, value),
            }
        }
        _ => Err(cut_off()),
    }
}

fn binding_of(mut names: Reader<'_>, value: Reader<'_>) -> Option<BindingSpec> {
    let source = ExchangeName::from(names.text()?);
    let target = match names.u8()? {
        TARGET_QUEUE => BindingTarget::Queue(QueueName::from(names.text()?)),
        TARGET_EXCHANGE => BindingTarget::Exchange(ExchangeName::from(names.text()?)),
        _ => return None,
    };
    let routing_key = names.text()?.to_owned();
    let arguments = FieldTable::decode(names.rest()).ok()?;
    value.is_empty().then_some(BindingSpec { source, target, routing_key, arguments })
}

fn exchange_of(vhost: VhostName, name: &str, mut value: Reader<'_>) -> Result<Definition, EntryError> {
    let error = || EntryError::new(format!("exchange '{name}' in vhost '{vhost}'"), "its entry is damaged");
    let exchange_type = match value.u8() {
        Some(b'd') => ExchangeType::Direct,
        Some(b'f') => ExchangeType::Fanout,
        Some(b't') => ExchangeType::Topic,
        Some(b'h') => ExchangeType::Headers,
        Some(b'c') => ExchangeType::ConsistentHash,
        Some(b'm') => ExchangeType::ModulusHash,
        Some(b'r') => ExchangeType::Random,
        Some(b'l') => ExchangeType::LocalRandom,
        Some(b'w') => ExchangeType::Delayed,
        Some(b'y') => ExchangeType::RecentHistory,
        Some(b'u') => ExchangeType::Deduplicating,
        _ => return Err(error()),
    };
    let flags = value.u8().ok_or_else(error)?;
    let alternate = match flags & HAS_ALTERNATE {
        0 => None,
        _ => Some(ExchangeName::from(value.text().ok_or_else(error)?)),
    };
    let spec = ExchangeSpec {
        name: ExchangeName::from(name),
        exchange_type,
        durable: true,
        auto_delete: flags & AUTO_DELETE != 0,
        internal: flags & INTERNAL != 0,
        alternate,
        arguments: FieldTable::decode(value.rest()).map_err(|_| error())?,
    };
    Ok(Definition::PutExchange(vhost, spec))
}

fn queue_of(vhost: VhostName, name: &str, mut value: Reader<'_>) -> Result<Definition, EntryError> {
    let what = || format!("queue '{name}' in vhost '{vhost}'");
    let damaged = || EntryError::new(what(), "its entry is damaged");
    let id = value.u64().map(QueueId).ok_or_else(damaged)?;
    let flags = value.u8().ok_or_else(damaged)?;
    let table = FieldTable::decode(value.rest()).map_err(|_| damaged())?;
    let arguments = QueueArguments::parse(table, name, vhost.as_str())
        .map_err(|error| EntryError::new(what(), error.to_string()))?;
    let spec = QueueSpec {
        name: QueueName::from(name),
        durable: true,
        owner: None,
        auto_delete: flags & AUTO_DELETE != 0,
        arguments,
        vhost,
    };
    Ok(Definition::PutQueue(id, spec))
}

fn policy_of(
    vhost: VhostName,
    kind: PolicyKind,
    name: &str,
    mut value: Reader<'_>,
) -> Result<Definition, EntryError> {
    let mut read = || {
        let octet = value.u8()?;
        let (_, apply_to) = *APPLY_TO.iter().find(|(known, _)| *known == octet)?;
        let priority = value.u64()?.cast_signed();
        let pattern = value.text()?.to_owned();
        let definition = FieldTable::decode(value.rest()).ok()?;
        Some(Policy { name: name.to_owned(), pattern, apply_to, priority, definition })
    };
    let damaged = || EntryError::new(format!("policy '{name}' in vhost '{vhost}'"), "its entry is damaged");
    let policy = read().ok_or_else(damaged)?;
    Ok(Definition::PutPolicy(vhost, kind, policy))
}

#[cfg(test)]
pub(crate) mod tests;
