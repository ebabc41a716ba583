//! Declaring, binding and deleting, with RabbitMQ's rules: what may be declared again, what is refused,
//! and in which order the reasons are looked at.

use std::sync::{Arc, Weak};

use dashmap::Entry;
use leveret_codec::table::{FieldTable, FieldValue};

use super::changes::Changes;
use super::{Binding, Vhost};
use crate::access::permissions::{Grants, Permission, Resource};
use crate::counters::ExchangeCounters;
use crate::error::BrokerError;
use crate::exchange::destination::Destination;
use crate::exchange::{BindingTarget, Exchange, ExchangeSpec, ExchangeType};
use crate::limits::{check_arguments, check_name};
use crate::names::{ConnectionId, ExchangeName, QueueName};
use crate::policy::AppliedPolicies;
use crate::queue::arguments::{Names, QueueArguments, difference, name_fault, server_name, type_name};
use crate::queue::{Queue, QueueSpec, QueueType};
use crate::reply_to::REPLY_TO;
use crate::store::JournalPosition;

/// What queue.declare asks for.
#[derive(Clone, Debug)]
pub struct QueueDeclaration<'a> {
    /// Name; empty for one made by the broker.
    pub name: &'a str,
    /// Survives a restart.
    pub durable: bool,
    /// For the declaring connection alone.
    pub exclusive: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// As received.
    pub arguments: FieldTable,
}

/// What exchange.declare asks for.
#[derive(Clone, Debug)]
pub struct ExchangeDeclaration<'a> {
    /// Name.
    pub name: &'a str,
    /// Type by name.
    pub exchange_type: &'a str,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last binding.
    pub auto_delete: bool,
    /// Not for clients to publish to.
    pub internal: bool,
    /// As received.
    pub arguments: FieldTable,
}

impl Vhost {
    /// Declares a queue, or finds the equivalent one that exists; and where that is safe.
    ///
    /// # Errors
    /// A reserved name, another connection's exclusive queue, a queue with other properties, arguments that are not
    /// possible, or as many queues as there may be.
    pub fn declare_queue(
        &self,
        declaration: QueueDeclaration<'_>,
        connection: ConnectionId,
    ) -> Result<(Arc<Queue>, JournalPosition), BrokerError> {
        self.declare_queue_by(declaration, connection, None)
    }

    /// The same for a user, whose permissions are checked.
    ///
    /// # Errors
    /// As for [`declare_queue`](Self::declare_queue), or the user may not.
    pub fn declare_queue_as(
        &self,
        grants: &Grants,
        declaration: QueueDeclaration<'_>,
        connection: ConnectionId,
    ) -> Result<(Arc<Queue>, JournalPosition), BrokerError> {
        self.declare_queue_by(declaration, connection, Some(grants))
    }

    fn declare_queue_by(
        &self,
        declaration: QueueDeclaration<'_>,
        connection: ConnectionId,
        grants: Option<&Grants>,
    ) -> Result<(Arc<Queue>, JournalPosition), BrokerError> {
        if declaration.name.starts_with("amq.") {
            return Err(BrokerError::ReservedName { kind: "queue", name: declaration.name.to_owned() });
        }
        let name = match declaration.name {
            "" => QueueName::from(server_name(&declaration.arguments, self.name.as_str())?),
            name => QueueName::from(name),
        };
        check_name("queue", name.as_str())?;
        check_arguments("arguments of a queue are", &declaration.arguments)?;
        if let Some(grants) = grants {
            // COMPAT: a name that was made up just now is checked as well.
            grants.check(Permission::Configure, Resource::Queue, name.as_str())?;
        }
        let QueueDeclaration { durable, exclusive, auto_delete, arguments, .. } = declaration;
        let arguments = self.with_default_type(arguments, durable, exclusive, auto_delete);
        let declaration = QueueDeclaration { arguments, ..declaration };
        let room = self.room_for_queue();
        // COMPAT: an exclusive queue is never durable, so that the flag does not tell two declarations apart.
        let durable = declaration.durable && !declaration.exclusive;
        self.services.counters.queue_declared();
        // A deletion holds the topology from when the queue ends until its name is free: not in between.
        let topology = self.topology.read();
        self.check_exists()?;
        match self.queues.entry(name) {
            Entry::Occupied(existing) => {
                let queue = Arc::clone(existing.get());
                drop(existing);
                self.check_equivalent(&queue, &declaration, connection)?;
                queue.note_declared();
                let position = self.known_at(queue.spec.is_kept());
                Ok((queue, position))
            }
            Entry::Vacant(vacant) => {
                let name = vacant.key().clone();
                let names = Names { queue: name.as_str(), vhost: self.name.as_str() };
                if let Some(limit) = room.reached {
                    let (queue, vhost) = (name.to_string(), self.name.to_string());
                    return Err(BrokerError::QueueLimitReached { queue, vhost, limit });
                }
                QueueArguments::check_names(&declaration.arguments, names)?;
                if let Some(grants) = grants {
                    check_dead_letters(grants, name.as_str(), &declaration.arguments)?;
                }
                let arguments = QueueArguments::parse(declaration.arguments, names.queue, names.vhost)?;
                if arguments.queue_type() != QueueType::Classic {
                    check_properties(names, durable, declaration.auto_delete, declaration.exclusive)?;
                }
                let spec = QueueSpec {
                    vhost: self.name.clone(),
                    name,
                    durable,
                    owner: declaration.exclusive.then_some(connection),
                    auto_delete: declaration.auto_delete,
                    arguments,
                };
                let queue = Queue::new(spec, &self.services, Weak::clone(&self.this));
                queue.take_over(topology.policies());
                let mut changes = Changes::of(&self.name, &self.services);
                changes.queue_added(queue.id, &queue.spec);
                let position = self.define(changes);
                // Not before the store knows of it: nothing may be published to it first.
                vacant.insert(Arc::clone(&queue));
                self.topology_moved();
                queue.begin();
                Ok((queue, position))
            }
        }
    }

    /// Where something is safe that exists already.
    fn known_at(&self, durable: bool) -> JournalPosition {
        if durable { self.defined_at() } else { JournalPosition::SAFE }
    }

    fn check_equivalent(
        &self,
        queue: &Queue,
        declaration: &QueueDeclaration<'_>,
        connection: ConnectionId,
    ) -> Result<(), BrokerError> {
        self.check_owner(queue, connection)?;
        let spec = &queue.spec;
        if declaration.exclusive != spec.owner.is_some() {
            return Err(BrokerError::QueueLocked {
                queue: spec.name.to_string(),
                vhost: self.name.to_string(),
            });
        }
        let flags = [
            ("durable", declaration.durable && !declaration.exclusive, spec.durable),
            ("auto_delete", declaration.auto_delete, spec.auto_delete),
        ];
        if let Some((argument, received, current)) = flags.into_iter().find(|(_, one, other)| one != other) {
            return Err(self.inequivalent(
                argument,
                "queue",
                spec.name.as_str(),
                differing(received, current),
            ));
        }
        match spec.arguments.inequivalent(&declaration.arguments) {
            None => Ok(()),
            Some((argument, detail)) => Err(self.inequivalent(argument, "queue", spec.name.as_str(), detail)),
        }
    }

    /// Declares an exchange, or finds the equivalent one that exists; where that is safe.
    ///
    /// # Errors
    /// The default exchange, an unknown type, a reserved name, an exchange with other properties, or
    /// arguments that are not possible.
    pub fn declare_exchange(
        &self,
        declaration: ExchangeDeclaration<'_>,
    ) -> Result<JournalPosition, BrokerError> {
        self.declare_exchange_by(declaration, None)
    }

    /// The same for a user, whose permissions are checked.
    ///
    /// # Errors
    /// As for [`declare_exchange`](Self::declare_exchange), or the user may not.
    pub fn declare_exchange_as(
        &self,
        grants: &Grants,
        declaration: ExchangeDeclaration<'_>,
    ) -> Result<JournalPosition, BrokerError> {
        self.declare_exchange_by(declaration, Some(grants))
    }

    fn declare_exchange_by(
        &self,
        declaration: ExchangeDeclaration<'_>,
        grants: Option<&Grants>,
    ) -> Result<JournalPosition, BrokerError> {
        let exchange_type: ExchangeType = declaration.exchange_type.parse()?;
        let name = declaration.name;
        if name.is_empty() {
            return Err(BrokerError::DefaultExchange);
        }
        check_name("exchange", name)?;
        check_arguments("arguments of an exchange are", &declaration.arguments)?;
        if let Some(grants) = grants {
            grants.check(Permission::Configure, Resource::Exchange, name)?;
        }
        let mut topology = self.topology.write();
        self.check_exists()?;
        if let Some(existing) = topology.find(name) {
            self.check_equivalent_exchange(&existing.spec, &declaration)?;
            return Ok(self.known_at(existing.spec.durable));
        }
        if name.starts_with("amq.") {
            return Err(BrokerError::ReservedName { kind: "exchange", name: name.to_owned() });
        }
        let alternate = self.alternate_exchange(name, &declaration.arguments)?;
        if let (Some(grants), Some(alternate)) = (grants, &alternate) {
            // COMPAT: messages are taken from the one and given to the other.
            grants.check(Permission::Read, Resource::Exchange, name)?;
            grants.check(Permission::Write, Resource::Exchange, alternate.as_str())?;
        }
        let spec = ExchangeSpec {
            name: name.into(),
            exchange_type,
            durable: declaration.durable,
            auto_delete: declaration.auto_delete,
            internal: declaration.internal,
            alternate,
            arguments: declaration.arguments,
        };
        let mut changes = Changes::of(&self.name, &self.services);
        topology.add_exchange(spec, &mut changes)?;
        self.topology_moved();
        Ok(self.define(changes))
    }

    fn alternate_exchange(
        &self,
        name: &str,
        arguments: &FieldTable,
    ) -> Result<Option<ExchangeName>, BrokerError> {
        match arguments.get("alternate-exchange") {
            None => Ok(None),
            Some(FieldValue::LongString(alternate)) => match name_fault(alternate) {
                None => Ok(Some(String::from_utf8_lossy(alternate).into_owned().into())),
                Some(reason) => Err(BrokerError::InvalidArgument {
                    argument: "alternate-exchange".to_owned(),
                    kind: "exchange",
                    name: name.to_owned(),
                    vhost: self.name.to_string(),
                    reason: reason.to_owned(),
                }),
            },
            Some(other) => Err(BrokerError::InvalidArgumentType {
                argument: "alternate-exchange".to_owned(),
                type_name: type_name(other),
                kind: "exchange",
                name: name.to_owned(),
                vhost: self.name.to_string(),
            }),
        }
    }

    fn check_equivalent_exchange(
        &self,
        spec: &ExchangeSpec,
        declaration: &ExchangeDeclaration<'_>,
    ) -> Result<(), BrokerError> {
        let name = spec.name.as_str();
        if declaration.exchange_type != spec.exchange_type.as_str() {
            let detail = differing(declaration.exchange_type, spec.exchange_type.as_str());
            return Err(self.inequivalent("type", "exchange", name, detail));
        }
        let flags = [
            ("durable", declaration.durable, spec.durable),
            ("auto_delete", declaration.auto_delete, spec.auto_delete),
            ("internal", declaration.internal, spec.internal),
        ];
        if let Some((argument, received, current)) = flags.into_iter().find(|(_, one, other)| one != other) {
            return Err(self.inequivalent(argument, "exchange", name, differing(received, current)));
        }
        let key = "alternate-exchange";
        match difference(declaration.arguments.get(key), spec.arguments.get(key)) {
            None => Ok(()),
            Some(detail) => Err(self.inequivalent(key, "exchange", name, detail)),
        }
    }

    fn inequivalent(&self, argument: &str, kind: &'static str, name: &str, detail: String) -> BrokerError {
        BrokerError::Inequivalent {
            argument: argument.to_owned(),
            kind,
            name: name.to_owned(),
            vhost: self.name.to_string(),
            detail,
        }
    }

    /// Whether an exchange exists: a passive declare.
    ///
    /// # Errors
    /// It does not, or it is the default exchange.
    pub fn find_exchange(&self, name: &str) -> Result<ExchangeSpec, BrokerError> {
        if name.is_empty() {
            return Err(BrokerError::DefaultExchange);
        }
        Ok(self.topology.read().exchange(name, &self.name)?.spec.clone())
    }

    /// Deletes an exchange with its bindings; where that is safe. A missing one is no error.
    ///
    /// # Errors
    /// The default exchange, a system exchange, or one with bindings if `if_unused`.
    pub fn delete_exchange(&self, name: &str, if_unused: bool) -> Result<JournalPosition, BrokerError> {
        if name.is_empty() {
            return Err(BrokerError::DefaultExchange);
        }
        if name.starts_with("amq.") {
            return Err(BrokerError::SystemExchange {
                exchange: name.to_owned(),
                vhost: self.name.to_string(),
            });
        }
        let mut topology = self.topology.write();
        let Some(exchange) = topology.find(name) else { return Ok(self.defined_at()) };
        if if_unused && exchange.binding_count() > 0 {
            return Err(BrokerError::ExchangeInUse {
                exchange: name.to_owned(),
                vhost: self.name.to_string(),
            });
        }
        let mut changes = Changes::of(&self.name, &self.services);
        topology.remove_exchange(&name.into(), &mut changes);
        self.topology_moved();
        Ok(self.define(changes))
    }

    /// Binds `target` to `source`; where that is safe. A binding that exists is no error.
    ///
    /// # Errors
    /// Either end is missing or the default exchange, the queue belongs to another connection, or the
    /// arguments are not possible for the source's type.
    pub fn bind(
        &self,
        source: &str,
        target: &BindingTarget,
        routing_key: &str,
        arguments: &FieldTable,
        connection: ConnectionId,
    ) -> Result<JournalPosition, BrokerError> {
        refuse_ends(source, target)?;
        check_name("routing key", routing_key)?;
        check_arguments("arguments of a binding are", arguments)?;
        let mut topology = self.topology.write();
        // COMPAT: the source is looked for first, and a queue's owner last.
        topology.exchange(source, &self.name)?;
        let destination = match target {
            BindingTarget::Queue(name) => Destination::Queue(self.queue(name.as_str(), connection)?),
            BindingTarget::Exchange(name) => {
                Destination::Exchange(topology.exchange(name.as_str(), &self.name)?.spec.name.clone())
            }
        };
        let mut changes = Changes::of(&self.name, &self.services);
        if !topology.bind(source, destination.clone(), routing_key, arguments, &mut changes)? {
            return Ok(self.defined_at());
        }
        let history = topology.find(source).and_then(Exchange::history);
        self.topology_moved();
        let position = self.define(changes);
        drop(topology);
        if let Some(history) = history {
            self.publish_history(&destination, &history);
        }
        Ok(position)
    }

    /// Removes a binding; where that is safe. COMPAT: what is missing, be it an end or the binding, is no error.
    ///
    /// # Errors
    /// The default exchange, or a queue of another connection.
    pub fn unbind(
        &self,
        source: &str,
        target: &BindingTarget,
        routing_key: &str,
        arguments: &FieldTable,
        connection: ConnectionId,
    ) -> Result<JournalPosition, BrokerError> {
        refuse_ends(source, target)?;
        let mut topology = self.topology.write();
        let destination = match target {
            BindingTarget::Queue(name) => {
                let found = self.queues.get(name.as_str()).map(|queue| Arc::clone(&queue));
                let Some(queue) = found else { return Ok(self.defined_at()) };
                let destination = Destination::Queue(Arc::clone(&queue));
                // COMPAT: the owner matters only where there is a binding to remove.
                if topology.is_bound(source, &destination, routing_key, arguments) {
                    self.check_owner(&queue, connection)?;
                }
                destination
            }
            BindingTarget::Exchange(name) => Destination::Exchange(name.clone()),
        };
        let mut changes = Changes::of(&self.name, &self.services);
        if !topology.unbind(source, destination, routing_key, arguments, &mut changes) {
            return Ok(self.defined_at());
        }
        self.topology_moved();
        Ok(self.define(changes))
    }

    /// All bindings but the default exchange's, in no order.
    #[must_use]
    pub fn bindings(&self) -> Vec<Binding> {
        self.topology.read().bindings()
    }

    /// All exchanges but the default one, in no order.
    #[must_use]
    pub fn exchanges(&self) -> Vec<ExchangeSpec> {
        self.topology.read().exchanges().map(|exchange| exchange.spec.clone()).collect()
    }

    /// Looks at all exchanges, the default one first and the others in no order, with the topology locked: `look` may
    /// not ask the vhost for anything.
    pub fn for_each_exchange(
        &self,
        mut look: impl FnMut(&ExchangeSpec, &AppliedPolicies, &Arc<ExchangeCounters>),
    ) {
        let topology = self.topology.read();
        let default = ExchangeSpec {
            name: "".into(),
            exchange_type: ExchangeType::Direct,
            durable: true,
            auto_delete: false,
            internal: false,
            alternate: None,
            arguments: FieldTable::new(),
        };
        look(&default, &AppliedPolicies::default(), topology.default_counters());
        topology
            .exchanges()
            .for_each(|exchange| look(&exchange.spec, &exchange.policies, &exchange.counters));
    }

    /// What clients published to an exchange; the empty name is that of the default one. `None` if there is none.
    pub fn exchange_counters(&self, exchange: &str) -> Option<Arc<ExchangeCounters>> {
        self.topology.read().counters(exchange)
    }
}

fn differing(received: impl std::fmt::Display, current: impl std::fmt::Display) -> String {
    format!("received '{received}' but current is '{current}'")
}

/// Refuses the properties of a queue that only classic ones can have. COMPAT: in this order.
fn check_properties(
    names: Names<'_>,
    durable: bool,
    auto_delete: bool,
    exclusive: bool,
) -> Result<(), BrokerError> {
    let found = [(auto_delete, "auto-delete"), (exclusive, "exclusive-owner"), (!durable, "non-durable")];
    match found.into_iter().find(|(is_found, _)| *is_found) {
        None => Ok(()),
        Some((_, property)) => Err(names.impossible(property)),
    }
}

/// COMPAT: messages of a queue with a dead-letter exchange are taken from it and given to the exchange. A name of
/// another type than a string is refused with the other arguments.
fn check_dead_letters(grants: &Grants, queue: &str, arguments: &FieldTable) -> Result<(), BrokerError> {
    let Some(exchange) = arguments.get("x-dead-letter-exchange").and_then(FieldValue::as_str) else {
        return Ok(());
    };
    grants.check(Permission::Read, Resource::Queue, queue)?;
    grants.check(Permission::Write, Resource::Exchange, exchange)
}

/// Refuses what can be at no end of a binding, before anything is looked for.
///
/// # Errors
/// An end is the default exchange or a name for direct replies.
pub fn refuse_ends(source: &str, target: &BindingTarget) -> Result<(), BrokerError> {
    match target {
        BindingTarget::Queue(queue) if queue.as_str().starts_with(REPLY_TO) => Err(BrokerError::BindReplyTo),
        BindingTarget::Exchange(exchange) if exchange.as_str().is_empty() => {
            Err(BrokerError::DefaultExchange)
        }
        _ if source.is_empty() => Err(BrokerError::DefaultExchange),
        _ => Ok(()),
    }
}
