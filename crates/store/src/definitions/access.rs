//! Entries of users, vhosts, permissions and global parameters. What grows with time is a field table, in which an
//! older value may lack a key.

use leveret_broker::access::password::{HashAlgorithm, PasswordHash};
use leveret_broker::access::permissions::{Permissions, TopicPermissions};
use leveret_broker::access::user::{User, UserLimits, VhostLimits};
use leveret_broker::definition::Definition;
use leveret_broker::names::{UserName, VhostName};
use leveret_broker::queue::QueueType;
use leveret_broker::vhost::VhostSettings;
use leveret_codec::table::{FieldTable, FieldValue};

use crate::entries::{
    KEY_ACCESS_BEGUN, KEY_GLOBAL_PARAMETER, KEY_PERMISSIONS, KEY_TOPIC_PERMISSIONS, KEY_USER, KEY_VHOST,
    VALUE_VERSION,
};
use crate::octets::{Reader, put_sized};

const TAGS: &str = "tags";
const MAX_CONNECTIONS: &str = "max-connections";
const MAX_CHANNELS: &str = "max-channels";
const MAX_QUEUES: &str = "max-queues";
const ALGORITHM: &str = "hashing_algorithm";
const HASH: &str = "password_hash";
const DESCRIPTION: &str = "description";
const QUEUE_TYPE: &str = "default_queue_type";
const PROTECTED: &str = "protected_from_deletion";
const VALUE: &str = "value";

pub(super) fn user_value(user: &User) -> Vec<u8> {
    let mut table = FieldTable::new().with(TAGS, texts(&user.tags));
    put_limit(&mut table, MAX_CONNECTIONS, user.limits.max_connections);
    put_limit(&mut table, MAX_CHANNELS, user.limits.max_channels);
    if let Some(password) = &user.password {
        table.insert(ALGORITHM, password.algorithm().as_str());
        table.insert(HASH, FieldValue::Bytes(password.octets().to_vec()));
    }
    value_of(&table)
}

pub(super) fn vhost_value(settings: &VhostSettings) -> Vec<u8> {
    if *settings == VhostSettings::default() {
        return vec![VALUE_VERSION];
    }
    let mut table =
        FieldTable::new().with(DESCRIPTION, settings.description.as_str()).with(TAGS, texts(&settings.tags));
    put_limit(&mut table, MAX_CONNECTIONS, settings.limits.max_connections);
    put_limit(&mut table, MAX_QUEUES, settings.limits.max_queues);
    if let Some(queue_type) = settings.default_queue_type {
        table.insert(QUEUE_TYPE, queue_type.as_str());
    }
    if settings.is_protected {
        table.insert(PROTECTED, true);
    }
    value_of(&table)
}

pub(super) fn parameter_value(value: &FieldValue) -> Vec<u8> {
    value_of(&FieldTable::new().with(VALUE, value.clone()))
}

pub(super) fn patterns_value<const COUNT: usize>(patterns: [&String; COUNT]) -> Vec<u8> {
    let mut value = vec![VALUE_VERSION];
    patterns.iter().for_each(|pattern| put_sized(&mut value, pattern.as_bytes()));
    value
}

fn value_of(table: &FieldTable) -> Vec<u8> {
    let mut value = vec![VALUE_VERSION];
    value.extend_from_slice(&table.encoded());
    value
}

fn put_limit(table: &mut FieldTable, key: &str, limit: Option<i64>) {
    limit.into_iter().for_each(|limit| table.insert(key, limit));
}

fn texts(texts: &[String]) -> FieldValue {
    FieldValue::Array(texts.iter().map(|text| FieldValue::from(text.as_str())).collect())
}

/// The definition that an entry of one of these kinds holds, unless it is damaged.
pub(super) fn definition_of(kind: u8, mut names: Reader<'_>, mut value: Reader<'_>) -> Option<Definition> {
    let definition = match kind {
        KEY_ACCESS_BEGUN => Definition::BeginAccess,
        KEY_USER => Definition::PutUser(user(names.text()?, value)?),
        KEY_VHOST => Definition::PutVhost(VhostName::from(names.text()?), settings(value)?),
        KEY_GLOBAL_PARAMETER => {
            let table = FieldTable::decode(value.rest()).ok()?;
            Definition::PutGlobalParameter(names.text()?.to_owned(), table.get(VALUE)?.clone())
        }
        KEY_PERMISSIONS => Definition::PutPermissions(Permissions {
            vhost: names.text()?.into(),
            user: names.text()?.into(),
            configure: value.text()?.to_owned(),
            write: value.text()?.to_owned(),
            read: value.text()?.to_owned(),
        }),
        KEY_TOPIC_PERMISSIONS => Definition::PutTopicPermissions(TopicPermissions {
            vhost: names.text()?.into(),
            user: names.text()?.into(),
            exchange: names.text()?.into(),
            write: value.text()?.to_owned(),
            read: value.text()?.to_owned(),
        }),
        _ => return None,
    };
    names.is_empty().then_some(definition)
}

fn user(name: &str, value: Reader<'_>) -> Option<User> {
    let table = FieldTable::decode(value.rest()).ok()?;
    let password = match (table.get(ALGORITHM), table.get(HASH)) {
        (Some(algorithm), Some(FieldValue::Bytes(octets))) => {
            let algorithm = HashAlgorithm::named(algorithm.as_str()?)?;
            Some(PasswordHash::imported(algorithm, octets.clone()).ok()?)
        }
        (None, None) => None,
        _ => return None,
    };
    let limits = UserLimits {
        max_connections: limit(&table, MAX_CONNECTIONS)?,
        max_channels: limit(&table, MAX_CHANNELS)?,
    };
    Some(User { name: UserName::from(name), tags: tags(&table)?, password, limits })
}

fn settings(value: Reader<'_>) -> Option<VhostSettings> {
    if value.is_empty() {
        return Some(VhostSettings::default());
    }
    let table = FieldTable::decode(value.rest()).ok()?;
    let default_queue_type = match table.get(QUEUE_TYPE) {
        None => None,
        Some(name) => Some(QueueType::named(name.as_str()?.as_bytes())?),
    };
    let limits = VhostLimits {
        max_connections: limit(&table, MAX_CONNECTIONS)?,
        max_queues: limit(&table, MAX_QUEUES)?,
    };
    let description = table.get(DESCRIPTION)?.as_str()?.to_owned();
    let is_protected = match table.get(PROTECTED) {
        None => false,
        Some(FieldValue::Boolean(flag)) => *flag,
        Some(_) => return None,
    };
    Some(VhostSettings { description, tags: tags(&table)?, default_queue_type, limits, is_protected })
}

fn tags(table: &FieldTable) -> Option<Vec<String>> {
    let FieldValue::Array(tags) = table.get(TAGS)? else { return None };
    tags.iter().map(|tag| Some(tag.as_str()?.to_owned())).collect()
}

/// A limit that may be missing; nothing at all if it is no number.
fn limit(table: &FieldTable, key: &str) -> Option<Option<i64>> {
    match table.get(key) {
        None => Some(None),
        Some(value) => value.as_integer().map(Some),
    }
}
