//! Adding what a document says to a broker, in an order in which it can be made.

use std::collections::HashMap;
use std::sync::Arc;

use leveret_broker::access::password::PasswordHash;
use leveret_broker::access::user::{User, VhostLimits};
use leveret_broker::definition::{BindingSpec, Definition};
use leveret_broker::exchange::BindingTarget;
use leveret_broker::policy::{Policy, PolicyKind};
use leveret_broker::store::{JournalPosition, MemoryStore};
use leveret_broker::vhost::{ExchangeDeclaration, QueueDeclaration};
use leveret_broker::{Actor, Broker, BrokerError, ConnectionId, VhostSettings};
use leveret_codec::table::FieldValue;
use tracing::subscriber::NoSubscriber;

use super::document::{Document, ExchangeEntry, ImportedPassword, QueueEntry, UserEntry, VhostEntry};
use super::{ImportError, Imported};
use crate::audit;

/// Adds a document of a whole broker.
///
/// # Errors
/// The document is malformed, or the broker refuses an object in it.
pub fn import(broker: &Broker, by: Actor<'_>, json: &[u8]) -> Result<Imported, ImportError> {
    add(broker, by, Document::read(json, None)?)
}

/// Adds a document of one vhost to a vhost that exists, whatever the name of the one it came from.
///
/// # Errors
/// As for [`import()`], or there is no such vhost.
pub fn import_into(
    broker: &Broker,
    by: Actor<'_>,
    vhost: &str,
    json: &[u8],
) -> Result<Imported, ImportError> {
    let refused = |error| ImportError::Refused { what: "definitions".to_owned(), error: Box::new(error) };
    broker.vhost(vhost).map_err(refused)?;
    add(broker, by, Document::read(json, Some(vhost))?)
}

fn add(broker: &Broker, by: Actor<'_>, mut document: Document) -> Result<Imported, ImportError> {
    for user in &mut document.users {
        hash_password(broker, user)?;
    }
    rehearse(broker, by, document.clone())?;
    Import::new(broker, by).run(document)
}

/// Hashes a password, once for rehearsal and import; the hash that the user has stays if it is of this password.
fn hash_password(broker: &Broker, user: &mut UserEntry) -> Result<(), ImportError> {
    let ImportedPassword::Plain(password) = &user.password else { return Ok(()) };
    let known = broker.access().user(&user.name).and_then(|user| user.password.clone());
    let known = known.filter(|hash| hash.verify(password.as_bytes()));
    let hash = known.map_or_else(|| PasswordHash::new(password.as_bytes()), Ok);
    let refused =
        |error| ImportError::Refused { what: format!("user '{}'", user.name), error: Box::new(error) };
    user.password = ImportedPassword::Hash(hash.map_err(refused)?);
    Ok(())
}

/// Adds the document to a broker that keeps nothing and has the same names, so that one which would be refused half
/// way through changes nothing.
fn rehearse(broker: &Broker, by: Actor<'_>, document: Document) -> Result<(), ImportError> {
    let scratch = Broker::new(Arc::new(MemoryStore::default()));
    let mut there: Vec<_> =
        broker.access().users().iter().map(|user| Definition::PutUser(User::clone(user))).collect();
    for vhost in broker.vhosts() {
        let name = || vhost.name.clone();
        there.push(Definition::PutVhost(name(), VhostSettings::clone(&vhost.settings())));
        let exchanges = vhost.exchanges().into_iter();
        there.extend(exchanges.map(|exchange| Definition::PutExchange(name(), exchange)));
        let queues = vhost.queues().into_iter();
        there.extend(queues.map(|queue| Definition::PutQueue(queue.id, queue.spec.clone())));
    }
    // The audit log is of what is done to the broker, not to this one.
    tracing::subscriber::with_default(NoSubscriber::default(), || {
        scratch.restore(there, HashMap::new());
        Import::new(&scratch, by).run(document)
    })
    .map(drop)
}

/// An import on its way.
struct Import<'a> {
    broker: &'a Broker,
    by: Actor<'a>,
    /// For queues, which know connections alone.
    connection: ConnectionId,
    position: JournalPosition,
    skipped: Vec<String>,
}

type Made = Result<JournalPosition, BrokerError>;

impl<'a> Import<'a> {
    fn new(broker: &'a Broker, by: Actor<'a>) -> Self {
        let (connection, position) = (ConnectionId::next(), JournalPosition::SAFE);
        Self { broker, by, connection, position, skipped: Vec::new() }
    }

    fn note(&mut self, what: impl FnOnce() -> String, made: Made) -> Result<(), ImportError> {
        match made {
            Ok(position) => {
                self.position = self.position.max(position);
                Ok(())
            }
            Err(error) => Err(ImportError::Refused { what: what(), error: Box::new(error) }),
        }
    }

    fn run(mut self, document: Document) -> Result<Imported, ImportError> {
        let (access, by) = (self.broker.access(), self.by);
        self.skipped = document.skipped;
        for user in document.users {
            let what = format!("user '{}'", user.name);
            let made = self.user(user);
            self.note(|| what, made)?;
        }
        for vhost in document.vhosts {
            let what = format!("vhost '{}'", vhost.name);
            let made = self.vhost(vhost);
            self.note(|| what, made)?;
        }
        for (vhost, limits) in document.limits {
            let made = self.limits(&vhost, limits);
            self.note(|| format!("limits of vhost '{vhost}'"), made)?;
        }
        for one in document.permissions {
            let what = format!("permission of user '{}' in vhost '{}'", one.user, one.vhost);
            self.note(|| what, access.set_permissions(by, one))?;
        }
        for exchange in document.exchanges {
            let made = self.exchange(&exchange);
            self.note(|| format!("exchange '{}' in vhost '{}'", exchange.name, exchange.vhost), made)?;
        }
        for one in document.topic_permissions {
            let what = format!("topic permission of user '{}' in vhost '{}'", one.user, one.vhost);
            self.note(|| what, access.set_topic_permissions(by, one))?;
        }
        for (vhost, kind, policy) in document.policies {
            let what = format!("policy '{}' in vhost '{vhost}'", policy.name);
            let made = self.policy(&vhost, kind, policy);
            self.note(|| what, made)?;
        }
        for queue in document.queues {
            let made = self.queue(&queue);
            self.note(|| format!("queue '{}' in vhost '{}'", queue.name, queue.vhost), made)?;
        }
        for (vhost, binding) in document.bindings {
            self.binding(&vhost, &binding)?;
        }
        for (name, value) in document.global_parameters {
            let made = self.global_parameter(&name, value);
            self.note(|| format!("global parameter '{name}'"), made)?;
        }
        Ok(Imported { position: self.position, skipped: self.skipped })
    }

    /// COMPAT: each queue is bound to the default exchange without being told; what binds a queue or an exchange with a
    /// reserved name that is not there is passed over, as these are.
    fn binding(&mut self, vhost: &str, binding: &BindingSpec) -> Result<(), ImportError> {
        let (source, key) = (binding.source.as_str(), binding.routing_key.as_str());
        if source.is_empty() {
            return Ok(());
        }
        let (kind, name) = match &binding.target {
            BindingTarget::Queue(name) => ("queue", name.as_str()),
            BindingTarget::Exchange(name) => ("exchange", name.as_str()),
        };
        let what = || format!("binding of {kind} '{name}' to '{source}' in vhost '{vhost}'");
        let made = self
            .broker
            .vhost(vhost)
            .and_then(|vhost| vhost.bind(source, &binding.target, key, &binding.arguments, self.connection));
        let is_reserved = name.starts_with("amq.") || source.starts_with("amq.");
        match made {
            Err(error @ (BrokerError::QueueNotFound { .. } | BrokerError::ExchangeNotFound { .. }))
                if is_reserved =>
            {
                self.skipped.push(format!("{}: {error}", what()));
                Ok(())
            }
            made => self.note(what, made),
        }
    }

    /// A user who is there already and the same stays untouched: whoever has logged in is not asked again.
    fn user(&self, entry: UserEntry) -> Made {
        let access = self.broker.access();
        let known = access.user(&entry.name);
        let password = match entry.password {
            ImportedPassword::Hash(hash) => Some(hash),
            // INVARIANT: by now none is plain.
            ImportedPassword::None | ImportedPassword::Plain(_) => None,
        };
        let user = User { name: entry.name.into(), tags: entry.tags, password, limits: entry.limits };
        if known.is_some_and(|known| *known == user) {
            return Ok(JournalPosition::SAFE);
        }
        access.put_user(self.by, user)
    }

    fn vhost(&self, entry: VhostEntry) -> Made {
        let known = self.broker.vhost(&entry.name).ok().map(|vhost| vhost.settings());
        let before = known.as_ref().map(|known| VhostSettings::clone(known)).unwrap_or_default();
        let settings = VhostSettings {
            description: entry.description.unwrap_or(before.description),
            tags: entry.tags.unwrap_or(before.tags),
            default_queue_type: entry.default_queue_type.or(before.default_queue_type),
            limits: before.limits,
            is_protected: entry.is_protected.unwrap_or(before.is_protected),
        };
        if known.is_some_and(|known| *known == settings) {
            return Ok(JournalPosition::SAFE);
        }
        self.broker.put_vhost(self.by, &entry.name, settings).map(|(position, _)| position)
    }

    fn limits(&self, vhost: &str, limits: VhostLimits) -> Made {
        let settings = VhostSettings::clone(&*self.broker.vhost(vhost)?.settings());
        if settings.limits == limits {
            return Ok(JournalPosition::SAFE);
        }
        let settings = VhostSettings { limits, ..settings };
        self.broker.put_vhost(self.by, vhost, settings).map(|(position, _)| position)
    }

    /// COMPAT: one that exists stays as it is, be it another.
    fn exchange(&mut self, exchange: &ExchangeEntry) -> Made {
        let vhost = self.broker.vhost(&exchange.vhost)?;
        if exchange.name.is_empty() || vhost.find_exchange(&exchange.name).is_ok() {
            return Ok(JournalPosition::SAFE);
        }
        if exchange.name.starts_with("amq.") {
            self.skipped.push(format!(
                "exchange '{}' in vhost '{}': such names are reserved",
                exchange.name, exchange.vhost
            ));
            return Ok(JournalPosition::SAFE);
        }
        vhost.declare_exchange(ExchangeDeclaration {
            name: &exchange.name,
            exchange_type: &exchange.exchange_type,
            durable: exchange.durable,
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: exchange.arguments.clone(),
        })
    }

    fn policy(&self, vhost: &str, kind: PolicyKind, policy: Policy) -> Made {
        let vhost = self.broker.vhost(vhost)?;
        if vhost.policies().of_kind(kind).iter().any(|known| known.policy == policy) {
            return Ok(JournalPosition::SAFE);
        }
        let position = vhost.set_policy(kind, policy.clone())?;
        audit::policy_set(self.by, vhost.name.as_str(), kind, &policy);
        Ok(position)
    }

    fn global_parameter(&self, name: &str, value: FieldValue) -> Made {
        if self.broker.global_parameter(name).as_ref() == Some(&value) {
            return Ok(JournalPosition::SAFE);
        }
        self.broker.set_global_parameter(self.by, name, value).map(|(position, _)| position)
    }

    /// COMPAT: as for exchanges.
    fn queue(&mut self, queue: &QueueEntry) -> Made {
        let vhost = self.broker.vhost(&queue.vhost)?;
        match vhost.queue(&queue.name, self.connection) {
            Ok(_) | Err(BrokerError::QueueLocked { .. }) => return Ok(JournalPosition::SAFE),
            Err(_) => {}
        }
        if queue.name.is_empty() || queue.name.starts_with("amq.") {
            self.skipped.push(format!(
                "queue '{}' in vhost '{}': such names are made by the broker",
                queue.name, queue.vhost
            ));
            return Ok(JournalPosition::SAFE);
        }
        let mut arguments = queue.arguments.clone();
        let by_itself = vhost.settings().queue_type_for(queue.durable, false, queue.auto_delete);
        if let Some(queue_type) = &queue.queue_type
            && !arguments.contains_key("x-queue-type")
            // What it is without being told stays unsaid.
            && *queue_type != by_itself.unwrap_or_default().as_str()
        {
            arguments.insert("x-queue-type", queue_type.as_str());
        }
        let declaration = QueueDeclaration {
            name: &queue.name,
            durable: queue.durable,
            exclusive: false,
            auto_delete: queue.auto_delete,
            arguments,
        };
        vhost.declare_queue(declaration, self.connection).map(|(_, position)| position)
    }
}
