//! A document of definitions, read: what is malformed is found here, before anything is changed.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use leveret_broker::access::password::{HashAlgorithm, PasswordHash};
use leveret_broker::access::permissions::{Permissions, TopicPermissions};
use leveret_broker::access::user::{UserLimits, VhostLimits};
use leveret_broker::definition::BindingSpec;
use leveret_broker::exchange::BindingTarget;
use leveret_broker::policy::{ApplyTo, Policy, PolicyKind};
use leveret_broker::queue::QueueType;
use leveret_codec::table::{FieldTable, FieldValue};
use serde_json::{Map, Value};

use super::ImportError;
use super::entry::{Entry, section};

/// What a document says, in the order of its sections.
#[derive(Clone, Default)]
pub(super) struct Document {
    pub(super) users: Vec<UserEntry>,
    pub(super) vhosts: Vec<VhostEntry>,
    pub(super) permissions: Vec<Permissions>,
    pub(super) topic_permissions: Vec<TopicPermissions>,
    pub(super) policies: Vec<(String, PolicyKind, Policy)>,
    /// Limits of vhosts, by their names.
    pub(super) limits: Vec<(String, VhostLimits)>,
    pub(super) exchanges: Vec<ExchangeEntry>,
    pub(super) queues: Vec<QueueEntry>,
    pub(super) bindings: Vec<(String, BindingSpec)>,
    pub(super) global_parameters: Vec<(String, FieldValue)>,
    pub(super) skipped: Vec<String>,
}

#[derive(Clone)]
pub(super) struct UserEntry {
    pub(super) name: String,
    pub(super) tags: Vec<String>,
    pub(super) password: ImportedPassword,
    pub(super) limits: UserLimits,
}

#[derive(Clone)]
pub(super) enum ImportedPassword {
    None,
    Hash(PasswordHash),
    /// To be hashed here.
    Plain(String),
}

/// A vhost; of what it does not say nothing is changed.
#[derive(Clone)]
pub(super) struct VhostEntry {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) default_queue_type: Option<QueueType>,
    pub(super) is_protected: Option<bool>,
}

#[derive(Clone)]
pub(super) struct ExchangeEntry {
    pub(super) vhost: String,
    pub(super) name: String,
    pub(super) exchange_type: String,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) internal: bool,
    pub(super) arguments: FieldTable,
}

#[derive(Clone)]
pub(super) struct QueueEntry {
    pub(super) vhost: String,
    pub(super) name: String,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) arguments: FieldTable,
    /// What it is, said beside its arguments.
    pub(super) queue_type: Option<String>,
}

type Read<T> = Result<T, ImportError>;

impl Document {
    /// Reads a document. With `vhost`, entries need not name one and are all for that one; users, vhosts and
    /// permissions are none of its.
    pub(super) fn read(json: &[u8], vhost: Option<&str>) -> Read<Self> {
        let malformed = |reason: String| ImportError::Malformed { what: "definitions".to_owned(), reason };
        let mut document: Map<String, Value> =
            serde_json::from_slice(json).map_err(|error| malformed(error.to_string()))?;
        if let Some(vhost) = vhost {
            place_in(&mut document, vhost);
        }
        let mut read = Self::default();
        let is_old = is_before_3_6(&document);
        read.users =
            section(&document, "users", "user")?.iter().map(|one| user(one, is_old)).collect::<Read<_>>()?;
        for entry in section(&document, "vhosts", "vhost")? {
            read.vhost(&entry)?;
        }
        let entries = section(&document, "permissions", "permission")?;
        read.permissions = entries.iter().map(permissions).collect::<Read<_>>()?;
        let entries = section(&document, "topic_permissions", "topic permission")?;
        read.topic_permissions = entries.iter().map(topic_permissions).collect::<Read<_>>()?;
        for entry in section(&document, "policies", "policy")? {
            let policy = policy(&entry, entry.text("name")?, &entry)?;
            read.policy(entry.text("vhost")?, PolicyKind::Policy, policy);
        }
        for entry in section(&document, "parameters", "parameter")? {
            read.parameter(&entry)?;
        }
        let entries = section(&document, "exchanges", "exchange")?;
        read.exchanges = entries.iter().map(exchange).collect::<Read<_>>()?;
        let entries = section(&document, "queues", "queue")?;
        read.queues = entries.iter().map(queue).collect::<Read<_>>()?;
        let entries = section(&document, "bindings", "binding")?;
        read.bindings = entries.iter().map(binding).collect::<Read<_>>()?;
        for entry in section(&document, "global_parameters", "global parameter")? {
            read.global_parameter(&entry)?;
        }
        Ok(read)
    }

    fn vhost(&mut self, entry: &Entry<'_>) -> Read<()> {
        let (name, known) = (entry.text("name")?, |entry: &Entry<'_>| {
            let description = entry.text_if_any("description")?;
            let tags = entry.get("tags").map(|_| entry.words("tags")).transpose()?;
            let is_protected = entry.flag_if_any("protected_from_deletion")?;
            Ok((description, tags, entry.text_if_any("default_queue_type")?, is_protected))
        });
        let (inner, own) = (entry.inner("metadata", known)?, known(entry)?);
        let queue_type = own.2.or(inner.2);
        let default_queue_type = match queue_type {
            None => None,
            Some(name) => Some(QueueType::named(name.as_bytes()).ok_or_else(|| {
                entry.malformed(format!("default_queue_type '{name}' is not a queue type"))
            })?),
        };
        let limits = entry.inner("limits", vhost_limits)?;
        if limits != VhostLimits::default() {
            self.limits.push((name.clone(), limits));
        }
        let (description, tags, is_protected) = (own.0.or(inner.0), own.1.or(inner.1), own.3.or(inner.3));
        self.vhosts.push(VhostEntry { name, description, tags, default_queue_type, is_protected });
        Ok(())
    }

    /// Notes a policy without what mirrored queues in RabbitMQ before 4.0, where nearly every cluster had one.
    fn policy(&mut self, vhost: String, kind: PolicyKind, mut policy: Policy) {
        let keys = policy.definition.iter().map(|(key, _)| key.to_string());
        let mirroring: Vec<_> = keys.filter(|key| key.starts_with("ha-")).collect();
        mirroring.iter().for_each(|key| _ = policy.definition.remove(key));
        if !mirroring.is_empty() {
            let what = format!("policy '{}' in vhost '{vhost}'", policy.name);
            let keys = mirroring.join(", ");
            self.skipped
                .push(format!("{what}: {keys}: queues are not mirrored here, nor from RabbitMQ 4.0 on"));
        }
        if mirroring.is_empty() || !policy.definition.is_empty() {
            self.policies.push((vhost, kind, policy));
        }
    }

    fn parameter(&mut self, entry: &Entry<'_>) -> Read<()> {
        match entry.text("component")?.as_str() {
            "vhost-limits" => {
                self.limits.push((entry.text("vhost")?, entry.inner("value", vhost_limits)?));
            }
            "operator_policy" => {
                let name = entry.text("name")?;
                let policy = entry.inner("value", |value| policy(value, name, entry))?;
                self.policy(entry.text("vhost")?, PolicyKind::Operator, policy);
            }
            component => {
                self.skipped.push(format!("{}: component '{component}' is not known here", entry.what()));
            }
        }
        Ok(())
    }

    fn global_parameter(&mut self, entry: &Entry<'_>) -> Read<()> {
        let name = entry.text("name")?;
        // COMPAT: each export has one, which is that of another broker.
        if name != "internal_cluster_id" {
            self.global_parameters.push((name, entry.value("value")?));
        }
        Ok(())
    }
}

/// Has all entries be of one vhost.
fn place_in(document: &mut Map<String, Value>, vhost: &str) {
    for key in ["users", "vhosts", "permissions", "topic_permissions", "global_parameters"] {
        document.remove(key);
    }
    for entries in document.values_mut().filter_map(Value::as_array_mut) {
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            entry.insert("vhost".to_owned(), Value::from(vhost));
        }
    }
}

/// COMPAT: such documents do not say how passwords are hashed.
fn is_before_3_6(document: &Map<String, Value>) -> bool {
    let version = document.get("rabbit_version").and_then(Value::as_str).unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) < (3, 6),
        _ => false,
    }
}

fn user(entry: &Entry<'_>, is_old: bool) -> Read<UserEntry> {
    let plain = entry.text_if_any("password")?;
    let hash = entry.text_if_any("password_hash")?.filter(|hash| !hash.is_empty());
    let password = match (plain, hash) {
        (Some(_), Some(_)) => return Err(entry.malformed("it has both a password and a hash of one")),
        (Some(password), None) => ImportedPassword::Plain(password),
        (None, None) => ImportedPassword::None,
        (None, Some(hash)) => ImportedPassword::Hash(password_hash(entry, &hash, is_old)?),
    };
    let limits = entry.inner("limits", |limits| {
        Ok(UserLimits {
            max_connections: limits.limit("max-connections")?,
            max_channels: limits.limit("max-channels")?,
        })
    })?;
    Ok(UserEntry { name: entry.text("name")?, tags: entry.words("tags")?, password, limits })
}

fn password_hash(entry: &Entry<'_>, hash: &str, is_old: bool) -> Read<PasswordHash> {
    let algorithm = match entry.text_if_any("hashing_algorithm")? {
        None if is_old => HashAlgorithm::Md5,
        None => HashAlgorithm::Sha256,
        Some(name) => HashAlgorithm::named(&name)
            .ok_or_else(|| entry.malformed(format!("hashing_algorithm '{name}' is not known")))?,
    };
    let octets = BASE64_STANDARD.decode(hash);
    let octets = octets.map_err(|error| entry.malformed(format!("password_hash is not base64: {error}")))?;
    PasswordHash::imported(algorithm, octets).map_err(|error| entry.malformed(error.to_string()))
}

fn vhost_limits(limits: &Entry<'_>) -> Read<VhostLimits> {
    Ok(VhostLimits {
        max_connections: limits.limit("max-connections")?,
        max_queues: limits.limit("max-queues")?,
    })
}

fn permissions(entry: &Entry<'_>) -> Read<Permissions> {
    Ok(Permissions {
        user: entry.text("user")?.into(),
        vhost: entry.text("vhost")?.into(),
        configure: entry.text("configure")?,
        write: entry.text("write")?,
        read: entry.text("read")?,
    })
}

fn topic_permissions(entry: &Entry<'_>) -> Read<TopicPermissions> {
    Ok(TopicPermissions {
        user: entry.text("user")?.into(),
        vhost: entry.text("vhost")?.into(),
        exchange: entry.text("exchange")?.into(),
        write: entry.text("write")?,
        read: entry.text("read")?,
    })
}

/// The policy whose parts are in `value`, itself in `entry`.
fn policy(value: &Entry<'_>, name: String, entry: &Entry<'_>) -> Read<Policy> {
    let apply_to = match value.text_if_any("apply-to")? {
        None => ApplyTo::All,
        Some(name) => ApplyTo::named(&name)
            .ok_or_else(|| entry.malformed(format!("apply-to '{name}' is not possible")))?,
    };
    Ok(Policy {
        name,
        pattern: value.text("pattern")?,
        apply_to,
        priority: value.integer("priority")?,
        definition: value.table("definition")?,
    })
}

fn exchange(entry: &Entry<'_>) -> Read<ExchangeEntry> {
    Ok(ExchangeEntry {
        vhost: entry.text("vhost")?,
        name: entry.text("name")?,
        exchange_type: entry.text("type")?,
        durable: entry.flag("durable", true)?,
        auto_delete: entry.flag("auto_delete", false)?,
        internal: entry.flag("internal", false)?,
        arguments: entry.table("arguments")?,
    })
}

fn queue(entry: &Entry<'_>) -> Read<QueueEntry> {
    Ok(QueueEntry {
        vhost: entry.text("vhost")?,
        name: entry.text("name")?,
        durable: entry.flag("durable", true)?,
        auto_delete: entry.flag("auto_delete", false)?,
        arguments: entry.table("arguments")?,
        queue_type: entry.text_if_any("type")?,
    })
}

fn binding(entry: &Entry<'_>) -> Read<(String, BindingSpec)> {
    let destination = entry.text("destination")?;
    let target = match entry.text("destination_type")?.as_str() {
        "queue" => BindingTarget::Queue(destination.into()),
        "exchange" => BindingTarget::Exchange(destination.into()),
        other => return Err(entry.malformed(format!("destination_type '{other}' is not possible"))),
    };
    let binding = BindingSpec {
        source: entry.text("source")?.into(),
        target,
        routing_key: entry.text_if_any("routing_key")?.unwrap_or_default(),
        arguments: entry.table("arguments")?,
    };
    Ok((entry.text("vhost")?, binding))
}
